"""uvicorn around an ASGI application: in the benchmark's own loop, or in a process of its own."""

from __future__ import annotations

import asyncio
import contextlib
import multiprocessing
import socket
import time
from collections.abc import AsyncIterator, Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import uvicorn

from benchmarks.support import raise_file_limit, run
from threadwire.endpoints.uvicorn_protocol import WebSocketProtocol

PLAIN = "websockets-sansio"
"""uvicorn's own WebSockets."""


async def _serve(
    app: Any, ws: type[asyncio.Protocol] | str, started: Callable[[uvicorn.Server, int], None]
) -> None:
    server = uvicorn.Server(
        uvicorn.Config(
            app,
            ws=ws,
            interface="asgi3",
            log_config=None,
            access_log=False,
            ws_per_message_deflate=False,
            ws_ping_timeout=None,
            timeout_keep_alive=60,
            timeout_graceful_shutdown=1,
        )
    )
    server.capture_signals = contextlib.nullcontext  # type: ignore[method-assign, assignment]
    startup = server.startup

    async def announced(sockets: list[socket.socket] | None = None) -> None:
        await startup(sockets)
        started(server, listener.getsockname()[1])

    server.startup = announced  # type: ignore[method-assign]
    with socket.create_server(("127.0.0.1", 0), backlog=2048) as listener:
        await server.serve([listener])


@contextlib.asynccontextmanager
async def serving(app: Any, *, ws: type[asyncio.Protocol] | str = WebSocketProtocol) -> AsyncIterator[int]:
    """Serves in this loop; gives the port."""
    begun: asyncio.Future[tuple[uvicorn.Server, int]] = asyncio.get_running_loop().create_future()
    task = asyncio.ensure_future(_serve(app, ws, lambda server, port: begun.set_result((server, port))))

    def ended(task: asyncio.Future[None]) -> None:
        if not begun.done():
            begun.set_exception(task.exception() or RuntimeError("the server has ended"))

    task.add_done_callback(ended)
    server, port = await begun
    try:
        yield port
    finally:
        server.should_exit = True
        await task


class ServerProcess:
    """A server in a process of its own, and what the system says of that process (on Linux)."""

    def __init__(self, pid: int, port: int) -> None:
        self.port = port
        self._pid = pid
        self._clock = (~pid << 3) | 2  # what clock_getcpuclockid(3) gives

    def cpu_s(self) -> float:
        """CPU time of all of its threads until now."""
        return time.clock_gettime(self._clock)

    def resident_bytes(self) -> int:
        for line in Path(f"/proc/{self._pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Rss:"):
                return int(line.split()[1]) * 1024
        raise RuntimeError("the system does not tell")


def _process(make: Callable[..., Any], args: tuple[Any, ...], ws: Any, pipe: Connection) -> None:
    raise_file_limit()
    run(_serve(make(*args), ws, lambda server, port: pipe.send(port)))


@contextlib.asynccontextmanager
async def server_process(
    make: Callable[..., Any], *args: Any, ws: type[asyncio.Protocol] | str = WebSocketProtocol
) -> AsyncIterator[ServerProcess]:
    """Serves `make(*args)`, a function at the top of a module, in a process of its own."""
    spawn = multiprocessing.get_context("spawn")
    here, there = spawn.Pipe()
    process = spawn.Process(target=_process, args=(make, args, ws, there), daemon=True)
    process.start()
    there.close()
    try:
        port = await asyncio.to_thread(here.recv)
        assert process.pid is not None
        yield ServerProcess(process.pid, port)
    finally:
        process.terminate()
        await asyncio.to_thread(process.join, 5)
        process.kill()
        here.close()
