from __future__ import annotations

import json
import math
import time
from typing import Any, Literal

import msgpack  # type: ignore[import-untyped]
import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from threadwire.core.codec import Encoding, encode_frame, encode_message
from threadwire.core.errors import CODES, ErrorInfo, ProtocolError
from threadwire.core.frames import (
    STRATEGIES,
    Cancel,
    ClientFrame,
    Close,
    CommandState,
    Error,
    Hello,
    Limits,
    Open,
    Ping,
    Position,
    SendCommand,
)
from threadwire.core.session import Rejected, ServerSession, read_position

ENCODINGS: tuple[Encoding, ...] = ("json", "msgpack")
LIMITS = Limits()

COMMAND = {"type": "command", "thread": "t", "id": "c1", "command": {"type": "set-title", "title": "x"}}
PING = {"type": "ping"}


def message(value: Any, encoding: Encoding) -> bytes | str:
    if encoding == "json":
        return json.dumps(value)
    data: bytes = msgpack.packb(value, unicode_errors="surrogatepass")
    return data


def receive(value: Any, encoding: Encoding, limits: Limits = LIMITS) -> list[ClientFrame | Rejected]:
    return ServerSession(encoding, limits).receive(message(value, encoding))


def rejection(value: Any, encoding: Encoding = "json") -> Rejected:
    """The one refusal that a message of this frame is answered by."""
    (rejected,) = receive(value, encoding)
    assert isinstance(rejected, Rejected)
    return rejected


def failure(session: ServerSession, data: bytes | str) -> tuple[str, int]:
    with pytest.raises(ProtocolError) as caught:
        session.receive(data)
    assert len(caught.value.message) < 200
    return caught.value.code, caught.value.close_code


@pytest.fixture(params=ENCODINGS)
def encoding(request: pytest.FixtureRequest) -> Encoding:
    value: Encoding = request.param
    return value


# good frames

FRAMES: list[tuple[dict[str, Any], ClientFrame]] = [
    ({"type": "hello"}, Hello()),
    (
        {"type": "hello", "token": "x", "client": "c/1", "hash": True},
        Hello(token="x", client="c/1", hash=True),
    ),
    ({"type": "open", "thread": "t"}, Open(thread="t")),
    (
        {
            "type": "open",
            "thread": "A.b:c~d_e-9",
            "agent": "support",
            "since": {"epoch": 1, "seq": 2},
            "state": {"messages": []},
            "tools": ["a", "b"],
            "hash": True,
        },
        Open(
            thread="A.b:c~d_e-9",
            agent="support",
            since={"epoch": 1, "seq": 2},
            state={"messages": []},
            tools=("a", "b"),
            hash=True,
        ),
    ),
    ({"type": "open", "thread": "t", "state": None}, Open(thread="t", state=None)),
    ({"type": "close", "thread": "t" * 128}, Close(thread="t" * 128)),
    (COMMAND, SendCommand(thread="t", id="c1", command={"type": "set-title", "title": "x"})),
    ({**COMMAND, "strategy": None}, SendCommand(thread="t", id="c1", command=COMMAND["command"])),
    (
        {**COMMAND, "id": "!" * 128, "strategy": "steer", "agent": "a"},
        SendCommand(thread="t", id="!" * 128, command=COMMAND["command"], strategy="steer", agent="a"),
    ),
    ({**COMMAND, "command": 3}, SendCommand(thread="t", id="c1", command=3)),
    ({"type": "cancel", "thread": "t"}, Cancel(thread="t")),
    ({"type": "cancel", "thread": "t", "run": "r1"}, Cancel(thread="t", run="r1")),
    (PING, Ping()),
    ({"type": "ping", "nonce": [1, "x"]}, Ping(nonce=[1, "x"])),
    ({"type": "ping", "from the": {"future": 1}}, Ping()),
]


@pytest.mark.parametrize(("value", "frame"), FRAMES)
def test_a_good_frame_is_read(value: dict[str, Any], frame: ClientFrame, encoding: Encoding) -> None:
    assert receive(value, encoding) == [frame]


def test_an_array_of_frames_is_read_in_order(encoding: Encoding) -> None:
    values, frames = zip(*FRAMES, strict=True)
    assert receive(list(values), encoding) == list(frames)


