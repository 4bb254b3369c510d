"""Writes a local thread's messages into its history, one after the other and in order."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, Final

import anyio

from ...messages.repository import RepositoryItem
from .adapters import HistoryAdapter
from .calling import call
from .tasks import Tasks

log = logging.getLogger("threadwire.client")


class Write:
    """Something that is being written."""

    def __init__(self) -> None:
        self._done = anyio.Event()
        self._error: Exception | None = None

    async def written(self) -> None:
        """Waits until it is. Raises what the history raised."""
        await self._done.wait()
        if self._error is not None:
            raise self._error

    def end(self, error: Exception | None = None) -> None:
        """It is written, or failed."""
        self._error = error
        self._done.set()


class HistoryWriter:
    """What the adapter can do, if there is one. Writes go on in `tasks`, and aren't cut short."""

    def __init__(self, adapter: HistoryAdapter | None, tasks: Tasks) -> None:
        self._adapter: Final = adapter
        self._tasks: Final = tasks
        self._lock: Final = anyio.Lock(fast_acquire=True)

    @property
    def can_update(self) -> bool:
        """Whether a message that was kept can get a new value."""
        return self._handler("update") is not None

    @property
    def can_delete(self) -> bool:
        """Whether messages can be removed."""
        return self._handler("delete") is not None

    def append(self, item: RepositoryItem) -> Write:
        """Begins to keep a message."""
        return self._begin("append", item)

    def update(self, item: RepositoryItem) -> Write:
        """Begins to give a kept message its new value."""
        return self._begin("update", item)

    async def delete(self, item: RepositoryItem) -> None:
        """Removes a message. Raises what the adapter raises."""
        await self._begin("delete", [item]).written()

    def _handler(self, name: str) -> Callable[..., Any] | None:
        handler: Callable[..., Any] | None = getattr(self._adapter, name, None)
        return handler

    def _begin(self, name: str, what: RepositoryItem | list[RepositoryItem]) -> Write:
        write, handler = Write(), self._handler(name)
        if handler is None:
            write.end()
        else:
            self._tasks.start(self._write, handler, what, write)
        return write

    async def _write(self, handler: Callable[..., Any], what: object, write: Write) -> None:
        with anyio.CancelScope(shield=True):
            async with self._lock:
                try:
                    await call(handler, what)
                except Exception as error:
                    log.warning("the history refused a message: %s", error)
                    write.end(error)
                except anyio.get_cancelled_exc_class():  # nobody else's: it can't be cancelled here
                    write.end(RuntimeError("what the history waited for was cancelled"))
                else:
                    write.end()
