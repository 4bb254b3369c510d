"""HTTP connections that never get to the end of a request's head are ended; all others go on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest
from starlette.responses import PlainTextResponse
from websockets.asyncio.client import connect

from tests.support.live_server import live_server
from threadwire.endpoints import uvicorn_http
from threadwire.endpoints.uvicorn_http import HEAD_BYTES, HTTPProtocol
from threadwire.endpoints.uvicorn_protocol import WebSocketProtocol

pytestmark = pytest.mark.anyio

HEAD = b"GET / HTTP/1.1\r\nHost: x\r\n"


@pytest.fixture(params=[False, True], ids=["asyncio", "uvloop"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, Any]]:
    if request.param:
        pytest.importorskip("uvloop")
    return "asyncio", {"use_uvloop": request.param}


async def application(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.accept"})
        while (message := await receive())["type"] == "websocket.receive":
            await send({"type": "websocket.send", "text": message["text"]})
        return
    while (await receive()).get("more_body"):
        pass
    await PlainTextResponse("hello")(scope, receive, send)


class Connection:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def answer(self) -> bytes:
        """The next response, with a body of `hello` or none."""
        head = await self.reader.readuntil(b"\r\n\r\n")
        return head + (b"" if b"content-length: 0" in head else await self.reader.readexactly(5))

    async def ends(self) -> bytes:
        """What comes up to the end of the connection."""
        return await self.reader.read()


@asynccontextmanager
async def connection() -> AsyncIterator[Connection]:
    async with live_server(application, http=HTTPProtocol, ws=WebSocketProtocol, lifespan="off") as (_, port):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            with anyio.fail_after(60):
                yield Connection(reader, writer)
        finally:
            writer.transport.abort()


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uvicorn_http, "HEAD_S", 0.5)


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("sent", [b"", b"\r\n", b"G", HEAD + b"X-Slow"])
async def test_client_that_does_not_finish_its_head_is_sent_away(sent: bytes) -> None:
    async with connection() as client:
        client.writer.write(sent)
        assert (await client.ends()).startswith(b"HTTP/1.1 408 ")


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("sent", [b"\r\n", b"GET /"])
async def test_the_bound_holds_for_further_requests_too(sent: bytes) -> None:
    async with connection() as client:
        client.writer.write(HEAD + b"\r\n")
        assert (await client.answer()).endswith(b"hello")
        client.writer.write(sent)
        assert (await client.ends()).startswith(b"HTTP/1.1 408 ")


@pytest.mark.usefixtures("impatient")
async def test_requests_and_websockets_may_take_their_time_after_the_head() -> None:
    async with live_server(application, http=HTTPProtocol, ws=WebSocketProtocol, lifespan="off") as (_, port):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        with anyio.fail_after(60):
            writer.write(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\na")
            async with connect(f"ws://127.0.0.1:{port}/") as socket:
                with anyio.move_on_after(1):  # longer than a head may take
                    await socket.recv()
                await socket.send("still here")
                assert await socket.recv() == "still here"
            writer.write(b"b")
            assert (await reader.readline()).startswith(b"HTTP/1.1 200 ")
        writer.close()


@pytest.mark.parametrize(
    "line",
    [b"X: " + b"a" * HEAD_BYTES, b"X: y\r\n" * (HEAD_BYTES // 6), b"X" * HEAD_BYTES],
    ids=["value", "lines", "name"],
)
async def test_head_without_an_end_is_refused(line: bytes) -> None:
    async with connection() as client:
        client.writer.write(HEAD)
        for begin in range(0, len(line), 1000):
            client.writer.write(line[begin : begin + 1000])
            await client.writer.drain()
        assert (await client.ends()).startswith(b"HTTP/1.1 431 ")


async def test_large_head_in_bounds_and_requests_in_a_row_are_served() -> None:
    async with connection() as client:
        client.writer.write(HEAD + b"X: " + b"a" * (HEAD_BYTES // 2) + b"\r\n\r\n")
        assert (await client.answer()).endswith(b"hello")
        client.writer.write((HEAD + b"\r\n") * 30)
        for _ in range(30):
            assert (await client.answer()).endswith(b"hello")
        body = b"a" * (3 * HEAD_BYTES)
        client.writer.write(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
        assert (await client.answer()).endswith(b"hello")
