"""Messages of the document, read back; and the text of streamed arguments, which only the document has."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from langchain_core.messages import (
    AIMessage,
    BaseMessage,
    ChatMessage,
    FunctionMessage,
    HumanMessage,
    RemoveMessage,
    SystemMessage,
    ToolMessage,
)

from threadwire_agents.langgraph.message_json import merge_message, message_from_json, plain
from threadwire_agents.langgraph.serialise import message_to_json

CALL = {"name": "find", "args": {"city": "Paris"}, "id": "c1", "type": "tool_call"}


@pytest.mark.parametrize(
    "message",
    [
        HumanMessage("hi", id="1", name="n", additional_kwargs={"k": 1}),
        SystemMessage([{"type": "text", "text": "a"}]),
        AIMessage("", tool_calls=[CALL], response_metadata={"m": 1}),
        AIMessage("", invalid_tool_calls=[{"name": None, "args": "{", "id": None, "error": "no"}]),
        ToolMessage("x", tool_call_id="1", status="error", artifact={"a": 1}),
        RemoveMessage(id="1"),
        FunctionMessage("x", name="f"),
        ChatMessage("x", role="developer"),
        HumanMessage("x", more=[1]),
    ],
    ids=lambda message: message.type,
)
def test_a_message_comes_back_from_its_json(message: BaseMessage) -> None:
    back = message_from_json(message_to_json(message))
    assert type(back) is type(message)
    assert back == message


def test_the_text_of_streamed_arguments_is_left_out_of_the_message() -> None:
    streamed = {"id": "1", "name": "f", "args": {}, "partial_json": '{"a'}
    message = message_from_json({"type": "ai", "content": "", "tool_calls": [streamed]})
    assert isinstance(message, AIMessage)
    assert message.tool_calls == [{"id": "1", "name": "f", "args": {}, "type": "tool_call"}]


@pytest.mark.parametrize(
    ("data", "field"),
    [
        ({"content": "x"}, "type"),
        ({"type": "robot", "content": "x"}, "type"),
        ({"type": ["ai"], "content": "x"}, "type"),
        ({"type": "human"}, "content"),
        ({"type": "human", "content": 5}, "content"),
        ({"type": "human", "content": [5]}, "content"),
        ({"type": "human", "content": "x", "id": {}}, "id"),
        ({"type": "human", "content": "x", "additional_kwargs": 1}, "additional_kwargs"),
        ({"type": "remove"}, "id"),
        ({"type": "tool", "content": "x"}, "tool_call_id"),
        ({"type": "tool", "content": "x", "tool_call_id": "1", "status": "maybe"}, "status"),
        ({"type": "function", "content": "x"}, "name"),
        ({"type": "chat", "content": "x"}, "role"),
        ({"type": "ai", "content": "x", "tool_calls": {}}, "tool_calls"),
        ({"type": "ai", "content": "x", "tool_calls": [1]}, "tool_calls.0"),
        ({"type": "ai", "content": "x", "tool_calls": [CALL, {**CALL, "name": 1}]}, "tool_calls.1.name"),
        ({"type": "ai", "content": "x", "tool_calls": [{**CALL, "args": "{}"}]}, "tool_calls.0.args"),
        ({"type": "ai", "content": "x", "tool_calls": [{**CALL, "id": 1}]}, "tool_calls.0.id"),
        ({"type": "ai", "content": "x", "usage_metadata": {"input_tokens": "no"}}, "usage_metadata"),
    ],
)
def test_what_is_no_message_is_refused_by_its_field(data: dict[str, Any], field: str) -> None:
    with pytest.raises(ValueError, match=rf"^{re.escape(field)}\b"):
        message_from_json(data)


def test_what_is_no_object_is_no_message() -> None:
    with pytest.raises(ValueError, match="a message is an object"):
        message_from_json("hi")  # type: ignore[arg-type]


def streamed(text: object, *, id: str | None = "c1") -> dict[str, Any]:
    return {
        "type": "ai",
        "content": "",
        "tool_calls": [{"id": id, "name": "find", "args": {}, "partial_json": text}],
    }


def final(args: Any) -> dict[str, Any]:
    return {"type": "ai", "content": "x", "tool_calls": [{**CALL, "args": args}]}


@pytest.mark.parametrize(
    ("text", "args"),
    [
        ('{"city": "Paris"}', {"city": "Paris"}),
        ('{ "b":1.0, "a":[true,null] }', {"a": [True, None], "b": 1}),
        ("{}", {}),
        (f'{{"n": {2**70}}}', {"n": str(2**70)}),
    ],
)
def test_the_text_of_arguments_stays_where_it_says_them(text: str, args: Any) -> None:
    shown, last = streamed(text), final(args)
    merged = merge_message(shown, last)
    assert merged == {**last, "tool_calls": [{**last["tool_calls"][0], "partial_json": text}]}
    assert plain(merged) == last == final(args)
    assert shown == streamed(text)
    assert merge_message(streamed(text, id=None), last) == merged
    assert merge_message(merged, last) == merged


@pytest.mark.parametrize(
    ("text", "args"),
    [
        ('{"city": "Par', {"city": "Paris"}),
        ('{"city": "Rome"}', {"city": "Paris"}),
        ('{"a": 1}', {"a": True}),
        ('{"a": NaN}', {"a": None}),
        ("", {}),
        ("[" * 100_000, {}),
        (None, {}),
        ({"a": 1}, {"a": 1}),
    ],
)
def test_the_text_of_arguments_goes_where_it_says_others(text: object, args: Any) -> None:
    assert merge_message(streamed(text), final(args)) == final(args)


@pytest.mark.parametrize(
    "shown", [None, {}, {"tool_calls": None}, {"tool_calls": [1]}, streamed("{}", id="another")]
)
def test_a_final_message_that_was_not_streamed_stays_as_it_is(shown: dict[str, Any] | None) -> None:
    assert merge_message(shown, final({})) == final({})
    assert merge_message(shown, {"type": "human", "content": "x"}) == {"type": "human", "content": "x"}


def test_each_text_goes_to_its_call_in_whatever_order() -> None:
    calls = [{"id": str(n), "name": "f", "args": {"n": n}} for n in range(3)]
    shown = {"tool_calls": [{**call, "args": {}, "partial_json": json.dumps(call["args"])} for call in calls]}
    merged = merge_message(shown, {"type": "ai", "content": "", "tool_calls": calls[::-1]})
    assert [call["partial_json"] for call in merged["tool_calls"]] == ['{"n": 2}', '{"n": 1}', '{"n": 0}']


def test_plain_strips_only_the_text_of_tool_calls() -> None:
    state = {"messages": [streamed("{}")], "partial_json": "mine", "x": [{"partial_json": 1}]}
    assert plain(state) == {
        "messages": [{"type": "ai", "content": "", "tool_calls": [{"id": "c1", "name": "find", "args": {}}]}],
        "partial_json": "mine",
        "x": [{"partial_json": 1}],
    }
    assert "partial_json" in state["messages"][0]["tool_calls"][0]  # type: ignore[index]
