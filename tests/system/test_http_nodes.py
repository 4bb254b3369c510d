"""HTTP clients of one node in mid-stream, while the node that has their threads dies, stops or hangs.

A stream goes on with the exact state, or ends in a way that its client takes for no success; coming back
then gives the rest, to the letter.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest

from tests.support.cluster import Node, cluster
from tests.support.postgresql import new_database
from tests.support.server import Client
from tests.support.stock_client import PROTOCOLS, Broken, body
from tests.support.streams import ChatStream, Stream, chat, post, until_run

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.spec("4.6"),
    pytest.mark.spec("14.10"),
    pytest.mark.spec("14.14"),
]

LEASE_S = 2.0
CHATS = ("data-stream", "ui-message-stream")


class Streams:
    """One of each kind, on a thread of its own.

    Attributes:
        by_thread: those that a block has opened.
    """

    def __init__(self, http: httpx.AsyncClient, owner: Node, reader: Node) -> None:
        self.owner = owner
        self.reader = reader
        self.by_thread: dict[str, Stream | ChatStream] = {}
        self._http = http
        self._stack = AsyncExitStack()
        self._client: Client

    async def open(self, text: str) -> None:
        """The threads are the owner's, where a client has them open; the streams are at the reader."""
        self._client = await self._stack.enter_async_context(self.owner.client())
        for protocol in PROTOCOLS:
            await self._own(f"sent-{protocol}")
            asked = body(text, threadId=f"sent-{protocol}")
            await self._add(f"sent-{protocol}", post(self.reader, self._http, asked, protocol=protocol))
            thread = f"resumed-{protocol}"
            await self._own(thread)
            await self._client.say(thread, f"c-{thread}", text)
            await self._client.until_run(thread, "running")
            again = post(self.reader, self._http, {"threadId": thread}, path="/resume", protocol=protocol)
            await self._add(thread, again)
        for format in CHATS:
            thread = f"chat-{format}"
            await self._own(thread)
            await self._add(thread, chat(self.reader, self._http, text, thread=thread, format=format))
        await self._open_anonymous(text)
        for stream in self.by_thread.values():
            await stream.until(lambda stream=stream: len(stream.text) > 10)  # type: ignore[misc]

    async def _open_anonymous(self, text: str) -> None:
        async with post(self.owner, self._http, body("hello")) as first:
            await first.end()
        asked = body(text, state=first.reader.state, threadId="a-name-of-it")
        async with AsyncExitStack() as stack:
            stream = await stack.enter_async_context(post(self.reader, self._http, asked))
            self._stack.push_async_exit(stack.pop_all())
        thread = first.reader.state["threadwire"]["thread"]
        assert stream.response.headers["threadwire-thread"] == thread
        self.by_thread[thread] = stream

    async def _own(self, thread: str) -> None:
        view = await self._client.open(thread)
        await self._client.until(lambda: view.seq >= 0)

    async def _add(self, thread: str, stream: Any) -> None:
        self.by_thread[thread] = await self._stack.enter_async_context(stream)

    async def close(self) -> None:
        await self._stack.aclose()

    async def end(self) -> None:
        """Returns when all have ended in order."""
        async with anyio.create_task_group() as group:
            for stream in self.by_thread.values():
                group.start_soon(stream.end)

    async def check(self, *, errors: int) -> None:
        """All that was shown is there, nothing else is, and who comes back sees the same."""
        for thread, stream in self.by_thread.items():
            assert len(stream.errors) == errors, (thread, stream.errors)
            state = (await self.reader.state(thread))["state"]
            assert stream.text == state["messages"][-1]["content"], thread
            if isinstance(stream, Stream):
                assert stream.reader.state == state, thread
            for protocol in PROTOCOLS:
                again = {"threadId": thread}
                async with post(self.reader, self._http, again, path="/resume", protocol=protocol) as resumed:
                    reader = await resumed.end()
                assert reader.state == state
                assert len(reader.errors) == errors


@asynccontextmanager
async def streams(text: str, owner: Node, reader: Node) -> AsyncIterator[Streams]:
    async with httpx.AsyncClient(timeout=60) as http:
        opened = Streams(http, owner, reader)
        try:
            await opened.open(text)
            yield opened
        finally:
            await opened.close()


@asynccontextmanager
async def nodes(tmp: Path, count: int, *args: str, **options: Any) -> AsyncIterator[list[Node]]:
    options = {"lease_s": LEASE_S, **options}
    async with cluster(tmp, new_database(), count, *args, **options) as running:
        yield running
        for node in running:
            assert "Traceback" not in node.log(), node.log()


