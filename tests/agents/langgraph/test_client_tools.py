"""Tools that clients execute: asked for by an interrupt, or left open by a graph that has ended."""

# PROTOCOL §15.4
from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Annotated, Any

import pytest
from langchain.agents import create_agent
from langchain_core.messages import AIMessage
from langchain_core.tools import InjectedToolCallId, tool
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.types import interrupt

from tests.support.engine import say
from tests.support.graph_client import GraphClient, Turns, client_of, scripted, tool_result
from tests.support.graphs import Piece, call_piece, last_piece
from threadwire.engine.settings import Settings
from threadwire_agents.langgraph import LangGraphAgent

pytestmark = [pytest.mark.anyio, pytest.mark.spec("8.7"), pytest.mark.spec("15.4")]


GRACELESS = Settings(show_errors=True, tool_grace_s=0)
"""Who goes loses its calls at once."""


def calling(*calls: tuple[str, str]) -> list[Piece]:
    """A model's turn that calls these tools, as (name, id)."""
    pieces = [
        call_piece(index, f'{{"place": "{id}"}}', name=name, id=id) for index, (name, id) in enumerate(calls)
    ]
    return [*pieces, last_piece()]


# asked for by an interrupt


@tool
async def look(place: str, tool_call_id: Annotated[str, InjectedToolCallId]) -> str:
    """Has the client look."""
    asked = {"type": "client_tool", "tool_call_id": tool_call_id, "name": "look", "args": {"place": place}}
    return f"seen: {interrupt(asked)}"


@tool
async def weather(place: str) -> str:
    """Tells the weather."""
    return f"sun in {place}"


def stubbed(*turns: Iterable[Piece]) -> tuple[LangGraphAgent, Turns]:
    model, script = scripted(*turns)
    return LangGraphAgent(create_agent(model, [look, weather])), script


async def test_a_stub_tool_is_executed_by_the_client_that_declared_it() -> None:
    agent, _ = stubbed(calling(("look", "k1")), ["Done."])
    async with client_of(agent, tools=("look",)) as client:
        await client.do("go")
        assert client.run == "waiting"
        assert client.calls == {"k1": {"name": "look", "args": {"place": "k1"}}}
        assert client.interrupts == {}
        await client.until_tools("k1")
        given = await client.do(tool_result("k1", {"a": [1]}), "completed")
        assert client.status(given) == "applied"
        assert client.texts[2:] == ["tool: seen: {'a': [1]}", "ai: Done."]
        assert client.calls == {}
        await client.check()


async def test_an_erroneous_result_of_a_stub_tool_says_so() -> None:
    agent, _ = stubbed(calling(("look", "k1")), ["Done."])
    async with client_of(agent) as client:
        await client.do("go")
        await client.do(tool_result("k1", "dark", isError=True), "completed")
        assert client.texts[2] == "tool: seen: {'error': 'dark'}"
        await client.check()


@pytest.mark.parametrize("order", [("k1", "k3"), ("k3", "k1")])
async def test_stub_tools_beside_a_tool_of_the_graph_are_answered_in_any_order(
    order: tuple[str, str],
) -> None:
    agent, script = stubbed(calling(("look", "k1"), ("weather", "k2"), ("look", "k3")), ["Done."])
    async with client_of(agent, tools=("look",), settings=GRACELESS) as client:
        await client.do("go")
        assert sorted(client.calls) == ["k1", "k3"]
        await client.until_tools("k1", "k3")
        assert client.texts[2:] == ["tool: sun in k2"]
        await client.check_waiting()
        await client.reload(tools=("look",))
        await client.until_tools("k1", "k3")  # it gets them again: it has forgotten them
        for id in order:
            await client.do(tool_result(id, id))
        assert client.run == "completed"
        expected = ["tool: seen: k1", "tool: sun in k2", "tool: seen: k3"]
        assert client.texts[2:] == [*expected, "ai: Done."]
        assert script.last_seen[2:] == expected
        await client.check()


