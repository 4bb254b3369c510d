"""A client of one thread of a hosted graph, and models that insist on a conversation that is in order."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from typing import Any

import anyio
from langchain_core.messages import AIMessage, BaseMessage, ToolMessage

from tests.support.engine import Commands, Reader, engine, say
from tests.support.graphs import Piece, ScriptedModel, as_shown, assert_equal_to_graph, own_state
from threadwire.core.codec import Encoding
from threadwire.core.frames import CommandState, RunInfo, Strategy, Tool, Update
from threadwire.engine.message import Message
from threadwire.engine.settings import Settings, random_id
from threadwire.engine.store import Store
from threadwire.engine.thread import Thread
from threadwire.engine.threads import Threads
from threadwire_agents.langgraph import LangGraphAgent

SETTINGS = Settings(show_errors=True)


class SteadyReader(Reader):
    """A reader that sees to it that nothing goes from the state and comes back: that would flicker."""

    def __init__(self, encoding: Encoding = "json") -> None:
        super().__init__(encoding)
        self.flickers: list[str] = []
        self._gone: set[str] = set()
        self._shown: set[str] = set()
        self._values: dict[str, list[Any]] = {}

    def send(self, message: Message) -> None:
        super().send(message)
        if isinstance(self.frames[-1], Update) and isinstance(self.state, dict):
            self._watch(self.state)

    def _watch(self, state: dict[str, Any]) -> None:
        now = {item["id"] for item in state.get("messages", []) if item.get("content") and item.get("id")}
        self.flickers += [f"message {id}" for id in now & self._gone]
        self._gone |= self._shown - now
        self._shown = now
        for name, value in state.items():
            if name in ("messages", "threadwire"):
                continue
            values = self._values.setdefault(name, [])
            if not values or values[-1] != value:
                if value in values:
                    self.flickers.append(f"{name} is {value!r} again")
                values.append(value)


class GraphClient:
    """Commands are sent by `do`, which waits for what becomes of the run, or by `send`, which doesn't."""

    def __init__(self, agent: LangGraphAgent, threads: Threads, thread: Thread) -> None:
        self.agent = agent
        self.threads = threads
        self.thread = thread
        self.commands = Commands()
        self.reader = SteadyReader()
        self._count = 0
        self._begun: dict[str, int] = {}
        """How many statuses of runs were told before a command went into its run."""

    async def open(self, *, tools: tuple[str, ...] = ()) -> GraphClient:
        self.subscriber = await self.thread.subscribe(self.reader, tools=tools)
        return self

    async def reload(self, *, tools: tuple[str, ...] = ()) -> None:
        """The page is loaded anew: a new connection, which knows nothing."""
        self.thread.unsubscribe(self.subscriber)
        self.reader = SteadyReader()
        await self.open(tools=tools)

    async def send(self, body: str | dict[str, Any], strategy: Strategy | None = None) -> str:
        """Returns the command's id, once it is durable."""
        self._count += 1
        id = f"c{self._count}-{random_id()}"
        body = say(body, f"m{self._count}") if isinstance(body, str) else body
        await self.thread.submit(id, body, strategy=strategy, watcher=self._told, origin=self.reader)
        return id

    def _told(self, state: CommandState) -> None:
        if state.status == "running":
            self._begun[state.id] = len(self.reader.runs)
        self.commands(state)

    async def do(self, body: str | dict[str, Any], *statuses: str, strategy: Strategy | None = None) -> str:
        """Returns the command's id, once its run has come to one of `statuses`, or has ended or waits."""
        id = await self.send(body, strategy)
        await self.commands.until(id, "running")
        await self.until_run(*statuses, after=self._begun[id])
        await self.thread.flush()
        return id

    async def refused(self, body: str | dict[str, Any], strategy: Strategy | None = None) -> tuple[str, str]:
        """The code and the field with which a command is rejected."""
        state = await self.commands.until(await self.send(body, strategy), "rejected")
        assert state.error is not None
        return state.error.code, state.error.field or ""

    async def until_run(self, *statuses: str, after: int = 0) -> RunInfo:
        wanted = statuses or ("completed", "failed", "cancelled", "waiting")
        runs = self.reader.runs
        await self.reader.until(lambda: any(run and run.status in wanted for run in runs[after:]))
        return next(run for run in runs[after:] if run and run.status in wanted)

    async def until(self, condition: Callable[[], Any]) -> None:
        await self.reader.until(condition)

    async def cancel(self) -> RunInfo:
        with anyio.fail_after(60):
            run = await self.thread.runner.cancel(None)
        assert run is not None
        await self.thread.flush()
        return run

    def status(self, id: str) -> str:
        """What became of a command: its status, or the code it was rejected with."""
        state = self.commands.last(id)
        return state.error.code if state.error is not None else state.status

    # what is shown

    @property
    def run(self) -> str:
        run = self.reader.runs[-1]
        assert run is not None
        return run.status if run.error is None else f"{run.status}: {run.error.message}"

    @property
    def state(self) -> dict[str, Any]:
        assert isinstance(self.reader.state, dict)
        return self.reader.state

    @property
    def own(self) -> dict[str, Any]:
        """The server's part of the state."""
        own = self.state.get("threadwire", {})
        assert isinstance(own, dict)
        return own

    @property
    def interrupts(self) -> dict[str, Any]:
        """The open questions by id."""
        return {id: entry["value"] for id, entry in self.own.get("interrupts", {}).items()}

    @property
    def calls(self) -> dict[str, Any]:
        """The open calls of client tools by id."""
        calls: dict[str, Any] = self.own.get("tool_calls", {})
        return calls

    async def until_tools(self, *ids: str) -> None:
        """Waits until just these calls were given to this connection, since it opened the thread."""
        await self.until(lambda: sorted(self.tool_frames) == sorted(ids))

    @property
    def tool_frames(self) -> list[str]:
        return [frame.tool_call_id for frame in self.reader.frames if isinstance(frame, Tool)]

    @property
    def texts(self) -> list[str]:
        return [f"{item['type']}: {item['content']}" for item in self.state.get("messages", [])]

    def interrupt_id(self, value: Any) -> str:
        return next(id for id, asked in self.interrupts.items() if asked == value)

    # checks

    async def check(self) -> None:
        """What is shown is what the graph holds, to the last; and nothing has flickered on the way."""
        await assert_equal_to_graph(self.agent, self.thread, self.reader)
        assert self.reader.flickers == []

    async def check_waiting(self) -> None:
        """As `check` for a graph in the midst of a superstep: with what its ended tasks have brought."""
        await self.thread.flush()
        config: Any = {"configurable": {"thread_id": self.thread.id}}
        async with self.agent._source.open(config, context={}) as graph:
            kept = graph.copy(update={"checkpointer": self.agent._saver(graph)})
            values = (await kept.aget_state(config)).values
        assert own_state(self.state) == as_shown(values)
        assert self.reader.flickers == []


