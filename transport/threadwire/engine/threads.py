"""The threads of a server: loaded when asked for, shared, unloaded when idle, recovered at start.

Above are the endpoints, which ask for threads by id; below is the store.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine, Mapping
from types import TracebackType
from typing import Any, Self

import anyio
import msgspec

from ..core.draft import RESERVED
from ..core.errors import Refused, StoreError, StoreUnavailable
from ..core.frames import Error
from ..core.operations import Json
from .agent import Agent
from .message import Message
from .settings import Settings
from .store import Store
from .thread import Thread

logger = logging.getLogger("threadwire")


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
        self._threads: dict[str, Thread] = {}
        self._loading: dict[str, asyncio.Task[Thread | None]] = {}
        self._tasks: set[asyncio.Task[Any]] = set()
        self._sweeper: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        await self._recover()
        self._sweeper = self._spawn(self._sweep())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self.draining:
            await self.drain(0)
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

    def __len__(self) -> int:
        return len(self._threads)

    def loaded(self) -> list[Thread]:
        return list(self._threads.values())

    async def get(self, id: str, *, agent: str | None = None, state: Json = msgspec.UNSET) -> Thread:
        """The thread, made if there is none; `state` seeds a new one.

        Raises:
            Refused: `not-found` for an unknown agent, `agent-mismatch`, `seeding-disabled`.
            StoreError: it could not be loaded.
        """
        if agent is not None and agent not in self.agents:
            raise Refused("not-found", f"no agent {agent[:100]!r} is served here", "agent")
        if state is not msgspec.UNSET and await self._load(id, None) is None:
            # Before anything is made of it.
            _check_seed(self.agents[agent or self.default_agent], state)
        thread = await self._load(id, agent or self.default_agent)
        assert thread is not None
        if agent is not None and thread.agent_name != agent:
            raise Refused("agent-mismatch", f"the thread belongs to the agent {thread.agent_name!r}", "agent")
        if state is not msgspec.UNSET and not thread.committed and not thread.document.dirty:
            _check_seed(thread.agent, state)
            thread.document.replace(state)
        return thread

    async def find(self, id: str) -> Thread | None:
        """The thread, None where there is none. Raises as `get`."""
        return await self._load(id, None)

    async def _load(self, id: str, agent: str | None) -> Thread | None:
        thread = self._threads.get(id)
        if thread is not None:
            thread.touch()
            return thread
        loading = self._loading.get(id)
        if loading is None or (agent is not None and loading.get_name() == "find"):
            loading = self._spawn(self._acquire(id, agent, after=loading))
            loading.set_name("find" if agent is None else "load")
            self._loading[id] = loading
            loading.add_done_callback(lambda task: self._loaded(id, task))
        # One caller's end doesn't end the loading that others wait for.
        return await asyncio.shield(loading)

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
            if id in self._threads:
                return self._threads[id]
        owned = await self.store.acquire(id, agent=agent, now=self.settings.clock())
        if owned is None:
            return None
        served = self.agents.get(owned.record.agent)
        if served is None:
            raise Refused(
                "not-found", f"the thread's agent {owned.record.agent!r} is not served here", "agent"
            )
        thread = Thread(
            owned,
            agent=served,
            store=self.store,
            settings=self.settings,
            spawn=self._spawn,
            on_lost=self._lost,
        )
        self._threads[id] = thread
        thread.runner.recover()
        if self.draining:
            thread.runner.hold()
        return thread

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
        try:
            await thread.runner.cancel(None)
        except StoreUnavailable:
            if not thread.closed:
                raise
        finally:
            thread.pins -= 1
        if thread.closed:
            # Deleted by another call meanwhile, or lost: what the store holds tells which.
            return await self.delete(id)
        self._unload(thread)
        for subscriber in list(thread.subscribers):
            message = Message(Error(code="not-found", message="the thread was deleted", thread=id))
            subscriber.sink.send(message)
            subscriber.sink.lost(subscriber)
        return await self.store.delete_thread(id)

    async def drain(self, timeout_s: float) -> None:
        """Starts no more runs, gives those that go on `timeout_s` to end, then ends them as failed."""
        self.draining = True
        threads = self.loaded()
        for thread in threads:
            thread.runner.hold()
        with anyio.move_on_after(timeout_s):
            for thread in threads:
                await self._quietly(thread.runner.ended())
        with anyio.move_on_after(self.settings.cancel_grace_s + 2):
            async with anyio.create_task_group() as group:
                for thread in threads:
                    group.start_soon(self._quietly, thread.runner.shut_down())
            for thread in threads:
                await self._quietly(thread.flush())

    async def _quietly(self, call: Coroutine[Any, Any, None]) -> None:
        try:
            await call
        except StoreError as error:
            logger.warning("while stopping: %s", error)

    # inside

    def _spawn(self, coroutine: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        task = asyncio.get_running_loop().create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def _lost(self, thread: Thread) -> None:
        if self._threads.get(thread.id) is thread:
            del self._threads[thread.id]

    def _unload(self, thread: Thread) -> None:
        self._lost(thread)
        thread.close()
        thread.runner.abandon()

    async def _recover(self) -> None:
        """Loads the threads whose run was cut or whose commands wait, which takes them up."""
        for id in await self.store.unfinished():
            try:
                await self._load(id, None)
            except Refused as error:
                logger.warning("thread %s can't be taken up: %s", id, error)

    async def _sweep(self) -> None:
        """Unloads what nobody has used for a while."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(max(self.settings.idle_s / 4, 0.05))
            for thread in self.loaded():
                if not thread.idle or loop.time() - thread.used_at < self.settings.idle_s:
                    continue
                if thread.worth_storing:
                    await thread.store_snapshot()
                if thread.idle and self._threads.get(thread.id) is thread:
                    self._unload(thread)


def _check_seed(agent: Agent, state: Json) -> None:
    """Raises Refused where the agent takes no first state, or not this one. Spec: PROTOCOL.md §9.5."""
    if not agent.seed:
        raise Refused("seeding-disabled", "this agent takes no first state from clients", "state")
    if type(state) is not dict:
        raise Refused("invalid-frame", "a first state is an object", "state")
    if RESERVED in state:
        raise Refused("reserved-key", "the root key 'threadwire' is the server's", "state.threadwire")
