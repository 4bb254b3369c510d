"""End to end, one client: what a streamed token costs the server's process, whole, and on the wire.

    python -m benchmarks.websocket [--quick] [--json FILE]

Each server is a process of its own, uvicorn and all; the state has 10 messages, and the last one's
text grows. "frame a token": the agent lets the loop turn after each token, the store is in memory.
"burst": it writes 16 tokens, as a model's answer comes off the network, then lets the loop turn.
"SQLite": a frame a token was asked for, but all that comes while a commit is under way goes
together. The floor is what the network alone costs: frames made beforehand, written by the same
uvicorn protocol, the loop turning after each.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import tempfile
import time
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route as Endpoint

from benchmarks.crowd import client_message, handshake
from benchmarks.servers import PLAIN, ServerProcess, server_process
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
from threadwire import AddMessage, Run, create_app
from threadwire.core.codec import (
    Encoding,
    UpdateEncoder,
    decode_server_message,
    encode_log,
    encode_value,
)
from threadwire.core.frames import Update
from threadwire.core.operations import AppendText, Operation
from threadwire.endpoints.writer import EXTENSION, Writer, frame_message

MESSAGES = 10
BURST = 16
ATTEMPTS = 10
LOOK_S = 0.002
PATH = ("messages", MESSAGES - 1, "content")


# the servers


async def stream(run: Run) -> None:
    """Does what the message says: `TOKENS BURST`."""
    for command in run.commands:
        assert isinstance(command, AddMessage)
        tokens, burst = map(int, command.message.text.split())
        run.state["messages"] = conversation(MESSAGES)["messages"]
        for number in range(1, tokens + 1):
            run.append_text(PATH, TOKEN)
            if number % burst == 0:
                await asyncio.sleep(0)


def threadwire(store: str) -> Any:
    return create_app(agents={"stream": stream}, store=store)


def floor() -> Any:
    """Sends as many frames as it is told to."""
    operations: list[Operation] = [AppendText(PATH, TOKEN)]
    encoder = UpdateEncoder("thread-1", 1_700_000_000_000)
    framed = {
        "json": frame_message(encoder.json(1000, operations), text=True),
        "msgpack": frame_message(encoder.msgpack(1000, encode_log(operations)), text=False),
    }

    async def application(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "websocket":
            return
        await receive()
        await send({"type": "websocket.accept"})
        writer: Writer = scope["extensions"][EXTENSION]
        while (message := await receive())["type"] == "websocket.receive":
            tokens, encoding = json.loads(message["text"])
            for _ in range(tokens):
                writer.write(framed[encoding])
                await asyncio.sleep(0)
            writer.write(frame_message(b"completed", text=True))

    return application


def assistant_stream() -> Any:
    """assistant-stream over Starlette: by path the response class, by body how much and how."""
    from assistant_stream import create_run
    from assistant_stream.serialization import AssistantTransportResponse, DataStreamResponse

    async def endpoint(request: Request) -> Response:
        tokens, burst, concatenating = await request.json()

        async def callback(controller: Any) -> None:
            for number in range(1, tokens + 1):
                if concatenating:
                    controller.state["messages"][-1]["content"] += TOKEN
                else:
                    controller.append_state_text(PATH, TOKEN)
                if number % burst == 0:
                    await asyncio.sleep(0)

        kind = (
            AssistantTransportResponse if request.url.path == "/assistant-transport" else DataStreamResponse
        )
        response: Response = kind(create_run(callback, state=conversation(MESSAGES)))
        return response

    paths = ("/assistant-transport", "/data-stream")
    return Starlette(routes=[Endpoint(path, endpoint, methods=["POST"]) for path in paths])


# the client


class Client:
    """Looks every few milliseconds for what has come, as if it were on another machine.

    A client that waits for its socket has to be woken up, and one that is awake all the time takes
    half a core away where two share one: the server's process would be charged for either.
    """

    def __init__(self, socket: socket.socket) -> None:
        self._socket = socket

    async def exchange(self, request: bytes, end: bytes) -> bytes:
        """What the server sends, up to `end`."""
        await asyncio.get_running_loop().sock_sendall(self._socket, request)
        received = bytearray()
        looked_at = 0
        while received.find(end, looked_at) < 0:
            looked_at = max(0, len(received) - len(end))
            await asyncio.sleep(LOOK_S)
            with contextlib.suppress(BlockingIOError):
                while data := self._socket.recv(2**20):
                    received += data
                raise ConnectionError("closed by the server")
        return bytes(received)


async def connected(port: int) -> Client:
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 * 2**20)
    client.setblocking(False)
    await asyncio.get_running_loop().sock_connect(client, ("127.0.0.1", port))
    return Client(client)


def messages(data: bytes) -> list[bytes]:
    """The payloads of a server's WebSocket frames."""
    found = []
    start = 0
    while start < len(data):
        size = data[start + 1]
        start += 2
        if size > 125:
            more = 2 if size == 126 else 8
            size = int.from_bytes(data[start : start + more], "big")
            start += more
        found.append(data[start : start + size])
        start += size
    return found


