"""Three servers on one PostgreSQL, clients on all of them, and everything that can go wrong with a node.

The short forms run with all tests; `make soak` lets faults go on for minutes (THREADWIRE_TEST_NODES_S).
"""

from __future__ import annotations

import asyncio
import os
import random
from pathlib import Path

import asyncpg
import pytest

from tests.support.cluster import Load, Node, cluster
from tests.support.postgresql import Server as PostgreSQL
from tests.support.postgresql import new_database, own_server_or_skip

pytestmark = [pytest.mark.anyio, pytest.mark.spec("4.3"), pytest.mark.spec("4.6"), pytest.mark.spec("7.5")]

LEASE_S = 1.0
SECONDS = float(os.environ.get("THREADWIRE_TEST_NODES_S", "0"))
"""How long faults go on; 0 is once each."""
SLACK_S = 10.0
"""What a slow machine may add to each time: less than it takes until a heartbeat, or the long lease's end."""
LONG_LEASE_S = 30.0
THREADS = [f"t{number}" for number in range(4)]
FAULTS = ("kill", "pause", "deaf", "restart", "database")


async def fault(kind: str, node: Node, database: PostgreSQL) -> None:
    match kind:
        case "kill":
            await node.kill()
            await asyncio.sleep(0.3)
            await node.start()
        case "pause":
            node.pause()
            await asyncio.sleep(LEASE_S * 2.5)
            node.resume()
        case "restart":
            assert await node.stop() == 0
            await node.start()
        case "database":
            database.crash()
            await asyncio.sleep(0.3)
            database.start()
        case "deaf":  # notifications are lost until the nodes listen again
            connection = await asyncpg.connect(database.url)
            await connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query ILIKE 'LISTEN%'"
            )
            await connection.close()


async def test_faults_in_rotation_lose_nothing_that_was_shown_or_acknowledged(tmp_path: Path) -> None:
    dice = random.Random(11)
    database = own_server_or_skip()
    try:
        url = new_database(database.url)
        async with (
            cluster(tmp_path, url, 3, lease_s=LEASE_S) as nodes,
            Load(nodes, THREADS, dice=dice) as load,
        ):
            loop = asyncio.get_running_loop()
            await asyncio.sleep(1)
            began = loop.time()
            rounds = 0
            while rounds < len(FAULTS) or loop.time() - began < SECONDS:
                await fault(FAULTS[rounds % len(FAULTS)], dice.choice(nodes), database)
                await asyncio.sleep(LEASE_S * dice.uniform(0.2, 1.5))
                rounds += 1
            await load.finish(60 + SECONDS)
            print(f"{rounds} faults in {loop.time() - began:.0f} s:", await load.check(url), load.errors)
            assert len(load.acknowledged) > 10
            assert not load.rejected
        for node in nodes:
            assert "Traceback" not in node.log(), node.log()
    finally:
        database.remove()


async def test_a_rolling_restart_is_a_short_reconnect(tmp_path: Path) -> None:
    url = new_database()
    async with (
        cluster(tmp_path, url, 3, lease_s=LONG_LEASE_S) as nodes,
        Load(nodes, THREADS, dice=random.Random(5)) as load,
    ):
        await asyncio.sleep(1)
        load.longest_s = 0
        for node in nodes:
            assert await node.stop() == 0
            await node.start()
        longest_s = load.longest_s
        await load.finish()
        print(await load.check(url), f"the longest pause was {longest_s:.2f} s")
        assert not load.rejected
        assert not load.errors
        assert longest_s < 2 + SLACK_S
    for node in nodes:
        assert "Traceback" not in node.log(), node.log()


async def test_a_run_of_an_owner_that_was_killed_is_taken_over_within_the_lease_and_a_second(
    tmp_path: Path,
) -> None:
    url = new_database()
    async with cluster(tmp_path, url, 2, lease_s=LEASE_S) as (owner, other):
        async with await owner.connect() as client, other.client() as reader:
            await client.open("t")
            await client.until(lambda: client.views["t"].seq >= 0)
            view = await reader.open("t")
            await client.say("t", "c1", "count 1000 every 20")
            await reader.until(lambda: view.seq > 5)
            began = asyncio.get_running_loop().time()
            await owner.kill()
            await reader.until_run("t", "failed")
            took_s = asyncio.get_running_loop().time() - began
            assert view.run.error.code == "interrupted-by-crash"
            assert view.snapshots == 1
        print(f"taken over after {took_s:.2f} s with a lease of {LEASE_S} s")
        assert took_s < LEASE_S + 1 + SLACK_S
