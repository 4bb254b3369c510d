"""Three servers on one PostgreSQL, clients on all of them, and everything that can go wrong with a node.

The short forms run with all tests; `make soak` lets faults go on for minutes (THREADWIRE_TEST_NODES_S).
"""

from __future__ import annotations

import asyncio
import random
from pathlib import Path

import pytest

from tests.support.cluster import Load, Node, cluster
from tests.support.postgresql import Server as PostgreSQL
from tests.support.postgresql import new_database, own_server_or_skip

pytestmark = [pytest.mark.anyio, pytest.mark.spec("4.3"), pytest.mark.spec("4.6"), pytest.mark.spec("7.5")]

LEASE_S = 1.0
THREADS = [f"t{number}" for number in range(4)]


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


@pytest.mark.parametrize("kind", ["kill", "pause", "restart", "database", "all"])
async def test_faults_lose_nothing_that_was_shown_or_acknowledged(kind: str, tmp_path: Path) -> None:
    dice = random.Random(11)
    database = own_server_or_skip()
    try:
        url = new_database(database.url)
        async with (
            cluster(tmp_path, url, 3, lease_s=LEASE_S) as nodes,
            Load(nodes, THREADS, dice=dice) as load,
        ):
            await asyncio.sleep(1)
            kinds = ["kill", "pause", "restart", "database"]
            for number in range(4 if kind == "all" else 2):
                now = kinds[number % 4] if kind == "all" else kind
                await fault(now, nodes[number % 3], database)
                await asyncio.sleep(LEASE_S + 0.5)
            await load.finish()
            print(kind, await load.check(url), f"longest pause {load.longest_s:.2f} s", load.errors)
        for node in nodes:
            assert "Traceback" not in node.log(), node.log()
    finally:
        database.remove()
