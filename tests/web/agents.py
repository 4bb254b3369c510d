"""Agents that the tests of the playground serve beside the demos."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import threadwire
from threadwire.client import ChatModelRunOptions, TextMessagePart
from threadwire_agents.chat_model import ChatModelAgent


def _say(run: threadwire.Run, role: str, text: str, id: str | None = None) -> None:
    run.state.setdefault("messages", []).append({"id": id or run.new_id(), "role": role, "content": text})


@threadwire.agent
async def asker(run: threadwire.Run) -> None:
    """Asks people and browsers: `ask` a question, `browser` what it is, anything else a tool nobody has."""
    for command in run.commands:
        assert isinstance(command, threadwire.AddMessage)
        text = command.message.text
        _say(run, "user", text, command.message.id)
        if text == "ask":
            _say(run, "assistant", f"The answer is {await run.interrupt('Which number?')!r}.")
        else:
            name = "browser_info" if text == "browser" else "pick_a_card"
            result = await run.call_client_tool(name, {"of": 52})
            _say(run, "assistant", f"The tool says: {result.result!r}.")


@threadwire.agent
async def fast(run: threadwire.Run) -> None:
    """`history N` makes N messages; `stream N` streams N tokens, 500 a second."""
    for command in run.commands:
        assert isinstance(command, threadwire.AddMessage)
        word, _, count = command.message.text.partition(" ")
        if word == "history":
            run.state["messages"] = [
                {"id": f"m{index}", "role": ("user", "assistant")[index % 2], "content": _text(index)}
                for index in range(int(count))
            ]
            continue
        _say(run, "user", command.message.text, command.message.id)
        _say(run, "assistant", "")
        loop = asyncio.get_running_loop()
        began = loop.time()
        for number in range(int(count)):
            run.append_text(("messages", -1, "content"), f"token{number} ")
            await asyncio.sleep(max(0, began + (number + 1) / 500 - loop.time()))


@threadwire.agent
async def writer(run: threadwire.Run) -> None:
    """Says what it is asked to say; `slowly N` says N lines, one by one."""
    for command in run.commands:
        assert isinstance(command, threadwire.AddMessage)
        text = command.message.text
        _say(run, "user", text, command.message.id)
        word, _, count = text.partition(" ")
        _say(run, "assistant", "" if word == "slowly" else text)
        for number in range(int(count) if word == "slowly" else 0):
            run.append_text(("messages", -1, "content"), f"Line {number}.\n\n")
            await asyncio.sleep(0.03)


async def _reply(options: ChatModelRunOptions) -> AsyncIterator[dict[str, Any]]:
    last = options.messages[-1]
    said = last.content[0].text if last.content and isinstance(last.content[0], TextMessagePart) else ""
    if last.role == "user" and said == "pick":
        call = {
            "type": "tool-call",
            "toolCallId": f"call-{last.id}",
            "toolName": "pick_a_card",
            "args": {"of": 52},
        }
        yield {"content": [call]}
        return
    text = ""
    for word in f"You said {said}.".split():
        text += f"{word} "
        yield {"content": [{"type": "text", "text": text}]}
    if said == "hang":
        await asyncio.Event().wait()


def model() -> ChatModelAgent:
    """Answers as chat models do; `pick` calls a tool that people answer, `hang` never ends."""
    return ChatModelAgent(_reply, name="model", human_tools=["pick_a_card"])


def _text(index: int) -> str:
    return f"Message {index} with **bold** words, `code` and a list:\n\n* one\n* two\n\nand an end. " * (
        1 + index % 3
    )
