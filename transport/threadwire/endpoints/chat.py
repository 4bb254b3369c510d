"""`POST /chat`: for stock clients that keep the conversation and are sent the parts of one message.

What is asked for becomes commands of a thread, so that all other clients see it too; what the run then
does to the thread's messages is streamed as parts. Also under `/agents/{agent}`.

Spec: PROTOCOL.md §14.16 and §14.17.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final, Literal

import msgspec
from msgspec import UNSET, UnsetType
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from ..core.errors import Refused
from ..core.operations import Json
from ..core.part_stream import PartStream
from ..engine.agent import Agent
from ..engine.anonymous import AnonymousThreads
from ..engine.context import Sent
from ..engine.run_stream import RunStream
from ..engine.thread import Thread
from ..engine.threads import Threads
from .assistant_request import parse_on_disconnect
from .assistant_stream import THREAD_HEADER, RunResponse
from .bodies import read_query
from .chat_formats import FORMATS, ChatEncoder
from .chat_request import ChatRequest, read_chat


class Query(msgspec.Struct, frozen=True):
    format: Literal["data-stream", "ui-message-stream"] = "data-stream"
    on_disconnect: str | UnsetType = UNSET


class _Before(msgspec.Struct):
    """What a state holds that matters here."""

    messages: Json = None
    threadwire: Json = None


_before: Final = msgspec.json.Decoder(_Before)


def routes(threads: Threads, anonymous: AnonymousThreads) -> list[BaseRoute]:
    endpoint = _Chat(threads, anonymous)
    return [Route(f"{prefix}/chat", endpoint.chat, methods=["POST"]) for prefix in ("", "/agents/{agent}")]


class _Chat:
    def __init__(self, threads: Threads, anonymous: AnonymousThreads) -> None:
        self._threads = threads
        self._anonymous = anonymous
        self._settings = threads.settings

    async def chat(self, request: Request) -> Response:
        agent: str | None = request.path_params.get("agent")
        if agent is not None and agent not in self._threads.agents:
            raise Refused("not-found", f"no agent {agent[:100]!r} is served here")
        query = read_query(request, Query)
        absence_s = self._absence(query)
        asked = await read_chat(request, self._settings.limits)
        if self._threads.draining:
            raise Refused("draining", "the server is stopping")
        thread = await self._thread(asked, agent)
        abandoned = thread.absence.abandoned
        stream = await RunStream.open(self._threads.feeds, thread)
        try:
            before = _before.decode((await thread.snapshot("json")).state)
            known = before.messages if type(before.messages) is list else []
            ask = asked.ask(known, self._settings.new_id)
            sent = Sent(context=asked.context, absence_s=absence_s)
            await self._submit(stream, ask.commands, sent, interrupt=abandoned)
            stream.begin()
        except BaseException:
            stream.close()
            raise
        own = before.threadwire.get("thread") if type(before.threadwire) is dict else None
        message = asked.body.unstable_assistant_message_id or self._settings.new_id()
        format = FORMATS[query.format](message)
        encoder = ChatEncoder(PartStream(known, after=ask.after), format, thread=own)
        return RunResponse(
            stream,
            encoder,
            heartbeat_s=self._settings.limits.heartbeat_s,
            patience_s=self._settings.limits.unresponsive_s,
            headers={THREAD_HEADER: thread.id, format.header: "v1"},
        )

    # inside

    def _absence(self, query: Query) -> float | None:
        if query.on_disconnect is UNSET:
            return self._settings.absence_s
        try:
            return parse_on_disconnect(query.on_disconnect)
        except ValueError as error:
            raise Refused("invalid-request", str(error), "query.on_disconnect") from None

    async def _thread(self, asked: ChatRequest, agent: str | None) -> Thread:
        thread = await self._anonymous.find(asked.body.thread_id, asked.token)
        if thread is not None and agent is not None and thread.agent_name != agent:
            raise Refused(
                "agent-mismatch", f"the thread belongs to the agent {thread.agent_name!r}", "body.threadId"
            )
        if thread is not None and not (thread.untouched and not thread.runner.busy):
            return thread
        served = (
            self._threads.agents[agent or self._threads.default_agent] if thread is None else thread.agent
        )
        seed = self._seed(asked, served)
        return await self._anonymous.make(asked.body.thread_id, agent=agent, seed=seed)

    def _seed(self, asked: ChatRequest, agent: Agent) -> dict[str, Json] | None:
        """What a thread that doesn't have the conversation begins with."""
        history = asked.history(self._settings.new_id)
        if agent.seed is False or not history:
            return None
        try:
            return agent.read_seed({"messages": history})
        except Refused as refusal:
            refusal.field = "body.messages"
            raise

    async def _submit(
        self, stream: RunStream, commands: list[dict[str, Json]], sent: Sent, *, interrupt: bool
    ) -> None:
        ids = [self._settings.new_id() for _ in commands]
        limit = self._settings.limits.max_pending_commands
        if stream.thread.intake.would_wait(ids) > limit:
            raise Refused("too-many-pending", f"no more than {limit} commands may wait", "body.messages")
        for command in commands:
            # Before the first is durable: a request that is refused has no effect.
            try:
                stream.thread.agent.registry.read(command)
            except Refused as refusal:
                refusal.field = "body.messages"
                raise
        stream.expect(ids)
        submissions = [
            stream.thread.submit(
                id, command, strategy="interrupt" if interrupt else None, watcher=stream.watch, sent=sent
            )
            for id, command in zip(ids, commands, strict=True)
        ]
        outcomes: list[Any] = await asyncio.gather(*submissions, return_exceptions=True)
        for outcome in outcomes:
            if isinstance(outcome, Refused):
                outcome.field = "body.messages"
            if isinstance(outcome, BaseException):
                raise outcome
