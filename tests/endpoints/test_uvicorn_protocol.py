"""The pre-framed writer against real sockets: what arrives, in which order, and what a peer can't do."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import AsyncIterator
from typing import Any

import anyio
import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.extensions.permessage_deflate import PerMessageDeflate
from websockets.frames import Close, Frame, Opcode

from tests.support.live_server import LiveServer, live_server
from threadwire.endpoints.uvicorn_protocol import HIGH_WATER_BYTES, WebSocketProtocol
from threadwire.endpoints.writer import EXTENSION, Writer, frame_message

pytestmark = pytest.mark.anyio

HANDSHAKE = (
    b"GET /ws HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
)


@pytest.fixture(params=[False, True], ids=["asyncio", "uvloop"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, Any]]:
    """Both loops: their transports buffer, pause and close in their own ways."""
    if request.param:
        pytest.importorskip("uvloop")
    return "asyncio", {"use_uvloop": request.param}


class Served:
    """The server's side of one connection, driven by the test."""

    def __init__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        self.receive = receive
        self.send = send
        self.writer: Writer = scope["extensions"][EXTENSION]
        self.done = asyncio.Event()

    def writable(self) -> bool:
        return self.writer.writable

    async def accept(self) -> None:
        await self.send({"type": "websocket.accept"})


class Application:
    """Hands each connection to the test, and ends when the test says so."""

    def __init__(self) -> None:
        self.connections: asyncio.Queue[Served] = asyncio.Queue()

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        assert scope["type"] == "websocket"
        assert (await receive())["type"] == "websocket.connect"
        served = Served(scope, receive, send)
        self.connections.put_nowait(served)
        await served.done.wait()


class Live:
    def __init__(self, application: Application, server: LiveServer, port: int) -> None:
        self.application = application
        self.server = server
        self.port = port

    @property
    def connections(self) -> list[WebSocketProtocol]:
        return [c for c in self.server.server_state.connections if isinstance(c, WebSocketProtocol)]

    @contextlib.asynccontextmanager
    async def connected(self, **options: Any) -> AsyncIterator[tuple[ClientConnection, Served]]:
        options = {"compression": None, "close_timeout": 0.2, "max_size": None, **options}
        connecting = asyncio.ensure_future(connect(f"ws://127.0.0.1:{self.port}/ws", **options).__aenter__())
        served = await self.application.connections.get()
        await served.accept()
        client = await connecting
        try:
            yield client, served
        finally:
            served.done.set()
            await client.close()

    @contextlib.asynccontextmanager
    async def stalled(self) -> AsyncIterator[tuple[socket.socket, Served]]:
        """A client that reads only when the test says so, with as small a buffer as there is."""
        with socket.socket() as peer:
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            peer.setblocking(False)
            loop = asyncio.get_running_loop()
            await loop.sock_connect(peer, ("127.0.0.1", self.port))
            await loop.sock_sendall(peer, HANDSHAKE + b"\r\n")
            served = await self.application.connections.get()
            await served.accept()
            head = b""
            while not head.endswith(b"\r\n\r\n"):
                head += await loop.sock_recv(peer, 1)
            try:
                yield peer, served
            finally:
                served.done.set()


@contextlib.asynccontextmanager
async def live(**config: Any) -> AsyncIterator[Live]:
    application = Application()
    with anyio.fail_after(60):
        async with live_server(application, ws=WebSocketProtocol, lifespan="off", **config) as (server, port):
            yield Live(application, server, port)


def fill(writer: Writer) -> int:
    """Writes until the client is too slow; the bytes written."""
    frame = frame_message(os.urandom(16 * 1024), text=False)
    written = 0
    while writer.writable:
        writer.write(frame)
        written += len(frame)
    return written


async def fill_for_good(writer: Writer) -> int:
    """Writes until the kernel takes no more either: bytes stay queued from one tick to the next."""
    written = 0
    while True:
        written += fill(writer)
        resumed = asyncio.Event()
        writer.on_writable = resumed.set
        try:
            async with asyncio.timeout(0.1):
                await resumed.wait()
        except TimeoutError:
            if not resumed.is_set():  # both come at once to a process that wasn't scheduled for so long
                return written


