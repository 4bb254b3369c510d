"""Hosts a chat model of one function: its answers, with all branches, are the thread's state.

    {"messages": [thread messages, as assistant-ui has them],
     "branches": {message id: [ids of those that could be in its place, itself among them]},
     "hidden":   {message id: {"parentId", "next", "message"}}}

`messages` is what is shown. An edit, or another run, moves what it replaces to `hidden`, where
`next` remembers what followed; `switch-branch` moves it back.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import aclosing
from typing import Any, Final

import msgspec

import threadwire
from threadwire.core.operations import Json
from threadwire.messages.auto_status import COMPLETE, RUNNING
from threadwire.messages.chat_model import (
    AbortSignal,
    ChatModelAdapter,
    ChatModelRunOptions,
    ModelContext,
    ReadResult,
    RunAborted,
    RunFunction,
    is_stream,
    read_result,
    run_function,
    should_continue,
)
from threadwire.messages.errors import InvalidMessage
from threadwire.messages.like import LikeMetadata
from threadwire.messages.model import (
    AssistantMetadata,
    IncompleteStatus,
    MessageStatus,
    RunningStatus,
    ThreadAssistantMessage,
    ThreadUserMessage,
    message_from_json,
    to_json,
)

_TOO_MANY_STEPS: Final = IncompleteStatus("tool-calls")
_GROWING: Final = ("text", "reasoning")


class ChatModelAgent(threadwire.Agent):
    """An agent that answers with a chat model: a coroutine function or async generator, as for
    `threadwire.client.LocalRuntime`.

        def create() -> threadwire.Agent:
            return ChatModelAgent(model, name="assistant")

    It takes messages and edits, runs again, switches branches, and takes the results of tool calls
    that the model left open; the model is called at most `max_steps` times for one message.

    Raises:
        threadwire.client.InvalidAdapter: the model can't be called.
    """

    def __init__(
        self,
        chat_model: ChatModelAdapter | RunFunction,
        *,
        name: str | None = None,
        max_steps: int = 2,
        human_tools: Sequence[str] | None = None,
        context: ModelContext | None = None,
    ) -> None:
        self._run_model = run_function(chat_model)
        self._max_steps = max_steps
        self._human_tools = human_tools
        self._context = context or ModelContext()
        super().__init__(name or str(getattr(chat_model, "__name__", "chat-model")))
        self.on(threadwire.AddMessage)(_add_message)
        self.on(threadwire.Regenerate)(_regenerate)
        self.on(threadwire.SwitchBranch)(_switch_branch)
        self.on(threadwire.AddToolResult)(self._add_tool_result)

    async def run(self, run: threadwire.Run) -> None:
        """Answers the last message, or goes on with an answer that has its tools' results."""
        messages = run.state.get("messages")
        if not messages:
            return
        if messages[-1]["role"] != "assistant":
            message = ThreadAssistantMessage(
                id=run.new_id(), content=(), status=RUNNING, metadata=AssistantMetadata()
            )
            _add(run.state, to_json(message))
        answer = _Answer(run)
        for _ in range(self._max_steps):
            if not await self._round(answer):
                return
        answer.end(_TOO_MANY_STEPS)

    async def _round(self, answer: _Answer) -> bool:
        """One call of the model; whether it is to be called again."""
        signal = AbortSignal()
        answer.begin()
        options = ChatModelRunOptions(
            messages=tuple(message_from_json(message) for message in answer.before),
            run_config={},
            context=self._context,
            abort_signal=signal,
            message_id=answer.id,
            parent_id=answer.before[-1]["id"] if answer.before else None,
            thread_id=None,
            current=lambda: answer.message,
        )
        try:
            given: Any = self._run_model(options)
            if not is_stream(given):
                answer.take(read_result(await given))
            else:
                async with aclosing(given):
                    async for result in given:
                        answer.take(read_result(result))
        except (asyncio.CancelledError, RunAborted) as error:
            signal.abort()
            answer.end(IncompleteStatus("cancelled"))
            if isinstance(error, RunAborted):
                return False
            raise
        except Exception as error:
            answer.end(IncompleteStatus("error", _shown(error)))
            raise
        message = answer.message
        if isinstance(message.status, RunningStatus):
            answer.end(COMPLETE)
        return should_continue(message, self._human_tools)

    async def _add_tool_result(self, run: threadwire.Run, command: threadwire.AddToolResult) -> None:
        messages = run.state.get("messages", ())
        for index in reversed(range(len(messages))):
            for part in messages[index]["content"]:
                if part.get("type") != "tool-call" or part.get("toolCallId") != command.tool_call_id:
                    continue
                if "result" in part:
                    raise threadwire.CommandError("already-answered", "the tool call has its result")
                part.update(result=command.result, isError=command.is_error)
                if command.artifact is not None:
                    part["artifact"] = command.artifact
                message = message_from_json(messages[index].value())
                assert isinstance(message, ThreadAssistantMessage)
                if index == len(messages) - 1 and should_continue(message, self._human_tools):
                    run.start_agent()
                return
        raise threadwire.CommandError("not-found", "there is no such tool call", "command.toolCallId")


