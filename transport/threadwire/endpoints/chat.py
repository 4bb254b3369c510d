"""`POST /chat`: for stock clients that keep the conversation and are sent the parts of one message.

What is asked for becomes commands of a thread, so that all other clients see it too; what the run then
does to the thread's messages is streamed as parts. Also under `/agents/{agent}`.

Spec: PROTOCOL.md §14.16 and §14.17.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Final, Literal

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
from ..engine.threads import Threads
from .assistant_request import read_absence
from .bodies import read_query
from .chat_formats import FORMATS, ChatEncoder
from .chat_request import ChatReader, ChatRequest
from .stock import StockClients

_FIELD: Final = "body.messages"


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
        self._stock = StockClients(threads, anonymous)
        self._settings = threads.settings
        self._reader = ChatReader(threads.settings.limits)

    async def chat(self, request: Request) -> Response:
        stock = self._stock
        agent = stock.agent(request)
        query = read_query(request, Query)
        absence_s = read_absence(query.on_disconnect, self._settings.absence_s)
        asked = await self._reader.read(request)
        stock.check_not_draining()
        thread = await stock.find(asked.body.thread_id, asked.token, agent)
        if not stock.begun(thread):
            served = stock.serving(thread, agent)
            # Before it is made: a request that is refused has no effect.
            _check(asked.ask((), self._settings.new_id).commands, served)
            seed = self._seed(asked, served)
            thread = await stock.anonymous.make(asked.body.thread_id, agent=agent, seed=seed)
        abandoned = await stock.abandoned(thread)
        async with stock.stream(thread) as stream:
            before = _before.decode((await thread.snapshot("json")).state)
            known = before.messages if type(before.messages) is list else []
            ask = asked.ask(known, self._settings.new_id)
            _check(ask.commands, thread.agent)
            await stock.submit(
                stream,
                [(self._settings.new_id(), command) for command in ask.commands],
                Sent(context=asked.context, absence_s=absence_s),
                interrupt=abandoned,
                field=_FIELD,
                field_of=lambda number, field: _FIELD,
            )
            own = before.threadwire.get("thread") if type(before.threadwire) is dict else None
            message = asked.body.unstable_assistant_message_id or self._settings.new_id()
            format = FORMATS[query.format](message)
            encoder = ChatEncoder(PartStream(known, after=ask.after), format, thread=own)
        return stock.response(stream, encoder, headers={format.header: "v1"})

    def _seed(self, asked: ChatRequest, agent: Agent) -> dict[str, Json] | None:
        """What a thread that doesn't have the conversation begins with."""
        history = asked.history(self._settings.new_id)
        if agent.seed is False or not history:
            return None
        with _about_messages():
            return agent.read_seed({"messages": history})


def _check(commands: Sequence[dict[str, Json]], agent: Agent) -> None:
    """Before the first is durable, since no other would be."""
    with _about_messages():
        for command in commands:
            agent.registry.read(command)


@contextmanager
def _about_messages() -> Iterator[None]:
    """The client knows of messages alone: a refusal is about them."""
    try:
        yield
    except Refused as refusal:
        refusal.field = _FIELD
        raise
