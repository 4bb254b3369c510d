"""A WebSocket connection in memory, with a `Writer`: what is written arrives, or waits while it is slow."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Callable, MutableMapping
from typing import Any

import msgspec

from threadwire.core.codec import Encoding, decode_server_message
from threadwire.endpoints.writer import EXTENSION


class Wire:
    """Both ends of it. `on_frame` is called with each frame that arrives at the client.

    With `plain`, there is no `Writer`, and the server sends by ASGI.
    """

    def __init__(self, encoding: Encoding, on_frame: Callable[[Any], None], *, plain: bool = False) -> None:
        self.encoding: Encoding = encoding
        self.scope: dict[str, Any] = {
            "type": "websocket",
            "path": "/ws",
            "headers": [],
            "subprotocols": [f"threadwire.v1.{encoding}"],
            "extensions": {} if plain else {EXTENSION: self},
        }
        self.last_received = 0.0
        self.on_writable: Callable[[], None] | None = None
        self.gone = False
        self.close_code: int | None = None
        self.send_error: Exception | None = None
        """What ASGI's `send` raises."""
        self._on_frame = on_frame
        self._accepted = False
        self._slow = False
        self._waiting: list[bytes | str] = []
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._incoming: asyncio.Queue[MutableMapping[str, Any]] = asyncio.Queue()
        self._incoming.put_nowait({"type": "websocket.connect"})

    # the client's end

    def say(self, *frames: dict[str, Any]) -> None:
        value = list(frames) if len(frames) > 1 else frames[0]
        if self.encoding == "json":
            text = msgspec.json.encode(value).decode()
            self._incoming.put_nowait({"type": "websocket.receive", "text": text})
        else:
            self._incoming.put_nowait({"type": "websocket.receive", "bytes": msgspec.msgpack.encode(value)})
        self.last_received = asyncio.get_running_loop().time()

    @property
    def slow(self) -> bool:
        return self._slow

    def slow_down(self) -> None:
        """The client stops reading."""
        if not self.gone:
            self._slow = True
            self._flowing.clear()

    def speed_up(self) -> None:
        """The client reads all that waits, and goes on."""
        if not self._slow:
            return
        waiting, self._waiting = self._waiting, []
        for data in waiting:
            self._arrive(data)
        self._slow = False
        self._flowing.set()
        if self.on_writable is not None and not self.gone:
            self.on_writable()

    def hang_up(self) -> None:
        """The connection is gone, with all that waits."""
        if not self.gone:
            self.gone = True
            self._waiting.clear()
            self._flowing.set()
            self._incoming.put_nowait({"type": "websocket.disconnect", "code": 1006})

    # the server's end: ASGI

    async def receive(self) -> MutableMapping[str, Any]:
        return await self._incoming.get()

    async def send(self, message: MutableMapping[str, Any]) -> None:
        if self.gone:
            raise OSError("the client is gone")
        match message["type"]:
            case "websocket.accept":
                self._accepted = True
            case "websocket.close":
                self.close_code = message["code"]
                self.hang_up()
            case "websocket.send":
                if self.send_error is not None:
                    raise self.send_error
                await self._flowing.wait()
                if self.gone:
                    raise OSError("the client is gone")
                self._arrive(message["text"] if self.encoding == "json" else message["bytes"])

    # the server's end: Writer

    @property
    def writable(self) -> bool:
        return self._accepted and not self._slow and not self.gone

    def write(self, framed: bytes) -> None:
        if not self._accepted or self.gone:
            return
        payload = _unframed(framed)
        if self._slow:
            self._waiting.append(payload)
        else:
            self._arrive(payload)

    def offer(self, framed: bytes) -> bool:
        if not self.writable:
            return False
        self.write(framed)
        return True

    def buffer_size(self) -> int:
        return sum(len(data) for data in self._waiting)

    def abort(self) -> None:
        self.hang_up()

    def _arrive(self, data: bytes | str) -> None:
        for frame in decode_server_message(data, self.encoding):
            self._on_frame(frame)


def _unframed(framed: bytes) -> bytes:
    """The payload of one WebSocket frame as servers send them."""
    size = framed[1]
    if size < 126:
        start = 2
    elif size == 126:
        (size,) = struct.unpack("!H", framed[2:4])
        start = 4
    else:
        (size,) = struct.unpack("!Q", framed[2:10])
        start = 10
    assert len(framed) == start + size
    return framed[start:]
