"""SQLiteStore when a write fails: what fails with it, what doesn't, and how it goes on."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.support.stores import Owner, own, row, write
from threadwire.core.errors import StoreError, StoreUnavailable, WriteConflict
from threadwire.engine.store import Append, Owned, StoredSnapshot
from threadwire.stores import SQLiteStore, sqlite_queries, sqlite_schema, sqlite_writer

pytestmark = pytest.mark.anyio


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "threads.db"


@pytest.fixture
async def store(path: Path) -> AsyncIterator[SQLiteStore]:
    async with SQLiteStore(path) as store:
        yield store


class FaultyConnection(sqlite3.Connection):
    """Raises in the place of the statements that begin with what `faults` lists, once for each."""

    faults: list[str]

    def execute(self, sql: str, *parameters: Any) -> sqlite3.Cursor:
        for fault in self.faults:
            if sql.startswith(fault):
                self.faults.remove(fault)
                raise sqlite3.OperationalError("disk I/O error")
        return super().execute(sql, *parameters)


@pytest.fixture
def faults(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The statements that are to fail next, in stores opened in the test."""
    FaultyConnection.faults = []
    monkeypatch.setattr(sqlite3, "connect", partial(sqlite3.connect, factory=FaultyConnection))
    return FaultyConnection.faults


@contextmanager
def full_disk() -> Iterator[None]:
    """No file of this process can grow beyond a page."""
    resource = pytest.importorskip("resource")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


async def rows_of(store: SQLiteStore, thread: str) -> list[bytes]:
    found = await store.log(thread, after=0, limit=10_000)
    assert found is not None
    return [each.data for each in found.rows]


async def check_recovered(store: SQLiteStore, owner: Owner, *entries: Append) -> None:
    """The entries were not written, and can be given again."""
    rows = await rows_of(store, owner.id)
    assert rows == [row(number) for number in range(1, len(rows) + 1)]
    assert len(rows) == entries[0].seq - 1
    assert await write(store, *entries) == [None] * len(entries)
    await owner.write()
    assert len(await rows_of(store, owner.id)) == len(rows) + len(entries) + 1
    await store.check()


# one job's fault


async def test_an_append_that_cannot_be_stored_fails_alone(store: SQLiteStore) -> None:
    owners = [await own(store, f"t{number}") for number in range(50)]
    entries = [owner.next() for owner in owners]
    entries[20] = Append(thread="t20", epoch=owners[20].epoch, seq=2**70, data=b"\x90")
    entries[30] = Append(thread="t30", epoch=owners[30].epoch - 1, seq=1, data=b"\x90")
    entries[40] = Append(thread="t\ud800", epoch=1, seq=1, data=b"\x90")

    errors = await write(store, *entries)

    assert [number for number, error in enumerate(errors) if error] == [20, 30, 40]
    assert type(errors[20]) is type(errors[40]) is StoreError
    assert type(errors[30]) is WriteConflict
    assert isinstance(errors[20].__cause__, OverflowError)
    for number in (0, 19, 21, 49):
        assert await rows_of(store, f"t{number}") == [row(1)]
    assert await rows_of(store, "t20") == []


async def test_a_call_that_cannot_be_stored_fails_alone(store: SQLiteStore) -> None:
    owner = await own(store)
    results = await asyncio.gather(
        write(store, owner.next()),
        store.update_thread("t", title="\ud800", now=1.0),
        store.submit("t", "c", b"{}", limit=10, now=1.0),
        store.save_snapshot("t", StoredSnapshot(1, owner.epoch, "text"), keep_after=0),  # type: ignore[arg-type]
        write(store, owner.next()),
        return_exceptions=True,
    )
    assert (results[0], results[4]) == ([None], [None])
    assert type(results[1]) is StoreError
    assert await store.command("t", "c") is not None
    record = await store.thread("t")
    assert record is not None
    assert record.title is None


