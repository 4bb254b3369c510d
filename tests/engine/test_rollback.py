"""The strategy `rollback`: the run is cancelled and what it wrote is undone by one update, nothing else."""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from typing import Any

import msgspec
import pytest

import threadwire
from tests.support.engine import Commands, Reader, engine, follow, say
from tests.support.faulty_store import FaultyStore
from tests.support.hosts import Asker, Host, questions, resume
from tests.support.virtual_time import in_virtual_time
from threadwire.core import operations
from threadwire.core.document import Document
from threadwire.core.frames import Update
from threadwire.core.operations import Json
from threadwire.engine import storing
from threadwire.engine.beside import NotingDraft, keep_written
from threadwire.engine.notes import Notes
from threadwire.engine.run import Run
from threadwire.engine.settings import Settings
from threadwire.engine.store import Append, Done, StoredSnapshot
from threadwire.engine.thread import Thread
from threadwire.stores.memory import MemoryStore

pytestmark = [pytest.mark.spec("7.4")]


class Now(threadwire.Command, tag="now"):
    """Its immediate handler puts 1 at the path, or takes away what is there."""

    path: list[str]
    remove: bool = False


def put(run: Run, command: Now) -> None:
    *parents, key = command.path
    container: Any = run.state
    for parent in parents:
        container = container[parent]
    if command.remove:
        del container[key]
    else:
        container[key] = 1


async def settle() -> None:
    """Lets all happen that needs no more than a moment."""
    await asyncio.sleep(0.01)


@threadwire.agent
async def writer(run: Run) -> None:
    """`keep` writes and ends, `spoil` writes all over and goes on, `idle` goes on and writes nothing."""
    for command in run.commands:
        assert isinstance(command, threadwire.AddMessage)
        text = command.message.text
        if text == "spoil":
            run.state["items"] = [0, *run.state.get("items", [])]
            run.state["text"] = run.state.get("text", "") + "spoilt"
            run.state.pop("kept", None)
            run.state["box"] = {"made": True}
            for _ in range(5):
                run.append_text(("text",), ".")
                await asyncio.sleep(0.001)
        elif text.startswith("keep"):
            run.state["items"] = [*run.state.get("items", []), text]
            run.state["text"] = run.state.get("text", "") + "é"
            run.state["kept"] = {"deep": [text]}
        if text in ("spoil", "idle"):
            await asyncio.Event().wait()


writer.on(Now, immediate=True)(put)


class Client:
    def __init__(self, thread: Thread, reader: Reader) -> None:
        self.thread = thread
        self.reader = reader
        self.commands = Commands()

    async def send(self, id: str, body: str | dict[str, Any], strategy: Any = None) -> None:
        body = say(body) if isinstance(body, str) else body
        await self.thread.submit(id, body, strategy=strategy, watcher=self.commands)
        await settle()

    @property
    def state(self) -> Json:
        return self.reader.state

    @property
    def ends(self) -> list[tuple[str, str | None]]:
        """How runs ended."""
        return [
            (run.status, run.error.code if run.error else None)
            for run in self.reader.runs
            if run and run.status not in ("running", "waiting")
        ]

    def statuses(self, *ids: str) -> list[str]:
        return [self.commands.last(id).status for id in ids]


async def client_of(thread: Thread) -> Client:
    return Client(thread, await follow(thread))


# what is undone


@in_virtual_time
async def test_the_state_is_what_it_was_by_one_update_and_the_next_run_starts_after_it() -> None:
    async with engine(writer) as threads:
        client = await client_of(await threads.get("t"))
        await client.send("m1", "keep")
        before = client.state
        await client.send("m2", "spoil")
        assert client.state != before
        head = client.thread.head
        await client.send("m3", "idle", "rollback")
        assert client.state == before
        assert client.thread.head == head + 1
        assert client.statuses("m1", "m2", "m3") == ["applied", "applied", "running"]
        assert client.ends == [("completed", None), ("cancelled", None)]
        frames = client.reader.frames
        undone = next(
            n for n, frame in enumerate(frames) if isinstance(frame, Update) and frame.seq == head + 1
        )
        kinds = [getattr(frame, "run", None) and frame.run.status for frame in frames[undone + 1 :]]
        assert kinds == ["cancelled", "running"]
        await client.thread.runner.cancel(None)


