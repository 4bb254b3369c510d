"""Commands in, updates out: what a thread promises its clients."""

from __future__ import annotations

import asyncio
from typing import Any

import anyio
import pytest

import threadwire
from tests.support.engine import Commands, Reader, engine, follow, say
from threadwire.core.canonical import canonical
from threadwire.core.errors import CommandError, Refused
from threadwire.core.frames import CommandState, Snapshot, Update
from threadwire.core.operations import apply
from threadwire.engine.settings import Settings
from threadwire.stores.memory import MemoryStore
from threadwire_agents.demos.scripted import scripted

pytestmark = pytest.mark.anyio


async def test_command_is_queued_running_and_applied_with_its_effect_in_the_state() -> None:
    async with engine(scripted) as threads:
        thread = await threads.get("t")
        reader, commands = await follow(thread), Commands()
        await thread.submit("c1", say("hello big world"), strategy=None, watcher=commands)
        await reader.until_run("completed")
        assert [m["content"] for m in reader.state["messages"]] == ["hello big world"] * 2
        assert commands.of("c1") == ["queued", "running", "applied"]
        applied = commands.last("c1").seq
        assert applied is not None
        assert 1 <= applied <= reader.position[1]  # type: ignore[index]
        assert [run.status for run in reader.runs if run] == ["running", "completed"]


async def test_new_thread_opens_with_an_empty_snapshot_and_no_run() -> None:
    async with engine(scripted) as threads:
        reader = await follow(await threads.get("t"))
        assert reader.state == {}
        assert reader.position is not None
        assert reader.position[1] == 0
        assert reader.runs == [None]


async def test_readers_of_both_encodings_joining_mid_run_end_at_the_same_state() -> None:
    async with engine(scripted) as threads:
        thread = await threads.get("t")
        readers = [await follow(thread, "json"), await follow(thread, "msgpack")]
        await thread.submit("c", say("count 500"), strategy=None, watcher=Commands())
        for _ in range(20):
            before = thread.committed
            await readers[0].until(lambda: thread.committed > before + 5)  # noqa: B023
            readers.append(await follow(thread, "json" if len(readers) % 2 else "msgpack"))
        await readers[0].until_run("completed")
        for reader in readers:
            await reader.until_run("completed")
            assert reader.state == readers[0].state
            assert reader.position == readers[0].position
        snapshot = await thread.snapshot("json")
        assert (snapshot.epoch, snapshot.seq) == readers[0].position


async def test_resume_at_every_seq_gives_the_missing_updates_and_no_snapshot() -> None:
    async with engine(scripted) as threads:
        thread = await threads.get("t")
        first = await follow(thread)
        states = {0: {}}
        await thread.submit("c", say("one two three four five six"), strategy=None, watcher=Commands())
        await first.until_run("completed")
        state: Any = {}
        for frame in first.frames:
            if isinstance(frame, Update):
                state = apply(state, frame.ops)
                states[frame.seq] = state
        assert first.position is not None
        epoch, head = first.position
        for seq, state in states.items():
            reader = Reader()
            reader.state, reader.position = state, (epoch, seq)
            await thread.subscribe(reader, since={"epoch": epoch, "seq": seq})
            assert not any(isinstance(frame, Snapshot) for frame in reader.frames)
            assert reader.state == first.state
            assert reader.position == (epoch, head)
            assert reader.runs[-1] == first.runs[-1]


@pytest.mark.parametrize(
    "since",
    [
        {"epoch": 1, "seq": 1},
        {"seq": 1},
        {"epoch": "x", "seq": 1},
        {"epoch": None, "seq": -1},
        {"seq": 10**9},
        [],
        "x",
        7,
        {"epoch": -1, "seq": 1.5},
    ],
)
async def test_since_that_makes_no_sense_is_answered_by_a_snapshot(since: Any) -> None:
    async with engine(scripted) as threads:
        thread = await threads.get("t")
        commands = Commands()
        await thread.submit("c", say("hi"), strategy=None, watcher=commands)
        await commands.until("c", "applied")
        if isinstance(since, dict) and "epoch" not in since:
            since = {"epoch": thread.epoch, **since}
            if since["seq"] == 1:
                since["epoch"] += 1
        reader = Reader()
        await thread.subscribe(reader, since=since)
        await reader.until(lambda: bool(reader.runs))
        assert isinstance(reader.frames[0], Snapshot)


