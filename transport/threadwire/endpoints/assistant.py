"""AssistantTransport over HTTP, for stock clients: commands in, the state out as it changes.

`POST /assistant` runs the agent, `/initial-state` and `/resume` bring a client back to a run that goes
on, `/cancel` stops one. Each is also under `/agents/{agent}`.

Spec: PROTOCOL.md §14.9 to §14.14.
"""

from __future__ import annotations

from typing import Final

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from ..core.errors import Refused
from ..core.frames import RunInfo, Snapshot
from ..engine.agent import Agent
from ..engine.anonymous import AnonymousThreads, token_of
from ..engine.context import Sent
from ..engine.thread import Thread
from ..engine.threads import Threads
from .assistant_request import AssistantRequest, RequestReader, read_absence, want_answer
from .assistant_stream import ENCODERS
from .responses import json_response
from .stock import StockClients

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
        self._stock = StockClients(threads, anonymous)
        self._settings = threads.settings
        self._reader = RequestReader(threads.settings.limits)

    async def assistant(self, request: Request) -> Response:
        stock = self._stock
        agent = stock.agent(request)
        asked = await self._reader.read(request)
        absence_s = read_absence(asked.query.on_disconnect, self._settings.absence_s)
        stock.check_not_draining()
        thread = await stock.find(asked.thread_id, asked.token, agent)
        served = stock.serving(thread, agent)
        commands = asked.commands(served, self._settings.limits, self._settings.new_id)
        if not stock.begun(thread):
            thread = await self._make(asked, agent, served)
        abandoned = want_answer(commands) and await stock.abandoned(thread)
        async with stock.stream(thread) as stream:
            await stock.submit(
                stream,
                [(command.id, command.body) for command in commands],
                Sent(context=asked.context, absence_s=absence_s),
                interrupt=abandoned,
                field="body.commands",
                field_of=lambda number, field: f"body.commands.{number}.{field}".rstrip("."),
            )
        encoder = ENCODERS[asked.query.protocol]
        return stock.response(stream, encoder, settle_s=SETTLE_S if commands else 0.0)

    async def resume(self, request: Request) -> Response:
        asked, thread = await self._existing(request)
        run = thread.run_info
        if asked.run_id is not None and (run is None or run.id != asked.run_id):
            raise Refused("conflict", "this is not the thread's current or last run", "body.runId")
        stream = await self._stock.follow(thread)
        stream.begin(resumed=True)
        return self._stock.response(stream, ENCODERS[asked.query.protocol], replay=True)

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

    async def _existing(self, request: Request) -> tuple[AssistantRequest, Thread]:
        agent = self._stock.agent(request)
        asked = await self._reader.read(request)
        self._stock.check_not_draining()
        thread = await self._stock.find(asked.thread_id, asked.token, agent)
        if thread is None:
            raise Refused("not-found", "there is no such thread", "body.threadId")
        return asked, thread

    async def _make(self, asked: AssistantRequest, agent: str | None, served: Agent) -> Thread:
        """A new thread; one that is there without any update is given its first state."""
        seed = await asked.seed(served, self._settings.limits)
        repeatable = asked.repeatable
        token = None if repeatable is None else token_of(b"anonymous", repeatable)
        return await self._stock.anonymous.make(asked.thread_id, agent=agent, token=token, seed=seed)
