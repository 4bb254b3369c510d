"""The agents that the stock clients talk to: what they say is what their messages ask for.

`chat` keeps messages as LangChain serialises them, which is what the stock converter reads; `plain`
keeps `{id, role, content}`.

| message | what is done |
|---|---|
| `count N every MS` | streams the numbers 1 to N, a pause of MS milliseconds after each |
| `fail ...`, `crash ...` | streams a word, then fails with a text for clients, or with one that isn't |
| `hang ...` | streams a word, then waits for ever |
| `ask NAME JSON` | calls a tool that the client has, its arguments in pieces; the result starts another run |
| `look up ...` | calls a tool of its own, its arguments in pieces, and goes on with the result |
| `think ...` | says what it reasons, then the text |
| `refuse ...` | refuses the message |
| `context` | tells as JSON what came along with the message |
| anything else | streams it back, word by word |
"""

from __future__ import annotations

import asyncio
import json
import re
from typing import Any

import threadwire

_COUNT = re.compile(r"count (\d+)(?: every (\d+))?")


class SetTitle(threadwire.Command, tag="set-title"):
    """Sets `title` in the state."""

    title: str


def _text(message: threadwire.UserMessage) -> str:
    return "".join(part.text for part in message.parts if isinstance(part, threadwire.TextPart))


def _cut_at(messages: Any, command: threadwire.AddMessage) -> None:
    """An edit takes the place of the message it edits; what followed that goes."""
    if command.source_id is None:
        return
    for index, message in enumerate(messages):
        if message["id"] == command.source_id:
            del messages[index:]
            return


async def _stream(node: Any, key: Any, text: str, pause_s: float = 0.0) -> None:
    for token in re.findall(r"\S+\s*|\s+", text):
        node.append_text(key, token)
        await asyncio.sleep(pause_s)


@threadwire.agent(seed=True)
async def chat(run: threadwire.Run) -> None:
    for command in run.commands:
        messages = run.state.setdefault("messages", [])
        if isinstance(command, threadwire.AddToolResult):
            await _take_result(run, command)
            continue
        if not isinstance(command, threadwire.AddMessage):
            raise threadwire.AgentError(f"this agent has no use for {command.type_name()}")
        text = _text(command.message)
        if text.startswith("refuse"):
            raise threadwire.CommandError("no-thanks", "this message is refused", "command.message")
        _cut_at(messages, command)
        id = command.message.id or run.new_id()
        messages.append({"type": "human", "id": id, "content": text})
        await _answer(run, text)


async def _answer(run: threadwire.Run, text: str) -> None:
    messages = run.state["messages"]
    messages.append({"type": "ai", "id": run.new_id(), "content": "", "tool_calls": []})
    answer = messages[-1]
    if count := _COUNT.fullmatch(text):
        numbers = "".join(f"{number} " for number in range(1, int(count[1]) + 1))
        await _stream(answer, "content", numbers, int(count[2] or 0) / 1000)
    elif text.startswith("ask "):
        _, name, args = text.split(" ", 2)
        answer["content"] = "I ask. "
        await _call(run, answer, name, args)
    elif text.startswith("look up"):
        id = await _call(run, answer, "look_up", json.dumps({"query": text}))
        messages.append(
            {
                "type": "tool",
                "id": run.new_id(),
                "tool_call_id": id,
                "name": "look_up",
                "content": '{"hits": 3}',
            }
        )
        messages.append({"type": "ai", "id": run.new_id(), "content": "", "tool_calls": []})
        await _stream(messages[-1], "content", "found three")
    elif text.startswith("think"):
        answer["content"] = [{"type": "reasoning", "summary": [{"type": "summary_text", "text": ""}]}]
        await _stream(answer["content"][0]["summary"][0], "text", "Hm, let me see. ")
        answer["content"].append({"type": "text", "text": ""})
        await _stream(answer["content"][1], "text", "Thought about it.")
    elif text == "context":
        answer["content"] = json.dumps(dict(run.context), sort_keys=True)
    else:
        word = text.split(" ")[0]
        if word in ("fail", "crash", "hang"):
            await _stream(answer, "content", f"{word} ")
        if word == "fail":
            raise threadwire.AgentError("the agent says why")
        if word == "crash":
            raise RuntimeError("nobody's business")
        if word == "hang":
            await asyncio.Event().wait()
        await _stream(answer, "content", text)
    answer["usage_metadata"] = {"input_tokens": 3, "output_tokens": 5, "total_tokens": 8}


async def _call(run: threadwire.Run, answer: Any, name: str, args: str) -> str:
    id = run.new_id()
    answer["tool_calls"].append({"id": id, "name": name, "args": {}, "partial_json": ""})
    call = answer["tool_calls"][-1]
    for start in range(0, len(args), 7):
        call.append_text("partial_json", args[start : start + 7])
        await asyncio.sleep(0.005)
    call["args"] = json.loads(args)
    return id


async def _take_result(run: threadwire.Run, command: threadwire.AddToolResult) -> None:
    messages = run.state["messages"]
    result = command.result
    content = result if isinstance(result, str) else json.dumps(result)
    status = "error" if command.is_error else "success"
    messages.append(
        {
            "type": "tool",
            "id": run.new_id(),
            "tool_call_id": command.tool_call_id,
            "name": command.tool_name,
            "content": content,
            "status": status,
        }
    )
    messages.append({"type": "ai", "id": run.new_id(), "content": "", "tool_calls": []})
    await _stream(messages[-1], "content", f"You said {content}, {status}.")


@chat.on(SetTitle)
async def set_title(run: threadwire.Run, command: SetTitle) -> None:
    run.state["title"] = command.title


@chat.title
async def make_title(state: Any) -> str | None:
    return f"{len(state.get('messages', []))} messages"


@threadwire.agent(seed=True)
async def plain(run: threadwire.Run) -> None:
    for command in run.commands:
        messages = run.state.setdefault("messages", [])
        if not isinstance(command, threadwire.AddMessage):
            raise threadwire.AgentError(f"this agent has no use for {command.type_name()}")
        text = _text(command.message)
        _cut_at(messages, command)
        messages.append({"id": command.message.id or run.new_id(), "role": "user", "content": text})
        messages.append({"id": run.new_id(), "role": "assistant", "content": ""})
        await _stream(messages[-1], "content", text)
