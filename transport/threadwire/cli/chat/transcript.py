"""What of a thread has been printed, and what is to be printed now.

A terminal's lines can't be changed once they are out, so text is printed in blocks: as soon as a
paragraph, list or piece of code is finished. What isn't yet is the `tail`.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal, TypeAlias

import msgspec

from ...messages.model import (
    FileMessagePart,
    ImageMessagePart,
    IncompleteStatus,
    ReasoningMessagePart,
    RunningStatus,
    TextMessagePart,
    ThreadAssistantMessage,
    ThreadMessage,
    ThreadUserMessage,
    ToolCallMessagePart,
)

Kind: TypeAlias = Literal["user", "text", "thinking", "call", "result", "file", "error", "changed"]

_SHORT: Final = 300


@dataclass(frozen=True)
class Entry:
    """Something to print; `text` is Markdown where the kind is `text`."""

    kind: Kind
    text: str


@dataclass
class _Printed:
    """What is out of a message: characters by part, calls and results by id."""

    id: str
    characters: dict[int, int] = field(default_factory=dict)
    calls: set[str] = field(default_factory=set)
    results: set[str] = field(default_factory=set)
    ended: bool = False


class Transcript:
    """Follows a thread's messages from one state to the next."""

    def __init__(self) -> None:
        self._printed: list[_Printed] = []
        self._cut = False  # what was printed last is gone from the thread
        self.tail = ""
        """The text at the end that isn't printed yet."""

    def update(self, messages: Sequence[ThreadMessage], pending: Collection[str] = ()) -> list[Entry]:
        """What is to be printed now that the thread's messages are these.

        Those with a `pending` id aren't in the thread yet: what is before them may still grow.
        """
        entries: list[Entry] = []
        messages = [
            message
            for message in messages
            if not message.metadata.is_optimistic and message.id not in pending
        ]
        same = 0
        for printed, message in zip(self._printed, messages, strict=False):
            if printed.id != message.id:
                break
            same += 1
        if same < len(self._printed):
            del self._printed[same:]
            self._cut = True
        if self._cut and messages[same:]:
            self._cut = False
            entries.append(Entry("changed", "from here on the thread is another"))
        self.tail = ""
        # All but the last two are out: a tool's result may come while the next message begins.
        for index in range(max(0, same - 2), len(messages)):
            if index == len(self._printed):
                self._printed.append(_Printed(messages[index].id))
            is_last = index == len(messages) - 1
            entries += self._of(messages[index], self._printed[index], is_last, is_last and bool(pending))
        return entries

    def _of(self, message: ThreadMessage, printed: _Printed, is_last: bool, may_grow: bool) -> list[Entry]:
        if isinstance(message, ThreadUserMessage):
            if printed.ended:
                return []
            printed.ended = True
            return [Entry("user", _said(message))]
        if not isinstance(message, ThreadAssistantMessage):
            return []
        running = may_grow or isinstance(message.status, RunningStatus)
        entries: list[Entry] = []
        for index, part in enumerate(message.content):
            growing = running and is_last and index == len(message.content) - 1
            entries += self._part(part, index, printed, growing)
        if not running and not printed.ended:
            printed.ended = True
            if isinstance(message.status, IncompleteStatus):
                entries.append(Entry("error", _why(message.status)))
        return entries

    def _part(self, part: Any, index: int, printed: _Printed, growing: bool) -> list[Entry]:
        if isinstance(part, TextMessagePart | ReasoningMessagePart):
            out = printed.characters.get(index, 0)
            end = max(out, finished(part.text)) if growing else len(part.text)
            printed.characters[index] = end
            if growing:
                self.tail = part.text[end:]
            text = part.text[out:end].strip("\n")
            kind: Kind = "text" if isinstance(part, TextMessagePart) else "thinking"
            return [Entry(kind, text)] if text.strip() else []
        if isinstance(part, ToolCallMessagePart):
            return self._call(part, printed, growing)
        if isinstance(part, FileMessagePart | ImageMessagePart) and index not in printed.characters:
            printed.characters[index] = 1
            return [Entry("file", part.filename or part.type)]
        return []

    def _call(self, part: ToolCallMessagePart, printed: _Printed, growing: bool) -> list[Entry]:
        entries: list[Entry] = []
        if part.tool_call_id not in printed.calls and (not growing or part.has_result):
            printed.calls.add(part.tool_call_id)
            entries.append(Entry("call", f"{part.tool_name}({_short(part.args)})"))
        elif growing and part.tool_call_id not in printed.calls:
            self.tail = f"{part.tool_name}({part.args_text}"
        if part.has_result and part.tool_call_id not in printed.results:
            printed.results.add(part.tool_call_id)
            entries.append(Entry("error" if part.is_error else "result", _short(part.result)))
        return entries


def finished(text: str) -> int:
    """Up to where the Markdown's blocks are finished: the last empty line outside of code."""
    end, fence, position = 0, "", 0
    for line in text.splitlines(keepends=True):
        stripped = line.strip()
        position += len(line)
        marker = stripped[:3]
        if marker in ("```", "~~~"):
            if not fence:
                fence = marker
            elif marker == fence and stripped.strip(marker[0]) == "":
                fence = ""
                if line.endswith("\n"):
                    end = position
        elif not stripped and not fence and line.endswith("\n"):
            end = position
    return end


def _said(message: ThreadUserMessage) -> str:
    content = [*message.content, *(part for each in message.attachments for part in each.content)]
    lines = [
        part.text
        if isinstance(part, TextMessagePart)
        else f"[{getattr(part, 'filename', None) or part.type}]"
        for part in content
    ]
    return "\n".join(lines)


def _why(status: IncompleteStatus) -> str:
    if status.reason != "error":
        return {"cancelled": "stopped", "length": "too long", "tool-calls": "too many steps"}.get(
            status.reason, status.reason
        )
    error = status.error
    return str(error.get("message", error)) if isinstance(error, dict) else str(error)


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(msgspec.to_builtins(value), ensure_ascii=False)
    line = " ".join(text.split())
    return line if len(line) <= _SHORT else line[: _SHORT - 1] + "…"
