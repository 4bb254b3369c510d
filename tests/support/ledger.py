"""An agent whose every command has one effect that can be counted, and that behaves as badly as it is told.

A message says `id step step ...`: the step `effect` enters the id into the state, the others wait, write,
ask, fail, hang, ignore that they are cancelled. The commands `mark` and `now` are done by handlers.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from contextlib import suppress
from typing import Final

import threadwire
from threadwire.core.operations import Json
from threadwire.engine.agent import Agent

BEHAVIOURS: Final = (
    "effect",
    "effect tokens",
    "effect tokens edit tokens",
    "effect flush tokens flush",
    "pause effect pause tokens",
    "pause pause effect",
    "effect edit edit edit",
    "effect edit pause edit pause edit tokens",
    "effect tokens fail",
    "pause fail",
    "fail",
    "break",
    "effect break",
    "give-up",
    "effect pause give-up",
    "effect tokens hang",
    "pause hang effect",
    "hang",
    "effect clean",
    "effect stubborn tokens",
    "stubborn effect",
    "effect ask tokens",
    "effect ask ask ask",
    "effect ask-two edit",
    "effect tool",
    "effect steerable",
    "effect steerable tokens",
)


class Mark(threadwire.Command, tag="mark"):
    """Its handler enters the id, after `ticks` waits."""

    name: str
    ticks: int = 0
    refuse: bool = False


class Now(threadwire.Command, tag="now"):
    """The same at once, beside a run."""

    name: str
    ticks: int = 0
    refuse: bool = False


def some_body(dice: random.Random, id: str, behaviours: Sequence[str] = BEHAVIOURS) -> dict[str, Json]:
    """A command with the effect `id`."""
    kind = dice.choice(("message", "message", "message", "message", "message", "message", "mark", "now"))
    if kind != "message":
        return {"type": kind, "name": id, "ticks": dice.randrange(3), "refuse": dice.random() < 0.2}
    parts: list[Json] = [{"type": "text", "text": f"{id} {dice.choice(behaviours)}"}]
    return {"type": "add-message", "message": {"role": "user", "parts": parts}}


class Ledger:
    """`agent` is it. `without_effect` gets the ids of commands that it was done with before their effect."""

    def __init__(self, dice: random.Random, without_effect: set[str]) -> None:
        self._dice = dice
        self._without_effect = without_effect
        self.agent: Agent = threadwire.agent(self._run)
        self.agent.on(Mark)(self.mark)
        self.agent.on(Now, immediate=True)(self.mark)

    async def _run(self, run: threadwire.Run) -> None:
        for command in run.commands:
            await self._carry_out(run, command)
        for command in run.inbox.take():
            await self._carry_out(run, command)

    async def mark(self, run: threadwire.Run, command: Mark | Now) -> None:
        try:
            for _ in range(command.ticks):
                await self._moment(0, 0, 0.001)
        except asyncio.CancelledError:
            if run.cancelled:
                self._without_effect.add(command.name)
            raise
        if command.refuse:
            raise threadwire.CommandError("no", "not this one")
        enter(run, command.name)

    async def _carry_out(self, run: threadwire.Run, command: threadwire.Command) -> None:
        assert isinstance(command, threadwire.AddMessage)
        id, *steps = command.message.text.split()
        done: list[str] = []
        try:
            for step in steps:
                await self._step(run, id, step)
                done.append(step)
        except asyncio.CancelledError:
            if run.cancelled and "effect" not in done:
                self._without_effect.add(id)
            raise
        if "effect" not in done:
            self._without_effect.add(id)

    async def _step(self, run: threadwire.Run, id: str, step: str) -> None:
        match step:
            case "effect":
                enter(run, id)
                runs = run.state.setdefault("runs", {})
                runs[run.id] = runs.get(run.id, 0) + 1
                run.state["text"] = ""
            case "pause":
                await self._moment(0, 0, 0.001, 0.2)
            case "tokens":
                for number in range(self._dice.randrange(12)):
                    run.append_text(("text",), f"{number}é ")
                    run.state["runs"][run.id] += 1
                    await self._moment(0, 0, 0, 0.001)
            case "edit":
                for _ in range(self._dice.randrange(1, 6)):
                    self._edit(run)
                    if self._dice.random() < 0.5:
                        await asyncio.sleep(0)
            case "flush":
                await run.flush()
            case "ask":
                await run.interrupt({"q": id})
                run.state["runs"][run.id] += 1
            case "ask-two":
                await asyncio.gather(run.interrupt(1), run.interrupt(2))
            case "tool":
                await run.call_client_tool("look", {"id": id})
            case "fail":
                raise threadwire.AgentError("as told")
            case "break":
                raise BaseExceptionGroup("as told", [GeneratorExit()])
            case "give-up":
                raise asyncio.CancelledError
            case "hang":
                run.state.get("runs")  # a run that was stubborn before ends here
                await asyncio.Event().wait()
            case "clean":
                run.state.get("runs")
                try:
                    await asyncio.Event().wait()
                finally:
                    run.state["runs"][run.id] += 1
                    await asyncio.sleep(0.1)
                    run.state["runs"][run.id] += 1
            case "stubborn":
                for _ in range(3):
                    with suppress(asyncio.CancelledError):
                        await asyncio.sleep(2)
                        break
            case "steerable":
                for _ in range(4):
                    await self._moment(0, 0.001, 0.2)
                    for other in run.inbox.take():
                        await self._carry_out(run, other)

    async def _moment(self, *choices_s: float) -> None:
        await asyncio.sleep(self._dice.choice(choices_s))

    def _edit(self, run: threadwire.Run) -> None:
        dice = self._dice
        items = run.state.setdefault("items", [])
        match dice.randrange(8):
            case 0 | 1:
                items.insert(dice.randrange(len(items) + 1), {"n": dice.randrange(100), "text": ""})
            case 2 if items:
                items.pop(dice.randrange(len(items)))
            case 3 if items:
                items[dice.randrange(len(items))]["text"] += "x"
            case 4:
                items.sort(key=lambda item: item["n"])
            case 5 if items:
                items[dice.randrange(len(items))] = {"n": 1, "text": "new", "deep": {"er": [1]}}
            case 6:
                run.state.pop("items")
            case 7:
                items.extend({"n": n, "text": "…"} for n in range(dice.randrange(4)))


def enter(run: threadwire.Run, id: str) -> None:
    """The one effect of a command, in one write."""
    if "effects" in run.state:
        run.state["effects"].append(id)
    else:
        run.state["effects"] = [id]
