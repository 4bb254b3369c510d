"""The checkpointer of graphs that have none of their own: it is kept beside the server's store."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Final

import anyio
from langgraph.checkpoint.memory import InMemorySaver

from threadwire.core.errors import StoreUnavailable

from ..checkpoints_file import checkpoints_file
from .saver import Saver

_SQLITE: Final = "sqlite:///"
_BUSY_S: Final = 10.0
"""How long to wait for whoever else uses the file, such as a backup."""
_PRAGMAS: Final = {"synchronous": "FULL", "fullfsync": 1}
"""As the store's: what its log names has to be there after a power failure too."""


class _Shared:
    """One open checkpointer, for all the agents of a server."""

    def __init__(self, saver: Saver, stack: AsyncExitStack) -> None:
        self.saver = saver
        self.stack = stack
        self.users = 0


_open: dict[str, _Shared] = {}


@asynccontextmanager
async def saver_beside(url: str) -> AsyncIterator[Saver]:
    """The checkpointer beside the store at `url`: for SQLite in a file of its own, for PostgreSQL in tables
    of its own in the same database, else in memory.

    Raises:
        ImportError: a package for it is missing.
        StoreUnavailable: the file or the database can't be opened.
    """
    scheme = url.partition(":")[0]
    if scheme not in ("sqlite", "postgresql", "postgres"):
        yield InMemorySaver()
        return
    shared = _open.get(url)
    if shared is None:
        if scheme == "sqlite":
            shared = await _open_sqlite(url.removeprefix(_SQLITE))
        else:
            try:
                from .postgresql_saver import open_postgresql
            except ImportError as error:
                hint = "pip install 'threadwire[langgraph-postgresql]'"
                raise ImportError(f"{error}; graphs on PostgreSQL need: {hint}") from error
            shared = _Shared(*await open_postgresql(url))
        _open[url] = shared
    shared.users += 1
    try:
        yield shared.saver
    finally:
        shared.users -= 1
        if not shared.users:
            del _open[url]
            with anyio.CancelScope(shield=True):
                await shared.stack.aclose()


async def _open_sqlite(path: str) -> _Shared:
    import aiosqlite
    from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver

    file = checkpoints_file(path)
    async with AsyncExitStack() as stack:
        try:
            connection = await stack.enter_async_context(aiosqlite.connect(file, timeout=_BUSY_S))
            saver = AsyncSqliteSaver(connection)
            await saver.setup()
            for name, value in _PRAGMAS.items():
                await connection.execute(f"PRAGMA {name} = {value}")
        except sqlite3.Error as error:
            raise StoreUnavailable(f"the checkpoints in {file} can't be opened: {error}") from error
        return _Shared(saver, stack.pop_all())
    raise AssertionError("unreachable")