async def test_same_id_again_has_no_second_effect_and_is_answered_as_duplicate() -> None:
    async with engine(scripted) as threads:
        thread = await threads.get("t")
        reader, first, second = await follow(thread), Commands(), Commands()
        await thread.submit("c", say("hi"), strategy=None, watcher=first)
        await thread.submit("c", say("hi"), strategy=None, watcher=second)
        assert second.seen[0].duplicate
        await first.until("c", "applied")
        await second.until("c", "applied")
        await reader.until_run("completed")
        await thread.submit("c", say("hi"), strategy=None, watcher=second)
        assert second.seen[-1].duplicate
        assert second.seen[-1].status == "applied"
        assert second.seen[-1].seq == first.last("c").seq
        assert len(reader.state["messages"]) == 2


async def test_same_id_with_another_body_is_refused() -> None:
    async with engine(scripted) as threads:
        thread = await threads.get("t")
        await thread.submit("c", say("hi"), strategy=None, watcher=Commands())
        with pytest.raises(Refused) as refused:
            await thread.submit("c", say("ho"), strategy=None, watcher=Commands())
        assert refused.value.code == "command-id-reused"


async def test_equal_numbers_and_key_order_make_equal_bodies() -> None:
    async with engine(scripted) as threads:
        thread = await threads.get("t")
        commands = Commands()
        await thread.submit("c", {"type": "set-title", "title": "x"}, strategy=None, watcher=commands)
        await thread.submit("c", {"title": "x", "type": "set-title"}, strategy=None, watcher=commands)
        assert commands.seen[-1].duplicate or commands.seen[1].duplicate


async def test_commands_during_a_run_are_the_next_runs_batch_in_order() -> None:
    release = asyncio.Event()
    batches: list[list[str]] = []

    @threadwire.agent
    async def slow(run: threadwire.Run) -> None:
        batches.append([c.message.text for c in run.commands if isinstance(c, threadwire.AddMessage)])
        run.state["n"] = len(batches)
        await release.wait()

    async with engine(slow) as threads:
        thread = await threads.get("t")
        commands = Commands()
        await thread.submit("a", say("a"), strategy=None, watcher=commands)
        await commands.until("a", "applied")
        for id in "bcd":
            await thread.submit(id, say(id), strategy=None, watcher=commands)
        assert commands.of("d") == ["queued"]
        release.set()
        await commands.until("d", "applied")
    assert batches == [["a"], ["b", "c", "d"]]


async def test_reject_strategy_refuses_while_a_run_is_active_but_answers_duplicates() -> None:
    async with engine(scripted) as threads:
        thread = await threads.get("t")
        commands = Commands()
        await thread.submit("a", say("hang on"), strategy="reject", watcher=commands)
        await commands.until("a", "applied")
        with pytest.raises(CommandError) as refused:
            await thread.submit("b", say("x"), strategy="reject", watcher=commands)
        assert refused.value.code == "thread-busy"
        await thread.submit("a", say("hang on"), strategy="reject", watcher=commands)
        assert commands.seen[-1].duplicate
        await thread.runner.cancel(None)
        await thread.submit("b", say("x"), strategy="reject", watcher=commands)
        await commands.until("b", "applied")


async def test_interrupt_strategy_cancels_keeps_the_partial_text_and_starts() -> None:
    async with engine(scripted) as threads:
        thread = await threads.get("t")
        reader, commands = await follow(thread), Commands()
        await thread.submit("a", say("hang on"), strategy=None, watcher=commands)
        await commands.until("a", "applied")
        await reader.until(lambda: reader.state.get("messages", [{}])[-1].get("content") == "hang ")
        await thread.submit("b", say("next"), strategy="interrupt", watcher=commands)
        await reader.until_run("completed")
        assert [m["content"] for m in reader.state["messages"]] == ["hang on", "hang ", "next", "next"]
        assert [run.status for run in reader.runs if run] == [
            "running",
            "cancelled",
            "running",
            "completed",
        ]


