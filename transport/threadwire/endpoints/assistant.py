"""AssistantTransport over HTTP, for stock clients: commands in, the state out as it changes.

`POST /assistant` runs the agent, `/initial-state` and `/resume` bring a client back to a run that goes
on, `/cancel` stops one. Each is also under `/agents/{agent}`.

Spec: PROTOCOL.md §14.9 to §14.14.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, Final

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from ..core.errors import Refused
from ..core.frames import RunInfo, Snapshot
from ..engine.anonymous import AnonymousThreads, token_of
from ..engine.context import Sent
from ..engine.message import SnapshotMessage
from ..engine.run_stream import RunStream
from ..engine.thread import Thread
from ..engine.threads import Threads, again
from .assistant_request import AssistantRequest, Incoming, RequestReader, read_absence, want_answer
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
        repeatable = asked.repeatable
        token = token_of(b"anonymous", repeatable) if repeatable is not None else self._settings.new_token()

        async def join() -> tuple[RunStream, list[Incoming], bool]:
            thread = await stock.find(asked.thread_id, asked.token, agent)
            served = stock.serving(thread, agent)
            commands = asked.commands(served, self._settings.limits, self._settings.new_id)
            if not stock.begun(thread):
                # One that is there without any update is given its first state.
                seed = await asked.seed(served, self._settings.limits)
                thread = await stock.anonymous.make(asked.thread_id, agent=agent, token=token, seed=seed)
            abandoned = want_answer(commands) and await stock.abandoned(thread)
            return await stock.follow(thread), commands, abandoned

        stream, commands, abandoned = await again(join)
        with stock.begins(stream):
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
        asked, find = await self._existing(request)

        async def join() -> RunStream:
            return await self._stock.follow(await find())

        stream = await again(join)
        with self._stock.begins(stream, resumed=True):
            run = stream.thread.run_info
            if asked.run_id is not None and (run is None or run.id != asked.run_id):
                raise Refused("conflict", "this is not the thread's current or last run", "body.runId")
        return self._stock.response(stream, ENCODERS[asked.query.protocol], replay=True)

    async def initial_state(self, request: Request) -> Response:
        _, find = await self._existing(request)

        async def read() -> SnapshotMessage:
            thread = await find()
            await thread.be_current()
            return await thread.snapshot("json")

        try:
            snapshot = (await again(read)).frame("json")
        except Refused as refusal:
            if refusal.code == "not-found" and refusal.field == "body.threadId":
                return Response(status_code=204)
            raise
        assert isinstance(snapshot, Snapshot)
        run = snapshot.run
        if run is None or run.status not in _AT_WORK:
            return Response(status_code=204)
        return json_response(InitialState(run.id, snapshot.thread, snapshot.state))

    async def cancel(self, request: Request) -> Response:
        asked, find = await self._existing(request)

        async def cancel() -> RunInfo | None:
            return await (await find()).runner.cancel(asked.run_id)

        return json_response(Cancelled(await again(cancel)))

    # inside

    async def _existing(
        self, request: Request
    ) -> tuple[AssistantRequest, Callable[[], Coroutine[Any, Any, Thread]]]:
        """What is asked, and what finds the thread that it is about, as often as it has moved."""
        agent = self._stock.agent(request)
        asked = await self._reader.read(request)
        self._stock.check_not_draining()

        async def find() -> Thread:
            thread = await self._stock.find(asked.thread_id, asked.token, agent)
            if thread is None:
                raise Refused("not-found", "there is no such thread", "body.threadId")
            return thread

        return asked, find
