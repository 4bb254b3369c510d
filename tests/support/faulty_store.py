"""A store that fails as stores do: late, out of turn, not at all, or after the write was made.

Under it is a `MemoryStore`, which is the disk. Writes reach it one after the other, in the order
in which they were asked for; their answers come when they like. A crash drops what has not reached
the disk, and no answer comes any more. What was ever written can be read in `truth`.
"""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self, TypeVar

import msgspec

from threadwire.core.codec import decode_log
from threadwire.core.errors import StoreUnavailable
from threadwire.core.frames import Strategy
from threadwire.core.operations import Json, apply
from threadwire.engine.store import (
    Append,
    Archived,
    CommandRecord,
    Done,
    LogSlice,
    Owned,
    RunRecord,
    StoredSnapshot,
    Submission,
    ThreadName,
    ThreadPage,
    ThreadRecord,
)
from threadwire.stores.memory import MemoryStore

T = TypeVar("T")


@dataclass
class Faults:
    """How often what goes wrong, from 0 to 1; `delay_s` is drawn anew for each wait."""

    refused: float = 0.0
    """StoreUnavailable, and nothing was written."""
    unknown: float = 0.0
    """StoreUnavailable, though it was written."""
    at_once: float = 0.0
    """Appends that are done before `append` returns, where nothing is under way."""
    delays_s: tuple[float, ...] = (0.0,)


class Truth:
    """Every state that a thread ever had, by seq, and the epoch that wrote it."""

    def __init__(self, epoch: int) -> None:
        self.states: list[Json] = [{}]
        self.epochs = [epoch]

    @property
    def head(self) -> int:
        return len(self.states) - 1


class _Job:
    __slots__ = ("settle", "work")

    def __init__(self, work: Callable[[], Any], settle: Callable[[Any, Exception | None], None]) -> None:
        self.work = work
        self.settle = settle


