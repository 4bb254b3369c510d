"""Keeps one client session connected: dials, moves frames both ways, watches, dials again.

What frames mean is the session's business; what users see of it is in `connection` and `thread`.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterable, Mapping
from ssl import SSLContext
from typing import Any, Final, Literal
from weakref import WeakKeyDictionary

import anyio
import anyio.lowlevel
import msgspec
from anyio.abc import TaskGroup
from websockets.asyncio.client import ClientConnection
from websockets.asyncio.client import connect as dial
from websockets.exceptions import ConnectionClosed as SocketClosed
from websockets.exceptions import InvalidMessage, InvalidStatus, WebSocketException
from websockets.typing import Subprotocol

from ..core.client_session import (
    Changed,
    ClientSession,
    Event,
    FollowedThread,
    Problem,
    RetryLater,
    SentCommand,
)
from ..core.codec import Encoding, decode_server_message, encode_frame
from ..core.errors import ConnectionClosed, ErrorInfo, ProtocolError, reconnect_after
from ..core.frames import SUBPROTOCOLS, Limits, Welcome
from ..version import __version__
from .backoff import Backoff

_CLOSE_TIMEOUT_S: Final = 1
_SILENT_HEARTBEATS: Final = 2
"""How many may be missed before the connection counts as dead. Spec: PROTOCOL.md §5.6."""

log = logging.getLogger("threadwire.client")


class _Socket(ClientConnection):
    """Knows when the last byte came: a large snapshot on a slow line is no silence."""

    heard_at = 0.0
    dropped: str | None = None
    """Why this side gave up on it."""

    def data_received(self, data: bytes) -> None:
        self.heard_at = self.loop.time()
        super().data_received(data)

    def drop(self, why: str) -> None:
        self.dropped = why
        self.transport.abort()


class Pump:
    """Runs `session` over as many sockets as it takes. All that is waited for is announced by `changed`."""

    def __init__(
        self,
        session: ClientSession,
        url: str,
        *,
        encoding: Encoding,
        headers: Mapping[str, str] | None,
        ssl: SSLContext | None,
        proxy: str | Literal[True] | None,
        compression: Literal["deflate"] | None,
        backoff: Backoff,
        open_timeout_s: float,
        ping_interval_s: float | None,
        retry_first: bool,
    ) -> None:
        self.session: Final = session
        self.connected = False
        """Whether a server is there, and has said welcome."""
        self.closed: ConnectionClosed | None = None
        """Why there will be no further connection."""
        self.left = False
        """`closed` was this side's wish."""
        self._url: Final = url
        self._encoding: Final = encoding
        self._backoff: Final = backoff
        self._open_timeout_s: Final = open_timeout_s
        self._retry_first: Final = retry_first
        self._waiting: Final[WeakKeyDictionary[object, anyio.Event]] = WeakKeyDictionary()
        self._options: Final[dict[str, Any]] = {
            "subprotocols": [Subprotocol(name) for name, each in SUBPROTOCOLS.items() if each == encoding],
            "additional_headers": headers,
            "proxy": proxy,
            "compression": compression,
            "user_agent_header": f"threadwire/{__version__}",
            "open_timeout": open_timeout_s,
            "ping_interval": ping_interval_s,
            # Pings keep the line open; a pong may stand behind a snapshot that takes minutes.
            "ping_timeout": None,
            "close_timeout": _CLOSE_TIMEOUT_S,
            "max_size": None,
            "create_connection": _Socket,
        }
        if ssl is not None:
            self._options["ssl"] = ssl

    # waiting

    async def changed(self, target: object) -> None:
        """Waits for the next change of a followed thread or sent command, or of the pump itself."""
        event = self._waiting.get(target)
        if event is None:
            event = self._waiting[target] = anyio.Event()
        await event.wait()

    def announce(self, target: object) -> None:
        """Wakes all who wait in `changed(target)`."""
        event = self._waiting.pop(target, None)
        if event is not None:
            event.set()

    def wake(self) -> None:
        """The session may have frames to send."""
        self.announce(self.session)

    def raise_if_closed(self) -> None:
        """Raises ConnectionClosed, where the connection is closed for good."""
        if self.closed is not None:
            error = self.closed
            raise ConnectionClosed(error.code, error.reason, reconnect=error.reconnect) from error.__cause__

    def close(self, error: ConnectionClosed) -> None:
        """There will be no further connection; the first reason given counts."""
        if self.closed is not None:
            return
        self.closed = error
        for target in list(self._waiting):
            self.announce(target)

    # connections, one after the other

    async def run(self) -> None:
        """Returns when the connection is closed for good; `closed` says why."""
        attempt = 0
        try:
            while True:
                began = anyio.current_time()
                greeted, closed = await self._connection()
                if not closed.reconnect or not (self.session.welcome or self._retry_first):
                    self.close(closed)
                    return
                if greeted and anyio.current_time() - began >= self._backoff.stable_s:
                    attempt = 0
                attempt += 1
                delay_s = self._backoff.delay_s(attempt)
                log.info("%s; trying again in %.1f s", closed, delay_s)
                await anyio.sleep(delay_s)
        except Exception:
            self.close(ConnectionClosed(1006, "the client failed", reconnect=False))
            raise

    async def _connection(self) -> tuple[bool, ConnectionClosed]:
        """One connection, from dialling to its end: whether there was a welcome, and how it ended."""
        try:
            socket = await dial(self._url, **self._options)
        except (OSError, WebSocketException, ValueError) as error:  # a port that is none is a ValueError
            closed = ConnectionClosed(
                1006, f"cannot connect to {self._url}: {_reason(error)}", reconnect=_may_pass(error)
            )
            closed.__cause__ = error
            return False, closed
        assert isinstance(socket, _Socket)
        close_code = 1000
        greeted = anyio.Event()
        try:
            if socket.subprotocol is None:
                return False, ConnectionClosed(
                    1002, f"{self._url} does not speak the protocol", reconnect=False
                )
            self.session.connected()
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._write, socket, tasks)
                tasks.start_soon(self._watch, socket, greeted)
                closed = await self._read(socket, greeted, tasks)
                close_code = closed.code
                tasks.cancel_scope.cancel()
            return greeted.is_set(), closed
        finally:
            self.connected = False
            self.session.disconnected()
            self.announce(self)
            with anyio.CancelScope(shield=True):
                await socket.close(1002 if close_code == 1002 else 1000)

    async def _read(self, socket: _Socket, greeted: anyio.Event, tasks: TaskGroup) -> ConnectionClosed:
        """Takes in what comes until nothing does any more, and says how it ended."""
        try:
            while True:
                message = await socket.recv(decode=False)
                # While messages come in without a pause, `recv` is never found waiting.
                await anyio.lowlevel.checkpoint_if_cancelled()
                for frame in decode_server_message(message, self._encoding):
                    self._follow_up(self.session.receive(frame), tasks)
                    if isinstance(frame, Welcome):
                        self.connected = True
                        greeted.set()
                        self.announce(self)
                goodbye = self.session.goodbye
                if goodbye is not None and goodbye.reconnect:
                    return ConnectionClosed(1001, goodbye.reason, reconnect=True)
                self.wake()
        except ProtocolError as error:
            return ConnectionClosed(1002, error.message, reconnect=True)
        except ConnectionClosed as error:
            return error
        except SocketClosed as error:
            return self._how_it_ended(socket, error)

    def _how_it_ended(self, socket: _Socket, error: SocketClosed) -> ConnectionClosed:
        if socket.dropped is not None:
            return ConnectionClosed(1006, socket.dropped, reconnect=True)
        goodbye = self.session.goodbye
        if error.rcvd is None:
            code, reason = 1006, "the connection was lost"
        else:
            code, reason = error.rcvd.code, error.rcvd.reason
        if goodbye is not None:
            reason = reason or goodbye.reason
        stop = not reconnect_after(code) or (goodbye is not None and not goodbye.reconnect)
        closed = ConnectionClosed(code, reason, reconnect=not stop)
        closed.__cause__ = error
        return closed

    def _follow_up(self, events: Iterable[Event], tasks: TaskGroup) -> None:
        for event in events:
            match event:
                case Changed(target):
                    self.announce(target)
                case RetryLater(target, attempt):
                    tasks.start_soon(self._retry, target, attempt)
                case Problem(error):
                    log.warning("the server says: %s: %s", error.code, error.message)

    async def _retry(self, target: FollowedThread | SentCommand, attempt: int) -> None:
        await anyio.sleep(self._backoff.delay_s(attempt))
        self.session.retry(target)
        self.wake()

    async def _write(self, socket: _Socket, tasks: TaskGroup) -> None:
        with contextlib.suppress(SocketClosed):  # `_read` meets it too, and says what follows
            while True:
                while (frame := self.session.next_frame()) is not None:
                    data = encode_frame(frame, self._encoding)
                    # The server would answer a frame beyond its limit by closing the connection.
                    limit = self._limits.max_frame_bytes
                    if len(data) > limit:
                        error = ErrorInfo("too-large", f"{len(data)} bytes; the server takes {limit}")
                        self._follow_up(self.session.refuse(frame, error), tasks)
                    else:
                        await socket.send(data, text=self._encoding == "json")
                await self.changed(self.session)

    async def _watch(self, socket: _Socket, greeted: anyio.Event) -> None:
        """Drops a connection on which nothing comes, since a dead peer doesn't say so."""
        with anyio.move_on_after(self._open_timeout_s):
            await greeted.wait()
        if not greeted.is_set():
            socket.drop(f"no welcome within {self._open_timeout_s} s")
            return
        limit_s = _SILENT_HEARTBEATS * self._limits.heartbeat_s
        while limit_s > 0:
            silent_s = anyio.current_time() - socket.heard_at
            if silent_s >= limit_s:
                socket.drop(f"nothing was heard for {limit_s} s")
                return
            await anyio.sleep(limit_s - silent_s)

    @property
    def _limits(self) -> Limits:
        return Limits() if self.session.welcome is None else self.session.welcome.limits


class _Refusal(msgspec.Struct):
    """The body of a refused handshake. Spec: PROTOCOL.md §14.2."""

    error: ErrorInfo


def _reason(error: OSError | WebSocketException | ValueError) -> str:
    """What the error says, and the server where it gives a reason."""
    if isinstance(error, InvalidStatus):
        with contextlib.suppress(msgspec.MsgspecError):
            return f"{error}: {msgspec.json.decode(error.response.body or b'', type=_Refusal).error.message}"
    return str(error)


def _may_pass(error: OSError | WebSocketException | ValueError) -> bool:
    """Whether what kept us from connecting may be gone at the next try."""
    match error:
        case InvalidStatus(response=response):
            return response.status_code >= 500 or response.status_code in (408, 425, 429)
        case OSError() | InvalidMessage():
            return True
        case _:
            return False