@in_virtual_time
async def test_a_run_that_wrote_nothing_is_cancelled_without_an_update() -> None:
    async with engine(writer) as threads:
        client = await client_of(await threads.get("t"))
        await client.send("m1", "keep")
        before, head = client.state, client.thread.head
        await client.send("m2", "idle")
        await client.send("m3", "idle", "rollback")
        assert (client.state, client.thread.head) == (before, head)
        assert client.ends[1:] == [("cancelled", None)]
        await client.thread.runner.cancel(None)


@in_virtual_time
async def test_several_rollbacks_in_a_row_undo_a_run_each() -> None:
    async with engine(writer) as threads:
        client = await client_of(await threads.get("t"))
        await client.send("m1", "keep")
        before = client.state
        for number in range(5):
            await client.send(f"s{number}", "spoil", "rollback")
            assert client.state["text"].startswith("éspoilt")
        await asyncio.gather(*[client.send(f"r{number}", "keep 2", "rollback") for number in range(3)])
        assert client.state["items"][: len(before["items"])] == before["items"]
        assert "spoilt" not in client.state["text"]
        assert client.ends[1:6] == [("cancelled", None)] * 5
        assert set(client.statuses(*[f"r{number}" for number in range(3)])) <= {"applied", "cancelled"}


@in_virtual_time
async def test_a_rollback_after_an_interrupt_undoes_what_is_on_its_way_out() -> None:
    @threadwire.agent
    async def slow(run: Run) -> None:
        run.state["runs"] = [*run.state.get("runs", []), run.id]
        try:
            await asyncio.sleep(1)
        except asyncio.CancelledError:
            run.state["cleaned"] = True
            await asyncio.sleep(0.2)

    async with engine(slow) as threads:
        client = await client_of(await threads.get("t"))
        await client.send("m1", "go")
        await client.send("m2", "go", "interrupt")
        assert client.state["cleaned"]
        await client.send("m3", "go", "rollback")
        await asyncio.sleep(2)
        assert client.ends == [("cancelled", None), ("completed", None)]
        assert len(client.state["runs"]) == 1
        assert "cleaned" not in client.state


@in_virtual_time
async def test_an_agent_that_does_not_care_is_undone_and_can_write_no_more() -> None:
    @threadwire.agent
    async def stubborn(run: Run) -> None:
        for _ in range(20):
            try:
                run.state["n"] = run.state.get("n", 0) + 1
                await asyncio.sleep(0.2)
            except asyncio.CancelledError:
                continue

    async with engine(stubborn, settings=Settings(cancel_grace_s=0.5)) as threads:
        client = await client_of(await threads.get("t"))
        await client.send("m1", "go")
        await asyncio.sleep(1)
        await client.send("m2", "go", "rollback")
        await asyncio.sleep(0.55)
        assert client.state == {"n": 1}
        await asyncio.sleep(6)
        assert client.state == {"n": 20}
        assert client.ends == [("cancelled", None), ("completed", None)]


@in_virtual_time
async def test_what_an_agent_takes_up_while_it_is_being_undone_is_cancelled() -> None:
    @threadwire.agent
    async def stubborn(run: Run) -> None:
        for _ in run.commands:
            run.state["n"] = run.state.get("n", 0) + 1
            while not over.is_set():
                with suppress(asyncio.CancelledError):
                    await over.wait()
        for _ in run.inbox.take():
            done.set()

    over, done = asyncio.Event(), asyncio.Event()
    store = FaultyStore()
    async with engine(stubborn, store=store, settings=Settings(cancel_grace_s=0.5)) as threads:
        client = await client_of(await threads.get("t"))
        await client.send("m1", "go")
        await client.send("m2", "go", "steer")
        await client.send("m3", "go", "rollback")
        store.out = True  # what the run began on can't be read for a while
        await asyncio.sleep(1)
        over.set()
        await done.wait()
        store.out = False
        await asyncio.sleep(5)
        assert client.statuses("m1", "m2", "m3") == ["applied", "cancelled", "applied"]
        assert client.state == {"n": 1}
        assert client.ends == [("cancelled", None), ("completed", None)]


@in_virtual_time
async def test_a_rollback_that_comes_when_the_run_has_ended_undoes_nothing() -> None:
    @threadwire.agent
    async def quick(run: Run) -> None:
        if run.state.get("go"):
            return
        await ready.wait()
        run.state["go"] = True

    ready = asyncio.Event()
    async with engine(quick) as threads:
        client = await client_of(await threads.get("t"))
        await client.send("m1", "go")
        active = client.thread.runner._active
        assert active is not None
        assert active.task is not None
        task = active.task
        ready.set()
        while not task.done():
            await asyncio.sleep(0)
        assert not active.ended
        client.thread.runner._stop(active, "cancelled", None, rollback=True)
        await settle()
        assert client.ends == [("completed", None)]
        assert client.state == {"go": True}


