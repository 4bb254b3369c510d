"""Handlers of custom commands of a hosted graph: its channels and the application's own values."""

# PROTOCOL §15.7
from __future__ import annotations

import asyncio
import operator
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, TypedDict

import pytest
from langchain_core.messages import AIMessage, AnyMessage, HumanMessage
from langgraph.graph import START, StateGraph
from langgraph.graph.message import add_messages
from langgraph.types import interrupt

import threadwire
from tests.support.engine import say
from tests.support.graph_client import GraphClient, Hold, client_of, resume, scripted, tool_result
from tests.support.graphs import Piece, call_piece, last_piece
from threadwire.core.errors import CommandError, InvalidOperation, Refused
from threadwire_agents.langgraph import LangGraphAgent

pytestmark = [pytest.mark.anyio, pytest.mark.spec("7.7"), pytest.mark.spec("15.7")]


class Do(threadwire.Command, tag="do"):
    """Does what the test says."""


class AtOnce(threadwire.Command, tag="at-once"):
    """The same, beside the run."""


DO: dict[str, Any] = {"type": "do"}
AT_ONCE: dict[str, Any] = {"type": "at-once"}


def largest(old: int, new: int) -> int:
    return max(old, new)


class State(TypedDict):
    messages: Annotated[list[AnyMessage], add_messages]
    title: str
    log: Annotated[list[str], operator.add]
    top: Annotated[int, largest]


class Input(TypedDict):
    messages: Annotated[list[AnyMessage], add_messages]


def handled(
    handle: Callable[[threadwire.Run], Any], *, node: Any = None, factory: bool = False, **options: Any
) -> LangGraphAgent:
    """A graph of one node, and a handler for either command."""
    model, _ = scripted(["Hello."])

    async def talk(state: State) -> dict[str, Any]:
        return {"messages": [await model.ainvoke(state["messages"])], "log": ["talk"]}

    def start(state: State) -> str:
        assert state["messages"], "nothing calls this but a run"
        return "talk"

    builder = StateGraph(State, input_schema=Input)
    builder.add_node("talk", node or talk)
    builder.add_conditional_edges(START, start, ["talk"])
    graph = builder.compile()
    agent = LangGraphAgent((lambda: graph) if factory else graph, **options)

    async def call(run: threadwire.Run, _: threadwire.Command) -> None:
        outcome = handle(run)
        if outcome is not None:
            await outcome

    agent.on(Do)(call)
    agent.on(AtOnce, immediate=True)(call)
    return agent


async def applied(client: GraphClient, body: dict[str, Any]) -> None:
    """The command has its effect."""
    id = await client.send(body)
    state = await client.commands.until(id, "applied", "rejected")
    assert state.status == "applied", state.error
    await client.thread.flush()


@pytest.mark.parametrize("factory", [False, True])
async def test_a_change_of_a_channel_is_an_update_of_the_graph(factory: bool) -> None:
    def handle(run: threadwire.Run) -> None:
        run.state["title"] = "new"
        run.state["log"].append("handled")
        run.state["top"] = 1

    async with client_of(handled(handle, factory=factory)) as client:
        await client.do("hi")
        await applied(client, DO)
        assert (client.state["title"], client.state["log"], client.state["top"]) == (
            "new",
            ["talk", "handled"],
            1,
        )
        await client.until(lambda: client.run == "completed")
        await client.check()
        await client.do("again", "completed")
        assert client.state["log"] == ["talk", "handled", "talk"]
        assert client.state["title"] == "new"
        await client.check()


async def test_a_thread_may_begin_with_a_handler() -> None:
    def handle(run: threadwire.Run) -> None:
        assert "title" not in run.state
        run.state["title"] = "first"

    async with client_of(handled(handle)) as client:
        await applied(client, DO)
        assert client.state["title"] == "first"
        await client.check()
        await client.do("hi", "completed")
        assert (client.state["title"], client.texts) == ("first", ["human: hi", "ai: Hello."])
        await client.check()


