"""A store's SQLite file while this process owns it: the lock, the epochs, the connection that writes."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Callable

from ..core.errors import StoreError, StoreUnavailable
from .file_lock import FileLock
from .sqlite_queries import take_epoch
from .sqlite_schema import make_directory, open_writer


class SQLiteFile:
    """`open`, `reopen` and `close` are called on the writer's thread; errors call the file `name`."""

    def __init__(self, path: str, *, clock: Callable[[], float]) -> None:
        self.name = path
        self.path = os.path.realpath(path)
        self.first_epoch = 0
        """The epochs of this ownership start here; those of all before it are smaller."""
        self._clock = clock
        self._lock: FileLock | None = None
        self._identity: tuple[int, int] | None = None

    def open(self) -> sqlite3.Connection:
        """Raises StoreLocked where another process has it, StoreError where it can't be used."""
        try:
            make_directory(self.path)
            self._lock = FileLock(self.path + ".lock", subject=self.name)
            connection = open_writer(self.path, self.name)
            try:
                connection.execute("BEGIN IMMEDIATE")
                self.first_epoch = take_epoch(connection, self._clock())
                connection.execute("COMMIT")
            except BaseException:
                connection.close()
                raise
            self._identity = self._find()
        except (sqlite3.Error, OSError) as error:
            self._unlock()
            reason = error.strerror if isinstance(error, OSError) else error
            raise StoreError(f"{self.name} can't be used: {reason}") from error
        except BaseException:
            self._unlock()
            raise
        return connection

    def reopen(self) -> sqlite3.Connection:
        """Another connection in the place of one that got stuck. Raises StoreUnavailable."""
        self.check_in_place()
        try:
            return open_writer(self.path, self.name)
        except (sqlite3.Error, StoreError) as error:
            raise StoreUnavailable(f"{self.name} can't be opened: {error}") from error

    def close(self, connection: sqlite3.Connection | None) -> None:
        """The other connections are closed by now: the last one to close moves the WAL into the database."""
        if connection is not None:
            with contextlib.suppress(sqlite3.Error):  # it only makes the next start faster
                connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
            connection.close()
        self._unlock()

    def check_in_place(self) -> None:
        """Raises StoreUnavailable where the file was removed or replaced.

        What is written then is gone when the file is closed, and another connection would be to another file.
        """
        if self._find() != self._identity:
            raise StoreUnavailable(f"{self.name} was removed or replaced while it was open")

    def _find(self) -> tuple[int, int] | None:
        try:
            found = os.stat(self.path)
        except OSError:
            return None
        return found.st_dev, found.st_ino

    def _unlock(self) -> None:
        if self._lock is not None:
            self._lock.release()
            self._lock = None
