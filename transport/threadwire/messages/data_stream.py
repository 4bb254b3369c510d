"""The data-stream protocol: lines of `TYPE:JSON`, and the assistant message that they add up to."""

from __future__ import annotations

import codecs
import json
import logging
from collections.abc import Callable, Mapping
from typing import Any, Final

import msgspec

from ..core.errors import Refused
from ..core.operations import AppendText, Json, Set
from ..core.operations import apply as apply_operations
from .auto_status import COMPLETE, PENDING, is_pending
from .errors import ClientError
from .javascript import stringify
from .like import LikeMetadata, generate_id
from .model import (
    AssistantMessagePart,
    CompleteStatus,
    DataMessagePart,
    FileMessagePart,
    IncompleteStatus,
    MessageStatus,
    ReasoningMessagePart,
    RunningStatus,
    SourceMessagePart,
    TextMessagePart,
    ToolCallMessagePart,
    replace,
)
from .partial_json import parse_partial_json

log = logging.getLogger("threadwire.client")

_RUNNING: Final = RunningStatus()


class DataStreamError(ClientError):
    """The stream isn't one, or ends in the middle of a line."""


class DataStreamMessage:
    """Takes a stream's bytes in, and holds the message as far as it is there.

    Fields of `state` chunks are applied to `state`, which starts with the one given. `error` is what
    the stream said went wrong. With `strict` off, chunks that don't fit are left out.
    """

    def __init__(self, *, state: Json = None, strict: bool = True) -> None:
        self.parts: list[AssistantMessagePart] = []
        self.status: MessageStatus = _RUNNING
        self.state = state
        self.annotations: list[Json] = []
        self.data: list[Json] = []
        self.steps: list[Json] = []
        self.error: str | None = None
        self._state_changed = False
        self._strict = strict
        self._decode: Final = codecs.getincrementaldecoder("utf-8")("replace")
        self._line = ""
        self._after_return = False
        self._open: int | None = None  # the text part that grows
        self._calls: dict[str, int] = {}
        self._closed: set[str] = set()  # calls whose arguments are complete
        self._take: Final[Mapping[str, Callable[[Any], None]]] = {
            "0": lambda value: self._text(TextMessagePart, value, None),
            "g": lambda value: self._text(ReasoningMessagePart, value, None),
            "aui-text-delta": lambda v: self._text(TextMessagePart, v["textDelta"], v["parentId"]),
            "aui-reasoning-delta": lambda v: self._text(
                ReasoningMessagePart, v["reasoningDelta"], v["parentId"]
            ),
            "aui-reasoning-part-start": self._reasoning,
            "b": self._call_start,
            "c": self._call_args,
            "9": self._call,
            "a": self._result,
            "h": lambda value: self._add(msgspec.convert({"type": "source", **value}, SourceMessagePart)),
            "k": lambda value: self._add(msgspec.convert({"type": "file", **value}, FileMessagePart)),
            "aui-data": lambda value: self._add(DataMessagePart(value["name"], value["data"])),
            "2": lambda value: self.data.extend(value),
            "8": lambda value: self.annotations.extend(value),
            "f": self._step_start,
            "e": self._step_finish,
            "d": self._finish,
            "3": self._fail,
            "aui-state": self._update_state,
            "i": lambda value: None,
            "j": lambda value: None,
        }

    @property
    def metadata(self) -> LikeMetadata:
        """What the stream said beside the content."""
        return LikeMetadata(
            state=self.state if self._state_changed else msgspec.UNSET,
            annotations=tuple(self.annotations),
            data=tuple(self.data),
            steps=tuple(self.steps),
        )

    def feed(self, data: bytes) -> bool:
        """Takes in what came; whether it held any chunk.

        Raises:
            DataStreamError: a chunk of an unknown type, or one that doesn't fit.
        """
        text = self._decode.decode(data)
        if self._after_return and text:
            text = text.removeprefix("\n")
            self._after_return = False
        self._after_return = self._after_return or text.endswith("\r")
        lines = (self._line + text).replace("\r\n", "\n").replace("\r", "\n").split("\n")
        self._line = lines.pop()
        return sum(map(self._chunk, lines)) > 0

    def end(self) -> None:
        """The stream has ended.

        Raises:
            DataStreamError: in the middle of a line.
        """
        if self._line:
            raise DataStreamError(f"the stream ends in the middle of a line: {self._line[:200]!r}")
        self._close_calls()
        self._close_text()
        if isinstance(self.status, RunningStatus):
            self.status = PENDING if any(map(is_pending, self.parts)) else COMPLETE

    def _chunk(self, line: str) -> bool:
        kind, colon, value = line.partition(":")
        if not colon:
            if line.strip():
                log.warning("not a chunk of a data stream: %.200r", line)
            return False
        try:
            parsed = json.loads(value)
        except ValueError:
            log.warning("not a chunk of a data stream: %.200r", line)
            return False
        take = self._take.get(kind)
        try:
            if take is None:
                raise DataStreamError(f"a chunk of the unknown type {kind[:100]!r}")
            take(parsed)
        except (DataStreamError, Refused, KeyError, TypeError, ValueError, AttributeError) as error:
            if self._strict:
                if isinstance(error, DataStreamError):
                    raise
                raise DataStreamError(f"a chunk of the type {kind!r} with wrong fields: {error}") from error
            log.warning("a chunk of the type %.100r is left out: %s", kind, error)
            return False
        return True

    # text

    def _text(self, kind: type[Any], delta: str, parent_id: str | None) -> None:
        part: Any = None if self._open is None else self.parts[self._open]
        if type(part) is not kind or part.parent_id != parent_id:
            self._add(kind(text="", parent_id=parent_id, status=_RUNNING))
            self._open = len(self.parts) - 1
            part = self.parts[-1]
        assert self._open is not None
        self.parts[self._open] = replace(part, text=part.text + delta)

    def _reasoning(self, value: Any) -> None:
        parent_id, summary = value.get("parentId") or None, value.get("unstable_summary")
        self._add(ReasoningMessagePart("", parent_id=parent_id, summary=summary, status=_RUNNING))
        self._open = len(self.parts) - 1

    def _add(self, part: AssistantMessagePart) -> None:
        self._close_text()
        self.parts.append(part)

    def _close_text(self) -> None:
        if self._open is not None:
            part: Any = self.parts[self._open]
            self.parts[self._open] = replace(part, status=CompleteStatus("unknown"))
            self._open = None

    # tool calls

    def _call_start(self, value: Any) -> None:
        id = value["toolCallId"]
        if id in self._calls:
            raise DataStreamError(f"the tool call {id!r} begins twice")
        self._add(
            ToolCallMessagePart(
                tool_call_id=id,
                tool_name=value["toolName"],
                args={},
                args_text="",
                parent_id=value.get("parentId") or None,
            )
        )
        self._calls[id] = len(self.parts) - 1

    def _call_args(self, value: Any) -> None:
        id = value["toolCallId"]
        self._index(id)
        if id in self._closed:
            return
        if value["argsTextDelta"]:
            self._append_args(id, value["argsTextDelta"])
        if value.get("isFinal") is True:
            self._close_args(id)

    def _call(self, value: Any) -> None:
        id = value["toolCallId"]
        if id not in self._calls:
            self._call_start(value)
            if "args" in value:
                self._append_args(id, stringify(value["args"]))
        self._close_args(id)

    def _result(self, value: Any) -> None:
        id = value["toolCallId"]
        index = self._index(id)
        self._close_args(id)
        fields: dict[str, Any] = {"artifact": value["artifact"]} if "artifact" in value else {}
        part: Any = self.parts[index]
        self.parts[index] = replace(
            part, result=value.get("result"), is_error=bool(value.get("isError")), **fields
        )

    def _append_args(self, id: str, delta: str) -> None:
        index = self._calls[id]
        part = self.parts[index]
        assert isinstance(part, ToolCallMessagePart)
        text = part.args_text + delta
        parsed = parse_partial_json(text)
        self.parts[index] = replace(part, args_text=text, args=part.args if parsed is None else parsed)

    def _close_args(self, id: str) -> None:
        if id in self._closed:
            return
        self._closed.add(id)
        part = self.parts[self._calls[id]]
        if isinstance(part, ToolCallMessagePart) and not part.args_text:
            self._append_args(id, "{}")

    def _close_calls(self) -> None:
        for id in self._calls:
            self._close_args(id)

    def _index(self, id: str) -> int:
        try:
            return self._calls[id]
        except KeyError:
            raise DataStreamError(f"there is no tool call {id!r}") from None

    # the message

    def _step_start(self, value: Any) -> None:
        self.steps.append({"state": "started", "messageId": value.get("messageId")})

    def _step_finish(self, value: Any) -> None:
        self._close_calls()
        step = {"state": "finished", "messageId": generate_id()}
        if self.steps and self.steps[-1].get("state") == "started":
            step = {**self.steps.pop(), "state": "finished"}
        given = {name: value[name] for name in ("finishReason", "usage", "isContinued") if name in value}
        self.steps.append({**step, **given})

    def _finish(self, value: Any) -> None:
        self._close_calls()
        if isinstance(self.status, IncompleteStatus) and self.status.reason == "error":
            return
        reason = value["finishReason"]
        if reason == "tool-calls":
            self.status = PENDING
        elif reason in ("stop", "unknown"):
            self.status = CompleteStatus(reason)
        else:
            self.status = IncompleteStatus(reason)

    def _fail(self, value: Any) -> None:
        self.error = str(value)
        self.status = IncompleteStatus("error", {"code": "unknown", "message": self.error})

    def _update_state(self, operations: Any) -> None:
        typed = msgspec.convert(operations, list[Set | AppendText])
        self.state = apply_operations({} if self.state is None else self.state, typed)
        self._state_changed = True
