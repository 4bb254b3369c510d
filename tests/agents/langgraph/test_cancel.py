"""Graphs that are stopped: what was shown stays and is the graph's own, and the thread goes on."""

from __future__ import annotations

import asyncio
import operator
import threading
from collections.abc import Callable
from typing import Annotated, Any, TypedDict

import anyio
import pytest
from langchain.agents import create_agent
from langchain_core.messages import AIMessage, AnyMessage
from langchain_core.tools import tool
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.graph.message import add_messages
from langgraph.types import RetryPolicy, interrupt
from pydantic import BaseModel

from tests.support.engine import say
from tests.support.graph_client import GraphClient, Hold, client_of, resume, scripted, tool_result
from tests.support.graphs import Piece, assert_equal_to_graph, call_piece, last_piece
from tests.support.scenarios import chain
from threadwire.core.frames import Limits
from threadwire.engine.settings import Settings
from threadwire_agents.langgraph import LangGraphAgent

pytestmark = [pytest.mark.anyio, pytest.mark.spec("8.3"), pytest.mark.spec("15.2")]


class State(TypedDict):
    messages: Annotated[list[AnyMessage], add_messages]
    log: Annotated[list[str], operator.add]


def marks(client: GraphClient) -> list[Any]:
    """What became of each message of a model."""
    messages = client.state["messages"]
    return [item.get("response_metadata", {}).get("threadwire") for item in messages if item["type"] == "ai"]


async def goes_on(client: GraphClient, text: str = "and now?") -> None:
    """The next message works."""
    await client.do(text, "completed")
    assert client.run == "completed"
    await client.check()


def with_sibling(*turns: list[Piece]) -> tuple[LangGraphAgent, Any]:
    """A model beside a node that has said something and ended."""
    model, script = scripted(*turns)

    async def sibling(state: State) -> dict[str, Any]:
        return {"messages": [AIMessage("I am done", id=f"s{len(state['messages'])}")], "log": ["sibling"]}

    async def talk(state: State) -> dict[str, Any]:
        return {"messages": [await model.ainvoke(state["messages"])], "log": ["talk"]}

    builder = StateGraph(State)
    builder.add_node("sibling", sibling)
    builder.add_node("talk", talk)
    builder.add_edge(START, "sibling")
    builder.add_edge(START, "talk")
    return LangGraphAgent(builder.compile()), script


async def test_a_text_cut_in_the_middle_stays_beside_what_an_ended_sibling_has_brought() -> None:
    hold = Hold()
    agent, script = with_sibling(["Once ", "upon", hold, " a time"], ["Well."])
    async with client_of(agent) as client:
        id = await client.send("go")
        await client.until(lambda: "ai: Once upon" in client.texts)
        await client.until(lambda: "ai: I am done" in client.texts)
        run = await client.cancel()
        assert (run.status, client.status(id)) == ("cancelled", "applied")
        assert sorted(client.texts) == ["ai: I am done", "ai: Once upon", "human: go"]
        cut = next(item for item in client.state["messages"] if item["content"] == "Once upon")
        assert cut["response_metadata"]["threadwire"] == "cancelled"
        assert client.state["log"] == ["sibling"]
        assert "tasks" not in client.own
        assert marks(client).count("cancelled") == 1
        await client.check()
        await goes_on(client)
        assert "ai: Once upon" in script.last_seen


async def test_tool_calls_of_a_text_that_was_cut_are_dropped() -> None:
    hold = Hold()
    model, _ = scripted(
        [
            "Let me ",
            call_piece(0, '{"pla', name="look", id="k1"),
            hold,
            call_piece(0, 'ce": 1}'),
            last_piece(),
        ],
        ["Well."],
    )

    @tool
    async def look(place: int) -> str:
        """Looks."""
        raise AssertionError

    async with client_of(LangGraphAgent(create_agent(model, [look]))) as client:
        await client.send("go")
        await client.until(lambda: "k1" in str(client.state.get("messages")))
        await client.cancel()
        (cut,) = [item for item in client.state["messages"] if item["type"] == "ai"]
        assert (cut["content"], cut.get("tool_calls", [])) == ("Let me ", [])
        await client.check()
        await goes_on(client)


async def test_before_the_first_token_nothing_is_kept_but_the_message() -> None:
    hold = Hold()
    agent, script = with_sibling([hold, "never"], ["Well."])
    async with client_of(agent) as client:
        id = await client.send("go")
        await hold.wait_reached()
        await client.cancel()
        assert client.status(id) == "applied"
        assert client.texts == ["human: go", "ai: I am done"]
        await client.check()
        await goes_on(client)
        assert script.last_seen[0] == "human: go"


