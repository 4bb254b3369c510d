"""What every store promises about commands, runs and thread records: the docstrings of `engine.store`."""

from __future__ import annotations

from typing import Any, get_args

import anyio
import pytest

from tests.support.stores import OpenStore, own, write
from threadwire.core.errors import ErrorInfo
from threadwire.core.frames import CommandStatus, RunStatus
from threadwire.engine.store import (
    Archived,
    CommandChange,
    CommandRecord,
    RunRecord,
    Store,
    Submission,
    ThreadRecord,
)

pytestmark = pytest.mark.anyio


async def submit(store: Store, command: str, body: bytes = b"{}", *, limit: int = 100) -> Submission | None:
    return await store.submit("t", command, body, limit=limit, now=1.0)


async def create(
    store: Store, id: str, *, updated_at: float = 1.0, agent: str = "a", archived: bool = False
) -> None:
    record = ThreadRecord(id=id, agent=agent, archived=archived, created_at=1.0, updated_at=updated_at)
    assert await store.create(record) is True


async def listed(
    store: Store, *, archived: Archived = "include", agent: str | None = None, limit: int = 100
) -> list[str]:
    """The ids of all pages."""
    ids: list[str] = []
    cursor: str | None = None
    while True:
        page = await store.threads(archived=archived, agent=agent, limit=limit, cursor=cursor)
        assert len(page.threads) <= limit
        ids += [record.id for record in page.threads]
        cursor = page.cursor
        if cursor is None:
            return ids


# commands


async def test_the_first_submit_of_an_id_makes_it_queued(store: Store) -> None:
    await own(store)
    submission = await submit(store, "c", b'{"type":"x"}')
    assert submission is not None
    assert submission.created is True
    record = submission.record
    assert record == CommandRecord(id="c", order=record.order, body=b'{"type":"x"}', status="queued")
    assert await store.command("t", "c") == record


async def test_a_command_keeps_the_strategy_it_was_first_sent_with(store: Store) -> None:
    await own(store)
    await store.submit("t", "c", b"{}", limit=9, now=1.0, strategy="rollback")
    await store.submit("t", "c", b"{}", limit=9, now=1.0, strategy="interrupt")
    await submit(store, "d")
    for id, strategy in (("c", "rollback"), ("d", "enqueue")):
        record = await store.command("t", id)
        assert record is not None
        assert record.strategy == strategy


async def test_submit_again_returns_the_record_as_it_stands_whatever_the_body(store: Store) -> None:
    owner = await own(store)
    await submit(store, "c", b"first")
    await write(store, owner.next(commands=(CommandChange(id="c", status="applied", seq=1),)))

    again = await submit(store, "c", b"other", limit=0)

    assert again is not None
    assert again.created is False
    assert again.record == await store.command("t", "c")
    assert (again.record.body, again.record.status, again.record.seq) == (b"first", "applied", 1)


async def test_submit_beyond_the_limit_of_open_commands_is_none(store: Store) -> None:
    owner = await own(store)
    await submit(store, "c1", limit=2)
    await submit(store, "c2", limit=2)
    await write(store, owner.records(commands=(CommandChange(id="c1", status="running"),)))

    assert await submit(store, "c3", limit=2) is None
    assert await store.command("t", "c3") is None

    await write(store, owner.records(commands=(CommandChange(id="c1", status="rejected"),)))
    assert await submit(store, "c3", limit=2) is not None
    assert await submit(store, "c4", limit=2) is None


async def test_submit_to_a_missing_thread_is_a_key_error(store: Store) -> None:
    with pytest.raises(KeyError):
        await submit(store, "c")
    assert await store.thread("t") is None
    assert await store.command("t", "c") is None


