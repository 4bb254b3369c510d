"""A thread as its owner runs it: one writer, one log, one run at a time.

Everything that changes goes the same way: it is recorded (operations in the document, facts
about commands and runs beside them), cut into one append, committed, and only then published.
At most one append is in flight; what is recorded meanwhile waits for the next cut. All of it
happens on the event loop's thread.

Below are the store and the document; above are `threads`, which loads and unloads, and the
endpoints. The life of a run is in `runner`.

Spec: PROTOCOL.md §4, §7, §9.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Final, TypeAlias, TypeVar, cast

import anyio.to_thread
import msgspec

from ..core.canonical import state_hash
from ..core.codec import Encoding, UpdateEncoder, decode_log, encode_log
from ..core.document import DetachedWrite, Document, LockedDocument
from ..core.errors import (
    ErrorInfo,
    Refused,
    StoreError,
    StoreUnavailable,
    WriteConflict,
)
from ..core.frames import CommandState, Error, Position, RunInfo, Strategy, Update
from ..core.operations import AppendText, Json, apply_in_place
from ..core.session import read_position
from .absence import Absence
from .agent import Agent
from .context import Sent
from .history import History
from .intake import Intake, Watcher
from .message import Message, SnapshotMessage, UpdateMessage
from .run import ended
from .runner import Runner
from .settings import Settings
from .store import (
    Append,
    CommandChange,
    Owned,
    RunRecord,
    Store,
)
from .storing import Storing
from .subscriber import Sink, Subscriber
from .waiting import Waiting

if TYPE_CHECKING:
    from .guests import Guests

logger = logging.getLogger("threadwire")

_LOG_PAGE: Final = 1000
_NOTHING: Final = encode_log(())
"""The row of a new owner."""

T = TypeVar("T")


class Moved(StoreUnavailable):
    """The thread is another object on this node now: ask for it again."""


_Snapshots: TypeAlias = "list[tuple[Encoding, bytes, Callable[[SnapshotMessage], None]]]"


class _Inflight(msgspec.Struct, eq=False):
    """An append on its way, and what is published once it is there."""

    entry: Append
    update: UpdateMessage | None
    facts: _Facts | None
    snapshots: _Snapshots | None
    failing_since: float | None = None


class _Facts:
    """What happened to commands and the run since the last cut."""

    __slots__ = ("before", "commands", "frames", "notes", "run", "runs")

    def __init__(self) -> None:
        self.before: list[CommandState | RunInfo] = []
        """Published before the update: what has started."""
        self.frames: list[CommandState] = []
        """Published after it."""
        self.commands: dict[str, CommandChange] = {}
        self.notes: dict[str, bytes | None] = {}
        self.run: RunRecord | None = None
        self.runs: list[RunInfo] = []


class Thread:
    """Made by `Threads` from what the store holds. Public methods are for endpoints.

    Attributes:
        id: the thread's id.
        agent_name: the name its agent is served under.
        subscribers: the connections that follow it, in the order they came.
    """

    __slots__ = (
        "__weakref__",
        "_awaited",
        "_closed_by",
        "_committed",
        "_cut_committed",
        "_cut_number",
        "_cut_scheduled",
        "_document",
        "_encoded",
        "_encoder",
        "_facts",
        "_flushing",
        "_hash_due",
        "_hashing",
        "_head",
        "_history",
        "_inflight",
        "_json_readers",
        "_loop",
        "_notes",
        "_on_lost",
        "_shown_run",
        "_snapshot_waiters",
        "_snapshots",
        "_store",
        "_written",
        "absence",
        "agent",
        "agent_name",
        "closed",
        "deleting",
        "epoch",
        "guests",
        "id",
        "intake",
        "pins",
        "runner",
        "settings",
        "spawn",
        "storing",
        "subscribers",
        "used_at",
        "waiting",
    )

    def __init__(
        self,
        owned: Owned,
        *,
        agent: Agent,
        store: Store,
        settings: Settings,
        spawn: Callable[[Any], asyncio.Task[Any]],
        on_lost: Callable[[Thread, Exception], None],
    ) -> None:
        self.id = owned.record.id
        self.agent_name = owned.record.agent
        self.agent = agent
        self.epoch = owned.epoch
        self.settings = settings
        self.subscribers: dict[Subscriber, None] = {}
        self.pins = 0
        """Calls under way that need the thread to stay loaded."""
        self.used_at = asyncio.get_running_loop().time()
        self.closed = False
        self.deleting = False
        """Whether what ends now ends for the thread's being deleted."""
        self.guests: Guests | None = None
        """Who follows it on other nodes, where there are others."""

        self._closed_by: type[StoreUnavailable] = StoreUnavailable
        self._store = store
        self.spawn = spawn
        self._on_lost = on_lost
        self._loop = asyncio.get_running_loop()
        self._document, self._history = self._load(owned)
        self._written = owned.snapshot is not None or any(row.data != _NOTHING for row in owned.tail)
        self._head = owned.head
        self._committed = owned.head
        self._facts: _Facts | None = None
        self._inflight: _Inflight | None = None
        self._cut_scheduled = False
        self._cut_number = 0
        self._cut_committed = 0
        self._flushing: list[tuple[int, asyncio.Future[None]]] = []
        self._awaited: set[asyncio.Future[Any]] = set()
        """What calls wait for; failed when the thread is closed."""
        self._snapshot_waiters: dict[object, tuple[Encoding, Callable[[SnapshotMessage], None]]] = {}
        self._encoded: dict[Encoding, bytes] = {}
        """The state at `_head`, for those who ask for it soon after each other."""
        self._snapshots: dict[Encoding, SnapshotMessage] = {}
        """The same, as messages."""
        self._json_readers = 0
        self._encoder = UpdateEncoder(self.id, self.epoch)
        self._hashing = self._hash_due = False
        self._shown_run = _info(owned.run)
        self.storing = Storing(self, store, owned)
        self.absence = Absence(self)
        self._notes: dict[str, bytes] | None = None
        self.intake = Intake(self, store)
        self.runner = Runner(self, owned)
        self.waiting = Waiting(self, tool_grace_s=settings.tool_grace_s)

    def _load(self, owned: Owned) -> tuple[Document, History]:
        stored = owned.snapshot
        state: Json = {} if stored is None else msgspec.msgpack.decode(stored.data)
        first = owned.tail[0] if owned.tail else None
        history = History(
            first.seq - 1 if first else owned.head,
            stored.epoch if stored else (owned.epoch if not first else None),
        )
        for row in owned.tail:
            state = apply_in_place(state, decode_log(row.data))
            history.add(row.seq, row.epoch, row.data)
        kind = LockedDocument if self.agent.blocking else Document
        limits = self.settings.limits
        document = kind(
            state,
            on_write=self._written_elsewhere if self.agent.blocking else self._schedule_cut,
            max_bytes=limits.max_state_bytes,
            max_depth=limits.max_depth,
        )
        return document, history

    # what endpoints and runs read

    @property
    def document(self) -> Document:
        return self._document

    @property
    def head(self) -> int:
        """The seq of the last update that was cut."""
        return self._head

    @property
    def committed(self) -> int:
        """The last seq that is durable."""
        return self._committed

    @property
    def position(self) -> tuple[int | None, int]:
        """(epoch, seq) of the last update that it has published; None where the epoch isn't known."""
        return self._history.epoch_at(self._committed), self._committed

    @property
    def has_readers(self) -> bool:
        """Whether anyone follows it, wherever they are connected."""
        return bool(self.subscribers) or (self.guests is not None and self.guests.readers > 0)

    @property
    def executors(self) -> list[Subscriber]:
        """All who may execute tools, wherever they are connected, in the order they came."""
        if self.guests is None:
            return list(self.subscribers)
        # A guest does all that is asked of an executor.
        return [*self.subscribers, *cast(Iterator[Subscriber], iter(self.guests))]

    @property
    def untouched(self) -> bool:
        """Whether nothing was ever written or run; that it had several owners is no writing."""
        return not self._written and not self._document.dirty and self._shown_run is None

    @property
    def size(self) -> int:
        """About the bytes of a snapshot."""
        return self._document.size

    @property
    def run_info(self) -> RunInfo | None:
        """The current or last run as clients have been told of it."""
        return self._shown_run

    @property
    def idle(self) -> bool:
        """Whether nothing needs the thread to stay loaded."""
        return not (
            self.subscribers
            or self.pins
            or (self.runner.busy and not (self.runner.parked and not self.intake.watched))
            or self._inflight
            or self._facts is not None
            or self._document.dirty
            or self.storing.busy
        )

    @property
    def worth_storing(self) -> bool:
        """Whether a stored snapshot would make the next loading shorter, and is this node's to store."""
        return self.storing.worthwhile

    # subscribing

    async def subscribe(
        self, sink: Sink, *, since: Json = None, hash: bool = False, tools: tuple[str, ...] = ()
    ) -> Subscriber:
        """Begins to follow: the missed updates or a snapshot, then the run, then all that comes.

        `since` is `{epoch, seq}`; what makes no sense is answered by a snapshot. Spec: PROTOCOL.md §9.2.

        Raises:
            StoreError: the missed updates could not be read.
        """
        subscriber = Subscriber(self, sink, hash=hash, tools=tools)
        position = read_position(since)
        resumed = False
        if position is not None:
            self.pins += 1
            try:
                resumed = await self._catch_up(subscriber, position)
            finally:
                self.pins -= 1
        # From here to the end nothing awaits: no update can come between.
        self.check_open()
        self.subscribers[subscriber] = None
        self.absence.changed()
        if sink.encoding == "json":
            self._json_readers += 1
        if not resumed:
            subscriber.need_snapshot()
        subscriber.run(self._shown_run)
        subscriber.drain_or_lag()
        if resumed and hash:
            self.send_hash()
        if tools:
            self.waiting.joined(subscriber)
        return subscriber

    def unsubscribe(self, subscriber: Subscriber) -> None:
        if subscriber in self.subscribers:
            del self.subscribers[subscriber]
            self._snapshot_waiters.pop(subscriber, None)
            if subscriber.sink.encoding == "json":
                self._json_readers -= 1
            self.waiting.left(subscriber)
            self.absence.changed()
            self.touch()

    def take_over(self, other: Thread, *, resumes: bool) -> None:
        """Takes the subscribers of an object of the same thread that is closed.

        `resumes`: what they have been given ends where this object is; else they get snapshots.
        """
        subscribers, other.subscribers = other.subscribers, {}
        for subscriber in subscribers:
            self.subscribers[subscriber] = None
            if subscriber.sink.encoding == "json":
                self._json_readers += 1
            subscriber.moved(self, resumes=resumes)
            if self._shown_run != other.run_info:
                subscriber.run(self._shown_run)
            if subscriber.tools:
                self.waiting.joined(subscriber)

    async def be_current(self) -> None:
        """Returns when all is published that was durable at the time of this call. Raises StoreError.

        To be awaited before `subscribe` and `snapshot`, or a client that comes from another node might go
        back in time.
        """
        if self.guests is not None:
            await self.guests.confirm()
            self.check_open()

    async def _catch_up(self, subscriber: Subscriber, position: Position) -> bool:
        """Gives it the committed updates after `position`; False where only a snapshot will do.

        Returns in the very step in which its answer is complete, so that the caller may go on from it.
        """
        reached = position.seq
        if reached > self._committed:
            return False
        epoch = self._history.epoch_at(reached)
        if epoch is None:
            epoch = await self._store.row_epoch(self.id, reached)
        if epoch != position.epoch:
            return False
        subscriber.begin(position)
        # Memory holds the newest; the store is read until it meets them.
        while reached < self._history.floor:
            page = await self._store.log(self.id, after=reached, limit=_LOG_PAGE)
            if page is None or not page.rows or page.rows[0].seq != reached + 1:
                return False
            # What is durable already, but not published, it gets as it is published.
            rows = [row for row in page.rows if row.seq <= self._committed]
            if not subscriber.missed(rows):
                return False
            reached = rows[-1].seq
        return subscriber.missed(self._history.after(reached))

    def request_snapshot(
        self, owner: object, encoding: Encoding, deliver: Callable[[SnapshotMessage], None]
    ) -> None:
        """Calls `deliver` with the state as it is committed, at once or with the next commit.

        The only way that a whole state leaves the engine: encoded while the document is exactly the
        state at a seq, handed over when that seq is durable and before any later one. One request
        an `owner` at a time.
        """
        with self._document.lock:
            if self._document.dirty:
                self._snapshot_waiters[owner] = (encoding, deliver)
                self._schedule_cut()
                return
            encoded = self._encode(encoding)
        if self._inflight is None:
            deliver(self._snapshot_message(encoding, encoded))
        elif self._inflight.snapshots is None:
            self._inflight.snapshots = [(encoding, encoded, deliver)]
        else:
            self._inflight.snapshots.append((encoding, encoded, deliver))

    async def snapshot(self, encoding: Encoding) -> SnapshotMessage:
        """The committed state. Raises StoreUnavailable where the thread is lost meanwhile."""
        self.check_open()
        future: asyncio.Future[SnapshotMessage] = self._loop.create_future()

        def deliver(snapshot: SnapshotMessage) -> None:
            if not future.done():
                future.set_result(snapshot)

        self.pins += 1
        try:
            self.request_snapshot(future, encoding, deliver)
            return await self.wait(future)
        finally:
            self._snapshot_waiters.pop(future, None)
            self.pins -= 1

    async def state_at(self, seq: int) -> Json:
        """The state after the update `seq`.

        Raises:
            LookupError: the log doesn't reach back so far.
            StoreError: it could not be read.
        """
        self.pins += 1
        try:
            while self._committed < seq:
                await self.flush()
            stored = await self._store.snapshot_before(self.id, seq)
            state: Json = {} if stored is None else msgspec.msgpack.decode(stored.data)
            reached = 0 if stored is None else stored.seq
            while reached < seq:
                page = await self._store.log(self.id, after=reached, limit=min(_LOG_PAGE, seq - reached))
                if page is None or not page.rows or page.rows[0].seq != reached + 1:
                    raise LookupError(seq)
                for row in page.rows:
                    state = apply_in_place(state, decode_log(row.data))
                reached = page.rows[-1].seq
            return state
        finally:
            self.pins -= 1

    def _encode(self, encoding: Encoding) -> bytes:
        encoded = self._encoded.get(encoding)
        if encoded is None:
            if not self._encoded:
                self._loop.call_later(1, self._forget_encoded)
            encoded = self._encoded[encoding] = self._document.encode(encoding)
        return encoded

    def _forget_encoded(self) -> None:
        self._encoded.clear()
        self._snapshots.clear()

    def _snapshot_message(self, encoding: Encoding, state: bytes) -> SnapshotMessage:
        message = self._snapshots.get(encoding)
        if message is None or message.state is not state or message.run is not self._shown_run:
            message = self._snapshots[encoding] = SnapshotMessage(
                thread=self.id,
                epoch=self.epoch,
                seq=self._committed,
                state=state,
                run=self._shown_run,
                encoding=encoding,
            )
        return message

    def send_hash(self) -> None:
        """Sends the hash of the committed state to those who asked, once it is computed.

        It goes as an update that changes nothing; who has been sent more by then gets none.
        """
        self._hash_due = True
        if not self._hashing:
            self._hashing = True
            self.spawn(self._hash())

    async def _hash(self) -> None:
        try:
            while self._hash_due:
                self._hash_due = False
                snapshot = await self.snapshot("msgpack")
                digest = await anyio.to_thread.run_sync(_hash_of, snapshot.state)
                frame = Update(
                    thread=self.id,
                    epoch=snapshot.epoch,
                    seq=snapshot.seq,
                    from_=snapshot.seq,
                    ops=[],
                    hash=digest,
                )
                message = Message(frame)
                for subscriber in self.subscribers:
                    if subscriber.hash:
                        subscriber.send_hash(snapshot.epoch, snapshot.seq, message)
        except StoreError:
            return  # the thread is lost, and its subscribers know
        finally:
            self._hashing = False

    # commands

    async def submit(
        self,
        id: str,
        body: Json,
        *,
        strategy: Strategy | None,
        watcher: Watcher,
        origin: Sink | None = None,
        sent: Sent | None = None,
    ) -> None:
        """Takes a command; `watcher` is told of every status from queued on.

        `origin` is the connection it came from, which executes tools for it if it can; `sent` is what came
        along with it over HTTP.

        Raises:
            CommandError: refused before it was queued.
            Refused: `command-id-reused`.
            StoreError: it could not be made durable.
        """
        self.check_open()
        self.touch()
        # In a task of the thread's own: whoever sent it may be gone before the store has answered.
        taking = self.spawn(self.intake.take(id, body, strategy or "enqueue", watcher, origin, sent))
        taking.add_done_callback(_note_failure)
        await asyncio.shield(taking)

    # recording; `runner` calls these

    def command_changed(self, change: CommandChange, *, before: bool = False) -> None:
        """Records a command's new status, to be committed and told with the next cut.

        A status of `applied` gets the seq of that cut.
        """
        state = CommandState(
            thread=self.id, id=change.id, status=change.status, seq=change.seq, error=change.error
        )
        facts = self._facts = self._facts or _Facts()
        facts.commands[change.id] = change
        (facts.before if before else facts.frames).append(state)
        self.intake.recorded(state)
        self._schedule_cut()

    def note_changed(self, name: str, data: bytes | None) -> None:
        """Records a note of the agent, to be committed with the next cut."""
        facts = self._facts = self._facts or _Facts()
        facts.notes[name] = data
        self._schedule_cut()

    async def stored_notes(self) -> dict[str, bytes]:
        """The agent's notes, ahead of the store's by what is recorded. Raises StoreError."""
        if self._notes is None:
            stored = await self._store.notes(self.id)
            if self.guests is not None:
                # Another owner's notes don't belong to the state that is here.
                await self.guests.confirm(anew=True)
                self.check_open()
            if self._notes is None:
                self._notes = stored
        return self._notes

    def run_changed(self, record: RunRecord, *, tell: bool = True) -> None:
        """Records the run's new status: a start is told before the next update, an end after it."""
        info = _info(record)
        assert info is not None
        facts = self._facts = self._facts or _Facts()
        facts.run = record
        if not tell:
            pass
        elif record.status in ("queued", "running") and not facts.runs:
            facts.before.append(info)
        else:
            facts.runs.append(info)
        self._schedule_cut()

    def touch(self) -> None:
        self.used_at = self._loop.time()

    async def flush(self) -> None:
        """Returns once all that is recorded is durable. Raises StoreUnavailable where it can't be."""
        self.check_open()
        if self._document.dirty or self._facts is not None:
            number = self._cut_number + 1
            self._schedule_cut()
        else:
            number = self._cut_number
        if self._cut_committed >= number:
            return
        future: asyncio.Future[None] = self._loop.create_future()
        self._flushing.append((number, future))
        await self.wait(future)

    async def wait(self, future: asyncio.Future[T]) -> T:
        """The future's outcome, or StoreUnavailable when the thread is closed before."""
        self.check_open()
        self._awaited.add(future)
        try:
            return await future
        finally:
            self._awaited.discard(future)

    # cutting and committing

    def _written_elsewhere(self) -> None:
        """A write that may come from a worker thread."""
        self._loop.call_soon_threadsafe(self._schedule_cut)

    def _schedule_cut(self) -> None:
        if not self._cut_scheduled and self._inflight is None and not self.closed:
            self._cut_scheduled = True
            # At the end of this tick: a synchronous stretch of agent code is never split.
            self._loop.call_soon(self._cut_or_lose)

    def _cut_or_lose(self) -> None:
        try:
            self._cut()
        except Exception as error:
            # What was cut may be written nowhere: only what the store holds is certain.
            self._fail(error)

    def _fail(self, error: Exception) -> None:
        logger.error("thread %s: a fault of the server", self.id, exc_info=error)
        self.lose(error)

    def _cut(self) -> None:
        if self._inflight is not None or self.closed:
            self._cut_scheduled = False
            return
        document = self._document
        if document.loans.due:
            try:
                document.check_loans()
            except DetachedWrite as error:
                self.runner.fail(ErrorInfo("detached-write", str(error), error.path))
        if self.agent.blocking:
            with document.lock:
                # An agent in a worker thread may write again before the next line.
                operations = document.cut()
                self.runner.wrote()
        else:
            operations = document.cut()
            self.runner.wrote()
        facts, self._facts = self._facts, None
        self._cut_scheduled = False
        update = None
        data = None
        if operations:
            if self._encoded:
                self._encoded.clear()
            data = encode_log(operations)
            self._head += 1
            self._written = True
            encoder = self._encoder
            first = operations[0]
            update = UpdateMessage(
                encoder=encoder,
                epoch=self.epoch,
                seq=self._head,
                data=data,
                json=encoder.json(self._head, operations) if self._json_readers else None,
                token=first if type(first) is AppendText and len(operations) == 1 else None,
            )
            # Strings of the state that anyone else holds can't grow in place.
            del operations, first
        snapshots = None
        if self._snapshot_waiters:
            snapshots = self._encode_for_waiters()
        if facts is not None:
            entry = self._entry(data, facts)
        elif data is not None:
            entry = Append(
                thread=self.id, epoch=self.epoch, seq=self._head, data=data, now=self.settings.clock()
            )
        else:
            # What was recorded has cancelled itself out.
            self._cut_committed = self._cut_number = self._cut_number + 1
            self._deliver(snapshots or [])
            self._flushed()
            return
        self._cut_number += 1
        self._inflight = _Inflight(entry, update, facts, snapshots)
        self._store.append(entry, self._appended)

    def _encode_for_waiters(self) -> _Snapshots:
        with self._document.lock:
            if self._document.dirty:
                return []  # an agent in a worker thread has written meanwhile: with the next cut
            waiters, self._snapshot_waiters = self._snapshot_waiters, {}
            return [(encoding, self._encode(encoding), deliver) for encoding, deliver in waiters.values()]

    def _entry(self, data: bytes | None, facts: _Facts) -> Append:
        return Append(
            thread=self.id,
            epoch=self.epoch,
            seq=self._head,
            data=data,
            commands=tuple(
                msgspec.structs.replace(change, seq=self._head) if change.status == "applied" else change
                for change in facts.commands.values()
            ),
            run=facts.run,
            notes=tuple(facts.notes.items()),
            now=self.settings.clock(),
        )

    def _appended(self, error: Exception | None) -> None:
        """The store's answer to the append in flight."""
        inflight = self._inflight
        if inflight is None or self.closed:
            return
        if error is not None:
            self._not_appended(inflight, error)
            return
        self._inflight = None
        self._committed = inflight.entry.seq
        self._cut_committed = self._cut_number
        facts = inflight.facts
        try:
            if facts is None:
                self._publish(inflight)
            else:
                self._publish_with(facts, inflight)
            if inflight.snapshots:
                self._deliver(inflight.snapshots)
            if self._flushing:
                self._flushed()
            if facts is not None and facts.run is not None:
                self.runner.run_committed(facts.run)
        except Exception as fault:
            self._fail(fault)
            return
        if self.guests is not None:
            self.guests.wrote(inflight.entry)
        if self._document.dirty or self._facts is not None or self._snapshot_waiters:
            self._schedule_cut()
        self.storing.check()

    def _not_appended(self, inflight: _Inflight, error: Exception) -> None:
        now = self._loop.time()
        if inflight.failing_since is None:
            inflight.failing_since = now
        waited = now - inflight.failing_since
        if isinstance(error, StoreUnavailable) and waited < self.settings.store_patience_s:
            self._loop.call_later(min(0.05 + waited / 4, 1), self._append_again, inflight)
        else:
            logger.error("thread %s: the store did not take an update: %s", self.id, error)
            self.lose(error)

    def _append_again(self, inflight: _Inflight) -> None:
        if self._inflight is inflight and not self.closed:
            self._store.append(inflight.entry, self._appended)

    def _publish(self, inflight: _Inflight) -> None:
        update = inflight.update
        if update is not None:
            data = update.data
            self._history.add(update.seq, update.epoch, data)
            self.storing.log_bytes += len(data)
            for subscriber in self.subscribers:
                subscriber.update(update)

    def _publish_with(self, facts: _Facts, inflight: _Inflight) -> None:
        """Tells of facts along with the update: some come before it, some after."""
        seq = inflight.entry.seq
        for fact in facts.before:
            self._tell(fact, seq)
        self._publish(inflight)
        for state in facts.frames:
            self._tell(state, seq)
        for info in facts.runs:
            self._tell(info, seq)
            if ended(info.status) and any(subscriber.hash for subscriber in self.subscribers):
                self.send_hash()

    def _deliver(self, snapshots: _Snapshots) -> None:
        for encoding, state, deliver in snapshots:
            deliver(self._snapshot_message(encoding, state))

    def _tell(self, fact: CommandState | RunInfo, seq: int) -> None:
        if isinstance(fact, RunInfo):
            self._shown_run = fact
            for subscriber in self.subscribers:
                subscriber.run(fact)
            return
        self.intake.tell(msgspec.structs.replace(fact, seq=seq) if fact.status == "applied" else fact)

    def _flushed(self) -> None:
        waiting = []
        for number, future in self._flushing:
            if number > self._cut_committed:
                waiting.append((number, future))
            elif not future.done():
                future.set_result(None)
        self._flushing = waiting

    # losing and unloading

    def lose(self, error: Exception) -> None:
        """Gives the thread up: what the store holds is the truth, and it is loaded again from there."""
        if self.closed:
            return
        self.close(Moved if isinstance(error, WriteConflict) else StoreUnavailable)
        self.runner.abandon()
        self._on_lost(self, error)

    def dismiss(self, code: str, message: str) -> None:
        """Ends all that follow it, with an error that tells why."""
        subscribers, self.subscribers = self.subscribers, {}
        for subscriber in subscribers:
            try:
                subscriber.sink.send(Message(Error(code=code, message=message, thread=self.id)))
                subscriber.sink.lost(subscriber)
            except Exception:  # it may be what the thread failed at
                logger.exception("thread %s: a subscriber could not be told", self.id)

    def close(self, kind: type[StoreUnavailable] = StoreUnavailable) -> None:
        """Ends this object's part in the thread; nothing more is written or sent by it.

        `kind` is what those get who wait for something.
        """
        self.closed = True
        self._closed_by = kind
        error = kind("the thread was unloaded")
        for future in self._awaited:
            if not future.done():
                future.set_exception(error)
        self._flushing.clear()

    def check_open(self) -> None:
        """Raises StoreUnavailable once the thread is closed."""
        if self.closed:
            raise self._closed_by("the thread was unloaded")


def _note_failure(task: asyncio.Task[None]) -> None:
    """Whoever waits for the task has its exception; maybe nobody does any more."""
    error = None if task.cancelled() else task.exception()
    if error is not None and not isinstance(error, Refused | StoreError):
        logger.error("a command was not taken in", exc_info=error)


def _hash_of(state: bytes) -> str:
    return state_hash(msgspec.msgpack.decode(state))


def _info(record: RunRecord | None) -> RunInfo | None:
    return None if record is None else RunInfo(id=record.id, status=record.status, error=record.error)
