"""An agent that does exactly what the message says: for tests, benchmarks and a first look at the wire.

| message | what it does |
|---|---|
| `fail ...` | streams the first word, then fails |
| `hang ...` | streams the first word, then waits for ever |
| `count N` | streams the numbers 1 to N, one token each |
| `count N every MS` | the same, with a pause of MS milliseconds after each |
| anything else | streams it back word by word |
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from typing import Final

import threadwire

_COUNT: Final = re.compile(r"count (\d{1,7})(?: every (\d{1,5}))?\s*")


class SetTitle(threadwire.Command, tag="set-title"):
    """Sets `title` in the state."""

    title: str


@threadwire.agent
async def scripted(run: threadwire.Run) -> None:
    """Echoes each message word by word, or does what it says."""
    messages = run.state.setdefault("messages", [])
    for command in run.commands:
        if not isinstance(command, threadwire.AddMessage):
            raise threadwire.AgentError(f"this agent has no use for {command.type_name()}")
        text = command.message.text
        messages.append({"id": command.message.id or run.new_id(), "role": "user", "content": text})
        messages.append({"id": run.new_id(), "role": "assistant", "content": ""})
        await _answer(run, text)


async def _answer(run: threadwire.Run, text: str) -> None:
    count = _COUNT.fullmatch(text)
    pause_s = int(count[2] or 0) / 1000 if count else 0
    for number, token in enumerate(_tokens(text, int(count[1]) if count else None)):
        run.append_text(("messages", -1, "content"), token)
        await asyncio.sleep(pause_s)
        if number == 0 and text.startswith("fail"):
            raise threadwire.AgentError("scripted failure")
        if number == 0 and text.startswith("hang"):
            await asyncio.Event().wait()


def _tokens(text: str, count: int | None) -> Iterator[str]:
    if count is None:
        yield from re.findall(r"\S+\s*|\s+", text)
    else:
        for number in range(1, count + 1):
            yield f"{number} "


@scripted.on(SetTitle)
async def set_title(run: threadwire.Run, command: SetTitle) -> None:
    run.state["title"] = command.title
