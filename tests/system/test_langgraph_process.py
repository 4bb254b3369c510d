"""Graphs served by the real server: killed, stopped and started again in the midst of what they do."""

from __future__ import annotations

import json
import os
import random
import sqlite3
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest

from tests.support.server import Client, Server, View, running

pytestmark = [pytest.mark.anyio, pytest.mark.spec("15.8")]

ROUNDS = min(int(os.environ.get("THREADWIRE_TEST_KILLS", "6")), 200)

GRAPH = '''
import asyncio
import operator
from typing import Annotated, TypedDict

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessageChunk, AnyMessage
from langchain_core.outputs import ChatGenerationChunk
from langgraph.graph import END, START, StateGraph
from langgraph.graph.message import add_messages
from langgraph.types import interrupt


class Counter(BaseChatModel):
    """Counts as far as the last message says, a number in ten milliseconds or, if it says so, quickly."""

    @property
    def _llm_type(self):
        return "counter"

    def _generate(self, messages, **options):
        raise NotImplementedError

    async def _astream(self, messages, stop=None, run_manager=None, **options):
        last = [message for message in messages if message.type == "human"][-1]
        for number in range(int(last.text.split()[-1])):
            yield ChatGenerationChunk(message=AIMessageChunk(content=f"{number} "))
            await asyncio.sleep(0 if "quickly" in last.text else 0.01)


class State(TypedDict):
    messages: Annotated[list[AnyMessage], add_messages]
    log: Annotated[list[str], operator.add]


async def note(state):
    return {"log": [f"noted {state['messages'][-1].id}"]}


async def ask(state):
    if "ask" not in state["messages"][-1].text:
        return {}
    return {"log": [f"answered {interrupt('go on?')}"]}


async def talk(state):
    return {"messages": [await Counter().ainvoke(state["messages"])]}


builder = StateGraph(State)
builder.add_node("note", note)
builder.add_node("ask", ask)
builder.add_node("talk", talk)
builder.add_edge(START, "note")
builder.add_edge("note", "ask")
builder.add_edge("ask", "talk")
builder.add_edge("talk", END)
graph = builder.compile()
nothing = {"a": 1}
'''


WEATHER = "What's the weather in Lisbon, and how much is 15 % of the temperature?"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    path = tmp_path / "project"
    path.mkdir()
    (path / "graphs.py").write_text(GRAPH)
    return path


def counted(number: int) -> str:
    return "".join(f"{each} " for each in range(number))


def texts(view: View) -> list[str]:
    return [message["content"] for message in (view.state or {}).get("messages", [])]


def check_log(server: Server) -> None:
    log = server.log()
    assert "Traceback" not in log, log
    assert "Warning" not in log, log


async def reopen(server: Server, views: dict[str, View]) -> Client:
    """Connects anew and goes on from what was seen: nothing of that may be gone."""
    client = await server.connect()
    client.views = views
    view = views["t"]
    snapshots = view.snapshots
    view.run = None
    await client.open("t")
    await client.until(lambda: view.run is not None)
    assert view.snapshots == snapshots
    return client


async def test_a_run_that_is_killed_goes_on_by_itself_and_loses_and_doubles_nothing(
    project: Path, tmp_path: Path
) -> None:
    dice = random.Random(5)
    view = View()
    views = {"t": view}
    async with running(tmp_path, f"{project / 'graphs.py'}:graph") as server:
        client = await server.connect()
        client.views = views
        await client.open("t")
        for number in range(ROUNDS):
            id, size = f"c{number}", dice.randint(25, 40)
            await client.say("t", id, f"count {size}")
            seen = dice.randint(0, size - 5)
            await _until_shown(client, id, number, seen)
            run = view.run.id
            await server.kill()
            await client.socket.close()
            await server.start()
            client = await reopen(server, views)
            await client.until_run("t", "completed")
            assert view.run.id == run or seen == 0
            assert texts(view)[2 * number :] == [f"count {size}", counted(size)]
            state = await server.state("t")
            assert state["state"] == view.state
        assert view.state["log"] == [f"noted m-c{number}" for number in range(ROUNDS)]
        await client.say("t", "c0", "anything")
        await client.until(lambda: bool(client.errors) or "c0" in client.commands)
        assert len(texts(view)) == 2 * ROUNDS
        await client.socket.close()
        assert await server.stop() == 0
        check_log(server)


