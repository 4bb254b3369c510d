"""A run that nobody is there to see ends after its time, and not before."""

from __future__ import annotations

import asyncio
from typing import Any

import anyio
import pytest

import threadwire
from tests.support.engine import Commands, Reader, engine, follow, say
from tests.support.faulty_store import FaultyStore
from tests.support.virtual_time import in_virtual_time
from threadwire.core.frames import Strategy
from threadwire.engine.context import Sent
from threadwire.engine.thread import Thread

HTTP = Sent(absence_s=15)


@threadwire.agent
async def works(run: threadwire.Run) -> None:
    """Works for the seconds that the message says, or asks and then works for 100."""
    for command in run.commands:
        assert isinstance(command, threadwire.AddMessage)
        run.state["at"] = command.message.text
        if command.message.text == "ask":
            run.state["answer"] = await run.interrupt("well?")
            await asyncio.sleep(100)
        else:
            await asyncio.sleep(float(command.message.text))
        run.state["done"] = command.message.text


async def send(
    thread: Thread, text: str, sent: Sent | None = HTTP, strategy: Strategy | None = None
) -> Commands:
    commands = Commands()
    await thread.submit(f"c-{text}-{id(commands)}", say(text), strategy=strategy, watcher=commands, sent=sent)
    return commands


async def begin(thread: Thread, text: str, sent: Sent | None = HTTP) -> Reader:
    """Starts a run, and returns the reader that follows it."""
    reader = await follow(thread)
    await send(thread, text, sent)
    await reader.until(lambda: bool(reader.state) and reader.state.get("at") == text)
    return reader


def leave(thread: Thread) -> None:
    for subscriber in list(thread.subscribers):
        thread.unsubscribe(subscriber)


async def last_run(thread: Thread) -> str:
    await thread.runner.ended()
    assert thread.run_info is not None
    return thread.run_info.status


@pytest.mark.spec("14.13")
@in_virtual_time
async def test_run_started_over_http_is_cancelled_when_nobody_came_back_in_time() -> None:
    async with engine(works) as threads:
        thread = await threads.get("t")
        await begin(thread, "100")
        left = asyncio.get_running_loop().time()
        leave(thread)
        assert thread.absence.abandoned
        assert await last_run(thread) == "cancelled"
        assert asyncio.get_running_loop().time() - left == 15
        assert not thread.absence.abandoned
        assert (await thread.snapshot("json")).state == b'{"at":"100"}', "what it wrote stays"


@in_virtual_time
async def test_reader_who_comes_back_stops_the_clock_and_it_starts_anew() -> None:
    async with engine(works) as threads:
        thread = await threads.get("t")
        await begin(thread, "60")
        for _ in range(3):
            leave(thread)
            await asyncio.sleep(14)
            await follow(thread, encoding="msgpack")
            assert not thread.absence.abandoned
        assert await last_run(thread) == "completed"


@in_virtual_time
async def test_run_goes_on_while_one_of_its_readers_is_there() -> None:
    async with engine(works) as threads:
        thread = await threads.get("t")
        await begin(thread, "60")
        await follow(thread)
        thread.unsubscribe(next(iter(thread.subscribers)))
        assert await last_run(thread) == "completed"


@in_virtual_time
async def test_run_started_over_a_websocket_is_never_cancelled_by_absence() -> None:
    async with engine(works) as threads:
        thread = await threads.get("t")
        await begin(thread, "3000", None)
        leave(thread)
        assert not thread.absence.abandoned
        assert await last_run(thread) == "completed"


@in_virtual_time
async def test_run_of_commands_from_both_is_seen_through() -> None:
    async with engine(works) as threads:
        thread = await threads.get("t")
        await begin(thread, "1")
        await send(thread, "2", HTTP)
        await send(thread, "50", None)
        leave(thread)
        await asyncio.sleep(5)
        assert thread.run_info is not None
        first = thread.run_info.id
        assert not thread.absence.abandoned
        assert await last_run(thread) == "completed"
        assert thread.run_info.id == first


@in_virtual_time
async def test_each_request_says_how_long_its_run_goes_on_alone() -> None:
    async with engine(works) as threads:
        loop = asyncio.get_running_loop()
        for absence_s, status, took_s in (
            (None, "completed", 100),
            (0, "cancelled", 0),
            (50, "cancelled", 50),
        ):
            thread = await threads.get(f"t-{absence_s}")
            await begin(thread, "100", Sent(absence_s=absence_s))
            left = loop.time()
            leave(thread)
            assert await last_run(thread) == status
            assert loop.time() - left == took_s


@in_virtual_time
async def test_run_that_starts_with_nobody_there_has_a_clock_of_its_own() -> None:
    async with engine(works) as threads:
        thread = await threads.get("t")
        await begin(thread, "10")
        await send(thread, "101")
        leave(thread)
        left = asyncio.get_running_loop().time()
        await thread.runner.ended()
        await asyncio.sleep(0.1)
        assert await last_run(thread) == "cancelled"
        assert asyncio.get_running_loop().time() - left == pytest.approx(10 + 15)


