"""What all runtimes of a thread have in common: messages, branches, composers, feedback, speech."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import Any, Literal

import anyio

from ...core.operations import Json
from ...messages.chat_model import RunConfig
from ...messages.like import MessageLike
from ...messages.model import (
    RunningStatus,
    SubmittedFeedback,
    ThreadAssistantMessage,
    ThreadMessage,
    ToolCallMessagePart,
    message_text,
    replace,
)
from ...messages.repository import ExportedMessageRepository, MessageRepository
from ..errors import NotFound, NotNow, NotSupported
from .actions import (
    AddToolResultOptions,
    Appendable,
    ResumeRun,
    StartRun,
    ThreadSuggestion,
    ToolApprovalAnswer,
    resolve_approval,
)
from .adapters import Capabilities, DictationAdapter, FeedbackAdapter, SpeechAdapter, SpeechState
from .attachments import AttachmentAdapter
from .calling import call
from .composer import EditComposer, ThreadComposer
from .queue import Lane, QueueItem
from .subscribable import Subscribable


class ThreadRuntime(Subscribable, ABC):
    """A thread as client code holds it. Each change is announced to its subscribers."""

    def __init__(self) -> None:
        super().__init__()
        self._repository = MessageRepository()
        self._edits: dict[str, EditComposer] = {}
        self._speech: tuple[SpeechState, anyio.CancelScope] | None = None
        self.composer = ThreadComposer(self)

    # what there is

    @property
    def messages(self) -> tuple[ThreadMessage, ...]:
        """The messages that are shown: the path to the head."""
        return self._repository.messages()

    @property
    def state(self) -> Json:
        """What the last assistant message says the agent's state is."""
        for message in self._repository.backwards():
            if isinstance(message, ThreadAssistantMessage):
                return message.metadata.state
        return None

    @property
    @abstractmethod
    def capabilities(self) -> Capabilities:
        """What the runtime can do."""

    @property
    def is_running(self) -> bool:
        """Whether a run goes on."""
        last = next(self._repository.backwards(), None)
        return isinstance(last, ThreadAssistantMessage) and isinstance(last.status, RunningStatus)

    @property
    def is_disabled(self) -> bool:
        """Whether nothing can be written."""
        return False

    @property
    def is_send_disabled(self) -> bool:
        """Whether nothing can be sent for now; it can be written."""
        return False

    @property
    def is_loading(self) -> bool:
        """Whether the messages are still on their way here."""
        return False

    @property
    def suggestions(self) -> tuple[ThreadSuggestion, ...]:
        """What the user may want to say next."""
        return ()

    @property
    def extras(self) -> Any:
        """What the application passes along."""
        return None

    @property
    def speech(self) -> SpeechState | None:
        """The message that is being spoken."""
        return self._speech[0] if self._speech else None

    @property
    def can_cancel(self) -> bool:
        """Whether a run goes on that can be stopped."""
        return self.capabilities.cancel and self.is_running

    def message(self, message_id: str) -> ThreadMessage:
        """The message of that id, shown or not. Raises NotFound."""
        return self._repository.message(message_id)

    def parent_id(self, message_id: str) -> str | None:
        """The id of the message before; None at the beginning. Raises NotFound."""
        return self._repository.parent_id(message_id)

    def branches(self, message_id: str) -> tuple[str, ...]:
        """The ids of the message and of those that could be in its place. Raises NotFound."""
        return self._repository.branches(message_id)

    # what can be done

    @abstractmethod
    async def append(self, message: Appendable) -> None:
        """Adds a message, at the end or where it says; a run follows a user's message.

        Raises:
            NotNow: the thread is disabled.
            NotSupported: the message is an edit, and messages can't be edited here.
            InvalidMessage: it is none.
        """

    @abstractmethod
    async def start_run(self, run: StartRun) -> None:
        """Runs after `run.parent_id`. Raises NotSupported, NotFound."""

    @abstractmethod
    async def resume_run(self, run: ResumeRun) -> None:
        """Goes on with a run. Raises NotSupported."""

    @abstractmethod
    async def cancel_run(self) -> None:
        """Stops the run. Raises NotSupported."""

    @abstractmethod
    async def add_tool_result(self, options: AddToolResultOptions) -> None:
        """Gives a tool call its result. Raises NotSupported, NotFound."""

    @abstractmethod
    async def resume_tool_call(self, tool_call_id: str, payload: Json) -> None:
        """Answers what a tool call asked a human. Raises NotSupported."""

    @abstractmethod
    async def answer_approval(self, answer: ToolApprovalAnswer) -> None:
        """Decides about a tool call. Raises NotSupported, NotFound, NotNow."""

    @abstractmethod
    async def delete_message(self, message_id: str) -> None:
        """Removes a message; what follows stays. Raises NotSupported, NotFound."""

    @abstractmethod
    async def switch_to_branch(self, message_id: str) -> None:
        """Shows the branch that the message is on. Raises NotSupported, NotFound."""

    async def reload(self, message_id: str, run_config: RunConfig | None = None) -> None:
        """Runs again for an assistant message, beside the one that is there.

        Raises:
            NotSupported: runs can't be repeated here, or the message isn't the assistant's.
            NotFound: there is no such message.
        """
        if not isinstance(self.message(message_id), ThreadAssistantMessage):
            raise NotSupported("reload", "only assistant messages can be made again")
        parent_id = self.parent_id(message_id)
        await self.start_run(StartRun(parent_id=parent_id, source_id=message_id, run_config=run_config or {}))

    async def respond_to_approval(
        self,
        tool_call_id: str,
        *,
        approved: bool | None = None,
        option_id: str | None = None,
        text: str | None = None,
        reason: str | None = None,
    ) -> None:
        """Answers the approval that a shown tool call asks for; see `answer_approval`.

        Raises:
            NotFound: there is no such call, or it asks for none, or has no such option.
            NotSupported: the answer doesn't decide.
        """
        for message in reversed(self.messages):
            for part in message.content:
                if (
                    isinstance(part, ToolCallMessagePart)
                    and part.tool_call_id == tool_call_id
                    and part.approval is not None
                ):
                    answer = resolve_approval(
                        part.approval, approved=approved, option_id=option_id, text=text, reason=reason
                    )
                    await self.answer_approval(answer)
                    return
        raise NotFound("approval of the tool call", tool_call_id)

    def begin_edit(self, message_id: str) -> EditComposer:
        """A composer that holds the message, to send it changed.

        Raises:
            NotSupported: messages can't be edited here.
            NotFound: there is no such message.
            NotNow: it is being edited.
        """
        if not self.capabilities.edit:
            raise NotSupported("edit", "messages can't be edited: there is no on_edit")
        message = self.message(message_id)
        if message_id in self._edits:
            raise NotNow(f"the message {message_id!r} is being edited")
        composer = EditComposer(
            self, message, self.parent_id(message_id), lambda: self._end_edit(message_id, composer)
        )
        composer.run_config = dict(self.composer.run_config)
        self._edits[message_id] = composer
        self._notify()
        return composer

    def edit_composer(self, message_id: str) -> EditComposer | None:
        """The composer of a message that is being edited."""
        return self._edits.get(message_id)

    def _end_edit(self, message_id: str, composer: EditComposer) -> None:
        if self._edits.get(message_id) is composer:
            del self._edits[message_id]
            self._notify()

    async def submit_feedback(
        self, message_id: str, type: Literal["positive", "negative"], comment: str | None = None
    ) -> None:
        """Hands on what a user thinks of a message, and keeps it with an assistant's.

        Raises:
            NotFound: there is no such message.
            NotSupported: the runtime has no feedback adapter.
        """
        message = self.message(message_id)
        adapter = self.feedback_adapter
        if adapter is None:
            raise NotSupported("feedback", "the runtime has no feedback adapter")
        comment = (comment or "").strip() or None
        await call(adapter.submit, message, type, comment)
        if message_id not in self._repository:
            return
        message = self.message(message_id)
        if isinstance(message, ThreadAssistantMessage):
            feedback = SubmittedFeedback(type, comment)
            changed = replace(message, metadata=replace(message.metadata, submitted_feedback=feedback))
            self._repository.put(self.parent_id(message_id), changed)
        self._notify()

    async def speak(self, message_id: str) -> None:
        """Reads a message aloud; returns at its end, or when it is stopped or another is spoken.

        Raises:
            NotFound: there is no such message.
            NotSupported: the runtime has no speech adapter.
        """
        adapter = self.speech_adapter
        if adapter is None:
            raise NotSupported("speech", "the runtime has no speech adapter")
        text = message_text(self.message(message_id))
        if self._speech:
            self._speech[1].cancel()
        with anyio.CancelScope() as scope:
            self._speech = (SpeechState(message_id), scope)
            self._notify()
            try:
                await adapter.speak(text)
            finally:
                if self._speech is not None and self._speech[1] is scope:
                    self._speech = None
                    self._notify()

    def stop_speaking(self) -> None:
        """Falls silent. Raises NotNow where nothing is being spoken."""
        if self._speech is None:
            raise NotNow("no message is being spoken")
        self._speech[1].cancel()
        self._speech = None
        self._notify()

    # the whole thread

    def export(self) -> ExportedMessageRepository:
        """All messages with their branches."""
        return self._repository.export()

    @abstractmethod
    async def load(self, exported: ExportedMessageRepository) -> None:
        """Puts these messages in the place of all there are; nothing changes where it fails.

        Raises:
            NotFound, InvalidMessage: the messages make no tree.
        """

    async def reset(self, messages: Iterable[MessageLike] = ()) -> None:
        """Begins anew, with these messages. Raises InvalidMessage."""
        await self.load(ExportedMessageRepository.from_messages(messages))

    # what composers need

    @property
    def attachment_adapter(self) -> AttachmentAdapter | None:
        """Makes attachments of files."""
        return None

    @property
    def dictation_adapter(self) -> DictationAdapter | None:
        """Writes down what is said."""
        return None

    @property
    def speech_adapter(self) -> SpeechAdapter | None:
        """Reads aloud."""
        return None

    @property
    def feedback_adapter(self) -> FeedbackAdapter | None:
        """Takes feedback."""
        return None

    @property
    def queue(self) -> tuple[QueueItem, ...]:
        """Messages that wait for the run to end, the next one first."""
        return ()

    def move_queue_item(self, item_id: str, *, lane: Lane | None = None, before: str | None = None) -> None:
        """Puts a waiting message elsewhere. Raises NotSupported, NotFound."""
        raise NotSupported("queue", "the runtime has no queue")

    def remove_queue_item(self, item_id: str) -> None:
        """Forgets a waiting message. Raises NotSupported, NotFound."""
        raise NotSupported("queue", "the runtime has no queue")

    def _loaded(self, exported: ExportedMessageRepository) -> MessageRepository:
        """A tree of these messages alone."""
        repository = MessageRepository()
        repository.load(exported)
        return repository

    @property
    def _tail_id(self) -> str | None:
        return self._repository.head_id
