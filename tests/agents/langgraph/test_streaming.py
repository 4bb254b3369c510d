"""Graphs that stream through the whole engine: what a client replays is what the graph holds."""

# PROTOCOL §15.1
from __future__ import annotations

import asyncio
import operator
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Annotated, Any, TypedDict

import anyio
import anyio.lowlevel
import pytest
from langchain_core.messages import AIMessage, AnyMessage, BaseMessage, RemoveMessage
from langgraph.func import entrypoint
from langgraph.graph import END, START, MessagesState, StateGraph
from pydantic import BaseModel

from tests.support.engine import Commands, Reader, engine, follow, say
from tests.support.graph_client import client_of
from tests.support.graphs import ScriptedModel, assert_equal_to_graph, last_piece
from tests.support.replay import Client, WatchedConverter
from tests.support.scenarios import SCENARIOS, chain, history, one_node, says, talking
from threadwire.core.errors import AgentError
from threadwire.core.frames import RunInfo, Snapshot, Update
from threadwire.core.operations import Json
from threadwire.engine.thread import Thread
from threadwire_agents.langgraph import LangGraphAgent
from threadwire_agents.langgraph.converter import Converter

pytestmark = [pytest.mark.anyio, pytest.mark.spec("15.1")]


@pytest.fixture(autouse=True)
def watched(monkeypatch: pytest.MonkeyPatch) -> list[WatchedConverter]:
    """The converters of all runs; each compares the document with the graph after every event."""
    converters: list[WatchedConverter] = []
    monkeypatch.setattr(WatchedConverter, "watched", converters, raising=False)
    monkeypatch.setattr("threadwire_agents.langgraph.graph_thread.Converter", WatchedConverter)
    return converters


class Talk:
    """A client that talks to a graph on one thread."""

    def __init__(self, agent: LangGraphAgent, thread: Thread, reader: Reader) -> None:
        self.agent = agent
        self.thread = thread
        self.reader = reader
        self.commands = Commands()
        self._sent = 0

    @property
    def state(self) -> dict[str, Any]:
        return self.reader.state or {}

    @property
    def conversation(self) -> list[str]:
        return says(self.state.get("messages", []))

    async def say(self, text: str = "hi", *statuses: str) -> RunInfo:
        """Says something and returns the run when it has come to one of `statuses`, by default completed."""
        self._sent += 1
        before = len(self.reader.runs)
        await self.thread.submit(f"c{self._sent}", say(text), strategy=None, watcher=self.commands)

        def ended() -> list[RunInfo]:
            runs = self.reader.runs[before:]
            return [
                run for run in runs if run is not None and run.status in ("completed", "failed", "waiting")
            ]

        await self.reader.until(lambda: bool(ended()))
        await self.thread.flush()
        run = ended()[-1]
        assert run.status in (statuses or ("completed",)), run
        return run

    async def check(self, *, edits: bool = False) -> None:
        """The client has what the graph has, and saw texts only grow (unless the graph `edits`)."""
        await assert_equal_to_graph(self.agent, self.thread, self.reader)
        if edits:
            return
        client = Client()
        for frame in self.reader.frames:
            if isinstance(frame, Snapshot):
                client.state = frame.state
            elif isinstance(frame, Update):
                client.take(frame.ops)
        assert client.state == self.reader.state

    def left(self, area: str) -> Json:
        """What is shown beside the graph's channels."""
        return self.state.get("threadwire", {}).get(area)


@pytest.fixture
def unwatched(monkeypatch: pytest.MonkeyPatch, watched: list[WatchedConverter]) -> None:
    """For long histories, which take long to compare after every event."""
    monkeypatch.setattr("threadwire_agents.langgraph.graph_thread.Converter", Converter)


@asynccontextmanager
async def talk_to(graph: Any, **options: Any) -> AsyncIterator[Talk]:
    agent = LangGraphAgent(graph, name="graph", **options)
    async with engine(agent) as threads:
        thread = await threads.get("t")
        yield Talk(agent, thread, await follow(thread))


# the scenarios


