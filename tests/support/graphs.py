"""Graphs in a test: models that stream by a script, and the check that a client sees what a graph holds."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from typing import Any, TypeAlias, cast

import anyio.lowlevel
from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, CallbackManagerForLLMRun
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult

from tests.support.engine import Reader
from threadwire.engine.thread import Thread
from threadwire_agents.langgraph import LangGraphAgent
from threadwire_agents.langgraph.message_json import plain
from threadwire_agents.langgraph.serialise import to_json

Piece: TypeAlias = str | AIMessageChunk | BaseException | Callable[[], Awaitable[object]]
"""A piece of what a model says: a text, a chunk, an error to fail with, or something to wait for."""

Script: TypeAlias = Sequence[Iterable[Piece]] | Callable[[list[BaseMessage]], Iterable[Piece]]
"""What a model says in each call, in turn, the last again and again; or a function of what it is given."""


class ScriptedModel(BaseChatModel):
    """Streams what its script says, and lets other tasks run before each piece."""

    script: Any
    calls: int = 0

    @property
    def _llm_type(self) -> str:
        return "scripted"

    def bind_tools(self, tools: Any, **options: Any) -> Any:
        return self

    def _next(self, messages: list[BaseMessage]) -> Iterable[Piece]:
        self.calls += 1
        if callable(self.script):
            return cast("Iterable[Piece]", self.script(messages))
        return cast("Iterable[Piece]", self.script[min(self.calls, len(self.script)) - 1])

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **options: Any,
    ) -> ChatResult:
        raise NotImplementedError("it streams only")

    async def _astream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **options: Any,
    ) -> AsyncIterator[ChatGenerationChunk]:
        for piece in self._next(messages):
            await anyio.lowlevel.checkpoint()
            if isinstance(piece, BaseException):
                raise piece
            if isinstance(piece, str):
                yield ChatGenerationChunk(message=AIMessageChunk(content=piece))
            elif isinstance(piece, AIMessageChunk):
                yield ChatGenerationChunk(message=piece.model_copy())
            else:
                await piece()


class WholeModel(BaseChatModel):
    """A model that doesn't stream: says each of its texts at once, the last again and again."""

    texts: list[str]
    calls: int = 0

    @property
    def _llm_type(self) -> str:
        return "whole"

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **options: Any,
    ) -> ChatResult:
        self.calls += 1
        text = self.texts[min(self.calls, len(self.texts)) - 1]
        return ChatResult(generations=[ChatGeneration(message=AIMessage(text))])


def call_piece(
    index: int, args: str = "", *, name: str | None = None, id: str | None = None, text: str = ""
) -> AIMessageChunk:
    """A piece of a tool call: its name and id come with the first one, its arguments bit by bit."""
    return AIMessageChunk(
        content=text,
        tool_call_chunks=[
            {"name": name, "args": args, "id": id, "index": index, "type": "tool_call_chunk"},
        ],
    )


def last_piece(**fields: Any) -> AIMessageChunk:
    """The empty chunk that ends a message."""
    return AIMessageChunk(content="", chunk_position="last", **fields)


async def graph_values(agent: LangGraphAgent, thread: Thread) -> Any:
    """What the graph itself holds of the thread, where the thread is."""
    head = thread_note(thread, "head")
    configurable = {"thread_id": thread.id, "checkpoint_ns": ""}
    if head is not None:
        configurable["checkpoint_id"] = head
    config: Any = {"configurable": configurable}
    async with agent._source.open(config, context={}) as graph:
        kept = graph.copy(update={"checkpointer": agent._saver(graph)})
        return (await kept.aget_state(config)).values


def thread_note(thread: Thread, name: str) -> Any:
    """A note that the host has made of the thread; None where there is none."""
    text = (thread._notes or {}).get(name)
    return None if text is None else json.loads(text)


def own_state(state: Any) -> dict[str, Any]:
    """The graph's part of a state, as the graph has it."""
    return {name: plain(value) for name, value in state.items() if name != "threadwire"}


def as_shown(values: Any) -> dict[str, Any]:
    """A graph's values as they stand in a state."""
    shown = to_json(values if isinstance(values, dict) else {"output": values})
    assert isinstance(shown, dict)
    return shown


async def assert_equal_to_graph(agent: LangGraphAgent, thread: Thread, reader: Reader) -> None:
    """The state that a client has replayed is what the graph holds at the thread's head."""
    await thread.flush()
    assert own_state(reader.state) == as_shown(await graph_values(agent, thread))