@in_virtual_time
async def test_a_value_lent_and_changed_is_undone_without_an_error() -> None:
    @threadwire.agent
    async def lending(run: Run) -> None:
        item: dict[str, Any] = {"text": ""}
        run.state["items"] = [item]
        await asyncio.sleep(1)
        if text_is_last:
            return
        item["text"] += "lost"
        await asyncio.Event().wait()

    text_is_last = False
    async with engine(lending) as threads:
        client = await client_of(await threads.get("t"))
        await client.send("m1", "go")
        await asyncio.sleep(2)
        text_is_last = True
        await client.send("m2", "go", "rollback")
        await asyncio.sleep(2)
        assert client.ends == [("cancelled", None), ("completed", None)]
        assert client.state == {"items": [{"text": ""}]}


@in_virtual_time
async def test_whole_states_are_undone_too() -> None:
    @threadwire.agent
    async def whole(run: Run) -> None:
        command = run.commands[0]
        assert isinstance(command, threadwire.AddMessage)
        run.state = ["a", "list"] if command.message.text == "list" else {"text": command.message.text}
        if command.message.text != "one":
            await asyncio.Event().wait()

    async with engine(whole) as threads:
        client = await client_of(await threads.get("t"))
        await client.send("m1", "one")
        await client.send("m2", "list")
        assert client.state == ["a", "list"]
        await client.send("m3", "three", "rollback")
        assert client.state == {"text": "three"}
        await client.send("m4", "one", "rollback")
        assert client.state == {"text": "one"}
        assert client.ends == [
            ("completed", None),
            ("cancelled", None),
            ("cancelled", None),
            ("completed", None),
        ]


# what stays


@in_virtual_time
async def test_what_immediate_handlers_wrote_meanwhile_stays() -> None:
    async with engine(writer) as threads:
        client = await client_of(await threads.get("t"))
        await client.send("m1", "keep")
        await client.send("n0", {"type": "now", "path": ["old"]})
        await client.send("m2", "spoil")
        await client.send("n1", {"type": "now", "path": ["new"]})
        await client.send("n2", {"type": "now", "path": ["box", "in what the run made"]})
        await client.send("n3", {"type": "now", "path": ["old"], "remove": True})
        await client.send("n4", {"type": "now", "path": ["box", "made"], "remove": True})
        await client.send("m3", "idle", "rollback")
        assert client.state == {
            "items": ["keep"],
            "text": "é",
            "kept": {"deep": ["keep"]},
            "new": 1,
            "box": {"in what the run made": 1},
        }
        assert client.statuses("n1", "n2", "n3", "n4") == ["applied"] * 4
        # It was written during another run.
        await client.send("m4", "spoil", "rollback")
        await client.send("m5", "idle", "rollback")
        assert client.state["new"] == 1
        await client.thread.runner.cancel(None)


class SlowStore(MemoryStore):
    """While `slow`, appends are kept back."""

    def __init__(self) -> None:
        super().__init__()
        self.slow = False
        self._kept: list[tuple[Append, Done]] = []

    def append(self, entry: Append, done: Done) -> None:
        if self.slow:
            self._kept.append((entry, done))
        else:
            super().append(entry, done)

    def go_on(self) -> None:
        self.slow = False
        kept, self._kept = self._kept, []
        for entry, done in kept:
            super().append(entry, done)


@in_virtual_time
async def test_what_was_written_before_the_run_but_became_durable_in_it_stays() -> None:
    store = SlowStore()
    async with engine(writer, store=store) as threads:
        client = await client_of(await threads.get("t"))
        await client.send("m1", "keep")
        store.slow = True
        await client.send("n", {"type": "now", "path": ["before"]})
        await client.send("m2", "spoil")
        store.go_on()
        await settle()
        assert client.state["box"] == {"made": True}
        await client.send("m3", "idle", "rollback")
        assert client.state == {"items": ["keep"], "text": "é", "kept": {"deep": ["keep"]}, "before": 1}
        await client.thread.runner.cancel(None)


