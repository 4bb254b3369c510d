"""The threads that read from a store's SQLite file, each on a connection that can't write."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final, TypeVar

from ..core.errors import StoreUnavailable
from .sqlite_file import SQLiteFile
from .sqlite_schema import open_reader
from .turns import Turns

T = TypeVar("T")

THREADS: Final = 2


class Readers:
    """Opens its connections as they are needed, `THREADS` at most."""

    def __init__(self, file: SQLiteFile, turns: Turns) -> None:
        self._file = file
        self._turns = turns
        self._executor = ThreadPoolExecutor(THREADS, thread_name_prefix="threadwire-sqlite-read")
        self._own = threading.local()
        self._connections: set[sqlite3.Connection] = set()

    async def run(self, query: Callable[[sqlite3.Connection], T]) -> T:
        """What the query returns, all of it read at one moment of the database.

        Raises:
            StoreUnavailable: SQLite could not read.
        """
        self._turns.start()
        try:
            return await asyncio.get_running_loop().run_in_executor(self._executor, self._read, query)
        finally:
            self._turns.end()

    def close(self) -> None:
        """Returns when all reads are over. May be called on any thread but the loop's."""
        self._executor.shutdown(wait=True)
        while self._connections:
            self._connections.pop().close()

    def _read(self, query: Callable[[sqlite3.Connection], T]) -> T:
        try:
            db = self._connection()
            db.execute("BEGIN")
            try:
                return query(db)
            finally:
                db.execute("ROLLBACK")
        except sqlite3.Error as error:
            self._drop()
            raise StoreUnavailable(f"{self._file.name} can't be read: {error}") from error

    def _connection(self) -> sqlite3.Connection:
        """This thread's."""
        connection: sqlite3.Connection | None = getattr(self._own, "connection", None)
        if connection is None:
            self._file.check_in_place()
            connection = self._own.connection = open_reader(self._file.path)
            self._connections.add(connection)
        return connection

    def _drop(self) -> None:
        """The next read begins on a new connection."""
        connection: sqlite3.Connection | None = getattr(self._own, "connection", None)
        if connection is not None:
            self._own.connection = None
            self._connections.discard(connection)
            connection.close()
