"""A stock AssistantTransport client in a test: requests, both encodings of the stream, the state.

Written by what the stock client was observed to do. It is strict: what would end its run with an error,
or be dropped without a word, fails the test.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, MutableMapping
from contextlib import asynccontextmanager
from typing import Any, Final

import anyio

PROTOCOLS: Final = ("data-stream", "assistant-transport")


class Broken(Exception):
    """The stream ended where no stream ends."""


class Accumulator:
    """The state as the stock client has it: `set` and `append-text` on paths of strings."""

    def __init__(self) -> None:
        self.state: Any = None

    def apply(self, operations: list[Any]) -> None:
        assert isinstance(operations, list)
        for operation in operations:
            assert operation.keys() == {"type", "path", "value"}
            assert all(type(segment) is str for segment in operation["path"])
            self.state = self._edited(self.state, operation["path"], operation)

    def _edited(self, value: Any, path: list[str], operation: dict[str, Any]) -> Any:
        if not path:
            if operation["type"] == "set":
                return operation["value"]
            assert operation["type"] == "append-text", operation
            assert type(value) is str, "append-text to what is no string"
            return value + operation["value"]
        key, *rest = path
        assert key not in ("__proto__", "constructor", "prototype")
        if value is None:
            value = {}
        if isinstance(value, list):
            assert str(int(key)) == key
            index = int(key)
            assert 0 <= index <= len(value), f"index {index} of {len(value)} items"
            old = value[index] if index < len(value) else None
            return [*value[:index], self._edited(old, rest, operation), *value[index + 1 :]]
        assert isinstance(value, dict), "a path through what is no container"
        return {**value, key: self._edited(value.get(key), rest, operation)}


class StreamReader:
    """Takes the bytes of a stream in any pieces.

    Attributes:
        states: the state after each part.
        errors: the texts of error parts.
        heartbeats: signs of life, those between parts among them.
    """

    def __init__(self, protocol: str) -> None:
        self._protocol = protocol
        self._accumulator = Accumulator()
        self._buffer = b""
        self._done = False
        self.states: list[Any] = []
        self.errors: list[str] = []
        self.heartbeats = 0
        self.received = 0

    @property
    def state(self) -> Any:
        return self._accumulator.state

    def feed(self, data: bytes) -> None:
        self.received += len(data)
        self._buffer += data
        separator = b"\n" if self._protocol == "data-stream" else b"\n\n"
        *complete, self._buffer = self._buffer.split(separator)
        for each in complete:
            assert not self._done, "more after the end"
            text = each.decode()
            if self._protocol == "data-stream":
                self._line(text)
            else:
                self._event(text)

    def end(self) -> None:
        """The body has ended in order. Raises Broken where the client would see an error in that."""
        if self._buffer:
            raise Broken("it ended within a line")
        if self._protocol == "assistant-transport" and not self._done:
            raise Broken("there was no [DONE]")

    def _line(self, line: str) -> None:
        if not line.strip():
            self.heartbeats += 1
            return
        kind, colon, value = line.partition(":")
        assert colon, line
        if kind == "aui-state":
            self._operations(_parsed(value))
        else:
            assert kind == "3", kind
            self.errors.append(_parsed(value))

    def _event(self, event: str) -> None:
        if event.startswith(":"):
            self.heartbeats += 1
            return
        assert "\n" not in event
        assert event.startswith("data: "), event
        if event == "data: [DONE]":
            self._done = True
            return
        chunk = _parsed(event.removeprefix("data: "))
        assert chunk["path"] == []
        if chunk["type"] == "update-state":
            self._operations(chunk["operations"])
        else:
            assert chunk["type"] == "error"
            assert type(chunk["error"]) is str
            self.errors.append(chunk["error"])

    def _operations(self, operations: list[Any]) -> None:
        if not self.states:
            assert operations[0]["type"] == "set", "a stream begins with the whole state"
            assert operations[0]["path"] == [], "a stream begins with the whole state"
        assert not self.errors, "an error is the last part"
        self._accumulator.apply(operations)
        self.states.append(self.state)


def _parsed(text: str) -> Any:
    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is dropped without a word")

    value = json.loads(text, parse_constant=refuse)
    assert '"__proto__"' not in text
    return value


def message(text: str, **more: Any) -> dict[str, Any]:
    """An add-message command as stock clients send it."""
    parts = [{"type": "text", "text": text}]
    return {
        "type": "add-message",
        "message": {"role": "user", "parts": parts},
        "parentId": None,
        "sourceId": None,
        **more,
    }


def body(*texts: str, **members: Any) -> dict[str, Any]:
    """A request of messages; `members` replace and add to those that a new thread's first one has."""
    return {
        "commands": [message(text) for text in texts],
        "state": {"messages": []},
        "parentId": None,
        **members,
    }


