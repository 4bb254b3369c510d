"""Connections to a store's SQLite file: how they are set up, and the tables with their versions.

SQLite up to 3.51.2 can corrupt a database when two connections write or checkpoint at once. So
exactly one connection does either; readers can't write, don't checkpoint and are closed first.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from pathlib import Path
from typing import Final

from ..core.errors import StoreError

APPLICATION_ID: Final = 0x54577265
"""Stands in the file's header, so that another application's database is never touched."""

WRITER_PRAGMAS: Final[dict[str, str | int]] = {
    "journal_mode": "WAL",
    "synchronous": "FULL",  # NORMAL loses acknowledged commits when the power fails
    "fullfsync": 1,  # macOS: its fsync alone leaves the data in the drive's cache
    "wal_autocheckpoint": 4000,
    "journal_size_limit": 64 * 1024 * 1024,
    "cache_size": -16384,
    "temp_store": "MEMORY",
    "mmap_size": 0,
    "foreign_keys": "ON",
    "busy_timeout": 5000,
}
READER_PRAGMAS: Final[dict[str, str | int]] = {
    "query_only": 1,
    "wal_autocheckpoint": 0,
    "cache_size": -4096,
    "temp_store": "MEMORY",
    "mmap_size": 0,
    "busy_timeout": 5000,
}

_SCHEMA_1: Final = (
    # One row: the last epoch given to any thread, so that a deleted thread's isn't given again, and a
    # flag that is written to see whether writing works.
    "CREATE TABLE store (epoch INTEGER NOT NULL, flag INTEGER NOT NULL)",
    "INSERT INTO store VALUES (0, 0)",
    # What every append rewrites is kept small; the rest of the thread's record is in thread_meta.
    """CREATE TABLE thread (
        id TEXT PRIMARY KEY NOT NULL,
        agent TEXT NOT NULL,
        archived INTEGER NOT NULL,
        updated_at REAL NOT NULL,
        epoch INTEGER NOT NULL,
        head INTEGER NOT NULL,
        floor_seq INTEGER NOT NULL,
        floor_epoch INTEGER NOT NULL
    ) WITHOUT ROWID""",
    "CREATE INDEX thread_recent ON thread (updated_at DESC, id)",
    """CREATE TABLE thread_meta (
        id TEXT PRIMARY KEY NOT NULL REFERENCES thread ON DELETE CASCADE,
        title TEXT,
        created_at REAL NOT NULL,
        custom BLOB NOT NULL
    ) WITHOUT ROWID""",
    """CREATE TABLE log (
        thread TEXT NOT NULL REFERENCES thread ON DELETE CASCADE,
        seq INTEGER NOT NULL,
        epoch INTEGER NOT NULL,
        data BLOB NOT NULL,
        PRIMARY KEY (thread, seq)
    ) WITHOUT ROWID""",
    """CREATE TABLE snapshot (
        thread TEXT NOT NULL REFERENCES thread ON DELETE CASCADE,
        seq INTEGER NOT NULL,
        epoch INTEGER NOT NULL,
        data BLOB NOT NULL,
        PRIMARY KEY (thread, seq)
    )""",
    """CREATE TABLE inbox (
        n INTEGER PRIMARY KEY,
        thread TEXT NOT NULL REFERENCES thread ON DELETE CASCADE,
        id TEXT NOT NULL,
        body BLOB NOT NULL,
        status TEXT NOT NULL,
        starts INTEGER NOT NULL,
        seq INTEGER,
        error BLOB,
        submitted_at REAL NOT NULL,
        UNIQUE (thread, id)
    )""",
    "CREATE INDEX inbox_open ON inbox (thread, n) WHERE status IN ('queued', 'running')",
    """CREATE TABLE run (
        n INTEGER PRIMARY KEY,
        thread TEXT NOT NULL REFERENCES thread ON DELETE CASCADE,
        id TEXT NOT NULL,
        status TEXT NOT NULL,
        started_at REAL NOT NULL,
        ended_at REAL,
        error BLOB,
        UNIQUE (thread, id)
    )""",
    "CREATE INDEX run_order ON run (thread, n)",
    "CREATE INDEX run_open ON run (thread) WHERE status IN ('queued', 'running', 'waiting')",
)

_SCHEMA_2: Final = (
    "ALTER TABLE run ADD COLUMN base INTEGER NOT NULL DEFAULT 0",
    "ALTER TABLE run ADD COLUMN starts INTEGER NOT NULL DEFAULT 1",
    """CREATE TABLE note (
        thread TEXT NOT NULL REFERENCES thread ON DELETE CASCADE,
        name TEXT NOT NULL,
        data BLOB NOT NULL,
        PRIMARY KEY (thread, name)
    ) WITHOUT ROWID""",
)

_SCHEMA_3: Final = (
    "ALTER TABLE thread ADD COLUMN anonymous INTEGER NOT NULL DEFAULT 0",
    "CREATE INDEX thread_anonymous ON thread (updated_at, id) WHERE anonymous",
    # Other names of threads.
    """CREATE TABLE name (
        id TEXT PRIMARY KEY NOT NULL,
        thread TEXT NOT NULL REFERENCES thread ON DELETE CASCADE
    ) WITHOUT ROWID""",
    "CREATE INDEX name_thread ON name (thread)",
    "ALTER TABLE inbox ADD COLUMN context BLOB",
    "ALTER TABLE run ADD COLUMN context BLOB",
)

_SCHEMA_4: Final = ("ALTER TABLE inbox ADD COLUMN strategy TEXT NOT NULL DEFAULT 'enqueue'",)

MIGRATIONS: Final[tuple[tuple[str, ...], ...]] = (_SCHEMA_1, _SCHEMA_2, _SCHEMA_3, _SCHEMA_4)
"""`MIGRATIONS[n]` leads from version n to n + 1; `PRAGMA user_version` holds the file's version."""


