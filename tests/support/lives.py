"""A client that plays a script against an engine whose process dies and starts anew, on the same disks."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeAlias

from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.checkpoint.memory import InMemorySaver

from tests.support.crashes import CrashingSaver, CrashingStore, Moments
from tests.support.engine import Commands, Reader, engine, say
from tests.support.graphs import as_shown, own_state, thread_note
from threadwire.core.frames import Snapshot, Strategy
from threadwire.core.operations import Json
from threadwire.engine.settings import Settings
from threadwire.engine.store import RunRecord
from threadwire.engine.thread import Thread
from threadwire.engine.threads import Threads
from threadwire_agents.langgraph import LangGraphAgent
from threadwire_agents.langgraph.saver import HeadSaver

ENDED = ("completed", "failed", "cancelled")

MakeAgent: TypeAlias = Callable[[CrashingSaver], LangGraphAgent]


class Client:
    """Sends each command until it is settled, over as many lives of the server as that takes."""

    def __init__(self, script: Sequence[Step], *, seed: Json = None, tools: tuple[str, ...] = ()) -> None:
        self._script = script
        self._seed = seed
        self._tools = tools
        self._done = 0
        self.lives = 0
        self._bodies: dict[str, Any] = {}
        self.agent: LangGraphAgent
        self.thread: Thread
        self.reader = Reader()
        self.commands = Commands()

    async def play(self, threads: Threads, agent: LangGraphAgent) -> None:
        """Goes on with the script from the step that was cut."""
        self.lives += 1
        options = {} if self._seed is None else {"state": self._seed}
        self.agent = agent
        self.thread = await threads.get("t", **options)
        await self._follow()
        for step in self._script[self._done :]:
            await step(self)
            await self._check()
            self._done += 1

    async def _check(self) -> None:
        """What was seen is what the graph holds at the thread's head, half-done steps included."""
        await self.thread.flush()
        await self.thread.stored_notes()
        graph, saver = self.agent._source.graph, self.agent._checkpointer
        assert graph is not None
        saver = saver or graph.checkpointer
        assert saver is not None
        pinned = HeadSaver(saver, thread_note(self.thread, "head"), metadata={}, saved=lambda *_: None)
        kept = graph.copy(update={"checkpointer": pinned})
        state = await kept.aget_state({"configurable": {"thread_id": self.thread.id, "checkpoint_ns": ""}})
        assert own_state(self.state) == as_shown(state.values)

    async def _follow(self) -> None:
        """Takes up the state that was seen before: none of it may be lost."""
        before, self.reader = self.reader, Reader()
        self.commands = Commands()
        since: Json = None
        if before.position is not None:
            self.reader.state, self.reader.position = before.state, before.position
            since = {"epoch": before.position[0], "seq": before.position[1]}
        await self.thread.subscribe(self.reader, since=since, tools=self._tools)
        assert since is None or not any(isinstance(frame, Snapshot) for frame in self.reader.frames)

    @property
    def state(self) -> dict[str, Any]:
        state = self.reader.state
        assert isinstance(state, dict)
        return state

    @property
    def own(self) -> dict[str, Any]:
        """The server's part of the state."""
        found = self.state.get("threadwire", {})
        assert isinstance(found, dict)
        return found

    @property
    def run(self) -> str | None:
        info = self.thread.run_info
        return None if info is None else info.status

    async def send(
        self,
        id: str,
        body: Json | Callable[[Client], Json],
        *,
        until: Sequence[str] = (*ENDED, "waiting"),
        strategy: Strategy | None = None,
    ) -> None:
        """Returns when the command is settled and the run stands still. `body` is made but once."""
        if id not in self._bodies:
            self._bodies[id] = body(self) if callable(body) else body
        await self.submit(id, self._bodies[id], strategy)
        await self.commands.until(id, "applied", "rejected", "cancelled")
        await self.reader.until(lambda: self.run in until)

    async def submit(self, id: str, body: Json, strategy: Strategy | None = None) -> None:
        await self.thread.submit(id, body, strategy=strategy, watcher=self.commands, origin=self.reader)


Step: TypeAlias = Callable[[Client], Awaitable[None]]


