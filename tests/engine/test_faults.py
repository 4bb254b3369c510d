"""What a thread loses when its store, its agent or a connection fails: nothing that anyone was shown."""

from __future__ import annotations

import asyncio
import logging
import threading
from typing import Any

import pytest

import threadwire
from tests.support.engine import Commands, Reader, engine, follow, say
from tests.support.faulty_store import Faults, FaultyStore
from tests.support.virtual_time import in_virtual_time
from threadwire.core.canonical import canonical
from threadwire.core.codec import Encoding
from threadwire.core.document import Document, LockedDocument
from threadwire.core.draft import LockedDraft
from threadwire.core.errors import ErrorInfo, Refused, StoreUnavailable
from threadwire.core.frames import Error, Snapshot, Tool, Update
from threadwire.core.values import plain_copy
from threadwire.engine.message import Message
from threadwire.engine.run import Run
from threadwire.engine.settings import Settings
from threadwire.engine.thread import Thread
from threadwire.engine.threads import Threads


def text_of(command: threadwire.Command) -> str:
    assert isinstance(command, threadwire.AddMessage)
    return command.message.text


@threadwire.agent
async def ledger(run: Run) -> None:
    """Enters each command; `hang` waits for ever, `wait` a second before it is entered."""
    for command in run.commands:
        text = text_of(command)
        if text.startswith("wait"):
            await asyncio.sleep(1)
        run.state["done"] = [*run.state.get("done", []), text]
        if text.startswith("hang"):
            await asyncio.Event().wait()


async def settle() -> None:
    """Lets all happen that needs no more than a moment."""
    await asyncio.sleep(0.01)


def die(threads: Threads, store: FaultyStore) -> None:
    """The process is gone."""
    store.crash()
    threads.draining = True


# the store fails


@in_virtual_time
async def test_a_write_that_fails_is_tried_again_and_shown_once_when_it_is_there() -> None:
    store = FaultyStore()
    async with engine(ledger, store=store) as threads:
        thread = await threads.get("t")
        reader, commands = await follow(thread), Commands()
        await thread.submit("a", say("a"), strategy=None, watcher=commands)
        store.out = True
        await asyncio.sleep(5)
        assert reader.state == {}
        assert commands.of("a") == ["queued"]
        store.out = False
        await asyncio.sleep(2)
        assert reader.state == {"done": ["a"]}
        assert commands.of("a") == ["queued", "running", "applied"]


@in_virtual_time
async def test_a_write_that_was_made_though_it_failed_is_not_made_twice() -> None:
    store = FaultyStore(faults=Faults(unknown=0.7))
    async with engine(ledger, store=store) as threads:
        while (thread := await _get(threads)) is None:
            pass
        reader, commands = await follow(thread), Commands()
        for id in "abc":
            while not commands.of(id):
                try:
                    await thread.submit(id, say(id), strategy=None, watcher=commands)
                except StoreUnavailable:
                    continue
        await asyncio.sleep(60)
        assert reader.state == {"done": ["a", "b", "c"]}
        seqs = [entry.seq for entry in store.written if entry.data is not None]
        assert seqs == sorted(set(seqs))


async def _get(threads: Threads) -> Thread | None:
    try:
        return await threads.get("t")
    except StoreUnavailable:
        return None


@in_virtual_time
async def test_a_store_that_is_out_for_long_ends_the_run_and_what_was_acknowledged_is_done_after() -> None:
    store = FaultyStore()
    async with engine(ledger, store=store) as threads:
        thread = await threads.get("t")
        reader, stranger = await follow(thread), Commands()
        await thread.submit("a", say("hang"), strategy=None, watcher=Commands())
        await settle()
        shown = reader.position
        await thread.submit("b", say("b"), strategy=None, watcher=stranger)
        await thread.runner.cancel("nothing")
        store.out = True
        thread.document.set(("more",), True)
        await asyncio.sleep(12)
        assert reader.position == shown
        (error,) = [frame for frame in reader.frames if isinstance(frame, Error)]
        assert (error.code, error.thread) == ("store-unavailable", "t")
        assert len(reader.lost_subscribers) == 1
        assert not thread.subscribers
        with pytest.raises(StoreUnavailable):
            await thread.snapshot("json")
        store.out = False
        # Nobody asks for the thread, and "b" was acknowledged.
        await asyncio.sleep(60)
        assert stranger.of("b")[-1] == "applied"
        again = await threads.get("t")
        back = Reader()
        assert shown is not None
        back.state, back.position = reader.state, shown
        await again.subscribe(back, since={"epoch": shown[0], "seq": shown[1]})
        assert back.state == {"done": ["hang", "b"]}
        assert not any(isinstance(frame, Snapshot) for frame in back.frames)


