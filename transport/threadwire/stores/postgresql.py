"""The store for many nodes: one PostgreSQL database that all of them have open.

Appends and submits have a connection each, over which they go many to a statement (`postgresql_lane`); all
else takes one from a pool. The statements are in `postgresql_queries`.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Any, Concatenate, Final, Generic, ParamSpec, Self, TypeVar

import asyncpg
import msgspec

from ..core.errors import StoreError, StoreUnavailable, WriteConflict
from ..core.frames import Strategy
from ..core.operations import Json
from ..engine.shared import Arrival, Elsewhere, Place, Progress, Standing
from ..engine.store import (
    Append,
    Archived,
    CommandRecord,
    Done,
    LogSlice,
    OtherName,
    Owned,
    RunRecord,
    StoredSnapshot,
    Submission,
    ThreadName,
    ThreadPage,
    ThreadRecord,
)
from . import postgresql_queries as queries
from .cursors import read_cursor
from .postgresql_bus import PostgreSQLBus
from .postgresql_errors import FAULTS, is_momentary, is_outage, store_error
from .postgresql_lane import Lane
from .postgresql_schema import migrate

P = ParamSpec("P")
T = TypeVar("T")

LEASE_S: Final = 5.0
CONNECT_S: Final = 10.0
STATEMENT_S: Final = 30.0
"""How long the database may take for a statement before its connection is given up."""
POOL: Final = 6
"""Connections beside the five that each node holds."""
_ATTEMPTS: Final = 3

_NAME: Final = {"application_name": "threadwire"}
# What a connection must never do, whoever is at fault: hold a lock while nothing comes. Not said as it
# begins, since poolers take no such settings then.
_SESSION: Final = """
SET idle_in_transaction_session_timeout = '10s';
SET lock_timeout = '5s';
SET tcp_keepalives_idle = 5;
SET tcp_keepalives_interval = 2;
SET tcp_keepalives_count = 3"""


class _Connection(asyncpg.Connection):  # type: ignore[misc]
    def get_reset_query(self) -> str:
        """Nothing is ever set on a connection of the pool: this spares each query a round trip."""
        return ""


class PostgreSQLStore:
    """A SharedStore in the database that `url` names; each opening of it is another node.

    Its tables are in the connection's first schema (`?options=-csearch_path%3Dname` names another than
    `public`). `lease_s`: how long a thread stays with a node that gives no sign of life.
    """

    def __init__(self, url: str, *, lease_s: float = LEASE_S) -> None:
        self._url = url
        self._lease_s = lease_s
        self._open: _Open | None = None

    @property
    def url(self) -> str:
        return self._url

    @property
    def node(self) -> str:
        return self._opened().node

    @property
    def lease_s(self) -> float:
        return self._lease_s

    @property
    def bus(self) -> PostgreSQLBus:
        return self._opened().bus

    async def __aenter__(self) -> Self:
        try:
            first = await self._connect()
            try:
                name = await migrate(first)
            finally:
                first.terminate()
            self._open = await _Open.start(self._connect, self._url, name)
        except StoreError:
            raise
        except (*FAULTS, ValueError) as error:
            raise store_error(error) from error
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        opened, self._open = self._open, None
        if opened is not None:
            await opened.stop()

    async def _connect(self) -> Any:
        connection = await asyncpg.connect(
            self._url, timeout=CONNECT_S, command_timeout=STATEMENT_S, server_settings=_NAME
        )
        try:
            await _begin_session(connection)
        except BaseException:
            connection.terminate()
            raise
        return connection

    # owner

    async def acquire(self, thread: str, *, agent: str | None, now: float) -> Owned | None:
        taken = await self.take(thread, agent=agent, now=now)
        if isinstance(taken, Elsewhere):
            raise StoreUnavailable(f"thread {thread} is with another node")
        return taken

    async def take(self, thread: str, *, agent: str | None, now: float) -> Owned | Elsewhere | None:
        opened = self._opened()
        while True:
            # An append that may still be under way must not come after what is read now.
            anew = thread in opened.uncertain or opened.appending.get(thread, 0) > 0
            taken = await self._query(
                queries.take,
                thread,
                node=opened.node,
                lease_s=self._lease_s,
                agent=agent,
                now=now,
                anew=anew,
            )
            if isinstance(taken, ThreadName):
                raise OtherName(taken.id)
            if isinstance(taken, Owned):
                opened.versions[thread] = 0
            if not isinstance(taken, tuple):
                return taken
            epoch, version = taken
            opened.versions[thread] = version
            opened.uncertain.discard(thread)
            owned = await self._query(queries.load, thread, epoch, version)
            if owned is not None:  # else it was deleted or taken in between
                return owned

    def append(self, entry: Append, done: Done) -> None:
        if self._open is None:
            done(self._closed())
        else:
            self._open.appends.put(_AppendJob(self._open, entry, done))

    async def renew(self, epochs: Mapping[str, int]) -> set[str]:
        if not epochs:
            return set()
        opened = self._opened()
        # In line with the appends: two statements over the same threads could lock each other out.
        renewed: asyncio.Future[set[str]] = asyncio.get_running_loop().create_future()
        opened.appends.put(_Renewal(opened.node, self._lease_s, epochs, renewed))
        return await renewed

    async def release(self, thread: str, epoch: int, *, parked: bool) -> None:
        self._opened().versions.pop(thread, None)
        await self._query(queries.release, self.node, thread, epoch, parked=parked)

    async def orphans(self, agents: Sequence[str], *, limit: int) -> list[str]:
        return await self._query(queries.orphans, agents, limit)

    # commands and runs

    async def submit(
        self,
        thread: str,
        command: str,
        body: bytes,
        *,
        context: bytes | None = None,
        limit: int,
        now: float,
        strategy: Strategy = "enqueue",
        origin: str | None = None,
    ) -> Submission | None:
        submitted: asyncio.Future[Submission | KeyError | None] = asyncio.get_running_loop().create_future()
        entry = queries.Submit(thread, command, body, limit, now, strategy, origin, context)
        self._opened().submits.put(_SubmitJob(entry, submitted))
        outcome = await submitted
        if isinstance(outcome, KeyError):
            raise outcome
        return outcome

    async def command(self, thread: str, command: str) -> CommandRecord | None:
        return await self._query(queries.find_command, thread, command)

    async def arrivals(self, threads: Sequence[str]) -> dict[str, list[str]]:
        return await self._query(queries.arrivals, threads)

    async def read_arrivals(self, thread: str, ids: Sequence[str]) -> list[Arrival]:
        return await self._query(queries.read_arrivals, thread, ids)

    async def notes(self, thread: str) -> dict[str, bytes]:
        return await self._query(queries.notes, thread)

    async def runs(self, thread: str, *, limit: int) -> list[RunRecord]:
        return await self._query(queries.runs, thread, limit)

    async def unfinished(self) -> list[str]:
        return await self._query(queries.unfinished)

    # log and snapshots

    async def follow(self, places: Sequence[Place], *, rows: int) -> dict[str, Progress]:
        return await self._opened().following.run(queries.follow, places, rows)

    async def post(self, node: str, message: str) -> None:
        await self._query(queries.post, node, message)

    async def mail(self) -> list[str]:
        return await self._query(queries.mail, self.node)

    async def standings(self, threads: Sequence[str]) -> list[Standing]:
        return await self._query(queries.standings, threads)

    async def log(self, thread: str, *, after: int, limit: int) -> LogSlice | None:
        return await self._query(queries.log, thread, after, limit)

    async def row_epoch(self, thread: str, seq: int) -> int | None:
        return await self._query(queries.row_epoch, thread, seq)

    async def save_snapshot(self, thread: str, snapshot: StoredSnapshot, *, keep_after: int) -> None:
        older = await self._query(queries.save_snapshot, thread, snapshot)
        if older is not None:
            floor = min(keep_after, older)
            while await self._query(queries.trim, thread, floor):
                pass

    async def snapshot_before(self, thread: str, seq: int) -> StoredSnapshot | None:
        return await self._query(queries.snapshot_before, thread, seq)

    # thread records

    async def create(self, record: ThreadRecord, *, anonymous: bool = False) -> bool:
        return await self._query(queries.create, record, anonymous=anonymous)

    async def find_name(self, id: str) -> ThreadName | None:
        return await self._query(queries.find_name, id)

    async def bind(self, name: str, thread: str, *, keep: bool) -> bool:
        return await self._query(queries.bind, name, thread, keep=keep)

    async def anonymous_before(self, time: float, *, limit: int) -> list[str]:
        return await self._query(queries.anonymous_before, time, limit)

    async def thread(self, thread: str) -> ThreadRecord | None:
        return await self._query(queries.find_thread, thread)

    async def threads(
        self, *, archived: Archived, agent: str | None, limit: int, cursor: str | None
    ) -> ThreadPage:
        after = None if cursor is None else read_cursor(cursor)
        return await self._query(
            queries.find_threads, archived=archived, agent=agent, limit=limit, after=after
        )

    async def update_thread(
        self,
        thread: str,
        *,
        title: str | msgspec.UnsetType | None = msgspec.UNSET,
        archived: bool | msgspec.UnsetType = msgspec.UNSET,
        custom: dict[str, Json] | msgspec.UnsetType = msgspec.UNSET,
        now: float,
    ) -> ThreadRecord | None:
        return await self._query(
            queries.update_thread, thread, title=title, archived=archived, custom=custom, now=now
        )

    async def delete_thread(self, thread: str) -> bool:
        return await self._query(queries.delete_thread, thread)

    async def check(self) -> None:
        # A lease on nothing, by way of the connection that all appends take.
        await self.renew({"": 0})

    # inside

    def _opened(self) -> _Open:
        if self._open is None:
            raise self._closed()
        return self._open

    def _closed(self) -> StoreUnavailable:
        return StoreUnavailable("the database is not open")

    async def _query(
        self, query: Callable[Concatenate[Any, P], Awaitable[T]], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Carries out a query whose repetition does no harm."""
        pool = self._opened().pool
        attempt = 0
        while True:
            attempt += 1
            try:
                async with pool.acquire(timeout=CONNECT_S) as connection:
                    return await query(connection, *args, **kwargs)
            except StoreError:
                raise
            except FAULTS as error:
                # Idle connections of a database that was restarted are found out by using them.
                again = is_momentary(error) or (is_outage(error) and not isinstance(error, TimeoutError))
                if not again or attempt == _ATTEMPTS:
                    raise store_error(error) from error
            if self._open is None:
                raise self._closed()


