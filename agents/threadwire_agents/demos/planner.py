"""An agent that plans: it breaks a goal into todos, works on them one by one and tells how far it is.

It shows what a state can be beside a list of messages: a plan that is edited in many places
while text streams, and commands that change it while the agent works. Its state:

    {"messages": [{"id", "role", "content"}],
     "plan": {"goal", "todos": [{"id", "title", "status": "open" | "working" | "done", "notes"}],
              "progress": {"done", "total", "percent", "tokens"}}}

| command | what it does |
|---|---|
| `add-message` | plans what it says, in the place of the plan before, and works on it |
| `add-todo`, `remove-todo` | change the plan at once, also while the agent works |
| `go-on` | works on what isn't done, as after a cancel |
"""

from __future__ import annotations

import asyncio
import re
from typing import Annotated, Any, Final

import msgspec

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


class AddTodo(threadwire.Command, frozen=True, tag="add-todo"):
    """Adds a todo to the plan; taken at once, also while the agent works."""

    title: Annotated[str, msgspec.Meta(min_length=1, max_length=200)]


class RemoveTodo(threadwire.Command, frozen=True, tag="remove-todo"):
    """Takes a todo off the plan that the agent hasn't begun with."""

    id: str


class GoOn(threadwire.Command, frozen=True, tag="go-on"):
    """Works on the todos that aren't done."""


@threadwire.agent
async def planner(run: threadwire.Run) -> None:
    """Plans the goal of each message and works through the plan."""
    for command in run.commands:
        if not isinstance(command, threadwire.AddMessage):
            raise threadwire.AgentError(f"this agent has no use for {command.type_name()}")
        goal = _short(command.message.text)
        if not goal:
            raise threadwire.AgentError("tell me a goal in words, and I'll plan it")
        await _plan(run, goal, command.message)
        await _work(run)
    if "plan" in run.state:
        await _work(run)  # where `go-on` has called


async def _plan(run: threadwire.Run, goal: str, message: threadwire.UserMessage) -> None:
    messages = run.state.setdefault("messages", [])
    messages.append({"id": message.id or run.new_id(), "role": message.role, "content": message.text})
    progress = {"done": 0, "total": 0, "percent": 0, "tokens": 0}
    run.state["plan"] = {"goal": goal, "todos": [], "progress": progress}
    await _say(run, f"A plan for “{goal}”:")
    for title, _ in _STEPS:
        _add(run, title)
        await asyncio.sleep(PACE_S * 4)


async def _work(run: threadwire.Run) -> None:
    while (todo := _next(run)) is not None:
        await _do(run, todo)
        if _next(run) is None:
            progress = run.state["plan"]["progress"]
            await _say(run, f"Done: {progress['done']} of {progress['total']} todos.")


async def _do(run: threadwire.Run, todo: Any) -> None:
    notes = dict(_STEPS).get(todo["title"], "Noted, looked into and finished.")
    todo.update(status="working", notes="")
    try:
        await _stream(run, todo, "notes", notes.format(goal=run.state["plan"]["goal"]))
    except asyncio.CancelledError:
        todo["status"] = "open"  # a cancelled run may still tidy up
        raise
    todo["status"] = "done"
    _count(run)


async def _say(run: threadwire.Run, text: str) -> None:
    run.state["messages"].append({"id": run.new_id(), "role": "assistant", "content": ""})
    await _stream(run, run.state["messages"][-1], "content", text)


async def _stream(run: threadwire.Run, node: Any, key: str, text: str) -> None:
    progress = run.state["plan"]["progress"]
    for word in re.findall(r"\S+\s*", text):
        node.append_text(key, word)
        progress["tokens"] += 1
        await asyncio.sleep(PACE_S)


def _next(run: threadwire.Run) -> Any:
    return next((todo for todo in run.state["plan"]["todos"] if todo["status"] != "done"), None)


def _add(run: threadwire.Run, title: str) -> None:
    todo = {"id": run.new_id(), "title": title, "status": "open", "notes": ""}
    run.state["plan"]["todos"].append(todo)
    _count(run)


def _count(run: threadwire.Run) -> None:
    todos = run.state["plan"]["todos"]
    done, total = sum(todo["status"] == "done" for todo in todos), len(todos)
    percent = round(100 * done / total) if total else 0
    run.state["plan"]["progress"].update(done=done, total=total, percent=percent)


def _short(text: str) -> str:
    """The text on one line, which is cut where it is long."""
    line = " ".join(text.split())
    return line if len(line) <= 60 else line[:57].rstrip() + "..."


@planner.on(AddTodo, immediate=True)
async def add_todo(run: threadwire.Run, command: AddTodo) -> None:
    if "plan" not in run.state:
        raise threadwire.CommandError("no-plan", "there is no plan yet: send a goal first")
    _add(run, command.title)


@planner.on(RemoveTodo, immediate=True)
async def remove_todo(run: threadwire.Run, command: RemoveTodo) -> None:
    todos = run.state["plan"]["todos"] if "plan" in run.state else []
    for position, todo in enumerate(todos):
        if todo["id"] == command.id:
            if todo["status"] != "open":
                raise threadwire.CommandError(
                    "todo-begun", f"this todo is {todo['status']} already", "command.id"
                )
            del todos[position]
            _count(run)
            return
    raise threadwire.CommandError("no-such-todo", "the plan has no todo of this id", "command.id")


@planner.on(GoOn)
async def go_on(run: threadwire.Run, command: GoOn) -> None:
    if "plan" not in run.state or _next(run) is None:
        raise threadwire.CommandError("nothing-to-do", "no todo is left: send a goal, or add one")
    run.start_agent()
