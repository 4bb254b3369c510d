"""What every store promises about owners and the log: the docstrings of `engine.store`.

More of the contract is in `test_contract_snapshots` and `test_contract_records`.
"""

from __future__ import annotations

import math

import pytest

from tests.support.stores import TAKEOVER, OpenStore, Owner, own, row, rows, seqs, snapshot_of, write
from threadwire.core.errors import ErrorInfo, WriteConflict
from threadwire.engine.store import (
    Append,
    CommandChange,
    LogRow,
    RunRecord,
    Store,
    StoredSnapshot,
    ThreadRecord,
)

pytestmark = pytest.mark.anyio


# acquire


async def test_acquire_of_a_missing_thread_without_agent_is_none(store: Store) -> None:
    assert await store.acquire("t", agent=None, now=1000.0) is None
    assert await store.thread("t") is None


async def test_acquire_makes_a_missing_thread_for_the_agent(store: Store) -> None:
    owned = await store.acquire("t", agent="a", now=1000.5)

    assert owned is not None
    assert owned.record == ThreadRecord(id="t", agent="a", created_at=1000.5, updated_at=1000.5)
    assert (owned.head, owned.snapshot, owned.tail, owned.commands, owned.run) == (0, None, [], [], None)
    assert 1000_500 <= owned.epoch < 2**53
    assert await store.thread("t") == owned.record


async def test_a_new_thread_has_the_floor_zero_under_its_first_epoch(store: Store) -> None:
    owner = await own(store)

    found = await store.log("t", after=0, limit=10)

    assert found is not None
    assert (found.rows, found.floor_seq, found.floor_epoch, found.head) == ([], 0, owner.epoch, 0)
    assert await store.row_epoch("t", 0) == owner.epoch


async def test_acquire_again_by_the_same_owner_writes_nothing(store: Store) -> None:
    owner = await own(store)
    await owner.write(2)

    again = await store.acquire("t", agent=None, now=9000.0)

    assert again is not None
    assert (again.epoch, again.head) == (owner.epoch, 2)
    assert again.tail == [LogRow(1, owner.epoch, row(1)), LogRow(2, owner.epoch, row(2))]
    assert again.record.updated_at == 2000.0
    assert await write(store, owner.next()) == [None]


async def test_acquire_keeps_the_agent_of_an_existing_thread(store: Store) -> None:
    await own(store)
    owned = await store.acquire("t", agent="another", now=1000.0)
    assert owned is not None
    assert owned.record.agent == "a"


async def test_another_owner_adds_an_empty_row_under_a_larger_epoch(open_store: OpenStore) -> None:
    async with open_store() as store:
        first = await own(store)
        await first.write(2)
    async with open_store() as store:
        owned = await store.acquire("t", agent="a", now=1000.0)

        assert owned is not None
        assert owned.epoch > first.epoch
        assert owned.head == 3
        assert owned.tail == [
            LogRow(1, first.epoch, row(1)),
            LogRow(2, first.epoch, row(2)),
            LogRow(3, owned.epoch, TAKEOVER),
        ]
        assert await rows(store) == owned.tail
        assert owned.record.updated_at == 2000.0
        again = await store.acquire("t", agent="a", now=1000.0)
        assert again == owned


async def test_a_new_epoch_is_at_least_the_time_in_milliseconds(open_store: OpenStore) -> None:
    async with open_store() as store:
        await own(store)
    async with open_store() as store:
        late = 4_000_000_000.1234
        assert (await own(store, now=late)).epoch >= math.ceil(late * 1000)
        assert (await own(store, "u", now=late)).epoch >= math.ceil(late * 1000)
    async with open_store() as store:
        assert (await own(store, now=0.0)).epoch > late * 1000


async def test_a_clock_beyond_all_sense_leaves_epochs_below_2_53(open_store: OpenStore) -> None:
    last = 0
    for now in (1e300, 9e15, -1e300):
        async with open_store() as store:
            owner = await own(store, now=now)
            assert last < owner.epoch < 2**53
            last = owner.epoch


async def test_acquire_of_a_created_thread_adds_a_row_only_with_another_epoch(store: Store) -> None:
    await store.create(ThreadRecord(id="t", agent="a", created_at=1.0, updated_at=1.0))
    before = await store.log("t", after=0, limit=10)

    owned = await store.acquire("t", agent=None, now=1000.0)

    assert before is not None
    assert owned is not None
    assert (before.head, before.floor_seq, before.rows) == (0, 0, [])
    taken = owned.epoch != before.floor_epoch
    assert owned.tail == ([LogRow(1, owned.epoch, TAKEOVER)] if taken else [])
    assert owned.head == len(owned.tail)


