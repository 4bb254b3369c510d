"""What a message does to a graph that runs: waits, cuts in, undoes, is steered in, is refused."""

from __future__ import annotations

import asyncio
import operator
from typing import Annotated, Any, TypedDict

import anyio
import pytest
from langchain.agents import create_agent
from langchain_core.messages import AIMessage, AnyMessage
from langchain_core.tools import tool
from langgraph.graph import START, StateGraph
from langgraph.graph.message import add_messages
from langgraph.types import interrupt

from tests.support.graph_client import GraphClient, Hold, client_of, resume, scripted
from tests.support.graphs import Piece, call_piece, last_piece
from threadwire.core.errors import CommandError
from threadwire_agents.langgraph import LangGraphAgent

pytestmark = [pytest.mark.anyio, pytest.mark.spec("7.4"), pytest.mark.spec("15.4")]


class State(TypedDict):
    messages: Annotated[list[AnyMessage], add_messages]
    log: Annotated[list[str], operator.add]


def talking(*turns: list[Piece]) -> tuple[LangGraphAgent, Any]:
    model, script = scripted(*turns)

    async def talk(state: State) -> dict[str, Any]:
        return {"messages": [await model.ainvoke(state["messages"])], "log": ["talk"]}

    builder = StateGraph(State)
    builder.add_node("talk", talk)
    builder.add_edge(START, "talk")
    return LangGraphAgent(builder.compile()), script


def statuses(client: GraphClient) -> list[str]:
    return [run.status for run in client.reader.runs if run]


async def test_two_messages_at_once_are_one_batch() -> None:
    agent, _ = talking(["Hello."])
    async with client_of(agent) as client:
        ids = await asyncio.gather(client.send("one"), client.send("two"))
        await client.until_run("completed")
        await client.thread.flush()
        assert client.texts == ["human: one", "human: two", "ai: Hello."]
        assert [client.status(id) for id in ids] == ["applied", "applied"]
        await client.check()


async def test_messages_of_two_clients_at_once_lose_nothing() -> None:
    agent, _ = talking(["Hello."])
    async with client_of(agent) as client:
        other = await GraphClient(agent, client.threads, client.thread).open()

        async def submit(who: GraphClient, name: str) -> None:
            for count in range(5):
                body = {
                    "type": "add-message",
                    "message": {"parts": [{"type": "text", "text": f"{name}{count}"}]},
                }
                await who.thread.submit(f"{name}{count}", body, strategy=None, watcher=who.commands)
                await who.commands.until(f"{name}{count}", "running")

        await asyncio.gather(submit(client, "a"), submit(other, "b"))
        for who, name in ((client, "a"), (other, "b")):
            for count in range(5):
                await who.commands.until(f"{name}{count}", "applied")
        await client.until(lambda: client.run == "completed")
        said = [text.removeprefix("human: ") for text in client.texts if text.startswith("human")]
        assert sorted(said) == sorted(f"{name}{count}" for name in "ab" for count in range(5))
        assert [text for text in said if text[0] == "a"] == [f"a{count}" for count in range(5)]
        await client.check()
        await other.check()
        assert other.state == client.state


async def test_enqueued_messages_are_the_next_batch() -> None:
    hold = Hold()
    agent, script = talking(["One", hold, "."], ["Two."])
    async with client_of(agent) as client:
        await client.send("first")
        await hold.wait_reached()
        await client.send("second", "enqueue")
        last = await client.send("third")
        hold.go_on.set()
        await client.commands.until(last, "applied")
        await client.until(lambda: statuses(client)[-2:] == ["running", "completed"])
        assert client.texts == ["human: first", "ai: One.", "human: second", "human: third", "ai: Two."]
        assert len(script.seen) == 2
        await client.check()


async def test_to_reject_is_for_a_run_that_goes_on() -> None:
    hold = Hold()
    agent, _ = talking(["One", hold, "."], ["Two."])
    async with client_of(agent) as client:
        await client.send("first", "reject")
        await hold.wait_reached()
        with pytest.raises(CommandError) as refused:
            await client.send("second", "reject")
        assert refused.value.code == "thread-busy"
        hold.go_on.set()
        await client.until_run("completed")
        await client.check()


async def test_to_interrupt_keeps_what_was_said_and_goes_on_with_the_message() -> None:
    hold = Hold()
    agent, script = talking(["Once ", "upon", hold], ["Well."])
    async with client_of(agent) as client:
        first = await client.send("first")
        await client.until(lambda: "ai: Once upon" in client.texts)
        second = await client.do("second", "completed", strategy="interrupt")
        assert client.texts == ["human: first", "ai: Once upon", "human: second", "ai: Well."]
        assert script.last_seen == client.texts[:3]
        assert (client.status(first), client.status(second)) == ("applied", "applied")
        assert statuses(client) == ["running", "cancelled", "running", "completed"]
        await client.check()


