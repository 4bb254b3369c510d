"""Agents that host another framework: what they ask, what steers them, and how they go on after a crash."""

from __future__ import annotations

import asyncio
from typing import Any

import anyio
import pytest

import threadwire
from tests.support.engine import Commands, Reader, engine, follow, say
from tests.support.faulty_store import FaultyStore, at_once
from tests.support.hosts import Asker, Host, questions, resume, tool_result
from tests.support.virtual_time import in_virtual_time
from threadwire.core.canonical import canonical
from threadwire.core.errors import CommandError, StoreUnavailable
from threadwire.core.frames import Tool
from threadwire.core.operations import Json
from threadwire.engine.hosting import Questions
from threadwire.engine.run import Given
from threadwire.engine.settings import Settings
from threadwire.engine.store import CommandRecord, RunRecord
from threadwire.engine.thread import Thread
from threadwire.engine.threads import Threads

pytestmark = [pytest.mark.spec("8.4"), pytest.mark.spec("8.6"), pytest.mark.spec("8.7")]


async def settle() -> None:
    """Lets all happen that needs no more than a moment."""
    await asyncio.sleep(0.01)


def die(threads: Threads, store: FaultyStore) -> None:
    """The process is gone."""
    store.crash()
    threads.draining = True


class Talk:
    """A client of one thread, over all the owners it has."""

    def __init__(self) -> None:
        self.commands = Commands()
        self.thread: Thread
        self.reader: Reader

    async def open(self, threads: Threads, *, tools: tuple[str, ...] = ()) -> Talk:
        self.thread = await threads.get("t")
        self.reader = await follow(self.thread, tools=tools)
        return self

    async def send(self, id: str, body: str | dict[str, Any], strategy: Any = None) -> None:
        """Returns when all has happened that needs no time."""
        body = say(body) if isinstance(body, str) else body
        await self.thread.submit(id, body, strategy=strategy, watcher=self.commands, origin=self.reader)
        await settle()

    @property
    def run(self) -> str | None:
        return self.reader.runs[-1].status if self.reader.runs and self.reader.runs[-1] else None

    def status(self, id: str) -> str:
        state = self.commands.last(id)
        return state.error.code if state.error is not None else state.status

    @property
    def asked(self) -> list[str]:
        own = self.reader.state.get("threadwire", {})
        return [*own.get("interrupts", {}), *own.get("tool_calls", {})]

    @property
    def answers(self) -> Json:
        return self.reader.state.get("answers")

    @property
    def tools(self) -> list[str]:
        return [frame.tool_call_id for frame in self.reader.frames if isinstance(frame, Tool)]


def command(store: FaultyStore, id: str) -> CommandRecord:
    return store.disk._threads["t"].commands[id]


def last_run(store: FaultyStore) -> RunRecord:
    return next(reversed(store.disk._threads["t"].runs.values()))


# asking


@in_virtual_time
async def test_all_that_is_asked_stands_in_the_state_and_answers_may_come_one_by_one() -> None:
    async with engine(Asker()) as threads:
        talk = await Talk().open(threads)
        await talk.send("m", "?a ?b ?c")
        assert (talk.run, talk.asked) == ("waiting", ["a", "b", "c"])
        assert talk.reader.state["threadwire"]["interrupts"]["b"] == {"value": "b"}
        await talk.send("r1", resume(b=1))
        assert (talk.run, talk.asked, talk.answers) == ("waiting", ["a", "c"], {"b": 1})
        assert talk.status("r1") == "applied"
        await talk.send("r2", resume(c=[3], a=None))
        assert talk.run == "completed"
        assert talk.reader.state == {"said": ["?a ?b ?c"], "answers": {"b": 1, "c": [3], "a": None}}
        statuses = [run.status for run in talk.reader.runs if run]
        assert statuses == ["running", "waiting", "running", "waiting", "running", "completed"]
        assert len({run.id for run in talk.reader.runs if run}) == 1


@pytest.mark.parametrize("answers", [{"x": 1}, {"a": 1, "x": 1}, {}, {"call": 1}])
def test_an_answer_to_what_is_not_asked_is_refused_whole(answers: dict[str, Any]) -> None:
    @in_virtual_time
    async def test() -> None:
        async with engine(Asker()) as threads:
            talk = await Talk().open(threads)
            await talk.send("m", "?a !call")
            await talk.send("r", resume(**answers))
            assert talk.status("r") == "unknown-interrupt"
            assert (talk.run, talk.asked, talk.answers) == ("waiting", ["a", "call"], None)

    test()


@in_virtual_time
async def test_a_question_is_answered_once() -> None:
    async with engine(Asker()) as threads:
        talk = await Talk().open(threads)
        await talk.send("m", "?a ?b")
        await asyncio.gather(talk.send("r1", resume(a=1)), talk.send("r2", resume(a=2)))
        assert (talk.status("r1"), talk.status("r2")) == ("applied", "unknown-interrupt")
        assert (talk.asked, talk.answers) == (["b"], {"a": 1})


@in_virtual_time
async def test_what_the_agent_says_is_no_answer_is_refused_and_the_question_stays() -> None:
    def check(command: threadwire.Command) -> None:
        assert isinstance(command, threadwire.Resume)
        match command.answers["a"]:
            case "no":
                raise CommandError("bad-answer", "not this one", "command.answers.a")
            case "bug":
                raise ZeroDivisionError

    async def run(run: threadwire.Run) -> None:
        (answer,) = await run.hosting.ask(questions("?a", check=check))
        assert isinstance(answer.command, threadwire.Resume)
        run.state["answer"] = answer.command.answers["a"]
        run.hosting.apply(answer)

    async with engine(Host(run)) as threads:
        talk = await Talk().open(threads)
        await talk.send("m", "go")
        await talk.send("r1", resume(a="no"))
        await talk.send("r2", resume(a="bug"))
        assert (talk.status("r1"), talk.status("r2")) == ("bad-answer", "agent-failed")
        assert (talk.run, talk.asked) == ("waiting", ["a"])
        await talk.send("r3", resume(a="yes"))
        assert (talk.run, talk.reader.state) == ("completed", {"answer": "yes"})


