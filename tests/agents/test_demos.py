"""The planner and the scripted agent do what their tables say, to the end and on any input."""

from __future__ import annotations

import asyncio
import importlib
from types import SimpleNamespace
from typing import Any

import pytest

from tests.support.engine import Commands, Reader, engine, follow, say
from threadwire.engine.thread import Thread
from threadwire_agents.demos.planner import planner
from threadwire_agents.demos.scripted import scripted

pytestmark = pytest.mark.anyio

STEPS = 5


class Pace:
    """The planner's pauses: none, or without an end while it is held."""

    def __init__(self) -> None:
        self.go = asyncio.Event()
        self.go.set()

    async def __call__(self, delay_s: float) -> None:
        await asyncio.sleep(0)
        await self.go.wait()


@pytest.fixture
def pace(monkeypatch: pytest.MonkeyPatch) -> Pace:
    pace = Pace()
    # By this way, because the package has the agent under the module's name.
    module = importlib.import_module("threadwire_agents.demos.planner")
    paced = SimpleNamespace(sleep=pace, CancelledError=asyncio.CancelledError)
    monkeypatch.setattr(module, "asyncio", paced)
    return pace


class Talk:
    """A thread, one who follows it, and the answers to what is sent."""

    def __init__(self, thread: Thread, reader: Reader) -> None:
        self.thread = thread
        self.reader = reader
        self.commands = Commands()

    @property
    def state(self) -> Any:
        return self.reader.state

    @property
    def plan(self) -> Any:
        return self.state["plan"]

    @property
    def texts(self) -> list[str]:
        return [message["content"] for message in (self.state or {}).get("messages", ())]

    async def send(self, id: str, body: Any) -> None:
        await self.thread.submit(id, body, strategy=None, watcher=self.commands)

    async def settle(self, id: str, body: Any, status: str = "applied") -> Any:
        """Sends a command and returns the error it ends with, None where it is applied."""
        await self.send(id, body)
        state = await self.commands.until(id, "applied", "rejected", "cancelled")
        assert state.status == status, state
        return state.error

    async def say(self, text: str) -> None:
        """Sends a message and waits until it has been answered."""
        await self.thread.runner.ended()
        id = text[:30] or "empty"
        await self.send(id, say(text))
        await self.commands.until(id, "applied", "rejected")
        await self.reader.until(lambda: self.status() in ("completed", "failed"))

    async def until_working(self, position: int) -> None:
        await self.reader.until(
            lambda: (
                len(todos := (self.state or {}).get("plan", {}).get("todos", [])) > position
                and todos[position]["status"] == "working"
            )
        )

    def status(self) -> str:
        run = self.reader.runs[-1]
        assert run is not None
        return run.status

    def titles(self, status: str) -> list[str]:
        return [todo["title"] for todo in self.plan["todos"] if todo["status"] == status]


async def talk(threads: Any) -> Talk:
    thread = await threads.get("t")
    return Talk(thread, await follow(thread))


# planner


async def test_a_goal_is_planned_and_worked_on_to_the_end(pace: Pace) -> None:
    async with engine(planner) as threads:
        thread = await talk(threads)
        await thread.say("  Learn to\njuggle ")
        assert thread.status() == "completed"
        assert set(thread.state) == {"messages", "plan"}
        assert [message["role"] for message in thread.state["messages"]] == ["user", "assistant", "assistant"]
        assert thread.texts == [
            "  Learn to\njuggle ",
            "A plan for “Learn to juggle”:",
            f"Done: {STEPS} of {STEPS} todos.",
        ]
        assert set(thread.plan) == {"goal", "todos", "progress"}
        assert thread.plan["goal"] == "Learn to juggle"
        for todo in thread.plan["todos"]:
            assert set(todo) == {"id", "title", "status", "notes"}
            assert todo["status"] == "done"
            assert todo["notes"]
        ids = [entry["id"] for entry in (*thread.plan["todos"], *thread.state["messages"])]
        assert len(set(ids)) == STEPS + 3
        written = [*thread.texts[1:], *(todo["notes"] for todo in thread.plan["todos"])]
        tokens = sum(len(text.split()) for text in written)
        assert thread.plan["progress"] == {"done": STEPS, "total": STEPS, "percent": 100, "tokens": tokens}


