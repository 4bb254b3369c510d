"""The ledger as an agent that hosts: every command has one effect, and what is left to do is noted.

A message says `id step step ...`; its effect is entered when it is taken, and answers have one too. What
the notes say of a thread and what its state says must never differ.
"""

from __future__ import annotations

import asyncio
import random
from contextlib import suppress
from typing import Any, Final

import threadwire
from tests.support.hosts import questions
from tests.support.ledger import Ledger, Mark, Now, enter
from threadwire.engine.agent import Agent
from threadwire.engine.notes import Notes
from threadwire.engine.run import Given

HOSTED_BEHAVIOURS: Final = (
    "write",
    "tokens",
    "pause tokens pause tokens",
    "pause pause write",
    "flush tokens flush",
    "note flush note",
    "ask",
    "ask write",
    "ask-two pause",
    "ask-three tokens",
    "tool write",
    "tool-and-ask",
    "stop",
    "stop pause stop",
    "ask pause ask",
    "refuse",
    "fail",
    "pause fail",
    "ask fail",
    "hang",
    "tokens hang",
    "stubborn write",
    "give-up",
    "clean",
)
_ASKED: Final = {
    "ask": "?",
    "ask-two": "??",
    "ask-three": "???",
    "tool": "!",
    "tool-and-ask": "!?",
    "stop": ".",
}


class HostedLedger(Agent):
    """`failures` gets what notes and state disagree on."""

    continues = True

    def __init__(self, dice: random.Random, without_effect: set[str], failures: list[str]) -> None:
        super().__init__("ledger")
        self._dice = dice
        self._failures = failures
        ledger = Ledger(dice, without_effect)
        self.on(Mark)(ledger.mark)
        self.on(Now, immediate=True)(ledger.mark)

    async def run(self, run: threadwire.Run) -> None:
        await self._go_on(run)

    async def recover(self, run: threadwire.Run) -> None:
        if self._dice.random() < 0.3:
            await self._moment(0, 0.2, 2)
        run.hosting.recovered()
        await self._go_on(run)

    def rolled_back(self, run: str, notes: Notes) -> None:
        if notes.get("run") == run:
            notes.update({"progress": notes["base"], "work": [], "asked": None})

    async def _go_on(self, run: threadwire.Run) -> None:
        hosting = run.hosting
        notes = await hosting.notes()
        noted, shown = notes.get("progress", 0), run.state.get("progress", 0)
        if noted != shown:
            self._failures.append(f"{run.thread}, {run.id}: {noted} is noted, {shown} is shown")
        if notes.get("run") != run.id:
            notes.update({"run": run.id, "base": noted, "work": [], "asked": None})
        self._take(run, notes, *hosting.given)
        while notes["work"]:
            work: Any = notes["work"]
            await self._step(run, notes, work[0])
            work = notes["work"]
            notes["work"] = work[1:]
            _progress(run, notes)
            self._take(run, notes, *hosting.steered())

    def _take(self, run: threadwire.Run, notes: Notes, *commands: Given) -> None:
        for given in commands:
            asked: Any = notes["asked"]
            work: Any = notes["work"]
            match given.command:
                case threadwire.AddMessage(message=message):
                    _, *steps = message.text.split()
                    if "refuse" in steps:
                        run.hosting.reject(given, threadwire.AgentError("as told"))
                        continue
                    notes["work"] = [*work, *steps]
                case threadwire.Resume(answers=answers) if asked is not None:
                    answered = [f"?{id}" for id in answers] or ["."]
                    notes["asked"] = [each for each in asked if each not in answered]
                case threadwire.AddToolResult(tool_call_id=id) if asked is not None:
                    notes["asked"] = [each for each in asked if each != f"!{id}"]
            enter(run, given.id)
            run.hosting.apply(given)
            _progress(run, notes)

    async def _ask(self, run: threadwire.Run, notes: Notes, kinds: str) -> None:
        if notes["asked"] is None:
            notes["asked"] = ["." if kind == "." else kind + run.new_id() for kind in kinds]
        while notes["asked"]:
            asked: Any = notes["asked"]
            self._take(run, notes, *await run.hosting.ask(questions(*asked)))
            if self._dice.random() < 0.3:
                await self._moment(0, 0.01, 0.3)
        notes["asked"] = None

    async def _step(self, run: threadwire.Run, notes: Notes, step: str) -> None:
        match step:
            case "write":
                run.state["text"] = run.new_id()
            case "note":
                notes[f"note {self._dice.randrange(5)}"] = run.new_id()
            case "pause":
                await self._moment(0, 0, 0.001, 0.2)
            case "tokens":
                run.state["text"] = ""
                for number in range(self._dice.randrange(12)):
                    run.append_text(("text",), f"{number}é ")
                    await self._moment(0, 0, 0, 0.001)
            case "flush":
                await run.hosting.flush()
            case "fail":
                raise threadwire.AgentError("as told")
            case "give-up":
                raise asyncio.CancelledError
            case "hang":
                await asyncio.Event().wait()
            case "clean":
                try:
                    await asyncio.Event().wait()
                finally:
                    if run.cancelled:
                        _progress(run, notes)
                        await asyncio.sleep(0.1)
                        _progress(run, notes)
            case "stubborn":
                for _ in range(3):
                    with suppress(asyncio.CancelledError):
                        await asyncio.sleep(2)
                        break
                    if not run.cancelled:
                        raise asyncio.CancelledError
            case _:
                await self._ask(run, notes, _ASKED[step])

    async def _moment(self, *choices_s: float) -> None:
        await asyncio.sleep(self._dice.choice(choices_s))


def _progress(run: threadwire.Run, notes: Notes) -> None:
    """One step further, in the state and in the notes."""
    progress: Any = notes.get("progress", 0)
    run.state["progress"] = progress + 1
    notes["progress"] = progress + 1
    runs = run.state.setdefault("runs", {})
    runs[run.id] = runs.get(run.id, 0) + 1
