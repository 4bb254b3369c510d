"""What one HTTP request is shown of a thread: its state from now on, until what it asked for is done.

It is done when its commands have been settled and no run is at work: the run has ended, or waits for
clients, who can answer only once the stream has ended. What encodes the parts is above.

Spec: PROTOCOL.md §14.10.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import anyio

from ..core.errors import ErrorInfo
from ..core.frames import CommandState, RunInfo
from .feed import Feeds, Part, Reader
from .thread import Thread

_AT_WORK: Final = ("queued", "running")


class RunStream:
    """Made by `open`; to be closed, whatever happens.

    Attributes:
        thread: the thread that it shows.
        news: a coroutine function that returns once something may be there to take.
    """

    def __init__(self, thread: Thread, reader: Reader) -> None:
        self.news = reader.news
        self._reader = reader
        self._pending: set[str] = set()
        self._rejection: ErrorInfo | None = None
        self._earlier = thread.run_info
        """The last run before the commands came: its failure is none of theirs, unless they are repeated."""
        self._repeats = False
        self._begun = False

    @classmethod
    async def open(cls, feeds: Feeds, thread: Thread) -> RunStream:
        """A stream that shows the thread from now on. Raises StoreUnavailable."""
        return cls(thread, await feeds.join(thread))

    @property
    def thread(self) -> Thread:
        """As it is loaded now."""
        return self._reader.thread

    def expect(self, commands: Iterable[str]) -> None:
        """The ids of the commands that are about to be submitted, with `watch` as watcher."""
        self._pending |= set(commands)

    def watch(self, state: CommandState) -> None:
        """Told what becomes of them."""
        self._repeats = self._repeats or state.duplicate
        if state.status in ("applied", "rejected", "cancelled"):
            self._pending.discard(state.id)
            self._rejection = self._rejection or state.error
            if self._begun and self._idle:
                self._finish(self._rejection)

    def begin(self, *, resumed: bool = False) -> None:
        """All commands have been submitted; `resumed`: it is about the last run, whoever started it."""
        self._begun = True
        self._reader.on_run = self._ran
        run = self.thread.run_info
        if self._idle and (run is None or run.status not in _AT_WORK):
            concerned = resumed or self._repeats or run is not self._earlier
            self._finish(self._rejection or (_failure(run) if concerned else None))

    async def settle(self, patience_s: float) -> None:
        """Returns once something has come of the commands, or after that time.

        A client takes the first state it is sent for the answer to its message: it should be in there.
        """
        with anyio.move_on_after(patience_s):
            while not self._reader.touched:
                await self._reader.news()

    def take(self) -> Part | None:
        """The next part: first a `State`, at last an `End`. None where there is none yet."""
        return self._reader.take()

    def wake(self) -> None:
        """Makes `news` return."""
        self._reader.wake()

    def close(self) -> None:
        """Gives it up; the run goes on."""
        self._reader.close()
        self.thread.intake.forget(self.watch)

    @property
    def _idle(self) -> bool:
        """Whether nothing will happen. (The run that ends now is still at work, until it is told.)"""
        return not self._pending and not self.thread.runner.active_or_queued

    def _ran(self, run: RunInfo) -> None:
        error = _failure(run)
        if error is not None and error.code == "server-stopped":
            self._finish(error)  # what is queued is started by the next server
        elif not self._pending and run.status not in _AT_WORK:
            self._finish(self._rejection or error)

    def _finish(self, error: ErrorInfo | None) -> None:
        if not self.thread.deleting:  # else it is the thread's end that ends the stream
            self._reader.finish(error)


def _failure(run: RunInfo | None) -> ErrorInfo | None:
    return run.error if run is not None and run.status == "failed" else None
