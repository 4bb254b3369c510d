"""kill -9 of the server at random moments: what was shown is there, what was acknowledged is done once."""

from __future__ import annotations

import asyncio
import os
import random
from pathlib import Path

import anyio
import pytest
from websockets.exceptions import ConnectionClosed

from tests.support.server import Client, Server, View, running, user_messages

pytestmark = pytest.mark.anyio

ROUNDS = int(os.environ.get("THREADWIRE_TEST_KILLS", "20"))


async def test_kill_9_loses_nothing_shown_and_applies_each_acknowledged_command_once(tmp_path: Path) -> None:
    dice = random.Random(7)
    views = {encoding: View() for encoding in ("json", "msgpack")}
    sent: dict[str, str] = {}
    acknowledged: set[str] = set()
    async with running(tmp_path, "scripted=threadwire_agents.demos.scripted:scripted") as server:
        for round_number in range(ROUNDS):
            if round_number:
                await server.start()
            for encoding in ("json", "msgpack"):
                await _check_what_was_shown(server, views[encoding], encoding)
            await _round(server, round_number, views, sent, acknowledged, dice)
        await server.start()
        async with await server.connect() as client:
            view = await client.open("t")
            for id, text in sent.items():
                await client.say("t", id, text)
            await client.until(
                lambda: all(
                    id in client.commands and client.commands[id].status not in ("queued", "running")
                    for id in sent
                ),
                120,
            )
            await client.until(lambda: view.run is not None and view.run.status not in ("queued", "running"))
            state = await server.state("t")
            assert state["state"] == view.state
        statuses = {id: client.commands[id] for id in sent}
        assert all(statuses[id].duplicate for id in acknowledged)
        shown = user_messages(view.state)
        for id in acknowledged:
            expected = 1 if statuses[id].status == "applied" else 0
            assert shown.count(f"m-{id}") == expected, (id, statuses[id], shown)
        applied = [id for id in acknowledged if statuses[id].status == "applied"]
        assert len(applied) >= len(acknowledged) * 0.8
        assert "Traceback" not in server.log()


async def _check_what_was_shown(server: Server, view: View, encoding: str) -> None:
    """A client that comes back gets the updates from where it was, and ends at the server's state."""
    snapshots = view.snapshots
    async with await server.connect(encoding) as client:  # type: ignore[arg-type]
        client.views["t"] = view
        first = view.since is None
        await client.open("t")
        view.run = None
        await client.until(lambda: view.run is not None or (first and view.seq >= 0))
        assert view.snapshots == snapshots + first, "what was shown is no longer in the log"
        fresh = View()
        async with await server.connect() as other:
            other.views["t"] = fresh
            await other.open("t")
            await other.until(lambda: fresh.seq >= 0)
            await client.until(lambda: view.seq >= fresh.seq)
            await other.until(lambda: fresh.seq >= view.seq)
            assert fresh.state == view.state


async def _round(
    server: Server,
    number: int,
    views: dict[str, View],
    sent: dict[str, str],
    acknowledged: set[str],
    dice: random.Random,
) -> None:
    clients = [await server.connect(encoding) for encoding in ("json", "msgpack")]  # type: ignore[arg-type]

    async def read(client: Client) -> None:
        try:
            while True:
                for frame in await client.receive():
                    if frame.__struct_config__.tag == "command" and frame.status != "rejected":
                        acknowledged.add(frame.id)
        except ConnectionClosed:
            pass

    async with anyio.create_task_group() as group:
        for client in clients:
            client.views["t"] = views[client.encoding]
            await client.open("t")
            group.start_soon(read, client)
        for index in range(dice.randint(1, 4)):
            id = f"{number}-{index}"
            sent[id] = f"count {dice.choice((5, 50, 2000))}"
            await dice.choice(clients).say("t", id, sent[id])
            await asyncio.sleep(dice.random() * 0.05)
        await asyncio.sleep(dice.random() * 0.25)
        await server.kill()
    for client in clients:
        await client.socket.close()
