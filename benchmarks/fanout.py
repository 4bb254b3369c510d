"""What it costs the server's process to give one update to many clients, per delivery.

    python -m benchmarks.fanout [--quick] [--json FILE]

The same bytes by several routes: plain asyncio writes, which are the floor; a thread with so many
subscribers, on our uvicorn protocol and, through ASGI alone, on uvicorn's own; and what one would
write without us. The clients read in another process; each block of updates waits for them, so no
buffer fills.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any, cast

from starlette.applications import Starlette
from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

from benchmarks.crowd import Crowd, client_message, handshake
from benchmarks.lending import THREAD, Lender
from benchmarks.servers import PLAIN, serving
from benchmarks.support import TOKEN, Block, Figure, command_line, interleave, median, ratio
from threadwire import create_app
from threadwire.core.codec import UpdateEncoder
from threadwire.core.operations import AppendText
from threadwire.endpoints.uvicorn_protocol import WebSocketProtocol
from threadwire.endpoints.writer import EXTENSION, Writer, frame_message

PATH = ("messages", 0, "content")
FIRST_SEQ = 1000
"""From here on an update has the same length for a long time."""
TICKS = 3
"""Turns of the loop after which an update has gone out by every route."""

Deliver = Callable[[bytes], Awaitable[None]]
"""Gives one JSON update to every client of a route."""


@dataclass
class Route:
    name: str
    port: int
    deliver: Deliver
    opening: bytes = b""
    says: bytes = b""


# routes without an engine


@contextlib.asynccontextmanager
async def raw_route() -> AsyncIterator[Route]:
    """asyncio transports and nothing else."""
    transports: list[asyncio.Transport] = []

    class Connection(asyncio.Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            transports.append(cast(asyncio.Transport, transport))  # uvloop's is none by class

        def connection_lost(self, exc: Exception | None) -> None:
            transports.clear()  # all of a group leave together

    async def deliver(payload: bytes) -> None:
        framed = frame_message(payload, text=True)
        for transport in transports:
            transport.write(framed)

    server = await asyncio.get_running_loop().create_server(Connection, "127.0.0.1", 0, backlog=2048)
    async with server:
        yield Route("raw asyncio write", server.sockets[0].getsockname()[1], deliver)


@contextlib.asynccontextmanager
async def asgi_route(
    name: str, ws: type[asyncio.Protocol] | str, enter: Callable[[Any, Any], Any], deliver: Deliver
) -> AsyncIterator[Route]:
    """An ASGI application that only accepts; `enter(scope, send)` is a context for each client's stay."""

    async def application(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "websocket":
            return
        await receive()
        await send({"type": "websocket.accept"})
        with enter(scope, send):
            while (await receive())["type"] != "websocket.disconnect":
                pass

    async with serving(application, ws=ws) as port:
        yield Route(name, port, deliver, handshake(port, "/"))


def framed_route() -> contextlib.AbstractAsyncContextManager[Route]:
    writers: dict[Writer, None] = {}

    @contextlib.contextmanager
    def enter(scope: Any, send: Any) -> Any:
        writer: Writer = scope["extensions"][EXTENSION]
        writers[writer] = None
        yield
        del writers[writer]

    async def deliver(payload: bytes) -> None:
        framed = frame_message(payload, text=True)
        for writer in writers:
            if writer.writable:
                writer.write(framed)

    return asgi_route("pre-framed write", WebSocketProtocol, enter, deliver)


def send_route() -> contextlib.AbstractAsyncContextManager[Route]:
    sends: dict[Any, None] = {}

    @contextlib.contextmanager
    def enter(scope: Any, send: Any) -> Any:
        sends[send] = None
        yield
        del sends[send]

    async def deliver(payload: bytes) -> None:
        message = {"type": "websocket.send", "text": payload.decode()}
        for send in sends:
            await send(message)

    return asgi_route("ASGI send", PLAIN, enter, deliver)


@contextlib.asynccontextmanager
async def starlette_route(name: str, *, gather: bool) -> AsyncIterator[Route]:
    """What tutorials do."""
    sockets: dict[WebSocket, None] = {}

    async def endpoint(socket: WebSocket) -> None:
        await socket.accept()
        sockets[socket] = None
        with contextlib.suppress(WebSocketDisconnect):
            while True:
                await socket.receive_text()
        del sockets[socket]

    async def deliver(payload: bytes) -> None:
        text = payload.decode()
        if gather:
            await asyncio.gather(*(socket.send_text(text) for socket in sockets))
        else:
            for socket in sockets:
                await socket.send_text(text)

    async with serving(Starlette(routes=[WebSocketRoute("/", endpoint)]), ws=PLAIN) as port:
        yield Route(name, port, deliver, handshake(port, "/"))


# the engine


@contextlib.asynccontextmanager
async def thread_route(name: str, ws: type[asyncio.Protocol] | str) -> AsyncIterator[Route]:
    """A thread that all clients have open, and a run on it that writes a token an update."""
    lender = Lender()
    app = create_app(agents={"lender": lender.agent}, store="memory:")
    async with (
        serving(app, ws=ws) as port,
        lender.run(app.threads, {"messages": [{"content": ""}]}) as (thread, run),
    ):
        while thread.committed < FIRST_SEQ:
            run.append_text(PATH, TOKEN)
            await run.flush()

        async def deliver(payload: bytes) -> None:
            run.append_text(PATH, TOKEN)

        opening = handshake(port, "/ws", "threadwire.v1.json")
        says = client_message(b'{"type":"open","thread":"%s"}' % THREAD.encode(), text=True)
        yield Route(name, port, deliver, opening, says)


# measuring


def block(crowd: Crowd, route: Route, clients: int, updates: int) -> Block:
    """µs of this process's time per delivery."""
    payload = UpdateEncoder(THREAD, 1_700_000_000_000).json(FIRST_SEQ, [AppendText(PATH, TOKEN)])
    size = len(frame_message(payload, text=True))
    expected = 0

    async def deliver() -> float:
        nonlocal expected
        begun = time.process_time()
        for _ in range(updates):
            await route.deliver(payload)
            for _ in range(TICKS):
                await asyncio.sleep(0)  # uvloop hands what was written to the kernel at the end of a tick
        spent = time.process_time() - begun
        expected += updates * clients * size
        await crowd.wait(route.name, expected)
        return spent / (updates * clients) * 1e6

    return deliver


async def measure(quick: bool) -> list[Figure]:
    figures: list[Figure] = []
    async with contextlib.AsyncExitStack() as stack:
        crowd = await stack.enter_async_context(Crowd())
        enter = stack.enter_async_context
        routes = [
            await enter(raw_route()),
            await enter(framed_route()),
            await enter(thread_route("a thread, our protocol class", WebSocketProtocol)),
            await enter(send_route()),
            await enter(thread_route("a thread, plain ASGI", PLAIN)),
            await enter(starlette_route("Starlette, send_text one by one", gather=False)),
            await enter(starlette_route("Starlette, send_text gathered", gather=True)),
        ]
        for clients in (100,) if quick else (100, 1000):
            updates = (2000 if quick else 6000) // clients
            for route in routes:
                await crowd.connect(route.name, route.port, clients, opening=route.opening, says=[route.says])
                await crowd.settle(route.name)
            blocks = {route.name: block(crowd, route, clients, updates) for route in routes}
            costs = await interleave(blocks, 3 if quick else 7)
            for route in routes:
                await crowd.leave(route.name)
            raw = costs["raw asyncio write"]
            figures += [
                Figure(name=f"{clients} clients: {name}", value=median(each), unit="µs/delivery")
                for name, each in costs.items()
            ]
            bounds = {"a thread, our protocol class": 1.15}
            figures += [
                Figure(
                    name=f"{clients} clients: {name} / raw",
                    value=ratio(each, raw),
                    unit="×",
                    at_most=bounds.get(name),
                )
                for name, each in costs.items()
                if each is not raw
            ]
            figures.append(
                Figure(
                    name=f"{clients} clients: a thread, plain ASGI / ASGI send",
                    value=ratio(costs["a thread, plain ASGI"], costs["ASGI send"]),
                    unit="×",
                    at_most=1.5,
                )
            )
    return figures


if __name__ == "__main__":
    command_line("fanout", __doc__, measure)