async def test_a_new_goal_replaces_the_plan_and_keeps_the_messages(pace: Pace) -> None:
    async with engine(planner) as threads:
        thread = await talk(threads)
        await thread.say("one")
        await thread.say("two")
        assert thread.plan["goal"] == "two"
        assert len(thread.plan["todos"]) == STEPS
        assert thread.texts[0] == "one"
        assert thread.texts[3] == "two"


async def test_a_todo_added_during_the_run_is_worked_on(pace: Pace) -> None:
    async with engine(planner) as threads:
        thread = await talk(threads)
        await thread.send("goal", say("goal"))
        await thread.until_working(0)
        pace.go.clear()
        assert await thread.settle("add", {"type": "add-todo", "title": "Tell the others"}) is None
        assert thread.plan["todos"][-1]["status"] == "open"
        assert thread.plan["progress"]["total"] == STEPS + 1
        pace.go.set()
        await thread.reader.until_run("completed")
        assert thread.plan["todos"][-1]["title"] == "Tell the others"
        assert len(thread.titles("done")) == STEPS + 1
        assert thread.texts[-1] == f"Done: {STEPS + 1} of {STEPS + 1} todos."


async def test_a_todo_added_while_the_agent_says_it_is_done_is_worked_on_too(pace: Pace) -> None:
    async with engine(planner) as threads:
        thread = await talk(threads)
        await thread.send("goal", say("goal"))
        await thread.reader.until(lambda: "Done: " in thread.texts)
        pace.go.clear()
        await thread.settle("add", {"type": "add-todo", "title": "One more"})
        pace.go.set()
        await thread.reader.until_run("completed")
        assert thread.texts[-2:] == [f"Done: {n} of {n} todos." for n in (STEPS, STEPS + 1)]


async def test_a_todo_that_is_begun_with_can_not_be_removed(pace: Pace) -> None:
    async with engine(planner) as threads:
        thread = await talk(threads)
        await thread.send("goal", say("goal"))
        await thread.until_working(1)
        pace.go.clear()
        done, working, _, last, _ = (todo["id"] for todo in thread.plan["todos"])
        assert await thread.settle("last", {"type": "remove-todo", "id": last}) is None
        assert last not in [todo["id"] for todo in thread.plan["todos"]]
        for id, word in ((done, "done"), (working, "working")):
            error = await thread.settle(id, {"type": "remove-todo", "id": id}, "rejected")
            assert (error.code, error.field) == ("todo-begun", "command.id")
            assert word in error.message
        pace.go.set()
        await thread.reader.until_run("completed")
        assert thread.plan["progress"]["total"] == thread.plan["progress"]["done"] == STEPS - 1


async def test_a_cancelled_plan_keeps_its_text_and_goes_on_when_told(pace: Pace) -> None:
    async with engine(planner) as threads:
        thread = await talk(threads)
        await thread.send("goal", say("goal"))
        await thread.until_working(2)
        await thread.thread.runner.cancel(None)
        assert thread.status() == "cancelled"
        assert len(thread.titles("done")) == 2
        assert thread.titles("working") == []
        assert thread.plan["todos"][2]["notes"]
        await thread.settle("go", {"type": "go-on"})
        await thread.reader.until_run("completed")
        assert len(thread.titles("done")) == STEPS
        assert thread.texts[-1] == f"Done: {STEPS} of {STEPS} todos."


@pytest.mark.parametrize(
    ("body", "code", "field"),
    [
        ({"type": "add-todo", "title": "x"}, "no-plan", None),
        ({"type": "remove-todo", "id": "x"}, "no-such-todo", "command.id"),
        ({"type": "go-on"}, "nothing-to-do", None),
        ({"type": "regenerate", "parentId": None}, "agent-error", None),
        ({"type": "switch-branch", "messageId": "x"}, "agent-error", None),
        (say(""), "agent-error", None),
        (say(" \n\t"), "agent-error", None),
        (
            {
                "type": "add-message",
                "message": {"parts": [{"type": "image", "image": "https://example.com/a.png"}]},
            },
            "agent-error",
            None,
        ),
    ],
)
async def test_what_the_planner_can_not_do_is_refused_and_leaves_nothing(
    pace: Pace, body: Any, code: str, field: str | None
) -> None:
    async with engine(planner) as threads:
        thread = await talk(threads)
        error = await thread.settle("a", body, "rejected")
        assert (error.code, error.field) == (code, field)
        assert error.message
        assert thread.state == {}
        await thread.say("a goal")
        assert thread.status() == "completed"


