"""The assistant's graph: real tools, several steps, progress, and a postcard that waits for approval."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import AsyncIterator
from typing import Any

import pytest
from langchain_core.messages import AIMessage, AIMessageChunk, ToolMessage
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.types import Command

from threadwire_agents.demos.assistant import assistant, chosen_model
from threadwire_agents.demos.local_model import LocalModel

pytestmark = pytest.mark.anyio

WEATHER = "What's the weather in Lisbon, and how much is 15 % of the temperature?"
TRIP = "How far is it from Paris to Rome by train in hours at 120 km/h?"
POSTCARD = "Send Ada a postcard about the weather in Oslo in July"
TEXT = "Greetings from Oslo! It is typically 18 °C here in July."


class Talk:
    """One conversation with the graph."""

    def __init__(self) -> None:
        self.graph = assistant(LocalModel(pace_s=0))
        self.graph.checkpointer = InMemorySaver()
        self.config: Any = {"configurable": {"thread_id": "t"}, "recursion_limit": 25}
        self.interrupts: tuple[Any, ...] = ()

    async def say(self, text: Any) -> list[Any]:
        """The messages that followed."""
        before = len((await self.graph.aget_state(self.config)).values.get("messages", ()))
        return await self._run({"messages": [{"role": "user", "content": text}]}, before + 1)

    async def decide(self, **decision: Any) -> list[Any]:
        before = len((await self.graph.aget_state(self.config)).values["messages"])
        return await self._run(Command(resume={"decisions": [decision]}), before)

    async def _run(self, input: Any, before: int) -> list[Any]:
        state = await self.graph.ainvoke(input, self.config)
        self.interrupts = tuple(state.get("__interrupt__", ()))
        return list(state["messages"][before:])

    async def stream(self, text: str, mode: str) -> AsyncIterator[Any]:
        input: Any = {"messages": [{"role": "user", "content": text}]}
        async for part in self.graph.astream(input, self.config, stream_mode=mode):  # type: ignore[call-overload]
            yield part

    async def postcards(self) -> list[Any]:
        return list((await self.graph.aget_state(self.config)).values.get("postcards", ()))


def calls(messages: list[Any]) -> list[list[str]]:
    return [
        [call["name"] for call in message.tool_calls]
        for message in messages
        if isinstance(message, AIMessage) and message.tool_calls
    ]


# answers


@pytest.mark.parametrize(
    ("question", "steps", "expected"),
    [
        (WEATHER, [["weather", "look_up_city"], ["calculate"]], ["17.5 °C", "2.625 °C", "Portugal"]),
        (TRIP, [["distance", "look_up_city", "look_up_city"], ["calculate"]], ["9.22 hours", "Italy"]),
        (
            "Which is bigger, Tokyo or Oslo?",
            [["look_up_city", "look_up_city"], ["calculate"]],
            ["19.7 times", "Japan"],
        ),
        (
            "Is it warmer in Cairo or Oslo in January?",
            [["weather", "weather", "look_up_city", "look_up_city"], ["calculate"]],
            ["17 °C warmer"],
        ),
        ("What is 2**10 and 7*6?", [["calculate", "calculate"]], ["1\u202f024", "42"]),
        (
            "How far is London from New York in miles?",
            [["distance", *["look_up_city"] * 2], ["calculate"]],
            ["miles"],
        ),
    ],
)
async def test_a_question_is_answered_with_the_results_of_its_tools(
    question: str, steps: list[list[str]], expected: list[str]
) -> None:
    messages = await Talk().say(question)
    assert calls(messages) == steps
    answer = messages[-1].content
    for words in expected:
        assert words in answer
    assert all(m.status == "success" for m in messages if isinstance(m, ToolMessage))


@pytest.mark.parametrize(
    ("question", "expected"),
    [
        ("What's the weather in Atlantis?", "no city 'Atlantis'"),
        ("Tell me about Lisbonn", "did you mean Lisbon"),
        ("What is 9**9**9?", "too large"),
        ("What is 1/0?", "divides by zero"),
    ],
)
async def test_what_a_tool_can_not_do_is_told(question: str, expected: str) -> None:
    messages = await Talk().say(question)
    assert any(m.status == "error" for m in messages if isinstance(m, ToolMessage))
    assert expected in messages[-1].content


@pytest.mark.parametrize(
    "text", ["", " ", "x" * 1_000_000, "你好", [{"type": "image_url", "image_url": "a"}], []]
)
async def test_odd_input_gets_an_answer(text: Any) -> None:
    (answer,) = await Talk().say(text)
    assert answer.content


async def test_the_conversation_goes_on() -> None:
    talk = Talk()
    await talk.say(TRIP)
    assert "Berlin" in (await talk.say("And to Berlin?"))[-1].content
    assert "20 % of that" in (await talk.say("How much is 20% of that?"))[-1].content


# streams


async def test_text_and_arguments_grow_while_they_stream() -> None:
    texts: dict[str, list[str]] = {}
    arguments: dict[tuple[str, int], list[str]] = {}
    talk = Talk()
    async for message, _ in talk.stream(TRIP, "messages"):
        if isinstance(message, AIMessageChunk):
            assert message.id
            texts.setdefault(message.id, []).append(str(message.content))
            for chunk in message.tool_call_chunks:
                assert chunk["index"] is not None
                arguments.setdefault((message.id, chunk["index"]), []).append(chunk["args"] or "")
    written = [m for m in (await talk.graph.aget_state(talk.config)).values["messages"] if m.type == "ai"]
    assert [m.id for m in written] == list(texts)
    for message in written:
        assert "".join(texts[message.id]) == message.content
        assert sum(map(bool, texts[message.id])) > 3
        for index, call in enumerate(message.tool_calls):
            pieces = arguments[message.id, index]
            assert len(pieces) > 2
            assert json.loads("".join(pieces)) == call["args"]
    assert len(arguments) == 4


async def test_the_weather_of_a_year_tells_its_progress() -> None:
    progress = [part async for part in Talk().stream(WEATHER, "custom")]
    assert [part["months"] for part in progress] == list(range(1, 13))
    assert all(part["city"] == "Lisbon" and part["of"] == 12 for part in progress)


# approval


async def test_a_postcard_waits_for_approval() -> None:
    talk = Talk()
    assert calls(await talk.say(POSTCARD)) == [["weather"], ["send_postcard"]]
    (interrupt,) = talk.interrupts
    (request,) = interrupt.value["action_requests"]
    assert (request["name"], request["args"]) == ("send_postcard", {"to": "Ada", "text": TEXT})
    assert interrupt.value["review_configs"][0]["allowed_decisions"] == [
        "approve",
        "edit",
        "reject",
        "respond",
    ]
    assert await talk.postcards() == []


async def test_an_approved_postcard_is_sent_and_counted() -> None:
    talk = Talk()
    for number in (1, 2):
        await talk.say(POSTCARD)
        messages = await talk.decide(type="approve")
        assert "to **Ada** is on its way:" in messages[-1].content
        assert (await talk.postcards())[-1] == {"number": number, "to": "Ada", "text": TEXT}
    assert len(await talk.postcards()) == 2


async def test_an_edited_postcard_is_sent_as_edited() -> None:
    talk = Talk()
    await talk.say(POSTCARD)
    edited = {"name": "send_postcard", "args": {"to": "Grace", "text": "Dear Grace,\nit is warm."}}
    answer = (await talk.decide(type="edit", edited_action=edited))[-1].content
    assert await talk.postcards() == [{"number": 1, "to": "Grace", "text": "Dear Grace,\nit is warm."}]
    assert "**Grace**" in answer
    assert "with your changes" in answer
    assert "> Dear Grace,\n> it is warm." in answer
    assert not talk.interrupts


@pytest.mark.parametrize(("reason", "told"), [({"message": "not now"}, "not now"), ({}, "rejected")])
async def test_a_rejected_postcard_is_not_sent(reason: dict[str, str], told: str) -> None:
    talk = Talk()
    await talk.say(POSTCARD)
    answer = (await talk.decide(type="reject", **reason))[-1].content
    assert "No postcard was sent" in answer
    assert told in answer
    assert await talk.postcards() == []
    assert not talk.interrupts
    await talk.say("to Grace")
    assert talk.interrupts[0].value["action_requests"][0]["args"] == {"to": "Grace", "text": TEXT}


async def test_a_response_stands_in_the_place_of_the_postcard() -> None:
    talk = Talk()
    await talk.say(POSTCARD)
    answer = (await talk.decide(type="respond", message="I told her myself"))[-1].content
    assert "No postcard was sent" in answer
    assert "> I told her myself" in answer
    assert await talk.postcards() == []


@pytest.mark.parametrize(
    ("args", "told"),
    [
        ({"to": " ", "text": "x"}, "needs somebody"),
        ({"to": "Ada", "text": "x" * 1001}, "room for 1000"),
        ({}, "to"),
    ],
)
async def test_an_edit_that_the_tool_refuses_is_told(args: dict[str, str], told: str) -> None:
    talk = Talk()
    await talk.say(POSTCARD)
    edited = {"name": "send_postcard", "args": args}
    answer = (await talk.decide(type="edit", edited_action=edited))[-1].content
    assert "No postcard was sent" in answer
    assert told in answer
    assert await talk.postcards() == []


async def test_a_new_question_in_the_place_of_a_decision_is_answered() -> None:
    talk = Talk()
    await talk.say(POSTCARD)
    messages = await talk.say("What is 2 + 2?")
    assert "**4**" in messages[-1].content
    assert await talk.postcards() == []


async def test_somebody_to_send_it_to_is_asked_for() -> None:
    talk = Talk()
    assert "To whom" in (await talk.say("Send a postcard"))[-1].content
    await talk.say("to Grace Hopper")
    assert talk.interrupts[0].value["action_requests"][0]["args"]["to"] == "Grace Hopper"


# the model


def test_the_stand_in_is_the_model_unless_another_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for value in (None, "", " "):
        monkeypatch.delenv("THREADWIRE_MODEL", raising=False)
        if value is not None:
            monkeypatch.setenv("THREADWIRE_MODEL", value)
        assert isinstance(chosen_model(), LocalModel)


def test_a_model_that_is_named_is_the_model(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[tuple[str, str]] = []
    named = LocalModel(pace_s=0)

    def init_chat_model(model: str, *, model_provider: str) -> LocalModel:
        made.append((model_provider, model))
        return named

    monkeypatch.setattr("threadwire_agents.demos.assistant.init_chat_model", init_chat_model)
    monkeypatch.setenv("THREADWIRE_MODEL", "ollama:qwen3:8b")
    assert chosen_model() is named
    assert made == [("ollama", "qwen3:8b")]


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("gpt-5", "must be provider:model"),
        ("openai:", "must be provider:model"),
        (":gpt-5", "must be provider:model"),
        ("nobody:gpt-5", "can't be used: Unsupported provider"),
        ("cohere:command", "can't be used: .*langchain-cohere"),
    ],
)
def test_a_model_that_can_not_be_used_is_one_clear_line(
    monkeypatch: pytest.MonkeyPatch, name: str, reason: str
) -> None:
    monkeypatch.setenv("THREADWIRE_MODEL", name)
    with pytest.raises(ValueError, match=f"^THREADWIRE_MODEL: '{name}' .*{reason}") as refused:
        assistant()
    assert "\n" not in str(refused.value)


def test_the_graph_runs_without_the_event_loop_too() -> None:
    graph = assistant(LocalModel(pace_s=0))
    answers: list[Any] = []
    runs = [
        threading.Thread(target=lambda: answers.append(graph.invoke({"messages": [("user", WEATHER)]})))
        for _ in range(2)
    ]
    for run in runs:
        run.start()
    for run in runs:
        run.join(60)
    assert ["2.625" in answer["messages"][-1].content for answer in answers] == [True, True]


def test_nothing_warns_and_nothing_is_asked_of_a_network() -> None:
    code = f"""
import socket
def refuse(*_): raise AssertionError("a network was asked")
socket.socket.connect = socket.getaddrinfo = refuse
from threadwire_agents.demos.assistant import assistant
from threadwire_agents.demos.local_model import LocalModel
graph = assistant(LocalModel(pace_s=0))
print(graph.invoke({{"messages": [("user", {WEATHER!r})]}})["messages"][-1].content)
"""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True, timeout=120
    )
    assert "2.625" in done.stdout
    assert done.stderr == ""
