"""The Python client against the real server, through everything that may happen to either."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import anyio
import pytest

import threadwire
from tests.support.server import running
from threadwire.client import connect
from threadwire_agents.demos.scripted import SetTitle

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("encoding", ["json", "msgpack"])
async def test_a_message_is_durable_when_send_returns_and_its_answer_arrives(
    tmp_path: Path, encoding: Any
) -> None:
    async with running(tmp_path) as server, connect(server.ws, encoding=encoding) as connection:
        assert "scripted" in connection.agents
        async with connection.open("t", agent="scripted") as thread:
            assert thread.state == {}
            receipt = await thread.send(threadwire.AddMessage.text("hello there"))
            with anyio.fail_after(60):
                seq = await receipt.applied()
                await thread.idle()
            assert [m["content"] for m in thread.state["messages"]] == ["hello there"] * 2
            assert thread.position is not None
            assert seq <= thread.position.seq
            assert thread.run is not None
            assert thread.run.status == "completed"
            await (await thread.send(SetTitle(title="x"))).applied()
            assert thread.state["title"] == "x"
            assert (await server.state("t"))["state"] == thread.state


async def test_the_client_goes_on_through_kill_9_and_restart_of_the_server(tmp_path: Path) -> None:
    async with running(tmp_path) as server:
        port = server.port
        seen: list[Any] = []
        async with connect(server.ws) as connection, connection.open("t", agent="scripted") as thread:
            await thread.send(threadwire.AddMessage.text("count 3000 every 1"))
            async for state in thread.states():
                seen.append(state)
                if len(seen) == 50:
                    break
            partial = seen[-1]["messages"][-1]["content"]
            await server.kill()
            async with anyio.create_task_group() as group:
                # Sent while the server is down: it goes out when it is back.
                group.start_soon(thread.send, SetTitle(title="while down"))
                await server.start(port=port)
            with anyio.fail_after(60):
                async for state in thread.states():
                    if state.get("title") == "while down":
                        break
            assert thread.state["messages"][1]["content"].startswith(partial)
            async for run in thread.runs():
                if run is not None and run.status in ("failed", "completed"):
                    break
            receipt = await thread.send(threadwire.AddMessage.text("and on"))
            with anyio.fail_after(60):
                await receipt.applied()
                await thread.idle()
            assert thread.state["messages"][-1]["content"] == "and on"
            assert (await server.state("t"))["state"] == thread.state


async def test_a_failing_run_and_a_cancelled_one_are_told_and_the_thread_goes_on(tmp_path: Path) -> None:
    async with (
        running(tmp_path) as server,
        connect(server.ws) as connection,
        connection.open("t", agent="scripted") as thread,
    ):
        with anyio.fail_after(60):
            await thread.send(threadwire.AddMessage.text("fail now"))
            await thread.wait(lambda state: len(state.get("messages", ())) == 2)
            await thread.idle()
            assert thread.run is not None
            assert thread.run.status == "failed"
            assert thread.run.error is not None
            assert thread.run.error.message == "scripted failure"
            await (await thread.send(threadwire.AddMessage.text("hang on"))).applied()
            await thread.cancel()
            await thread.idle()
            assert thread.run.status == "cancelled"
            with pytest.raises(threadwire.CommandError) as refused:
                await thread.send({"type": "set-title", "title": 7})
            assert refused.value.field == "command.title"


async def test_two_clients_see_each_others_commands(tmp_path: Path) -> None:
    async with (
        running(tmp_path) as server,
        connect(server.ws) as one,
        connect(server.ws, encoding="json") as two,
        one.open("t", agent="scripted") as mine,
        two.open("t") as theirs,
    ):
        with anyio.fail_after(60):
            await (await mine.send(SetTitle(title="mine"))).applied()
            await theirs.wait(lambda state: state.get("title") == "mine")
            await (await theirs.send(SetTitle(title="theirs"))).applied()
            await mine.wait(lambda state: state.get("title") == "theirs")
        assert mine.position == theirs.position
