"""Graphs that ask: what stands in the state meanwhile, what is no answer, and how they go on."""

from __future__ import annotations

import operator
from pathlib import Path
from typing import Annotated, Any, TypedDict

import anyio.lowlevel
import pytest
from langchain.agents import create_agent
from langchain.agents.middleware import HumanInTheLoopMiddleware
from langchain_core.messages import AIMessage, AnyMessage
from langchain_core.tools import tool
from langgraph.func import entrypoint, task
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.graph.message import add_messages
from langgraph.types import Send, interrupt
from pydantic import BaseModel, field_validator

from tests.support.graph_client import GraphClient, Hold, client_of, resume, scripted
from tests.support.graphs import call_piece, last_piece
from threadwire.core.errors import CommandError
from threadwire.stores.url import open_store
from threadwire_agents.langgraph import LangGraphAgent

pytestmark = [pytest.mark.anyio, pytest.mark.spec("8.4"), pytest.mark.spec("15.4")]


class State(TypedDict):
    messages: Annotated[list[AnyMessage], add_messages]
    log: Annotated[list[str], operator.add]


def asking(node: Any, *, schema: Any = None, **options: Any) -> LangGraphAgent:
    """A graph that asks in its one node."""
    builder = StateGraph(State)
    builder.add_node("ask", node)
    builder.add_edge(START, "ask")
    builder.add_edge("ask", END)
    return LangGraphAgent(builder.compile(**options))


async def test_an_interrupt_in_a_node_is_asked_and_its_answer_goes_in() -> None:
    async def ask(state: State) -> dict[str, Any]:
        return {"log": [f"answer {interrupt({'question': 'sure?'})}"]}

    async with client_of(asking(ask)) as client:
        asked = await client.do("go")
        assert client.run == "waiting"
        assert list(client.interrupts.values()) == [{"question": "sure?"}]
        assert client.status(asked) == "applied"
        await client.check_waiting()
        id = client.interrupt_id({"question": "sure?"})
        answered = await client.do(resume({id: ["yes", 1]}), "completed")
        assert client.state["log"] == ["answer ['yes', 1]"]
        assert client.interrupts == {}
        assert client.status(answered) == "applied"
        assert len({run.id for run in client.reader.runs if run}) == 1
        await client.check()


async def test_a_falsy_answer_is_an_answer() -> None:
    async def ask(state: State) -> dict[str, Any]:
        return {"log": [repr(interrupt("first")), repr(interrupt("second")), repr(interrupt("third"))]}

    async with client_of(asking(ask)) as client:
        await client.do("go")
        for question, answer in (("first", False), ("second", ""), ("third", {})):
            await client.do(resume({client.interrupt_id(question): answer}))
        assert client.run == "completed"
        assert client.state["log"] == ["False", "''", "{}"]
        await client.check()


async def test_null_is_an_answer() -> None:
    async def ask(state: State) -> dict[str, Any]:
        return {"log": [repr(interrupt("anything?"))]}

    async with client_of(asking(ask)) as client:
        await client.do("go")
        await client.do(resume({client.interrupt_id("anything?"): None}))
        assert (client.run, client.state["log"]) == ("completed", ["None"])
        await client.check()


async def test_what_is_not_asked_is_refused_and_the_question_stays() -> None:
    async def ask(state: State) -> dict[str, Any]:
        return {"log": [interrupt("sure?")]}

    async with client_of(asking(ask)) as client:
        assert (await client.refused(resume({"x": 1})))[0] == "unknown-interrupt"  # nothing runs
        await client.do("go")
        id = client.interrupt_id("sure?")
        assert await client.refused(resume({"nope": 1})) == ("unknown-interrupt", "command.answers.nope")
        assert (await client.refused(resume({id: "yes", "nope": 1})))[0] == "unknown-interrupt"
        assert (await client.refused(resume({})))[0] == "unknown-interrupt"
        assert client.interrupts == {id: "sure?"}
        await client.do(resume({id: "yes"}), "completed")
        assert (await client.refused(resume({id: "again"})))[0] == "unknown-interrupt"
        assert client.state["log"] == ["yes"]
        await client.check()


