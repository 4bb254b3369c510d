"""What a client sees of a graph that streams: the graph's own state, or ahead of it by streamed text."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from typing import Any

from langchain_core.messages import AnyMessage, HumanMessage
from langchain_core.runnables import RunnableConfig
from langgraph.pregel import Pregel

from tests.support.graphs import as_shown, own_state
from threadwire.core.document import Document
from threadwire.core.operations import AppendText, Json, Operation, Set, apply
from threadwire_agents.langgraph.converter import MODES, Converter, Namespace
from threadwire_agents.langgraph.shape import Shape

CONFIG: RunnableConfig = {"configurable": {"thread_id": "t"}}
_INTERRUPT = "__interrupt__"
_GROWING = ("content", "text", "partial_json", "reasoning", "thinking", "reasoning_content")


class Client:
    """Replays operations, and sees to it that texts of messages only grow, and do so by `append-text`."""

    def __init__(self, state: Json = None, *, edits: bool = False) -> None:
        self.state = state
        self.operations: list[Operation] = []
        self._texts: dict[Any, str] = {}
        self._edits = edits
        """Whether the graph changes messages that it has."""

    def take(self, operations: Sequence[Operation]) -> None:
        operations = copy.deepcopy(operations)  # those of a document hold parts of it
        for operation in operations:
            before, self.state = self.state, apply(self.state, [operation])
            if not self._edits:
                self._check(before, operation)
        self.operations += operations

    def _check(self, before: Json, operation: Operation) -> None:
        for key, text in texts(self.state):
            old = self._texts.get(key, "")
            assert text.startswith(old), f"{key} was {old!r}, then {text!r}: {operation}"
            self._texts[key] = text
        if type(operation) is Set and operation.path and operation.path[-1] in _GROWING:
            there = _at(before, operation.path)
            assert not isinstance(there, str) or not there or not isinstance(operation.value, str), operation


def texts(state: Json) -> Iterator[tuple[Any, str]]:
    """Each text of a message that may grow, by the message's id and what it is."""
    for message in _messages(state):
        id = message.get("id")
        content = message.get("content")
        if isinstance(content, str):
            content = [content]
        for place, block in enumerate(content or ()):
            if isinstance(block, str):
                block = {"text": block}
            for key in _GROWING:
                if isinstance(block.get(key), str):
                    yield (id, place, key), block[key]
        for place, call in enumerate(message.get("tool_calls", ())):
            if "partial_json" in call:
                yield (id, "call", place), call["partial_json"]
        for key, value in message.get("additional_kwargs", {}).items():
            if key in _GROWING:
                yield (id, "kwargs", key), value


def _messages(node: Json) -> Iterator[dict[str, Any]]:
    if isinstance(node, dict):
        if "content" in node and "type" in node and "id" in node:
            yield node
            return
        node = list(node.values())
    if isinstance(node, list):
        for item in node:
            yield from _messages(item)


def _at(node: Json, path: Sequence[Any]) -> Json:
    for key in path:
        try:
            node = node[key]
        except (KeyError, IndexError, TypeError):
            return None
    return node


class WatchedConverter(Converter):
    """Compares the document with what the graph has told, after each event."""

    watched: list[WatchedConverter]
    """All that were made; a test sets it."""

    def __init__(self, access: Any, **options: Any) -> None:
        super().__init__(access, **options)
        self.told: dict[str, Json] | None = None
        self.supersteps = 0
        self._channel_told = options.get("messages")
        self.watched.append(self)

    def feed(self, namespace: Namespace, mode: str, payload: Any) -> None:
        older = self.resuming and not namespace and mode == "values"
        super().feed(namespace, mode, payload)
        shown = own_state(self._access.document.root or {})
        if namespace or mode != "values":
            if self.told is not None and not self.resuming:
                self._assert_ahead(shown)
            return
        if older:
            return
        interrupted = isinstance(payload, dict) and _INTERRUPT in payload
        if isinstance(payload, dict):
            payload = {name: value for name, value in payload.items() if name != _INTERRUPT}
        self.told = as_shown(payload)
        if interrupted:
            self._assert_ahead(shown)
        else:
            assert shown == self.told
            self.supersteps += 1

    def _assert_ahead(self, shown: dict[str, Any]) -> None:
        """Beyond what the graph has there are messages that stream, and nothing else."""
        assert self.told is not None
        told = dict(self.told)
        channel = self._channel_told
        if channel is not None:
            have = told.pop(channel, [])
            assert shown.pop(channel, [])[: len(have)] == have
        assert shown == told


class Replay:
    """A graph that streams into a bare document, whose operations a client gets after every event.

    Attributes:
        client: what they come to.
        sent: for each event, `(namespace, mode, payload, operations)`.
        late: what the stream left to do when it was over.
    """

    def __init__(
        self, graph: Pregel[Any, Any, Any, Any], *, input: str | None = None, edits: bool = False
    ) -> None:
        self.graph = graph
        self.shape = Shape(graph, input=input)
        self.document = Document({})
        self.client = Client({}, edits=edits)
        self.sent: list[tuple[Namespace, str, Any, list[Operation]]] = []
        self.late: list[Operation] = []

    async def begin_with(self, messages: Sequence[AnyMessage], *, node: str) -> None:
        """Gives the graph a conversation in the name of a node, and the client what is shown of it."""
        await self.graph.aupdate_state(CONFIG, {"messages": messages}, as_node=node)
        Converter(self, messages="messages").settle((await self.graph.aget_state(CONFIG)).values)
        self.client.state = copy.deepcopy(self.document.root)
        self.document.cut()

    async def run(
        self, *messages: AnyMessage, input: Any = None, config: RunnableConfig = CONFIG
    ) -> dict[str, Json]:
        """One call of the graph; returns what is shown of its own state at the end."""
        said: list[AnyMessage] = [*messages] or [HumanMessage("hi", id="h1")]
        given = self.shape.input(said) if input is None else input
        WatchedConverter.watched = []
        converter = WatchedConverter(self, messages=self.shape.messages, shares=self.shape.shares)
        converter.begin()
        self._take()
        try:
            stream: Any = self.graph.astream(  # type: ignore[call-overload]
                given, config, stream_mode=MODES, subgraphs=True, version="v1", context={}
            )
            async for namespace, mode, payload in stream:
                converter.feed(namespace, mode, payload)
                self.sent.append((namespace, mode, payload, self._take()))
        finally:
            self.converter = converter
        converter.finish()
        ends = self._take()
        converter.settle((await self.graph.aget_state(config)).values)
        self.late = self._take()
        values = as_shown((await self.graph.aget_state(config)).values)
        assert own_state(self.client.state) == values
        assert all(operation.path[0] == "threadwire" for operation in ends)
        return own_state(self.client.state)

    def _take(self) -> list[Operation]:
        operations = copy.deepcopy(self.document.cut())
        self.client.take(operations)
        assert self.client.state == self.document.root
        return operations

    def of(self, mode: str) -> list[list[Operation]]:
        """The operations of each event of a mode."""
        return [operations for _, sent, _, operations in self.sent if sent == mode]

    def appended(self) -> str:
        """All text that was appended, in order."""
        return "".join(each.value for each in self.client.operations if isinstance(each, AppendText))
