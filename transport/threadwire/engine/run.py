"""A run's life: the one table of its statuses, and what an agent holds while it runs.

    queued ──> running ──> completed
                 │  ^ └──> failed
                 v  │
               waiting ──> cancelled (from any status that is not an end)

A run cut by a crash is `recovering` inside the server until it is continued or ended; clients
see it as running, or as failed once it has been ended.

Spec: PROTOCOL.md §8.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, Protocol, Self, overload

import anyio

from ..core.commands import AddToolResult, Command
from ..core.draft import Draft
from ..core.frames import RunStatus
from ..core.operations import Json, Segment
from .context import Sent

if TYPE_CHECKING:
    from .hosting import Hosting
    from .store import CommandRecord
    from .subscriber import Sink

TRANSITIONS: Final[Mapping[RunStatus, frozenset[RunStatus]]] = {
    "queued": frozenset({"running", "cancelled", "failed"}),
    "running": frozenset({"waiting", "completed", "failed", "cancelled"}),
    "waiting": frozenset({"running", "failed", "cancelled"}),
    "completed": frozenset(),
    "failed": frozenset(),
    "cancelled": frozenset(),
}
"""From each status, those that may follow. Spec: PROTOCOL.md §8.1."""


def ended(status: RunStatus) -> bool:
    return not TRANSITIONS[status]


class Given:
    """A command given to a run, and how far the run has come with it."""

    __slots__ = ("command", "id", "order", "origin", "sent", "settled", "starts", "steered", "taken_at")

    def __init__(
        self,
        id: str,
        command: Command,
        *,
        order: int,
        starts: int = 0,
        origin: Sink | None = None,
        sent: Sent | None = None,
    ) -> None:
        self.id = id
        self.command = command
        self.order = order
        """Grows with each submit of the thread."""
        self.origin = origin
        """The connection it came from, where that is known."""
        self.sent = sent
        """What came along with it, None where it came over a WebSocket."""
        self.starts = starts
        """Runs begun with it that ended in a crash."""
        self.steered = False
        """Whether it came into a run that went on."""
        self.taken_at: int | None = None
        """The run's count of writes when it took it up."""
        self.settled = False

    @classmethod
    def of(cls, record: CommandRecord, command: Command, *, origin: Sink | None = None) -> Self:
        """The command of a record, as read from its body."""
        return cls(
            record.id,
            command,
            order=record.order,
            starts=record.starts,
            origin=origin,
            sent=Sent.decode(record.context),
        )

    def again(self) -> Given:
        """The same for another run."""
        return Given(
            self.id,
            self.command,
            order=self.order,
            starts=self.starts,
            origin=self.origin,
            sent=self.sent,
        )


class Batch(Sequence[Command]):
    """The commands that started a run. Iterating or indexing takes them up, in order.

    A command is applied by the first update that holds a write made after it was taken up, or
    when the next one is taken up, or when the run ends in order. Spec: PROTOCOL.md §7.3.
    """

    def __init__(self, given: Sequence[Given], take: Callable[[Given], None]) -> None:
        self._given = given
        self._take = take

    @property
    def given(self) -> Sequence[Given]:
        """For hosts: the commands with their ids, without taking them up."""
        return self._given

    def __len__(self) -> int:
        return len(self._given)

    @overload
    def __getitem__(self, index: int) -> Command: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Command]: ...
    def __getitem__(self, index: int | slice) -> Command | Sequence[Command]:
        if isinstance(index, slice):
            return [self[position] for position in range(len(self))[index]]
        given = self._given[index]
        self._take(given)
        return given.command

    def __iter__(self) -> Iterator[Command]:
        for given in self._given:
            self._take(given)
            yield given.command

    def __repr__(self) -> str:
        return repr([given.command for given in self._given])


class Inbox:
    """Commands delivered into a run while it goes on, by the strategy `steer`.

    `async for command in run.inbox` waits for the next; `run.inbox.take()` gives those that are there.
    """

    def __init__(self, take: Callable[[Given], None]) -> None:
        self._take = take
        self._waiting: deque[Given] = deque()
        self._arrived = anyio.Event()

    def deliver(self, given: Given) -> None:
        self._waiting.append(given)
        self._arrived.set()
        self._arrived = anyio.Event()

    def take_given(self) -> Sequence[Given]:
        """For hosts: those that have arrived, without taking them up."""
        arrived = list(self._waiting)
        self._waiting.clear()
        return arrived

    def take(self) -> Sequence[Command]:
        """Those that have arrived, which iterating takes up in order."""
        arrived = []
        while self._waiting:
            arrived.append(self._waiting.popleft())
        return Batch(arrived, self._take)

    def __len__(self) -> int:
        return len(self._waiting)

    async def __aiter__(self) -> AsyncIterator[Command]:
        while True:
            while not self._waiting:
                await self._arrived.wait()
            given = self._waiting.popleft()
            self._take(given)
            yield given.command