@pytest.mark.parametrize("body", [{"answers": "yes"}, {"value": "yes"}, {"answers": ["yes"]}, {}])
async def test_a_single_value_is_no_answer(body: dict[str, Any]) -> None:
    async def ask(state: State) -> dict[str, Any]:
        return {"log": [interrupt("sure?")]}

    async with client_of(asking(ask)) as client:
        await client.do("go")
        with pytest.raises(CommandError) as refused:
            await client.send({"type": "resume", **body})
        assert (refused.value.code, refused.value.field) == ("invalid-command", "command.answers")
        assert client.run == "waiting"


# several at once


def fan_out(*, streams: bool = False) -> tuple[LangGraphAgent, list[str]]:
    """Three tasks at once, of which two ask and one says something; and the names of nodes that ran."""
    ran: list[str] = []
    model, _ = scripted(["do", "ne"])

    async def third(state: State) -> dict[str, Any]:
        ran.append("third")
        if streams:
            return {"messages": [await model.ainvoke(state["messages"])], "log": ["third"]}
        return {"messages": [AIMessage("third", id="third")], "log": ["third"]}

    def asks(name: str) -> Any:
        async def node(state: State) -> dict[str, Any]:
            ran.append(name)
            answer = interrupt(name)
            return {"messages": [AIMessage(f"{name} {answer}", id=name)], "log": [f"{name} {answer}"]}

        return node

    async def last(state: State) -> dict[str, Any]:
        ran.append("last")
        return {"log": ["last"]}

    builder = StateGraph(State)
    builder.add_node("first", asks("first"))
    builder.add_node("second", asks("second"))
    builder.add_node("third", third)
    builder.add_node("last", last)
    for name in ("first", "second", "third"):
        builder.add_edge(START, name)
    builder.add_edge(["first", "second", "third"], "last")
    return LangGraphAgent(builder.compile()), ran


@pytest.mark.parametrize("streams", [False, True])
async def test_of_several_that_ask_some_may_be_answered_first(streams: bool) -> None:
    agent, ran = fan_out(streams=streams)
    async with client_of(agent) as client:
        await client.do("go")
        assert sorted(client.interrupts.values()) == ["first", "second"]
        assert client.state["log"] == ["third"]
        await client.check_waiting()
        second = client.interrupt_id("second")
        await client.do(resume({client.interrupt_id("first"): "A"}), "waiting")
        assert client.interrupts == {second: "second"}
        assert client.state["log"] == ["first A", "third"]
        await client.check_waiting()
        await client.do(resume({second: "B"}), "completed")
        assert client.state["log"] == ["first A", "second B", "third", "last"]
        assert (ran.count("third"), ran.count("first"), ran.count("last")) == (1, 2, 1)
        await client.check()


async def test_all_may_be_answered_at_once() -> None:
    agent, _ = fan_out()
    async with client_of(agent) as client:
        await client.do("go")
        await client.do(
            resume({client.interrupt_id("second"): "B", client.interrupt_id("first"): "A"}), "completed"
        )
        assert client.state["log"] == ["first A", "second B", "third", "last"]
        assert [run.status for run in client.reader.runs if run] == [
            "running",
            "waiting",
            "running",
            "completed",
        ]
        await client.check()


async def test_an_answer_that_comes_while_another_is_worked_on_waits_for_its_turn() -> None:
    agent, _ = fan_out()
    async with client_of(agent) as client:
        await client.do("go")
        first, second = client.interrupt_id("first"), client.interrupt_id("second")
        one = await client.send(resume({first: "A"}))
        other = await client.send(resume({second: "B"}))
        assert await client.refused(resume({first: "C"})) == ("unknown-interrupt", f"command.answers.{first}")
        await client.until_run("completed")
        await client.thread.flush()
        assert client.state["log"] == ["first A", "second B", "third", "last"]
        assert (client.status(one), client.status(other)) == ("applied", "applied")
        await client.check()