@in_virtual_time
async def test_a_breakpoint_is_gone_on_from_by_a_resume_without_answers_once() -> None:
    async def run(run: threadwire.Run) -> None:
        run.state["steps"] = 0
        for _ in range(3):
            for answer in await run.hosting.ask(questions(".")):
                run.hosting.apply(answer)
            run.state["steps"] += 1
            await asyncio.sleep(1)

    async with engine(Host(run)) as threads:
        talk = await Talk().open(threads)
        await talk.send("m", "go")
        assert (talk.run, talk.asked) == ("waiting", [])
        await talk.send("r1", resume())
        await talk.send("r2", resume())  # a second click, while the run goes on
        assert (talk.status("r1"), talk.status("r2")) == ("applied", "unknown-interrupt")
        await asyncio.sleep(2)
        assert (talk.run, talk.reader.state) == ("waiting", {"steps": 1})
        await talk.send("r3", resume())
        await asyncio.sleep(2)
        await talk.send("r4", resume())
        await asyncio.sleep(2)
        assert (talk.run, talk.reader.state) == ("completed", {"steps": 3})


@in_virtual_time
async def test_answers_that_come_while_the_run_goes_on_wait_for_the_next_question() -> None:
    async def run(run: threadwire.Run) -> None:
        hosting = run.hosting
        open_ids = ["?a", "?b", "?c"]
        got: list[list[str]] = []
        while open_ids:
            answers = await hosting.ask(questions(*open_ids))
            got.append([given.id for given in answers])
            run.state["got"] = got
            for given in answers:
                assert isinstance(given.command, threadwire.Resume)
                open_ids = [each for each in open_ids if each[1:] not in given.command.answers]
                hosting.apply(given)
            await asyncio.sleep(1)

    async with engine(Host(run)) as threads:
        talk = await Talk().open(threads)
        await talk.send("m", "go")
        await talk.send("r1", resume(a=1))
        assert (talk.run, talk.asked) == ("running", ["b", "c"])
        await talk.send("r2", resume(c=1))
        assert (talk.run, talk.asked, talk.status("r2")) == ("running", ["b"], "running")
        await asyncio.sleep(1)
        assert (talk.status("r2"), talk.asked) == ("applied", ["b"])
        await talk.send("r3", resume(b=1))
        await asyncio.sleep(3)
        assert (talk.run, talk.reader.state) == ("completed", {"got": [["r1"], ["r2"], ["r3"]]})


@in_virtual_time
async def test_answers_that_the_run_has_not_taken_when_it_ends_are_refused() -> None:
    async def run(run: threadwire.Run) -> None:
        if not isinstance(run.hosting.given[0].command, threadwire.AddMessage):
            run.state["late"] = run.hosting.given[0].id
            return
        for given in await run.hosting.ask(questions("?a", "?b", "!call")):
            run.hosting.apply(given)
        await asyncio.sleep(1)

    async with engine(Host(run)) as threads:
        talk = await Talk().open(threads)
        await talk.send("m", "go")
        await talk.send("r1", resume(a=1))
        await talk.send("r2", resume(b=1))
        await talk.send("r3", tool_result("call"))
        await asyncio.sleep(2)
        assert (talk.status("r1"), talk.status("r2")) == ("applied", "unknown-interrupt")
        # A result is something to the next run, as if it had come after this one.
        assert talk.status("r3") == "applied"
        assert talk.reader.state == {"late": "r3"}


@in_virtual_time
async def test_what_is_asked_is_gone_from_the_state_when_the_run_ends_without_an_answer() -> None:
    async def run(run: threadwire.Run) -> None:
        asking = asyncio.ensure_future(run.hosting.ask(questions("?a", "!b")))
        await asyncio.sleep(1)
        strays.append(asking)
        if run.hosting.given[0].id == "fails":
            raise threadwire.AgentError("no")

    strays: list[asyncio.Future[Any]] = []
    async with engine(Host(run)) as threads:
        talk = await Talk().open(threads)
        for id, status in (("m", "completed"), ("fails", "failed")):
            await talk.send(id, "go")
            assert (talk.run, talk.asked) == ("waiting", ["a", "b"])
            await asyncio.sleep(2)
            assert (talk.run, talk.reader.state) == (status, {})
        assert all(stray.cancelled() for stray in strays)


@in_virtual_time
async def test_a_run_can_ask_other_things_and_ask_less() -> None:
    async def run(run: threadwire.Run) -> None:
        for asked in (("?a", "?b"), ("?b", "?c"), ("!d",)):
            for given in await run.hosting.ask(questions(*asked)):
                run.hosting.apply(given)

    async with engine(Host(run)) as threads:
        talk = await Talk().open(threads)
        await talk.send("m", "go")
        await talk.send("r1", resume(a=1))
        assert talk.asked == ["b", "c"]
        await talk.send("r2", resume(a=1))
        assert talk.status("r2") == "unknown-interrupt"
        await talk.send("r3", resume(c=1))
        assert talk.asked == ["d"]
        await talk.send("r4", tool_result("d"))
        assert (talk.run, talk.reader.state) == ("completed", {})


@in_virtual_time
async def test_where_the_state_is_no_object_nothing_can_be_asked() -> None:
    async def run(run: threadwire.Run) -> None:
        run.state = [1]
        await run.hosting.ask(questions("?a"))

    async with engine(Host(run)) as threads:
        talk = await Talk().open(threads)
        await talk.send("m", "go")
        assert (talk.run, talk.reader.state) == ("failed", [1])


@in_virtual_time
async def test_a_run_that_asks_nothing_is_told_so_instead_of_waiting_for_ever() -> None:
    async def run(run: threadwire.Run) -> None:
        with pytest.raises(ValueError, match="nothing is asked"):
            await run.hosting.ask(Questions())

    async with engine(Host(run)) as threads:
        talk = await Talk().open(threads)
        await talk.send("m", "go")
        assert talk.run == "completed"


# client tools


