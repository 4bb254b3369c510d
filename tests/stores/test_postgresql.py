"""PostgreSQLStore as a database: its tables and their versions, lost answers, and what is refused."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, suppress
from typing import Any

import asyncpg
import pytest

from tests.support.postgresql import new_database
from tests.support.stores import own, row, seqs, write
from threadwire.core.errors import StoreError, StoreUnavailable, WriteConflict
from threadwire.engine.shared import Place
from threadwire.engine.store import Append, CommandChange, RunRecord
from threadwire.stores import postgresql_bus, postgresql_queries, postgresql_schema
from threadwire.stores.postgresql import PostgreSQLStore
from threadwire.stores.postgresql_bus import PostgreSQLBus

pytestmark = pytest.mark.anyio


@pytest.fixture
async def store() -> AsyncIterator[PostgreSQLStore]:
    async with PostgreSQLStore(new_database()) as store:
        yield store


async def execute(url: str, statement: str) -> None:
    connection = await asyncpg.connect(url)
    await connection.execute(statement)
    await connection.close()


async def test_nodes_that_start_together_make_the_tables_once() -> None:
    url = new_database()
    async with AsyncExitStack() as stack:
        stores = [PostgreSQLStore(url) for _ in range(4)]
        await asyncio.gather(*[stack.enter_async_context(store) for store in stores])
        await (await own(stores[0])).write()
        assert await seqs(stores[3]) == [1]


async def test_a_newer_schema_and_another_applications_tables_are_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    url = new_database()
    newer = (*postgresql_schema.MIGRATIONS, ("ALTER TABLE thread_meta ADD COLUMN colour text",))
    with monkeypatch.context() as patch:
        patch.setattr(postgresql_schema, "MIGRATIONS", newer)
        async with PostgreSQLStore(url):
            pass
    with pytest.raises(StoreError, match="written by a newer version"):
        await PostgreSQLStore(url).__aenter__()
    other = new_database()
    await execute(other, "CREATE TABLE thread (id text)")
    with pytest.raises(StoreError, match="another application"):
        await PostgreSQLStore(other).__aenter__()


async def test_a_store_whose_tables_are_being_filled_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    url = new_database()
    monkeypatch.setattr(postgresql_schema, "LOCK", 7)  # the other is that of other tests, too
    filling = await asyncpg.connect(url)
    await filling.execute("SELECT pg_advisory_lock($1)", postgresql_schema.LOCK)
    with pytest.raises(StoreUnavailable, match="another process has made or filled the database's tables"):
        await PostgreSQLStore(url).__aenter__()
    await filling.close()
    async with PostgreSQLStore(url):
        pass


async def test_poolers_are_asked_for_no_settings_that_they_refuse(store: PostgreSQLStore) -> None:
    settings: list[dict[str, str]] = []
    real = asyncpg.connect

    async def connect(url: str, **options: Any) -> Any:
        settings.append(options.get("server_settings", {}))
        return await real(url, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(asyncpg, "connect", connect)
        async with PostgreSQLStore(store.url):
            pass
    assert settings
    assert all(set(each) <= {"application_name"} for each in settings)
    for pooled in (True, False):
        connection = await (store._opened().pool.acquire() if pooled else store._connect())
        assert await connection.fetchval("SHOW lock_timeout") == "5s"
        assert await connection.fetchval("SHOW idle_in_transaction_session_timeout") == "10s"
        connection.terminate()


async def test_a_migration_that_fails_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    url = new_database()
    async with PostgreSQLStore(url) as store:
        await own(store)
    failing = (*postgresql_schema.MIGRATIONS, ("CREATE TABLE colour (name text)", "no SQL"))
    with monkeypatch.context() as patch:
        patch.setattr(postgresql_schema, "MIGRATIONS", failing)
        with pytest.raises(StoreError):
            await PostgreSQLStore(url).__aenter__()
    async with PostgreSQLStore(url) as store:
        assert await store.thread("t") is not None


@pytest.mark.parametrize("records", [False, True])
async def test_an_append_whose_answer_is_lost_is_written_once(
    store: PostgreSQLStore, monkeypatch: pytest.MonkeyPatch, records: bool
) -> None:
    owner = await own(store)
    await owner.write()
    run = RunRecord(id="r", status="running", started_at=1.0)
    entry = owner.records(run=run) if records else owner.next(run=run)
    real = postgresql_queries.append

    async def lose_the_answer(*args: object) -> object:
        await real(*args)  # type: ignore[arg-type]
        raise ConnectionResetError("the answer is lost")

    with monkeypatch.context() as patch:
        patch.setattr(postgresql_queries, "append", lose_the_answer)
        (error,) = await write(store, entry)
        assert isinstance(error, StoreUnavailable)
    assert await write(store, entry) == [None]
    assert await seqs(store) == ([1] if records else [1, 2])
    await owner.write()


async def test_an_attempt_that_comes_late_changes_nothing(store: PostgreSQLStore) -> None:
    owner = await own(store)
    await store.submit("t", "c", b"{}", limit=10, now=1.0)
    early = owner.records(commands=(CommandChange(id="c", status="running", starts=1),))
    version = store._opened().versions["t"]
    assert await write(store, early) == [None]
    assert await write(store, owner.records(commands=(CommandChange(id="c", status="cancelled"),))) == [None]
    async with store._opened().pool.acquire() as connection:
        (outcome,) = await postgresql_queries.append(connection, [early], [version])
    assert isinstance(outcome, WriteConflict)
    command = await store.command("t", "c")
    assert command is not None
    assert command.status == "cancelled"


async def test_a_thread_with_an_append_of_unknown_outcome_is_taken_under_a_new_epoch(
    store: PostgreSQLStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    owner = await own(store)

    async def fail(*args: object) -> object:
        raise ConnectionResetError("nobody knows")

    with monkeypatch.context() as patch:
        patch.setattr(postgresql_queries, "append", fail)
        await write(store, owner.next())
    again = await own(store)
    assert again.epoch > owner.epoch
    assert (await own(store)).epoch == again.epoch


async def test_an_append_answered_after_its_thread_was_taken_anew_does_not_keep_the_next_from_being_written(
    store: PostgreSQLStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    owner = await own(store)
    real = postgresql_queries.append
    written, taken = asyncio.Event(), asyncio.Event()

    async def slow(*args: object) -> object:
        outcomes = await real(*args)  # type: ignore[arg-type]
        written.set()
        await taken.wait()
        return outcomes

    with monkeypatch.context() as patch:
        patch.setattr(postgresql_queries, "append", slow)
        writing = asyncio.ensure_future(write(store, owner.next()))
        await written.wait()
        again = await own(store)
        taken.set()
        assert await writing == [None]
    assert again.epoch > owner.epoch
    await again.write()


async def test_an_append_that_can_not_be_written_leaves_those_beside_it_alone(store: PostgreSQLStore) -> None:
    owners = [await own(store, f"t{number}") for number in range(5)]
    entries = [owner.next() for owner in owners]
    bad = RunRecord(id="\0", status="running", started_at=1.0)
    entries[2] = Append(thread="t2", epoch=owners[2].epoch, seq=1, data=row(1), run=bad)
    errors = await write(store, *entries)
    assert [type(error) for error in errors] == [type(None)] * 2 + [StoreError] + [type(None)] * 2
    assert await seqs(store, "t2") == []


async def test_lost_connections_are_replaced(store: PostgreSQLStore) -> None:
    owner = await own(store)
    async with store.bus:
        await execute(
            store.url,
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE application_name = 'threadwire' AND pid <> pg_backend_pid()",
        )
        entry = owner.next()
        for _ in range(5):
            (error,) = await write(store, entry)
            if error is None:
                break
            assert isinstance(error, StoreUnavailable)
        assert error is None
        assert await store.thread("t") is not None
        await store.check()


async def test_a_connection_that_ends_while_the_driver_looks_away_is_an_outage(
    store: PostgreSQLStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    owner = await own(store)
    used: list[object] = []

    async def confused(db: object, *args: object, **kwargs: object) -> object:
        used.append(db)
        raise asyncpg.InternalClientError("cannot switch to state 11; another operation (2) is in progress")

    with monkeypatch.context() as patch:
        patch.setattr(postgresql_queries, "append", confused)
        patch.setattr(postgresql_queries, "find_thread", confused)
        patch.setattr(postgresql_queries, "follow", confused)
        assert [type(error) for error in await write(store, owner.next())] == [StoreUnavailable]
        with pytest.raises(StoreUnavailable):
            await store.thread("t")
        with pytest.raises(StoreUnavailable):
            await store.follow([Place(thread="t", after=0)], rows=1)
    assert len(used) > 3  # what only reads is tried again
    assert await store.thread("t") is not None
    assert await store.follow([Place(thread="t", after=0)], rows=1)
    owner = await own(store)
    assert await write(store, owner.next()) == [None]


async def test_a_database_that_is_not_there_is_one_line_without_the_password() -> None:
    with pytest.raises(StoreUnavailable) as caught:
        await PostgreSQLStore("postgresql://user:secret@127.0.0.1:1/threads").__aenter__()
    assert "secret" not in str(caught.value)
    assert "\n" not in str(caught.value)


async def test_a_store_that_is_not_open_is_unavailable() -> None:
    store = PostgreSQLStore("postgresql://127.0.0.1:1/threads")
    errors: list[Exception | None] = []
    store.append(Append(thread="t", epoch=1, seq=1, data=b"\x90"), errors.append)
    assert isinstance(errors[0], StoreUnavailable)
    with pytest.raises(StoreUnavailable, match="is not open"):
        await store.thread("t")


async def test_a_queue_of_notifications_that_is_full_is_told_once_and_got_over(
    store: PostgreSQLStore, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    full, tries, heard = True, asyncio.Semaphore(0), asyncio.Event()

    class Connection(asyncpg.Connection):  # type: ignore[misc]
        async def execute(self, query: str, *args: object, **options: object) -> str:
            if "pg_notify" in query:
                tries.release()
                if full:
                    raise asyncpg.ProgramLimitExceededError("too many notifications in the NOTIFY queue")
            return str(await super().execute(query, *args, **options))

    async def connect() -> object:
        return await asyncpg.connect(store.url, connection_class=Connection)

    monkeypatch.setattr(postgresql_bus, "_RETRY_S", 0.01)
    async with (
        PostgreSQLBus(connect, node="a", name="n") as one,
        PostgreSQLBus(connect, node="b", name="n") as two,
    ):
        two.on_message = lambda message: heard.set()
        for _ in range(3):
            one.send("b", "lost")
            await asyncio.wait_for(tries.acquire(), 60)
        full = False
        while not heard.is_set():
            one.send("b", "news")
            await asyncio.wait_for(tries.acquire(), 60)
            with suppress(TimeoutError):
                await asyncio.wait_for(heard.wait(), 1)
    (told,) = [each.getMessage() for each in caplog.records if each.name == "threadwire"]
    assert "too many notifications" in told
