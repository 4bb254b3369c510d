"""The newest committed updates of a loaded thread, for clients that come back.

What it no longer holds is read from the store. Spec: PROTOCOL.md §9.2.
"""

from __future__ import annotations

from bisect import bisect_right
from typing import Final

from .store import LogRow

MAX_UPDATES: Final = 2000
MAX_BYTES: Final = 1024 * 1024


class History:
    """Rows with seq in (`floor`, `head`], without a gap; bounded in number and bytes."""

    def __init__(
        self, seq: int, epoch: int | None, *, max_updates: int = MAX_UPDATES, max_bytes: int = MAX_BYTES
    ) -> None:
        """Starts empty at `seq`; `epoch` wrote it, None where that isn't known."""
        self.head = seq
        # No more than its data is kept of a row: its seq follows from its place, its epoch from `_epochs`.
        self._rows: list[bytes] = []
        self._epochs: list[tuple[int, int | None]] = [(seq, epoch)]
        """The first seq of each epoch, the first entry at or below the floor."""
        self._epoch = epoch
        """The last of them."""
        self._bytes = 0
        self._max_updates = max_updates
        self._max_bytes = max_bytes

    @property
    def floor(self) -> int:
        return self.head - len(self._rows)

    def add(self, seq: int, epoch: int, data: bytes) -> None:
        assert seq == self.head + 1
        self.head = seq
        if epoch != self._epoch:
            self._epochs.append((seq, epoch))
            self._epoch = epoch
        rows = self._rows
        rows.append(data)
        self._bytes += len(data)
        if len(rows) > self._max_updates or self._bytes > self._max_bytes:
            self._trim()

    def _trim(self) -> None:
        """Makes room for more than the next one, so that it isn't called for each."""
        rows = self._rows
        updates, size = max(1, self._max_updates * 7 // 8), self._max_bytes * 7 // 8
        dropped = max(0, len(rows) - updates)
        self._bytes -= sum(map(len, rows[:dropped]))
        while self._bytes > size and len(rows) - dropped > 1:
            self._bytes -= len(rows[dropped])
            dropped += 1
        del rows[:dropped]
        while len(self._epochs) > 1 and self._epochs[1][0] <= self.floor:
            del self._epochs[0]

    def epoch_at(self, seq: int) -> int | None:
        """The epoch that wrote `seq`; None where this history can't tell."""
        if not self.floor <= seq <= self.head:
            return None
        return self._epochs[bisect_right(self._epochs, seq, key=lambda entry: entry[0]) - 1][1]

    def after(self, seq: int) -> list[LogRow]:
        """The rows with a larger seq; `seq` is not below the floor."""
        assert seq >= self.floor
        rows = []
        for number, data in enumerate(self._rows[seq - self.floor :], seq + 1):
            epoch = self.epoch_at(number)
            assert epoch is not None  # only that of the floor may be unknown
            rows.append(LogRow(number, epoch, data))
        return rows
