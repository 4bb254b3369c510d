"""A graph on two nodes whose owner is stopped in the middle of a superstep: nobody reads its checkpoints."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import anyio
import asyncpg
import httpx
import pytest

from tests.support.cluster import Node, cluster
from tests.support.postgresql import new_database
from tests.support.server import Client
from tests.support.stock_client import PROTOCOLS, body
from tests.support.streams import post

pytestmark = pytest.mark.anyio

GRAPH = """
import asyncio, operator, os, uuid
from typing import Annotated
from langchain_core.messages import AIMessage
from langgraph.graph import END, START, MessagesState, StateGraph


class State(MessagesState):
    steps: Annotated[list[str], operator.add]


async def first(state: State):
    return {"steps": ["first"]}


async def slow(state: State):
    with open("slow", "a") as file:
        file.write(f"{os.getpid()}\\n")
    while not os.path.exists("go"):
        await asyncio.sleep(0.02)
    return {"steps": [f"slow-{os.getpid()}"], "messages": [AIMessage(f"seen {len(state['messages'])}")]}


graph = StateGraph(State)
graph.add_node(first)
graph.add_node(slow)
graph.add_edge(START, "first")
graph.add_edge("first", "slow")
graph.add_edge("slow", END)
"""


async def checkpoints(url: str) -> int:
    connection = await asyncpg.connect(url)
    try:
        return int(await connection.fetchval("SELECT count(*) FROM checkpoints"))
    finally:
        await connection.close()


async def write_stale_checkpoint(url: str, directory: Path) -> None:
    """Adds what an owner that does not know of the next one would."""
    from langgraph.checkpoint.postgres.aio import AsyncPostgresSaver

    names: dict[str, Any] = {}
    source = (directory / "graph.py").read_text()
    exec(compile(source, "graph.py", "exec", dont_inherit=True), names)
    async with AsyncPostgresSaver.from_conn_string(url) as saver:
        graph = names["graph"].compile(checkpointer=saver)
        config = {"configurable": {"thread_id": "t"}}
        await graph.aupdate_state(config, {"steps": ["stale"]}, as_node="slow")
        assert "stale" in (await graph.aget_state(config)).values["steps"]


async def until_slow(directory: Path, pid: int, timeout_s: float = 60) -> None:
    """Returns once the process is in the midst of the slow step."""
    with anyio.fail_after(timeout_s):
        while not (directory / "slow").exists() or str(pid) not in (directory / "slow").read_text():
            await asyncio.sleep(0.02)


def let_go(directory: Path) -> None:
    """The slow step ends, wherever it is executed."""
    (directory / "go").touch()


async def shown(client: Client) -> dict[str, Any]:
    view = await client.open("t")
    await client.until_run("t", "completed", timeout_s=120)
    assert isinstance(view.state, dict)
    return view.state


async def test_a_paused_owners_checkpoint_is_an_orphan_that_nobody_reads(tmp_path: Path) -> None:
    pytest.importorskip("langgraph.checkpoint.postgres")
    (tmp_path / "graph.py").write_text(GRAPH)
    url = new_database()
    nodes = [Node(url, tmp_path / f"node-{number}.log", "--lease-s", "1") for number in range(2)]
    for node in nodes:
        node._args = ["serve", "graph.py:graph", "--store", url, "--lease-s", "1"]
    try:
        for node in nodes:
            await node.start()
        old, new = nodes
        async with await old.connect() as client:
            await client.open("t")
            await client.say("t", "c1", "hello")
            assert old.process is not None
            await until_slow(tmp_path, old.process.pid)
            old.pause()
        let_go(tmp_path)
        async with new.client() as client:
            state = await shown(client)
        assert new.process is not None
        steps = ["first", f"slow-{new.process.pid}"]
        assert state["steps"] == steps
        assert [message["type"] for message in state["messages"]] == ["human", "ai"]

        before = await checkpoints(url)
        old.resume()
        # It goes on with its superstep, finds that it is fenced, and follows.
        async with old.client() as client:
            assert await shown(client) == state
        # What it may have had time for: the newest checkpoint of all is a stale one.
        await write_stale_checkpoint(url, tmp_path)
        assert await checkpoints(url) > before

        async with old.client() as client:
            await client.open("t")
            await client.until(lambda: client.views["t"].seq >= 0)
            await client.say("t", "c2", "again")
            await client.until(
                lambda: client.commands.get("c2") and client.commands["c2"].status == "applied", 60
            )
            await client.until_run("t", "completed", timeout_s=120)
            await client.until(lambda: len(client.views["t"].state["messages"]) == 4, 60)
            state = client.views["t"].state
        assert state["steps"] == [*steps, "first", state["steps"][-1]]
        assert state["messages"][-1]["content"] == "seen 3"
        for node in nodes:
            assert "Traceback" not in node.log(), node.log()
    finally:
        for node in nodes:
            if node.process is not None:
                node.resume()
                await node.kill()


@pytest.mark.parametrize("end", ["kill", "stop"])
async def test_http_streams_of_another_node_see_a_graph_to_its_end_though_its_owner_goes(
    tmp_path: Path, end: str
) -> None:
    pytest.importorskip("langgraph.checkpoint.postgres")
    (tmp_path / "graph.py").write_text(GRAPH)
    nodes = cluster(tmp_path, new_database(), 2, "--drain-s", "0.2", target="graph.py:graph")
    async with nodes as (owner, other), httpx.AsyncClient(timeout=60) as http, owner.client() as client:
        for protocol in PROTOCOLS:
            view = await client.open(protocol)
            await client.until(lambda view=view: view.seq >= 0)  # type: ignore[misc]
        assert owner.process is not None
        assert other.process is not None
        async with (
            post(other, http, body("hello", threadId=PROTOCOLS[0]), protocol=PROTOCOLS[0]) as one,
            post(other, http, body("hello", threadId=PROTOCOLS[1]), protocol=PROTOCOLS[1]) as two,
        ):
            await until_slow(tmp_path, owner.process.pid)
            if end == "kill":
                await owner.kill()
            else:
                assert await owner.stop() == 0
            let_go(tmp_path)
            for stream, thread in ((one, PROTOCOLS[0]), (two, PROTOCOLS[1])):
                await stream.end()
                assert stream.errors == []
                state = (await other.state(thread))["state"]
                assert stream.reader.state == state
                assert state["steps"] == ["first", f"slow-{other.process.pid}"]
                assert [message["type"] for message in state["messages"]] == ["human", "ai"]
        for node in (owner, other):
            assert "Traceback" not in node.log(), node.log()
