"""What of a log is kept: at least so many updates and so long, at most so many bytes."""

from __future__ import annotations

import pytest

from threadwire.engine.retention import Retention
from threadwire.engine.settings import Settings

pytestmark = pytest.mark.spec("4.7")

DAY = 24 * 3600.0


class Log:
    """A log that grows on a clock of its own."""

    def __init__(self, **settings: float) -> None:
        self.now = 1000.0
        options = {"history_updates": 100, "history_s": DAY, "history_bytes": 1000, **settings}
        self.retention = Retention(
            Settings(clock=lambda: self.now, **options),  # type: ignore[arg-type]
            time=self.now,
            seq=0,
        )
        self.seq = self.bytes = 0

    def grow(self, rows: int, *, size: int = 0, after_s: float = 0) -> int:
        self.now += after_s
        self.seq += rows
        self.bytes += size
        return self.retention.droppable(self.seq, self.bytes)


def test_young_rows_are_kept_however_many_they_are() -> None:
    log = Log()
    assert [log.grow(500, after_s=60) for _ in range(5)] == [0] * 5


def test_old_rows_go_but_the_newest_are_kept_whatever_their_age() -> None:
    log = Log()
    log.grow(500)
    assert log.grow(10, after_s=DAY) == 410
    assert log.grow(10, after_s=3 * DAY) == 420


def test_a_log_that_is_too_large_drops_what_is_young_too() -> None:
    log = Log()
    log.grow(10, size=600)
    log.grow(10, size=600)
    assert log.grow(10, size=600) == 10
    assert log.grow(10, size=600) == 20


def test_what_may_go_never_grows_less() -> None:
    log = Log()
    dropped = [log.grow(50, size=90, after_s=DAY / 7) for _ in range(40)]
    assert dropped == sorted(dropped)
    assert dropped[-1] > 0


def test_a_clock_that_goes_back_drops_nothing_that_is_young() -> None:
    log = Log()
    log.grow(500)
    assert log.grow(500, after_s=-10 * DAY) == 0
    assert log.grow(500, after_s=DAY / 2) == 0
