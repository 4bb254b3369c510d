"""The embedded store: one SQLite file, owned by one process, safe against a power failure.

Writes go through one thread that commits many at once (`sqlite_writer`), reads through others
(`sqlite_readers`); the statements are in `sqlite_queries`.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
import time
from collections.abc import Callable
from types import TracebackType
from typing import Concatenate, Generic, NamedTuple, ParamSpec, Self, TypeVar

import msgspec

from ..core.errors import StoreUnavailable, WriteConflict
from ..core.frames import Strategy
from ..core.operations import Json
from ..engine.store import (
    Append,
    Archived,
    CommandRecord,
    Done,
    LogSlice,
    OtherName,
    Owned,
    RunRecord,
    StoredSnapshot,
    Submission,
    ThreadName,
    ThreadPage,
    ThreadRecord,
)
from . import sqlite_queries as queries
from .cursors import read_cursor
from .sqlite_file import SQLiteFile
from .sqlite_readers import Readers
from .sqlite_writer import Writer
from .turns import Turns

P = ParamSpec("P")
T = TypeVar("T")


class SQLiteStore:
    """A Store in the SQLite file at `path`, which is made, with its directories, where it is missing.

    A second process that opens the file is refused (`path` + ".lock" is locked meanwhile). `clock`
    gives UNIX seconds; it is read once, when the store is opened.
    """

    def __init__(self, path: str | os.PathLike[str], *, clock: Callable[[], float] = time.time) -> None:
        self._path = os.fspath(path)
        self._clock = clock
        self._open: _Open | None = None

    @property
    def url(self) -> str:
        return f"sqlite:///{os.path.realpath(self._path) if self._open is None else self._open.file.path}"

    async def __aenter__(self) -> Self:
        turns = Turns(asyncio.get_running_loop())
        file = SQLiteFile(self._path, clock=self._clock)
        readers = Readers(file, turns)
        writer = Writer(file, turns, before_close=readers.close)
        await writer.start()
        self._open = _Open(file, writer, readers)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        opened, self._open = self._open, None
        if opened is not None:
            await opened.writer.stop()

    async def acquire(self, thread: str, *, agent: str | None, now: float) -> Owned | None:
        since = self._opened().file.first_epoch
        while True:
            taken = await self._write(queries.acquire, thread, agent=agent, now=now, since=since)
            if isinstance(taken, ThreadName):
                raise OtherName(taken.id)
            if not isinstance(taken, int):
                return taken
            owned = await self._read(queries.load, thread, taken)
            if owned is not None:  # else it was deleted in between
                return owned

    def append(self, entry: Append, done: Done) -> None:
        if self._open is None:
            done(self._closed())
        else:
            self._open.writer.put(_AppendJob(entry, done))

    async def submit(
        self,
        thread: str,
        command: str,
        body: bytes,
        *,
        context: bytes | None = None,
        limit: int,
        now: float,
        strategy: Strategy = "enqueue",
    ) -> Submission | None:
        answer = await self._write(
            queries.submit,
            thread,
            command,
            body,
            context=context,
            limit=limit,
            now=now,
            strategy=strategy,
        )
        if answer == "missing":
            raise KeyError(thread)
        return None if answer == "full" else answer

    async def command(self, thread: str, command: str) -> CommandRecord | None:
        return await self._read(queries.find_command, thread, command)

    async def notes(self, thread: str) -> dict[str, bytes]:
        return await self._read(queries.notes, thread)

    async def log(self, thread: str, *, after: int, limit: int) -> LogSlice | None:
        return await self._read(queries.log, thread, after, limit)

    async def row_epoch(self, thread: str, seq: int) -> int | None:
        return await self._read(queries.row_epoch, thread, seq)

    async def save_snapshot(self, thread: str, snapshot: StoredSnapshot, *, keep_after: int) -> None:
        floor = await self._write(queries.save_snapshot, thread, snapshot, keep_after)
        while floor is not None and await self._write(queries.trim, thread, floor):
            pass

    async def snapshot_before(self, thread: str, seq: int) -> StoredSnapshot | None:
        return await self._read(queries.snapshot_before, thread, seq)

    async def unfinished(self) -> list[str]:
        return await self._read(queries.unfinished)

    async def create(self, record: ThreadRecord, *, anonymous: bool = False) -> bool:
        return await self._write(queries.create, record, anonymous=anonymous)

    async def find_name(self, id: str) -> ThreadName | None:
        return await self._read(queries.find_name, id)

    async def bind(self, name: str, thread: str, *, keep: bool) -> bool:
        return await self._write(queries.bind, name, thread, keep=keep)

    async def anonymous_before(self, time: float, *, limit: int) -> list[str]:
        return await self._read(queries.anonymous_before, time, limit)

    async def thread(self, thread: str) -> ThreadRecord | None:
        return await self._read(queries.find_thread, thread)

    async def threads(
        self, *, archived: Archived, agent: str | None, limit: int, cursor: str | None
    ) -> ThreadPage:
        after = None if cursor is None else read_cursor(cursor)
        return await self._read(
            queries.find_threads, archived=archived, agent=agent, limit=limit, after=after
        )

    async def update_thread(
        self,
        thread: str,
        *,
        title: str | msgspec.UnsetType | None = msgspec.UNSET,
        archived: bool | msgspec.UnsetType = msgspec.UNSET,
        custom: dict[str, Json] | msgspec.UnsetType = msgspec.UNSET,
        now: float,
    ) -> ThreadRecord | None:
        return await self._write(
            queries.update_thread, thread, title=title, archived=archived, custom=custom, now=now
        )

    async def delete_thread(self, thread: str) -> bool:
        return await self._write(queries.delete_thread, thread)

    async def runs(self, thread: str, *, limit: int) -> list[RunRecord]:
        return await self._read(queries.runs, thread, limit)

    async def check(self) -> None:
        await self._write(queries.touch)
        self._opened().file.check_in_place()

    def _opened(self) -> _Open:
        if self._open is None:
            raise self._closed()
        return self._open

    def _closed(self) -> StoreUnavailable:
        return StoreUnavailable(f"{self._path} is not open")

    async def _read(
        self, query: Callable[Concatenate[sqlite3.Connection, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        return await self._opened().readers.run(lambda db: query(db, *args, **kwargs))

    async def _write(
        self, work: Callable[Concatenate[sqlite3.Connection, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        written: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._opened().writer.put(_Work(lambda db: work(db, *args, **kwargs), written))
        return await written


class _Open(NamedTuple):
    file: SQLiteFile
    writer: Writer
    readers: Readers


class _AppendJob:
    __slots__ = ("_done", "_entry")

    def __init__(self, entry: Append, done: Done) -> None:
        self._entry = entry
        self._done = done

    def run(self, db: sqlite3.Connection) -> WriteConflict | None:
        return queries.append(db, self._entry)

    def settle(self, outcome: WriteConflict | None, error: Exception | None) -> None:
        self._done(error or outcome)


class _Work(Generic[T]):
    __slots__ = ("_written", "run")

    def __init__(self, run: Callable[[sqlite3.Connection], T], written: asyncio.Future[T]) -> None:
        self.run = run
        self._written = written

    def settle(self, outcome: T, error: Exception | None) -> None:
        if self._written.done():  # its caller was cancelled; the work is done all the same
            return
        if error is None:
            self._written.set_result(outcome)
        else:
            self._written.set_exception(error)
