"""The runtimes over HTTP against Threadwire's own routes."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import httpx
import pytest

import threadwire
from tests.support.live_server import live_server
from threadwire.client import (
    AssistantTransportOverHttp,
    DataStreamModel,
    LangChainConverter,
    LocalRuntime,
    ServerThreads,
    ThreadItem,
    ThreadList,
    connect,
    message_text,
)

pytestmark = pytest.mark.anyio


@threadwire.agent
async def talker(run: threadwire.Run) -> None:
    """Answers in LangChain's form; `fail` fails."""
    messages = run.state.setdefault("messages", [])
    for command in run.commands:
        assert isinstance(command, threadwire.AddMessage)
        text = command.message.text
        id = command.message.id or run.new_id()
        messages.append({"type": "human", "id": id, "content": text})
        messages.append({"type": "ai", "id": run.new_id(), "content": ""})
        for token in ("You ", "said ", text):
            messages[-1]["content"] += token
            await run.flush()
        if text == "fail":
            raise threadwire.AgentError("no credit")


@asynccontextmanager
async def serving() -> AsyncIterator[httpx.AsyncClient]:
    app = threadwire.create_app(agents={"talker": talker}, store="memory:")
    with anyio.fail_after(60):
        async with (
            live_server(app) as (_, port),
            httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=None) as client,
        ):
            yield client


def texts(runtime: Any) -> list[str]:
    return [message_text(message) for message in runtime.messages]


@pytest.mark.parametrize("protocol", ["data-stream", "assistant-transport"])
async def test_thread_is_talked_to_over_assistant(protocol: Any) -> None:
    async with (
        serving() as client,
        AssistantTransportOverHttp(
            client,
            f"/assistant?protocol={protocol}",
            converter=LangChainConverter(),
            protocol=protocol,
            thread_id="t",
        ) as runtime,
    ):
        for text in ("one", "two"):
            await runtime.append(text)
            await runtime.idle()
        assert runtime.error is None
        assert texts(runtime) == ["one", "You said one", "two", "You said two"]
        await runtime.append("fail")
        await runtime.idle()
        assert "no credit" in str(runtime.error)
        state = (await client.get("/threads/t/state")).json()["state"]
        assert [each["content"] for each in state["messages"]] == texts(runtime)


async def test_chat_route_answers_a_local_runtime() -> None:
    async with serving() as client, LocalRuntime(DataStreamModel(client), thread_id="chat") as runtime:
        for text in ("one", "two"):
            await runtime.append(text)
        assert texts(runtime) == ["one", "You said one", "two", "You said two"]
        state = (await client.get("/threads/chat/state")).json()["state"]
        assert [each["content"] for each in state["messages"]] == texts(runtime)


async def test_threads_of_the_server_are_those_of_a_list() -> None:
    async with serving() as client:

        def make(item: ThreadItem[LocalRuntime]) -> LocalRuntime:
            return LocalRuntime(DataStreamModel(client), thread_id=item.id, initialize=item.initialize)

        async with ThreadList(ServerThreads(client), make) as threads:
            thread_id = threads.main_thread_id
            await threads.main.append("hello")
            item = threads.item(thread_id)
            await threads.wait(lambda: item.title is not None)
            assert (item.title, item.status) == ("hello", "regular")
            listed = (await client.get("/threads")).json()["threads"]
            assert [(each["id"], each["title"]) for each in listed] == [(thread_id, "hello")]
            await threads.archive(thread_id)
            assert threads.archived_thread_ids == (thread_id,)


async def test_title_is_the_agents_where_it_makes_one() -> None:
    @threadwire.agent
    async def titled(run: threadwire.Run) -> None:
        run.state["messages"] = [command.message.text for command in run.commands]  # type: ignore[attr-defined]

    @titled.title
    async def title(state: Any) -> str:
        return f"About {state['messages'][0]}"

    app = threadwire.create_app(agents={"titled": titled}, store="memory:")
    with anyio.fail_after(60):
        async with (
            live_server(app) as (_, port),
            httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=60) as client,
            connect(f"ws://127.0.0.1:{port}/ws") as connection,
            connection.open("t") as thread,
        ):
            await thread.send(threadwire.AddMessage.text("cats"))
            await thread.idle()
            assert await ServerThreads(client).generate_title("t", []) == "About cats"
            own = ServerThreads(client, make_title=lambda messages: "Mine")
            assert await own.generate_title("t", []) == "Mine"
            assert (await own.fetch("t")).title == "Mine"