async def test_tools_at_work_are_stopped_and_their_calls_closed() -> None:
    hold = Hold()

    @tool
    async def slow(place: str) -> str:
        """Takes long."""
        await hold()
        return "never"

    @tool
    async def quick(place: str) -> str:
        """Is quick."""
        return f"{place}!"

    model, _ = scripted(
        [
            call_piece(0, '{"place": "Ulm"}', name="slow", id="k1"),
            call_piece(1, '{"place": "Rom"}', name="quick", id="k2"),
            last_piece(),
        ],
        ["Well."],
    )
    async with client_of(LangGraphAgent(create_agent(model, [slow, quick]))) as client:
        await client.send("go")
        await hold.wait_reached()
        await client.until(lambda: "tool: Rom!" in client.texts)
        await client.cancel()
        shown = {item["tool_call_id"]: item for item in client.state["messages"] if item["type"] == "tool"}
        assert (shown["k1"]["status"], shown["k2"]["content"]) == ("error", "Rom!")
        assert len(shown) == 2
        await client.check()
        await goes_on(client)
        assert await client.refused(tool_result("k1", 1)) == ("already-answered", "command.toolCallId")


async def test_while_it_waits_a_run_is_cancelled_and_its_calls_closed() -> None:
    @tool
    async def ask(place: str) -> str:
        """Asks."""
        return str(interrupt(place))

    model, _ = scripted([call_piece(0, '{"place": "Ulm"}', name="ask", id="k1"), last_piece()], ["Well."])
    async with client_of(LangGraphAgent(create_agent(model, [ask]))) as client:
        await client.do("go")
        (id,) = client.interrupts
        assert (await client.cancel()).status == "cancelled"
        assert (client.interrupts, client.own.get("tasks")) == ({}, None)
        assert client.state["messages"][-1]["status"] == "error"
        assert (await client.refused(resume({id: 1})))[0] == "unknown-interrupt"
        await client.check()
        await goes_on(client)


async def test_while_a_client_works_on_a_tool_a_run_is_cancelled_and_its_result_comes_too_late() -> None:
    model, _ = scripted([call_piece(0, "{}", name="look", id="k1"), last_piece()], ["Well."])

    async def talk(state: State) -> dict[str, Any]:
        return {"messages": [await model.ainvoke(state["messages"])]}

    builder = StateGraph(State)
    builder.add_node("talk", talk)
    builder.add_edge(START, "talk")
    async with client_of(LangGraphAgent(builder.compile()), tools=("look",)) as client:
        await client.do("go")
        await client.until_tools("k1")
        assert (await client.cancel()).status == "cancelled"
        assert client.calls == {}
        assert client.state["messages"][-1]["status"] == "error"
        assert await client.refused(tool_result("k1", 1)) == ("already-answered", "command.toolCallId")
        await client.check()
        await goes_on(client)


async def test_a_blocking_node_is_left_to_itself_and_what_it_returns_is_dropped() -> None:
    reached, go_on = threading.Event(), threading.Event()
    ended = threading.Event()

    def block(state: State) -> dict[str, Any]:
        if len(state["messages"]) > 1:
            return {"log": ["quick"]}
        reached.set()
        assert go_on.wait(300)
        ended.set()
        return {"messages": [AIMessage("late")], "log": ["late"]}

    builder = StateGraph(State)
    builder.add_node("block", block)
    builder.add_edge(START, "block")
    settings = Settings(show_errors=True, cancel_grace_s=3600)
    async with client_of(LangGraphAgent(builder.compile()), settings=settings) as client:
        await client.send("go")
        assert await anyio.to_thread.run_sync(reached.wait, 60)
        run = await client.cancel()  # it waits a minute at most: neither for the node nor for the grace
        assert run.status == "cancelled"
        await client.check()
        before = client.state
        go_on.set()
        assert await anyio.to_thread.run_sync(ended.wait, 60)
        await goes_on(client)
        assert client.state["log"] == ["quick"]
        assert client.texts == ["human: go", "human: and now?"]
        assert before["messages"] == client.state["messages"][:1]


async def test_to_cancel_twice_is_to_cancel() -> None:
    hold = Hold()
    agent, _ = with_sibling(["Once", hold], ["Well."])
    async with client_of(agent) as client:
        await client.send("go")
        await client.until(lambda: "ai: Once" in client.texts)
        runs = await asyncio.gather(client.cancel(), client.cancel())
        assert [run.status for run in runs] == ["cancelled"] * 2
        assert (await client.cancel()).status == "cancelled"
        assert client.texts.count("ai: Once") == 1
        await client.check()
        await goes_on(client)


