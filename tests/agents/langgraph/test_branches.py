"""Edit, regenerate and switch: where a conversation goes another way, and the way back."""

# PROTOCOL §15.5
from __future__ import annotations

import operator
from collections.abc import Iterable
from typing import Annotated, Any, TypedDict

import pytest
from langchain_core.messages import AIMessage, AnyMessage, BaseMessage, HumanMessage
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import END, START, StateGraph
from langgraph.graph.message import add_messages
from langgraph.types import interrupt

from tests.support.crashes import CrashingSaver, Moments
from tests.support.engine import engine
from tests.support.graphs import Piece, ScriptedModel, last_piece
from tests.support.lives import Client, Step, answers, does, edits, regenerates, says, switches
from tests.support.virtual_time import in_virtual_time
from threadwire.stores.memory import MemoryStore
from threadwire_agents.langgraph import LangGraphAgent

pytestmark = [pytest.mark.spec("15.5")]


class State(TypedDict, total=False):
    messages: Annotated[list[AnyMessage], add_messages]
    log: Annotated[list[str], operator.add]


class Bench:
    """One thread of a graph that answers each message with a text of its own, over restarts."""

    def __init__(self, *, seed: Any = None) -> None:
        self.calls = 0
        self.fails = False
        self.store = MemoryStore()
        self.disk = InMemorySaver()
        self.seed = seed
        self.agents: list[LangGraphAgent] = []
        self.saver = CrashingSaver(self.disk, Moments())

    def agent(self) -> LangGraphAgent:
        self.saver = CrashingSaver(self.disk, Moments())
        builder: StateGraph[Any, Any, Any, Any] = StateGraph(State)
        builder.add_node("ask", self.ask)
        builder.add_node("talk", self.talk)
        builder.add_edge(START, "ask")
        builder.add_edge("ask", "talk")
        builder.add_edge("talk", END)
        return LangGraphAgent(builder.compile(checkpointer=self.saver), name="g", seed=True)

    async def ask(self, state: State) -> State:
        text = str(state["messages"][-1].content)
        return {"log": [f"given {interrupt('sure?')}" if "ask" in text else "not asked"]}

    async def talk(self, state: State) -> State:
        text = str(state["messages"][-1].content)
        if text == "together":
            return {
                "messages": [
                    AIMessage("first", id=f"first-{self.calls}"),
                    HumanMessage("between", id="m-between"),
                    AIMessage("last", id="last"),
                ]
            }
        model = ScriptedModel(script=self.speak)
        return {"messages": [await model.ainvoke(state["messages"])], "log": ["talk"]}

    def speak(self, messages: list[BaseMessage]) -> Iterable[Piece]:
        self.calls += 1
        yield f"{self.calls}: "
        if self.fails:
            yield RuntimeError("the model is out")
        yield str(messages[-1].content)
        yield last_piece()

    async def play(self, *script: Step) -> Client:
        """What a client has seen after the script, in a new process."""
        client = Client(script, seed=self.seed)
        agent = self.agent()
        async with engine(agent, store=self.store) as threads:
            await client.play(threads, agent)
        return client


def texts(client: Client) -> list[str]:
    return [message["content"] for message in client.state["messages"]]


def group(client: Client, place: int) -> list[str]:
    """The ids of the messages that stand beside each other at a place."""
    id = client.state["messages"][place]["id"]
    siblings: list[str] = client.own.get("branches", {}).get(id, [])
    assert all(client.own["branches"][sibling] == siblings for sibling in siblings)
    return siblings


def refused(client: Client, id: str) -> tuple[str, str | None]:
    error = client.commands.last(id).error
    assert error is not None
    return error.code, error.field


@in_virtual_time
async def test_an_edit_takes_the_place_of_the_message_and_all_after_it() -> None:
    bench = Bench()
    client = await bench.play(says("a", "one"), says("b", "two"), edits("c", "m-a", "other"))
    assert texts(client) == ["other", "3: other"]
    assert client.state["log"] == ["not asked", "talk"]
    assert group(client, 0) == ["m-a", "m-c"]
    assert group(client, 1) == []


@in_virtual_time
async def test_branches_within_branches_are_found_again_after_restarts() -> None:
    bench = Bench()
    client = await bench.play(says("a", "one"), says("b", "two"), edits("c", "m-b", "two again"))
    client = await bench.play(edits("d", "m-a", "one again"), says("e", "more"))
    assert texts(client) == ["one again", "4: one again", "more", "5: more"]
    client = await bench.play(switches("f", "m-a"))
    assert texts(client) == ["one", "1: one", "two again", "3: two again"]
    assert group(client, 2) == ["m-b", "m-c"]
    client = await bench.play(switches("g", "m-b"), says("h", "on"))
    assert texts(client) == ["one", "1: one", "two", "2: two", "on", "6: on"]
    client = await bench.play(switches("i", "m-d"))
    assert texts(client) == ["one again", "4: one again", "more", "5: more"]
    client = await bench.play(switches("j", "m-b"), says("k", "still"))
    assert texts(client) == ["one", "1: one", "two", "2: two", "on", "6: on", "still", "7: still"]
    client = await bench.play(switches("l", "m-c"))
    assert texts(client) == ["one", "1: one", "two again", "3: two again"]


@in_virtual_time
async def test_a_branch_is_left_as_it_was_when_last_seen() -> None:
    bench = Bench()
    client = await bench.play(
        says("a", "one"),
        says("b", "two"),
        edits("c", "m-b", "two again"),
        says("d", "later"),
        edits("e", "m-a", "one again"),
        switches("f", "m-c"),
    )
    assert texts(client) == ["one", "1: one", "two again", "3: two again", "later", "4: later"]
    client = await bench.play(switches("g", "m-e"))
    assert texts(client) == ["one again", "5: one again"]


