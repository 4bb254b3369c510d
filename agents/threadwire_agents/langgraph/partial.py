"""What stays of a run that was cut short: texts that were shown, and an end to tool calls left open."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

from langchain_core.messages import ToolMessage

from threadwire.core.operations import Json

from .answers import open_calls

MARK: Final = "threadwire"
"""The member of `response_metadata` that says what became of a message: `cancelled` or `failed`."""

_NO_RESULT: Final = "The call was cancelled before it had a result."


def kept_partials(previews: Sequence[dict[str, Any]], why: str) -> list[Json]:
    """The messages of models that had begun, marked, without tool calls: nobody will carry these out."""
    kept: list[Json] = []
    for preview in previews:
        if preview.get("type") != "ai" or not preview.get("content"):
            continue
        message = {
            key: value for key, value in preview.items() if key not in ("tool_calls", "invalid_tool_calls")
        }
        message["response_metadata"] = {**(message.get("response_metadata") or {}), MARK: why}
        kept.append(message)
    return kept


def closing_messages(messages: Sequence[Any], new_id: Callable[[], str]) -> list[ToolMessage]:
    """Results for the tool calls that have none: models refuse a conversation without."""
    return [
        ToolMessage(_NO_RESULT, tool_call_id=id, name=call["name"], status="error", id=new_id())
        for id, call in open_calls(messages).items()
    ]
