"""AssistantTransport over HTTP, for stock clients: commands in, the state out as it changes.

`POST /assistant` runs the agent, `/initial-state` and `/resume` bring a client back to a run that goes
on, `/cancel` stops one. Each is also under `/agents/{agent}`.

Spec: PROTOCOL.md §14.9 to §14.14.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from ..core.errors import Refused
from ..core.frames import RunInfo, Snapshot
from ..engine.agent import Agent
from ..engine.anonymous import AnonymousThreads, token_of
from ..engine.context import Sent
from ..engine.run_stream import RunStream
from ..engine.thread import Thread
from ..engine.threads import Threads
from .assistant_request import AssistantRequest, Incoming, RequestReader, has_message, read_absence
from .assistant_stream import ENCODERS, THREAD_HEADER, RunResponse
from .responses import json_response

SETTLE_S: Final = 0.3
"""A stock client shows the message it has sent until the first state comes, which should hold it."""

_AT_WORK: Final = ("queued", "running", "waiting")


class InitialState(msgspec.Struct, frozen=True, rename="camel"):
    """What a client resumes with: the run, and the state that its stream leads on from."""

    run_id: str
    thread_id: str
    state: msgspec.Raw


class Cancelled(msgspec.Struct, frozen=True):
    """The run as it ended or, where there was nothing to stop, as it is."""

    run: RunInfo | None


def routes(threads: Threads, anonymous: AnonymousThreads) -> list[BaseRoute]:
    endpoints = _Endpoints(threads, anonymous)
    return [
        Route(f"{prefix}/{name}", endpoint, methods=["POST"])
        for name, endpoint in (
            ("assistant", endpoints.assistant),
            ("resume", endpoints.resume),
            ("initial-state", endpoints.initial_state),
            ("cancel", endpoints.cancel),
        )
        for prefix in ("", "/agents/{agent}")
    ]


class _Endpoints:
    def __init__(self, threads: Threads, anonymous: AnonymousThreads) -> None:
        self._threads = threads
        self._anonymous = anonymous
        self._settings = threads.settings
        self._reader = RequestReader(threads.settings.limits)

    async def assistant(self, request: Request) -> Response:
        agent = self._agent(request)
        asked = await self._reader.read(request)
        absence_s = read_absence(asked.query, self._settings.absence_s)
        self._check_not_draining()
        thread = await self._find(asked, agent)
        if thread is None:
            served = self._threads.agents[agent or self._threads.default_agent]
        else:
            served = thread.agent
        commands = asked.commands(served, self._settings.limits, self._settings.new_id)
        if thread is None or (thread.untouched and not thread.runner.busy):
            thread = await self._make(asked, agent, served)
        abandoned = thread.absence.abandoned and has_message(commands)
        stream = await RunStream.open(self._threads.feeds, thread)
        try:
            sent = Sent(context=asked.context, absence_s=absence_s)
            await self._submit(stream, commands, sent, interrupt=abandoned)
            stream.begin()
        except BaseException:
            stream.close()
            raise
        return self._response(stream, asked, settle_s=SETTLE_S if commands else 0.0)

    async def resume(self, request: Request) -> Response:
        asked, thread = await self._existing(request)
        run = thread.run_info
        if asked.run_id is not None and (run is None or run.id != asked.run_id):
            raise Refused("conflict", "this is not the thread's current or last run", "body.runId")
        stream = await RunStream.open(self._threads.feeds, thread)
        stream.begin(resumed=True)
        return self._response(stream, asked, replay=True)

    async def initial_state(self, request: Request) -> Response:
        try:
            _, thread = await self._existing(request)
        except Refused as refusal:
            if refusal.code == "not-found" and refusal.field == "body.threadId":
                return Response(status_code=204)
            raise
        snapshot = (await thread.snapshot("json")).frame("json")
        assert isinstance(snapshot, Snapshot)
        run = snapshot.run
        if run is None or run.status not in _AT_WORK:
            return Response(status_code=204)
        return json_response(InitialState(run.id, thread.id, snapshot.state))

    async def cancel(self, request: Request) -> Response:
        asked, thread = await self._existing(request)
        return json_response(Cancelled(await thread.runner.cancel(asked.run_id)))

    # inside

    def _agent(self, request: Request) -> str | None:
        """The agent that the path names, None where it names none."""
        name: str | None = request.path_params.get("agent")
        if name is not None and name not in self._threads.agents:
            raise Refused("not-found", f"no agent {name[:100]!r} is served here")
        return name

    def _check_not_draining(self) -> None:
        if self._threads.draining:
            raise Refused("draining", "the server is stopping")

    async def _find(self, asked: AssistantRequest, agent: str | None) -> Thread | None:
        thread = await self._anonymous.find(asked.thread_id, asked.token)
        if thread is not None and agent is not None and thread.agent_name != agent:
            raise Refused(
                "agent-mismatch", f"the thread belongs to the agent {thread.agent_name!r}", "body.threadId"
            )
        return thread

    async def _existing(self, request: Request) -> tuple[AssistantRequest, Thread]:
        agent = self._agent(request)
        asked = await self._reader.read(request)
        self._check_not_draining()
        thread = await self._find(asked, agent)
        if thread is None:
            raise Refused("not-found", "there is no such thread", "body.threadId")
        return asked, thread

    async def _make(self, asked: AssistantRequest, agent: str | None, served: Agent) -> Thread:
        """A new thread; one that is there without any update is given its first state."""
        seed = await asked.seed(served, self._settings.limits)
        repeatable = asked.repeatable
        token = None if repeatable is None else token_of(b"anonymous", repeatable)
        return await self._anonymous.make(asked.thread_id, agent=agent, token=token, seed=seed)

    async def _submit(
        self, stream: RunStream, commands: list[Incoming], sent: Sent, *, interrupt: bool
    ) -> None:
        ids = [command.id for command in commands]
        # One that the store refuses would come after others of this request were taken.
        limit = self._settings.limits.max_pending_commands
        if stream.thread.intake.would_wait(ids) > limit:
            raise Refused("too-many-pending", f"no more than {limit} commands may wait", "body.commands")
        stream.expect(ids)
        # All at once, in this order: they are made durable and start a run together.
        submissions = [
            stream.thread.submit(
                command.id,
                command.body,
                strategy="interrupt" if interrupt else None,
                watcher=stream.watch,
                sent=sent,
            )
            for command in commands
        ]
        outcomes: list[Any] = await asyncio.gather(*submissions, return_exceptions=True)
        for number, outcome in enumerate(outcomes):
            if isinstance(outcome, Refused):
                field = outcome.field or ""
                outcome.field = f"body.commands.{number}.{field.removeprefix('command.')}".rstrip(".")
            if isinstance(outcome, BaseException):
                raise outcome

    def _response(
        self, stream: RunStream, asked: AssistantRequest, *, replay: bool = False, settle_s: float = 0.0
    ) -> Response:
        limits = self._settings.limits
        return RunResponse(
            stream,
            ENCODERS[asked.query.protocol],
            heartbeat_s=limits.heartbeat_s,
            patience_s=limits.unresponsive_s,
            settle_s=settle_s,
            replay=replay,
            headers={THREAD_HEADER: stream.thread.id},
        )