@in_virtual_time
async def test_who_watches_a_command_is_told_its_end_though_it_can_not_be_read_at_first(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    store = FaultyStore()
    async with engine(ledger, store=store) as threads:
        thread, watcher = await threads.get("t"), Commands()
        await thread.submit("a", say("hang"), strategy=None, watcher=Commands())
        await settle()
        await thread.submit("b", say("b"), strategy=None, watcher=watcher)
        await settle()
        failures = [StoreUnavailable("not now") for _ in range(2)]
        read = store.command

        async def command(thread: str, id: str) -> Any:
            if failures:
                raise failures.pop()
            return await read(thread, id)

        monkeypatch.setattr(store, "command", command)
        store.faults.unknown = 1  # it is written that "b" was cancelled, and nobody here knows
        with pytest.raises(StoreUnavailable):
            await thread.runner.cancel(None)
        store.faults.unknown = 0
        await watcher.until("b", "cancelled")
        assert not failures


@in_virtual_time
async def test_a_store_that_stays_out_is_asked_ever_less_often_and_heard_of_in_the_end() -> None:
    store = FaultyStore()
    async with engine(ledger, store=store) as threads:
        thread = await threads.get("t")
        await thread.submit("a", say("a"), strategy=None, watcher=Commands())
        store.out = True
        await asyncio.sleep(3600)
        assert not len(threads)
        store.out = False
        await asyncio.sleep(60)
        assert store.truth["t"].states[-1] == {"done": ["a"]}


@in_virtual_time
async def test_nothing_is_shown_before_it_is_durable() -> None:
    store = FaultyStore()
    async with engine(ledger, store=store) as threads:
        thread = await threads.get("t")
        reader, commands = await follow(thread), Commands()
        await thread.submit("a", say("a"), strategy=None, watcher=commands)
        store.held = True
        await settle()
        late = await follow(thread)
        assert reader.state == {}
        assert late.frames == []
        assert "applied" not in commands.of("a")
        store.held = False
        store.withheld = True
        store._next()
        await settle()
        assert reader.state == {}
        store.go_on()
        await settle()
        assert reader.state == late.state == {"done": ["a"]}


@in_virtual_time
async def test_a_command_whose_answer_was_lost_is_done_when_it_is_sent_again() -> None:
    store = FaultyStore()
    async with engine(ledger, store=store) as threads:
        thread = await threads.get("t")
        commands = Commands()
        store.faults.unknown = 1
        with pytest.raises(StoreUnavailable):
            await thread.submit("a", say("a"), strategy=None, watcher=commands)
        store.faults.unknown = 0
        await thread.submit("a", say("a"), strategy=None, watcher=commands)
        assert commands.seen[0].duplicate
        await settle()
        assert store.truth["t"].states[-1] == {"done": ["a"]}


@in_virtual_time
async def test_one_of_two_answers_lost_leaves_the_command_with_the_other() -> None:
    class LosesTheFirst(FaultyStore):
        lost = False

        async def submit(self, *args: Any, **kwargs: Any) -> Any:
            submission = await super().submit(*args, **kwargs)
            if submission is not None and submission.created:
                await asyncio.sleep(1)
                raise StoreUnavailable("lost")
            return submission

    store = LosesTheFirst()
    async with engine(ledger, store=store) as threads:
        thread = await threads.get("t")
        commands = Commands()
        first = asyncio.ensure_future(thread.submit("a", say("a"), strategy=None, watcher=Commands()))
        await settle()
        await thread.submit("a", say("a"), strategy=None, watcher=commands)
        with pytest.raises(StoreUnavailable):
            await first
        await settle()
        assert commands.of("a") == ["queued", "running", "applied"]
        assert store.truth["t"].states[-1] == {"done": ["a"]}


@in_virtual_time
async def test_a_command_sent_thrice_is_answered_each_time_and_its_end_is_told_once() -> None:
    class AnswersTheFirstLate(FaultyStore):
        async def submit(self, *args: Any, **kwargs: Any) -> Any:
            submission = await super().submit(*args, **kwargs)
            if submission is not None and submission.created:
                await asyncio.sleep(0.001)
            return submission

    store = AnswersTheFirstLate()
    async with engine(ledger, store=store) as threads:
        thread = await threads.get("t")
        commands = Commands()
        sends = [thread.submit("a", say("a"), strategy=None, watcher=commands) for _ in range(3)]
        await asyncio.gather(*sends)
        await settle()
        assert len(commands.seen) == 5
        assert [state.status for state in commands.seen if not state.duplicate] == ["running", "applied"]
        assert store.truth["t"].states[-1] == {"done": ["a"]}


@in_virtual_time
async def test_a_command_is_done_though_its_sender_is_gone_before_the_store_has_answered() -> None:
    store = FaultyStore()
    async with engine(ledger, store=store) as threads:
        thread = await threads.get("t")
        store.held = True
        sending = asyncio.ensure_future(thread.submit("a", say("a"), strategy=None, watcher=Commands()))
        await settle()
        sending.cancel()
        await settle()
        store.go_on()
        await settle()
        assert store.truth["t"].states[-1] == {"done": ["a"]}


@in_virtual_time
async def test_a_large_command_is_not_overtaken_by_those_sent_after_it() -> None:
    store = FaultyStore()
    async with engine(ledger, store=store) as threads:
        thread = await threads.get("t")
        commands = Commands()
        large = say("large " + "x" * 300_000)
        await asyncio.gather(
            thread.submit("a", large, strategy=None, watcher=commands),
            thread.submit("b", say("small"), strategy=None, watcher=commands),
        )
        await settle()
        assert [text[:5] for text in store.truth["t"].states[-1]["done"]] == ["large", "small"]


@in_virtual_time
async def test_commands_start_in_the_order_the_store_gave_them_whatever_the_order_of_its_answers() -> None:
    class Shuffling(FaultyStore):
        async def submit(self, thread: str, command: str, *args: Any, **kwargs: Any) -> Any:
            submission = await super().submit(thread, command, *args, **kwargs)
            if command == "b":
                await asyncio.sleep(0.5)
            return submission

    store = Shuffling()
    async with engine(ledger, store=store) as threads:
        thread = await threads.get("t")
        await thread.submit("a", say("wait a"), strategy=None, watcher=Commands())
        sends = [thread.submit(id, say(id), strategy=None, watcher=Commands()) for id in "bc"]
        await asyncio.gather(*sends)
        await asyncio.sleep(2)
        assert store.truth["t"].states[-1] == {"done": ["wait a", "b", "c"]}


@in_virtual_time
async def test_another_owner_ends_this_ones_part_and_its_clients_open_the_thread_anew() -> None:
    store = FaultyStore()
    async with engine(ledger, store=store) as threads:
        thread = await threads.get("t")
        reader = await follow(thread)
        await store.rob("t")
        await thread.submit("a", say("a"), strategy=None, watcher=Commands())
        await settle()
        assert [frame.code for frame in reader.frames if isinstance(frame, Error)] == ["store-unavailable"]
        assert reader.state == {}
        again = await threads.get("t")
        assert again is not thread
        assert again.epoch > thread.epoch
        back = await follow(again)
        await settle()
        assert back.state == {"done": ["a"]}


@in_virtual_time
async def test_what_waits_for_a_thread_that_is_lost_is_told_so() -> None:
    store = FaultyStore()
    async with engine(ledger, store=store, settings=Settings(store_patience_s=1)) as threads:
        thread = await threads.get("t")
        await thread.submit("a", say("hang"), strategy=None, watcher=Commands())
        await settle()
        store.out = True
        waits: list[asyncio.Future[Any]] = [
            asyncio.ensure_future(thread.runner.cancel(None)),
            asyncio.ensure_future(thread.flush()),
        ]
        thread.document.set(("x",), 1)
        waits.append(asyncio.ensure_future(thread.snapshot("json")))
        await asyncio.sleep(3)
        outcomes = await asyncio.gather(*waits, return_exceptions=True)
        assert all(isinstance(outcome, StoreUnavailable) for outcome in outcomes), outcomes
        # And later: a run whose end was on the way does not end any more.
        assert (await thread.runner.cancel(None)) == thread.run_info
        store.out = False


@in_virtual_time
async def test_a_flush_of_what_has_cancelled_itself_out_returns() -> None:
    async with engine(ledger, store=FaultyStore()) as threads:
        thread = await threads.get("t")
        flush = asyncio.ensure_future(thread.flush())
        asyncio.get_running_loop().call_soon(thread.document.delete, ("x",))
        thread.document.set(("x",), 1)
        await asyncio.wait_for(flush, 1)
        assert thread.committed == 0


# crashes


@in_virtual_time
async def test_a_command_is_given_up_after_three_starts_that_ended_in_a_crash() -> None:
    store = FaultyStore()
    for start in range(1, 5):
        async with engine(ledger, store=store) as threads:
            thread = await threads.get("t")
            commands = Commands()
            await thread.submit("a", say("wait"), strategy=None, watcher=commands)
            await settle()
            if start < 4:
                assert commands.last("a").status == "running"
                die(threads, store)
            else:
                state = commands.last("a")
                assert (state.status, state.error and state.error.code) == ("rejected", "gave-up")
    assert store.truth["t"].states[-1] == {}


@in_virtual_time
async def test_a_run_that_fails_between_crashes_does_not_make_them_forgotten() -> None:
    mood = "hang"

    @threadwire.agent
    async def moody(run: Run) -> None:
        if mood == "fail":
            raise threadwire.AgentError("no")
        await asyncio.Event().wait()

    store = FaultyStore()
    settings = Settings(max_starts=2)
    async with engine(moody, store=store, settings=settings) as threads:
        thread = await threads.get("t")
        thread.runner.hold()
        for id in "abc":
            await thread.submit(id, say(id), strategy=None, watcher=Commands())
        die(threads, store)
    async with engine(moody, store=store, settings=settings) as threads:
        await settle()
        assert store.disk._threads["t"].commands["c"].starts == 1
        die(threads, store)
    mood = "fail"  # rejects "a", then "b", and gives "c" back each time
    async with engine(moody, store=store, settings=settings) as threads:
        while store.disk._threads["t"].commands["b"].status != "rejected":
            await asyncio.sleep(0)
        mood = "hang"
        await settle()
        assert store.disk._threads["t"].commands["c"].starts == 2
        die(threads, store)
    async with engine(moody, store=store, settings=settings):
        await settle()
        error = store.disk._threads["t"].commands["c"].error
        assert error is not None
        assert error.code == "gave-up"


@in_virtual_time
async def test_a_command_given_back_by_a_failed_run_keeps_the_connection_it_came_from() -> None:
    store = FaultyStore()

    @threadwire.agent
    async def first_fails(run: Run) -> None:
        for command in run.commands:
            match text_of(command):
                case "before":
                    await asyncio.sleep(1)
                case "a":
                    raise threadwire.AgentError("no")
                case "b":
                    await run.call_client_tool("where", {})

    async with engine(first_fails, store=store) as threads:
        thread = await threads.get("t")
        other, own = await follow(thread, tools=("where",)), await follow(thread, tools=("where",))
        commands = Commands()
        for id in ("before", "a", "b"):
            await thread.submit(id, say(id), strategy=None, watcher=commands, origin=own)
        await asyncio.sleep(2)
        assert commands.of("a")[-1] == "rejected"
        assert commands.of("b") == ["queued", "running", "queued", "running", "applied"]
        assert any(isinstance(frame, Tool) for frame in own.frames)
        assert not any(isinstance(frame, Tool) for frame in other.frames)
        await thread.runner.cancel(None)


@in_virtual_time
async def test_an_answer_that_a_crash_left_over_is_refused_and_not_given_to_the_agent() -> None:
    store = FaultyStore()
    async with engine(ledger, store=store) as threads:
        await threads.get("t")
        await store.disk.submit("t", "r", canonical({"type": "resume", "answers": {"i": 1}}), limit=9, now=0)
        die(threads, store)
    async with engine(ledger, store=store) as threads:
        await settle()
        record = await store.disk.command("t", "r")
        assert record is not None
        assert record.error is not None
        assert (record.status, record.error.code) == ("rejected", "unknown-interrupt")


@in_virtual_time
async def test_a_cancel_while_a_cut_run_is_being_ended_is_answered_by_its_end() -> None:
    store = FaultyStore()
    async with engine(ledger, store=store) as threads:
        thread = await threads.get("t")
        await thread.submit("a", say("hang"), strategy=None, watcher=Commands())
        await settle()
        die(threads, store)
    async with engine(ledger, store=store) as threads:
        thread = await threads.get("t")
        run = await thread.runner.cancel(None)
        assert run is not None
        assert (run.status, run.error and run.error.code) == ("failed", "interrupted-by-crash")


@in_virtual_time
async def test_a_thread_that_cannot_be_read_keeps_the_server_from_nothing_else() -> None:
    store = FaultyStore()
    async with engine(ledger, store=store) as threads:
        for id in ("bad", "good"):
            thread = await threads.get(id)
            await thread.submit("a", say("hang"), strategy=None, watcher=Commands())
            await settle()
            await thread.submit("b", say("b"), strategy=None, watcher=Commands())
        die(threads, store)
    store.disk._threads["bad"].rows[-1] = b"\xff"
    async with engine(ledger, store=store) as threads:
        await settle()
        assert store.truth["good"].states[-1] == {"done": ["hang", "b"]}


@in_virtual_time
async def test_a_server_that_cannot_start_leaves_nothing_at_work() -> None:
    store = FaultyStore()
    async with engine(ledger, store=store) as threads:
        for id in ("t1", "t2"):
            thread = await threads.get(id)
            await thread.submit("a", say("hang"), strategy=None, watcher=Commands())
        await settle()
        die(threads, store)

    class FailsAtTheSecond(FaultyStore):
        async def acquire(self, thread: str, **options: Any) -> Any:
            if thread == "t2":
                await settle()
                raise StoreUnavailable("out")
            return await store.acquire(thread, **options)

        async def unfinished(self) -> list[str]:
            return await store.unfinished()

    failing = FailsAtTheSecond()
    async with store:
        with pytest.raises(StoreUnavailable):
            async with engine(ledger, store=failing):
                pass
    # `in_virtual_time` sees that no task is left.


# who asks for a thread just as it goes


@in_virtual_time
async def test_a_thread_asked_for_while_it_is_about_to_be_unloaded_stays() -> None:
    store = FaultyStore()
    async with engine(ledger, store=store, settings=Settings(idle_s=4)) as threads:
        thread = await threads.get("t")
        for number in range(30):
            thread.document.set(("n",), number)
            await thread.flush()
        store.withheld = True
        await asyncio.sleep(6)  # it is storing a snapshot, to be unloaded then
        assert await threads.get("t") is thread
        store.go_on()
        await asyncio.sleep(1)
        assert threads.loaded() == [thread]
        store.withheld = False
        await asyncio.sleep(10)
        assert not len(threads)


@in_virtual_time
async def test_a_deleted_thread_is_gone_for_those_who_ask_while_it_is_being_deleted() -> None:
    store = FaultyStore()
    async with engine(ledger, store=store) as threads:
        thread = await threads.get("t")
        reader = await follow(thread)
        await thread.submit("a", say("a"), strategy=None, watcher=Commands())
        await settle()
        store.held = True
        deleting = [asyncio.ensure_future(threads.delete("t")) for _ in range(2)]
        await settle()
        finding = asyncio.ensure_future(threads.find("t"))
        getting = asyncio.ensure_future(threads.get("t"))
        await settle()
        store.go_on()
        assert sorted(await asyncio.gather(*deleting)) == [False, True]
        assert await finding in (None, await getting)
        assert [frame.code for frame in reader.frames if isinstance(frame, Error)] == ["not-found"]
        again = await getting
        assert again is not thread
        assert again.epoch > thread.epoch
        assert (await follow(again)).state == {}
        await again.submit("a", say("b"), strategy=None, watcher=Commands())
        await settle()
        assert store.truth["t"].states[-1] == {"done": ["b"]}


@in_virtual_time
async def test_a_thread_deleted_by_others_is_given_up_when_a_command_comes() -> None:
    store = FaultyStore()
    async with engine(ledger, store=store) as threads:
        thread = await threads.get("t")
        reader = await follow(thread)
        await store.delete_thread("t")
        with pytest.raises(StoreUnavailable):
            await thread.submit("a", say("a"), strategy=None, watcher=Commands())
        assert [frame.code for frame in reader.frames if isinstance(frame, Error)] == ["store-unavailable"]
        again = await threads.get("t")
        await again.submit("a", say("a"), strategy=None, watcher=Commands())
        await settle()
        assert store.truth["t"].states[-1] == {"done": ["a"]}


@in_virtual_time
async def test_a_delete_that_fails_tells_the_clients_to_open_again() -> None:
    store = FaultyStore()
    async with engine(ledger, store=store) as threads:
        thread = await threads.get("t")
        reader = await follow(thread)
        store.out = True
        with pytest.raises(StoreUnavailable):
            await threads.delete("t")
        store.out = False
        assert [frame.code for frame in reader.frames if isinstance(frame, Error)] == ["store-unavailable"]
        assert (await threads.get("t")).epoch == thread.epoch


@in_virtual_time
async def test_of_two_seeds_the_first_stays_though_it_is_not_durable_yet() -> None:
    @threadwire.agent(seed=True)
    async def seeded(run: Run) -> None:
        pass

    store = FaultyStore()
    async with engine(seeded, store=store) as threads:
        await threads.get("t", state={"first": 1})
        store.held = True
        await settle()
        thread = await threads.get("t", state={"second": 2})
        store.go_on()
        await settle()
        assert (await follow(thread)).state == {"first": 1}


@in_virtual_time
async def test_a_thousand_threads_come_and_go_and_leave_nothing_behind() -> None:
    store = FaultyStore()
    async with engine(ledger, store=store, settings=Settings(idle_s=5)) as threads:
        commands = Commands()
        for number in range(1000):
            thread = await threads.get(f"t{number}")
            await thread.submit("a", say("a"), strategy=None, watcher=commands)
        await asyncio.sleep(20)
        assert len(commands.seen) == 3000
        assert not len(threads)
        assert not threads._loading
        assert len(asyncio.all_tasks()) <= 2


# resuming


@in_virtual_time
async def test_resuming_reads_no_row_twice_that_is_durable_but_not_published_yet() -> None:
    store = FaultyStore()
    async with engine(ledger, store=store) as threads:
        thread = await threads.get("t")
        first = await follow(thread)
        assert first.position is not None
        epoch, _ = first.position
        thread._history._max_updates = 8
        for number in range(40):
            thread.document.set(("n",), number)
            await thread.flush()
        store.withheld = True
        thread.document.set(("n",), "durable")
        await settle()
        assert store.truth["t"].head == thread.committed + 1
        back = Reader()
        back.state, back.position = {}, (epoch, 0)
        opening = asyncio.ensure_future(thread.subscribe(back, since={"epoch": epoch, "seq": 0}))
        await settle()
        store.withheld = False
        # The store's answers come in the order in which they were given, and then in no order.
        store._answers.rotate(-1)
        store.go_on()
        await opening
        await settle()
        assert back.state == {"n": "durable"}
        assert back.position == (epoch, 41)


@in_virtual_time
async def test_a_client_far_behind_gets_a_snapshot_where_the_updates_would_be_larger() -> None:
    store = FaultyStore()
    async with engine(ledger, store=store) as threads:
        thread = await threads.get("t")
        thread.document.set(("items",), [0, 1, 2, 3, 4])
        for number in range(300):
            # Items that come at one end and go at the other can't be merged.
            thread.document.splice(("items",), 0, 0, [f"{number} " * 100])
            thread.document.delete(("items", -1))
            await thread.flush()
        back = Reader()
        await thread.subscribe(back, since={"epoch": thread.epoch, "seq": 1})
        await settle()
        assert isinstance(back.frames[0], Snapshot)
        assert back.state == store.truth["t"].states[-1]
        near = Reader()
        near.state, near.position = store.truth["t"].states[298], (thread.epoch, 298)
        await thread.subscribe(near, since={"epoch": thread.epoch, "seq": 298})
        assert isinstance(near.frames[0], Update)
        assert near.state == store.truth["t"].states[-1]


# what an agent does


class Mark(threadwire.Command, tag="mark"):
    """Sets `mark` at once, beside the run."""

    how: str = "mark"


def marking(agent: threadwire.Agent) -> threadwire.Agent:
    @agent.on(Mark, immediate=True)
    async def mark(run: Run, command: Mark) -> None:
        match command.how:
            case "mark":
                run.state["mark"] = True
            case "cancel":
                raise asyncio.CancelledError
            case "exit":
                raise GeneratorExit
            case "group":
                raise BaseExceptionGroup("several", [GeneratorExit()])
            case "ask":
                await run.interrupt("sure?")
            case "slow":
                await asyncio.sleep(1)
                run.state["mark"] = "slow"

    return agent


@in_virtual_time
async def test_a_write_beside_the_run_does_not_apply_what_the_run_has_taken_up() -> None:
    @threadwire.agent
    async def patient(run: Run) -> None:
        for command in run.commands:
            await asyncio.sleep(1)
            run.state["done"] = text_of(command)

    store, agent = FaultyStore(), marking(patient)
    async with engine(agent, store=store) as threads:
        thread = await threads.get("t")
        commands = Commands()
        await thread.submit("a", say("a"), strategy=None, watcher=commands)
        await settle()
        await thread.submit("m", {"type": "mark"}, strategy=None, watcher=commands)
        await settle()
        assert commands.of("m")[-1] == "applied"
        assert commands.of("a") == ["queued", "running"]
        die(threads, store)
    async with engine(agent, store=store):
        await asyncio.sleep(2)
        assert store.truth["t"].states[-1] == {"mark": True, "done": "a"}


@pytest.mark.parametrize("how", ["cancel", "exit", "group"])
def test_an_immediate_handler_that_ends_in_an_unusual_way_settles_its_command(how: str) -> None:
    @in_virtual_time
    async def test() -> None:
        async with engine(marking(threadwire.agent(ledger_function)), store=FaultyStore()) as threads:
            thread = await threads.get("t")
            commands = Commands()
            await thread.submit("m", {"type": "mark", "how": how}, strategy=None, watcher=commands)
            await settle()
            state = commands.last("m")
            assert (state.status, state.error and state.error.code) == ("rejected", "agent-failed")
            assert not thread.runner.busy

    test()


async def ledger_function(run: Run) -> None:
    for command in run.commands:
        run.state["done"] = text_of(command)


@in_virtual_time
async def test_an_immediate_handler_can_not_make_the_run_wait() -> None:
    async with engine(marking(threadwire.agent(ledger_function)), store=FaultyStore()) as threads:
        thread = await threads.get("t")
        reader, commands = await follow(thread), Commands()
        await thread.submit("m", {"type": "mark", "how": "ask"}, strategy=None, watcher=commands)
        await settle()
        state = commands.last("m")
        assert (state.status, state.error and state.error.code) == ("rejected", "agent-error")
        assert reader.state == {}
        assert not thread.runner.busy


@in_virtual_time
async def test_what_an_agent_leaves_waiting_ends_with_its_run() -> None:
    asked: list[asyncio.Task[Any]] = []

    @threadwire.agent
    async def forgetful(run: Run) -> None:
        for command in run.commands:
            run.state["done"] = text_of(command)
            asked.append(asyncio.ensure_future(run.interrupt("sure?")))
            await asyncio.sleep(0.1)

    async with engine(forgetful, store=FaultyStore()) as threads:
        thread = await threads.get("t")
        reader = await follow(thread)
        await thread.submit("a", say("a"), strategy=None, watcher=Commands())
        await asyncio.sleep(1)
        assert reader.state == {"done": "a"}
        assert reader.runs[-1] is not None
        assert reader.runs[-1].status == "completed"
        assert asked[0].cancelled()


@in_virtual_time
async def test_stopping_lets_an_immediate_handler_come_to_its_end() -> None:
    store = FaultyStore()
    async with engine(marking(threadwire.agent(ledger_function)), store=store) as threads:
        thread = await threads.get("t")
        await thread.submit("m", {"type": "mark", "how": "slow"}, strategy=None, watcher=Commands())
        await settle()
        await threads.drain(0)
    assert store.truth["t"].states[-1] == {"mark": "slow"}
    record = await store.disk.command("t", "m")
    assert record is not None
    assert record.status == "applied"


@in_virtual_time
async def test_a_command_steered_in_before_the_agents_first_step_is_given_to_it_once() -> None:
    taken: list[str] = []

    @threadwire.agent
    async def steerable(run: Run) -> None:
        taken.extend(text_of(command) for command in run.commands)
        taken.extend(text_of(command) for command in run.inbox.take())
        run.state["done"] = list(taken)

    async with engine(steerable, store=FaultyStore()) as threads:
        thread = await threads.get("t")
        for ticks in range(1, 8):
            # One of these is between the run's start and its task's first step.
            taken.clear()
            first = asyncio.ensure_future(
                thread.submit(f"a{ticks}", say("a"), strategy=None, watcher=Commands())
            )
            for _ in range(ticks):
                await asyncio.sleep(0)
            await thread.submit(f"b{ticks}", say("b"), strategy="steer", watcher=Commands())
            await first
            await settle()
            assert taken == ["a", "b"]


@in_virtual_time
async def test_commands_in_the_inbox_are_taken_up_one_by_one() -> None:
    @threadwire.agent
    async def steerable(run: Run) -> None:
        for command in run.commands:
            run.state["done"] = [text_of(command)]
        await asyncio.sleep(1)
        for command in run.inbox.take():
            await asyncio.sleep(1)
            run.state["done"].append(text_of(command))

    store = FaultyStore()
    async with engine(steerable, store=store) as threads:
        thread = await threads.get("t")
        commands = Commands()
        await thread.submit("a", say("a"), strategy=None, watcher=commands)
        await settle()
        for id in "bc":
            await thread.submit(id, say(id), strategy="steer", watcher=commands)
        await asyncio.sleep(1.5)
        assert commands.of("b") == ["queued", "running"]
        die(threads, store)
    async with engine(steerable, store=store):
        await asyncio.sleep(5)
        # "b" and "c" start another run; the agent of this test sets the list anew for each.
        assert store.truth["t"].states[-1]["done"] == ["c"]


@in_virtual_time
async def test_a_steered_command_that_has_a_handler_waits_for_it() -> None:
    @threadwire.agent
    async def steerable(run: Run) -> None:
        for command in run.commands:
            run.state["done"] = text_of(command)
        await asyncio.sleep(1)
        run.state["inbox"] = len(run.inbox.take())

    class Rename(threadwire.Command, tag="rename"):
        name: str

    @steerable.on(Rename)
    async def rename(run: Run, command: Rename) -> None:
        run.state["name"] = command.name

    store = FaultyStore()
    async with engine(steerable, store=store) as threads:
        thread = await threads.get("t")
        await thread.submit("a", say("a"), strategy=None, watcher=Commands())
        await settle()
        body = {"type": "rename", "name": "x"}
        await thread.submit("b", body, strategy="steer", watcher=Commands())
        await asyncio.sleep(2)
        assert store.truth["t"].states[-1] == {"done": "a", "inbox": 0, "name": "x"}


@in_virtual_time
async def test_a_task_that_outlives_its_run_has_no_part_in_the_commands_of_the_next() -> None:
    late: list[Run] = []

    @threadwire.agent
    async def stubborn(run: Run) -> None:
        for command in run.commands:
            run.state["last"] = text_of(command)
            if text_of(command) == "a":
                late.append(run)
                try:
                    await asyncio.sleep(10)
                except asyncio.CancelledError:
                    await asyncio.sleep(5)
            else:
                await asyncio.sleep(2)
                run.state["last"] = "again"

    store = FaultyStore()
    async with engine(stubborn, store=store) as threads:
        thread = await threads.get("t")
        commands = Commands()
        await thread.submit("a", say("a"), strategy=None, watcher=commands)
        await settle()
        await thread.submit("b", say("b"), strategy="steer", watcher=commands)
        thread.runner.fail(ErrorInfo("detached-write", "as told"))
        await asyncio.sleep(1)
        # The first run has failed and "b", which it never took up, started the next.
        assert commands.of("b")[-1] == "applied"
        for command in late[0].inbox.take():
            assert text_of(command) == "b"
        await asyncio.sleep(10)
        assert store.truth["t"].states[-1] == {"last": "again"}
        changes = [change for entry in store.written for change in entry.commands if change.id == "b"]
        assert [change.status for change in changes].count("applied") == 1


@in_virtual_time
async def test_what_an_agent_raises_while_it_is_stopped_is_logged() -> None:
    @threadwire.agent
    async def clumsy(run: Run) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            raise ValueError("in its clean-up")

    records: list[logging.LogRecord] = []
    handler = logging.Handler()
    handler.emit = records.append  # type: ignore[method-assign,assignment]
    logging.getLogger("threadwire").addHandler(handler)
    try:
        async with engine(clumsy, store=FaultyStore()) as threads:
            thread = await threads.get("t")
            await thread.submit("a", say("a"), strategy=None, watcher=Commands())
            await settle()
            run = await thread.runner.cancel(None)
            assert run is not None
            assert run.status == "cancelled"
    finally:
        logging.getLogger("threadwire").removeHandler(handler)
    assert any(record.exc_info and "in its clean-up" in str(record.exc_info[1]) for record in records)


@in_virtual_time
async def test_a_generator_is_closed_when_what_it_yields_is_refused() -> None:
    closed = asyncio.Event()

    @threadwire.agent
    async def generating(run: Run) -> Any:
        try:
            yield {"n": float("nan")}
        finally:
            closed.set()

    async with engine(generating, store=FaultyStore()) as threads:
        thread = await threads.get("t")
        reader = await follow(thread)
        await thread.submit("a", say("a"), strategy=None, watcher=Commands())
        await settle()
        assert reader.runs[-1] is not None
        assert reader.runs[-1].status == "failed"
        assert closed.is_set()


# an agent in a worker thread


def test_what_a_worker_thread_writes_while_a_snapshot_is_made_is_not_in_it() -> None:
    wrote = threading.Event()
    go_on = threading.Event()

    @threadwire.agent
    def blocking(run: Run) -> None:
        run.state["text"] = ""
        go_on.wait(60)
        run.append_text(("text",), "late")
        wrote.set()

    @in_virtual_time
    async def test() -> None:
        async with engine(blocking, store=FaultyStore()) as threads:
            thread = await threads.get("t")
            reader = await follow(thread)
            await thread.submit("a", say("a"), strategy=None, watcher=Commands())
            while reader.state != {"text": ""}:
                await asyncio.sleep(0.001)
            encode = thread.document.encode

            def encode_late(encoding: Encoding) -> bytes:
                go_on.set()
                assert not wrote.wait(0.2)
                return encode(encoding)

            thread.document.encode = encode_late  # type: ignore[method-assign]
            late = await follow(thread)
            assert late.state == {"text": ""}
            await asyncio.to_thread(wrote.wait, 60)
            await thread.runner.ended()
            assert late.state == reader.state == {"text": "late"}

    test()


def test_a_cut_counts_the_writes_that_are_in_it_and_no_others() -> None:
    wrote, may_take, took = threading.Event(), threading.Event(), threading.Event()

    @threadwire.agent
    def blocking(run: Run) -> None:
        run.state["began"] = True
        may_take.wait(60)
        for command in run.commands:
            took.set()
            run.state["done"] = text_of(command)
            wrote.set()

    @in_virtual_time
    async def test() -> None:
        store = FaultyStore()
        async with engine(blocking, store=store) as threads:
            thread = await threads.get("t")
            reader, commands = await follow(thread), Commands()
            await thread.submit("a", say("a"), strategy=None, watcher=commands)
            while reader.state != {"began": True}:
                await asyncio.sleep(0.001)
            # The loop is on its way to a cut when the agent takes the command up and writes.
            thread.document.set(("other",), 1)
            await asyncio.sleep(0)
            may_take.set()
            assert wrote.wait(60)
            await thread.runner.ended()
            await settle()
            first = next(n for n, state in enumerate(store.truth["t"].states) if "done" in state)
            (entry,) = [entry for entry in store.written if entry.seq == first and entry.data]
            assert [change.status for change in entry.commands] == ["applied"]
            assert commands.last("a").seq == first

    test()


def test_an_edit_under_way_in_a_worker_thread_is_finished_when_its_draft_is_revoked() -> None:
    document = LockedDocument({"text": ""})
    draft = LockedDraft(document)
    inside, outcomes = threading.Event(), []

    append = Document.append_text

    def append_slowly(self: Document, path: Any, text: str) -> None:
        inside.set()
        threading.Event().wait(0.02)
        append(self, path, text)

    def work() -> None:
        try:
            for _ in range(1000):
                draft.append_text(("text",), "x")
                threading.Event().wait(0.005)  # whoever else wants the lock has it now
        except threadwire.RunEnded:
            outcomes.append("ended")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Document, "append_text", append_slowly)
        worker = threading.Thread(target=work)
        worker.start()
        assert inside.wait(60)
        draft.revoke()
        state = plain_copy(document.root)
        worker.join(60)
    assert document.root == state
    assert outcomes == ["ended"]