async def test_sends_of_one_node_ask_each_for_itself() -> None:
    async def ask(given: Any) -> dict[str, Any]:
        return {"log": [f"{given['name']} {interrupt(given['name'])}"]}

    builder = StateGraph(State)
    builder.add_node("ask", ask)
    builder.add_conditional_edges(START, lambda _: [Send("ask", {"name": name}) for name in "abc"], ["ask"])
    async with client_of(LangGraphAgent(builder.compile())) as client:
        await client.do("go")
        for name in "bca":
            await client.do(resume({client.interrupt_id(name): name.upper()}))
        assert (client.run, client.state["log"]) == ("completed", ["a A", "b B", "c C"])
        await client.check()


async def test_what_a_node_has_streamed_before_it_asks_stays_while_it_waits() -> None:
    model, _ = scripted(["Shall ", "I?"], ["Shall ", "I?"], ["Done."])

    async def ask(state: State) -> dict[str, Any]:
        said = await model.ainvoke(state["messages"])
        return {"messages": [said], "log": [interrupt(said.content)]}

    async with client_of(asking(ask)) as client:
        await client.do("go")
        assert client.texts == ["human: go", "ai: Shall I?"]
        await client.do(resume({client.interrupt_id("Shall I?"): "yes"}), "completed")
        assert client.texts == ["human: go", "ai: Shall I?"]
        await client.check()


async def test_what_a_node_has_streamed_before_it_asks_stays_when_another_one_ends_after_it() -> None:
    model, _ = scripted(["Shall ", "I?"])
    hold = Hold()

    async def ask(state: State) -> dict[str, Any]:
        said = await model.ainvoke(state["messages"])
        return {"messages": [said], "log": [interrupt(said.content)]}

    async def slow(state: State) -> dict[str, Any]:
        await hold()
        return {"messages": [AIMessage("slow", id="s")], "log": ["slow"]}

    builder = StateGraph(State)
    for node in (ask, slow):
        builder.add_node(node.__name__, node)
        builder.add_edge(START, node.__name__)
    async with client_of(LangGraphAgent(builder.compile())) as client:
        await client.send("go")
        await client.until(lambda: "interrupted" in str(client.own.get("tasks")))
        assert client.texts == ["human: go", "ai: Shall I?"]
        hold.go_on.set()
        await client.until_run("waiting")
        assert sorted(client.texts) == ["ai: Shall I?", "ai: slow", "human: go"]
        assert client.reader.flickers == []
        await client.do(resume({client.interrupt_id("Shall I?"): "yes"}), "completed")
        await client.check()


# in tools and subgraphs


@tool
async def book(place: str) -> str:
    """Books a room."""
    return f"booked {place}: {interrupt({'confirm': place})}"


async def test_an_interrupt_in_a_tool_is_asked_while_other_tools_end() -> None:
    @tool
    async def look(place: str) -> str:
        """Looks a place up."""
        return f"{place} is nice"

    model, script = scripted(
        [
            call_piece(0, '{"place": "Ulm"}', name="book", id="k1"),
            call_piece(1, '{"place": "Rom"}', name="look", id="k2"),
            last_piece(),
        ],
        ["Done."],
    )
    agent = LangGraphAgent(create_agent(model, [book, look]))
    async with client_of(agent) as client:
        await client.do("go")
        assert client.run == "waiting"
        assert list(client.interrupts.values()) == [{"confirm": "Ulm"}]
        assert client.texts[-1] == "tool: Rom is nice"
        await client.check_waiting()
        await client.do(resume({client.interrupt_id({"confirm": "Ulm"}): "ok"}), "completed")
        assert client.texts[1:] == ["ai: ", "tool: booked Ulm: ok", "tool: Rom is nice", "ai: Done."]
        assert script.last_seen[1:] == ["ai: ", "tool: booked Ulm: ok", "tool: Rom is nice"]
        await client.check()


