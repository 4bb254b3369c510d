"""The graph of an object, and the graphs that factories of all kinds make."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from langchain_core.runnables import RunnableConfig, RunnableLambda
from langgraph.func import entrypoint
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.pregel import Pregel
from langgraph.runtime import Runtime
from langgraph.store.memory import InMemoryStore
from langgraph_sdk.runtime import ServerRuntime

from threadwire_agents.langgraph.source import FactoryRuntime, GraphSource, graph_source

pytestmark = pytest.mark.anyio


def builder() -> StateGraph[MessagesState]:
    graph = StateGraph(MessagesState)
    graph.add_node("hello", lambda state: {"messages": [("ai", "hello")]})
    graph.add_edge(START, "hello")
    return graph


GRAPH = builder().compile()


def source_of(target: object) -> GraphSource:
    source = graph_source(target)
    assert source is not None
    return source


async def answer(source: GraphSource) -> Any:
    async with source.open({"configurable": {"thread_id": "t"}}) as graph:
        return await graph.ainvoke({"messages": [("human", "hi")]})


# objects


async def test_a_compiled_graph_is_taken_as_it_is() -> None:
    source = source_of(GRAPH)
    assert source.graph is GRAPH
    assert not source.fresh
    async with source.open({}) as one, source.open({}) as other:
        assert one is other is GRAPH


async def test_a_builder_is_compiled_once() -> None:
    source = source_of(builder())
    assert isinstance(source.graph, Pregel)
    async with source.open({}) as graph:
        assert graph is source.graph
    assert [m.content for m in (await answer(source))["messages"]] == ["hi", "hello"]


async def test_an_entrypoint_is_a_graph() -> None:
    @entrypoint()
    async def work(given: dict[str, Any]) -> int:
        return len(given["messages"])

    source = source_of(work)
    assert source.graph is work
    assert await answer(source) == 1


async def test_a_runnable_becomes_a_graph() -> None:
    source = source_of(RunnableLambda(lambda messages: "you said " + messages[-1].content))
    assert isinstance(source.graph, Pregel)
    assert [m.content for m in (await answer(source))["messages"]] == ["hi", "you said hi"]


def test_a_builder_that_does_not_compile_raises() -> None:
    with pytest.raises(ValueError, match="entrypoint"):
        graph_source(StateGraph(MessagesState))


@pytest.mark.parametrize("target", [None, 1, "graph", {}, [], lambda a, b: None, object()])
def test_what_is_neither_graph_nor_factory_has_no_source(target: object) -> None:
    assert graph_source(target) is None


# factories


def plain() -> object:
    return GRAPH


async def later() -> object:
    return GRAPH


def of_a_builder() -> object:
    return builder()


def of_a_runnable() -> object:
    return RunnableLambda(lambda messages: "hello")


@contextlib.contextmanager
def held() -> Iterator[object]:
    yield GRAPH


@contextlib.asynccontextmanager
async def opened() -> AsyncIterator[object]:
    yield GRAPH


async def later_opened() -> object:
    return opened()


@contextlib.asynccontextmanager
async def opened_with(config: RunnableConfig, runtime: ServerRuntime) -> AsyncIterator[object]:
    assert config.get("configurable") == {"thread_id": "t"}
    assert runtime.execution_runtime is runtime
    yield builder()


class Maker:
    async def __call__(self, config: RunnableConfig) -> object:
        return builder()


FACTORIES = [plain, later, of_a_builder, of_a_runnable, held, opened, later_opened, opened_with, Maker()]


@pytest.mark.parametrize("make", FACTORIES, ids=lambda make: getattr(make, "__name__", "Maker"))
async def test_factories_of_all_kinds_give_graphs(make: object) -> None:
    source = source_of(make)
    assert source.graph is None
    assert source.fresh
    for _ in range(2):
        assert [m.content for m in (await answer(source))["messages"]] == ["hi", "hello"]


async def test_a_factory_is_called_for_each_use_and_left_after_it() -> None:
    log: list[str] = []

    @contextlib.asynccontextmanager
    async def make(config: RunnableConfig) -> AsyncIterator[object]:
        name = config["configurable"]["thread_id"]
        log.append(f"open {name}")
        yield builder()
        log.append(f"close {name}")

    source = source_of(make)
    assert log == []
    async with source.open({"configurable": {"thread_id": "a"}}) as one:
        async with source.open({"configurable": {"thread_id": "b"}}) as other:
            assert one is not other
        assert log == ["open a", "open b", "close b"]
    assert log == ["open a", "open b", "close b", "close a"]


async def test_a_factory_can_change_its_config_and_not_the_runs() -> None:
    def make(config: RunnableConfig) -> object:
        config["configurable"]["model"] = "large"
        config["tags"].append("mine")
        return GRAPH

    config = RunnableConfig(configurable={"thread_id": "t"}, tags=[])
    async with source_of(make).open(config):
        pass
    assert config == {"configurable": {"thread_id": "t"}, "tags": []}


async def test_a_config_without_configurable_gets_one() -> None:
    seen = []

    def make(config: RunnableConfig) -> object:
        seen.append(config["configurable"].get("model"))
        return GRAPH

    async with source_of(make).open({}):
        pass
    assert seen == [None]


async def test_the_runtime_tells_what_the_graph_is_wanted_for() -> None:
    seen: list[FactoryRuntime] = []

    def make(runtime: Runtime[Any]) -> object:
        assert isinstance(runtime, FactoryRuntime)
        seen.append(runtime)
        return GRAPH

    store = InMemoryStore()
    source = source_of(make)
    async with source.open({}, context={"user": "ada"}, store=store):
        pass
    async with source.open({}, access="threads.read"):
        pass
    run, read = seen
    assert isinstance(run, Runtime)
    assert (run.access_context, run.context, run.store, run.user) == (
        "threads.create_run",
        {"user": "ada"},
        store,
        None,
    )
    assert run.execution_runtime is run
    assert (read.access_context, read.context, read.store) == ("threads.read", None, None)
    assert read.execution_runtime is None
    with pytest.raises(PermissionError, match="no user is known"):
        run.ensure_user()


async def unawaited() -> object:
    return {}


async def generated() -> AsyncIterator[object]:
    yield GRAPH


def generated_plainly() -> Iterator[object]:
    yield GRAPH


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: None, "<lambda> returned None; expected a compiled graph"),
        (lambda: 3, "returned an int; expected"),
        (lambda: MessagesState, "returned the class MessagesState; expected"),
        (lambda: plain, "returned a function; expected"),
        (unawaited, "unawaited returned a dict; expected"),
        (generated, r"generated returned a generator \(@contextlib.asynccontextmanager is missing\)"),
        (generated_plainly, r"\(@contextlib.contextmanager is missing\)"),
    ],
)
async def test_what_is_no_graph_is_named(make: object, said: str) -> None:
    with pytest.raises(TypeError, match=said):
        async with source_of(make).open({}):
            pytest.fail("there is nothing to enter")


async def test_what_was_opened_is_closed_where_it_is_no_graph() -> None:
    log: list[str] = []

    @contextlib.asynccontextmanager
    async def make() -> AsyncIterator[object]:
        try:
            yield "no graph"
        finally:
            log.append("closed")

    with pytest.raises(TypeError, match="make returned a str"):
        async with source_of(make).open({}):
            pass
    assert log == ["closed"]


async def test_what_a_factory_raises_is_raised() -> None:
    def make() -> object:
        raise OSError("no model")

    with pytest.raises(OSError, match="no model"):
        async with source_of(make).open({}):
            pass


@contextlib.asynccontextmanager
async def swallowing() -> AsyncIterator[object]:
    with contextlib.suppress(BaseException):
        yield GRAPH


@contextlib.contextmanager
def swallowing_plainly() -> Iterator[object]:
    with contextlib.suppress(BaseException):
        yield GRAPH


@pytest.mark.parametrize("make", [swallowing, swallowing_plainly])
@pytest.mark.parametrize("error", [ValueError("the run failed"), asyncio.CancelledError()])
async def test_a_factory_cannot_swallow_the_runs_error(make: object, error: BaseException) -> None:
    with pytest.raises(type(error)) as raised:
        async with source_of(make).open({}):
            raise error
    assert raised.value is error


async def test_a_factorys_own_error_replaces_the_runs() -> None:
    @contextlib.asynccontextmanager
    async def make() -> AsyncIterator[object]:
        try:
            yield GRAPH
        finally:
            raise OSError("can't close")

    with pytest.raises(OSError, match="can't close") as raised:
        async with source_of(make).open({}):
            raise ValueError("the run failed")
    assert isinstance(raised.value.__context__, ValueError)