async def test_to_roll_back_undoes_what_was_said() -> None:
    hold = Hold()
    agent, script = talking(["Hello."], ["Once ", "upon", hold], ["Well."])
    async with client_of(agent) as client:
        await client.do("zero")
        await client.send("first")
        await client.until(lambda: "ai: Once upon" in client.texts)
        await client.do("second", "completed", strategy="rollback")
        assert client.texts == ["human: zero", "ai: Hello.", "human: second", "ai: Well."]
        assert script.last_seen == client.texts[:3]
        assert client.state["log"] == ["talk", "talk"]
        await client_check_but_flicker(client)


async def client_check_but_flicker(client: GraphClient) -> None:
    """What was undone has gone, and channels are what they were before."""
    client.reader.flickers.clear()
    await client.check()


async def test_to_roll_back_the_first_run_leaves_nothing_of_it() -> None:
    hold = Hold()
    agent, script = talking(["Once ", hold], ["Well."])
    async with client_of(agent) as client:
        await client.send("first")
        await client.until(lambda: "ai: Once " in client.texts)
        await client.do("second", "completed", strategy="rollback")
        assert client.texts == ["human: second", "ai: Well."]
        assert script.last_seen == ["human: second"]
        await client_check_but_flicker(client)


async def test_to_roll_back_after_tools_is_to_be_before_the_message() -> None:
    hold = Hold()
    model, _ = scripted(
        [call_piece(0, '{"place": "Ulm"}', name="look", id="k1"), last_piece()], ["Once ", hold], ["Well."]
    )

    @tool
    async def look(place: str) -> str:
        """Looks."""
        return place

    async with client_of(LangGraphAgent(create_agent(model, [look]))) as client:
        await client.send("first")
        await client.until(lambda: "ai: Once " in client.texts)
        await client.do("second", "completed", strategy="rollback")
        assert client.texts == ["human: second", "ai: Well."]
        await client_check_but_flicker(client)


# steering


def with_tools(*turns: list[Piece], hold: Hold | None = None) -> tuple[LangGraphAgent, Any]:
    model, script = scripted(*turns)

    @tool
    async def look(place: str) -> str:
        """Looks."""
        if hold is not None:
            await hold()
        return place

    return LangGraphAgent(create_agent(model, [look])), script


CALL: list[Piece] = [call_piece(0, '{"place": "Ulm"}', name="look", id="k1"), last_piece()]


async def test_steered_in_while_tools_work_a_message_comes_after_their_results() -> None:
    hold = Hold()
    agent, script = with_tools(CALL, ["Well."], hold=hold)
    async with client_of(agent) as client:
        await client.send("go")
        await hold.wait_reached()
        steered = await client.send("hurry", "steer")
        hold.go_on.set()
        await client.until_run("completed")
        await client.thread.flush()
        assert client.texts == ["human: go", "ai: ", "tool: Ulm", "human: hurry", "ai: Well."]
        assert script.last_seen == client.texts[:4]
        assert client.status(steered) == "applied"
        assert statuses(client) == ["running", "completed"]
        await client.check()


async def test_steered_in_while_a_model_calls_tools_a_message_waits_for_their_results() -> None:
    hold = Hold()
    agent, _ = with_tools([CALL[0], hold, CALL[1]], ["Well."])
    async with client_of(agent) as client:
        await client.send("go")
        await hold.wait_reached()
        steered = await client.send("hurry", "steer")
        hold.go_on.set()
        await client.until_run("completed")
        await client.thread.flush()
        assert client.texts == ["human: go", "ai: ", "tool: Ulm", "human: hurry", "ai: Well."]
        assert (client.status(steered), statuses(client)) == ("applied", ["running", "completed"])
        await client.check()


async def test_steered_in_between_nodes_a_message_comes_before_the_next() -> None:
    hold = Hold()
    ran: list[str] = []

    def node(name: str) -> Any:
        async def run(state: State) -> dict[str, Any]:
            ran.append(name)
            if ran == ["one"]:
                await hold()
            return {"log": [f"{name} {len(state['messages'])}"]}

        return run

    builder = StateGraph(State)
    for name in ("one", "two", "three"):
        builder.add_node(name, node(name))
    builder.add_edge(START, "one")
    builder.add_edge("one", "two")
    builder.add_edge("two", "three")
    async with client_of(LangGraphAgent(builder.compile())) as client:
        await client.send("go")
        await hold.wait_reached()
        await client.send("hurry", "steer")
        hold.go_on.set()
        await client.until_run("completed")
        # The graph takes it as it takes every message: from its start.
        assert client.state["log"] == ["one 1", "one 2", "two 2", "three 2"]
        await client.check()


