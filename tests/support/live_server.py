"""A real uvicorn server inside the test's event loop, on a loopback port of the system's choice."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Callable, Generator
from typing import Any

import uvicorn


class LiveServer(uvicorn.Server):
    """Leaves the process's signals alone."""

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        yield


@contextlib.asynccontextmanager
async def live_server(app: Callable[..., Any], **config: Any) -> AsyncIterator[tuple[LiveServer, int]]:
    """(server, port) of `app` while it accepts connections. `config` goes to `uvicorn.Config`."""
    settings = {"interface": "asgi3", "log_config": None, "ws_per_message_deflate": False, **config}
    server = LiveServer(uvicorn.Config(app, **settings))
    started = asyncio.Event()
    startup = server.startup

    async def start(sockets: list[socket.socket] | None = None) -> None:
        await startup(sockets)
        started.set()

    server.startup = start  # type: ignore[method-assign]
    with socket.create_server(("127.0.0.1", 0)) as listener:
        serving = asyncio.ensure_future(server.serve([listener]))
        serving.add_done_callback(lambda _: started.set())
        try:
            await started.wait()
            yield server, listener.getsockname()[1]
        finally:
            server.should_exit = True
            await serving
