"""One run of a chat model: it is called, and called again after its tools, until it is done.

The run writes its message into the repository and tells the runtime; whoever else changes the
message meanwhile, with a tool's result or feedback, is not overwritten.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import anyio
import msgspec

from ...core.operations import Json
from ...messages.auto_status import CANCELLED, COMPLETE, RUNNING, is_pending
from ...messages.chat_model import (
    AbortSignal,
    ChatModelRunOptions,
    ModelContext,
    ReadResult,
    RunAborted,
    RunConfig,
    RunFunction,
    is_stream,
    read_result,
    should_continue,
)
from ...messages.like import LikeMetadata
from ...messages.model import (
    AssistantMessagePart,
    AssistantMetadata,
    IncompleteStatus,
    MessageStatus,
    RequiresActionStatus,
    RunningStatus,
    ThreadAssistantMessage,
    ToolCallMessagePart,
    replace,
)
from ...messages.repository import MessageRepository
from .calling import call_tool
from .tasks import is_cancelled

log = logging.getLogger("threadwire.client")

ToolFunction: TypeAlias = Callable[[Json], Any]
"""Takes a call's arguments and returns its result; it may be a coroutine function."""

TOO_MANY_STEPS = IncompleteStatus("tool-calls")


@dataclass(eq=False, kw_only=True)
class LocalRun:
    """A run, from its beginning to its end."""

    repository: MessageRepository
    parent_id: str | None
    message_id: str
    run_config: RunConfig
    rounds: int
    """How often the model has been called for this message."""
    changed: Callable[[], None]
    signal: AbortSignal = field(default_factory=AbortSignal)
    superseded: bool = False
    """Another run took its place."""
    results: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Results of tool calls that came from outside while the model was writing."""
    done: anyio.Event = field(default_factory=anyio.Event)
    error: Exception | None = None
    _scope: anyio.CancelScope | None = None

    @property
    def message(self) -> ThreadAssistantMessage:
        """The message as it is now."""
        message = self.repository.message(self.message_id)
        assert isinstance(message, ThreadAssistantMessage)
        return message

    @property
    def is_gone(self) -> bool:
        """Whether the message was removed."""
        return self.message_id not in self.repository

    def cancel(self, *, superseded: bool = False) -> None:
        """Ends the run where it stands."""
        self.superseded = self.superseded or superseded
        self.signal.abort()
        if self._scope is not None:
            self._scope.cancel()
        open_ = (RunningStatus, RequiresActionStatus)
        if superseded and not self.is_gone and isinstance(self.message.status, open_):
            self.set_status(CANCELLED)

    def set_status(self, status: MessageStatus) -> None:
        """Gives the message this status."""
        self._put(replace(self.message, status=status))

    async def round(
        self,
        run: RunFunction,
        *,
        max_steps: int,
        human_tools: Sequence[str] | None,
        context: ModelContext,
        thread_id: str | None,
    ) -> None:
        """One call of the model. Raises what the model raises, once the message says so."""
        over = self.signal.aborted
        if over:
            self._end(CANCELLED)
            return
        before = self.message
        if max(len(before.metadata.steps), self.rounds) >= max_steps:
            self.set_status(TOO_MANY_STEPS)
            return
        self.rounds += 1
        self.set_status(RUNNING)
        options = ChatModelRunOptions(
            messages=() if self.parent_id is None else self.repository.messages(self.parent_id),
            run_config=self.run_config,
            context=context,
            abort_signal=self.signal,
            message_id=self.message_id,
            parent_id=self.parent_id,
            thread_id=thread_id,
            current=lambda: self.message,
        )
        try:
            with anyio.CancelScope() as self._scope:
                await self._take_answer(run, options, before)
        except RunAborted:
            self._end(CANCELLED)
            return
        except anyio.get_cancelled_exc_class():
            self._end(CANCELLED)
            if is_cancelled():
                raise
            return  # something that the model waited for was cancelled
        except Exception as error:
            self._end(IncompleteStatus("error", error_json(error)))
            raise
        finally:
            self._scope = None
        status = None if self.is_gone else self.message.status
        if self.signal.aborted and (
            isinstance(status, RunningStatus)
            or (
                isinstance(status, RequiresActionStatus)
                and (self.superseded or should_continue(self.message, human_tools))
            )
        ):
            self._end(CANCELLED)
        elif isinstance(status, RunningStatus):
            self._end(COMPLETE)

    async def execute(self, tools: Mapping[str, ToolFunction]) -> None:
        """Runs the tools whose calls wait for a result, all at once, unless somebody is to be asked."""
        if self.is_gone or self.signal.aborted:
            return
        waiting = self.message.status
        if not isinstance(waiting, RequiresActionStatus) or waiting.reason != "tool-calls":
            return
        calls = [part for part in self.message.content if _is_for(part, tools)]
        if not calls:
            return
        self.set_status(RUNNING)
        try:
            with anyio.CancelScope() as self._scope:
                async with anyio.create_task_group() as tasks:
                    for part in calls:
                        tasks.start_soon(self._call, part, tools)
        except anyio.get_cancelled_exc_class():
            self._end(CANCELLED)
            raise
        finally:
            self._scope = None
        self._end(CANCELLED if self.signal.aborted else waiting)

    async def _call(self, part: Any, tools: Mapping[str, ToolFunction]) -> None:
        result, failed = await call_tool(part.tool_name, tools[part.tool_name], part.args)
        fields = {"result": result, "is_error": failed}
        self.results[part.tool_call_id] = fields
        if not self.is_gone and not self.superseded:
            message = self.message
            self._put(replace(message, content=self._with_results(message.content)))

    async def _take_answer(
        self, run: RunFunction, options: ChatModelRunOptions, before: ThreadAssistantMessage
    ) -> None:
        answer: Any = run(options)
        if not is_stream(answer):
            self._take(read_result(await answer), before)
        elif hasattr(answer, "aclose"):
            async with aclosing(answer):
                await self._take_each(answer, before)
        else:
            await self._take_each(answer, before)

    async def _take_each(self, answer: Any, before: ThreadAssistantMessage) -> None:
        async for result in answer:
            if self.signal.aborted:
                return
            self._take(read_result(result), before)

    def _take(self, result: ReadResult, before: ThreadAssistantMessage) -> None:
        """Puts a result in the place of what this round has given so far."""
        if self.is_gone or self.superseded:
            return
        message = self.message
        if result.content is not None:
            content = (*before.content, *result.content)
            message = replace(message, content=self._with_results(content))
        if result.status is not None:
            message = replace(message, status=result.status)
        if result.metadata is not None:
            message = replace(message, metadata=_merged(message.metadata, result.metadata, before.metadata))
        self._put(message)

    def _with_results(self, content: Sequence[AssistantMessagePart]) -> tuple[AssistantMessagePart, ...]:
        if not self.results:
            return tuple(content)
        return tuple(self._with_result(part) for part in content)

    def _with_result(self, part: AssistantMessagePart) -> AssistantMessagePart:
        if not isinstance(part, ToolCallMessagePart) or not is_pending(part):
            return part
        return replace(part, **self.results.get(part.tool_call_id, {}))

    def _end(self, status: MessageStatus) -> None:
        if not self.is_gone and not self.superseded:
            self.set_status(status)

    def _put(self, message: ThreadAssistantMessage) -> None:
        self.repository.put(self.parent_id, message)
        self.changed()


def _is_for(part: object, tools: Mapping[str, ToolFunction]) -> bool:
    """Whether the part is a call that one of the tools is to answer now."""
    return (
        isinstance(part, ToolCallMessagePart)
        and is_pending(part)
        and part.tool_name in tools
        and part.interrupt is None
        and (part.approval is None or part.approval.approved is True)
    )


def _merged(metadata: AssistantMetadata, new: LikeMetadata, before: AssistantMetadata) -> AssistantMetadata:
    """The metadata with a result's: lists go on from those before the round."""
    changes: dict[str, Any] = {}
    if new.state is not msgspec.UNSET:
        changes["state"] = new.state
    for name in ("annotations", "data", "steps"):
        items = getattr(new, name)
        if items is not None:
            changes[name] = (*getattr(before, name), *items)
    if new.timing is not None:
        changes["timing"] = new.timing
    if new.custom is not None:
        changes["custom"] = {**before.custom, **new.custom}
    return replace(metadata, **changes)


def error_json(error: BaseException) -> Json:
    """An error as it stands in a message's status: `{code, message}`."""
    code = getattr(error, "code", None)
    return {"code": code if isinstance(code, str) else "unknown", "message": str(error)}
