"""A reader that stops costs the server little and the others nothing, and catches up exactly."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from tests.support.server import running

pytestmark = pytest.mark.anyio

TOKENS = 100_000
PAUSE_S = float(os.environ.get("THREADWIRE_TEST_PAUSE_S", "5"))


def resident_bytes(pid: int) -> int:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs /proc to read the server's memory")
async def test_a_reader_that_stops_costs_little_and_ends_at_the_exact_state(tmp_path: Path) -> None:
    async with running(tmp_path) as server:
        assert server.process is not None
        async with server.client("json") as fast, server.client("msgpack") as slow:
            await fast.open("t", agent="scripted")
            await slow.open("t", agent="scripted")
            await slow.until(lambda: slow.views["t"].seq >= 0)
            before = resident_bytes(server.process.pid)
            # From here on nothing is read from the slow one's socket.
            slow.socket.transport.pause_reading()
            began = time.monotonic()
            await fast.say("t", "c", f"count {TOKENS}")
            await fast.until_run("t", "completed", timeout_s=120)
            peak = resident_bytes(server.process.pid)
            while time.monotonic() - began < PAUSE_S:
                # The other goes on living meanwhile.
                await fast.send({"type": "ping", "nonce": 1})
                await fast.receive()
                peak = max(peak, resident_bytes(server.process.pid))
            assert peak - before < 64 * 1024 * 1024, (before, peak)
            slow.socket.transport.resume_reading()
            await slow.until_run("t", "completed")
            assert slow.views["t"].state == fast.views["t"].state
            assert slow.views["t"].seq == fast.views["t"].seq
            content = fast.views["t"].state["messages"][-1]["content"]
            assert content == "".join(f"{number} " for number in range(1, TOKENS + 1))
