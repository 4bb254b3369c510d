"""What a store for many nodes promises beyond the others: the docstrings of `engine.shared`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack

import anyio
import pytest

from tests.support.postgresql import new_database
from tests.support.shared_store import Hub
from tests.support.stores import TIMEOUT_S, Owner, row, seqs, write
from threadwire.core.errors import StoreUnavailable, WriteConflict
from threadwire.engine.shared import Elsewhere, Place, SharedStore
from threadwire.engine.store import CommandChange, Owned, RunRecord, ThreadRecord

pytestmark = pytest.mark.anyio

LEASE_S = 60.0
"""Longer than any test: leases end when they are told to."""


class Nodes(list[SharedStore]):
    """Three nodes on one store. `set_leases` leaves so many seconds of all leases, 0 ends them."""

    set_leases: Callable[[float], Awaitable[None]]


async def _hub(stack: AsyncExitStack) -> Nodes:
    hub = Hub(lease_s=LEASE_S)
    nodes = Nodes([await stack.enter_async_context(hub.node()) for _ in range(3)])

    async def set_leases(seconds: float) -> None:
        for lease in hub.leases.values():
            if lease.until > 0:
                lease.until = hub.now() + (seconds or -1)

    nodes.set_leases = set_leases
    return nodes


async def _postgresql(stack: AsyncExitStack) -> Nodes:
    import asyncpg

    from threadwire.stores.postgresql import PostgreSQLStore

    url = new_database()
    nodes = Nodes([await stack.enter_async_context(PostgreSQLStore(url, lease_s=LEASE_S)) for _ in range(3)])

    async def set_leases(seconds: float) -> None:
        connection = await asyncpg.connect(url)
        await connection.execute(
            "UPDATE thread SET lease_until = clock_timestamp() + $1::float8 * interval '1 second'"
            " WHERE lease_until > clock_timestamp()",
            seconds or -1,
        )
        await connection.close()

    nodes.set_leases = set_leases
    return nodes


@pytest.fixture(params=[_hub, _postgresql], ids=["memory", "postgresql"])
async def nodes(request: pytest.FixtureRequest) -> AsyncIterator[Nodes]:
    async with AsyncExitStack() as stack:
        yield await request.param(stack)


async def take(node: SharedStore, thread: str = "t") -> Owner:
    taken = await node.take(thread, agent="a", now=1000.0)
    assert isinstance(taken, Owned), taken
    return Owner(node, taken)


async def test_each_opening_is_a_node_of_its_own(nodes: Nodes) -> None:
    assert all(isinstance(node, SharedStore) for node in nodes)
    assert len({node.node for node in nodes}) == 3
    assert nodes[0].lease_s == LEASE_S


async def test_a_thread_that_a_node_has_is_elsewhere_for_the_others(nodes: Nodes) -> None:
    owner = await take(nodes[0])
    taken = await nodes[1].take("t", agent="a", now=1000.0)
    assert isinstance(taken, Elsewhere)
    assert taken.owner == nodes[0].node
    assert 0 < taken.lease_s <= LEASE_S
    with pytest.raises(StoreUnavailable):
        await nodes[1].acquire("t", agent="a", now=1000.0)
    assert (await take(nodes[0])).epoch == owner.epoch
    assert await nodes[2].take("u", agent=None, now=1000.0) is None


async def test_a_lease_that_ends_lets_others_take_the_thread_and_fences_the_owner(
    nodes: Nodes,
) -> None:
    old = await take(nodes[0])
    await old.write(2)
    await nodes.set_leases(0)
    assert await write(nodes[0], old.next()) == [None], "nobody has taken it"

    new = await take(nodes[1])
    assert (new.epoch > old.epoch, new.head) == (True, 4)
    (error,) = await write(nodes[0], old.next())
    assert isinstance(error, WriteConflict)
    (error,) = await write(nodes[0], old.records(run=RunRecord(id="r", status="running", started_at=1.0)))
    assert isinstance(error, WriteConflict)
    await new.write()
    assert await seqs(nodes[2]) == [1, 2, 3, 4, 5]


async def test_a_lease_is_kept_by_renewing_it(nodes: Nodes) -> None:
    owner = await take(nodes[0])
    await nodes.set_leases(LEASE_S / 4)
    assert await nodes[0].renew({"t": owner.epoch, "u": 1}) == {"t"}
    taken = await nodes[1].take("t", agent="a", now=1000.0)
    assert isinstance(taken, Elsewhere)
    assert taken.lease_s > LEASE_S / 2
    (standing,) = await nodes[1].standings(["t"])
    assert standing.lease_s > LEASE_S / 2
    assert await nodes[0].renew({"t": owner.epoch - 1}) == set()
    assert await nodes[1].renew({"t": owner.epoch}) == set()
    assert await nodes[0].renew({}) == set()


async def test_a_released_thread_is_free_at_once(nodes: Nodes) -> None:
    owner = await take(nodes[0])
    await nodes[1].release("t", owner.epoch, parked=False)
    await nodes[0].release("t", owner.epoch - 1, parked=False)
    assert isinstance(await nodes[1].take("t", agent="a", now=1000.0), Elsewhere)
    await nodes[0].release("t", owner.epoch, parked=False)
    assert (await take(nodes[1])).epoch > owner.epoch


async def test_a_parked_thread_is_taken_again_by_its_node_without_a_new_epoch(
    nodes: Nodes,
) -> None:
    owner = await take(nodes[0])
    await nodes[0].release("t", owner.epoch, parked=True)
    again = await take(nodes[0])
    assert (again.epoch, again.head) == (owner.epoch, owner.head)
    await nodes[0].release("t", owner.epoch, parked=True)
    assert (await take(nodes[2])).epoch > owner.epoch


async def test_a_released_thread_gets_no_lease_from_a_renewal_that_comes_after(nodes: Nodes) -> None:
    for parked in (True, False):
        owner = await take(nodes[0])
        await nodes[0].release("t", owner.epoch, parked=parked)
        assert await nodes[0].renew({"t": owner.epoch}) == set()
        (standing,) = await nodes[1].standings(["t"])
        assert standing.owner is None
    assert await nodes[0].renew({"t": (await take(nodes[0])).epoch}) == {"t"}


async def test_orphans_are_threads_with_something_to_do_that_no_node_has(nodes: Nodes) -> None:
    names = ("idle", "queued", "running", "waiting", "parked", "parked-queued")
    owners = {name: await take(nodes[0], name) for name in names}
    for name in ("queued", "parked-queued"):
        await nodes[0].submit(name, "c", b"{}", limit=10, now=1.0)
    for name, status in (("running", "running"), ("waiting", "waiting"), ("parked", "waiting")):
        run = RunRecord(id="r", status=status, started_at=1.0)  # type: ignore[arg-type]
        assert await write(nodes[0], owners[name].records(run=run)) == [None]
    assert await nodes[1].orphans(["a"], limit=16) == []
    for name in ("parked", "parked-queued"):
        await nodes[0].release(name, owners[name].epoch, parked=True)
    await nodes.set_leases(0)
    expected = ["parked-queued", "queued", "running", "waiting"]
    assert sorted(await nodes[1].orphans(["b", "a"], limit=16)) == expected
    assert len(await nodes[1].orphans(["a"], limit=2)) == 2
    assert await nodes[1].orphans(["b"], limit=16) == []


async def test_follow_tells_what_has_come_since(nodes: Nodes) -> None:
    owner = await take(nodes[0])
    other = await take(nodes[0], "u")
    for command in ("c", "d"):
        await nodes[1].submit("t", command, b"{}", limit=10, now=1.0)
    running = RunRecord(id="r", status="running", started_at=1.0)
    await write(nodes[0], owner.next(run=running), owner.next(), owner.next(), other.next())
    applied = CommandChange(id="c", status="applied", seq=3)
    next_run = RunRecord(id="s", status="running", started_at=2.0, base=3)
    ended = RunRecord(id="r", status="completed", started_at=1.0, ended_at=2.0)
    await write(nodes[0], owner.records(run=ended, commands=(applied,)), owner.records(run=next_run))

    places = [
        Place(thread="t", after=1, run="r", commands=("c", "nothing")),
        Place(thread="u", after=0),
        Place(thread="missing", after=0),
    ]
    found = await nodes[1].follow(places, rows=100)

    assert sorted(found) == ["t", "u"]
    progress = found["t"]
    assert (progress.epoch, progress.head, progress.owner) == (owner.epoch, 3, nodes[0].node)
    assert progress.base == owner.epoch
    assert [(each.seq, each.data) for each in progress.rows] == [(2, row(2)), (3, row(3))]
    assert [(each.id, each.status) for each in progress.runs] == [("r", "completed"), ("s", "running")]
    assert [(each.id, each.status, each.seq) for each in progress.commands] == [("c", "applied", 3)]
    assert [each.seq for each in found["u"].rows] == [1]

    (page,) = (await nodes[1].follow([Place(thread="t", after=0)], rows=2)).values()
    assert [each.seq for each in page.rows] == [1, 2]
    assert [each.id for each in page.runs] == ["s"], "only the last, where none is known"


async def test_each_append_changes_the_version(nodes: Nodes) -> None:
    owner = await take(nodes[0])
    versions = set()
    for entry in (owner.next(), owner.records(run=RunRecord(id="r", status="running", started_at=1.0))):
        await write(nodes[0], entry)
        (standing,) = await nodes[1].standings(["t", "missing"])
        assert (standing.thread, standing.owner) == ("t", nodes[0].node)
        versions.add(standing.version)
    assert len(versions) == 2
    await nodes.set_leases(0)
    assert [each.owner for each in await nodes[1].standings(["t"])] == [None]


async def test_commands_of_other_nodes_are_found_by_the_owner(nodes: Nodes) -> None:
    await take(nodes[0])
    await nodes[0].submit("t", "own", b"{}", limit=10, now=1.0)
    await nodes[1].submit("t", "b", b"{1}", limit=10, now=1.0, strategy="steer", origin="n/1")
    await nodes[2].submit("t", "a", b"{2}", limit=10, now=1.0, origin="m/2", context=b"x")

    assert await nodes[0].arrivals(["t", "u"]) == {"t": ["b", "a"]}
    found = await nodes[0].read_arrivals("t", ["a", "b"])
    assert [(each.record.id, each.record.strategy, each.origin) for each in found] == [
        ("b", "steer", "n/1"),
        ("a", "enqueue", "m/2"),
    ]
    assert found[1].record.context == b"x"


async def test_one_command_submitted_on_all_nodes_at_once_is_made_once(nodes: Nodes) -> None:
    await nodes[0].create(ThreadRecord(id="t", agent="a", created_at=1.0, updated_at=1.0))
    submissions = await asyncio.gather(
        *[node.submit("t", "c", b"{}", limit=10, now=1.0) for node in nodes for _ in range(5)]
    )
    assert sum(each is not None and each.created for each in submissions) == 1


async def test_nodes_that_take_a_thread_at_once_agree_on_one(nodes: Nodes) -> None:
    for thread in ("t", "u", "v"):
        taken = await asyncio.gather(*[node.take(thread, agent="a", now=1.0) for node in nodes])
        assert sum(isinstance(each, Owned) for each in taken) == 1
        (owner,) = {each.owner for each in taken if isinstance(each, Elsewhere)}
        assert owner in {node.node for node in nodes}


async def test_messages_reach_a_node_or_all_others(nodes: Nodes) -> None:
    heard: list[tuple[int, str]] = []
    async with AsyncExitStack() as stack:
        for number, node in enumerate(nodes):
            node.bus.on_message = lambda message, number=number: heard.append((number, message))  # type: ignore[misc]
            await stack.enter_async_context(node.bus)
        nodes[0].bus.send(nodes[2].node, "to one")
        nodes[0].bus.send("nobody", "to nobody")
        nodes[0].bus.send(None, "x" * 7000)
        with anyio.fail_after(TIMEOUT_S):
            while len(heard) < 3:
                await asyncio.sleep(0.01)
    assert sorted(heard) == sorted([(2, "to one"), (1, "x" * 7000), (2, "x" * 7000)])


async def test_what_is_left_for_a_node_is_taken_by_it_alone_and_once(nodes: Nodes) -> None:
    texts = ["one", "\\u0000 in JSON, é, 🎩", "x" * 1_000_000]
    for text in texts:
        await nodes[0].post(nodes[2].node, text)
    await nodes[0].post("nobody", "to nobody")
    assert await nodes[1].mail() == []
    assert await nodes[2].mail() == texts
    assert await nodes[2].mail() == []
