"""What is known of a graph before it runs: its channels, where messages go, what subgraphs share."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping, Sequence
from typing import Annotated, Any, NotRequired, get_args, get_origin, get_type_hints

from langchain_core.messages import AnyMessage
from langgraph.channels import BinaryOperatorAggregate, DeltaChannel
from langgraph.graph import START
from langgraph.graph.state import CompiledStateGraph
from langgraph.pregel import Pregel
from langgraph.pregel._read import PregelNode
from langgraph.pregel._write import ChannelWrite, ChannelWriteTupleEntry
from langgraph.types import Overwrite
from pydantic import BaseModel, ValidationError

from threadwire.core.draft import RESERVED
from threadwire.core.errors import AgentError

Graph = Pregel[Any, Any, Any, Any]

MESSAGES = "messages"


class Shape:
    """The shape of one graph.

    Args:
        input: the channel that a message goes into, in a graph without `messages`.

    Raises:
        ValueError: the graph can't be hosted.
    """

    def __init__(self, graph: Graph, *, input: str | None = None) -> None:
        self._graph = graph
        self._shared: dict[tuple[str, ...], bool] = {}
        outputs = _names(graph.stream_channels_asis)
        if RESERVED in outputs:
            raise ValueError(f"the graph has a channel {RESERVED!r}, which is the server's name in a state")
        self._inputs = _input_names(graph)
        self.messages: str | None = MESSAGES if MESSAGES in outputs else None
        self._input = input
        if input is not None and self._inputs and input not in self._inputs:
            raise ValueError(f"the graph has no input {input!r}; it has {', '.join(sorted(self._inputs))}")

    def takes(self, name: str) -> bool:
        """Whether the graph can be given a first value of the channel."""
        if isinstance(self._graph, CompiledStateGraph):
            return name in _names(self._graph.stream_channels_asis)
        return name in self._inputs

    def reduces(self, name: str) -> bool:
        """Whether what is written to the channel goes together with what it holds."""
        return isinstance(self._graph.channels.get(name), BinaryOperatorAggregate | DeltaChannel)

    def whole(self, name: str, value: Any) -> Any:
        """The update after which the channel holds just that."""
        return Overwrite(value) if self.reduces(name) else value

    @property
    def channels(self) -> frozenset[str]:
        """The names at the root of the state that are the graph's."""
        return frozenset(_names(self._graph.stream_channels_asis)) | self._inputs

    def input(self, messages: Sequence[AnyMessage]) -> Any:
        """The graph's input that adds these messages.

        Raises:
            AgentError: the graph has no place for messages.
        """
        name = self._input or (MESSAGES if MESSAGES in self._inputs else None)
        if name == MESSAGES:
            return {MESSAGES: list(messages)}
        if name is None and len(self._inputs) == 1:
            name = next(iter(self._inputs))
        content: Any = [message.content for message in messages]
        if len(content) == 1:
            content = content[0]
        elif all(isinstance(each, str) for each in content):
            content = "\n\n".join(content)
        if name is not None:
            return {name: content}
        if not self._inputs:
            return _value_of(_entry_type(self._graph), messages, content)
        raise AgentError(
            "the graph has no channel for messages: name the channel they go into by"
            " LangGraphAgent(graph, input=...)"
        )

    def shares(self, namespace: Sequence[str]) -> bool:
        """Whether the subgraph called there is a node of its own whose messages are the root's."""
        names = tuple(segment.partition(":")[0] for segment in namespace)
        known = self._shared.get(names)
        if known is None:
            known = self._shared[names] = self._find_shared(names)
        return known

    def _find_shared(self, names: tuple[str, ...]) -> bool:
        graph: Any = self._graph
        for name in names:
            node = graph.nodes.get(name)
            graph = getattr(node, "bound", None)
            if not isinstance(graph, Pregel) or MESSAGES not in _names(graph.stream_channels_asis):
                return False
        return True


