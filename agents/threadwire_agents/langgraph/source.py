"""Where a hosted agent's graph comes from: an object that is one or becomes one, or a factory.

    source = graph_source(target)
    async with source.open(config) as graph:
        ...

A factory is called anew for each use, so what it opens (connections to tools, say) lives as long as
the run. The checkpointer is none of this module's business.
"""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator
from contextlib import (
    AbstractAsyncContextManager,
    AbstractContextManager,
    AsyncExitStack,
    asynccontextmanager,
    nullcontext,
)
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, cast

from langchain_core.runnables import Runnable, RunnableConfig
from langgraph.graph import StateGraph
from langgraph.pregel import Pregel
from langgraph.runtime import Runtime
from langgraph.store.base import BaseStore

from .factory import Factory, read_factory
from .runnable import graph_of_runnable

Graph: TypeAlias = Pregel[Any, Any, Any, Any]
Access: TypeAlias = Literal["threads.create_run", "threads.update", "threads.read", "assistants.read"]
"""What a graph is wanted for: to run it, to write or read a thread's state, to look at the graph itself."""

_EXPECTED = "a compiled graph, a StateGraph, a LangChain runnable, or a function that returns one"


@dataclass(frozen=True, kw_only=True)  # as its base is, which checkers can't see
class FactoryRuntime(Runtime[Any]):  # type: ignore[misc]
    """What a factory's `runtime` is: a `langgraph.runtime.Runtime` that answers like a `ServerRuntime`.

    Attributes:
        context: the run's context, as it was given; None where the graph isn't run.
        store: the store the graph will have, or None.
        access_context: what the graph is wanted for.
        user: None: the server has no users of its own.
    """

    access_context: Access = "threads.create_run"
    user: None = None

    @property
    def execution_runtime(self) -> FactoryRuntime | None:
        """Itself where the graph is going to be run, else None."""
        return self if self.access_context == "threads.create_run" else None

    def ensure_user(self) -> Any:
        """Raises PermissionError: there is no user."""
        raise PermissionError(f"no user is known here (access_context={self.access_context!r})")


class GraphSource:
    """Gives the graph to call, for each use.

    Attributes:
        graph: the graph, where it is always the same one; None for a factory.
    """

    def __init__(self, graph: Graph | None, factory: Factory | None = None) -> None:
        assert (graph is None) != (factory is None)
        self.graph = graph
        self._factory = factory
        self._held: AbstractAsyncContextManager[Graph] | None = None if graph is None else nullcontext(graph)

    @property
    def fresh(self) -> bool:
        """Whether each `open` may give another graph object."""
        return self._factory is not None

    def open(
        self,
        config: RunnableConfig,
        *,
        access: Access = "threads.create_run",
        context: object = None,
        store: BaseStore | None = None,
    ) -> AbstractAsyncContextManager[Graph]:
        """Entered, the graph to call; left, what a factory opened is closed. Both in one task.

        A factory gets a copy of `config` and a runtime of `access`, `context` and `store`.

        Raises (when entered):
            TypeError: a factory gave something else than a graph.
            Exception: whatever a factory raises.
        """
        if self._held is not None:
            return self._held
        runtime = FactoryRuntime(context=context, store=store, access_context=access)
        return self._make(config, runtime)

    @asynccontextmanager
    async def _make(self, config: RunnableConfig, runtime: FactoryRuntime) -> AsyncIterator[Graph]:
        assert self._factory is not None
        raised: BaseException | None = None
        async with AsyncExitStack() as stack:
            made = self._factory(_own(config), runtime)
            if inspect.isawaitable(made):
                made = await made
            if isinstance(made, AbstractAsyncContextManager):
                made = await stack.enter_async_context(made)
            elif isinstance(made, AbstractContextManager):
                made = stack.enter_context(made)
            graph = as_graph(made)
            if graph is None:
                raise TypeError(
                    f"{_name(self._factory.make)} returned {_describe(made)}; expected {_EXPECTED}"
                )
            try:
                yield graph
            except BaseException as error:
                raised = error
                raise
        if raised is not None:
            # The factory's context manager swallowed it: what it does about an error of the run is its
            # own business, but the run has failed all the same.
            raise raised


def graph_source(target: object) -> GraphSource | None:
    """The source that `target` is good for, or None.

    `target`: a compiled graph (also a functional API's entrypoint), a StateGraph, another LangChain
    runnable, or a factory of one: a callable of no arguments, a config, a runtime, or both, that returns
    it, a coroutine of it, or a sync or async context manager of it.

    Raises:
        ValueError: a StateGraph that doesn't compile; LangGraph's message.
        TypeError: a runnable whose input can't be made of messages.
    """
    graph = as_graph(target)
    if graph is not None:
        return GraphSource(graph)
    factory = read_factory(target)
    return None if factory is None else GraphSource(None, factory)


def as_graph(found: object) -> Graph | None:
    """The graph that an object is or becomes, or None. Raises as `graph_source` does."""
    if isinstance(found, Pregel):
        return found
    if isinstance(found, StateGraph):
        return found.compile()
    if isinstance(found, Runnable):
        return graph_of_runnable(found)
    return None


def _own(config: RunnableConfig) -> RunnableConfig:
    """A copy that a factory may change without changing the run's own."""
    copy: dict[str, Any] = {
        key: dict(value) if isinstance(value, dict) else list(value) if isinstance(value, list) else value
        for key, value in config.items()
    }
    copy.setdefault("configurable", {})
    return cast(RunnableConfig, copy)


def _name(make: object) -> str:
    return str(getattr(make, "__qualname__", None) or f"a {type(make).__qualname__}")


def _describe(made: object) -> str:
    if made is None:
        return "None"
    if inspect.isgenerator(made) or inspect.isasyncgen(made):
        manager = "asynccontextmanager" if inspect.isasyncgen(made) else "contextmanager"
        return f"a generator (@contextlib.{manager} is missing)"
    if isinstance(made, type):
        return f"the class {made.__qualname__}"
    kind = type(made).__qualname__
    return f"{'an' if kind[0] in 'AEIOUaeiou' else 'a'} {kind}"
