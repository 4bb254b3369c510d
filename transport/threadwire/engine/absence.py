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
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .thread import Thread

logger = logging.getLogger("threadwire")


class Absence:
    """One for each loaded thread."""

    __slots__ = ("_loop", "_thread", "_timer")

    def __init__(self, thread: Thread) -> None:
        self._thread = thread
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None

    @property
    def abandoned(self) -> bool:
        """Whether the run goes on alone, until its time is up."""
        return self._timer is not None

    def changed(self) -> None:
        """A reader has come or gone, or a run has begun, ended, or begun or ceased to wait."""
        patience_s = self._thread.runner.patience_s
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
