"""What an agent that hosts another framework can do in a run, beside what a function can.

Where a function agent takes commands up and writes, a host says itself when a command has had its
effect; it edits the server's part of the state too, keeps notes that outlive the process, and asks
clients in a way that a later process can take up again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from ..core.commands import Command
from ..core.document import Document
from ..core.draft import Draft
from ..core.errors import ErrorInfo
from ..core.operations import Json
from .notes import Notes
from .run import Given

if TYPE_CHECKING:
    from .run import Run


@dataclass(frozen=True, kw_only=True)
class ClientCall:
    """A tool call that a client is to execute."""

    name: str
    args: Json


def _accept(command: Command) -> None:
    """Everything is an answer."""


@dataclass(frozen=True, kw_only=True)
class Questions:
    """What a run waits for.

    Attributes:
        interrupts: by id, the entries that clients see under `threadwire.interrupts`.
        calls: by tool call id.
        breakpoint: whether a `resume` without answers is one.
        check: raises CommandError for an answer that is none, before it counts.
    """

    interrupts: Mapping[str, Json] = field(default_factory=dict)
    calls: Mapping[str, ClientCall] = field(default_factory=dict)
    breakpoint: bool = False
    check: Callable[[Command], None] = _accept

    def __bool__(self) -> bool:
        return bool(self.interrupts or self.calls or self.breakpoint)


class HostingRunner(Protocol):
    """What this needs of the runner."""

    @property
    def beside(self) -> bool: ...

    @property
    def epoch(self) -> int: ...

    @property
    def rolls_back(self) -> bool: ...

    def client_tools(self) -> frozenset[str]: ...

    async def flush(self) -> None: ...

    async def stored_notes(self) -> dict[str, bytes]: ...

    def note(self, name: str, data: bytes | None) -> None: ...

    def apply(self, given: Given) -> None: ...

    def reject(self, given: Given, error: ErrorInfo) -> None: ...

    def error_info(self, error: BaseException) -> ErrorInfo: ...

    def recovered(self) -> None: ...

    async def ask(self, questions: Questions) -> Sequence[Given]: ...


class Hosting:
    """`run.hosting`. What does anything raises RunEnded once the run has ended."""

    def __init__(self, draft: Draft, runner: HostingRunner, run: Run) -> None:
        self._draft = draft
        self._runner = runner
        self._run = run

    @property
    def given(self) -> Sequence[Given]:
        """The commands that the run began or goes on with, to be settled by `apply` or `reject`."""
        return self._run.commands.given

    @property
    def beside(self) -> bool:
        """Whether this is a handler's beside a run that goes on or waits."""
        return self._runner.beside

    @property
    def epoch(self) -> int:
        """Of the process that writes the thread now; a later one has a larger one."""
        return self._runner.epoch

    @property
    def rolls_back(self) -> bool:
        """Whether the run was cancelled, and what it wrote is to be undone."""
        return self._runner.rolls_back

    def client_tools(self) -> frozenset[str]:
        """The names of the tools that connected clients execute."""
        return self._runner.client_tools()

    def describe(self, error: BaseException) -> ErrorInfo:
        """What clients are told of an agent's exception. It is logged where they aren't told all."""
        return self._runner.error_info(error)

    @property
    def document(self) -> Document:
        """The thread's state for edits by path, the server's part included."""
        return self._draft.document

    async def notes(self) -> Notes:
        """The agent's notes on the thread. Raises StoreUnavailable."""
        self._draft.check()
        stored = await self._runner.stored_notes()
        return Notes(stored, check=self._draft.check, changed=self._runner.note)

    async def flush(self) -> None:
        """Returns once all that was written and noted is durable. Raises StoreUnavailable."""
        self._draft.check()
        await self._runner.flush()

    def apply(self, given: Given) -> None:
        """The command has its effect in the state as it is now."""
        self._draft.check()
        self._runner.apply(given)

    def reject(self, given: Given, error: BaseException) -> None:
        """The command has no effect and never will; `error` is told as an agent's error is."""
        self._draft.check()
        self._runner.reject(given, self._runner.error_info(error))

    def steered(self) -> Sequence[Given]:
        """What was steered into the run since the last call."""
        self._draft.check()
        return self._run.inbox.take_given()

    @property
    def has_steered(self) -> bool:
        return len(self._run.inbox) > 0

    def recovered(self) -> None:
        """The agent knows how far a run was that it goes on with, and can be cancelled from here on.

        A cancel that came before takes effect at its next `await`. To ask says this, too.
        """
        self._draft.check()
        self._runner.recovered()

    async def ask(self, questions: Questions) -> Sequence[Given]:
        """Waits for clients: the run is `waiting` until the first answers are there, one or more.

        Answers that come to what was asked, while the run goes on with others, wait for the next call.
        The questions stand in the state until they are answered, or the run ends.
        """
        self._draft.check()
        if not questions:
            raise ValueError("nothing is asked")
        return await self._runner.ask(questions)
