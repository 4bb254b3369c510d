"""What every store promises about snapshots and the rows they let go: the docstrings of `engine.store`."""

from __future__ import annotations

import pytest

from tests.support.stores import OpenStore, own, seqs, snapshot_of
from threadwire.engine.store import Store, StoredSnapshot

pytestmark = pytest.mark.anyio


async def test_the_two_newest_snapshots_are_kept(store: Store) -> None:
    owner = await own(store)
    await owner.write(9)
    for seq in (3, 6, 9):
        await store.save_snapshot("t", snapshot_of(owner, seq), keep_after=0)

    assert await store.snapshot_before("t", 5) is None
    assert await store.snapshot_before("t", 8) == StoredSnapshot(6, owner.epoch, b"state 6")
    assert await store.snapshot_before("t", 9) == StoredSnapshot(9, owner.epoch, b"state 9")
    assert await store.snapshot_before("t", 2**70) == StoredSnapshot(9, owner.epoch, b"state 9")
    assert await store.snapshot_before("t", -1) is None


async def test_an_older_snapshot_does_not_push_out_a_newer(store: Store) -> None:
    owner = await own(store)
    await owner.write(9)
    for seq in (9, 6, 3):
        await store.save_snapshot("t", snapshot_of(owner, seq), keep_after=0)
    assert await store.snapshot_before("t", 5) is None
    assert await store.snapshot_before("t", 6) is not None


async def test_a_snapshot_of_a_seq_takes_the_place_of_the_one_before(store: Store) -> None:
    owner = await own(store)
    await owner.write(9)
    await store.save_snapshot("t", snapshot_of(owner, 3), keep_after=0)
    for data in (b"one", b"other"):
        await store.save_snapshot("t", StoredSnapshot(9, owner.epoch, data), keep_after=0)
    assert await store.snapshot_before("t", 9) == StoredSnapshot(9, owner.epoch, b"other")
    assert await store.snapshot_before("t", 8) == StoredSnapshot(3, owner.epoch, b"state 3")


async def test_a_snapshot_that_is_not_of_this_log_is_not_kept(store: Store) -> None:
    owner = await own(store)
    await owner.write(3)
    await store.save_snapshot("t", StoredSnapshot(2, owner.epoch - 1, b"of a former thread"), keep_after=0)
    await store.save_snapshot("t", StoredSnapshot(4, owner.epoch, b"of the future"), keep_after=0)
    await store.save_snapshot("missing", StoredSnapshot(0, owner.epoch, b"of nothing"), keep_after=0)
    assert await store.snapshot_before("t", 10) is None


async def test_one_snapshot_alone_drops_no_rows(store: Store) -> None:
    owner = await own(store)
    await owner.write(5)
    await store.save_snapshot("t", snapshot_of(owner, 5), keep_after=5)
    assert await seqs(store) == [1, 2, 3, 4, 5]


@pytest.mark.parametrize(
    ("keep_after", "floor"), [(0, 0), (3, 3), (4, 4), (6, 4), (8, 4), (2**70, 4), (-1, 0)]
)
async def test_rows_below_keep_after_and_the_older_snapshot_are_dropped(
    store: Store, keep_after: int, floor: int
) -> None:
    owner = await own(store)
    await owner.write(8)
    await store.save_snapshot("t", snapshot_of(owner, 4), keep_after=keep_after)
    await store.save_snapshot("t", snapshot_of(owner, 7), keep_after=keep_after)

    found = await store.log("t", after=0, limit=100)

    assert found is not None
    assert [each.seq for each in found.rows] == list(range(floor + 1, 9))
    assert (found.floor_seq, found.floor_epoch, found.head) == (floor, owner.epoch, 8)
    assert await store.row_epoch("t", floor) == owner.epoch
    if floor:
        assert await store.row_epoch("t", floor - 1) is None
    assert await seqs(store, after=5, limit=2) == [6, 7]
    assert await seqs(store, after=1, limit=1) == [max(2, floor + 1)]


async def test_the_floor_keeps_the_epoch_of_the_last_dropped_row(open_store: OpenStore) -> None:
    async with open_store() as store:
        first = await own(store)
        await first.write(3)
    async with open_store() as store:
        second = await own(store)
        await second.write(4)
        await store.save_snapshot("t", StoredSnapshot(2, first.epoch, b"state 2"), keep_after=2)
        await store.save_snapshot("t", snapshot_of(second, 8), keep_after=2)
        assert await store.row_epoch("t", 2) == first.epoch
        found = await store.log("t", after=0, limit=100)
        assert found is not None
        assert (found.floor_seq, found.floor_epoch) == (2, first.epoch)
        assert [each.epoch for each in found.rows] == [first.epoch] + [second.epoch] * 5

        await store.save_snapshot("t", snapshot_of(second, 5), keep_after=5)
        found = await store.log("t", after=0, limit=100)
        assert found is not None
        assert (found.floor_seq, found.floor_epoch) == (5, second.epoch)
        assert [each.seq for each in found.rows] == [6, 7, 8]


async def test_many_rows_are_dropped_like_few(store: Store) -> None:
    owner = await own(store)
    await owner.write(1000)
    await store.save_snapshot("t", snapshot_of(owner, 990), keep_after=990)
    await store.save_snapshot("t", snapshot_of(owner, 995), keep_after=990)
    found = await store.log("t", after=0, limit=100)
    assert found is not None
    assert (found.floor_seq, found.floor_epoch) == (990, owner.epoch)
    assert [each.seq for each in found.rows] == list(range(991, 1001))


async def test_the_floor_never_goes_back(store: Store) -> None:
    owner = await own(store)
    await owner.write(9)
    await store.save_snapshot("t", snapshot_of(owner, 4), keep_after=4)
    await store.save_snapshot("t", snapshot_of(owner, 6), keep_after=4)
    await store.save_snapshot("t", snapshot_of(owner, 8), keep_after=2)
    found = await store.log("t", after=0, limit=100)
    assert found is not None
    assert (found.floor_seq, found.rows[0].seq) == (4, 5)


async def test_a_thread_can_be_rebuilt_from_either_snapshot(open_store: OpenStore) -> None:
    async with open_store() as store:
        owner = await own(store)
        for seq in range(1, 31):
            await owner.write()
            if seq % 7 == 0:
                await store.save_snapshot("t", snapshot_of(owner, seq), keep_after=seq - 2)
    async with open_store() as store:
        newest = await store.snapshot_before("t", 2**53)
        assert newest is not None
        older = await store.snapshot_before("t", newest.seq - 1)
        assert older is not None
        assert (older.seq, newest.seq) == (21, 28)
        for snapshot in (older, newest):
            assert await seqs(store, after=snapshot.seq) == list(range(snapshot.seq + 1, 31))
        owned = await store.acquire("t", agent=None, now=1000.0)
        assert owned is not None
        assert owned.snapshot == newest
        assert [each.seq for each in owned.tail] == [29, 30, 31]