class SlowSaver(InMemorySaver):
    """Takes its time to write while `hold` is set."""

    hold: Hold | None = None

    async def aput(self, *args: Any, **kwargs: Any) -> Any:
        if self.hold is not None:
            await self.hold()
        return await super().aput(*args, **kwargs)


async def test_what_can_not_be_saved_in_time_is_saved_by_the_next_run() -> None:
    saver = SlowSaver()
    agent, script = with_sibling(["Once ", "upon", Hold(), " a time"], ["Well."])
    graph = agent._source.graph
    assert graph is not None
    agent = LangGraphAgent(graph, checkpointer=saver)
    settings = Settings(show_errors=True, cancel_grace_s=0.05)
    async with client_of(agent, settings=settings) as client:
        id = await client.send("go")
        await client.until(lambda: "ai: Once upon" in client.texts)
        await client.until(lambda: "ai: I am done" in client.texts)
        hold = saver.hold = Hold()
        assert (await client.cancel()).status == "cancelled"
        assert client.status(id) == "applied"
        assert sorted(client.texts) == ["ai: I am done", "ai: Once upon", "human: go"]
        saver.hold = None
        hold.go_on.set()
        await goes_on(client)
        assert sorted(script.last_seen[:3]) == ["ai: I am done", "ai: Once upon", "human: go"]
        assert client.state["log"] == ["sibling", "sibling", "talk"]
        assert marks(client).count("cancelled") == 1


async def test_what_can_not_be_saved_for_a_fault_is_saved_by_the_next_run() -> None:
    class Faulty(InMemorySaver):
        fails = False

        async def aput(self, *args: Any, **kwargs: Any) -> Any:
            if self.fails:
                raise OSError("no room")
            return await super().aput(*args, **kwargs)

    saver = Faulty()
    agent, script = with_sibling(["Once ", "upon", Hold(), " a time"], ["Well."])
    graph = agent._source.graph
    assert graph is not None
    async with client_of(LangGraphAgent(graph, checkpointer=saver)) as client:
        await client.send("go")
        await client.until(lambda: "ai: Once upon" in client.texts)
        await client.until(lambda: "ai: I am done" in client.texts)
        saver.fails = True
        assert (await client.cancel()).status == "cancelled"
        assert "ai: Once upon" in client.texts
        saver.fails = False
        await goes_on(client)
        assert "ai: Once upon" in script.last_seen


async def test_a_run_that_fails_keeps_what_it_has_shown() -> None:
    agent, _ = with_sibling(["Once ", "upon", ValueError("no more")], ["Well."])
    async with client_of(agent) as client:
        id = await client.do("go", "failed")
        assert client.status(id) == "applied"
        assert "ai: Once upon" in client.texts
        assert "failed" in marks(client)
        assert "no more" in client.own["error"]["message"]
        await client.check()
        await goes_on(client)
        assert "error" not in client.own


async def test_what_a_graph_that_fails_was_to_carry_out_is_closed() -> None:
    @tool
    async def broken(place: str) -> str:
        """Fails."""
        raise RuntimeError("broken")

    model, _ = scripted([call_piece(0, '{"place": "Ulm"}', name="broken", id="k1"), last_piece()], ["Well."])
    async with client_of(LangGraphAgent(create_agent(model, [broken]))) as client:
        await client.do("go", "failed")
        assert client.state["messages"][-1]["status"] == "error"
        assert client.texts[-1] == "tool: The run failed before the call had a result."
        await client.check()
        await goes_on(client)


class Counted(BaseModel):
    messages: Annotated[list[AnyMessage], add_messages] = []
    count: int = 0


def counting(count: Callable[[str], Any]) -> LangGraphAgent:
    """Says something, and by the user's text writes what its own schema may refuse."""
    model, _ = scripted(["counted", last_piece()])

    async def talk(state: Counted) -> dict[str, Any]:
        return {"messages": [await model.ainvoke(state.messages)], "count": count(state.messages[-1].text)}

    async def end(state: Counted) -> dict[str, Any]:
        return {"messages": [AIMessage(f"{state.count} it is")]}

    return LangGraphAgent(chain(talk, end, schema=Counted))


