"""The bus over PostgreSQL's LISTEN and NOTIFY.

Notifications go out on a connection of their own that doesn't wait for the disk: inside the transactions
that they tell of, they would put all commits of all nodes in line (measured: 33 ms instead of 7.5).
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from types import TracebackType
from typing import Any, Final, Self

from .postgresql_errors import is_outage, store_error
from .postgresql_lane import Connect

logger = logging.getLogger("threadwire")

_QUEUE: Final = 10_000
"""Messages that wait; beyond, the oldest are lost."""
_BATCH: Final = 200
_RETRY_S: Final = 0.25
_ALIVE_S: Final = 5.0
"""How often the listening connection is asked whether it is still there."""


class PostgreSQLBus:
    """A Bus between the nodes of one store.

    Args:
        name: the store's, so that others in the same database aren't disturbed.
    """

    def __init__(self, connect: Connect, *, node: str, name: str) -> None:
        self.on_message: Callable[[str], None] = lambda message: None
        self.on_gap: Callable[[], None] = lambda: None
        self._connect = connect
        self._all = f"threadwire_{name}"
        self._own = f"{self._all}_{node}"
        self._node = node
        self._waiting: deque[tuple[str, str]] = deque(maxlen=_QUEUE)
        self._news = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._listening: Any = None

    async def __aenter__(self) -> Self:
        await self._listen()
        loop = asyncio.get_running_loop()
        self._tasks = [loop.create_task(self._notify()), loop.create_task(self._keep_listening())]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # What is said last, that threads are given away, is worth a moment.
        for _ in range(20):
            if not self._waiting:
                break
            await asyncio.sleep(0.01)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._listening is not None and not self._listening.is_closed():
            self._listening.terminate()

    def send(self, node: str | None, message: str) -> None:
        # The sender hears what is for all, too: its own name in front tells it.
        channel = self._all if node is None else f"{self._all}_{node}"
        self._waiting.append((channel, f"{self._node} {message}"))
        self._news.set()

    # listening

    async def _listen(self) -> None:
        connection = await self._connect()
        try:
            await connection.add_listener(self._all, self._heard)
            await connection.add_listener(self._own, self._heard)
        except BaseException:
            connection.terminate()
            raise
        self._listening = connection

    def _heard(self, connection: Any, pid: int, channel: str, payload: str) -> None:
        node, _, message = payload.partition(" ")
        if node != self._node:
            self.on_message(message)

    async def _keep_listening(self) -> None:
        while True:
            try:
                if self._listening is None or self._listening.is_closed():
                    await self._listen()
                    self.on_gap()
                lost = asyncio.Event()
                self._listening.add_termination_listener(lambda connection, lost=lost: lost.set())
                while not lost.is_set():
                    try:
                        await asyncio.wait_for(lost.wait(), _ALIVE_S)
                    except TimeoutError:
                        await self._listening.execute("SELECT", timeout=_ALIVE_S)
            except Exception as error:
                if not is_outage(error):
                    logger.exception("the bus can't listen")
                if self._listening is not None:
                    self._listening.terminate()
                self._listening = None
                await asyncio.sleep(_RETRY_S)

    # sending

    async def _notify(self) -> None:
        connection: Any = None
        failed = False
        try:
            while True:
                if not self._waiting:
                    self._news.clear()
                    await self._news.wait()
                batch = [self._waiting.popleft() for _ in range(min(len(self._waiting), _BATCH))]
                try:
                    if connection is None or connection.is_closed():
                        connection = await self._connect()
                        await connection.execute("SET synchronous_commit = off")
                    await connection.execute(
                        "SELECT pg_notify(c, m) FROM unnest($1::text[], $2::text[]) AS n (c, m)",
                        [channel for channel, _ in batch],
                        [message for _, message in batch],
                    )
                    failed = False
                except Exception as error:  # they are lost, as may happen
                    if not failed and not is_outage(error):
                        # Such as a queue that is full since some listener doesn't read.
                        logger.warning("the bus can't send: %s", store_error(error))
                    failed = True
                    if connection is not None:
                        connection.terminate()
                    connection = None
                    await asyncio.sleep(_RETRY_S)
        finally:
            if connection is not None and not connection.is_closed():
                connection.terminate()
