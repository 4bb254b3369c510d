"""The checkpointer in the database of a PostgreSQL store, for graphs on many nodes.

It knows nothing of owners: a node that was paused may still write checkpoints of a run that another one has
gone on with. Nobody reads them, since every read names the checkpoint that the thread's log has (see
`checkpoints`).
"""

from __future__ import annotations

from contextlib import AsyncExitStack
from typing import Any, Final

import anyio
import psycopg
from langgraph.checkpoint.postgres.aio import AsyncPostgresSaver
from psycopg.rows import dict_row
from psycopg_pool import AsyncConnectionPool

from threadwire.core.errors import StoreUnavailable, first_line

from .saver import Saver

_LOCK: Final = 0x54577266
_CONNECT_S: Final = 10.0
_POOL: Final = 4
_SESSION: Final[dict[str, Any]] = {
    "autocommit": True,
    "prepare_threshold": 0,
    "row_factory": dict_row,
    "connect_timeout": int(_CONNECT_S),
    "keepalives_idle": 5,
    "keepalives_interval": 2,
    "keepalives_count": 3,
    "application_name": "threadwire-checkpoints",
}


async def open_postgresql(url: str) -> tuple[Saver, AsyncExitStack]:
    """The checkpointer, and what closes it. Raises StoreUnavailable where the database can't be used."""
    pool: AsyncConnectionPool[Any] = AsyncConnectionPool(
        url,
        kwargs=_SESSION,
        min_size=0,
        max_size=_POOL,
        timeout=_CONNECT_S,
        check=AsyncConnectionPool.check_connection,  # else each restart of the database fails a run
        open=False,
    )
    try:
        async with await psycopg.AsyncConnection.connect(url, **_SESSION) as connection:
            await _set_up(connection)
    except psycopg.Error as error:
        text = first_line(error)
        raise StoreUnavailable(f"the checkpoints in PostgreSQL can't be opened: {text}") from error
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(pool)
        return AsyncPostgresSaver(pool), stack.pop_all()
    raise AssertionError("unreachable")


async def _set_up(connection: Any) -> None:
    """Makes the tables, one node at a time.

    Waiting for the lock in the database would keep a snapshot open, which the one that has the lock, and
    builds an index beside others' writes, waits for.
    """
    while True:
        cursor = await connection.execute("SELECT pg_try_advisory_lock(%s) AS locked", (_LOCK,))
        if (await cursor.fetchone())["locked"]:
            break
        await anyio.sleep(0.1)
    try:
        await AsyncPostgresSaver(connection).setup()
    finally:
        await connection.execute("SELECT pg_advisory_unlock(%s)", (_LOCK,))