async def test_submits_are_ordered_as_called(store: Store) -> None:
    await own(store)
    async with anyio.create_task_group() as tasks:
        for number in range(50):
            tasks.start_soon(submit, store, f"c{number}")

    owned = await store.acquire("t", agent=None, now=1.0)

    assert owned is not None
    assert [command.id for command in owned.commands] == [f"c{number}" for number in range(50)]
    orders = [command.order for command in owned.commands]
    assert orders == sorted(set(orders))


async def test_submits_of_one_id_at_once_create_it_once(store: Store) -> None:
    await own(store)
    created: list[bool] = []

    async def one(number: int) -> None:
        submission = await submit(store, "c", b"%d" % number)
        assert submission is not None
        created.append(submission.created)

    async with anyio.create_task_group() as tasks:
        for number in range(20):
            tasks.start_soon(one, number)

    assert sorted(created) == [False] * 19 + [True]


async def test_the_same_command_id_in_two_threads_is_two_commands(store: Store) -> None:
    await own(store, "t")
    await own(store, "u")
    await store.submit("t", "c", b"t's", limit=10, now=1.0)
    submission = await store.submit("u", "c", b"u's", limit=10, now=1.0)
    assert submission is not None
    assert submission.created is True
    command = await store.command("t", "c")
    assert command is not None
    assert command.body == b"t's"


async def test_order_grows_over_settled_commands_and_restarts(open_store: OpenStore) -> None:
    orders: list[int] = []
    for number in range(3):
        async with open_store() as store:
            owner = await own(store)
            for name in ("x", "y"):
                submission = await submit(store, f"{name}{number}")
                assert submission is not None
                orders.append(submission.record.order)
            await write(store, owner.records(commands=(CommandChange(id=f"y{number}", status="cancelled"),)))
    assert orders == sorted(set(orders))


async def test_a_change_sets_status_seq_and_error_and_leaves_starts_where_not_given(store: Store) -> None:
    owner = await own(store)
    await submit(store, "c")
    error = ErrorInfo("gave-up", "three times")
    expected = [
        ("running", 1, None, None),
        ("queued", 1, None, None),
        ("rejected", 3, 4, error),
        ("applied", 3, 5, None),
    ]
    changes = [
        CommandChange(id="c", status="running", starts=1),
        CommandChange(id="c", status="queued"),
        CommandChange(id="c", status="rejected", starts=3, seq=4, error=error),
        CommandChange(id="c", status="applied", seq=5),
    ]
    for change, (status, starts, seq, failure) in zip(changes, expected, strict=True):
        assert await write(store, owner.records(commands=(change,))) == [None]
        command = await store.command("t", "c")
        assert command is not None
        assert (command.status, command.starts, command.seq, command.error) == (status, starts, seq, failure)
        assert command.body == b"{}"


async def test_a_command_that_went_back_to_queued_keeps_its_order(store: Store) -> None:
    owner = await own(store)
    for name in ("c1", "c2"):
        await submit(store, name)
    statuses: list[CommandStatus] = ["running", "queued"]
    for status in statuses:
        await write(store, owner.records(commands=(CommandChange(id="c1", status=status),)))
    owned = await store.acquire("t", agent=None, now=1.0)
    assert owned is not None
    assert [command.id for command in owned.commands] == ["c1", "c2"]


async def test_a_command_that_was_never_submitted_is_none(store: Store) -> None:
    assert await store.command("t", "c") is None
    await own(store)
    assert await store.command("t", "c") is None


# runs


async def test_runs_are_the_newest_first_up_to_the_limit(store: Store) -> None:
    owner = await own(store)
    records = [
        RunRecord(id=f"r{number}", status="completed", started_at=1.0, ended_at=2.0) for number in range(5)
    ]
    for record in records:
        await write(store, owner.records(run=record))
    assert await store.runs("t", limit=3) == records[:1:-1]
    assert await store.runs("t", limit=100) == records[::-1]
    assert await store.runs("t", limit=0) == []
    assert await store.runs("missing", limit=3) == []


