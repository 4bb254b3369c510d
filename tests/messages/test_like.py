"""Message-likes and the thread messages they stand for."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from tests.support.vectors import cases, normal
from threadwire.client.errors import InvalidMessage
from threadwire.messages.like import ThreadMessageLike, from_thread_message_like
from threadwire.messages.model import (
    ImageMessagePart,
    MessageStatus,
    TextMessagePart,
    message_from_json,
    to_json,
)


@pytest.mark.parametrize("case", cases("message_like"), ids=lambda case: case["input"]["role"])
def test_message_like_becomes_what_javascript_makes_of_it(case: dict[str, Any]) -> None:
    given = [case["input"], "fallback"]
    status = msgspec.convert(case["status"], MessageStatus)  # type: ignore[arg-type]
    if "error" in case:
        with pytest.raises(InvalidMessage):
            from_thread_message_like(case["input"], "fallback", status)
        return
    message = from_thread_message_like(case["input"], "fallback", status)
    assert normal(to_json(message), given) == case["expected"]
    assert message_from_json(to_json(message)) == message


def test_typed_parts_stay_the_same_objects() -> None:
    part = TextMessagePart("hello")
    message = from_thread_message_like(ThreadMessageLike(role="user", content=[part]))
    assert message.content[0] is part
    assert from_thread_message_like(message) == message


@pytest.mark.parametrize(
    ("like", "field"),
    [
        ({"role": "nobody", "content": ""}, "role"),
        ({"role": "user"}, "content"),
        ({"role": "user", "content": 7}, "content"),
        ({"role": "user", "content": ["text"]}, "content.0"),
        ({"role": "user", "content": [{"type": "text"}]}, "content.0.text"),
        ({"role": "user", "content": [{"type": "text", "text": "a"}, {"text": "b"}]}, "content.1.type"),
        ({"role": "assistant", "content": [{"type": "image", "image": 1}]}, "content.0.image"),
        ({"role": "assistant", "content": "", "status": {"type": "odd"}}, "status.type"),
        ({"role": "assistant", "content": "", "createdAt": "yesterday"}, "createdAt"),
        ({"role": "user", "content": "", "status": {"type": "running"}}, "status"),
        ({"role": "system", "content": []}, "content"),
    ],
)
def test_wrong_message_is_refused_by_the_name_of_its_field(like: Any, field: str) -> None:
    with pytest.raises(InvalidMessage) as caught:
        from_thread_message_like(like)
    assert caught.value.field == field


def test_something_that_is_no_message_is_refused() -> None:
    with pytest.raises(InvalidMessage, match="not int"):
        from_thread_message_like(7)  # type: ignore[arg-type]


def test_images_of_users_are_kept_as_they_are() -> None:
    like = ThreadMessageLike(role="user", content=[ImageMessagePart("http://example.com/a.png")])
    assert from_thread_message_like(like).content == (ImageMessagePart("http://example.com/a.png"),)