@in_virtual_time
async def test_each_regeneration_stands_beside_the_answers_before_it() -> None:
    bench = Bench()
    client = await bench.play(says("a", "one"), regenerates("b", "m-a"), regenerates("c", "m-a"))
    assert texts(client) == ["one", "3: one"]
    assert client.state["log"] == ["not asked", "talk"]
    ids = group(client, 1)
    assert len(ids) == 3
    assert ids[2] == client.state["messages"][1]["id"]
    client = await bench.play(switches("d", ids[0]), says("e", "on"))
    assert texts(client) == ["one", "1: one", "on", "4: on"]
    assert group(client, 1) == ids
    client = await bench.play(switches("f", ids[1]))
    assert texts(client) == ["one", "2: one"]
    client = await bench.play(switches("g", ids[0]))
    assert texts(client) == ["one", "1: one", "on", "4: on"]


@in_virtual_time
async def test_an_answer_that_failed_is_regenerated() -> None:
    bench = Bench()
    bench.fails = True
    client = await bench.play(says("a", "one"))
    assert client.run == "failed"
    assert texts(client) == ["one", "1: "]
    bench.fails = False
    client = await bench.play(regenerates("b", "m-a"), says("c", "two"))
    assert texts(client) == ["one", "2: one", "two", "3: two"]
    ids = group(client, 1)
    assert len(ids) == 2
    client = await bench.play(switches("d", ids[0]), says("e", "on"))
    assert texts(client) == ["one", "1: ", "on", "4: on"]


@in_virtual_time
async def test_an_edit_keeps_what_came_with_the_message_by_one_step() -> None:
    bench = Bench()
    client = await bench.play(says("a", "together"), edits("b", "m-between", "other"))
    assert texts(client) == ["together", "first", "other", "1: other"]
    assert group(client, 2) == ["m-between", "m-b"]
    client = await bench.play(switches("c", "m-between"))
    assert texts(client) == ["together", "first", "between", "last"]


@in_virtual_time
async def test_an_edit_ends_a_run_that_waits() -> None:
    bench = Bench()
    client = await bench.play(says("a", "one"), says("b", "ask"), edits("c", "m-b", "fine"))
    assert texts(client) == ["one", "1: one", "fine", "2: fine"]
    assert "interrupts" not in client.own
    client = await bench.play(switches("d", "m-b"), says("e", "on"))
    assert texts(client) == ["one", "1: one", "ask", "on", "3: on"]


@in_virtual_time
async def test_an_answered_question_is_asked_again_when_its_message_is_regenerated() -> None:
    bench = Bench()
    client = await bench.play(
        says("a", "ask"), answers("b", "yes"), regenerates("c", "m-a"), answers("d", "no")
    )
    assert client.run == "completed"
    # The answer came after the node that asked.
    assert texts(client) == ["ask", "2: ask"]
    assert len(group(client, 1)) == 2


SEED = {
    "messages": [
        {"type": "human", "content": "old", "id": "m-old"},
        {"type": "ai", "content": "old answer", "id": "old-answer"},
        {"type": "human", "content": "later"},
        {"type": "ai", "content": "later answer"},
    ],
    "log": ["seeded"],
}


@in_virtual_time
async def test_seeded_messages_have_branches_too() -> None:
    bench = Bench(seed=SEED)
    client = await bench.play(says("a", "new"))
    assert texts(client) == ["old", "old answer", "later", "later answer", "new", "1: new"]
    later = client.state["messages"][2]["id"]
    client = await bench.play(edits("b", later, "other"))
    assert texts(client) == ["old", "old answer", "other", "2: other"]
    client = await bench.play(switches("c", later))
    assert texts(client) == ["old", "old answer", "later", "later answer", "new", "1: new"]
    client = await bench.play(regenerates("d", "m-old"))
    assert texts(client) == ["old", "3: old"]
    client = await bench.play(switches("e", "old-answer"), edits("f", "m-old", "first"))
    assert texts(client) == ["first", "4: first"]


UNKNOWN: dict[str, tuple[Any, str]] = {
    "edit": ({"type": "add-message", "message": {"parts": []}, "sourceId": "none"}, "command.sourceId"),
    "regenerate": ({"type": "regenerate", "parentId": "none"}, "command.parentId"),
    "switch": ({"type": "switch-branch", "messageId": "none"}, "command.messageId"),
}


@pytest.mark.parametrize("name", UNKNOWN)
def test_unknown_messages_are_refused(name: str) -> None:
    body, field = UNKNOWN[name]

    @in_virtual_time
    async def check() -> None:
        bench = Bench()
        client = await bench.play(says("a", "one"), does("b", body))
        assert refused(client, "b") == ("unknown-message", field)
        assert client.run == "completed"
        assert texts(client) == ["one", "1: one"]
        assert "branches" not in client.own

    check()


@in_virtual_time
async def test_a_switch_to_what_is_shown_changes_nothing() -> None:
    bench = Bench()
    client = await bench.play(says("a", "one"), switches("b", "m-a"))
    assert client.commands.last("b").status == "applied"
    assert texts(client) == ["one", "1: one"]


@in_virtual_time
async def test_an_edit_in_the_midst_of_250_turns_does_not_walk_through_the_history() -> None:
    few, many = Bench(), Bench()
    reads = []
    for bench, turns in ((few, 4), (many, 250)):
        await bench.play(*(says(f"s{turn}", f"turn {turn}") for turn in range(turns)))
        middle = turns // 2
        client = await bench.play(edits("e", f"m-s{middle}", "other"), regenerates("r", "m-e"))
        assert len(client.state["messages"]) == 2 * (middle + 1)
        reads.append(bench.saver.reads)
    assert reads[0] == reads[1]
