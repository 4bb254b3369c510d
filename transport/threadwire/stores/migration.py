"""Brings all threads of an embedded store into a PostgreSQL database, as they are: logs, epochs, positions.

Clients that come back find the positions they knew. It is one transaction: all is there at its end, or
nothing.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Awaitable, Callable, Iterator
from datetime import UTC, datetime
from typing import Any, Final

import asyncpg
import msgspec

from ..core.errors import StoreError
from .postgresql_errors import FAULTS, store_error
from .postgresql_schema import LOCK, migrate
from .sqlite import SQLiteStore
from .sqlite_schema import open_reader

_ROWS: Final = 500

# By table: its columns there, and how they are read here. What isn't named gets its default.
_TABLES: Final[dict[str, tuple[tuple[str, ...], str]]] = {
    "thread": (
        (
            "id",
            "agent",
            "archived",
            "anonymous",
            "updated_at",
            "recent",
            "epoch",
            "head",
            "version",
            "floor_seq",
            "floor_epoch",
            "owner",
            "lease_until",
            "parked",
        ),
        "SELECT id, agent, archived, anonymous, updated_at, updated_at, epoch, head, 0, floor_seq,"
        " floor_epoch, NULL, NULL, 0 FROM thread",
    ),
    "thread_meta": (
        ("id", "title", "created_at", "custom"),
        "SELECT id, title, created_at, custom FROM thread_meta",
    ),
    "log": (("thread", "seq", "epoch", "data"), "SELECT thread, seq, epoch, data FROM log"),
    "snapshot": (("thread", "seq", "epoch", "data"), "SELECT thread, seq, epoch, data FROM snapshot"),
    "inbox": (
        (
            "thread",
            "id",
            "n",
            "body",
            "status",
            "starts",
            "seq",
            "error",
            "submitted_at",
            "strategy",
            "origin",
            "context",
        ),
        "SELECT thread, id, n, body, status, starts, seq, error, submitted_at, strategy, NULL,"
        " context FROM inbox",
    ),
    "run": (
        ("thread", "id", "n", "status", "started_at", "ended_at", "error", "base", "starts", "context"),
        "SELECT thread, id, n, status, started_at, ended_at, error, base, starts, context FROM run",
    ),
    "name": (("id", "thread"), "SELECT id, thread FROM name"),
    "note": (("thread", "name", "data"), "SELECT thread, name, data FROM note"),
}


_NEVER: Final = datetime.fromtimestamp(0, UTC)


def _as_it_is(value: Any) -> Any:
    return value


def _text(value: Any) -> Any:
    return value.decode() if isinstance(value, bytes) else value


_READERS: Final[dict[tuple[str, str], Callable[[Any], Any]]] = {
    ("thread", "archived"): bool,
    ("thread", "anonymous"): bool,
    ("thread", "parked"): bool,
    ("thread", "recent"): lambda updated_at: float(updated_at // 60),
    ("thread", "lease_until"): lambda _: _NEVER,
    ("thread_meta", "title"): lambda title: msgspec.json.encode(title).decode(),
    ("thread_meta", "custom"): _text,
    ("inbox", "error"): _text,
    ("run", "error"): _text,
}


async def copy_store(
    path: str,
    url: str,
    *,
    progress: Callable[[str, int], None] = lambda table, rows: None,
    before: Callable[[], Awaitable[None]] | None = None,
) -> dict[str, int]:
    """Copies the file at `path` into the database at `url`; rows by table.

    The file is locked meanwhile, and brought to this version's tables; the database must have no threads.
    `progress` is called with a table and how many of its rows are copied, `before` once it is known that the
    file can be copied: what is kept beside it has to be there before any of its threads is.

    Raises:
        StoreError: one of them can't be used, or the database has threads already.
    """
    async with SQLiteStore(path):
        reader = await asyncio.to_thread(open_reader, path)
        try:
            return await _copy(reader, url, progress, before)
        except (*FAULTS, ValueError) as error:
            raise store_error(error) from error
        finally:
            reader.close()


async def _copy(
    reader: sqlite3.Connection,
    url: str,
    progress: Callable[[str, int], None],
    before: Callable[[], Awaitable[None]] | None,
) -> dict[str, int]:
    connection = await asyncpg.connect(url, timeout=10)
    try:
        await migrate(connection)
        await _check_empty(connection)
        if before is not None:
            await before()
        async with connection.transaction():
            await connection.execute("SELECT pg_advisory_xact_lock($1)", LOCK)
            await _check_empty(connection)
            counts = {}
            for table, (columns, query) in _TABLES.items():
                counts[table] = await _copy_table(connection, reader, table, columns, query, progress)
            for table in ("inbox", "run"):
                await connection.execute(
                    f"SELECT setval(pg_get_serial_sequence('{table}', 'n'), 1 + coalesce(max(n), 0))"
                    f" FROM {table}"
                )
            (epoch,) = reader.execute("SELECT epoch FROM store").fetchone()
            await connection.execute("UPDATE store SET epoch = greatest(epoch, $1)", epoch)
        await connection.execute("ANALYZE")
        return counts
    finally:
        await connection.close()


async def _check_empty(connection: Any) -> None:
    if await connection.fetchval("SELECT EXISTS (SELECT FROM thread)"):
        raise StoreError("the database has threads already; migrate into an empty one")


async def _copy_table(
    connection: Any,
    reader: sqlite3.Connection,
    table: str,
    columns: tuple[str, ...],
    query: str,
    progress: Callable[[str, int], None],
) -> int:
    cursor = reader.execute(query)
    copied = 0
    copy: Callable[..., Awaitable[object]] = connection.copy_records_to_table
    while rows := await asyncio.to_thread(cursor.fetchmany, _ROWS):
        await copy(table, records=_records(table, columns, rows), columns=columns)
        copied += len(rows)
        progress(table, copied)
    return copied


def _records(table: str, columns: tuple[str, ...], rows: list[tuple[Any, ...]]) -> Iterator[tuple[Any, ...]]:
    readers = [_READERS.get((table, column), _as_it_is) for column in columns]
    for row in rows:
        yield tuple(read(value) for read, value in zip(readers, row, strict=True))