@in_virtual_time
async def test_a_call_goes_to_the_client_whose_command_it_serves_and_its_result_comes_once() -> None:
    async with engine(Asker()) as threads:
        other = await Talk().open(threads, tools=("look",))
        talk = await Talk().open(threads, tools=("look",))
        await talk.send("m", "!x !y")
        assert (talk.tools, other.tools, talk.run) == (["x", "y"], [], "waiting")
        assert talk.reader.state["threadwire"]["tool_calls"]["x"] == {"name": "look", "args": {"id": "x"}}
        await talk.send("r1", tool_result("x", 1))
        await other.send("r2", tool_result("x", 2))
        assert (talk.status("r1"), other.status("r2")) == ("applied", "already-answered")
        assert talk.tools == ["x", "y"]
        await other.send("r3", tool_result("y", 3))
        assert (talk.run, talk.answers) == ("completed", {"x": 1, "y": 3})


@in_virtual_time
async def test_a_call_is_assigned_when_a_client_comes_and_again_when_it_has_been_gone_for_long() -> None:
    async with engine(Asker(), settings=Settings(tool_grace_s=10)) as threads:
        talk = await Talk().open(threads)
        await talk.send("m", "!x")
        first = Reader()
        subscriber = await talk.thread.subscribe(first, tools=("look",))
        second = await Talk().open(threads, tools=("look",))
        assert [frame.tool_call_id for frame in first.frames if isinstance(frame, Tool)] == ["x"]
        talk.thread.unsubscribe(subscriber)
        await asyncio.sleep(9)
        assert second.tools == []
        await asyncio.sleep(2)
        assert second.tools == ["x"]
        await second.send("r", tool_result("x", 1))
        assert (talk.run, talk.answers) == ("completed", {"x": 1})


@in_virtual_time
async def test_a_call_asked_again_under_its_id_is_not_given_out_for_the_one_before() -> None:
    async def run(run: threadwire.Run) -> None:
        for _ in range(2):
            for given in await run.hosting.ask(questions("!x")):
                run.hosting.apply(given)

    async with engine(Host(run), settings=Settings(tool_grace_s=1)) as threads:
        talk = await Talk().open(threads)
        first = Reader()
        subscriber = await talk.thread.subscribe(first, tools=("look",))
        await talk.send("m", "go")
        talk.thread.unsubscribe(subscriber)
        await talk.send("r1", tool_result("x"))
        second = await Talk().open(threads, tools=("look",))
        await settle()
        assert second.tools == ["x"]
        await asyncio.sleep(2)
        assert second.tools == ["x"]
        await talk.send("r2", tool_result("x"))
        assert talk.run == "completed"


@in_virtual_time
async def test_a_call_is_given_out_only_when_it_is_durable() -> None:
    async def run(run: threadwire.Run) -> None:
        await asyncio.sleep(1)
        for given in await run.hosting.ask(questions("!x")):
            run.hosting.apply(given)

    store = FaultyStore()
    async with engine(Host(run), store=store) as threads:
        talk = await Talk().open(threads, tools=("look",))
        await talk.send("m", "go")
        store.held = True
        await asyncio.sleep(2)
        late = await Talk().open(threads, tools=("look",))
        assert (talk.tools, late.tools) == ([], [])
        store.go_on()
        await settle()
        assert (talk.tools, late.tools) == (["x"], [])
        await talk.send("r", tool_result("x"))
        assert talk.run == "completed"


@in_virtual_time
async def test_an_answer_that_comes_before_the_calls_are_durable_is_not_lost() -> None:
    async def run(run: threadwire.Run) -> None:
        asked = {"?a", "!x"}
        while asked:
            for given in await run.hosting.ask(questions(*asked)):
                run.state["got"] = [*run.state.get("got", []), given.id]
                run.hosting.apply(given)
                asked.discard("?a" if isinstance(given.command, threadwire.Resume) else "!x")

    store = FaultyStore()
    async with engine(Host(run), store=store) as threads:
        talk = await Talk().open(threads)
        await talk.send("m", "go")
        # The thread was lost and the client knows the questions of before.
        store.crash()
        threads.draining = True
    async with engine(Host(run), store=store) as threads:
        await talk.open(threads)
        await asyncio.gather(talk.send("r1", resume(a=1)), talk.send("r2", tool_result("x")))
        assert (talk.run, talk.reader.state) == ("completed", {"got": ["r1", "r2"]})
        assert (talk.status("r1"), talk.status("r2")) == ("applied", "applied")


# what comes while it waits


@in_virtual_time
async def test_a_cancel_ends_the_wait_and_takes_all_questions_away() -> None:
    async with engine(Asker()) as threads:
        talk = await Talk().open(threads)
        await talk.send("m", "?a !b .")
        await talk.thread.runner.cancel(None)
        assert (talk.run, talk.reader.state) == ("cancelled", {"said": ["?a !b ."]})
        await talk.send("r", resume(a=1))
        assert talk.status("r") == "unknown-interrupt"


@pytest.mark.parametrize("strategy", ["enqueue", "interrupt", "rollback", "reject", "steer"])
def test_a_message_while_it_waits_starts_over_whatever_its_strategy(strategy: str) -> None:
    @in_virtual_time
    async def test() -> None:
        async with engine(Asker()) as threads:
            talk = await Talk().open(threads)
            await talk.send("m1", "?a")
            await talk.send("m2", "?b", strategy)
            assert [run.status for run in talk.reader.runs if run] == [
                "running", "waiting", "cancelled", "running", "waiting",
            ]  # fmt: skip
            assert (talk.asked, talk.status("m2")) == (["b"], "applied")
            assert talk.reader.state["said"] == ["?a", "?b"]

    test()


@in_virtual_time
async def test_a_message_right_after_the_answer_does_not_end_the_run() -> None:
    async with engine(Asker()) as threads:
        talk = await Talk().open(threads)
        await talk.send("m1", "?a")
        await asyncio.gather(talk.send("r", resume(a=1)), talk.send("m2", "after"))
        assert talk.reader.state == {"said": ["?a", "after"], "answers": {"a": 1}}
        assert "cancelled" not in [run.status for run in talk.reader.runs if run]


# a crash


