"""The threads of a server: loaded when asked for, shared, unloaded when idle, recovered at start.

Above are the endpoints, which ask for threads by id; below is the store.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Mapping
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Any, Final, Self, TypeVar

import anyio
import msgspec

from ..core.draft import RESERVED
from ..core.errors import ErrorInfo, Refused, StoreError, StoreUnavailable, WriteConflict
from ..core.operations import Json
from .agent import Agent
from .feed import Feeds
from .guests import Guests
from .intake import Watcher
from .nodes import Nodes
from .run import ended
from .settings import Settings
from .shared import SharedStore
from .store import OtherName, Owned, Store, ThreadRecord
from .thread import Moved, Thread

logger = logging.getLogger("threadwire")

T = TypeVar("T")

_MOVES: Final = 5
_RELOAD_S: Final = 0.5
"""How long a thread rests that was lost; doubled with each failure, up to a hundred times that."""


class Threads:
    """Use as an async context manager, with the store open for as long.

    Args:
        agents: by the name they are served under; the first is the default.
    """

    def __init__(self, *, agents: Mapping[str, Agent], store: Store, settings: Settings) -> None:
        if not agents:
            raise ValueError("a server needs at least one agent")
        self.agents = dict(agents)
        self.default_agent = next(iter(self.agents))
        self.store = store
        self.settings = settings
        self.draining = False
        self.feeds = Feeds()
        self._threads: dict[str, Thread] = {}
        self._loading: dict[str, asyncio.Task[Thread | None]] = {}
        self._tasks: set[asyncio.Task[Any]] = set()
        self.nodes: Nodes | None = None
        """The others, where the store is one for many."""
        self._serving = AsyncExitStack()

    async def __aenter__(self) -> Self:
        try:
            for agent in {id(agent): agent for agent in self.agents.values()}.values():
                await self._serving.enter_async_context(agent.serving(self.store))
            if isinstance(self.store, SharedStore):
                self.nodes = await self._serving.enter_async_context(Nodes(self, self.store))
            else:
                await self._recover()
        except BaseException:
            await self._end()
            raise
        self.spawn(self._sweep())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self.draining:
            await self.drain(0)
        await self._end()

    async def _end(self) -> None:
        """Stops all that goes on, and writes nothing more."""
        for thread in self._threads.values():
            thread.close()
            thread.runner.abandon()
        self._threads.clear()
        tasks = [task for task in self._tasks if not task.done()]
        for task in tasks:
            task.cancel()
        if tasks:
            _, stuck = await asyncio.wait(tasks, timeout=1)
            for task in stuck:
                logger.warning("a task did not end when it was cancelled: %s", task.get_name())
        await self._serving.aclose()

    def __len__(self) -> int:
        return len(self._threads)

    def loaded(self) -> list[Thread]:
        return list(self._threads.values())

    async def get(self, id: str, *, agent: str | None = None, state: Json = msgspec.UNSET) -> Thread:
        """The thread, made if there is none; `state` seeds a new one.

        Raises:
            Refused: `not-found` for an unknown agent, `agent-mismatch`, `seeding-disabled`; `conflict`
                where the id is another name of a thread.
            StoreError: it could not be loaded.
        """
        try:
            return await self._get(id, agent, state)
        except OtherName as other:
            message = f"this is another name of the thread {other.thread}; open that"
            raise Refused("conflict", message, "thread") from None

    async def _get(self, id: str, agent: str | None, state: Json) -> Thread:
        if agent is not None and agent not in self.agents:
            raise Refused("not-found", f"no agent {agent[:100]!r} is served here", "agent")
        if state is not msgspec.UNSET and await self._load(id, None) is None:
            # Before anything is made of it.
            _first_state(self.agents[agent or self.default_agent], state)
        thread = await self._load(id, agent or self.default_agent)
        assert thread is not None
        if agent is not None and thread.agent_name != agent:
            raise Refused("agent-mismatch", f"the thread belongs to the agent {thread.agent_name!r}", "agent")
        if state is not msgspec.UNSET and thread.untouched:
            await thread.seed(_first_state(thread.agent, state))
        return thread

    async def find(self, id: str) -> Thread | None:
        """The thread that the id names, None where there is none. Raises as `get`, but for `conflict`."""
        try:
            return await self._load(id, None)
        except OtherName as other:
            return await self._load(other.thread, None)

    async def _load(self, id: str, agent: str | None) -> Thread | None:
        thread = self._threads.get(id)
        if thread is not None and not thread.closed:  # else another object is about to take its place
            thread.touch()
            return thread
        loading = self._loading.get(id)
        if loading is None or (agent is not None and loading.get_name() == "find"):
            name = "find" if agent is None else "load"
            loading = self.begin(id, name, self._acquire(id, agent, after=loading))
        # One caller's end doesn't end the loading that others wait for.
        return await asyncio.shield(loading)

    def begin(
        self, id: str, name: str, work: Coroutine[Any, Any, Thread | None]
    ) -> asyncio.Task[Thread | None]:
        """Starts what those wait for who ask for the thread meanwhile."""
        task = self._loading[id] = self.spawn(work)
        task.set_name(name)
        task.add_done_callback(lambda task: self._loaded(id, task))
        return task

    def _loaded(self, id: str, task: asyncio.Task[Thread | None]) -> None:
        if self._loading.get(id) is task:
            del self._loading[id]
        if not task.cancelled():
            task.exception()  # those who wait for it have it

    async def _acquire(
        self, id: str, agent: str | None, *, after: asyncio.Task[Thread | None] | None
    ) -> Thread | None:
        if after is not None:
            await asyncio.wait([after])
            loaded = self._threads.get(id)
            if loaded is not None and not loaded.closed:
                return loaded
        if self.nodes is not None:
            return await self.nodes.load(id, agent)
        owned = await self.store.acquire(id, agent=agent, now=self.settings.clock())
        return None if owned is None else self.own(owned)

    def own(self, owned: Owned, *, before: Thread | None = None, taken_at: float = 0.0) -> Thread:
        """Loads a thread that this process has taken; `before` followed it up to its head.

        `taken_at`: by the event loop's clock, when it began to be taken.

        Raises:
            Refused: its agent isn't served here.
        """
        thread = Thread(
            owned,
            agent=self.serving(owned.record),
            store=self.store,
            settings=self.settings,
            spawn=self.spawn,
            on_lost=self._lost,
        )
        if self.nodes is not None:
            goes_on = owned.run is not None and not ended(owned.run.status)
            thread.guests = Guests(
                self.nodes, thread, version=owned.version, confirmed_at=taken_at, goes_on=goes_on
            )
        self.put(thread)
        if before is not None:
            thread.take_over(before, resumes=before.committed == owned.head)
        try:
            thread.runner.recover()
        except Exception:
            self._drop(thread)
            thread.close()
            thread.runner.abandon()
            thread.dismiss("store-unavailable", "the thread could not be kept up; open it again")
            raise
        if self.draining:
            thread.runner.hold()
        return thread

    def serving(self, record: ThreadRecord) -> Agent:
        """The agent of a thread. Raises Refused `not-found` where it isn't served here."""
        served = self.agents.get(record.agent)
        if served is None:
            message = f"the thread belongs to the agent {record.agent!r}, which is not served here"
            raise Refused("not-found", message, "agent")
        return served

    def loaded_as(self, id: str) -> Thread | None:
        """The thread's object, where it is loaded."""
        return self._threads.get(id)

    def put(self, thread: Thread) -> None:
        """Makes it the thread's object."""
        self._threads[thread.id] = thread

    async def delete(self, id: str) -> bool:
        """Stops the thread's run, tells its clients and removes all there is of it."""
        try:
            thread = await self.find(id)
        except Refused:
            # Its agent isn't served any more: nothing of it runs, nobody follows it.
            return await self.store.delete_thread(id)
        if thread is None:
            return False
        thread.pins += 1
        thread.deleting = True
        try:
            await thread.runner.cancel(None)
        except StoreUnavailable:
            elsewhere = self.nodes is not None and thread.guests is None
            if not thread.closed and not elsewhere:
                thread.deleting = False
                raise
            # An owner that can't be reached learns of it by its next append.
        finally:
            thread.pins -= 1
        if thread.closed:
            # Deleted by another call meanwhile, or lost: what the store holds tells which.
            return await self.delete(id)
        self._drop(thread)
        thread.close(Moved)
        thread.runner.abandon()
        # Whoever asks for the thread meanwhile waits, and finds none.
        removal = self.begin(thread.id, "find", self._remove(thread))
        await asyncio.shield(removal)
        return True

    async def _remove(self, thread: Thread) -> None:
        try:
            await self.store.delete_thread(thread.id)
        except StoreError:
            thread.dismiss("store-unavailable", "the store did not delete the thread; open it again")
            raise
        thread.dismiss("not-found", "the thread was deleted")
        if self.nodes is not None:
            self.nodes.tell_gone(thread.id)
        await self._tell_deleted(thread.agent, thread.id)

    async def _tell_deleted(self, agent: Agent, id: str) -> None:
        try:
            await agent.deleted(id)
        except Exception:
            logger.exception("thread %s was deleted, but not all that its agent keeps of it", id)

    async def drain(self, timeout_s: float) -> None:
        """Starts no more runs, gives those that go on `timeout_s` to end, then stops them.

        Those that the next start can go on with are left as they are, the others have failed.
        """
        self.draining = True
        threads = self.loaded()
        for thread in threads:
            thread.runner.hold()
        if self.nodes is not None:
            until = anyio.current_time() + timeout_s
            await self.nodes.hand_over(timeout_s)
            with anyio.CancelScope(deadline=until):
                await self.feeds.over()  # of runs on other nodes
            self.feeds.end(ErrorInfo("draining", "the server is stopping"))
            return
        with anyio.move_on_after(timeout_s):
            for thread in threads:
                await self._quietly(thread.runner.ended(or_waits=True))
        with anyio.move_on_after(self.settings.cancel_grace_s + 2):
            async with anyio.create_task_group() as group:
                for thread in self.loaded():  # some were loaded meanwhile
                    group.start_soon(self._quietly, thread.runner.shut_down())
            for thread in self.loaded():
                await self._quietly(thread.flush())
        self.feeds.end(ErrorInfo("draining", "the server is stopping"))

    async def _quietly(self, call: Coroutine[Any, Any, None]) -> None:
        try:
            await call
        except StoreError as error:
            logger.warning("while stopping: %s", error)

    # inside

    def spawn(self, coroutine: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        task = asyncio.get_running_loop().create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def _lost(self, thread: Thread, error: Exception) -> None:
        self._drop(thread)
        conflict = isinstance(error, WriteConflict)
        if conflict and self.nodes is not None:
            self.nodes.replace(thread)
        elif conflict:
            thread.dismiss("store-unavailable", "the thread has another owner now; open it again")
        else:
            thread.dismiss("store-unavailable", "the thread could not be kept up; open it again")
            self.spawn(self._take_up_again(thread))

    async def _take_up_again(self, lost: Thread) -> None:
        """Loads a thread that was given up: its commands are durable, and may wait for no client."""
        wait_s = _RELOAD_S
        while not self.draining:
            await asyncio.sleep(wait_s)
            wait_s = min(2 * wait_s, 10 * _RELOAD_S)
            try:
                thread = await self._load(lost.id, None)
                if thread is not None:
                    self.watch_on(thread, lost)
            except StoreError:
                continue
            except OtherName:
                return
            except Refused as error:
                logger.warning("thread %s can't be taken up: %s", lost.id, error)
            return

    def watch_on(self, thread: Thread, lost: Thread) -> None:
        """Has those who watched commands of a closed object told by another what becomes of these."""
        adopted = thread.intake.adopt(lost.intake)
        if adopted:
            self.spawn(self._tell_adopted(thread, adopted))

    async def _tell_adopted(self, thread: Thread, adopted: list[tuple[str, Watcher]]) -> None:
        while not thread.closed:  # else whoever took its place has adopted them
            try:
                await thread.intake.tell_adopted(adopted)
            except Moved:
                return
            except StoreError:
                await asyncio.sleep(_RELOAD_S)
            else:
                return

    def _drop(self, thread: Thread) -> None:
        if self._threads.get(thread.id) is thread:
            del self._threads[thread.id]

    def forget(self, id: str) -> None:
        """Drops a thread that another one has taken the place of."""
        thread = self._threads.get(id)
        if thread is not None:
            self.unload(thread)
            thread.dismiss("not-found", "this is another name of a thread now; open that")
        if self.nodes is not None:
            self.nodes.tell_gone(id)

    def unload(self, thread: Thread) -> None:
        """Forgets a thread that nobody uses."""
        self._drop(thread)
        thread.close(Moved)
        thread.runner.abandon()
        if self.nodes is not None:
            self.nodes.unloaded(thread)

    async def _recover(self) -> None:
        """Loads the threads whose run was cut or whose commands wait, which takes them up."""
        for id in await self.store.unfinished():
            try:
                await self._load(id, None)
            except Refused as error:
                logger.warning("thread %s can't be taken up: %s", id, error)
            except StoreError:
                raise
            except Exception:
                # What it holds can't be read. The others can.
                logger.exception("thread %s can't be taken up", id)

    async def _sweep(self) -> None:
        """Unloads what nobody has used for a while."""
        while True:
            await asyncio.sleep(max(self.settings.idle_s / 4, 0.05))
            for thread in self.loaded():
                try:
                    if self._unused(thread) and thread.worth_storing:
                        await thread.storing.store()
                except Exception:
                    logger.exception("thread %s: no snapshot stored", thread.id)
                if self._unused(thread):
                    self.unload(thread)

    def _unused(self, thread: Thread) -> bool:
        idle_s = asyncio.get_running_loop().time() - thread.used_at
        return thread.idle and idle_s >= self.settings.idle_s and self._threads.get(thread.id) is thread


async def again(call: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """What `call` returns; called again where the thread that it got became another object meanwhile."""
    for _ in range(_MOVES):
        try:
            return await call()
        except Moved:
            continue
    return await call()


def _first_state(agent: Agent, state: Json) -> dict[str, Json]:
    """What a thread begins with. Raises Refused where it can't be that. Spec: PROTOCOL.md §9.5."""
    if not agent.seed:
        raise Refused("seeding-disabled", "this agent takes no first state from clients", "state")
    if type(state) is not dict:
        raise Refused("invalid-frame", "a first state is an object", "state")
    if RESERVED in state:
        raise Refused("reserved-key", "the root key 'threadwire' is the server's", "state.threadwire")
    return agent.read_seed(state)
