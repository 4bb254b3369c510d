"""Clients that give no sign of life are closed; those that read slowly never are."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
import pytest
from websockets.asyncio.client import connect

from tests.support.engine import say
from tests.support.live_server import live_server
from threadwire.core.frames import Limits
from threadwire.endpoints.app import Application, create_app
from threadwire.endpoints.uvicorn_protocol import WebSocketProtocol
from threadwire.engine.settings import Settings
from threadwire_agents.demos.scripted import scripted

pytestmark = [pytest.mark.anyio, pytest.mark.spec("5.7")]

LIMITS = Limits(heartbeat_s=0.05, unresponsive_s=1.5)


@asynccontextmanager
async def serving() -> AsyncIterator[tuple[Application, int]]:
    app = create_app(agents={"scripted": scripted}, store="memory:", settings=Settings(limits=LIMITS))
    async with live_server(app, ws=WebSocketProtocol, ws_ping_interval=0.1, ws_ping_timeout=None) as (
        _,
        port,
    ):
        yield app, port


async def handshake(
    port: int, *, receive_buffer: int | None = None
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A WebSocket that answers no ping."""
    raw = socket.socket()
    if receive_buffer is not None:
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    raw.setblocking(False)
    await asyncio.get_running_loop().sock_connect(raw, ("127.0.0.1", port))
    reader, writer = await asyncio.open_connection(sock=raw)
    writer.write(
        b"GET /ws HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    )
    await reader.readuntil(b"\r\n\r\n")
    return reader, writer


async def test_a_client_that_answers_nothing_is_closed_with_a_code_to_reconnect() -> None:
    async with serving() as (_, port):
        reader, writer = await handshake(port)
        with anyio.fail_after(60):
            received = await reader.read()
        assert (4000).to_bytes(2) in received[-100:]
        writer.close()
        await writer.wait_closed()


async def test_a_client_that_answers_pings_stays_though_it_says_nothing() -> None:
    async with serving() as (_, port), connect(f"ws://127.0.0.1:{port}/ws", ping_interval=None) as client:
        began = asyncio.get_running_loop().time()
        while asyncio.get_running_loop().time() - began < LIMITS.unresponsive_s * 2:
            await client.recv()


async def test_a_client_that_reads_slowly_stays() -> None:
    async with serving() as (app, port):
        thread = await app.threads.get("t")
        await thread.submit("c", say("x" * 900_000), strategy=None, watcher=lambda state: None)
        await thread.runner.ended()
        reader, writer = await handshake(port, receive_buffer=16 * 1024)
        # Masked with zeros, as a client must mask.
        frame = b'{"type":"open","thread":"t"}'
        writer.write(bytes((0x81, 0x80 | len(frame), 0, 0, 0, 0)) + frame)
        received = bytearray()
        began = asyncio.get_running_loop().time()
        with anyio.fail_after(60):
            # In small bites, for longer than the limit, and never a pong.
            while len(received) < 1_700_000:
                received += await reader.readexactly(8 * 1024)
                await asyncio.sleep(0.015)
            while b'"status":"completed"' not in received[-200:]:
                received += await reader.read(1)
        assert asyncio.get_running_loop().time() - began > LIMITS.unresponsive_s * 2
        assert received.count(b"x") >= 1_800_000
        writer.close()
        await writer.wait_closed()