@pytest.mark.parametrize("saves", [None, True])
async def test_an_interrupt_in_a_subgraph_leaves_what_it_has_said_in_sight(saves: bool | None) -> None:
    model, _ = scripted(["Once ", "upon"], ["a ", "time"])

    async def begin(state: MessagesState) -> dict[str, Any]:
        return {"messages": [await model.ainvoke(state["messages"])]}

    async def ask(state: MessagesState) -> dict[str, Any]:
        return {"messages": [AIMessage(f"answer {interrupt('go on?')}", id="answer")]}

    inner = StateGraph(MessagesState)
    inner.add_node("begin", begin)
    inner.add_node("ask", ask)
    inner.add_edge(START, "begin")
    inner.add_edge("begin", "ask")
    outer = StateGraph(MessagesState)
    outer.add_node("sub", inner.compile(checkpointer=saves))
    outer.add_edge(START, "sub")
    async with client_of(LangGraphAgent(outer.compile())) as client:
        await client.do("go")
        assert client.texts == ["human: go", "ai: Once upon"]
        assert list(client.interrupts.values()) == ["go on?"]
        await client.do(resume({client.interrupt_id("go on?"): "yes"}), "completed")
        assert client.texts == ["human: go", "ai: Once upon", "ai: answer yes"]
        await client.check()


async def test_an_interrupt_two_subgraphs_deep_is_asked_once() -> None:
    async def ask(state: State) -> dict[str, Any]:
        return {"log": [interrupt("deep?")]}

    graph: Any = ask
    for _ in range(3):
        builder = StateGraph(State)
        builder.add_node("inner", graph)
        builder.add_edge(START, "inner")
        graph = builder.compile()
    async with client_of(LangGraphAgent(graph)) as client:
        await client.do("go")
        assert list(client.interrupts.values()) == ["deep?"]
        (entry,) = client.own["interrupts"].values()
        assert [place.partition(":")[0] for place in entry["ns"].split("|")] == ["inner", "inner"]
        await client.do(resume({client.interrupt_id("deep?"): "yes"}), "completed")
        assert client.state["log"] == ["yes"]
        await client.check()


# what is an answer


class Order(BaseModel):
    dish: str
    count: int

    @field_validator("count")
    @classmethod
    def few(cls, count: int) -> int:
        if count > 10:
            raise ValueError("not that many")
        return count


def ordering() -> LangGraphAgent:
    async def ask(state: State) -> dict[str, Any]:
        order = interrupt("what?", response_schema=Order)
        return {"log": [f"{order.count} {order.dish}"]}

    return asking(ask)


async def test_an_answer_is_checked_by_its_schema_before_anything_is_consumed() -> None:
    async with client_of(ordering()) as client:
        await client.do("go")
        (id,) = client.interrupts
        assert set(client.own["interrupts"][id]["response_schema"]["properties"]) == {"dish", "count"}
        field = f"command.answers.{id}"
        assert await client.refused(resume({id: {"dish": "soup", "count": "two"}})) == (
            "invalid-command",
            f"{field}.count",
        )
        assert await client.refused(resume({id: {"dish": "soup"}})) == ("invalid-command", field)
        assert await client.refused(resume({id: None})) == ("invalid-command", field)
        assert client.run == "waiting"
        await client.do(resume({id: {"dish": "soup", "count": 2}}), "completed")
        assert client.state["log"] == ["2 soup"]
        await client.check()


async def test_an_answer_that_only_the_graph_knows_is_wrong_is_refused_too() -> None:
    async with client_of(ordering()) as client:
        await client.do("go")
        (id,) = client.interrupts
        code, field = await client.refused(resume({id: {"dish": "soup", "count": 11}}))
        assert (code, field) == ("invalid-command", "command.answers")
        await client.until(lambda: client.run == "waiting" and list(client.interrupts) == [id])
        await client.do(resume({id: {"dish": "soup", "count": 1}}), "completed")
        assert client.state["log"] == ["1 soup"]
        await client.check()