@in_virtual_time
async def test_what_a_handler_writes_while_the_run_is_being_undone_stays() -> None:
    store = FaultyStore()
    async with engine(writer, store=store) as threads:
        client = await client_of(await threads.get("t"))
        await client.send("m1", "spoil")
        store.faults.delays_s = (0.1,)
        rolling = asyncio.ensure_future(client.send("m2", "idle", "rollback"))
        beside = asyncio.ensure_future(client.send("n", {"type": "now", "path": ["beside"]}))
        await asyncio.wait([rolling, beside])
        await asyncio.sleep(5)
        assert client.state == {"beside": 1}
        assert client.statuses("m1", "m2", "n") == ["applied", "running", "applied"]
        await client.thread.runner.cancel(None)


def keep(old: Json, now: Json, *written: tuple[str, ...]) -> Json:
    return keep_written(old, now, written)


def test_places_that_were_written_keep_what_is_there_now() -> None:
    assert keep({"a": 1, "b": 1}, {"a": 2, "b": 2}, ("a",)) == {"a": 2, "b": 1}
    assert keep({"a": 1, "b": 1}, {"b": 2}, ("a",)) == {"b": 1}
    assert keep({}, {"a": {"b": 1, "c": 2}}, ("a", "b")) == {"a": {"b": 1}}
    assert keep({}, {"a": {"c": 2}}, ("a", "b")) == {}
    assert keep({"a": {"b": 1, "x": 1}}, {"a": {}}, ("a", "b")) == {"a": {"x": 1}}
    assert keep({"a": [1]}, {"a": {"b": 1}}, ("a", "b")) == {"a": [1]}
    assert keep({"a": {"b": 1}}, {"a": [1]}, ("a", "b")) == {"a": {}}
    assert keep({"a": 1}, ["now"], ()) == ["now"]
    assert keep(["old"], {"a": 1}, ("a",)) == ["old"]
    assert keep({"a": 1}, {"a": {"b": 2, "c": 3}}, ("a",), ("a", "b")) == {"a": {"b": 2, "c": 3}}


def test_every_way_to_write_is_noted_down_to_the_first_list() -> None:
    written: dict[tuple[Any, ...], None] = {}

    def noted() -> list[tuple[Any, ...]]:
        places = list(written)
        written.clear()
        return places

    document = Document({"a": {"b": [1, {"c": "t"}]}, "t": "", "x": 1, "y": {"z": 1}})
    draft = NotingDraft(document, written)
    state: Any = draft.root()
    state["a"]["b"][1]["c"] = "u"
    assert noted() == [("a", "b")]
    state["a"]["b"].append(3)
    assert noted() == [("a", "b")]
    state["a"]["b"][0:1] = []
    assert noted() == [("a", "b")]
    state["a"]["b"].reverse()
    assert noted() == [("a", "b")]
    state["a"]["n"] = {"m": 1}
    assert noted() == [("a", "n")]
    state["y"].update({"z": 2, "w": 3})
    assert noted() == [("y", "z"), ("y", "w")]
    state.pop("x")
    assert noted() == [("x",)]
    draft.append_text(("t",), "more")
    assert noted() == [("t",)]
    draft.append_text(("a", "b", 1, "c"), "more")
    assert noted() == [("a", "b")]
    for operation in (
        operations.Set(("k", "l"), {}),
        operations.AppendText(("t",), "x"),
        operations.Delete(("y", "z")),
        operations.Splice(("a", "b"), 0, 1, []),
    ):
        if isinstance(operation, operations.Set):
            draft.document.set(("k",), {})
            assert noted() == [("k",)]
        draft.document.edit(operation)
        assert noted() == [operation.path]
    draft.document.delete(("k", "l"))
    assert noted() == [("k", "l")]
    draft.document.splice(("a", "b"), 0, 0, [1])
    assert noted() == [("a", "b")]
    draft.replace({"new": 1})
    assert noted() == [()]
    assert document.root == {"new": 1}


@in_virtual_time
async def test_what_is_applied_was_in_the_state_before_it_is_undone() -> None:
    store = SlowStore()
    async with engine(writer, store=store) as threads:
        client = await client_of(await threads.get("t"))
        await client.send("m1", "keep")
        store.slow = True
        await client.send("m2", "spoil")
        await client.send("m3", "idle", "rollback")
        store.go_on()
        await settle()
        applied = client.commands.last("m2")
        assert applied.status == "applied"
        assert applied.seq is not None
        spoilt = await client.thread.state_at(applied.seq)
        assert isinstance(spoilt, dict)
        assert spoilt["box"] == {"made": True}
        assert client.state == {"items": ["keep"], "text": "é", "kept": {"deep": ["keep"]}}
        await client.thread.runner.cancel(None)


