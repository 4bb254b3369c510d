"""Abrupt cuts of the connection while tokens stream: resumed without a gap, a double or a snapshot."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path

import pytest

from tests.support.server import View, running

pytestmark = pytest.mark.anyio

CUTS = 200
TOKENS = 5000


@pytest.mark.parametrize("encoding", ["json", "msgpack"])
async def test_200_cuts_of_a_5000_token_run_are_resumed_exactly(tmp_path: Path, encoding: str) -> None:
    dice = random.Random(11)
    view = View()
    cuts = 0
    async with running(tmp_path) as server:
        async with await server.connect() as sender:
            await sender.open("t", agent="scripted")
            await sender.say("t", "c", f"count {TOKENS} every 1")
            await sender.until(lambda: "c" in sender.commands)
            while cuts < CUTS or view.run is None or view.run.status in ("queued", "running"):
                client = await server.connect(encoding)  # type: ignore[arg-type]
                client.views["t"] = view
                view.run = None
                await client.open("t", agent="scripted")
                if cuts < CUTS:
                    frames = dice.randint(0, 12)
                    while len(client.frames) <= frames:
                        await client.receive()
                        if view.run is not None and view.run.status == "completed":
                            break
                    client.cut()
                    await asyncio.sleep(0)
                    cuts += 1
                else:
                    await client.until_run("t", "completed", timeout_s=120)
                await client.socket.close()
        assert view.snapshots == 1
        content = view.state["messages"][-1]["content"]
        assert content == "".join(f"{number} " for number in range(1, TOKENS + 1))
        state = await server.state("t")
        assert (state["state"], state["epoch"], state["seq"]) == (view.state, view.epoch, view.seq)
