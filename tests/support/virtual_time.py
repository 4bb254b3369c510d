"""An event loop whose clock is moved by the loop itself: a wait of an hour takes no time at all.

What runs on it without threads and sockets takes the same course every time.
"""

from __future__ import annotations

import asyncio
import functools
import selectors
import threading
import traceback
from collections.abc import Callable, Coroutine
from typing import Any, Final, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

_MOST_S: Final = 4 * 3600
_THREADS_S: Final = 60.0
"""How long to wait, in real time, for a worker thread where nothing else is going to happen."""
_FASTER: Final = 100
"""How many times as fast as real time the clock goes, at most, beside worker threads, which take theirs."""


class NothingHappens(Exception):
    """What is waited for won't come, or not in hours: a lost wake-up."""


class VirtualLoop(asyncio.SelectorEventLoop):
    """Starts at the time 0."""

    def __init__(self) -> None:
        self._now = 0.0
        self.errors: list[dict[str, Any]] = []
        """What was raised where nobody catches it: in callbacks, in tasks that nobody awaits."""
        super().__init__(_Selector(self))
        self.set_exception_handler(lambda _, context: self.errors.append(context))

    def time(self) -> float:
        return self._now

    def advance(self, seconds: float) -> None:
        self._now += seconds
        if self._now > _MOST_S:
            raise NothingHappens


class _Selector(selectors.SelectSelector):
    def __init__(self, loop: VirtualLoop) -> None:
        super().__init__()
        self._loop = loop
        self._others = set(threading.enumerate())
        """Threads that are no business of this loop's."""

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        beside_threads = threading.active_count() > 1 and not self._others.issuperset(threading.enumerate())
        if timeout is None:
            events = super().select(_THREADS_S if beside_threads else 0)
            if not events:
                raise NothingHappens
            return events
        events = super().select(timeout / _FASTER if beside_threads else 0)
        if not events and timeout > 0:
            self._loop.advance(timeout)
        return events


def in_virtual_time(test: Callable[P, Coroutine[Any, Any, None]]) -> Callable[P, None]:
    """Makes a test of a coroutine function, as `run` runs it."""

    @functools.wraps(test)
    def call(*args: P.args, **kwargs: P.kwargs) -> None:
        run(test(*args, **kwargs))

    return call


def run(main: Coroutine[Any, Any, T]) -> T:
    """What `main` returns.

    Raises:
        NothingHappens: it waits for ever.
        AssertionError: a callback or a task that nobody awaits has raised, or a task is left.
    """
    loop = VirtualLoop()
    asyncio.set_event_loop(loop)
    try:
        task = loop.create_task(main)
        result = loop.run_until_complete(task)
        left = asyncio.all_tasks(loop)
        assert not left, f"tasks are left: {[task.get_stack() for task in left]}"
        del task
        assert not loop.errors, f"raised where nobody catches it: {loop.errors}"
        return result
    except BaseException as error:
        for context in loop.errors:
            error.add_note(f"{context['message']}: {_traceback(context.get('exception'))}")
        raise
    finally:
        loop.advance(-loop.time())
        for left_task in asyncio.all_tasks(loop):
            left_task.cancel()
        loop.run_until_complete(asyncio.wait_for(_settle(), 10))
        asyncio.set_event_loop(None)
        loop.close()


def _traceback(error: BaseException | None) -> str:
    return "" if error is None else "".join(traceback.format_exception(error))


async def _settle() -> None:
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    if tasks:
        await asyncio.wait(tasks, timeout=1)