@pytest.mark.parametrize("name", SCENARIOS)
async def test_the_client_has_what_the_graph_has_at_the_end(
    name: str, watched: list[WatchedConverter]
) -> None:
    scenario = SCENARIOS[name]
    async with talk_to(scenario.build(), input=scenario.input) as talk:
        await talk.say()
        await talk.check(edits=scenario.edits)
        if scenario.says:
            assert talk.conversation == scenario.says
        assert sum(converter.supersteps for converter in watched)
        assert talk.left("tasks") is None
        assert talk.left("streaming") is None


@pytest.mark.parametrize("name", SCENARIOS)
async def test_a_second_turn_goes_on_from_the_first(name: str) -> None:
    scenario = SCENARIOS[name]
    async with talk_to(scenario.build(), input=scenario.input) as talk:
        await talk.say("hi")
        await talk.say("again")
        await talk.check(edits=True)
        assert [run.status for run in talk.reader.runs if run and run.status == "failed"] == []


# errors


async def test_a_node_that_fails_leaves_its_partial_an_error_and_a_thread_to_go_on_with() -> None:
    script = [
        ["half", " a", AgentError("the model is away", code="model-away")],
        ["all", " well", last_piece()],
    ]
    async with talk_to(talking(*script)) as talk:
        run = await talk.say("hi", "failed")
        assert run.error is not None
        assert (run.error.code, run.error.message) == ("model-away", "the model is away")
        assert talk.left("error") == {"code": "model-away", "message": "the model is away"}
        assert talk.conversation == ["human: hi", "ai: half a"]
        assert talk.state["messages"][1]["response_metadata"] == {"threadwire": "failed"}
        await talk.check()
        await talk.say("again")
        assert talk.conversation == ["human: hi", "ai: half a", "human: again", "ai: all well"]
        assert talk.left("error") is None
        await talk.check()


async def test_what_clients_are_told_of_an_unknown_error_gives_nothing_away() -> None:
    async with talk_to(talking(["half", ValueError("secret")])) as talk:
        run = await talk.say("hi", "failed")
        assert run.error is not None
        assert run.error.code == "agent-failed"
        assert "secret" not in str(talk.state)
        await talk.check()


async def test_a_node_that_fails_after_another_has_ended_keeps_what_that_one_wrote() -> None:
    class State(MessagesState):
        log: Annotated[list[str], operator.add]

    done = asyncio.Event()

    async def quick(state: State) -> Any:
        done.set()
        return {"log": ["quick"]}

    async def broken(state: State) -> Any:
        await done.wait()
        for _ in range(5):
            await anyio.lowlevel.checkpoint()
        raise ValueError("broken")

    builder = StateGraph(State)
    for node in (quick, broken):
        builder.add_node(node)
        builder.add_edge(START, node.__name__)
    async with talk_to(builder.compile()) as talk:
        await talk.say("hi", "failed")
        assert talk.state["log"] == ["quick"]
        await talk.check()


async def test_a_retry_leaves_nothing_of_the_first_try() -> None:
    async with talk_to(SCENARIOS["retry_after_partial"].build()) as talk:
        await talk.say()
        assert talk.conversation == ["human: hi", "ai: second try"]
        await talk.check()


async def test_a_graph_that_goes_on_for_too_long_fails_by_its_limit_and_can_be_talked_to_again() -> None:
    async def on(state: MessagesState) -> Any:
        return {"messages": [AIMessage("on")]}

    builder = StateGraph(MessagesState)
    builder.add_node(on)
    builder.add_edge(START, "on")
    builder.add_conditional_edges(
        "on", lambda state: END if state["messages"][-2].content == "again" else "on", ["on", END]
    )
    async with talk_to(builder.compile(), config={"recursion_limit": 3}) as talk:
        run = await talk.say("hi", "failed")
        assert run.error is not None
        assert run.error.code == "recursion-limit"
        assert talk.left("error") == {"code": "recursion-limit", "message": run.error.message}
        assert talk.conversation == ["human: hi", "ai: on", "ai: on", "ai: on"]
        await talk.check()
        await talk.say("again")
        assert talk.conversation[-2:] == ["human: again", "ai: on"]
        await talk.check()


