"""The tables of a PostgreSQL store, and how they are brought to this version.

There are no foreign keys: each append would look its thread up once more. What writes rows of a thread
holds a lock on the thread's own row, and deleting takes them all along.
"""

from __future__ import annotations

from typing import Any, Final

import asyncpg

from ..core.errors import StoreError, StoreUnavailable

NEEDED: Final = 150000
"""The oldest server that is known to do, as `server_version_num`."""

LOCK: Final = 0x54577265
"""The advisory lock under which one node migrates while the others wait."""

_SCHEMA_1: Final = (
    # One row. `epoch` is at least the epochs of all threads that were deleted, so that they aren't given
    # again; `name` tells this store's channels from those of another in the same database.
    """CREATE TABLE store (
        version integer NOT NULL,
        epoch bigint NOT NULL,
        name text NOT NULL
    )""",
    "INSERT INTO store VALUES (0, 0, substr(md5(random()::text), 1, 12))",
    # What every append rewrites: small, and without an index on what it changes, so that a page takes many
    # versions of a row before it is cleaned up. Only `recent`, the minute of `updated_at`, has one.
    """CREATE TABLE thread (
        id text COLLATE "C" PRIMARY KEY,
        agent text NOT NULL,
        archived boolean NOT NULL,
        anonymous boolean NOT NULL,
        updated_at double precision NOT NULL,
        recent double precision NOT NULL,
        epoch bigint NOT NULL CHECK (epoch < 9007199254740992),
        head bigint NOT NULL,
        version bigint NOT NULL,
        floor_seq bigint NOT NULL,
        floor_epoch bigint NOT NULL,
        owner text,
        lease_until timestamptz NOT NULL,
        parked boolean NOT NULL
    ) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.02)""",
    "CREATE INDEX thread_recent ON thread (recent DESC)",
    "CREATE INDEX thread_anonymous ON thread (recent) WHERE anonymous",
    # Other names of threads.
    """CREATE TABLE name (
        id text COLLATE "C" PRIMARY KEY,
        thread text COLLATE "C" NOT NULL
    )""",
    "CREATE INDEX name_thread ON name (thread)",
    # `json` and not `jsonb`, which takes no U+0000.
    """CREATE TABLE thread_meta (
        id text COLLATE "C" PRIMARY KEY,
        title json NOT NULL,
        created_at double precision NOT NULL,
        custom json NOT NULL
    )""",
    """CREATE TABLE log (
        thread text COLLATE "C" NOT NULL,
        seq bigint NOT NULL,
        epoch bigint NOT NULL,
        data bytea NOT NULL,
        PRIMARY KEY (thread, seq)
    )""",
    """CREATE TABLE snapshot (
        thread text COLLATE "C" NOT NULL,
        seq bigint NOT NULL,
        epoch bigint NOT NULL,
        data bytea NOT NULL,
        PRIMARY KEY (thread, seq)
    )""",
    """CREATE TABLE inbox (
        thread text COLLATE "C" NOT NULL,
        id text COLLATE "C" NOT NULL,
        n bigint GENERATED ALWAYS AS IDENTITY,
        body bytea NOT NULL,
        status text NOT NULL,
        starts integer NOT NULL,
        seq bigint,
        error json,
        submitted_at double precision NOT NULL,
        strategy text NOT NULL,
        origin text,
        context bytea,
        PRIMARY KEY (thread, id)
    ) WITH (fillfactor = 70)""",
    "CREATE INDEX inbox_open ON inbox (thread, n) WHERE status IN ('queued', 'running')",
    """CREATE TABLE run (
        thread text COLLATE "C" NOT NULL,
        id text NOT NULL,
        n bigint GENERATED ALWAYS AS IDENTITY,
        status text NOT NULL,
        started_at double precision NOT NULL,
        ended_at double precision,
        error json,
        base bigint NOT NULL,
        starts integer NOT NULL,
        context bytea,
        PRIMARY KEY (thread, id)
    ) WITH (fillfactor = 70)""",
    "CREATE INDEX run_order ON run (thread, n)",
    "CREATE INDEX run_open ON run (thread) WHERE status IN ('queued', 'running', 'waiting')",
    """CREATE TABLE note (
        thread text COLLATE "C" NOT NULL,
        name text COLLATE "C" NOT NULL,
        data bytea NOT NULL,
        PRIMARY KEY (thread, name)
    )""",
)

_SCHEMA_2: Final = (
    # What a node leaves for another where the bus can't bring it; taken out when it is read.
    """CREATE TABLE mail (
        node text NOT NULL,
        n bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        message text NOT NULL,
        posted_at timestamptz NOT NULL DEFAULT clock_timestamp()
    )""",
)

MIGRATIONS: Final[tuple[tuple[str, ...], ...]] = (_SCHEMA_1, _SCHEMA_2)
"""`MIGRATIONS[n]` leads from version n to n + 1; `store.version` holds the database's version."""


async def migrate(connection: Any) -> str:
    """Brings the tables to this version, whoever else is about to; returns the store's name.

    Raises:
        StoreError: the server is too old, or the tables are of a newer version, or not ours.
    """
    server = int(await connection.fetchval("SHOW server_version_num"))
    if server < NEEDED:
        raise StoreError(f"PostgreSQL {server // 10000} is too old; 15 or newer is needed")
    async with connection.transaction():
        try:
            await connection.execute("SELECT pg_advisory_xact_lock($1)", LOCK)
        except asyncpg.LockNotAvailableError:
            raise StoreUnavailable(
                "another process has made or filled the database's tables for some seconds; try again later"
            ) from None
        version = await _version(connection)
        for statements in MIGRATIONS[version:]:
            for statement in statements:
                await connection.execute(statement)
        if version < len(MIGRATIONS):
            await connection.execute("UPDATE store SET version = $1", len(MIGRATIONS))
        return str(await connection.fetchval("SELECT name FROM store"))


async def _version(connection: Any) -> int:
    tables = {
        name
        for (name,) in await connection.fetch(
            "SELECT table_name FROM information_schema.tables WHERE table_schema = current_schema()"
        )
    }
    if not tables & {"store", "thread", "log", "snapshot", "inbox", "run", "note"}:
        return 0
    if not {"store", "thread", "inbox"} <= tables:
        raise StoreError(
            "the database has tables of another application; give it a schema or database of its own"
        )
    version = int(await connection.fetchval("SELECT version FROM store"))
    if version > len(MIGRATIONS):
        raise StoreError(
            f"the database was written by a newer version (its tables are of version {version}, "
            f"the newest known here is {len(MIGRATIONS)})"
        )
    return version