async def test_with_nothing_left_to_run_a_steered_message_starts_the_next_run() -> None:
    hold = Hold()
    agent, _ = talking(["One", hold, "."], ["Two."])
    async with client_of(agent) as client:
        await client.send("go")
        await hold.wait_reached()
        steered = await client.send("hurry", "steer")
        hold.go_on.set()
        await client.commands.until(steered, "applied")
        await client.until(lambda: statuses(client) == ["running", "completed", "running", "completed"])
        assert client.texts == ["human: go", "ai: One.", "human: hurry", "ai: Two."]
        await client.check()


@pytest.mark.parametrize("durability", ["sync", "async"])
@pytest.mark.parametrize("called", ["node", "function"])
async def test_steered_in_while_a_subgraph_works_a_message_waits_for_its_end(
    called: str, durability: Any
) -> None:
    hold = Hold()
    model, _ = scripted(["One. ", hold], ["Two."], ["Three."], ["Four."], ["Five."])
    entered: list[str] = []

    async def talk(state: State) -> dict[str, Any]:
        return {"messages": [await model.ainvoke(state["messages"])]}

    inner = StateGraph(State)
    inner.add_node("one", talk)
    inner.add_node("two", talk)
    inner.add_edge(START, "one")
    inner.add_edge("one", "two")
    graph = inner.compile()

    async def call(state: State) -> dict[str, Any]:
        entered.append("called")
        said = await graph.ainvoke({"messages": state["messages"], "log": []})
        return {"messages": said["messages"]}

    async def last(state: State) -> dict[str, Any]:
        return {"log": [f"last {len(state['messages'])}"]}

    outer = StateGraph(State)
    outer.add_node("sub", graph if called == "node" else call)
    outer.add_node("last", last)
    outer.add_edge(START, "sub")
    outer.add_edge("sub", "last")
    async with client_of(LangGraphAgent(outer.compile(), durability=durability)) as client:
        await client.send("go")
        await hold.wait_reached()
        steered = await client.send("hurry", "steer")
        hold.go_on.set()
        await client.until_run("completed")
        await client.thread.flush()
        assert client.status(steered) in ("applied", "queued", "running")
        await client.commands.until(steered, "applied")
        await client.until(lambda: client.run == "completed")
        assert client.texts[:4] == ["human: go", "ai: One. ", "ai: Two.", "human: hurry"]
        assert client.texts[4:] == ["ai: Three.", "ai: Four."]
        assert len(entered) in (0, 2)
        await client.check()


async def test_a_steered_message_does_not_pass_a_breakpoint() -> None:
    hold, ran = Hold(), []

    @tool
    async def drop(place: str) -> str:
        """Must not be carried out unseen."""
        ran.append(place)
        return place

    model, script = scripted(
        [call_piece(0, '{"place": "Ulm"}', name="drop", id="k1"), hold, last_piece()], ["Well."]
    )
    async with client_of(LangGraphAgent(create_agent(model, [drop], interrupt_before=["tools"]))) as client:
        await client.send("go")
        await hold.wait_reached()
        steered = await client.send("rather not", "steer")
        hold.go_on.set()
        await client.until_run("completed")
        await client.thread.flush()
        assert (ran, client.status(steered)) == ([], "applied")
        assert script.last_seen[-1] == "human: rather not"
        assert client.texts[-1] == "ai: Well."
        await client.check()


async def test_several_steered_messages_go_in_together() -> None:
    hold = Hold()
    agent, script = with_tools(CALL, ["Well."], hold=hold)
    async with client_of(agent) as client:
        await client.send("go")
        await hold.wait_reached()
        await client.send("hurry", "steer")
        await client.send("please", "steer")
        hold.go_on.set()
        await client.until_run("completed")
        assert script.last_seen[3:] == ["human: hurry", "human: please"]
        await client.check()


async def test_a_steered_message_that_can_not_be_read_is_refused_and_the_run_goes_on() -> None:
    hold = Hold()
    agent, _ = with_tools(CALL, ["Well."], hold=hold)
    async with client_of(agent) as client:
        await client.send("go")
        await hold.wait_reached()
        parts = [{"type": "image", "image": "ftp://example.org/a.png"}]
        wrong = await client.send({"type": "add-message", "message": {"parts": parts}}, "steer")
        hold.go_on.set()
        await client.until_run("completed")
        await client.thread.flush()
        assert client.status(wrong) == "invalid-command"
        assert client.texts == ["human: go", "ai: ", "tool: Ulm", "ai: Well."]
        await client.check()