@pytest.mark.parametrize("title", ["", "x" * 201, 7])
async def test_a_title_of_a_wrong_form_is_refused_by_the_schema(pace: Pace, title: Any) -> None:
    async with engine(planner) as threads:
        thread = await talk(threads)
        await thread.say("goal")
        before = thread.state
        with pytest.raises(Exception, match=r"Expected") as refused:
            await thread.send("add", {"type": "add-todo", "title": title})
        assert (refused.value.code, refused.value.field) == ("invalid-command", "command.title")  # type: ignore[attr-defined]
        assert thread.state == before


async def test_a_megabyte_of_text_is_kept_and_named_in_short(pace: Pace) -> None:
    async with engine(planner) as threads:
        thread = await talk(threads)
        text = "word " * 200_000
        await thread.say(text)
        assert thread.texts[0] == text
        assert thread.texts[1].startswith("A plan for “word word")
        assert len(thread.plan["goal"]) <= 60


async def test_goals_that_came_together_are_planned_in_turn_and_others_get_their_own_answer(
    pace: Pace,
) -> None:
    async with engine(planner) as threads:
        thread = await talk(threads)
        await thread.send("a", say("goal a"))
        await thread.until_working(0)
        pace.go.clear()
        await thread.send("b", say("goal b"))
        await thread.send("wrong", {"type": "regenerate", "parentId": None})
        await thread.send("empty", say(""))
        await thread.send("c", say("goal c"))
        pace.go.set()
        for id, status in {"a": "applied", "b": "applied", "wrong": "rejected", "c": "applied"}.items():
            await thread.commands.until(id, status)
        await thread.reader.until(lambda: thread.texts[-1] == f"Done: {STEPS} of {STEPS} todos.")
        assert thread.commands.last("empty").status == "rejected"
        goals = [m["content"] for m in thread.state["messages"] if m["role"] == "user"]
        assert goals == ["goal a", "goal b", "goal c"]
        assert thread.plan["goal"] == "goal c"


# scripted


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("hello  there, you\n", "hello  there, you\n"),
        (" and blanks ", " and blanks "),
        ("", ""),
        ("count 4", "1 2 3 4 "),
        ("count 3 every 1", "1 2 3 "),
        ("count 0", ""),
        ("count apples", "count apples"),
        ("x" * 100_000, "x" * 100_000),
    ],
)
async def test_the_scripted_agent_answers_as_told(text: str, answer: str) -> None:
    async with engine(scripted) as threads:
        thread = await talk(threads)
        await thread.say(text)
        assert thread.status() == "completed"
        assert thread.texts == [text, answer]
        assert [message["role"] for message in thread.state["messages"]] == ["user", "assistant"]


async def test_the_scripted_agent_fails_when_told_and_keeps_its_first_word() -> None:
    async with engine(scripted) as threads:
        thread = await talk(threads)
        await thread.say("fail right now")
        run = thread.reader.runs[-1]
        assert run is not None
        assert run.status == "failed"
        assert run.error is not None
        assert (run.error.code, run.error.message) == ("agent-error", "scripted failure")
        assert thread.texts == ["fail right now", "fail "]
        await thread.say("hello")
        assert thread.texts[-1] == "hello"


async def test_the_scripted_agent_hangs_when_told_until_it_is_cancelled() -> None:
    async with engine(scripted) as threads:
        thread = await talk(threads)
        await thread.settle("a", say("hang for ever"))
        await thread.reader.until(lambda: thread.texts[-1] == "hang ")
        await thread.thread.runner.cancel(None)
        assert thread.status() == "cancelled"
        assert thread.texts[-1] == "hang "


async def test_the_scripted_agent_takes_titles_and_refuses_what_it_does_not_know() -> None:
    async with engine(scripted) as threads:
        thread = await talk(threads)
        assert await thread.settle("title", {"type": "set-title", "title": "T"}) is None
        assert thread.state == {"title": "T"}
        error = await thread.settle("no", {"type": "regenerate", "parentId": None}, "rejected")
        assert error.code == "agent-error"
        assert "regenerate" in error.message