class Host(Protocol):
    """What a run needs of its thread."""

    async def flush(self) -> None: ...

    def new_id(self) -> str: ...

    def take(self, given: Given) -> None: ...

    async def interrupt(self, value: object) -> Json: ...

    async def call_client_tool(self, name: str, args: object) -> AddToolResult: ...

    def hosting(self, run: Run, draft: Draft) -> Hosting: ...


class Run:
    """What an agent is called with. Its state can be used until the run has ended.

    Attributes:
        id: this run's id.
        thread: the thread's id.
        agent: the name the agent is served under.
        commands: the batch that started the run, without what handlers did; iterating takes them up.
        inbox: commands delivered while the run goes on.
        context: what the client sent along with its commands.
    """

    def __init__(
        self,
        *,
        id: str,
        thread: str,
        agent: str,
        draft: Draft,
        host: Host,
        given: Sequence[Given],
        context: Mapping[str, Any],
    ) -> None:
        self.id = id
        self.thread = thread
        self.agent = agent
        self.commands = Batch(given, host.take)
        self.inbox = Inbox(host.take)
        self.context = context
        self._draft = draft
        self._host = host
        self._cancelled = False
        self._hosting: Hosting | None = None
        self.agent_wanted = False

    @property
    def state(self) -> Any:
        """The thread's state: change it as you would a dict. Assigning replaces it, see `replace`.

        Raises:
            RunEnded: the run is over.
        """
        return self._draft.root()

    @state.setter
    def state(self, value: object) -> None:
        root = self._draft.root()
        if value is not root:
            self._draft.replace(value)

    def append_text(self, path: Sequence[Segment], text: str) -> None:
        """Appends to the string at `path`, such as `("messages", -1, "content")`.

        The way for tokens: it costs the same for any length of the text and size of the state.

        Raises:
            InvalidOperation: nothing or no string is there.
        """
        self._draft.append_text(path, text)

    def replace(self, state: object) -> None:
        """Makes the state equal to `state`; clients are sent what differs.

        Raises:
            InvalidValue: naming the place of what no state may hold.
        """
        self._draft.replace(state)

    @property
    def cancelled(self) -> bool:
        """Whether the run has been asked to stop; an async agent sees that as CancelledError too."""
        return self._cancelled

    def new_id(self) -> str:
        """A fresh id, for messages and the like."""
        return self._host.new_id()

    async def flush(self) -> None:
        """Returns once everything written so far is durable.

        Raises:
            StoreUnavailable: it could not be made so.
        """
        await self._host.flush()

    async def interrupt(self, value: object) -> Any:
        """Asks the clients: the run is `waiting` until one answers with a `resume` command.

        The question stands in the state under `threadwire.interrupts`. It doesn't survive a restart of
        the server: the run ends as failed then.

        Returns:
            The answer, any JSON value.
        """
        self._draft.check()
        return await self._host.interrupt(value)

    async def call_client_tool(self, name: str, args: object) -> AddToolResult:
        """Has a client execute a tool: one that said so when it opened the thread.

        The call stands in the state under `threadwire.tool_calls` and the run is `waiting` until the
        result comes; it doesn't survive a restart of the server. A client that goes away in the
        midst of it is replaced, so a tool may be executed more than once.

        Returns:
            The result as the client sent it: `result`, `is_error`, `artifact`.
        """
        self._draft.check()
        return await self._host.call_client_tool(name, args)

    @property
    def hosting(self) -> Hosting:
        """For agents that host another framework: what they can do beyond all this."""
        if self._hosting is None:
            self._hosting = self._host.hosting(self, self._draft)
        return self._hosting

    def over(self, draft: Draft) -> Run:
        """For hosts: the same run over another state, for handlers that see it in another form."""
        run = Run(
            id=self.id,
            thread=self.thread,
            agent=self.agent,
            draft=draft,
            host=self._host,
            given=(),
            context=self.context,
        )
        run.commands, run.inbox = self.commands, self.inbox
        return run

    def start_agent(self) -> None:
        """For handlers: the agent is to run after the handlers, though they handled every command."""
        self.agent_wanted = True

    def mark_cancelled(self) -> None:
        """For the engine: the run has been asked to stop."""
        self._cancelled = True
