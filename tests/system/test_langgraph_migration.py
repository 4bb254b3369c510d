"""`threadwire migrate` with graphs: what they remember, ask and have branched from comes along."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import anyio
import pytest

from tests.support.postgresql import new_database
from tests.support.server import View, running
from tests.system.test_langgraph_process import GRAPH, counted, texts
from threadwire.cli.main import main
from threadwire_agents.langgraph.savers import saver_beside

pytestmark = pytest.mark.anyio


async def test_a_graph_goes_on_from_its_checkpoints_in_the_other_store(tmp_path: Path) -> None:
    (tmp_path / "graphs.py").write_text(GRAPH)
    graph = f"{tmp_path / 'graphs.py'}:graph"
    source, target = f"sqlite:///{tmp_path / 'threads.db'}", new_database()
    view = View()
    async with running(tmp_path, graph, store=source) as server, server.client() as client:
        client.views["t"] = view
        await client.open("t")
        for id, text in (("a", "count 2"), ("b", "count 3")):
            view.run = None
            await client.say("t", id, text)
            await client.until_run("t", "completed")
        view.run = None
        await client.say("t", "c", "ask 4")
        await client.until_run("t", "waiting")
    assert await anyio.to_thread.run_sync(lambda: main(["migrate", source, target])) == 0
    assert await _checkpoints(target) == await _checkpoints(source)
    async with running(tmp_path, graph, store=target) as server, server.client() as client:
        client.views["t"] = view
        view.run = None
        await client.open("t")
        await client.until_run("t", "waiting")
        asked = view.state["threadwire"]["interrupts"]
        body: dict[str, Any] = {"type": "resume", "answers": dict.fromkeys(asked, "yes")}
        await client.send({"type": "command", "thread": "t", "id": "d", "command": body})
        await client.until_run("t", "completed")
        assert texts(view) == ["count 2", counted(2), "count 3", counted(3), "ask 4", counted(4)]
        assert view.state["log"] == ["noted m-a", "noted m-b", "noted m-c", "answered yes"]
        view.run = None
        message = {"role": "user", "parts": [{"type": "text", "text": "count 1"}], "id": "m-e"}
        body = {"type": "add-message", "message": message, "sourceId": "m-b"}  # from a checkpoint of before
        await client.send({"type": "command", "thread": "t", "id": "e", "command": body})
        await client.until_run("t", "completed")
        assert texts(view) == ["count 2", counted(2), "count 1", counted(1)]
        assert view.state["log"] == ["noted m-a", "noted m-e"]
    assert view.snapshots == 1


async def _checkpoints(url: str) -> dict[tuple[str, str], Any]:
    async with saver_beside(url) as saver:
        return {
            (found.config["configurable"]["thread_id"], found.checkpoint["id"]): (
                found.checkpoint,
                found.metadata,
                found.parent_config,
                sorted(found.pending_writes or (), key=repr),
            )
            async for found in saver.alist(None)
        }


async def test_checkpoints_that_can_not_be_copied_end_the_migration_before_any_thread_is(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "graphs.py").write_text(GRAPH)
    source, target = f"sqlite:///{tmp_path / 'threads.db'}", new_database()
    async with (
        running(tmp_path, f"{tmp_path / 'graphs.py'}:graph", store=source) as server,
        server.client() as client,
    ):
        await client.open("t")
        await client.say("t", "a", "count 2")
        await client.until_run("t", "completed")
    file = tmp_path / "threads-checkpoints.db"
    whole = file.read_bytes()
    with sqlite3.connect(file) as connection:
        connection.execute("UPDATE checkpoints SET checkpoint = x'00ff' WHERE rowid % 2")
    connection.close()

    def migrate() -> int:
        return main(["migrate", source, target])

    assert await anyio.to_thread.run_sync(migrate) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert "threads-checkpoints.db" in line
    file.write_bytes(whole)
    assert await anyio.to_thread.run_sync(migrate) == 0
    assert "copied 1 threads" in capsys.readouterr().out
    assert await _checkpoints(target) == await _checkpoints(source)
