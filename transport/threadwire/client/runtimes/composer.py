"""Where a message is written before it is sent."""

from __future__ import annotations

import inspect
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol, TypeVar

import anyio

from ...core.operations import Json
from ...messages.chat_model import RunConfig
from ...messages.like import LikeMetadata
from ...messages.model import (
    CompleteAttachment,
    Role,
    TextMessagePart,
    ThreadMessage,
    ThreadUserMessage,
    message_text,
    replace,
)
from ..errors import MessageNotSent, NotFound, NotNow, NotSupported
from .actions import AppendMessage
from .adapters import DictationAdapter
from .attachments import (
    Attachment,
    AttachmentAdapter,
    AttachmentFailedStatus,
    File,
    NotAccepted,
    PendingAttachment,
    attachment_of,
    file_matches,
)
from .queue import Lane, QueueItem
from .subscribable import Subscribable

T = TypeVar("T")


class ComposerHost(Protocol):
    """What a composer needs of its runtime."""

    @property
    def messages(self) -> tuple[ThreadMessage, ...]: ...
    @property
    def is_disabled(self) -> bool: ...
    @property
    def is_send_disabled(self) -> bool: ...
    @property
    def can_cancel(self) -> bool: ...
    @property
    def attachment_adapter(self) -> AttachmentAdapter | None: ...
    @property
    def dictation_adapter(self) -> DictationAdapter | None: ...
    @property
    def queue(self) -> tuple[QueueItem, ...]: ...
    async def append(self, message: AppendMessage) -> None: ...
    async def cancel_run(self) -> None: ...
    def move_queue_item(self, item_id: str, *, lane: Lane | None, before: str | None) -> None: ...
    def remove_queue_item(self, item_id: str) -> None: ...


@dataclass(frozen=True)
class Draft:
    """A message as it stood in the composer."""

    text: str
    attachments: tuple[Attachment, ...] = ()
    quote: Json = None

    @property
    def is_empty(self) -> bool:
        return not self.text.strip() and not self.attachments