def test_an_empty_array_is_nothing(encoding: Encoding) -> None:
    assert receive([], encoding) == []


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_every_strategy_is_known(strategy: str) -> None:
    (frame,) = receive({**COMMAND, "strategy": strategy}, "json")
    assert isinstance(frame, SendCommand)
    assert frame.strategy == strategy


def test_what_the_codec_encodes_is_read_back(encoding: Encoding) -> None:
    session = ServerSession(encoding, LIMITS)
    frames = [frame for _, frame in FRAMES]

    def on_the_wire(data: bytes) -> bytes | str:
        return data.decode() if encoding == "json" else data

    for frame in frames:
        assert session.receive(on_the_wire(encode_frame(frame, encoding))) == [frame]
    whole = encode_message([encode_frame(frame, encoding) for frame in frames], encoding)
    assert session.receive(on_the_wire(whole)) == frames


# messages that break the connection


def test_the_other_encoding_is_refused() -> None:
    assert failure(ServerSession("json", LIMITS), b"{}") == ("wrong-encoding", 4400)
    assert failure(ServerSession("msgpack", LIMITS), "{}") == ("wrong-encoding", 4400)


@pytest.mark.parametrize("text", ["", "{", "[1,]", "\ufeff[]", "nonsense", '{"type": "ping"} {}', '"\n"'])
def test_text_that_is_not_json_is_malformed(text: str) -> None:
    assert failure(ServerSession("json", LIMITS), text) == ("malformed", 4400)


@pytest.mark.parametrize("data", [b"", b"\xc1", b"\x92\x80", b"\x80\x80", b"\xdf\xff\xff\xff\xff"])
def test_bytes_that_are_not_msgpack_are_malformed(data: bytes) -> None:
    assert failure(ServerSession("msgpack", LIMITS), data) == ("malformed", 4400)


@pytest.mark.parametrize("value", [None, True, 3, 1.5, "ping", math.nan])
def test_a_message_that_is_no_object_or_array_is_malformed(value: Any, encoding: Encoding) -> None:
    assert failure(ServerSession(encoding, LIMITS), message(value, encoding)) == ("malformed", 4400)


@pytest.mark.parametrize("value", [b"bytes", msgpack.ExtType(5, b"x"), msgpack.Timestamp(0)])
def test_a_message_of_a_binary_type_is_malformed(value: Any) -> None:
    assert failure(ServerSession("msgpack", LIMITS), msgpack.packb(value)) == ("malformed", 4400)


def test_a_message_beyond_the_limit_is_too_large(encoding: Encoding) -> None:
    data = message({"type": "ping", "nonce": "x" * 100}, encoding)
    assert len(ServerSession(encoding, Limits(max_frame_bytes=len(data))).receive(data)) == 1
    assert failure(ServerSession(encoding, Limits(max_frame_bytes=len(data) - 1)), data) == (
        "too-large",
        1009,
    )


def test_text_is_measured_in_utf_8() -> None:
    text = '{"type": "ping", "nonce": "' + "€" * 10 + '"}'
    size = len(text.encode())
    assert ServerSession("json", Limits(max_frame_bytes=size)).receive(text) == [Ping(nonce="€" * 10)]
    assert failure(ServerSession("json", Limits(max_frame_bytes=size - 1)), text) == ("too-large", 1009)


def test_five_megabytes_are_too_large(encoding: Encoding) -> None:
    data = message(PING | {"nonce": "x" * 5_000_000}, encoding)
    assert failure(ServerSession(encoding, LIMITS), data) == ("too-large", 1009)


# messages that are refused as a whole


def test_too_many_frames_are_refused_with_one_error(encoding: Encoding) -> None:
    limits = Limits(max_frames=3)
    assert receive([PING] * 3, encoding, limits) == [Ping()] * 3
    assert receive([COMMAND] * 4, encoding, limits) == [
        Rejected(error=ErrorInfo("too-many-frames", CODES["too-many-frames"]))
    ]


def test_twenty_thousand_commands_are_refused_with_one_small_error(encoding: Encoding) -> None:
    (rejected,) = receive([{"type": "command"}] * 20_000, encoding)
    assert isinstance(rejected, Rejected)
    assert rejected.error.code == "too-many-frames"
    assert len(encode_frame(rejected.reply(), encoding)) < 200


