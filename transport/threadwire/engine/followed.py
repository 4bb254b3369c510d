"""A thread that another node owns: its log folded as it grows, for the subscribers of this node.

What a subscriber is promised holds here as at the owner, since both publish nothing but committed rows.
What changes the thread goes to the owner: commands by the store's inbox, the rest over the bus.

Below are the store and the document; `nodes` reads for all followed threads at once, and puts an owner
in the place of a follower and the other way round.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

import msgspec

from ..core.codec import Encoding, UpdateEncoder, decode_log, encode_value
from ..core.document import Document
from ..core.errors import CommandError, StoreUnavailable
from ..core.frames import CommandState, RunInfo, Strategy, Tool
from ..core.operations import Json, Operation, apply_in_place
from .absence import Absence
from .agent import Agent
from .context import Sent
from .history import History
from .intake import Intake, Watcher, check_same
from .message import Message, SnapshotMessage, UpdateMessage
from .run import ended
from .runner import Runner
from .settings import Settings
from .shared import Place, Progress, SharedStore
from .signals import Alone, Cancel, Presence, Row, Seed, Tools
from .store import LogRow, Owned, RunRecord
from .subscriber import Sink, Subscriber
from .thread import Moved, Thread
from .waiting import Waiting

if TYPE_CHECKING:
    from .nodes import Nodes

_ALONE_S: Final = 1.0
"""How long an owner may take to say whether a run is abandoned."""
_MAX_EARLY: Final = 64
_MAX_TOOLS: Final = 20
"""Subscribers of a thread that a node offers for the execution of tools."""


class Followed(Thread):
    """Made by `Nodes`. Where it is behind the head, it is about to read on.

    Attributes:
        owner: the node that has the thread, as far as is known here.
    """

    __slots__ = (
        "_early",
        "_nodes",
        "_shared",
        "given_calls",
        "heard_at",
        "owner",
        "reading",
        "reads",
        "version",
    )

    def __init__(
        self,
        start: Owned,
        *,
        agent: Agent,
        store: SharedStore,
        settings: Settings,
        spawn: Callable[[Any], asyncio.Task[Any]],
        on_lost: Callable[[Thread, Exception], None],
        nodes: Nodes,
    ) -> None:
        """`start` is a state of the thread's past, to be read on from, and the last run known then."""
        super().__init__(start, agent=agent, store=store, settings=settings, spawn=spawn, on_lost=on_lost)
        self._nodes = nodes
        self._shared = store
        self.owner: str | None = None
        self.heard_at = self._loop.time()
        """When the bus has last brought anything of the owner."""
        self.version = -1
        """That which it has published."""
        self.reading = False
        """Whether what has come is under way from the store."""
        self._early: list[Row] = []
        """From the bus, not to be published yet."""
        self.reads: list[asyncio.Future[None]] = []
        """Who waits for the next reading to begin and end."""
        self.given_calls: set[tuple[str, str]] = set()
        """(subscriber, tool call) that were told to execute."""
        self.intake: FollowedIntake = FollowedIntake(self, store, nodes)
        self.runner = FollowedRunner(self, start, nodes)
        self.waiting = FollowedWaiting(self, nodes)
        self.absence = FollowedAbsence(self, nodes)

    def _load(self, owned: Owned) -> tuple[Document, History]:
        stored = owned.snapshot
        state: Json = {} if stored is None else msgspec.msgpack.decode(stored.data)
        return _Replay(state), History(owned.head, owned.epoch)

    @property
    def idle(self) -> bool:
        return not (self.subscribers or self.pins or self.reads or self.intake.watched)

    @property
    def worth_storing(self) -> bool:
        return False

    async def flush(self) -> None:
        """Returns once all that is durable now is known here. Raises StoreError."""
        await self._nodes.read(self)

    async def be_current(self) -> None:
        await self.flush()

    def request_snapshot(
        self, owner: object, encoding: Encoding, deliver: Callable[[SnapshotMessage], None]
    ) -> None:
        if self.version < 0:
            # It goes on where an object before it was, and what has come since is about to be read.
            self._snapshot_waiters[owner] = (encoding, deliver)
        else:
            super().request_snapshot(owner, encoding, deliver)

    def _deliver_snapshots(self) -> None:
        waiters, self._snapshot_waiters = self._snapshot_waiters, {}
        for owner, (encoding, deliver) in waiters.items():
            self.request_snapshot(owner, encoding, deliver)

    async def seed(self, state: dict[str, Json]) -> None:
        if not self.untouched:
            return
        limits = self.settings.limits
        Document({}, max_bytes=limits.max_state_bytes, max_depth=limits.max_depth).replace(state)
        node, id = self._nodes.node, self.settings.new_id()
        await self._nodes.ask(self, Seed(node=node, thread=self.id, id=id, state=state))

    # following

    @property
    def place(self) -> Place:
        run = self._shown_run
        return Place(
            thread=self.id,
            after=self._committed,
            run=None if run is None else run.id,
            commands=self.intake.watched,
        )

    @property
    def position(self) -> tuple[int, int]:
        """(epoch, seq) up to which it has published."""
        return self.epoch, self._committed

    def fold(self, progress: Progress) -> bool:
        """Publishes what has come; False where that doesn't lead on from here."""
        rows = progress.rows
        reached = rows[-1].seq if rows else self._committed
        if progress.base is not None and progress.base != self.epoch:
            return False  # a database that was set back has lost what was published
        if progress.head < self._committed or (rows and rows[0].seq != self._committed + 1):
            return False
        if reached < progress.head and not rows:
            return False
        whole = reached == progress.head
        news = self._run_news(progress.runs) if whole else []
        for row in rows:
            while news and news[0][0] < row.seq:
                self._tell_run(news.pop(0)[1])
            self._fold_row(row)
        if whole:
            self.version = progress.version
            while news and news[0][0] <= reached:
                self._tell_run(news.pop(0)[1])  # a start comes before what the commands have become by it
            for record in progress.commands:
                self.intake.learned(self.intake.recorded_state(record))
        for _, info in news:
            self._tell_run(info)
        if whole:
            self._deliver_snapshots()
        owner = self._nodes.other(progress.owner)
        if owner != self.owner:
            self.owner = owner
            self._nodes.present(self)
            if self.intake.watched:
                self._nodes.wake_owner(self)
        return True

    def push(self, row: Row) -> bool:
        """Publishes a row of the bus; False where what leads to it has to be read."""
        if row.epoch < self.epoch or (row.epoch == self.epoch and row.version <= self.version):
            return True  # it came twice, or late
        # The version tells that there was nothing in between, no change of a run or command either.
        next = (self.version + 1, self._committed + 1, self.epoch)
        if (row.version, row.seq, row.epoch) == next and not self.reading:
            self._fold_row(LogRow(row.seq, row.epoch, row.data))
            self.version = row.version
            return True
        if len(self._early) == _MAX_EARLY:
            return False
        self._early.append(row)
        return self.reading

    def push_early(self) -> bool:
        """Publishes what came over the bus too early; False where what leads to it has to be read."""
        early, self._early = self._early, []
        lead_on = all(self.push(row) for row in sorted(early, key=lambda row: row.version))
        # The others were durable when they came: what is read from here on has them, if the store has.
        self._early.clear()
        return lead_on

    def replay(self, rows: list[LogRow]) -> bool:
        """Goes on to a later moment of the past, with nobody there yet; whether the rows lead on."""
        if self._committed + 1 != rows[0].seq:
            return False
        for row in rows:
            self._fold_row(row)
        return True

    def _fold_row(self, row: LogRow) -> None:
        operations = decode_log(row.data)
        if row.epoch != self.epoch:
            self.epoch = row.epoch
            self._encoder = UpdateEncoder(self.id, row.epoch)
        if self._encoded:
            self._encoded.clear()
        update = UpdateMessage(
            encoder=self._encoder,
            epoch=row.epoch,
            seq=row.seq,
            data=row.data,
            # Before they become part of the state.
            json=self._encoder.json(row.seq, operations) if self._json_readers else None,
        )
        assert isinstance(self._document, _Replay)
        self._document.replay(operations, len(row.data))
        self._written = self._written or bool(operations)
        self._head = self._committed = row.seq
        self._history.add(row.seq, row.epoch, row.data)
        for subscriber in self.subscribers:
            subscriber.update(update)

    def _run_news(self, runs: list[RunRecord]) -> list[tuple[float, RunInfo]]:
        """What is to be told of runs, in order, each with the seq that it comes after."""
        news: list[tuple[float, RunInfo]] = []
        shown = self._shown_run
        for index, run in enumerate(runs):
            info = RunInfo(id=run.id, status=run.status, error=run.error)
            last: float = runs[index + 1].base if index + 1 < len(runs) else float("inf")
            is_new = shown is None or shown.id != run.id
            if is_new and not ended(run.status):
                shown = RunInfo(id=run.id, status="running")
                news.append((run.base, shown))
            if info != shown:
                news.append((last, info))
            shown = info
        return news

    def _tell_run(self, info: RunInfo) -> None:
        self._tell(info, self._committed)
        if ended(info.status) and any(subscriber.hash for subscriber in self.subscribers):
            self.send_hash()

    # tools

    def presence(self, *, answer: bool = False) -> Presence:
        tools = [Tools(_name(each), _name(each.sink), each.tools) for each in self.subscribers if each.tools]
        return Presence(
            node=self._shared.node,
            thread=self.id,
            readers=len(self.subscribers),
            tools=tools[:_MAX_TOOLS],
            answer=answer,
        )

    async def execute(self, name: str, call: str) -> None:
        """Has a subscriber execute a call that the owner gave to it."""
        given = (name, call)
        if given in self.given_calls:
            return
        entry = self._open_call(call)
        if entry is None:
            await self.flush()
            entry = self._open_call(call)
        subscriber = next((each for each in self.subscribers if _name(each) == name), None)
        if entry is None or subscriber is None or given in self.given_calls:
            return
        self.given_calls.add(given)
        frame = Tool(thread=self.id, tool_call_id=call, name=entry["name"], args=entry["args"])
        subscriber.tool(Message(frame))

    def _open_call(self, call: str) -> dict[str, Any] | None:
        root = self._document.root
        own = root.get("threadwire") if type(root) is dict else None
        calls = own.get("tool_calls", {}) if type(own) is dict else {}
        self.given_calls = {given for given in self.given_calls if given[1] in calls}
        entry = calls.get(call)
        return entry if type(entry) is dict else None