async def test_cancel_keeps_partial_text_and_settles_the_queue_as_cancelled() -> None:
    async with engine(scripted) as threads:
        thread = await threads.get("t")
        reader, commands = await follow(thread), Commands()
        await thread.submit("a", say("hang on"), strategy=None, watcher=commands)
        await commands.until("a", "applied")
        await thread.submit("b", say("b"), strategy=None, watcher=commands)
        run = await thread.runner.cancel(None)
        assert run is not None
        assert run.status == "cancelled"
        assert commands.last("b").status == "cancelled"
        assert reader.state["messages"][-1]["content"] == "hang "
        await thread.submit("c", say("c"), strategy=None, watcher=commands)
        await commands.until("c", "applied")


async def test_cancel_of_a_run_by_id_lets_the_queue_go_on() -> None:
    async with engine(scripted) as threads:
        thread = await threads.get("t")
        reader, commands = await follow(thread), Commands()
        await thread.submit("a", say("hang on"), strategy=None, watcher=commands)
        await commands.until("a", "applied")
        await thread.submit("b", say("b"), strategy=None, watcher=commands)
        assert (await thread.runner.cancel("no-such-run")) == thread.run_info
        assert thread.run_info is not None
        await thread.runner.cancel(thread.run_info.id)
        await commands.until("b", "applied")
        await reader.until_run("completed")


async def test_cancel_before_the_run_has_started_settles_the_command_as_cancelled() -> None:
    class CancelWhenQueued(Commands):
        def __call__(self, state: CommandState) -> None:
            super().__call__(state)
            if state.status == "queued":
                cancels.append(asyncio.ensure_future(thread.runner.cancel(None)))

    cancels: list[asyncio.Future[Any]] = []
    async with engine(scripted) as threads:
        thread = await threads.get("t")
        commands = CancelWhenQueued()
        await thread.submit("a", say("hang on"), strategy=None, watcher=commands)
        await asyncio.gather(*cancels)
        assert commands.of("a") == ["queued", "cancelled"]
        assert not thread.runner.busy
        assert thread.run_info is None


async def test_an_agent_that_swallows_cancellation_loses_its_draft_and_the_thread_goes_on() -> None:
    stuck = asyncio.Event()

    @threadwire.agent
    async def stubborn(run: threadwire.Run) -> None:
        (command,) = run.commands
        assert isinstance(command, threadwire.AddMessage)
        text = command.message.text
        run.state["text"] = text
        while text == "stay":
            try:
                await stuck.wait()
                return
            except asyncio.CancelledError:
                run.state["text"] = "cleaning up"

    async with engine(stubborn, settings=Settings(cancel_grace_s=0.05)) as threads:
        thread = await threads.get("t")
        reader, commands = await follow(thread), Commands()
        await thread.submit("a", say("stay"), strategy=None, watcher=commands)
        await commands.until("a", "applied")
        with anyio.fail_after(60):
            await thread.runner.cancel(None)
        assert reader.state == {"text": "cleaning up"}
        await thread.submit("b", say("go"), strategy=None, watcher=commands)
        await commands.until("b", "applied")
        assert reader.state == {"text": "go"}
        stuck.set()


async def test_a_failing_agent_leaves_a_typed_error_its_partial_text_and_a_usable_thread() -> None:
    async with engine(scripted) as threads:
        thread = await threads.get("t")
        reader, commands = await follow(thread), Commands()
        await thread.submit("a", say("fail now"), strategy=None, watcher=commands)
        run = await reader.until_run("failed")
        assert run.error is not None
        assert (run.error.code, run.error.message) == ("agent-error", "scripted failure")
        assert reader.state["messages"][-1]["content"] == "fail "
        assert commands.last("a").status == "applied"
        await thread.submit("b", say("again"), strategy=None, watcher=commands)
        await reader.until_run("completed")


