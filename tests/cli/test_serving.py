"""A server process from its start to its end by signals."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import httpx
import pytest
from websockets.exceptions import ConnectionClosed

import threadwire
from tests.support.server import Client, Server, running
from threadwire import create_app
from threadwire.cli import serving as command
from threadwire.cli.errors import StartupError
from threadwire.cli.serving import bind

pytestmark = pytest.mark.anyio

AGENTS = """
import asyncio
import time

async def take_up(run):
    run.state["messages"] = len([command async for command in _all(run)])

async def _all(run):
    for command in run.commands:
        yield command

async def quick(run):
    await take_up(run)

async def half_a_second(run):
    await take_up(run)
    await run.flush()
    await asyncio.sleep(0.5)
    run.state["ended"] = True

async def endless(run):
    await take_up(run)
    await run.flush()
    await asyncio.sleep(3600)

async def stubborn(run):
    await take_up(run)
    await run.flush()
    while True:
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            pass

def stuck(run):
    run.state["stuck"] = True
    time.sleep(3600)
"""


@asynccontextmanager
async def serving(tmp_path: Path, agent: str, *options: str) -> AsyncIterator[Server]:
    (tmp_path / "my_agents.py").write_text(AGENTS)
    async with running(tmp_path, f"my_agents.py:{agent}", *options) as server:
        yield server


async def started(client: Client) -> None:
    """A run is on its way on thread t."""
    await client.open("t")
    await client.say("t", "c", "hello")
    await client.until_run("t", "running", "completed")


async def closed(client: Client) -> ConnectionClosed:
    """Reads to the end of the connection, and tells how it was closed."""
    with anyio.fail_after(60):
        while True:
            try:
                await client.receive()
            except ConnectionClosed as end:
                return end


async def ended(server: Server) -> int:
    assert server.process is not None
    with anyio.fail_after(60):
        return await server.process.wait()


def signal_to(server: Server, number: signal.Signals) -> None:
    assert server.process is not None
    server.process.send_signal(number)


async def test_the_start_is_announced_with_the_real_port_and_nothing_else(tmp_path: Path) -> None:
    async with serving(tmp_path, "quick", "other=my_agents:endless", "--host", "127.0.0.1") as server:
        lines = server.log().splitlines()
        assert lines[0].endswith(f"serves on http://127.0.0.1:{server.port} (Ctrl-C stops it)")
        assert lines[1:] == [
            "  agents     quick (default), other",
            f"  store      sqlite:///{tmp_path / 'threads.db'}",
            f"  websocket  ws://127.0.0.1:{server.port}/ws",
            f"  assistant  http://127.0.0.1:{server.port}/assistant",
        ]


async def test_an_idle_server_stops_at_once_with_status_0(tmp_path: Path) -> None:
    async with serving(tmp_path, "quick") as server:
        assert await server.stop() == 0
        assert "Traceback" not in server.log()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_stop_says_goodbye_lets_the_run_end_and_closes_with_1012(
    tmp_path: Path, number: signal.Signals
) -> None:
    async with serving(tmp_path, "half_a_second") as server, server.client() as client:
        await started(client)
        signal_to(server, number)
        end = await closed(client)
        assert end.rcvd is not None
        assert end.rcvd.code == 1012
        assert "Goodbye" in [type(frame).__name__ for frame in client.frames]
        assert client.views["t"].run.status == "completed"
        assert client.views["t"].state == {"messages": 1, "ended": True}
        assert await ended(server) == 0
        assert "Traceback" not in server.log()


@pytest.mark.parametrize("agent", ["endless", "stubborn", "stuck"])
async def test_a_run_that_goes_on_does_not_keep_the_server(tmp_path: Path, agent: str) -> None:
    async with serving(tmp_path, agent, "--drain-s", "0.1") as server, server.client() as client:
        await started(client)
        signal_to(server, signal.SIGTERM)
        await closed(client)
        assert await ended(server) == 0
        assert "Traceback" not in server.log()
        assert "destroyed" not in server.log()


async def test_new_connections_are_refused_while_runs_end(tmp_path: Path) -> None:
    async with serving(tmp_path, "endless", "--drain-s", "30") as server, server.client() as client:
        await started(client)
        signal_to(server, signal.SIGTERM)
        await client.until(lambda: "Goodbye" in [type(frame).__name__ for frame in client.frames])
        async with httpx.AsyncClient(timeout=60) as http:
            with pytest.raises(httpx.ConnectError):
                await http.get(f"{server.url}/healthz")


async def test_a_second_ctrl_c_does_not_wait(tmp_path: Path) -> None:
    async with serving(tmp_path, "stubborn", "--drain-s", "3600") as server, server.client() as client:
        await started(client)
        signal_to(server, signal.SIGINT)
        await client.until(lambda: "Goodbye" in [type(frame).__name__ for frame in client.frames])
        signal_to(server, signal.SIGINT)
        assert await ended(server) == 130
        assert "Traceback" not in server.log()


async def test_a_client_that_reads_nothing_does_not_keep_the_server(tmp_path: Path) -> None:
    async with serving(tmp_path, "quick") as server:
        with socket.socket() as peer:
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            peer.setblocking(False)
            loop = asyncio.get_running_loop()
            await loop.sock_connect(peer, ("127.0.0.1", server.port))
            await loop.sock_sendall(
                peer,
                b"GET /ws HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n",
            )
            await loop.sock_recv(peer, 1)
            # Pings whose answers fill the buffers of both sides.
            ping = b'{"type":"ping","nonce":"' + b"x" * 60_000 + b'"}'
            frame = b"\x81\xfe" + len(ping).to_bytes(2) + b"\0\0\0\0" + ping
            with anyio.move_on_after(1):
                for _ in range(100):
                    await loop.sock_sendall(peer, frame)
            assert await server.stop() == 0
            assert "Traceback" not in server.log()
            assert "timeout" not in server.log()


async def test_a_locked_store_is_one_line_and_status_1(tmp_path: Path) -> None:
    async with serving(tmp_path, "quick") as server:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "threadwire", "serve", "my_agents.py:quick", "--port", "0"),
            *("--store", f"sqlite:///{tmp_path / 'threads.db'}"),
            cwd=tmp_path,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        with anyio.fail_after(60):
            out, err = await process.communicate()
        assert out == b""
        assert err.decode().startswith("threadwire: the store sqlite:///")
        assert "is open in another process" in err.decode()
        assert err.count(b"\n") == 1
        assert process.returncode == 1
        assert await server.stop() == 0


async def test_requests_are_logged_at_debug_and_probes_never(tmp_path: Path) -> None:
    async with serving(tmp_path, "quick", "--log-level", "debug") as server:
        async with httpx.AsyncClient(timeout=60) as http:
            await http.get(f"{server.url}/healthz?from=probe")
            await http.get(f"{server.url}/threads")
        assert await server.stop() == 0
        assert '"GET /threads HTTP/1.1" 200' in server.log()
        assert "/healthz" not in server.log()
        assert "/readyz" not in server.log()


def test_a_host_of_several_addresses_gets_one_port() -> None:
    listeners = bind("localhost", 0)
    try:
        assert len({listener.getsockname()[1] for listener in listeners}) == 1
    finally:
        for listener in listeners:
            listener.close()


def test_a_port_in_use_is_said() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(StartupError, match=f"port {port} on 127.0.0.1 is in use"):
            bind("127.0.0.1", port)


class Lost(Exception):
    """What goes wrong."""


class QuietServer(command.Server):
    """Leaves the process's signals alone."""

    capture_signals = contextlib.nullcontext  # type: ignore[assignment]


