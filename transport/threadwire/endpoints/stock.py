"""What the routes for stock clients share: whose thread a request is about, its commands, its stream.

How a request is read and what its stream says is each route's own business, above.

Spec: PROTOCOL.md §14.9, §14.11 and §14.12.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, Final, TypeGuard

from starlette.requests import Request
from starlette.responses import Response

from ..core.errors import Refused
from ..core.frames import Strategy
from ..core.operations import Json
from ..engine.agent import Agent
from ..engine.anonymous import AnonymousThreads
from ..engine.context import Sent
from ..engine.run_stream import RunStream
from ..engine.thread import Thread
from ..engine.threads import Threads, again
from .assistant_stream import THREAD_HEADER, Encoder, RunResponse

_HANG_UP_S: Final = 0.1
"""A client that stops a run to ask for another answer does both at once, over two connections: the end of
the first may be seen after the second's request. That would have to wait for the run anyway."""


class StockClients:
    """One for each set of routes."""

    def __init__(self, threads: Threads, anonymous: AnonymousThreads) -> None:
        self.settings = threads.settings
        self.anonymous = anonymous
        self._threads = threads

    def agent(self, request: Request) -> str | None:
        """The agent that the path names, None where it names none."""
        name: str | None = request.path_params.get("agent")
        if name is not None and name not in self._threads.agents:
            raise Refused("not-found", f"no agent {name[:100]!r} is served here")
        return name

    def check_not_draining(self) -> None:
        if self._threads.draining:
            raise Refused("draining", "the server is stopping")

    async def find(self, id: str | None, token: str | None, agent: str | None) -> Thread | None:
        """The thread that a client has this id for, and this token in its state; None for a new one.

        Raises:
            Refused: `agent-mismatch`.
            StoreError: as `AnonymousThreads.find`.
        """
        thread = await self.anonymous.find(id, token)
        if thread is not None and agent is not None and thread.agent_name != agent:
            raise Refused(
                "agent-mismatch", f"the thread belongs to the agent {thread.agent_name!r}", "body.threadId"
            )
        return thread

    def begun(self, thread: Thread | None) -> TypeGuard[Thread]:
        """Whether anything was ever written or asked there; if not, it takes a first state."""
        return thread is not None and (not thread.untouched or thread.runner.busy)

    def serving(self, thread: Thread | None, agent: str | None) -> Agent:
        """The agent of a thread, or of one that is to be made."""
        return self._threads.agents[agent or self._threads.default_agent] if thread is None else thread.agent

    async def abandoned(self, thread: Thread) -> bool:
        """Whether nobody is there to see the run that the thread is at, or nobody will be in a moment."""
        return await thread.absence.abandoned_within(_HANG_UP_S)

    async def follow(self, thread: Thread) -> RunStream:
        """A stream that shows what happens from now on. Raises StoreError."""
        return await RunStream.open(self._threads.feeds, thread)

    @contextmanager
    def begins(self, stream: RunStream, *, resumed: bool = False) -> Iterator[None]:
        """A block in which a stream is given its commands: it begins after it, or is closed if that fails."""
        try:
            yield
            stream.begin(resumed=resumed)
        except BaseException:
            stream.close()
            raise

    async def current(self, stream: RunStream) -> Thread:
        """The stream's thread, once it is loaded where it is about to be another object.

        Raises:
            Refused: `not-found`, where it was deleted meanwhile.
            StoreError: it could not be loaded.
        """
        thread = await self._threads.find(stream.thread.id)
        if thread is None:
            raise Refused("not-found", "there is no such thread any more")
        return thread

    async def submit(
        self,
        stream: RunStream,
        commands: Sequence[tuple[str, dict[str, Json]]],
        sent: Sent,
        *,
        interrupt: bool,
        field: str,
        field_of: Callable[[int, str], str],
    ) -> None:
        """Submits all, each an id and a body, in this order: they start one run together.

        `field` is what they came from, `field_of(number, field)` the place of a command's field in it.

        Raises:
            Refused: with the field.
            StoreError: they could not be made durable.
        """
        ids = [id for id, _ in commands]
        # One that the store refuses would come after others of this request were taken.
        limit = self.settings.limits.max_pending_commands
        if stream.thread.intake.would_wait(ids) > limit:
            raise Refused("too-many-pending", f"no more than {limit} commands may wait", field)
        stream.expect(ids)
        strategy: Strategy | None = "interrupt" if interrupt else None

        async def submit(id: str, body: dict[str, Json]) -> None:
            thread = await self.current(stream)
            await thread.submit(id, body, strategy=strategy, watcher=stream.watch, sent=sent)

        outcomes: list[Any] = await asyncio.gather(
            *(again(partial(submit, id, body)) for id, body in commands), return_exceptions=True
        )
        for number, outcome in enumerate(outcomes):
            if isinstance(outcome, Refused):
                outcome.field = field_of(number, (outcome.field or "").removeprefix("command."))
            if isinstance(outcome, BaseException):
                raise outcome

    def response(
        self,
        stream: RunStream,
        encoder: Encoder,
        *,
        headers: Mapping[str, str] | None = None,
        settle_s: float = 0.0,
        replay: bool = False,
    ) -> Response:
        """What sends the stream; the other arguments are those of `RunResponse`."""
        limits = self.settings.limits
        return RunResponse(
            stream,
            encoder,
            heartbeat_s=limits.heartbeat_s,
            patience_s=limits.unresponsive_s,
            settle_s=settle_s,
            replay=replay,
            headers={THREAD_HEADER: stream.thread.id, **(headers or {})},
        )
