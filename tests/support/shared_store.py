"""Many nodes on one store in memory, with the faults of networks: delays, lost answers, cuts, pauses.

`Hub` is the database, with the loop's clock for leases; `hub.node()` is what one node sees of it, a
SharedStore. Each call has its effect at one moment, between a delay on the way there and one on the way back.
"""

from __future__ import annotations

import asyncio
import math
import random
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Literal, Self, TypeAlias, TypeVar

import msgspec

from tests.support.faulty_store import Truth, at_once
from threadwire.core.codec import decode_log, encode_log
from threadwire.core.errors import StoreUnavailable, WriteConflict
from threadwire.core.frames import Strategy
from threadwire.core.operations import Json, apply
from threadwire.engine.bus import MemoryBus
from threadwire.engine.shared import Arrival, Elsewhere, Place, Progress, Standing
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

Fate: TypeAlias = Literal["sound", "refused", "unknown", "late"]
"""Of a call: all is well; it fails without effect, after its effect, or before."""


@dataclass
class Links:
    """How often what goes wrong on the ways between nodes and store, from 0 to 1, and how long each takes."""

    refused: float = 0.0
    """A call fails without effect."""
    unknown: float = 0.0
    """It fails after its effect."""
    late: float = 0.0
    """It fails, and has its effect later."""
    lost: float = 0.0
    """A message of the bus doesn't come."""
    twice: float = 0.0
    """It comes twice."""
    delays_s: tuple[float, ...] = (0.0,)

    def fate(self, dice: random.Random) -> Fate:
        """What becomes of a call."""
        luck = dice.random()
        if luck < self.refused:
            return "refused"
        if luck < self.refused + self.late:
            return "late"
        return "unknown" if luck > 1 - self.unknown else "sound"


class _Lease:
    def __init__(self) -> None:
        self.owner: str | None = None
        self.until = -1.0
        self.parked = False
        self.version = 0


