"""Exactly once across two stores: the server dies at every write of either, and the graph's state is exact.

Tools and nodes may be executed again, as LangGraph does with whatever was cut. What is in the state, the
log and the commands' statuses must be as if nothing had happened.
"""

# PROTOCOL §15.8
from __future__ import annotations

import operator
import os
import random
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, TypedDict

import pytest
from langchain_core.messages import AIMessage, AnyMessage, BaseMessage, ToolMessage
from langgraph.checkpoint.base.id import uuid6
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver
from langgraph.graph import END, START, StateGraph
from langgraph.graph.message import add_messages
from langgraph.types import interrupt

import threadwire
from tests.support.crashes import CrashingSaver, Moments
from tests.support.engine import Commands, engine, follow, say
from tests.support.graph_client import GraphClient, Hold
from tests.support.graphs import Piece, ScriptedModel, call_piece, last_piece
from tests.support.lives import (
    ENDED,
    Client,
    Outcome,
    Step,
    answers,
    does,
    edits,
    live,
    regenerates,
    says,
    switches,
)
from tests.support.virtual_time import in_virtual_time, run
from threadwire.core.errors import Refused
from threadwire.stores.memory import MemoryStore
from threadwire_agents.langgraph import LangGraphAgent

pytestmark = [pytest.mark.spec("8.6"), pytest.mark.spec("15.8")]


class State(TypedDict, total=False):
    messages: Annotated[list[AnyMessage], add_messages]
    log: Annotated[list[str], operator.add]


def asked(messages: list[Any]) -> str:
    """What the user has said last."""
    return str(next(message.content for message in reversed(messages) if message.type == "human"))


def speak(messages: list[BaseMessage]) -> Iterable[Piece]:
    """Says what depends on the conversation alone; calls a tool first where the user wants one."""
    if "tool" in asked(messages) and messages[-1].type == "human":
        yield call_piece(0, '{"place":', name="look", id=f"call-{len(messages)}", text="I look. ")
        yield call_piece(0, ' "Rome"}')
        yield last_piece()
        return
    yield "answer "
    yield f"{len(messages)} to "
    yield asked(messages)
    yield last_piece()


model = ScriptedModel(script=speak)


async def side(state: State) -> State:
    return {"log": ["side"]}


async def ask(state: State) -> State:
    text = asked(state["messages"])
    given = [interrupt(f"first of {text}")] if "ask" in text else []
    if "twice" in text:
        given.append(interrupt(f"second of {text}"))
    if "same" in text:
        given.append(interrupt(f"first of {text}"))
    return {"log": [f"given {each}" for each in given] or ["not asked"]}


async def ask_too(state: State) -> State:
    text = asked(state["messages"])
    return {"log": [f"too {interrupt(f'also of {text}')}"] if "both" in text else []}


async def talk(state: State) -> State:
    return {"messages": [await model.ainvoke(state["messages"])], "log": ["talk"]}


async def tools(state: State) -> State:
    calls = state["messages"][-1].tool_calls  # type: ignore[union-attr]
    return {
        "messages": [ToolMessage("seen", tool_call_id=call["id"], name=call["name"]) for call in calls],
        "log": ["tools"],
    }


async def after_talk(state: State) -> str:
    return "tools" if getattr(state["messages"][-1], "tool_calls", None) else END


def build(**nodes: Any) -> StateGraph[Any, Any, Any, Any]:
    builder: StateGraph[Any, Any, Any, Any] = StateGraph(State)
    for node in (side, ask, ask_too, talk, tools):
        builder.add_node(node.__name__, nodes.get(node.__name__, node))
    for first in ("side", "ask", "ask_too"):
        builder.add_edge(START, first)
    builder.add_edge(["side", "ask", "ask_too"], "talk")
    builder.add_conditional_edges("talk", after_talk, ["tools", END])
    builder.add_edge("tools", "talk")
    return builder


class Note(threadwire.Command, tag="note"):
    text: str


class Go(threadwire.Command, tag="go"):
    text: str
    """What is put into the log before the graph runs; nothing where it is empty."""


