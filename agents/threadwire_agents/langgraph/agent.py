"""LangGraph graphs as agents.

    agent = LangGraphAgent(graph)

Each thread of the agent is a thread of the graph under the same id. Where the graph has no
checkpointer of its own, its checkpoints are kept beside the server's store.

Spec: PROTOCOL.md §15.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, Final, Literal

from langchain_core.messages import SystemMessage, convert_to_messages
from langchain_core.runnables import RunnableConfig

from threadwire.core.commands import Command
from threadwire.core.errors import Refused
from threadwire.core.operations import Json
from threadwire.engine.agent import Agent, Handler
from threadwire.engine.notes import Notes
from threadwire.engine.run import Run
from threadwire.engine.store import Store

from .checkpoints import Checkpoints
from .handlers import GraphHandler
from .message_json import message_from_json, plain
from .saver import Saver, check_saver, own_saver
from .savers import saver_beside
from .serialise import message_to_json
from .shape import MESSAGES, Shape, context_for
from .source import Graph, graph_source
from .turn import Turn


class LangGraphAgent(Agent):
    """Hosts a graph as it is.

    Args:
        graph: a compiled graph, a StateGraph, another LangChain runnable, or a factory of one, which is
            called for each run.
        name: the name to serve it under.
        input: the channel a message goes into, in a graph without a `messages` channel.
        checkpointer: in place of the graph's own or the one beside the store.
        client_tools: names of tools that clients execute, beside those that they declare themselves.
        durability: when the graph's checkpoints are written: before the next step (`sync`), or while it
            goes on.
        config: merged into what each call is configured with, such as `{"recursion_limit": 50}`.
        seed: whether clients may give a new thread its first state; None: stock HTTP clients only, which
            always send one.

    Raises:
        TypeError: `graph` is none of these.
        ValueError: the graph can't be hosted.
    """

    continues = True

    def __init__(
        self,
        graph: object,
        *,
        name: str | None = None,
        input: str | None = None,
        checkpointer: Saver | None = None,
        client_tools: Collection[str] = (),
        durability: Literal["sync", "async"] = "sync",
        config: RunnableConfig | None = None,
        seed: bool | None = None,
    ) -> None:
        source = graph_source(graph)
        if source is None:
            raise TypeError(f"{type(graph).__qualname__} is neither a graph nor something that makes one")
        own = getattr(source.graph, "name", None)
        super().__init__(name or (own if own and own != "LangGraph" else "agent"), seed=seed)
        self._source = source
        self._input = input
        self._client_tools = frozenset(client_tools)
        self._durability = durability
        self._given_config = config or {}
        self._checkpointer = checkpointer
        """The one that was given, or else the graph's own; of a factory's graph that isn't known yet."""
        self._beside: Saver | None = None
        """The checkpointer beside the store, while the agent is served."""
        self._shape: Shape | None = None
        if source.graph is not None:
            self._shape = Shape(source.graph, input=input)
            if checkpointer is None:
                self._checkpointer = own_saver(source.graph)
        if checkpointer is not None:
            check_saver(checkpointer)

    # served

    @asynccontextmanager
    async def _serving(self, store: Store) -> AsyncIterator[None]:
        if self._checkpointer is not None:
            yield
            return
        async with saver_beside(store.url) as saver:
            self._beside = saver
            try:
                yield
            finally:
                self._beside = None

    def serving(self, store: Store) -> AbstractAsyncContextManager[None]:
        return self._serving(store)

    async def deleted(self, thread: str) -> None:
        known = self._checkpointer or self._beside
        if known is not None:
            await known.adelete_thread(thread)
        if self._checkpointer is None and self._source.fresh:
            async with self._source.open(self._config(thread, {}), access="threads.update") as graph:
                await self._saver(graph).adelete_thread(thread)

    def read_seed(self, state: dict[str, Json]) -> dict[str, Json]:
        shape = self._shape
        if shape is None:
            # What channels its graph will have is not known; that keeps what it has a place for.
            return _read_messages(state, MESSAGES) if type(state.get(MESSAGES)) is list else state
        for name in state:
            if not shape.takes(name):
                raise Refused(
                    "invalid-frame", f"the graph has no channel {name[:100]!r}", f"state.{name[:100]}"
                )
        return state if shape.messages is None else _read_messages(state, shape.messages)

    def rolled_back(self, run: str, notes: Notes) -> None:
        Checkpoints(notes).roll_back(run)

    # runs

    async def run(self, run: Run) -> None:
        async with self._turn(run) as turn:
            await turn.run(run.hosting.given)

    async def recover(self, run: Run) -> None:
        async with self._turn(run) as turn:
            await turn.recover(run.hosting.given)

    async def update(self, run: Run, channels: Any) -> None:
        """Makes a handler's changes to the graph's channels: for `handlers`."""
        async with self._turn(run) as turn:
            state = await turn.handle(channels)
        # Nothing is waited for from here: what the handler did is durable together with its being done.
        turn.show(state)

    def handler(self, command: Command) -> Handler[Any] | None:
        handler = super().handler(command)
        return None if handler is None else GraphHandler(handler, self)

    @asynccontextmanager
    async def _turn(self, run: Run) -> AsyncIterator[Turn]:
        checkpoints = Checkpoints(await run.hosting.notes())
        config = self._config(run.thread, run.context)
        async with self._source.open(config, context=dict(run.context)) as graph:
            shape = self._shape or Shape(graph, input=self._input)
            yield Turn(
                run,
                graph,
                self._saver(graph),
                checkpoints,
                shape,
                config=config,
                context=context_for(graph, _flat(run.context)),
                durability=self._durability,
                client_tools=self._client_tools | _declared(run.context),
            )

    def _config(self, thread: str, context: Any) -> RunnableConfig:
        given: dict[str, Any] = dict(self._given_config)
        own = {name: value for name, value in _flat(context).items() if _may_configure(name)}
        given["configurable"] = {
            **own,
            **(given.get("configurable") or {}),
            "thread_id": thread,
            "checkpoint_ns": "",
        }
        return given  # type: ignore[return-value]

    async def shape(self, run: Run) -> Shape:
        """What is known of the graph of a run. A factory is called for that."""
        if self._shape is not None:
            return self._shape
        async with self._source.open(
            self._config(run.thread, run.context), context=dict(run.context)
        ) as graph:
            return Shape(graph, input=self._input)

    def _saver(self, graph: Graph) -> Saver:
        saver = self._checkpointer
        if saver is None:
            saver = own_saver(graph)
        if saver is None:
            saver = self._beside
        assert saver is not None, "the agent is not served"
        return saver