class Exchange:
    """One request to an ASGI application, whose response can be read while it comes, slowly or not at all."""

    def __init__(self, protocol: str) -> None:
        self.reader = StreamReader(protocol)
        self.status = 0
        self.headers: dict[str, str] = {}
        self.raw = b""
        self.pieces: list[bytes] = []
        """The same, as it was sent."""
        self.complete = False
        """Whether the body came to its end."""
        self.finished = False
        """Whether the application is through with it."""
        self.flowing = asyncio.Event()
        """Cleared, the client takes nothing."""
        self.flowing.set()
        self.stalled = False
        """Of the body only the first half is sent."""
        self._gone = asyncio.Event()
        self._news = asyncio.Event()
        self._body: list[bytes] = []

    def hang_up(self) -> None:
        self._gone.set()
        self.flowing.set()

    @property
    def state(self) -> Any:
        return self.reader.state

    @property
    def json(self) -> Any:
        return json.loads(self.raw)

    async def until(self, condition: Any, timeout_s: float = 60) -> None:
        """Waits until something has come that makes `condition` true."""
        with anyio.fail_after(timeout_s):
            while not condition():
                assert not self.finished, f"the response ended before: {self.status} {self.raw[-500:]!r}"
                self._news.clear()
                await self._news.wait()

    async def end(self, timeout_s: float = 60) -> StreamReader:
        """The stream, once it has ended in order."""
        with anyio.fail_after(timeout_s):
            while not self.finished:
                self._news.clear()
                await self._news.wait()
        assert self.status == 200, self.raw
        assert self.complete
        self.reader.end()
        return self.reader

    # ASGI

    async def _receive(self) -> MutableMapping[str, Any]:
        if self._body and not (self.stalled and len(self._body) == 1):
            piece = self._body.pop(0)
            return {"type": "http.request", "body": piece, "more_body": bool(self._body)}
        await self._gone.wait()
        return {"type": "http.disconnect"}

    async def _send(self, event: MutableMapping[str, Any]) -> None:
        if event["type"] == "http.response.start":
            self.status = event["status"]
            self.headers = {name.decode(): value.decode() for name, value in event["headers"]}
        else:
            await self.flowing.wait()
            if self._gone.is_set():
                return
            data = event.get("body", b"")
            self.raw += data
            self.pieces += [data] if data else []
            if self.status == 200 and "json" not in self.headers.get("content-type", ""):
                self.reader.feed(data)
            self.complete = not event.get("more_body", False)
        self._news.set()


@asynccontextmanager
async def post(
    app: Any,
    path: str,
    content: Any = None,
    *,
    protocol: str = "data-stream",
    headers: dict[str, str] | None = None,
    query: str = "",
    stalled: bool = False,
) -> AsyncIterator[Exchange]:
    """A request; hung up at the end of the block. `content` is bytes, or a value for JSON."""
    exchange = Exchange(protocol)
    exchange.stalled = stalled
    data = content if isinstance(content, bytes) else json.dumps(content).encode()
    exchange._body = [data[: len(data) // 2], data[len(data) // 2 :]]
    given = {"content-type": "application/json", "content-length": str(len(data)), **(headers or {})}
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "POST",
        "path": path,
        "raw_path": path.encode(),
        "root_path": "",
        "scheme": "http",
        "query_string": "&".join(filter(None, (f"protocol={protocol}", query))).encode(),
        "headers": [(name.lower().encode(), value.encode()) for name, value in given.items()],
        "server": ("threadwire.test", 80),
        "client": ("127.0.0.1", 1),
        "extensions": {},
    }

    async def run() -> None:
        try:
            await app(scope, exchange._receive, exchange._send)
        finally:
            exchange.finished = True
            exchange._news.set()

    async with anyio.create_task_group() as group:
        group.start_soon(run)
        try:
            yield exchange
        finally:
            exchange.hang_up()