# cancelling


@threadwire.agent
async def busy(run: Run) -> None:
    for command in run.commands:
        run.state["text"] = "partial"
        match text_of(command):
            case "wait":
                await asyncio.Event().wait()
            case "ask":
                await run.interrupt("sure?")
            case "tool":
                await run.call_client_tool("where", {})
            case "flush":
                while True:
                    run.append_text(("text",), "")
                    await run.flush()
                    await asyncio.sleep(0.001)
            case "ignore":
                while True:
                    try:
                        await asyncio.sleep(3)
                        return
                    except asyncio.CancelledError:
                        run.append_text(("text",), ", cleaned up")
            case "clean":
                try:
                    await asyncio.Event().wait()
                finally:
                    await asyncio.sleep(0.2)
                    run.append_text(("text",), ", cleaned up")


@pytest.mark.parametrize("what", ["wait", "ask", "tool", "flush", "ignore", "clean"])
@pytest.mark.parametrize("times", [1, 3])
def test_a_cancel_is_right_within_a_second_whatever_the_agent_is_at(what: str, times: int) -> None:
    @in_virtual_time
    async def test() -> None:
        store = FaultyStore(faults=Faults(delays_s=(0.0, 0.01)))
        async with engine(busy, store=store) as threads:
            thread = await threads.get("t")
            reader, commands = await follow(thread), Commands()
            await thread.submit("a", say(what), strategy=None, watcher=commands)
            await asyncio.sleep(0.5)
            await thread.submit("b", say("wait"), strategy=None, watcher=commands)
            began = asyncio.get_running_loop().time()
            answers = await asyncio.gather(*(thread.runner.cancel(None) for _ in range(times)))
            assert asyncio.get_running_loop().time() - began < 0.7
            assert {run and run.status for run in answers} == {"cancelled"}
            await asyncio.sleep(0.1)
            assert [run.status for run in reader.runs if run][-1] == "cancelled"
            assert commands.of("a")[-1] == "applied"
            assert commands.of("b") == ["queued", "cancelled"]
            assert set(reader.state) == {"text"}
            assert reader.state["text"].startswith("partial")
            if what in ("ignore", "clean"):
                assert reader.state["text"] == "partial, cleaned up"
            shown = reader.position
            await asyncio.sleep(10)
            assert reader.position == shown
            await thread.submit("c", say("go"), strategy=None, watcher=commands)
            await asyncio.sleep(0.5)
            assert commands.of("c")[-1] == "applied"

    test()


