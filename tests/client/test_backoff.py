"""How the client's waits grow."""

from __future__ import annotations

import pytest

from threadwire.client import Backoff


def test_waits_double_up_to_the_cap() -> None:
    backoff = Backoff(initial_s=0.1, cap_s=5, random=lambda: 0.0)
    waits = [backoff.delay_s(attempt) for attempt in range(1, 9)]
    assert waits == pytest.approx([0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5, 5])
    assert backoff.delay_s(10**6) == 5


def test_up_to_half_of_a_wait_is_random() -> None:
    assert Backoff(initial_s=0.1, random=lambda: 0.5).delay_s(1) == pytest.approx(0.075)
    assert 0.05 <= Backoff().delay_s(1) <= 0.1