async def test_a_reducer_is_passed_by_what_a_handler_leaves() -> None:
    tops = iter([9, 3])

    def handle(run: threadwire.Run) -> None:
        run.state["top"] = next(tops)
        run.state["log"] = list(reversed(["a", "b"]))

    async with client_of(handled(handle)) as client:
        await client.do("hi")
        await applied(client, DO)
        await applied(client, DO)
        assert (client.state["top"], client.state["log"]) == (3, ["b", "a"])
        await client.check()


async def test_messages_are_appended_changed_and_removed() -> None:
    def handle(run: threadwire.Run) -> None:
        messages = run.state["messages"]
        assert [message["type"] for message in messages] == ["human", "ai", "human", "ai"]
        messages[0]["content"] = "changed"
        del messages[1]
        messages.append({"type": "ai", "content": "appended"})

    async with client_of(handled(handle)) as client:
        await client.do("one")
        await client.do("two")
        kept = client.state["messages"][2:]
        await applied(client, DO)
        assert client.texts == ["human: changed", "human: two", "ai: Hello.", "ai: appended"]
        assert client.state["messages"][1:3] == kept
        assert client.state["messages"][-1]["id"]
        await client.check()
        await client.do("three", "completed")
        await client.check()


async def test_messages_are_put_in_another_order_and_all_removed() -> None:
    def handle(run: threadwire.Run) -> None:
        if len(run.state["messages"]) == 4:
            run.state["messages"] = list(reversed(run.state["messages"].value()))
        else:
            run.state["messages"] = []

    async with client_of(handled(handle)) as client:
        await client.do("one")
        await client.do("two")
        before = list(client.texts)
        await applied(client, DO)
        assert client.texts == before[::-1]
        await client.check()
        await client.do("three", "completed")
        await applied(client, DO)
        assert client.texts == []
        await client.check()


async def test_text_is_appended_to_channels_and_values() -> None:
    def handle(run: threadwire.Run) -> None:
        run.append_text(("messages", -1, "content"), " Bye.")
        run.state["note"] = {"text": "a"}
        run.append_text(("note", "text"), "b")

    async with client_of(handled(handle)) as client:
        await client.do("hi")
        await applied(client, DO)
        assert client.texts == ["human: hi", "ai: Hello. Bye."]
        assert client.own["values"] == {"note": {"text": "ab"}}
        await client.check()


async def test_other_keys_are_the_applications_own_and_outlive_edits() -> None:
    def handle(run: threadwire.Run) -> None:
        run.state["count"] = run.state.get("count", 0) + 1
        run.state.setdefault("tags", []).append(f"t{run.state['count']}")
        assert set(run.state) >= {"count", "tags", "messages"}
        if run.state["count"] == 3:
            del run.state["count"]

    async with client_of(handled(handle)) as client:
        await client.do("hi")
        first = client.state["messages"][0]["id"]
        await applied(client, DO)
        assert client.own["values"] == {"count": 1, "tags": ["t1"]}
        await client.do({**say("other", "e1"), "sourceId": first}, "completed")
        assert client.texts[0] == "human: other"
        assert client.own["values"] == {"count": 1, "tags": ["t1"]}
        await client.do({"type": "switch-branch", "messageId": first}, "completed")
        await applied(client, DO)
        await applied(client, DO)
        assert client.own["values"] == {"tags": ["t1", "t2", "t3"]}
        assert "values" not in client.state


async def test_to_read_is_to_change_nothing() -> None:
    seen: list[Any] = []

    def handle(run: threadwire.Run) -> None:
        seen.append((run.state["messages"][-1]["content"], run.state["log"][0], run.state.get("nothing")))
        with pytest.raises(KeyError):
            run.state["nothing"]
        assert "threadwire" not in run.state

    async with client_of(handled(handle)) as client:
        await client.do("hi")
        head = client.thread.head
        await applied(client, DO)
        await applied(client, AT_ONCE)
        assert seen == [("Hello.", "talk", None)] * 2
        assert not client.own
        await client.check()
        assert client.thread.head >= head


