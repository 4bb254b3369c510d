"""What every store promises about an agent's notes, about what a run began on, and about its own URL."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from tests.support.stores import OpenStore, Owner, own, seqs, write
from threadwire.core.errors import WriteConflict
from threadwire.engine.store import Append, CommandChange, RunRecord, Store
from threadwire.stores import MemoryStore, SQLiteStore, open_store

pytestmark = pytest.mark.anyio


def noting(entry: Append, **notes: bytes | None) -> Append:
    return msgspec.structs.replace(entry, notes=tuple(notes.items()))


async def note(owner: Owner, **notes: bytes | None) -> None:
    """An entry with notes alone."""
    assert await write(owner.store, noting(owner.records(), **notes)) == [None]


# notes


async def test_a_thread_has_no_notes_at_first_and_one_that_is_missing_has_none(store: Store) -> None:
    await own(store)
    assert await store.notes("t") == {}
    assert await store.notes("missing") == {}


async def test_notes_are_kept_with_the_update_they_were_written_with(store: Store) -> None:
    owner = await own(store)
    assert await write(store, noting(owner.next(), a=b"1", b=b"")) == [None]
    assert await store.notes("t") == {"a": b"1", "b": b""}
    assert await seqs(store) == [1]


async def test_notes_alone_are_kept_without_an_update(store: Store) -> None:
    owner = await own(store)
    await owner.write(2)
    await note(owner, a=b"\x00\xff")
    assert await store.notes("t") == {"a": b"\x00\xff"}
    assert await seqs(store) == [1, 2]


async def test_a_note_takes_the_place_of_the_one_before_and_leaves_the_others(store: Store) -> None:
    owner = await own(store)
    await note(owner, a=b"1", b=b"2")
    await note(owner, a=b"3", c=b"4")
    assert await store.notes("t") == {"a": b"3", "b": b"2", "c": b"4"}


async def test_none_removes_a_note_whether_there_is_one_or_not(store: Store) -> None:
    owner = await own(store)
    await note(owner, a=b"1", b=b"2")
    await note(owner, a=None, nothing=None)
    assert await store.notes("t") == {"b": b"2"}
    await note(owner, a=b"again")
    assert await store.notes("t") == {"a": b"again", "b": b"2"}


async def test_names_of_notes_are_any_text(store: Store) -> None:
    owner = await own(store)
    names = ("", "é ☃", "a/b", "A", "x" * 1000)
    await note(owner, **{name: name.encode() for name in names})
    assert await store.notes("t") == {name: name.encode() for name in names}


async def test_what_was_read_is_the_readers_own(store: Store) -> None:
    owner = await own(store)
    await note(owner, a=b"1")
    (await store.notes("t")).clear()
    assert await store.notes("t") == {"a": b"1"}


async def test_each_thread_has_its_own_notes(store: Store) -> None:
    one, other = await own(store, "one"), await own(store, "other")
    await note(one, a=b"1")
    await note(other, a=b"2")
    assert (await store.notes("one"), await store.notes("other")) == ({"a": b"1"}, {"a": b"2"})


async def test_notes_are_gone_with_their_thread(store: Store) -> None:
    await note(await own(store), a=b"1")
    assert await store.delete_thread("t") is True
    assert await store.notes("t") == {}
    await own(store)
    assert await store.notes("t") == {}


async def test_notes_outlive_their_owner(open_store: OpenStore) -> None:
    async with open_store() as store:
        await note(await own(store), a=b"1", b=b"2")
    async with open_store() as store:
        assert await store.notes("t") == {"a": b"1", "b": b"2"}
        await note(await own(store), b=None)
        assert await store.notes("t") == {"a": b"1"}


async def test_an_append_that_is_refused_notes_nothing(store: Store) -> None:
    owner = await own(store)
    await owner.write()
    await note(owner, a=b"1")
    of_another_epoch = noting(msgspec.structs.replace(owner.records(), epoch=owner.epoch - 1), a=b"2")
    of_another_head = noting(msgspec.structs.replace(owner.records(), seq=7), a=b"3")
    with_a_gap = noting(msgspec.structs.replace(owner.next(), seq=7), a=b"4")
    refused = await write(store, of_another_epoch, of_another_head, with_a_gap)
    assert [type(error) for error in refused] == [WriteConflict] * 3
    assert await store.notes("t") == {"a": b"1"}


async def test_a_former_owner_notes_nothing(open_store: OpenStore) -> None:
    async with open_store() as store:
        former = await own(store)
        await note(former, a=b"1")
    async with open_store() as store:
        owner = await own(store)
        former.store, former.head = store, owner.head
        (error,) = await write(store, noting(former.records(), a=b"of the past"))
        assert isinstance(error, WriteConflict)
        (error,) = await write(store, noting(former.next(), a=b"of the past"))
        assert isinstance(error, WriteConflict)
        assert await store.notes("t") == {"a": b"1"}


async def test_the_same_append_given_again_notes_the_same(store: Store) -> None:
    owner = await own(store)
    with_update = noting(owner.next(), a=b"1", b=b"2")
    assert await write(store, with_update, with_update) == [None, None]
    alone = noting(owner.records(), b=None)
    assert await write(store, alone, alone) == [None, None]
    assert await store.notes("t") == {"a": b"1"}
    assert await seqs(store) == [1]


async def test_notes_of_one_append_come_with_its_commands_and_its_run(store: Store) -> None:
    owner = await own(store)
    await store.submit("t", "c", b"{}", limit=10, now=1.0)
    applied = (CommandChange(id="c", status="applied", seq=1),)
    run = RunRecord(id="r", status="completed", started_at=1.0)
    assert await write(store, noting(owner.next(commands=applied, run=run), a=b"1")) == [None]
    command = await store.command("t", "c")
    assert command is not None
    assert command.status == "applied"
    assert await store.runs("t", limit=1) == [run]
    assert await store.notes("t") == {"a": b"1"}


# runs


async def test_where_a_run_began_and_how_often_is_kept(open_store: OpenStore) -> None:
    run = RunRecord(id="r", status="running", started_at=1.0, base=7, starts=1)
    async with open_store() as store:
        owner = await own(store)
        assert await write(store, owner.records(run=run)) == [None]
        assert await store.runs("t", limit=1) == [run]
        again = msgspec.structs.replace(run, status="waiting", starts=2)
        assert await write(store, owner.records(run=again)) == [None]
    async with open_store() as store:
        owned = await store.acquire("t", agent=None, now=1.0)
        assert owned is not None
        assert owned.run == again
        assert await store.runs("t", limit=1) == [again]


async def test_a_run_of_no_starts_and_of_a_late_base_is_kept_as_it_is(store: Store) -> None:
    owner = await own(store)
    run = RunRecord(id="r", status="running", started_at=1.0, base=2**40, starts=0)
    assert await write(store, owner.records(run=run)) == [None]
    assert await store.runs("t", limit=1) == [run]


# url


async def test_the_url_of_an_open_store_is_one_that_open_store_reads(store: Store) -> None:
    assert type(open_store(store.url)) is type(store)


def test_memory_stores_say_so() -> None:
    assert MemoryStore().url == "memory:"


@pytest.mark.parametrize("name", ["threads.db", "with space.db", "é%20#.db"])
async def test_the_url_of_a_file_leads_to_it_from_anywhere(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)
    store = SQLiteStore(name)
    async with store:
        await note(await own(store), a=b"1")
        url = store.url
        monkeypatch.chdir(tmp_path / "elsewhere")
        assert store.url == url
    async with open_store(url) as again:
        assert again.url == url
        assert await again.notes("t") == {"a": b"1"}