async def test_a_run_written_again_takes_the_place_of_its_record(store: Store) -> None:
    owner = await own(store)
    await write(store, owner.records(run=RunRecord(id="r1", status="running", started_at=1.0)))
    await write(store, owner.records(run=RunRecord(id="r2", status="running", started_at=2.0)))
    ended = RunRecord(
        id="r1", status="failed", started_at=1.0, ended_at=3.0, error=ErrorInfo("agent-error", "no", "field")
    )
    await write(store, owner.records(run=ended))
    assert await store.runs("t", limit=10) == [RunRecord(id="r2", status="running", started_at=2.0), ended]
    other = await own(store, "other")
    await write(store, other.records(run=RunRecord(id="r1", status="running", started_at=9.0)))
    assert (await store.runs("t", limit=10))[1] == ended


async def test_unfinished_threads_have_an_open_run_or_an_open_command(store: Store) -> None:
    for run_status in get_args(RunStatus):
        owner = await own(store, f"run-{run_status}")
        await write(store, owner.records(run=RunRecord(id="r", status=run_status, started_at=1.0)))
    for status in get_args(CommandStatus):
        owner = await own(store, f"command-{status}")
        await store.submit(owner.id, "c", b"{}", limit=10, now=1.0)
        await write(store, owner.records(commands=(CommandChange(id="c", status=status),)))
    both = await own(store, "both")
    await store.submit("both", "c", b"{}", limit=10, now=1.0)
    await store.submit("both", "d", b"{}", limit=10, now=1.0)
    await write(store, both.records(run=RunRecord(id="r", status="running", started_at=1.0)))
    await own(store, "neither")

    assert sorted(await store.unfinished()) == [
        "both",
        "command-queued",
        "command-running",
        "run-queued",
        "run-running",
        "run-waiting",
    ]


# thread records


async def test_create_keeps_the_record_and_refuses_a_second_of_the_id(store: Store) -> None:
    record = ThreadRecord(
        id="t",
        agent="a",
        title="T",
        archived=True,
        created_at=1.25,
        updated_at=2.5,
        custom={"k": {"n": [1, 2.0]}},
    )
    assert await store.create(record) is True
    assert await store.create(ThreadRecord(id="t", agent="b", created_at=9.0, updated_at=9.0)) is False
    assert await store.thread("t") == record
    assert await store.thread("missing") is None


async def test_what_callers_do_with_their_records_stays_with_them(store: Store) -> None:
    given: dict[str, Any] = {"list": [1]}
    await store.create(ThreadRecord(id="t", agent="a", created_at=1.0, updated_at=1.0, custom=given))
    for _ in range(2):
        given["list"].append("mine")
        record = await store.thread("t")
        assert record is not None
        assert record.custom == {"list": [1]}
        record.custom["list"].append("mine")
        given = {"list": [1]}
        await store.update_thread("t", custom=given, now=2.0)


async def test_update_thread_changes_what_is_given(store: Store) -> None:
    await store.create(
        ThreadRecord(id="t", agent="a", title="old", created_at=1.0, updated_at=1.0, custom={"a": 1})
    )
    steps: list[tuple[dict[str, Any], tuple[Any, ...]]] = [
        ({"title": "new"}, ("new", False, {"a": 1}, 2.0)),
        ({"archived": True}, ("new", True, {"a": 1}, 3.0)),
        ({"custom": {"b": [None]}}, ("new", True, {"b": [None]}, 4.0)),
        ({"title": None, "archived": False, "custom": {}}, (None, False, {}, 5.0)),
        ({}, (None, False, {}, 5.0)),
    ]
    for step, (changes, expected) in enumerate(steps, 2):
        record = await store.update_thread("t", **changes, now=float(step))
        assert record is not None
        assert (record.title, record.archived, record.custom, record.updated_at) == expected
        assert (record.id, record.agent, record.created_at) == ("t", "a", 1.0)
        assert await store.thread("t") == record
    assert await store.update_thread("missing", title="x", now=1.0) is None