async def test_a_value_that_the_graph_refuses_fails_the_run_and_not_the_thread() -> None:
    agent = counting(lambda text: text if text == "many" else 2)
    async with client_of(agent) as client:
        await client.do("two", "completed")
        id = await client.do(say("many", "refused"), "failed")
        assert client.status(id) == "applied"
        assert client.texts[3:] == ["human: many", "ai: counted"]
        assert marks(client) == [None, None, "failed"]
        assert client.state["count"] == 2
        await client.check()
        await goes_on(client, "two again")
        assert client.texts[-1] == "ai: 2 it is"
        await client.do({**say("two instead", "edited"), "sourceId": "refused"}, "completed")
        assert client.texts[3:] == ["human: two instead", "ai: counted", "ai: 2 it is"]
        await client.check()


async def test_a_state_that_is_too_large_fails_the_run_and_not_the_thread() -> None:
    class Filled(MessagesState):
        filling: str

    async def fill(state: Filled) -> dict[str, Any]:
        return {"filling": "x" * int(state["messages"][-1].text)}

    async def end(state: Filled) -> dict[str, Any]:
        return {"messages": [AIMessage("filled")]}

    settings = Settings(show_errors=True, limits=Limits(max_state_bytes=4096))
    async with client_of(LangGraphAgent(chain(fill, end, schema=Filled)), settings=settings) as client:
        await client.do("1000", "completed")
        await client.do("5000", "failed")
        assert "larger than 4096 bytes" in client.run
        assert (len(client.state["filling"]), client.texts[-1]) == (1000, "human: 5000")
        await client.check()
        await goes_on(client, "2000")
        assert len(client.state["filling"]) == 2000


async def test_a_message_that_the_graph_refuses_is_rejected_and_leaves_nothing() -> None:
    class Needing(BaseModel):
        messages: Annotated[list[AnyMessage], add_messages] = []
        needed: int

    async def talk(state: Needing) -> None:
        raise AssertionError

    async with client_of(LangGraphAgent(chain(talk, schema=Needing))) as client:
        for _ in range(2):
            id = await client.do("go", "failed")
            assert client.status(id) == "agent-failed"
            assert client.texts == []
            await client.check()


async def test_a_cancel_leaves_what_is_queued_to_the_next_run() -> None:
    hold = Hold()
    agent, script = with_sibling(["Once", hold], ["Well."])
    async with client_of(agent) as client:
        await client.send("go")
        await client.until(lambda: "ai: Once" in client.texts)
        queued = await client.send("later")
        run = client.reader.runs[-1]
        assert run is not None
        await client.thread.runner.cancel(run.id)
        await client.commands.until(queued, "applied")
        await client.until(lambda: client.run == "completed")
        assert script.last_seen[-1] == "human: later"
        await client.check()


async def test_a_subgraphs_text_that_was_cut_stays() -> None:
    hold = Hold()
    model, _ = scripted(["Said. "], ["Once ", hold], ["Well."])

    async def talk(state: State) -> dict[str, Any]:
        return {"messages": [await model.ainvoke(state["messages"])]}

    inner = StateGraph(State)
    inner.add_node("one", talk)
    inner.add_node("two", talk)
    inner.add_edge(START, "one")
    inner.add_edge("one", "two")
    outer = StateGraph(State)
    outer.add_node("sub", inner.compile())
    outer.add_edge(START, "sub")
    async with client_of(LangGraphAgent(outer.compile())) as client:
        await client.send("go")
        await client.until(lambda: "ai: Once " in client.texts)
        await client.cancel()
        assert client.texts == ["human: go", "ai: Said. ", "ai: Once "]
        await client.check()
        await goes_on(client)


@pytest.mark.parametrize("tokens", range(6))
async def test_wherever_it_is_cut_the_thread_goes_on(tokens: int) -> None:
    @tool
    async def look(place: str) -> str:
        """Looks."""
        await asyncio.sleep(0)
        return place

    hold = Hold()
    turns: list[list[Piece]] = [
        ["a", "b", call_piece(0, '{"place": "Ulm"}', name="look", id="k1"), last_piece()],
        ["c", "d"],
        ["Well."],
    ]
    flat = [(turn, place) for turn in range(2) for place in range(len(turns[turn]))]
    turn, place = flat[tokens]
    turns[turn].insert(place, hold)
    model, _ = scripted(*turns)
    async with client_of(LangGraphAgent(create_agent(model, [look]))) as client:
        await client.send("go")
        await hold.wait_reached()
        await client.cancel()
        await client.check()
        await client.do("again")
        await client.do("and again", "completed")
        await client.check()


def talking(model: Any, **options: Any) -> LangGraphAgent:
    """A graph of one node, which says what the model says."""

    async def talk(state: MessagesState) -> dict[str, Any]:
        return {"messages": [await model.ainvoke(state["messages"])]}

    builder = StateGraph(MessagesState)
    builder.add_node("talk", talk, **options)
    builder.add_edge(START, "talk")
    return LangGraphAgent(builder.compile())