@in_virtual_time
async def test_a_run_cut_by_a_crash_goes_on_under_its_id_with_what_it_had_not_settled() -> None:
    async def run(run: threadwire.Run) -> None:
        (first,) = run.hosting.given
        run.state["first"] = first.id
        run.hosting.apply(first)
        await asyncio.Event().wait()

    async def recover(run: threadwire.Run) -> None:
        run.state["recovered"] = [run.id, [each.id for each in run.hosting.given]]

    store = FaultyStore()
    talk = Talk()
    async with engine(Host(run), store=store) as threads:
        await talk.open(threads)
        await talk.send("m1", "one")
        await talk.send("m2", "two", "steer")
        (started,) = {each.id for each in talk.reader.runs if each}
        die(threads, store)
    async with engine(Host(run, recover), store=store) as threads:
        await settle()
        await talk.open(threads)
        assert talk.reader.state == {"first": "m1", "recovered": [started, ["m2"]]}
        assert (command(store, "m1").status, command(store, "m2").status) == ("applied", "applied")
        assert (last_run(store).id, last_run(store).status, last_run(store).starts) == (
            started,
            "completed",
            2,
        )


@in_virtual_time
async def test_what_was_asked_is_asked_again_after_a_crash_and_answered_then() -> None:
    store, asker, talk = FaultyStore(), Asker(), Talk()
    async with engine(asker, store=store) as threads:
        await talk.open(threads)
        await talk.send("m", "?a ?b !c")
        await talk.send("r1", resume(b=1))
        die(threads, store)
    for answer in (resume(a=1), tool_result("c", 2)):
        async with engine(asker, store=store) as threads:
            await talk.open(threads, tools=("look",))
            await settle()
            assert talk.run == "waiting"
            assert talk.tools == ["c"]
            await talk.send(f"r{answer['type']}", answer)
            if talk.run != "completed":
                die(threads, store)
    assert talk.reader.state == {"said": ["?a ?b !c"], "answers": {"b": 1, "a": 1, "c": 2}}
    assert len({run for run, _ in asker.given}) == 1
    assert [given for _, given in asker.given] == [["m"], [], []]


class Slow(Host):
    """Finds out how far a run was only after a while."""

    def __init__(self) -> None:
        super().__init__(self._write)
        self.cancelled: list[bool] = []

    async def _write(self, run: threadwire.Run) -> None:
        for given in run.hosting.given:
            run.state["said"] = [*run.state.get("said", []), given.id]
            run.hosting.apply(given)
        try:
            await asyncio.sleep(100 if run.state["said"] == ["m1"] else 0)
        except asyncio.CancelledError:
            self.cancelled.append("known" in run.state)
            raise

    async def recover(self, run: threadwire.Run) -> None:
        await asyncio.sleep(1)
        run.state["known"] = True
        run.hosting.recovered()
        await self._write(run)


@pytest.mark.parametrize("strategy", ["interrupt", "rollback", "steer", "enqueue"])
def test_a_command_does_after_a_crash_what_its_strategy_says(strategy: str) -> None:
    @in_virtual_time
    async def test() -> None:
        store, host, talk = FaultyStore(), Slow(), Talk()
        async with engine(host, store=store) as threads:
            await talk.open(threads)
            await talk.send("m1", "one")
            sent = store.disk.submit("t", "m2", canonical(say("two")), limit=9, now=1.0, strategy=strategy)
            assert at_once(sent) is not None
            die(threads, store)
        async with engine(host, store=store) as threads:
            await talk.open(threads)
            await asyncio.sleep(5)
            if strategy in ("interrupt", "rollback"):
                assert host.cancelled == [True], "it was cancelled before it knew how far it was"
                assert [run.status for run in talk.reader.runs if run][-2:] == ["running", "completed"]
                undone = strategy == "rollback"
                assert talk.reader.state["said"] == (["m2"] if undone else ["m1", "m2"])
            else:
                assert talk.run == "running"
                assert talk.reader.state["said"] == ["m1"]
                await asyncio.sleep(200)
                assert talk.reader.state["said"] == ["m1", "m2"]

    test()


@in_virtual_time
async def test_a_cancel_waits_until_the_agent_knows_how_far_the_run_was_but_not_for_ever() -> None:
    for recovery_s, known in ((1.0, True), (1000.0, False)):
        store, host, talk = FaultyStore(), Slow(), Talk()
        async with engine(host, store=store) as threads:
            await talk.open(threads)
            await talk.send("m1", "one")
            die(threads, store)

        async def recover(run: threadwire.Run, recovery_s: float = recovery_s, host: Slow = host) -> None:
            await asyncio.sleep(recovery_s)
            run.state["known"] = True
            run.hosting.recovered()
            await host._write(run)

        host.recover = recover  # type: ignore[method-assign]
        async with engine(host, store=store) as threads:
            await talk.open(threads)
            with anyio.fail_after(15):
                await talk.thread.runner.cancel(None)
            assert talk.run == "cancelled"
            assert ("known" in talk.reader.state) == known
            assert host.cancelled == ([True] if known else [])


@in_virtual_time
async def test_a_message_to_a_run_that_waited_ends_it_after_crashes_as_well() -> None:
    store, asker, talk = FaultyStore(), Asker(), Talk()
    async with engine(asker, store=store) as threads:
        await talk.open(threads)
        await talk.send("m1", "?a")
        await talk.send("m2", "?b")
        kept = command(store, "m2").strategy
        sent = store.disk.submit("t", "m3", canonical(say("?c")), limit=9, now=1.0, strategy=kept)
        assert at_once(sent) is not None
        die(threads, store)
    async with engine(asker, store=store) as threads:
        await talk.open(threads)
        die(threads, store)
    async with engine(asker, store=store) as threads:
        await talk.open(threads)
        await settle()
        assert talk.asked == ["c"]
        assert talk.reader.state["said"] == ["?a", "?b", "?c"]


@in_virtual_time
async def test_answers_on_their_way_at_a_crash_reach_the_run_when_it_asks_again() -> None:
    async def recover(run: threadwire.Run) -> None:
        await asyncio.sleep(5)  # loading
        await asker.recover(run)

    store, asker, talk = FaultyStore(), Asker(), Talk()
    async with engine(asker, store=store) as threads:
        await talk.open(threads)
        await talk.send("m", "?a ?b ?c")
        # Durable, and the answer never came.
        store.withheld = True
        sending = asyncio.ensure_future(talk.send("r1", resume(a=1)))
        await settle()
        sending.cancel()
        assert command(store, "r1").status == "queued"
        die(threads, store)
    store.withheld = False
    host = Host(asker.run, recover)
    async with engine(host, store=store) as threads:
        await talk.open(threads)
        await talk.send("r2", resume(b=2))
        await talk.send("r3", resume(nobody=3))
        assert [command(store, id).status for id in ("r1", "r2", "r3")] == ["queued"] * 3
        await asyncio.sleep(5)
        assert talk.answers == {"a": 1, "b": 2}
        assert [command(store, id).status for id in ("r1", "r2")] == ["applied"] * 2
        assert talk.status("r3") == "unknown-interrupt"
        assert talk.asked == ["c"]


