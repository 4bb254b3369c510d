"""A run for the benchmark to write with: an agent that hands its run over and waits."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

from threadwire import Run
from threadwire.core.codec import Encoding
from threadwire.engine.agent import FunctionAgent
from threadwire.engine.message import Message
from threadwire.engine.settings import Settings
from threadwire.engine.subscriber import Subscriber
from threadwire.engine.thread import Thread
from threadwire.engine.threads import Threads
from threadwire.stores.memory import MemoryStore

THREAD: Final = "thread-1"


class Lender:
    """`agent` is to be served; `run` then gives a run of it."""

    def __init__(self) -> None:
        self._runs: asyncio.Queue[Run] = asyncio.Queue()
        self._over = asyncio.Event()

    async def agent(self, run: Run) -> None:
        self._runs.put_nowait(run)
        await self._over.wait()

    @asynccontextmanager
    async def run(self, threads: Threads, state: dict[str, Any]) -> AsyncIterator[tuple[Thread, Run]]:
        """A thread with that state, and the run that goes on in it."""
        thread = await threads.get(THREAD)
        message = {"type": "add-message", "message": {"role": "user", "parts": []}}
        await thread.submit("command-1", message, strategy=None, watcher=lambda state: None)
        run = await self._runs.get()
        run.state = state
        await run.flush()
        try:
            yield thread, run
        finally:
            self._over.set()


@asynccontextmanager
async def lent_run(state: dict[str, Any]) -> AsyncIterator[tuple[Thread, Run]]:
    """The same over an engine of its own, with a store in memory."""
    lender = Lender()
    async with (
        MemoryStore() as store,
        Threads(agents={"agent": FunctionAgent(lender.agent)}, store=store, settings=Settings()) as threads,
        lender.run(threads, state) as lent,
    ):
        yield lent


class Recipient:
    """A connection that is always ready: has each message encoded, and drops it."""

    ready = True

    def __init__(self, encoding: Encoding) -> None:
        self.encoding: Encoding = encoding
        self.messages = 0
        self.bytes = 0

    def send(self, message: Message) -> None:
        self.messages += 1
        self.bytes += len(message.payload(self.encoding))

    def offer(self, message: Message) -> bool:
        self.send(message)
        return True

    def lag(self, subscriber: Subscriber) -> None:
        pass

    def lost(self, subscriber: Subscriber) -> None:
        raise AssertionError("the thread was lost")
