"""A thread as users of the client hold it: its state as it changes, and what they send to it."""

from __future__ import annotations

import re
import uuid
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from typing import Final, TypeVar

import msgspec

from ..core.client_session import SETTLED, FollowedThread, Opening, SentCommand
from ..core.commands import Command
from ..core.errors import CommandError, ConnectionClosed, InvalidValue, Refused
from ..core.frames import COMMAND_ID_PATTERN, CommandStatus, Limits, Position, RunInfo, Strategy, Tool
from ..core.operations import Json
from ..core.values import copy_in
from .pump import Pump

T = TypeVar("T")

_COMMAND_ID: Final = re.compile(COMMAND_ID_PATTERN)
_NOTHING: Final = object()


class Receipt:
    """A command that the server has, and what becomes of it."""

    def __init__(self, pump: Pump, sent: SentCommand, followed: FollowedThread) -> None:
        self._pump = pump
        self._sent = sent
        self._followed = followed

    @property
    def id(self) -> str:
        return self._sent.frame.id

    @property
    def status(self) -> CommandStatus:
        assert self._sent.status is not None
        return self._sent.status

    @property
    def duplicate(self) -> bool:
        """Whether the server knew the id before: nothing was done a second time."""
        return self._sent.duplicate

    async def applied(self) -> int:
        """Waits until the command's effect is in the state, and returns the sequence it is in from.

        As long as the thread is open here, that is the state here, which may come after the news.

        Raises:
            CommandError: it was rejected or cancelled (code `cancelled`).
            ConnectionClosed: the connection was closed for good before.
        """
        while self.status not in SETTLED:
            self._pump.raise_if_closed()
            await self._pump.changed(self._sent)
        if self.status != "applied":
            raise _command_error(self._sent)
        followed = self._followed
        while followed.openings and not (followed.caught_up or followed.failure or self._pump.closed):
            await self._pump.changed(followed)
        assert self._sent.seq is not None
        return self._sent.seq


