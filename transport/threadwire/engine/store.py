"""What a store keeps and what it promises. The engine knows stores by this protocol only.

A thread has one owner, the process that writes it. Everything the owner writes for a thread
goes through `append`, one at a time and in order; each append is atomic and durable before its
`done` is called without an error. `submit` may come from anyone.

One contract suite (tests/stores) runs over every store.
"""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import Literal, Protocol, Self, TypeAlias

import msgspec

from ..core.errors import ErrorInfo
from ..core.frames import CommandStatus, RunStatus, Strategy
from ..core.operations import Json


class LogRow(msgspec.Struct, frozen=True):
    """One update as it stands in the log. `data` is `codec.encode_log(operations)`."""

    seq: int
    epoch: int
    data: bytes


class StoredSnapshot(msgspec.Struct, frozen=True):
    """The whole state at `seq`; `data` is its MessagePack."""

    seq: int
    epoch: int
    data: bytes


class CommandRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A command in a thread's inbox. `order` grows with each submit of the thread.

    `body` is the RFC 8785 form of the command, so that equal commands have equal bodies.
    `starts` counts the runs that were started with it and have not ended in order. `context` is what
    came along with it, for its run (see the module `context`); None once the command is settled.
    `strategy` is what it was sent with.
    """

    id: str
    order: int
    body: bytes
    status: CommandStatus
    starts: int = 0
    seq: int | None = None
    error: ErrorInfo | None = None
    context: bytes | None = None
    strategy: Strategy = "enqueue"


class CommandChange(msgspec.Struct, frozen=True, kw_only=True):
    """A new status of a command; `starts` None leaves the count as it is."""

    id: str
    status: CommandStatus
    starts: int | None = None
    seq: int | None = None
    error: ErrorInfo | None = None


class RunRecord(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A run. Times are UNIX seconds.

    `base` is the thread's head when the run began. `starts` counts how often it was begun or, after
    a crash, gone on with. `context` is what came along with its commands, None once it has ended.
    """

    id: str
    status: RunStatus
    started_at: float
    ended_at: float | None = None
    error: ErrorInfo | None = None
    base: int = 0
    starts: int = 1
    context: bytes | None = None


class ThreadRecord(msgspec.Struct, frozen=True, kw_only=True):
    """What a thread list shows. Times are UNIX seconds; `custom` is the clients' own JSON object."""

    id: str
    agent: str
    title: str | None = None
    archived: bool = False
    created_at: float
    updated_at: float
    custom: dict[str, Json] = msgspec.field(default_factory=dict)


class ThreadName(msgspec.Struct, frozen=True):
    """Which thread an id names. `id` is the thread's own, where another name of it was asked for."""

    id: str
    anonymous: bool


class OtherName(Exception):
    """The id is another name of a thread."""

    def __init__(self, thread: str) -> None:
        super().__init__(thread)
        self.thread = thread


class ThreadPage(msgspec.Struct, frozen=True, kw_only=True):
    """Threads, the most recently updated first; `cursor` asks for the next page, None at the end."""

    threads: list[ThreadRecord]
    cursor: str | None = None


class Owned(msgspec.Struct, frozen=True, kw_only=True):
    """A thread as its new owner finds it: a snapshot (None is `{}` at seq 0) and the rows after it."""

    record: ThreadRecord
    epoch: int
    """The epoch that this owner writes under."""
    head: int
    snapshot: StoredSnapshot | None
    tail: list[LogRow]
    """All rows with seq in (snapshot.seq or 0, head], in order."""
    commands: list[CommandRecord]
    """Those with status queued or running, by order; a submit meanwhile may be among them or not."""
    run: RunRecord | None
    """The last run."""
    version: int = 0
    """One more after each append, in stores that many nodes use (`shared.Standing`)."""


class LogSlice(msgspec.Struct, frozen=True, kw_only=True):
    """Rows in order, and the bounds of what the log still holds.

    `floor_seq`/`floor_epoch` name the oldest state that the kept rows lead on from: rows with
    seq > floor_seq exist. A thread that was never trimmed has the floor 0 under its first epoch.
    """

    rows: list[LogRow]
    floor_seq: int
    floor_epoch: int
    head: int


class Append(msgspec.Struct, frozen=True, kw_only=True):
    """One atomic write of a thread's owner: an update, or only records, or both."""

    thread: str
    epoch: int
    seq: int
    """The head after it: the head before plus one with `data`, the same without."""
    data: bytes | None = None
    commands: tuple[CommandChange, ...] = ()
    run: RunRecord | None = None
    notes: tuple[tuple[str, bytes | None], ...] = ()
    """The agent's notes that change, each key once; None removes one."""
    now: float = 0.0
    """Becomes the thread's updated_at, where `data` is given."""


class Submission(msgspec.Struct, frozen=True):
    """A command's record, and whether this submit made it."""

    record: CommandRecord
    created: bool


Done: TypeAlias = Callable[[Exception | None], None]
Archived: TypeAlias = Literal["exclude", "include", "only"]


