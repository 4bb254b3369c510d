"""SQLiteStore as a file: who may open it, what it looks like, opening and closing."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path

import anyio
import pytest

from tests.support.stores import TIMEOUT_S, own
from threadwire.core.errors import StoreError, StoreLocked, StoreUnavailable
from threadwire.engine.store import Append
from threadwire.stores import SQLiteStore, sqlite_schema

pytestmark = pytest.mark.anyio


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "threads.db"


async def refusal(path: Path) -> str:
    """The error that opening the file ends with: one line that names the file."""
    with pytest.raises(StoreError) as caught:
        async with SQLiteStore(path):
            pass
    message = str(caught.value)
    assert str(path) in message
    assert "\n" not in message
    return message


def join_writers() -> None:
    """Returns when the threads of stores that nobody waits for have ended."""
    for thread in threading.enumerate():
        if thread.name == "threadwire-sqlite-write":
            thread.join(TIMEOUT_S)
            assert not thread.is_alive()


# the lock


async def test_another_process_is_refused_while_the_store_is_open(path: Path) -> None:
    script = """if True:
        import anyio, sys
        from threadwire.core.errors import StoreLocked
        from threadwire.stores import SQLiteStore
        async def main():
            try:
                async with SQLiteStore(sys.argv[1]) as store:
                    assert await store.thread("t") is not None
            except StoreLocked as error:
                print(error)
        anyio.run(main)
    """
    command = [sys.executable, "-c", script, str(path)]
    async with SQLiteStore(path) as store:
        await own(store)
        refused = await anyio.run_process(command)
        assert refused.stdout.decode() == f"{path} is open in another process (pid {os.getpid()})\n"
        await (await own(store)).write()
    assert (await anyio.run_process(command)).stdout == b""


async def test_a_second_store_of_the_same_process_is_refused(path: Path) -> None:
    async with SQLiteStore(path) as store:
        with pytest.raises(StoreLocked):
            await SQLiteStore(path).__aenter__()
        link = path.with_name("link.db")
        link.symlink_to(path)
        with pytest.raises(StoreLocked):
            await SQLiteStore(link).__aenter__()
        with pytest.raises(StoreLocked):
            await store.__aenter__()
        await (await own(store)).write()
    async with SQLiteStore(path):
        pass


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
async def test_a_forked_child_does_not_keep_the_lock_of_its_dead_parent(path: Path) -> None:
    script = """if True:
        import anyio, os, sys
        from threadwire.stores import SQLiteStore
        async def main():
            async with SQLiteStore(sys.argv[1]):
                if os.fork():
                    os._exit(0)
                print("forked", flush=True)
                sys.stdin.read()
                os._exit(0)
        anyio.run(main)
    """
    command = [sys.executable, "-W", "ignore", "-c", script, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        assert parent.stdout.readline() == b"forked\n"
        assert parent.wait(TIMEOUT_S) == 0
        async with SQLiteStore(path):
            pass


async def test_the_lock_is_let_go_where_opening_fails(path: Path) -> None:
    path.write_bytes(b"no database" * 1000)
    await refusal(path)
    path.unlink()
    async with SQLiteStore(path):
        pass


# the file


async def test_missing_directories_are_made(tmp_path: Path) -> None:
    path = tmp_path / "some" / "where" / "threads.db"
    async with SQLiteStore(path) as store:
        await own(store)
    assert path.is_file()


async def test_a_relative_path_stays_with_its_file(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(path.parent)
    async with SQLiteStore(path.name) as store:
        (path.parent / "elsewhere").mkdir()
        monkeypatch.chdir(path.parent / "elsewhere")
        await (await own(store)).write()
        assert await store.row_epoch("t", 1) is not None
        await store.check()
    assert os.listdir() == []


@pytest.mark.parametrize("name", ["with space.db", "100%.db", "a?b#c.db", "ä.db", "%2e.db"])
async def test_any_file_name_will_do(tmp_path: Path, name: str) -> None:
    async with SQLiteStore(tmp_path / name) as store:
        await own(store)
        assert await store.thread("t") is not None
    assert (tmp_path / name).is_file()


async def test_a_closed_store_is_one_sound_file(path: Path) -> None:
    async with SQLiteStore(path) as store:
        await (await own(store)).write(100)
        assert await store.row_epoch("t", 100) is not None
    assert sorted(each.name for each in path.parent.iterdir()) == ["threads.db", "threads.db.lock"]
    connection = sqlite3.connect(path)
    assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    assert connection.execute("PRAGMA foreign_key_check").fetchall() == []
    assert connection.execute("SELECT count(*) FROM log").fetchone() == (100,)
    connection.close()


async def test_a_directory_is_refused(tmp_path: Path) -> None:
    assert await refusal(tmp_path) == f"{tmp_path} is a directory"


async def test_a_file_that_is_no_database_is_refused_and_left_alone(path: Path) -> None:
    path.write_bytes(b"no database" * 1000)
    assert "file is not a database" in await refusal(path)
    assert path.read_bytes() == b"no database" * 1000


@pytest.mark.parametrize("mark", ["CREATE TABLE thread (id)", "PRAGMA application_id = 7"])
async def test_a_database_of_another_application_is_refused_and_left_alone(path: Path, mark: str) -> None:
    connection = sqlite3.connect(path)
    connection.execute(mark)
    connection.commit()
    connection.close()
    before = path.read_bytes()
    assert "another application" in await refusal(path)
    assert path.read_bytes() == before
    assert sorted(each.name for each in path.parent.iterdir()) == ["threads.db", "threads.db.lock"]


async def test_an_empty_file_becomes_a_store(path: Path) -> None:
    path.touch()
    async with SQLiteStore(path) as store:
        await own(store)


async def test_a_damaged_database_is_refused(path: Path) -> None:
    async with SQLiteStore(path) as store:
        await own(store)
    content = path.read_bytes()
    path.write_bytes(content[:100] + b"\xff" * 3000 + content[3100:])
    await refusal(path)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read and write all")
async def test_a_file_without_permissions_is_refused(path: Path) -> None:
    async with SQLiteStore(path):
        pass
    path.chmod(0o444)
    await refusal(path)
    path.chmod(0o000)
    await refusal(path)


async def test_a_path_through_a_file_is_refused(path: Path) -> None:
    path.touch()
    await refusal(path / "threads.db")


# schema versions


async def test_a_newer_schema_is_refused_and_an_older_one_migrated(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with SQLiteStore(path) as store:
        await (await own(store)).write()
    newer = (*sqlite_schema.MIGRATIONS, ("ALTER TABLE thread_meta ADD COLUMN colour TEXT",))
    with monkeypatch.context() as patch:
        patch.setattr(sqlite_schema, "MIGRATIONS", newer)
        for _ in range(2):
            async with SQLiteStore(path) as store:
                assert await store.row_epoch("t", 1) is not None
    connection = sqlite3.connect(path)
    assert connection.execute("SELECT colour FROM thread_meta").fetchall() == [(None,)]
    connection.close()
    assert "written by a newer version" in await refusal(path)


async def test_a_migration_that_fails_changes_nothing(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with SQLiteStore(path) as store:
        await own(store)
    failing = (*sqlite_schema.MIGRATIONS, ("CREATE TABLE colour (name)", "no SQL"))
    with monkeypatch.context() as patch:
        patch.setattr(sqlite_schema, "MIGRATIONS", failing)
        await refusal(path)
    async with SQLiteStore(path) as store:
        assert await store.thread("t") is not None


# connections


async def test_the_writer_syncs_fully_and_readers_can_neither_write_nor_checkpoint(path: Path) -> None:
    def pragma(connection: sqlite3.Connection, name: str) -> object:
        return connection.execute(f"PRAGMA {name}").fetchone()[0]

    writer = sqlite_schema.open_writer(str(path), "threads.db")
    reader = sqlite_schema.open_reader(str(path))
    assert pragma(writer, "journal_mode") == "wal"
    assert pragma(writer, "synchronous") == 2
    assert pragma(writer, "fullfsync") == 1
    assert pragma(writer, "foreign_keys") == 1
    assert pragma(writer, "mmap_size") == pragma(reader, "mmap_size") == 0
    assert pragma(reader, "wal_autocheckpoint") == 0
    with pytest.raises(sqlite3.OperationalError, match="readonly"):
        reader.execute("UPDATE store SET epoch = 1")
    reader.close()
    writer.close()


async def test_a_reader_never_makes_a_file(path: Path) -> None:
    with pytest.raises(sqlite3.OperationalError):
        sqlite_schema.open_reader(str(path))
    assert not path.exists()


async def test_the_first_epoch_is_at_least_the_clock(path: Path) -> None:
    async with SQLiteStore(path, clock=lambda: 5e9) as store:
        assert (await own(store, now=0.0)).epoch >= 5e12
    async with SQLiteStore(path, clock=lambda: 0.0) as store:
        assert (await own(store, "u", now=0.0)).epoch > 5e12 + 1


# opening and closing


async def test_a_store_that_is_not_open_is_unavailable(path: Path) -> None:
    store = SQLiteStore(path)
    for _ in range(2):
        errors: list[Exception | None] = []
        store.append(Append(thread="t", epoch=1, seq=1, data=b"\x90"), errors.append)
        assert isinstance(errors[0], StoreUnavailable)
        with pytest.raises(StoreUnavailable, match="is not open"):
            await store.acquire("t", agent="a", now=0.0)
        with pytest.raises(StoreUnavailable, match="is not open"):
            await store.thread("t")
        with pytest.raises(StoreUnavailable, match="is not open"):
            await store.check()
        async with store:
            await own(store)


async def test_reads_and_writes_under_way_are_finished_before_closing(path: Path) -> None:
    store = SQLiteStore(path)
    async with store:
        await (await own(store)).write(10)
        reads = [asyncio.create_task(store.row_epoch("t", seq)) for seq in range(1, 11)]
        submit = asyncio.create_task(store.submit("t", "c", b"{}", limit=10, now=1.0))
        await asyncio.sleep(0)
    with anyio.fail_after(TIMEOUT_S):
        assert None not in await asyncio.gather(submit, *reads)


async def test_cancelled_while_opening_the_store_closes_behind(path: Path) -> None:
    opening = asyncio.create_task(SQLiteStore(path).__aenter__())
    await asyncio.sleep(0)
    opening.cancel()
    with pytest.raises(asyncio.CancelledError):
        await opening
    join_writers()
    async with SQLiteStore(path) as store:
        await own(store)


async def test_cancelled_while_closing_the_store_closes_all_the_same(path: Path) -> None:
    errors: list[Exception | None] = []
    store = await SQLiteStore(path).__aenter__()
    owner = await own(store)
    for _ in range(500):
        store.append(owner.next(), errors.append)
    closing = asyncio.create_task(store.__aexit__(None, None, None))
    await asyncio.sleep(0)
    closing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await closing
    join_writers()
    async with SQLiteStore(path) as store:
        assert await store.row_epoch("t", 500) is not None
    assert errors == [None] * 500


def test_a_store_whose_loop_is_gone_lets_go_of_its_file(path: Path) -> None:
    async def leave_open() -> None:
        store = await SQLiteStore(path).__aenter__()
        owner = await own(store)
        for _ in range(500):
            store.append(owner.next(), lambda error: None)

    async def reopen() -> None:
        async with SQLiteStore(path) as store:
            assert await store.thread("t") is not None

    asyncio.run(leave_open())
    join_writers()
    asyncio.run(reopen())


async def test_check_fails_where_the_file_was_removed_or_replaced(path: Path) -> None:
    async with SQLiteStore(path) as store:
        await store.check()
        moved = path.rename(path.with_name("moved.db"))
        with pytest.raises(StoreUnavailable, match="removed or replaced"):
            await store.check()
        path.write_bytes(b"")
        with pytest.raises(StoreUnavailable, match="removed or replaced"):
            await store.check()
        moved.rename(path)
        await store.check()
