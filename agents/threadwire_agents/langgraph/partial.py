"""What stays of a run that was cut short: the texts that were shown, in the graph's own state too."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any, Final

from threadwire.core.operations import Json

from .checkpoints import UNSAVED
from .graph_thread import GraphThread
from .message_json import message_from_json
from .saver import COMMANDS, CheckpointLost

logger = logging.getLogger("threadwire")

MARK: Final = "threadwire"
"""The member of `response_metadata` that says what became of a message: `cancelled` or `failed`."""


async def keep_partial(thread: GraphThread, why: str, *, save: bool = True) -> bool:
    """Keeps what is shown of a run that was cut short; whether it is in the graph's own state too.

    Where it isn't, as without `save`, the note `unsaved` has it for the next run.
    """
    previews = thread.converter.root.end_streams() if thread.shape.messages else []
    thread.converter.finish()
    # A fork that has saved nothing has changed nothing.
    thread.saver.head = thread.checkpoints.head
    left: Json = {"run": thread.run.id, "why": why, "messages": _kept(previews, why)}
    thread.checkpoints.notes[UNSAVED] = left
    if not save:
        return False
    try:
        await save_partial(thread, thread.checkpoints.notes[UNSAVED])
        return True
    except CheckpointLost:
        pass  # the next run finds that out, and begins with what is shown
    except Exception:
        logger.exception("thread %s: what a run left is not in the graph's state yet", thread.run.thread)
    return False


async def save_partial(thread: GraphThread, unsaved: Any) -> None:
    """Puts what a run left into the graph's own state."""
    state = await thread.shown_or_before()
    messages = thread.messages(state)
    known = {message.id for message in messages}
    more: list[Any] = [message_from_json(item) for item in unsaved["messages"] if item.get("id") not in known]
    thread.marks[COMMANDS] = ""
    await thread.close(state, more, why=unsaved["why"])
    await thread.settle()
    del thread.checkpoints.notes[UNSAVED]


def _kept(previews: Sequence[dict[str, Any]], why: str) -> list[Json]:
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
