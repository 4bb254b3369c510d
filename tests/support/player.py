"""Plays the session scripts of `protocol-spec/vectors` against a server, over any transport.

The player is a client that believes nothing: whatever a script expects, it also checks every
frame against the rules that hold throughout. What a transport has to offer is `Peer`.
The language is described in `protocol-spec/vectors/README.md`.
"""

from __future__ import annotations

import hashlib
import json
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, Literal, Protocol, TypeAlias

import anyio
import msgspec
import rfc8785
from jsonschema import Draft202012Validator

from tests.support.matching import Names, fill, match
from threadwire.core.operations import Operation, apply

Encoding: TypeAlias = Literal["json", "msgpack"]
Frame: TypeAlias = dict[str, Any]

SPEC: Final = Path(__file__).parents[2] / "protocol-spec"
STEP_TIMEOUT_S: Final = 60

_ENDED: Final = ("completed", "failed", "cancelled")
_SETTLED: Final = ("applied", "rejected", "cancelled")
_NEXT: Final[dict[str | None, tuple[str, ...]]] = {
    None: ("queued", "rejected"),
    "queued": ("running", *_SETTLED),
    "running": ("queued", *_SETTLED),
}
"""The statuses of a command that may follow each. Spec: PROTOCOL.md §7.2."""


class PeerClosed(Exception):
    """The server has closed the connection."""

    def __init__(self, code: int) -> None:
        super().__init__(f"closed with {code}")
        self.code = code


class HandshakeRefused(Exception):
    """The server has refused the WebSocket handshake."""

    def __init__(self, status: int) -> None:
        super().__init__(f"refused with {status}")
        self.status = status


class Peer(Protocol):
    """One WebSocket connection to the server."""

    @property
    def subprotocol(self) -> str | None:
        """The one that the server picked."""
        ...

    async def send(self, message: str | bytes) -> None:
        """A text or a binary message."""
        ...

    async def receive(self) -> str | bytes:
        """The next message. Raises PeerClosed."""
        ...

    async def close(self) -> None: ...


Connect: TypeAlias = Callable[[Sequence[str]], Awaitable[Peer]]
"""Connects, offering these subprotocols. Raises HandshakeRefused."""

Request: TypeAlias = Callable[[str, str, bytes | None], Awaitable[tuple[int, bytes]]]
"""(method, path, JSON body or None) → (status, body) of an HTTP request."""


class ScriptFailed(AssertionError):
    """The server did something that the script or the protocol doesn't allow."""


class Replica:
    """A client's copy of one thread. Spec: PROTOCOL.md §4.5."""

    def __init__(self) -> None:
        self.position: tuple[int, int] | None = None
        self.state: Any = None


async def play(
    script: Frame,
    connect: Connect,
    request: Request | None = None,
    *,
    encoding: Encoding = "json",
    step_timeout_s: float = STEP_TIMEOUT_S,
) -> None:
    """Plays all steps of a script.

    Raises:
        ScriptFailed: with the step, and all that was sent and received until then.
    """
    player = _Player(connect, request, encoding)
    try:
        for number, step in enumerate(script["steps"], 1):
            try:
                with anyio.fail_after(step_timeout_s):
                    await player.step(step)
            except (ScriptFailed, PeerClosed, HandshakeRefused, TimeoutError) as error:
                what = "nothing more came" if isinstance(error, TimeoutError) else str(error)
                raise ScriptFailed(
                    f"{script['name']} ({encoding}), step {number}: {what}\n"
                    f"  step: {json.dumps(step, ensure_ascii=False)[:1000]}\n  "
                    + "\n  ".join(player.transcript[-40:])
                ) from error
    finally:
        await player.close()


