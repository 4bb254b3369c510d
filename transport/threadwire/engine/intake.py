"""Commands on their way into a thread: made durable once, answered, given to the runner; and who watches.

Whoever sends a command watches it, and is told each of its statuses when `thread` has committed it.
The runner and its queue are below.

Spec: PROTOCOL.md §7.2, §7.5, §7.9.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import TYPE_CHECKING, Final, TypeAlias

import anyio.to_thread
import msgspec

from ..core.canonical import canonical
from ..core.codec import encode_value
from ..core.commands import AddToolResult, Command, Resume
from ..core.errors import CommandError, Refused, WriteConflict
from ..core.frames import CommandState, Strategy
from ..core.operations import Json
from .context import Sent
from .run import Given
from .store import CommandChange, CommandRecord, Store, Submission
from .subscriber import Sink

if TYPE_CHECKING:
    from .thread import Thread

LARGE_BODY: Final = 64 * 1024
_MAX_SETTLED: Final = 1000

Watcher: TypeAlias = Callable[[CommandState], None]
"""Told what becomes of a command."""


class Intake:
    """One for each loaded thread."""

    __slots__ = (
        "_answering",
        "_deciding",
        "_known",
        "_reading",
        "_settled",
        "_store",
        "_thread",
        "_watchers",
    )

    def __init__(self, thread: Thread, store: Store) -> None:
        self._thread = thread
        self._store = store
        self._watchers: dict[str, list[Watcher]] = {}
        self._known: dict[str, CommandState] = {}
        """The newest status of commands that are queued or running, ahead of the store's by an append."""
        self._settled: dict[str, CommandState] = {}
        """The last that were settled: what the store answers may be older than that."""
        self._reading = asyncio.Lock()
        """Lets commands through in the order they came, however long one takes to be read."""
        self._deciding: Counter[str] = Counter()
        """How often commands are between the check of their strategy and their place in the queue."""
        self._answering = 0
        """Answers among them: the run won't wait any more when these have come."""

    async def take(
        self,
        id: str,
        body: Json,
        strategy: Strategy,
        watcher: Watcher,
        origin: Sink | None,
        sent: Sent | None,
    ) -> None:
        """Takes a command in, as `Thread.submit` describes."""
        thread = self._thread
        thread.pins += 1
        try:
            encoded = await self._encode(body)
            command = thread.agent.registry.read(body)
            submission = await self._make_durable(id, command, encoded, strategy, sent)
            thread.check_open()  # else another object of it answers by now
            check_same(submission.record, encoded)
            given = self._answer(submission, command, watcher)
            if given is not None:
                given.origin = origin
                thread.runner.accept(given, strategy)
        finally:
            thread.pins -= 1

    def adopt(self, lost: Intake) -> list[tuple[str, Watcher]]:
        """Takes over those who watched commands of this thread before; `tell_adopted` is to tell them.

        At once, since this object may be lost as well before they could be told.
        """
        watching, lost._watchers = lost._watchers, {}
        for id, watchers in watching.items():
            mine = self._watchers.setdefault(id, [])
            mine += [watcher for watcher in watchers if watcher not in mine]
        return [(id, watcher) for id, watchers in watching.items() for watcher in watchers]

    async def tell_adopted(self, adopted: Sequence[tuple[str, Watcher]]) -> None:
        """Tells them how their commands stand, where they have not been told the end. Raises StoreError."""
        for id, watcher in adopted:
            if watcher not in self._watchers.get(id, ()):
                continue
            record = await self._store.command(self._thread.id, id)
            if record is not None and watcher in self._watchers.get(id, ()):
                state = self._known.get(id) or self._settled.get(id)
                self._tell_standing(record, state, watcher, duplicate=True)

    def would_wait(self, ids: Iterable[str]) -> int:
        """How many commands would be queued or running with these."""
        return len(self._known.keys() | set(ids))

    def forget(self, watcher: Watcher) -> None:
        """Tells `watcher` nothing more."""
        for id, watchers in list(self._watchers.items()):
            if watcher in watchers:
                watchers.remove(watcher)
                if not watchers:
                    del self._watchers[id]

    def is_new(self, id: str) -> bool:
        """Whether nothing is known here of a command."""
        return id not in self._known and id not in self._settled

    def arrive(self, record: CommandRecord, origin: Sink | None) -> None:
        """Takes in a command that another node has made durable, unless it is known here."""
        if not self.is_new(record.id) or record.status != "queued":
            return
        runner = self._thread.runner
        busy = runner.active_or_queued
        self.remember(record.id)
        try:
            command = self._thread.agent.registry.read(msgspec.json.decode(record.body))
            if record.strategy == "reject" and busy:
                raise CommandError("thread-busy", "a run is active", "strategy")
        except CommandError as refusal:
            change = CommandChange(id=record.id, status="rejected", error=refusal.info)
            self._thread.command_changed(change)
            return
        runner.accept(Given.of(record, command, origin=origin), record.strategy)

    # what the runner and the thread call

    @property
    def watched(self) -> Collection[str]:
        """Commands of which somebody is still to be told what becomes of them."""
        return self._watchers

    def remember(self, id: str) -> CommandState:
        """Notes that a command is queued here."""
        state = self._known[id] = CommandState(thread=self._thread.id, id=id, status="queued")
        return state

    def recorded(self, state: CommandState) -> None:
        """A status is about to be committed."""
        if not _final(state):
            self._known[state.id] = state

    def tell(self, state: CommandState) -> None:
        """A status has been committed."""
        watchers = self._watchers.get(state.id, ())
        if _final(state):
            self._watchers.pop(state.id, None)
            self._known.pop(state.id, None)
            self._settled[state.id] = state
            if len(self._settled) > _MAX_SETTLED:
                del self._settled[next(iter(self._settled))]
        for watcher in watchers:
            watcher(state)

    def recorded_state(self, record: CommandRecord) -> CommandState:
        """How a command stands by its record."""
        return CommandState(
            thread=self._thread.id, id=record.id, status=record.status, seq=record.seq, error=record.error
        )

    # inside

    async def _encode(self, body: Json) -> bytes:
        async with self._reading:
            # The canonical form of a large command takes longer than other threads should wait.
            large = len(encode_value(body, "msgpack")) > LARGE_BODY
            return await anyio.to_thread.run_sync(canonical, body) if large else canonical(body)

    async def _make_durable(
        self, id: str, command: Command, body: bytes, strategy: Strategy, sent: Sent | None
    ) -> Submission:
        thread, runner = self._thread, self._thread.runner
        busy = runner.active_or_queued or self._deciding
        if strategy == "reject" and busy and id not in self._deciding:
            known = await self._store.command(thread.id, id)
            if known is None:
                raise CommandError("thread-busy", "a run is active", "strategy")
            return Submission(known, created=False)
        settings = thread.settings
        limit = settings.limits.max_pending_commands
        self._deciding[id] += 1
        answers = isinstance(command, Resume | AddToolResult)
        self._answering += answers
        try:
            submission = await self._store.submit(
                thread.id,
                id,
                body,
                context=None if sent is None else sent.encode(),
                limit=limit,
                now=settings.clock(),
                # A message ends a run that waits: that isn't forgotten in a crash.
                strategy="interrupt" if runner.waits_for_clients and not self._answering else strategy,
            )
        except KeyError:
            thread.lose(WriteConflict("the thread was deleted"))
            thread.check_open()
            raise
        finally:
            self._answering -= answers
            self._deciding[id] -= 1
            if not self._deciding[id]:
                del self._deciding[id]
        if submission is None:
            raise CommandError("too-many-pending", f"{limit} commands wait already")
        return submission

    def _answer(self, submission: Submission, command: Command, watcher: Watcher) -> Given | None:
        """Tells how a command stands; returns it where it waits and nobody here knew of it."""
        record = submission.record
        state = self._known.get(record.id) or self._settled.get(record.id)
        given = None
        if state is None and record.status in ("queued", "running"):
            # New. Or it became durable just when an earlier owner ended, or the store's answer was lost.
            self._thread.check_open()
            state = self.remember(record.id)
            given = Given.of(record, command)
        duplicate = given is None or not submission.created
        self._tell_standing(record, state, watcher, duplicate=duplicate)
        return given

    def _tell_standing(
        self, record: CommandRecord, state: CommandState | None, watcher: Watcher, *, duplicate: bool
    ) -> None:
        """Tells what is known of a command, if need be by its record, and what becomes of it."""
        if state is None:
            state = self.recorded_state(record)
        if not _final(state):
            self._thread.check_open()
            watchers = self._watchers.setdefault(record.id, [])
            if watcher not in watchers:
                watchers.append(watcher)
        elif watcher in self._watchers.get(record.id, ()):
            self._watchers[record.id].remove(watcher)  # there is nothing more to tell it
            if not self._watchers[record.id]:
                del self._watchers[record.id]
        watcher(msgspec.structs.replace(state, duplicate=True) if duplicate else state)


def check_same(record: CommandRecord, body: bytes) -> None:
    """Raises Refused where the id is that of a command with another body."""
    if record.body != body:
        raise Refused("command-id-reused", "this id was used for a command with another body", "id")


def _final(state: CommandState) -> bool:
    return state.status not in ("queued", "running")