async def test_steered_in_just_before_it_asks_a_message_starts_over() -> None:
    hold = Hold()

    async def ask(state: State) -> dict[str, Any]:
        if len(state["messages"]) > 1:
            return {"log": ["over"]}
        await hold()
        return {"log": [interrupt("sure?")]}

    builder = StateGraph(State)
    builder.add_node("ask", ask)
    builder.add_edge(START, "ask")
    async with client_of(LangGraphAgent(builder.compile())) as client:
        await client.send("go")
        await hold.wait_reached()
        steered = await client.send("never mind", "steer")
        hold.go_on.set()
        await client.until_run("completed")
        await client.thread.flush()
        assert client.status(steered) == "applied"
        assert (client.state["log"], client.interrupts) == (["over"], {})
        await client.check()


async def test_steered_in_while_it_waits_a_message_starts_over() -> None:
    async def ask(state: State) -> dict[str, Any]:
        return {"log": [interrupt("sure?")]}

    builder = StateGraph(State)
    builder.add_node("ask", ask)
    builder.add_edge(START, "ask")
    async with client_of(LangGraphAgent(builder.compile())) as client:
        await client.do("go")
        await client.do("never mind", "waiting", strategy="steer")
        assert client.texts == ["human: go", "human: never mind"]
        await client.do(resume({client.interrupt_id("sure?"): "yes"}), "completed")
        await client.check()


async def test_a_command_of_another_kind_that_is_steered_in_is_for_the_next_run() -> None:
    hold = Hold()
    agent, _ = with_tools(CALL, ["Well."], ["Again."], hold=hold)
    async with client_of(agent) as client:
        await client.send("go")
        await hold.wait_reached()
        steered = await client.send({"type": "regenerate", "parentId": "m1"}, "steer")
        hold.go_on.set()
        await client.commands.until(steered, "applied")
        await client.until(lambda: statuses(client) == ["running", "completed", "running", "completed"])
        assert client.texts == ["human: go", "ai: Again."]
        await client_check_but_flicker(client)


# at any moment


@tool
async def look(place: str) -> str:
    """Looks."""
    await asyncio.sleep(0)
    return place


@tool
async def ask(place: str) -> str:
    """Asks."""
    return str(interrupt(place))


def asking_agent() -> LangGraphAgent:
    calls = [
        call_piece(0, '{"place": "Ulm"}', name="ask", id="k1"),
        call_piece(1, '{"place": "Rom"}', name="look", id="k2"),
    ]
    model, _ = scripted(["a", "b", *calls, last_piece()], ["c", "d"], ["e"])
    return LangGraphAgent(create_agent(model, [look, ask]))


def subgraph_agent() -> LangGraphAgent:
    """Two nodes that talk, in a subgraph, beside another that says something at once."""
    model, _ = scripted(["a", "b"], ["c", "d"], ["e"])

    async def talk(state: State) -> dict[str, Any]:
        return {"messages": [await model.ainvoke(state["messages"])]}

    async def sibling(state: State) -> dict[str, Any]:
        return {"messages": [AIMessage("beside")], "log": ["beside"]}

    inner = StateGraph(State)
    inner.add_node("one", talk)
    inner.add_node("two", talk)
    inner.add_edge(START, "one")
    inner.add_edge("one", "two")
    outer = StateGraph(State)
    outer.add_node("sub", inner.compile())
    outer.add_node("sibling", sibling)
    outer.add_edge(START, "sub")
    outer.add_edge(START, "sibling")
    return LangGraphAgent(outer.compile())


async def rest(client: GraphClient) -> None:
    """Answers whatever is asked, until nothing goes on any more."""
    with anyio.fail_after(60):
        while client.thread.runner.busy:
            if client.thread.waiting:
                await client.thread.flush()
                await client.do(resume(dict.fromkeys(client.interrupts, "yes")))
            await asyncio.sleep(0)
    await client.thread.flush()


@pytest.mark.parametrize("moment", [0, 7, 15, 22, 31, 43, 60, 90])
@pytest.mark.parametrize("how", ["cancel", "enqueue", "interrupt", "rollback", "steer"])
@pytest.mark.parametrize("make", [asking_agent, subgraph_agent])
async def test_at_whatever_moment_it_comes_the_thread_is_in_order(make: Any, how: Any, moment: int) -> None:
    async with client_of(make()) as client:
        first = await client.send("go")
        for _ in range(moment):
            await asyncio.sleep(0)
        if how == "cancel":
            await client.cancel()
            await client.check()
        else:
            second = await client.send("more", how)
            await rest(client)
            assert client.status(second) == "applied"
        await client.send("last")
        await rest(client)
        assert client.run == "completed"
        said = [text.removeprefix("human: ") for text in client.texts if text.startswith("human")]
        kept = ["go"] if client.status(first) == "applied" else []
        if how == "rollback":
            assert said in (["more", "last"], ["go", "more", "last"])  # or it had ended by then
            await client_check_but_flicker(client)
        else:
            assert said == [*kept, *(["more"] if how != "cancel" else []), "last"]
            await client.check()