async def test_a_callback_that_raises_is_reported_and_harms_no_other(store: SQLiteStore) -> None:
    owner = await own(store)
    reported: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: reported.append(context))
    calls: list[Exception | None] = []

    def fail(error: Exception | None) -> None:
        raise RuntimeError("of the callback")

    store.append(owner.next(), fail)
    store.append(owner.next(), calls.append)
    await owner.write()

    assert calls == [None]
    assert [str(context["exception"]) for context in reported] == ["of the callback"]


async def test_done_is_called_on_the_loops_thread(store: SQLiteStore) -> None:
    owner = await own(store)
    threads: list[int] = []
    store.append(owner.next(), lambda error: threads.append(threading.get_ident()))
    await owner.write()
    assert threads == [threading.get_ident()]


async def test_a_cancelled_call_is_carried_out_and_harms_no_other(store: SQLiteStore) -> None:
    await own(store)
    call = asyncio.create_task(store.submit("t", "c", b"{}", limit=10, now=1.0))
    await asyncio.sleep(0)
    call.cancel()
    await asyncio.gather(call, return_exceptions=True)
    again = await store.submit("t", "c", b"{}", limit=10, now=1.0)
    assert again is not None
    assert again.created is False


# the file's fault


async def test_a_full_disk_is_unavailable_until_there_is_room(store: SQLiteStore) -> None:
    owner = await own(store)
    await owner.write(3)
    entries = [owner.next(), owner.next()]
    with full_disk():
        errors = await write(store, *entries)
        assert [type(error) for error in errors] == [StoreUnavailable, StoreUnavailable]
        with pytest.raises(StoreUnavailable):
            await store.submit("t", "c", b"{}", limit=10, now=1.0)
        with pytest.raises(StoreUnavailable):
            await store.acquire("other", agent="a", now=1.0)
        with pytest.raises(StoreUnavailable):
            await store.check()
        assert await rows_of(store, "t") == [row(1), row(2), row(3)]
    assert await store.command("t", "c") is None
    assert await store.thread("other") is None
    await check_recovered(store, owner, *entries)


@pytest.mark.parametrize(
    "failing",
    [
        ["BEGIN"],
        ["UPDATE thread"],
        ["INSERT INTO log"],
        ["COMMIT"],
        ["COMMIT", "ROLLBACK"],
        ["COMMIT", "ROLLBACK", "PRAGMA"],
        ["COMMIT", "COMMIT", "COMMIT"],
    ],
    ids=" ".join,
)
async def test_an_io_error_fails_the_whole_batch_and_the_next_goes_on(
    path: Path, faults: list[str], failing: list[str]
) -> None:
    async with SQLiteStore(path) as store:
        owner = await own(store)
        await owner.write(3)
        entries = [owner.next(), owner.next()]
        faults += failing
        while faults:
            errors = await write(store, *entries)
            assert [type(error) for error in errors] == [StoreUnavailable, StoreUnavailable]
            assert str(path) in str(errors[0])
        await check_recovered(store, owner, *entries)


async def test_a_connection_given_up_is_not_replaced_by_one_to_another_file(
    path: Path, faults: list[str]
) -> None:
    async with SQLiteStore(path) as store:
        owner = await own(store)
        moved = path.rename(path.with_name("moved.db"))
        entry = owner.next()
        faults += ["COMMIT", "ROLLBACK"]
        for _ in range(2):
            (error,) = await write(store, entry)
            assert type(error) is StoreUnavailable
        with pytest.raises(StoreUnavailable, match="removed or replaced"):
            await store.thread("t")
        assert not path.exists()
        moved.rename(path)
        await check_recovered(store, owner, entry)


async def test_a_read_error_is_unavailable_and_the_next_read_goes_on(path: Path, faults: list[str]) -> None:
    async with SQLiteStore(path) as store:
        await (await own(store)).write()
        faults += ["SELECT seq, epoch, data FROM log"] * 3
        for _ in range(3):
            with pytest.raises(StoreUnavailable, match="can't be read: disk I/O error"):
                await store.log("t", after=0, limit=10)
        assert await rows_of(store, "t") == [row(1)]


