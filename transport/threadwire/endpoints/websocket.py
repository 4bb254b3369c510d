"""`GET /ws`: reads a connection's messages and carries out its frames.

A `receive` is always pending, so that pings, pongs and closes are seen whatever goes on; frames are
carried out in other tasks. Those of one thread are carried out in order; commands among them may
be made durable together.

Spec: PROTOCOL.md §5 to §9.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Coroutine, Iterable
from functools import partial
from typing import Any, Final, TypeAlias, assert_never
from weakref import WeakSet

import anyio
import anyio.abc
import anyio.to_thread
from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route
from starlette.types import Receive, Scope, Send

from ..core.codec import Encoding, encode_value
from ..core.errors import ErrorInfo, ProtocolError, Refused, StoreError
from ..core.frames import (
    SUBPROTOCOLS,
    Cancel,
    ClientFrame,
    Close,
    CommandState,
    Error,
    Goodbye,
    Hello,
    Open,
    Ping,
    Pong,
    RunInfo,
    SendCommand,
    Welcome,
)
from ..core.session import Rejected, ServerSession
from ..engine.thread import Thread
from ..engine.threads import Threads, again
from ..version import __version__
from .connection import Connection
from .origin import origin_allowed
from .responses import json_response
from .writer import EXTENSION

logger = logging.getLogger("threadwire")

ThreadFrame: TypeAlias = Open | Close | SendCommand | Cancel

PATH: Final = "/ws"

_MAX_WAITING: Final = 10_000
"""Frames that a connection may have waiting to be carried out; then nothing more is read from it."""
_MAX_WAITING_BYTES: Final = 16 * 1024 * 1024
"""The same, in bytes read since none waited."""
_LARGE_MESSAGE: Final = 64 * 1024
"""Larger ones are read in a worker thread, so that others don't wait."""


def routes() -> list[BaseRoute]:
    """For who comes to the WebSocket with a plain request. Spec: PROTOCOL.md §5.1."""

    async def upgrade(request: Request) -> Response:
        error = ErrorInfo("invalid-request", "this is the WebSocket: connect to it with ws:// or wss://")
        return json_response({"error": error}, 426, {"Upgrade": "websocket"})

    return [Route(PATH, upgrade)]


async def refuse_path(scope: Scope, receive: Receive, send: Send) -> None:
    """Answers a handshake at a path where no WebSocket is."""
    await receive()  # websocket.connect
    await _refuse(scope, send, 404, "not-found", f"there is no WebSocket at this path; it is at {PATH}")


class WebSocketEndpoint:
    """An ASGI application for WebSocket scopes, and what all its connections share."""

    def __init__(self, threads: Threads, *, allow_origins: Iterable[str] = ()) -> None:
        self.threads = threads
        self._allow_origins = tuple(allow_origins)
        self._peers: set[_Peer] = set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await receive()  # websocket.connect
        if not origin_allowed(Headers(scope=scope), self._allow_origins):
            await _refuse(scope, send, 403, "forbidden", "this origin is not allowed")
            return
        offered = scope.get("subprotocols") or []
        subprotocol = next((name for name in offered if name in SUBPROTOCOLS), None)
        if offered and subprotocol is None:
            names = ", ".join(SUBPROTOCOLS)
            await _refuse(scope, send, 400, "invalid-frame", f"the subprotocols spoken here: {names}")
            return
        encoding: Encoding = "msgpack" if subprotocol == "threadwire.v1.msgpack" else "json"
        await send({"type": "websocket.accept", "subprotocol": subprotocol})
        async with anyio.create_task_group() as group:
            peer = _Peer(self.threads, encoding, scope, send, group)
            self._peers.add(peer)
            try:
                await peer.read(receive)
            finally:
                self._peers.discard(peer)
                peer.close()
                group.cancel_scope.cancel()
                await peer.end_sends()

    def __len__(self) -> int:
        return len(self._peers)

    async def beat(self) -> None:
        """Runs for ever: heartbeats, and the end of connections that give no sign of life."""
        limits = self.threads.settings.limits
        loop = asyncio.get_running_loop()
        while True:
            await anyio.sleep(limits.heartbeat_s)
            now = loop.time()
            for peer in list(self._peers):
                if peer.connection.unresponsive(now, limits.unresponsive_s):
                    peer.hang_up(4000, "nothing was read or answered for too long")
                else:
                    peer.connection.heartbeat()

    def goodbye(self, reason: str) -> None:
        """Tells every client that the server is about to go, and that another will be there."""
        for peer in self._peers:
            peer.connection.post(Goodbye(reason=reason, reconnect=True))


async def _refuse(scope: Scope, send: Send, status: int, code: str, message: str) -> None:
    """Refuses the handshake, with a reason where the server can carry one."""
    if "websocket.http.response" in (scope.get("extensions") or {}):
        body = encode_value({"error": ErrorInfo(code, message)}, "json")
        headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
        await send({"type": "websocket.http.response.start", "status": status, "headers": headers})
        await send({"type": "websocket.http.response.body", "body": body})
    else:
        await send({"type": "websocket.close", "code": 4403 if status == 403 else 4400})