async def test_owned_holds_commands_the_last_run_and_rows_after_the_snapshot(open_store: OpenStore) -> None:
    async with open_store() as store:
        owner = await own(store)
        for command in ("first", "second", "third", "fourth"):
            await store.submit("t", command, b"{}", limit=10, now=1.0)
        changes = (
            CommandChange(id="third", status="running", starts=1),
            CommandChange(id="second", status="applied"),
        )
        first_run = RunRecord(id="run-1", status="completed", started_at=1.0, ended_at=2.0)
        last_run = RunRecord(
            id="run-2", status="failed", started_at=1.0, error=ErrorInfo("agent-error", "it")
        )
        await write(
            store, owner.next(commands=changes, run=first_run), owner.next(run=last_run), owner.next()
        )
        await store.save_snapshot("t", snapshot_of(owner, 2), keep_after=0)
    async with open_store() as store:
        owned = await store.acquire("t", agent=None, now=1000.0)

        assert owned is not None
        assert [(each.id, each.status, each.starts) for each in owned.commands] == [
            ("first", "queued", 0),
            ("third", "running", 1),
            ("fourth", "queued", 0),
        ]
        assert owned.run == last_run
        assert owned.snapshot == StoredSnapshot(2, owner.epoch, b"state 2")
        assert owned.tail == [LogRow(3, owner.epoch, row(3)), LogRow(4, owned.epoch, TAKEOVER)]


# append


async def test_append_is_in_the_log_when_done_is_called(store: Store) -> None:
    owner = await own(store)
    assert await write(store, owner.next(now=1234.5)) == [None]
    assert await rows(store) == [LogRow(1, owner.epoch, row(1))]
    record = await store.thread("t")
    assert record is not None
    assert (record.created_at, record.updated_at) == (1000.0, 1234.5)


async def test_done_is_called_once_and_in_order(store: Store) -> None:
    owner = await own(store)
    calls: list[int] = []
    for number in range(50):
        store.append(owner.next(), lambda _, number=number: calls.append(number))  # type: ignore[misc]
    await owner.write()
    assert calls == list(range(50))


@pytest.mark.parametrize(
    ("epoch_off", "seq"),
    [(0, 1), (0, 4), (-1, 3), (1, 3), (-1, 2)],
    ids=["low", "gap", "old", "new", "old-again"],
)
async def test_append_on_another_epoch_or_head_conflicts_and_writes_nothing(
    store: Store, epoch_off: int, seq: int
) -> None:
    owner = await own(store)
    await store.submit("t", "c", b"{}", limit=10, now=1.0)
    await owner.write(2)
    before = await store.log("t", after=0, limit=10)

    (error,) = await write(
        store,
        Append(
            thread="t",
            epoch=owner.epoch + epoch_off,
            seq=seq,
            data=b"\x90",
            commands=(CommandChange(id="c", status="applied"),),
            run=RunRecord(id="r", status="running", started_at=1.0),
            now=7777.0,
        ),
    )

    assert isinstance(error, WriteConflict)
    assert await store.log("t", after=0, limit=10) == before
    command, record = await store.command("t", "c"), await store.thread("t")
    assert command is not None
    assert record is not None
    assert (command.status, record.updated_at) == ("queued", 2000.0)
    assert await store.runs("t", limit=10) == []
    await owner.write()


@pytest.mark.parametrize(("epoch_off", "seq"), [(0, 1), (0, 3), (1, 2), (-1, 2)])
async def test_append_of_records_on_another_epoch_or_head_conflicts(
    store: Store, epoch_off: int, seq: int
) -> None:
    owner = await own(store)
    await owner.write(2)
    run = RunRecord(id="r", status="running", started_at=1.0)
    (error,) = await write(store, Append(thread="t", epoch=owner.epoch + epoch_off, seq=seq, run=run))
    assert isinstance(error, WriteConflict)
    assert await store.runs("t", limit=10) == []


async def test_append_to_a_missing_thread_conflicts(store: Store) -> None:
    owner = await own(store)
    await store.delete_thread("t")
    errors = await write(store, owner.next(), Append(thread="u", epoch=1, seq=0))
    assert [type(error) for error in errors] == [WriteConflict, WriteConflict]
    assert await store.thread("t") is None