async def test_a_stub_tools_second_result_is_refused() -> None:
    agent, _ = stubbed(calling(("look", "k1"), ("look", "k2")), ["Done."])
    async with client_of(agent) as client:
        await client.do("go")
        await client.do(tool_result("k1", 1), "waiting")
        refused = ("already-answered", "command.toolCallId")
        assert await client.refused(tool_result("k1", 2)) == refused
        await client.do(tool_result("k2", 2), "completed")
        assert await client.refused(tool_result("k2", 3)) == refused
        assert client.texts[2:4] == ["tool: seen: 1", "tool: seen: 2"]
        await client.check()


# a graph that ends with its calls open


def ending(
    *turns: Iterable[Piece], tools_node: bool = True, **options: Any
) -> tuple[LangGraphAgent, Turns, list[str]]:
    """A graph that carries out `weather` and leaves other calls open; and the names of nodes that ran."""
    model, script = scripted(*turns)
    ran: list[str] = []

    async def agent(state: MessagesState) -> dict[str, Any]:
        ran.append("agent")
        return {"messages": [await model.ainvoke(state["messages"])]}

    async def backend(state: MessagesState) -> dict[str, Any]:
        ran.append("backend")
        (called,) = [item for item in state["messages"] if isinstance(item, AIMessage) and item.tool_calls][
            -1:
        ]
        calls = [call for call in called.tool_calls if call["name"] == "weather"]
        return {"messages": [await weather.ainvoke({**call, "type": "tool_call"}) for call in calls]}

    def route(state: MessagesState) -> str:
        last = state["messages"][-1]
        if isinstance(last, AIMessage) and any(call["name"] == "weather" for call in last.tool_calls):
            return "backend"
        return END

    def after(state: MessagesState) -> str:
        (called,) = [item for item in state["messages"] if isinstance(item, AIMessage) and item.tool_calls][
            -1:
        ]
        answered = {getattr(item, "tool_call_id", None) for item in state["messages"]}
        return "agent" if {call["id"] for call in called.tool_calls} <= answered else END

    builder = StateGraph(MessagesState)
    builder.add_node("agent", agent)
    builder.add_node("backend" if not tools_node else "tools", backend)
    builder.add_edge(START, "agent")
    name = "tools" if tools_node else "backend"
    builder.add_conditional_edges("agent", route, {"backend": name, END: END})
    builder.add_conditional_edges(name, after, ["agent", END])
    return LangGraphAgent(builder.compile(), **options), script, ran


@pytest.mark.parametrize("tools_node", [True, False])
@pytest.mark.parametrize("declared", ["client", "host"])
async def test_a_call_left_open_of_a_declared_tool_is_asked_for(declared: str, tools_node: bool) -> None:
    by_host = {"client_tools": ["look"]} if declared == "host" else {}
    agent, script, _ = ending(calling(("look", "k1")), ["Done."], tools_node=tools_node, **by_host)
    async with client_of(agent, tools=("look",) if declared == "client" else ()) as client:
        await client.do("go")
        assert (client.run, client.interrupts) == ("waiting", {})
        assert client.calls == {"k1": {"name": "look", "args": {"place": "k1"}}}
        await client.until_tools(*(["k1"] if declared == "client" else []))
        given = await client.do(tool_result("k1", {"seen": True}), "completed")
        assert client.status(given) == "applied"
        assert client.texts[2:] == ['tool: {"seen":true}', "ai: Done."]
        assert script.last_seen[2:] == ['tool: {"seen":true}']
        assert client.state["messages"][2]["name"] == "look"
        await client.check()


@pytest.mark.parametrize("tools_node", [True, False])
@pytest.mark.parametrize("order", [("k1", "k3"), ("k3", "k1")])
async def test_open_calls_beside_a_tool_of_the_graph_are_answered_in_any_order(
    order: tuple[str, str], tools_node: bool
) -> None:
    turn = calling(("look", "k1"), ("weather", "k2"), ("look", "k3"))
    agent, _, ran = ending(turn, ["Done."], tools_node=tools_node)
    async with client_of(agent, tools=("look",), settings=GRACELESS) as client:
        await client.do("go")
        assert sorted(client.calls) == ["k1", "k3"]
        assert client.texts[2:] == ["tool: sun in k2"]
        first, second = order
        await client.do(tool_result(first, first), "waiting")
        assert list(client.calls) == [second]
        assert await client.refused(tool_result(first, "x")) == ("already-answered", "command.toolCallId")
        await client.check()
        await client.reload(tools=("look",))
        await client.until_tools(second)
        await client.do(tool_result(second, second), "completed")
        assert client.texts[2:] == ["tool: sun in k2", f"tool: {first}", f"tool: {second}", "ai: Done."]
        assert ran == ["agent", "backend", "agent"]
        await client.check()