async def _begin_session(connection: Any) -> None:
    await connection.execute(_SESSION)


class _Open:
    """What a store has while it is open."""

    def __init__(self, connect: Callable[[], Awaitable[Any]], pool: Any, name: str) -> None:
        self.node = secrets.token_hex(6)
        self.pool = pool
        self.appends: Lane[_AppendJob | _Renewal] = Lane(connect, self._write)
        self.submits: Lane[_SubmitJob] = Lane(connect, _submit)
        self.bus = PostgreSQLBus(connect, node=self.node, name=name)
        self.following = _Direct(connect)
        self.uncertain: set[str] = set()
        """Threads with an append that may have been written, or may yet be."""
        self.versions: dict[str, int] = {}
        """Of threads that this node has taken, as after its last append that is known to be written."""
        self.appending: dict[str, int] = {}
        """Of threads, how many appends are under way."""

    @classmethod
    async def start(cls, connect: Callable[[], Awaitable[Any]], url: str, name: str) -> _Open:
        async with AsyncExitStack() as stack:
            pool = await asyncpg.create_pool(
                url,
                min_size=0,  # else the pool looks after them itself, and logs what we answer
                max_size=POOL,
                timeout=CONNECT_S,
                command_timeout=STATEMENT_S,
                server_settings=_NAME,
                init=_begin_session,
                connection_class=_Connection,
            )
            stack.callback(pool.terminate)
            opened = cls(connect, pool, name)
            await opened.appends.start()
            stack.push_async_callback(opened.appends.stop)
            await opened.submits.start()
            stack.pop_all()
        return opened

    async def _write(self, connection: Any, jobs: list[_AppendJob | _Renewal]) -> list[Any]:
        outcomes: list[Any] = []
        entries = [job.entry for job in jobs if isinstance(job, _AppendJob)]
        versions = [self.versions.get(entry.thread) for entry in entries]
        written = iter(await queries.append(connection, entries, versions) if entries else ())
        known = dict(zip((entry.thread for entry in entries), versions, strict=True))
        for job in jobs:
            if isinstance(job, _Renewal):
                outcomes.append(await queries.renew(connection, *job.args))
                continue
            outcome = next(written)
            if isinstance(outcome, WriteConflict):
                outcomes.append(outcome)
                continue
            outcomes.append(None)
            thread = job.entry.thread
            if thread in self.versions and self.versions[thread] == known[thread]:  # else it was taken anew
                self.versions[thread] = outcome
        return outcomes

    async def stop(self) -> None:
        await self.appends.stop()
        await self.submits.stop()
        self.following.close()
        try:
            async with self.pool.acquire(timeout=1) as connection:
                await queries.release_all(connection, self.node)
        except FAULTS:
            pass  # the leases end by themselves
        try:
            await asyncio.wait_for(self.pool.close(), 2)
        except FAULTS:
            self.pool.terminate()