class Composer(Subscribable):
    """Text, attachments and settings of a message to be. Made by the runtime."""

    def __init__(self, host: ComposerHost) -> None:
        super().__init__()
        self._host: Final = host
        self._text = ""
        self._role: Role = "user"
        self._run_config: RunConfig = {}
        self._quote: Json = None
        self._attachments: tuple[Attachment, ...] = ()
        self._sending = False
        self._removed_while_sending: set[str] = set()
        self._generation = 0  # of what is sent: `reset` leaves an upload without a message
        self._dictation: anyio.CancelScope | None = None

    @property
    def text(self) -> str:
        """What is written so far."""
        return self._text

    @text.setter
    def text(self, text: str) -> None:
        self._set("_text", text)

    @property
    def role(self) -> Role:
        """Whose message it will be."""
        return self._role

    @role.setter
    def role(self, role: Role) -> None:
        self._set("_role", role)

    @property
    def run_config(self) -> RunConfig:
        """What the run will be told."""
        return self._run_config

    @run_config.setter
    def run_config(self, run_config: RunConfig) -> None:
        self._set("_run_config", run_config)

    @property
    def quote(self) -> Json:
        """A quotation that goes with the message, under `quote` of its custom metadata."""
        return self._quote

    @quote.setter
    def quote(self, quote: Json) -> None:
        self._set("_quote", quote)

    @property
    def attachments(self) -> tuple[Attachment, ...]:
        """What is attached."""
        return self._attachments

    @property
    def attachment_accept(self) -> str:
        """What can be attached, as an HTML input's `accept`."""
        adapter = self._host.attachment_adapter
        return adapter.accept if adapter else "*"

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to send."""
        return not self._text.strip() and not self._attachments

    @property
    def can_send(self) -> bool:
        """Whether `send` would send."""
        return not self.is_empty and not self._sending and not self._host.is_disabled

    @property
    def can_cancel(self) -> bool:
        """Whether there is something that `cancel` would stop."""
        return True

    @property
    def is_dictating(self) -> bool:
        """Whether it is being listened to."""
        return self._dictation is not None

    @property
    def queue(self) -> tuple[QueueItem, ...]:
        """Messages that wait for the run to end, the next one first."""
        return ()

    # attachments

    async def add_attachment(self, file: File | CompleteAttachment | str | Path) -> None:
        """Attaches a file (or what is at a path), or something that is complete already.

        Raises:
            NotSupported: the runtime has no adapter for attachments, or it takes no such file.
        """
        adapter = self._host.attachment_adapter
        if isinstance(file, CompleteAttachment):
            if adapter and not file_matches(file.name, file.content_type or "", adapter.accept):
                raise NotAccepted(file.name, file.content_type or "", adapter.accept)
            self._put_attachment(file)
            return
        if isinstance(file, str | Path):
            file = File.from_path(file)
        if adapter is None:
            raise NotSupported("attachments", "the runtime has no attachment adapter")
        if not file_matches(file.name, file.type, adapter.accept):
            raise NotAccepted(file.name, file.type, adapter.accept)
        last: PendingAttachment | None = None
        try:
            async with aclosing(_each(adapter.add(file))) as states:
                async for state in states:
                    if last is not None and not self._has(last.id):
                        return  # it was removed meanwhile
                    last = state
                    self._put_attachment(state)
        except Exception as error:
            if last is not None and self._has(last.id):
                self._put_attachment(replace(last, status=AttachmentFailedStatus("error", str(error))))
            raise

    async def remove_attachment(self, attachment_id: str) -> None:
        """Takes an attachment off. Raises NotFound, and what its adapter raises."""
        attachment = next((each for each in self._attachments if each.id == attachment_id), None)
        if attachment is None:
            raise NotFound("attachment", attachment_id)
        if self._sending:
            self._removed_while_sending.add(attachment_id)
        if isinstance(attachment, PendingAttachment):
            adapter = self._adapter()
            try:
                await adapter.remove(attachment)
            except Exception as error:
                if self._has(attachment_id):
                    self._put_attachment(
                        replace(attachment, status=AttachmentFailedStatus("error", str(error)))
                    )
                raise
        self._set("_attachments", tuple(each for each in self._attachments if each.id != attachment_id))

    async def clear_attachments(self) -> None:
        """Takes all attachments off."""
        if self._sending:
            self._removed_while_sending |= {each.id for each in self._attachments}
        attachments = self._attachments
        self._set("_attachments", ())
        await self._drop(attachments)

    async def reset(self) -> None:
        """Empties the composer; what is being uploaded for a message is not sent."""
        self._generation += 1
        self._sending = False
        self._removed_while_sending.clear()
        attachments = self._attachments
        self._text, self._role, self._run_config, self._quote = "", "user", {}, None
        self._attachments = ()
        self._notify()
        await self._drop(attachments)

    # sending

    async def send(self, *, start_run: bool | None = None, steer: bool | None = None) -> None:
        """Sends the message and empties the composer; returns when the runtime is done with it.

        Attachments are uploaded first. A message that couldn't be sent comes back as the draft,
        unless something else has been written meanwhile.

        Raises:
            NotNow: there is nothing to send, one is being sent, or sending is disabled.
            MessageNotSent: nobody took the message.
        """
        self._check_sendable()
        self.stop_dictation()
        draft = Draft(self._text, self._attachments, self._quote)
        role, run_config = self._role, self._run_config
        self._text, self._quote, self._sending = "", None, True
        self._generation += 1
        generation = self._generation
        self._notify()
        try:
            attachments = await self._upload(draft.attachments)
        except BaseException:
            if generation == self._generation:
                self._sending = False
                self._removed_while_sending.clear()
                if not self._text.strip() and self._quote is None:
                    self._text, self._quote = draft.text, draft.quote
                self._notify()
            raise
        if generation != self._generation:
            return
        sent = {each.id for each in draft.attachments}
        self._attachments = tuple(each for each in self._attachments if each.id not in sent)
        self._sending = False
        attachments = tuple(each for each in attachments if each.id not in self._removed_while_sending)
        self._removed_while_sending.clear()
        self._notify()
        message = AppendMessage(
            role=role,
            content=(TextMessagePart(draft.text),) if draft.text else (),
            attachments=attachments,
            parent_id=None,
            run_config=run_config,
            metadata=LikeMetadata(custom={"quote": draft.quote} if draft.quote is not None else {}),
            start_run=start_run,
            steer=steer,
        )
        try:
            await self._hand_over(message)
        except MessageNotSent:
            if generation == self._generation:
                self.restore(Draft(draft.text, attachments, draft.quote))
            raise

    async def cancel(self) -> None:
        """Stops what goes on."""
        raise NotImplementedError

    def restore(self, draft: Draft) -> bool:
        """Takes a message back; False where something else is being written."""
        if self._text.strip() or self._quote is not None or self._attachments:
            return False
        self._text, self._quote, self._attachments = draft.text, draft.quote, draft.attachments
        self._notify()
        return True

    def retract(self, draft: Draft) -> None:
        """Empties the composer if it holds exactly this message."""
        if Draft(self._text, self._attachments, self._quote) == draft:
            self._text, self._quote, self._attachments = "", None, ()
            self._notify()

    # dictation

    async def dictate(self) -> None:
        """Writes down what is said, until it ends or `stop_dictation` is called.

        Raises:
            NotSupported: the runtime has no dictation adapter.
        """
        adapter = self._host.dictation_adapter
        if adapter is None:
            raise NotSupported("dictation", "the runtime has no dictation adapter")
        self.stop_dictation()
        with anyio.CancelScope() as scope:
            self._dictation = scope
            self._notify()
            written = self._text
            shown = self._text
            try:
                async with adapter.listen() as results:
                    async for result in results:
                        if self._text != shown:  # somebody wrote something else meanwhile
                            written = self._text
                        space = " " if written and not written.endswith(" ") and result.transcript else ""
                        shown = written + space + result.transcript
                        if result.is_final:
                            written = shown
                        self.text = shown
            finally:
                if self._dictation is scope:
                    self._dictation = None
                    self._notify()

    def stop_dictation(self) -> None:
        """Stops listening, if it is."""
        if self._dictation is not None:
            self._dictation.cancel()
            self._dictation = None
            self._notify()

    # for the kinds of composers

    def _check_sendable(self) -> None:
        if self._host.is_disabled:
            raise NotNow("the thread is disabled")
        if self._sending:
            raise NotNow("a message is being sent")
        if self.is_empty:
            raise NotNow("there is nothing to send")

    async def _hand_over(self, message: AppendMessage) -> None:
        raise NotImplementedError

    def _set(self, name: str, value: object) -> None:
        if getattr(self, name) != value:
            setattr(self, name, value)
            self._notify()

    def _has(self, attachment_id: str) -> bool:
        return any(each.id == attachment_id for each in self._attachments)

    def _put_attachment(self, attachment: Attachment) -> None:
        if self._has(attachment.id):
            attachments = (attachment if each.id == attachment.id else each for each in self._attachments)
        else:
            attachments = (each for each in (*self._attachments, attachment))
        self._set("_attachments", tuple(attachments))

    def _adapter(self) -> AttachmentAdapter:
        adapter = self._host.attachment_adapter
        if adapter is None:
            raise NotSupported("attachments", "the runtime has no attachment adapter")
        return adapter

    async def _upload(self, attachments: Sequence[Attachment]) -> tuple[CompleteAttachment, ...]:
        async def upload(attachment: Attachment) -> CompleteAttachment:
            if isinstance(attachment, CompleteAttachment):
                return attachment
            return await self._adapter().send(attachment)

        return await _all([lambda each=each: upload(each) for each in attachments])  # type: ignore[misc]

    async def _drop(self, attachments: Sequence[Attachment]) -> None:
        pending = [each for each in attachments if isinstance(each, PendingAttachment)]
        adapter = self._host.attachment_adapter
        if adapter is not None and pending:
            await _all([lambda each=each: adapter.remove(each) for each in pending])  # type: ignore[misc]


class ThreadComposer(Composer):
    """The composer below a thread: what it sends goes to the thread's end."""

    @property
    def can_send(self) -> bool:
        """Whether `send` would send."""
        return super().can_send and not self._host.is_send_disabled

    @property
    def can_cancel(self) -> bool:
        """Whether a run goes on that can be stopped."""
        return self._host.can_cancel

    @property
    def queue(self) -> tuple[QueueItem, ...]:
        """Messages that wait for the run to end, the next one first."""
        return self._host.queue

    def move_queue_item(self, item_id: str, *, lane: Lane | None = None, before: str | None = None) -> None:
        """Puts a waiting message before another, or at the end of a lane. Raises NotFound."""
        self._host.move_queue_item(item_id, lane=lane, before=before)

    def remove_queue_item(self, item_id: str) -> None:
        """Forgets a waiting message. Raises NotFound."""
        self._host.remove_queue_item(item_id)

    async def cancel(self) -> None:
        """Stops the run."""
        await self._host.cancel_run()

    def _check_sendable(self) -> None:
        if self._host.is_send_disabled:
            raise NotNow("sending is disabled")
        super()._check_sendable()

    async def _hand_over(self, message: AppendMessage) -> None:
        messages = self._host.messages
        await self._host.append(replace(message, parent_id=messages[-1].id if messages else None))


