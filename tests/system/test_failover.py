"""The database fails over to a standby: what was acknowledged is there, or clients begin from what is."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import anyio
import asyncpg
import pytest

import threadwire
from tests.support.engine import Reader, engine, follow, say
from tests.support.postgresql import Server, own_server_or_skip
from threadwire.core.frames import Snapshot
from threadwire.engine.settings import Settings
from threadwire.engine.threads import Threads
from threadwire.stores.postgresql import PostgreSQLStore

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.spec("4.2"),
    pytest.mark.spec("9.2"),
]


PATIENT = Settings(store_patience_s=60)


@threadwire.agent
async def counting(run: threadwire.Run) -> None:
    run.state["count"] = ""
    for number in range(300):
        run.append_text(("count",), f"{number} ")
        await asyncio.sleep(0.01)


@pytest.fixture
def pair() -> Iterator[tuple[Server, Server]]:
    primary = own_server_or_skip()
    standby = None
    try:
        standby = Server("hot_standby=on", standby_of=primary)
        yield primary, standby
    finally:
        primary.remove()
        if standby is not None:
            standby.remove()


def store(primary: Server, standby: Server) -> PostgreSQLStore:
    hosts = f"127.0.0.1:{primary.port},127.0.0.1:{standby.port}"
    url = f"postgresql://postgres@{hosts}/postgres?target_session_attrs=read-write"
    return PostgreSQLStore(url, lease_s=1)


async def until_count(reader: Reader, number: int) -> None:
    await reader.until(lambda: f" {number} " in (reader.state or {}).get("count", ""))


async def begin(threads: Threads) -> Reader:
    reader = await follow(await threads.get("t"))
    await (await threads.get("t")).submit("c", say("go"), strategy=None, watcher=lambda state: None)
    return reader


def snapshots(reader: Reader) -> int:
    return sum(isinstance(frame, Snapshot) for frame in reader.frames)


async def test_with_a_synchronous_standby_nothing_is_lost_and_the_run_goes_on(
    pair: tuple[Server, Server],
) -> None:
    primary, standby = pair
    connection = await asyncpg.connect(primary.url)
    await connection.execute("ALTER SYSTEM SET synchronous_standby_names = '*'")
    await connection.execute("SELECT pg_reload_conf()")
    await connection.close()
    async with engine(counting, store=store(primary, standby), settings=PATIENT) as threads:
        reader = await begin(threads)
        await until_count(reader, 20)
        primary.crash()
        standby.promote()
        # No standby is left to wait for.
        connection = await asyncpg.connect(standby.url)
        await connection.execute("ALTER SYSTEM RESET synchronous_standby_names")
        await connection.execute("SELECT pg_reload_conf()")
        await connection.close()
        with anyio.fail_after(120):
            while not any(run is not None and run.status == "completed" for run in reader.runs):
                await asyncio.sleep(0.05)
        assert reader.state["count"].split() == [str(number) for number in range(300)]
        assert snapshots(reader) == 1
        assert not reader.lost_subscribers


async def test_with_a_standby_that_lags_behind_clients_begin_anew_from_what_it_has(
    pair: tuple[Server, Server],
) -> None:
    primary, standby = pair
    async with engine(counting, store=store(primary, standby), settings=PATIENT) as threads:
        reader = await begin(threads)
        await until_count(reader, 20)
        standby.crash()
        await until_count(reader, 60)
        shown = reader.position
        primary.crash()
        standby.start()
        standby.promote()
        with anyio.fail_after(120):
            while not any(run is not None and run.status == "failed" for run in reader.runs):
                await asyncio.sleep(0.05)
        assert snapshots(reader) == 2, "it led on from what is lost"
        assert shown is not None
        assert reader.position is not None
        assert reader.position[0] > shown[0]
        fresh = await follow(await threads.get("t"))
        await fresh.until(lambda: fresh.position == reader.position)
        assert fresh.state == reader.state
        assert not reader.lost_subscribers