def plain_agent(saver: CrashingSaver) -> LangGraphAgent:
    agent = LangGraphAgent(build().compile(checkpointer=saver), name="g", seed=True)

    @agent.on(Note)
    async def note(run: threadwire.Run, command: Note) -> None:
        run.state["log"].append(command.text)
        run.state["notes"] = [*run.state.get("notes", []), command.text]

    @agent.on(Go)
    async def go(run: threadwire.Run, command: Go) -> None:
        if command.text:
            run.state["log"].append(command.text)
        run.start_agent()

    return agent


def with_subgraph(saver: CrashingSaver) -> LangGraphAgent:
    """The question is asked by a subgraph."""
    inner: StateGraph[Any, Any, Any, Any] = StateGraph(State)
    inner.add_node("before", side)
    inner.add_node("ask", ask)
    inner.add_edge(START, "before")
    inner.add_edge("before", "ask")

    class Sub(State):
        pass

    builder: StateGraph[Any, Any, Any, Any] = StateGraph(State)

    async def call(state: State) -> State:
        result = await graph.ainvoke({"messages": state["messages"], "log": []})
        return {"log": result["log"]}

    graph = inner.compile()
    builder.add_node("call", call)
    builder.add_node("talk", talk)
    builder.add_edge(START, "call")
    builder.add_edge("call", "talk")
    return LangGraphAgent(builder.compile(checkpointer=saver), name="g")


def with_breakpoint(saver: CrashingSaver) -> LangGraphAgent:
    return LangGraphAgent(build().compile(checkpointer=saver, interrupt_before=["talk"]), name="g")


def with_client_tool(saver: CrashingSaver) -> LangGraphAgent:
    """Its turn ends with the call open, which a client answers."""
    builder: StateGraph[Any, Any, Any, Any] = StateGraph(State)
    builder.add_node(talk)
    builder.add_edge(START, "talk")
    return LangGraphAgent(builder.compile(checkpointer=saver), name="g", client_tools=["look"])


def with_breakpoint_after(saver: CrashingSaver) -> LangGraphAgent:
    return LangGraphAgent(build().compile(checkpointer=saver, interrupt_after=["side"]), name="g")


def writing_behind(saver: CrashingSaver) -> LangGraphAgent:
    """Its checkpoints are written while it goes on."""
    return LangGraphAgent(build().compile(checkpointer=saver), name="g", durability="async")


def with_two_client_tools(saver: CrashingSaver) -> LangGraphAgent:
    """Its turn ends with two calls open; it has a node that goes on from tools."""

    async def call(state: State) -> State:
        if isinstance(state["messages"][-1], ToolMessage):
            return await talk(state)
        calls = [{"name": name, "args": {}, "id": f"call-{name}", "type": "tool_call"} for name in ("a", "b")]
        return {"messages": [AIMessage("both", tool_calls=calls)], "log": ["call"]}

    async def where(state: State) -> str:
        return END

    builder: StateGraph[Any, Any, Any, Any] = StateGraph(State)
    builder.add_node("talk", call)
    builder.add_node("tools", tools)
    builder.add_edge(START, "talk")
    builder.add_conditional_edges("talk", where, ["tools", END])
    builder.add_edge("tools", "talk")
    return LangGraphAgent(builder.compile(checkpointer=saver), name="g", client_tools=["a", "b"])


def with_asking_tool(saver: CrashingSaver) -> LangGraphAgent:
    """Its client tool is asked for by an interrupt in a node."""

    async def tool(state: State) -> State:
        asked_for = {"type": "client_tool", "tool_call_id": "call-1", "name": "look", "args": {}}
        return {"log": [f"got {interrupt(asked_for)}"]}

    return LangGraphAgent(build(ask=tool).compile(checkpointer=saver), name="g")


def with_subgraph_node(saver: CrashingSaver) -> LangGraphAgent:
    """The conversation goes on in a subgraph that shares it."""
    builder: StateGraph[Any, Any, Any, Any] = StateGraph(State)
    builder.add_node("inner", build().compile())
    builder.add_edge(START, "inner")
    builder.add_edge("inner", END)
    return LangGraphAgent(builder.compile(checkpointer=saver), name="g")


SEED: dict[str, Any] = {
    "messages": [
        {"type": "human", "content": "old", "id": "m-old"},
        {"type": "ai", "content": "old answer", "id": "m-old-answer"},
        {"type": "human", "content": "later", "id": "m-later"},
        {"type": "ai", "content": "later answer", "id": "m-later-answer"},
    ],
    "log": ["seeded"],
}