class _Player:
    def __init__(self, connect: Connect, request: Request | None, encoding: Encoding) -> None:
        self.transcript: list[str] = []
        self._connect = connect
        self._request = request
        self._encoding = encoding
        self._names: Names = {}
        self._clients: dict[str, _Client] = {}

    async def step(self, step: Frame) -> None:
        if "request" in step:
            await self._http(step)
            return
        name = step.get("on", "a")
        client = self._clients.get(name)
        if client is None:
            client = self._clients[name] = _Client(name, self._encoding, self.transcript)
        if "connect" in step:
            await client.connect(self._connect, step["connect"])
            return
        if not client.connected:
            await client.connect(self._connect, {})
        match step:
            case {">": template}:
                await client.send(fill(client.positions(template), self._names))
            case {"text": str(text)}:
                await client.send_raw(text)
            case {"hex": str(digits)}:
                await client.send_raw(bytes.fromhex(digits))
            case {"<": matchers}:
                await self._expect(client, matchers if isinstance(matchers, list) else [matchers], step)
            case {"closed": int(code)}:
                await client.until_closed(code)
            case {"disconnect": True}:
                await client.disconnect()
            case _:
                raise ValueError(f"no such step: {step}")

    async def close(self) -> None:
        for client in self._clients.values():
            await client.disconnect()

    async def _expect(self, client: _Client, matchers: list[Any], step: Frame) -> None:
        waiting = list(matchers)
        reached: dict[str, int] = {}

        async def read() -> None:
            frame = await client.next_frame()
            for unwanted in step.get("none", ()):
                if match(unwanted, frame, self._names) is not None:
                    raise ScriptFailed(f"{client.name} got what it must not get: {frame}")
            for index, matcher in enumerate(waiting):
                names = match(matcher, frame, self._names)
                if names is not None:
                    self._names = names
                    del waiting[index]
                    if frame["type"] == "command" and "seq" in frame:
                        reached[frame["thread"]] = max(frame["seq"], reached.get(frame["thread"], 0))
                    return
            rejection = frame["type"] == "command" and frame["status"] == "rejected"
            if rejection or frame["type"] in ("error", "goodbye", "tool"):
                raise ScriptFailed(f"{client.name} did not expect {frame}")

        while waiting:
            await read()
        for thread, matcher in step.get("until", {}).items():
            while (names := match(matcher, client.state(thread), self._names, exact=True)) is None:
                await read()
            self._names = names
        for thread, matcher in step.get("state", {}).items():
            while client.seq(thread) < reached.get(thread, 0):
                await read()
            names = match(matcher, client.state(thread), self._names, exact=True)
            if names is None:
                raise ScriptFailed(f"the state of {thread} is {client.state(thread)}")
            self._names = names

    async def _http(self, step: Frame) -> None:
        if self._request is None:
            raise ValueError("this script makes HTTP requests")
        method, path, *body = step["request"]
        for name, value in self._names.items():
            path = path.replace(f"{{{name}}}", str(value))
        data: bytes | None = None
        if body:
            filled = fill(body[0], self._names)
            raw = isinstance(filled, dict) and filled.keys() == {"$text"}
            data = (filled["$text"] if raw else json.dumps(filled)).encode()
        self.transcript.append(f"{method} {path} {'' if data is None else data.decode()[:500]}")
        status, answer = await self._request(method, path, data)
        self.transcript.append(f"{status} {answer[:1000]!r}")
        if status != step["status"]:
            raise ScriptFailed(f"the status is {status}")
        if "body" in step:
            names = match(step["body"], json.loads(answer), self._names)
            if names is None:
                raise ScriptFailed(f"the body is {answer.decode()[:1000]}")
            self._names = names


