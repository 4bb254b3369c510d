"""Runs the application under uvicorn: sockets, start, and an orderly stop on SIGTERM and Ctrl-C.

uvicorn itself would close all sockets first and run the application's end after, log start-up errors
as tracebacks, and end by the signal it caught. Here clients are told before, runs get time to end,
errors are raised to the caller, and a stop that was asked for is a success.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Coroutine, Generator, MutableMapping
from types import FrameType
from typing import Any, Final, TypeVar

import uvicorn

from ..endpoints.app import Application
from ..endpoints.uvicorn_http import HTTPProtocol
from ..endpoints.uvicorn_protocol import WebSocketProtocol
from .errors import StartupError

logger = logging.getLogger("threadwire")

T = TypeVar("T")

PING_INTERVAL_S: Final = 20.0
MESSAGE_SLACK_BYTES: Final = 8 * 1024 * 1024
"""Messages too large by up to this are read all the same, so that they can be refused with a reason."""
CLOSE_S: Final = 2
"""How long connections may take to close, once the runs have ended; then they are dropped."""
LEAVE_S: Final = 1.0
"""How long tasks and threads may take that go on after the server's end."""


FILES: Final = 65_536
"""Connections and files that may be open at once, where the system allows as many."""


def allow_many_connections() -> None:
    """Raises the limit of open files: many systems set it to 1,024 for programs that don't ask for more."""
    try:
        import resource
    except ImportError:  # Windows has no such limit
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < FILES:
        wanted = FILES if hard == resource.RLIM_INFINITY else min(FILES, hard)
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def bind(host: str, port: int) -> list[socket.socket]:
    """Sockets bound to every address of `host`, all to the same port; 0 is any free one.

    Raises:
        StartupError: the name is unknown, the port is taken or not allowed.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, UnicodeError):
        raise StartupError(f"--host: {host!r} is no known host name or address") from None
    sockets: list[socket.socket] = []
    failure: OSError | None = None
    for family, kind, protocol, _, address in dict.fromkeys(found):
        try:
            listener = socket.socket(family, kind, protocol)
        except OSError as error:
            failure = error  # a family this system has switched off
            continue
        try:
            if os.name == "posix":
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            if sockets:
                port = sockets[0].getsockname()[1]
            listener.bind((address[0], port, *address[2:]))
            sockets.append(listener)
        except OSError as error:
            listener.close()
            failure = error
            if error.errno != errno.EADDRNOTAVAIL:
                break
    if failure is not None and (not sockets or failure.errno != errno.EADDRNOTAVAIL):
        for listener in sockets:
            listener.close()
        raise StartupError(_bind_error(host, port, failure))
    return sockets


def _bind_error(host: str, port: int, error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"port {port} on {host} is in use by another program; --port names another (0: any free one)"
    if error.errno == errno.EACCES:
        return f"port {port} on {host} is not allowed to this user; --port names another, such as 8000"
    if error.errno == errno.EADDRNOTAVAIL:
        return f"--host: {host} is no address of this machine"
    return f"can't listen on {host}, port {port}: {error.strerror or error}"


class Lifespan:
    """ASGI's lifespan as uvicorn uses it; what the application raises is raised, not logged."""

    def __init__(self, config: uvicorn.Config) -> None:
        self.state: dict[str, Any] = {}
        self.should_exit = False
        self._app = config.loaded_app
        self._events: asyncio.Queue[dict[str, str]] = asyncio.Queue()
        self._answered = asyncio.Event()
        self._failed = ""

    async def startup(self) -> None:
        scope = {"type": "lifespan", "asgi": {"version": "3.0", "spec_version": "2.0"}, "state": self.state}
        self.running = asyncio.ensure_future(self._app(scope, self._events.get, self._send))
        self.running.add_done_callback(lambda _: self._answered.set())
        await self._ask("lifespan.startup")

    async def shutdown(self) -> None:
        await self._ask("lifespan.shutdown")

    async def _ask(self, event: str) -> None:
        self._events.put_nowait({"type": event})
        if not self.running.done():
            self._answered.clear()
            await self._answered.wait()
        if self._failed or self.running.done():
            await self.running
        if self._failed:
            raise RuntimeError(self._failed)

    async def _send(self, message: MutableMapping[str, Any]) -> None:
        if message["type"].endswith(".failed"):
            self._failed = message.get("message") or message["type"]
        self._answered.set()


