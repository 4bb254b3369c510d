"""The updates of a thread for HTTP streams: lowered once, merged for the slow, gone with the last reader."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import threadwire
from tests.support import virtual_time
from tests.support.engine import Commands, engine, say
from tests.support.faulty_store import FaultyStore
from tests.support.stock_client import Accumulator
from threadwire.core.errors import ErrorInfo, WriteConflict
from threadwire.core.operations import Json
from threadwire.engine.feed import Edits, End, Reader, State
from threadwire.engine.run_stream import RunStream
from threadwire.engine.thread import Thread
from threadwire.engine.threads import Threads

pytestmark = pytest.mark.anyio


@threadwire.agent
async def idle(run: threadwire.Run) -> None:
    for _ in run.commands:
        await asyncio.sleep(0)


class Client:
    """Takes a reader's parts as a stock client would."""

    def __init__(self, reader: Reader) -> None:
        self.reader = reader
        self.parts: list[Any] = []
        self._accumulator = Accumulator()

    @property
    def state(self) -> Json:
        return self._accumulator.state

    def take(self) -> None:
        """All that is there."""
        while (part := self.reader.take()) is not None:
            self.parts.append(part)
            if isinstance(part, State):
                self._accumulator.state = msgspec.json.decode(part.data)
            elif isinstance(part, Edits):
                self._accumulator.apply(msgspec.json.decode(part.encoded(msgspec.json.encode)))
            else:
                return

    async def until(self, state: Json) -> None:
        with anyio.fail_after(5):
            self.take()
            while self.state != state:
                await self.reader.news()
                self.take()


@asynccontextmanager
async def thread_of(*, store: Any = None) -> AsyncIterator[tuple[Threads, Thread]]:
    async with engine(idle, store=store) as threads:
        yield threads, await threads.get("t")


async def write(thread: Thread, path: tuple[Any, ...], value: Json) -> None:
    thread.document.set(path, value)
    await thread.flush()


async def test_reader_begins_with_the_state_and_goes_on_with_edits() -> None:
    async with thread_of() as (threads, thread):
        await write(thread, ("a",), [1])
        client = Client(await threads.feeds.join(thread))
        await client.until({"a": [1]})
        await write(thread, ("a", 1), 2)
        await client.until({"a": [1, 2]})
        assert [type(part) for part in client.parts] == [State, Edits]


async def test_reader_that_joins_among_tokens_begins_with_all_of_them() -> None:
    async with thread_of() as (threads, thread):
        await write(thread, ("text",), "")
        first = Client(await threads.feeds.join(thread))
        await first.until({"text": ""})
        for number in range(1, 4):
            thread.document.append_text(("text",), "x")
            await thread.flush()
            late = Client(await threads.feeds.join(thread))
            await late.until({"text": "x" * number})
            assert [type(part) for part in late.parts] == [State]
        thread.document.append_text(("text",), "y" * 100_000)
        await thread.flush()
        await first.until({"text": "xxx" + "y" * 100_000})


async def test_encodings_are_made_once_for_all_readers() -> None:
    async with thread_of() as (threads, thread):
        clients = [Client(await threads.feeds.join(thread)) for _ in range(3)]
        for client in clients:
            await client.until({})
        await write(thread, ("a",), 1)
        parts = [client.reader.take() for client in clients]
        assert parts[0] is parts[1] is parts[2]
        calls: list[object] = []

        def encode(operations: Any) -> bytes:
            calls.append(operations)
            return b"x"

        assert {part.encoded(encode) for part in parts if isinstance(part, Edits)} == {b"x"}
        assert len(calls) == 1
        assert len(threads.feeds) == 1


async def test_text_is_joined_until_a_reader_takes_it_and_is_the_same_for_all() -> None:
    async with thread_of() as (threads, thread):
        await write(thread, ("texts",), ["", ""])
        quick, slow = [Client(await threads.feeds.join(thread)) for _ in range(2)]
        for client in (quick, slow):
            await client.until({"texts": ["", ""]})
        for index, text in ((0, "a"), (0, "é"), (1, "c"), (1, "d")):
            thread.document.append_text(("texts", index), text)
            await thread.flush()
        with anyio.fail_after(5):
            await quick.reader.news()
            await slow.reader.news()
        quick.take()
        thread.document.append_text(("texts", 1), "e")
        await thread.flush()
        with anyio.fail_after(5):
            await quick.reader.news()
        quick.take()
        slow.take()
        assert quick.state == slow.state == {"texts": ["aé", "cde"]}
        assert (len(quick.parts), len(slow.parts)) == (3, 2)


async def test_text_comes_before_the_end_that_follows_it() -> None:
    async with thread_of() as (threads, thread):
        await write(thread, ("text",), "")
        client = Client(await threads.feeds.join(thread))
        await client.until({"text": ""})
        thread.document.append_text(("text",), "x")
        await thread.flush()
        client.reader.finish(None)
        client.take()
        assert client.state == {"text": "x"}
        assert [type(part) for part in client.parts] == [State, Edits, End]


async def test_reader_that_joins_among_tokens_is_woken_by_the_next() -> None:
    async with thread_of() as (threads, thread):
        await write(thread, ("text",), "")
        first = await threads.feeds.join(thread)
        assert first.take() is not None
        for _ in range(2):
            thread.document.append_text(("text",), "x")
            await thread.flush()
            late = await threads.feeds.join(thread)
            assert not late.touched
        thread.document.append_text(("text",), "x")
        await thread.flush()
        assert late.touched
        with anyio.fail_after(5):
            await late.news()


