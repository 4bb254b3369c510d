"""What is encoded by shortcuts, because there is one for every token, is what the long way gives."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tests.support.strategies import states_with_operations
from threadwire.core.codec import (
    UpdateEncoder,
    decode_log,
    decode_server_message,
    encode_frame,
    encode_log,
    encode_value,
    operation_array,
)
from threadwire.core.frames import Update
from threadwire.core.operations import AppendText, Json, Operation

edits = states_with_operations(max_size=3)
threads = st.text(alphabet='aZ09_.:~-"%\\é', min_size=1, max_size=20)
sequences = st.sampled_from([0, 1, 127, 128, 255, 256, 65535, 65536, 2**32 - 1, 2**32, 2**53 - 1])


@given(edits, threads, sequences, sequences)
def test_update_encoder_makes_the_frames_that_encode_frame_does(
    edit: tuple[Json, list[Operation]], thread: str, epoch: int, seq: int
) -> None:
    operations = edit[1]
    encoder = UpdateEncoder(thread, epoch)
    update = Update(thread=thread, epoch=epoch, seq=seq, ops=operations)
    assert encoder.json(seq, operations) == encode_frame(update, "json")
    assert encoder.msgpack(seq, encode_log(operations)) == encode_frame(update, "msgpack")


@given(edits)
def test_log_row_holds_the_operations_in_their_messagepack_form(edit: tuple[Json, list[Operation]]) -> None:
    operations = edit[1]
    assert encode_log(operations) == encode_value([operation_array(each) for each in operations], "msgpack")
    assert decode_log(encode_log(operations)) == operations


def test_lone_token_is_encoded_like_any_operation() -> None:
    token: list[Operation] = [AppendText(("messages", 0, "content"), ' "tok\u00e9n"')]
    row = encode_log(token)
    assert row == encode_value([operation_array(token[0])], "msgpack")
    (frame,) = decode_server_message(UpdateEncoder("t", 5).msgpack(7, row), "msgpack")
    assert frame == Update(thread="t", epoch=5, seq=7, ops=token)
