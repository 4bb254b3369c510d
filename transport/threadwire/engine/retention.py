"""What a thread's log may drop: old enough, and more than must be kept, or too much in all.

It knows the log only from marks made now and then while the thread is loaded; what was written
before counts as written then, so after a restart more is kept than need be, never less.

Spec: PROTOCOL.md §4.7.
"""

from __future__ import annotations

from .settings import Settings


class Retention:
    """One for each loaded thread.

    Args:
        time: when the row `seq`, the last so far, was written, or later.
    """

    __slots__ = ("_marks", "_settings")

    def __init__(self, settings: Settings, *, time: float, seq: int) -> None:
        self._settings = settings
        self._marks = [(time, seq, 0)]
        """(time, seq, bytes logged until then since the thread was loaded), in order."""

    def droppable(self, seq: int, log_bytes: int) -> int:
        """The largest seq whose row need not be kept, with the log at `seq`. Makes a mark there.

        `log_bytes`: what was logged since the thread was loaded.
        """
        settings = self._settings
        now = settings.clock()
        self._marks.append((now, seq, log_bytes))
        old = too_much = 0
        for time, marked, bytes_then in self._marks:
            if now - time >= settings.history_s:
                old = marked
            if log_bytes - bytes_then >= settings.history_bytes:
                too_much = marked
        keep_after = max(min(old, seq - settings.history_updates), too_much, 0)
        while len(self._marks) > 2 and self._marks[1][1] <= keep_after:
            del self._marks[0]
        return keep_after
