"""An ASGI server in memory for one WebSocket connection; its `send` can be held, as a slow client's is."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, MutableMapping
from contextlib import asynccontextmanager
from typing import Any

import anyio
import msgspec

from threadwire.core.codec import Encoding, decode_server_message


class Socket:
    """The client's side: frames in and out as plain dicts."""

    def __init__(self, encoding: Encoding) -> None:
        self.encoding: Encoding = encoding
        self.messages: list[list[Any]] = []
        """Each message's frames."""
        self.closed: dict[str, Any] | None = None
        self.accepted: dict[str, Any] | None = None
        self.flowing = asyncio.Event()
        self.flowing.set()
        self._incoming: asyncio.Queue[MutableMapping[str, Any]] = asyncio.Queue()
        self._incoming.put_nowait({"type": "websocket.connect"})
        self._news = asyncio.Event()

    @property
    def frames(self) -> list[Any]:
        return [frame for message in self.messages for frame in message]

    def say(self, *frames: dict[str, Any]) -> None:
        value = list(frames) if len(frames) > 1 else frames[0]
        if self.encoding == "json":
            self.put({"type": "websocket.receive", "text": msgspec.json.encode(value).decode()})
        else:
            self.put({"type": "websocket.receive", "bytes": msgspec.msgpack.encode(value)})

    def put(self, message: MutableMapping[str, Any]) -> None:
        self._incoming.put_nowait(message)

    def hang_up(self) -> None:
        self.put({"type": "websocket.disconnect", "code": 1006})

    async def receive(self) -> MutableMapping[str, Any]:
        return await self._incoming.get()

    async def send(self, message: MutableMapping[str, Any]) -> None:
        match message["type"]:
            case "websocket.accept":
                self.accepted = dict(message)
            case "websocket.close":
                self.closed = dict(message)
                self.hang_up()
            case "websocket.send":
                data = message["text"] if self.encoding == "json" else message["bytes"]
                self.messages.append(decode_server_message(data, self.encoding))
                self._news.set()
                await self.flowing.wait()
        self._news.set()

    async def until(self, kind: type, **fields: Any) -> Any:
        """The first frame of that kind with these fields, waited for."""
        with anyio.fail_after(60):
            while True:
                for frame in self.frames:
                    if isinstance(frame, kind) and all(getattr(frame, k) == v for k, v in fields.items()):
                        return frame
                self._news.clear()
                await self._news.wait()

    async def until_closed(self) -> dict[str, Any]:
        with anyio.fail_after(60):
            while self.closed is None:
                self._news.clear()
                await self._news.wait()
        return self.closed


@asynccontextmanager
async def connected(
    app: Any, encoding: Encoding = "json", *, headers: dict[str, str] | None = None
) -> AsyncIterator[Socket]:
    """A connection to an ASGI application; hung up at the end."""
    socket = Socket(encoding)
    scope = {
        "type": "websocket",
        "path": "/ws",
        "headers": [(k.lower().encode(), v.encode()) for k, v in (headers or {"Host": "test"}).items()],
        "subprotocols": [f"threadwire.v1.{encoding}"],
        "extensions": {},
    }
    async with anyio.create_task_group() as group:
        group.start_soon(app, scope, socket.receive, socket.send)
        yield socket
        socket.flowing.set()
        socket.hang_up()
