"""What converters give for each message, and how assistant and tool outputs become one message."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar, Literal, TypeAlias

import msgspec

from ..core.commands import convert_error
from ..core.operations import Json
from .errors import InvalidMessage
from .like import JoinStrategy, LikeMetadata, MessageLike, ThreadMessageLike, parts_of, read_like
from .model import (
    ReasoningMessagePart,
    ThreadMessage,
    ToolCallLike,
    ToolCallMessagePart,
)


class ToolResultLike(msgspec.Struct, frozen=True, kw_only=True, rename="camel", tag_field="role", tag="tool"):
    """A message with the result of a tool call, which joins the call that an assistant message made."""

    role: ClassVar[Literal["tool"]] = "tool"
    tool_call_id: str
    tool_name: str | None = None
    result: Json = None
    artifact: Json | msgspec.UnsetType = msgspec.UNSET
    is_error: bool | None = None
    messages: tuple[ThreadMessage, ...] | None = None


class UnreadableMessage(ThreadMessageLike, frozen=True, kw_only=True):
    """Stands in the place of a message that couldn't be converted."""


Output: TypeAlias = ThreadMessageLike | ToolResultLike
OutputLike: TypeAlias = MessageLike | ToolResultLike


def read_outputs(given: OutputLike | Sequence[OutputLike]) -> tuple[Output, ...]:
    """What a callback returned, typed. Tool results without an id are left out.

    Raises:
        InvalidMessage: it isn't a message, or a list of them.
    """
    outputs = given if isinstance(given, list | tuple) else (given,)
    read = (_output(output) for output in outputs)
    return tuple(output for output in read if not isinstance(output, ToolResultLike) or output.tool_call_id)


def _output(output: Any) -> Output:
    if isinstance(output, ToolResultLike):
        return output
    if isinstance(output, Mapping) and output.get("role") == "tool":
        if not isinstance(output.get("toolCallId"), str):
            output = {**output, "toolCallId": ""}
        try:
            return msgspec.convert(output, ToolResultLike)
        except msgspec.ValidationError as error:
            raise InvalidMessage(*convert_error(error, "")) from None
    return read_like(output)


def stands_alone(output: Output) -> bool:
    """Whether nothing joins it: what was said in a voice session, and what couldn't be converted."""
    if isinstance(output, ToolResultLike) or output.role != "assistant":
        return False
    if isinstance(output, UnreadableMessage):
        return True
    return output.metadata is not None and output.metadata.modality == "voice"


def breaks(outputs: Sequence[Output], join_strategy: JoinStrategy | None) -> Iterator[bool]:
    """For each output, whether a new message begins with it."""
    joins = False  # there is an assistant or tool output before
    only_results = False  # and no other assistant output may join it
    for output in outputs:
        if isinstance(output, ToolResultLike):
            begins = not joins
            yield begins
            joins = True
            only_results = only_results and not begins
            continue
        alone = stands_alone(output)
        begins = output.role != "assistant" or not joins or only_results or alone
        yield begins
        joins = output.role == "assistant"
        config = output.convert_config
        only_results = joins and (
            alone
            or join_strategy == "none"
            or (config is not None and config.join_strategy == "none")
            or (only_results and not begins)
        )


def join(outputs: Sequence[Output]) -> ThreadMessageLike:
    """One message of outputs that belong together.

    Id, time and status are those of the first output with content; tool results go into their
    calls, and are left out where there is none.

    Raises:
        InvalidMessage: a result names another tool than its call.
    """
    first = outputs[0]
    if isinstance(first, ThreadMessageLike) and (first.role != "assistant" or len(outputs) == 1):
        content = parts_of(first)
        if first.role != "assistant" or not _joins_within(content):
            return first
    joined = _Joined()
    for output in outputs:
        if isinstance(output, ToolResultLike):
            joined.result(output)
        else:
            joined.message(output)
    return joined.like()


def _joins_within(content: Sequence[Any]) -> bool:
    """Whether parts of one message could be merged with each other."""
    kinds = (ToolCallLike, ToolCallMessagePart, ReasoningMessagePart)
    return sum(isinstance(part, kinds) for part in content) > 1


class _Joined:
    def __init__(self) -> None:
        self._id: str | None = None
        self._rest: dict[str, Any] = {}
        self._metadata: dict[str, Any] | None = None
        self._parts: list[Any] = []
        self._calls: dict[str, int] = {}
        self._reasoning: dict[str, int] = {}

    def like(self) -> ThreadMessageLike:
        metadata = None if self._metadata is None else LikeMetadata(**self._metadata)
        return ThreadMessageLike(
            role="assistant", id=self._id, content=tuple(self._parts), metadata=metadata, **self._rest
        )

    def result(self, output: ToolResultLike) -> None:
        index = self._calls.get(output.tool_call_id)
        if index is None:
            return
        call = self._parts[index]
        if output.tool_name is not None and output.tool_name != call.tool_name:
            raise InvalidMessage(
                f"the result of {output.tool_call_id!r} is one of {output.tool_name!r}, "
                f"the call is one of {call.tool_name!r}",
                "toolName",
            )
        self._parts[index] = msgspec.structs.replace(
            call,
            result=output.result,
            artifact=output.artifact,
            is_error=output.is_error,
            messages=output.messages,
        )

    def message(self, output: ThreadMessageLike) -> None:
        if not self._parts:
            self._id = output.id
            for name in ("created_at", "status"):
                value = getattr(output, name)
                if value is not None:
                    self._rest.setdefault(name, value)
            if output.attachments:
                self._rest["attachments"] = self._rest.get("attachments", ()) + output.attachments
        if output.metadata is not None:
            self._add_metadata(output.metadata)
        for part in parts_of(output):
            self._add(part)

    def _add_metadata(self, metadata: LikeMetadata) -> None:
        if self._metadata is None:
            self._metadata = {}
        merged = self._metadata
        if metadata.state is not msgspec.UNSET:
            merged["state"] = metadata.state
        for name in ("annotations", "data", "steps"):
            items = getattr(metadata, name)
            if items is not None:
                merged[name] = merged.get(name, ()) + tuple(items)
        if metadata.custom is not None:
            merged["custom"] = {**merged.get("custom", {}), **metadata.custom}
        for name in ("timing", "modality", "submitted_feedback", "is_optimistic"):
            value = getattr(metadata, name)
            if value:
                merged[name] = value

    def _add(self, part: Any) -> None:
        if isinstance(part, ToolCallLike | ToolCallMessagePart):
            index = self._calls.get(part.tool_call_id) if part.tool_call_id else None
            if index is not None:
                fields = {**_fields(self._parts[index]), **_fields(part)}
                self._parts[index] = ToolCallLike(**fields)
                return
            if part.tool_call_id is not None:
                self._calls.setdefault(part.tool_call_id, len(self._parts))
        elif isinstance(part, ReasoningMessagePart) and part.parent_id:
            index = self._reasoning.get(part.parent_id)
            if index is not None:
                before = self._parts[index]
                self._parts[index] = msgspec.structs.replace(before, text=f"{before.text}\n\n{part.text}")
                return
            self._reasoning[part.parent_id] = len(self._parts)
        self._parts.append(part)


def _fields(call: Any) -> dict[str, Any]:
    """The fields of a tool call that say something."""
    values = {name: getattr(call, name) for name in call.__struct_fields__}
    return {name: value for name, value in values.items() if value is not None and value is not msgspec.UNSET}