@pytest.mark.parametrize("depth", [2_000, 100_000])
def test_a_message_too_deep_to_decode_is_refused_with_one_error(depth: int) -> None:
    text = json.dumps(COMMAND)[:-1] + ', "x": ' + "[" * depth + "]" * depth + "}"
    data = b"\x82\xa4type\xa7command\xa1x" + b"\x91" * depth + b"\xc0"
    for session, hostile in ((ServerSession("json", LIMITS), text), (ServerSession("msgpack", LIMITS), data)):
        (rejected,) = session.receive(hostile)
        assert isinstance(rejected, Rejected)
        # How deep is too deep for the decoder itself depends on the Python: beyond, nothing more is known.
        assert rejected.error.code == "too-deep"
        assert rejected.thread is None or depth < 100_000


# frames that are refused

BAD_FRAMES: list[tuple[Any, str, str | None]] = [
    (3, "invalid-frame", None),
    (None, "invalid-frame", None),
    ("ping", "invalid-frame", None),
    ([], "invalid-frame", None),
    ([PING], "invalid-frame", None),
    ({}, "invalid-frame", "type"),
    ({"type": None}, "invalid-frame", "type"),
    ({"type": 1}, "invalid-frame", "type"),
    ({"type": ["ping"]}, "invalid-frame", "type"),
    ({"thread": "t"}, "invalid-frame", "type"),
    ({"type": "Ping"}, "unknown-frame", "type"),
    ({"type": "snapshot", "thread": "t"}, "unknown-frame", "type"),
    ({"type": "x" * 100_000}, "unknown-frame", "type"),
    ({"type": "hello", "token": 1}, "invalid-frame", "token"),
    ({"type": "hello", "hash": 1}, "invalid-frame", "hash"),
    ({"type": "open"}, "invalid-frame", "thread"),
    ({"type": "open", "thread": None}, "invalid-frame", "thread"),
    ({"type": "open", "thread": 5}, "invalid-frame", "thread"),
    ({"type": "open", "thread": ""}, "invalid-frame", "thread"),
    ({"type": "open", "thread": "a b"}, "invalid-frame", "thread"),
    ({"type": "open", "thread": "a\n"}, "invalid-frame", "thread"),
    ({"type": "open", "thread": "../etc"}, "invalid-frame", "thread"),
    ({"type": "open", "thread": "é"}, "invalid-frame", "thread"),
    ({"type": "open", "thread": "t" * 129}, "invalid-frame", "thread"),
    ({"type": "open", "thread": "t", "agent": {}}, "invalid-frame", "agent"),
    ({"type": "open", "thread": "t", "tools": "all"}, "invalid-frame", "tools"),
    ({"type": "open", "thread": "t", "tools": ["a", 1]}, "invalid-frame", "tools.1"),
    ({"type": "open", "thread": "t", "hash": "yes"}, "invalid-frame", "hash"),
    ({"type": "open", "thread": "t", "state": {"a": [math.nan]}}, "not-finite", "state.a.0"),
    ({"type": "open", "thread": "t", "since": math.inf}, "not-finite", "since"),
    ({"type": "close"}, "invalid-frame", "thread"),
    ({"type": "close", "thread": "/"}, "invalid-frame", "thread"),
    ({"type": "cancel", "thread": "\x00"}, "invalid-frame", "thread"),
    ({"type": "cancel", "thread": "t", "run": 1}, "invalid-frame", "run"),
    ({"type": "ping", "nonce": 2**53}, "integer-range", "nonce"),
    ({"type": "ping", "nonce": "\ud800"}, "invalid-unicode", "nonce"),
    ({"type": "ping", "__proto__": 1}, "forbidden-key", "__proto__"),
    ({**COMMAND, "thread": "a b"}, "invalid-frame", "thread"),
    ({**COMMAND, "id": ""}, "invalid-frame", "id"),
    ({**COMMAND, "id": "a b"}, "invalid-frame", "id"),
    ({**COMMAND, "id": "a\n"}, "invalid-frame", "id"),
    ({**COMMAND, "id": "é"}, "invalid-frame", "id"),
    ({**COMMAND, "id": "c" * 129}, "invalid-frame", "id"),
    ({**COMMAND, "id": 7}, "invalid-frame", "id"),
    ({**COMMAND, "agent": 7}, "invalid-frame", "agent"),
    ({**COMMAND, "strategy": "Enqueue"}, "invalid-frame", "strategy"),
    ({**COMMAND, "strategy": ["enqueue"]}, "invalid-frame", "strategy"),
    ({**COMMAND, "strategy": {}}, "invalid-frame", "strategy"),
    ({**COMMAND, "strategy": False}, "invalid-frame", "strategy"),
    ({"type": "command", "thread": "t", "id": "c1"}, "invalid-frame", "command"),
    ({**COMMAND, "command": {"a": {"b": 2**53}}}, "integer-range", "command.a.b"),
    ({**COMMAND, "command": {"a": [math.nan]}}, "not-finite", "command.a.0"),
    ({**COMMAND, "command": {"a": "\udfff"}}, "invalid-unicode", "command.a"),
    ({**COMMAND, "command": {"constructor": 1}}, "forbidden-key", "command.constructor"),
]