@in_virtual_time
async def test_answers_held_for_a_run_that_asks_no_more_are_refused_when_it_ends() -> None:
    async def run(run: threadwire.Run) -> None:
        await run.hosting.ask(questions("?a"))

    async def recover(run: threadwire.Run) -> None:
        await asyncio.sleep(1)

    store, talk = FaultyStore(), Talk()
    async with engine(Host(run), store=store) as threads:
        await talk.open(threads)
        await talk.send("m", "go")
        die(threads, store)
    async with engine(Host(run, recover), store=store) as threads:
        await talk.open(threads)
        await talk.send("r", resume(a=1))
        assert talk.status("r") == "queued"
        await asyncio.sleep(2)
        assert (talk.status("r"), talk.run, talk.reader.state) == ("unknown-interrupt", "completed", {})


@in_virtual_time
async def test_a_cancel_of_all_takes_answers_held_for_a_run_that_was_cut() -> None:
    async def recover(run: threadwire.Run) -> None:
        await asyncio.Event().wait()

    store, asker, talk = FaultyStore(), Asker(), Talk()
    async with engine(asker, store=store) as threads:
        await talk.open(threads)
        await talk.send("m", "?a !b")
        die(threads, store)
    async with engine(Host(asker.run, recover), store=store) as threads:
        await talk.open(threads)
        await talk.send("r1", resume(a=1))
        await talk.send("r2", tool_result("b"))
        await talk.thread.runner.cancel(None)
        await settle()
        assert (talk.status("r1"), talk.status("r2"), talk.run) == ("cancelled", "cancelled", "cancelled")
        assert talk.reader.state == {"said": ["?a !b"]}


@in_virtual_time
async def test_an_answer_taken_before_the_crash_is_given_to_the_run_that_goes_on() -> None:
    async def run(run: threadwire.Run) -> None:
        await run.hosting.ask(questions("?a", "!b"))
        await asyncio.Event().wait()

    async def recover(run: threadwire.Run) -> None:
        (await run.hosting.notes())["given"] = [each.id for each in run.hosting.given]
        await run.hosting.ask(questions("?a"))

    store, talk = FaultyStore(), Talk()
    async with engine(Host(run), store=store) as threads:
        await talk.open(threads)
        await talk.send("m", "go")
        await talk.send("r1", resume(a=1))
        await talk.send("r2", tool_result("b"))
        assert talk.status("r2") == "running"
        die(threads, store)
    # That the run has an answer and that it waits no more is one write.
    taken = next(entry for entry in store.written if any(each.id == "r1" for each in entry.commands))
    assert taken.run is not None
    assert taken.run.status == "running"
    async with engine(Host(run, recover), store=store) as threads:
        await talk.open(threads)
        await settle()
        assert await store.notes("t") == {"given": b'["m","r1","r2"]'}
        assert (talk.run, talk.asked) == ("waiting", ["a"])
        # Another client had executed the same call.
        await talk.send("r3", tool_result("b"))
        assert (talk.status("r3"), talk.run) == ("already-answered", "waiting")
        assert talk.thread.runner._active is not None
        assert [each.id for each in talk.thread.runner._active.run.hosting.given] == ["m", "r1", "r2"]
        await talk.send("r4", resume(a=2))
        assert talk.run == "completed"


@in_virtual_time
async def test_commands_given_later_are_not_among_those_the_run_goes_on_with() -> None:
    async def recover(run: threadwire.Run) -> None:
        for given in await run.hosting.ask(questions("?a")):
            run.hosting.apply(given)
        run.state["given"] = [each.id for each in run.hosting.given]

    async def run(run: threadwire.Run) -> None:
        await run.hosting.ask(questions("?a"))

    store, talk = FaultyStore(), Talk()
    async with engine(Host(run), store=store) as threads:
        await talk.open(threads)
        await talk.send("m", "go")
        die(threads, store)
    async with engine(Host(run, recover), store=store) as threads:
        await talk.open(threads)
        await settle()
        await talk.send("r", resume(a=1))
        assert talk.reader.state == {"given": ["m"]}


@in_virtual_time
async def test_a_message_to_a_run_that_waited_when_it_was_cut_starts_over() -> None:
    async def recover(run: threadwire.Run) -> None:
        await asyncio.sleep(1)
        await asker.recover(run)

    store, asker, talk = FaultyStore(), Asker(), Talk()
    async with engine(asker, store=store) as threads:
        await talk.open(threads)
        await talk.send("m1", "?a")
        die(threads, store)
    async with engine(Host(asker.run, recover), store=store) as threads:
        await talk.open(threads)
        await talk.send("m2", "never mind", "reject")
        await asyncio.sleep(2)
        assert talk.reader.state == {"said": ["?a", "never mind"]}
        assert [run.status for run in talk.reader.runs[-3:] if run] == ["cancelled", "running", "completed"]


@in_virtual_time
async def test_a_run_is_given_up_with_its_commands_after_three_crashes() -> None:
    async def hang(run: threadwire.Run) -> None:
        starts.append([each.id for each in run.hosting.given])
        await asyncio.Event().wait()

    store, talk = FaultyStore(), Talk()
    starts: list[list[str]] = []
    for _ in range(3):
        async with engine(Host(hang), store=store) as threads:
            await talk.open(threads)
            await talk.send("m", "go")
            assert talk.run == "running"
            die(threads, store)
    async with engine(Host(hang), store=store) as threads:
        await settle()
        assert starts == [["m"]] * 3
        run, record = last_run(store), command(store, "m")
        assert (run.status, run.error and run.error.code) == ("failed", "gave-up")
        assert (record.status, record.error and record.error.code) == ("rejected", "gave-up")
        await talk.open(threads)
        assert not talk.thread.runner.busy


