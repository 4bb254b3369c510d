"""How the command line comes to agents from LangGraph's objects: the entry point of `threadwire.hosts`.

It is asked about every target, so it doesn't import LangGraph to say no: an object can only be a graph
where the module of its class is loaded.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable

from threadwire import Agent

from .factory import read_factory


def host(target: object, name: str, factory: Callable[[], object] | None = None) -> Agent | None:
    """An agent of a graph, a StateGraph, a LangChain runnable, or a factory that says it is one; else None.

    A factory says so by what it takes: a parameter annotated `RunnableConfig`, `ServerRuntime` or
    `Runtime`, or named `config` or `runtime`. With `factory`, `target` is a sample of what it returns.

    Raises:
        ImportError: LangGraph is needed and isn't installed.
        TypeError: a runnable whose input can't be made of messages.
        ValueError: a StateGraph that doesn't compile.
    """
    if factory is None and not _may_be_graph(target):
        taken = None if isinstance(target, type) else read_factory(target)
        return _agent(target, name) if taken is not None and taken.declared else None
    return _host_graph(target, name, factory)


def host_entry(target: object, name: str, factory: Callable[[], object] | None = None) -> Agent | None:
    """As `host`, for what is known to be a graph or a factory: one of a single argument is taken as well."""
    if factory is None and not _may_be_graph(target):
        taken = read_factory(target)
        # One without arguments comes back with what it returned.
        return None if taken is None or taken.plain else _agent(target, name)
    return _host_graph(target, name, factory)


def _host_graph(target: object, name: str, factory: Callable[[], object] | None) -> Agent | None:
    if factory is None or not _may_be_graph(target):
        return _agent(target, name) if factory is None else None
    from .source import as_graph

    return _agent(factory, name) if as_graph(target) is not None else None


def _agent(target: object, name: str) -> Agent:
    try:
        importlib.import_module("langgraph.pregel")
        from .agent import LangGraphAgent
    except ModuleNotFoundError as missing:
        if (missing.name or "").partition(".")[0] not in ("langgraph", "langchain_core"):
            raise
        raise ImportError(f"{missing.name} isn't installed; install threadwire[langgraph]") from None
    return LangGraphAgent(target, name=name)


def _may_be_graph(target: object) -> bool:
    for module, kind in (("langchain_core.runnables", "Runnable"), ("langgraph.graph.state", "StateGraph")):
        loaded = getattr(sys.modules.get(module), kind, None)
        if loaded is not None and isinstance(target, loaded):
            return True
    return False