@pytest.mark.parametrize(("value", "code", "field"), BAD_FRAMES)
def test_a_bad_frame_is_refused_and_its_neighbours_live(
    value: Any, code: str, field: str | None, encoding: Encoding
) -> None:
    before, rejected, after = receive([PING, value, COMMAND], encoding)
    assert isinstance(before, Ping)
    assert isinstance(after, SendCommand)
    assert isinstance(rejected, Rejected)
    assert (rejected.error.code, rejected.error.field) == (code, field)
    assert len(encode_frame(rejected.reply(), encoding)) < 1_000
    if isinstance(value, dict):
        assert receive(value, encoding) == [rejected]


@pytest.mark.parametrize("value", [b"x", msgpack.Timestamp(0), msgpack.ExtType(5, b"x"), {1: 2}])
def test_a_msgpack_type_that_json_lacks_is_refused_in_its_frame_only(value: Any) -> None:
    _, rejected, bare, _ = receive([PING, PING | {"nonce": value}, value, PING], "msgpack")
    assert isinstance(rejected, Rejected)
    assert rejected.error.code in ("unsupported-type", "invalid-key")
    assert rejected.error.field == "nonce"
    assert isinstance(bare, Rejected)


@pytest.mark.parametrize("depth", [101, 500, 800])
def test_a_deep_frame_is_refused_alone_and_keeps_its_id(depth: int, encoding: Encoding) -> None:
    deep: list[Any] = []
    for _ in range(depth - 1):
        deep = [deep]
    rejected, after = receive([{**COMMAND, "command": {"a": deep}}, PING], encoding)
    assert isinstance(after, Ping)
    assert isinstance(rejected, Rejected)
    assert rejected.error.code == "too-deep"
    assert (rejected.thread, rejected.id) == ("t", "c1")


def test_each_field_of_a_frame_may_be_max_depth_deep(encoding: Encoding) -> None:
    limits = Limits(max_depth=3)
    (frame,) = receive([{"type": "open", "thread": "t", "state": [{"a": [1]}]}], encoding, limits)
    assert isinstance(frame, Open)
    (rejected,) = receive([{"type": "open", "thread": "t", "state": [{"a": [[]]}]}], encoding, limits)
    assert isinstance(rejected, Rejected)
    assert (rejected.error.code, rejected.error.field) == ("too-deep", "state.0.a.0")


# what a refusal is answered by


@pytest.mark.parametrize(
    "change",
    [
        {"command": {"title": math.nan}},
        {"strategy": "later"},
        {"agent": 1},
        {"unknown": 2**60},
        {"__proto__": {}},
    ],
)
def test_a_command_that_can_be_named_is_answered_as_rejected(change: Any, encoding: Encoding) -> None:
    rejected = rejection(COMMAND | change, encoding)
    assert rejected.reply() == CommandState(thread="t", id="c1", status="rejected", error=rejected.error)
    assert rejected.error.field is not None


def test_a_command_without_its_command_is_answered_as_rejected() -> None:
    reply = rejection({"type": "command", "thread": "t", "id": "c1"}).reply()
    assert isinstance(reply, CommandState)


@pytest.mark.parametrize(
    ("change", "thread", "id_"),
    [
        ({"thread": "a b"}, None, "c1"),
        ({"thread": 1}, None, "c1"),
        ({"id": ""}, "t", None),
        ({"id": None}, "t", None),
        ({"id": "\ud800"}, "t", None),
        ({"type": "commands"}, "t", "c1"),
        ({"type": None}, "t", "c1"),
        ({"type": "cancel", "run": 1}, "t", "c1"),
    ],
)
def test_other_refusals_are_answered_by_an_error_with_what_could_be_read(
    change: Any, thread: str | None, id_: str | None, encoding: Encoding
) -> None:
    rejected = rejection(COMMAND | change, encoding)
    error = rejected.error
    assert rejected.reply() == Error(
        code=error.code, message=error.message, thread=thread, id=id_, field=error.field
    )


