"""The stand-in for a language model streams as one does, calls tools, and copes with any conversation."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from langchain_core.messages import (
    AIMessage,
    AIMessageChunk,
    BaseMessage,
    HumanMessage,
    SystemMessage,
    ToolMessage,
)
from langchain_core.runnables import Runnable

from threadwire_agents.demos.local_model import LocalModel
from threadwire_agents.demos.tools import TOOLS

pytestmark = pytest.mark.anyio

WEATHER = "What's the weather in Lisbon, and how much is 15 % of the temperature?"
TRIP = "How far is it from Paris to Rome by train in hours at 120 km/h?"
POSTCARD = 'Send Ada a postcard saying "Hi"'

model = LocalModel(pace_s=0)
bound: Runnable[Any, AIMessage] = model.bind_tools(TOOLS)


def reply(*messages: BaseMessage | str) -> AIMessage:
    return bound.invoke([HumanMessage(m) if isinstance(m, str) else m for m in messages])


def called(message: AIMessage) -> list[tuple[str, dict[str, Any]]]:
    return [(call["name"], call["args"]) for call in message.tool_calls]


def results(message: AIMessage, answers: dict[str, Any], *, status: Any = "success") -> list[ToolMessage]:
    """A tool message for each call, by the tool's name."""
    return [
        ToolMessage(
            answer if isinstance(answer := answers[call["name"]], str) else json.dumps(answer),
            tool_call_id=str(call["id"]),
            status=status,
        )
        for call in message.tool_calls
    ]


FACTS = {"name": "Lisbon", "country": "Portugal", "population": 546_000, "position": "here"}
TYPICAL = {
    "city": "Lisbon",
    "temperature_c": 17.5,
    "coldest": {"month": "January", "temperature_c": 12},
    "warmest": {"month": "August", "temperature_c": 24},
}
ANSWERS = {
    "weather": TYPICAL,
    "look_up_city": FACTS,
    "calculate": {"expression": "17.5 * 15 / 100", "result": 2.625},
    "distance": {"a": "Paris", "b": "Rome", "km": 1106},
    "send_postcard": {"number": 1, "to": "Ada", "text": "Hi"},
}


def played(question: str, answers: dict[str, Any] = ANSWERS, *, status: Any = "success") -> list[BaseMessage]:
    """A whole turn, to the message without calls."""
    messages: list[BaseMessage] = [HumanMessage(question)]
    for _ in range(5):
        messages.append(answer := reply(*messages))
        if not answer.tool_calls:
            return messages
        messages.extend(results(answer, answers, status=status))
    raise AssertionError("no end of calls")


# the stream


@pytest.mark.parametrize("question", [WEATHER, TRIP, POSTCARD, "hello", "", "x" * 10_000])
async def test_the_stream_adds_up_to_the_reply(question: str) -> None:
    whole = reply(question)
    chunks = [chunk async for chunk in bound.astream([HumanMessage(question)])]
    assert len(chunks) > 5
    total: Any = chunks[0]
    for chunk in chunks[1:]:
        total += chunk
    for streamed in (total, *[sum_of(list(bound.stream([HumanMessage(question)])))]):
        assert streamed.content == whole.content
        assert streamed.tool_calls == whole.tool_calls
        assert streamed.usage_metadata == whole.usage_metadata
    assert (await bound.ainvoke([HumanMessage(question)])).content == whole.content


def sum_of(chunks: Sequence[Any]) -> Any:
    total = chunks[0]
    for chunk in chunks[1:]:
        total += chunk
    return total


def test_arguments_come_in_pieces_after_the_name_and_the_id() -> None:
    chunks = [chunk for chunk in bound.stream([HumanMessage(TRIP)]) if isinstance(chunk, AIMessageChunk)]
    fragments = [fragment for chunk in chunks for fragment in chunk.tool_call_chunks]
    calls = reply(TRIP).tool_calls
    assert len(calls) == 3
    assert [fragment["index"] for fragment in fragments] == sorted(f["index"] or 0 for f in fragments)
    for index, call in enumerate(calls):
        first, *pieces = [fragment for fragment in fragments if fragment["index"] == index]
        assert (first["name"], first["id"], first["args"]) == (call["name"], call["id"], "")
        assert len(pieces) > 1
        assert all(piece["name"] is None and piece["id"] is None for piece in pieces)
        assert json.loads("".join(str(piece["args"]) for piece in pieces)) == call["args"]