async def test_text_that_nobody_takes_is_kept_as_text_and_not_as_tokens() -> None:
    async with thread_of() as (threads, thread):
        await write(thread, ("text",), "")
        client = Client(await threads.feeds.join(thread))
        await client.until({"text": ""})
        feed = client.reader._feed
        for _ in range(3000):
            thread.document.append_text(("text",), "x")
            await thread.flush()
            assert len(feed._text) < 1100
        client.take()
        assert client.state == {"text": "x" * 3000}
        assert len(client.parts) == 2


async def test_slow_reader_gets_merged_edits_and_beyond_the_states_weight_the_state() -> None:
    async with thread_of() as (threads, thread):
        await write(thread, ("text",), "")
        client = Client(await threads.feeds.join(thread))
        await client.until({"text": ""})
        for _ in range(100):
            thread.document.append_text(("text",), "x")
            await thread.flush()
        client.take()
        assert client.state == {"text": "x" * 100}
        assert len(client.parts) == 2
        for number in range(50):
            await write(thread, (f"k{number % 3}",), "y" * 40_000)
            await write(thread, ("list",), [number])
            thread.document.splice(("list",), 0, 0, ["z" * 9000] * 3)
            await thread.flush()
        client.take()
        assert isinstance(client.parts[-1], State)
        assert client.state == thread.document.root


async def test_feed_goes_with_its_last_reader() -> None:
    async with thread_of() as (threads, thread):
        one, two = await threads.feeds.join(thread), await threads.feeds.join(thread)
        assert len(thread.subscribers) == 1
        one.close()
        one.close()
        assert len(thread.subscribers) == 1
        two.close()
        assert not thread.subscribers
        assert not len(threads.feeds)
        three = Client(await threads.feeds.join(thread))
        await three.until({})


async def test_reader_that_is_finished_gets_what_waits_and_then_the_end() -> None:
    async with thread_of() as (threads, thread):
        client = Client(await threads.feeds.join(thread))
        client.reader.finish(ErrorInfo("x", "first"))
        client.reader.finish(ErrorInfo("x", "second"))
        await write(thread, ("late",), 1)
        await client.reader.news()
        client.take()
        state, end = client.parts
        assert isinstance(state, State)
        assert end == End(ErrorInfo("x", "first"))


async def test_lost_thread_ends_its_streams_with_an_error() -> None:
    store = FaultyStore()
    async with thread_of(store=store) as (threads, thread):
        begun = Client(await threads.feeds.join(thread))
        await begun.until({})
        store.held = True
        thread.document.set(("a",), 1)
        fresh = Client(await threads.feeds.join(thread))
        thread.lose(WriteConflict("another owner"))
        for client in (begun, fresh):
            client.take()
            end = client.parts[-1]
            assert isinstance(end, End)
            assert end.error is not None
            assert end.error.code == "store-unavailable"
        assert begun.state == {}, "what was not committed was not shown"
        store.go_on()
        for client in (begun, fresh):
            client.reader.close()
        assert not len(threads.feeds)
        again = Client(await threads.feeds.join(await threads.get("t")))
        await again.until((await threads.get("t")).document.root)


async def test_joining_a_thread_that_is_unloaded_is_refused() -> None:
    async with thread_of() as (threads, thread):
        thread.close()
        with pytest.raises(threadwire.StoreUnavailable):
            await threads.feeds.join(thread)
        assert not len(threads.feeds)


async def test_stream_waits_for_a_run_that_was_told_of_by_nobody_yet() -> None:
    async with thread_of() as (threads, thread):
        stream = await RunStream.open(threads.feeds, thread)
        await thread.submit("c", say("x"), strategy=None, watcher=Commands())
        stream.begin(resumed=True)
        parts: list[Any] = []
        with anyio.fail_after(5):
            while not parts or not isinstance(parts[-1], End):
                part = stream.take()
                if part is None:
                    await stream.news()
                else:
                    parts.append(part)
        stream.close()
        assert thread.run_info is not None
        assert thread.run_info.status == "completed"


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.integers(0, 2**32), st.integers(1, 4))
def test_readers_of_any_pace_end_at_the_exact_state(seed: int, readers: int) -> None:
    async def play() -> None:
        dice = random.Random(seed)
        async with thread_of() as (threads, thread):
            clients: list[Client] = []
            for _ in range(60):
                if len(clients) < readers and dice.random() < 0.2:
                    clients.append(Client(await threads.feeds.join(thread)))
                _edit(thread, dice)
                if dice.random() < 0.7:
                    await thread.flush()
                for client in clients:
                    if dice.random() < 0.4:
                        client.take()
            await thread.flush()
            for client in clients:
                client.take()
                assert client.state == thread.document.root
                client.reader.close()
            assert not thread.subscribers

    virtual_time.run(play())


def _edit(thread: Thread, dice: random.Random) -> None:
    document = thread.document
    root = document.root
    items = root.get("items")
    if items is None:
        document.set(("items",), ["a", {"text": ""}])
        return
    kind = dice.randrange(8)
    index = dice.randrange(len(items)) if items else 0
    if kind == 0:
        document.splice(
            ("items",), index, min(dice.randrange(3), len(items) - index), ["n"] * dice.randrange(3)
        )
    elif kind == 1 and items:
        document.delete(("items", index))
    elif kind == 2:
        document.set(("items", len(items)), {"text": "", "more": [[]]})
    elif kind == 3 and items and type(items[index]) is dict:
        document.append_text(("items", index, "text"), "t" * dice.randrange(1, 4))
    elif kind == 4:
        document.set((dice.choice("abc"),), {"deep": {"list": [1, 2, 3]}})
    elif kind == 5:
        key = next((key for key in "abc" if key in root), None)
        if key is not None:
            document.delete((key,))
    elif kind == 6:
        document.replace({**root, "items": [*reversed(items)], "n": dice.random()})
    else:
        document.set(("0",), "x" * dice.choice((1, 70_000)))
