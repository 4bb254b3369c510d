"""Turns messages of another form into thread messages, and remembers what it made of each.

A `callback` says what one message means; outputs that belong together are joined (see `joining`).
"""

from __future__ import annotations

import logging
from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final, Generic, TypeAlias, TypeVar

import msgspec

from ..core.operations import Json
from .auto_status import auto_status
from .errors import InvalidMessage
from .joining import Output, OutputLike, UnreadableMessage, breaks, join, read_outputs
from .like import (
    JoinStrategy,
    ThreadMessageLike,
    from_thread_message_like,
    generate_id,
)
from .model import (
    IncompleteStatus,
    MessageStatus,
    MessageTiming,
    ThreadAssistantMessage,
    ThreadMessage,
    bind_originals,
    now,
    replace,
)
from .sharing import Successor, common_prefix

T = TypeVar("T")

FALLBACK_ID: Final = "__external_store_fallback_{}"
"""The id of a message without one, by its place in the thread."""
_ERROR_ID: Final = "__error__{}"

log = logging.getLogger("threadwire.client")


@dataclass(frozen=True, kw_only=True)
class ConverterMetadata:
    """What a conversion depends on beside the messages.

    `error` belongs to the last message; `cancelled_message_ids` were cut short; `custom` is for
    the callback alone. With other metadata every message is converted again.
    """

    error: Json = None
    cancelled_message_ids: frozenset[str] = frozenset()
    tool_statuses: Mapping[str, Json] = field(default_factory=dict)
    message_timing: Mapping[str, MessageTiming] = field(default_factory=dict)
    custom: Mapping[str, Any] = field(default_factory=dict)


NO_METADATA: Final = ConverterMetadata()

ConverterCallback: TypeAlias = Callable[[T, ConverterMetadata], OutputLike | Sequence[OutputLike]]


def convert_external_messages(
    messages: Sequence[T],
    callback: ConverterCallback[T],
    *,
    is_running: bool = False,
    metadata: ConverterMetadata = NO_METADATA,
    join_strategy: JoinStrategy = "concat-content",
) -> tuple[ThreadMessage, ...]:
    """The thread messages that `messages` stand for. An `ExternalMessageConverter` remembers them.

    Raises:
        InvalidMessage: one of them can't be converted.
    """
    converter = ExternalMessageConverter(callback, join_strategy=join_strategy, strict=True)
    return converter.convert(messages, is_running=is_running, metadata=metadata)


@dataclass(eq=False)
class _Chunk:
    """Outputs that are one thread message."""

    start: int
    """The place of the input it begins in."""
    clean: bool
    """It begins with that input's first output."""
    sources: list[Any]
    outputs: list[Output]
    like: ThreadMessageLike | None = None
    """What they are joined to; None where that failed."""
    message: ThreadMessage = field(init=False)


