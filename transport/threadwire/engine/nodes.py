"""This node among the others on one store: leases kept, threads followed and taken over, messages carried.

A thread that is loaded here is either owned (a `Thread`) or followed (a `Followed`). What this file does
changes the one into the other, and keeps each going. Nothing of it is relied on for what is promised:
the store fences owners that are out of date, and all that the bus carries is found in the store later.

Below are the shared store and its bus; above is `threads`, which loads and unloads.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Coroutine, Iterable
from contextlib import suppress
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self, cast

import anyio

from ..core.errors import Refused, StoreError, StoreUnavailable, WriteConflict
from ..core.frames import RunInfo
from . import signals
from .followed import Followed
from .orphans import Orphans
from .shared import Elsewhere, SharedStore
from .signals import (
    LARGEST_ROW,
    Alone,
    Answer,
    Ask,
    Cancel,
    Execute,
    Free,
    Gone,
    Heard,
    Mail,
    Presence,
    Row,
    Rows,
    Seed,
    Signal,
    Submitted,
    Wrote,
    portions,
)
from .store import Owned, RunRecord, ThreadRecord
from .subscriber import Sink
from .thread import Moved, Thread

if TYPE_CHECKING:
    from .threads import Threads

logger = logging.getLogger("threadwire")

_LOOK_S: Final = 1.0
"""How often the store is asked for what the bus may have lost."""
_PAGE: Final = 500
_READ: Final = 200
"""Threads read of at once."""
_RETRY_S: Final = 0.25
_LONG_RETRY_S: Final = 5.0
_SOON_S: Final = 0.02
_PRESENT_S: Final = 1.5
"""How often it is said again who is present."""
_LOADS: Final = 5
_ANSWERS: Final = 1000
_ASK_AGAIN_S: Final = 0.3
_OWNER_S: Final = 10.0
_MAIL_PRESENT_S: Final = 3.5
"""An owner that nothing was heard of for so long is told by way of the store who is present."""
_MAIL_AGAIN_S: Final = 1.0
"""An owner that hasn't answered for so long is asked by way of the store, and again so."""