class _Replay(Document):
    """A state that operations are made to; it is never dirty."""

    def __init__(self, state: Json) -> None:
        super().__init__(state)
        self._grown = 0

    def replay(self, operations: list[Operation], weight: int) -> None:
        """`weight`: about their bytes."""
        self._root = apply_in_place(self._root, operations)
        # What was deleted or replaced isn't known: measured anew now and then.
        self.size += weight
        self._grown += weight
        if self._grown > max(self.size // 2, 4096):
            self.size = len(encode_value(self._root, "msgpack"))
            self._grown = 0


class FollowedIntake(Intake):
    """Puts commands into the store's inbox, and tells what the store says becomes of them."""

    def __init__(self, thread: Followed, store: SharedStore, nodes: Nodes) -> None:
        super().__init__(thread, store)
        self._followed = thread
        self._shared = store
        self._nodes = nodes
        self._adopted: set[str] = set()
        """Commands whose watchers may have been told by another object how they stand."""

    @property
    def watched(self) -> tuple[str, ...]:
        return tuple(self._watchers)

    async def take(
        self,
        id: str,
        body: Json,
        strategy: Strategy,
        watcher: Watcher,
        origin: Sink | None,
        sent: Sent | None,
    ) -> None:
        thread = self._followed
        thread.pins += 1
        try:
            encoded = await self._encode(body)
            thread.agent.registry.read(body)
            settings = thread.settings
            limit = settings.limits.max_pending_commands
            try:
                submission = await self._shared.submit(
                    thread.id,
                    id,
                    encoded,
                    context=None if sent is None else sent.encode(),
                    limit=limit,
                    now=settings.clock(),
                    strategy=strategy,
                    origin=f"{self._shared.node}/{_name(origin)}",
                )
            except KeyError:
                self._nodes.gone(thread)
                thread.check_open()
                raise
            thread.check_open()  # else another object of it answers by now
            if submission is None:
                raise CommandError("too-many-pending", f"{limit} commands wait already")
            record = submission.record
            check_same(record, encoded)
            if not submission.created:
                await thread.flush()  # what became of it is told after the state that shows it
            state = self.recorded_state(record)
            self.learned(state)
            known = self._known.get(id) or self._settled.get(id) or state
            self._tell_standing(record, known, watcher, duplicate=not submission.created)
            if id in self._watchers:
                self._known.setdefault(id, known)
                if origin is not None:
                    self._nodes.present(thread)  # it may be wanted for its tools
                self._nodes.wake_owner(thread)
                self._nodes.mark(thread)
        finally:
            thread.pins -= 1

    def adopt(self, lost: Intake) -> list[tuple[str, Watcher]]:
        if adopted := super().adopt(lost):
            self._adopted.update(id for id, _ in adopted)
            # What became of them is told after the state that shows it.
            self._nodes.mark(self._followed)
            self._nodes.wake_owner(self._followed)
        return []

    def learned(self, state: CommandState) -> None:
        """Takes what the store says of a command that is watched."""
        before = self._known.get(state.id)
        if state.id in self._watchers and (before is None or before.status != state.status):
            if state.id in self._adopted:
                self._adopted.discard(state.id)
                state = msgspec.structs.replace(state, duplicate=True)
            self._known[state.id] = state
            self.tell(state)


class FollowedRunner(Runner):
    """There is nothing of a run here; to cancel it is asked of the owner."""

    def __init__(self, thread: Followed, start: Owned, nodes: Nodes) -> None:
        super().__init__(thread, start)
        self._followed = thread
        self._nodes = nodes

    @property
    def active_or_queued(self) -> bool:
        info = self._followed.run_info
        return info is not None and info.status in ("queued", "running")

    async def cancel(self, run: str | None) -> RunInfo | None:
        thread = self._followed
        node, id = self._nodes.node, self._settings.new_id()
        await self._nodes.ask(thread, Cancel(node=node, thread=thread.id, id=id, run=run))
        return thread.run_info


class FollowedAbsence(Absence):
    """Whether there are readers here is told to the owner, whose clock it stops."""

    def __init__(self, thread: Followed, nodes: Nodes) -> None:
        super().__init__(thread)
        self._followed = thread
        self._nodes = nodes
        self._were = False

    async def abandoned_within(self, patience_s: float) -> bool:
        thread = self._followed
        if not thread.runner.active_or_queued:
            return False
        id = thread.settings.new_id()
        ask = Alone(node=self._nodes.node, thread=thread.id, id=id, within_s=patience_s)
        try:
            return await self._nodes.ask(thread, ask, patience_s=patience_s + _ALONE_S)
        except Moved:
            raise
        except StoreUnavailable:
            return False

    def changed(self) -> None:
        are = bool(self._followed.subscribers)
        if are != self._were:
            self._were = are
            self._nodes.present(self._followed)
        super().changed()


class FollowedWaiting(Waiting):
    """Subscribers that execute tools are told of to the owner."""

    def __init__(self, thread: Followed, nodes: Nodes) -> None:
        super().__init__(thread, tool_grace_s=thread.settings.tool_grace_s)
        self._followed = thread
        self._nodes = nodes

    def joined(self, subscriber: Subscriber) -> None:
        self._nodes.present(self._followed)

    def left(self, subscriber: Subscriber) -> None:
        self._nodes.present(self._followed)


def _name(thing: object) -> str:
    """Tells it from others of this node, as long as it lives."""
    return f"{id(thing):x}"
