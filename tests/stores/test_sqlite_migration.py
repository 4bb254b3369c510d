"""SQLite files of earlier versions: opened as they are, with all that they hold."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Final

import pytest

from tests.support.stores import own, row, write
from threadwire.core.codec import encode_log
from threadwire.engine.store import Append, CommandRecord, RunRecord, StoredSnapshot, ThreadRecord
from threadwire.stores import SQLiteStore, sqlite_schema

pytestmark = pytest.mark.anyio

VERSION_1: Final = """
    CREATE TABLE store (epoch INTEGER NOT NULL, flag INTEGER NOT NULL);
    CREATE TABLE thread (
        id TEXT PRIMARY KEY NOT NULL, agent TEXT NOT NULL, archived INTEGER NOT NULL,
        updated_at REAL NOT NULL, epoch INTEGER NOT NULL, head INTEGER NOT NULL,
        floor_seq INTEGER NOT NULL, floor_epoch INTEGER NOT NULL
    ) WITHOUT ROWID;
    CREATE INDEX thread_recent ON thread (updated_at DESC, id);
    CREATE TABLE thread_meta (
        id TEXT PRIMARY KEY NOT NULL REFERENCES thread ON DELETE CASCADE,
        title TEXT, created_at REAL NOT NULL, custom BLOB NOT NULL
    ) WITHOUT ROWID;
    CREATE TABLE log (
        thread TEXT NOT NULL REFERENCES thread ON DELETE CASCADE,
        seq INTEGER NOT NULL, epoch INTEGER NOT NULL, data BLOB NOT NULL, PRIMARY KEY (thread, seq)
    ) WITHOUT ROWID;
    CREATE TABLE snapshot (
        thread TEXT NOT NULL REFERENCES thread ON DELETE CASCADE,
        seq INTEGER NOT NULL, epoch INTEGER NOT NULL, data BLOB NOT NULL, PRIMARY KEY (thread, seq)
    );
    CREATE TABLE inbox (
        n INTEGER PRIMARY KEY, thread TEXT NOT NULL REFERENCES thread ON DELETE CASCADE,
        id TEXT NOT NULL, body BLOB NOT NULL, status TEXT NOT NULL, starts INTEGER NOT NULL,
        seq INTEGER, error BLOB, submitted_at REAL NOT NULL, UNIQUE (thread, id)
    );
    CREATE INDEX inbox_open ON inbox (thread, n) WHERE status IN ('queued', 'running');
    CREATE TABLE run (
        n INTEGER PRIMARY KEY, thread TEXT NOT NULL REFERENCES thread ON DELETE CASCADE,
        id TEXT NOT NULL, status TEXT NOT NULL, started_at REAL NOT NULL, ended_at REAL, error BLOB,
        UNIQUE (thread, id)
    );
    CREATE INDEX run_order ON run (thread, n);
    CREATE INDEX run_open ON run (thread) WHERE status IN ('queued', 'running', 'waiting');
    PRAGMA user_version = 1;
"""
"""The tables of version 1, which no later version may change."""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A file of version 1 with one thread of everything."""
    path = tmp_path / "threads.db"
    db = sqlite3.connect(path)
    db.executescript(VERSION_1)
    db.execute(f"PRAGMA application_id = {sqlite_schema.APPLICATION_ID}")
    db.execute("INSERT INTO store VALUES (5, 0)")
    db.execute("INSERT INTO thread VALUES ('t', 'a', 0, 2.0, 5, 2, 0, 5)")
    db.execute("INSERT INTO thread_meta VALUES ('t', 'A title', 1.0, ?)", (b'{"k":1}',))
    for seq in (1, 2):
        db.execute("INSERT INTO log VALUES ('t', ?, 5, ?)", (seq, row(seq)))
    db.execute("INSERT INTO snapshot VALUES ('t', 1, 5, ?)", (b"state 1",))
    db.execute("INSERT INTO inbox VALUES (1, 't', 'c', ?, 'running', 1, NULL, NULL, 1.0)", (b"{}",))
    db.execute("INSERT INTO run VALUES (1, 't', 'r', 'waiting', 1.5, NULL, NULL)")
    db.commit()
    db.close()
    return path


def version(path: Path) -> int:
    db = sqlite3.connect(path)
    try:
        (found,) = db.execute("PRAGMA user_version").fetchone()
    finally:
        db.close()
    return int(found)


async def test_a_file_of_version_1_keeps_all_it_holds(path: Path) -> None:
    async with SQLiteStore(path, clock=lambda: 0.0) as store:
        assert await store.unfinished() == ["t"]
        owned = await store.acquire("t", agent=None, now=0.0)
    assert owned is not None
    assert owned.record == ThreadRecord(
        id="t", agent="a", title="A title", created_at=1.0, updated_at=2.0, custom={"k": 1}
    )
    assert owned.epoch > 5
    assert owned.snapshot == StoredSnapshot(1, 5, b"state 1")
    assert [(each.seq, each.epoch, each.data) for each in owned.tail] == [
        (2, 5, row(2)),
        (3, owned.epoch, encode_log(())),
    ]
    assert owned.commands == [CommandRecord(id="c", order=1, body=b"{}", status="running", starts=1)]
    assert owned.run == RunRecord(id="r", status="waiting", started_at=1.5, base=0, starts=1)


async def test_a_file_of_version_1_can_be_written_as_a_new_one(path: Path) -> None:
    run = RunRecord(id="r2", status="running", started_at=3.0, base=3, starts=2)
    async with SQLiteStore(path) as store:
        owner = await own(store)
        entry = Append(thread="t", epoch=owner.epoch, seq=owner.head, run=run, notes=(("a", b"1"),), now=4.0)
        assert await write(store, entry) == [None]
    async with SQLiteStore(path) as store:
        assert await store.notes("t") == {"a": b"1"}
        assert [each.id for each in await store.runs("t", limit=9)] == ["r2", "r"]
        assert (await store.runs("t", limit=1)) == [run]
    assert version(path) == len(sqlite_schema.MIGRATIONS)


async def test_a_migration_that_is_cut_has_changed_nothing(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    *before, last = sqlite_schema.MIGRATIONS
    broken = (*before, (*last, "CREATE TABLE nonsense"))
    with monkeypatch.context() as patch:
        patch.setattr(sqlite_schema, "MIGRATIONS", broken)
        with pytest.raises(Exception, match="incomplete input"):
            async with SQLiteStore(path):
                pass
    assert version(path) == 1
    async with SQLiteStore(path) as store:
        assert await store.notes("t") == {}
        assert [each.base for each in await store.runs("t", limit=9)] == [0]


async def test_a_new_file_has_the_same_tables_as_one_that_was_migrated(path: Path, tmp_path: Path) -> None:
    def columns(file: Path) -> dict[str, list[tuple[object, ...]]]:
        db = sqlite3.connect(file)
        try:
            tables = [name for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
            return {name: db.execute(f"PRAGMA table_info({name})").fetchall() for name in tables}
        finally:
            db.close()

    new = tmp_path / "new.db"
    for each in (path, new):
        async with SQLiteStore(each):
            pass
    assert columns(path) == columns(new)
