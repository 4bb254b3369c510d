"""Turns at the GIL: when the loop's thread naps."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

from threadwire.stores.turns import INTERVAL_S, NAP_S, Turns


class Loop:
    """The timers of an event loop, to be fired by hand."""

    def __init__(self) -> None:
        self.timers: list[Callable[[], None]] = []

    def call_later(self, delay: float, call: Callable[[], None]) -> None:
        assert delay == INTERVAL_S
        self.timers.append(call)

    def fire(self) -> None:
        timers, self.timers = self.timers, []
        for call in timers:
            call()


def make() -> tuple[Turns, Loop, list[float]]:
    loop, naps = Loop(), cast("list[float]", [])
    return Turns(cast("Any", loop), nap=naps.append), loop, naps


def test_work_that_stays_in_hand_for_an_interval_gets_a_nap_in_each() -> None:
    turns, loop, naps = make()
    turns.start()
    turns.start()
    for _ in range(3):
        loop.fire()
    assert naps == [NAP_S] * 3


def test_where_some_work_has_ended_since_there_is_no_nap() -> None:
    turns, loop, naps = make()
    for _ in range(5):
        turns.start()
        turns.start()
        turns.end()
        loop.fire()
    assert naps == []


def test_without_work_no_timer_is_left() -> None:
    turns, loop, naps = make()
    turns.start()
    turns.start()
    turns.end(2)
    loop.fire()
    assert loop.timers == []
    turns.start()
    assert len(loop.timers) == 1
    assert naps == []
