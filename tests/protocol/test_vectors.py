"""The vectors of the specification against this implementation."""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

from tests.support.spec import VECTORS, parametrize, vectors
from threadwire.core.canonical import canonical, state_hash
from threadwire.core.codec import Encoding, decode_server_message, encode_frame, encode_value
from threadwire.core.diff import diff
from threadwire.core.errors import CODES, InvalidOperation, ProtocolError, Refused
from threadwire.core.frames import Limits, ServerFrame, Snapshot, Update
from threadwire.core.lowering import lower
from threadwire.core.merge import merge
from threadwire.core.operations import Operation, apply, apply_in_place
from threadwire.core.reading import read_json, read_msgpack
from threadwire.core.replica import Replica
from threadwire.core.session import Rejected, ServerSession

Case = dict[str, Any]
ENCODINGS: tuple[Encoding, ...] = ("json", "msgpack")


def operations(case: Case, field: str = "ops") -> list[Operation]:
    return msgspec.convert(copy.deepcopy(case[field]), list[Operation])


def read(case: Case) -> Any:
    if "msgpack" in case:
        return read_msgpack(bytes.fromhex(case["msgpack"]))
    return read_json(bytes.fromhex(case["json_hex"]) if "json_hex" in case else case["json"])


def numbers(value: Any) -> Iterator[float]:
    if isinstance(value, list):
        for item in value:
            yield from numbers(item)
    elif isinstance(value, dict):
        yield from numbers(list(value.values()))
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield value


@parametrize("values")
def test_values(case: Case) -> None:
    if "error" in case:
        with pytest.raises(Refused) as refused:
            read(case)
        assert refused.value.code == case["error"]
        assert refused.value.field == case.get("field", refused.value.field)
    else:
        value = read(case)
        assert canonical(value) == canonical(case["value"])
        assert all(math.copysign(1, number) == 1 for number in numbers(value) if number == 0)


@parametrize("canonical")
def test_canonical_forms(case: Case) -> None:
    for text in case["json"]:
        value = read_json(text)
        assert canonical(value).decode() == case["canonical"]
        assert state_hash(value) == case["hash"]
        assert canonical(read_msgpack(encode_value(value, "msgpack"))).decode() == case["canonical"]


@parametrize("operations")
def test_operations(case: Case) -> None:
    state = copy.deepcopy(case["state"])
    if case.get("error") == "invalid-operation":
        with pytest.raises(msgspec.ValidationError):
            operations(case)
    elif "error" in case:
        with pytest.raises(InvalidOperation) as refused:
            apply(state, operations(case))
        assert refused.value.code == case["error"]
        assert refused.value.field == case.get("field", refused.value.field)
        with pytest.raises(InvalidOperation):
            apply_in_place(copy.deepcopy(state), operations(case))
    else:
        assert canonical(apply(state, operations(case))) == canonical(case["expected"])
        assert canonical(apply_in_place(copy.deepcopy(state), operations(case))) == canonical(
            case["expected"]
        )
    assert canonical(state) == canonical(case["state"])


@parametrize("lowering")
def test_lowering(case: Case) -> None:
    lowered, after = lower(case["state"], operations(case))
    assert canonical(after) == canonical(case["expected"])
    assert canonical(apply(case["state"], lowered)) == canonical(case["expected"])
    for operation in lowered:
        assert operation.__struct_config__.tag in ("set", "append-text")
        assert all(isinstance(segment, str) for segment in operation.path)
    if "lowered" in case:
        assert lowered == operations(case, "lowered")


@parametrize("diff")
def test_differences(case: Case) -> None:
    difference = diff(copy.deepcopy(case["old"]), copy.deepcopy(case["new"]))
    assert canonical(apply(case["old"], difference)) == canonical(case["new"])
    assert len(difference) <= case.get("max_ops", len(difference))
    if "max_bytes" in case:
        assert len(msgspec.json.encode(difference)) <= case["max_bytes"]
    if "ops" in case:
        assert difference == operations(case)


