"""The tasks of something that is used in `async with`: they end with it."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Callable, Coroutine, Sequence
from types import TracebackType
from typing import Any, Self

import anyio
from anyio.abc import TaskGroup

from ..errors import NotNow

log = logging.getLogger("threadwire.client")


class Tasks:
    """A task group that can be made before there is an event loop, and cancels its tasks at the end.

    What the block raises passes by it as it is; what a task raises comes as an ExceptionGroup.
    """

    def __init__(self) -> None:
        self._group: TaskGroup | None = None

    async def __aenter__(self) -> Self:
        group = anyio.create_task_group()
        await group.__aenter__()
        self._group = group
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        group, self._group = self._group, None
        if group is None:
            return None
        group.cancel_scope.cancel()
        if isinstance(error, anyio.get_cancelled_exc_class()):
            # The group has to see whether the cancellation is its own.
            return await group.__aexit__(kind, error, trace)
        await group.__aexit__(None, None, None)
        return None

    @property
    def entered(self) -> bool:
        """Whether tasks can be started."""
        return self._group is not None

    def start(self, task: Callable[..., Coroutine[Any, Any, Any]], *args: Any) -> None:
        """Starts a task. Raises NotNow outside of the `async with`."""
        if self._group is None:
            raise NotNow("it is used in its `async with`")
        self._group.start_soon(_run, task, args)


def is_cancelled() -> bool:
    """Whether the CancelledError that was just caught is meant for who caught it.

    It may as well come from something it waited for, a task that somebody else has cancelled: then
    it is an error like any other, and a task group that saw it would cancel all that is in it.
    """
    task = asyncio.current_task()
    return anyio.current_effective_deadline() == -math.inf or bool(task and task.cancelling())


async def _run(task: Callable[..., Coroutine[Any, Any, Any]], args: Sequence[Any]) -> None:
    try:
        await task(*args)
    except asyncio.CancelledError:
        if is_cancelled():
            raise
        log.warning("a task ended because something that it waited for was cancelled", exc_info=True)