class _Client:
    """One client: replicas that outlive connections, and the checks that hold throughout."""

    def __init__(self, name: str, encoding: Encoding, transcript: list[str]) -> None:
        self.name = name
        self._encoding: Encoding = encoding
        self._transcript = transcript
        self._peer: Peer | None = None
        self._frames: deque[Frame] = deque()
        self._replicas: dict[str, Replica] = {}
        self._commands: dict[tuple[str, str], str | None] = {}
        """The last status of each command that this client sent."""
        self._forget()

    def _forget(self) -> None:
        """What a new connection doesn't know of the one before."""
        self._welcomed = False
        self._opened: set[str] = set()
        self._asked: set[str] = set()
        """Threads whose `open` has not been answered: updates that don't fit are of an earlier one."""
        self._cancelled: set[str] = set()
        self._runs: dict[str, Frame] = {}
        self._sent: set[tuple[str, str]] = set()

    # the connection

    @property
    def connected(self) -> bool:
        return self._peer is not None

    async def connect(self, connect: Connect, options: Frame) -> None:
        assert self._peer is None, "connected already"
        self._forget()
        offer = options.get("offer", [f"threadwire.v1.{self._encoding}"])
        self._note("connects", offer)
        try:
            self._peer = await connect(offer)
        except HandshakeRefused as refusal:
            if refusal.status == options.get("refused"):
                return
            raise
        if "refused" in options:
            raise ScriptFailed("the handshake was not refused")
        if "picked" in options and self._peer.subprotocol != options["picked"]:
            raise ScriptFailed(f"the server picked {self._peer.subprotocol}")

    async def disconnect(self) -> None:
        peer, self._peer = self._peer, None
        self._frames.clear()
        if peer is not None:
            self._note("disconnects", "")
            await peer.close()

    async def until_closed(self, code: int) -> None:
        assert self._peer is not None
        try:
            while True:
                await self.next_frame()
        except PeerClosed as closed:
            if closed.code != code:
                raise
        await self.disconnect()

    # out

    def positions(self, template: Any) -> Any:
        """`template` with `{"$position": thread}` replaced."""
        if isinstance(template, list):
            return [self.positions(item) for item in template]
        if isinstance(template, dict):
            if template.keys() == {"$position"}:
                position = self._replicas[template["$position"]].position
                assert position is not None
                return {"epoch": position[0], "seq": position[1]}
            return {key: self.positions(item) for key, item in template.items()}
        return template

    async def send(self, message: Any) -> None:
        self._note(">", message)
        for frame in message if isinstance(message, list) else [message]:
            self._remember(frame)
        data = json.dumps(message) if self._encoding == "json" else msgspec.msgpack.encode(message)
        assert self._peer is not None
        await self._peer.send(data)

    async def send_raw(self, message: str | bytes) -> None:
        self._note(">", message if isinstance(message, str) else message.hex())
        with suppress(ValueError):  # what is not JSON is sent to be refused
            self._remember(json.loads(message))
        assert self._peer is not None
        await self._peer.send(message)

    def _remember(self, frame: Any) -> None:
        """What the frame entitles the server to send."""
        match frame:
            case {"type": "open", "thread": str(thread)}:
                self._opened.add(thread)
                self._asked.add(thread)
                self._replicas.setdefault(thread, Replica())
            case {"type": "close", "thread": str(thread)}:
                self._opened.discard(thread)
                self._runs.pop(thread, None)
            case {"type": "cancel", "thread": str(thread)}:
                self._cancelled.add(thread)
            case {"type": "command", "thread": str(thread), "id": str(id)}:
                self._commands.setdefault((thread, id), None)
                self._sent.add((thread, id))

    # in

    def state(self, thread: str) -> Any:
        return self._replicas[thread].state

    def seq(self, thread: str) -> int:
        position = self._replicas[thread].position
        return -1 if position is None else position[1]

    async def next_frame(self) -> Frame:
        """The next frame, checked and taken in. Raises PeerClosed."""
        while True:
            while not self._frames:
                assert self._peer is not None
                self._frames.extend(self._decode(await self._peer.receive()))
            frame = self._frames.popleft()
            self._note("<", frame)
            errors = list(_SCHEMA.iter_errors(frame)) if frame.get("type") in _KNOWN else []
            if errors:
                raise ScriptFailed(f"{frame} breaks the schema: {errors[0].message}")
            if (frame["type"] == "welcome") == self._welcomed:
                raise ScriptFailed("welcome is the first frame of a connection and comes once")
            if frame["type"] in _KNOWN:
                self._take(frame)
                return frame

    def _decode(self, message: str | bytes) -> list[Frame]:
        if isinstance(message, str) != (self._encoding == "json"):
            raise ScriptFailed(f"a {type(message).__name__} message on a {self._encoding} connection")
        value = json.loads(message) if isinstance(message, str) else msgspec.msgpack.decode(message)
        frames: list[Frame] = value if isinstance(value, list) else [value]
        if self._encoding == "msgpack":
            for frame in frames:
                if frame["type"] == "update":
                    frame["ops"] = [_operation(array) for array in frame["ops"]]
        return frames

    def _take(self, frame: Frame) -> None:
        match frame["type"]:
            case "welcome":
                self._welcomed = True
            case "snapshot" | "update":
                self._state_frame(frame)
            case "run":
                self._run(frame["thread"], frame["run"])
            case "command":
                self._command(frame)
            case "heartbeat":
                for thread, head in frame["heads"].items():
                    if thread not in self._opened:
                        continue  # closed meanwhile
                    if thread not in self._asked and tuple(head) != self._replicas[thread].position:
                        raise ScriptFailed(f"a heartbeat names {head} of {thread}")
            case "error":
                thread = frame.get("thread")
                if thread is not None and "id" not in frame and thread in self._asked:
                    self._asked.discard(thread)  # the open was refused

    def _state_frame(self, frame: Frame) -> None:
        thread = frame["thread"]
        replica = self._replicas.get(thread)
        if replica is None:
            raise ScriptFailed(f"{thread} was never opened")
        if thread not in self._opened:
            return  # on its way when the thread was closed
        if frame["type"] == "snapshot":
            replica.position = (frame["epoch"], frame["seq"])
            replica.state = frame["state"]
            self._asked.discard(thread)
        else:
            base = frame.get("from", frame["seq"] - 1)
            if replica.position is None or replica.position[1] != base:
                if thread in self._asked:
                    return
                raise ScriptFailed(f"an update from {base} at {replica.position}")
            if base > frame["seq"] or frame["epoch"] < replica.position[0]:
                raise ScriptFailed("an update leads backwards")
            if base == frame["seq"] and frame["ops"]:
                raise ScriptFailed("an update without a range has operations")
            replica.state = apply(replica.state, msgspec.convert(frame["ops"], list[Operation]))
            replica.position = (frame["epoch"], frame["seq"])
        if "hash" in frame:
            expected = hashlib.sha256(rfc8785.dumps(replica.state)).hexdigest()
            if frame["hash"] != expected:
                raise ScriptFailed(f"the hash of the state is {expected}")

    def _run(self, thread: str, run: Frame | None) -> None:
        if thread not in self._opened | self._cancelled:
            if thread in self._replicas:
                return  # on its way when the thread was closed
            raise ScriptFailed(f"a run of {thread}, which is not open")
        if self._replicas.get(thread, Replica()).position is not None:
            self._asked.discard(thread)
        if run is None:
            return
        if (run["status"] == "failed") != ("error" in run):
            raise ScriptFailed("a failed run has an error, and no other has")
        known = self._runs.get(thread)
        if known is not None and known["status"] in _ENDED and known["id"] == run["id"] and known != run:
            raise ScriptFailed(f"the run was {known['status']}")
        if known is not None and known["status"] not in _ENDED and known["id"] != run["id"]:
            raise ScriptFailed(f"the run {known['id']} has not ended")
        if thread in self._opened:
            self._runs[thread] = run

    def _command(self, frame: Frame) -> None:
        key = (frame["thread"], frame["id"])
        if key not in self._sent:
            raise ScriptFailed("a command that was not sent on this connection")
        status, before = frame["status"], self._commands[key]
        if ("seq" in frame) != (status == "applied") or ("error" in frame) != (status == "rejected"):
            raise ScriptFailed("seq comes with applied, error with rejected")
        if frame.get("duplicate"):
            if before in _SETTLED and status != before:
                raise ScriptFailed(f"the command was {before}")
        elif status not in _NEXT.get(before, ()):
            raise ScriptFailed(f"the command was {before}")
        # A refusal leaves no trace: the id is free.
        refused = status == "rejected" and before is None
        self._commands[key] = None if refused else status

    def _note(self, verb: str, what: Any) -> None:
        text = what if isinstance(what, str) else json.dumps(what, ensure_ascii=False)
        self._transcript.append(f"{self.name} {verb} {text[:500]}")


def _operation(array: list[Any]) -> Frame:
    """An operation's JSON form. Spec: PROTOCOL.md §5.3."""
    match array:
        case ["set" | "append-text" as kind, path, value]:
            return {"type": kind, "path": path, "value": value}
        case ["delete", path]:
            return {"type": "delete", "path": path}
        case ["splice", path, index, count, items]:
            return {"type": "splice", "path": path, "index": index, "delete_count": count, "items": items}
    raise ScriptFailed(f"no operation: {array}")


def _load_schema() -> tuple[Draft202012Validator, frozenset[str]]:
    schema = json.loads((SPEC / "schemas" / "server-frames.json").read_text(encoding="utf-8"))
    kinds = [schema["$defs"][each["$ref"].rpartition("/")[2]] for each in schema["anyOf"]]
    return Draft202012Validator(schema), frozenset(kind["properties"]["type"]["enum"][0] for kind in kinds)


_SCHEMA, _KNOWN = _load_schema()