class Hub:
    """The database. `truth` is every state that a thread ever had."""

    def __init__(
        self, dice: random.Random | None = None, links: Links | None = None, *, lease_s: float = 5.0
    ) -> None:
        self.disk = MemoryStore()
        self.truth: dict[str, Truth] = {}
        self.dice = dice or random.Random(0)
        self.links = links or Links()
        self.lease_s = lease_s
        self.out = False
        """Whether the database is down."""
        self.leases: dict[str, _Lease] = {}
        self.origins: dict[tuple[str, str], str | None] = {}
        self.peers: dict[str, MemoryBus] = {}
        self.mail: list[tuple[str, str]] = []
        """What nodes have left for others, each with its node."""
        self.appends: list[tuple[str, Append]] = []
        """Those that were written, each with its node."""
        self._number = 0

    def node(self) -> NodeStore:
        self._number += 1
        return NodeStore(self, f"n{self._number}")

    def lease(self, thread: str) -> _Lease:
        return self.leases.setdefault(thread, _Lease())

    def owner(self, thread: str) -> str | None:
        lease = self.lease(thread)
        return lease.owner if lease.until >= self.now() else None

    def now(self) -> float:
        return asyncio.get_running_loop().time()

    def note(self, thread: str) -> None:
        log = at_once(self.disk.log(thread, after=0, limit=0))
        if log is None:
            self.truth.pop(thread, None)
            return
        truth = self.truth.setdefault(thread, Truth(log.floor_epoch))
        log = at_once(self.disk.log(thread, after=truth.head, limit=1_000_000))
        assert log is not None
        for row in log.rows:
            assert row.seq == truth.head + 1
            assert row.epoch >= truth.epochs[-1], "an old epoch has written"
            truth.states.append(apply(truth.states[-1], decode_log(row.data)))
            truth.epochs.append(row.epoch)

    async def rob(self, thread: str) -> None:
        """A node that nobody knows takes the thread, if it can, and gives it away again."""
        if self.owner(thread) is not None:
            return
        self.take("nobody", thread, None, 0.0, True)
        self.lease(thread).until = -1.0

    # what nodes ask, each at one moment

    def take(
        self, node: str, thread: str, agent: str | None, now: float, anew: bool
    ) -> Owned | Elsewhere | None:
        held, lease = self.disk._threads.get(thread), self.lease(thread)
        if held is None:
            if agent is None:
                return None
            held = self.disk._add(ThreadRecord(id=thread, agent=agent, created_at=now, updated_at=now), now)
        elif lease.owner == node and not anew:
            pass
        elif lease.owner != node and lease.until >= self.now():
            assert lease.owner is not None
            return Elsewhere(lease.owner, lease.until - self.now())
        else:
            held.epoch = self.disk._take_epoch(now)
            held.head += 1
            held.epochs.append((held.head, held.epoch))
            held.rows.append(encode_log(()))
            lease.version += 1
        lease.owner, lease.until, lease.parked = node, self.now() + self.lease_s, False
        self.note(thread)
        owned = at_once(self.disk.acquire(thread, agent=None, now=now))
        assert owned is not None
        return msgspec.structs.replace(owned, version=lease.version)

    def append(self, node: str, entry: Append, version: int) -> Exception | None:
        outcome: list[Exception | None] = []
        held = self.disk._threads.get(entry.thread)
        before = held.head if held is not None else -1
        if held is not None and held.epoch == entry.epoch and self.lease(entry.thread).version != version:
            there = held.head == entry.seq and self.lease(entry.thread).version == version + 1
            return None if there else WriteConflict("it comes too late")
        self.disk.append(entry, outcome.append)
        if outcome[0] is None:
            self.lease(entry.thread).version += 1
            if entry.data is None or entry.seq == before + 1:
                self.appends.append((node, entry))
            self.note(entry.thread)
        return outcome[0]

    def submit(
        self,
        thread: str,
        command: str,
        body: bytes,
        context: bytes | None,
        limit: int,
        now: float,
        strategy: Strategy,
        origin: str | None,
    ) -> Submission | None:
        submission = at_once(
            self.disk.submit(thread, command, body, context=context, limit=limit, now=now, strategy=strategy)
        )
        if submission is not None and submission.created:
            self.origins[thread, command] = origin
        return submission

    def arrivals(self, threads: Sequence[str]) -> dict[str, list[str]]:
        found = {
            thread: [
                each.id
                for each in held.open_commands.values()
                if each.status == "queued" and self.origins[thread, each.id] is not None
            ]
            for thread in threads
            if (held := self.disk._threads.get(thread)) is not None
        }
        return {thread: ids for thread, ids in found.items() if ids}

    def read_arrivals(self, thread: str, ids: Sequence[str]) -> list[Arrival]:
        held = self.disk._threads.get(thread)
        records = [] if held is None else [held.commands[id] for id in ids if id in held.commands]
        records.sort(key=lambda record: record.order)
        return [Arrival(record, self.origins[thread, record.id]) for record in records]

    def renew(self, node: str, epochs: Mapping[str, int]) -> set[str]:
        held = set()
        for thread, epoch in epochs.items():
            entry, lease = self.disk._threads.get(thread), self.lease(thread)
            mine = lease.owner == node and not lease.parked
            if entry is not None and entry.epoch == epoch and mine:
                lease.until = self.now() + self.lease_s
                held.add(thread)
        return held

    def release(self, node: str, thread: str, epoch: int, parked: bool) -> None:
        entry, lease = self.disk._threads.get(thread), self.lease(thread)
        if entry is not None and entry.epoch == epoch and lease.owner == node:
            lease.until, lease.parked = -1.0, parked
            lease.owner = node if parked else None

    def release_all(self, node: str) -> None:
        for lease in self.leases.values():
            if lease.owner == node and lease.until >= self.now():
                lease.owner, lease.until = None, -1.0

    def orphans(self, agents: Sequence[str], limit: int) -> list[str]:
        found = []
        for thread in at_once(self.disk.unfinished()):
            held, lease = self.disk._threads[thread], self.lease(thread)
            queued = any(command.status == "queued" for command in held.open_commands.values())
            free = lease.until < self.now() and (not lease.parked or queued)
            if free and held.record.agent in agents:
                found.append(thread)
        return found[:limit]

    def standings(self, threads: Sequence[str]) -> list[Standing]:
        return [
            Standing(
                thread,
                self.disk._threads[thread].epoch,
                self.lease(thread).version,
                self.owner(thread),
                max(self.lease(thread).until - self.now(), 0.0),
            )
            for thread in threads
            if thread in self.disk._threads
        ]

    def take_mail(self, node: str) -> list[str]:
        taken = [message for to, message in self.mail if to == node]
        self.mail = [each for each in self.mail if each[0] != node]
        return taken

    def follow(self, places: Sequence[Place], rows: int) -> dict[str, Progress]:
        return {
            place.thread: self._progress(place, rows)
            for place in places
            if place.thread in self.disk._threads
        }

    def _progress(self, place: Place, rows: int) -> Progress:
        held = self.disk._threads[place.thread]
        runs: list[RunRecord] = list(held.runs.values())
        known = next((index for index, run in enumerate(runs) if run.id == place.run), len(runs) - 1)
        base = place.after
        return Progress(
            epoch=held.epoch,
            head=held.head,
            version=self.lease(place.thread).version,
            owner=self.owner(place.thread),
            base=held.epoch_at(base) if held.floor < base <= held.head else None,
            rows=[row for row in held.slice(base, rows) if row.seq > base],
            runs=runs[max(known, 0) :],
            commands=[held.commands[id] for id in place.commands if id in held.commands],
        )