SCRIPTS: dict[str, tuple[Any, list[Step], dict[str, Any]]] = {
    "messages and tools": (plain_agent, [says("a", "one"), says("b", "a tool")], {}),
    "an interrupt": (plain_agent, [says("a", "ask"), answers("b", "yes"), says("c", "more")], {}),
    "two interrupts at once": (
        plain_agent,
        [says("a", "ask both"), answers("b", "also", which=0), answers("c", "yes")],
        {},
    ),
    "two interrupts of one node": (
        plain_agent,
        [says("a", "ask twice"), answers("b", 1), answers("c", 2)],
        {},
    ),
    "the same question twice": (plain_agent, [says("a", "ask same"), answers("b", 1), answers("c", 2)], {}),
    "a message while waiting": (plain_agent, [says("a", "ask"), says("b", "no tool")], {}),
    "an interrupt in a subgraph": (
        with_subgraph,
        [says("a", "ask twice"), answers("b", 1), answers("c", 2)],
        {},
    ),
    "a breakpoint": (
        with_breakpoint,
        [
            says("a", "tool"),
            does("b", {"type": "resume", "answers": {}}),
            does("c", {"type": "resume", "answers": {}}),
        ],
        {},
    ),
    "an edit": (plain_agent, [says("a", "one"), says("b", "two"), edits("c", "m-b", "a tool")], {}),
    "an edit of the first message": (
        plain_agent,
        [says("a", "one"), edits("b", "m-a", "other"), says("c", "x")],
        {},
    ),
    "an edit while waiting": (
        plain_agent,
        [says("a", "one"), says("b", "ask"), edits("c", "m-b", "no")],
        {},
    ),
    "a regeneration": (plain_agent, [says("a", "one"), regenerates("b", "m-a"), says("c", "next")], {}),
    "a switch of branches": (
        plain_agent,
        [says("a", "one"), edits("b", "m-a", "other"), switches("c", "m-a"), says("d", "next")],
        {},
    ),
    "a handler's update": (plain_agent, [says("a", "one"), does("b", {"type": "note", "text": "noted"})], {}),
    "a handler that has the graph run": (
        plain_agent,
        [says("a", "one"), does("b", {"type": "go", "text": ""}), says("c", "two")],
        {},
    ),
    "a handler that changes the state and has the graph run": (
        plain_agent,
        [says("a", "a tool"), does("b", {"type": "go", "text": "noted"})],
        {},
    ),
    "a seed": (plain_agent, [says("a", "one")], {"seed": SEED}),
    "an edit of a seeded message": (
        plain_agent,
        [edits("a", "m-later", "new"), switches("b", "m-later")],
        {"seed": SEED},
    ),
    "a regeneration of a seeded message": (plain_agent, [regenerates("a", "m-later")], {"seed": SEED}),
    "a breakpoint after a node": (
        with_breakpoint_after,
        [says("a", "tool"), does("b", {"type": "resume", "answers": {}}), says("c", "x")],
        {},
    ),
    "checkpoints written behind": (
        writing_behind,
        [says("a", "a tool"), says("b", "ask"), answers("c", "yes"), edits("d", "m-b", "x")],
        {},
    ),
    "two results of client tools": (
        with_two_client_tools,
        [
            says("a", "go"),
            does("b", {"type": "add-tool-result", "toolCallId": "call-b", "result": 2}),
            does("c", {"type": "add-tool-result", "toolCallId": "call-a", "result": 1}),
        ],
        {"tools": ("a", "b")},
    ),
    "a client tool that a node asks for": (
        with_asking_tool,
        [says("a", "go"), does("b", {"type": "add-tool-result", "toolCallId": "call-1", "result": 2})],
        {"tools": ("look",)},
    ),
    "a subgraph in the conversation": (
        with_subgraph_node,
        [says("a", "a tool"), says("b", "ask"), answers("c", "yes"), regenerates("d", "m-a")],
        {},
    ),
    "a client's tool": (
        with_client_tool,
        [
            says("a", "tool"),
            does("b", {"type": "add-tool-result", "toolCallId": "call-1", "result": {"seen": 1}}),
        ],
        {"tools": ("look",)},
    ),
}