@in_virtual_time
async def test_crashes_while_it_waits_and_stops_in_order_are_not_counted() -> None:
    async def slow(run: threadwire.Run) -> None:
        await asyncio.Event().wait()

    store, asker, talk = FaultyStore(), Asker(), Talk()
    for _ in range(5):
        async with engine(asker, store=store) as threads:
            await talk.open(threads)
            await talk.send("m", "?a")
            assert talk.run == "waiting"
            die(threads, store)
    assert (last_run(store).starts, command(store, "m").starts) == (1, 1)
    for _ in range(5):
        async with engine(Host(slow), store=store) as threads:
            await talk.open(threads)
            await settle()
            await threads.drain(0)
        assert (last_run(store).status, last_run(store).starts) == ("running", 0)
    for starts in (1, 2, 3):
        async with engine(Host(slow), store=store) as threads:
            await settle()
            assert (last_run(store).status, last_run(store).starts) == ("running", starts)
            die(threads, store)
    async with engine(asker, store=store) as threads:
        await settle()
        assert last_run(store).status == "failed"


@in_virtual_time
async def test_commands_of_a_run_that_waits_are_not_given_up_for_crashes_meanwhile() -> None:
    async def run(run: threadwire.Run) -> None:
        given.append([each.id for each in run.hosting.given])
        await run.hosting.ask(questions("?a"))

    store, talk = FaultyStore(), Talk()
    given: list[list[str]] = []
    for _ in range(4):
        async with engine(Host(run), store=store, settings=Settings(max_starts=1)) as threads:
            await talk.open(threads)
            await talk.send("m", "go")
            assert talk.run == "waiting"
            die(threads, store)
    assert given == [["m"]] * 4
    assert (last_run(store).starts, command(store, "m").starts) == (1, 1)


@in_virtual_time
async def test_a_run_that_has_ended_when_the_server_stops_is_not_left_to_the_next() -> None:
    async def run(run: threadwire.Run) -> None:
        await asyncio.sleep(1)
        raise threadwire.AgentError("no")

    store, talk = FaultyStore(), Talk()
    async with engine(Host(run), store=store) as threads:
        await talk.open(threads)
        await talk.send("m", "go")
        store.held = True
        await asyncio.sleep(2)
        stopping = asyncio.ensure_future(threads.drain(0))
        await settle()
        store.go_on()
        await stopping
    assert (last_run(store).status, command(store, "m").status) == ("failed", "rejected")


@in_virtual_time
async def test_stops_in_order_between_crashes_do_not_make_them_forgotten() -> None:
    async def hang(run: threadwire.Run) -> None:
        await asyncio.Event().wait()

    store, talk = FaultyStore(), Talk()
    for crashes in range(3):
        async with engine(Host(hang), store=store) as threads:
            await talk.open(threads)
            await talk.send("m", "go")
            await threads.drain(0)
        assert (last_run(store).starts, command(store, "m").starts) == (crashes, crashes)
        async with engine(Host(hang), store=store) as threads:
            await settle()
            assert (last_run(store).starts, command(store, "m").starts) == (crashes + 1, crashes + 1)
            die(threads, store)
    async with engine(Host(hang), store=store) as threads:
        await settle()
        assert (last_run(store).status, command(store, "m").status) == ("failed", "rejected")


@in_virtual_time
async def test_what_was_steered_into_a_run_that_is_given_up_starts_another() -> None:
    async def run(run: threadwire.Run) -> None:
        if [each.id for each in run.hosting.given] == ["late"]:
            run.state["done"] = True
        else:
            await asyncio.Event().wait()

    store, talk = FaultyStore(), Talk()
    for start in range(3):
        async with engine(Host(run), store=store) as threads:
            await talk.open(threads)
            await talk.send("m", "go")
            if start == 2:
                await talk.send("late", "late", "steer")
            die(threads, store)
    async with engine(Host(run), store=store) as threads:
        await talk.open(threads)
        await settle()
        assert (command(store, "m").status, command(store, "late").status) == ("rejected", "applied")
        assert talk.reader.state == {"done": True}


@in_virtual_time
async def test_a_run_whose_agent_can_not_go_on_has_failed() -> None:
    @threadwire.agent
    async def host(run: threadwire.Run) -> None:
        await run.hosting.ask(questions("?a"))

    store, talk = FaultyStore(), Talk()
    async with engine(host, store=store) as threads:
        await talk.open(threads)
        await talk.send("m", "go")
        await talk.send("r", resume(a=1))
        await talk.send("m2", "go")
        assert (talk.run, talk.asked) == ("waiting", ["a"])
        die(threads, store)
    async with engine(host, store=store) as threads:
        await settle()
        failed = next(iter(list(store.disk._threads["t"].runs.values())[-2:]))
        assert (failed.status, failed.error and failed.error.code) == ("failed", "interrupted-by-crash")
        assert (last_run(store).status, last_run(store).id != failed.id) == ("waiting", True)


@in_virtual_time
async def test_a_command_with_a_handler_starts_the_next_run_after_the_one_that_goes_on() -> None:
    class Mark(threadwire.Command, tag="mark"):
        pass

    async def run(run: threadwire.Run) -> None:
        raise AssertionError("every command has a handler")

    async def recover(run: threadwire.Run) -> None:
        given.append([each.id for each in run.hosting.given])

    @(host := Host(run, recover)).on(Mark)
    async def mark(run: threadwire.Run, command: Mark) -> None:
        if slow:
            await asyncio.Event().wait()
        run.state["marked"] = True

    store, talk = FaultyStore(), Talk()
    given: list[list[str]] = []
    slow = True
    async with engine(host, store=store) as threads:
        await talk.open(threads)
        await talk.send("k", {"type": "mark"})
        die(threads, store)
    slow = False
    async with engine(host, store=store) as threads:
        await talk.open(threads)
        await settle()
        assert (given, talk.reader.state, command(store, "k").status) == ([[]], {"marked": True}, "applied")


# unloading, stopping, losing