@in_virtual_time
@pytest.mark.spec("8.5")
async def test_a_run_that_fails_when_a_rollback_comes_keeps_what_it_wrote() -> None:
    @threadwire.agent
    async def slow(run: Run) -> None:
        run.state["n"] = 1
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0.3)

    async with engine(slow) as threads:
        client = await client_of(await threads.get("t"))
        await client.send("m1", "go")
        stopping = asyncio.ensure_future(threads.drain(0))
        await settle()
        await client.send("m2", "go", "rollback")
        await stopping
        assert client.ends == [("failed", "server-stopped")]
        assert client.state == {"n": 1}


# agents that host


@in_virtual_time
async def test_a_hosting_agent_is_told_and_what_it_notes_then_comes_with_the_undoing() -> None:
    async def run(run: Run) -> None:
        notes = await run.hosting.notes()
        (given,) = run.hosting.given
        run.state["n"] = notes["n"] = run.state.get("n", 0) + 1
        if given.id == "m2":
            await asyncio.Event().wait()
        run.hosting.apply(given)

    store, host = FaultyStore(), Host(run)
    async with engine(host, store=store) as threads:
        client = await client_of(await threads.get("t"))
        await client.send("m1", "go")
        await client.send("m2", "go")
        assert client.state == {"n": 2}
        await client.send("m3", "go", "rollback")
        assert client.state == {"n": 2}
        cancelled = next(run.id for run in client.reader.runs if run and run.status == "cancelled")
        assert host.undone == [{"n": 2, "undone": cancelled}]
        assert client.statuses("m1", "m2", "m3") == ["applied", "cancelled", "applied"]
    undoing = next(entry for entry in store.written if ("head", b'"base"') in entry.notes)
    assert undoing.data is not None
    assert store.truth["t"].states[undoing.seq] == {"n": 1}
    assert await store.notes("t") == {"n": b"2", "head": b'"base"'}


@in_virtual_time
async def test_an_agent_that_fails_at_being_told_does_not_keep_the_thread() -> None:
    class Breaking(Host):
        def rolled_back(self, run: str, notes: Notes) -> None:
            raise ZeroDivisionError

    async def run(run: Run) -> None:
        run.state["n"] = run.state.get("n", 0) + 1
        if run.hosting.given[0].id == "m1":
            await asyncio.Event().wait()

    async with engine(Breaking(run)) as threads:
        client = await client_of(await threads.get("t"))
        await client.send("m1", "go")
        await client.send("m2", "go", "rollback")
        assert client.ends == [("cancelled", None), ("completed", None)]
        assert client.state == {"n": 1}


@in_virtual_time
async def test_a_run_that_asked_before_is_undone_with_its_questions() -> None:
    async def run(run: Run) -> None:
        if run.hosting.given[0].id == "m2":
            return
        run.state["said"] = True
        for given in await run.hosting.ask(questions("?a", "?b")):
            run.state["answer"] = 1
            run.hosting.apply(given)
        await asyncio.Event().wait()

    async with engine(Host(run)) as threads:
        client = await client_of(await threads.get("t"))
        await client.send("m1", "go")
        await client.send("r1", resume(a=1))
        assert client.state["threadwire"]["interrupts"] == {"b": {"value": "b"}}
        await client.send("r2", resume(b=1))
        assert client.statuses("r1", "r2") == ["applied", "running"]
        await client.send("m2", "go", "rollback")
        assert client.state == {}
        assert client.statuses("m1", "r1", "r2", "m2") == ["cancelled", "applied", "cancelled", "applied"]
        assert client.ends == [("cancelled", None), ("completed", None)]


@in_virtual_time
async def test_a_run_that_waits_is_not_undone() -> None:
    async with engine(Asker()) as threads:
        client = await client_of(await threads.get("t"))
        await client.send("m1", "?a")
        await client.send("m2", "hello", "rollback")
        assert client.state == {"said": ["?a", "hello"]}
        assert client.ends == [("cancelled", None), ("completed", None)]


