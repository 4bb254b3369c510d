"""The threads over HTTP: listed, made, renamed, archived, deleted; their states and logs read.

Nothing here changes a state: commands do. Spec: PROTOCOL.md §14.3 to §14.6.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from typing import Annotated, Final

import anyio.to_thread
import msgspec
from msgspec import UNSET, Meta, UnsetType
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from ..core.codec import Encoding, decode_log, encode_value
from ..core.errors import AgentError, Refused
from ..core.frames import THREAD_ID_PATTERN, Position, RunInfo, Snapshot
from ..core.operations import Json, Operation
from ..core.values import MAX_INTEGER
from ..engine.message import SnapshotMessage
from ..engine.store import Archived, LogRow, LogSlice, ThreadRecord
from ..engine.thread import Thread
from ..engine.threads import Threads, again
from .bodies import check_thread_id, read_body, read_query
from .responses import json_response

MAX_CUSTOM_BYTES: Final = 16 * 1024
"""The most that `custom` may take as JSON: lists show it for each thread."""
MAX_TITLE: Final = 500
"""Characters."""
MAX_HISTORY_BYTES: Final = 8 * 1024 * 1024
"""With more than this, a page of history ends before its limit."""

_SMALL: Final = 64 * 1024
_THREAD_ID: Final = re.compile(THREAD_ID_PATTERN)

Endpoint = Callable[[Request], Awaitable[Response]]
Title = Annotated[str, Meta(max_length=MAX_TITLE)]


class ListQuery(msgspec.Struct, frozen=True):
    limit: Annotated[int, Meta(ge=1, le=200)] = 50
    cursor: str | None = None
    archived: Archived = "exclude"
    agent: str | None = None


class HistoryQuery(msgspec.Struct, frozen=True):
    after: Annotated[int, Meta(ge=0, le=MAX_INTEGER)] | UnsetType = UNSET
    limit: Annotated[int, Meta(ge=1, le=1000)] = 100


class NewThread(msgspec.Struct, frozen=True):
    id: str | None = None
    agent: str | None = None
    title: Title | None = None
    custom: dict[str, Json] = {}


class ThreadChange(msgspec.Struct, frozen=True):
    title: Title | UnsetType | None = UNSET
    archived: bool | UnsetType = UNSET
    custom: dict[str, Json] | UnsetType = UNSET


class State(msgspec.Struct, frozen=True):
    thread: str
    epoch: int
    seq: int
    state: msgspec.Raw
    run: RunInfo | None


class HistoryUpdate(msgspec.Struct, frozen=True):
    epoch: int
    seq: int
    ops: list[Operation]


class History(msgspec.Struct, frozen=True):
    thread: str
    floor: Position
    head: int
    updates: list[HistoryUpdate]


def routes(threads: Threads) -> list[BaseRoute]:
    endpoints = _Endpoints(threads)
    return [
        _route("/threads", GET=endpoints.list, POST=endpoints.create),
        _route("/threads/{id}", GET=endpoints.read, PATCH=endpoints.change, DELETE=endpoints.delete),
        _route("/threads/{id}/archive", POST=endpoints.archive),
        _route("/threads/{id}/unarchive", POST=endpoints.unarchive),
        _route("/threads/{id}/title", POST=endpoints.title),
        _route("/threads/{id}/state", GET=endpoints.state),
        _route("/threads/{id}/history", GET=endpoints.history),
    ]


def _route(path: str, **endpoints: Endpoint) -> Route:
    """One route for all methods of a path, so that a 405 names them all."""

    async def endpoint(request: Request) -> Response:
        return await endpoints["GET" if request.method == "HEAD" else request.method](request)

    return Route(path, endpoint, methods=[*endpoints])


class _Endpoints:
    def __init__(self, threads: Threads) -> None:
        self._threads = threads
        self._store = threads.store
        self._settings = threads.settings

    async def list(self, request: Request) -> Response:
        query = read_query(request, ListQuery)
        try:
            page = await self._store.threads(
                archived=query.archived, agent=query.agent, limit=query.limit, cursor=query.cursor
            )
        except ValueError:
            raise Refused("invalid-request", "not a cursor of this server", "query.cursor") from None
        return json_response(page)

    async def create(self, request: Request) -> Response:
        body = await read_body(request, NewThread, self._settings.limits)
        agent = body.agent if body.agent is not None else self._threads.default_agent
        if body.id is not None:
            check_thread_id(body.id, "body.id")
        if agent not in self._threads.agents:
            raise Refused("not-found", f"no agent {agent[:100]!r} is served here", "body.agent")
        _check_custom(body.custom)
        now = self._settings.clock()
        record = ThreadRecord(
            id=body.id if body.id is not None else self._settings.new_id(),
            agent=agent,
            title=body.title,
            created_at=now,
            updated_at=now,
            custom=body.custom,
        )
        if not await self._store.create(record):
            raise Refused("conflict", "a thread of this id exists", "body.id")
        location = f"{request.scope.get('root_path', '')}/threads/{record.id}"
        return json_response(record, 201, {"Location": location})

    async def read(self, request: Request) -> Response:
        return _record(await self._store.thread(await self._id(request)))

    async def change(self, request: Request) -> Response:
        id = await self._id(request)
        body = await read_body(request, ThreadChange, self._settings.limits)
        if body.custom is not UNSET:
            _check_custom(body.custom)
        if body == ThreadChange():
            return _record(await self._store.thread(id))
        return _record(
            await self._store.update_thread(
                id, title=body.title, archived=body.archived, custom=body.custom, now=self._settings.clock()
            )
        )

    async def delete(self, request: Request) -> Response:
        if not await self._threads.delete(_thread_id(request)):
            raise _no_thread()
        return Response(status_code=204)

    async def archive(self, request: Request) -> Response:
        return await self._set_archived(request, True)

    async def unarchive(self, request: Request) -> Response:
        return await self._set_archived(request, False)

    async def _set_archived(self, request: Request, archived: bool) -> Response:
        id = await self._id(request)
        return _record(await self._store.update_thread(id, archived=archived, now=self._settings.clock()))

    async def state(self, request: Request) -> Response:
        _, message = await self._read_state(request, "json")
        snapshot = message.frame("json")
        assert isinstance(snapshot, Snapshot)
        return json_response(
            State(snapshot.thread, snapshot.epoch, snapshot.seq, snapshot.state, snapshot.run)
        )

    async def title(self, request: Request) -> Response:
        # The body isn't looked at: adapters may send the messages that they show, which the state holds.
        thread, snapshot = await self._read_state(request, "msgpack")
        try:
            title = await thread.agent.make_title(await _decoded(snapshot.state))
        except AgentError as error:
            raise Refused(error.code, error.message) from None
        if title:
            await self._store.update_thread(
                thread.id, title=title.strip()[:MAX_TITLE], now=self._settings.clock()
            )
        return _record(await self._store.thread(thread.id))

    async def history(self, request: Request) -> Response:
        id = await self._id(request)
        query = read_query(request, HistoryQuery)
        after = 0 if query.after is UNSET else query.after
        log = await self._store.log(id, after=after, limit=query.limit)
        if log is None:
            raise _no_thread()
        if query.after is not UNSET and after < log.floor_seq:
            raise Refused("history-gone", f"the log begins after seq {log.floor_seq}", "query.after")
        rows = _page(log.rows)
        if sum(len(row.data) for row in rows) < _SMALL:
            return _history(id, log, rows)
        return await anyio.to_thread.run_sync(_history, id, log, rows)

    async def _read_state(self, request: Request, encoding: Encoding) -> tuple[Thread, SnapshotMessage]:
        async def read() -> tuple[Thread, SnapshotMessage]:
            thread = await self._threads.find(_thread_id(request))
            if thread is None:
                raise _no_thread()
            await thread.be_current()
            return thread, await thread.snapshot(encoding)

        return await again(read)

    async def _id(self, request: Request) -> str:
        """The thread's own id, where the path may have another name of it."""
        id = _thread_id(request)
        name = await self._store.find_name(id)
        return id if name is None else name.id