class FaultyStore:
    """A Store. Entering it anew is a restart: leave it before in order, or by `crash`.

    `held` keeps writes from reaching the disk, `out` refuses everything, `withheld` keeps answers back;
    each until it is changed.
    """

    def __init__(self, dice: random.Random | None = None, faults: Faults | None = None) -> None:
        self.disk = MemoryStore()
        self.truth: dict[str, Truth] = {}
        self.dice = dice or random.Random(0)
        self.faults = faults or Faults()
        self.out = False
        self.held = False
        self.withheld = False
        self.written: list[Append] = []
        """The appends that reached the disk, each once."""
        self._jobs: deque[_Job] = deque()
        self._answers: deque[Callable[[], None]] = deque()
        self._busy = False
        self._opening = 0
        """Which opening of the store it is; what was asked of another one is never answered."""

    @property
    def url(self) -> str:
        return self.disk.url

    async def __aenter__(self) -> Self:
        await self.disk.__aenter__()
        self._opening += 1
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.go_on()
        while self._jobs or self._busy:
            await asyncio.sleep(0.01)

    def crash(self) -> None:
        """The process is gone."""
        self._opening += 1
        self._jobs.clear()
        self._answers.clear()
        self._busy = False

    async def rob(self, thread: str) -> None:
        """Another owner takes the thread and writes to it."""
        await self.disk.__aenter__()
        await self.disk.acquire(thread, agent=None, now=0.0)
        await self._note(thread)

    def go_on(self) -> None:
        """Ends `held`, `withheld` and `out`."""
        self.held = self.withheld = self.out = False
        while self._answers:
            self._answers.popleft()()
        self._next()

    # the disk

    def _put(self, work: Callable[[], Any], settle: Callable[[Any, Exception | None], None]) -> None:
        self._jobs.append(_Job(work, settle))
        self._next()

    def _next(self) -> None:
        if self._jobs and not self._busy and not self.held:
            self._busy = True
            self._later(self._work)

    def _work(self) -> None:
        job = self._jobs.popleft()
        self._busy = False
        self._do(job, self._answer)
        self._next()

    def _do(self, job: _Job, answer: Callable[[Callable[[], None]], None]) -> None:
        outcome: Any = None
        error: Exception | None = None
        luck = self.dice.random()
        refused = StoreUnavailable("the disk did not take it")
        if self.out or luck < self.faults.refused:
            error = refused
        else:
            try:
                outcome = job.work()
            except Exception as raised:
                error = raised
            else:
                if luck > 1 - self.faults.unknown:
                    outcome, error = None, refused
        answer(lambda: job.settle(outcome, error))

    def _answer(self, call: Callable[[], None]) -> None:
        if self.withheld:
            self._answers.append(call)
        else:
            self._later(call)

    def _later(self, call: Callable[[], None]) -> None:
        opening = self._opening

        def call_if_open() -> None:
            if self._opening == opening:
                call()

        loop = asyncio.get_running_loop()
        delay_s = self.dice.choice(self.faults.delays_s)
        if delay_s:
            loop.call_later(delay_s, call_if_open)
        else:
            loop.call_soon(call_if_open)

    async def _write(self, thread: str, call: Callable[[], Coroutine[Any, Any, T]]) -> T:
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()

        def settle(outcome: Any, error: Exception | None) -> None:
            if not future.done():
                if error is not None:
                    future.set_exception(error)
                else:
                    future.set_result(outcome)

        def work() -> T:
            outcome = at_once(call())
            at_once(self._note(thread))
            return outcome

        self._put(work, settle)
        return await future

    async def _read(self, call: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Reads overtake writes, as those of other connections to a database do."""
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()

        def settle(outcome: Any, error: Exception | None) -> None:
            if not future.done():
                if error is not None:
                    future.set_exception(error)
                else:
                    future.set_result(outcome)

        self._later(lambda: self._do(_Job(lambda: at_once(call()), settle), self._answer))
        return await future

    async def _note(self, thread: str) -> None:
        log = await self.disk.log(thread, after=0, limit=0)
        if log is None:
            return
        truth = self.truth.setdefault(thread, Truth(log.floor_epoch))
        log = await self.disk.log(thread, after=truth.head, limit=1_000_000)
        assert log is not None
        for row in log.rows:
            assert row.seq == truth.head + 1
            truth.states.append(apply(truth.states[-1], decode_log(row.data)))
            truth.epochs.append(row.epoch)

    # what the engine calls

    async def acquire(self, thread: str, *, agent: str | None, now: float) -> Owned | None:
        return await self._write(thread, lambda: self.disk.acquire(thread, agent=agent, now=now))

    def append(self, entry: Append, done: Done) -> None:
        def work() -> Exception | None:
            outcome: list[Exception | None] = []
            held = self.disk._threads.get(entry.thread)
            before = held.head if held is not None else -1
            self.disk.append(entry, outcome.append)
            if outcome[0] is None and (entry.data is None or entry.seq == before + 1):
                self.written.append(entry)
            at_once(self._note(entry.thread))
            return outcome[0]

        def settle(outcome: Exception | None, error: Exception | None) -> None:
            done(error or outcome)

        idle = not (self._jobs or self._busy or self.held or self.withheld)
        if idle and self.dice.random() < self.faults.at_once:
            self._do(_Job(work, settle), lambda answer: answer())
        else:
            self._put(work, settle)

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
        def submit() -> Any:
            return self.disk.submit(
                thread, command, body, context=context, limit=limit, now=now, strategy=strategy
            )

        return await self._write(thread, submit)

    async def save_snapshot(self, thread: str, snapshot: StoredSnapshot, *, keep_after: int) -> None:
        truth = self.truth[thread]
        assert msgspec.msgpack.decode(snapshot.data) == truth.states[snapshot.seq]
        assert snapshot.epoch == truth.epochs[snapshot.seq]
        await self._write(thread, lambda: self.disk.save_snapshot(thread, snapshot, keep_after=keep_after))

    async def command(self, thread: str, command: str) -> CommandRecord | None:
        return await self._read(lambda: self.disk.command(thread, command))

    async def notes(self, thread: str) -> dict[str, bytes]:
        return await self._read(lambda: self.disk.notes(thread))

    async def log(self, thread: str, *, after: int, limit: int) -> LogSlice | None:
        return await self._read(lambda: self.disk.log(thread, after=after, limit=limit))

    async def row_epoch(self, thread: str, seq: int) -> int | None:
        return await self._read(lambda: self.disk.row_epoch(thread, seq))

    async def snapshot_before(self, thread: str, seq: int) -> StoredSnapshot | None:
        return await self._read(lambda: self.disk.snapshot_before(thread, seq))

    async def unfinished(self) -> list[str]:
        return await self.disk.unfinished()

    async def create(self, record: ThreadRecord, *, anonymous: bool = False) -> bool:
        return await self._write(record.id, lambda: self.disk.create(record, anonymous=anonymous))

    async def find_name(self, id: str) -> ThreadName | None:
        return await self._read(lambda: self.disk.find_name(id))

    async def bind(self, name: str, thread: str, *, keep: bool) -> bool:
        return await self._write(thread, lambda: self.disk.bind(name, thread, keep=keep))

    async def anonymous_before(self, time: float, *, limit: int) -> list[str]:
        return await self._read(lambda: self.disk.anonymous_before(time, limit=limit))

    async def thread(self, thread: str) -> ThreadRecord | None:
        return await self._read(lambda: self.disk.thread(thread))

    async def threads(
        self, *, archived: Archived, agent: str | None, limit: int, cursor: str | None
    ) -> ThreadPage:
        return await self._read(
            lambda: self.disk.threads(archived=archived, agent=agent, limit=limit, cursor=cursor)
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
            thread,
            lambda: self.disk.update_thread(thread, title=title, archived=archived, custom=custom, now=now),
        )

    async def delete_thread(self, thread: str) -> bool:
        async def delete() -> bool:
            self.truth.pop(thread, None)
            return await self.disk.delete_thread(thread)

        return await self._write(thread, delete)

    async def runs(self, thread: str, *, limit: int) -> list[RunRecord]:
        return await self._read(lambda: self.disk.runs(thread, limit=limit))

    async def check(self) -> None:
        if self.out:
            raise StoreUnavailable("the disk is out")


def at_once(coroutine: Coroutine[Any, Any, T]) -> T:
    """What a coroutine returns that waits for nothing."""
    try:
        coroutine.send(None)
    except StopIteration as end:
        result: T = end.value
        return result
    raise AssertionError("it waits")