class Thread:
    """A followed thread, from `Connection.open`. States are shared and must not be changed."""

    def __init__(self, pump: Pump, opening: Opening) -> None:
        self._pump = pump
        self._opening = opening
        self._followed: FollowedThread = opening.thread
        self._left = False

    @property
    def id(self) -> str:
        return self._followed.id

    @property
    def state(self) -> Json:
        """The newest committed state that is known here."""
        return self._followed.replica.state

    @property
    def position(self) -> Position:
        """Where in the thread's log `state` stands."""
        position = self._followed.replica.position
        assert position is not None
        return position

    @property
    def run(self) -> RunInfo | None:
        """The current or last run; None where there never was one."""
        return self._followed.run

    def states(self, *, until_idle: bool = False) -> AsyncIterator[Json]:
        """The state now, and each one that follows, until the thread or the connection is closed here.

        A reader that takes its time gets the newest state next, and never those in between. With
        `until_idle` the last state is the one that `idle` waits for.

        Raises:
            Refused: the server ended the thread.
            ConnectionClosed: the connection was closed for good.
        """
        return self._each(lambda: self._followed.replica.state, until_idle=until_idle)

    def runs(self) -> AsyncIterator[RunInfo | None]:
        """The run now, and what becomes of it and its successors. Ends, skips and raises as `states`."""
        return self._each(lambda: self._followed.run)

    async def tool_calls(self) -> AsyncIterator[Tool]:
        """The calls of `tools` that this connection is to execute; answer with `AddToolResult`.

        Each goes to one reader. After a lost connection a call may come again, here or to
        another client; the first answer counts. Ends and raises as `states`.
        """
        calls = self._followed.tool_calls
        while not self._ended_here:
            if calls:
                yield calls.pop(next(iter(calls)))
            else:
                await self._change()

    async def wait(self, predicate: Callable[[Json], object]) -> Json:
        """Waits for a state that `predicate` is true of, and returns it.

        States may be skipped (see `states`): ask for something that stays true.

        Raises:
            Refused, ConnectionClosed: the thread or the connection ended before.
        """
        while not predicate(state := self.state):
            await self._change()
        return state

    async def changed(self) -> None:
        """Waits for the next change of the state or the run; for readers that look at both.

        Raises:
            Refused, ConnectionClosed: the thread or the connection ended before.
        """
        await self._change()

    async def idle(self) -> RunInfo | None:
        """Waits until no run goes on and no command of this client is on its way; the last run.

        What they did to the state is in `state` then.
        A run that waits for answers goes on only with them: its status is `waiting`.

        Raises:
            Refused, ConnectionClosed: the thread or the connection ended before.
        """
        while not self._is_idle:
            await self._change()
        return self.run

    async def send(
        self,
        command: Command | Mapping[str, Json],
        *,
        strategy: Strategy | None = None,
        id: str | None = None,
    ) -> Receipt:
        """Sends a command, as often as it takes, and returns once the server has it for good.

        It has an effect once: a lost connection, or another `send` under the same `id`, adds
        none. Cancelled, it isn't sent again; it may have arrived. `strategy` says what happens
        if a run is active.

        Raises:
            CommandError: it was refused; `code` says why, `field` where.
            ConnectionClosed: the connection was closed for good before; it may have arrived.
        """
        self._raise_if_ended()
        pump, session = self._pump, self._pump.session
        if id is None:
            id = uuid.uuid4().hex
        elif not _COMMAND_ID.fullmatch(id):
            raise CommandError("invalid-frame", "a command id is 1 to 128 visible ASCII characters", "id")
        body = _body(command, Limits() if session.welcome is None else session.welcome.limits)
        sent = session.send(self.id, id, body, strategy=strategy, agent=self._followed.agent)
        pump.wake()
        try:
            while sent.status is None:
                pump.raise_if_closed()
                await pump.changed(sent)
        finally:
            session.forget(sent)
        if not sent.acknowledged:
            raise _command_error(sent)
        return Receipt(pump, sent, self._followed)

    def awaits(self, id: str) -> bool:
        """Whether news of the command of this id, or the state that it is in, are still to come."""
        followed = self._followed
        behind = bool(followed.openings) and not followed.caught_up
        return behind or not self._pump.session.is_settled(self.id, id)

    async def cancel(self, run: str | None = None) -> None:
        """Stops the run of that id, or without one the current run and all that is queued.

        Returns once the server says that the run has ended, or that there is none.

        Raises:
            Refused: the server won't.
            ConnectionClosed: the connection was closed for good before.
        """
        self._raise_if_ended()
        cancel = self._pump.session.cancel(self._followed, run)
        self._pump.wake()
        try:
            while not cancel.done:
                await self._change()
        finally:
            self._pump.session.forget_cancel(cancel)
        if cancel.error is not None:
            raise Refused(cancel.error.code, cancel.error.message, cancel.error.field)

    async def _each(self, read: Callable[[], T], *, until_idle: bool = False) -> AsyncIterator[T]:
        seen: object = _NOTHING
        while not self._ended_here:
            current = read()
            if current is not seen:
                seen = current
                yield current
            elif until_idle and self._is_idle:
                return
            else:
                await self._change()

    @property
    def _is_idle(self) -> bool:
        followed = self._followed
        return not followed.active and followed.caught_up and not self._pump.session.unsettled(self.id)

    @property
    def _ended_here(self) -> bool:
        return self._left or self._pump.left

    async def _change(self) -> None:
        self._raise_if_ended()
        await self._pump.changed(self._followed)

    def _raise_if_ended(self) -> None:
        if self._left:
            raise ConnectionClosed(1000, "the thread was closed here", reconnect=False)
        failure = self._followed.failure
        if failure is not None:
            raise Refused(failure.code, failure.message, failure.field)
        self._pump.raise_if_closed()


@asynccontextmanager
async def follow(
    pump: Pump,
    thread: str,
    *,
    agent: str | None,
    tools: Iterable[str],
    hash: bool,
    state: Json | msgspec.UnsetType,
) -> AsyncIterator[Thread]:
    """The thread, once its state is there, for the length of the block. Raises as `Connection.open`."""
    pump.raise_if_closed()
    opening = pump.session.open(thread, agent=agent, tools=tools, hash=hash, state=state)
    handle = Thread(pump, opening)
    pump.wake()
    try:
        while not opening.thread.ready:
            await handle._change()
        yield handle
    finally:
        handle._left = True
        pump.session.close(opening)
        pump.wake()
        pump.announce(opening.thread)


def _body(command: Command | Mapping[str, Json], limits: Limits) -> Json:
    """A plain copy of the command, so that what is sent again later is what was sent first."""
    try:
        plain = msgspec.to_builtins(command, str_keys=True) if isinstance(command, Command) else command
        return copy_in(plain, depth=limits.max_depth, path=())[0]
    except InvalidValue as error:
        field = error.field and error.field.replace("state", "command", 1)
        raise CommandError(error.code, error.message, field) from None
    except RecursionError:
        raise CommandError("too-deep", "the command is nested too deep", "command") from None
    except TypeError as error:
        raise CommandError("unsupported-type", str(error), "command") from None


def _command_error(sent: SentCommand) -> CommandError:
    error = sent.error
    if error is None:
        return CommandError(f"{sent.status}", f"the command was {sent.status}")
    return CommandError(error.code, error.message, error.field)
