"""The player of session scripts: what its matchers match, and which faults of a server it notices."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Sequence
from typing import Any

import msgspec
import pytest

from tests.support.matching import fill, match
from tests.support.player import HandshakeRefused, Peer, PeerClosed, ScriptFailed, play
from threadwire.core.frames import Limits

pytestmark = pytest.mark.anyio

WELCOME = {
    "type": "welcome",
    "protocol": 1,
    "server": "s",
    "connection": "c",
    "agents": ["a"],
    "limits": msgspec.to_builtins(Limits()),
    "strategies": ["enqueue"],
}
OPEN = {">": {"type": "open", "thread": "t"}}
COMMAND = {">": {"type": "command", "thread": "t", "id": "k", "command": {"type": "x"}}}
DONE = {"<": {"type": "pong"}}
PONG = {"type": "pong", "nonce": None}


def snapshot(seq: int = 1, state: Any = None) -> dict[str, Any]:
    return {"type": "snapshot", "thread": "t", "epoch": 5, "seq": seq, "state": state or {}, "run": None}


def update(seq: int, *ops: Any, **fields: Any) -> dict[str, Any]:
    return {"type": "update", "thread": "t", "epoch": 5, "seq": seq, "ops": list(ops), **fields}


def run(id: str, status: str, **fields: Any) -> dict[str, Any]:
    return {"type": "run", "thread": "t", "run": {"id": id, "status": status, **fields}}


def status(status: str, **fields: Any) -> dict[str, Any]:
    return {"type": "command", "thread": "t", "id": "k", "status": status, **fields}


class Tape:
    """A server that says what it was told to, then closes with 1000."""

    subprotocol: str | None = "threadwire.v1.json"

    def __init__(self, *messages: Any) -> None:
        self._messages = deque(messages)
        self.sent: list[Any] = []

    async def send(self, message: str | bytes) -> None:
        self.sent.append(json.loads(message))

    async def receive(self) -> str | bytes:
        if not self._messages:
            raise PeerClosed(1000)
        return json.dumps(self._messages.popleft())

    async def close(self) -> None:
        pass


async def played(steps: list[Any], *messages: Any, welcome: bool = True) -> list[Any]:
    """What the player sent to a server that says `messages`."""
    tape = Tape(*([WELCOME] if welcome else []), *messages)

    async def connect(subprotocols: Sequence[str]) -> Peer:
        return tape

    await play({"name": "test", "steps": steps}, connect)
    return tape.sent


@pytest.mark.parametrize(
    ("matcher", "value"),
    [
        (1, 1.0),
        (None, None),
        ([1, {"$any": "string"}], [1, "x"]),
        ({"a": 1}, {"a": 1, "b": 2}),
        ({"a": {"b": 1}}, {"a": {"b": 1, "c": 2}}),
        ({"state": {"a": 1}}, {"state": {"a": 1}}),
        ({"state": {"a": {"$has": {"b": 1}}}}, {"state": {"a": {"b": 1, "c": 2}}}),
        ({"$any": "integer"}, 7),
        ({"$any": "value"}, None),
        ({"$only": {"a": 1}}, {"a": 1}),
        ({"a": {"$absent": True}}, {"b": 1}),
        ({"$not": 1}, 2),
        ({"$one": [1, 2]}, 2),
        ({"$first": [1, 2]}, [1, 2, 3]),
        ({"$pattern": "a.*"}, "abc"),
        ([{"$bind": "n"}, {"$bind": "n"}, {"$value": "n"}], ["x", "x", "x"]),
    ],
)
def test_matchers_match(matcher: Any, value: Any) -> None:
    assert match(matcher, value, {}) is not None


@pytest.mark.parametrize(
    ("matcher", "value"),
    [
        (1, True),
        (0, False),
        (1, "1"),
        ([1], [1, 2]),
        ({"a": 1}, {}),
        ({"a": None}, {}),
        ({"state": {"a": 1}}, {"state": {"a": 1, "b": 2}}),
        ({"state": {"a": {"b": 1}}}, {"state": {"a": {"b": 1, "c": 2}}}),
        ({"$any": "integer"}, True),
        ({"$any": "integer"}, 1.5),
        ({"$any": "string"}, None),
        ({"$only": {"a": 1}}, {"a": 1, "b": 2}),
        ({"a": {"$absent": True}}, {"a": None}),
        ({"$not": 1}, 1.0),
        ({"$one": [1, 2]}, 3),
        ({"$first": [1, 2]}, [1]),
        ({"$pattern": "a"}, "abc"),
        ([{"$bind": "n"}, {"$bind": "n"}], ["x", "y"]),
    ],
)
def test_matchers_do_not_match(matcher: Any, value: Any) -> None:
    assert match(matcher, value, {}) is None


def test_names_are_kept_of_matches_only() -> None:
    names = {"old": 1}
    assert match({"a": {"$bind": "n"}, "b": 1}, {"a": "x", "b": 1}, names) == {"old": 1, "n": "x"}
    assert match({"$one": [[{"$bind": "n"}, 1], [2, {"$bind": "m"}]]}, [2, 3], names) == {"old": 1, "m": 3}
    assert names == {"old": 1}
    assert fill({"a": [{"$value": "old"}]}, names) == {"a": [1]}


async def test_a_script_is_played_and_names_and_positions_are_filled_in() -> None:
    steps = [
        OPEN,
        {"<": {"type": "run", "run": {"id": {"$bind": "run"}}}},
        {">": {"type": "cancel", "thread": "t", "run": {"$value": "run"}}},
        {">": {"type": "open", "thread": "t", "since": {"$position": "t"}}},
        {**DONE, "state": {"t": {"a": 1}}},
    ]
    sent = await played(
        steps,
        [snapshot(1), update(2, {"type": "set", "path": ["a"], "value": 1})],
        run("r1", "running"),
        PONG,
    )
    assert sent == [
        OPEN[">"],
        {"type": "cancel", "thread": "t", "run": "r1"},
        {"type": "open", "thread": "t", "since": {"epoch": 5, "seq": 2}},
    ]


async def test_a_state_is_compared_once_the_replica_has_reached_the_commands_seq() -> None:
    steps = [OPEN, COMMAND, {"<": status("applied"), "state": {"t": {"a": 1}}}]
    await played(
        steps,
        snapshot(1),
        status("queued"),
        status("applied", seq=3),
        update(2),
        update(3, {"type": "set", "path": ["a"], "value": 1}),
    )


async def test_updates_that_an_earlier_subscription_left_are_dropped_until_the_answer() -> None:
    await played(
        [OPEN, {"<": {"type": "run"}}, {">": {"type": "open", "thread": "t"}}, DONE],
        snapshot(5),
        {"type": "run", "thread": "t", "run": None},
        update(9),
        snapshot(9),
        PONG,
    )


async def test_frames_of_unknown_types_are_ignored() -> None:
    await played([DONE], {"type": "weather", "thread": "t"}, PONG)


async def test_a_refused_handshake_is_what_the_script_may_ask_for() -> None:
    async def connect(subprotocols: Sequence[str]) -> Peer:
        assert subprotocols == ["x"]
        raise HandshakeRefused(400)

    await play({"name": "test", "steps": [{"connect": {"offer": ["x"], "refused": 400}}]}, connect)
    with pytest.raises(ScriptFailed, match="refused with 400"):
        await play({"name": "test", "steps": [{"connect": {"offer": ["x"], "refused": 403}}]}, connect)


FAULTS: list[tuple[str, list[Any], list[Any]]] = [
    ("welcome is the first", [DONE], [WELCOME, PONG]),
    ("breaks the schema", [DONE], [{"type": "pong", "nonce": {"__proto__": 1}}]),
    ("breaks the schema", [OPEN, DONE], [{**snapshot(), "seq": -1}]),
    ("was never opened", [DONE], [snapshot()]),
    ("an update from 2", [OPEN, {"<": {"type": "run"}}, DONE], [snapshot(1), run("r", "running"), update(3)]),
    ("an update from 0", [OPEN, {"<": {"type": "run"}}, DONE], [snapshot(1), run("r", "running"), update(1)]),
    ("leads backwards", [OPEN, DONE], [snapshot(3), update(2, **{"from": 3})]),
    ("leads backwards", [OPEN, DONE], [snapshot(3), update(4, epoch=4)]),
    (
        "without a range",
        [OPEN, DONE],
        [snapshot(3), update(3, {"type": "set", "path": ["a"], "value": 1}, **{"from": 3})],
    ),
    ("the hash of the state is", [OPEN, DONE], [snapshot(3), update(3, hash="0" * 64, **{"from": 3})]),
    ("which is not open", [DONE], [run("r", "running")]),
    ("was completed", [OPEN, DONE], [snapshot(), run("r", "completed"), run("r", "running")]),
    ("has not ended", [OPEN, DONE], [snapshot(), run("r", "running"), run("s", "running")]),
    ("a failed run has an error", [OPEN, DONE], [snapshot(), run("r", "failed")]),
    ("was not sent on this connection", [DONE], [status("queued")]),
    ("the command was None", [COMMAND, DONE], [status("applied", seq=1)]),
    (
        "the command was applied",
        [COMMAND, DONE],
        [status("queued"), status("applied", seq=1), status("queued")],
    ),
    (
        "the command was applied",
        [COMMAND, DONE],
        [status("queued"), status("applied", seq=1), status("cancelled", duplicate=True)],
    ),
    ("seq comes with applied", [COMMAND, DONE], [status("queued", seq=1)]),
    ("error with rejected", [COMMAND, DONE], [status("rejected")]),
    (
        "did not expect",
        [COMMAND, DONE],
        [status("rejected", error={"code": "invalid-command", "message": "m"})],
    ),
    ("did not expect", [DONE], [{"type": "error", "code": "internal", "message": "m"}]),
    ("what it must not get", [OPEN, {**DONE, "none": [{"type": "snapshot"}]}], [snapshot(), PONG]),
    ("the state of t is", [OPEN, {**DONE, "state": {"t": {}}}], [snapshot(1, {"a": 1}), PONG]),
    ("a heartbeat names", [OPEN, DONE], [snapshot(1), {"type": "heartbeat", "heads": {"t": [5, 2]}}]),
    ("closed with 1000", [{"closed": 4400}], []),
    ("closed with 1000", [DONE], []),
]


@pytest.mark.parametrize(
    ("fault", "steps", "messages"), FAULTS, ids=[f"{n}-{f[0]}" for n, f in enumerate(FAULTS)]
)
async def test_faults_of_the_server_are_noticed(fault: str, steps: list[Any], messages: list[Any]) -> None:
    with pytest.raises(ScriptFailed, match=fault):
        await played(steps, *messages)


async def test_a_server_that_does_not_say_welcome_is_noticed() -> None:
    with pytest.raises(ScriptFailed, match="welcome is the first"):
        await played([DONE], PONG, welcome=False)


async def test_a_failure_tells_the_step_and_what_was_said() -> None:
    with pytest.raises(ScriptFailed, match=r"(?s)test \(json\), step 2: .*a > .*ping.*a < .*welcome"):
        await played([{">": {"type": "ping"}}, DONE])
