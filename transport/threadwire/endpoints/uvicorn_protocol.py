"""uvicorn's sans-I/O WebSocket connection, opened for pre-framed writes. Give it to uvicorn as `ws=`.

It adds the `Writer` (see `writer`) to the scope, bounds what a slow or hostile client can make the
server hold, and lets go of what an idle connection doesn't need. It knows nothing of frames
above WebSocket's own; the pump is above it.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, cast

from uvicorn.config import Config
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from uvicorn.server import ServerState
from websockets.frames import Frame

from .writer import EXTENSION

if TYPE_CHECKING:
    from uvicorn._types import ASGIReceiveEvent, ASGISendEvent

HIGH_WATER_BYTES: Final = 64 * 1024
"""A connection with more than this queued isn't writable until it has fallen to a quarter."""

UNSENT_BYTES: Final = 128 * 1024
"""What the kernel may hold unsent for a connection. Its own bound is megabytes: as many stale
updates would reach a slow client before merging could begin."""

_BAD_REQUEST: Final = b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"


class ConnectionWriter:
    """The `Writer` of one connection.

    What it asks for each write is its own: with a thousand clients, what counts is how many objects
    a delivery has to look at, since none of them is in the processor's cache any longer.
    """

    __slots__ = ("_transport", "last_received", "on_writable", "open", "paused")

    def __init__(self, transport: asyncio.Transport, now: float) -> None:
        self._transport = transport
        self.open = False
        """From the handshake to our close frame. A client's closes the transport."""
        self.paused = False
        self.last_received = now
        self.on_writable: Callable[[], None] | None = None

    @property
    def writable(self) -> bool:
        return self.open and not self.paused and not self._transport.is_closing()

    def write(self, framed: bytes) -> None:
        if self.open and not self._transport.is_closing():
            self._transport.write(framed)

    def offer(self, framed: bytes) -> bool:
        transport = self._transport
        if self.paused or not self.open or transport.is_closing():
            return False
        transport.write(framed)
        return True

    def buffer_size(self) -> int:
        return self._transport.get_write_buffer_size()

    def abort(self) -> None:
        self._transport.abort()


class _Inbox:
    """What `asyncio.Queue` is to a single reader, without its 2.5 KiB of further deques and events."""

    __slots__ = ("_items", "_reader")

    def __init__(self) -> None:
        self._items: deque[ASGIReceiveEvent] = deque()
        self._reader: asyncio.Future[None] | None = None

    def empty(self) -> bool:
        return not self._items

    def put_nowait(self, item: ASGIReceiveEvent) -> None:
        self._items.append(item)
        if self._reader is not None and not self._reader.done():
            self._reader.set_result(None)

    async def get(self) -> ASGIReceiveEvent:
        if self._reader is not None:
            raise RuntimeError("another task is waiting in receive()")
        while not self._items:
            self._reader = asyncio.get_running_loop().create_future()
            try:
                await self._reader
            finally:
                self._reader = None
        return self._items.popleft()


class WebSocketProtocol(WebSocketsSansIOProtocol):
    """One connection. The application finds its `Writer` in `scope["extensions"][EXTENSION]`."""

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self.queue = cast("asyncio.Queue[ASGIReceiveEvent]", _Inbox())
        self.fragments: bytearray
        self.held_pong: bytes | None = None
        self.abort_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.transport.set_write_buffer_limits(high=HIGH_WATER_BYTES)
        tcp_socket: socket.socket | None = self.transport.get_extra_info("socket")
        if tcp_socket is not None:
            with contextlib.suppress(OSError):  # a UNIX socket
                # asyncio leaves it unset where the listening socket didn't name its protocol.
                tcp_socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if tcp_socket is not None and hasattr(socket, "TCP_NOTSENT_LOWAT"):
            with contextlib.suppress(OSError):  # a UNIX socket
                tcp_socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, UNSENT_BYTES)
        self.writer = ConnectionWriter(self.transport, self.loop.time())

    def connection_lost(self, exc: Exception | None) -> None:
        self.writer.on_writable = None
        if self.abort_timer is not None:
            self.abort_timer.cancel()
            self.abort_timer = None
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        super().pause_writing()
        self.writer.paused = True

    def resume_writing(self) -> None:
        super().resume_writing()
        self.writer.paused = False
        if self.held_pong is not None:
            pong, self.held_pong = self.held_pong, None
            self.writer.write(pong)
        if self.writer.on_writable is not None:
            self.writer.on_writable()

    def data_received(self, data: bytes) -> None:
        self.writer.last_received = self.loop.time()
        super().data_received(data)
        if self.conn.handshake_exc is not None and not self.handshake_initiated:
            # uvicorn leaves such a request (an endless header, a body) unanswered and open.
            self.transport.write(b"".join(self.conn.data_to_send()) or _BAD_REQUEST)
            self.transport.close()

    def handle_ping(self) -> None:
        # A client that floods pings and reads nothing would have its pongs pile up here.
        # "MAY elect to send a Pong frame for only the most recently processed Ping frame"
        # (RFC 6455 §5.5.3)
        if self.writer.paused and self.conn.close_sent is None:
            pongs = self.conn.data_to_send()
            if pongs:
                self.held_pong = pongs[-1]
        else:
            super().handle_ping()

    def handle_cont(self, event: Frame) -> None:
        # Joined as they come: kept in a list, as uvicorn does, fragments of one byte would cost
        # sixty times the size limit of messages, and empty ones would have no limit at all.
        if self.frames:
            self.fragments = bytearray(self.frames.pop())
        self.fragments += event.data
        if event.fin:
            self.frames.append(bytes(self.fragments))
            self.fragments.clear()
            self.send_receive_event_to_app()

    def send_receive_event_to_app(self) -> None:
        if self.curr_msg_data_type == "text" and not self.close_sent and not _is_utf8(self.frames[0]):
            # As uvicorn does, but without a traceback in the log for what any client may send.
            self.frames = []
            self.conn.send_close(1007, "a text message that is not UTF-8")
            self.handle_parser_exception()
            return
        super().send_receive_event_to_app()

    def start_keepalive(self) -> None:
        # Called once, after the handshake.
        self.writer.open = True
        # The websockets library keeps the request as long as the connection lives, and no one
        # reads it again: 5 KiB with a browser's headers.
        self.request.headers.clear()
        self.response.headers.clear()
        super().start_keepalive()

    async def send(self, message: ASGISendEvent) -> None:
        await super().send(message)
        if message["type"] == "websocket.close":
            self.writer.open = False
        elif message["type"] == "websocket.http.response.body" and not message.get("more_body", False):
            # uvicorn would log an error: it takes a handshake that was refused for one forgotten.
            self.handshake_complete = True

    async def run_asgi(self) -> None:
        extensions = cast(dict[str, Any], self.scope["extensions"])
        extensions[EXTENSION] = self.writer
        await super().run_asgi()
        # The application is done with the connection and it is being closed, which a client that
        # reads nothing could put off for ever.
        if not self.disconnected:
            self.abort_timer = self.loop.call_later(self.close_timeout, self.transport.abort)


def _is_utf8(data: bytes | bytearray) -> bool:
    if data.isascii():  # a tenth of the cost of decoding
        return True
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True