async def _until_shown(client: Client, id: str, number: int, seen: int) -> None:
    """Until the command is known, and so many numbers of its answer."""
    await client.until(lambda: id in client.commands and _shown(client.views["t"], number) >= seen)


def _shown(view: View, number: int) -> int:
    shown = texts(view)
    return len(shown[2 * number + 1].split()) if len(shown) > 2 * number + 1 else 0


async def test_a_question_survives_a_kill_and_is_answered_after(project: Path, tmp_path: Path) -> None:
    view = View()
    views = {"t": view}
    async with running(tmp_path, f"{project / 'graphs.py'}:graph") as server:
        async with await server.connect() as client:
            client.views = views
            await client.open("t")
            await client.say("t", "a", "ask 3")
            await client.until_run("t", "waiting")
            run = view.run.id
            asked = view.state["threadwire"]["interrupts"]
            await server.kill()
        await server.start()
        async with await reopen(server, views) as client:
            await client.until_run("t", "waiting")
            assert view.run.id == run
            assert view.state["threadwire"]["interrupts"] == asked
            body = {"type": "resume", "answers": dict.fromkeys(asked, "yes")}
            await client.send({"type": "command", "thread": "t", "id": "b", "command": body})
            await client.until_run("t", "completed")
            assert view.run.id == run
            assert texts(view) == ["ask 3", counted(3)]
            assert view.state["log"] == ["noted m-a", "answered yes"]
        assert await server.stop() == 0
        check_log(server)


async def test_a_stop_leaves_the_run_to_the_next_start(project: Path, tmp_path: Path) -> None:
    view = View()
    views = {"t": view}
    async with running(tmp_path, f"{project / 'graphs.py'}:graph", "--drain-s", "0.2") as server:
        async with await server.connect() as client:
            client.views = views
            await client.open("t")
            await client.say("t", "a", "count 200")
            await client.until(lambda: _shown(view, 0) > 5)
            run = view.run.id
            with anyio.fail_after(60):
                assert await server.stop() == 0
            await server.start()
        async with await reopen(server, views) as client:
            await client.until_run("t", "completed")
            assert view.run.id == run
            assert texts(view) == ["count 200", counted(200)]
        assert await server.stop() == 0
        check_log(server)


async def test_a_run_goes_on_though_its_reader_has_gone_and_another_one_has_stopped(
    project: Path, tmp_path: Path
) -> None:
    async with running(tmp_path, f"{project / 'graphs.py'}:graph") as server:
        async with server.client("json") as stopped, server.client("json") as late:
            gone = await server.connect()
            await gone.open("t")
            await gone.say("t", "warm", "count 100")
            await gone.until_run("t", "completed")
            await stopped.open("t")
            await stopped.until(lambda: stopped.views["t"].seq >= 0)
            stopped.socket.transport.pause_reading()
            await gone.say("t", "a", "count quickly to 20000")
            await gone.until(lambda: len(texts(gone.views["t"])) == 4 and "49 " in texts(gone.views["t"])[-1])
            gone.cut()
            view = await late.open("t")
            await late.until_run("t", "completed", timeout_s=120)
            assert texts(view)[-1] == counted(20_000)
            stopped.socket.transport.resume_reading()
            await stopped.until(lambda: stopped.views["t"].seq == view.seq)
            assert stopped.views["t"].state == view.state
        assert await server.stop() == 0
        check_log(server)


