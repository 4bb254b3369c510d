"""One connection's view of one thread: what it has been sent, and what waits while it can't be sent.

While the connection takes bytes, the shared encoded messages go straight out. While it doesn't,
operations are merged; once they weigh more than the state itself, they are dropped and a
snapshot is due. So a slow reader costs at most about a state, and always ends at the exact state.

Spec: PROTOCOL.md §10.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol

from ..core.codec import Encoding, decode_log
from ..core.frames import Position, Run, RunInfo, Update
from ..core.merge import Merger
from .message import Message, SnapshotMessage, UpdateMessage
from .store import LogRow

if TYPE_CHECKING:
    from .thread import Thread

_MIN_BACKLOG_BYTES: Final = 64 * 1024
"""A backlog below this is kept even where the state is smaller."""
_MAX_RUNS: Final = 100


class Sink(Protocol):
    """A connection's way out, shared by its subscribers."""

    encoding: Encoding

    @property
    def ready(self) -> bool:
        """Whether bytes given now go out without piling up."""
        ...

    def send(self, message: Message) -> None:
        """Puts a message on the connection, whether it is ready or not."""
        ...

    def offer(self, message: Message) -> bool:
        """`send` where it is ready, else nothing; whether it was."""
        ...

    def lag(self, subscriber: Subscriber) -> None:
        """Remembers to call `subscriber.drain()` when it is ready again."""
        ...

    def lost(self, subscriber: Subscriber) -> None:
        """The thread has dropped the subscriber; the client has been told to open it again."""
        ...


class Subscriber:
    """Made by `Thread.subscribe`; its methods are called by the thread and its connection."""

    __slots__ = (
        "_backlog",
        "_backlog_seq",
        "_hash_due",
        "_runs",
        "_snapshot_due",
        "epoch",
        "hash",
        "seq",
        "sink",
        "thread",
        "tools",
    )

    def __init__(self, thread: Thread, sink: Sink, *, hash: bool, tools: tuple[str, ...]) -> None:
        self.thread = thread
        self.sink = sink
        self.hash = hash
        self.tools = tools
        self.epoch = 0
        self.seq = -1
        """The position put on the connection; -1 before the first."""
        self._backlog: Merger | None = None
        self._backlog_seq = -1
        self._snapshot_due = False
        self._hash_due = False
        self._runs: dict[str, RunInfo | None] = {}

    @property
    def lagging(self) -> bool:
        """Whether anything waits to be sent."""
        return self._snapshot_due or self._backlog is not None or bool(self._runs)

    @property
    def position(self) -> tuple[int, int] | None:
        """(epoch, seq) last put on the connection, None before the first or with a backlog."""
        return None if self.seq < 0 or self.lagging else (self.epoch, self.seq)

    def update(self, update: UpdateMessage) -> None:
        """Takes the next update of the thread's log."""
        if self._snapshot_due:
            return
        if self._backlog is None and self.sink.offer(update):
            self.seq = update.seq
            self.epoch = update.epoch
            return
        if self._backlog is None:
            self._backlog = Merger()
            self.sink.lag(self)
        self._backlog.add(update.operations())
        self._backlog_seq = update.seq
        self.epoch = update.epoch
        if self._is_too_much():
            self.need_snapshot()

    def moved(self, thread: Thread, *, resumes: bool) -> None:
        """Follows another object of its thread from now on, which has published as much, if it `resumes`."""
        self.thread = thread
        if self._snapshot_due or not resumes:
            self.need_snapshot()
            self.drain_or_lag()

    def begin(self, position: Position) -> None:
        """Takes the client's own position for the one put on the connection."""
        self.epoch, self.seq = position.epoch, position.seq

    def missed(self, rows: list[LogRow]) -> bool:
        """Takes updates that it has missed, to be sent as one; whether they cost less than a snapshot."""
        if rows and self._backlog is None:
            self._backlog = Merger()
        for row in rows:
            assert self._backlog is not None
            self._backlog.add(decode_log(row.data))
            self._backlog_seq = row.seq
            self.epoch = row.epoch
        return not self._is_too_much()

    def _is_too_much(self) -> bool:
        backlog = self._backlog
        return backlog is not None and backlog.cost > max(_MIN_BACKLOG_BYTES, self.thread.size)

    def need_snapshot(self) -> None:
        """Drops what waits: a snapshot replaces it."""
        self._backlog = None
        self._snapshot_due = True
        self.sink.lag(self)

    def run(self, info: RunInfo | None) -> None:
        """Takes a new status of the thread's run; it goes out after the updates before it."""
        if not self.lagging and self.sink.ready:
            self.sink.send(Message(Run(thread=self.thread.id, run=info)))
            return
        # One frame a run, its newest status; the oldest runs are forgotten first.
        key = info.id if info is not None else ""
        self._runs.pop(key, None)
        self._runs[key] = info
        if len(self._runs) > _MAX_RUNS:
            del self._runs[next(iter(self._runs))]
        self.sink.lag(self)

    def tool(self, message: Message) -> None:
        """Takes a call that this connection is to execute."""
        self.sink.send(message)

    def drain_or_lag(self) -> None:
        if self.sink.ready:
            self.drain()
        else:
            self.sink.lag(self)

    def drain(self) -> None:
        """Sends what waits, now that the connection takes bytes."""
        if self._snapshot_due:
            self.thread.request_snapshot(self, self.sink.encoding, self._snapshot)
            return
        if self._backlog is not None:
            operations = self._backlog.operations()
            self._backlog = None
            seq = self._backlog_seq
            self.sink.send(
                Message(
                    Update(
                        thread=self.thread.id,
                        epoch=self.epoch,
                        seq=seq,
                        from_=None if self.seq == seq - 1 else self.seq,
                        ops=operations,
                    )
                )
            )
            self.seq = seq
        if self._runs:
            runs, self._runs = self._runs, {}
            for info in runs.values():
                self.sink.send(Message(Run(thread=self.thread.id, run=info)))
        if self._hash_due:
            self._hash_due = False
            self.thread.send_hash()

    def send_hash(self, epoch: int, seq: int, message: Message) -> None:
        """Takes the hash of the state at (epoch, seq): sent if this is where the reader is."""
        if self.lagging or not self.sink.ready:
            self._hash_due = True
            self.sink.lag(self)
        elif (self.epoch, self.seq) == (epoch, seq):
            self.sink.send(message)

    def _snapshot(self, snapshot: SnapshotMessage) -> None:
        """The thread's answer to `request_snapshot`, called while it is exactly the committed state."""
        if not self._snapshot_due or self not in self.thread.subscribers:
            return
        if not self.sink.ready:
            self.sink.lag(self)
            return
        self._snapshot_due = False
        self.sink.send(snapshot)
        self.epoch, self.seq = snapshot.epoch, snapshot.seq
        if self.hash:
            self.thread.send_hash()
        self.drain()
