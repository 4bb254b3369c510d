"""Random schedules of clients, agents, faults and crashes, in which nothing that was promised is broken.

A failure names its seed; `simulate(seed)` plays it again, step by step the same.
THREADWIRE_TEST_SEEDS is how many are played.
"""

from __future__ import annotations

import os

import pytest

from tests.support.simulation import simulate

pytestmark = [pytest.mark.spec("4.3"), pytest.mark.spec("4.6"), pytest.mark.spec("7.5")]

SEEDS = int(os.environ.get("THREADWIRE_TEST_SEEDS", "200"))
TOGETHER = 20


@pytest.mark.parametrize("first", range(0, SEEDS, TOGETHER))
def test_clients_see_what_is_durable_and_each_command_has_its_effect_once(first: int) -> None:
    for seed in range(first, min(first + TOGETHER, SEEDS)):
        simulate(seed)