class Nodes:
    """Made by `Threads` where its store is a shared one; use as an async context manager."""

    def __init__(self, threads: Threads, store: SharedStore) -> None:
        self._threads = threads
        self._store = store
        self._settings = threads.settings
        self._bus = store.bus
        self._dice = random.Random(store.node)
        self._loop = asyncio.get_running_loop()
        self._dirty: dict[Followed, None] = {}
        """To be read."""
        self._unread = asyncio.Event()
        self._inbox: dict[str, None] = {}
        """Owned threads with commands that other nodes have put there."""
        self._arrived = asyncio.Event()
        self._look_now = asyncio.Event()
        self._look_in_s = 0.0
        self._orphans = Orphans(self, threads, store)
        self._promoting: dict[str, asyncio.Task[None]] = {}
        self._releasing: dict[str, asyncio.Task[None]] = {}
        self._present_at = 0.0
        self._asking: dict[str, asyncio.Future[bool]] = {}
        """What was asked of owners, by id, and is not answered."""
        self._answers: dict[str, bool | None] = {}
        """What other nodes have asked, and the answer once there is one."""
        self._outgoing: dict[tuple[str | None, type[Wrote] | type[Submitted]], dict[str, None]] = {}
        self._outgoing_rows: dict[str, list[Row]] = {}

    async def __aenter__(self) -> Self:
        self._bus.on_message = self._heard
        self._bus.on_gap = self._missed
        await self._bus.__aenter__()
        for work in (self._renew, self._look, self._read_on, self._take_in, self._orphans.take_up):
            self._threads.spawn(self._for_ever(work))
        self._look_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._bus.__aexit__(kind, error, trace)

    async def _for_ever(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        name, said = work.__name__.strip("_"), ""
        while True:
            try:
                await work()
                if said:
                    logger.info("%s: the store answers again", name)
                said = ""
            except StoreError as error:
                if str(error) != said:  # an outage may be long
                    said = str(error)
                    logger.warning("%s: %s", name, said)
                await asyncio.sleep(_RETRY_S)
            except Exception:
                logger.exception("a fault of the server")
                await asyncio.sleep(1)

    # loading, for `threads`

    async def load(self, id: str, agent: str | None) -> Thread | None:
        """The thread, owned where nobody else has it, else followed; made for `agent` if there is none."""
        releasing = self._releasing.get(id)
        if releasing is not None:
            await asyncio.wait([releasing])
        for _ in range(_LOADS):
            if not self._threads.draining:
                began = self._loop.time()
                taken = await self._store.take(id, agent=agent, now=self._settings.clock())
                if taken is None:
                    return None
                if isinstance(taken, Owned):
                    owned = await self._own(taken, began)
                    if taken.head:
                        self._tell_new_owner(id)
                    return owned
            elif agent is not None:
                now = self._settings.clock()
                await self._store.create(ThreadRecord(id=id, agent=agent, created_at=now, updated_at=now))
            followed = await self._begin_to_follow(id, None, None)
            if followed is not None:
                self._threads.put(followed)
                self.present(followed)
                return followed
            if agent is None:
                return None
        raise StoreUnavailable("the thread is made and deleted again and again")

    async def _own(self, taken: Owned, began: float) -> Thread:
        try:
            return self._threads.own(taken, taken_at=began)
        except BaseException:
            await self._release(taken.record.id, taken.epoch, parked=False)
            raise

    def unloaded(self, thread: Thread) -> None:
        """A thread was unloaded, since nobody uses it: others may have it."""
        if not isinstance(thread, Followed) and thread.id not in self._releasing:
            task = self._threads.spawn(self._release(thread.id, thread.epoch, parked=True))
            self._releasing[thread.id] = task
            task.add_done_callback(lambda _: self._releasing.pop(thread.id, None))

    async def _release(self, id: str, epoch: int, *, parked: bool) -> None:
        try:
            await self._store.release(id, epoch, parked=parked)
        except StoreError as error:
            logger.warning("thread %s was not given away: %s", id, error)  # its lease will end

    # from one role to the other

    def replace(self, thread: Thread) -> None:
        """Begins to follow a thread whose object here is closed; its subscribers see nothing of that."""
        self._threads.begin(thread.id, "load", self._replace(thread))

    async def _replace(self, old: Thread) -> Followed | None:
        epoch, seq = old.position
        place = None if epoch is None else (epoch, seq)
        deadline = self._loop.time() + self._settings.store_patience_s
        wait_s, said = 0.05, ""
        while True:
            try:
                new = await self._begin_to_follow(old.id, place, old.run_info)
                break
            except StoreError as error:
                if self._loop.time() > deadline:
                    message = "the thread could not be kept up; open it again"
                    old.dismiss("store-unavailable", message)
                    self._threads.spawn(self._watch_on_later(old))
                    raise
                if str(error) != said:
                    said = str(error)
                    logger.warning("thread %s: %s", old.id, said)
            except Refused:
                old.dismiss("not-found", "the thread's agent is not served here")
                raise
            await asyncio.sleep(wait_s)
            wait_s = min(2 * wait_s, 1)
        if new is None:
            old.dismiss("not-found", "the thread was deleted")
            return None
        self._threads.put(new)
        new.take_over(old, resumes=new.position == place)
        self._threads.watch_on(new, old)
        self.mark(new)
        self.present(new)
        return new

    async def _watch_on_later(self, old: Thread) -> None:
        """Has those who watch commands of a closed object told of these once there is another."""
        wait_s = _RETRY_S
        while old.intake.watched:  # their connections may end
            try:
                thread = await self._threads.find(old.id)
            except Refused:
                return
            except StoreError:
                await asyncio.sleep(wait_s)
                wait_s = min(2 * wait_s, _LONG_RETRY_S)
            else:
                if thread is not None:
                    self._threads.watch_on(thread, old)
                return

    def promote(self, followed: Followed) -> asyncio.Task[None]:
        """Takes a followed thread, since nobody else has it."""
        task = self._promoting.get(followed.id)
        if task is None:
            task = self._promoting[followed.id] = self._threads.spawn(self._promote(followed))
            task.add_done_callback(lambda _: self._promoting.pop(followed.id, None))
        return task

    async def _promote(self, followed: Followed) -> None:
        if self._threads.draining:
            return
        id = followed.id
        began = self._loop.time()
        try:
            taken = await self._store.take(id, agent=None, now=self._settings.clock())
        except StoreError as error:
            logger.warning("thread %s was not taken: %s", id, error)
            return
        if taken is None:
            self.gone(followed)
            return
        if isinstance(taken, Elsewhere):
            if followed.owner != taken.owner:
                followed.owner = taken.owner
                self.present(followed)
                self.wake_owner(followed)
            return
        try:
            while followed.committed < taken.head and not followed.closed:
                await self.read(followed)
        except StoreError as error:
            logger.warning("thread %s was not caught up with: %s", id, error)
        # Behind, since it could not be read; or ahead, since yet another node has taken it meanwhile.
        elsewhere = followed.committed != taken.head
        stays = not followed.closed and self._threads.loaded_as(id) is followed
        if elsewhere or not stays or self._threads.draining:
            await self._release(id, taken.epoch, parked=False)
            return
        followed.close(Moved)
        self._dirty.pop(followed, None)
        try:
            thread = self._threads.own(taken, before=followed, taken_at=began)
        except Exception:
            logger.exception("thread %s could not be taken up", id)
            self._threads.unload(followed)
            followed.dismiss("store-unavailable", "the thread could not be kept up; open it again")
            self._threads.spawn(self._watch_on_later(followed))
            await self._release(id, taken.epoch, parked=False)
            return
        self._threads.watch_on(thread, followed)
        self._tell_new_owner(id)

    def _tell_new_owner(self, id: str) -> None:
        """Those who follow a thread look who has it now, and say that they follow it."""
        self._tell(None, Wrote, id)

    async def hand_over(self, timeout_s: float) -> None:
        """Gives all threads to other nodes, each as soon as its run has ended or stopped."""
        owned = self._owned()
        async with anyio.create_task_group() as group:
            for thread in owned:
                group.start_soon(self._hand_over, thread, timeout_s)

    async def _hand_over(self, thread: Thread, timeout_s: float) -> None:
        try:
            with anyio.move_on_after(timeout_s):
                await thread.runner.ended(or_waits=True)
            with anyio.move_on_after(self._settings.cancel_grace_s + 2):
                await thread.runner.shut_down()
                await thread.flush()
        except StoreError as error:
            logger.warning("while stopping: %s", error)
        if thread.closed:
            return
        thread.close(Moved)
        thread.runner.abandon()
        # Those who are still here follow the next owner until they have gone.
        self.replace(thread)
        await self._release(thread.id, thread.epoch, parked=False)
        self.say(None, Free(threads=[thread.id]))

    def gone(self, thread: Thread) -> None:
        """The store has the thread no longer."""
        if self._threads.loaded_as(thread.id) is thread:
            self._threads.unload(thread)
            thread.dismiss("not-found", "the thread was deleted")

    def tell_gone(self, id: str) -> None:
        self.say(None, Gone(thread=id))

    # following

    async def _begin_to_follow(
        self, id: str, place: tuple[int, int] | None, run: RunInfo | None
    ) -> Followed | None:
        """A follower at `place`, (epoch, seq), where that is still in the log, else at the head.

        None where the thread doesn't exist. `run` is the last that is known at `place`.
        """
        for _ in range(_LOADS):
            record = await self._store.thread(id)
            if record is None:
                return None
            if place is not None:
                followed = await self._load_past(record, place[1], run)
                if followed is not None and followed.position == place:
                    return followed
            followed = await self._load_past(record, None, None)
            if followed is None:
                continue  # its log was trimmed just now
            try:
                await self.read(followed)
            except Moved:
                continue
            return followed
        raise StoreUnavailable(f"thread {id} could not be read")

    async def _load_past(self, record: ThreadRecord, seq: int | None, run: RunInfo | None) -> Followed | None:
        """A follower at `seq`, or at the last snapshot; None where the log doesn't reach so far back."""
        id, store = record.id, self._store
        stored = await store.snapshot_before(id, 2**53 if seq is None else seq)
        epoch = await store.row_epoch(id, 0) if stored is None else stored.epoch
        if epoch is None:
            return None
        start = Owned(
            record=record,
            epoch=epoch,
            head=0 if stored is None else stored.seq,
            snapshot=stored,
            tail=[],
            commands=[],
            run=None
            if run is None
            else RunRecord(id=run.id, status=run.status, started_at=0, error=run.error),
        )
        followed = Followed(
            start,
            agent=self._threads.serving(record),
            store=store,
            settings=self._settings,
            spawn=self._threads.spawn,
            on_lost=self._lost,
            nodes=self,
        )
        while seq is not None and followed.committed < seq:
            after = followed.committed
            page = await store.log(id, after=after, limit=min(_PAGE, seq - after))
            if page is None or not page.rows or not followed.replay(page.rows):
                return None
        return followed

    def _lost(self, thread: Thread, error: Exception) -> None:
        """A follower writes nothing that could be refused."""
        logger.error("thread %s: a follower was lost", thread.id, exc_info=error)
        if self._threads.loaded_as(thread.id) is thread:
            self.replace(thread)

    def mark(self, followed: Followed) -> None:
        """Has it read soon."""
        self._dirty[followed] = None
        self._unread.set()

    async def read(self, followed: Followed) -> None:
        """Reads all that is durable when this is called. Raises StoreError."""
        followed.check_open()
        future: asyncio.Future[None] = self._loop.create_future()
        followed.reads.append(future)
        self.mark(followed)
        await followed.wait(future)

    async def _read_on(self) -> None:
        if not self._dirty:
            self._unread.clear()
            await self._unread.wait()
        batch: list[Followed] = []
        while self._dirty and len(batch) < _READ:
            followed = next(iter(self._dirty))
            del self._dirty[followed]
            if not followed.closed:
                batch.append(followed)
        if not batch:
            return
        # Whoever asks from here on waits for the next reading.
        waiting = [followed.reads for followed in batch]
        for followed in batch:
            followed.reads = []
            followed.reading = True
        try:
            found = await self._store.follow([followed.place for followed in batch], rows=_PAGE)
        except Exception as error:
            for followed, futures in zip(batch, waiting, strict=True):
                _fail(futures, StoreUnavailable(str(error)))
                if self._threads.loaded_as(followed.id) is followed:
                    self.mark(followed)
            raise
        finally:
            for followed in batch:
                followed.reading = False
        for followed, futures in zip(batch, waiting, strict=True):
            if followed.closed:
                continue  # whoever waits was told
            progress = found.get(followed.id)
            if progress is None:
                _fail(futures, Moved("the thread was deleted"))
                self.gone(followed)
                continue
            try:
                leads_on = followed.fold(progress)
                if leads_on and not followed.push_early():
                    self.mark(followed)
            except Exception:
                logger.exception("thread %s could not be followed", followed.id)
                leads_on = False
            if not leads_on:
                self._restart(followed)
                _fail(futures, Moved("the thread is read anew"))
            elif followed.committed < progress.head:
                followed.reads = futures + followed.reads
                self.mark(followed)
            else:
                for future in futures:
                    if not future.done():
                        future.set_result(None)

    def _pushed(self, followed: Followed, row: Row) -> None:
        try:
            if not followed.closed and not followed.push(row):
                self.mark(followed)
        except Exception:
            logger.exception("thread %s could not be followed", followed.id)
            self._restart(followed)

    def _restart(self, followed: Followed) -> None:
        followed.close(Moved)
        if self._threads.loaded_as(followed.id) is followed:
            self.replace(followed)

    def other(self, owner: str | None) -> str | None:
        """The owner of a followed thread, as far as it is another node.

        This node has it, unknowingly, where the answer was lost when it took it: it can take it again.
        """
        return None if owner == self.node else owner

    # what followers ask of owners

    def wake_owner(self, followed: Followed) -> None:
        """There is a command for it in the inbox."""
        if followed.owner is None:
            self.promote(followed)
        else:
            self._tell(followed.owner, Submitted, followed.id)

    def present(self, followed: Followed) -> None:
        """Says who follows it here."""
        if followed.owner is not None and self._threads.loaded_as(followed.id) is followed:
            self.say(followed.owner, followed.presence())

    def _present_again(self, followed: Followed) -> None:
        """The same, by way of the store where it matters and the owner may not hear: a run that nobody is
        known to read is stopped."""
        owner = followed.owner
        matters = followed.subscribers and followed.runner.active_or_queued
        unheard_s = self._loop.time() - followed.heard_at
        if owner is None or not matters or unheard_s < _PRESENT_S:
            self.present(followed)
        elif unheard_s < _MAIL_PRESENT_S:
            self.say(owner, followed.presence(answer=True))
        else:
            self._threads.spawn(self._mail(owner, followed.presence(answer=True)))

    async def ask(self, followed: Followed, ask: Ask, *, patience_s: float | None = None) -> bool:
        """The owner's answer, with all that was durable when it answered.

        Without `patience_s` it waits until the lease of an owner that is dead has ended, and some time for
        the next.

        Raises:
            Moved: the thread is another object by now, maybe here at its owner.
            StoreUnavailable: there is no answer in that time.
        """
        if patience_s is None:
            patience_s = self._store.lease_s + _OWNER_S
        began = self._loop.time()
        message = signals.write(ask)
        mailed_at = began - _MAIL_AGAIN_S if message is None else began
        answer: asyncio.Future[bool] = self._loop.create_future()
        self._asking[ask.id] = answer
        followed.pins += 1
        try:
            while self._loop.time() - began < patience_s:
                followed.check_open()
                owner = followed.owner
                if owner is None:
                    self.promote(followed)
                elif message is not None:
                    self._bus.send(owner, message)
                if owner is not None and self._loop.time() - mailed_at >= _MAIL_AGAIN_S:
                    mailed_at = self._loop.time()
                    await self._mail(owner, ask)
                self.mark(followed)  # the owner may be another by now
                await asyncio.wait([answer], timeout=_ASK_AGAIN_S)
                if answer.done():
                    await followed.flush()
                    return answer.result()
        finally:
            del self._asking[ask.id]
            followed.pins -= 1
        raise StoreUnavailable("the thread's owner does not answer")

    async def _mail(self, node: str, signal: Signal) -> None:
        """Says it by way of the store."""
        with suppress(StoreError):  # it is said again
            await self._store.post(node, signals.write_mail(signal))
            self.say(node, Mail())

    # what owners tell

    @property
    def node(self) -> str:
        return self._store.node

    @property
    def lease_s(self) -> float:
        return self._store.lease_s

    async def confirm(self, thread: Thread) -> None:
        """Asks for the lease of a thread anew, which may be lost by that. Raises StoreError."""
        await self._renew_these([thread])

    def wrote(self, node: str, thread: str, row: Row | None) -> None:
        """There is more to be read of a thread, or nothing more than the row."""
        if row is None or row.size > LARGEST_ROW:
            self._tell(node, Wrote, thread)
        else:
            self._tell_later()
            self._outgoing_rows.setdefault(node, []).append(row)

    def _tell(self, node: str | None, kind: type[Wrote] | type[Submitted], thread: str) -> None:
        self._tell_later()
        self._outgoing.setdefault((node, kind), {})[thread] = None

    def _tell_later(self) -> None:
        """At the end of the tick, for all threads at once."""
        if not self._outgoing and not self._outgoing_rows:
            self._loop.call_soon(self._tell_all)

    def _tell_all(self) -> None:
        rows, self._outgoing_rows = self._outgoing_rows, {}
        for follower, some in rows.items():
            for portion in portions(some, lambda row: row.size):
                self.say(follower, Rows(rows=portion))
        outgoing, self._outgoing = self._outgoing, {}
        for (node, kind), threads in outgoing.items():
            for ids in portions(threads, lambda id: len(id) + 3):
                self.say(node, kind(threads=ids))

    def say(self, node: str | None, signal: Signal) -> None:
        message = signals.write(signal)
        if message is None and isinstance(signal, Presence):
            # Fewer that could execute tools, if they are as wordy as that.
            message = signals.write(Presence(node=signal.node, thread=signal.thread, readers=signal.readers))
        if message is not None:
            self._bus.send(node, message)

    # what is heard

    def _missed(self) -> None:
        for thread in self._threads.loaded():
            if isinstance(thread, Followed):
                self.mark(thread)
        self._look_all()

    def _look_all(self) -> None:
        self._look_now.set()
        self._orphans.look()

    def _heard(self, message: str, *, by_mail: bool = False) -> None:
        signal = signals.read(message)
        match signal:
            case Wrote():
                for id in signal.threads:
                    if (followed := self._followed(id)) is not None:
                        followed.heard_at = self._loop.time()
                        self.mark(followed)
            case Rows():
                for row in signal.rows:
                    if (followed := self._followed(row.thread)) is not None:
                        followed.heard_at = self._loop.time()
                        self._pushed(followed, row)
            case Heard():
                if (followed := self._followed(signal.thread)) is not None:
                    followed.heard_at = self._loop.time()
            case Submitted():
                self._inbox.update(dict.fromkeys(signal.threads))
                self._arrived.set()
            case Presence():
                thread = self._threads.loaded_as(signal.thread)
                if thread is not None and thread.guests is not None:
                    thread.guests.heard(signal)
                    if signal.answer:
                        self.say(signal.node, Heard(thread=thread.id))
            case Execute():
                if (followed := self._followed(signal.thread)) is not None:
                    self._threads.spawn(self._execute(followed, signal))
            case Cancel() | Seed() | Alone():
                self._threads.spawn(self._answer(signal, by_mail))
            case Answer():
                future = self._asking.get(signal.id)
                if future is not None and not future.done():
                    future.set_result(signal.yes)
            case Mail():
                self._look_now.set()
            case Free():
                for id in signal.threads:
                    if (followed := self._followed(id)) is not None:
                        self.mark(followed)
                self._look_all()
            case Gone():
                thread = self._threads.loaded_as(signal.thread)
                if isinstance(thread, Followed):
                    self.mark(thread)
                elif thread is not None:
                    self._threads.spawn(self._check_gone(thread))
            case None:
                logger.debug("a message of another version: %.100s", message)

    def _followed(self, id: str) -> Followed | None:
        thread = self._threads.loaded_as(id)
        return thread if isinstance(thread, Followed) else None

    def _owned(self) -> list[Thread]:
        return [thread for thread in self._threads.loaded() if not isinstance(thread, Followed)]

    async def _execute(self, followed: Followed, signal: Execute) -> None:
        with suppress(StoreError):  # it is said again
            await followed.execute(signal.subscriber, signal.call)

    async def _answer(self, ask: Ask, by_mail: bool) -> None:
        if ask.id not in self._answers:
            thread = self._threads.loaded_as(ask.thread)
            if thread is None or isinstance(thread, Followed):
                return  # whoever asks will learn who has it
            self._answers[ask.id] = None
            if len(self._answers) > _ANSWERS:
                del self._answers[next(iter(self._answers))]
            try:
                self._answers[ask.id] = await self._do(thread, ask)
            except (StoreError, Refused):
                self._answers.pop(ask.id, None)
                return  # it is asked again
        yes = self._answers.get(ask.id)
        if yes is not None:
            answer = Answer(id=ask.id, yes=yes)
            self.say(ask.node, answer)
            if by_mail:
                await self._mail(ask.node, answer)

    async def _do(self, thread: Thread, ask: Ask) -> bool:
        match ask:
            case Cancel():
                await thread.runner.cancel(ask.run)
            case Seed():
                await thread.seed(ask.state)
            case Alone():
                return await thread.absence.abandoned_within(ask.within_s)
        return True

    async def _check_gone(self, thread: Thread) -> None:
        with suppress(StoreError):
            record = await self._store.thread(thread.id)
            if record is None:
                self.gone(thread)

    async def _take_in(self) -> None:
        """Takes commands out of the inboxes of owned threads, as they come."""
        if not self._inbox:
            self._arrived.clear()
            await self._arrived.wait()
        ids = [id for id in self._inbox if self.owns(id)]
        self._inbox.clear()
        try:
            found = await self._store.arrivals(ids) if ids else {}
            for id, commands in found.items():
                thread = self._threads.loaded_as(id)
                new = [] if thread is None else [each for each in commands if thread.intake.is_new(each)]
                if thread is None or not new:
                    continue
                for arrival in await self._store.read_arrivals(id, new):
                    if thread.closed or thread.guests is None:
                        break
                    origin = None
                    if arrival.origin is not None:
                        thread.guests.expect(arrival.origin)
                        origin = thread.guests.connection(arrival.origin)
                    # Only to be told from others.
                    thread.intake.arrive(arrival.record, cast(Sink | None, origin))
        except StoreError:
            self._inbox.update(dict.fromkeys(ids))
            raise

    def owns(self, id: str) -> bool:
        """Whether the thread is loaded here as its owner's."""
        thread = self._threads.loaded_as(id)
        return thread is not None and not isinstance(thread, Followed)

    # again and again

    async def _renew(self) -> None:
        began = self._loop.time()
        await self._renew_these(self._owned())
        await asyncio.sleep(max(0.0, began + self._store.lease_s / 3 - self._loop.time()))

    async def _renew_these(self, owned: list[Thread]) -> None:
        began = self._loop.time()
        held = await self._store.renew({thread.id: thread.epoch for thread in owned})
        for thread in owned:
            if thread.id in held and thread.guests is not None:
                thread.guests.confirmed_at = began
            elif self._threads.loaded_as(thread.id) is thread:
                thread.lose(WriteConflict("the thread has another owner, or was deleted"))

    async def _look(self) -> None:
        """Looks for what nobody has told this node of."""
        with anyio.move_on_after(self._look_in_s):
            await self._look_now.wait()
        self._look_now.clear()
        self._look_in_s = _LOOK_S * self._dice.uniform(0.7, 1.1)
        owned = self._owned()
        for thread in owned:
            if thread.guests is not None:
                thread.guests.expire()
        self._inbox.update(dict.fromkeys(thread.id for thread in owned))
        self._arrived.set()
        for message in await self._store.mail():
            self._heard(message, by_mail=True)
        await self._look_at_followed()

    async def _look_at_followed(self) -> None:
        followed = [each for each in self._threads.loaded() if isinstance(each, Followed)]
        if not followed:
            return
        say = self._loop.time() >= self._present_at
        if say:
            self._present_at = self._loop.time() + _PRESENT_S
        standings = {each.thread: each for each in await self._store.standings([f.id for f in followed])}
        for each in followed:
            standing = standings.get(each.id)
            if standing is None:
                self.mark(each)
                continue
            owner = self.other(standing.owner)
            if owner is not None:
                # That a lease was not begun anew is seen as soon as it ends.
                self._look_in_s = min(self._look_in_s, standing.lease_s + _SOON_S)
            elif each.owner is not None:
                self._orphans.look()
            if (standing.epoch, standing.version, owner) != (each.epoch, each.version, each.owner):
                self.mark(each)
            elif each.intake.watched and owner is None:
                self.promote(each)
            if say:
                self._present_again(each)


def _fail(futures: Iterable[asyncio.Future[None]], error: StoreError) -> None:
    for future in futures:
        if not future.done():
            future.set_exception(error)
