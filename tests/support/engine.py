"""An engine in a test: threads over a memory store, and a client that replays what it is sent."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import anyio

from threadwire.core.codec import Encoding, decode_server_message
from threadwire.core.frames import CommandState, Error, Run, RunInfo, Snapshot, Update
from threadwire.core.operations import Json, apply
from threadwire.engine.agent import Agent, as_agent
from threadwire.engine.message import Message
from threadwire.engine.settings import Settings
from threadwire.engine.store import Store
from threadwire.engine.subscriber import Subscriber
from threadwire.engine.thread import Thread
from threadwire.engine.threads import Threads
from threadwire.stores.memory import MemoryStore


class Reader:
    """A sink that keeps frames and folds them into a state, checking that no seq is missed or doubled."""

    def __init__(self, encoding: Encoding = "json", *, ready: bool = True) -> None:
        self.encoding: Encoding = encoding
        self.is_ready = ready
        self.frames: list[Any] = []
        self.state: Json = None
        self.position: tuple[int, int] | None = None
        self.runs: list[RunInfo | None] = []
        self.bytes = 0
        self.lagging: dict[Subscriber, None] = {}
        self.lost_subscribers: list[Subscriber] = []
        self._news = asyncio.Event()

    @property
    def ready(self) -> bool:
        return self.is_ready

    def send(self, message: Message) -> None:
        payload = message.payload(self.encoding)
        self.bytes += len(payload)
        (frame,) = decode_server_message(payload, self.encoding)
        self.frames.append(frame)
        match frame:
            case Snapshot():
                self.state, self.position = frame.state, (frame.epoch, frame.seq)
            case Update():
                assert self.position is not None
                assert frame.base == self.position[1], f"{frame.base} after {self.position}"
                self.state, self.position = apply(self.state, frame.ops), (frame.epoch, frame.seq)
            case Run():
                self.runs.append(frame.run)
            case Error():
                pass
        self._news.set()

    def offer(self, message: Message) -> bool:
        if self.is_ready:
            self.send(message)
        return self.is_ready

    def lag(self, subscriber: Subscriber) -> None:
        self.lagging[subscriber] = None

    def lost(self, subscriber: Subscriber) -> None:
        self.lost_subscribers.append(subscriber)

    def resume_reading(self) -> None:
        self.is_ready = True
        while self.lagging:
            subscriber = next(iter(self.lagging))
            del self.lagging[subscriber]
            subscriber.drain()

    async def until(self, condition: Callable[[], bool]) -> None:
        """Waits, a minute at most, for frames that make `condition` true."""
        with anyio.fail_after(60):
            while not condition():
                self._news.clear()
                await self._news.wait()

    async def until_run(self, *statuses: str) -> RunInfo:
        await self.until(lambda: any(run is not None and run.status in statuses for run in self.runs))
        return next(run for run in reversed(self.runs) if run is not None and run.status in statuses)


class Commands:
    """A watcher: the statuses of commands by id."""

    def __init__(self) -> None:
        self.seen: list[CommandState] = []
        self._news = asyncio.Event()

    def __call__(self, state: CommandState) -> None:
        self.seen.append(state)
        self._news.set()

    def of(self, id: str) -> list[str]:
        return [state.status for state in self.seen if state.id == id]

    def last(self, id: str) -> CommandState:
        return next(state for state in reversed(self.seen) if state.id == id)

    async def until(self, id: str, *statuses: str) -> CommandState:
        with anyio.fail_after(60):
            while True:
                for state in self.seen:
                    if state.id == id and state.status in statuses:
                        return state
                self._news.clear()
                await self._news.wait()


def say(text: str, id: str | None = None) -> dict[str, Json]:
    """The body of an add-message command."""
    message: dict[str, Json] = {"role": "user", "parts": [{"type": "text", "text": text}]}
    if id is not None:
        message["id"] = id
    return {"type": "add-message", "message": message}


@asynccontextmanager
async def engine(
    *targets: Any, store: Store | None = None, settings: Settings | None = None
) -> AsyncIterator[Threads]:
    """A running engine with the given agents, named by their own names."""
    agents: dict[str, Agent] = {}
    for target in targets:
        agent = as_agent(target)
        assert agent is not None
        agents[agent.name] = agent
    async with (
        store or MemoryStore() as opened,
        Threads(agents=agents, store=opened, settings=settings or Settings()) as threads,
    ):
        yield threads


async def follow(thread: Thread, encoding: Encoding = "json", **options: Any) -> Reader:
    reader = Reader(encoding)
    await thread.subscribe(reader, **options)
    return reader
