"""A thread that lives here: one function is the model, and everything else is built in.

Branches, edits, runs again, tool calls, cancelling, and a history that is kept elsewhere.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import anyio
import msgspec

from ...core.operations import Json
from ...messages.auto_status import COMPLETE, RUNNING, auto_status, is_pending
from ...messages.chat_model import (
    ChatModelAdapter,
    ModelContext,
    RunConfig,
    RunFunction,
    run_function,
    should_continue,
)
from ...messages.like import MessageLike, from_thread_message_like, generate_id
from ...messages.model import (
    AssistantMetadata,
    RequiresActionStatus,
    RunningStatus,
    ThreadAssistantMessage,
    ThreadMessage,
    ToolCallMessagePart,
    replace,
)
from ...messages.repository import ExportedMessageRepository, RepositoryItem
from ..errors import InvalidAdapter, MessageNotSent, NotFound, NotNow, NotSupported
from .actions import (
    AddToolResultOptions,
    Appendable,
    AppendMessage,
    ResumeRun,
    StartRun,
    ThreadSuggestion,
    ToolApprovalAnswer,
    read_append,
)
from .adapters import (
    Capabilities,
    DictationAdapter,
    FeedbackAdapter,
    HistoryAdapter,
    LoadedHistory,
    SpeechAdapter,
    SuggestionAdapter,
)
from .attachments import AttachmentAdapter
from .calling import call, check_handler
from .history import HistoryWriter
from .local_run import LocalRun, ToolFunction
from .queue import Lane, MessageQueue, QueueItem
from .suggestions import Suggestions
from .tasks import Tasks
from .thread import ThreadRuntime

log = logging.getLogger("threadwire.client")


@dataclass(frozen=True, kw_only=True)
class LocalAdapters:
    """What is plugged into a local runtime beside its model."""

    history: HistoryAdapter | None = None
    suggestion: SuggestionAdapter | None = None
    attachments: AttachmentAdapter | None = None
    speech: SpeechAdapter | None = None
    dictation: DictationAdapter | None = None
    feedback: FeedbackAdapter | None = None


class LocalRuntime(ThreadRuntime):
    """Runs a chat model on a thread of its own, for the length of an `async with`.

        async def model(options):
            yield {"content": [{"type": "text", "text": "Hello"}]}

        async with LocalRuntime(model) as runtime:
            await runtime.append("Hi")          # returns when the model has answered

    A run belongs to the runtime: cancelling who waits for it doesn't stop it, `cancel_run` does,
    and leaving the block. The model is called at most `max_steps` times for one message. Calls of
    `tools` that it leaves open are executed here, once they are approved where they have to be. A
    tool in `human_tools` is waited for; without the list, every other tool call is. With `queue`,
    messages that are sent during a run wait for its end.

    Raises:
        InvalidAdapter: the model can't be called, or `max_steps` is no number.
        InvalidMessage: an initial message is none.
    """

    def __init__(
        self,
        chat_model: ChatModelAdapter | RunFunction,
        *,
        initial_messages: Iterable[MessageLike] = (),
        max_steps: int = 2,
        human_tools: Sequence[str] | None = None,
        tools: Mapping[str, ToolFunction] | None = None,
        adapters: LocalAdapters | None = None,
        context: ModelContext | None = None,
        queue: bool = False,
        thread_id: str | None = None,
        initialize: Callable[[], Awaitable[object]] | None = None,
    ) -> None:
        super().__init__()
        if not isinstance(max_steps, int) or max_steps < 0:
            raise InvalidAdapter("max_steps", "a number of calls, 0 or more")
        self._run_model = run_function(chat_model)
        self._max_steps = max_steps
        self._human_tools = human_tools
        self._tools = dict(tools or {})
        for name, tool in self._tools.items():
            check_handler(f"tools.{name}", tool)
        self._adapters = adapters or LocalAdapters()
        self.context = context or ModelContext()
        """What the model is told beside the messages; may be changed between runs."""
        self.thread_id = thread_id
        self._initialize = initialize
        self._initializing = anyio.Lock(fast_acquire=True)
        self._run_config: RunConfig = {}
        self._active: LocalRun | None = None
        self._begun = 0  # runs so far
        self._rounds: dict[str, int] = {}
        self._tasks = Tasks()
        self._entered = False
        self._loaded_event = anyio.Event()
        self._load_error: Exception | None = None
        self._history = HistoryWriter(self._adapters.history, self._tasks)
        self._suggested = Suggestions(self._adapters.suggestion, self._notify)
        self._queue = MessageQueue(self._run_queued) if queue else None
        self._capabilities = _capabilities(self._adapters, self._history.can_delete, queue)
        exported = ExportedMessageRepository.from_messages(initial_messages)
        if exported.messages:
            self._repository = self._loaded(_with_answerable_pauses(exported))

    async def __aenter__(self) -> Self:
        await self._tasks.__aenter__()
        self._entered = True
        if self._adapters.history is None:
            self._loaded_event.set()
        else:
            self._tasks.start(self._load_history, self._adapters.history)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        self._entered = False
        if self._active is not None:
            active = self._active
            active.cancel()
            with anyio.CancelScope(shield=True):
                await active.done.wait()
        return await self._tasks.__aexit__(kind, error, trace)

    # what there is

    @property
    def capabilities(self) -> Capabilities:
        """What the adapters allow, and all that is built in."""
        return self._capabilities

    @property
    def is_loading(self) -> bool:
        """Whether the history is still on its way here."""
        return self._adapters.history is not None and not self._loaded_event.is_set()

    @property
    def suggestions(self) -> tuple[ThreadSuggestion, ...]:
        """What the user may want to say next."""
        return self._suggested.current

    @property
    def attachment_adapter(self) -> AttachmentAdapter | None:
        """Makes attachments of files."""
        return self._adapters.attachments

    @property
    def dictation_adapter(self) -> DictationAdapter | None:
        """Writes down what is said."""
        return self._adapters.dictation

    @property
    def speech_adapter(self) -> SpeechAdapter | None:
        """Reads aloud."""
        return self._adapters.speech

    @property
    def feedback_adapter(self) -> FeedbackAdapter | None:
        """Takes feedback."""
        return self._adapters.feedback

    @property
    def queue(self) -> tuple[QueueItem, ...]:
        """Messages that wait for the run to end, the next one first."""
        return () if self._queue is None else (*self._queue.steer_items, *self._queue.items)

    def move_queue_item(self, item_id: str, *, lane: Lane | None = None, before: str | None = None) -> None:
        """Puts a waiting message elsewhere. Raises NotSupported, NotFound."""
        if self._queue is None:
            super().move_queue_item(item_id, lane=lane, before=before)
        else:
            self._queue.move(item_id, lane=lane, before=before)
            self._notify()

    def remove_queue_item(self, item_id: str) -> None:
        """Forgets a waiting message. Raises NotSupported, NotFound."""
        if self._queue is None:
            super().remove_queue_item(item_id)
        else:
            self._queue.remove(item_id)
            self._notify()

    async def loaded(self) -> None:
        """Waits for the history. Raises what loading it raised, until other messages take their place."""
        await self._loaded_event.wait()
        if self._load_error is not None:
            raise self._load_error

    async def idle(self) -> None:
        """Waits until no run goes on; one that waits for a human doesn't."""
        await self.wait(lambda: self._active is None)

    # what can be done

    async def append(self, message: Appendable) -> None:
        """Adds a message; after a user's the model is run, and awaited. With a queue, it waits there.

        Raises:
            InvalidMessage: it is none.
            NotFound: its parent isn't there.
            MessageNotSent: the thread couldn't be made; the message is gone again.
            And what the model raises, or the history.
        """
        self._check_entered()
        tail = self._tail_id
        append = read_append(message, tail)
        at_end = append.parent_id == tail
        if self._adapters.history is not None:
            await self.loaded()
            if at_end:  # of what is there by now
                append = replace(append, parent_id=self._tail_id)
        at_end = append.parent_id == self._tail_id
        if self._queue is not None and append.starts_run and at_end:
            busy = append.steer if append.steer is not None else self._queue.is_busy
            (self._queue.steer if busy else self._queue.enqueue)(append)
            self._notify()
            return
        if self._queue is not None and not at_end:
            self._queue.clear()
        await self._append(append)

    async def start_run(self, run: StartRun) -> None:
        """Runs the model after `run.parent_id`, and waits for it. Raises NotFound, and as the model."""
        await self._start(run, None)

    async def resume_run(self, run: ResumeRun) -> None:
        """As `start_run`, with `run.stream` in the place of the model in the first round.

        Raises:
            NotSupported: there is no stream.
        """
        if run.stream is None:
            raise NotSupported("resume", "a run is resumed from a stream")
        await self._start(run, run.stream)

    async def cancel_run(self) -> None:
        """Stops the run, if one goes on; what has been written stays. Queued messages are dropped."""
        if self._queue is not None:
            self._queue.clear()
        self._suggested.stop()
        if self._active is not None:
            self._active.cancel()

    async def add_tool_result(self, options: AddToolResultOptions) -> None:
        """Gives a tool call its result. Once nothing is missing at the thread's end, the run goes on.

        A result that comes again takes the place of the first, and runs nothing. The run that
        goes on isn't awaited: see `idle`.

        Raises:
            NotFound: there is no such message or call.
            NotSupported: the message isn't the assistant's.
        """
        self._check_entered()
        message = self._assistant_message(options.message_id)
        fields: dict[str, Any] = {"result": options.result, "is_error": options.is_error}
        if options.artifact is not msgspec.UNSET:
            fields["artifact"] = options.artifact
        if options.model_content is not None:
            fields["model_content"] = options.model_content
        found = [part for part in message.content if _is_call(part, options.tool_call_id)]
        if not found:
            raise NotFound("tool call", options.tool_call_id)
        message = replace(
            message,
            content=tuple(replace(part, **fields) if part in found else part for part in message.content),
        )
        self._put(message)
        active = self._active
        if active is not None and active.message_id == message.id:
            active.results[options.tool_call_id] = fields
        elif any(map(is_pending, found)):
            await self._go_on(message)

    async def resume_tool_call(self, tool_call_id: str, payload: Json) -> None:
        """Not here: a tool for humans is named in `human_tools`, and gets its result from them."""
        raise NotSupported("resuming tool calls", "give the call its result with add_tool_result")

    async def answer_approval(self, answer: ToolApprovalAnswer) -> None:
        """Decides about a tool call; one that isn't approved has an error as its result.

        Raises:
            NotFound: there is no such request.
            NotNow: a run goes on, or it has been decided.
        """
        self._check_entered()
        for message in reversed(self.messages):
            for part in message.content:
                if (
                    isinstance(part, ToolCallMessagePart)
                    and part.approval
                    and part.approval.id == answer.approval_id
                ):
                    assert isinstance(message, ThreadAssistantMessage)
                    await self._decide(message, part, answer)
                    return
        raise NotFound("approval", answer.approval_id)

    async def delete_message(self, message_id: str) -> None:
        """Removes a shown message here and from the history.

        Raises:
            NotSupported: the history can't delete.
            NotFound: the message isn't shown.
            NotNow: the run is writing it.
        """
        if not self._history.can_delete:
            raise NotSupported("delete", "messages can't be deleted: the history has no delete")
        if not any(message.id == message_id for message in self.messages):
            raise NotFound("message", message_id)
        if self._active is not None and self._active.message_id == message_id:
            raise NotNow("the message is being written")
        item = RepositoryItem(message=self.message(message_id), parent_id=self.parent_id(message_id))
        await self._history.delete(item)
        if message_id in self._repository:
            self._repository.delete(message_id)
            self._notify()

    async def switch_to_branch(self, message_id: str) -> None:
        """Shows the branch that the message is on. Raises NotFound."""
        self._repository.switch(message_id)
        self._notify()

    async def load(self, exported: ExportedMessageRepository) -> None:
        """Puts these messages in the place of all there are, and stops the run; none waits any longer."""
        repository = self._loaded(_with_answerable_pauses(exported))
        if self._queue is not None:
            self._queue.clear()
        if self._active is not None:
            self._active.cancel(superseded=True)
            self._active = None
            if self._queue is not None:
                self._queue.notify_idle()
        self._suggested.stop()
        self._repository = repository
        self._rounds.clear()
        self._load_error = None
        self._notify()

    # appending and running

    async def _append(self, append: AppendMessage) -> None:
        message = from_thread_message_like(append.like, generate_id(), COMPLETE)
        self._repository.put(append.parent_id, message)
        self._notify()
        await self._make_thread(message)
        item = RepositoryItem(
            message=message,
            parent_id=append.parent_id,
            run_config=msgspec.UNSET if append.run_config is None else append.run_config,
        )
        kept = self._history.append(item)
        if append.starts_run:
            start = StartRun(
                parent_id=message.id, source_id=append.source_id, run_config=append.run_config or {}
            )
            await self._start(start, None)
        else:
            self._repository.reset_head(message.id)
            self._notify()
        await kept.written()

    async def _make_thread(self, message: ThreadMessage) -> None:
        """Once, before the first message is kept. Where it fails the message is gone again."""
        repository = self._repository
        try:
            async with self._initializing:
                if self._initialize is not None:
                    await self._initialize()
                    self._initialize = None
        except BaseException as error:
            if message.id in repository:
                repository.delete(message.id)
                self._notify()
            if isinstance(error, Exception):
                raise MessageNotSent from error
            raise

    def _run_queued(self, append: AppendMessage) -> None:
        self._tasks.start(self._append_queued, append)

    async def _append_queued(self, append: AppendMessage) -> None:
        begun = self._begun
        try:
            await self._append(replace(append, parent_id=self._tail_id))
        except MessageNotSent as error:
            log.warning("a queued message was not sent: %s", error.__cause__)
        except Exception as error:  # the message's status says so
            log.debug("the run of a queued message failed: %s", error)
        finally:
            if self._begun == begun and self._queue is not None:  # else the run's end does it
                self._queue.notify_idle()
                self._notify()

    async def _start(self, start: StartRun, stream: RunFunction | None) -> None:
        self._check_entered()
        if start.parent_id is not None and start.parent_id not in self._repository:
            raise NotFound("message", start.parent_id)
        message = ThreadAssistantMessage(
            id=generate_id(), content=(), status=RUNNING, metadata=AssistantMetadata(state=self.state)
        )
        run = self._begin(start.parent_id, message, start.run_config, stream)
        await run.done.wait()
        if run.error is not None:
            raise run.error

    def _begin(
        self,
        parent_id: str | None,
        message: ThreadAssistantMessage,
        run_config: RunConfig,
        stream: RunFunction | None = None,
        *,
        kept: bool = False,
    ) -> LocalRun:
        if self._active is not None:
            self._active.cancel(superseded=True)
        self._suggested.clear()
        self._run_config = run_config
        run = LocalRun(
            repository=self._repository,
            parent_id=parent_id,
            message_id=message.id,
            run_config=run_config,
            rounds=self._rounds.get(message.id, 0),
            changed=self._notify,
        )
        self._active = run
        self._begun += 1
        if self._queue is not None:
            self._queue.notify_busy()
        self._repository.put(parent_id, message)
        if max(len(message.metadata.steps), run.rounds) < self._max_steps:
            self._repository.reset_head(message.id)
        self._notify()
        self._tasks.start(self._execute, run, stream, kept)
        return run

    async def _execute(self, run: LocalRun, stream: RunFunction | None, kept: bool) -> None:
        try:
            await self._rounds_of(run, stream, kept)
        except Exception as error:
            run.error = error
        finally:
            self._rounds[run.message_id] = run.rounds
            current = self._active is run
            if current:
                self._active = None
            run.done.set()
            self._notify()
            if current and self._queue is not None and self._entered:
                self._queue.notify_idle()
                self._notify()
        if not current or run.error is not None or run.is_gone:
            return
        if not isinstance(run.message.status, RequiresActionStatus):
            await self._suggested.generate(self.messages)

    async def _rounds_of(self, run: LocalRun, stream: RunFunction | None, kept: bool) -> None:
        model = stream or self._run_model
        await run.execute(self._tools)  # those that have been approved
        while True:
            try:
                await run.round(
                    model,
                    max_steps=self._max_steps,
                    human_tools=self._human_tools,
                    context=self.context,
                    thread_id=self.thread_id,
                )
                await run.execute(self._tools)
            finally:
                await self._keep_answer(run, kept)
            model = self._run_model
            if run.superseded or run.is_gone or not should_continue(run.message, self._human_tools):
                return

    async def _go_on(self, message: ThreadAssistantMessage) -> None:
        """After an answer from outside: the run goes on, or the message waits for more."""
        at_end = self._repository.head_id == message.id and self._repository.is_leaf(message.id)
        if at_end and should_continue(message, self._human_tools):
            kept = self._history.can_update
            self._begin(self.parent_id(message.id), message, self._run_config, kept=kept)
        elif isinstance(message.status, RequiresActionStatus) and self._history.can_update:
            await self._history.update(self._item(message)).written()

    async def _decide(
        self, message: ThreadAssistantMessage, part: ToolCallMessagePart, answer: ToolApprovalAnswer
    ) -> None:
        approval = part.approval
        assert approval is not None
        if self._active is not None:
            raise NotNow("a run goes on")
        if not isinstance(message.status, RequiresActionStatus):
            raise NotNow("the message waits for nothing")
        if not approval.is_open:
            raise NotNow(f"the approval {approval.id!r} has been decided, or is over")
        decided = replace(
            approval,
            approved=answer.approved,
            option_id=answer.option_id or approval.option_id,
            text=answer.text if answer.text is not None else approval.text,
            reason=answer.reason if answer.reason is not None else approval.reason,
        )
        changed = replace(part, approval=decided)
        if not answer.approved:
            error = {"error": answer.reason or "Tool approval denied"}
            changed = replace(changed, result=error, is_error=True)
        content = tuple(changed if each is part else each for each in message.content)
        message = replace(message, content=content)
        self._put(message)
        await self._go_on(message)

    # history

    async def _load_history(self, history: HistoryAdapter) -> None:
        try:
            loaded: Any = await call(history.load)
            if isinstance(loaded, ExportedMessageRepository):
                loaded = LoadedHistory(messages=loaded)
            if loaded is not None:
                if not isinstance(loaded, LoadedHistory):
                    kind = type(loaded).__name__
                    raise InvalidAdapter("history.load", f"an ExportedMessageRepository or None, not {kind}")
                self._repository.load(_with_answerable_pauses(loaded.messages))
        except Exception as error:
            log.exception("the history can't be loaded")
            self._load_error = error
            loaded = None
        self._loaded_event.set()
        self._notify()
        resume = getattr(history, "resume", None)
        if loaded is not None and loaded.resume and resume is not None:
            message = ThreadAssistantMessage(
                id=generate_id(), content=(), status=RUNNING, metadata=AssistantMetadata(state=self.state)
            )
            self._begin(self._repository.head_id, message, self._run_config, resume)

    async def _keep_answer(self, run: LocalRun, kept: bool) -> None:
        """Keeps the message where it has ended; where it waits, only if it can be rewritten later."""
        if run.is_gone or isinstance(run.message.status, RunningStatus):
            return
        message, can_update = run.message, self._history.can_update
        waits = isinstance(message.status, RequiresActionStatus)
        if waits and (not can_update or should_continue(message, self._human_tools)):
            return
        item = RepositoryItem(message=message, parent_id=run.parent_id, run_config=run.run_config)
        with anyio.CancelScope(shield=True):
            write = self._history.update if kept and can_update else self._history.append
            await write(item).written()

    # small things

    def _put(self, message: ThreadAssistantMessage) -> None:
        self._repository.put(self.parent_id(message.id), message)
        self._notify()

    def _item(self, message: ThreadMessage) -> RepositoryItem:
        return RepositoryItem(
            message=message, parent_id=self.parent_id(message.id), run_config=self._run_config
        )

    def _assistant_message(self, message_id: str) -> ThreadAssistantMessage:
        message = self.message(message_id)
        if not isinstance(message, ThreadAssistantMessage):
            raise NotSupported("tool results", "only assistant messages have tool calls")
        return message

    def _check_entered(self) -> None:
        if not self._entered:
            raise NotNow("the runtime is used in its `async with`")


