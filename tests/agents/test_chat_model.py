"""A chat model of one function, hosted on a server."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest

import threadwire
from tests.support.live_server import live_server
from threadwire.client import (
    AssistantTransportRuntime,
    ChatModelRunOptions,
    CommandError,
    InvalidAdapter,
    LangChainConverter,
    Regenerate,
    SwitchBranch,
    connect,
    convert_any_message,
    message_text,
)
from threadwire.client.runtimes.actions import AddToolResultOptions
from threadwire_agents.chat_model import ChatModelAgent

pytestmark = pytest.mark.anyio


@asynccontextmanager
async def talking(model: Any, **options: Any) -> AsyncIterator[AssistantTransportRuntime]:
    agent = ChatModelAgent(model, name="model", **options)
    app = threadwire.create_app(agents={"model": agent}, store="memory:")
    with anyio.fail_after(60):
        async with (
            live_server(app) as (_, port),
            connect(f"ws://127.0.0.1:{port}/ws") as connection,
            AssistantTransportRuntime(
                connection, "t", converter=LangChainConverter(callback=convert_any_message)
            ) as runtime,
        ):
            yield runtime


def text(content: str) -> dict[str, Any]:
    return {"content": [{"type": "text", "text": content}]}


class Echo:
    """Says what was said, growing, and how often it was asked."""

    def __init__(self) -> None:
        self.calls: list[ChatModelRunOptions] = []

    async def run(self, options: ChatModelRunOptions) -> AsyncIterator[Any]:
        self.calls.append(options)
        said = message_text(options.messages[-1])
        for end in (3, 6, len(said)):
            yield text(f"{len(self.calls)}: {said[:end]}")


def texts(runtime: AssistantTransportRuntime) -> list[str]:
    return [message_text(message) for message in runtime.messages]


async def say(runtime: AssistantTransportRuntime, content: str) -> None:
    await runtime.append(content)
    await runtime.idle()


async def test_answer_grows_in_the_threads_state() -> None:
    model = Echo()
    async with talking(model) as runtime:
        await say(runtime, "good morning")
        await say(runtime, "and now?")
        assert texts(runtime) == ["good morning", "1: good morning", "and now?", "2: and now?"]
        assert [message.role for message in model.calls[1].messages] == ["user", "assistant", "user"]
        answer = runtime.agent_state["messages"][-1]
        assert answer["status"] == {"type": "complete", "reason": "unknown"}
        assert set(runtime.agent_state) == {"messages"}


async def test_edits_and_other_answers_are_branches_to_go_back_to() -> None:
    async with talking(Echo()) as runtime:
        await say(runtime, "one")
        await say(runtime, "two")
        first = runtime.messages
        edit = runtime.begin_edit(first[0].id)
        edit.text = "better"
        await edit.send()
        await runtime.idle()
        assert texts(runtime) == ["better", "3: better"]
        better = runtime.messages[0].id
        assert runtime.branches(better) == (first[0].id, better)
        assert runtime.capabilities.switch_to_branch
        await runtime.reload(runtime.messages[1].id)
        await runtime.idle()
        assert texts(runtime) == ["better", "4: better"]
        assert len(runtime.branches(runtime.messages[1].id)) == 2
        await runtime.switch_to_branch(first[0].id)
        await runtime.idle()
        assert [message.id for message in runtime.messages] == [message.id for message in first]
        await runtime.switch_to_branch(better)
        await runtime.idle()
        assert texts(runtime) == ["better", "4: better"]
        await say(runtime, "go on")
        assert texts(runtime)[-1] == "5: go on"


async def test_model_is_called_again_after_its_tools_and_waits_for_those_of_others() -> None:
    def call(id: str, **fields: Any) -> Any:
        return {"type": "tool-call", "toolCallId": id, "toolName": "find", "args": {"q": 1}, **fields}

    wants = {"type": "requires-action", "reason": "tool-calls"}

    async def model(options: ChatModelRunOptions) -> Any:
        given = options.current().content
        if not given:
            return {"content": [call("c1", result="found")], "status": wants}
        if len(given) == 1:
            return {"content": [call("c2")], "status": wants, "metadata": {"custom": {"k": 1}}}
        return text("done")

    async with talking(model, max_steps=3) as runtime:
        await say(runtime, "go")
        parts = runtime.messages[-1].content
        assert [part.tool_call_id for part in parts] == ["c1", "c2"]  # type: ignore[union-attr]
        assert runtime.agent_state["messages"][-1]["status"] == wants
        await runtime.add_tool_result(
            AddToolResultOptions(message_id="", tool_call_id="c2", tool_name="find", result={"n": 1})
        )
        await runtime.wait(lambda: texts(runtime)[-1] == "done")
        await runtime.idle()
        assert [part.type for part in runtime.messages[-1].content] == ["tool-call", "tool-call", "text"]
        assert runtime.agent_state["messages"][-1]["metadata"]["custom"] == {"k": 1}


async def test_model_is_called_max_steps_times() -> None:
    calls = []

    async def model(options: ChatModelRunOptions) -> Any:
        calls.append(1)
        done = {"type": "tool-call", "toolCallId": f"c{len(calls)}", "toolName": "t", "args": {}, "result": 1}
        return {"content": [done], "status": {"type": "requires-action", "reason": "tool-calls"}}

    async with talking(model) as runtime:
        await say(runtime, "go")
        assert len(calls) == 2
        status = runtime.agent_state["messages"][-1]["status"]
        assert status == {"type": "incomplete", "reason": "tool-calls"}


async def test_cancelled_answer_keeps_what_is_written() -> None:
    cancelled = anyio.Event()

    async def model(options: ChatModelRunOptions) -> AsyncIterator[Any]:
        yield text("so far")
        try:
            await anyio.sleep_forever()
        finally:
            cancelled.set()

    async with talking(model) as runtime:
        await runtime.append("go")
        await runtime.wait(lambda: texts(runtime)[-1] == "so far")
        await runtime.cancel_run()
        await runtime.idle()
        await cancelled.wait()
        status = runtime.agent_state["messages"][-1]["status"]
        assert status == {"type": "incomplete", "reason": "cancelled"}
        assert texts(runtime) == ["go", "so far"]


async def test_failed_answer_says_no_more_than_clients_may_know() -> None:
    async def model(options: ChatModelRunOptions) -> Any:
        if message_text(options.messages[-1]) == "told":
            raise threadwire.AgentError("no credit")
        raise RuntimeError("secret")

    async with talking(model) as runtime:
        await say(runtime, "told")
        assert runtime.agent_state["messages"][-1]["status"]["error"]["message"] == "no credit"
        await say(runtime, "hidden")
        error = runtime.agent_state["messages"][-1]["status"]["error"]
        assert error == {"code": "agent-failed", "message": "the model failed"}
        assert runtime.thread.run is not None
        assert runtime.thread.run.status == "failed"


async def test_unknown_ids_are_refused_by_the_name_of_their_field() -> None:
    async with talking(Echo()) as runtime:
        await say(runtime, "one")
        for command, field in (
            (Regenerate(parent_id="x"), "command.parentId"),
            (SwitchBranch(message_id="x"), "command.messageId"),
        ):
            receipt = await runtime.send_command(command)
            with pytest.raises(CommandError) as caught:
                await receipt.applied()
            assert (caught.value.code, caught.value.field) == ("not-found", field)
        assert len(texts(runtime)) == 2


def test_model_that_cannot_be_called_is_refused() -> None:
    with pytest.raises(InvalidAdapter):
        ChatModelAgent(7)  # type: ignore[arg-type]