async def test_a_failing_agent_that_takes_nothing_settles_one_command_and_does_not_loop() -> None:
    runs = 0

    @threadwire.agent
    async def broken(run: threadwire.Run) -> None:
        nonlocal runs
        runs += 1
        raise ValueError("secret")

    async with engine(broken) as threads:
        thread = await threads.get("t")
        reader, commands = await follow(thread), Commands()
        await thread.submit("a", say("a"), strategy=None, watcher=commands)
        await reader.until_run("failed")
        state = await commands.until("a", "rejected")
        assert state.error is not None
        assert state.error.code == "agent-failed"
        assert "secret" not in state.error.message
        assert runs == 1


async def test_commands_not_taken_up_by_a_failing_run_start_the_next() -> None:
    @threadwire.agent
    async def picky(run: threadwire.Run) -> None:
        for command in run.commands:
            assert isinstance(command, threadwire.AddMessage)
            run.state["last"] = command.message.text
            await run.flush()
            if command.message.text == "bad":
                raise threadwire.AgentError("no")

    async with engine(picky) as threads:
        thread = await threads.get("t")
        reader, commands = await follow(thread), Commands()
        async with anyio.create_task_group() as group:
            for id, text in (("a", "bad"), ("b", "good")):
                group.start_soon(
                    lambda id=id, text=text: thread.submit(id, say(text), strategy=None, watcher=commands)
                )
        await commands.until("b", "applied")
        await reader.until_run("completed")
        assert reader.state["last"] == "good"


async def test_handlers_take_the_place_of_the_run_and_their_refusals_reject_the_command() -> None:
    called = 0

    @threadwire.agent
    async def main(run: threadwire.Run) -> None:
        nonlocal called
        called += 1

    class Rename(threadwire.Command, tag="rename"):
        name: str

    @main.on(Rename)
    async def rename(run: threadwire.Run, command: Rename) -> None:
        if not command.name:
            raise threadwire.CommandError("empty-name", "a name has letters", "command.name")
        run.state["name"] = command.name
        if command.name == "go":
            run.start_agent()

    async with engine(main) as threads:
        thread = await threads.get("t")
        reader, commands = await follow(thread), Commands()
        await thread.submit("a", {"type": "rename", "name": "x"}, strategy=None, watcher=commands)
        applied = await commands.until("a", "applied")
        assert applied.seq == 1
        assert reader.state == {"name": "x"}
        assert called == 0
        await thread.submit("b", {"type": "rename", "name": ""}, strategy=None, watcher=commands)
        refused = await commands.until("b", "rejected")
        assert refused.error is not None
        assert refused.error.code == "empty-name"
        await thread.submit("c", {"type": "rename", "name": "go"}, strategy=None, watcher=commands)
        await commands.until("c", "applied")
        await thread.runner.ended()
        assert called == 1


async def test_immediate_handlers_work_beside_the_run_on_the_same_state() -> None:
    stopped = asyncio.Event()

    @threadwire.agent
    async def counting(run: threadwire.Run) -> None:
        run.state["n"] = [command.type_name() for command in run.commands]
        await stopped.wait()

    class Stop(threadwire.Command, tag="stop"):
        pass

    @counting.on(Stop, immediate=True)
    async def stop(run: threadwire.Run, command: Stop) -> None:
        run.state["stop"] = True
        stopped.set()

    async with engine(counting) as threads:
        thread = await threads.get("t")
        reader, commands = await follow(thread), Commands()
        await thread.submit("a", say("x"), strategy=None, watcher=commands)
        await commands.until("a", "applied")
        await thread.submit("b", {"type": "stop"}, strategy=None, watcher=commands)
        await commands.until("b", "applied")
        await reader.until_run("completed")
        assert reader.state == {"n": ["add-message"], "stop": True}