async def test_a_wrong_answer_among_several_consumes_none() -> None:
    async def ask(given: Any) -> dict[str, Any]:
        return {"log": [interrupt(given["name"], response_schema={"type": "string"})]}

    builder = StateGraph(State)
    builder.add_node("ask", ask)
    builder.add_conditional_edges(START, lambda _: [Send("ask", {"name": name}) for name in "ab"], ["ask"])
    async with client_of(LangGraphAgent(builder.compile())) as client:
        await client.do("go")
        a, b = client.interrupt_id("a"), client.interrupt_id("b")
        assert await client.refused(resume({a: "A", b: 1})) == ("invalid-command", f"command.answers.{b}")
        assert sorted(client.interrupts.values()) == ["a", "b"]
        await client.do(resume({a: "A", b: "B"}), "completed")
        assert client.state["log"] == ["A", "B"]
        await client.check()


# a person in the loop


@tool
async def send_mail(to: str) -> str:
    """Sends a mail."""
    return f"sent to {to}"


def reviewed(**config: Any) -> tuple[LangGraphAgent, Any]:
    model, script = scripted(
        [
            "I will. ",
            call_piece(0, '{"to": "ann"}', name="send_mail", id="k1"),
            call_piece(1, '{"to": "bob"}', name="send_mail", id="k2"),
            last_piece(),
        ],
        ["Done."],
    )
    review: Any = {"send_mail": {"allowed_decisions": ["approve", "edit", "reject", "respond"], **config}}
    middleware: Any = [HumanInTheLoopMiddleware(interrupt_on=review)]
    return LangGraphAgent(create_agent(model, [send_mail], middleware=middleware)), script


async def review(client: GraphClient) -> str:
    await client.do("go")
    assert client.run == "waiting"
    ((id, asked),) = client.interrupts.items()
    assert [action["args"] for action in asked["action_requests"]] == [{"to": "ann"}, {"to": "bob"}]
    assert client.texts == ["human: go", "ai: I will. "]
    return id


EDIT = {"type": "edit", "edited_action": {"name": "send_mail", "args": {"to": "eve"}}}


@pytest.mark.parametrize(
    ("decisions", "results"),
    [
        ([{"type": "approve"}, {"type": "approve"}], ["sent to ann", "sent to bob"]),
        ([{"type": "approve"}, EDIT], ["sent to ann", "sent to eve"]),
        ([{"type": "reject", "message": "no"}, {"type": "approve"}], ["no", "sent to bob"]),
        ([{"type": "respond", "message": "mine"}, {"type": "respond", "message": "x"}], ["mine", "x"]),
    ],
)
async def test_a_person_decides_on_each_call(decisions: list[Any], results: list[str]) -> None:
    agent, _ = reviewed()
    async with client_of(agent) as client:
        id = await review(client)
        await client.do(resume({id: {"decisions": decisions}}), "completed")
        shown = {
            item["tool_call_id"]: item["content"]
            for item in client.state["messages"]
            if "tool_call_id" in item
        }
        assert results[0] in shown["k1"]
        assert results[1] in shown["k2"]
        assert client.texts[-1] == "ai: Done."
        await client.check()


@pytest.mark.parametrize(
    ("answer", "field"),
    [
        ("approve", ""),
        ({"decisions": "approve"}, ""),
        ({"decisions": []}, ".decisions"),
        ({"decisions": [{"type": "approve"}]}, ".decisions"),
        ({"decisions": [{"type": "approve"}] * 3}, ".decisions"),
        ({"decisions": [{"type": "approve"}, "approve"]}, ".decisions.1.type"),
        ({"decisions": [{"type": "shrug"}, {"type": "approve"}]}, ".decisions.0.type"),
        ({"decisions": [{"type": "respond", "message": "x"}, {"type": "approve"}]}, ".decisions.0.type"),
        ({"decisions": [{"type": "approve"}, {"type": "edit"}]}, ".decisions.1.edited_action"),
        (
            {"decisions": [{"type": "approve"}, {"type": "edit", "edited_action": {"name": "send_mail"}}]},
            ".decisions.1.edited_action.args",
        ),
        ({"decisions": [{"type": "reject", "message": 7}, {"type": "approve"}]}, ".decisions.0.message"),
    ],
)
async def test_decisions_that_do_not_fit_are_refused_and_the_right_ones_still_count(
    answer: Any, field: str
) -> None:
    agent, _ = reviewed(allowed_decisions=["approve", "edit", "reject"])
    async with client_of(agent) as client:
        id = await review(client)
        refused = await client.refused(resume({id: answer}))
        assert refused == ("invalid-command", f"command.answers.{id}{field}")
        assert client.run == "waiting"
        await client.do(resume({id: {"decisions": [{"type": "approve"}, {"type": "approve"}]}}), "completed")
        await client.check()


