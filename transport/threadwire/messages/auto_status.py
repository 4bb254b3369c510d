"""The status of an assistant message that doesn't say one itself."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from ..core.operations import Json
from .model import (
    CompleteStatus,
    IncompleteStatus,
    MessageStatus,
    RequiresActionStatus,
    RunningStatus,
    ThreadAssistantMessage,
    ToolCallLike,
    ToolCallMessagePart,
)

RUNNING: Final = RunningStatus()
COMPLETE: Final = CompleteStatus("unknown")
CANCELLED: Final = IncompleteStatus("cancelled")
PENDING: Final = RequiresActionStatus("tool-calls")
INTERRUPTED: Final = RequiresActionStatus("interrupt")


def auto_status(
    content: Iterable[Any],
    *,
    is_last: bool = False,
    is_running: bool = False,
    error: Json = None,
    is_cancelled: bool = False,
    nested_runs: bool = True,
) -> MessageStatus:
    """The status that follows from a message's parts and its place in the thread.

    `error` and `is_running` are about the last message only. A tool call whose own conversation
    is still running keeps the message running, unless `nested_runs` is off.
    """
    if is_last and error:
        return IncompleteStatus("error", error)
    if is_last and is_running:
        return RUNNING
    pending = [part for part in content if is_pending(part)]
    if any(map(is_interrupted, pending)):
        return INTERRUPTED
    if nested_runs and not is_cancelled and any(map(_runs_on, pending)):
        return RUNNING
    if pending:
        return PENDING
    return CANCELLED if is_cancelled else COMPLETE


def is_pending(part: Any) -> bool:
    """Whether the part is a tool call without a result; null is a result."""
    return isinstance(part, ToolCallMessagePart | ToolCallLike) and not part.has_result


def is_interrupted(part: Any) -> bool:
    """Whether a tool call waits for a human: it asked something, or has to be approved."""
    return is_pending(part) and (
        part.interrupt is not None or (part.approval is not None and part.approval.is_open)
    )


def _runs_on(part: Any) -> bool:
    last = part.messages[-1] if part.messages else None
    return isinstance(last, ThreadAssistantMessage) and isinstance(last.status, RunningStatus)
