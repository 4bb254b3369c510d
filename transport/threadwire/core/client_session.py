"""The client's side of the protocol, without the socket: what to send, and what each frame means.

A session outlives its connections. `connected` puts everything in the queue that a fresh one
needs, in the order hello, threads (each from where it stands), commands that are not settled
(under their ids), cancels; `next_frame` empties the queue; `receive` takes what the server says
and returns what follows from it. There is no clock in here: who waits, and for how long, is the
business of the caller.

Spec: PROTOCOL.md §6, §7 and §9.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final, TypeAlias, assert_never

import msgspec

from .canonical import canonical
from .errors import CODES, CommandError, ConnectionClosed, ErrorInfo, Refused
from .frames import (
    PROTOCOL_VERSION,
    Cancel,
    ClientFrame,
    Close,
    CommandState,
    CommandStatus,
    Error,
    Goodbye,
    Heartbeat,
    Hello,
    Open,
    Pong,
    Position,
    Run,
    RunInfo,
    SendCommand,
    ServerFrame,
    Snapshot,
    Strategy,
    Tool,
    Update,
    Welcome,
)
from .operations import Json
from .replica import Outcome, Replica

ENDED: Final = ("completed", "failed", "cancelled")
"""The statuses that a run doesn't leave. Spec: PROTOCOL.md §8."""

SETTLED: Final = ("applied", "rejected", "cancelled")
"""The statuses that a command doesn't leave. Spec: PROTOCOL.md §7.2."""

_TEMPORARY: Final = ("store-unavailable", "overloaded")
"""Codes that say: the same again, later."""


@dataclass(eq=False)
class Opening:
    """One share in a followed thread. A thread is followed as long as it has any."""

    thread: FollowedThread
    tools: tuple[str, ...]
    hash: bool


@dataclass(eq=False)
class FollowedThread:
    """A thread as the server shows it on this connection."""

    id: str
    agent: str | None
    seed: Json | msgspec.UnsetType
    replica: Replica = field(default_factory=Replica)
    run: RunInfo | None = None
    tool_calls: dict[str, Tool] = field(default_factory=dict)
    """Calls that this connection is to execute and nobody has taken yet, by tool_call_id."""
    failure: ErrorInfo | None = None
    """Why the thread is followed no more, where the server ended it."""

    openings: list[Opening] = field(default_factory=list)
    asked: bool = False
    """An `open` is on its way and not answered: frames that don't fit need no other."""
    refusals: int = 0
    """How often in a row the thread was refused for now."""
    doubted: bool = False
    """The replica was wrong and no update has been applied since."""
    effects: int = 0
    """Up to here the log holds effects of commands that were sent here and are applied."""

    @property
    def ready(self) -> bool:
        """Whether there is a state."""
        return self.replica.position is not None

    @property
    def caught_up(self) -> bool:
        """Whether the state has the effects of all commands that are said to be applied."""
        return self.replica.position is not None and self.replica.position.seq >= self.effects

    @property
    def active(self) -> bool:
        """Whether a run goes on or is about to; one that waits for answers doesn't."""
        return self.run is not None and self.run.status in ("queued", "running")

    @property
    def tools(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(tool for opening in self.openings for tool in opening.tools))

    @property
    def hash(self) -> bool:
        return any(opening.hash for opening in self.openings)


@dataclass(eq=False)
class SentCommand:
    """A command on its way: None → queued → running → applied, rejected or cancelled."""

    frame: SendCommand
    status: CommandStatus | None = None
    acknowledged: bool = False
    """The server had it durable at some time."""
    duplicate: bool = False
    """The server knew the id before this session sent it."""
    seq: int | None = None
    error: ErrorInfo | None = None

    senders: int = 1
    uncertain: bool = False
    """It was sent on a connection that has been lost: it may have arrived."""
    refusals: int = 0


@dataclass(eq=False)
class SentCancel:
    """A cancel on its way. `run` is the one to see ended, None where none was known."""

    frame: Cancel
    run: str | None
    done: bool = False
    error: ErrorInfo | None = None


@dataclass(frozen=True)
class Changed:
    """Something about the thread or the command is different now."""

    target: FollowedThread | SentCommand


@dataclass(frozen=True)
class RetryLater:
    """`retry(target)` is due after a wait that grows with `attempt`, which starts at 1."""

    target: FollowedThread | SentCommand
    attempt: int


@dataclass(frozen=True)
class Problem:
    """The server complains about the connection, not about a thread or a command."""

    error: Error


