"""What an agent notes of a thread: read back, durable with the state it belongs to, closed with the run."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

import threadwire
from tests.support.engine import Commands, engine, follow, say
from tests.support.faulty_store import FaultyStore
from tests.support.hosts import Host
from tests.support.virtual_time import in_virtual_time
from threadwire.core.errors import RunEnded
from threadwire.engine.hosting import Questions
from threadwire.engine.notes import Notes
from threadwire.engine.threads import Threads


def make(stored: dict[str, bytes]) -> tuple[Notes, list[tuple[str, bytes | None]]]:
    changes: list[tuple[str, bytes | None]] = []
    return Notes(stored, check=lambda: None, changed=lambda *change: changes.append(change)), changes


# as a mapping


def test_notes_are_json_by_name() -> None:
    notes, changes = make({"a": b"1"})
    notes["b"] = {"x": [None, "é"]}
    assert dict(notes) == {"a": 1, "b": {"x": [None, "é"]}}
    assert (len(notes), "b" in notes, "c" in notes, notes.get("c")) == (2, True, False, None)
    assert changes == [("b", '{"x":[null,"é"]}'.encode())]


def test_what_is_noted_already_is_not_noted_again() -> None:
    notes, changes = make({"a": b'{"x":1}'})
    notes["a"] = {"x": 1}
    assert changes == []
    notes["a"] = {"x": 2}
    assert changes == [("a", b'{"x":2}')]


def test_changing_what_was_read_changes_no_note() -> None:
    notes, changes = make({"a": b"[1]"})
    read: Any = notes["a"]
    read.append(2)
    assert notes["a"] == [1]
    assert changes == []


def test_a_note_can_be_removed_once() -> None:
    notes, changes = make({"a": b"1"})
    del notes["a"]
    assert changes == [("a", None)]
    with pytest.raises(KeyError):
        del notes["a"]
    with pytest.raises(KeyError):
        notes["a"]
    assert changes == [("a", None)]


def test_notes_can_be_removed_while_they_are_gone_through() -> None:
    notes, changes = make({"a": b"1", "b": b"2"})
    for name in notes:
        del notes[name]
    assert changes == [("a", None), ("b", None)]
    assert not notes


def test_what_is_no_json_is_refused_and_the_note_stays() -> None:
    notes, changes = make({"a": b"1"})
    with pytest.raises(TypeError):
        notes["a"] = object()
    assert notes["a"] == 1
    assert changes == []


# in runs


async def start(threads: Threads, text: str = "go", id: str = "a") -> Commands:
    commands = Commands()
    thread = await threads.get("t")
    await thread.submit(id, say(text), strategy=None, watcher=commands)
    return commands


@in_virtual_time
async def test_notes_and_the_state_of_one_stretch_become_durable_together() -> None:
    async def run(run: threadwire.Run) -> None:
        notes = await run.hosting.notes()
        for number in range(20):
            run.state["n"] = number
            notes["n"] = number
            await asyncio.sleep(0.001)

    store = FaultyStore()
    async with engine(Host(run), store=store) as threads:
        reader = await follow(await threads.get("t"))
        await start(threads)
        await reader.until_run("completed")
    noted = [(entry.data is not None, dict(entry.notes)) for entry in store.written if entry.notes]
    assert all(with_update for with_update, _ in noted)
    assert noted[-1][1] == {"n": b"19"}
    assert await store.notes("t") == {"n": b"19"}


@in_virtual_time
async def test_notes_alone_are_durable_after_a_flush_and_no_client_sees_them() -> None:
    async def run(run: threadwire.Run) -> None:
        notes = await run.hosting.notes()
        notes["secret"] = "x"
        await run.hosting.flush()
        flushed.append(dict(store.disk._threads["t"].notes))

    store = FaultyStore()
    flushed: list[dict[str, bytes]] = []
    async with engine(Host(run), store=store) as threads:
        reader = await follow(await threads.get("t"))
        await start(threads)
        await reader.until_run("completed")
        assert flushed == [{"secret": b'"x"'}]
        assert reader.state == {}
        assert await (await threads.get("t")).state_at(0) == {}
        assert store.truth["t"].head == 0


@in_virtual_time
async def test_each_run_finds_the_notes_of_those_before_and_another_owner_too() -> None:
    async def run(run: threadwire.Run) -> None:
        notes = await run.hosting.notes()
        seen.append(dict(notes))
        notes[run.hosting.given[0].id] = True
        if len(notes) > 2:
            notes.pop("a", None)

    store = FaultyStore()
    seen: list[dict[str, Any]] = []
    for id in "abcd":
        async with engine(Host(run), store=store) as threads:
            commands = await start(threads, id=id)
            await commands.until(id, "applied")
            if id == "b":
                commands = await start(threads, id="bb")
                await commands.until("bb", "applied")
    assert seen == [
        {},
        {"a": True},
        {"a": True, "b": True},
        {"b": True, "bb": True},
        {"b": True, "bb": True, "c": True},
    ]


@in_virtual_time
async def test_notes_that_did_not_reach_the_disk_are_gone_with_the_state_they_belong_to() -> None:
    async def run(run: threadwire.Run) -> None:
        notes = await run.hosting.notes()
        run.state["n"] = notes["n"] = 1
        await run.hosting.flush()
        store.held = True
        run.state["n"] = notes["n"] = 2
        await asyncio.Event().wait()

    async def recover(run: threadwire.Run) -> None:
        found.append((run.state["n"], (await run.hosting.notes())["n"]))

    store = FaultyStore()
    found: list[tuple[int, Any]] = []
    async with engine(Host(run), store=store) as threads:
        await start(threads)
        await asyncio.sleep(1)
        assert store.held
        store.crash()
        threads.draining = True
    async with engine(Host(run, recover), store=store) as threads:
        await asyncio.sleep(1)
    assert found == [(1, 1)]


@in_virtual_time
async def test_a_run_that_has_ended_notes_nothing() -> None:
    async def run(run: threadwire.Run) -> None:
        kept.append((run, await run.hosting.notes()))

    store = FaultyStore()
    kept: list[tuple[threadwire.Run, Notes]] = []
    async with engine(Host(run), store=store) as threads:
        commands = await start(threads)
        await commands.until("a", "applied")
        ((ended, notes),) = kept
        with pytest.raises(RunEnded):
            notes["late"] = 1
        with pytest.raises(RunEnded):
            del notes["late"]
        with pytest.raises(RunEnded):
            await ended.hosting.notes()
        with pytest.raises(RunEnded):
            ended.hosting.apply(ended.hosting.given[0])
        with pytest.raises(RunEnded):
            ended.hosting.steered()
        with pytest.raises(RunEnded):
            await ended.hosting.flush()
        with pytest.raises(RunEnded):
            ended.hosting.document  # noqa: B018
    assert await store.notes("t") == {}


@in_virtual_time
async def test_a_handler_beside_the_run_can_note_and_settle_but_not_ask() -> None:
    class Mark(threadwire.Command, tag="mark"):
        ask: bool = False

    async def run(run: threadwire.Run) -> None:
        notes = await run.hosting.notes()
        while "mark" not in notes:
            await asyncio.sleep(0.01)
        run.state["seen"] = notes["mark"]

    host = Host(run)

    @host.on(Mark, immediate=True)
    async def mark(run: threadwire.Run, command: Mark) -> None:
        if command.ask:
            await run.hosting.ask(Questions(breakpoint=True))
        assert run.hosting.given == ()
        (await run.hosting.notes())["mark"] = 1
        run.hosting.document.set(("marked",), True)

    store = FaultyStore()
    async with engine(host, store=store) as threads:
        thread = await threads.get("t")
        reader, commands = await follow(thread), await start(threads)
        await thread.submit("m1", {"type": "mark", "ask": True}, strategy=None, watcher=commands)
        refused = await commands.until("m1", "rejected")
        assert refused.error is not None
        assert "can't wait" in refused.error.message
        await thread.submit("m2", {"type": "mark"}, strategy=None, watcher=commands)
        await reader.until_run("completed")
        assert reader.state == {"marked": True, "seen": 1}
        assert "waiting" not in [run.status for run in reader.runs if run]
