"""A connection that does one thing again and again: jobs in their order, many to a statement.

What comes while a statement is under way makes up the next one, so that the cost of a commit is shared and
nothing waits for a timer. A lane doesn't know what its jobs are.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Hashable
from typing import Any, Final, Generic, Protocol, TypeAlias, TypeVar

from ..core.errors import StoreError, StoreUnavailable
from .postgresql_errors import is_momentary, store_error

logger = logging.getLogger("threadwire")

BATCH: Final = 512
"""Jobs per statement at most."""
BATCH_BYTES: Final = 8 * 1024 * 1024
"""A statement is not made larger than this, or than one job."""
QUEUE: Final = 65_536
"""Jobs that may wait: when a database hangs, memory must not fill up with what it does not take."""
ATTEMPTS: Final = 5


class Job(Protocol):
    """`settle` is called once, on the event loop, with what came of it or with an error.

    `key`: no two jobs of the same are in one statement. `size`: about its bytes.
    """

    @property
    def key(self) -> Hashable: ...

    @property
    def size(self) -> int: ...

    def settle(self, outcome: Any, error: Exception | None) -> None: ...


J = TypeVar("J", bound=Job)
Connect: TypeAlias = Callable[[], Awaitable[Any]]


class Lane(Generic[J]):
    """Takes jobs between `start` and `stop`.

    Args:
        run: carries out jobs in one statement, and returns the outcome of each.
    """

    def __init__(self, connect: Connect, run: Callable[[Any, list[J]], Awaitable[list[Any]]]) -> None:
        self._connect = connect
        self._run = run
        self._jobs: deque[J] = deque()
        self._news = asyncio.Event()
        self._stopping = False
        self._connection: Any = None
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        self._connection = await self._connect()
        self._task = asyncio.get_running_loop().create_task(self._work())

    async def stop(self) -> None:
        """Returns when all jobs are settled."""
        self._stopping = True
        self._news.set()
        if self._task is not None:
            await self._task
        await self._close()

    def put(self, job: J) -> None:
        if self._stopping or self._task is None or len(self._jobs) >= QUEUE:
            reason = f"{QUEUE} writes wait" if len(self._jobs) >= QUEUE else "it is closed"
            job.settle(None, StoreUnavailable(f"the database takes no more: {reason}"))
            return
        self._jobs.append(job)
        self._news.set()

    async def _work(self) -> None:
        while self._jobs or not self._stopping:
            if not self._jobs:
                self._news.clear()
                await self._news.wait()
                continue
            batch = self._take()
            for job, (outcome, error) in zip(batch, await self._carry_out(batch), strict=True):
                try:
                    job.settle(outcome, error)
                except Exception as fault:
                    asyncio.get_running_loop().call_exception_handler(
                        {"message": "a store's callback raised", "exception": fault}
                    )

    def _take(self) -> list[J]:
        batch: list[J] = []
        keys: set[Hashable] = set()
        size = 0
        while self._jobs and len(batch) < BATCH:
            job = self._jobs[0]
            if job.key in keys or (batch and size + job.size > BATCH_BYTES):
                break
            keys.add(job.key)
            size += job.size
            batch.append(self._jobs.popleft())
        return batch

    async def _carry_out(self, batch: list[J]) -> list[tuple[Any, Exception | None]]:
        try:
            outcomes = await self._try(batch)
        except StoreUnavailable as error:
            return [(None, StoreUnavailable(str(error))) for _ in batch]
        except StoreError as error:
            if len(batch) == 1:
                return [(None, error)]
        else:
            return [(outcome, None) for outcome in outcomes]
        # One job is at fault, the others shall not suffer: each in a statement of its own.
        return [outcome for job in batch for outcome in await self._carry_out([job])]

    async def _try(self, batch: list[J]) -> list[Any]:
        for attempt in range(1, ATTEMPTS + 1):
            try:
                if self._connection is None or self._connection.is_closed():
                    self._connection = await self._connect()
                return await self._run(self._connection, batch)
            except StoreError:
                raise
            except Exception as error:
                if is_momentary(error) and attempt < ATTEMPTS:
                    continue
                fault = store_error(error)
                if isinstance(fault, StoreUnavailable):
                    # Whether it was written is not known, and it may still be on its way.
                    await self._close()
                raise fault from error
        raise AssertionError("unreachable")

    async def _close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None and not connection.is_closed():
            connection.terminate()