async def test_what_a_handler_may_not_do_is_said() -> None:
    def handle(run: threadwire.Run) -> None:
        with pytest.raises(Refused):
            run.state["threadwire"] = {}
        with pytest.raises(InvalidOperation):
            del run.state["title"]
        with pytest.raises(InvalidOperation):
            run.replace({"title": "x"})
        with pytest.raises(KeyError):
            del run.state["nothing"]

    async with client_of(handled(handle)) as client:
        await client.do("hi")
        await applied(client, DO)
        await client.check()


@pytest.mark.parametrize(
    ("messages", "field"),
    [
        ("all", "state.messages"),
        ([7], "state.messages.0"),
        ([{"type": "unheard"}], "state.messages.0"),
        ([{"content": "x"}], "state.messages.0"),
    ],
)
async def test_messages_that_are_none_reject_the_command(messages: Any, field: str) -> None:
    def handle(run: threadwire.Run) -> None:
        run.state["messages"] = messages

    async with client_of(handled(handle)) as client:
        await client.do("hi")
        assert await client.refused(DO) == ("invalid-operation", field)
        assert client.texts == ["human: hi", "ai: Hello."]
        await client.check()


async def test_a_handler_that_fails_changes_no_channel_and_the_batch_goes_on() -> None:
    def handle(run: threadwire.Run) -> None:
        run.state["title"] = "half"
        raise CommandError("not-today", "closed", "command.title")

    async with client_of(handled(handle)) as client:
        await client.do("hi")
        refused = await client.send(DO)
        await client.do("again", "completed")
        assert client.status(refused) == "not-today"
        assert "title" not in client.state
        assert client.texts[-1] == "ai: Hello."
        await client.check()


async def test_a_handlers_change_comes_before_the_message_of_its_batch() -> None:
    def handle(run: threadwire.Run) -> None:
        run.state["log"] = ["handled"]

    async with client_of(handled(handle)) as client:
        await asyncio.gather(client.send(DO), client.send("hi"))
        await client.until_run("completed")
        assert client.state["log"] == ["handled", "talk"]
        await client.check()


async def test_a_handler_may_have_the_graph_run() -> None:
    def handle(run: threadwire.Run) -> None:
        run.state["messages"].append({"type": "human", "content": "from the handler"})
        run.start_agent()

    async with client_of(handled(handle)) as client:
        await client.do("hi")
        await client.do(DO, "completed")
        assert client.texts == ["human: hi", "ai: Hello.", "human: from the handler", "ai: Hello."]
        await client.check()


# beside a run


async def test_an_immediate_handler_beside_a_run_writes_values_only() -> None:
    hold = Hold()
    turns: list[list[Piece]] = [["One", hold, "."]]
    model, _ = scripted(*turns)
    wants: list[str] = []

    async def talk(state: State) -> dict[str, Any]:
        return {"messages": [await model.ainvoke(state["messages"])]}

    def handle(run: threadwire.Run) -> None:
        run.state["seen"] = run.state["messages"][0]["content"]
        if wants:
            run.state["title"] = "no"

    async with client_of(handled(handle, node=talk)) as client:
        await client.send("hi")
        await hold.wait_reached()
        await applied(client, AT_ONCE)
        assert client.own["values"] == {"seen": "hi"}
        wants.append("a channel")
        assert (await client.refused(AT_ONCE))[0] == "invalid-command"
        hold.go_on.set()
        await client.until_run("completed")
        assert client.own["values"] == {"seen": "hi"}
        assert client.texts == ["human: hi", "ai: One."]
        await client.check()


async def test_an_immediate_handlers_values_outlive_a_rollback() -> None:
    hold = Hold()
    model, _ = scripted(["One", hold], ["Two."])

    async def talk(state: State) -> dict[str, Any]:
        return {"messages": [await model.ainvoke(state["messages"])]}

    def handle(run: threadwire.Run) -> None:
        run.state["kept"] = True

    async with client_of(handled(handle, node=talk)) as client:
        await client.send("hi")
        await hold.wait_reached()
        await applied(client, AT_ONCE)
        await client.do("other", "completed", strategy="rollback")
        assert client.own["values"] == {"kept": True}
        assert client.texts == ["human: other", "ai: Two."]


