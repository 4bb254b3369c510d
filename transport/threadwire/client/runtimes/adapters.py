"""What can be plugged into a runtime, and what it can do then."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Literal, Protocol

import msgspec

from ...messages.model import ThreadMessage
from ...messages.repository import ExportedMessageRepository, RepositoryItem
from .actions import ThreadSuggestion


class SpeechAdapter(Protocol):
    """Reads texts aloud."""

    async def speak(self, text: str) -> None:
        """Returns when the text has been spoken; cancelled, it falls silent."""


@dataclass(frozen=True)
class DictationResult:
    """What was heard; until `is_final` the next result takes its place."""

    transcript: str
    is_final: bool = True


class DictationAdapter(Protocol):
    """Writes down what is said."""

    def listen(self) -> AbstractAsyncContextManager[AsyncIterator[DictationResult]]:
        """What is heard, while the context is open."""


class FeedbackAdapter(Protocol):
    """Takes what users think of messages."""

    def submit(
        self, message: ThreadMessage, type: Literal["positive", "negative"], comment: str | None
    ) -> Awaitable[None] | None:
        """Keeps it."""


class SuggestionAdapter(Protocol):
    """Thinks of what the user may want to say next."""

    def generate(
        self, messages: Sequence[ThreadMessage]
    ) -> Awaitable[Sequence[ThreadSuggestion]] | AsyncIterator[Sequence[ThreadSuggestion]]:
        """Suggestions, or better and better ones. Cancelled when something is sent."""


@dataclass(frozen=True, kw_only=True)
class LoadedHistory:
    """A thread's messages as they were kept; with `resume`, the last run is to be gone on with."""

    messages: ExportedMessageRepository
    resume: bool = False


class HistoryAdapter(Protocol):
    """Keeps a thread's messages. It may also have

    - `async update(item)`: gives a message that was kept a new value (or keeps it, if it wasn't);
      with it, runs that wait for something are kept as well;
    - `async delete(items)`: removes messages;
    - `resume(options)`: an async generator as a chat model's, for `LoadedHistory.resume`.
    """

    async def load(self) -> LoadedHistory | ExportedMessageRepository | None:
        """What is kept of the thread."""

    async def append(self, item: RepositoryItem) -> None:
        """Keeps a message."""


class Capabilities(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """What a runtime can do, as far as its handlers and adapters go."""

    switch_to_branch: bool = False
    switch_branch_during_run: bool = False
    edit: bool = False
    delete: bool = False
    reload: bool = False
    refetch_thread: bool = False
    cancel: bool = False
    copy: bool = msgspec.field(default=True, name="unstable_copy")
    speech: bool = False
    dictation: bool = False
    voice: bool = False
    attachments: bool = False
    feedback: bool = False
    queue: bool = False


@dataclass(frozen=True)
class SpeechState:
    """The message that is being spoken."""

    message_id: str