@parametrize("merge")
def test_merging(case: Case) -> None:
    unmerged = operations(case) * case.get("repeat", 1)
    assert canonical(apply(case["state"], unmerged)) == canonical(case["expected"])
    merged = merge(unmerged)
    assert canonical(apply(case["state"], merged)) == canonical(case["expected"])
    assert len(merged) <= case.get("max_ops", len(merged))


def server_frames(*frames: Case) -> list[ServerFrame]:
    return decode_server_message(json.dumps(frames), "json")


@parametrize("replica")
def test_the_replica_rule(case: Case) -> None:
    replica = Replica()
    reopen = None
    start = case["replica"]
    if start is not None:
        (snapshot,) = server_frames({"type": "snapshot", "thread": "t1", "run": None, **start})
        assert isinstance(snapshot, Snapshot)
        replica.snapshot(snapshot)
    for frame in server_frames(*case["frames"]):
        match frame:
            case Snapshot():
                assert replica.snapshot(frame) == "applied"
            case Update():
                if replica.update(frame) != "applied":
                    reopen = "snapshot" if replica.since is None else "since"
    assert reopen == case["reopen"]
    if case["expected"] is None:
        assert replica.position is None
    else:
        assert replica.position is not None
        assert (replica.position.epoch, replica.position.seq) == (
            case["expected"]["epoch"],
            case["expected"]["seq"],
        )
        assert canonical(replica.state) == canonical(case["expected"]["state"])


def message(case: Case) -> tuple[str | bytes, Encoding]:
    """The message, and what the connection speaks."""
    if "json" in case:
        return case["json"], "json"
    if "json_hex" in case:
        return bytes.fromhex(case["json_hex"]), "json"
    if "msgpack_text" in case:
        return case["msgpack_text"], "msgpack"
    return bytes.fromhex(case["msgpack"]), "msgpack"


def as_builtins(frame: Any) -> Any:
    return msgspec.json.decode(msgspec.json.encode(frame))


def frames_of(side: str) -> pytest.MarkDecorator:
    return parametrize("frames", lambda case: case["from"] == side)


@frames_of("server")
def test_frames_from_servers(case: Case) -> None:
    data, encoding = message(case)
    frames = decode_server_message(data, encoding)
    for frame, expected in zip(frames, case["frames"], strict=True):
        builtins = as_builtins(frame)
        assert builtins == {**builtins, **expected}
        for each in ENCODINGS:
            assert decode_server_message(encode_frame(frame, each), each) == [frame]


@frames_of("client")
def test_frames_from_clients(case: Case) -> None:
    data, encoding = message(case)
    session = ServerSession(encoding, Limits(**case.get("limits", {})))
    if "close_code" in case:
        with pytest.raises(ProtocolError) as broken:
            session.receive(data)
        assert (broken.value.code, broken.value.close_code) == (case["error"], case["close_code"])
        return
    for frame, expected in zip(session.receive(data), case["frames"], strict=True):
        if isinstance(frame, Rejected):
            reply = as_builtins(frame.reply())
            error = reply.get("error", reply)
            assert error["code"] == expected["error"]
            assert error.get("field") == expected.get("field", error.get("field"))
            assert reply.get("thread") == expected.get("thread", reply.get("thread"))
            assert reply.get("id") == expected.get("id", reply.get("id"))
            assert reply["type"] == expected.get("answer", reply["type"])
        else:
            builtins = as_builtins(frame)
            assert builtins == {**builtins, **expected}


def test_every_code_of_values_and_operations_has_a_vector() -> None:
    codes = list(CODES)
    named = {case["error"] for name in ("values", "operations") for case in vectors(name) if "error" in case}
    assert set(codes[codes.index("too-deep") : codes.index("unknown-frame")]) <= named


def test_every_vector_file_is_replayed() -> None:
    replayed = {"values", "canonical", "operations", "lowering", "diff", "merge", "replica", "frames"}
    elsewhere = {"sessions", "http", "assistant"}
    assert {path.stem for path in VECTORS.glob("*.json")} == replayed | elsewhere