class NodeStore:
    """What a node sees of the hub. Entering it anew is another node.

    `cut`: the node reaches neither the store nor others. `paused`: what it asks, and what comes for it,
    waits until it isn't any more. `stalled`: its appends are given up, and have their effect when it isn't
    any more, or some time after.
    """

    def __init__(self, hub: Hub, name: str) -> None:
        self.hub = hub
        self.node = name
        self.cut = False
        self.gone = False
        self.failed_at = -math.inf
        """When the last call could not be made, or was not answered."""
        self._running = asyncio.Event()
        self._running.set()
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._lag_s = 0.0
        self.fates: deque[Fate] = deque()
        """What becomes of the next calls; of those after them, what the links make of them."""
        self.bus = _Bus(self)
        self._appending: dict[str, int] = {}
        self._uncertain: set[str] = set()
        self._versions: dict[str, int] = {}
        self._last: dict[str, asyncio.Task[Any]] = {}
        """The last append of each thread: the next goes after its answer."""
        self._calls: set[asyncio.Task[Any]] = set()
        self._line: asyncio.Future[None] | None = None

    @property
    def url(self) -> str:
        return "memory:"

    @property
    def lease_s(self) -> float:
        return self.hub.lease_s

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self.gone:
            self.hub.release_all(self.node)
        self.crash()

    def crash(self) -> None:
        """The node is no more: nothing that it asked is answered, and what is on its way may be lost."""
        self.gone = True
        self._running.set()

    @property
    def paused(self) -> bool:
        return not self._running.is_set()

    def pause(self) -> None:
        self._running.clear()

    def resume(self) -> None:
        self._running.set()

    @property
    def stalled(self) -> bool:
        return not self._flowing.is_set()

    def stall(self, lag_s: float) -> None:
        """Holds up appends until `flow`, and for `lag_s` more."""
        self._lag_s = lag_s
        self._flowing.clear()

    def flow(self) -> None:
        self._flowing.set()

    # the way to the hub

    async def _call(self, work: Callable[[], T], *, appends: bool = False) -> T:
        hub = self.hub
        if self.gone:
            raise self._unavailable("the node is gone")
        await self._way()
        fate = self.fates.popleft() if self.fates else hub.links.fate(hub.dice)
        if self.gone:
            await self._never()
        if self.cut or hub.out or fate == "refused":
            raise self._unavailable("the store can't be reached")
        if appends and self.stalled:
            self._spawn(self._held_up(work))
            raise self._unavailable("the store has not answered")
        if fate == "late":
            self._spawn(self._later(work, hub.dice.choice((0.05, 0.5, 3))))
            raise self._unavailable("the store has not answered")
        outcome = work()
        await self._way()
        if self.gone:
            await self._never()
        if self.cut or fate == "unknown":
            raise self._unavailable("the store has not answered")
        return outcome

    def _unavailable(self, message: str) -> StoreUnavailable:
        self.failed_at = self.hub.now()
        return StoreUnavailable(message)

    async def _held_up(self, work: Callable[[], object]) -> None:
        await self._flowing.wait()
        await self._later(work, self._lag_s)

    async def _later(self, work: Callable[[], object], seconds: float) -> None:
        await asyncio.sleep(seconds)
        if not self.hub.out:
            with suppress(KeyError):  # the thread is gone
                work()

    async def _way(self) -> None:
        await asyncio.sleep(self.hub.dice.choice(self.hub.links.delays_s))
        await self._running.wait()

    async def _never(self) -> None:
        await asyncio.get_running_loop().create_future()

    def _spawn(self, work: Any) -> asyncio.Task[Any]:
        task: asyncio.Task[Any] = asyncio.ensure_future(work)
        self._calls.add(task)
        task.add_done_callback(self._calls.discard)
        return task

    async def end(self) -> None:
        """After a crash: drops what waits for answers."""
        for task in list(self._calls):
            task.cancel()
        if self._calls:
            await asyncio.wait(self._calls)

    # what the engine calls

    async def acquire(self, thread: str, *, agent: str | None, now: float) -> Owned | None:
        taken = await self.take(thread, agent=agent, now=now)
        if isinstance(taken, Elsewhere):
            raise StoreUnavailable("the thread is with another node")
        return taken

    async def take(self, thread: str, *, agent: str | None, now: float) -> Owned | Elsewhere | None:
        anew = thread in self._uncertain or self._appending.get(thread, 0) > 0

        def take() -> tuple[Owned | Elsewhere | None, int]:
            taken = self.hub.take(self.node, thread, agent, now, anew)
            return taken, self.hub.lease(thread).version

        taken, version = await self._call(take)
        if isinstance(taken, Owned):
            self._versions[thread] = version
            self._uncertain.discard(thread)
        return taken

    def append(self, entry: Append, done: Done) -> None:
        self._appending[entry.thread] = self._appending.get(entry.thread, 0) + 1
        before = self._last.get(entry.thread)
        self._last[entry.thread] = self._spawn(self._append(entry, done, before))

    async def _append(self, entry: Append, done: Done, before: asyncio.Task[Any] | None) -> None:
        if before is not None and not before.done():
            await asyncio.wait([before])
        error: Exception | None
        try:
            version = self._versions.get(entry.thread, 0)
            error = await self._call(lambda: self.hub.append(self.node, entry, version), appends=True)
            if error is None:
                self._versions[entry.thread] = version + 1
        except StoreUnavailable as unavailable:
            error = unavailable
        self._appending[entry.thread] -= 1
        if error is not None:
            self._uncertain.add(entry.thread)
        done(error)

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
        origin: str | None = None,
    ) -> Submission | None:
        # In the order of the calls.
        before, turn = self._line, asyncio.get_running_loop().create_future()
        self._line = turn
        if before is not None:
            await asyncio.wait([before])
        try:
            return await self._call(
                lambda: self.hub.submit(thread, command, body, context, limit, now, strategy, origin)
            )
        finally:
            turn.set_result(None)

    async def renew(self, epochs: Mapping[str, int]) -> set[str]:
        return await self._call(lambda: self.hub.renew(self.node, epochs))

    async def release(self, thread: str, epoch: int, *, parked: bool) -> None:
        await self._call(lambda: self.hub.release(self.node, thread, epoch, parked))

    async def orphans(self, agents: Sequence[str], *, limit: int) -> list[str]:
        return await self._call(lambda: self.hub.orphans(agents, limit))

    async def standings(self, threads: Sequence[str]) -> list[Standing]:
        return await self._call(lambda: self.hub.standings(threads))

    async def follow(self, places: Sequence[Place], *, rows: int) -> dict[str, Progress]:
        return await self._call(lambda: self.hub.follow(places, rows))

    async def post(self, node: str, message: str) -> None:
        await self._call(lambda: self.hub.mail.append((node, message)))

    async def mail(self) -> list[str]:
        return await self._call(lambda: self.hub.take_mail(self.node))

    async def arrivals(self, threads: Sequence[str]) -> dict[str, list[str]]:
        return await self._call(lambda: self.hub.arrivals(threads))

    async def read_arrivals(self, thread: str, ids: Sequence[str]) -> list[Arrival]:
        return await self._call(lambda: self.hub.read_arrivals(thread, ids))

    async def save_snapshot(self, thread: str, snapshot: StoredSnapshot, *, keep_after: int) -> None:
        def save() -> None:
            truth = self.hub.truth.get(thread)
            if truth is not None and snapshot.epoch == truth.epochs[snapshot.seq]:
                assert msgspec.msgpack.decode(snapshot.data) == truth.states[snapshot.seq]
            at_once(self.hub.disk.save_snapshot(thread, snapshot, keep_after=keep_after))

        await self._call(save)

    async def delete_thread(self, thread: str) -> bool:
        def delete() -> bool:
            self.hub.truth.pop(thread, None)
            self.hub.leases.pop(thread, None)
            return at_once(self.hub.disk.delete_thread(thread))

        return await self._call(delete)

    async def find_name(self, id: str) -> ThreadName | None:
        return await self._call(lambda: at_once(self.hub.disk.find_name(id)))

    async def bind(self, name: str, thread: str, *, keep: bool) -> bool:
        return await self._call(lambda: at_once(self.hub.disk.bind(name, thread, keep=keep)))

    async def anonymous_before(self, time: float, *, limit: int) -> list[str]:
        return await self._call(lambda: at_once(self.hub.disk.anonymous_before(time, limit=limit)))

    async def create(self, record: ThreadRecord, *, anonymous: bool = False) -> bool:
        def create() -> bool:
            made = at_once(self.hub.disk.create(record, anonymous=anonymous))
            self.hub.note(record.id)
            return made

        return await self._call(create)

    async def command(self, thread: str, command: str) -> CommandRecord | None:
        return await self._call(lambda: at_once(self.hub.disk.command(thread, command)))

    async def notes(self, thread: str) -> dict[str, bytes]:
        return await self._call(lambda: at_once(self.hub.disk.notes(thread)))

    async def log(self, thread: str, *, after: int, limit: int) -> LogSlice | None:
        return await self._call(lambda: at_once(self.hub.disk.log(thread, after=after, limit=limit)))

    async def row_epoch(self, thread: str, seq: int) -> int | None:
        return await self._call(lambda: at_once(self.hub.disk.row_epoch(thread, seq)))

    async def snapshot_before(self, thread: str, seq: int) -> StoredSnapshot | None:
        return await self._call(lambda: at_once(self.hub.disk.snapshot_before(thread, seq)))

    async def unfinished(self) -> list[str]:
        return await self._call(lambda: at_once(self.hub.disk.unfinished()))

    async def thread(self, thread: str) -> ThreadRecord | None:
        return await self._call(lambda: at_once(self.hub.disk.thread(thread)))

    async def threads(
        self, *, archived: Archived, agent: str | None, limit: int, cursor: str | None
    ) -> ThreadPage:
        disk = self.hub.disk
        return await self._call(
            lambda: at_once(disk.threads(archived=archived, agent=agent, limit=limit, cursor=cursor))
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
        disk = self.hub.disk
        return await self._call(
            lambda: at_once(
                disk.update_thread(thread, title=title, archived=archived, custom=custom, now=now)
            )
        )

    async def runs(self, thread: str, *, limit: int) -> list[RunRecord]:
        return await self._call(lambda: at_once(self.hub.disk.runs(thread, limit=limit)))

    async def check(self) -> None:
        await self._call(lambda: None)


class _Bus(MemoryBus):
    """Loses, doubles and delays messages, as its hub says."""

    def __init__(self, store: NodeStore) -> None:
        super().__init__(store.node, store.hub.peers)
        self.store = store

    def deliver(self, peer: MemoryBus, message: str) -> None:
        assert isinstance(peer, _Bus)
        hub = self.store.hub
        times = 0 if hub.dice.random() < hub.links.lost else 1 + (hub.dice.random() < hub.links.twice)
        for _ in range(times):
            self.store._spawn(self._bring(peer, message))

    async def _bring(self, peer: _Bus, message: str) -> None:
        await self.store._way()
        if self.store.cut or peer.store.cut or self.store.gone:
            return
        await peer.store._running.wait()
        if not peer.store.gone:
            peer.on_message(message)