async def test_a_lock_held_by_another_program_is_unavailable_until_it_goes(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sqlite_schema.WRITER_PRAGMAS, "busy_timeout", 10)
    async with SQLiteStore(path) as store:
        owner = await own(store)
        await owner.write()
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        entry = owner.next()
        (error,) = await write(store, entry)
        assert type(error) is StoreUnavailable
        assert "locked" in str(error)
        other.close()
        await check_recovered(store, owner, entry)


async def test_more_writes_than_may_wait_are_refused_at_once(
    store: SQLiteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    owners = [await own(store, f"t{number}") for number in range(100)]
    monkeypatch.setattr(sqlite_writer, "QUEUE", 0)
    errors = await write(store, *[owner.next() for owner in owners])
    assert [type(error) for error in errors] == [StoreUnavailable] * 100
    monkeypatch.undo()
    assert await write(store, Append(thread="t0", epoch=owners[0].epoch, seq=1, data=row(1))) == [None]


async def test_a_thread_deleted_while_it_is_acquired_is_made_again(
    store: SQLiteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = await own(store)
    await first.write()
    load = sqlite_queries.load
    deleted: list[bool] = []
    loop = asyncio.get_running_loop()

    def load_after_deletion(db: sqlite3.Connection, thread: str, epoch: int) -> Owned | None:
        if not deleted:  # on a reader's thread
            deleted.append(asyncio.run_coroutine_threadsafe(store.delete_thread(thread), loop).result(30))
        db.execute("ROLLBACK")
        db.execute("BEGIN")
        return load(db, thread, epoch)

    monkeypatch.setattr(sqlite_queries, "load", load_after_deletion)
    owned = await store.acquire("t", agent="a", now=1.0)

    assert deleted == [True]
    assert owned is not None
    assert owned.epoch > first.epoch
    assert (owned.head, owned.tail) == (0, [])
    deleted.clear()
    assert await store.acquire("t", agent=None, now=1.0) is None


async def test_a_thread_made_again_while_rows_are_dropped_keeps_its_rows(
    store: SQLiteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite_queries, "_TRIM_ROWS", 2)
    owner = await own(store)
    await owner.write(9)
    await store.save_snapshot("t", StoredSnapshot(8, owner.epoch, b"state"), keep_after=0)
    saving = asyncio.create_task(
        store.save_snapshot("t", StoredSnapshot(9, owner.epoch, b"state"), keep_after=8)
    )
    await asyncio.sleep(0)
    await store.delete_thread("t")
    await (await own(store)).write(9)
    await saving
    assert await rows_of(store, "t") == [row(number) for number in range(1, 10)]


async def test_dropping_rows_that_is_cut_short_leaves_a_sound_floor(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with SQLiteStore(path) as store:
        first = await own(store)
        await first.write(4)
    async with SQLiteStore(path) as store:
        owner = await own(store)
        await owner.write(4)
        trim = sqlite_queries.trim
        monkeypatch.setattr(sqlite_queries, "_TRIM_ROWS", 3)
        monkeypatch.setattr(sqlite_queries, "trim", lambda *args: trim(*args) and False)
        await store.save_snapshot("t", StoredSnapshot(8, owner.epoch, b"state"), keep_after=8)
        await store.save_snapshot("t", StoredSnapshot(9, owner.epoch, b"state"), keep_after=8)

        found = await store.log("t", after=0, limit=100)
        assert found is not None
        assert (found.floor_seq, found.floor_epoch) == (3, first.epoch)
        assert [each.seq for each in found.rows] == [4, 5, 6, 7, 8, 9]

        monkeypatch.setattr(sqlite_queries, "trim", trim)
        await store.save_snapshot("t", StoredSnapshot(9, owner.epoch, b"state"), keep_after=8)
        found = await store.log("t", after=0, limit=100)
        assert found is not None
        assert (found.floor_seq, found.floor_epoch, len(found.rows)) == (8, owner.epoch, 1)