class _Peer:
    """The client at the other end of a connection."""

    def __init__(
        self,
        threads: Threads,
        encoding: Encoding,
        scope: Scope,
        send: Send,
        group: anyio.abc.TaskGroup,
    ) -> None:
        self._threads = threads
        self._limits = threads.settings.limits
        self._send = send
        self._group = group
        self._session = ServerSession(encoding, self._limits)
        self._hash = False
        self._lanes: dict[str, deque[ThreadFrame]] = {}
        self._opening: dict[str, asyncio.Future[bool]] = {}
        """Threads between their open and their place among the subscribers: whether they got it."""
        self._closed = False
        self._sends: set[asyncio.Task[None]] = set()
        self._waiting = 0
        self._waiting_bytes = 0
        self._room: anyio.Event | None = None
        self._watched: WeakSet[Thread] | None = None
        """The threads it has sent commands to. An empty one takes a KiB of each idle connection."""
        self.connection = Connection(
            threads.settings.new_id(),
            encoding,
            send=send,
            writer=(scope.get("extensions") or {}).get(EXTENSION),
            start=self._start,
        )
        self.connection.on_drained = self._make_room
        self.connection.post(
            Welcome(
                server=f"threadwire/{__version__}",
                connection=self.connection.id,
                agents=tuple(threads.agents),
                limits=self._limits,
            )
        )

    def _start(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Starts a send that waits. Called from the event loop's callbacks too, where a task group can't."""
        task = asyncio.get_running_loop().create_task(work())
        self._sends.add(task)
        task.add_done_callback(self._sends.discard)

    async def end_sends(self) -> None:
        for task in self._sends:
            task.cancel()
        if self._sends:
            with anyio.CancelScope(shield=True), anyio.move_on_after(1):
                await asyncio.wait(self._sends)

    async def read(self, receive: Receive) -> None:
        """Reads messages until the connection ends."""
        while True:
            message = await receive()
            if message["type"] == "websocket.disconnect":
                return
            text = message.get("text")
            data = text if text is not None else message.get("bytes") or b""
            try:
                if len(data) > _LARGE_MESSAGE:
                    frames = await anyio.to_thread.run_sync(self._session.receive, data)
                else:
                    frames = self._session.receive(data)
            except ProtocolError as error:
                self.connection.post(Error(code=error.code, message=error.message))
                await self._close(error.close_code, error.code)
                return
            for frame in frames:
                self._take(frame)
            self._waiting_bytes = self._waiting_bytes + len(data) if self._waiting else 0
            too_much = self._waiting > _MAX_WAITING or self._waiting_bytes > _MAX_WAITING_BYTES
            if too_much or self.connection.clogged:
                self._room = anyio.Event()
                await self._room.wait()

    def hang_up(self, code: int, reason: str) -> None:
        """Ends the connection from this side."""
        self._group.start_soon(self._hang_up, code, reason)

    async def _hang_up(self, code: int, reason: str) -> None:
        await self._close(code, reason)
        self.connection.abort()
        self._group.cancel_scope.cancel()

    async def _close(self, code: int, reason: str) -> None:
        self.close()  # nothing may be sent after it
        with anyio.move_on_after(1):
            try:
                await self._send({"type": "websocket.close", "code": code, "reason": reason})
            except OSError:
                return  # gone already

    def close(self) -> None:
        """The connection has ended."""
        self._closed = True
        self.connection.close()
        for thread in self._watched or ():
            thread.intake.forget(self._watch)
        self._watched = None

    # frames

    def _take(self, frame: ClientFrame | Rejected) -> None:
        """Carries a frame out, or puts it behind those of its thread that are being carried out."""
        match frame:
            case Rejected():
                self.connection.post(frame.reply())
            case Ping():
                self.connection.post(Pong(nonce=frame.nonce))
            case Hello():
                self._hash = frame.hash
            case Open() | Close() | SendCommand() | Cancel():
                self._waiting += 1
                lane = self._lanes.get(frame.thread)
                if lane is not None:
                    lane.append(frame)
                else:
                    lane = self._lanes[frame.thread] = deque((frame,))
                    self._group.start_soon(self._work, frame.thread, lane)
            case _:
                assert_never(frame)

    async def _work(self, thread: str, lane: deque[ThreadFrame]) -> None:
        try:
            while lane:
                if not isinstance(lane[0], SendCommand):
                    frame = lane.popleft()
                    await self._carry_out(frame)
                    self._done(1)
                    continue
                commands = 0
                async with anyio.create_task_group() as group:
                    while lane and isinstance(lane[0], SendCommand):
                        commands += 1
                        group.start_soon(self._carry_out, lane.popleft())
                self._done(commands)
        finally:
            del self._lanes[thread]

    def _done(self, count: int) -> None:
        self._waiting -= count
        if not self._waiting:
            self._waiting_bytes = 0
        self._make_room()

    def _make_room(self) -> None:
        if self._room is None or self.connection.clogged:
            return
        if self._waiting < _MAX_WAITING // 2 and self._waiting_bytes <= _MAX_WAITING_BYTES:
            self._room.set()
            self._room = None

    async def _carry_out(self, frame: ThreadFrame) -> None:
        """Carries a frame out; whatever goes wrong is answered, and nothing else suffers."""
        try:
            match frame:
                case Open():
                    await again(partial(self._open, frame))
                case Close():
                    self._leave(frame.thread)
                case SendCommand():
                    await again(partial(self._command, frame))
                case Cancel():
                    await self._cancel(frame)
                case _:
                    assert_never(frame)
        except Refused as refusal:
            # The command that had the id first lives on under it: this one can't be rejected by it.
            self._answer(frame, refusal.info, reject=refusal.code != "command-id-reused")
        except StoreError as error:
            logger.warning("thread %s: %s", frame.thread, error)
            self._answer(frame, ErrorInfo("store-unavailable", "the store can't be used now; try again"))
        except Exception:
            reference = self._threads.settings.new_id()[:8]
            logger.exception("a %s frame failed [%s]", type(frame).__name__, reference)
            self._answer(
                frame, ErrorInfo("internal", f"a fault of the server, see its log under {reference}")
            )

    def _answer(self, frame: ThreadFrame, error: ErrorInfo, *, reject: bool = True) -> None:
        if isinstance(frame, SendCommand) and reject:
            state = CommandState(thread=frame.thread, id=frame.id, status="rejected", error=error)
            self.connection.post(state)
            return
        self.connection.post(
            Error(
                code=error.code,
                message=error.message,
                thread=frame.thread,
                id=frame.id if isinstance(frame, SendCommand) else None,
                field=error.field,
            )
        )

    async def _open(self, frame: Open) -> None:
        subscribers = self.connection.subscribers
        held = len(subscribers.keys() | self._opening.keys())
        if frame.thread not in subscribers and held >= self._limits.max_threads:
            message = f"{self._limits.max_threads} threads are open already"
            raise Refused("too-many-threads", message, "thread")
        opened = self._opening[frame.thread] = asyncio.get_running_loop().create_future()
        try:
            thread = await self._threads.get(frame.thread, agent=frame.agent, state=frame.state)
            await thread.be_current()
            self._leave(frame.thread)
            subscriber = await thread.subscribe(
                self.connection, since=frame.since, hash=frame.hash or self._hash, tools=frame.tools
            )
            if self._closed:
                thread.unsubscribe(subscriber)  # the connection ended in the very step that this came through
            else:
                self.connection.add(subscriber)
                opened.set_result(True)
        finally:
            del self._opening[frame.thread]
            if not opened.done():
                opened.set_result(False)

    def _leave(self, thread: str) -> None:
        subscriber = self.connection.subscribers.get(thread)
        if subscriber is not None:
            subscriber.thread.unsubscribe(subscriber)
            self.connection.drop(subscriber)

    async def _command(self, frame: SendCommand) -> None:
        thread = await self._threads.get(frame.thread, agent=frame.agent)
        if self._watched is None:
            self._watched = WeakSet()
        self._watched.add(thread)
        await thread.submit(
            frame.id,
            frame.command,
            strategy=frame.strategy,
            watcher=self._watch,
            origin=self.connection,
        )

    def _watch(self, state: CommandState) -> None:
        if not self._closed:  # it may be watched for by an object of the thread that came later
            self.connection.post(state)

    async def _cancel(self, frame: Cancel) -> None:
        thread = await self._threads.find(frame.thread)
        if thread is None:
            raise Refused("not-found", "there is no such thread", "thread")
        # What follows on this thread need not wait for the run to end.
        self._group.start_soon(partial(self._stop, thread, frame))

    async def _stop(self, thread: Thread, frame: Cancel) -> None:
        before = thread.run_info

        async def cancel() -> RunInfo | None:
            current = await self._threads.find(frame.thread)
            return None if current is None else await current.runner.cancel(frame.run)

        try:
            after = await again(cancel)
        except StoreError:
            self._answer(frame, ErrorInfo("store-unavailable", "the store can't be used now; try again"))
            return
        while (opening := self._opening.get(frame.thread)) is not None:
            # It brings the updates that come before the run's end, and then tells of the run itself. Where
            # it does, the answer is given, though the thread may be about to be opened once more by now.
            if await asyncio.shield(opening) or frame.thread in self.connection.subscribers:
                return
        # A subscriber has seen the run's end as it happened.
        if after is before or frame.thread not in self.connection.subscribers:
            self.connection.post_run(frame.thread, after)