async def test_a_review_of_each_call_by_itself_is_answered_by_id() -> None:
    model, _ = scripted(
        [
            call_piece(0, '{"to": "ann"}', name="send_mail", id="k1"),
            call_piece(1, '{"to": "bob"}', name="send_mail", id="k2"),
            last_piece(),
        ],
        ["Done."],
    )
    middleware: Any = [
        HumanInTheLoopMiddleware(
            interrupt_on={"send_mail": {"allowed_decisions": ["approve", "edit"]}}, interrupt_mode="per_call"
        )
    ]
    async with client_of(LangGraphAgent(create_agent(model, [send_mail], middleware=middleware))) as client:
        await client.do("go")
        ids = {value["tool_call_id"]: id for id, value in client.interrupts.items()}
        assert sorted(ids) == ["k1", "k2"]
        refused = await client.refused(resume({ids["k1"]: {"type": "reject"}}))
        assert refused[0] == "invalid-command"
        await client.do(resume({ids["k2"]: {"type": "approve"}}), "waiting")
        await client.do(resume({ids["k1"]: {**EDIT}}), "completed")
        assert client.texts[-1] == "ai: Done."
        await client.check()


# breakpoints


@pytest.mark.parametrize("options", [{"interrupt_before": ["two"]}, {"interrupt_after": ["one"]}])
async def test_a_breakpoint_is_passed_by_a_resume_without_answers(options: dict[str, Any]) -> None:
    def node(name: str) -> Any:
        async def run(state: State) -> dict[str, Any]:
            return {"log": [name]}

        return run

    builder = StateGraph(State)
    builder.add_node("one", node("one"))
    builder.add_node("two", node("two"))
    builder.add_edge(START, "one")
    builder.add_edge("one", "two")
    async with client_of(LangGraphAgent(builder.compile(**options))) as client:
        await client.do("go")
        assert (client.run, client.interrupts, client.state["log"]) == ("waiting", {}, ["one"])
        assert (await client.refused(resume({"x": 1})))[0] == "unknown-interrupt"
        passed = await client.do(resume({}), "completed")
        assert (client.status(passed), client.state["log"]) == ("applied", ["one", "two"])
        assert (await client.refused(resume({})))[0] == "unknown-interrupt"
        await client.check()


async def test_every_step_may_be_a_breakpoint() -> None:
    agent, ran = fan_out()
    graph = agent._source.graph
    assert graph is not None
    agent = LangGraphAgent(graph.copy(update={"interrupt_before_nodes": "*"}))
    async with client_of(agent) as client:
        await client.do("go")
        assert (client.run, client.interrupts, ran) == ("waiting", {}, [])
        await client.do(resume({}))
        assert sorted(client.interrupts.values()) == ["first", "second"]
        await client.do(resume(dict.fromkeys(client.interrupts, "A")))
        assert (client.run, client.interrupts) == ("waiting", {})
        await client.do(resume({}), "completed")
        assert client.state["log"][-1] == "last"
        await client.check()


# starting over