def editor_of(graph: Graph) -> Graph:
    """The graph with a start that writes any channel and makes nothing run, for updates in its name.

    Of a graph as it is, the start writes channels of the input only, and calls its conditional edges.
    """
    if not isinstance(graph, CompiledStateGraph):
        return graph
    write = ChannelWrite([ChannelWriteTupleEntry(mapper=lambda values: list(values.items()))])
    start = PregelNode(triggers=[START], channels=START, writers=[write])
    return graph.copy(update={"nodes": {**graph.nodes, START: start}})


def context_for(graph: Graph, given: Mapping[str, Any]) -> dict[str, Any]:
    """Of what a client sent along, that which the graph's context schema has a field for.

    Raises:
        AgentError: a field is missing or wrong; the text names it.
    """
    schema: Any = graph.context_schema
    if schema is None:
        return {}
    model = isinstance(schema, type) and issubclass(schema, BaseModel)
    if dataclasses.is_dataclass(schema):
        fields = [field for field in dataclasses.fields(schema) if field.init]
        names = {field.name for field in fields}
        needed = {
            field.name
            for field in fields
            if field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
        }
    elif model:
        names = {field.alias or name for name, field in schema.model_fields.items()}
        needed = set()  # it says that itself
    else:
        names = set(getattr(schema, "__annotations__", ()))
        needed = set(getattr(schema, "__required_keys__", ())) - _optional(schema)
    context = {name: given[name] for name in names if name in given}
    if missing := sorted(needed - context.keys()):
        raise AgentError(f"the graph needs {', '.join(missing)} in its context, and the client sent none")
    if model:
        try:
            schema(**context)
        except ValidationError as error:
            raise AgentError(f"the graph's context is wrong: {brief(error)}") from None
    return context


def _optional(schema: Any) -> set[str]:
    """The fields that a TypedDict says need not be there, where its annotations are postponed too."""
    try:
        hints = get_type_hints(schema, include_extras=True)
    except (NameError, TypeError):
        return set()
    return {name for name, hint in hints.items() if get_origin(hint) is NotRequired}


def brief(error: ValidationError) -> str:
    """What Pydantic found wrong, in a line."""
    return "; ".join(
        ": ".join(filter(None, (".".join(map(str, each["loc"])), each["msg"]))) for each in error.errors()
    )[:300]


def _names(channels: str | Sequence[str]) -> list[str]:
    return [channels] if isinstance(channels, str) else list(channels)


def _entry_type(graph: Graph) -> Any:
    """What the one argument of a functional API's entrypoint is annotated with."""
    kind = graph.InputType
    if get_origin(kind) is Annotated:
        kind = get_args(kind)[0]
    if not isinstance(kind, str):
        return kind
    bound: Any = next(iter(graph.nodes.values())).bound
    try:
        hints = get_type_hints(getattr(bound, "func", None) or bound.afunc)
    except Exception:
        return Any  # annotations may be any code, and of names that are known to checkers only
    return next(iter(hints.values()), Any)


def _value_of(kind: Any, messages: Sequence[AnyMessage], content: Any) -> Any:
    """A value of the type for an entrypoint: it may take messages as they are, or in a field of that name."""
    if (get_origin(kind) or kind) in (list, Sequence):
        return content if get_args(kind) == (str,) else list(messages)
    if MESSAGES in _fields(kind):
        fields = {MESSAGES: list(messages)}
        return fields if issubclass(kind, dict) else kind(**fields)
    return content  # it may take any value


def _fields(schema: Any) -> Collection[str]:
    """The names of the fields of a model, a dataclass or a TypedDict."""
    if not isinstance(schema, type):
        return ()
    found: Collection[str] | None = getattr(schema, "model_fields", None)
    if found is None:
        found = {name: None for kind in schema.__mro__[::-1] for name in getattr(kind, "__annotations__", {})}
    return found


def _input_names(graph: Graph) -> frozenset[str]:
    """The keys that the graph's input may have; none where it is one value."""
    fields = _fields(getattr(getattr(graph, "builder", None), "input_schema", None))
    if fields:
        return frozenset(fields)
    channels = graph.input_channels
    return frozenset() if isinstance(channels, str) else frozenset(channels)