@pytest.mark.parametrize("deflate", [False, True])
@pytest.mark.parametrize("text", [False, True])
async def test_messages_of_every_length_form_arrive(deflate: bool, text: bool) -> None:
    async with (
        live(ws_per_message_deflate=deflate) as server,
        server.connected(compression="deflate" if deflate else None) as (client, served),
    ):
        negotiated = client.protocol.extensions
        assert [type(e) for e in negotiated] == ([PerMessageDeflate] if deflate else [])
        for size in (0, 1, 125, 126, 127, 65535, 65536, 300_000):
            payload = b"x" * size
            served.writer.write(frame_message(payload, text=text))
            assert await client.recv() == (payload.decode() if text else payload)


@pytest.mark.parametrize("deflate", [False, True])
async def test_written_and_sent_messages_keep_their_order(deflate: bool) -> None:
    async with (
        live(ws_per_message_deflate=deflate) as server,
        server.connected(compression="deflate" if deflate else None) as (client, served),
    ):
        for number in range(0, 100, 2):
            served.writer.write(frame_message(b"%d" % number, text=True))
            await served.send({"type": "websocket.send", "text": str(number + 1)})
        assert [await client.recv() for _ in range(100)] == [str(n) for n in range(100)]


async def test_nothing_is_written_before_the_handshake() -> None:
    async with live() as server:
        connecting = asyncio.ensure_future(
            connect(f"ws://127.0.0.1:{server.port}/ws", close_timeout=0.2).__aenter__()
        )
        served = await server.application.connections.get()
        assert not served.writable()
        served.writer.write(frame_message(b"too early", text=True))
        await served.accept()
        assert served.writable()
        served.writer.write(frame_message(b"now", text=True))
        client = await connecting
        assert await client.recv() == "now"
        served.done.set()
        await client.close()


async def test_a_client_that_does_not_read_pauses_the_writer_and_reading_resumes_it() -> None:
    async with live() as server, server.stalled() as (peer, served):
        writer = served.writer
        written = await fill_for_good(writer)
        assert not served.writable()
        assert HIGH_WATER_BYTES < writer.buffer_size() < 2 * HIGH_WATER_BYTES
        # What lags behind is bounded by the buffers of both sides, not by the kernel's megabytes.
        assert written < 1024 * 1024

        resumed = asyncio.Event()
        writer.on_writable = resumed.set
        loop = asyncio.get_running_loop()
        received = 0
        while received < written:
            received += len(await loop.sock_recv(peer, 65536))
        await resumed.wait()
        assert received == written
        assert served.writable()
        assert writer.buffer_size() == 0


async def test_a_paused_writer_still_queues() -> None:
    async with live() as server, server.stalled() as (_, served):
        await fill_for_good(served.writer)
        before = served.writer.buffer_size()
        served.writer.write(frame_message(b"goodbye", text=True))
        assert served.writer.buffer_size() == before + 9


async def test_nothing_is_written_after_a_close_frame_was_sent() -> None:
    async with live() as server, server.connected() as (client, served):
        served.writer.write(frame_message(b"last", text=True))
        await served.send({"type": "websocket.close", "code": 4401, "reason": "who?"})
        assert not served.writable()
        served.writer.write(frame_message(b"too late", text=True))
        assert await client.recv() == "last"
        with pytest.raises(ConnectionClosed) as closed:
            await client.recv()
        assert closed.value.rcvd == Close(4401, "who?")


async def test_nothing_is_written_after_the_client_closed() -> None:
    async with live() as server, server.connected() as (client, served):
        await client.close(1000)
        assert (await served.receive())["type"] == "websocket.disconnect"
        assert not served.writable()
        served.writer.write(frame_message(b"too late", text=True))
        served.writer.abort()