@pytest.mark.parametrize(
    ("name", "named"), [("thread", False), ("id", False), ("type", False), ("command", True), ("other", True)]
)
def test_a_key_that_stands_twice_in_a_frame_cannot_be_read(name: str, named: bool) -> None:
    body = json.dumps(COMMAND | {"other": 1})[:-1] + f', "{name}": "x"}}'
    (rejected,) = ServerSession("json", LIMITS).receive(body)
    assert isinstance(rejected, Rejected)
    assert (rejected.error.code, rejected.error.field) == ("duplicate-key", name)
    assert isinstance(rejected.reply(), CommandState if named else Error)
    assert (rejected.thread, rejected.id) == (
        None if name == "thread" else "t",
        None if name == "id" else "c1",
    )


def test_a_refusal_never_echoes_big_input(encoding: Encoding) -> None:
    big = "k" * 100_000
    for value in (
        {"type": big},
        {"type": "open", "thread": big},
        {**COMMAND, "id": big},
        {**COMMAND, "strategy": big},
        {**COMMAND, "command": {big: {big: math.nan}}},
        {**COMMAND, "tools": big, "agent": {big: 1}},
    ):
        assert len(encode_frame(rejection(value, encoding).reply(), encoding)) < 1_000


# since


@pytest.mark.parametrize(
    "since", [-1, 1.5, "x", None, [], {}, {"epoch": "x"}, [1, 2], True, {"seq": {"a": [1]}}]
)
def test_a_since_that_makes_no_sense_is_kept_and_names_no_position(since: Any, encoding: Encoding) -> None:
    assert receive({"type": "open", "thread": "t", "since": since}, encoding) == [
        Open(thread="t", since=since)
    ]
    assert read_position(since) is None


@pytest.mark.parametrize(
    ("since", "position"),
    [
        ({"epoch": 1, "seq": 0}, Position(1, 0)),
        ({"epoch": 3.0, "seq": 2.0}, Position(3, 2)),
        ({"epoch": -1, "seq": 7, "more": 1}, Position(-1, 7)),
        ({"epoch": 1, "seq": -1}, None),
        ({"epoch": 1, "seq": 1.5}, None),
        ({"epoch": 1, "seq": 1e300}, None),
        ({"epoch": 1e300, "seq": 1}, None),
        ({"epoch": True, "seq": 1}, None),
        ({"epoch": 1, "seq": False}, None),
        ({"epoch": "1", "seq": 1}, None),
        ({"epoch": 1, "seq": None}, None),
        ({"epoch": 1}, None),
    ],
)
def test_a_position_is_two_integers_in_either_spelling(since: Any, position: Position | None) -> None:
    got = read_position(since)
    assert got == position
    if got is not None:
        assert (type(got.epoch), type(got.seq)) == (int, int)


# fuzzing

MAX = 2**53 - 1
hostile = st.recursive(
    st.sampled_from(
        [None, True, 0, -1, 1.5, -0.0, math.nan, math.inf, MAX + 1, 2**64 - 1, "\ud800", "", "t\n"]
    )
    | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["type", "thread", "id", "a", "__proto__", "\udc00"]), inner, max_size=3
        )
    ),
    max_leaves=8,
)
names = st.sampled_from(
    [
        "type",
        "thread",
        "id",
        "command",
        "strategy",
        "agent",
        "since",
        "state",
        "tools",
        "hash",
        "run",
        "nonce",
    ]
)


@st.composite
def mutated_frames(draw: st.DrawFn) -> Any:
    frame = dict(draw(st.sampled_from([value for value, _ in FRAMES])))
    for name in draw(st.lists(names, max_size=3)):
        if draw(st.booleans()):
            frame.pop(name, None)
        else:
            frame[name] = draw(hostile)
    return frame