class _Direct:
    """A connection for one query at a time: what is asked for every few milliseconds needs no pool."""

    def __init__(self, connect: Callable[[], Awaitable[Any]]) -> None:
        self._connect = connect
        self._connection: Any = None
        self._turn = asyncio.Lock()

    async def run(
        self, query: Callable[Concatenate[Any, P], Awaitable[T]], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        async with self._turn:
            try:
                if self._connection is None or self._connection.is_closed():
                    self._connection = await self._connect()
                return await query(self._connection, *args, **kwargs)
            except FAULTS as error:
                self.close()
                raise store_error(error) from error
            except asyncio.CancelledError:
                self.close()  # its answer is still to come
                raise

    def close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None and not connection.is_closed():
            connection.terminate()


class _AppendJob:
    __slots__ = ("_done", "_opened", "entry")

    def __init__(self, opened: _Open, entry: Append, done: Done) -> None:
        self.entry = entry
        self._opened = opened
        self._done = done
        opened.appending[entry.thread] = opened.appending.get(entry.thread, 0) + 1

    @property
    def key(self) -> str:
        return self.entry.thread

    @property
    def size(self) -> int:
        return len(self.entry.data or b"")

    def settle(self, outcome: WriteConflict | None, error: Exception | None) -> None:
        opened, thread = self._opened, self.entry.thread
        opened.appending[thread] -= 1
        if not opened.appending[thread]:
            del opened.appending[thread]
        if error is not None or outcome is not None:
            opened.uncertain.add(thread)
        self._done(error or outcome)


class _Settled(Generic[T]):
    def __init__(self, future: asyncio.Future[T]) -> None:
        self._future = future

    def settle(self, outcome: T, error: Exception | None) -> None:
        if self._future.done():  # its caller was cancelled; the work is done all the same
            return
        if error is None:
            self._future.set_result(outcome)
        else:
            self._future.set_exception(error)


class _Renewal(_Settled[set[str]]):
    key = None
    size = 0

    def __init__(
        self, node: str, lease_s: float, epochs: Mapping[str, int], future: asyncio.Future[set[str]]
    ) -> None:
        super().__init__(future)
        self.args = (node, lease_s, dict(epochs))


class _SubmitJob(_Settled[Submission | KeyError | None]):
    def __init__(self, entry: queries.Submit, future: asyncio.Future[Submission | KeyError | None]) -> None:
        super().__init__(future)
        self.entry = entry
        self.key = entry.thread
        self.size = len(entry.body)


async def _submit(connection: Any, jobs: list[_SubmitJob]) -> list[Any]:
    return list(await queries.submit(connection, [job.entry for job in jobs]))