@in_virtual_time
async def test_a_run_gone_on_with_after_a_crash_is_undone_from_its_start() -> None:
    async def run(run: Run) -> None:
        if run.hosting.given and run.hosting.given[0].id == "m3":
            return
        run.state["n"] = run.state.get("n", 0) + 1
        if run.hosting.given[0].id != "m1":
            await asyncio.Event().wait()

    store, host = FaultyStore(), Host(run)
    async with engine(host, store=store) as threads:
        client = await client_of(await threads.get("t"))
        await client.send("m1", "go")
        await client.send("m2", "go")
        store.crash()
        threads.draining = True
    async with engine(host, store=store) as threads:
        client = await client_of(await threads.get("t"))
        await settle()
        assert client.state == {"n": 3}
        await client.send("m3", "go", "rollback")
        assert client.state == {"n": 1}
        assert len(host.undone) == 1


# the store


@in_virtual_time
async def test_a_slow_store_delays_the_next_run_and_nothing_else() -> None:
    store = FaultyStore()
    async with engine(writer, store=store) as threads:
        client = await client_of(await threads.get("t"))
        await client.send("m1", "keep")
        before = client.state
        await client.send("m2", "spoil")
        store.faults.delays_s = (1.0,)
        await client.send("m3", "idle", "rollback")
        await client.send("m4", "idle", "enqueue")
        assert client.statuses("m3", "m4") == ["queued", "queued"]
        await asyncio.sleep(60)
        assert client.state == before
        assert client.statuses("m3", "m4") == ["running", "running"]
        await client.thread.runner.cancel(None)


@in_virtual_time
async def test_a_store_that_can_not_be_read_for_a_while_is_asked_again() -> None:
    store = FaultyStore()
    async with engine(writer, store=store, settings=Settings(store_patience_s=10)) as threads:
        client = await client_of(await threads.get("t"))
        await client.send("m1", "spoil")
        await client.send("m2", "idle", "rollback")
        assert client.state == {}
        await client.send("m3", "spoil", "rollback")
        spoilt = client.state
        await client.send("m4", "idle", "enqueue")
        active = client.thread.runner._active
        assert active is not None
        store.out = True
        client.thread.runner._stop(active, "cancelled", None, rollback=True)
        await asyncio.sleep(5)
        assert client.state == spoilt
        store.out = False
        await asyncio.sleep(5)
        assert client.state == {}
        assert not client.thread.closed
        assert client.ends == [("cancelled", None)] * 3
        await client.thread.runner.cancel(None)


@in_virtual_time
async def test_a_store_that_stays_out_loses_the_thread_and_what_was_acknowledged_is_done_after() -> None:
    store = FaultyStore()
    async with engine(writer, store=store, settings=Settings(store_patience_s=2)) as threads:
        client = await client_of(await threads.get("t"))
        await client.send("m1", "spoil")
        await client.send("m2", "keep", "enqueue")
        active = client.thread.runner._active
        assert active is not None
        store.out = True
        client.thread.runner._stop(active, "cancelled", None, rollback=True)
        await asyncio.sleep(10)
        assert client.thread.closed
        store.out = False
        await asyncio.sleep(60)
        assert client.statuses("m1", "m2") == ["applied", "applied"]
        runs = await store.runs("t", limit=2)
        assert [run.status for run in runs] == ["completed", "failed"]


@in_virtual_time
async def test_a_crash_while_a_run_is_being_undone_leaves_a_thread_that_goes_on() -> None:
    store = FaultyStore()
    async with engine(writer, store=store) as threads:
        client = await client_of(await threads.get("t"))
        await client.send("m1", "spoil")
        store.faults.delays_s = (0.1,)
        rolling = asyncio.ensure_future(client.send("m2", "keep", "rollback"))
        await asyncio.sleep(0.35)
        await rolling
        assert client.thread.runner.busy
        store.crash()
        threads.draining = True
    async with engine(writer, store=store) as threads:
        client = await client_of(await threads.get("t"))
        await asyncio.sleep(10)
        record = await store.command("t", "m2")
        assert record is not None
        assert record.status == "applied"
        assert client.ends[-1] == ("completed", None)


def cut_log(thread: Thread, store: MemoryStore) -> None:
    """Drops all rows, and all snapshots but one of now."""
    held = store._threads[thread.id]
    held.snapshots = [StoredSnapshot(thread.head, thread.epoch, msgspec.msgpack.encode(thread.document.root))]
    held.trim(thread.head)