def says(id: str, text: str) -> Step:
    return lambda client: client.send(id, say(text, f"m-{id}"))


def edits(id: str, source: str, text: str) -> Step:
    return lambda client: client.send(id, {**say(text, f"m-{id}"), "sourceId": source})


def regenerates(id: str, parent: str) -> Step:
    return lambda client: client.send(id, {"type": "regenerate", "parentId": parent})


def switches(id: str, message: str | Callable[[Client], str]) -> Step:
    def body(client: Client) -> Json:
        wanted = message if isinstance(message, str) else message(client)
        return {"type": "switch-branch", "messageId": wanted}

    return lambda client: client.send(id, body)


def answers(id: str, answer: Json, *, which: int = 0) -> Step:
    """Answers one of the open interrupts, in the order of what they ask."""

    def body(client: Client) -> Json:
        asked = sorted(client.own["interrupts"].items(), key=lambda item: str(item[1]["value"]))
        return {"type": "resume", "answers": {asked[which][0]: answer}}

    return lambda client: client.send(id, body)


def does(id: str, body: Json) -> Step:
    return lambda client: client.send(id, body)


class Outcome:
    """What a script has come to."""

    def __init__(
        self, client: Client, store: CrashingStore, runs: list[RunRecord], lives: list[Moments]
    ) -> None:
        self.state = client.state
        self.moments = lives[0].names
        self.lives = len(lives)
        self.runs = [(run.status, run.error.code if run.error else None) for run in runs]
        self.settled: dict[str, list[str]] = {}
        for entry in store.written:
            for change in entry.commands:
                if change.status in ("applied", "rejected", "cancelled"):
                    self.settled.setdefault(change.id, []).append(change.status)

    @property
    def ends(self) -> list[bool]:
        """Whether each run failed: one whose clean-up was done when the server died has completed."""
        return [status == "failed" for status, _ in self.runs]

    @property
    def seen(self) -> dict[str, Any]:
        """The state without what is made anew each time: ids of messages that graphs and models make."""
        own = own_state(self.state)
        shown = own.pop("messages", [])
        own_area = self.state.get("threadwire", {})
        branches = own_area.get("branches", {})
        return {
            **own,
            "messages": [_without_id(message) for message in shown],
            "branches": [
                (place, group.index(message["id"]), len(group))
                for place, message in enumerate(shown)
                if (group := branches.get(message["id"]))
            ],
            "asked": sorted(
                str(entry["value"])
                for entry in self.state.get("threadwire", {}).get("interrupts", {}).values()
            ),
        }


def _without_id(message: dict[str, Any]) -> dict[str, Any]:
    given = str(message["id"]).startswith("m-")
    return {key: value for key, value in message.items() if key != "id" or given}


async def live(
    client: Client,
    make_agent: MakeAgent,
    *,
    crashes: Sequence[int] = (),
    disk: BaseCheckpointSaver[Any] | None = None,
) -> Outcome:
    """Plays the client's script. `crashes`: for each life but the last, the moment it ends at."""
    store = CrashingStore()
    disk = disk or InMemorySaver()
    lives: list[Moments] = []
    while True:
        crash_at = crashes[len(lives)] if len(lives) < len(crashes) else None
        moments = store.moments = Moments(crash_at)
        lives.append(moments)
        if await _live(client, make_agent(CrashingSaver(disk, moments)), store, moments):
            runs = await store.disk.runs("t", limit=1000)
            return Outcome(client, store, runs[::-1], lives)


async def _live(client: Client, agent: LangGraphAgent, store: CrashingStore, moments: Moments) -> bool:
    """One life of the server; whether the client came to its end."""
    opened: list[Threads] = []

    async def serve() -> None:
        async with engine(agent, store=store, settings=Settings(max_starts=100)) as threads:
            opened.append(threads)
            await client.play(threads, agent)

    serving = asyncio.create_task(serve())
    crash = asyncio.create_task(moments.crashed.wait())
    await asyncio.wait({serving, crash}, return_when=asyncio.FIRST_COMPLETED)
    if not moments.dead:
        crash.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await crash
        await serving
        return True
    for threads in opened:
        threads.draining = True
    serving.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await serving
    return False
