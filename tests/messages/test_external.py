"""Messages of another form, converted and joined."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.vectors import cases, normal
from threadwire.client.errors import InvalidMessage
from threadwire.messages.external import (
    ConverterMetadata,
    ExternalMessageConverter,
    convert_external_messages,
)
from threadwire.messages.langchain import convert_langchain_messages
from threadwire.messages.model import (
    CompleteStatus,
    IncompleteStatus,
    RunningStatus,
    message_text,
    original_messages,
    to_json,
)


@pytest.mark.parametrize("case", cases("joins"), ids=lambda case: str(len(case["outputs"])))
def test_outputs_are_joined_as_in_javascript(case: dict[str, Any]) -> None:
    def convert() -> Any:
        return convert_external_messages(
            [{"each": each} for each in case["outputs"]],
            lambda message, metadata: message["each"],
            is_running=case["isRunning"],
            join_strategy=case.get("joinStrategy", "concat-content"),
            metadata=ConverterMetadata(
                error=case.get("error"), cancelled_message_ids=frozenset(case.get("cancelled", ()))
            ),
        )

    given = {name: case[name] for name in ("outputs", "error", "cancelled") if name in case}
    if "expected" not in case:
        with pytest.raises(InvalidMessage):
            convert()
        return
    assert normal(to_json(convert()), given) == case["expected"]


@pytest.mark.parametrize("case", cases("langchain"), ids=lambda case: str(len(case["messages"])))
def test_langchain_messages_become_what_javascript_makes_of_them(case: dict[str, Any]) -> None:
    def convert() -> Any:
        return convert_external_messages(
            case["messages"],
            convert_langchain_messages,
            is_running=case["isRunning"],
            metadata=ConverterMetadata(error=case.get("error")),
        )

    if "expected" not in case:
        with pytest.raises(InvalidMessage):
            convert()
        return
    given = {name: case[name] for name in ("messages", "error") if name in case}
    assert normal(to_json(convert()), given) == case["expected"]


def text(message: Any, metadata: ConverterMetadata) -> Any:
    return {"role": message["role"], "content": message["text"], "id": message.get("id")}


def turn(index: int) -> list[dict[str, Any]]:
    return [
        {"role": "user", "id": f"u{index}", "text": "question"},
        {"role": "assistant", "id": f"a{index}", "text": "answer"},
    ]


def test_tool_calls_without_ids_are_named_after_their_message_and_place() -> None:
    calls = [{"name": "search", "args": {}}, {"name": "find", "args": {}}]
    for given, named in (({"id": "m1"}, "m1"), ({}, "unknown")):
        message = {"type": "ai", "content": "", "tool_calls": calls, **given}
        (converted,) = convert_external_messages([message], convert_langchain_messages)
        ids = [part.tool_call_id for part in converted.content if part.type == "tool-call"]
        assert ids == [f"lc-toolcall-{named}-0", f"lc-toolcall-{named}-1"]


def test_a_token_converts_one_message() -> None:
    converted = []

    def counting(message: Any, metadata: ConverterMetadata) -> Any:
        converted.append(message["id"])
        return text(message, metadata)

    converter = ExternalMessageConverter(counting)
    messages = [message for index in range(100) for message in turn(index)]
    before = converter.convert(messages, is_running=True)
    assert len(converted) == 200
    converted.clear()
    for token in range(50):
        last = {**messages[-1], "text": f"answer {token}"}
        messages = [*messages[:-1], last]
        after = converter.convert(messages, is_running=True)
        assert after[:-1] == before[:-1]
        assert all(a is b for a, b in zip(after[:-1], before[:-1], strict=True))
        assert message_text(after[-1]) == f"answer {token}"
        assert after[-1].created_at == before[-1].created_at
    assert converted == ["a99"] * 50


def test_end_of_a_run_converts_nothing_again() -> None:
    converted = []

    def counting(message: Any, metadata: ConverterMetadata) -> Any:
        converted.append(message)
        return text(message, metadata)

    converter = ExternalMessageConverter(counting)
    messages = turn(0)
    running = converter.convert(messages, is_running=True)
    assert isinstance(running[-1].status, RunningStatus)  # type: ignore[union-attr]
    done = converter.convert(messages)
    assert done[-1].status == CompleteStatus("unknown")  # type: ignore[union-attr]
    assert converter.convert(list(messages))[-1] is done[-1]
    assert len(converted) == 2


def test_older_messages_that_arrive_later_leave_the_others_as_they_were() -> None:
    converter = ExternalMessageConverter(text)
    newer = turn(5)
    before = converter.convert(newer)
    after = converter.convert([*turn(4), *newer])
    assert [message.id for message in after] == ["u4", "a4", "u5", "a5"]
    assert all(a is b for a, b in zip(after[2:], before, strict=True))


def test_made_up_ids_follow_the_place() -> None:
    converter = ExternalMessageConverter(text)
    newer = [{"role": "user", "text": "b"}]
    assert converter.convert(newer)[0].id == "__external_store_fallback_0"
    older: list[Any] = [{"role": "user", "text": "a"}, *newer]
    assert [message.id for message in converter.convert(older)] == [
        "__external_store_fallback_0",
        "__external_store_fallback_1",
    ]


def test_other_metadata_converts_again() -> None:
    converter = ExternalMessageConverter(
        lambda message, metadata: {"role": "user", "content": str(metadata.custom.get("name"))}
    )
    messages = [{}]
    assert message_text(converter.convert(messages)[0]) == "None"
    named = converter.convert(messages, metadata=ConverterMetadata(custom={"name": "x"}))
    assert message_text(named[0]) == "x"


def test_originals_are_found_again() -> None:
    user = {"type": "human", "id": "h", "content": "hi"}
    calls = {"type": "ai", "id": "a", "content": "", "tool_calls": [{"id": "c", "name": "t", "args": {}}]}
    result = {"type": "tool", "tool_call_id": "c", "content": "ok"}
    messages = ExternalMessageConverter(convert_langchain_messages).convert([user, calls, result])
    assert [list(original_messages(message)) for message in messages] == [[user], [calls, result]]
    assert original_messages(messages[1])[0] is calls


def test_random_edits_convert_as_if_all_were_new() -> None:
    import random

    pool = [message for case in cases("langchain") if "expected" in case for message in case["messages"]]
    for seed in range(150):
        chance = random.Random(seed)
        converter = ExternalMessageConverter(convert_langchain_messages)
        messages: list[Any] = []
        for _ in range(20):
            kind = chance.choice(["append", "append", "grow", "remove", "insert", "cut", "same"])
            at = chance.randrange(len(messages) + 1)
            if kind == "append":
                messages = [*messages, dict(chance.choice(pool))]
            elif kind == "insert":
                messages = [*messages[:at], dict(chance.choice(pool)), *messages[at:]]
            elif kind == "remove":
                messages = [*messages[:at], *messages[at + 1 :]]
            elif kind == "cut":
                messages = messages[:at]
            elif kind == "grow" and messages and isinstance(messages[-1].get("content"), str):
                messages = [*messages[:-1], {**messages[-1], "content": messages[-1]["content"] + "x"}]
            running = chance.random() < 0.5
            fresh = ExternalMessageConverter(convert_langchain_messages)
            expected = to_json(fresh.convert(messages, is_running=running))
            given = to_json(converter.convert(messages, is_running=running))
            assert normal(given, messages) == normal(expected, messages)


def test_message_that_cannot_be_converted_leaves_the_others() -> None:
    def fragile(message: Any, metadata: ConverterMetadata) -> Any:
        if message["text"] == "bad":
            raise KeyError("nothing")
        return text(message, metadata)

    messages = [*turn(0), {"role": "assistant", "id": "x", "text": "bad"}, *turn(1)]
    shown = ExternalMessageConverter(fragile).convert(messages)
    assert [message.id for message in shown] == ["u0", "a0", "x", "u1", "a1"]
    status = shown[2].status  # type: ignore[union-attr]
    assert isinstance(status, IncompleteStatus)
    assert status.error == {"code": "invalid-message", "message": "'nothing'"}
    with pytest.raises(KeyError):
        ExternalMessageConverter(fragile, strict=True).convert(messages)


def test_join_that_fails_leaves_the_others() -> None:
    calls = {"type": "ai", "id": "a", "content": "", "tool_calls": [{"id": "c", "name": "t", "args": {}}]}
    result = {"type": "tool", "tool_call_id": "c", "name": "another", "content": "ok"}
    user = {"type": "human", "id": "h", "content": "hi"}
    shown = ExternalMessageConverter(convert_langchain_messages).convert([calls, result, user])
    assert [message.id for message in shown] == ["a", "h"]
    assert isinstance(shown[0].status, IncompleteStatus)  # type: ignore[union-attr]


def test_error_is_one_message_as_long_as_it_is_the_same() -> None:
    converter = ExternalMessageConverter(text)
    metadata = ConverterMetadata(error="failed")
    user = turn(0)[:1]
    first = converter.convert(user, metadata=metadata)
    second = converter.convert([*user], metadata=metadata)
    assert first[-1].role == "assistant"
    assert first[-1] is second[-1]
    assert converter.convert(user)[-1].role == "user"


def test_unknown_join_strategy_is_refused() -> None:
    with pytest.raises(ValueError, match="join strategy"):
        ExternalMessageConverter(text, join_strategy="some")  # type: ignore[arg-type]