class EditComposer(Composer):
    """The composer of a message that is there already: what it sends takes that one's place."""

    def __init__(
        self, host: ComposerHost, message: ThreadMessage, parent_id: str | None, end: Callable[[], None]
    ) -> None:
        super().__init__(host)
        self.parent_id: Final = parent_id
        self.source_id: Final = message.id
        self._end = end
        self._text = message_text(message)
        self._role = message.role
        others: list[Any] = [part for part in message.content if not isinstance(part, TextMessagePart)]
        self._passed_on: tuple[Any, ...] = ()
        if isinstance(message, ThreadUserMessage):
            self._attachments = (*message.attachments, *(attachment_of(part) for part in others))
        else:
            self._passed_on = tuple(others)

    async def cancel(self) -> None:
        """Leaves the message as it is."""
        self._close()

    def _close(self) -> None:
        self._end()
        self._notify()

    async def _hand_over(self, message: AppendMessage) -> None:
        self._close()
        await self._host.append(
            replace(
                message,
                content=(*message.content, *self._passed_on),
                parent_id=self.parent_id,
                source_id=self.source_id,
            )
        )


async def _each(added: Any) -> AsyncGenerator[PendingAttachment, None]:
    if inspect.isawaitable(added):
        yield await added
        return
    async with aclosing(added) as states:
        async for state in states:
            yield state


async def _all(calls: Sequence[Callable[[], Any]]) -> tuple[Any, ...]:
    """What all of them return; the first error cancels the others, and is raised as it is."""
    results: list[Any] = [None] * len(calls)
    first: list[Exception] = []

    async with anyio.create_task_group() as tasks:

        async def one(index: int, make: Callable[[], Any]) -> None:
            try:
                results[index] = await make()
            except Exception as error:
                first.append(error)
                tasks.cancel_scope.cancel()

        for index, make in enumerate(calls):
            tasks.start_soon(one, index, make)
    if first:
        raise first[0]
    return tuple(results)
