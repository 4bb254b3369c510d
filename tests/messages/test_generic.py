"""Thread messages as a model's provider is told them."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.vectors import cases
from threadwire.messages.generic import to_generic_messages
from threadwire.messages.model import message_from_json


@pytest.mark.parametrize("case", cases("generic_messages"), ids=lambda case: str(len(case["messages"])))
def test_generic_messages_are_those_of_javascript(case: dict[str, Any]) -> None:
    messages = [message_from_json(_dated(message)) for message in case["messages"]]
    assert to_generic_messages(messages) == case["expected"]


def _dated(message: Any) -> Any:
    return {**message, "createdAt": "2024-01-01T00:00:00.000Z"}
