"""An agent that plans: it breaks a goal into todos, works on them one by one and tells how far it is.

It shows what a state can be beside a list of messages: a plan that is edited in many places
while text streams, and commands that change it while the agent works. Its state:

    {"messages": [{"id", "role", "content"}],
     "plan": {"goal", "todos": [{"id", "title", "status", "notes"}],
              "progress": {"done", "total", "percent"}}}
"""

from __future__ import annotations

import asyncio
import re
from typing import Any, Final

import threadwire

PACE_S: Final = 0.03
"""Between two words, so that there is something to see."""

_STEPS: Final = (
    ("Say what done means", "Written down in one sentence, so that it is clear when to stop: {goal}."),
    ("List what is known", "Two facts help with “{goal}”, and one assumption still needs checking."),
    ("Find the smallest first step", "Small enough for an hour, and useful even if nothing follows."),
    ("Do it", "The first step towards “{goal}” is taken; what it taught goes into the next one."),
    ("Look back", "What went well is kept, what didn't becomes the next todo."),
)


class AddTodo(threadwire.Command, tag="add-todo"):
    """Adds a todo to the plan; taken at once, also while the agent works."""

    title: str


class RemoveTodo(threadwire.Command, tag="remove-todo"):
    """Takes a todo that isn't done off the plan."""

    id: str


@threadwire.agent
async def planner(run: threadwire.Run) -> None:
    """Plans the goal of the last message and works through the plan."""
    messages = run.state.setdefault("messages", [])
    goal = ""
    for command in run.commands:
        if isinstance(command, threadwire.AddMessage):
            goal = command.message.text.strip() or goal
            messages.append({"id": command.message.id or run.new_id(), "role": "user", "content": goal})
    if not goal:
        raise threadwire.AgentError("tell me a goal, and I'll plan it")
    await _say(run, f"A plan for “{_short(goal)}”:")
    run.state["plan"] = {"goal": goal, "todos": [], "progress": {"done": 0, "total": 0, "percent": 0}}
    for title, _ in _STEPS:
        _add(run, title)
        await asyncio.sleep(PACE_S * 4)
    await _work(run, goal)
    plan = run.state["plan"]
    await _say(run, f"Done: {plan['progress']['done']} of {plan['progress']['total']} todos.")


async def _work(run: threadwire.Run, goal: str) -> None:
    notes = dict(_STEPS)
    while (todo := _next(run.state["plan"]["todos"])) is not None:
        todo["status"] = "working"
        text = notes.get(todo["title"], "Noted, looked into and finished.").format(goal=_short(goal))
        for word in _words(text):
            todo["notes"] += word
            await asyncio.sleep(PACE_S)
        todo["status"] = "done"
        _count(run)


def _next(todos: Any) -> Any:
    return next((todo for todo in todos if todo["status"] == "open"), None)


def _add(run: threadwire.Run, title: str) -> None:
    todo = {"id": run.new_id(), "title": title, "status": "open", "notes": ""}
    run.state["plan"]["todos"].append(todo)
    _count(run)


def _count(run: threadwire.Run) -> None:
    plan = run.state["plan"]
    done = sum(todo["status"] == "done" for todo in plan["todos"])
    total = len(plan["todos"])
    plan["progress"].update(done=done, total=total, percent=round(100 * done / total) if total else 0)


async def _say(run: threadwire.Run, text: str) -> None:
    run.state["messages"].append({"id": run.new_id(), "role": "assistant", "content": ""})
    for word in _words(text):
        run.append_text(("messages", -1, "content"), word)
        await asyncio.sleep(PACE_S)


def _words(text: str) -> list[str]:
    return re.findall(r"\S+\s*", text)


def _short(goal: str) -> str:
    return goal if len(goal) <= 60 else goal[:57] + "..."


@planner.on(AddTodo, immediate=True)
async def add_todo(run: threadwire.Run, command: AddTodo) -> None:
    if "plan" not in run.state:
        raise threadwire.CommandError("no-plan", "there is no plan yet: send a goal first")
    _add(run, command.title)


@planner.on(RemoveTodo, immediate=True)
async def remove_todo(run: threadwire.Run, command: RemoveTodo) -> None:
    todos = run.state["plan"]["todos"] if "plan" in run.state else []
    for position, todo in enumerate(todos):
        if todo["id"] == command.id and todo["status"] == "open":
            del todos[position]
            _count(run)
            return
    raise threadwire.CommandError("no-such-todo", "no open todo has this id", "command.id")