@st.composite
def mutated_bytes(draw: st.DrawFn, encoding: Literal["json", "msgpack"]) -> bytes:
    value = draw(mutated_frames() | st.lists(mutated_frames(), max_size=3))
    encoded = message(value, encoding)
    data = bytearray(encoded.encode() if isinstance(encoded, str) else encoded)
    for _ in range(draw(st.integers(0, 4))):
        at = draw(st.integers(0, len(data)))
        data[at : at + draw(st.integers(0, 3))] = draw(st.binary(max_size=3))
    return bytes(data)


def check_outcome(session: ServerSession, data: bytes | str) -> None:
    """Nothing but frames, refusals that can be sent, and ProtocolError comes out."""
    results: list[ClientFrame | Rejected] = []
    broken = None
    try:
        results = session.receive(data)
    except ProtocolError as error:
        broken = error
    assert broken is None or (broken.code, broken.close_code) == ("malformed", 4400)
    for result in results:
        if isinstance(result, Rejected):
            assert result.error.code in CODES
            assert len(result.error.field or "") <= 200
            reply = result.reply()
            assert isinstance(reply, CommandState | Error)
            assert len(encode_frame(reply, session.encoding)) < 2_000
        else:
            encode_frame(result, session.encoding)


@given(st.binary(max_size=100) | mutated_bytes("msgpack"))
@example(b"\x81\xc4\x01a\x02")
def test_any_bytes_end_in_frames_refusals_or_a_protocol_error(data: bytes) -> None:
    check_outcome(ServerSession("msgpack", LIMITS), data)


@given(st.text(max_size=100) | mutated_bytes("json").map(lambda data: data.decode(errors="surrogateescape")))
@example('[{"type": "ping"}, NaN]')
def test_any_text_ends_in_frames_refusals_or_a_protocol_error(text: str) -> None:
    check_outcome(ServerSession("json", LIMITS), text)


@given(st.lists(mutated_frames(), max_size=5))
def test_every_frame_of_a_message_has_its_own_outcome(values: list[Any]) -> None:
    for encoding in ENCODINGS:
        session = ServerSession(encoding, LIMITS)
        together = session.receive(message(values, encoding))
        apart = [result for value in values for result in session.receive(message(value, encoding))]
        assert together == apart


plain = st.recursive(
    st.none() | st.booleans() | st.integers(-MAX, MAX) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=10,
)


@given(plain)
def test_valid_values_arrive_as_they_were_sent(value: Any) -> None:
    for encoding in ENCODINGS:
        assert receive(
            [{**COMMAND, "command": value}, {"type": "open", "thread": "t", "state": value}], encoding
        ) == [
            SendCommand(thread="t", id="c1", command=value),
            Open(thread="t", state=value),
        ]


# cost


def cost_us(session: ServerSession, data: bytes | str, repeat: int) -> float:
    """Microseconds of the processor per message, the best of five rounds."""
    rounds = []
    for _ in range(5):
        started = time.process_time()
        for _ in range(repeat):
            session.receive(data)
        rounds.append((time.process_time() - started) / repeat)
    return min(rounds) * 1e6


def test_a_small_command_is_read_in_microseconds(encoding: Encoding) -> None:
    part = {"type": "text", "text": "What is the weather in Zürich?"}
    body = {"type": "add-message", "message": {"role": "user", "parts": [part]}, "parentId": None}
    data = message({**COMMAND, "command": body}, encoding)
    # About 10 us; the bound leaves room for slow machines.
    assert cost_us(ServerSession(encoding, LIMITS), data, 200) < 100


def test_a_mebibyte_of_command_is_read_in_milliseconds(encoding: Encoding) -> None:
    part = {"type": "text", "text": "What is the weather in Zürich?"}
    count = 15_000 if encoding == "json" else 20_000
    frame = {
        **COMMAND,
        "command": {"type": "add-message", "message": {"role": "user", "parts": [part] * count}},
    }
    data = message(frame, encoding)
    assert 800_000 < len(data) <= LIMITS.max_frame_bytes
    # About 20 ms; the bound leaves room for slow machines.
    assert cost_us(ServerSession(encoding, LIMITS), data, 1) < 200_000


def test_refusals_can_be_encoded_as_they_are() -> None:
    rejected = rejection({"type": "open", "thread": 1})
    assert msgspec.json.decode(encode_frame(rejected.reply(), "json")) == {
        "type": "error",
        "code": "invalid-frame",
        "message": "Expected `str`, got `int`",
        "field": "thread",
    }
