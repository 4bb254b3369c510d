"""`threadwire migrate`: the threads of an SQLite file in PostgreSQL, as if they had always been there."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import anyio
import pytest

from tests.support.postgresql import new_database
from tests.support.server import View, running
from tests.support.stores import Owner, own, rows, snapshot_of, write
from threadwire.cli.main import main
from threadwire.core.errors import ErrorInfo
from threadwire.engine.store import CommandChange, RunRecord, Store, ThreadRecord
from threadwire.stores import SQLiteStore, open_store

SCRIPTED = "scripted=threadwire_agents.demos.scripted:scripted"


async def fill(store: Store) -> Owner:
    owner = await own(store)
    for command in ("first", "second", "third"):
        await store.submit("t", command, b'{"type":"x"}', limit=10, now=1.0)
    changes = (
        CommandChange(id="first", status="applied", seq=1),
        CommandChange(id="second", status="rejected", error=ErrorInfo("thread-busy", "no\0 é")),
    )
    run = RunRecord(
        id="r", status="completed", started_at=1.0, ended_at=2.0, error=ErrorInfo("a", "b"), base=1
    )
    await write(store, owner.next(commands=changes, run=run), *[owner.next() for _ in range(20)])
    await store.save_snapshot("t", snapshot_of(owner, 5), keep_after=3)
    await store.save_snapshot("t", snapshot_of(owner, 9), keep_after=3)
    record = ThreadRecord(
        id="u",
        agent="b",
        title="\0 é",
        archived=True,
        created_at=5.5,
        updated_at=6.5,
        custom={"k": [1, "\0"]},
    )
    await store.create(record)
    return owner


async def contents(store: Store) -> list[object]:
    found: list[object] = [await store.threads(archived="include", agent=None, limit=10, cursor=None)]
    found += [await store.log(thread, after=0, limit=1000) for thread in ("t", "u")]
    found += [await store.command("t", command) for command in ("first", "second", "third")]
    found += [await store.runs("t", limit=10), await store.notes("t"), await store.unfinished()]
    found += [await store.snapshot_before("t", seq) for seq in (4, 5, 8, 9, 100)]
    return found


def test_everything_is_there_afterwards_and_goes_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, target = f"sqlite:///{tmp_path / 'threads.db'}", new_database()

    async def before() -> tuple[list[object], Owner]:
        async with open_store(source) as store:
            owner = await fill(store)
            return await contents(store), owner

    async def after() -> list[object]:
        async with open_store(target) as store:
            return await contents(store)

    async def go_on() -> None:
        async with open_store(target) as store:
            owner = await own(store)
            assert owner.epoch > first.epoch
            assert owner.head == first.head + 1
            await owner.write()
            assert (await rows(store, after=first.head))[-1].seq == owner.head
            submission = await store.submit("t", "fourth", b"{}", limit=10, now=1.0)
            assert submission is not None
            third = await store.command("t", "third")
            assert third is not None
            assert submission.record.order > third.order

    expected, first = anyio.run(before)
    assert main(["migrate", source, target]) == 0
    assert "copied 2 threads, 18 updates and 3 commands" in capsys.readouterr().out
    assert anyio.run(after) == expected
    anyio.run(go_on)

    assert main(["migrate", source, target]) == 1
    assert "the database has threads already" in capsys.readouterr().err


@pytest.mark.anyio
async def test_a_client_goes_on_where_it_was(tmp_path: Path) -> None:
    source, target = f"sqlite:///{tmp_path / 'threads.db'}", new_database()
    view = View()
    async with running(tmp_path, SCRIPTED, store=source) as server, server.client() as client:
        client.views["t"] = view
        await client.open("t")
        await client.say("t", "c1", "count 5")
        await client.until_run("t", "completed")
    await anyio.to_thread.run_sync(lambda: main(["migrate", source, target]))
    async with running(tmp_path, SCRIPTED, store=target) as server, server.client() as client:
        client.views["t"] = view
        await client.open("t")
        await client.say("t", "c1", "count 5")
        await client.until(lambda: "c1" in client.commands)
        assert (client.commands["c1"].status, client.commands["c1"].duplicate) == ("applied", True)
        await client.say("t", "c2", "hello")
        await client.until(lambda: client.commands.get("c2") and client.commands["c2"].status == "applied")
        await client.until_run("t", "completed")
    assert view.snapshots == 1


def test_what_can_not_be_migrated_is_said_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "threads.db"
    good = "postgresql://user:secret@127.0.0.1:1/threads"
    assert main(["migrate", f"sqlite:///{path}", good]) == 1
    assert main(["migrate", "memory:", good]) == 2
    assert main(["migrate", f"sqlite:///{path}", "memory:"]) == 2
    assert not path.exists()

    async def make() -> None:
        async with SQLiteStore(path) as store:
            await own(store)

    anyio.run(make)
    assert main(["migrate", f"sqlite:///{path}", good]) == 1
    sqlite3.connect(tmp_path / "other.db").execute("CREATE TABLE thread (id)").connection.close()
    assert main(["migrate", f"sqlite:///{tmp_path / 'other.db'}", good]) == 1
    said = capsys.readouterr().err
    assert "secret" not in said
    assert len(said.splitlines()) == 5
