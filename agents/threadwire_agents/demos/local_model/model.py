"""The rules as a chat model of LangChain: messages and tools in, a streamed message out.

What to say and which tools to call is decided by `plans`, from the messages alone: the same messages
and tools lead to the same reply, but for what chat models leave to LangChain (the message's id).
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, CallbackManagerForLLMRun
from langchain_core.language_models import BaseChatModel, LanguageModelInput
from langchain_core.language_models.chat_models import generate_from_stream
from langchain_core.messages import (
    AIMessage,
    AIMessageChunk,
    BaseMessage,
    HumanMessage,
    ToolCallChunk,
    ToolMessage,
)
from langchain_core.messages.ai import UsageMetadata
from langchain_core.messages.tool import tool_call_chunk
from langchain_core.outputs import ChatGenerationChunk, ChatResult
from langchain_core.runnables import Runnable
from langchain_core.tools import BaseTool
from langchain_core.utils.function_calling import convert_to_openai_tool

from .plans import Call, Plan, Result, introduction, plans, talk
from .question import Question, read

NAME: Final = "local-rules"

_WORD: Final = re.compile(r"\s*\S{1,12}|\s+")
_ARGUMENT_PIECE: Final = 8
_CHARACTERS_PER_TOKEN: Final = 4
"""About as many as with language models; what is read is not worth being counted exactly."""
_MESSAGES_READ: Final = 20
"""Messages of the user that are read, so that `And in Rome?` is understood after many of its kind."""


class LocalModel(BaseChatModel):
    """A rule-based stand-in for a language model, which calls tools and streams as one does.

    Attributes:
        pace_s: seconds between two tokens when it streams; 0 for none.
    """

    pace_s: float = 0.02

    @property
    def _llm_type(self) -> str:
        return NAME

    @property
    def _identifying_params(self) -> Mapping[str, Any]:
        return {"model_name": NAME}

    def bind_tools(
        self,
        tools: Sequence[dict[str, Any] | type | Callable[..., Any] | BaseTool],
        *,
        tool_choice: str | None = None,
        **kwargs: Any,
    ) -> Runnable[LanguageModelInput, AIMessage]:
        """This model with tools it may call. It calls those that its rules know by name.

        `tool_choice="none"` keeps it from calling any; other choices are its own.
        """
        bound = [] if tool_choice == "none" else [convert_to_openai_tool(tool) for tool in tools]
        return self.bind(tools=bound, **kwargs)

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        return generate_from_stream(_chunks(messages, stop, **kwargs))

    async def _agenerate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        return generate_from_stream(_chunks(messages, stop, **kwargs))

    def _stream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> Iterator[ChatGenerationChunk]:
        for chunk in _chunks(messages, stop, **kwargs):
            yield chunk
            time.sleep(self.pace_s)

    async def _astream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[ChatGenerationChunk]:
        for chunk in _chunks(messages, stop, **kwargs):
            yield chunk
            await asyncio.sleep(self.pace_s)


# the reply


@dataclass(frozen=True)
class _Reply:
    """Text, and the calls that follow it by their ids."""

    text: str
    calls: Mapping[str, Call] = field(default_factory=dict)


def _reply(messages: Sequence[BaseMessage], tools: frozenset[str]) -> _Reply:
    """The next message of the assistant: a step of the plans for the newest question, or the answer."""
    asked = [message for message in messages if isinstance(message, HumanMessage)]
    question = _question(asked)
    turn = _Turn(messages, tools)
    answers: list[str] = []
    needed: dict[str, Call] = {}
    for plan in plans(question):
        answer, calls = _play(plan, turn)
        answers.append(answer)
        needed.update({turn.id(call): call for call in calls})
    if needed:
        return _Reply(introduction(list(needed.values()), first=not turn.called), needed)
    images = bool(asked) and _has_more_than_text(asked[-1])
    if not answers:
        return _Reply(talk(question, images=images))
    if images:
        answers.append("*What you sent beside the text I could not read.*")
    return _Reply("\n\n".join(answers))


def _play(plan: Plan, turn: _Turn) -> tuple[str, Sequence[Call]]:
    """Plays a plan as far as there are results: its answer, or the calls that it waits for."""
    try:
        calls = next(plan)
        while True:
            results = [turn.result(call) for call in calls]
            found = [result for result in results if result is not None]
            if len(found) < len(calls):
                return "", [call for call, result in zip(calls, results, strict=True) if result is None]
            calls = plan.send(found)
    except StopIteration as end:
        return str(end.value), ()
    finally:
        plan.close()


class _Turn:
    """What has been called since the newest message of the user, and what came back.

    A call's id follows from that message and from what is called. So it is known again when results
    come in another order, and when a reviewer has changed the arguments in the message.
    """

    def __init__(self, messages: Sequence[BaseMessage], tools: frozenset[str]) -> None:
        asked = [at for at, message in enumerate(messages) if isinstance(message, HumanMessage)]
        start = asked[-1] if asked else -1
        self._name = (messages[start].id if asked else None) or str(len(asked))
        self._tools = tools
        self._returned: dict[str, Result] = {}
        self.called: set[str] = set()
        for message in messages[start + 1 :]:
            if isinstance(message, ToolMessage):
                result = Result(str(message.text), failed=message.status == "error")
                self._returned[message.tool_call_id] = result
            elif isinstance(message, AIMessage):
                self.called |= {call["id"] for call in message.tool_calls if call["id"]}

    def id(self, call: Call) -> str:
        return "call_" + hashlib.sha256(f"{self._name}\n{call.key}".encode()).hexdigest()[:20]

    def result(self, call: Call) -> Result | None:
        """What came back for a call; None if it is still to be made."""
        if call.tool not in self._tools:
            return Result(f"there is no tool {call.tool!r} here", failed=True)
        id = self.id(call)
        if id in self.called and id not in self._returned:
            return Result("no result came back", failed=True)
        return self._returned.get(id)


def _question(asked: Sequence[HumanMessage]) -> Question:
    """The newest question, as it is to be understood after those before it."""
    question = read("")
    for message in asked[-_MESSAGES_READ:]:
        question = read(str(message.text)).after(question)
    return question


def _has_more_than_text(message: HumanMessage) -> bool:
    return not isinstance(message.content, str) and any(
        isinstance(block, dict) and block.get("type", "text") != "text" for block in message.content
    )


# the stream


def _chunks(
    messages: Sequence[BaseMessage],
    stop: Sequence[str] | None = None,
    *,
    tools: Sequence[Mapping[str, Any]] = (),
    **_: Any,
) -> Iterator[ChatGenerationChunk]:
    """The reply in pieces: its text word by word, its calls' arguments in fragments of JSON, its end."""
    reply = _reply(messages, frozenset(_tool_names(tools)))
    text = reply.text
    for sequence in stop or ():
        text = text.partition(sequence)[0]
    words = _WORD.findall(text)
    fragments = [
        fragment for at, id in enumerate(reply.calls) for fragment in _call_chunks(at, id, reply.calls[id])
    ]
    for word in words:
        yield ChatGenerationChunk(message=AIMessageChunk(content=word))
    for fragment in fragments:
        yield ChatGenerationChunk(message=AIMessageChunk(content="", tool_call_chunks=[fragment]))
    read_tokens = sum(len(str(message.text)) for message in messages) // _CHARACTERS_PER_TOKEN
    written_tokens = len(words) + len(fragments)
    yield ChatGenerationChunk(
        message=AIMessageChunk(
            content="",
            usage_metadata=UsageMetadata(
                input_tokens=read_tokens,
                output_tokens=written_tokens,
                total_tokens=read_tokens + written_tokens,
            ),
            response_metadata={
                "model_name": NAME,
                "finish_reason": "tool_calls" if reply.calls else "stop",
            },
            chunk_position="last",
        )
    )


def _call_chunks(index: int, id: str, call: Call) -> Iterator[ToolCallChunk]:
    """As providers stream a call: its name and id first, then its arguments in pieces."""
    arguments = json.dumps(call.args, ensure_ascii=False)
    yield tool_call_chunk(name=call.tool, args="", id=id, index=index)
    for start in range(0, len(arguments), _ARGUMENT_PIECE):
        piece = arguments[start : start + _ARGUMENT_PIECE]
        yield tool_call_chunk(name=None, args=piece, id=None, index=index)


def _tool_names(tools: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    for tool in tools:
        yield str(tool.get("function", tool).get("name"))
