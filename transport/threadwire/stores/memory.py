"""The store that keeps everything in memory, for tests and benchmarks.

Every write is done when the call returns: an append costs next to nothing, and there is no commit
to wait for or to merge updates behind.
"""

from __future__ import annotations

import copy
from bisect import bisect_right
from collections.abc import Iterator
from heapq import nsmallest
from types import TracebackType
from typing import Self

import msgspec

from ..core.codec import encode_log
from ..core.frames import Strategy
from ..core.operations import Json
from ..engine.store import (
    Append,
    Archived,
    CommandRecord,
    Done,
    LogRow,
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
from .cursors import read_cursor, write_cursor
from .epochs import next_epoch
from .rows import conflict

_OPEN_COMMAND = ("queued", "running")
_OPEN_RUN = ("queued", "running", "waiting")
_NOTHING = encode_log(())


class MemoryStore:
    """A Store that keeps its threads from one opening to the next, each of which is another owner.

    So a restart of a server is simulated by leaving and entering it again.
    """

    def __init__(self) -> None:
        self._threads: dict[str, _Thread] = {}
        self._names: dict[str, str] = {}
        """Other names of threads."""
        self._last_epoch = 0
        self._first_epoch = 1
        """The epochs of this opening start here; those of all before it are smaller."""

    @property
    def url(self) -> str:
        return "memory:"

    async def __aenter__(self) -> Self:
        self._first_epoch = self._last_epoch + 1
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass

    async def acquire(self, thread: str, *, agent: str | None, now: float) -> Owned | None:
        held = self._threads.get(thread)
        if held is None:
            if thread in self._names:
                raise OtherName(self._names[thread])
            if agent is None:
                return None
            held = self._add(ThreadRecord(id=thread, agent=agent, created_at=now, updated_at=now), now)
        elif held.epoch < self._first_epoch:
            held.epoch = self._take_epoch(now)
            held.head += 1
            held.epochs.append((held.head, held.epoch))
            held.rows.append(encode_log(()))
        snapshot = held.snapshots[-1] if held.snapshots else None
        return Owned(
            record=held.full_record(),
            epoch=held.epoch,
            head=held.head,
            snapshot=snapshot,
            tail=list(held.slice(0 if snapshot is None else snapshot.seq, len(held.rows))),
            commands=sorted(held.open_commands.values(), key=lambda command: command.order),
            run=next(reversed(held.runs.values()), None),
        )

    def append(self, entry: Append, done: Done) -> None:
        held = self._threads.get(entry.thread)
        if held is None or held.epoch != entry.epoch:
            done(conflict(entry))
            return
        seq, data = entry.seq, entry.data
        if data is None:
            if seq != held.head:
                done(conflict(entry))
                return
        else:
            if seq != held.head + 1:
                done(None if seq == held.head else conflict(entry))
                return
            held.rows.append(data)
            held.head = seq
            held.updated_at = entry.now
        if entry.commands or entry.run is not None or entry.notes:
            held.keep_records(entry)
        done(None)

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
        held = self._threads[thread]
        record = held.commands.get(command)
        if record is not None:
            return Submission(record, created=False)
        if len(held.open_commands) >= limit:
            return None
        record = CommandRecord(
            id=command,
            order=len(held.commands) + 1,
            body=body,
            status="queued",
            context=context,
            strategy=strategy,
        )
        held.commands[command] = held.open_commands[command] = record
        return Submission(record, created=True)

    async def command(self, thread: str, command: str) -> CommandRecord | None:
        held = self._threads.get(thread)
        return None if held is None else held.commands.get(command)

    async def notes(self, thread: str) -> dict[str, bytes]:
        held = self._threads.get(thread)
        return {} if held is None else dict(held.notes)

    async def log(self, thread: str, *, after: int, limit: int) -> LogSlice | None:
        held = self._threads.get(thread)
        if held is None:
            return None
        return LogSlice(
            rows=list(held.slice(after, limit)),
            floor_seq=held.floor,
            floor_epoch=held.epoch_at(held.floor),
            head=held.head,
        )

    async def row_epoch(self, thread: str, seq: int) -> int | None:
        held = self._threads.get(thread)
        return held.epoch_at(seq) if held is not None and held.floor <= seq <= held.head else None

    async def save_snapshot(self, thread: str, snapshot: StoredSnapshot, *, keep_after: int) -> None:
        held = self._threads.get(thread)
        if held is None or await self.row_epoch(thread, snapshot.seq) != snapshot.epoch:
            return
        others = [kept for kept in held.snapshots if kept.seq != snapshot.seq]
        held.snapshots = sorted([*others, snapshot], key=lambda kept: kept.seq)[-2:]
        if len(held.snapshots) == 2:
            held.trim(min(keep_after, held.snapshots[0].seq))

    async def snapshot_before(self, thread: str, seq: int) -> StoredSnapshot | None:
        held = self._threads.get(thread)
        kept = () if held is None else reversed(held.snapshots)
        return next((snapshot for snapshot in kept if snapshot.seq <= seq), None)

    async def unfinished(self) -> list[str]:
        return sorted(
            id
            for id, held in self._threads.items()
            if held.open_commands or any(run.status in _OPEN_RUN for run in held.runs.values())
        )

    async def create(self, record: ThreadRecord, *, anonymous: bool = False) -> bool:
        if record.id in self._threads or record.id in self._names:
            return False
        self._add(record, 0.0).anonymous = anonymous
        return True

    async def find_name(self, id: str) -> ThreadName | None:
        held = self._threads.get(self._names.get(id, id))
        return None if held is None else ThreadName(held.record.id, held.anonymous)

    async def bind(self, name: str, thread: str, *, keep: bool) -> bool:
        held, other = self._threads.get(thread), self._threads.get(name)
        if held is None or not held.anonymous or name == thread:
            return self._names.get(name) == thread
        if self._names.get(name, thread) != thread:
            return False
        if other is not None:
            used = other.floor or other.commands or any(row != _NOTHING for row in other.rows)
            if used or other.record.agent != held.record.agent:
                return False
            held.record = msgspec.structs.replace(
                held.record,
                title=other.record.title,
                archived=other.record.archived,
                custom=other.record.custom,
            )
            await self.delete_thread(name)
        self._names[name] = thread
        held.anonymous = not keep
        return True

    async def anonymous_before(self, time: float, *, limit: int) -> list[str]:
        unused = sorted(
            (held.updated_at, id)
            for id, held in self._threads.items()
            if held.anonymous and held.updated_at < time
        )
        return [id for _, id in unused[:limit]]

    async def thread(self, thread: str) -> ThreadRecord | None:
        held = self._threads.get(thread)
        return None if held is None else held.full_record()

    async def threads(
        self, *, archived: Archived, agent: str | None, limit: int, cursor: str | None
    ) -> ThreadPage:
        limit = max(1, limit)
        places = (
            (-held.updated_at, id)
            for id, held in self._threads.items()
            if not held.anonymous
            and (archived == "include" or held.record.archived == (archived == "only"))
            and (agent is None or held.record.agent == agent)
        )
        if cursor is not None:
            updated_at, last = read_cursor(cursor)
            places = (place for place in places if place > (-updated_at, last))
        page = [self._threads[id] for _, id in nsmallest(limit + 1, places)]
        threads = [held.full_record() for held in page[:limit]]
        if len(page) <= limit:
            return ThreadPage(threads=threads)
        return ThreadPage(threads=threads, cursor=write_cursor(threads[-1].updated_at, threads[-1].id))

    async def update_thread(
        self,
        thread: str,
        *,
        title: str | msgspec.UnsetType | None = msgspec.UNSET,
        archived: bool | msgspec.UnsetType = msgspec.UNSET,
        custom: dict[str, Json] | msgspec.UnsetType = msgspec.UNSET,
        now: float,
    ) -> ThreadRecord | None:
        held = self._threads.get(thread)
        if held is None:
            return None
        given = {"title": title, "archived": archived, "custom": copy.deepcopy(custom)}
        changes = {name: value for name, value in given.items() if value is not msgspec.UNSET}
        if changes:
            held.record = msgspec.structs.replace(held.record, **changes)
            held.updated_at = now
        return held.full_record()

    async def delete_thread(self, thread: str) -> bool:
        if self._threads.pop(thread, None) is None:
            return False
        self._names = {name: named for name, named in self._names.items() if named != thread}
        return True

    async def runs(self, thread: str, *, limit: int) -> list[RunRecord]:
        held = self._threads.get(thread)
        return [] if held is None else list(reversed(held.runs.values()))[: max(0, limit)]

    async def check(self) -> None:
        pass

    def _add(self, record: ThreadRecord, now: float) -> _Thread:
        held = self._threads[record.id] = _Thread(copy.deepcopy(record), self._take_epoch(now))
        return held

    def _take_epoch(self, now: float) -> int:
        self._last_epoch = next_epoch(self._last_epoch, now)
        return self._last_epoch


class _Thread:
    """One thread. A row is no more than its data: its seq follows from its place, its epoch from `epochs`."""

    def __init__(self, record: ThreadRecord, epoch: int) -> None:
        self.record = record
        self.anonymous = False
        self.updated_at = record.updated_at
        self.epoch = epoch
        self.head = 0
        self.floor = 0
        self.rows: list[bytes] = []
        """Of seq floor + 1 to head."""
        self.epochs = [(0, epoch)]
        """The first seq of each epoch, the first entry at or below the floor."""
        self.snapshots: list[StoredSnapshot] = []
        self.commands: dict[str, CommandRecord] = {}
        self.open_commands: dict[str, CommandRecord] = {}
        self.runs: dict[str, RunRecord] = {}
        self.notes: dict[str, bytes] = {}

    def full_record(self) -> ThreadRecord:
        record = msgspec.structs.replace(self.record, updated_at=self.updated_at)
        return copy.deepcopy(record) if record.custom else record

    def epoch_at(self, seq: int) -> int:
        return self.epochs[bisect_right(self.epochs, seq, key=lambda entry: entry[0]) - 1][1]

    def slice(self, after: int, limit: int) -> Iterator[LogRow]:
        start = max(after, self.floor) - self.floor
        for seq, data in enumerate(self.rows[start : start + max(0, limit)], self.floor + start + 1):
            yield LogRow(seq, self.epoch_at(seq), data)

    def trim(self, floor: int) -> None:
        """Drops the rows up to `floor`."""
        if floor > self.floor:
            del self.rows[: floor - self.floor]
            self.epochs = [
                (floor, self.epoch_at(floor)),
                *(entry for entry in self.epochs if entry[0] > floor),
            ]
            self.floor = floor

    def keep_records(self, entry: Append) -> None:
        for change in entry.commands:
            command = self.commands.get(change.id)
            if command is None:
                continue
            starts = command.starts if change.starts is None else change.starts
            command = msgspec.structs.replace(
                command,
                status=change.status,
                starts=starts,
                seq=change.seq,
                error=change.error,
                context=command.context if change.status in _OPEN_COMMAND else None,
            )
            self.commands[change.id] = command
            if change.status in _OPEN_COMMAND:
                self.open_commands[change.id] = command
            else:
                self.open_commands.pop(change.id, None)
        if entry.run is not None:
            self.runs[entry.run.id] = entry.run
        for key, note in entry.notes:
            if note is None:
                self.notes.pop(key, None)
            else:
                self.notes[key] = note
