"""What a chat model is to who runs it: one function from messages to content."""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeAlias

import anyio
import msgspec

from ..core.commands import convert_error
from ..core.operations import Json
from .auto_status import is_pending
from .errors import InvalidAdapter, InvalidMessage
from .like import LikeMetadata, assistant_parts
from .model import (
    AssistantMessagePart,
    MessageStatus,
    RequiresActionStatus,
    ThreadAssistantMessage,
    ThreadMessage,
    ToolCallMessagePart,
)

RunConfig: TypeAlias = Mapping[str, Json]
"""What a run is told beside the messages: `{"custom": {...}}`."""


class RunAborted(Exception):
    """Raised by a chat model, it ends its run as cancelled."""


class AbortSignal:
    """Tells a chat model that its run is no longer wanted; it is cancelled then as well."""

    def __init__(self) -> None:
        self._event = anyio.Event()

    @property
    def aborted(self) -> bool:
        """Whether the run is to end."""
        return self._event.is_set()

    async def wait(self) -> None:
        """Waits until the run is to end."""
        await self._event.wait()

    def abort(self) -> None:
        """Ends the run."""
        self._event.set()


@dataclass(frozen=True, kw_only=True)
class ModelContext:
    """What a model is told beside the messages: instructions, tools (name to JSON Schema), settings."""

    system: str | None = None
    tools: Mapping[str, Json] = field(default_factory=dict)
    call_settings: Mapping[str, Json] = field(default_factory=dict)
    config: Mapping[str, Json] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class ChatModelRunOptions:
    """What a chat model runs on: the `messages` up to the one it answers, and how to answer.

    `current()` is the message that it is writing, as far as it is there: after a tool's results
    the model is called again, and the calls and results are in it.
    """

    messages: tuple[ThreadMessage, ...]
    run_config: RunConfig
    context: ModelContext
    abort_signal: AbortSignal
    message_id: str
    parent_id: str | None
    thread_id: str | None
    current: Callable[[], ThreadAssistantMessage]


class ChatModelRunResult(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """An answer so far. `content` is all of it, not what is new; what is None stays as it is."""

    content: Sequence[Any] | None = None
    status: MessageStatus | None = None
    metadata: LikeMetadata | None = None


RunResult: TypeAlias = ChatModelRunResult | Mapping[str, Any]
RunFunction: TypeAlias = Callable[[ChatModelRunOptions], Awaitable[RunResult] | AsyncIterator[RunResult]]


class ChatModelAdapter(Protocol):
    """A chat model: a coroutine function, or an async generator of answers that grow."""

    def run(self, options: ChatModelRunOptions) -> Awaitable[RunResult] | AsyncIterator[RunResult]:
        """The answer, whole or piece by piece."""


def run_function(model: ChatModelAdapter | RunFunction) -> RunFunction:
    """The `run` of an adapter, or the function itself. Raises InvalidAdapter where there is none."""
    run = getattr(model, "run", model)
    if not callable(run):
        raise InvalidAdapter("chat_model", f"a function or something with a run, not {type(model).__name__}")
    return run


@dataclass(frozen=True)
class ReadResult:
    """A result with its parts typed; `content` None is no change."""

    content: tuple[AssistantMessagePart, ...] | None
    status: MessageStatus | None
    metadata: LikeMetadata | None


def read_result(result: RunResult) -> ReadResult:
    """What a model returned or yielded.

    Raises:
        InvalidMessage: a wrong field, or a part that an answer can't have.
    """
    if isinstance(result, Mapping):
        try:
            rest = {name: value for name, value in result.items() if name != "content"}
            typed = msgspec.convert(rest, ChatModelRunResult)
        except msgspec.ValidationError as error:
            raise InvalidMessage(*convert_error(error, "")) from None
        content = result.get("content")
    elif isinstance(result, ChatModelRunResult):
        typed, content = result, result.content
    else:
        raise InvalidMessage(f"a chat model gives results with content, not {type(result).__name__}")
    if content is not None and not isinstance(content, list | tuple):
        raise InvalidMessage("a list of parts", "content")
    parts = None if content is None else assistant_parts(content)
    return ReadResult(parts, typed.status, typed.metadata)


def is_stream(answer: object) -> bool:
    """Whether a model yields its answer piece by piece. Raises InvalidAdapter where it does neither."""
    if hasattr(answer, "__aiter__"):
        return True
    if inspect.isawaitable(answer):
        return False
    raise InvalidAdapter("run", f"a coroutine or an async generator, not {type(answer).__name__}")


def should_continue(message: ThreadAssistantMessage, human_tools: Sequence[str] | None) -> bool:
    """Whether the model is to be called again: it made tool calls, and what has to be there is.

    Without `human_tools` every call has to have its result; else only theirs have to. A call that
    asks for approval has to be decided.
    """
    status = message.status
    if not isinstance(status, RequiresActionStatus) or status.reason != "tool-calls":
        return False
    for part in message.content:
        if not isinstance(part, ToolCallMessagePart) or not is_pending(part):
            continue
        if part.approval is not None:
            if part.approval.is_open:
                return False
        elif human_tools is None or part.tool_name in human_tools:
            return False
    return True