def test_usage_and_the_reason_of_the_end_come_with_the_last_chunk_only() -> None:
    *before, last = [
        chunk for chunk in bound.stream([HumanMessage(TRIP)]) if isinstance(chunk, AIMessageChunk)
    ]
    assert not any(chunk.usage_metadata for chunk in before)
    assert last.usage_metadata is not None
    usage = last.usage_metadata
    assert usage["input_tokens"] > 5
    assert usage["output_tokens"] == len(before)
    assert usage["total_tokens"] == usage["input_tokens"] + usage["output_tokens"]
    assert last.response_metadata["finish_reason"] == "tool_calls"
    assert last.chunk_position == "last"
    assert reply("hello").response_metadata["finish_reason"] == "stop"


def test_the_same_conversation_gets_the_same_reply() -> None:
    first, second = ([m.model_dump(exclude={"id"}) for m in played(TRIP)] for _ in range(2))
    assert first == second


def test_text_ends_before_a_stop_sequence() -> None:
    assert bound.invoke("hello", stop=["!"]).content == "Hello"


# tools


def test_independent_calls_come_together_and_dependent_ones_after() -> None:
    messages = [HumanMessage(WEATHER), first := reply(WEATHER)]
    assert called(first) == [("weather", {"city": "Lisbon"}), ("look_up_city", {"name": "Lisbon"})]
    messages += results(first, ANSWERS)
    messages.append(second := reply(*messages))
    assert called(second) == [("calculate", {"expression": "17.5 * 15 / 100"})]
    answer = reply(*messages, *results(second, ANSWERS))
    assert not answer.tool_calls
    assert "**17.5 °C**" in answer.content
    assert "**2.625 °C**" in answer.content
    assert "not a forecast" in answer.content


def test_results_count_in_any_order() -> None:
    first = reply(TRIP)
    back = results(first, ANSWERS)
    one, other = (reply(TRIP, first, *order) for order in (back, back[::-1]))
    assert called(one) == called(other) == [("calculate", {"expression": "1106 / 120"})]


def test_the_same_question_again_is_worked_on_again() -> None:
    turn = played(WEATHER)
    again = reply(*turn, WEATHER)
    assert called(again) == called(turn[1])  # type: ignore[arg-type]
    ids = [call["id"] for m in (turn[1], again) if isinstance(m, AIMessage) for call in m.tool_calls]
    assert len(set(ids)) == len(ids)


def test_a_follow_up_is_understood_after_the_turn_before() -> None:
    assert called(reply(*played(WEATHER), "And in Rome?"))[0] == ("weather", {"city": "Rome"})


@pytest.mark.parametrize(
    ("question", "answers", "said"),
    [
        ("Please book a table in Lisbon", ANSWERS, "I have no rule for that"),
        ("Lisbon", ANSWERS, "lies in Portugal"),
        ("How long does it take from Paris to Rome?", ANSWERS, "depends on the speed"),
        (
            "I'm going to Lisbon in May, what shall I pack?",
            {**ANSWERS, "weather": {**TYPICAL, "month": "May"}},
            "In May",
        ),
    ],
)
def test_what_it_was_not_told_or_can_not_do_is_said(
    question: str, answers: dict[str, Any], said: str
) -> None:
    assert said in str(played(question, answers)[-1].content)


def test_an_edited_question_is_answered_as_it_is_now() -> None:
    assert called(reply(HumanMessage("What's 2+2?", id="same"))) == [("calculate", {"expression": "2+2"})]
    assert called(reply(HumanMessage("What's 3+3?", id="same"))) == [("calculate", {"expression": "3+3"})]


@pytest.mark.parametrize("question", [WEATHER, TRIP, POSTCARD, "2 + 2", "Which is bigger, Tokyo or Oslo?"])
@pytest.mark.parametrize(
    ("answer", "status"),
    [
        ("it broke", "error"),
        ("", "error"),
        ("", "success"),
        ("it is raining", "success"),
        ("null", "success"),
        ("[" * 100_000, "success"),
        ("{}", "success"),
        (
            '{"city": 1, "km": "x", "a": null, "b": [], "result": {}, "population": "?"}',
            "success",
        ),
        ("x" * 100_000, "error"),
    ],
)
def test_a_tool_that_answers_nonsense_or_an_error_leads_to_an_answer(
    question: str, answer: str, status: str
) -> None:
    last = played(question, dict.fromkeys(ANSWERS, answer), status=status)[-1]
    assert 0 < len(str(last.content)) < 2000
    if status == "error" and answer == "it broke":
        assert "it broke" in str(last.content)