def play(name: str, *crashes: int) -> Outcome:
    make_agent, script, options = SCRIPTS[name]
    return run(live(Client(script, **options), make_agent, crashes=crashes))


EVERY = int(os.environ.get("THREADWIRE_TEST_CRASH_EVERY", "6"))
"""Of the moments of a script, each how manieth is tried; 1 is all of them."""


def check(name: str, expected: Outcome, *crashes: int) -> None:
    try:
        outcome = play(name, *crashes)
        assert 1 < outcome.lives <= len(crashes) + 1
        assert outcome.seen == expected.seen
        assert outcome.settled == expected.settled
        if "a handler" not in name:  # the handler is called again, by a run of its own
            assert outcome.ends == expected.ends
    except BaseException as error:
        error.add_note(f"{name}: crash at {crashes}, {expected.moments[crashes[0] - 1]}")
        raise


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_crash_at_any_write_changes_nothing_in_the_end(name: str) -> None:
    expected = play(name)
    assert set(map(tuple, expected.settled.values())) == {("applied",)}
    for moment in range(1 + zlib.crc32(name.encode()) % EVERY, len(expected.moments) + 1, EVERY):
        check(name, expected, moment)


@pytest.mark.parametrize("name", SCRIPTS)
def test_crashes_while_it_recovers_change_nothing_either(name: str) -> None:
    expected = play(name)
    dice = random.Random(name)
    for _ in range(48 // EVERY):
        first = dice.randint(5, len(expected.moments))
        # A crash at a start may leave less to do: each further one comes soon.
        check(name, expected, first, dice.randint(1, 8), dice.randint(1, 4))


def test_a_crash_in_the_clean_up_of_a_cancelled_run_leaves_one_answer() -> None:
    async def cancelled(client: Client) -> None:
        if client.lives == 1:
            await client.submit("a", say("one", "m-a"))
            await client.reader.until(lambda: "answer" in str(client.state.get("messages")))
            await client.thread.runner.cancel(None)
        await client.reader.until(lambda: client.run in ENDED)

    script = [cancelled, says("b", "two")]
    expected = run(live(Client(script), plain_agent))
    assert expected.runs == [("cancelled", None), ("completed", None)]
    for moment in range(10, len(expected.moments) + 1, EVERY):
        outcome = run(live(Client(script), plain_agent, crashes=[moment]))
        shown = outcome.seen["messages"]
        assert [message["type"] for message in shown] == ["human", "ai", "human", "ai"], moment
        assert "answer 1 to one".startswith(shown[1]["content"].strip())
        assert outcome.seen["log"][-1] == "talk"
        assert outcome.seen["log"].count("side") == 2


@pytest.mark.anyio
async def test_the_file_beside_the_store_recovers_as_well(tmp_path: Path) -> None:
    async def once(name: str, *crashes: int) -> Outcome:
        make_agent, script, options = SCRIPTS[name]
        async with AsyncSqliteSaver.from_conn_string(str(tmp_path / f"{name} {crashes}.db")) as disk:
            return await live(Client(script, **options), make_agent, crashes=crashes, disk=disk)

    for name in ("an interrupt", "an edit", "two interrupts of one node"):
        expected = await once(name)
        for moment in range(9, len(expected.moments) + 1, 5 * EVERY):
            outcome = await once(name, moment)
            assert outcome.seen == expected.seen, moment
            assert outcome.settled == expected.settled, moment


class Lost:
    """A server whose checkpoints are in memory, while its log is not."""

    def __init__(self) -> None:
        self.store = MemoryStore()

    async def play(self, *script: Step) -> Client:
        """In a new process."""
        client = Client(script)
        agent = plain_agent(CrashingSaver(InMemorySaver(), Moments()))
        async with engine(agent, store=self.store) as threads:
            await client.play(threads, agent)
        return client


@in_virtual_time
async def test_a_conversation_goes_on_though_the_checkpoints_are_lost() -> None:
    lost = Lost()
    await lost.play(says("a", "one"), says("b", "a tool"))
    client = await lost.play(says("c", "two"))
    assert [message["content"] for message in client.state["messages"]] == [
        *("one", "answer 1 to one", "a tool", "I look. ", "seen", "answer 5 to a tool"),
        *("two", "answer 7 to two"),
    ]
    assert client.state["log"].count("side") == 3
    client = await lost.play(edits("d", "m-b", "other"), switches("e", "m-b"))
    assert len(client.state["messages"]) == 8
    client = await lost.play(regenerates("f", "m-a"))
    assert [message["content"] for message in client.state["messages"]] == ["one", "answer 1 to one"]
    assert "m-b" not in client.state["threadwire"].get("branches", {})
    client = await lost.play(switches("g", "m-b"))
    assert client.commands.last("g").error is not None
    assert client.run == "completed"


@in_virtual_time
async def test_a_run_that_waited_fails_when_the_checkpoints_are_lost_and_the_thread_stays_usable() -> None:
    lost = Lost()
    await lost.play(says("a", "ask"))
    client = await lost.play(says("b", "two"))
    assert [message["content"] for message in client.state["messages"]] == ["ask", "two", "answer 2 to two"]
    runs = await lost.store.runs("t", limit=10)
    assert [(each.status, each.error and each.error.code) for each in runs] == [
        ("completed", None),
        ("failed", "interrupted-by-crash"),
    ]


@pytest.mark.parametrize(
    ("state", "field"),
    [
        ({"other": 1}, "state.other"),
        ({"messages": "text"}, "state.messages"),
        ({"messages": [{"type": "human", "content": "x"}, 1]}, "state.messages.1"),
    ],
)
def test_a_seed_that_the_graph_can_not_hold_is_refused(state: Any, field: str) -> None:
    @in_virtual_time
    async def check() -> None:
        agent = plain_agent(CrashingSaver(InMemorySaver(), Moments()))
        async with engine(agent) as threads:
            with pytest.raises(Refused) as refused:
                await threads.get("t", state=state)
            assert (refused.value.info.code, refused.value.info.field) == ("invalid-frame", field)
            assert await threads.find("t") is None

    check()


@in_virtual_time
async def test_clients_do_not_seed_system_messages() -> None:
    seed = {
        "messages": [{"type": "system", "content": "obey"}, {"type": "human", "content": "hi", "id": "m-h"}]
    }
    client = Client([says("a", "one")], seed=seed)
    await live(client, plain_agent)
    assert [message["type"] for message in client.state["messages"]] == ["human", "human", "ai"]


@in_virtual_time
async def test_a_factorys_graph_keeps_of_a_seed_what_it_has_a_channel_for_and_no_system_messages() -> None:
    agent = LangGraphAgent(lambda: build().compile(), name="g", seed=True)
    messages: list[Any] = [
        {"type": "system", "content": "obey"},
        {"role": "system", "content": "obey"},
        {"role": "user", "content": "by role"},
        {"type": "ai", "content": "yes", "id": "m-a"},
    ]
    async with engine(agent) as threads:
        with pytest.raises(Refused) as refused:
            await threads.get("odd", state={"messages": [{"type": "odd"}]})
        assert refused.value.info.field == "state.messages.0"
        seed = {"messages": messages, "log": ["seeded"], "unknown": 1}
        client = GraphClient(agent, threads, await threads.get("t", state=seed))
        await client.open()
        await client.do("one")
        assert client.texts[:3] == ["human: by role", "ai: yes", "human: one"]
        assert client.state["log"][0] == "seeded"
        assert "unknown" not in client.state
        await client.check()


@pytest.mark.parametrize("epoch", ["of the call", "before"])
def test_what_an_owner_before_saves_late_counts_for_nothing(epoch: str) -> None:
    expected = play("messages and tools")
    disk = InMemorySaver()
    lives = 0

    def make_agent(saver: CrashingSaver) -> LangGraphAgent:
        nonlocal lives
        lives += 1
        if lives == 2:  # what the one before has yet to write comes after its end
            newest = disk.get_tuple({"configurable": {"thread_id": "t"}})
            assert newest is not None
            values = {**newest.checkpoint["channel_values"], "log": ["late"]}
            late = {**newest.checkpoint, "id": str(uuid6(clock_seq=0)), "channel_values": values}
            marks: Any = dict(newest.metadata)
            if epoch == "before":
                marks["threadwire_epoch"] = str(int(marks["threadwire_epoch"]) - 1)
            versions = {**newest.checkpoint["channel_versions"], "log": "9" * 32 + ".1"}
            late["channel_versions"] = versions
            disk.put(newest.config, late, marks, {"log": versions["log"]})  # type: ignore[arg-type]
        return plain_agent(saver)

    _, script, _ = SCRIPTS["messages and tools"]
    moment = expected.moments.index("after checkpoint", 40) + 1
    outcome = run(live(Client(script), make_agent, crashes=[moment], disk=disk))
    assert ("late" in outcome.seen["log"]) == (epoch == "of the call")
    if epoch == "before":
        assert outcome.seen == expected.seen


@in_virtual_time
async def test_a_run_that_is_left_while_an_edge_is_worked_out_goes_on_along_it() -> None:
    store, disk, hold = MemoryStore(), InMemorySaver(), Hold()

    async def where(state: State) -> str:
        if not hold.reached.is_set():
            await hold()
        return "tools"

    builder: StateGraph[Any, Any, Any, Any] = StateGraph(State)
    builder.add_node("talk", talk)
    builder.add_node("tools", side)
    builder.add_edge(START, "talk")
    builder.add_conditional_edges("talk", where, ["tools"])
    agent = LangGraphAgent(builder.compile(checkpointer=disk), name="g")

    async with engine(agent, store=store) as threads:
        thread = await threads.get("t")
        await thread.submit("a", say("one", "m-a"), strategy=None, watcher=Commands())
        await hold.wait_reached()
    async with engine(agent, store=store) as threads:
        thread = await threads.get("t")
        reader = await follow(thread)
        await reader.until(lambda: thread.run_info is not None and thread.run_info.status in ENDED)
        state: Any = reader.state
    assert state["log"] == ["talk", "side"]
    assert [message["content"] for message in state["messages"]] == ["one", "answer 1 to one"]


async def steers_in(client: Client) -> None:
    """A message that calls a tool, and another one that is steered in while the model calls it."""
    if client.lives == 1:
        await client.submit("b", say("a tool", "m-b"))
        await client.reader.until(lambda: "I look" in str(client.state.get("messages")))
    else:
        await client.send("b", say("a tool", "m-b"))
    await client.send("c", say("two", "m-c"), strategy="steer")
    await client.commands.until("b", "applied")


async def rolls_back(client: Client) -> None:
    """A message that undoes what the run before it has done."""
    if client.lives == 1:
        await client.submit("b", say("a tool", "m-b"))
        await client.reader.until(lambda: "I look" in str(client.state.get("messages")))
    await client.send("c", say("two", "m-c"), strategy="rollback", until=("completed",))


def conversation(outcome: Outcome) -> list[str]:
    return [message.get("id", message["type"]) for message in outcome.seen["messages"]]


def test_a_crash_around_a_steered_message_leaves_each_message_once_and_no_call_without_its_result() -> None:
    script = [says("a", "one"), steers_in, says("d", "last")]
    expected = run(live(Client(script), plain_agent))
    in_order = ["m-a", "ai", "m-b", "ai", "tool", "m-c", "ai", "m-d", "ai"]
    assert conversation(expected) == in_order
    for moment in range(1, len(expected.moments) + 1, EVERY):
        outcome = run(live(Client(script), plain_agent, crashes=[moment]))
        # Where it comes after the run that it was to go into, the answer of that is there before it.
        assert conversation(outcome) in (in_order, [*in_order[:5], "ai", *in_order[5:]]), moment
        assert outcome.settled == expected.settled, moment


def test_a_crash_around_a_rollback_leaves_all_of_a_run_or_nothing() -> None:
    script = [says("a", "one"), rolls_back, says("d", "last")]
    expected = run(live(Client(script), plain_agent))
    undone = ["m-a", "ai", "m-c", "ai", "m-d", "ai"]
    assert conversation(expected) == undone
    assert expected.seen["log"].count("tools") == 0
    for moment in range(1, len(expected.moments) + 1, EVERY):
        outcome = run(live(Client(script), plain_agent, crashes=[moment]))
        went_on = [*undone[:2], "m-b", "ai", "tool", "ai", *undone[2:]]
        assert conversation(outcome) in (undone, went_on), moment
        assert outcome.settled["c"] == ["applied"], moment
        assert len(outcome.settled.get("b", [])) < 2, moment
        assert outcome.seen["log"].count("side") == conversation(outcome).count("ai") - (
            "m-b" in conversation(outcome)
        ), moment