async def test_the_checkpoints_of_a_deleted_thread_are_removed(project: Path, tmp_path: Path) -> None:
    async with running(tmp_path, f"{project / 'graphs.py'}:graph") as server:
        async with await server.connect() as client:
            for thread in ("t", "kept"):
                await client.open(thread)
                await client.say(thread, thread, "count 1")
                await client.until_run(thread, "completed")
        async with httpx.AsyncClient(timeout=60) as http:
            (await http.delete(f"{server.url}/threads/t")).raise_for_status()
        assert await server.stop() == 0
    with sqlite3.connect(tmp_path / "threads-checkpoints.db") as file:
        for table in ("checkpoints", "writes"):
            rows = file.execute(f"SELECT DISTINCT thread_id FROM {table}").fetchall()
            assert rows == [("kept",)]
    file.close()


async def test_a_directory_with_langgraph_json_is_served(project: Path, tmp_path: Path) -> None:
    graphs = {"first": "./graphs.py:graph", "second": "./graphs.py:builder"}
    (project / "langgraph.json").write_text(json.dumps({"dependencies": ["."], "graphs": graphs}))
    async with running(tmp_path, str(project)) as server, await server.connect() as client:
        for agent in graphs:
            view = await client.open(agent, agent=agent)
            await client.say(agent, agent, "count 2")
            await client.until_run(agent, "completed")
            assert texts(view) == ["count 2", counted(2)]
        check_log(server)


@pytest.mark.parametrize(
    ("target", "told"),
    [
        ("{project}/none.py:graph", "none.py"),
        ("no_such_module:graph", "no_such_module"),
        ("{project}/graphs.py:none", "none"),
        ("{project}/graphs.py:nothing", "nothing"),
    ],
)
async def test_what_can_not_be_served_is_told_in_one_line(
    project: Path, tmp_path: Path, target: str, told: str
) -> None:
    server = Server(f"sqlite:///{tmp_path / 'threads.db'}", tmp_path / "log", target.format(project=project))
    with pytest.raises(RuntimeError, match="the server ended"):
        await server.start()
    lines = server.log().strip().splitlines()
    assert len(lines) == 1, lines
    assert told in lines[0]
    assert server.process is not None
    assert server.process.returncode not in (0, None)


async def test_a_file_that_holds_no_checkpoints_is_told_in_one_line(project: Path, tmp_path: Path) -> None:
    (tmp_path / "threads-checkpoints.db").write_bytes(b"not a database" * 100)
    target = f"{project / 'graphs.py'}:graph"
    server = Server(f"sqlite:///{tmp_path / 'threads.db'}", tmp_path / "log", target)
    with pytest.raises(RuntimeError, match="the server ended"):
        await server.start()
    log = server.log()
    assert "threads-checkpoints.db can't be opened" in log
    assert "Traceback" not in log, log


async def test_the_demo_assistant_uses_tools_and_asks_before_it_acts_over_a_restart(tmp_path: Path) -> None:
    view = View()
    views = {"t": view}
    async with running(tmp_path) as server:
        async with await server.connect() as client:
            client.views = views
            await client.open("t")
            await client.say("t", "a", WEATHER)
            await client.until_run("t", "completed")
            kinds = [message["type"] for message in view.state["messages"]]
            assert kinds.count("tool") >= 2
            assert kinds[-1] == "ai"
            assert view.updates > 10
            await client.say("t", "b", 'Send Ada a postcard saying "Hi"')
            await client.until_run("t", "waiting")
            await server.kill()
        await server.start()
        async with await reopen(server, views) as client:
            await client.until_run("t", "waiting")
            (id,) = view.state["threadwire"]["interrupts"]
            answer: Any = {"decisions": [{"type": "approve"}]}
            body = {"type": "resume", "answers": {id: answer}}
            await client.send({"type": "command", "thread": "t", "id": "c", "command": body})
            await client.until_run("t", "completed")
            (card,) = view.state["postcards"]
            assert (card["to"], card["text"]) == ("Ada", "Hi")
        assert await server.stop() == 0
        check_log(server)