@pytest.mark.parametrize("tools_node", [True, False])
async def test_two_results_at_once_go_in_together(tools_node: bool) -> None:
    agent, script, _ = ending(calling(("look", "k1"), ("look", "k2")), ["Done."], tools_node=tools_node)
    async with client_of(agent, tools=("look",)) as client:
        await client.do("go")
        ids = await asyncio.gather(client.send(tool_result("k1", 1)), client.send(tool_result("k2", 2)))
        await client.until_run("completed")
        await client.thread.flush()
        assert [client.status(id) for id in ids] == ["applied", "applied"]
        assert script.last_seen[2:] == ["tool: 1", "tool: 2"]
        await client.check()


@pytest.mark.parametrize("tools_node", [True, False])
async def test_a_call_of_a_tool_that_nobody_declared_is_answered_by_a_later_run(tools_node: bool) -> None:
    agent, script, _ = ending(calling(("look", "k1"), ("look", "k2")), ["Done."], tools_node=tools_node)
    async with client_of(agent) as client:
        await client.do("go")
        assert (client.run, client.calls) == ("completed", {})
        await client.do(tool_result("k2", 2))
        assert client.run == "completed"
        assert len(script.seen) == 1
        await client.check()
        assert await client.refused(tool_result("k2", 3)) == ("already-answered", "command.toolCallId")
        await client.do(tool_result("k1", 1), "completed")
        assert script.last_seen[2:] == ["tool: 2", "tool: 1"]
        assert client.texts[-1] == "ai: Done."
        await client.check()


async def test_both_results_in_one_batch_of_a_later_run_go_in_once() -> None:
    agent, script, _ = ending(calling(("look", "k1"), ("look", "k2")), ["Done."])
    async with client_of(agent) as client:
        await client.do("go")
        before = len(client.reader.runs)
        await asyncio.gather(client.send(tool_result("k1", 1)), client.send(tool_result("k2", 2)))
        await client.until_run("completed", after=before)
        assert script.last_seen[2:] == ["tool: 1", "tool: 2"]
        assert len(script.seen) == 2
        await client.check()


async def test_a_result_of_no_call_is_refused_and_the_thread_lives() -> None:
    agent, script, _ = ending(calling(("look", "k1")), ["Done."])
    async with client_of(agent, tools=("look",)) as client:
        refused = ("unknown-tool-call", "command.toolCallId")
        assert await client.refused(tool_result("nope", 1)) == refused
        await client.do("go")
        assert await client.refused(tool_result("nope", 1)) == refused
        assert (client.run, list(client.calls)) == ("waiting", ["k1"])
        await client.do(tool_result("k1", 1), "completed")
        assert script.last_seen[2:] == ["tool: 1"]
        await client.check()


async def test_calls_that_nobody_declared_are_asked_for_beside_one_that_is() -> None:
    agent, script, _ = ending(calling(("look", "k1"), ("listen", "k2")), ["Done."])
    async with client_of(agent, tools=("look",)) as client:
        await client.do("go")
        await client.until_tools("k1")
        assert sorted(client.calls) == ["k1", "k2"]
        await client.do(tool_result("k1", 1), "waiting")
        await client.do(tool_result("k2", 2), "completed")
        assert script.last_seen[2:] == ["tool: 1", "tool: 2"]
        await client.check()


