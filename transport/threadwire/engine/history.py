"""The newest committed updates of a loaded thread, for clients that come back.

What it no longer holds is read from the store. Spec: PROTOCOL.md §9.2.
"""

from __future__ import annotations

from collections import deque
from itertools import islice
from typing import Final

from .message import UpdateMessage

MAX_UPDATES: Final = 2000
MAX_BYTES: Final = 1024 * 1024


class History:
    """Updates with seq in (`floor`, `head`], without a gap; bounded in number and bytes."""

    def __init__(
        self, seq: int, epoch: int | None, *, max_updates: int = MAX_UPDATES, max_bytes: int = MAX_BYTES
    ) -> None:
        """Starts empty at `seq`; `epoch` wrote it, None where that isn't known."""
        self._updates: deque[UpdateMessage] = deque()
        self._bytes = 0
        self._max_updates = max_updates
        self._max_bytes = max_bytes
        self.floor = seq
        self._floor_epoch = epoch

    @property
    def head(self) -> int:
        return self.floor + len(self._updates)

    def add(self, update: UpdateMessage) -> None:
        assert update.seq == self.head + 1
        self._updates.append(update)
        self._bytes += len(update.data)
        while len(self._updates) > self._max_updates or (
            self._bytes > self._max_bytes and len(self._updates) > 1
        ):
            dropped = self._updates.popleft()
            self._bytes -= len(dropped.data)
            self.floor = dropped.seq
            self._floor_epoch = dropped.epoch

    def epoch_at(self, seq: int) -> int | None:
        """The epoch that wrote `seq`; None where this history can't tell."""
        if seq == self.floor:
            return self._floor_epoch
        if self.floor < seq <= self.head:
            return self._updates[seq - self.floor - 1].epoch
        return None

    def after(self, seq: int) -> list[UpdateMessage]:
        """The updates with a larger seq; `seq` is not below the floor."""
        assert seq >= self.floor
        return list(islice(self._updates, seq - self.floor, None))
