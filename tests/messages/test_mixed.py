"""Messages of whatever form."""

from __future__ import annotations

from typing import Any

from threadwire.messages.external import convert_external_messages
from threadwire.messages.like import from_thread_message_like
from threadwire.messages.mixed import convert_any_message
from threadwire.messages.model import to_json


def test_messages_of_either_form_are_read() -> None:
    messages: list[Any] = [
        {"type": "human", "id": "1", "content": "hi"},
        {"role": "assistant", "content": "hello", "id": 7},
        {"role": "user", "parts": [{"type": "text", "text": "again"}]},
        {"role": "robot", "content": "x"},
        {"anything": 1},
        7,
        "plain",
    ]
    shown = convert_external_messages(messages, convert_any_message)
    assert [message.role for message in shown] == ["user", "assistant", "user", "assistant"]


def test_thread_messages_are_read_whole() -> None:
    like = {
        "role": "assistant",
        "id": "a",
        "content": [{"type": "tool-call", "toolCallId": "c", "toolName": "t", "args": {}, "result": 1}],
        "status": {"type": "incomplete", "reason": "cancelled"},
        "metadata": {"steps": [{}], "custom": {"x": 1}},
    }
    message = to_json(from_thread_message_like(like))
    assert to_json(convert_external_messages([message], convert_any_message)) == [message]