def test_a_call_without_a_result_is_not_made_again() -> None:
    first = reply("2 + 2")
    answer = reply("2 + 2", first)
    assert not answer.tool_calls
    assert "no result came back" in answer.content


def test_without_a_tool_that_it_needs_it_says_so() -> None:
    for tools in (model, model.bind_tools(TOOLS, tool_choice="none"), model.bind_tools([TOOLS[1]])):
        answer = tools.invoke("2 + 2")
        assert not answer.tool_calls
        assert "no tool 'calculate'" in answer.content


# approvals


def test_a_rejected_postcard_is_not_tried_again() -> None:
    refused = "User rejected the tool call for `send_postcard` with reason: too short"
    last = played(POSTCARD, {"send_postcard": refused}, status="error")[-1]
    assert "No postcard was sent" in last.content
    assert "too short" in last.content


def test_changes_of_a_reviewer_are_told_also_where_the_message_was_changed() -> None:
    messages = [HumanMessage(POSTCARD), call := reply(POSTCARD)]
    back = results(
        call,
        {
            "send_postcard": "Note: it was changed.\n\nTool response:\n"
            + json.dumps({"to": "Grace", "text": "Dear"})
        },
    )
    call.tool_calls[0]["args"] = {"to": "Grace", "text": "Dear"}
    answer = reply(*messages, *back)
    assert not answer.tool_calls
    assert "**Grace**" in answer.content
    assert "with your changes" in answer.content


# small talk and odd input


@pytest.mark.parametrize(
    "text", ["Are you a real AI?", "Which model are you?", "who are you", "are you a bot?"]
)
def test_it_says_that_it_is_a_stand_in(text: str) -> None:
    answer = str(reply(text).content)
    assert "no language model" in answer
    assert "stand-in" in answer
    assert "THREADWIRE_MODEL" in answer


@pytest.mark.parametrize("text", ["hello", "help", "", "   ", "tell me a joke", "???", "🙂", "\x00"])
def test_small_talk_is_answered_with_what_it_can_do(text: str) -> None:
    answer = reply(text)
    assert not answer.tool_calls
    assert WEATHER in str(answer.content)


@pytest.mark.parametrize("text", ["東京の天気は？", "Bonjour, comment allez vous", "Как дела?"])
def test_other_languages_are_told_that_it_reads_english(text: str) -> None:
    assert "English only" in str(reply(text).content)


IMAGE = {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}}


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ([IMAGE], "read text only"),
        ([{"type": "text", "text": "hello"}, IMAGE], "read text only"),
        ([{"type": "text", "text": "hello"}], "Hello!"),
        (["hello"], "Hello!"),
        ([], "I can use a few tools"),
    ],
)
def test_content_in_blocks_is_read_for_its_text(content: list[Any], expected: str) -> None:
    assert expected in str(reply(HumanMessage(content)).content)


def test_images_beside_a_question_are_mentioned_in_the_answer() -> None:
    question = HumanMessage([{"type": "text", "text": "2 + 2"}, IMAGE])
    call = reply(question)
    answer = str(reply(question, call, *results(call, {"calculate": {"result": 4}})).content)
    assert "**4**" in answer
    assert "could not read" in answer


@pytest.mark.parametrize(
    "messages",
    [
        [SystemMessage("You are a pirate.")],
        [AIMessage("hello")],
        [ToolMessage("lost", tool_call_id="x")],
        [HumanMessage("hi"), ToolMessage("lost", tool_call_id="x"), SystemMessage("be brief")],
    ],
)
def test_conversations_of_an_odd_form_get_a_reply(messages: list[BaseMessage]) -> None:
    assert reply(*messages).content


@settings(max_examples=100, deadline=None)
@given(
    st.lists(
        st.sampled_from([WEATHER, TRIP, POSTCARD, "And in Rome?", "to Ada", "2 + 2", "thanks"])
        | st.text(max_size=60),
        max_size=4,
    )
)
def test_any_conversation_comes_to_an_end(texts: list[str]) -> None:
    messages: list[BaseMessage] = []
    for text in texts:
        messages.append(HumanMessage(text))
        for _ in range(4):
            messages.append(answer := reply(*messages))
            assert answer.content
            if not answer.tool_calls:
                break
            messages.extend(results(answer, ANSWERS))
        else:
            raise AssertionError("no end of calls")