@in_virtual_time
async def test_a_thread_whose_run_waits_is_unloaded_and_comes_back_when_it_is_asked_for() -> None:
    asker, talk = Asker(), Talk()
    async with engine(asker, settings=Settings(idle_s=10)) as threads:
        await talk.open(threads)
        await talk.send("m", "?a ?b")
        talk.thread.unsubscribe(next(iter(talk.thread.subscribers)))
        await asyncio.sleep(5)
        assert len(threads) == 1
        await asyncio.sleep(20)
        assert len(threads) == 0
        await talk.open(threads)
        await settle()
        assert (talk.run, talk.asked) == ("waiting", ["a", "b"])
        talk.thread.unsubscribe(next(iter(talk.thread.subscribers)))
        await asyncio.sleep(30)
        assert len(threads) == 0
        # By a command alone.
        talk.thread = await threads.get("t")
        await talk.send("r1", resume(a=1))
        await talk.open(threads)
        assert talk.answers == {"a": 1}
        await talk.send("r2", resume(b=1))
        assert (talk.run, talk.answers) == ("completed", {"a": 1, "b": 1})
        assert len({run for run, _ in asker.given}) == 1


@in_virtual_time
async def test_a_message_to_a_thread_that_was_unloaded_while_its_run_waits_starts_over() -> None:
    talk = Talk()
    async with engine(Asker(), settings=Settings(idle_s=10)) as threads:
        await talk.open(threads)
        await talk.send("m1", "?a")
        talk.thread.unsubscribe(next(iter(talk.thread.subscribers)))
        await asyncio.sleep(30)
        assert len(threads) == 0
        talk.thread = await threads.get("t")
        await talk.send("m2", "never mind")
        await talk.open(threads)
        assert (talk.run, talk.reader.state) == ("completed", {"said": ["?a", "never mind"]})


@in_virtual_time
async def test_a_thread_stays_while_someone_is_still_to_be_told_of_a_command() -> None:
    async def run(run: threadwire.Run) -> None:
        await run.hosting.ask(questions("?a"))

    talk = Talk()
    async with engine(Host(run), settings=Settings(idle_s=1)) as threads:
        await talk.open(threads)
        await talk.send("m", "go")
        talk.thread.unsubscribe(next(iter(talk.thread.subscribers)))
        await asyncio.sleep(10)
        assert len(threads) == 1
        talk.thread.intake.forget(talk.commands)
        await asyncio.sleep(10)
        assert len(threads) == 0


@in_virtual_time
async def test_a_function_that_waits_keeps_its_thread() -> None:
    @threadwire.agent
    async def host(run: threadwire.Run) -> None:
        run.state["said"] = True
        await run.interrupt("?")

    talk = Talk()
    async with engine(host, settings=Settings(idle_s=1)) as threads:
        await talk.open(threads)
        await talk.send("m", "go")
        talk.thread.unsubscribe(next(iter(talk.thread.subscribers)))
        await asyncio.sleep(10)
        assert len(threads) == 1
        await talk.thread.runner.cancel(None)


@in_virtual_time
async def test_a_stop_of_the_server_leaves_a_run_that_waits_at_once() -> None:
    store, asker, talk = FaultyStore(), Asker(), Talk()
    loop = asyncio.get_running_loop()
    async with engine(asker, store=store) as threads:
        await talk.open(threads)
        await talk.send("m", "?a")
        began = loop.time()
        await threads.drain(60)
        assert loop.time() - began < 1
    assert (last_run(store).status, last_run(store).starts) == ("waiting", 1)
    async with engine(asker, store=store) as threads:
        await talk.open(threads)
        await settle()
        await talk.send("r", resume(a=1))
        assert talk.run == "completed"


@in_virtual_time
async def test_a_stop_of_the_server_leaves_a_run_as_soon_as_it_waits_with_commands_behind_it() -> None:
    async def run(run: threadwire.Run) -> None:
        await asyncio.sleep(5)
        await run.hosting.ask(questions("?a"))

    store, talk = FaultyStore(), Talk()
    loop = asyncio.get_running_loop()
    async with engine(Host(run), store=store) as threads:
        await talk.open(threads)
        await talk.send("m1", "go")
        await talk.send("m2", "go")
        began = loop.time()
        await threads.drain(60)
        assert 4 < loop.time() - began < 7
    assert (last_run(store).status, command(store, "m2").status) == ("waiting", "queued")


@in_virtual_time
async def test_what_comes_while_the_server_stops_is_for_the_next_one() -> None:
    async def stubborn(run: threadwire.Run) -> None:
        try:
            await asker.run(run)
        finally:
            await asyncio.sleep(0.3)

    store, asker, talk = FaultyStore(), Asker(), Talk()
    async with engine(Host(stubborn), store=store) as threads:
        await talk.open(threads)
        await talk.send("m", "?a ?b")
        draining = asyncio.ensure_future(threads.drain(60))
        await asyncio.sleep(0.1)
        await talk.send("r1", resume(a=1))
        await draining
        await talk.send("r2", resume(b=1))
        assert (talk.status("r1"), talk.status("r2")) == ("queued", "queued")
        assert talk.asked == ["a", "b"]
    async with engine(asker, store=store) as threads:
        await talk.open(threads)
        await settle()
        assert (talk.run, talk.answers) == ("completed", {"a": 1, "b": 1})


@in_virtual_time
async def test_a_thread_lost_while_it_waits_comes_back_by_itself_and_asks_again() -> None:
    store, asker, talk = FaultyStore(), Asker(), Talk()
    async with engine(asker, store=store, settings=Settings(store_patience_s=1)) as threads:
        await talk.open(threads)
        await talk.send("m", "?a ?b")
        old = talk.thread
        store.out = True
        old.document.set(("more",), True)
        await asyncio.sleep(5)
        assert old.closed
        with pytest.raises(StoreUnavailable):
            await talk.send("r0", resume(a=1))
        store.out = False
        await asyncio.sleep(60)
        await talk.open(threads)
        assert (talk.run, talk.asked) == ("waiting", ["a", "b"])
        await talk.send("r1", resume(b=1, a=1))
        assert (talk.run, talk.reader.state["answers"]) == ("completed", {"b": 1, "a": 1})


