"""Several processes on one port: they serve together, replace each other, and stop together."""

from __future__ import annotations

import asyncio
import os
import re
import signal
from pathlib import Path

import anyio
import httpx
import pytest

from tests.support.cluster import Node
from tests.support.postgresql import new_database

pytestmark = pytest.mark.anyio


def children(pid: int) -> set[int]:
    return {int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()}


@pytest.mark.skipif(not os.path.exists("/proc/self/task"), reason="there is no /proc")
async def test_workers_share_a_port_and_one_that_dies_is_replaced(tmp_path: Path) -> None:
    node = Node(new_database(), tmp_path / "log", "--workers", "2", "--lease-s", "1")
    await node.start()
    assert node.process is not None
    try:
        assert "in 2 processes" in node.log()
        workers = children(node.process.pid)
        assert len(workers) == 2
        async with node.client() as client:
            view = await client.open("t")
            await client.say("t", "c1", "count 5")
            await client.until_run("t", "completed")
            assert view.state["messages"][1]["content"] == "1 2 3 4 5 "

        (killed, kept) = workers
        os.kill(killed, signal.SIGKILL)
        with anyio.fail_after(60):
            while len(now := children(node.process.pid)) < 2 or killed in now:
                await asyncio.sleep(0.05)
        assert kept in now
        assert (await node.state("t"))["state"] == view.state
        async with node.client() as client:
            await client.open("t")
            await client.say("t", "c2", "hello")
            await client.until_run("t", "completed")
    finally:
        assert await node.stop() == 0
    assert re.search(r"worker \d ended with the status -9; it is started again", node.log())
    assert "Traceback" not in node.log()
    with pytest.raises(httpx.TransportError):
        async with httpx.AsyncClient(timeout=60) as http:
            await http.get(f"http://127.0.0.1:{node.last_port}/healthz")


@pytest.mark.skipif(not os.path.exists("/proc/self/task"), reason="there is no /proc")
async def test_workers_stop_when_the_process_is_gone_that_started_them(tmp_path: Path) -> None:
    node = Node(new_database(), tmp_path / "log", "--workers", "2", "--lease-s", "1")
    await node.start()
    assert node.process is not None
    workers = children(node.process.pid)
    async with node.client() as client:
        await client.open("t")
        await client.say("t", "c1", "count 5 every 100")
        await client.until_run("t", "running")
        await node.kill()
        await client.until_run("t", "completed")
    with anyio.fail_after(20):
        while any(Path(f"/proc/{pid}").exists() for pid in workers):
            await asyncio.sleep(0.05)
    await node.start()  # the port is free again
    assert await node.stop() == 0
    assert "Traceback" not in node.log()


@pytest.mark.parametrize("count", [1, 2])
async def test_the_end_of_the_terminal_is_an_orderly_stop(tmp_path: Path, count: int) -> None:
    node = Node(new_database(), tmp_path / "log", "--workers", str(count))
    await node.start()
    assert node.process is not None
    async with node.client() as client:
        await client.open("t")
        await client.say("t", "c1", "count 5 every 100")
        await client.until_run("t", "running")
        node.process.send_signal(signal.SIGHUP)
        await client.until_run("t", "completed")
    with anyio.fail_after(20):
        assert await node.process.wait() == 0
    assert "Traceback" not in node.log()


async def test_a_worker_that_can_not_start_ends_it_all_with_one_line(tmp_path: Path) -> None:
    node = Node("postgresql://postgres@127.0.0.1:1/none", tmp_path / "log", "--workers", "2")
    with pytest.raises(RuntimeError, match="a worker ended with the status 1 before it served"):
        await node.start()
    assert "Connect" in node.log()
    assert "Traceback" not in node.log()


async def test_more_workers_than_one_are_refused_on_sqlite(tmp_path: Path) -> None:
    node = Node("sqlite:///threads.db", tmp_path / "log", "--workers", "2")
    with pytest.raises(RuntimeError, match="2 processes can't share a sqlite: store, which belongs to one"):
        await node.start()