_LANGGRAPHS: Final = ("thread_id", "run_id", "task_id", "assistant_id", "graph_id")
_PREFIXES: Final = ("__", "checkpoint", "langgraph_", "threadwire")


def _flat(context: Any) -> dict[str, Any]:
    """What a client sent along, the members of its `config` beside the rest."""
    config = context.get("config")
    return {**(config if isinstance(config, dict) else {}), **context}


def _may_configure(name: str) -> bool:
    """Clients must not reach what is LangGraph's own or ours, such as another thread's checkpoints."""
    return name not in _LANGGRAPHS and not name.startswith(_PREFIXES)


def _declared(context: Any) -> frozenset[str]:
    """The names of the tools that a client sent along."""
    tools = context.get("tools")
    if isinstance(tools, dict):
        return frozenset(tools)
    if isinstance(tools, list):
        return frozenset(
            tool["name"] for tool in tools if isinstance(tool, dict) and isinstance(tool.get("name"), str)
        )
    return frozenset()


def _read_messages(state: dict[str, Json], name: str) -> dict[str, Json]:
    """A first state without system messages, which are not for clients to write.

    Messages may also be in the form `{role, content}`. Raises Refused for what is no message.
    """
    if name not in state:
        return state
    messages = state[name]
    if type(messages) is not list:
        raise Refused("invalid-frame", "messages are a list", f"state.{name}")
    kept = []
    for place, item in enumerate(messages):
        by_role = type(item) is dict and "role" in item and "type" not in item
        try:
            message = convert_to_messages([item])[0] if by_role else message_from_json(plain(item))
        except (ValueError, TypeError, AttributeError, NotImplementedError) as error:
            raise Refused("invalid-frame", str(error)[:300], f"state.{name}.{place}") from None
        if not isinstance(message, SystemMessage):
            kept.append(message_to_json(message) if by_role else item)
    return {**state, name: kept}