async def quick(run: threadwire.Run) -> None: ...


@pytest.mark.parametrize("when", ["starting", "serving", "stopping"])
async def test_what_fails_beside_the_connections_is_raised_and_ends_the_server(when: str) -> None:
    application = create_app(agents={"agent": quick}, store="memory:")

    @asynccontextmanager
    async def failing() -> AsyncIterator[None]:
        if when == "starting":
            raise Lost
        async with running_application(), anyio.create_task_group() as group:
            if when == "serving":
                group.start_soon(fail)
            yield
        raise Lost

    async def fail() -> None:
        await started.wait()
        raise Lost

    started = asyncio.Event()
    running_application = application.running
    application.running = failing  # type: ignore[method-assign]
    server = QuietServer(application, drain_s=0, on_started=started.set)
    with anyio.fail_after(60), socket.create_server(("127.0.0.1", 0)) as listener:
        serving = asyncio.ensure_future(server.serve([listener]))
        if when == "stopping":
            await started.wait()
            server.should_exit = True
        with pytest.raises((Lost, ExceptionGroup)):
            await serving
    assert server.started is (when != "starting")


def test_the_server_may_have_as_many_connections_as_the_system_allows() -> None:
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (256, before[1]))
        command.allow_many_connections()
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        assert hard == before[1]
        assert soft == (min(command.FILES, hard) if hard != resource.RLIM_INFINITY else command.FILES)
        command.allow_many_connections()
        assert resource.getrlimit(resource.RLIMIT_NOFILE) == (soft, hard)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
