"""A run's part in a thread's messages, as what is added to one message of a chat.

A fold over the state's operations: those on the messages become deltas of text and of tool calls'
arguments, results, sources and files. It is for clients that keep the conversation themselves and
can only be given more: what they have been shown can't be taken back. A text that grows costs the
same per token, whatever its length and the number of messages.

What messages look like is `message_parts`' business. Spec: PROTOCOL.md §14.17.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Final, Literal, TypeAlias

import msgspec

from .message_parts import (
    Call,
    File,
    MessageParts,
    MessageReader,
    Result,
    Source,
    Text,
    TextKind,
    read_message,
)
from .operations import AppendText, Cell, Json, Operation, Path, Set, edit

FinishReason: TypeAlias = Literal["stop", "length", "content-filter", "tool-calls", "error"]

MESSAGES: Final = "messages"
"""The member of a state that holds them."""

_MAX_OWNED: Final = 1024
_REASONS: Final[dict[str, FinishReason]] = {
    "length": "length",
    "max_tokens": "length",
    "MAX_TOKENS": "length",
    "content_filter": "content-filter",
    "SAFETY": "content-filter",
}
"""Words of models for what isn't an ordinary end."""


class TextDelta(msgspec.Struct, frozen=True):
    """More of a text. `id` tells texts apart; `apart`: it begins one that is no part of the one before."""

    kind: TextKind
    id: str
    text: str
    apart: bool = False


class CallStarted(msgspec.Struct, frozen=True):
    """A tool is called; its arguments follow."""

    id: str
    name: str


class ArgsDelta(msgspec.Struct, frozen=True):
    """More of the JSON of a call's arguments."""

    id: str
    text: str


class CallReady(msgspec.Struct, frozen=True):
    """All of a call's arguments have been told: `args` is their JSON."""

    id: str
    name: str
    args: str


class Finish(msgspec.Struct, frozen=True):
    """The end. Tokens are 0 where nobody has told them."""

    reason: FinishReason
    input_tokens: int
    output_tokens: int


Event: TypeAlias = TextDelta | CallStarted | ArgsDelta | CallReady | Result | Source | File | Finish


class _Shown:
    """A text as the client has it."""

    __slots__ = ("chunks", "grows", "id")

    def __init__(self, id: str) -> None:
        self.id = id
        self.chunks: list[str] = []
        self.grows = False
        """Whether the state has exactly what is shown, so that what is appended there is shown next."""

    @property
    def text(self) -> str:
        if len(self.chunks) > 1:
            self.chunks = ["".join(self.chunks)]
        return self.chunks[0] if self.chunks else ""

    def more(self, text: str, *, restarts: bool = True) -> str:
        """What is to be shown of the state's text; all of it where that isn't a continuation."""
        shown = self.text
        self.grows = text.startswith(shown)
        if self.grows:
            more = text[len(shown) :]
        elif shown.startswith(text) or not restarts:
            return ""
        else:
            self.grows = True
            self.chunks, more = [], text
        if more:
            self.chunks.append(more)
        return more


class _ShownText(_Shown):
    __slots__ = ("kind", "message")

    def __init__(self, id: str, message: str, kind: TextKind) -> None:
        super().__init__(id)
        self.message = message
        self.kind: TextKind = kind


class _ShownCall(_Shown):
    __slots__ = ("name", "ready")

    def __init__(self, id: str, name: str) -> None:
        super().__init__(id)
        self.name = name
        self.ready = False