async def test_nothing_is_written_after_the_connection_was_lost() -> None:
    async with live() as server, server.connected() as (client, served):
        resumed = asyncio.Event()
        served.writer.on_writable = resumed.set
        client.transport.abort()
        assert (await served.receive())["type"] == "websocket.disconnect"
        assert not served.writable()
        served.writer.write(frame_message(b"too late", text=True))
        assert not resumed.is_set()


async def test_abort_drops_a_connection_with_all_that_is_queued() -> None:
    async with live() as server, server.stalled() as (_, served):
        await fill_for_good(served.writer)
        served.writer.abort()
        assert (await served.receive())["type"] == "websocket.disconnect"
        assert not served.writable()
        assert not server.connections


async def test_any_bytes_from_the_client_count_as_received() -> None:
    async with live() as server, server.connected(ping_interval=None) as (client, served):
        served.writer.last_received = 0
        await (await client.ping())
        assert served.writer.last_received > 0


async def test_a_fragmented_message_arrives_whole() -> None:
    async with live() as server, server.connected() as (client, served):
        parts = [b"", *(bytes((n % 256,)) for n in range(1000)), b"", b"end"]
        await client.send(parts)
        assert await served.receive() == {"type": "websocket.receive", "bytes": b"".join(parts)}
        await client.send(["grün", "", "e", " 🌲"])
        assert await served.receive() == {"type": "websocket.receive", "text": "grüne 🌲"}
        await client.send("one piece")
        assert await served.receive() == {"type": "websocket.receive", "text": "one piece"}


async def test_fragments_of_a_byte_or_none_cost_no_more_than_their_bytes() -> None:
    async with live() as server, server.stalled() as (peer, served):
        (protocol,) = server.connections
        loop = asyncio.get_running_loop()
        fragment = Frame(Opcode.CONT, b"y", fin=False).serialize(mask=True)
        nothing = Frame(Opcode.CONT, b"", fin=False).serialize(mask=True)
        await loop.sock_sendall(peer, Frame(Opcode.BINARY, b"x", fin=False).serialize(mask=True))
        await loop.sock_sendall(peer, fragment + (nothing + fragment) * 999)
        ping = Frame(Opcode.PING, b"seen").serialize(mask=True)
        await loop.sock_sendall(peer, ping)
        assert (await loop.sock_recv(peer, 100)).endswith(b"seen")
        assert not protocol.frames
        assert bytes(protocol.fragments) == b"x" + b"y" * 1000

        await loop.sock_sendall(peer, Frame(Opcode.CONT, b"z").serialize(mask=True))
        assert (await served.receive())["bytes"] == b"x" + b"y" * 1000 + b"z"
        assert not protocol.fragments


async def test_a_message_beyond_the_limit_is_refused_with_1009() -> None:
    async with live(ws_max_size=1000) as server, server.connected() as (client, served):
        await client.send(b"x" * 1000)
        assert (await served.receive())["bytes"] == b"x" * 1000
        await client.send([b"x" * 600, b"x" * 401])
        assert (await served.receive())["code"] == 1009
        with pytest.raises(ConnectionClosed) as closed:
            await client.recv()
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1009
        assert not served.writable()


async def test_pings_of_a_client_that_does_not_read_pile_up_nowhere() -> None:
    async with live() as server, server.stalled() as (peer, served):
        loop = asyncio.get_running_loop()
        written = await fill_for_good(served.writer)
        queued = served.writer.buffer_size()
        for number in range(2000):
            ping = Frame(Opcode.PING, b"%0100d" % number)
            await loop.sock_sendall(peer, ping.serialize(mask=True))
        await loop.sock_sendall(peer, Frame(Opcode.TEXT, b"done").serialize(mask=True))
        assert (await served.receive())["text"] == "done"
        assert served.writer.buffer_size() <= queued

        # Once there is room again, the last ping is answered.
        received = b""
        last_pong = Frame(Opcode.PONG, b"%0100d" % 1999).serialize(mask=False)
        while len(received) < written + len(last_pong):
            received += await loop.sock_recv(peer, 65536)
        assert received[written:] == last_pong


