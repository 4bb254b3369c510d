"""What an idle connection takes of the server's memory: resident bytes of its process.

    python -m benchmarks.memory [--quick] [--json FILE]

A thousand connections, each with a thread of its own open, or all with the same one. Beside them, on
uvicorn's own WebSockets, the same application and an empty Starlette endpoint.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

from starlette.applications import Starlette
from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocket

from benchmarks.crowd import Crowd, client_message, handshake
from benchmarks.servers import PLAIN, server_process
from benchmarks.support import Figure, command_line, conversation
from threadwire import Run, create_app
from threadwire.endpoints.uvicorn_protocol import WebSocketProtocol


async def answer(run: Run) -> None:
    run.state["messages"] = conversation(2)["messages"]


def threadwire() -> Any:
    return create_app(agents={"answer": answer}, store="memory:")


def empty() -> Any:
    async def endpoint(socket: WebSocket) -> None:
        await socket.accept()
        await socket.receive()

    return Starlette(routes=[WebSocketRoute("/ws", endpoint)])


async def connection_bytes(
    make: Callable[[], Any], ws: type[asyncio.Protocol] | str, says: Sequence[bytes], count: int
) -> float:
    async with Crowd() as crowd, server_process(make, ws=ws) as server:
        opening = handshake(server.port, "/ws")
        # The first few bring in what all share.
        await crowd.connect("first", server.port, 10, opening=opening, says=says[:1])
        await crowd.settle("first")
        before = server.resident_bytes()
        await crowd.connect("all", server.port, count, opening=opening, says=says)
        await crowd.settle("all")
        return (server.resident_bytes() - before) / count


def opens(thread: str) -> bytes:
    return client_message(b'{"type":"open","thread":"%s"}' % thread.encode(), text=True)


async def measure(quick: bool) -> list[Figure]:
    count = 300 if quick else 1000
    own = [opens(f"thread-{number:05}") for number in range(count)]
    cases: list[
        tuple[str, Callable[[], Any], type[asyncio.Protocol] | str, Sequence[bytes], float | None]
    ] = [
        ("a thread each", threadwire, WebSocketProtocol, own, 35),
        ("one thread for all", threadwire, WebSocketProtocol, [opens("thread-1")], 35),
        ("no thread open", threadwire, WebSocketProtocol, [], None),
        ("a thread each, plain ASGI", threadwire, PLAIN, own, None),
        ("Starlette, an empty endpoint", empty, PLAIN, [], None),
    ]
    figures = []
    for name, make, ws, says, bound in cases:
        size = await connection_bytes(make, ws, says, count)
        figures.append(Figure(name=name, value=size / 1024, unit="KiB/connection", at_most=bound))
    return figures


if __name__ == "__main__":
    command_line("memory", __doc__, measure)
