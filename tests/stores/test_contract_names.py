"""What every store promises about anonymous threads and other names of threads."""

from __future__ import annotations

import pytest

from tests.support.stores import OpenStore, own, write
from threadwire.engine.store import CommandChange, OtherName, RunRecord, Store, ThreadName, ThreadRecord

pytestmark = pytest.mark.anyio


async def create(
    store: Store,
    id: str,
    *,
    anonymous: bool = False,
    agent: str = "a",
    updated_at: float = 1.0,
    title: str | None = None,
) -> None:
    record = ThreadRecord(
        id=id, agent=agent, created_at=1.0, updated_at=updated_at, title=title, custom={"from": id}
    )
    assert await store.create(record, anonymous=anonymous) is True


async def listed(store: Store) -> list[str]:
    page = await store.threads(archived="include", agent=None, limit=100, cursor=None)
    return [record.id for record in page.threads]


async def test_context_comes_back_with_its_command(open_store: OpenStore) -> None:
    async with open_store() as store:
        await own(store)
        await store.submit("t", "plain", b"{}", limit=10, now=1.0)
        made = await store.submit("t", "c", b"{}", context=b'{"system":"\xc3\xa9"}', limit=10, now=1.0)
        assert made is not None
        assert made.record.context == b'{"system":"\xc3\xa9"}'
        again = await store.submit("t", "c", b"{}", context=b"other", limit=10, now=1.0)
        assert again is not None
        assert again.record == made.record
    async with open_store() as store:
        owned = await store.acquire("t", agent=None, now=2.0)
        assert owned is not None
        assert [command.context for command in owned.commands] == [None, b'{"system":"\xc3\xa9"}']


async def test_context_is_kept_until_its_command_is_settled(store: Store) -> None:
    owner = await own(store)
    await store.submit("t", "c", b"{}", context=b"context", limit=10, now=1.0)
    for status in ("running", "queued", "running"):
        await write(store, owner.records(commands=(CommandChange(id="c", status=status, starts=1),)))
        record = await store.command("t", "c")
        assert record is not None
        assert record.context == b"context"
    await write(store, owner.records(commands=(CommandChange(id="c", status="applied", seq=0),)))
    record = await store.command("t", "c")
    assert record is not None
    assert (record.status, record.context, record.starts) == ("applied", None, 1)


async def test_context_of_a_run_is_kept_with_it(open_store: OpenStore) -> None:
    async with open_store() as store:
        owner = await own(store)
        run = RunRecord(id="r", status="running", started_at=1.0, context=b'{"absence_s":15.0}')
        assert await write(store, owner.records(run=run)) == [None]
    async with open_store() as store:
        owned = await store.acquire("t", agent=None, now=2.0)
        assert owned is not None
        assert owned.run == run
        assert await store.runs("t", limit=1) == [run]


async def test_anonymous_thread_is_found_but_not_listed(store: Store) -> None:
    await create(store, "hidden", anonymous=True)
    await create(store, "shown")
    assert await listed(store) == ["shown"]
    assert await store.find_name("hidden") == ThreadName("hidden", True)
    assert await store.find_name("shown") == ThreadName("shown", False)
    assert await store.find_name("none") is None
    assert await store.acquire("hidden", agent=None, now=2.0) is not None


async def test_name_leads_to_its_thread_and_can_be_nothing_else(open_store: OpenStore) -> None:
    async with open_store() as store:
        await create(store, "t", anonymous=True)
        assert await store.bind("other", "t", keep=False)
        assert await store.bind("other", "t", keep=False)
        assert await store.find_name("other") == ThreadName("t", True)
    async with open_store() as store:
        assert await store.find_name("other") == ThreadName("t", True)
        record = ThreadRecord(id="other", agent="a", created_at=1.0, updated_at=1.0)
        assert await store.create(record) is False
        for agent in ("a", None):
            with pytest.raises(OtherName) as other:
                await store.acquire("other", agent=agent, now=2.0)
            assert other.value.thread == "t"


async def test_thread_that_is_kept_is_listed_and_takes_no_further_name(store: Store) -> None:
    await create(store, "t", anonymous=True)
    assert await store.bind("mine", "t", keep=True)
    assert await listed(store) == ["t"]
    assert await store.find_name("mine") == ThreadName("t", False)
    assert await store.bind("mine", "t", keep=True), "it is its name already"
    assert not await store.bind("another", "t", keep=True)
    assert await store.find_name("another") is None


async def test_thread_made_beforehand_gives_its_place_and_its_title(store: Store) -> None:
    await create(store, "t", anonymous=True)
    await create(store, "made", title="Lunch")
    await store.update_thread("made", archived=True, now=2.0)
    assert await store.bind("made", "t", keep=True)
    record = await store.thread("t")
    assert record is not None
    assert (record.title, record.archived, record.custom) == ("Lunch", True, {"from": "made"})
    assert await store.thread("made") is None
    assert await store.find_name("made") == ThreadName("t", False)
    assert await listed(store) == ["t"]


async def test_thread_that_only_had_owners_gives_its_place_too(open_store: OpenStore) -> None:
    async with open_store() as store:
        await create(store, "t", anonymous=True)
        await create(store, "made")
        await create(store, "written")
        assert await write(store, (await own(store, "written")).next()) == [None]
    async with open_store() as store:
        for id in ("made", "written"):
            assert (await own(store, id)).head > 0
        assert not await store.bind("written", "t", keep=True)
        assert await store.bind("made", "t", keep=True)
        assert await store.find_name("made") == ThreadName("t", False)


async def test_name_of_a_thread_in_use_is_not_given_away(store: Store) -> None:
    await create(store, "t", anonymous=True)
    await own(store, "used")
    await store.submit("used", "c", b"{}", limit=10, now=1.0)
    await create(store, "of another agent", agent="b")
    await create(store, "u", anonymous=True)
    assert await store.bind("name of u", "u", keep=False)
    for taken in ("used", "of another agent", "name of u", "t"):
        assert not await store.bind(taken, "t", keep=True), taken
    for missing in ("none", "used", "name of u"):
        assert not await store.bind("new", missing, keep=True), missing
    assert await store.find_name("new") is None
    assert await store.find_name("t") == ThreadName("t", True)


async def test_deleted_thread_leaves_its_names_free(store: Store) -> None:
    await create(store, "t", anonymous=True)
    assert await store.bind("other", "t", keep=False)
    assert await store.delete_thread("t")
    assert await store.find_name("other") is None
    assert not await store.delete_thread("other")
    await create(store, "other")
    assert await store.find_name("other") == ThreadName("other", False)


async def test_anonymous_threads_long_unused_are_found_in_order(store: Store) -> None:
    for id, updated_at in (("c", 3.0), ("a", 1.0), ("b", 2.0), ("late", 9.0)):
        await create(store, id, anonymous=True, updated_at=updated_at)
    await create(store, "kept", updated_at=1.0)
    assert await store.anonymous_before(9.0, limit=10) == ["a", "b", "c"]
    assert await store.anonymous_before(9.0, limit=2) == ["a", "b"]
    assert await store.bind("x", "a", keep=True)
    assert await store.anonymous_before(9.0, limit=10) == ["b", "c"]