async def test_a_value_that_no_checkpoint_holds_is_told_by_its_channel_and_the_thread_goes_on() -> None:
    class State(MessagesState):
        handle: Any

    async def write(state: State) -> Any:
        good = state["messages"][-1].text == "good"
        return {"handle": 1 if good else (each for each in "odd"), "messages": [AIMessage("written")]}

    async with talk_to(one_node(write, State)) as talk:
        run = await talk.say("odd", "failed")
        assert run.error is not None
        assert run.error.code == "value-not-storable"
        assert "'handle'" in run.error.message
        await talk.check()
        await talk.say("good")
        assert talk.state["handle"] == 1
        await talk.check()


# long histories


def loading(length: int) -> Any:
    """A graph that gives itself a history in its first turn and says three words in each after it."""
    model = ScriptedModel(script=[["one", " two", " three", last_piece()]])

    async def talk(state: MessagesState) -> Any:
        if len(state["messages"]) == 1:
            return {"messages": history(length)}
        return {"messages": [await model.ainvoke("go")]}

    return one_node(talk)


async def frames_of_a_turn(length: int) -> tuple[int, int]:
    """Operations and bytes of a turn after a history of so many messages."""
    async with talk_to(loading(length)) as talk:
        await talk.say("load")
        frames, size = len(talk.reader.frames), talk.reader.bytes
        await talk.say("hi")
        await talk.check(edits=True)
        assert len(talk.state["messages"]) == length + 3
        sent = [frame for frame in talk.reader.frames[frames:] if isinstance(frame, Update)]
        return sum(len(frame.ops) for frame in sent), talk.reader.bytes - size


@pytest.mark.usefixtures("unwatched")
async def test_a_turn_sends_the_same_for_any_history() -> None:
    few, few_bytes = await frames_of_a_turn(10)
    many, many_bytes = await frames_of_a_turn(2000)
    # How many frames its tokens came in depends on the clock.
    assert abs(many - few) <= 8
    assert abs(many_bytes - few_bytes) < 1500


@pytest.mark.usefixtures("unwatched")
async def test_two_thousand_messages_are_trimmed_in_a_few_operations() -> None:
    model = ScriptedModel(script=[["short", " memory"]])

    async def node(state: MessagesState) -> Any:
        if len(state["messages"]) == 1:
            return {"messages": history(2000)}
        gone = [RemoveMessage(id=str(message.id)) for message in state["messages"][:-5]]
        return {"messages": [*gone, await model.ainvoke("go")]}

    async with talk_to(one_node(node)) as talk:
        await talk.say("load")
        frames, size = len(talk.reader.frames), talk.reader.bytes
        await talk.say("hi")
        assert talk.conversation[-2:] == ["human: hi", "ai: short memory"]
        assert len(talk.state["messages"]) == 6
        sent = [frame for frame in talk.reader.frames[frames:] if isinstance(frame, Update)]
        assert sum(len(frame.ops) for frame in sent) < 25
        assert talk.reader.bytes - size < 6000
        await talk.check(edits=True)


# where things stand


async def test_custom_data_of_the_graph_and_of_a_subgraph_stand_apart() -> None:
    async with talk_to(SCENARIOS["custom_data"].build()) as talk:
        await talk.say()
        assert talk.left("custom") == ["a text", {"n": 1}, None]
        subgraphs = talk.left("subgraphs")
        assert [entry["custom"] for entry in subgraphs.values()] == [[{"from": "below"}]]
        await talk.say("again")
        assert talk.left("custom") == ["a text", {"n": 1}, None]


async def test_a_subgraph_that_a_tool_calls_is_found_by_the_call() -> None:
    async with talk_to(SCENARIOS["private_subgraph_in_a_tool"].build()) as talk:
        await talk.say()
        (entry,) = talk.left("subgraphs").values()
        assert entry["tool_call_id"] == "call-1"
        assert says(entry["values"]["messages"]) == ["ai: inside"]


async def test_tokens_of_a_shared_subgraph_come_while_it_runs() -> None:
    shown = asyncio.Event()

    async def wait() -> None:
        with anyio.fail_after(60):
            await shown.wait()

    below = talking(["from", " below", wait, last_piece()])
    async with talk_to(chain(("sub", below))) as talk:

        async def look() -> None:
            await talk.reader.until(lambda: talk.conversation[-1:] == ["ai: from below"])
            shown.set()

        async with anyio.create_task_group() as group:
            group.start_soon(look)
            await talk.say()
        assert talk.left("subgraphs") is not None
        await talk.check()