async def test_append_of_a_former_owner_conflicts(open_store: OpenStore) -> None:
    async with open_store() as store:
        former = await own(store)
        await former.write(2)
    async with open_store() as store:
        owner = await own(store)
        former.store = store
        errors = await write(store, former.next(), former.next(), owner.next())
        assert [type(error) for error in errors] == [WriteConflict, WriteConflict, type(None)]
        assert await seqs(store) == [1, 2, 3, 4]


async def test_a_refused_append_leaves_those_beside_it_alone(store: Store) -> None:
    owners = [await own(store, f"t{number}") for number in range(20)]
    entries = [owner.next() for owner in owners]
    entries[7] = Append(thread="t7", epoch=1, seq=1, data=b"\x90")
    entries[11] = Append(thread="nobody's", epoch=1, seq=1, data=b"\x90")

    errors = await write(store, *entries)

    assert [number for number, error in enumerate(errors) if error] == [7, 11]
    assert all(isinstance(error, WriteConflict) for error in errors if error)
    assert await seqs(store, "t6") == [1]
    assert await seqs(store, "t7") == []


async def test_append_writes_row_commands_and_run_together(store: Store) -> None:
    owner = await own(store)
    await store.submit("t", "c", b"{}", limit=10, now=1.0)
    await store.submit("t", "d", b"{}", limit=10, now=1.0)
    run = RunRecord(id="r", status="running", started_at=5.0)
    error = ErrorInfo("thread-busy", "no", "command.type")
    changes = (
        CommandChange(id="c", status="applied", starts=2, seq=1),
        CommandChange(id="d", status="rejected", error=error),
    )

    assert await write(store, owner.next(commands=changes, run=run)) == [None]

    c, d = await store.command("t", "c"), await store.command("t", "d")
    assert c is not None
    assert d is not None
    assert (c.status, c.starts, c.seq, c.error) == ("applied", 2, 1, None)
    assert (d.status, d.starts, d.seq, d.error) == ("rejected", 0, None, error)
    assert await store.runs("t", limit=10) == [run]


async def test_append_of_records_alone_leaves_head_and_time(store: Store) -> None:
    owner = await own(store)
    await store.submit("t", "c", b"{}", limit=10, now=1.0)
    await owner.write()
    run = RunRecord(id="r", status="running", started_at=5.0)

    entry = owner.records(commands=(CommandChange(id="c", status="running", starts=1),), run=run)
    assert await write(store, entry, entry) == [None, None]

    found, record = await store.log("t", after=0, limit=10), await store.thread("t")
    command = await store.command("t", "c")
    assert found is not None
    assert record is not None
    assert command is not None
    assert (found.head, len(found.rows), record.updated_at) == (1, 1, 2000.0)
    assert (command.status, command.starts) == ("running", 1)
    assert await store.runs("t", limit=10) == [run]


async def test_append_given_again_after_it_was_written_is_done(store: Store) -> None:
    owner = await own(store)
    await owner.write()
    entry = owner.next(run=RunRecord(id="r", status="running", started_at=5.0))

    assert await write(store, entry, entry, entry) == [None, None, None]

    assert await seqs(store) == [1, 2]
    await owner.write()
    (error,) = await write(store, entry)
    assert isinstance(error, WriteConflict)


async def test_many_threads_append_at_once_without_mixing(store: Store) -> None:
    owners = [await own(store, f"t{number}") for number in range(100)]
    entries = [owner.next() for _ in range(20) for owner in owners]

    assert await write(store, *entries) == [None] * 2000

    for number in (0, 1, 50, 99):
        assert await rows(store, f"t{number}") == [
            LogRow(seq, owners[number].epoch, row(seq)) for seq in range(1, 21)
        ]


# log


async def test_log_of_a_missing_thread_is_none(store: Store) -> None:
    assert await store.log("t", after=0, limit=10) is None
    assert await store.row_epoch("t", 0) is None
    assert await store.snapshot_before("t", 10) is None


@pytest.mark.parametrize(
    ("after", "limit", "expected"),
    [
        (0, 100, [1, 2, 3, 4, 5]),
        (0, 2, [1, 2]),
        (2, 2, [3, 4]),
        (4, 10, [5]),
        (5, 10, []),
        (2**70, 10, []),
        (-(2**70), 2, [1, 2]),
        (0, 0, []),
    ],
)
async def test_log_returns_rows_after_a_seq_up_to_the_limit(
    store: Store, after: int, limit: int, expected: list[int]
) -> None:
    owner = await own(store)
    await owner.write(5)
    found = await store.log("t", after=after, limit=limit)
    assert found is not None
    assert [each.seq for each in found.rows] == expected
    assert (found.floor_seq, found.floor_epoch, found.head) == (0, owner.epoch, 5)