@pytest.mark.parametrize("waits_for", ["interrupt", "tool"])
async def test_while_the_run_waits_channels_can_not_be_changed(waits_for: str) -> None:
    model, _ = scripted([call_piece(0, "{}", name="look", id="k1"), last_piece()], ["Done."])

    async def ask(state: State) -> dict[str, Any]:
        if waits_for == "interrupt":
            return {"log": [interrupt("sure?")]}
        return {"messages": [await model.ainvoke(state["messages"])]}

    def handle(run: threadwire.Run) -> None:
        run.state["seen"] = True
        run.state["title"] = "no"

    async with client_of(handled(handle, node=ask, client_tools=["look"])) as client:
        await client.do("hi")
        assert client.run == "waiting"
        assert (await client.refused(DO))[0] == "thread-waiting"
        assert client.run == "waiting"
        assert client.own["values"] == {"seen": True}
        if waits_for == "interrupt":
            await client.do(resume({client.interrupt_id("sure?"): "yes"}), "completed")
        else:
            await client.do(tool_result("k1", 1), "completed")
        assert "title" not in client.state
        await client.check()
        await applied(client, DO)
        assert client.state["title"] == "no"
        await client.check()


async def test_beside_a_run_the_graph_can_not_be_started() -> None:
    async def ask(state: State) -> dict[str, Any]:
        return {"log": [interrupt("sure?")]}

    def handle(run: threadwire.Run) -> None:
        run.start_agent()

    async with client_of(handled(handle, node=ask)) as client:
        await client.do("hi")
        assert (await client.refused(DO))[0] == "thread-waiting"
        assert (await client.refused(AT_ONCE))[0] == "invalid-command"
        await client.do(resume({client.interrupt_id("sure?"): "yes"}), "completed")
        assert client.state["log"] == ["yes"]
        await client.check()


async def test_while_the_run_waits_values_can_be_changed() -> None:
    async def ask(state: State) -> dict[str, Any]:
        return {"log": [interrupt("sure?")]}

    def handle(run: threadwire.Run) -> None:
        run.state["seen"] = True

    async with client_of(handled(handle, node=ask)) as client:
        await client.do("hi")
        await applied(client, DO)
        assert (client.run, client.own["values"]) == ("waiting", {"seen": True})
        await client.do(resume({client.interrupt_id("sure?"): "yes"}), "completed")
        await client.check()


# graphs of other forms


@dataclass
class Person:
    name: str
    age: int


class OtherState(TypedDict):
    messages: list[AnyMessage]
    people: list[Person]


async def test_a_channel_of_messages_without_a_reducer_is_changed_as_a_whole() -> None:
    async def talk(state: OtherState) -> dict[str, Any]:
        return {"messages": [*state["messages"], AIMessage("Hello.", id=f"a{len(state['messages'])}")]}

    def handle(run: threadwire.Run, command: Do) -> None:
        run.state["messages"].append({"type": "ai", "content": "appended"})

    builder = StateGraph(OtherState)
    builder.add_node("talk", talk)
    builder.add_edge(START, "talk")
    agent = LangGraphAgent(builder.compile())
    agent.on(Do)(handle)
    async with client_of(agent) as client:
        await client.do("hi")
        await applied(client, DO)
        assert client.texts == ["human: hi", "ai: Hello.", "ai: appended"]
        await client.check()


async def test_what_a_handler_leaves_alone_keeps_the_graphs_own_objects() -> None:
    seen: list[Any] = []

    async def look(state: OtherState) -> dict[str, Any]:
        seen.extend(state.get("people", []))
        said = HumanMessage("x", id=f"x{len(seen)}")
        return {"people": [Person("Ann", 7)], "messages": [*state["messages"], said]}

    def handle(run: threadwire.Run, command: Do) -> None:
        run.state["messages"] = []

    builder = StateGraph(OtherState)
    builder.add_node("look", look)
    builder.add_edge(START, "look")
    agent = LangGraphAgent(builder.compile())
    agent.on(Do)(handle)
    async with client_of(agent) as client:
        await client.do("hi")
        await applied(client, DO)
        await client.do("again", "completed")
        assert seen == [Person("Ann", 7)]
        assert client.state["people"] == [{"name": "Ann", "age": 7}]
        await client.check()