class Store(Protocol):
    """Use as an async context manager: enter opens and prepares, exit flushes and closes.

    All calls are made on the event loop's thread. Every method may raise StoreUnavailable.
    Results are plain values that the caller may keep.
    """

    @property
    def url(self) -> str:
        """Where it keeps things, in a form that `open_store` reads: agents may keep theirs beside it."""
        ...

    async def __aenter__(self) -> Self:
        """Raises StoreLocked where another process has it open, StoreError where it can't be used."""
        ...

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    async def acquire(self, thread: str, *, agent: str | None, now: float) -> Owned | None:
        """Makes this process the thread's owner and returns all there is of it.

        A thread that doesn't exist is created for `agent`, with head 0; without `agent` the
        answer is None. The epoch is larger than every epoch the thread had under another owner,
        and at least `now` in milliseconds when a new one is taken. Where the thread's epoch
        changes by this call, one row with the operations `[]` is added to its log under the new
        epoch (it is part of `head` and `tail`); acquired again by the same owner, nothing is written.
        Raises OtherName where the id is one.
        """
        ...

    def append(self, entry: Append, done: Done) -> None:
        """Writes atomically, then calls `done` once, on the event loop's thread.

        `done(None)`: durable. `done(WriteConflict)`: the epoch or head isn't what the entry was
        made on, nothing was written. `done(StoreUnavailable)`: nothing was written, the same entry
        may be given again; given again after it had been written all the same, it is
        `done(None)`. Appends of different threads share commits. `done` may be called before
        `append` returns.
        """
        ...

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
        """Puts a command into the inbox of an existing thread, durably, once per id.

        The first submit of an id makes it `queued`; later ones return the record as it stands,
        whatever their body, context and strategy. None where `limit` commands are queued or running
        already. Submits are ordered as called. Raises KeyError where the thread doesn't exist.
        """
        ...

    async def command(self, thread: str, command: str) -> CommandRecord | None: ...

    async def notes(self, thread: str) -> dict[str, bytes]:
        """All notes that a thread's agent has of it; none where it doesn't exist."""
        ...

    async def log(self, thread: str, *, after: int, limit: int) -> LogSlice | None:
        """Rows with seq > after, at most `limit`; None where the thread doesn't exist."""
        ...

    async def row_epoch(self, thread: str, seq: int) -> int | None:
        """The epoch that wrote `seq`: the row's, or the floor's where seq is the floor; else None."""
        ...

    async def save_snapshot(self, thread: str, snapshot: StoredSnapshot, *, keep_after: int) -> None:
        """Keeps the two newest snapshots; drops rows with seq ≤ keep_after and ≤ the older one's seq.

        So a thread can always be rebuilt from either snapshot. The floor moves with the rows. A
        snapshot whose seq isn't in the log under its epoch is of a thread deleted since, and not kept.
        """
        ...

    async def snapshot_before(self, thread: str, seq: int) -> StoredSnapshot | None:
        """The newest kept snapshot with a seq ≤ `seq`."""
        ...

    async def unfinished(self) -> list[str]:
        """Threads with a run that has not ended, or with commands queued or running."""
        ...

    async def create(self, record: ThreadRecord, *, anonymous: bool = False) -> bool:
        """False where the id names a thread. An anonymous one isn't listed."""
        ...

    async def find_name(self, id: str) -> ThreadName | None:
        """The thread that an id names, None where it names none."""
        ...

    async def bind(self, name: str, thread: str, *, keep: bool) -> bool:
        """Makes `name` another name of an anonymous thread, for as long as that lives.

        With `keep` it isn't anonymous any longer. Where a thread without any operation or command has that
        id and the same agent, it is removed, and the other one gets its title, archive flag and `custom`.

        False, and nothing changed, where the thread isn't anonymous (unless `name` is its name already),
        or `name` is that of another one.
        """
        ...

    async def anonymous_before(self, time: float, *, limit: int) -> list[str]:
        """Anonymous threads that were last updated before, the longest unused first."""
        ...

    async def thread(self, thread: str) -> ThreadRecord | None: ...

    async def threads(
        self, *, archived: Archived, agent: str | None, limit: int, cursor: str | None
    ) -> ThreadPage:
        """By updated_at, the newest first, ties by id; no anonymous ones.

        Raises ValueError for a cursor it didn't give.
        """
        ...

    async def update_thread(
        self,
        thread: str,
        *,
        title: str | msgspec.UnsetType | None = msgspec.UNSET,
        archived: bool | msgspec.UnsetType = msgspec.UNSET,
        custom: dict[str, Json] | msgspec.UnsetType = msgspec.UNSET,
        now: float,
    ) -> ThreadRecord | None:
        """Changes what is given, at the time `now`. None where the thread doesn't exist."""
        ...

    async def delete_thread(self, thread: str) -> bool:
        """Removes all there is of a thread. A later thread of the same id gets a larger epoch."""
        ...

    async def runs(self, thread: str, *, limit: int) -> list[RunRecord]:
        """The last runs, the newest first."""
        ...

    async def check(self) -> None:
        """Returns where the store can be written to, for readiness."""
        ...