async def test_a_result_that_comes_before_the_graph_has_ended_is_taken() -> None:
    held, go_on = asyncio.Event(), asyncio.Event()

    async def hold() -> None:
        held.set()
        await go_on.wait()

    agent, script, _ = ending([*calling(("look", "k1"))[:-1], hold, last_piece()], ["Done."])
    async with client_of(agent, tools=("look",)) as client:
        await client.send("go")
        await held.wait()
        early = await client.send(tool_result("k1", "early"))
        go_on.set()
        await client.until_run("completed")
        await client.thread.flush()
        assert client.status(early) == "applied"
        assert script.last_seen[2:] == ["tool: early"]
        await client.check()


@pytest.mark.parametrize("strategy", ["steer", "enqueue"])
async def test_a_result_is_an_answer_by_any_strategy(strategy: Any) -> None:
    agent, script, _ = ending(calling(("look", "k1")), ["Done."])
    async with client_of(agent, tools=("look",)) as client:
        await client.do("go")
        await client.do(tool_result("k1", 1), "completed", strategy=strategy)
        assert script.last_seen[2:] == ["tool: 1"]
        await client.check()


async def test_a_result_carries_what_the_model_is_to_see_and_what_not() -> None:
    agent, _, _ = ending(calling(("look", "k1"), ("look", "k2"), ("look", "k3")), ["Done."])
    async with client_of(agent, tools=("look",)) as client:
        await client.do("go")
        await client.do(tool_result("k1", "no", isError=True), "waiting")
        await client.do(tool_result("k2", {"all": 1}, modelContent="brief"), "waiting")
        await client.do(tool_result("k3", "x", artifact={"map": [1]}), "completed")
        one, two, three = client.state["messages"][2:5]
        assert (one["status"], one["content"]) == ("error", "no")
        assert (two["status"], two["content"], two["artifact"]) == ("success", "brief", {"all": 1})
        assert (three["content"], three["artifact"]) == ("x", {"map": [1]})
        await client.check()


async def test_a_result_that_can_not_be_read_is_refused_and_the_call_stays_open() -> None:
    agent, _, _ = ending(calling(("look", "k1")), ["Done."])
    async with client_of(agent, tools=("look",)) as client:
        await client.do("go")
        wrong = tool_result("k1", 1, modelContent=[{"type": "file", "mediaType": "text/plain"}])
        assert await client.refused(wrong) == ("invalid-command", "command.modelContent.0.data")
        assert (client.run, list(client.calls)) == ("waiting", ["k1"])
        await client.do(tool_result("k1", 1), "completed")
        await client.check()


@pytest.mark.parametrize("tools", [("look",), ()])
async def test_a_message_in_place_of_a_result_leaves_no_call_open(tools: tuple[str, ...]) -> None:
    agent, script, _ = ending(calling(("look", "k1")), ["Done."])
    async with client_of(agent, tools=tools) as client:
        await client.do("go")
        assert client.run == ("waiting" if tools else "completed")
        await client.do("never mind", "completed")
        assert script.last_seen[-1] == "human: never mind"
        assert [item["status"] for item in client.state["messages"] if item["type"] == "tool"] == ["error"]
        assert await client.refused(tool_result("k1", 1)) == ("already-answered", "command.toolCallId")
        await client.check()


async def test_a_result_is_given_by_another_page_after_the_first_has_gone() -> None:
    agent, script, _ = ending(calling(("look", "k1")), ["Done."])
    async with client_of(agent, tools=("look",)) as client:
        await client.do("go")
        client.thread.unsubscribe(client.subscriber)
        other = await GraphClient(agent, client.threads, client.thread).open()
        assert list(other.calls) == ["k1"]
        await other.thread.submit("r", tool_result("k1", 1), strategy=None, watcher=other.commands)
        await other.until_run("completed")
        assert script.last_seen[2:] == ["tool: 1"]
        await other.check()


async def test_a_graph_may_call_tools_of_the_client_again_and_again() -> None:
    agent, _, _ = ending(calling(("look", "k1")), calling(("look", "k2")), ["Done."])
    async with client_of(agent, tools=("look",)) as client:
        await client.do("go")
        await client.do(tool_result("k1", 1), "waiting")
        assert list(client.calls) == ["k2"]
        await client.do(tool_result("k2", 2), "completed")
        assert client.tool_frames == ["k1", "k2"]
        await client.do(say("and?"), "completed")
        await client.check()