@in_virtual_time
async def test_interrupts_in_a_row_each_end_the_run_before_and_none_is_lost() -> None:
    @threadwire.agent
    async def slow(run: Run) -> None:
        for command in run.commands:
            run.state["done"] = [*run.state.get("done", []), text_of(command)]
            await asyncio.sleep(1)

    for pause_s in (0, 0.001, 0.01, 0.3, 2):
        store = FaultyStore(faults=Faults(delays_s=(0.0, 0.005)))
        async with engine(slow, store=store) as threads:
            thread = await threads.get("t")
            commands = Commands()
            for number in range(20):
                await thread.submit(str(number), say(str(number)), strategy="interrupt", watcher=commands)
                await asyncio.sleep(pause_s)
            await asyncio.sleep(30)
            done = store.truth["t"].states[-1]["done"]
            settled = {str(number): commands.of(str(number))[-1] for number in range(20)}
            assert done == [id for id, status in settled.items() if status == "applied"]
            assert set(settled.values()) <= {"applied", "cancelled"}
            assert settled["19"] == "applied"
            assert not thread.runner.busy


# connections


@in_virtual_time
async def test_a_connection_that_fails_in_the_midst_of_a_delivery_costs_no_one_else_anything() -> None:
    class Broken(Reader):
        broken = False

        def send(self, message: Message) -> None:
            if self.broken:
                raise RuntimeError("this can't be")
            super().send(message)

    store = FaultyStore()
    logging.getLogger("threadwire").setLevel(logging.CRITICAL)
    try:
        async with engine(ledger, store=store) as threads:
            thread = await threads.get("t")
            broken = Broken()
            await thread.subscribe(broken)
            reader = await follow(thread)
            broken.broken = True
            await thread.submit("a", say("wait a"), strategy=None, watcher=Commands())
            await asyncio.sleep(10)
            # Whoever follows is told to open the thread again, and it is as it was.
            assert [frame.code for frame in reader.frames if isinstance(frame, Error)] == [
                "store-unavailable"
            ]
            again = await threads.get("t")
            await asyncio.sleep(10)
            assert (await follow(again)).state == {"done": ["wait a"]}
    finally:
        logging.getLogger("threadwire").setLevel(logging.NOTSET)


@in_virtual_time
async def test_no_refusal_is_lost_in_the_task_of_a_sender_that_is_gone() -> None:
    store = FaultyStore()
    async with engine(ledger, store=store) as threads:
        thread = await threads.get("t")
        await thread.submit("a", say("a"), strategy=None, watcher=Commands())
        store.held = True
        sending = asyncio.ensure_future(thread.submit("a", say("b"), strategy=None, watcher=Commands()))
        await settle()
        sending.cancel()
        await settle()
        store.go_on()
        await settle()
        with pytest.raises(Refused):
            await thread.submit("a", say("b"), strategy=None, watcher=Commands())
