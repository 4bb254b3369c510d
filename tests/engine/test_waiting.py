"""Runs that wait for clients: interrupts and client tools of agents made of a function."""

from __future__ import annotations

import asyncio
from typing import Any

import anyio
import pytest

import threadwire
from tests.support.engine import Commands, Reader, engine, follow, say
from tests.support.faulty_store import FaultyStore
from tests.support.virtual_time import in_virtual_time
from threadwire.core.frames import Limits, Tool
from threadwire.engine.settings import Settings
from threadwire.stores.memory import MemoryStore

pytestmark = [pytest.mark.anyio, pytest.mark.spec("8.4"), pytest.mark.spec("8.7")]


@threadwire.agent
async def asking(run: threadwire.Run) -> None:
    for command in run.commands:
        if isinstance(command, threadwire.AddMessage) and command.message.text == "two":
            run.state["answers"] = await asyncio.gather(run.interrupt("a?"), run.interrupt({"q": "b?"}))
        elif isinstance(command, threadwire.AddMessage) and command.message.text == "tool":
            result = await run.call_client_tool("where", {"exact": True})
            run.state["tool"] = [result.result, result.is_error]
        else:
            run.state["answer"] = await run.interrupt("sure?")


def interrupts(reader: Reader) -> dict[str, Any]:
    return dict((reader.state or {}).get("threadwire", {}).get("interrupts", {}))


def tool_result(id: str, result: Any) -> dict[str, Any]:
    return {"type": "add-tool-result", "toolCallId": id, "toolName": "where", "result": result}


def tools_for(reader: Reader) -> list[Tool]:
    return [frame for frame in reader.frames if isinstance(frame, Tool)]


async def test_an_interrupt_waits_for_its_answer_and_leaves_the_state_when_it_has_it() -> None:
    async with engine(asking) as threads:
        thread = await threads.get("t")
        reader, commands = await follow(thread), Commands()
        await thread.submit("a", say("x"), strategy=None, watcher=commands)
        await reader.until_run("waiting")
        ((id, entry),) = interrupts(reader).items()
        assert entry == {"value": "sure?"}
        await thread.submit(
            "r", {"type": "resume", "answers": {id: ["yes"]}}, strategy=None, watcher=commands
        )
        await reader.until_run("completed")
        assert reader.state == {"answer": ["yes"]}
        assert [run.status for run in reader.runs if run] == ["running", "waiting", "running", "completed"]
        assert commands.last("r").status == "applied"


async def test_a_run_waits_until_all_its_interrupts_are_answered() -> None:
    async with engine(asking) as threads:
        thread = await threads.get("t")
        reader, commands = await follow(thread), Commands()
        await thread.submit("a", say("two"), strategy=None, watcher=commands)
        await reader.until(lambda: len(interrupts(reader)) == 2)
        first, second = interrupts(reader)
        await thread.submit("r1", {"type": "resume", "answers": {second: 2}}, strategy=None, watcher=commands)
        await commands.until("r1", "applied")
        assert list(interrupts(reader)) == [first]
        assert reader.runs[-1] is not None
        assert reader.runs[-1].status == "waiting"
        await thread.submit("r2", {"type": "resume", "answers": {first: 1}}, strategy=None, watcher=commands)
        await reader.until_run("completed")
        assert reader.state == {"answers": [1, 2]}


@pytest.mark.parametrize("answers", [{"nobody": 1}, {}])
async def test_answers_to_what_nobody_asked_are_rejected(answers: dict[str, Any]) -> None:
    async with engine(asking) as threads:
        thread = await threads.get("t")
        reader, commands = await follow(thread), Commands()
        await thread.submit("a", say("x"), strategy=None, watcher=commands)
        await reader.until_run("waiting")
        await thread.submit("r", {"type": "resume", "answers": answers}, strategy=None, watcher=commands)
        refused = await commands.until("r", "rejected")
        assert refused.error is not None
        assert refused.error.code == "unknown-interrupt"
        assert len(interrupts(reader)) == 1


async def test_a_message_during_the_wait_starts_over() -> None:
    async with engine(asking) as threads:
        thread = await threads.get("t")
        reader, commands = await follow(thread), Commands()
        await thread.submit("a", say("x"), strategy=None, watcher=commands)
        await reader.until_run("waiting")
        old = interrupts(reader)
        await thread.submit("b", say("y"), strategy="reject", watcher=commands)
        await reader.until(lambda: bool(interrupts(reader)) and interrupts(reader) != old)
        assert len(interrupts(reader)) == 1
        assert [run.status for run in reader.runs if run] == [
            "running", "waiting", "cancelled", "running", "waiting",
        ]  # fmt: skip


async def test_a_cancel_ends_the_wait_and_takes_the_question_away() -> None:
    async with engine(asking) as threads:
        thread = await threads.get("t")
        reader, commands = await follow(thread), Commands()
        await thread.submit("a", say("x"), strategy=None, watcher=commands)
        await reader.until_run("waiting")
        run = await thread.runner.cancel(None)
        assert run is not None
        assert run.status == "cancelled"
        assert reader.state == {}


async def test_a_tool_call_goes_to_the_connection_that_asked_and_no_other() -> None:
    async with engine(asking) as threads:
        thread = await threads.get("t")
        other = await follow(thread, tools=("where",))
        own = await follow(thread, tools=("where", "what"))
        await follow(thread)
        commands = Commands()
        await thread.submit("a", say("tool"), strategy=None, watcher=commands, origin=own)
        await own.until(lambda: bool(tools_for(own)))
        (call,) = tools_for(own)
        assert (call.name, call.args) == ("where", {"exact": True})
        assert not tools_for(other)
        assert own.state["threadwire"]["tool_calls"] == {
            call.tool_call_id: {"name": "where", "args": {"exact": True}}
        }
        body = tool_result(call.tool_call_id, {"at": 1})
        await thread.submit("r", body, strategy=None, watcher=commands)
        await thread.submit("r2", tool_result(call.tool_call_id, 2), strategy=None, watcher=commands)
        await own.until_run("completed")
        assert own.state == {"tool": [{"at": 1}, False]}
        assert commands.last("r").status == "applied"