class _Answer:
    """The last message of the state, while a model writes it."""

    def __init__(self, run: threadwire.Run) -> None:
        self._run = run
        self._index = len(run.state["messages"]) - 1
        self.before: list[Json] = run.state["messages"].value()[:-1]
        self._message: dict[str, Any] = run.state["messages"][self._index].value()
        self.id: str = self._message["id"]
        self._offset = 0
        self._base = self._metadata()

    @property
    def message(self) -> ThreadAssistantMessage:
        """The message as it is now."""
        message = message_from_json(self._message)
        assert isinstance(message, ThreadAssistantMessage)
        return message

    def begin(self) -> None:
        """A call of the model begins: what it gives goes behind what is there."""
        self._offset = len(self._message["content"])
        self._base = self._metadata()
        self.end(RUNNING)

    def take(self, result: ReadResult) -> None:
        """Puts a result in the place of what this call has given so far."""
        if result.content is not None:
            self._take_content([to_json(part) for part in result.content])
        if result.metadata is not None:
            self._take_metadata(result.metadata)
        if result.status is not None:
            self.end(result.status)

    def end(self, status: MessageStatus) -> None:
        """Gives the message this status."""
        plain = to_json(status)
        if self._message["status"] != plain:
            self._message["status"] = plain
            self._draft["status"] = plain

    @property
    def _draft(self) -> Any:
        return self._run.state["messages"][self._index]

    def _metadata(self) -> dict[str, Any]:
        return dict(self._message["metadata"])

    def _take_content(self, parts: list[dict[str, Any]]) -> None:
        content: list[dict[str, Any]] = self._message["content"]
        for at, part in enumerate(parts, self._offset):
            if at == len(content):
                content.append(part)
                self._draft["content"].append(part)
            elif content[at] != part:
                self._replace(at, content[at], part)
                content[at] = part
        end = self._offset + len(parts)
        if len(content) > end:
            del content[end:]
            del self._draft["content"][end:]

    def _replace(self, at: int, old: dict[str, Any], new: dict[str, Any]) -> None:
        """Text that grows is appended to: its cost must not grow with it."""
        grows = new["type"] in _GROWING and {**old, "text": ""} == {**new, "text": ""}
        if grows and new["text"].startswith(old["text"]):
            path = ("messages", self._index, "content", at, "text")
            self._run.append_text(path, new["text"][len(old["text"]) :])
        else:
            self._draft["content"][at] = new

    def _take_metadata(self, new: LikeMetadata) -> None:
        given: dict[str, Any] = msgspec.to_builtins(new)
        for name in ("unstable_annotations", "unstable_data", "steps"):
            if given.get(name) is not None:
                given[name] = [*self._base.get(name, ()), *given[name]]
        if "custom" in given:
            given["custom"] = {**self._base.get("custom", {}), **given["custom"]}
        known = self._message["metadata"]
        changed = {name: value for name, value in given.items() if known.get(name) != value}
        if changed:
            self._message["metadata"] = {**known, **changed}
            self._draft["metadata"].update(changed)