def _is_call(part: object, tool_call_id: str) -> bool:
    return isinstance(part, ToolCallMessagePart) and part.tool_call_id == tool_call_id


def _with_answerable_pauses(exported: ExportedMessageRepository) -> ExportedMessageRepository:
    """Messages that wait for an interrupt nobody can answer here wait for what can be done."""
    return replace(
        exported, messages=tuple(replace(i, message=_answerable(i.message)) for i in exported.messages)
    )


def _answerable(message: ThreadMessage) -> ThreadMessage:
    if (
        not isinstance(message, ThreadAssistantMessage)
        or not isinstance(message.status, RequiresActionStatus)
        or message.status.reason != "interrupt"
    ):
        return message
    pending = [part for part in message.content if isinstance(part, ToolCallMessagePart) and is_pending(part)]
    if any(part.interrupt is not None for part in pending):
        return message
    calls = [replace(part, approval=None, messages=None) for part in pending]
    return replace(message, status=auto_status(calls))


def _capabilities(adapters: LocalAdapters, delete: bool, queue: bool) -> Capabilities:
    return Capabilities(
        switch_to_branch=True,
        switch_branch_during_run=True,
        edit=True,
        delete=delete,
        reload=True,
        cancel=True,
        speech=adapters.speech is not None,
        dictation=adapters.dictation is not None,
        attachments=adapters.attachments is not None,
        feedback=adapters.feedback is not None,
        queue=queue,
    )
