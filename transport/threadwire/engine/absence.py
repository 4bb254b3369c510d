"""Ends a run that nobody is there to see, after a while.

A stock HTTP client stops a run by hanging up, which a page that is reloaded does too. So a run whose
commands all came over HTTP is abandoned while its thread has no reader: neither an HTTP stream nor a
WebSocket. It goes on for the time that its commands allow, and is then cancelled; any reader stops
the clock. A run that waits for clients is not at work, and no clock runs.

Spec: PROTOCOL.md §14.13.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .thread import Thread

logger = logging.getLogger("threadwire")


class Absence:
    """One for each loaded thread."""

    __slots__ = ("_loop", "_news", "_thread", "_timer")

    def __init__(self, thread: Thread) -> None:
        self._thread = thread
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._news: set[asyncio.Future[None]] = set()
        """What waits for the run to be abandoned, or to be over."""

    @property
    def abandoned(self) -> bool:
        """Whether the run goes on alone, until its time is up."""
        return self._timer is not None

    async def abandoned_within(self, patience_s: float) -> bool:
        """Whether the run goes on alone, at once or before that time is over."""
        if self._timer is None and self._thread.runner.patience_s is not None:
            news: asyncio.Future[None] = self._loop.create_future()
            self._news.add(news)
            try:
                with suppress(TimeoutError):
                    await asyncio.wait_for(news, patience_s)
            finally:
                self._news.discard(news)
        return self.abandoned

    def changed(self) -> None:
        """A reader has come or gone, or a run has begun, ended, or begun or ceased to wait."""
        patience_s = self._thread.runner.patience_s
        if self._news and (patience_s is None or not self._thread.has_readers):
            for news in self._news:
                if not news.done():
                    news.set_result(None)
        if patience_s is None or self._thread.has_readers:
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None
        elif self._timer is None:
            self._timer = self._loop.call_later(patience_s, self._expire)

    def _expire(self) -> None:
        self._timer = None
        logger.info("thread %s: nobody has come back to its run, which is cancelled", self._thread.id)
        self._thread.runner.stop()