async def test_a_new_message_while_it_waits_starts_over_and_keeps_what_other_tasks_have_done() -> None:
    agent, _ = fan_out()
    async with client_of(agent) as client:
        await client.do("go")
        before = len(client.reader.runs)
        again = await client.do("never mind", "waiting")
        assert next(run.status for run in client.reader.runs[before:] if run) == "cancelled"
        assert client.status(again) == "applied"
        assert client.state["log"] == ["third", "third"]
        assert sorted(client.interrupts.values()) == ["first", "second"]
        await client.do(resume(dict.fromkeys(client.interrupts, "A")), "completed")
        assert client.state["log"] == ["third", "first A", "second A", "third", "last"]
        await client.check()


async def test_a_new_message_in_place_of_a_decision_leaves_no_call_open() -> None:
    agent, script = reviewed()
    async with client_of(agent) as client:
        id = await review(client)
        await client.do("rather tell me a joke", "completed")
        assert script.last_seen[-1] == "human: rather tell me a joke"
        assert [item["status"] for item in client.state["messages"] if item["type"] == "tool"] == [
            "error"
        ] * 2
        assert (await client.refused(resume({id: {"decisions": []}})))[0] == "unknown-interrupt"
        await client.check()


async def test_an_interrupt_outlives_the_page_that_was_asked() -> None:
    agent, _ = fan_out()
    async with client_of(agent) as client:
        await client.do("go")
        asked = dict(client.interrupts)
        await client.reload()
        assert (client.interrupts, client.run) == (asked, "waiting")
        await client.do(resume(dict.fromkeys(asked, "A")), "completed")
        await client.check()


def subgraph(node: Any) -> Any:
    builder = StateGraph(State)
    builder.add_node("ask", node)
    builder.add_edge(START, "ask")
    return builder.compile()


@pytest.mark.parametrize("place", ["node", "tool", "subgraph"])
async def test_an_interrupt_outlives_a_restart_and_an_answer_before_it(place: str, tmp_path: Path) -> None:
    async def ask(state: State) -> dict[str, Any]:
        return {"log": [f"{interrupt('one?')} {interrupt('two?')}"]}

    @tool
    async def ask_twice(name: str) -> str:
        """Asks."""
        return f"{interrupt('one?')} {interrupt('two?')}"

    def make(*turns: Any) -> LangGraphAgent:
        if place == "tool":
            return LangGraphAgent(create_agent(scripted(*turns)[0], [ask_twice]))
        return asking(ask if place == "node" else subgraph(ask))

    url = f"sqlite:///{tmp_path / 'threads.db'}"
    call = call_piece(0, '{"name": "x"}', name="ask_twice", id="k1")
    async with client_of(make(["I ask. ", call, last_piece()]), store=open_store(url)) as client:
        await client.do("go")
        await client.do(resume({client.interrupt_id("one?"): "A"}), "waiting")
        shown = client.state
    async with client_of(make(["Done."]), store=open_store(url)) as client:
        await client.until_run("waiting")
        await client.until(lambda: list(client.interrupts.values()) == ["two?"])
        assert client.state["messages"] == shown["messages"]
        await client.do(resume({client.interrupt_id("two?"): "B"}), "completed")
        if place == "tool":
            assert client.texts == ["human: go", "ai: I ask. ", "tool: A B", "ai: Done."]
        else:
            assert client.state["log"] == ["A B"]
        await client.check()


async def test_what_a_subgraph_has_said_stays_in_sight_after_a_restart(tmp_path: Path) -> None:
    def make(*turns: Any) -> LangGraphAgent:
        model, _ = scripted(*turns)

        async def begin(state: MessagesState) -> dict[str, Any]:
            return {"messages": [await model.ainvoke(state["messages"])]}

        async def ask(state: MessagesState) -> dict[str, Any]:
            return {"messages": [AIMessage(f"answer {interrupt('go on?')}", id="answer")]}

        inner = StateGraph(MessagesState)
        inner.add_node("begin", begin)
        inner.add_node("ask", ask)
        inner.add_edge(START, "begin")
        inner.add_edge("begin", "ask")
        outer = StateGraph(MessagesState)
        outer.add_node("sub", inner.compile())
        outer.add_edge(START, "sub")
        return LangGraphAgent(outer.compile())

    url = f"sqlite:///{tmp_path / 'threads.db'}"
    async with client_of(make(["Once ", "upon"]), store=open_store(url)) as client:
        await client.do("go")
        assert client.texts == ["human: go", "ai: Once upon"]
    async with client_of(make(["never"]), store=open_store(url)) as client:
        await client.until_run("waiting")
        await client.until(lambda: client.interrupts)
        assert client.texts == ["human: go", "ai: Once upon"]
        await client.do(resume({client.interrupt_id("go on?"): "yes"}), "completed")
        assert client.texts == ["human: go", "ai: Once upon", "ai: answer yes"]
        await client.check()


