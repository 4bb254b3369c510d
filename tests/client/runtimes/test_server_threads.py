"""The threads of a server as a list's adapter."""

from __future__ import annotations

import httpx
import pytest

import threadwire
from tests.support.http import http_client
from threadwire.client import Refused
from threadwire.client.runtimes.server_threads import ServerThreads, first_line
from threadwire.messages.like import from_thread_message_like

pytestmark = pytest.mark.anyio


@threadwire.agent
async def echo(run: threadwire.Run) -> None:
    """Does nothing."""


async def test_threads_are_made_changed_listed_and_deleted() -> None:
    async with http_client(echo) as (client, _):
        threads = ServerThreads(client, agent="echo")
        for id in ("a", "b", "c"):
            assert (await threads.initialize(id)).remote_id == id
        assert (await threads.initialize("a")).remote_id == "a"
        await threads.rename("a", "First")
        await threads.archive("b")
        await threads.update_custom("c", {"pinned": True})
        listed = {thread.remote_id: thread for thread in (await threads.list()).threads}
        assert set(listed) == {"a", "b", "c"}
        assert (listed["a"].title, listed["b"].status) == ("First", "archived")
        assert listed["c"].custom == {"pinned": True}
        assert listed["c"].last_message_at is not None
        await threads.unarchive("b")
        assert (await threads.fetch("b")).status == "regular"
        await threads.delete("b")
        with pytest.raises(Refused) as caught:
            await threads.fetch("b")
        assert caught.value.code == "not-found"


async def test_list_goes_on_from_its_cursor() -> None:
    async with http_client(echo) as (client, _):
        threads = ServerThreads(client)
        for index in range(60):
            await threads.initialize(f"t{index}")
        first = await threads.list()
        second = await threads.list(first.next_cursor)
        assert len({thread.remote_id for thread in (*first.threads, *second.threads)}) == 60
        assert second.next_cursor is None


async def test_title_is_the_first_line_and_kept() -> None:
    async with http_client(echo) as (client, _):
        threads = ServerThreads(client)
        await threads.initialize("a")
        messages = [from_thread_message_like({"role": "user", "content": "  Hello there \nmore"})]
        assert await threads.generate_title("a", messages) == "Hello there"
        assert (await threads.fetch("a")).title == "Hello there"
    long = from_thread_message_like({"role": "user", "content": "x" * 100})
    assert len(first_line([long]) or "") == 60
    assert first_line([]) is None


async def test_answer_that_is_none_of_the_servers_is_raised_as_httpx_does() -> None:
    transport = httpx.MockTransport(lambda request: httpx.Response(502, text="bad gateway"))
    async with httpx.AsyncClient(transport=transport, base_url="http://x") as client:
        with pytest.raises(httpx.HTTPStatusError):
            await ServerThreads(client).list()