async def test_row_epoch_is_that_of_the_writer(open_store: OpenStore) -> None:
    async with open_store() as store:
        first = await own(store)
        await first.write(2)
    async with open_store() as store:
        second = await own(store)
        await second.write()

        epochs = [await store.row_epoch("t", seq) for seq in range(6)]

    assert epochs == [first.epoch, first.epoch, first.epoch, second.epoch, second.epoch, None]


@pytest.mark.parametrize("seq", [-1, 2, 2**53, 2**70, -(2**70)])
async def test_row_epoch_of_what_was_never_written_is_none(store: Store, seq: int) -> None:
    await (await own(store)).write()
    assert await store.row_epoch("t", seq) is None


# delete


async def test_a_deleted_thread_is_gone_with_all_there_was_of_it(store: Store) -> None:
    owner = await own(store)
    await store.submit("t", "c", b"{}", limit=10, now=1.0)
    await write(store, owner.next(run=RunRecord(id="r", status="running", started_at=1.0)))
    await store.save_snapshot("t", snapshot_of(owner, 1), keep_after=0)
    await own(store, "other")

    assert await store.delete_thread("t") is True
    assert await store.delete_thread("t") is False

    assert await store.thread("t") is None
    assert await store.log("t", after=0, limit=10) is None
    assert await store.snapshot_before("t", 10) is None
    assert await store.command("t", "c") is None
    assert await store.runs("t", limit=10) == []
    assert await store.unfinished() == []
    assert await store.acquire("t", agent=None, now=1000.0) is None
    assert await store.thread("other") is not None


async def test_a_thread_made_again_is_empty_and_has_a_larger_epoch(open_store: OpenStore) -> None:
    last = 0
    async with open_store() as store:
        for make in (store.acquire("t", agent="a", now=5000.0), store.acquire("t", agent="a", now=1.0)):
            owned = await make
            assert owned is not None
            assert owned.epoch > last
            assert (owned.head, owned.tail, owned.snapshot, owned.commands, owned.run) == (
                0,
                [],
                None,
                [],
                None,
            )
            last = owned.epoch
            await Owner(store, owned).write(3)
            await store.submit("t", "c", b"{}", limit=10, now=1.0)
            await store.save_snapshot("t", StoredSnapshot(3, owned.epoch, b"state"), keep_after=0)
            await store.delete_thread("t")
        await store.create(ThreadRecord(id="t", agent="a", created_at=1.0, updated_at=1.0))
        first = await store.row_epoch("t", 0)
        assert first is not None
        assert first > last
        await store.delete_thread("t")
    async with open_store() as store:
        assert (await own(store, now=0.0)).epoch > first


# restart and readiness


async def test_all_is_kept_from_one_opening_to_the_next(open_store: OpenStore) -> None:
    async with open_store() as store:
        owner = await own(store)
        await store.submit("t", "c", b'{"type":"x"}', limit=10, now=1.0)
        run = RunRecord(id="r", status="waiting", started_at=1.5)
        await write(store, owner.next(run=run), *[owner.next() for _ in range(5)])
        await store.save_snapshot("t", snapshot_of(owner, 2), keep_after=1)
        await store.save_snapshot("t", snapshot_of(owner, 4), keep_after=1)
        await store.update_thread("t", title="Title", archived=True, custom={"k": [1, 1.5, None]}, now=50.0)
        before = (
            await store.log("t", after=0, limit=100),
            await store.command("t", "c"),
            await store.runs("t", limit=10),
            await store.thread("t"),
            await store.snapshot_before("t", 3),
            await store.snapshot_before("t", 4),
            await store.unfinished(),
        )
    async with open_store() as store:
        assert before == (
            await store.log("t", after=0, limit=100),
            await store.command("t", "c"),
            await store.runs("t", limit=10),
            await store.thread("t"),
            await store.snapshot_before("t", 3),
            await store.snapshot_before("t", 4),
            await store.unfinished(),
        )


async def test_appends_given_before_closing_are_written(open_store: OpenStore) -> None:
    errors: list[Exception | None] = []
    async with open_store() as store:
        owner = await own(store)
        for _ in range(200):
            store.append(owner.next(), errors.append)
    assert errors == [None] * 200
    async with open_store() as store:
        assert await seqs(store) == list(range(1, 201))


async def test_check_returns_where_the_store_can_be_written(store: Store) -> None:
    await store.check()
