"""What clients send along with their commands, as a hosted graph gets it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, NotRequired, TypedDict

import pytest
from langchain_core.messages import AIMessage
from langchain_core.runnables import RunnableConfig
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.runtime import Runtime
from pydantic import BaseModel, Field

from tests.support.graph_client import client_of, scripted, tool_result
from tests.support.graphs import call_piece, last_piece
from threadwire.engine.run import Run
from threadwire.engine.runner import Runner
from threadwire_agents.langgraph import LangGraphAgent

pytestmark = [pytest.mark.anyio, pytest.mark.spec("15.4")]

Send = Callable[..., None]


@pytest.fixture
def send_along(monkeypatch: pytest.MonkeyPatch) -> Send:
    """Has all runs that begin from now on get these as their context."""
    make_run = Runner._make_run

    def send(**context: Any) -> None:
        def make(self: Runner, *args: Any, **kwargs: Any) -> Run:
            run = make_run(self, *args, **kwargs)
            run.context = MappingProxyType(context)
            return run

        monkeypatch.setattr(Runner, "_make_run", make)

    return send


def configured(**options: Any) -> tuple[LangGraphAgent, list[dict[str, Any]]]:
    """A graph that keeps what it was configured with, in each of its calls."""
    seen: list[dict[str, Any]] = []

    async def look(state: MessagesState, config: RunnableConfig) -> dict[str, Any]:
        seen.append(dict(config["configurable"]))
        return {"messages": [AIMessage("Hello.")]}

    builder = StateGraph(MessagesState)
    builder.add_node("look", look)
    builder.add_edge(START, "look")
    return LangGraphAgent(builder.compile(), **options), seen


def with_context(schema: Any) -> tuple[LangGraphAgent, list[Any]]:
    """A graph that keeps the context it is given, in each of its calls."""
    seen: list[Any] = []

    async def look(state: MessagesState, runtime: Runtime[Any]) -> dict[str, Any]:
        seen.append(runtime.context)
        return {"messages": [AIMessage("Hello.")]}

    builder = StateGraph(MessagesState, context_schema=schema)
    builder.add_node("look", look)
    builder.add_edge(START, "look")
    return LangGraphAgent(builder.compile()), seen


SENT: dict[str, Any] = {
    "system": "Be brief.",
    "tools": {"look": {"parameters": {}}},
    "callSettings": {"temperature": 0.5},
    "config": {"model": "large", "nested": {"a": [1]}},
}


async def test_what_a_client_sends_along_is_in_the_config(send_along: Send) -> None:
    send_along(**SENT)
    agent, seen = configured()
    async with client_of(agent) as client:
        await client.do("hi", "completed")
        (config,) = seen
        assert {name: config[name] for name in SENT} == SENT
        assert (config["model"], config["nested"]) == ("large", {"a": [1]})
        assert config["thread_id"] == "t"
        await client.check()


async def test_nothing_sent_along_is_nothing_in_the_config() -> None:
    agent, seen = configured(config={"configurable": {"model": "small"}, "recursion_limit": 5})
    async with client_of(agent) as client:
        await client.do("hi", "completed")
        (config,) = seen
        assert config["model"] == "small"
        assert not SENT.keys() & config.keys()


async def test_what_the_host_was_configured_with_stands_above_what_is_sent(send_along: Send) -> None:
    send_along(config={"model": "large", "size": 1})
    agent, seen = configured(config={"configurable": {"model": "small"}})
    async with client_of(agent) as client:
        await client.do("hi", "completed")
        (config,) = seen
        assert (config["model"], config["size"]) == ("small", 1)


OWN_NAMES = {
    "thread_id": "other",
    "checkpoint_id": "1f0",
    "checkpoint_ns": "x",
    "checkpoint_map": {"": "1f0"},
    "run_id": "r",
    "task_id": "r",
    "assistant_id": "r",
    "graph_id": "r",
    "langgraph_auth_user": {"identity": "root"},
    "__pregel_resuming": True,
    "__pregel_checkpointer": None,
    "threadwire_run": "r",
    "threadwire_commands": "c1",
}


@pytest.mark.parametrize("beside", [False, True])
async def test_what_is_langgraphs_own_is_out_of_clients_reach(send_along: Send, beside: bool) -> None:
    agent, seen = configured()
    async with client_of(agent) as client:
        await client.do("one", "completed")
        before, *_ = seen
        send_along(**({"config": OWN_NAMES} if not beside else OWN_NAMES))
        await client.do("two", "completed")
        config = seen[-1]
        assert config["thread_id"] == "t"
        assert config.keys() - {"config"} == before.keys()
        assert client.texts == ["human: one", "ai: Hello.", "human: two", "ai: Hello."]
        await client.check()
        # A client can't pass for an earlier run either, so that its message is taken for nothing new.
        await client.do("three", "completed")
        assert client.texts[-2:] == ["human: three", "ai: Hello."]


# context schemas


@dataclass
class Plain:
    model: str
    system: str = "default"
    tags: list[str] = field(default_factory=list)


@dataclass
class Inherited(Plain):
    size: int = 3


class Typed(TypedDict):
    model: str
    system: NotRequired[str]


class Model(BaseModel):
    model: str
    system: str = "default"
    size: int = Field(default=3, le=5)


async def contexts(schema: Any) -> list[Any]:
    agent, seen = with_context(schema)
    async with client_of(agent) as client:
        await client.do("hi", "completed")
        await client.check()
    return seen


async def test_a_dataclass_is_filled_and_its_defaults_apply(send_along: Send) -> None:
    send_along(config={"model": "large", "unknown": 1}, system="Be brief.")
    assert await contexts(Plain) == [Plain("large", "Be brief.")]
    send_along(config={"model": "large"})
    assert await contexts(Plain) == [Plain("large")]
    send_along(config={"model": "large", "size": 4})
    assert await contexts(Inherited) == [Inherited("large", size=4)]


async def test_a_typed_dict_is_filled(send_along: Send) -> None:
    send_along(config={"model": "large", "unknown": 1})
    assert await contexts(Typed) == [{"model": "large"}]


async def test_a_model_is_filled_and_its_defaults_apply(send_along: Send) -> None:
    send_along(config={"model": "large", "unknown": 1}, system="Be brief.")
    assert await contexts(Model) == [Model(model="large", system="Be brief.")]


async def test_a_graph_without_a_schema_has_an_empty_context(send_along: Send) -> None:
    send_along(config={"model": "large"})
    assert await contexts(None) in ([{}], [None])


@pytest.mark.parametrize("schema", [Plain, Inherited, Typed, Model])
async def test_a_field_that_is_missing_is_named_and_the_thread_lives(schema: Any, send_along: Send) -> None:
    agent, seen = with_context(schema)
    async with client_of(agent) as client:
        id = await client.do("hi", "failed")
        assert "model" in client.run
        assert client.status(id) == "agent-error"
        assert seen == []
        send_along(config={"model": "large"})
        await client.do("hi", "completed")
        assert client.texts == ["human: hi", "ai: Hello."]
        await client.check()


async def test_a_field_that_is_wrong_is_named(send_along: Send) -> None:
    send_along(config={"model": "large", "size": 9})
    agent, _ = with_context(Model)
    async with client_of(agent) as client:
        await client.do("hi", "failed")
        assert "size" in client.run


# tools that a client sends along


@pytest.mark.parametrize(
    "tools", [{"look": {"parameters": {}}}, [{"name": "look", "parameters": {}}, {"unnamed": 1}, "odd"]]
)
async def test_tools_that_are_sent_along_are_executed_by_clients(tools: Any, send_along: Send) -> None:
    send_along(tools=tools)
    model, script = scripted([call_piece(0, "{}", name="look", id="k1"), last_piece()], ["Done."])

    async def talk(state: MessagesState) -> dict[str, Any]:
        return {"messages": [await model.ainvoke(state["messages"])]}

    builder = StateGraph(MessagesState)
    builder.add_node("talk", talk)
    builder.add_edge(START, "talk")
    async with client_of(LangGraphAgent(builder.compile())) as client:
        await client.do("hi", "waiting")
        assert list(client.calls) == ["k1"]
        await client.do(tool_result("k1", "seen"), "completed")
        assert script.last_seen[-1] == "tool: seen"
        await client.check()


@pytest.mark.parametrize(
    "odd", [{"config": [1], "tools": 7}, {"config": None}, {"tools": None, "system": None}]
)
async def test_what_makes_no_sense_is_passed_on_as_it_is(odd: dict[str, Any], send_along: Send) -> None:
    send_along(**odd)
    agent, seen = configured()
    async with client_of(agent) as client:
        await client.do("hi", "completed")
        assert {name: seen[0][name] for name in odd} == odd


async def test_a_factory_gets_what_is_sent_along(send_along: Send) -> None:
    send_along(config={"model": "large"}, system="Be brief.")
    made: list[Any] = []
    inner, _ = configured()

    def make(config: RunnableConfig) -> Any:
        made.append(dict(config["configurable"]))
        return inner._source.graph

    async with client_of(LangGraphAgent(make)) as client:
        await client.do("hi", "completed")
        assert made[-1]["model"] == "large"
        assert made[-1]["system"] == "Be brief."
        await client.check()
