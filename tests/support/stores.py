"""Stores under test: one factory per store, and appends that can be awaited."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Final, TypeAlias

import anyio

from tests.support.postgresql import new_database
from threadwire.core.codec import encode_log
from threadwire.core.operations import Set
from threadwire.engine.store import (
    Append,
    CommandChange,
    LogRow,
    Owned,
    RunRecord,
    Store,
    StoredSnapshot,
)
from threadwire.stores import MemoryStore, SQLiteStore

OpenStore: TypeAlias = Callable[[], Store]
"""Each call is a store over the same threads, to be entered as another owner of them."""


def _memory(directory: Path) -> OpenStore:
    store = MemoryStore()
    return lambda: store


def _sqlite(directory: Path) -> OpenStore:
    # With a clock that stands still, epochs grow by what the file remembers alone.
    return lambda: SQLiteStore(directory / "threads.db", clock=lambda: 0.0)


def _postgresql(directory: Path) -> OpenStore:
    url = new_database()
    from threadwire.stores.postgresql import PostgreSQLStore

    return lambda: PostgreSQLStore(url)


STORES: Final[dict[str, Callable[[Path], OpenStore]]] = {
    "memory": _memory,
    "sqlite": _sqlite,
    "postgresql": _postgresql,
}
"""The stores that the contract suite runs over."""

TAKEOVER: Final = encode_log(())
TIMEOUT_S: Final = 60


def row(number: int) -> bytes:
    """The data of a log row, different for each number."""
    return encode_log([Set(("n",), number)])


async def write(store: Store, *entries: Append) -> list[Exception | None]:
    """Appends them one behind the other without waiting in between; what `done` was called with."""
    loop = asyncio.get_running_loop()
    results = [loop.create_future() for _ in entries]
    for entry, result in zip(entries, results, strict=True):
        store.append(entry, result.set_result)
    with anyio.fail_after(TIMEOUT_S):
        return [await result for result in results]


class Owner:
    """Writes a thread as its owner does, keeping count of the head."""

    def __init__(self, store: Store, owned: Owned) -> None:
        self.store = store
        self.id = owned.record.id
        self.epoch = owned.epoch
        self.head = owned.head

    def next(
        self,
        *,
        commands: tuple[CommandChange, ...] = (),
        run: RunRecord | None = None,
        now: float = 2000.0,
    ) -> Append:
        """The entry of the next row."""
        self.head += 1
        return Append(
            thread=self.id,
            epoch=self.epoch,
            seq=self.head,
            data=row(self.head),
            commands=commands,
            run=run,
            now=now,
        )

    def records(self, *, commands: tuple[CommandChange, ...] = (), run: RunRecord | None = None) -> Append:
        """An entry without a row."""
        return Append(thread=self.id, epoch=self.epoch, seq=self.head, commands=commands, run=run, now=3000.0)

    async def write(self, count: int = 1, *, now: float = 2000.0) -> None:
        assert await write(self.store, *[self.next(now=now) for _ in range(count)]) == [None] * count


async def own(store: Store, thread: str = "t", *, now: float = 1000.0) -> Owner:
    """The thread's owner; a thread that doesn't exist is made for the agent "a"."""
    owned = await store.acquire(thread, agent="a", now=now)
    assert owned is not None
    return Owner(store, owned)


async def rows(store: Store, thread: str = "t", *, after: int = 0, limit: int = 1000) -> list[LogRow]:
    """Of a thread that exists."""
    found = await store.log(thread, after=after, limit=limit)
    assert found is not None
    return found.rows


async def seqs(store: Store, thread: str = "t", *, after: int = 0, limit: int = 1000) -> list[int]:
    return [each.seq for each in await rows(store, thread, after=after, limit=limit)]


def snapshot_of(owner: Owner, seq: int) -> StoredSnapshot:
    return StoredSnapshot(seq, owner.epoch, b"state %d" % seq)