@asynccontextmanager
async def client_of(
    agent: LangGraphAgent,
    *,
    tools: tuple[str, ...] = (),
    store: Store | None = None,
    settings: Settings = SETTINGS,
) -> AsyncIterator[GraphClient]:
    async with engine(agent, store=store, settings=settings) as threads:
        yield await GraphClient(agent, threads, await threads.get("t")).open(tools=tools)


def resume(answers: dict[str, Any]) -> dict[str, Any]:
    return {"type": "resume", "answers": answers}


def tool_result(id: str, result: Any, **fields: Any) -> dict[str, Any]:
    return {"type": "add-tool-result", "toolCallId": id, "result": result, **fields}


class Hold:
    """A place where something waits until it is let go on."""

    def __init__(self) -> None:
        self.reached = asyncio.Event()
        self.go_on = asyncio.Event()

    async def __call__(self) -> None:
        self.reached.set()
        await self.go_on.wait()

    async def wait_reached(self) -> None:
        with anyio.fail_after(60):
            await self.reached.wait()


class Turns:
    """A model's script, turn by turn, the last again and again; no model takes what isn't in order."""

    def __init__(self, *turns: Iterable[Piece]) -> None:
        self._turns = turns
        self.seen: list[list[BaseMessage]] = []

    def __call__(self, messages: list[BaseMessage]) -> Iterable[Piece]:
        check_conversation(messages)
        self.seen.append(messages)
        return self._turns[min(len(self.seen), len(self._turns)) - 1]

    @property
    def last_seen(self) -> list[str]:
        return [f"{message.type}: {message.text}" for message in self.seen[-1]]


def scripted(*turns: Iterable[Piece]) -> tuple[ScriptedModel, Turns]:
    script = Turns(*turns)
    return ScriptedModel(script=script), script


def check_conversation(messages: list[BaseMessage]) -> None:
    """Providers refuse a call without a result right behind it, and a result without a call."""
    called: set[str] = set()
    for message in messages:
        if isinstance(message, ToolMessage):
            assert message.tool_call_id in called, f"a result without a call: {message}"
            called.remove(message.tool_call_id)
            continue
        assert not called, f"calls without results: {called}"
        if isinstance(message, AIMessage):
            called = {str(call["id"]) for call in message.tool_calls}
    assert not called, f"calls without results: {called}"
