"""Something that changes, and those who want to know."""

from __future__ import annotations

import logging
from collections.abc import Callable

import anyio

log = logging.getLogger("threadwire.client")


class Subscribable:
    """Tells subscribers of each change. What one of them raises is logged, and harms nobody else."""

    def __init__(self) -> None:
        self._subscribers: dict[object, Callable[[], object]] = {}
        self._change: anyio.Event | None = None

    def subscribe(self, callback: Callable[[], object]) -> Callable[[], None]:
        """Calls `callback` after each change, until what this returns is called."""
        key = object()
        self._subscribers[key] = callback

        def unsubscribe() -> None:
            self._subscribers.pop(key, None)

        return unsubscribe

    async def changed(self) -> None:
        """Waits for the next change."""
        if self._change is None:
            self._change = anyio.Event()
        await self._change.wait()

    async def wait(self, predicate: Callable[[], object]) -> None:
        """Waits until `predicate` is true; it is asked now and after each change."""
        while not predicate():
            await self.changed()

    def _notify(self) -> None:
        change, self._change = self._change, None
        if change is not None:
            change.set()
        for callback in list(self._subscribers.values()):
            try:
                callback()
            except Exception:
                log.exception("a subscriber failed")