@pytest.mark.parametrize(
    ("body", "code", "field"),
    [
        ({"type": "set-title"}, "invalid-command", "command.title"),
        ({"type": "set-title", "title": 1}, "invalid-command", "command.title"),
        ({"type": "set-title", "title": "x", "extra": 1}, "invalid-command", "command.extra"),
        ({"type": "no-such"}, "unknown-command", "command.type"),
        ({}, "invalid-command", "command.type"),
        ([], "invalid-command", "command"),
        (None, "invalid-command", "command"),
    ],
)
async def test_wrong_commands_are_refused_naming_the_field(body: Any, code: str, field: str) -> None:
    async with engine(scripted) as threads:
        thread = await threads.get("t")
        with pytest.raises(CommandError) as refused:
            await thread.submit("c", body, strategy=None, watcher=Commands())
        assert (refused.value.code, refused.value.field) == (code, field)


async def test_a_changed_container_that_was_copied_in_fails_the_run_naming_the_path() -> None:
    @threadwire.agent
    async def careless(run: threadwire.Run) -> None:
        message = {"content": ""}
        run.state["messages"] = [1]
        run.state["messages"].append(message)
        await run.flush()
        message["content"] += "lost"
        run.state["x"] = 1
        await asyncio.sleep(5)

    async with engine(careless) as threads:
        thread = await threads.get("t")
        reader = await follow(thread)
        await thread.submit("a", say("x"), strategy=None, watcher=Commands())
        run = await reader.until_run("failed")
        assert run.error is not None
        assert run.error.code == "detached-write"
        assert run.error.field == "state.messages.1"


async def test_a_blocking_agent_runs_beside_the_loop_and_its_writes_arrive() -> None:
    @threadwire.agent
    def blocking(run: threadwire.Run) -> None:
        for command in run.commands:
            run.state["messages"] = [{"text": command.message.text}]  # type: ignore[attr-defined]
        for number in range(500):
            run.append_text(("messages", 0, "text"), f" {number}")

    async with engine(blocking) as threads:
        thread = await threads.get("t")
        reader, commands = await follow(thread), Commands()
        await thread.submit("a", say("x"), strategy=None, watcher=commands)
        await reader.until_run("completed")
        assert reader.state["messages"][0]["text"] == "x " + " ".join(map(str, range(500)))
        assert commands.last("a").status == "applied"


async def test_a_generator_agent_yields_whole_states_and_clients_get_the_difference() -> None:
    @threadwire.agent
    async def generating(run: threadwire.Run) -> Any:
        state: dict[str, Any] = {"messages": [{"id": "1", "text": ""}]}
        for word in ("a", "b", "c"):
            state["messages"][0]["text"] += word
            yield state

    async with engine(generating) as threads:
        thread = await threads.get("t")
        reader = await follow(thread)
        await thread.submit("a", say("x"), strategy=None, watcher=Commands())
        await reader.until_run("completed")
        assert reader.state == {"messages": [{"id": "1", "text": "abc"}]}


async def test_a_slow_reader_gets_merged_updates_and_ends_at_the_exact_state() -> None:
    async with engine(scripted) as threads:
        thread = await threads.get("t")
        fast, slow = await follow(thread), await follow(thread, "msgpack")
        slow.is_ready = False
        await thread.submit("a", say("count 3000"), strategy=None, watcher=Commands())
        await fast.until_run("completed")
        frames = len(slow.frames)
        slow.resume_reading()
        assert slow.state == fast.state
        assert slow.position == fast.position
        assert len(slow.frames) - frames <= 3
        assert slow.runs[-1] == fast.runs[-1]


async def test_a_backlog_heavier_than_the_state_becomes_a_snapshot() -> None:
    @threadwire.agent
    async def churning(run: threadwire.Run) -> None:
        for number in range(300):
            run.state["items"] = [{"n": number, "text": "x" * 1000}]
            await asyncio.sleep(0)
            run.state["items"].insert(0, {"y": "z" * 1000})
            await asyncio.sleep(0)
            run.state["items"].pop(0)
            await asyncio.sleep(0)

    async with engine(churning) as threads:
        thread = await threads.get("t")
        fast, slow = await follow(thread), await follow(thread)
        slow.is_ready = False
        await thread.submit("a", say("x"), strategy=None, watcher=Commands())
        await fast.until_run("completed")
        slow.resume_reading()
        await slow.until_run("completed")
        assert slow.state == fast.state
        assert slow.bytes < 200_000