# the routes


class Route:
    """One way to have tokens streamed; `cost` is a block of the server's µs per token."""

    def __init__(self, server: ServerProcess, tokens: int) -> None:
        self._server = server
        self.tokens = tokens
        self.bytes_per_token = 0.0
        self.seconds: list[float] = []

    async def begin(self) -> None:
        """Connects."""

    async def ask(self) -> bytes:
        """Has the tokens streamed; returns all that was sent for it."""
        raise NotImplementedError

    def as_asked(self, received: bytes) -> bool:
        """Whether it came in as many frames as were asked for. Raises where the text isn't right."""
        return True

    async def cost(self) -> float:
        for _ in range(ATTEMPTS):
            cpu, begun = self._server.cpu_s(), time.perf_counter()
            received = await self.ask()
            seconds = time.perf_counter() - begun
            cpu = self._server.cpu_s() - cpu
            if self.as_asked(received):
                self.seconds.append(seconds / self.tokens)
                self.bytes_per_token = len(received) / self.tokens
                return cpu / self.tokens * 1e6
        raise RuntimeError("the client can't keep up on this machine, so that updates are merged")


class Threadwire(Route):
    def __init__(
        self,
        server: ServerProcess,
        tokens: int,
        encoding: Encoding,
        *,
        burst: int = 1,
        merged: bool = False,
    ) -> None:
        super().__init__(server, tokens)
        self._encoding = encoding
        self._burst = burst
        self._merged = merged
        self._thread = f"thread-{encoding}-{burst}"
        self._commands = 0

    async def begin(self) -> None:
        self._client = await connected(self._server.port)
        opening = handshake(self._server.port, "/ws", f"threadwire.v1.{self._encoding}")
        await self._client.exchange(opening, b"strategies")
        await self._client.exchange(self._message({"type": "open", "thread": self._thread}), b"run")

    async def ask(self) -> bytes:
        self._commands += 1
        part = {"type": "text", "text": f"{self.tokens} {self._burst}"}
        command = {"type": "add-message", "message": {"role": "user", "parts": [part]}}
        frame = {"type": "command", "thread": self._thread, "id": f"c{self._commands}", "command": command}
        return await self._client.exchange(self._message(frame), b"completed")

    def _message(self, frame: dict[str, Any]) -> bytes:
        return client_message(encode_value(frame, self._encoding), text=self._encoding == "json")

    def as_asked(self, received: bytes) -> bool:
        frames = [
            frame
            for message in messages(received)
            for frame in decode_server_message(message, self._encoding)
            if isinstance(frame, Update)
        ]
        text = "".join(op.value for frame in frames for op in frame.ops if isinstance(op, AppendText))
        # The first cut's are in the messages that the run begins with.
        assert text == TOKEN * (len(text) // len(TOKEN)), "not the text that was asked for"
        if self._merged:
            return True
        assert len(text) >= len(TOKEN) * (self.tokens - self._burst), "not all of the text"
        return len(frames) >= self.tokens // self._burst


class Floor(Route):
    def __init__(self, server: ServerProcess, tokens: int, encoding: Encoding) -> None:
        super().__init__(server, tokens)
        self._encoding = encoding

    async def begin(self) -> None:
        self._client = await connected(self._server.port)
        await self._client.exchange(handshake(self._server.port, "/"), b"\r\n\r\n")

    async def ask(self) -> bytes:
        request = json.dumps([self.tokens, self._encoding]).encode()
        return await self._client.exchange(client_message(request, text=True), b"completed")


class AssistantStream(Route):
    def __init__(
        self, server: ServerProcess, tokens: int, path: str, *, burst: int = 1, concatenating: bool = False
    ) -> None:
        super().__init__(server, tokens)
        self._path = path
        self._body = json.dumps([tokens, burst, concatenating]).encode()

    async def begin(self) -> None:
        self._client = await connected(self._server.port)

    async def ask(self) -> bytes:
        head = f"POST {self._path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(self._body)}\r\n\r\n"
        return await self._client.exchange(head.encode() + self._body, b"\r\n0\r\n\r\n")

    def as_asked(self, received: bytes) -> bool:
        assert received.count(TOKEN.encode()) == self.tokens
        return True


# figures

EACH = "Threadwire JSON, frame a token"
EACH_PACKED = "Threadwire MessagePack, frame a token"
BURSTS = "Threadwire JSON, burst"
SQLITE = "Threadwire JSON, SQLite"
PEER_CONCATENATING = "AssistantTransportResponse +="
PEER = "AssistantTransportResponse append_state_text"
PEER_BURSTS = f"{PEER}, burst"
PEER_DATA_STREAM = "DataStreamResponse append_state_text"

Costs = dict[str, list[float]]


def floor_ratios(costs: Costs) -> list[Figure]:
    return [
        times(costs, EACH, "floor, JSON", at_most=1.2),
        times(costs, EACH_PACKED, "floor, MessagePack", at_most=1.2),
    ]


def peer_ratios(costs: Costs, routes: dict[str, Route]) -> list[Figure]:
    faster = ratio(routes[PEER].seconds[1:], routes[BURSTS].seconds[1:])
    return [
        times(costs, EACH, PEER_CONCATENATING, at_most=1 / 3.5),
        times(costs, EACH, PEER, at_most=1 / 3.5),
        times(costs, EACH, PEER_DATA_STREAM),
        times(costs, BURSTS, PEER, at_most=1 / 8),
        times(costs, BURSTS, PEER_BURSTS),
        times(costs, SQLITE, PEER, at_most=1 / 8),
        Figure(name=f"tokens/s: {BURSTS} / {PEER}", value=faster, unit="×", at_least=5),
    ]


def times(costs: Costs, name: str, base: str, **bound: float) -> Figure:
    return Figure(name=f"{name} / {base}", value=ratio(costs[name], costs[base]), unit="×", **bound)


async def measure(quick: bool) -> list[Figure]:
    tokens = 2000 if quick else 6000
    async with contextlib.AsyncExitStack() as stack:
        enter = stack.enter_async_context
        directory = stack.enter_context(tempfile.TemporaryDirectory())
        memory = await enter(server_process(threadwire, "memory:"))
        sqlite = await enter(server_process(threadwire, f"sqlite:///{Path(directory) / 'threads.db'}"))
        bare = await enter(server_process(floor))
        routes: dict[str, Route] = {
            "floor, JSON": Floor(bare, tokens, "json"),
            "floor, MessagePack": Floor(bare, tokens, "msgpack"),
            EACH: Threadwire(memory, tokens, "json"),
            EACH_PACKED: Threadwire(memory, tokens, "msgpack"),
            BURSTS: Threadwire(memory, tokens, "json", burst=BURST),
            SQLITE: Threadwire(sqlite, tokens, "json", merged=True),
        }
        if installed("assistant_stream"):
            peer = await enter(server_process(assistant_stream, ws=PLAIN))
            transport = "/assistant-transport"
            routes |= {
                PEER_CONCATENATING: AssistantStream(peer, tokens, transport, concatenating=True),
                PEER: AssistantStream(peer, tokens, transport),
                PEER_BURSTS: AssistantStream(peer, tokens, transport, burst=BURST),
                PEER_DATA_STREAM: AssistantStream(peer, tokens, "/data-stream"),
            }
        for route in routes.values():
            await route.begin()
        blocks: dict[str, Block] = {name: route.cost for name, route in routes.items()}
        costs = await interleave(blocks, 3 if quick else 9)
    figures = []
    for name, route in routes.items():
        lean = 60 if name in (BURSTS, SQLITE) else None
        figures += [
            Figure(name=name, value=median(costs[name]), unit="µs/token"),
            Figure(name=f"{name}: rate", value=1 / median(route.seconds[1:]), unit="tokens/s"),
            Figure(name=f"{name}: wire", value=route.bytes_per_token, unit="B/token", at_most=lean),
        ]
    figures += floor_ratios(costs)
    if PEER in routes:
        figures += peer_ratios(costs, routes)
    return figures


if __name__ == "__main__":
    command_line("websocket", __doc__, measure)