@in_virtual_time
async def test_a_thread_robbed_while_it_asks_writes_nothing_more() -> None:
    store, talk = FaultyStore(), Talk()
    asker = Asker()
    async with engine(asker, store=store) as threads:
        await talk.open(threads)
        await talk.send("m", "?a")
        await store.rob("t")
        head = store.truth["t"].head
        await talk.send("r", resume(a=1))
        await settle()
        assert talk.thread.closed
        assert store.truth["t"].head == head
        assert last_run(store).status == "waiting"


# steering


@in_virtual_time
async def test_what_is_steered_into_a_run_is_taken_by_the_agent_and_settled_by_it() -> None:
    async def run(run: threadwire.Run) -> None:
        hosting = run.hosting
        had_before = hosting.has_steered
        await asyncio.sleep(1)
        assert (had_before, hosting.has_steered) == (False, True)
        first, second = hosting.steered()
        assert (hosting.has_steered, hosting.steered()) == (False, [])
        run.state["steered"] = [first.id, second.id]
        hosting.apply(first)
        hosting.reject(second, threadwire.AgentError("no", code="not-now"))

    async with engine(Host(run)) as threads:
        talk = await Talk().open(threads)
        await talk.send("m", "go")
        await talk.send("s1", "one", "steer")
        await talk.send("s2", "two", "steer")
        assert (talk.status("s1"), talk.status("s2")) == ("running", "running")
        await asyncio.sleep(2)
        assert talk.reader.state == {"steered": ["s1", "s2"]}
        assert (talk.status("s1"), talk.status("s2"), talk.run) == ("applied", "not-now", "completed")


@in_virtual_time
async def test_what_was_steered_and_not_settled_starts_the_next_run() -> None:
    async def run(run: threadwire.Run) -> None:
        runs.append([each.id for each in run.hosting.given])
        await asyncio.sleep(1)
        if len(runs) == 1:
            taken.extend(run.hosting.steered())

    runs: list[list[str]] = []
    taken: list[Given] = []
    async with engine(Host(run)) as threads:
        talk = await Talk().open(threads)
        await talk.send("m", "go")
        await talk.send("s", "taken, and nothing came of it", "steer")
        await talk.send("q", "queued")
        await asyncio.sleep(1)
        await talk.send("s2", "late", "steer")
        await asyncio.sleep(3)
        assert runs == [["m"], ["s", "q"], ["s2"]]
        assert [each.id for each in taken] == ["s"]
        assert all(talk.status(id) == "applied" for id in ("m", "s", "q", "s2"))


@in_virtual_time
async def test_what_was_steered_into_a_run_cut_by_a_crash_is_given_to_it_again() -> None:
    async def run(run: threadwire.Run) -> None:
        await asyncio.Event().wait()

    async def recover(run: threadwire.Run) -> None:
        run.state["given"] = [each.id for each in run.hosting.given]

    store, talk = FaultyStore(), Talk()
    async with engine(Host(run), store=store) as threads:
        await talk.open(threads)
        await talk.send("m", "go")
        await talk.send("s", "more", "steer")
        die(threads, store)
    async with engine(Host(run, recover), store=store) as threads:
        await talk.open(threads)
        await settle()
        assert talk.reader.state == {"given": ["m", "s"]}
        assert command(store, "s").status == "applied"


# settling


@in_virtual_time
async def test_a_command_is_applied_with_the_update_of_the_stretch_that_says_so() -> None:
    async def run(run: threadwire.Run) -> None:
        first, second, third = run.hosting.given
        run.state["text"] = "some"
        await asyncio.sleep(1)
        run.state["first"] = True
        run.hosting.apply(first)
        run.hosting.apply(first)
        run.hosting.reject(first, ValueError("it has been settled"))
        await asyncio.sleep(1)
        run.hosting.reject(second, CommandError("no", "not this one"))
        await asyncio.sleep(1)
        assert third.id == "c"

    async with engine(Host(run)) as threads:
        talk = await Talk().open(threads)
        await asyncio.gather(*[talk.send(id, id) for id in "abc"])
        assert (talk.reader.state, talk.status("a")) == ({"text": "some"}, "running")
        await asyncio.sleep(1)
        assert (talk.reader.state["first"], talk.status("a")) == (True, "applied")
        assert talk.reader.position is not None
        assert talk.commands.last("a").seq == talk.reader.position[1]
        await asyncio.sleep(1)
        assert (talk.status("b"), talk.status("c")) == ("no", "running")
        await asyncio.sleep(1)
        assert talk.status("c") == "applied"
        assert len(talk.commands.of("a")) == 3


@in_virtual_time
async def test_handlers_of_the_batch_leave_the_rest_to_the_agent() -> None:
    class Mark(threadwire.Command, tag="mark"):
        pass

    async def run(run: threadwire.Run) -> None:
        run.state["given"] = [each.id for each in run.hosting.given]

    @(host := Host(run)).on(Mark)
    async def mark(run: threadwire.Run, command: Mark) -> None:
        assert {each.id for each in run.hosting.given} >= {"k"}
        run.hosting.document.set(("threadwire", "values"), {"marked": True})

    async with engine(host) as threads:
        talk = await Talk().open(threads)
        talk.thread.document.set(("threadwire",), {})
        await asyncio.gather(talk.send("m", "go"), talk.send("k", {"type": "mark"}))
        assert talk.reader.state == {"given": ["m"], "threadwire": {"values": {"marked": True}}}
        assert (talk.status("m"), talk.status("k")) == ("applied", "applied")


def test_questions_are_true_where_there_is_one() -> None:
    assert not Questions()
    assert questions("?a")
    assert questions("!a")
    assert questions(".")


@pytest.mark.parametrize(("strategy", "undone"), [("rollback", True), ("interrupt", False)])
def test_a_run_that_is_cut_can_tell_whether_it_is_undone(strategy: Any, undone: bool) -> None:
    @in_virtual_time
    async def check() -> None:
        seen: list[bool] = []

        async def run(run: threadwire.Run) -> None:
            if seen:
                return
            seen.append(run.hosting.rolls_back)
            try:
                await asyncio.Event().wait()
            finally:
                seen.append(run.hosting.rolls_back)

        async with engine(Host(run)) as threads:
            talk = await Talk().open(threads)
            await talk.send("m", "go")
            await settle()
            await talk.send("n", "on", strategy)
            await asyncio.sleep(1)
            assert (seen, talk.run) == ([False, undone], "completed")

    check()
