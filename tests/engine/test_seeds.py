"""First states that clients give: durable before what counts on them, and for untouched threads only."""

from __future__ import annotations

import pytest

from tests.support.engine import engine, follow
from tests.support.faulty_store import FaultyStore
from tests.support.hosts import Host
from tests.support.virtual_time import in_virtual_time
from threadwire.core.errors import Refused
from threadwire.engine.run import Run

pytestmark = pytest.mark.spec("9.5")


async def nothing(run: Run) -> None:
    """Leaves the state as it is."""


def host() -> Host:
    agent = Host(nothing)
    agent.seed = True
    return agent


@in_virtual_time
async def test_a_seed_is_durable_when_the_thread_is_there() -> None:
    store = FaultyStore()
    async with engine(host(), store=store) as threads:
        await threads.get("t", state={"a": 1})
        assert store.truth["t"].states[-1] == {"a": 1}


@in_virtual_time
async def test_a_thread_whose_seed_was_lost_in_a_crash_takes_it_when_it_comes_again() -> None:
    store = FaultyStore()
    async with engine(host(), store=store) as threads:
        await threads.get("t")
        store.crash()
        threads.draining = True
    async with engine(host(), store=store) as threads:
        thread = await threads.get("t", state={"a": 1})
        assert (await follow(thread)).state == {"a": 1}
        await threads.get("t", state={"a": 2})
        assert (await follow(thread)).state == {"a": 1}


@in_virtual_time
async def test_an_agent_may_refuse_a_seed_and_nothing_is_made() -> None:
    class Choosy(Host):
        def read_seed(self, state):  # type: ignore[no-untyped-def]
            raise Refused("invalid-frame", "not that", "state.a")

    agent = Choosy(nothing)
    agent.seed = True
    async with engine(agent) as threads:
        with pytest.raises(Refused) as refused:
            await threads.get("t", state={"a": 1})
        assert refused.value.info.field == "state.a"
        assert await threads.find("t") is None