async def test_a_graph_without_messages_shows_what_streams_beside_its_channels() -> None:
    shown = asyncio.Event()

    class State(TypedDict):
        question: str
        answer: str

    async def wait() -> None:
        with anyio.fail_after(60):
            await shown.wait()

    model = ScriptedModel(script=[["forty", "-two", wait]])

    async def answer(state: State) -> Any:
        return {"answer": (await model.ainvoke(state["question"])).content}

    async with talk_to(one_node(answer, State), input="question") as talk:

        async def look() -> None:
            await talk.reader.until(lambda: says(talk.left("streaming") or []) == ["ai: forty-two"])
            shown.set()

        async with anyio.create_task_group() as group:
            group.start_soon(look)
            await talk.say("how much?")
        assert talk.state["question"] == "how much?"
        assert talk.state["answer"] == "forty-two"
        assert talk.left("streaming") is None
        await talk.check()


async def test_a_functional_entrypoint_keeps_its_output() -> None:
    async with talk_to(SCENARIOS["functional_entrypoint"].build()) as talk:
        await talk.say("rain")
        assert {name: talk.state[name] for name in ("topic", "poem")} == {"topic": "rain", "poem": "a poem"}
        await talk.check()


class Asked(TypedDict):
    messages: list[AnyMessage]


class AskedModel(BaseModel):
    messages: list[AnyMessage]


@dataclass
class AskedData:
    messages: list[AnyMessage]


def _asks_for(kind: Any) -> Any:
    async def answer(given: Any, *, previous: Any = None) -> Any:
        messages = given["messages"] if isinstance(given, dict) else getattr(given, "messages", given)
        texts = [*(previous or []), *(message.text for message in messages)]
        return entrypoint.final(value={"kind": type(given).__name__, "texts": texts}, save=texts)

    answer.__annotations__["given"] = kind
    return entrypoint()(answer)


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        (list[BaseMessage], "list"),
        (Annotated[list[AnyMessage], "of any kind"], "list"),
        ("list[BaseMessage]", "list"),
        (Asked, "dict"),
        ("Asked", "dict"),
        (AskedModel, "AskedModel"),
        (AskedData, "AskedData"),
    ],
    ids=["list", "annotated", "postponed list", "dict", "postponed dict", "model", "dataclass"],
)
async def test_an_entrypoint_that_takes_messages_is_given_them(kind: Any, name: str) -> None:
    async with talk_to(_asks_for(kind)) as talk:
        await talk.say("one")
        await talk.say("two")
        assert talk.state["kind"] == name
        assert talk.state["texts"] == ["one", "two"]
        await talk.check()


@pytest.mark.parametrize("kind", [str, list[str], Any, dict[str, Any], "Unknown", "no type"], ids=str)
async def test_an_entrypoint_that_takes_anything_else_is_given_the_text(kind: Any) -> None:
    seen: list[Any] = []

    async def answer(given: Any) -> None:
        seen.append(given)

    answer.__annotations__["given"] = kind
    async with talk_to(entrypoint()(answer)) as talk:
        await talk.say("one")
        assert seen == ["one"]


async def test_the_conversation_may_be_named_as_where_messages_go() -> None:
    async with client_of(LangGraphAgent(talking(["hello"]), input="messages")) as client:
        await client.do(say("one", "mine"), "completed")
        assert [message["id"] for message in client.state["messages"]][:1] == ["mine"]
        await client.check()


async def test_two_clients_that_join_at_different_times_have_the_same() -> None:
    joined = asyncio.Event()

    async def wait() -> None:
        with anyio.fail_after(60):
            await joined.wait()

    async with talk_to(talking(["one", " two", wait, " three", last_piece()])) as talk:
        late: list[Reader] = []

        async def join() -> None:
            await talk.reader.until(lambda: talk.conversation[-1:] == ["ai: one two"])
            late.append(await follow(talk.thread))
            joined.set()

        async with anyio.create_task_group() as group:
            group.start_soon(join)
            await talk.say()
        await talk.check()
        assert late[0].state == talk.state
