"""What agents raise ends their run, never the server."""

from __future__ import annotations

import pytest

import threadwire
from tests.support.engine import Commands, engine, follow, say
from threadwire.engine.settings import Settings

pytestmark = pytest.mark.anyio


class Leave(threadwire.Command, tag="leave"):
    """Handled by what raises."""


@pytest.mark.parametrize("leaving", [SystemExit(3), KeyboardInterrupt(), ValueError("wrong")], ids=repr)
@pytest.mark.parametrize("blocking", [False, True])
async def test_what_an_agent_raises_fails_its_run_alone(leaving: BaseException, blocking: bool) -> None:
    @threadwire.agent(name="leaves")
    async def leaves(run: threadwire.Run) -> None:
        run.state["began"] = True
        raise leaving

    @threadwire.agent(name="leaves")
    def leaves_blocking(run: threadwire.Run) -> None:
        run.state["began"] = True
        raise leaving

    agent = leaves_blocking if blocking else leaves

    @agent.on(Leave)
    async def leave(run: threadwire.Run, command: Leave) -> None:
        raise leaving

    async with engine(agent, settings=Settings(show_errors=True)) as threads:
        thread = await threads.get("t")
        reader, commands = await follow(thread), Commands()
        await thread.submit("a", say("x"), strategy=None, watcher=commands)
        run = await reader.until_run("failed")
        assert run.error is not None
        assert run.error.code == "agent-failed"
        assert type(leaving).__name__ in run.error.message
        assert reader.state == {"began": True}
        await thread.submit("b", {"type": "leave"}, strategy=None, watcher=commands)
        refused = await commands.until("b", "rejected")
        assert refused.error is not None
        assert refused.error.code == "agent-failed"