async def _decoded(state: bytes) -> Json:
    if len(state) < _SMALL:
        return msgspec.msgpack.decode(state)
    return await anyio.to_thread.run_sync(msgspec.msgpack.decode, state)


def _thread_id(request: Request) -> str:
    id = str(request.path_params["id"])
    if not _THREAD_ID.fullmatch(id):
        raise _no_thread()
    return id


def _no_thread() -> Refused:
    return Refused("not-found", "there is no such thread")


def _record(record: ThreadRecord | None) -> Response:
    if record is None:
        raise _no_thread()
    return json_response(record)


def _check_custom(custom: dict[str, Json]) -> None:
    if len(encode_value(custom, "json")) > MAX_CUSTOM_BYTES:
        raise Refused("invalid-request", f"larger than {MAX_CUSTOM_BYTES} bytes", "body.custom")


def _page(rows: list[LogRow]) -> list[LogRow]:
    """The first row, and those after it that fit the page."""
    size = 0
    for count, row in enumerate(rows):
        size += len(row.data)
        if count and size > MAX_HISTORY_BYTES:
            return rows[:count]
    return rows


def _history(id: str, log: LogSlice, rows: list[LogRow]) -> Response:
    return json_response(
        History(
            id,
            Position(log.floor_epoch, log.floor_seq),
            log.head,
            [HistoryUpdate(row.epoch, row.seq, decode_log(row.data)) for row in rows],
        )
    )