async def test_an_append_moves_a_thread_to_the_front_of_the_list(store: Store) -> None:
    first, second = await own(store, "first", now=1.0), await own(store, "second", now=2.0)
    assert await listed(store) == ["second", "first"]
    await first.write(now=3.0)
    assert await listed(store) == ["first", "second"]
    await second.write(now=4.0)
    assert await listed(store) == ["second", "first"]


async def test_threads_are_listed_newest_first_ties_by_id(store: Store) -> None:
    for id, updated_at in (("b", 2.0), ("a", 2.0), ("Z", 2.0), ("old", 1.0), ("new", 3.5), ("~", 2.0)):
        await create(store, id, updated_at=updated_at)
    assert await listed(store) == ["new", "Z", "a", "b", "~", "old"]


@pytest.mark.parametrize("limit", [1, 2, 3, 5, 20, 24, 25, 26])
async def test_pages_hold_every_thread_once(store: Store, limit: int) -> None:
    for number in range(25):
        await create(store, f"t{number:02d}", updated_at=float(number // 6))
    assert await listed(store, limit=limit) == await listed(store, limit=100)


async def test_the_last_page_has_no_cursor(store: Store) -> None:
    page = await store.threads(archived="include", agent=None, limit=2, cursor=None)
    assert (page.threads, page.cursor) == ([], None)
    await create(store, "a")
    await create(store, "b")
    page = await store.threads(archived="include", agent=None, limit=2, cursor=None)
    assert ([record.id for record in page.threads], page.cursor) == (["a", "b"], None)


async def test_a_cursor_holds_its_place_while_threads_change(store: Store) -> None:
    for number in range(9):
        await create(store, f"t{number}", updated_at=100.0 - number)
    page = await store.threads(archived="include", agent=None, limit=3, cursor=None)
    assert [record.id for record in page.threads] == ["t0", "t1", "t2"]

    await store.update_thread("t1", title="moved to the front", now=500.0)
    await store.update_thread("t7", title="moved to the front", now=501.0)
    await store.delete_thread("t2")  # the one the cursor names
    await store.delete_thread("t4")
    await create(store, "newer", updated_at=600.0)

    rest: list[str] = []
    cursor = page.cursor
    while cursor is not None:
        page = await store.threads(archived="include", agent=None, limit=2, cursor=cursor)
        rest += [record.id for record in page.threads]
        cursor = page.cursor
    assert rest == ["t3", "t5", "t6", "t8"]


@pytest.mark.parametrize(
    ("archived", "agent", "expected"),
    [
        ("exclude", None, ["a1", "b1"]),
        ("include", None, ["a0", "a1", "b0", "b1"]),
        ("only", None, ["a0", "b0"]),
        ("exclude", "a", ["a1"]),
        ("include", "b", ["b0", "b1"]),
        ("only", "nobody", []),
    ],
)
async def test_threads_are_filtered_by_archived_and_agent(
    store: Store, archived: Archived, agent: str | None, expected: list[str]
) -> None:
    for name in ("a", "b"):
        await create(store, f"{name}0", agent=name, archived=True)
        await create(store, f"{name}1", agent=name)
    assert await listed(store, archived=archived, agent=agent) == expected
    assert await listed(store, archived=archived, agent=agent, limit=1) == expected


@pytest.mark.parametrize(
    "cursor",
    [
        "",
        "x",
        "====",
        "\ud800",
        "ä",
        "WzEuMF0",
        "bnVsbA",
        "WzEsICJ0Il0",
        "WzEuMCwgInQiXQ",
        "A" * 5000,
        "W1tbW1tb",
    ],
)
async def test_a_cursor_that_was_never_given_is_a_value_error(store: Store, cursor: str) -> None:
    await create(store, "t")
    with pytest.raises(ValueError, match="cursor"):
        await store.threads(archived="include", agent=None, limit=2, cursor=cursor)
