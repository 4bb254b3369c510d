"""The threads of a Threadwire server as a thread list's adapter, over HTTP. Spec: PROTOCOL.md §14.3."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

import msgspec

from ...core.errors import ErrorInfo, Refused
from ...core.operations import Json
from ...messages.model import ThreadMessage, ThreadUserMessage, message_text
from .calling import call
from .thread_list import InitializedThread, RemoteThread, ThreadPage

if TYPE_CHECKING:
    import httpx

_TITLE_CHARACTERS: Final = 60


class _Record(msgspec.Struct, frozen=True):
    id: str
    agent: str
    title: str | None
    archived: bool
    updated_at: float
    custom: dict[str, Json]


class _Page(msgspec.Struct, frozen=True):
    threads: list[_Record]
    cursor: str | None = None


class _Failure(msgspec.Struct, frozen=True):
    error: ErrorInfo


class ServerThreads:
    """Threads of the server that `client` is for: `httpx.AsyncClient(base_url="http://...")`.

    New ones are made for `agent` (default: the server's first); lists show all agents' threads
    unless `only_agent`. `make_title` makes a title of messages; by default the agent does, and for
    one that doesn't it is the first line that the user wrote.

    What the server refuses is raised as `Refused`; what httpx raises stays what it is.
    """

    def __init__(
        self,
        client: httpx.AsyncClient,
        *,
        agent: str | None = None,
        only_agent: bool = False,
        make_title: Callable[[Sequence[ThreadMessage]], Awaitable[str | None] | str | None] | None = None,
    ) -> None:
        self._client = client
        self._agent = agent
        self._filter = {"agent": agent} if only_agent and agent is not None else {}
        self._make_title = make_title

    async def list(self, after: str | None = None) -> ThreadPage:
        """The most recently changed threads, archived ones among them."""
        cursor = {} if after is None else {"cursor": after}
        body = await self._ask("GET", "/threads", params={"archived": "include", **self._filter, **cursor})
        page = msgspec.json.decode(body, type=_Page)
        return ThreadPage(threads=tuple(map(_remote, page.threads)), next_cursor=page.cursor)

    async def initialize(self, thread_id: str) -> InitializedThread:
        """Makes the thread under the id it has here; one that is there already is the one."""
        agent = {} if self._agent is None else {"agent": self._agent}
        try:
            await self._ask("POST", "/threads", json={"id": thread_id, **agent})
        except Refused as error:
            if error.code != "conflict":
                raise
        return InitializedThread(remote_id=thread_id)

    async def rename(self, remote_id: str, title: str) -> None:
        """Gives the thread a title."""
        await self._ask("PATCH", f"/threads/{remote_id}", json={"title": title})

    async def update_custom(self, remote_id: str, custom: dict[str, Json] | None) -> None:
        """Gives the thread other custom data."""
        await self._ask("PATCH", f"/threads/{remote_id}", json={"custom": custom or {}})

    async def archive(self, remote_id: str) -> None:
        """Puts the thread away."""
        await self._ask("POST", f"/threads/{remote_id}/archive")

    async def unarchive(self, remote_id: str) -> None:
        """Takes the thread out again."""
        await self._ask("POST", f"/threads/{remote_id}/unarchive")

    async def delete(self, remote_id: str) -> None:
        """Removes the thread."""
        await self._ask("DELETE", f"/threads/{remote_id}")

    async def fetch(self, remote_id: str) -> RemoteThread:
        """The thread's record."""
        return _remote(msgspec.json.decode(await self._ask("GET", f"/threads/{remote_id}"), type=_Record))

    async def generate_title(self, remote_id: str, messages: Sequence[ThreadMessage]) -> str | None:
        """A title, which the thread has then."""
        if self._make_title is None:
            try:
                body = await self._ask("POST", f"/threads/{remote_id}/title")
                title = msgspec.json.decode(body, type=_Record).title
            except Refused as error:
                if error.code != "not-found":
                    raise
                title = None
            if title:
                return title
        title = await call(self._make_title or first_line, messages)
        if title:
            await self.rename(remote_id, title)
        return title

    async def _ask(self, method: str, path: str, **options: Any) -> bytes:
        response = await self._client.request(method, path, **options)
        if response.is_success:
            return response.content
        try:
            error = msgspec.json.decode(response.content, type=_Failure).error
        except msgspec.DecodeError:
            response.raise_for_status()
            raise
        raise Refused(error.code, error.message, error.field)


def first_line(messages: Sequence[ThreadMessage]) -> str | None:
    """The first line that a user wrote, cut to the length of a title."""
    for message in messages:
        lines = message_text(message).strip().splitlines() if isinstance(message, ThreadUserMessage) else []
        if lines:
            line = lines[0].strip()
            return line if len(line) <= _TITLE_CHARACTERS else line[: _TITLE_CHARACTERS - 1].rstrip() + "…"
    return None


def _remote(record: _Record) -> RemoteThread:
    return RemoteThread(
        remote_id=record.id,
        status="archived" if record.archived else "regular",
        external_id=record.id,
        title=record.title,
        last_message_at=datetime.fromtimestamp(record.updated_at, UTC),
        custom=record.custom,
    )