class Server(uvicorn.Server):
    """`on_started` is called once connections are accepted; `forced` tells of an end without waiting."""

    def __init__(self, application: Application, *, drain_s: float, on_started: Callable[[], None]) -> None:
        config = uvicorn.Config(
            application,
            interface="asgi3",
            http=HTTPProtocol,
            ws=WebSocketProtocol,
            ws_max_size=application.threads.settings.limits.max_frame_bytes + MESSAGE_SLACK_BYTES,
            ws_per_message_deflate=False,
            # Without a timeout: a client that reads slowly sees a ping late. The pump knows the dead.
            ws_ping_interval=PING_INTERVAL_S,
            ws_ping_timeout=None,
            lifespan="on",
            log_config=None,
            access_log=logging.getLogger("uvicorn.access").isEnabledFor(logging.INFO),
            server_header=False,
            timeout_graceful_shutdown=CLOSE_S + 1,
        )
        config.load()
        config.lifespan_class = Lifespan
        super().__init__(config)
        self._application = application
        self._drain_s = drain_s
        self._on_started = on_started
        self._forced = asyncio.Event()
        self._loop = asyncio.get_running_loop()

    @property
    def forced(self) -> bool:
        return self.force_exit

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        with super().capture_signals(), self._hangup_captured():
            yield
            # uvicorn would raise them again, and the process would end by a signal.
            self._captured_signals.clear()

    @contextlib.contextmanager
    def _hangup_captured(self) -> Generator[None, None, None]:
        """The end of the terminal, too, is a reason to stop in order, unless it is to be outlived."""
        number = getattr(signal, "SIGHUP", None)
        main = threading.current_thread() is threading.main_thread()
        if number is None or not main or signal.getsignal(number) is signal.SIG_IGN:
            yield
            return
        before = signal.signal(number, self.handle_exit)
        try:
            yield
        finally:
            signal.signal(number, before)

    def stop(self) -> None:
        """Begins an orderly stop."""
        self.should_exit = True

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        super().handle_exit(sig, frame)
        if self.force_exit:
            self._loop.call_soon_threadsafe(self._forced.set)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.lifespan.running.add_done_callback(self._stop)
        self._on_started()

    def _stop(self, _: object) -> None:
        """What runs beside the connections has ended before its time; its error is raised at the end."""
        self.should_exit = True

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        for server in self.servers:
            server.close()
        await self._drain()
        self._loop.call_later(CLOSE_S, self._drop_connections)
        await super().shutdown(sockets)

    def _drop_connections(self) -> None:
        """Clients that read nothing would keep the server waiting."""
        for connection in list(self.server_state.connections):
            connection.transport.abort()

    async def _drain(self) -> None:
        runs = sum(
            thread.runner.busy and not thread.runner.parked for thread in self._application.threads.loaded()
        )
        if runs:
            how_many = "1 run has" if runs == 1 else f"{runs} runs have"
            logger.info("stopping; %s %g s to end (Ctrl-C again: stop at once)", how_many, self._drain_s)
        draining = asyncio.ensure_future(self._application.drain(self._drain_s))
        forcing = asyncio.ensure_future(self._forced.wait())
        # The application keeps its time; the margin is for one that doesn't.
        await asyncio.wait(
            {draining, forcing}, timeout=self._drain_s + CLOSE_S, return_when=asyncio.FIRST_COMPLETED
        )
        forcing.cancel()
        if not draining.done():
            draining.cancel()
        elif (error := draining.exception()) is not None:
            logger.error("draining failed", exc_info=error)


def run(main: Coroutine[Any, Any, T]) -> T:
    """Runs it to its end on uvloop, where there is one. Tasks that don't end when cancelled are left."""
    loop = _new_event_loop()
    try:
        return loop.run_until_complete(main)
    finally:
        _end_tasks(loop)
        loop.close()


def _new_event_loop() -> asyncio.AbstractEventLoop:
    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop()
    return uvloop.new_event_loop()


def _end_tasks(loop: asyncio.AbstractEventLoop) -> None:
    tasks = asyncio.all_tasks(loop)
    for task in tasks:
        task.cancel()
    if tasks:
        loop.run_until_complete(asyncio.wait(tasks, timeout=LEAVE_S))
    with contextlib.suppress(TimeoutError):
        loop.run_until_complete(asyncio.wait_for(loop.shutdown_asyncgens(), LEAVE_S))
    # What goes on in spite of that is known; when it is destroyed, that is no news.
    loop.set_exception_handler(lambda _loop, _context: None)


def leave_soon(status: int) -> None:
    """Makes sure that this process ends, with `status`: Python waits for ever for a thread that is stuck."""

    def leave() -> None:
        sys.stdout.flush()
        os._exit(status)

    if any(not thread.daemon and thread is not threading.main_thread() for thread in threading.enumerate()):
        timer = threading.Timer(LEAVE_S, leave)
        timer.daemon = True
        timer.start()
