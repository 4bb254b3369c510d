"""A thread whose messages somebody else owns: the runtime shows them, and hands on what users do.

The owner gives an `ExternalStoreAdapter`: the messages and the handlers it has. What the runtime
can do follows from them. With each change of the messages it gives another one.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, fields
from dataclasses import replace as replace_fields
from typing import Any, Final, Generic, TypeAlias, TypeVar

import anyio.lowlevel

from ...core.operations import Json
from ...messages.auto_status import RUNNING
from ...messages.external import ExternalMessageConverter
from ...messages.like import MessageLike, from_thread_message_like, generate_id
from ...messages.model import (
    TextMessagePart,
    ThreadAssistantMessage,
    ThreadMessage,
    ThreadSystemMessage,
    ThreadUserMessage,
    message_text,
    original_messages,
)
from ...messages.repository import ExportedMessageRepository
from ...messages.sharing import Successor, common_prefix
from ..errors import InvalidAdapter, NotFound, NotNow, NotSupported
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
from .adapters import Capabilities, DictationAdapter, FeedbackAdapter, SpeechAdapter
from .attachments import AttachmentAdapter
from .calling import call, check_handler
from .composer import Draft
from .queue import Lane, QueueAdapter, QueueItem
from .thread import ThreadRuntime

T = TypeVar("T")
Handler: TypeAlias = Callable[..., Awaitable[None] | None]

log = logging.getLogger("threadwire.client")


@dataclass(frozen=True, kw_only=True)
class RuntimeAdapters:
    """What is plugged into a runtime beside its handlers."""

    attachments: AttachmentAdapter | None = None
    speech: SpeechAdapter | None = None
    dictation: DictationAdapter | None = None
    feedback: FeedbackAdapter | None = None


@dataclass(frozen=True, kw_only=True)
class BranchChange:
    """The user went to another branch: its head, and the messages that are shown now."""

    head_id: str | None
    visible_message_ids: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class ExternalStoreAdapter(Generic[T]):
    """The messages of a thread, and what their owner does about them.

    `messages` are thread messages, or anything that `convert_message` makes message-likes of;
    unchanged ones should stay the same objects. `message_repository` takes their place where the
    owner keeps branches. Handlers are plain functions or coroutine functions:

    - `on_new(message)`: a message for the end of the thread; its owner adds it, and runs.
    - `set_messages(messages)`: the messages as they are to be now (the originals, where there is
      `convert_message`); with it there are branches, and messages can be deleted.
    - `on_edit(message)`: a message for somewhere else, or one that replaces `message.source_id`.
    - `on_reload(parent_id, run)`: a run again, after that message.
    - `on_cancel()`, `on_resume(run)`, `on_delete(message_id)`, `on_add_tool_result(options)`,
      `on_resume_tool_call(tool_call_id, payload)`, `on_respond_to_tool_approval(answer)`
    - `on_branch_change(change)`: the user went to another branch.
    - `on_import(messages)`, `on_refetch_thread()`

    `is_running` is whether a run goes on; None leaves it to the last message's status.
    """

    on_new: Callable[[AppendMessage], Awaitable[None] | None]
    messages: Sequence[T] | None = None
    message_repository: ExportedMessageRepository | None = None
    convert_message: Callable[[T], MessageLike] | None = None
    is_running: bool | None = None
    is_disabled: bool = False
    is_send_disabled: bool = False
    is_loading: bool = False
    suggestions: Sequence[ThreadSuggestion] = ()
    state: Json = None
    extras: Any = None
    set_messages: Callable[[Sequence[Any]], Awaitable[None] | None] | None = None
    on_edit: Callable[[AppendMessage], Awaitable[None] | None] | None = None
    on_reload: Callable[[str | None, StartRun], Awaitable[None] | None] | None = None
    on_cancel: Callable[[], Awaitable[None] | None] | None = None
    on_resume: Callable[[ResumeRun], Awaitable[None] | None] | None = None
    on_delete: Callable[[str], Awaitable[None] | None] | None = None
    on_add_tool_result: Callable[[AddToolResultOptions], Awaitable[None] | None] | None = None
    on_resume_tool_call: Callable[[str, Json], Awaitable[None] | None] | None = None
    on_respond_to_tool_approval: Callable[[ToolApprovalAnswer], Awaitable[None] | None] | None = None
    on_branch_change: Callable[[BranchChange], Awaitable[None] | None] | None = None
    on_import: Callable[[Sequence[ThreadMessage]], Awaitable[None] | None] | None = None
    on_refetch_thread: Callable[[], Awaitable[None] | None] | None = None
    queue: QueueAdapter | None = None
    adapters: RuntimeAdapters = RuntimeAdapters()
    copy: bool = True


_HANDLERS: Final = tuple(
    field.name
    for field in fields(ExternalStoreAdapter)
    if field.name.startswith("on_") or field.name in ("set_messages", "convert_message")
)


class ExternalStoreRuntime(ThreadRuntime, Generic[T]):
    """Shows the messages of an `ExternalStoreAdapter`, and calls its handlers.

        runtime = ExternalStoreRuntime(ExternalStoreAdapter(messages=mine, on_new=add))
        runtime.update(messages=[*mine, another])

    Messages are taken as immutable: one that changes is another object, in the same list or in
    another. A token costs what it does to one message, however many there are.

    Raises:
        InvalidAdapter: a handler can't be called, or there are no messages.
    """

    def __init__(self, adapter: ExternalStoreAdapter[T]) -> None:
        super().__init__()
        self._adapter: ExternalStoreAdapter[T] = adapter
        self._converter: ExternalMessageConverter[T] | None = None
        self._synced: list[ThreadMessage] = []  # what the repository was given last
        self._places: dict[str, int] = {}  # id -> where it is in there
        self._given: object = None  # the version of what `_synced` was made of
        self._identical = False  # `_synced` has the very objects of that version
        self._synced_version = -1
        self._optimistic: ThreadMessage | None = None
        self._optimistic_parent: str | None = None
        self._evictions: set[str] = set()
        self._capabilities = Capabilities()
        self._take(adapter, None)

    @property
    def adapter(self) -> ExternalStoreAdapter[T]:
        """The adapter now."""
        return self._adapter

    def set_adapter(self, adapter: ExternalStoreAdapter[T]) -> None:
        """Shows what the adapter says now. Raises InvalidAdapter, and keeps the one it has."""
        if adapter is not self._adapter:
            self._take(adapter, self._adapter)

    def update(self, **changes: Any) -> None:
        """Sets the adapter that has these fields changed: `update(messages=..., is_running=True)`.

        Raises:
            InvalidAdapter: it has no such field, or the value can't be used.
        """
        try:
            adapter = replace_fields(self._adapter, **changes)
        except TypeError as error:
            raise InvalidAdapter(next(iter(changes)), str(error)) from None
        self.set_adapter(adapter)

    # what there is

    @property
    def capabilities(self) -> Capabilities:
        """What the handlers and adapters that were given allow."""
        return self._capabilities

    @property
    def state(self) -> Json:
        """The state that the owner gave; by default the one with the last assistant message."""
        return super().state if self._adapter.state is None else self._adapter.state

    @property
    def is_running(self) -> bool:
        """Whether a run goes on."""
        running = self._adapter.is_running
        return super().is_running if running is None else running

    @property
    def is_disabled(self) -> bool:
        """Whether nothing can be written."""
        return self._adapter.is_disabled

    @property
    def is_send_disabled(self) -> bool:
        """Whether nothing can be sent for now; it can be written."""
        return self._adapter.is_send_disabled

    @property
    def is_loading(self) -> bool:
        """Whether the messages are still on their way here."""
        return self._adapter.is_loading

    @property
    def suggestions(self) -> tuple[ThreadSuggestion, ...]:
        """What the user may want to say next."""
        return tuple(self._adapter.suggestions)

    @property
    def extras(self) -> Any:
        """What the owner passes along."""
        return self._adapter.extras

    @property
    def attachment_adapter(self) -> AttachmentAdapter | None:
        """Makes attachments of files."""
        return self._adapter.adapters.attachments

    @property
    def dictation_adapter(self) -> DictationAdapter | None:
        """Writes down what is said."""
        return self._adapter.adapters.dictation

    @property
    def speech_adapter(self) -> SpeechAdapter | None:
        """Reads aloud."""
        return self._adapter.adapters.speech

    @property
    def feedback_adapter(self) -> FeedbackAdapter | None:
        """Takes feedback."""
        return self._adapter.adapters.feedback

    @property
    def queue(self) -> tuple[QueueItem, ...]:
        """Messages that wait for the run to end, the next one first."""
        queue = self._adapter.queue
        return () if queue is None else (*queue.steer_items, *queue.items)

    def move_queue_item(self, item_id: str, *, lane: Lane | None = None, before: str | None = None) -> None:
        """Puts a waiting message elsewhere. Raises NotSupported, NotFound."""
        if self._adapter.queue is None:
            super().move_queue_item(item_id, lane=lane, before=before)
        else:
            self._adapter.queue.move(item_id, lane=lane, before=before)
            self._notify()

    def remove_queue_item(self, item_id: str) -> None:
        """Forgets a waiting message. Raises NotSupported, NotFound."""
        if self._adapter.queue is None:
            super().remove_queue_item(item_id)
        else:
            self._adapter.queue.remove(item_id)
            self._notify()

    # what can be done

    async def append(self, message: Appendable) -> None:
        """Hands the message to `on_new`; to `on_edit` if it doesn't go to the end, or replaces one.

        Where there is a queue it goes there; while a run goes on, before what waits.

        Raises:
            NotNow: the thread is disabled.
            NotSupported: it is an edit, and there is no `on_edit`.
            InvalidMessage: it is none.
        """
        tail = self._tail_id
        append = read_append(message, tail)
        if append.source_id is not None or append.parent_id != tail:
            on_edit = self._handler("edit", "on_edit")
            self._evictions.clear()
            await call(on_edit, append)
            return
        if self.is_disabled or self.is_send_disabled:
            raise NotNow("sending is disabled")
        queue = self._adapter.queue
        if queue is None:
            await call(self._adapter.on_new, append)
        elif append.steer if append.steer is not None else bool(self._adapter.is_running):
            queue.steer(append)
            self._notify()
        else:
            queue.enqueue(append)
            self._notify()

    async def start_run(self, run: StartRun) -> None:
        """Hands a run to `on_reload`. Raises NotSupported."""
        on_reload = self._handler("reload", "on_reload")
        self._evictions.clear()
        await call(on_reload, run.parent_id, run)

    async def resume_run(self, run: ResumeRun) -> None:
        """Hands it to `on_resume`. Raises NotSupported."""
        await call(self._handler("resume", "on_resume"), run)

    async def cancel_run(self) -> None:
        """Calls `on_cancel`. A text that nobody has answered goes back to an empty composer.

        Raises:
            NotSupported: there is no `on_cancel`.
        """
        on_cancel = self._handler("cancel", "on_cancel")
        if self._adapter.queue is not None:
            self._adapter.queue.notify_cancelled()
        try:
            await call(on_cancel)
        finally:
            self._drop_empty_optimistic()
            moved = self._move_to_composer()
            self._notify()
        # Its owner may have settled the run in the meantime; what it says stands above this.
        await anyio.lowlevel.checkpoint()
        self._drop_empty_optimistic()
        if moved is not None:
            message_id, draft = moved
            if self._tail_id == message_id:
                self._repository.delete(message_id)
            elif any(message.id == message_id for message in self.messages):
                self.composer.retract(draft)
        self._notify()
        await self._set_messages(self.messages)

    async def add_tool_result(self, options: AddToolResultOptions) -> None:
        """Hands it to `on_add_tool_result`. Raises NotSupported."""
        await call(self._handler("tool results", "on_add_tool_result"), options)

    async def resume_tool_call(self, tool_call_id: str, payload: Json) -> None:
        """Hands it to `on_resume_tool_call`. Raises NotSupported."""
        await call(self._handler("resuming tool calls", "on_resume_tool_call"), tool_call_id, payload)

    async def answer_approval(self, answer: ToolApprovalAnswer) -> None:
        """Hands it to `on_respond_to_tool_approval`. Raises NotSupported."""
        await call(self._handler("approvals", "on_respond_to_tool_approval"), answer)

    async def delete_message(self, message_id: str) -> None:
        """Hands it to `on_delete`; without one, to `set_messages` without the message.

        Raises:
            NotSupported: there is neither.
            NotFound: there is no such message.
        """
        adapter = self._adapter
        if adapter.on_delete is not None:
            # The owner may decline: the message goes when the owner's messages are without it.
            if any(message.id == message_id for message in self.messages):
                self._evictions.add(message_id)
            try:
                await call(adapter.on_delete, message_id)
            except BaseException:
                self._evictions.discard(message_id)
                raise
            return
        if adapter.set_messages is None:
            raise NotSupported(
                "delete", "messages can't be deleted: there is no on_delete and no set_messages"
            )
        if not any(message.id == message_id for message in self.messages):
            raise NotFound("message", message_id)
        self._evictions.clear()
        if len(self.branches(message_id)) > 1:
            # What is shown next is a sibling; its owner has to be told of that one.
            self._repository.delete(message_id)
            self._notify()
            await self._set_messages(self.messages)
            return
        await self._set_messages([message for message in self.messages if message.id != message_id])
        if message_id in self._repository:
            self._repository.delete(message_id)
            self._notify()

    async def switch_to_branch(self, message_id: str) -> None:
        """Shows the branch, and hands its messages to `set_messages`. Not while a run goes on.

        Raises:
            NotSupported: there is no `set_messages`.
            NotFound: there is no such message.
        """
        self._handler("branches", "set_messages")
        if message_id not in self._repository:
            raise NotFound("message", message_id)
        if self._adapter.is_running:
            return
        before = self._repository.canonical_head_id
        if self._adapter.message_repository is None:
            self._repository.switch(message_id)
            self._evictions.clear()
            shown, head_id = self.messages, self._repository.canonical_head_id
            self._notify()
        else:
            # Their owner keeps the branches: what is shown moves when the owner's head does.
            elsewhere = self._loaded(self._repository.export())
            elsewhere.switch(message_id)
            shown, head_id = elsewhere.messages(), elsewhere.canonical_head_id
        await self._set_messages(shown)
        on_branch_change = self._adapter.on_branch_change
        if on_branch_change is not None and head_id != before:
            ids = tuple(message.id for message in shown)
            await call(on_branch_change, BranchChange(head_id=head_id, visible_message_ids=ids))

    async def load(self, exported: ExportedMessageRepository) -> None:
        """Shows these messages, and hands them to `on_import` and `set_messages`."""
        self._repository = self._loaded(exported)
        self._synced_version = -1
        self._notify()
        if self._adapter.on_import is not None:
            await call(self._adapter.on_import, self.messages)
        else:
            await self._set_messages(self.messages)

    async def refetch_thread(self) -> None:
        """Calls `on_refetch_thread`. Raises NotSupported."""
        await call(self._handler("refetching", "on_refetch_thread"))

    # taking over what the owner says

    def _take(self, adapter: ExternalStoreAdapter[T], old: ExternalStoreAdapter[T] | None) -> None:
        _check(adapter)
        if adapter.messages is None and adapter.message_repository is None:
            raise InvalidAdapter("messages", "an adapter has messages, or a message_repository")
        if old is None or adapter.convert_message is not old.convert_message:
            convert = adapter.convert_message
            self._converter = (
                None
                if convert is None
                else ExternalMessageConverter(lambda message, _: convert(message), join_strategy="none")
            )
        repository = adapter.message_repository
        unchanged = (
            old is not None
            and self._are_known(adapter.messages, old.messages)
            and old.message_repository is repository
            and old.convert_message is adapter.convert_message
            and bool(old.is_running) == bool(adapter.is_running)
        )
        if not unchanged:
            if repository is not None:
                tail = self._sync_repository(repository, None if old is None else old.message_repository)
            else:
                messages = self._converted(adapter)
                tail = self._sync_messages(messages)
            self._show(tail, bool(adapter.is_running))
            if self._identical and self._optimistic is None and isinstance(messages, tuple):
                self._repository.adopt(messages)
        self._adapter = adapter
        capabilities = _capabilities(adapter)
        if capabilities != self._capabilities:
            self._capabilities = capabilities
        self._notify()

    def _are_known(self, messages: Sequence[T] | None, old: Sequence[T] | None) -> bool:
        """Whether there is nothing new in the messages; a list may have changed in its place."""
        if messages is not old or not isinstance(messages, list):
            return messages is old
        known: Sequence[Any] = self._synced if self._converter is None else self._converter.sources
        return messages == known

    def _converted(self, adapter: ExternalStoreAdapter[T]) -> Sequence[ThreadMessage]:
        assert adapter.messages is not None
        if self._converter is None:
            return adapter.messages  # type: ignore[return-value]
        return self._converter.convert(adapter.messages, is_running=bool(adapter.is_running))

    def _sync_messages(self, messages: Sequence[ThreadMessage]) -> str | None:
        """Puts the messages into the repository, one below the other; returns the last one's id."""
        known = self._given is not None
        if known and isinstance(messages, Successor) and messages.previous is self._given:
            same, identical = messages.unchanged, self._identical
        else:
            same, identical = common_prefix(self._synced, messages), False
        identical = identical or same == 0  # others may only be equal to those that are kept
        self._given, self._identical = None, False
        added = _checked(messages[same:], same)
        kept: list[ThreadMessage] = []
        ids: set[str] = set()
        unique = True
        for message in reversed(added):  # of two with one id the last stays
            if message.id in ids:
                log.warning("two messages have the id %r; the last one is shown", message.id)
                unique = False
                continue
            ids.add(message.id)
            kept.append(message)
        kept.reverse()
        if any(self._places.get(id, same) < same for id in ids):
            # One of them is also further up: that one goes, and all after it are placed anew.
            head = [message for message in self._synced[:same] if message.id not in ids]
            kept, same, unique = head + kept, 0, False
        if self._synced_version != self._repository.version:
            kept, same = [*self._synced[:same], *kept], 0
        parent_id = self._synced[same - 1].id if same else None
        for message in kept:
            self._repository.put(parent_id, message)
            parent_id = message.id
        for message in self._synced[same:]:
            self._places.pop(message.id, None)
        self._synced[same:] = kept
        self._places.update((message.id, same + place) for place, message in enumerate(kept))
        if unique and isinstance(messages, Successor):
            self._given, self._identical = messages.version, identical
        for message_id in list(self._evictions):
            self._evictions.discard(message_id)
            if message_id not in self._places and message_id in self._repository:
                self._repository.delete(message_id)
        return parent_id

    def _sync_repository(
        self, exported: ExportedMessageRepository, known: ExportedMessageRepository | None
    ) -> str | None:
        if exported is not known:
            loaded = self._loaded(exported)  # refuses what makes no tree, before anything has changed
            for item in exported.messages:
                self._repository.put(item.parent_id, item.message)
            for item in self._repository.export().messages:
                if item.message.id not in loaded:
                    self._repository.delete(item.message.id)
            self._evictions.clear()
        self._synced, self._places, self._given, self._identical = [], {}, None, False
        head_id = exported.head_id
        if not isinstance(head_id, str):
            head_id = exported.messages[-1].message.id if exported.messages else None
        self._repository.reset_head(head_id)
        return head_id

    def _show(self, tail_id: str | None, is_running: bool) -> None:
        """Makes `tail_id` the head, with an empty answer below it if one is on its way."""
        tail = None if tail_id is None else self._repository.message(tail_id)
        if is_running and not isinstance(tail, ThreadAssistantMessage):
            if self._optimistic is None or self._optimistic_parent != tail_id:
                self._optimistic = from_thread_message_like(
                    {"role": "assistant", "content": [], "metadata": {"isOptimistic": True}},
                    generate_id(),
                    RUNNING,
                )
                self._optimistic_parent = tail_id
            self._repository.put(tail_id, self._optimistic)
            self._repository.reset_head(self._optimistic.id)
        else:
            self._optimistic = None
            self._repository.reset_head(tail_id)
        self._synced_version = self._repository.version

    # after a cancel

    def _drop_empty_optimistic(self) -> None:
        head_id = self._repository.head_id
        if head_id is None:
            return
        head = self._repository.message(head_id)
        if head.metadata.is_optimistic and not head.content:
            self._repository.delete(head_id)

    def _move_to_composer(self) -> tuple[str, Draft] | None:
        """Takes a text at the end out of the thread and into the composer, if it is free."""
        messages = self.messages
        last = messages[-1] if messages else None
        if (
            self._adapter.set_messages is None
            or not isinstance(last, ThreadUserMessage)
            or not all(isinstance(part, TextMessagePart) for part in last.content)
        ):
            return None
        draft = Draft(message_text(last), last.attachments, last.metadata.custom.get("quote"))
        if not self.composer.restore(draft):
            return None
        self._repository.delete(last.id)
        return last.id, draft

    async def _set_messages(self, messages: Sequence[ThreadMessage]) -> None:
        set_messages = self._adapter.set_messages
        if set_messages is None:
            return
        if self._adapter.convert_message is not None:
            await call(set_messages, [each for message in messages for each in original_messages(message)])
        else:
            await call(set_messages, list(messages))

    def _handler(self, capability: str, name: str) -> Callable[..., Any]:
        handler: Callable[..., Any] | None = getattr(self._adapter, name)
        if handler is None:
            raise NotSupported(capability, f"the thread doesn't support {capability}: there is no {name}")
        return handler