# what goes wrong


async def test_a_task_that_fails_beside_one_that_asks_ends_the_run_and_the_next_message_works() -> None:
    fails = [True]

    async def ask(state: State) -> dict[str, Any]:
        return {"log": [interrupt("sure?")]}

    async def other(state: State) -> dict[str, Any]:
        await anyio.lowlevel.checkpoint()
        if fails:
            fails.clear()
            raise ValueError("not now")
        return {"log": ["other"]}

    builder = StateGraph(State)
    builder.add_node("ask", ask)
    builder.add_node("other", other)
    builder.add_edge(START, "ask")
    builder.add_edge(START, "other")
    async with client_of(LangGraphAgent(builder.compile())) as client:
        await client.do("go", "failed")
        assert client.interrupts == {}
        await client.check()
        await client.do("again", "waiting")
        await client.do(resume({client.interrupt_id("sure?"): "yes"}), "completed")
        assert client.state["log"] == ["yes", "other"]
        await client.check()


async def test_a_node_that_fails_with_its_answer_ends_the_run_and_the_next_message_works() -> None:
    answers: list[str] = []

    async def ask(state: State) -> dict[str, Any]:
        answers.append(interrupt("sure?"))
        if len(answers) == 1:
            raise ValueError("not this one")
        return {"log": [answers[-1]]}

    async with client_of(asking(ask)) as client:
        await client.do("go")
        await client.do(resume({client.interrupt_id("sure?"): "A"}), "failed")
        assert client.interrupts == {}
        await client.check()
        await client.do("again")
        await client.do(resume({client.interrupt_id("sure?"): "B"}), "completed")
        assert client.state["log"] == ["B"]
        await client.check()


async def test_a_graph_that_a_tool_calls_may_ask() -> None:
    inner = subgraph(lambda state: {"log": [interrupt("deep?")]})

    @tool
    async def delegate(name: str) -> str:
        """Has another graph do it."""
        return str((await inner.ainvoke({"messages": [], "log": []}))["log"])

    call = call_piece(0, '{"name": "x"}', name="delegate", id="k1")
    model, _ = scripted([call, last_piece()], ["Done."])
    async with client_of(LangGraphAgent(create_agent(model, [delegate]))) as client:
        await client.do("go")
        await client.do(resume({client.interrupt_id("deep?"): "yes"}), "completed")
        assert client.texts[2:] == ["tool: ['yes']", "ai: Done."]
        await client.check()


async def test_an_entrypoint_asks_too() -> None:
    ran: list[str] = []

    @task
    async def step(text: str) -> str:
        ran.append(text)
        return f"{text}!"

    @entrypoint()
    async def flow(text: str) -> dict[str, str]:
        done = await step(text)
        return {"said": f"{done} {interrupt('sure?')}"}

    async with client_of(LangGraphAgent(flow)) as client:
        await client.do("go")
        await client.do(resume({client.interrupt_id("sure?"): "yes"}), "completed")
        assert (client.state["said"], ran) == ("go! yes", ["go"])
        await client.do("again")
        await client.cancel()
        await client.do("once more")
        await client.do(resume({client.interrupt_id("sure?"): "no"}), "completed")
        assert client.state["said"] == "once more! no"
        await client.check()
