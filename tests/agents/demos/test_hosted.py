"""The assistant as it is served: the document has what the graph has, approvals and edits included."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.support.engine import Commands, Reader, engine, follow, say
from threadwire.engine.thread import Thread
from threadwire_agents.demos.assistant import assistant
from threadwire_agents.demos.local_model import LocalModel
from threadwire_agents.langgraph import LangGraphAgent

pytestmark = pytest.mark.anyio

WEATHER = "What's the weather in Lisbon, and how much is 15 % of the temperature?"
POSTCARD = 'Send Ada a postcard saying "Hi"'


class Talk:
    """A thread, one who follows it, and the commands that were sent."""

    def __init__(self, thread: Thread, reader: Reader) -> None:
        self.thread = thread
        self.reader = reader
        self.commands = Commands()

    @property
    def state(self) -> Any:
        return self.reader.state

    @property
    def answer(self) -> str:
        return str(self.state["messages"][-1]["content"])

    async def send(self, body: Any, *statuses: str) -> None:
        """Sends a command, and waits for its run to have one of the statuses (default: completed)."""
        id = f"c{len(self.commands.seen)}"
        before = len(self.reader.runs)
        await self.thread.submit(id, body, strategy=None, watcher=self.commands)
        await self.commands.until(id, "applied")
        expected = statuses or ("completed",)
        await self.reader.until(
            lambda: any(run and run.status in expected for run in self.reader.runs[before:])
        )

    async def decide(self, **decision: Any) -> None:
        (id,) = self.state["threadwire"]["interrupts"]
        await self.send({"type": "resume", "answers": {id: {"decisions": [decision]}}})


@pytest.fixture
async def talk() -> AsyncIterator[Talk]:
    async with engine(LangGraphAgent(assistant(LocalModel(pace_s=0)), name="assistant")) as threads:
        thread = await threads.get("t")
        yield Talk(thread, await follow(thread))


async def test_a_question_is_answered_in_several_steps(talk: Talk) -> None:
    await talk.send(say(WEATHER))
    messages = talk.state["messages"]
    assert [m["type"] for m in messages] == ["human", "ai", "tool", "tool", "ai", "tool", "ai"]
    assert [len(m.get("tool_calls", ())) for m in messages] == [0, 2, 0, 0, 1, 0, 0]
    assert "**2.625 °C**" in talk.answer
    assert talk.state["threadwire"]["custom"][-1]["months"] == 12


async def test_an_approved_postcard_stands_in_the_state(talk: Talk) -> None:
    await talk.send(say(POSTCARD), "waiting")
    (interrupt,) = talk.state["threadwire"]["interrupts"].values()
    (request,) = interrupt["value"]["action_requests"]
    assert request["description"] == "Send this postcard to Ada?\n\nHi"
    assert talk.state["postcards"] == []
    await talk.decide(type="approve")
    assert talk.state["postcards"] == [{"number": 1, "to": "Ada", "text": "Hi"}]
    assert "on its way" in talk.answer


@pytest.mark.parametrize(
    ("decision", "postcards", "said"),
    [
        (
            {
                "type": "edit",
                "edited_action": {"name": "send_postcard", "args": {"to": "Grace", "text": "Ho"}},
            },
            [{"number": 1, "to": "Grace", "text": "Ho"}],
            "with your changes",
        ),
        ({"type": "reject", "message": "not now"}, [], "not now"),
        ({"type": "respond", "message": "I called her"}, [], "> I called her"),
    ],
)
async def test_other_decisions_come_to_sensible_ends(
    talk: Talk, decision: Any, postcards: Any, said: str
) -> None:
    await talk.send(say(POSTCARD), "waiting")
    await talk.decide(**decision)
    assert talk.state["postcards"] == postcards
    assert said in talk.answer
    await talk.send(say("2 + 2"))
    assert "**4**" in talk.answer


async def test_an_edited_question_is_answered_in_the_place_of_the_first(talk: Talk) -> None:
    await talk.send(say("2 + 2", id="first"))
    await talk.send({**say("3 + 3"), "sourceId": "first", "parentId": None})
    assert [m["content"] for m in talk.state["messages"] if m["type"] == "human"] == ["3 + 3"]
    assert "**6**" in talk.answer


async def test_an_answer_given_again_is_the_same(talk: Talk) -> None:
    await talk.send(say(WEATHER, id="first"))
    before = talk.answer
    await talk.send({"type": "regenerate", "parentId": "first"})
    assert talk.answer == before
    assert len(talk.state["messages"]) == 7
