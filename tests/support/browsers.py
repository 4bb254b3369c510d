"""Stock clients of a simulated server: they ask, resume, read slowly and hang up, and check what they see."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from typing import Any, Final, Protocol

from tests.support.faulty_store import FaultyStore
from tests.support.shared_store import Hub
from tests.support.stock_client import PROTOCOLS, Exchange, post
from threadwire.core.operations import Json

FINAL: Final = ("applied", "rejected", "cancelled")
REFUSALS: Final = {404: ("not-found",), 409: ("conflict",), 429: ("too-many-pending",), 503: ()}
"""Statuses that a request may get here, and their codes; none: any."""


class Sent(Protocol):
    """A command, as all clients together know it."""

    id: str
    body: dict[str, Json]
    acknowledged: bool


class Browser:
    """One page: a request at a time. What is wrong with what it sees goes to `failures`."""

    def __init__(self, name: str, store: FaultyStore | Hub, failures: list[str]) -> None:
        self._name = name
        self._store = store
        self._failures = failures
        self._exchange: Exchange | None = None
        self._slowed: Exchange | None = None
        """The last that it took nothing of for a while, which the server may give up."""

    def hang_up(self) -> None:
        if self._exchange is not None:
            self._exchange.hang_up()

    def be_slow(self, slow: bool) -> None:
        if self._exchange is None:
            return
        if slow:
            self._slowed = self._exchange
            self._exchange.flowing.clear()
        else:
            self._exchange.flowing.set()

    async def ask(self, app: Any, thread: str, commands: Sequence[Sent], number: int) -> None:
        """Sends the commands, or resumes where there are none; `number` chooses among ways to do so."""
        self.hang_up()
        protocol = PROTOCOLS[number % 2]
        bodies = [{**command.body, "id": command.id} for command in commands]
        content: dict[str, Any] = {"commands": bodies, "threadId": thread, "state": {"n": number}}
        query = ("", "on_disconnect=cancel", "on_disconnect=continue", "on_disconnect=0.3")[number // 2 % 4]
        path = "/assistant" if commands else "/resume"
        try:
            async with post(app, path, content, protocol=protocol, query=query) as exchange:
                self._exchange = exchange
                await self._read(exchange, thread, commands)
        except Exception as error:
            while isinstance(error, ExceptionGroup):
                error = error.exceptions[0]
            self._failures.append(f"{self._name} on {json.dumps(content)[:300]}: {error!r}")

    async def _read(self, exchange: Exchange, thread: str, commands: Sequence[Sent]) -> None:
        reader = exchange.reader
        seen = reached = 0
        while True:
            finished = exchange.finished
            if exchange.status == 200:
                for command in commands:
                    command.acknowledged = True
            for state in reader.states[seen:]:
                reached = self._place(thread, state, reached)
            seen = len(reader.states)
            if finished:
                break
            exchange._news.clear()
            await exchange._news.wait()
        if exchange._gone.is_set():
            return
        if exchange.status != 200:
            codes = REFUSALS[exchange.status]
            assert not codes or exchange.json["error"]["code"] in codes, exchange.raw
            return
        if not exchange.complete:
            assert exchange is self._slowed, "it broke off"
            return
        reader.end()
        if not reader.errors:
            held = self._store.disk._threads[thread].commands
            for command in commands:
                assert held[command.id].status in FINAL, f"{held[command.id]} at the end of its stream"

    def _place(self, thread: str, state: Json, reached: int) -> int:
        """The first seq from `reached` on whose state this is."""
        states = self._store.truth[thread].states
        for seq in range(reached, len(states)):
            if states[seq] == state:
                return seq
        raise AssertionError(f"{state} is no state from {reached} on; the last is {states[-1]}")


async def end_all(browsers: Sequence[Browser], tasks: set[asyncio.Task[None]], *, crashes: bool) -> None:
    """Hangs all of them up and waits for their requests to end; after a crash some never would."""
    for browser in browsers:
        browser.hang_up()
    for task in tasks if crashes else ():
        task.cancel()
    while tasks:
        await asyncio.wait(tasks)
