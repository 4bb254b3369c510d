"""What a token costs on its way to stock clients over HTTP, next to assistant-stream's own responses.

    python -m benchmarks.assistant [--quick] [--json FILE]

Both answer one request inside the process, up to the bytes handed to the ASGI server; the loop turns
after each token. Ours is the whole way: document, log (in memory), readers, where what comes within a
millisecond is joined.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, MutableMapping
from contextlib import AsyncExitStack
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

import threadwire
from benchmarks.support import (
    TOKEN,
    Block,
    Figure,
    command_line,
    conversation,
    installed,
    interleave,
    median,
    ratio,
)
from threadwire.stores.memory import MemoryStore

PROTOCOLS = ("data-stream", "assistant-transport")
MESSAGES = 20
PATH = ("messages", -1, "content")


async def request(app: Any, protocol: str, thread: str = "t") -> AsyncIterator[int]:
    """The sizes of the pieces of a response's body."""
    content = json.dumps(
        {
            "commands": [{"type": "add-message", "message": {"role": "user", "parts": []}}],
            "state": {},
            "threadId": thread,
        }
    ).encode()
    body = [content]
    pieces: list[int] = []

    async def receive() -> MutableMapping[str, Any]:
        if body:
            return {"type": "http.request", "body": body.pop(), "more_body": False}
        await asyncio.Event().wait()
        raise AssertionError

    async def send(message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.body":
            pieces.append(len(message.get("body", b"")))

    headers = {"content-type": "application/json", "content-length": str(len(content)), "host": "benchmark"}
    scope = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": "POST",
        "scheme": "http",
        "path": "/assistant",
        "raw_path": b"/assistant",
        "root_path": "",
        "query_string": f"protocol={protocol}".encode(),
        "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 80),
        "extensions": {},
    }
    await app(scope, receive, send)
    for piece in pieces:
        yield piece


def block(app: Any, protocol: str, tokens: int) -> Block:
    """µs a token."""
    number = 0

    async def run() -> float:
        nonlocal number
        number += 1
        begun = time.process_time()
        frames = [size async for size in request(app, protocol, f"t{number}")]
        spent = time.process_time() - begun
        assert len(frames) >= 3
        return spent / tokens * 1e6

    return run


def ours(tokens: int) -> threadwire.Application:
    @threadwire.agent
    async def agent(run: threadwire.Run) -> None:
        run.state = conversation(MESSAGES)
        await asyncio.sleep(0)
        for _ in run.commands:
            for _ in range(tokens):
                run.append_text(PATH, TOKEN)
                await asyncio.sleep(0)

    return threadwire.create_app(agents={"agent": agent}, store=MemoryStore())


def theirs(protocol: str, way: str, tokens: int) -> Starlette:
    from assistant_stream import create_run
    from assistant_stream.serialization import AssistantTransportResponse, DataStreamResponse

    kind = DataStreamResponse if protocol == "data-stream" else AssistantTransportResponse
    path = ("messages", MESSAGES - 1, "content")

    async def write(controller: Any) -> None:
        for _ in range(tokens):
            if way == "+=":
                controller.state["messages"][-1]["content"] += TOKEN
            else:
                controller.append_state_text(path, TOKEN)
            await asyncio.sleep(0)

    async def answer(request: Request) -> Response:
        await request.json()
        response: Response = kind(create_run(write, state=conversation(MESSAGES)))
        return response

    return Starlette(routes=[Route("/assistant", answer, methods=["POST"])])


async def measure(quick: bool) -> list[Figure]:
    tokens = 3000
    blocks: dict[str, Block] = {}
    async with AsyncExitStack() as stack:
        for protocol in PROTOCOLS:
            app = ours(tokens)
            await stack.enter_async_context(app.running())
            blocks[protocol] = block(app, protocol, tokens)
            for way in ("+=", "append_state_text") if installed("assistant_stream") else ():
                peer = theirs(protocol, way, tokens)
                blocks[f"{protocol}: assistant-stream, {way}"] = block(peer, protocol, tokens)
        costs = await interleave(blocks, 3 if quick else 7)
    figures = [Figure(name=f"a token, {name}", value=median(each), unit="µs") for name, each in costs.items()]
    for protocol in PROTOCOLS:
        for way in ("+=", "append_state_text"):
            peer_name = f"{protocol}: assistant-stream, {way}"
            if peer_name in costs:
                value = ratio(costs[protocol], costs[peer_name])
                figures.append(Figure(name=f"ours / {peer_name}", value=value, at_most=0.5))
    return figures


if __name__ == "__main__":
    command_line("assistant", __doc__, measure)