def open_writer(path: str, name: str) -> sqlite3.Connection:
    """The one connection that writes, its tables brought to this version.

    `path` is absolute, `name` is how the file is called in errors.

    Raises:
        StoreError: the file is of another application or of a newer version.
        sqlite3.Error, OSError: it can't be opened, read or written.
    """
    if os.path.isdir(path):
        raise StoreError(f"{name} is a directory")
    connection = _connect(path, mode="rwc")
    try:
        version = _version(connection, name)
        _set(connection, WRITER_PRAGMAS)
        if connection.execute("PRAGMA journal_mode").fetchone() != ("wal",):
            raise StoreError(f"{name} is on a file system that SQLite's WAL mode does not work on")
        if version < len(MIGRATIONS):
            _migrate(connection, version)
    except BaseException:
        connection.close()
        raise
    return connection


def open_reader(path: str) -> sqlite3.Connection:
    """A connection that can only read; may be closed by another thread than the one that uses it."""
    connection = _connect(path, mode="rw", check_same_thread=False)
    _set(connection, READER_PRAGMAS)
    return connection


def make_directory(path: str) -> None:
    """Makes the missing directories of a file's path, so that they outlive a power failure too."""
    directory = os.path.dirname(path)
    if directory and not os.path.isdir(directory):
        make_directory(directory)
        with contextlib.suppress(FileExistsError):
            os.mkdir(directory)
        if hasattr(os, "O_DIRECTORY"):
            parent = os.open(os.path.dirname(directory), os.O_RDONLY | os.O_DIRECTORY)
            with contextlib.suppress(OSError):  # not every file system can
                os.fsync(parent)
            os.close(parent)


def _connect(path: str, *, mode: str, check_same_thread: bool = True) -> sqlite3.Connection:
    return sqlite3.connect(
        f"{Path(path).as_uri()}?mode={mode}",
        uri=True,
        isolation_level=None,  # transactions are begun and ended by our own statements
        check_same_thread=check_same_thread,
    )


def _set(connection: sqlite3.Connection, pragmas: dict[str, str | int]) -> None:
    for name, value in pragmas.items():
        connection.execute(f"PRAGMA {name} = {value}").fetchall()


def _version(connection: sqlite3.Connection, name: str) -> int:
    """The version of the file's tables, 0 where there are none; nothing is written for it."""
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    if application != APPLICATION_ID and (application or tables):
        raise StoreError(f"{name} is a database of another application")
    version: int = connection.execute("PRAGMA user_version").fetchone()[0]
    if version > len(MIGRATIONS):
        raise StoreError(
            f"{name} was written by a newer version (its tables are of version {version}, "
            f"the newest known here is {len(MIGRATIONS)})"
        )
    return version


def _migrate(connection: sqlite3.Connection, version: int) -> None:
    connection.execute("BEGIN IMMEDIATE")
    for statements in MIGRATIONS[version:]:
        for statement in statements:
            connection.execute(statement)
    connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    connection.execute(f"PRAGMA user_version = {len(MIGRATIONS)}")
    connection.execute("COMMIT")
