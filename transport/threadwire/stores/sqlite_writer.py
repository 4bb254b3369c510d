"""The one thread that writes to a store's SQLite file, many jobs to a commit.

Jobs come from the event loop and are run in their order. What has come while a commit was on its
way to the disk makes up the next one, so that the cost of a sync is shared and nothing waits for
a timer. The writer does not know what its jobs write.
"""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any, Final, Protocol, TypeAlias

from ..core.errors import StoreError, StoreUnavailable
from .sqlite_file import SQLiteFile
from .turns import Turns

BATCH: Final = 1024
"""Jobs per transaction at most."""

QUEUE: Final = 65_536
"""Jobs that may wait: when a disk hangs, memory must not fill up with what it does not take."""

_FAULTS_OF_A_JOB: Final = (
    sqlite3.IntegrityError,
    sqlite3.DataError,
    sqlite3.ProgrammingError,
    sqlite3.NotSupportedError,
)

Outcome: TypeAlias = tuple[Any, Exception | None]


class Job(Protocol):
    """`run` is called on the writer's thread, again where its transaction was rolled back for
    another job's fault; `settle` on the loop's, once, with what `run` returned or with an error."""

    def run(self, db: sqlite3.Connection) -> Any: ...

    def settle(self, outcome: Any, error: Exception | None) -> None: ...


class Writer:
    """Takes jobs between `start` and `stop`, both of them awaited once.

    `before_close` is called on the writer's thread after the last job, before the file is closed.
    """

    def __init__(self, file: SQLiteFile, turns: Turns, *, before_close: Callable[[], None]) -> None:
        self._file = file
        self._before_close = before_close
        self._turns = turns
        self._loop = asyncio.get_running_loop()
        self._jobs: SimpleQueue[Job | None] = SimpleQueue()
        self._connection: sqlite3.Connection | None = None
        self._started: asyncio.Future[None] = self._loop.create_future()
        self._stopped: asyncio.Future[None] = self._loop.create_future()
        self._stopping = False

    async def start(self) -> None:
        """Opens the file, and raises what that raises."""
        # A daemon: a program that fails to close its store must still be able to end.
        threading.Thread(target=self._main, name="threadwire-sqlite-write", daemon=True).start()
        try:
            await self._started
        except asyncio.CancelledError:
            self._jobs.put(None)
            raise

    def put(self, job: Job) -> None:
        if self._stopping or self._jobs.qsize() >= QUEUE:
            reason = "is closed" if self._stopping else f"has {QUEUE} writes waiting"
            job.settle(None, StoreUnavailable(f"{self._file.name} {reason}"))
            return
        self._turns.start()
        self._jobs.put(job)

    async def stop(self) -> None:
        """Returns when all jobs are settled and the file is closed, which goes on where this is cancelled."""
        self._stopping = True
        self._jobs.put(None)
        await self._stopped

    # on the loop's thread

    def _settle(self, batch: list[Job], outcomes: list[Outcome]) -> None:
        self._turns.end(len(batch))
        for job, (outcome, error) in zip(batch, outcomes, strict=True):
            try:
                job.settle(outcome, error)
            except Exception as fault:
                self._loop.call_exception_handler(
                    {"message": "a store's callback raised", "exception": fault}
                )

    # on the writer's thread

    def _main(self) -> None:
        try:
            self._connection = self._file.open()
        except Exception as error:
            self._post(_resolve, self._started, error)
            return
        going_on = self._post(_resolve, self._started, None)
        while going_on:
            batch, going_on = self._take()
            going_on = self._post(self._settle, batch, self._commit(batch)) and going_on
        self._before_close()
        self._file.close(self._connection)
        self._post(_resolve, self._stopped, None)

    def _post(self, call: Callable[..., None], *args: Any) -> bool:
        """Has it called on the loop; False where that is closed, and nobody is left to write for."""
        try:
            self._loop.call_soon_threadsafe(call, *args)
        except RuntimeError:
            return False
        return True

    def _take(self) -> tuple[list[Job], bool]:
        """Waits for a job, returns it with those behind it, and whether more can follow."""
        batch: list[Job] = []
        while (job := self._jobs.get()) is not None:
            batch.append(job)
            if len(batch) == BATCH or self._jobs.empty():
                return batch, True
        return batch, False

    def _commit(self, batch: list[Job]) -> list[Outcome]:
        if not batch:
            return []
        try:
            db = self._connection = self._connection or self._file.reopen()
            db.execute("BEGIN IMMEDIATE")
            outcomes: list[Outcome] = [(job.run(db), None) for job in batch]
            db.execute("COMMIT")
            return outcomes
        except Exception as error:
            self._roll_back()
            if isinstance(error, StoreUnavailable):
                return [(None, StoreUnavailable(str(error))) for _ in batch]
            if _is_outage(error):
                return [(None, self._error(StoreUnavailable, error)) for _ in batch]
            if len(batch) == 1:
                return [(None, self._error(StoreError, error))]
        # One job is at fault, the others shall not suffer: each in a transaction of its own.
        return [outcome for job in batch for outcome in self._commit([job])]

    def _roll_back(self) -> None:
        db = self._connection
        try:
            if db is not None and db.in_transaction:
                db.execute("ROLLBACK")
        except sqlite3.Error:  # the next batch gets a new connection
            self._connection = None
            if db is not None:
                db.close()

    def _error(self, kind: type[StoreError], cause: Exception) -> StoreError:
        error = kind(f"{self._file.name} did not take the write: {cause}")
        error.__cause__ = cause
        return error


def _is_outage(error: Exception) -> bool:
    """Whether it is the file that fails (full, unreadable, locked, ...) and not what was to be written."""
    return isinstance(error, sqlite3.DatabaseError) and not isinstance(error, _FAULTS_OF_A_JOB)


def _resolve(future: asyncio.Future[None], error: Exception | None) -> None:
    if future.done():  # its waiter was cancelled
        return
    if error is None:
        future.set_result(None)
    else:
        future.set_exception(error)