@in_virtual_time
async def test_run_that_waits_for_an_answer_is_left_alone_until_it_works_again() -> None:
    async with engine(works) as threads:
        thread = await threads.get("t")
        reader = await begin(thread, "ask")
        await reader.until_run("waiting")
        leave(thread)
        await asyncio.sleep(3000)
        assert thread.run_info is not None
        assert thread.run_info.status == "waiting"
        (asked,) = reader.state["threadwire"]["interrupts"]
        answered = asyncio.get_running_loop().time()
        answer: dict[str, Any] = {"type": "resume", "answers": {asked: "yes"}}
        await thread.submit("answer", answer, strategy=None, watcher=Commands(), sent=HTTP)
        assert thread.absence.abandoned
        assert await last_run(thread) == "cancelled"
        assert asyncio.get_running_loop().time() - answered == 15


@in_virtual_time
async def test_run_taken_up_again_after_a_crash_keeps_its_time_and_its_context() -> None:
    seen: list[dict[str, Any]] = []

    @threadwire.agent(name="works")
    async def remembers(run: threadwire.Run) -> None:
        seen.append(dict(run.context))
        run.state["runs"] = len(seen)
        if len(seen) > 1:
            for _ in run.commands:
                pass
        await asyncio.sleep(100)

    store = FaultyStore()
    sent = Sent(context={"system": "be brief", "tools": {"a": {"parameters": {}}}}, absence_s=15)
    async with engine(remembers, store=store) as threads:
        thread = await threads.get("t")
        reader = await follow(thread)
        await send(thread, "go", sent)
        await reader.until(lambda: bool(reader.state))
        store.crash()
        await threads._end()
    async with engine(remembers, store=store) as threads:
        (thread,) = threads.loaded()
        await asyncio.sleep(1)
        assert seen == [sent.context, sent.context]
        assert thread.absence.abandoned
        started = asyncio.get_running_loop().time() - 1
        assert await last_run(thread) == "cancelled"
        assert asyncio.get_running_loop().time() - started == pytest.approx(15, abs=0.1)


@pytest.mark.anyio
async def test_context_belongs_to_the_run_it_was_given_to() -> None:
    seen: list[Any] = []

    @threadwire.agent
    async def spoils(run: threadwire.Run) -> None:
        with pytest.raises(TypeError):
            run.context["new"] = 1  # type: ignore[index]
        seen.append((dict(run.context.get("tools", {})), len(run.commands)))
        run.context.get("tools", {})["more"] = True
        for _ in run.commands:
            await asyncio.sleep(0)

    sent = Sent(context={"tools": {"a": 1}})
    async with engine(spoils) as threads:
        thread = await threads.get("t")
        with anyio.fail_after(5):
            for each in (sent, sent, None):
                commands = await send(thread, f"m{len(seen)}", each)
                await commands.until(commands.seen[0].id, "applied")
                await thread.runner.ended()
    assert seen == [({"a": 1}, 1), ({"a": 1}, 1), ({}, 1)]


class Continues(threadwire.Agent):
    """An agent that goes on with a run that was cut."""

    continues = True

    def __init__(self) -> None:
        super().__init__("continues")
        self.contexts: list[dict[str, Any]] = []

    async def run(self, run: threadwire.Run) -> None:
        self.contexts.append(dict(run.context))
        for _ in run.commands:
            run.state["began"] = True
        await asyncio.sleep(100)

    async def recover(self, run: threadwire.Run) -> None:
        run.hosting.recovered()
        self.contexts.append(dict(run.context))
        run.state["went on"] = True
        await asyncio.sleep(100)


@in_virtual_time
async def test_run_that_goes_on_after_a_crash_keeps_its_time_and_its_context() -> None:
    for absence_s, status in ((15.0, "cancelled"), (None, "completed")):
        agent, store = Continues(), FaultyStore()
        sent = Sent(context={"system": "be brief"}, absence_s=absence_s)
        async with engine(agent, store=store) as threads:
            thread = await threads.get("t")
            reader = await follow(thread)
            commands = await send(thread, "go", sent)
            await reader.until(lambda: bool(reader.state))  # noqa: B023
            await commands.until(commands.seen[0].id, "applied")
            store.crash()
            await threads._end()
        async with engine(agent, store=store) as threads:
            (thread,) = threads.loaded()
            await asyncio.sleep(1)
            assert agent.contexts == [sent.context, sent.context]
            assert thread.absence.abandoned is (absence_s is not None)
            assert await last_run(thread) == status
            assert (await thread.snapshot("json")).state == b'{"began":true,"went on":true}'
