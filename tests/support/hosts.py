"""Agents that host something: they go on with a run that was cut, by what they have noted."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import threadwire
from threadwire.engine.agent import Agent
from threadwire.engine.hosting import ClientCall, Questions
from threadwire.engine.notes import Notes
from threadwire.engine.run import Given


class Host(Agent):
    """Does in each run what it is given as a function, and in each that was cut what as another."""

    continues = True

    def __init__(
        self,
        run: Callable[[threadwire.Run], Awaitable[None]],
        recover: Callable[[threadwire.Run], Awaitable[None]] | None = None,
    ) -> None:
        super().__init__("host")
        self._run = run
        self._recover = recover or run
        self.undone: list[dict[str, Any]] = []
        """What was noted when the agent was told that a run had been undone."""

    async def run(self, run: threadwire.Run) -> None:
        await self._run(run)

    async def recover(self, run: threadwire.Run) -> None:
        run.hosting.recovered()
        await self._recover(run)

    def rolled_back(self, run: str, notes: Notes) -> None:
        self.undone.append({**notes, "undone": run})
        notes["head"] = "base"


class Asker(Host):
    """A message names what is asked: `?a` an interrupt, `!a` a call of the tool `look`, `.` a breakpoint.

    Answers go into the state under `answers`, what messages said under `said`.
    """

    def __init__(self) -> None:
        super().__init__(self._go_on)
        self.given: list[tuple[str, list[str]]] = []
        """The runs that were begun or gone on with, and the commands they were given."""

    async def _go_on(self, run: threadwire.Run) -> None:
        hosting = run.hosting
        self.given.append((run.id, [each.id for each in hosting.given]))
        notes = await hosting.notes()
        if notes.get("run") != run.id:
            notes.update({"run": run.id, "open": []})
        for given in hosting.given:
            self._take(run, notes, given)
        while asked := notes["open"]:
            assert isinstance(asked, list)
            for given in await hosting.ask(questions(*asked)):
                self._take(run, notes, given)

    def _take(self, run: threadwire.Run, notes: Notes, given: Given) -> None:
        match given.command:
            case threadwire.AddMessage(message=message):
                run.state["said"] = [*run.state.get("said", []), message.text]
                answered = []
                notes["open"] = [each for each in message.text.split() if each[0] in "?!."]
            case threadwire.Resume(answers=answers):
                answered = [f"?{id}" for id in answers] or ["."]
                run.state["answers"] = {**run.state.get("answers", {}), **answers}
            case threadwire.AddToolResult(tool_call_id=id, result=result):
                answered = [f"!{id}"]
                run.state["answers"] = {**run.state.get("answers", {}), id: result}
        notes["open"] = [each for each in notes["open"] if each not in answered]
        run.hosting.apply(given)


def questions(*asked: str, **options: Any) -> Questions:
    """In the words of `Asker`."""
    return Questions(
        interrupts={each[1:]: {"value": each[1:]} for each in asked if each[0] == "?"},
        calls={each[1:]: ClientCall(name="look", args={"id": each[1:]}) for each in asked if each[0] == "!"},
        breakpoint="." in asked,
        **options,
    )


def resume(**answers: Any) -> dict[str, Any]:
    """The body of a resume command."""
    return {"type": "resume", "answers": answers}


def tool_result(id: str, result: Any = None) -> dict[str, Any]:
    return {"type": "add-tool-result", "toolCallId": id, "result": result}