async def test_an_answer_that_was_cut_is_generated_again_beside_it() -> None:
    hold = Hold()
    model, script = scripted(["Once ", "upon", hold, "never"], ["Well."])
    async with client_of(talking(model)) as client:
        await client.send("go")
        await hold.wait_reached()
        await client.until(lambda: "ai: Once upon" in client.texts)
        await client.cancel()
        question, cut = (message["id"] for message in client.state["messages"])
        await client.do({"type": "regenerate", "parentId": question}, "completed")
        assert client.texts == ["human: go", "ai: Well."]
        assert script.last_seen == ["human: go"]
        assert cut in client.own["branches"]
        await client.check()
        await client.do({"type": "switch-branch", "messageId": cut})
        assert client.texts == ["human: go", "ai: Once upon"]
        await client.do("on", "completed")
        assert script.last_seen == ["human: go", "ai: Once upon", "human: on"]
        await assert_equal_to_graph(client.agent, client.thread, client.reader)


async def test_an_answer_that_was_cut_before_it_began_is_generated_again() -> None:
    hold = Hold()
    model, script = scripted([hold, "never"], ["Well."])
    async with client_of(talking(model)) as client:
        await client.send("go")
        await hold.wait_reached()
        await client.cancel()
        assert client.texts == ["human: go"]
        question = client.state["messages"][0]["id"]
        await client.do({"type": "regenerate", "parentId": question}, "completed")
        assert client.texts == ["human: go", "ai: Well."]
        assert script.last_seen == ["human: go"]
        assert "branches" not in client.own
        await client.check()
        await goes_on(client)


async def test_of_the_attempts_of_a_node_only_the_last_one_stays() -> None:
    model, script = scripted(
        ["Once ", ValueError("no")], ["upon ", ValueError("no")], ["a ", "time", ValueError("no")], ["Well."]
    )
    policy = RetryPolicy(initial_interval=0.001, jitter=False, max_attempts=3, retry_on=ValueError)
    async with client_of(talking(model, retry_policy=policy)) as client:
        await client.do("go", "failed")
        assert client.texts == ["human: go", "ai: a time"]
        await client.check()
        await client.do("on", "completed")
        assert script.last_seen == ["human: go", "ai: a time", "human: on"]


async def test_of_an_attempt_that_failed_nothing_is_left_when_a_later_one_is_cut() -> None:
    hold = Hold()
    model, _ = scripted(["Once ", ValueError("no")], ["upon ", hold], ["Well."])
    policy = RetryPolicy(initial_interval=0.001, jitter=False, retry_on=ValueError)
    async with client_of(talking(model, retry_policy=policy)) as client:
        await client.send("go")
        await hold.wait_reached()
        await client.until(lambda: "ai: upon " in client.texts)
        await client.cancel()
        assert client.texts == ["human: go", "ai: upon "]
        await client.check()


async def test_what_a_node_had_said_in_whole_before_it_was_cut_stays() -> None:
    hold = Hold()
    model, _ = scripted(["First."], ["Second", hold], ["Well."])

    async def talk(state: MessagesState) -> dict[str, Any]:
        return {"messages": [await model.ainvoke(state["messages"]), await model.ainvoke(state["messages"])]}

    builder = StateGraph(MessagesState)
    builder.add_node("talk", talk)
    builder.add_edge(START, "talk")
    async with client_of(LangGraphAgent(builder.compile())) as client:
        await client.send("go")
        await hold.wait_reached()
        await client.until(lambda: "ai: Second" in client.texts)
        await client.cancel()
        assert client.texts == ["human: go", "ai: First.", "ai: Second"]
        await client.check()


async def test_texts_that_a_node_streams_side_by_side_stay_both() -> None:
    hold = Hold()
    model, _ = scripted(["One ", "two ", "three", hold], ["A ", "b ", "c", hold], ["Well."])

    async def talk(state: MessagesState) -> dict[str, Any]:
        both = await asyncio.gather(*(model.ainvoke(state["messages"]) for _ in range(2)))
        return {"messages": both}

    builder = StateGraph(MessagesState)
    builder.add_node("talk", talk)
    builder.add_edge(START, "talk")
    async with client_of(LangGraphAgent(builder.compile())) as client:
        await client.send("go")
        await client.until(lambda: {"ai: One two three", "ai: A b c"} <= set(client.texts))
        await client.cancel()
        assert sorted(client.texts) == ["ai: A b c", "ai: One two three", "human: go"]
        await client.check()
