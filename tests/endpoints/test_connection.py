"""Connections that are slow, that end in the midst of something, or whose server fails to send."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

import threadwire
from tests.support.engine import Commands, engine, follow, say
from tests.support.faulty_store import FaultyStore
from tests.support.virtual_time import in_virtual_time
from tests.support.wire import Wire
from threadwire.core.frames import CommandState, Error, Limits, Run, Snapshot, Update
from threadwire.core.operations import apply
from threadwire.endpoints.websocket import WebSocketEndpoint
from threadwire.engine.settings import Settings
from threadwire.engine.threads import Threads
from threadwire_agents.demos.scripted import scripted

OPEN = {"type": "open", "thread": "t"}


class Line:
    """A connection, and the frames that have arrived at its client."""

    def __init__(self, *, plain: bool = False) -> None:
        self.frames: list[Any] = []
        self.wire = Wire("json", self.frames.append, plain=plain)

    def last_run(self) -> Any:
        return [frame for frame in self.frames if isinstance(frame, Run)][-1].run

    def state(self) -> Any:
        state = None
        for frame in self.frames:
            if isinstance(frame, Snapshot):
                state = frame.state
            elif isinstance(frame, Update):
                state = apply(state, frame.ops)
        return state


@asynccontextmanager
async def connected(threads: Threads, *lines: Line) -> AsyncIterator[WebSocketEndpoint]:
    endpoint = WebSocketEndpoint(threads)
    tasks = [
        asyncio.ensure_future(endpoint(line.wire.scope, line.wire.receive, line.wire.send)) for line in lines
    ]
    await asyncio.sleep(0.01)
    beat = asyncio.ensure_future(endpoint.beat())
    try:
        yield endpoint
    finally:
        beat.cancel()
        for line in lines:
            line.wire.hang_up()
        await asyncio.wait(tasks)
    assert not len(endpoint)
    assert not any(thread.subscribers for thread in threads.loaded())


@in_virtual_time
async def test_an_answer_that_waited_tells_nothing_older_than_what_was_told_before_it() -> None:
    async with engine(scripted, store=FaultyStore()) as threads:
        slow = Line()
        async with connected(threads, slow):
            thread = await threads.get("t")
            await thread.submit("a", say("hang on"), strategy=None, watcher=Commands())
            await asyncio.sleep(0.01)
            slow.wire.slow_down()
            # Answered by the run that goes on; and opened after that.
            slow.wire.say({"type": "cancel", "thread": "t", "run": "another"})
            await asyncio.sleep(0.01)
            slow.wire.say(OPEN)
            await asyncio.sleep(0.01)
            slow.wire.say({"type": "cancel", "thread": "t", "run": "another"})
            await asyncio.sleep(0.01)
            await thread.runner.cancel(None)
            await asyncio.sleep(0.01)
            slow.wire.speed_up()
            await asyncio.sleep(0.01)
            assert slow.last_run().status == "cancelled"


@in_virtual_time
async def test_an_open_that_comes_through_just_as_the_connection_ends_leaves_no_subscriber() -> None:
    store = FaultyStore()
    async with engine(scripted, store=store) as threads:
        thread = await threads.get("t")
        thread._history._max_updates = 8
        for number in range(20):
            thread.document.set(("n",), number)
            await thread.flush()
        line = Line()
        async with connected(threads, line):
            store.withheld = True
            line.wire.say({**OPEN, "since": {"epoch": thread.epoch, "seq": 2}})
            await asyncio.sleep(0.01)
            store.go_on()  # the epoch of the row
            store.withheld = True
            await asyncio.sleep(0.01)
            line.wire.hang_up()
            store.go_on()  # the rows
            await asyncio.sleep(0.01)
            assert not thread.subscribers


@in_virtual_time
async def test_a_server_that_fails_to_send_to_one_client_fails_no_other() -> None:
    async with engine(scripted, store=FaultyStore()) as threads:
        broken, sound = Line(plain=True), Line(plain=True)

        async with connected(threads, broken, sound):
            broken.wire.say(OPEN)
            sound.wire.say(OPEN)
            await asyncio.sleep(0.01)
            broken.wire.send_error = RuntimeError("the connection is closed")
            logging.getLogger("threadwire").setLevel(logging.CRITICAL)
            try:
                sound.wire.say({"type": "command", "thread": "t", "id": "c", "command": say("one two")})
                await asyncio.sleep(1)
            finally:
                logging.getLogger("threadwire").setLevel(logging.NOTSET)
            assert sound.state()["messages"][-1]["content"] == "one two"
            assert sound.last_run().status == "completed"


@pytest.mark.parametrize("plain", [True, False])
def test_a_client_that_goes_while_too_many_answers_wait_for_it_is_let_go(plain: bool) -> None:
    @in_virtual_time
    async def test() -> None:
        settings = Settings(limits=Limits(heartbeat_s=15, unresponsive_s=60))
        async with engine(scripted, store=FaultyStore(), settings=settings) as threads:
            line = Line(plain=plain)
            async with connected(threads, line) as endpoint:
                line.wire.say(OPEN)
                await asyncio.sleep(0.01)
                line.wire.slow_down()
                for _ in range(30):
                    line.wire.say(*({"type": "ping", "nonce": number} for number in range(100)))
                await asyncio.sleep(0.01)
                line.wire.hang_up()
                await asyncio.sleep(100)
                assert not len(endpoint)

    test()


@pytest.mark.parametrize("plain", [True, False])
def test_what_cannot_be_read_closes_the_connection_in_order_while_updates_go_on(plain: bool) -> None:
    @in_virtual_time
    async def test() -> None:
        async with engine(scripted, store=FaultyStore()) as threads:
            line = Line(plain=plain)
            async with connected(threads, line):
                thread = await threads.get("t")
                reader = await follow(thread)
                await thread.submit("c", say("count 500 every 1"), strategy=None, watcher=Commands())
                line.wire.say(OPEN)
                await asyncio.sleep(0.1)
                line.wire._incoming.put_nowait({"type": "websocket.receive", "text": "{"})
                await asyncio.sleep(0.1)
                assert line.wire.close_code == 4400
                assert isinstance(line.frames[-1], Error)
                assert line.frames[-1].code == "malformed"
                assert len(thread.subscribers) == 1
                await reader.until_run("completed")
                (subscriber,) = thread.subscribers
                thread.unsubscribe(subscriber)

    test()


@in_virtual_time
async def test_a_client_that_sends_and_never_reads_costs_no_more_than_it_may() -> None:
    store = FaultyStore()
    async with engine(scripted, store=store) as threads:
        line = Line()
        async with connected(threads, line) as endpoint:
            line.wire.say(OPEN)
            await asyncio.sleep(0.01)
            line.wire.slow_down()
            for number in range(50):
                line.wire.say(*({"type": "ping", "nonce": number} for _ in range(100)))
            await asyncio.sleep(10)
            (peer,) = endpoint._peers
            assert len(peer.connection._replies) <= 2100
            assert line.wire._incoming.qsize() >= 25
            thread = await threads.get("t")
            reader = await follow(thread)
            began = asyncio.get_running_loop().time()
            await thread.submit("c", say("count 2000"), strategy=None, watcher=Commands())
            await reader.until_run("completed")
            assert asyncio.get_running_loop().time() - began < 1
            line.wire.speed_up()
            await asyncio.sleep(1)
            assert line.state() == reader.state
            assert line.last_run().status == "completed"
            (subscriber,) = [each for each in thread.subscribers if each.sink is reader]
            thread.unsubscribe(subscriber)


@in_virtual_time
async def test_statuses_of_a_command_come_to_each_connection_that_sent_it_until_it_has_gone() -> None:
    async with engine(scripted, store=FaultyStore()) as threads:
        one, two, third = Line(), Line(), Line()
        frame = {"type": "command", "thread": "t", "id": "c", "command": say("hang on")}
        async with connected(threads, one, two, third):
            one.wire.say(frame)
            await asyncio.sleep(0.01)
            two.wire.say(frame)
            await asyncio.sleep(0.01)
            later = {"type": "command", "thread": "t", "id": "d", "command": say("x")}
            one.wire.say(later)
            two.wire.say(later)
            await asyncio.sleep(0.01)
            one.wire.hang_up()
            await asyncio.sleep(0.01)
            (thread,) = threads.loaded()
            await thread.runner.cancel(None)
            await asyncio.sleep(0.01)
            told = [f.status for f in two.frames if isinstance(f, CommandState) and f.id == "d"]
            assert told == ["queued", "cancelled"]
            assert not any(isinstance(f, CommandState) for f in third.frames)
            assert not thread.intake._watchers


@in_virtual_time
async def test_a_connection_that_only_sends_commands_hears_of_them_when_their_thread_was_lost() -> None:
    store = FaultyStore()

    @threadwire.agent
    async def patient(run: threadwire.Run) -> None:
        for _ in run.commands:
            await asyncio.sleep(1)
            run.state["n"] = run.state.get("n", 0) + 1

    async with engine(patient, store=store, settings=Settings(store_patience_s=1)) as threads:
        line = Line()
        async with connected(threads, line):
            line.wire.say({"type": "command", "thread": "t", "id": "c", "command": say("x")})
            await asyncio.sleep(0.1)
            store.out = True
            await asyncio.sleep(10)
            store.out = False
            await asyncio.sleep(30)
            told = [frame.status for frame in line.frames if isinstance(frame, CommandState)]
            assert told[-1] == "applied"
            assert store.truth["t"].states[-1] == {"n": 1}


@in_virtual_time
async def test_large_commands_are_not_read_faster_than_the_store_takes_them() -> None:
    store = FaultyStore()
    async with engine(scripted, store=store) as threads:
        line = Line()
        async with connected(threads, line):
            line.wire.say(OPEN)
            await asyncio.sleep(0.01)
            store.held = True
            for number in range(600):
                # Just small enough to be read at once.
                text = "x" * 60_000
                line.wire.say({"type": "command", "thread": "t", "id": str(number), "command": say(text)})
            await asyncio.sleep(1)
            assert line.wire._incoming.qsize() >= 300
            store.go_on()
            await asyncio.sleep(60)
            assert line.wire._incoming.qsize() == 0
            told = {frame.id for frame in line.frames if isinstance(frame, CommandState)}
            assert len(told) == 600
            await (await threads.get("t")).runner.cancel(None)