async def test_a_second_result_of_a_call_is_rejected_while_the_run_goes_on() -> None:
    async with engine(asking) as threads:
        thread = await threads.get("t")
        reader, commands = await follow(thread, tools=("where",)), Commands()
        async with anyio.create_task_group() as group:
            await thread.submit("a", say("tool"), strategy=None, watcher=commands)
            await reader.until(lambda: bool(tools_for(reader)))
            id = tools_for(reader)[0].tool_call_id
            for number in range(2):
                group.start_soon(
                    lambda n=number: thread.submit(
                        f"r{n}", tool_result(id, n), strategy=None, watcher=commands
                    )
                )
        await reader.until_run("completed")
        assert reader.state["tool"] == [0, False]


@in_virtual_time
async def test_a_call_is_given_to_another_when_its_connection_is_gone() -> None:
    async with engine(asking, settings=Settings(tool_grace_s=0.02)) as threads:
        thread = await threads.get("t")
        first = Reader()
        subscriber = await thread.subscribe(first, tools=("where",))
        second = await follow(thread, tools=("where",))
        await thread.submit("a", say("tool"), strategy=None, watcher=Commands(), origin=first)
        await first.until(lambda: bool(tools_for(first)))
        thread.unsubscribe(subscriber)
        await second.until(lambda: bool(tools_for(second)))
        assert tools_for(second)[0].tool_call_id == tools_for(first)[0].tool_call_id


async def test_a_call_that_nobody_can_execute_goes_to_the_first_who_can() -> None:
    async with engine(asking) as threads:
        thread = await threads.get("t")
        reader, commands = await follow(thread), Commands()
        await thread.submit("a", say("tool"), strategy=None, watcher=commands)
        await reader.until_run("waiting")
        able = await follow(thread, tools=("where",))
        await able.until(lambda: bool(tools_for(able)))


async def test_what_was_open_is_gone_after_a_restart_and_the_run_has_failed() -> None:
    store = MemoryStore()
    async with engine(asking, store=store) as threads:
        thread = await threads.get("t")
        reader = await follow(thread)
        await thread.submit("a", say("x"), strategy=None, watcher=Commands())
        await reader.until_run("waiting")
        # As after a crash: nothing more is written by this one.
        thread.close()
        thread.runner.abandon()
        threads._drop(thread)
    async with engine(asking, store=store) as threads:
        thread = await threads.get("t")
        await thread.flush()
        reader = await follow(thread)
        await reader.until(lambda: any(run and run.status == "failed" for run in reader.runs))
        assert interrupts(reader) == {} or reader.runs[-1] != reader.runs[0]


@in_virtual_time
async def test_a_connection_that_opens_the_thread_again_is_not_given_its_call_twice() -> None:
    async with engine(asking, settings=Settings(tool_grace_s=0.02)) as threads:
        thread = await threads.get("t")
        own = Reader()
        subscriber = await thread.subscribe(own, tools=("where",))
        await thread.submit("a", say("tool"), strategy=None, watcher=Commands(), origin=own)
        await own.until(lambda: bool(tools_for(own)))
        thread.unsubscribe(subscriber)
        await thread.subscribe(own, tools=("where",))
        await asyncio.sleep(0.05)
        assert len(tools_for(own)) == 1
        await thread.runner.cancel(None)


async def test_a_call_is_given_out_once_it_is_durable_and_then_once() -> None:
    store = FaultyStore()
    async with engine(asking, store=store) as threads:
        thread = await threads.get("t")
        commands = Commands()
        await thread.submit("a", say("tool"), strategy=None, watcher=commands)
        store.held = True
        await asyncio.sleep(0.02)
        reader = await follow(thread, tools=("where",))
        assert not tools_for(reader)
        store.go_on()
        await reader.until(lambda: bool(tools_for(reader)))
        await thread.flush()
        assert len(tools_for(reader)) == 1
        await thread.runner.cancel(None)


async def test_a_result_that_comes_after_the_run_of_an_answered_call_is_rejected() -> None:
    async with engine(asking) as threads:
        thread = await threads.get("t")
        reader, commands = await follow(thread, tools=("where",)), Commands()
        await thread.submit("a", say("tool"), strategy=None, watcher=commands)
        await reader.until(lambda: bool(tools_for(reader)))
        body = tool_result(tools_for(reader)[0].tool_call_id, 1)
        await thread.submit("r1", body, strategy=None, watcher=commands)
        await reader.until_run("completed")
        await thread.submit("r2", body, strategy=None, watcher=commands)
        refused = await commands.until("r2", "rejected")
        assert refused.error is not None
        assert refused.error.code == "already-answered"
        assert reader.state == {"tool": [1, False]}


async def test_a_question_that_is_refused_leaves_nothing_in_the_state() -> None:
    @threadwire.agent
    async def too_much(run: threadwire.Run) -> None:
        await run.interrupt("x" * 5000)

    limits = Limits(max_state_bytes=4096)
    async with engine(too_much, settings=Settings(limits=limits)) as threads:
        thread = await threads.get("t")
        reader = await follow(thread)
        await thread.submit("a", say("x"), strategy=None, watcher=Commands())
        await reader.until_run("failed")
        assert reader.state == {}