def _check(adapter: object) -> None:
    if not isinstance(adapter, ExternalStoreAdapter):
        raise InvalidAdapter("adapter", f"an ExternalStoreAdapter, not {type(adapter).__name__}")
    for name in _HANDLERS:
        check_handler(name, getattr(adapter, name))
    if adapter.on_new is None:
        raise InvalidAdapter("on_new", "a function, not None")
    for name in ("is_disabled", "is_send_disabled", "is_loading"):
        if not isinstance(getattr(adapter, name), bool):
            raise InvalidAdapter(name, "a bool")
    if adapter.is_running is not None and not isinstance(adapter.is_running, bool):
        raise InvalidAdapter("is_running", "a bool or None")
    if not isinstance(adapter.suggestions, list | tuple):
        raise InvalidAdapter("suggestions", f"a list, not {type(adapter.suggestions).__name__}")
    if not isinstance(adapter.adapters, RuntimeAdapters):
        raise InvalidAdapter("adapters", f"RuntimeAdapters, not {type(adapter.adapters).__name__}")
    messages = adapter.messages
    if messages is not None and (not isinstance(messages, Sequence) or isinstance(messages, str)):
        raise InvalidAdapter("messages", f"a list of messages, not {type(messages).__name__}")
    if adapter.message_repository is not None and not isinstance(
        adapter.message_repository, ExportedMessageRepository
    ):
        raise InvalidAdapter("message_repository", "an ExportedMessageRepository")


def _checked(messages: Sequence[Any], start: int) -> Sequence[ThreadMessage]:
    for place, message in enumerate(messages):
        if not isinstance(message, ThreadUserMessage | ThreadAssistantMessage | ThreadSystemMessage):
            raise InvalidAdapter(
                f"messages.{start + place}",
                f"a thread message, not {type(message).__name__}: convert_message makes them of others",
            )
    return messages


def _capabilities(adapter: ExternalStoreAdapter[Any]) -> Capabilities:
    return Capabilities(
        switch_to_branch=adapter.set_messages is not None,
        edit=adapter.on_edit is not None,
        delete=adapter.on_delete is not None or adapter.set_messages is not None,
        reload=adapter.on_reload is not None,
        refetch_thread=adapter.on_refetch_thread is not None,
        cancel=adapter.on_cancel is not None,
        copy=adapter.copy,
        speech=adapter.adapters.speech is not None,
        dictation=adapter.adapters.dictation is not None,
        attachments=adapter.adapters.attachments is not None,
        feedback=adapter.adapters.feedback is not None,
        queue=adapter.queue is not None,
    )
