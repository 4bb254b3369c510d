"""Random schedules of faults over several nodes, in which nothing that was promised is broken.

A failure names its seed; `simulate(seed)` plays it again, step by step the same.
THREADWIRE_TEST_SEEDS is how many are played.
"""

from __future__ import annotations

import os

import pytest

from tests.support.simulation_nodes import simulate

pytestmark = [pytest.mark.spec("4.3"), pytest.mark.spec("4.6"), pytest.mark.spec("7.5")]

SEEDS = int(os.environ.get("THREADWIRE_TEST_SEEDS", "200"))
TOGETHER = 20


@pytest.mark.parametrize("first", range(0, SEEDS, TOGETHER))
def test_clients_of_all_nodes_see_what_is_durable_and_commands_have_their_effect_once(first: int) -> None:
    for seed in range(first, min(first + TOGETHER, SEEDS)):
        simulate(seed)