async def test_a_client_that_never_reads_its_close_frame_is_dropped() -> None:
    async with live() as server, server.stalled() as (peer, served):
        await fill_for_good(served.writer)
        (protocol,) = server.connections
        protocol.close_timeout = 0.05
        await asyncio.get_running_loop().sock_sendall(
            peer, Frame(Opcode.CLOSE, Close(1000, "").serialize()).serialize(mask=True)
        )
        assert (await served.receive())["code"] == 1000
        served.done.set()
        # Lost, the connection wakes what waits to send.
        await protocol.writable.wait()
        assert not server.connections


@pytest.mark.parametrize(
    ("request_head", "status"),
    [
        (HANDSHAKE + b"X-Long: " + b"a" * 9000 + b"\r\n\r\n", b"431"),
        (HANDSHAKE + b"".join(b"X-%d: a\r\n" % n for n in range(180)) + b"\r\n", b"431"),
        (HANDSHAKE.replace(b"/ws", b"/ws" + b"a" * 9000) + b"\r\n", b"414"),
        (HANDSHAKE + b"Content-Length: 5\r\n\r\nhello", b"400"),
        (HANDSHAKE.replace(b"GET", b"POST") + b"\r\n", b"405"),
    ],
)
async def test_a_handshake_that_cannot_be_read_is_answered_and_closed(
    request_head: bytes, status: bytes
) -> None:
    async with live() as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(request_head)
        answer = await reader.read()
        assert answer.split()[:2] == [b"HTTP/1.1", status]
        writer.close()
        await writer.wait_closed()


async def test_a_refused_handshake_is_a_403() -> None:
    async with live() as server:
        connecting = asyncio.ensure_future(connect(f"ws://127.0.0.1:{server.port}/ws").__aenter__())
        served = await server.application.connections.get()
        await served.send({"type": "websocket.close"})
        assert not served.writable()
        served.writer.write(frame_message(b"never", text=True))
        with pytest.raises(InvalidStatus) as refused:
            await connecting
        assert refused.value.response.status_code == 403
        served.done.set()


async def test_a_stopping_server_closes_with_1012_and_writes_no_more() -> None:
    async with live() as server, server.connected() as (client, served):
        server.server.should_exit = True
        assert (await served.receive())["code"] == 1012
        served.writer.write(frame_message(b"too late", text=True))
        served.done.set()
        with pytest.raises(ConnectionClosed) as closed:
            await client.recv()
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1012


async def test_two_tasks_cannot_wait_for_the_same_message() -> None:
    async with live() as server, server.connected() as (client, served):
        first = asyncio.ensure_future(served.receive())
        await asyncio.sleep(0)
        with pytest.raises(RuntimeError, match="another task"):
            await served.receive()
        await client.send("for the first")
        assert (await first)["text"] == "for the first"


async def test_a_cancelled_receive_loses_nothing() -> None:
    async with live() as server, server.connected() as (client, served):
        waiting = asyncio.ensure_future(served.receive())
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        await client.send("kept")
        assert (await served.receive())["text"] == "kept"


@pytest.mark.parametrize("fragmented", [False, True])
@pytest.mark.parametrize("data", [b"\xff", b'{"a": "\xc3"}', b"\xed\xa0\x80"])
async def test_text_that_is_not_utf_8_is_refused_and_no_error_of_the_server(
    data: bytes, fragmented: bool, caplog: pytest.LogCaptureFixture
) -> None:
    async with live() as server, server.connected() as (client, served):
        await client.send("é")
        assert (await served.receive())["text"] == "é"
        await client.send([data[:1], data[1:]] if fragmented else data, text=True)
        with pytest.raises(ConnectionClosed) as closed:
            await client.recv()
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1007
        assert (await served.receive())["code"] == 1007
    assert not caplog.records