async def _add_message(run: threadwire.Run, command: threadwire.AddMessage) -> None:
    message = command.message
    if message.role != "user":
        raise threadwire.CommandError("invalid-command", "only users send messages", "command.message.role")
    state = run.state
    state.setdefault("messages", [])
    if command.source_id is not None:
        _hide(state, _shown_at(state, command.source_id, "command.sourceId"))
    elif command.parent_id is not None:
        _hide(state, _shown_at(state, command.parent_id, "command.parentId") + 1)
    parts = [
        {name: value for name, value in part.items() if value is not None}
        for part in msgspec.to_builtins(message.parts)
    ]
    id = message.id if message.id is not None and not _is_known(state, message.id) else run.new_id()
    try:
        read = message_from_json({**to_json(ThreadUserMessage(id=id, content=())), "content": parts})
    except (msgspec.ValidationError, InvalidMessage) as error:
        raise threadwire.CommandError("invalid-command", str(error), "command.message.parts") from None
    _add(state, to_json(read))
    run.start_agent()


async def _regenerate(run: threadwire.Run, command: threadwire.Regenerate) -> None:
    state = run.state
    state.setdefault("messages", [])
    parent_id = command.parent_id
    _hide(state, 0 if parent_id is None else _shown_at(state, parent_id, "command.parentId") + 1)
    run.start_agent()


async def _switch_branch(run: threadwire.Run, command: threadwire.SwitchBranch) -> None:
    state = run.state
    hidden = state.get("hidden", {})
    chain: list[str] = []
    at: str | None = command.message_id
    while at is not None and at in hidden:
        chain.append(at)
        at = hidden[at]["parentId"]
    if not chain:
        _shown_at(state, command.message_id, "command.messageId")
        return
    _hide(state, 0 if at is None else _shown_at(state, at, "command.messageId") + 1)
    chain.reverse()
    following = hidden[chain[-1]]["next"]
    while following is not None:
        chain.append(following)
        following = hidden[following]["next"]
    for id in chain:
        state["messages"].append(hidden.pop(id)["message"])


def _add(state: Any, message: Json) -> None:
    """Adds a message at the end of what is shown, beside those that are hidden there."""
    messages = state["messages"]
    parent_id = messages[-1]["id"] if messages else None
    siblings = [id for id, each in state.get("hidden", {}).items() if each["parentId"] == parent_id]
    messages.append(message)
    if siblings:
        branches = state.setdefault("branches", {})
        known = branches[siblings[0]].value() if siblings[0] in branches else siblings
        together = [*known, message["id"]]
        for id in together:
            branches[id] = together


def _hide(state: Any, start: int) -> None:
    """Moves what is shown from `start` on to what is hidden."""
    messages = state["messages"]
    gone = messages.value()[start:]
    if not gone:
        return
    hidden = state.setdefault("hidden", {})
    parent_id = messages[start - 1]["id"] if start else None
    ids = [message["id"] for message in gone]
    for message, following in zip(gone, [*ids[1:], None], strict=True):
        hidden[message["id"]] = {"parentId": parent_id, "next": following, "message": message}
        parent_id = message["id"]
    del messages[start:]


def _shown_at(state: Any, id: str, field: str) -> int:
    for index, message in enumerate(state.get("messages", ())):
        if message["id"] == id:
            return index
    raise threadwire.CommandError("not-found", "no such message is shown", field)


def _is_known(state: Any, id: str) -> bool:
    return id in state.get("hidden", {}) or any(message["id"] == id for message in state["messages"])


def _shown(error: Exception) -> Json:
    """What of an error clients may see."""
    if isinstance(error, threadwire.AgentError | InvalidMessage):
        return {"code": getattr(error, "code", "agent-error"), "message": str(error)}
    return {"code": "agent-failed", "message": "the model failed"}