class ExternalMessageConverter(Generic[T]):
    """Converts one thread's messages again and again, each only once as long as it is the same.

    Messages are taken as immutable: the same object, or an equal one, is the same message. So a
    token costs the conversion of the message it belongs to, whatever the thread's length.

    A message that can't be converted stands as an assistant message with an error in its place;
    with `strict` it is raised instead.
    """

    def __init__(
        self,
        callback: ConverterCallback[T],
        *,
        join_strategy: JoinStrategy = "concat-content",
        strict: bool = False,
    ) -> None:
        if join_strategy not in ("concat-content", "none"):
            raise ValueError(f"the join strategy is concat-content or none, not {join_strategy!r}")
        self._callback = callback
        self._join_strategy: JoinStrategy = join_strategy
        self._strict = strict
        self._metadata = NO_METADATA
        self._sources: list[T] = []
        self._outputs: list[tuple[Output, ...]] = []
        self._chunks: list[_Chunk] = []
        self._starts: list[int] = []
        self._messages: list[ThreadMessage] = []
        self._error: tuple[Json, ThreadMessage] | None = None
        self._version: object = None  # of the last result

    @property
    def sources(self) -> Sequence[T]:
        """The messages that were converted last."""
        return self._sources

    def convert(
        self,
        messages: Sequence[T],
        *,
        is_running: bool = False,
        metadata: ConverterMetadata = NO_METADATA,
    ) -> tuple[ThreadMessage, ...]:
        """The thread's messages now; those that didn't change are the same objects as before.

        Raises:
            InvalidMessage: one of them can't be converted, and the converter is strict.
        """
        if metadata is not self._metadata and metadata != self._metadata:
            self._forget()
        kept = common_prefix(self._sources, messages)
        # A chunk may go on in what follows it: the last one that begins in what is kept is made anew.
        index = bisect_left(self._starts, kept) - 1
        while index > 0 and not self._chunks[index].clean:
            index -= 1
        start = self._starts[index] if index >= 0 else 0
        index = max(index, 0)

        tail = list(messages[start:])
        outputs = self._convert_inputs(start, tail, metadata)
        chunks = self._chunk(start, tail, outputs)
        old = {id(chunk.outputs[0]): chunk for chunk in self._chunks[index:]}
        before = self._chunks[index:]
        converted = [
            self._convert_chunk(
                chunk,
                old.get(id(chunk.outputs[0])),
                before[place].message if place < len(before) else None,
                index + place,
                place == len(chunks) - 1,
                is_running,
                metadata,
            )
            for place, chunk in enumerate(chunks)
        ]
        self._metadata = metadata
        self._sources[start:] = tail
        self._outputs[start:] = outputs
        self._chunks[index:] = chunks
        self._starts[index:] = [chunk.start for chunk in chunks]
        self._messages[index:] = converted
        error = self._error_message(metadata.error)
        shown = self._messages if error is None else [*self._messages, error]
        result = Successor.of(shown, self._version, index)
        self._version = result.version
        return result

    def _forget(self) -> None:
        self._sources, self._outputs, self._chunks, self._starts = [], [], [], []
        self._messages = []

    def _convert_inputs(
        self, start: int, tail: list[T], metadata: ConverterMetadata
    ) -> list[tuple[Output, ...]]:
        known = {
            id(source): outputs
            for source, outputs in zip(self._sources[start:], self._outputs[start:], strict=True)
        }
        result = []
        for place, source in enumerate(tail):
            outputs = known.get(id(source))
            if outputs is None:
                try:
                    outputs = read_outputs(self._callback(source, metadata))
                except Exception as error:
                    if self._strict:
                        raise
                    log.warning("message %d can't be converted: %s", start + place, error, exc_info=True)
                    outputs = (_unreadable(source, error),)
            result.append(outputs)
        return result

    def _chunk(self, start: int, tail: list[T], outputs: list[tuple[Output, ...]]) -> list[_Chunk]:
        flat = [(place, output) for place, each in enumerate(outputs) for output in each]
        begins = breaks([output for _, output in flat], self._join_strategy)
        chunks: list[_Chunk] = []
        for (place, output), new in zip(flat, begins, strict=True):
            source = tail[place]
            if new:
                clean = outputs[place][0] is output
                chunks.append(_Chunk(start=start + place, clean=clean, sources=[], outputs=[]))
            chunk = chunks[-1]
            if not chunk.sources or chunk.sources[-1] is not source:
                chunk.sources.append(source)
            chunk.outputs.append(output)
        return chunks

    def _convert_chunk(
        self,
        chunk: _Chunk,
        known: _Chunk | None,
        predecessor: ThreadMessage | None,
        index: int,
        is_last: bool,
        is_running: bool,
        metadata: ConverterMetadata,
    ) -> ThreadMessage:
        fallback_id = FALLBACK_ID.format(index)
        if known is not None and not _are_same(known.outputs, chunk.outputs):
            known = None
        try:
            like = chunk.like = join(chunk.outputs) if known is None else known.like
            if like is None:  # what failed fails again
                assert known is not None
                chunk.message = known.message
                return known.message
            status = self._status(like, chunk, is_last, is_running, metadata)
            if known is not None:
                message = _brought_up_to_date(known.message, like, status, fallback_id)
            else:
                if like.created_at is None:
                    like = msgspec.structs.replace(
                        like, created_at=_time_of(predecessor, like.id or fallback_id)
                    )
                message = from_thread_message_like(like, fallback_id, status)
        except InvalidMessage as error:
            if self._strict:
                raise
            log.warning("message %d can't be shown: %s", index, error)
            chunk.like = None
            id = next((o.id for o in chunk.outputs if isinstance(o, ThreadMessageLike) and o.id), fallback_id)
            message = _failed(id, error)
        if known is None or message is not known.message:
            bind_originals(message, tuple(chunk.sources))
        chunk.message = message
        return message

    def _status(
        self,
        like: ThreadMessageLike,
        chunk: _Chunk,
        is_last: bool,
        is_running: bool,
        metadata: ConverterMetadata,
    ) -> MessageStatus:
        cancelled = metadata.cancelled_message_ids
        return auto_status(
            like.content if not isinstance(like.content, str) else (),
            is_last=is_last,
            is_running=is_running,
            error=metadata.error,
            is_cancelled=bool(cancelled)
            and any(isinstance(o, ThreadMessageLike) and o.id in cancelled for o in chunk.outputs),
        )

    def _error_message(self, error: Json) -> ThreadMessage | None:
        """The message that shows an error where the last one can't: it isn't the assistant's."""
        if not error or (self._messages and self._messages[-1].role == "assistant"):
            return None
        if self._error is None or self._error[0] != error:
            message = ThreadAssistantMessage(
                id=_ERROR_ID.format(generate_id()), content=(), status=IncompleteStatus("error", error)
            )
            self._error = (error, message)
        return self._error[1]


def _are_same(old: list[Output], new: list[Output]) -> bool:
    return len(old) == len(new) and all(a is b for a, b in zip(old, new, strict=True))


def _brought_up_to_date(
    message: ThreadMessage, like: ThreadMessageLike, status: MessageStatus, fallback_id: str
) -> ThreadMessage:
    """The same message in another place, or with another status that follows from the place."""
    if isinstance(message, ThreadAssistantMessage) and like.status is None and message.status != status:
        message = replace(message, status=status)
    if like.id is None and message.id != fallback_id:
        message = replace(message, id=fallback_id)
    return message


def _time_of(predecessor: ThreadMessage | None, id: str) -> datetime:
    """While a message grows it stays as old as it is."""
    return predecessor.created_at if predecessor is not None and predecessor.id == id else now()


def _unreadable(source: Any, error: Exception) -> ThreadMessageLike:
    id = source.get("id") if isinstance(source, Mapping) else getattr(source, "id", None)
    return UnreadableMessage(
        role="assistant",
        content=(),
        id=id if isinstance(id, str) and id else None,
        status=IncompleteStatus("error", _shown(error)),
    )


def _failed(id: str, error: Exception) -> ThreadMessage:
    return ThreadAssistantMessage(id=id, content=(), status=IncompleteStatus("error", _shown(error)))


def _shown(error: Exception) -> Json:
    return {"code": "invalid-message", "message": str(error)}