async def test_hash_is_sent_after_a_run_to_those_who_asked_only() -> None:
    async with engine(scripted) as threads:
        thread = await threads.get("t")
        plain, asking = await follow(thread), await follow(thread, hash=True)
        await thread.submit("a", say("x"), strategy=None, watcher=Commands())
        await plain.until_run("completed")

        def hashed(reader: Reader) -> bool:
            return any(isinstance(f, Update) and f.hash and f.seq > 0 for f in reader.frames)

        await asking.until(lambda: hashed(asking))
        frame = next(f for f in reversed(asking.frames) if isinstance(f, Update) and f.hash)
        from threadwire.core.canonical import state_hash

        assert frame.hash == state_hash(plain.state)
        assert not hashed(plain)


async def test_an_idle_thread_is_unloaded_and_comes_back_whole() -> None:
    async with engine(scripted, settings=Settings(idle_s=0.05)) as threads:
        thread = await threads.get("t")
        reader = await follow(thread)
        await thread.submit("a", say("one two"), strategy=None, watcher=Commands())
        await reader.until_run("completed")
        (subscriber,) = thread.subscribers
        thread.unsubscribe(subscriber)
        with anyio.fail_after(60):
            while len(threads):
                await asyncio.sleep(0.01)
        again = await threads.get("t")
        assert again is not thread
        reread = await follow(again)
        assert reread.state == reader.state
        assert reread.position == reader.position
        assert reread.runs == [reader.runs[-1]]


async def test_state_survives_a_restart_under_a_new_epoch_and_clients_resume() -> None:
    store = MemoryStore()
    async with engine(scripted, store=store) as threads:
        reader = await follow(await threads.get("t"))
        thread = await threads.get("t")
        await thread.submit("a", say("one two"), strategy=None, watcher=Commands())
        await reader.until_run("completed")
    async with engine(scripted, store=store) as threads:
        thread = await threads.get("t")
        assert reader.position is not None
        epoch, seq = reader.position
        back = Reader()
        back.state, back.position = reader.state, reader.position
        await thread.subscribe(back, since={"epoch": epoch, "seq": seq})
        assert back.position[1] >= seq
        assert back.state == reader.state


async def test_a_command_made_durable_between_owners_runs_when_it_is_sent_again() -> None:
    store = MemoryStore()
    async with engine(scripted, store=store) as threads:
        thread = await threads.get("t")
        body = say("left behind")
        # The store took it, and the owner went before it could queue it.
        await store.submit("t", "c", canonical(body), limit=10, now=0)
        reader, commands = await follow(thread), Commands()
        await thread.submit("c", body, strategy=None, watcher=commands)
        assert commands.seen[0].duplicate
        await commands.until("c", "applied")
        await reader.until_run("completed")
        assert len(reader.state["messages"]) == 2


async def test_a_duplicate_is_told_the_end_even_where_the_store_answers_with_an_older_status() -> None:
    class Late(MemoryStore):
        async def submit(self, *arguments: Any, **options: Any) -> Any:
            submission = await super().submit(*arguments, **options)
            if not submission.created:
                await done.wait()
            return submission

    done = asyncio.Event()
    async with engine(scripted, store=Late()) as threads:
        thread = await threads.get("t")
        first, second = Commands(), Commands()
        await thread.submit("c", say("x"), strategy=None, watcher=first)
        async with anyio.create_task_group() as group:
            group.start_soon(lambda: thread.submit("c", say("x"), strategy=None, watcher=second))
            await first.until("c", "applied")
            await thread.runner.ended()
            done.set()
        assert second.last("c").status == "applied"
