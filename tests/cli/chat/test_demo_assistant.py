"""The slash commands against a LangGraph agent with tools and approvals: the demo."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import pytest

import threadwire
from tests.support.live_server import live_server
from threadwire.cli.chat.actions import Actions, question_text, questions
from threadwire.cli.chat.arguments import ChatSettings, websocket_url
from threadwire.cli.chat.command import new_runtime
from threadwire.client import AssistantTransportRuntime, connect, message_text
from threadwire_agents.demos import agents

pytestmark = pytest.mark.anyio


@asynccontextmanager
async def talking(folder: Path, said: list[str]) -> AsyncIterator[tuple[AssistantTransportRuntime, Actions]]:
    app = threadwire.create_app(agents=agents(), store=f"sqlite:///{folder / 'threads.db'}")
    with anyio.fail_after(60):
        async with live_server(app) as (_, port):
            url = websocket_url(f"http://127.0.0.1:{port}")
            settings = ChatSettings(url=url, thread=None, agent="assistant", token=None, attachments=())
            async with connect(url) as connection, new_runtime(connection, "t", settings) as runtime:
                yield runtime, Actions(runtime, said.append, threads=None, new_id=lambda: "new", listed=[])


async def test_tools_approvals_edits_and_branches_of_a_graph(tmp_path: Path) -> None:
    said: list[str] = []
    async with talking(tmp_path, said) as (runtime, actions):

        async def line(text: str) -> None:
            assert await actions.line(text) is None
            await runtime.idle()

        await line("What is 12 * 12?")
        (call,) = [part for part in runtime.messages[-1].content if part.type == "tool-call"]
        assert "144" in str(call.result)
        await line("Send a postcard to Anna from Rome saying hello")
        (value,) = questions(runtime.agent_state).values()
        assert question_text(value) == "Send this postcard to Anna?\n\nhello"
        await line("/no not today")
        assert questions(runtime.agent_state) == {}
        await line("/edit Send a postcard to Bob from Rome saying hello")
        await line("/yes")
        sent = runtime.messages
        assert "Bob" in message_text(sent[-1])
        await line("/branch")
        assert said == ["version 2 of 2"]
        await line("/branch 1")
        assert "Anna" in message_text(runtime.messages[2])
        await line("/branch 2")
        assert [message.id for message in runtime.messages] == [message.id for message in sent]