Event: TypeAlias = Changed | RetryLater | Problem


class ClientSession:
    """What one client follows and has sent, across all its connections."""

    def __init__(self, *, token: str | None = None, client: str | None = None, hash: bool = False) -> None:
        self.welcome: Welcome | None = None
        """The last one; None before the first."""
        self.goodbye: Goodbye | None = None
        """What the server said on this connection before closing it."""
        self._hello: Final = Hello(token=token, client=client, hash=hash)
        self._threads: Final[dict[str, FollowedThread]] = {}
        self._commands: Final[dict[tuple[str, str], SentCommand]] = {}
        """Those that are not settled, in the order they were sent."""
        self._cancels: Final[list[SentCancel]] = []
        self._queue: Final[deque[ClientFrame]] = deque()
        self._online = False

    # the connection

    def connected(self) -> None:
        """A connection is up and nothing has been sent on it."""
        self._online = True
        self.goodbye = None
        if self._hello != Hello():
            self._put(self._hello)
        for thread in self._threads.values():
            self._ask(thread)
        for command in self._commands.values():
            self._put(command.frame)
        for cancel in self._cancels:
            self._put(cancel.frame)

    def disconnected(self) -> None:
        """The connection is gone; whether what was sent last has arrived is unknown."""
        self._online = False
        unsent = {id(frame) for frame in self._queue}
        self._queue.clear()
        for command in self._commands.values():
            command.refusals = 0
            if id(command.frame) not in unsent:
                command.uncertain = True
        for thread in self._threads.values():
            thread.refusals = 0
            thread.tool_calls.clear()  # the server gives them out again

    def next_frame(self) -> ClientFrame | None:
        """The next frame to send on the connection, None while there is none."""
        return self._queue.popleft() if self._queue else None

    def refuse(self, frame: ClientFrame, error: ErrorInfo) -> list[Event]:
        """A frame from `next_frame` can't be sent: what waits for its answer has it herewith."""
        match frame:
            case SendCommand(thread=thread, id=id):
                return self._settle(self._commands.get((thread, id)), "rejected", error)
            case Open(thread=thread):
                return self._fail(self._threads[thread], error) if thread in self._threads else []
        return []

    # what the client wants

    def open(
        self,
        thread: str,
        *,
        agent: str | None = None,
        tools: Iterable[str] = (),
        hash: bool = False,
        state: Json | msgspec.UnsetType = msgspec.UNSET,
    ) -> Opening:
        """Follows a thread; one that is followed already is shared, and its first agent and state count.

        Raises:
            Refused: `agent-mismatch`, where it is followed under another agent.
        """
        followed = self._threads.get(thread)
        if followed is None:
            followed = self._threads[thread] = FollowedThread(thread, agent, state)
            followed.openings.append(opening := Opening(followed, tuple(tools), hash))
            self._ask(followed)
            return opening
        if None not in (agent, followed.agent) and agent != followed.agent:
            raise Refused("agent-mismatch", f"the thread is open under the agent {followed.agent!r}", "agent")
        before = followed.tools, followed.hash
        followed.openings.append(opening := Opening(followed, tuple(tools), hash))
        self._ask_if_changed(followed, before)
        return opening

    def close(self, opening: Opening) -> None:
        """Gives up a share, once; the last one ends the following. Its commands go on."""
        thread = opening.thread
        if opening not in thread.openings:
            return
        before = thread.tools, thread.hash
        thread.openings.remove(opening)
        if self._threads.get(thread.id) is not thread:
            return
        if thread.openings:
            self._ask_if_changed(thread, before)
        else:
            self._drop(thread)

    def send(
        self,
        thread: str,
        id: str,
        command: Json,
        *,
        strategy: Strategy | None = None,
        agent: str | None = None,
    ) -> SentCommand:
        """Sends a command, and again on each new connection until it is settled.

        The same id with the same command, while that is not settled, is one and the same sending.

        Raises:
            CommandError: `command-id-reused`, where it is another command.
        """
        sent = self._commands.get((thread, id))
        if sent is not None:
            if canonical(sent.frame.command) != canonical(command):
                raise CommandError("command-id-reused", CODES["command-id-reused"], "id")
            sent.senders += 1
            return sent
        frame = SendCommand(thread=thread, id=id, command=command, strategy=strategy, agent=agent)
        sent = self._commands[thread, id] = SentCommand(frame)
        self._put(frame)
        return sent

    def forget(self, sent: SentCommand) -> None:
        """A sender gives up. The last one's command, not acknowledged yet, isn't sent (again)."""
        sent.senders -= 1
        key = (sent.frame.thread, sent.frame.id)
        if sent.senders == 0 and sent.status is None and self._commands.get(key) is sent:
            del self._commands[key]
            self._take_back(sent.frame)

    def is_settled(self, thread: str, id: str) -> bool:
        """Whether no command of this id is on its way in the thread."""
        return (thread, id) not in self._commands

    def unsettled(self, thread: str) -> bool:
        """Whether a command of this client is on its way in the thread."""
        return any(key[0] == thread for key in self._commands)

    def cancel(self, thread: FollowedThread, run: str | None = None) -> SentCancel:
        """Stops a run, or without one the current run and the queue."""
        current = thread.run.id if thread.run is not None and thread.run.status not in ENDED else None
        cancel = SentCancel(Cancel(thread=thread.id, run=run), run or current)
        self._cancels.append(cancel)
        self._put(cancel.frame)
        return cancel

    def forget_cancel(self, cancel: SentCancel) -> None:
        """Nobody waits for it any longer."""
        if cancel in self._cancels:
            self._cancels.remove(cancel)
            self._take_back(cancel.frame)

    def retry(self, target: FollowedThread | SentCommand) -> None:
        """The wait of a RetryLater is over."""
        match target:
            case FollowedThread():
                if self._threads.get(target.id) is target:
                    self._ask(target)
                    for cancel in self._cancels_of(target):
                        self._put(cancel.frame)
            case SentCommand(frame=frame):
                if self._commands.get((frame.thread, frame.id)) is target:
                    self._put(frame)

    # what the server says

    def receive(self, frame: ServerFrame) -> list[Event]:
        """Takes in one frame. What concerns nothing known here is ignored.

        Raises:
            ConnectionClosed: the server speaks another version of the protocol.
        """
        match frame:
            case Update():
                thread = self._threads.get(frame.thread)
                return [] if thread is None else self._update(thread, frame)
            case Snapshot():
                thread = self._threads.get(frame.thread)
                return [] if thread is None else self._snapshot(thread, frame)
            case Run():
                thread = self._threads.get(frame.thread)
                return [] if thread is None else self._run(thread, frame)
            case Tool():
                thread = self._threads.get(frame.thread)
                if thread is None:
                    return []
                thread.tool_calls[frame.tool_call_id] = frame
                return [Changed(thread)]
            case CommandState():
                return self._command(frame)
            case Heartbeat():
                for id, (epoch, seq) in frame.heads.items():
                    thread = self._threads.get(id)
                    if thread is None or thread.asked:
                        continue
                    if thread.replica.position != Position(epoch, seq):
                        self._ask(thread)
                return []
            case Error():
                return self._error(frame)
            case Goodbye():
                self.goodbye = frame
                return []
            case Pong():
                return []
            case Welcome():
                if frame.protocol != PROTOCOL_VERSION:
                    raise ConnectionClosed(
                        1002, f"the server speaks version {frame.protocol} of the protocol", reconnect=False
                    )
                self.welcome = frame
                return []
            case _:
                assert_never(frame)

    def _snapshot(self, thread: FollowedThread, frame: Snapshot) -> list[Event]:
        before = thread.replica.position
        outcome = thread.replica.snapshot(frame)
        if outcome == "applied":
            if before is not None and frame.seq < before.seq:
                thread.effects = 0  # the thread has started over, and they are gone with the old one
            self._learn_run(thread, frame.run)
        return self._moved(thread, outcome)

    def _update(self, thread: FollowedThread, frame: Update) -> list[Event]:
        outcome = thread.replica.update(frame)
        if outcome == "applied":
            thread.doubted = False
        return self._moved(thread, outcome)

    def _moved(self, thread: FollowedThread, outcome: Outcome) -> list[Event]:
        match outcome:
            case "applied":
                self._answered(thread)
                return [Changed(thread)]
            case "misfit":
                if not thread.asked:
                    self._ask(thread)
                return []
            case "diverged":
                if thread.doubted:
                    # A fresh snapshot didn't help: asking for the next would go on forever.
                    return self._fail(thread, ErrorInfo("internal", "the updates don't fit the snapshot"))
                thread.doubted = True
                self._ask(thread)
                return []
            case _:
                assert_never(outcome)

    def _run(self, thread: FollowedThread, frame: Run) -> list[Event]:
        if thread.replica.since is not None:
            self._answered(thread)
        self._learn_run(thread, frame.run)
        return [Changed(thread)]

    def _learn_run(self, thread: FollowedThread, run: RunInfo | None) -> None:
        if run != thread.run:
            thread.run = run
        ended = run is None or run.status in ENDED
        if ended:
            thread.tool_calls.clear()
        for cancel in self._cancels_of(thread):
            if run is None or ended or (cancel.run is not None and run.id != cancel.run):
                self._cancels.remove(cancel)
                cancel.done = True

    def _command(self, frame: CommandState) -> list[Event]:
        sent = self._commands.get((frame.thread, frame.id))
        if sent is None:
            return []
        if sent.status is None:
            sent.duplicate = frame.duplicate and not sent.uncertain
        if frame.status == "rejected":
            return self._rejected(sent, frame.error)
        sent.acknowledged = True
        return self._settle(sent, frame.status, frame.error, frame.seq)

    def _rejected(self, sent: SentCommand, error: ErrorInfo | None) -> list[Event]:
        if error is not None and error.code in _TEMPORARY and sent.uncertain:
            # It may be in the inbox since the last connection: only a server that can look knows.
            sent.refusals += 1
            return [RetryLater(sent, sent.refusals)]
        return self._settle(sent, "rejected", error)

    def _settle(
        self,
        sent: SentCommand | None,
        status: CommandStatus,
        error: ErrorInfo | None,
        seq: int | None = None,
    ) -> list[Event]:
        if sent is None:
            return []
        sent.status, sent.error, sent.seq = status, error, seq
        if status in SETTLED:
            del self._commands[sent.frame.thread, sent.frame.id]
        thread = self._threads.get(sent.frame.thread)
        if thread is None:
            return [Changed(sent)]
        if seq is not None:
            thread.effects = max(thread.effects, seq)
        return [Changed(sent), Changed(thread)]

    def _error(self, frame: Error) -> list[Event]:
        error = ErrorInfo(frame.code, frame.message, frame.field)
        if frame.id is not None:
            meant = [
                sent
                for (thread, id), sent in self._commands.items()
                if id == frame.id and frame.thread in (None, thread)
            ]
            return [event for sent in meant for event in self._rejected(sent, error)]
        if frame.thread is None:
            return [Problem(frame)]
        thread = self._threads.get(frame.thread)
        if thread is None:
            return []
        if frame.code in _TEMPORARY:
            thread.asked = True
            thread.refusals += 1
            return [RetryLater(thread, thread.refusals)]
        cancels = self._cancels_of(thread)
        if frame.field == "run" or (cancels and not thread.asked):
            for cancel in cancels:
                self._cancels.remove(cancel)
                cancel.done, cancel.error = True, error
            return [Changed(thread)]
        return self._fail(thread, error)

    # helpers

    def _put(self, frame: ClientFrame) -> None:
        if self._online:
            self._queue.append(frame)

    def _take_back(self, frame: ClientFrame) -> None:
        for index, queued in enumerate(self._queue):
            if queued is frame:
                del self._queue[index]
                return

    def _cancels_of(self, thread: FollowedThread) -> list[SentCancel]:
        return [cancel for cancel in self._cancels if cancel.frame.thread == thread.id]

    def _ask(self, thread: FollowedThread) -> None:
        """Asks for the thread from where the replica stands."""
        thread.asked = True
        since = thread.replica.since
        self._put(
            Open(
                thread=thread.id,
                agent=thread.agent,
                since=None if since is None else {"epoch": since.epoch, "seq": since.seq},
                state=thread.seed,
                tools=thread.tools,
                hash=thread.hash,
            )
        )

    def _ask_if_changed(self, thread: FollowedThread, before: tuple[tuple[str, ...], bool]) -> None:
        if (thread.tools, thread.hash) != before:
            self._ask(thread)

    def _answered(self, thread: FollowedThread) -> None:
        thread.asked = False
        thread.refusals = 0
        thread.seed = msgspec.UNSET

    def _fail(self, thread: FollowedThread, error: ErrorInfo) -> list[Event]:
        thread.failure = error
        self._drop(thread)
        return [Changed(thread)]

    def _drop(self, thread: FollowedThread) -> None:
        del self._threads[thread.id]
        for cancel in self._cancels_of(thread):
            self.forget_cancel(cancel)
        # A refused `open` leaves an earlier subscription as it was: this ends that too.
        self._put(Close(thread=thread.id))