@in_virtual_time
async def test_where_the_log_does_not_reach_back_the_run_is_cancelled_and_keeps_what_it_wrote() -> None:
    store, lines = MemoryStore(), Lines()
    host_lines = logging.getLogger("threadwire")
    host_lines.addHandler(lines)
    try:
        async with engine(writer, store=store) as threads:
            client = await client_of(await threads.get("t"))
            await client.send("m0", "keep")
            await client.send("m1", "spoil")
            cut_log(client.thread, store)
            spoilt = client.state
            await client.send("m2", "idle", "rollback")
            assert client.state == spoilt
            assert client.ends == [("completed", None), ("cancelled", None)]
            assert client.statuses("m2") == ["running"]
            await client.thread.runner.cancel(None)
    finally:
        host_lines.removeHandler(lines)
    assert lines.texts == ["thread t: too much was written since the run began to undo it"]


class Lines(logging.Handler):
    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.texts: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.texts.append(record.getMessage())


@in_virtual_time
async def test_snapshots_stored_during_a_long_run_leave_its_start_to_be_read() -> None:
    @threadwire.agent
    async def long(run: Run) -> None:
        if run.state.get("text"):
            return
        run.state["text"] = ""
        for number in range(200):
            run.state["text"] = str(number) * 30
            await asyncio.sleep(0.01)
        await asyncio.Event().wait()

    store = FaultyStore()
    settings = Settings(history_updates=1, history_s=0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(storing, "_SNAPSHOT_BYTES", 100)
        patch.setattr(storing, "_SNAPSHOT_ROWS", 5)
        async with engine(long, store=store, settings=settings) as threads:
            client = await client_of(await threads.get("t"))
            client.thread.document.set(("first",), 1)
            await settle()
            await client.send("m1", "go")
            await asyncio.sleep(5)
            assert store.disk._threads["t"].snapshots
            await client.send("m2", "go", "rollback")
            await asyncio.sleep(1)
            assert client.ends[0] == ("cancelled", None)
            assert store.truth["t"].states.count({"first": 1}) >= 2


@in_virtual_time
async def test_a_run_whose_thread_was_unloaded_while_it_waited_can_still_be_undone() -> None:
    async def run(run: Run) -> None:
        if run.hosting.given and run.hosting.given[-1].id == "last":
            return
        for number in range(30):
            run.state["n"] = number
            await run.flush()
        if run.state.setdefault("asked", []) == [1, 2, 3]:
            await asyncio.Event().wait()
        for given in await run.hosting.ask(questions("?a")):
            run.state["asked"].append(len(run.state["asked"]) + 1)
            run.hosting.apply(given)
        await self(run)

    self = run
    store = FaultyStore()
    settings = Settings(idle_s=1, history_updates=1, history_s=0)
    async with engine(Host(run), store=store, settings=settings) as threads:
        thread = await threads.get("t")
        thread.document.set(("first",), 1)
        await settle()
        commands = Commands()
        await thread.submit("m1", say("go"), strategy=None, watcher=commands)
        await settle()
        for number in range(3):
            (await threads.get("t")).intake.forget(commands)
            await asyncio.sleep(10)
            assert len(threads) == 0
            thread = await threads.get("t")
            await thread.submit(f"r{number}", resume(a=1), strategy=None, watcher=Commands())
            await settle()
        client = await client_of(await threads.get("t"))
        assert client.state["asked"] == [1, 2, 3]
        await client.send("last", "go", "rollback")
        await asyncio.sleep(1)
        assert client.state == {"first": 1}


@in_virtual_time
async def test_a_state_that_would_be_too_large_with_what_stays_is_left_as_it_is() -> None:
    @threadwire.agent
    async def shrinking(run: Run) -> None:
        if run.state.get("full"):
            run.state["full"] = ""
            await asyncio.Event().wait()
        run.state["full"] = "x" * 700

    @shrinking.on(Now, immediate=True)
    async def fill(run: Run, command: Now) -> None:
        run.state["beside"] = "y" * 700

    limits = threadwire.Limits(max_state_bytes=1000)
    async with engine(shrinking, settings=Settings(limits=limits)) as threads:
        client = await client_of(await threads.get("t"))
        await client.send("m1", "go")
        await client.send("m2", "go")
        await client.send("n", {"type": "now", "path": []})
        await client.send("m3", "go", "rollback")
        assert client.state["beside"] == "y" * 700
        assert client.ends[1] == ("cancelled", None)
        assert client.statuses("m3") != ["queued"]
        await client.thread.runner.cancel(None)