class PartStream:
    """One run's.

    Args:
        known: the messages that the client has already.
        after: the id of the message that is answered: what stands before it isn't shown. None: unknown.
        read: knows the shape of the messages.
    """

    def __init__(
        self, known: Iterable[Json] = (), *, after: str | None = None, read: MessageReader = read_message
    ) -> None:
        self._read = read
        self._after = after
        self._known = {_key(message, index) for index, message in enumerate(known)}
        self._owned: dict[int, Json] = {}
        self._cell = Cell({MESSAGES: []}, self._owned)
        self._texts: dict[Path, _ShownText | _ShownCall] = {}
        """What grows, by its place in the state."""
        self._paths: dict[int, list[Path]] = {}
        """The places above, by the message's index."""
        self._shown: dict[tuple[str, str], _ShownText] = {}
        self._calls: dict[str, _ShownCall] = {}
        self._results: set[str] = set()
        self._waiting: dict[str, Result] = {}
        """Results that are empty so far."""
        self._once: set[tuple[str, Source | File]] = set()
        self._usage: dict[str, tuple[int, int]] = {}
        self._reason: str | None = None
        self._last: tuple[str, TextKind] | None = None
        """The message and kind of the text that was shown last, if nothing else was since."""

    def state(self, messages: Json) -> list[Event]:
        """What the whole of the messages adds to what has been shown."""
        self._owned.clear()
        self._cell.root = {MESSAGES: messages if type(messages) is list else []}
        return list(self._look_at_all())

    def apply(self, operations: Sequence[Operation]) -> list[Event]:
        """What operations on the state add.

        Raises:
            InvalidOperation: one doesn't fit the state.
        """
        events: list[Event] = []
        touched: dict[int, None] = {}
        moved = False
        for operation in operations:
            path = operation.path
            if not path:
                moved = True
                root = operation.value if type(operation) is Set else None
                messages = root.get(MESSAGES) if type(root) is dict else None
                operation = Set((MESSAGES,), messages if type(messages) is list else [])
            elif path[0] != MESSAGES:
                continue
            edit(self._cell, operation)
            if type(operation) is AppendText:
                shown = self._texts.get(path)
                if shown is not None and shown.grows and not moved:
                    events += self._grow(shown, operation.value)
                    continue
            if len(path) > 1 and str(path[1]).isdecimal():
                touched[int(path[1])] = None
                moved = moved or (len(path) == 2 and int(path[1]) < len(self._messages) - 1)
            else:
                moved = True
        if len(self._owned) > _MAX_OWNED:
            self._owned.clear()
        if moved:
            events += self._look_at_all()
        else:
            self._note_answered(touched)
            for index in touched:
                events += self._look(index)
        return events

    def finish(self, *, failed: bool = False) -> list[Event]:
        """What was held back, and the end."""
        events: list[Event] = []
        for result in self._waiting.values():
            events += self._result(result)
        for call in self._calls.values():
            events += self._ready(call)
        is_open = self._calls.keys() - self._results
        reason = _REASONS.get(self._reason or "", "stop")
        if failed:
            reason = "error"
        elif is_open:
            reason = "tool-calls"
        given, made = (sum(usage[side] for usage in self._usage.values()) for side in (0, 1))
        events.append(Finish(reason, given, made))
        return events

    # inside

    @property
    def _messages(self) -> list[Json]:
        messages: Json = self._cell.root[MESSAGES]
        return messages if type(messages) is list else []

    def _look_at_all(self) -> Iterator[Event]:
        self._texts.clear()
        self._paths.clear()
        indices = range(len(self._messages))
        self._note_answered(indices)
        for index in indices:
            yield from self._look(index)

    def _note_answered(self, indices: Iterable[int]) -> None:
        """Where the answered message is among these: what is before it isn't shown, wherever it is later."""
        if self._after is None:
            return
        messages = self._messages
        for index in indices:
            if index < len(messages) and _key(messages[index], index) == self._after:
                self._known.update(_key(messages[n], n) for n in range(index + 1))
                self._after = None
                return

    def _look(self, index: int) -> Iterator[Event]:
        """What a message adds, whatever has changed in it."""
        for path in self._paths.pop(index, ()):
            self._texts.pop(path, None)
        messages = self._messages
        if index >= len(messages):
            return
        key = _key(messages[index], index)
        if key in self._known:
            return
        message = self._read(messages[index])
        if message is not None:
            yield from self._show(message, key, index)

    def _show(self, message: MessageParts, key: str, index: int) -> Iterator[Event]:
        if message.usage is not None:
            self._usage[key] = message.usage
        if message.role == "assistant":
            self._reason = message.finish_reason
        for part in message.parts:
            match part:
                case Text():
                    yield from self._text(part, key, index)
                case Call():
                    yield from self._call(part, index)
                case Result():
                    yield from self._result_of(part)
                case _:
                    if (key, part) not in self._once:
                        self._once.add((key, part))
                        self._last = None
                        yield part

    def _text(self, part: Text, key: str, index: int) -> Iterator[Event]:
        place = (key, ".".join(map(str, part.path)))
        shown = self._shown.get(place)
        if shown is None:
            shown = self._shown[place] = _ShownText(".".join(place), key, part.kind)
        before = shown.text
        more = shown.more(part.text)
        if more:
            yield self._delta(shown, more, begins=not before, restarts=len(more) == len(shown.text))
        self._register(shown, part.path, index)

    def _delta(self, shown: _ShownText, text: str, *, begins: bool, restarts: bool = False) -> TextDelta:
        last, self._last = self._last, (shown.message, shown.kind)
        # Pieces of one message belong together, as those that a citation has parted.
        follows = last is not None and last[1] == shown.kind and last[0] != shown.message
        return TextDelta(shown.kind, shown.id, text, (begins and follows) or (restarts and not begins))

    def _call(self, part: Call, index: int) -> Iterator[Event]:
        call = self._calls.get(part.id)
        if call is None:
            call = self._calls[part.id] = _ShownCall(part.id, part.name)
            self._last = None
            yield CallStarted(part.id, part.name)
        if call.ready:
            return
        more = call.more(part.args, restarts=False)
        if more:
            yield ArgsDelta(part.id, more)
        if part.path is not None:
            self._register(call, part.path, index)

    def _register(self, shown: _ShownText | _ShownCall, path: Path, index: int) -> None:
        place = (MESSAGES, str(index), *path)
        self._texts[place] = shown
        self._paths.setdefault(index, []).append(place)

    def _grow(self, shown: _ShownText | _ShownCall, text: str) -> Iterator[Event]:
        if not text:
            return
        if isinstance(shown, _ShownCall):
            if not shown.ready:
                shown.chunks.append(text)
                yield ArgsDelta(shown.id, text)
            return
        begins = not shown.chunks
        shown.chunks.append(text)
        yield self._delta(shown, text, begins=begins)

    def _result_of(self, result: Result) -> Iterator[Event]:
        if result.call not in self._calls or result.call in self._results:
            return  # the call is none of this run's, or is answered
        if result.value in (None, "", []):
            self._waiting[result.call] = result
        else:
            yield from self._result(result)

    def _result(self, result: Result) -> Iterator[Event]:
        if result.call in self._results:
            return
        yield from self._ready(self._calls[result.call])
        self._results.add(result.call)
        yield result

    def _ready(self, call: _ShownCall) -> Iterator[Event]:
        if call.ready:
            return
        call.ready = True
        if not call.text:
            call.chunks = ["{}"]
            yield ArgsDelta(call.id, "{}")
        yield CallReady(call.id, call.name, call.text)


def _key(message: Json, index: int) -> str:
    """What tells a message from others: its id, or its place."""
    id = message.get("id") if type(message) is dict else None
    return id if type(id) is str else f"#{index}"