def numbers(count: int) -> str:
    return "".join(f"{number} " for number in range(1, count + 1))


async def test_streams_of_a_node_go_on_when_the_owner_is_killed_and_tell_of_the_failure(
    tmp_path: Path,
) -> None:
    async with nodes(tmp_path, 2) as (owner, reader), streams("count 5000 every 10", owner, reader) as opened:
        await owner.kill()
        await opened.end()
        await opened.check(errors=1)
        for thread in opened.by_thread:
            run = (await reader.state(thread))["run"]
            assert run["error"]["code"] == "interrupted-by-crash"


async def test_streams_of_a_node_do_not_notice_that_the_owner_is_stopped_in_order(tmp_path: Path) -> None:
    async with (
        nodes(tmp_path, 2, lease_s=5) as (owner, reader),
        streams("count 150 every 10", owner, reader) as opened,
    ):
        stopping = asyncio.ensure_future(owner.stop())
        await opened.end()
        assert await stopping == 0
        await opened.check(errors=0)
        assert {stream.text for stream in opened.by_thread.values()} == {numbers(150)}


async def test_streams_of_a_node_that_is_stopped_see_runs_elsewhere_to_their_end(tmp_path: Path) -> None:
    async with (
        nodes(tmp_path, 2, lease_s=5) as (owner, reader),
        streams("count 150 every 10", owner, reader) as opened,
    ):
        stopping = asyncio.ensure_future(reader.stop())
        await opened.end()
        assert await stopping == 0
        opened.reader = owner
        await opened.check(errors=0)


async def test_a_message_behind_a_run_that_its_server_could_not_end_is_answered_by_the_next(
    tmp_path: Path,
) -> None:
    async with (
        nodes(tmp_path, 2, "--drain-s", "0.3", lease_s=5) as (owner, reader),
        owner.client() as client,
        httpx.AsyncClient(timeout=60) as http,
    ):
        await client.open("t")
        await client.say("t", "c", "hang on")
        await client.until_run("t", "running")
        async with post(reader, http, body("hello there", threadId="t")) as stream:
            await stream.until(lambda: bool(stream.reader.states))
            assert await owner.stop() == 0
            await stream.end()
        assert stream.errors == []
        assert stream.text == "hello there"


async def test_streams_of_both_nodes_agree_when_the_owner_hangs_past_its_lease_and_goes_on(
    tmp_path: Path,
) -> None:
    async with (
        nodes(tmp_path, 2) as (owner, reader),
        streams("count 5000 every 10", owner, reader) as there,
        httpx.AsyncClient(timeout=60) as http,
        AsyncExitStack() as stack,
    ):
        here = []
        for thread in there.by_thread:
            stream = post(owner, http, {"threadId": thread}, path="/resume")
            here.append(await stack.enter_async_context(stream))
        own = await stack.enter_async_context(post(owner, http, body("count 5000 every 10", threadId="o")))
        here.append(own)
        for stream in here:
            await stream.until(lambda stream=stream: bool(stream.text))
        owner.pause()
        await there.end()
        await until_run(reader, "o", "failed")
        owner.resume()
        await there.check(errors=1)
        for thread, stream in zip([*there.by_thread, "o"], here, strict=True):
            await stream.end()
            assert stream.reader.state == (await reader.state(thread))["state"]
            assert len(stream.errors) == 1


@pytest.mark.parametrize("protocol", PROTOCOLS)
async def test_a_stream_of_a_killed_owner_never_looks_whole_and_the_rest_is_had_elsewhere(
    tmp_path: Path, protocol: str
) -> None:
    async with nodes(tmp_path, 2) as (owner, other), httpx.AsyncClient(timeout=60) as http:
        key = {"Idempotency-Key": "key"}
        asked = body("count 5000 every 10")
        with pytest.raises((httpx.TransportError, Broken)):
            async with post(owner, http, asked, protocol=protocol, headers=key) as stream:
                await stream.until(lambda: len(stream.text) > 20)
                await owner.kill()
                await stream.end()
        with pytest.raises(Broken):
            stream.reader.end()
        async with post(other, http, asked, protocol=protocol, headers=key) as again:
            await again.end()
        assert len(again.errors) == 1
        (user, answer) = again.reader.state["messages"]
        assert user["content"] == "count 5000 every 10"
        assert answer["content"].startswith(stream.text)
        assert again.reader.state["threadwire"] == stream.reader.state["threadwire"]
