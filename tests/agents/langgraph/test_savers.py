"""The checkpointer beside the store: one file for all agents, as durable as the store itself."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypedDict

import pytest
from langchain_core.messages import AIMessage
from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer
from langgraph.checkpoint.sqlite import SqliteSaver
from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.types import interrupt

from tests.support.engine import Commands, engine, follow, say
from tests.support.graph_client import client_of, resume
from threadwire.core.errors import StoreUnavailable
from threadwire.engine.threads import Threads
from threadwire.stores.memory import MemoryStore
from threadwire.stores.sqlite import SQLiteStore
from threadwire_agents.checkpoints_file import checkpoints_file
from threadwire_agents.langgraph import LangGraphAgent
from threadwire_agents.langgraph.savers import saver_beside

pytestmark = pytest.mark.anyio


def graph(saver: Any = None) -> Any:
    builder: StateGraph[Any, Any, Any, Any] = StateGraph(MessagesState)

    async def talk(state: Any) -> Any:
        return {"messages": [AIMessage(f"answer {len(state['messages'])}")]}

    builder.add_node("talk", talk)
    builder.add_edge(START, "talk")
    builder.add_edge("talk", END)
    return builder.compile(checkpointer=saver)


async def talk(threads: Threads, thread: str, agent: str) -> list[str]:
    opened = await threads.get(thread, agent=agent)
    reader, commands = await follow(opened), Commands()
    id = f"c{opened.head}"
    await opened.submit(id, say("hi"), strategy=None, watcher=commands)
    await commands.until(id, "applied")
    await opened.runner.ended()
    state: Any = reader.state
    return [message["content"] for message in state["messages"]]


async def test_it_is_a_file_beside_the_store_as_durable_as_that(tmp_path: Path) -> None:
    async with saver_beside(f"sqlite:///{tmp_path / 'my.threads.sqlite'}") as saver:
        assert isinstance(saver, AsyncSqliteSaver)
        assert (tmp_path / "my.threads-checkpoints.sqlite").exists()
        pragmas = {}
        for name in ("journal_mode", "synchronous", "fullfsync", "busy_timeout"):
            async with saver.conn.execute(f"PRAGMA {name}") as cursor:
                pragmas[name] = (await cursor.fetchone() or [None])[0]
        assert pragmas == {"journal_mode": "wal", "synchronous": 2, "fullfsync": 1, "busy_timeout": 10000}


async def test_beside_a_store_in_memory_it_is_in_memory() -> None:
    async with MemoryStore() as store, saver_beside(store.url) as saver:
        assert isinstance(saver, InMemorySaver)


async def test_agents_share_it_and_it_closes_with_the_last(tmp_path: Path) -> None:
    store = SQLiteStore(tmp_path / "t.db")
    agents = LangGraphAgent(graph(), name="one"), LangGraphAgent(graph(), name="two")
    for answers in (["hi", "answer 1"], ["hi", "answer 1", "hi", "answer 3"]):
        async with engine(*agents, store=store) as threads:
            assert agents[0]._beside is agents[1]._beside
            for agent in agents:
                assert await talk(threads, agent.name, agent.name) == answers
        assert agents[0]._beside is None
    with sqlite3.connect(checkpoints_file(str(tmp_path / "t.db"))) as file:
        rows = file.execute("SELECT DISTINCT thread_id FROM checkpoints ORDER BY 1").fetchall()
    file.close()
    assert rows == [("one",), ("two",)]


async def test_a_deleted_thread_leaves_no_checkpoints(tmp_path: Path) -> None:
    kept = InMemorySaver()
    own = InMemorySaver()
    made = InMemorySaver()
    agents = {
        "beside": LangGraphAgent(graph(), name="beside"),
        "given": LangGraphAgent(lambda: graph(), name="given", checkpointer=kept),
        "own": LangGraphAgent(graph(own), name="own"),
        "made": LangGraphAgent(lambda: graph(made), name="made"),
    }
    async with engine(*agents.values(), store=SQLiteStore(tmp_path / "t.db")) as threads:
        for name in agents:
            await talk(threads, name, name)
            assert await threads.delete(name)
            saver = {"given": kept, "own": own, "made": made}.get(name) or agents["beside"]._beside
            assert saver is not None
            assert [found async for found in saver.alist({"configurable": {"thread_id": name}})] == []


class NoAsync(BaseCheckpointSaver[Any]):
    """As PostgresSaver, it leaves the async methods to the base class."""


@pytest.fixture(params=["sqlite", "other"])
def no_async(request: pytest.FixtureRequest) -> Iterator[BaseCheckpointSaver[Any]]:
    if request.param == "other":
        yield NoAsync()
        return
    with closing(sqlite3.connect(":memory:")) as connection:
        yield SqliteSaver(connection)


def test_a_checkpointer_that_has_no_async_side_is_refused(no_async: BaseCheckpointSaver[Any]) -> None:
    for make in (
        lambda: LangGraphAgent(graph(no_async)),
        lambda: LangGraphAgent(graph(), checkpointer=no_async),
    ):
        with pytest.raises(ValueError, match=f"{type(no_async).__name__} can't be used asynchronously"):
            make()


async def test_a_factorys_checkpointer_that_has_no_async_side_fails_the_run(
    no_async: BaseCheckpointSaver[Any],
) -> None:
    async with client_of(LangGraphAgent(lambda: graph(no_async))) as client:
        await client.do("hi", "failed")
        assert "can't be used asynchronously" in client.run


async def test_no_file_is_made_for_a_graph_with_a_checkpointer_of_its_own(tmp_path: Path) -> None:
    agent = LangGraphAgent(graph(InMemorySaver()), name="own")
    async with engine(agent, store=SQLiteStore(tmp_path / "t.db")) as threads:
        await talk(threads, "t", "own")
    assert not checkpoints_file(str(tmp_path / "t.db")).exists()


async def test_a_run_fails_while_the_file_is_locked_and_the_thread_stays_usable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("threadwire_agents.langgraph.savers._BUSY_S", 0.05)
    agent = LangGraphAgent(graph(), name="g")
    async with engine(agent, store=SQLiteStore(tmp_path / "t.db")) as threads:
        thread = await threads.get("t")
        reader, commands = await follow(thread), Commands()
        other = sqlite3.connect(checkpoints_file(str(tmp_path / "t.db")))
        other.execute("BEGIN IMMEDIATE")
        await thread.submit("a", say("hi"), strategy=None, watcher=commands)
        await reader.until_run("failed")
        assert (await commands.until("a", "rejected")).error is not None
        other.rollback()
        other.close()
        await thread.submit("b", say("again"), strategy=None, watcher=commands)
        await reader.until_run("completed")
        assert (await commands.until("b", "applied")).error is None
        state: Any = reader.state
        assert [message["content"] for message in state["messages"]] == ["again", "answer 1"]


async def test_a_file_that_is_no_database_is_told_of_by_its_name(tmp_path: Path) -> None:
    file = checkpoints_file(str(tmp_path / "t.db"))
    file.write_bytes(b"something else " * 100)
    with pytest.raises(StoreUnavailable, match=r"t-checkpoints\.db can't be opened"):
        async with engine(LangGraphAgent(graph(), name="g"), store=SQLiteStore(tmp_path / "t.db")):
            pass


@dataclass
class Item:
    name: str


@dataclass
class Note:
    text: str


class State(MessagesState):
    item: Item


class Inner(TypedDict):
    note: Note


async def test_in_strict_mode_values_come_back_as_what_the_schemas_say_they_are(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("langgraph._internal._serde.STRICT_MSGPACK_ENABLED", True)
    strict = InMemorySaver(serde=JsonPlusSerializer(allowed_msgpack_modules=None))
    seen: list[Any] = []

    async def write(state: Inner) -> Any:
        return {"note": Note("a note")}

    async def ask(state: Inner) -> Any:
        seen.append(state["note"])
        interrupt("go on?")

    async def talk(state: State) -> Any:
        seen.append(state.get("item"))
        return {"item": Item("an item"), "messages": [AIMessage("done")]}

    builder = StateGraph(State)
    builder.add_node("sub", StateGraph(Inner).add_sequence([write, ask]).add_edge(START, "write").compile())
    builder.add_node("talk", talk)
    builder.add_edge(START, "sub")
    builder.add_edge("sub", "talk")
    async with client_of(LangGraphAgent(builder.compile(), checkpointer=strict)) as client:
        for _ in range(2):
            await client.do("hi", "waiting")
            await client.do(resume(dict.fromkeys(client.interrupts, "yes")), "completed")
    note, item = Note("a note"), Item("an item")
    assert seen == [note, note, None, note, note, item]
