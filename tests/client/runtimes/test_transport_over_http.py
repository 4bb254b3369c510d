"""A thread of any AssistantTransport server over plain HTTP."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import anyio
import anyio.lowlevel
import httpx
import pytest

from tests.support.live_server import live_server
from threadwire.client.errors import InvalidAdapter, NotNow
from threadwire.client.runtimes.langchain_state import LangChainConverter
from threadwire.client.runtimes.transport_over_http import AssistantTransportOverHttp
from threadwire.messages.model import message_text

pytestmark = pytest.mark.anyio


class Server:
    """Answers each request with the lines that it is given for it; `gates` hold lines back."""

    def __init__(self, *answers: list[Any]) -> None:
        self.answers = list(answers)
        self.asked: list[Any] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(json.loads(request.content))
        answer = self.answers.pop(0)
        if isinstance(answer[0], int):
            return httpx.Response(answer[0], text=answer[1])
        return httpx.Response(200, stream=Lines(answer))


class Lines(httpx.AsyncByteStream):
    def __init__(self, lines: list[Any]) -> None:
        self._lines = lines

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for line in self._lines:
            if isinstance(line, anyio.Event):
                await line.wait()
            else:
                yield f"{line}\n".encode()


def state(*operations: Any) -> str:
    return "aui-state:" + json.dumps(list(operations))


def put(path: list[str], value: Any) -> Any:
    return {"type": "set", "path": path, "value": value}


HUMAN = put(["messages"], [{"type": "human", "id": "h", "content": "Hi"}])
ANSWER = put(["messages", "1"], {"type": "ai", "id": "a", "content": "Hel"})
MORE = {"type": "append-text", "path": ["messages", "1", "content"], "value": "lo"}


@asynccontextmanager
async def talking(answer: Callable[[httpx.Request], httpx.Response], **options: Any) -> Any:
    transport = httpx.MockTransport(answer)
    async with httpx.AsyncClient(transport=transport, base_url="http://x") as client:
        options = {"converter": LangChainConverter(), **options}
        async with AssistantTransportOverHttp(client, **options) as runtime:
            yield runtime


def texts(runtime: AssistantTransportOverHttp) -> list[str]:
    return [message_text(message) for message in runtime.messages]


async def test_state_is_shown_as_it_is_streamed() -> None:
    server = Server([state(HUMAN), state(ANSWER), state(MORE)])
    seen: list[list[str]] = []
    with anyio.fail_after(60):
        async with talking(server, thread_id="t", initial_state={"kept": 1}) as runtime:
            runtime.subscribe(lambda: seen.append(texts(runtime)))
            await runtime.append("Hi")
            assert texts(runtime) == ["Hi"]
            await runtime.idle()
            assert texts(runtime) == ["Hi", "Hello"]
            assert runtime.agent_state["kept"] == 1
            assert not runtime.is_running
    assert ["Hi", "Hel"] in seen
    (body,) = server.asked
    (command,) = body["commands"]
    assert command["message"]["parts"] == [{"type": "text", "text": "Hi"}]
    assert (command["parentId"], command["sourceId"], body["parentId"]) == (None, None, None)
    assert (body["threadId"], body["state"]) == ("t", {"kept": 1})


async def test_commands_that_are_given_during_a_request_go_with_the_next_one() -> None:
    gate = anyio.Event()
    server = Server([gate, state(HUMAN)], [state(ANSWER)])
    with anyio.fail_after(60):
        async with talking(server) as runtime:
            await runtime.append("one")
            await runtime.wait(lambda: runtime.is_sending)
            await runtime.append("two")
            runtime.send_command({"type": "custom", "x": 1})
            assert len(runtime.pending_commands) == 3
            gate.set()
            await runtime.idle()
    assert [[each["type"] for each in body["commands"]] for body in server.asked] == [
        ["add-message"],
        ["add-message", "custom"],
    ]


async def test_failed_request_gives_its_commands_up_and_those_behind_it() -> None:
    told: list[Any] = []
    gate = anyio.Event()

    def on_error(error: Exception, commands: list[Any], update_state: Any) -> None:
        told.append((str(error), len(commands)))
        update_state(lambda state: {"messages": [], "failed": True})

    server = Server([gate, '3:"no credit"'], [500, "broken"])
    with anyio.fail_after(60):
        async with talking(server, on_error=on_error, on_cancel=lambda c, _: told.append(len(c))) as runtime:
            await runtime.append("one")
            await runtime.wait(lambda: runtime.is_sending)
            await runtime.append("two")
            gate.set()
            await runtime.wait(lambda: len(told) == 2)
            assert told == [("no credit", 1), 1]
            assert runtime.agent_state["failed"]
            assert texts(runtime) == []
            await runtime.append("three")
            await runtime.wait(lambda: len(told) == 3)
            assert told[2] == ("status 500: broken", 1)


async def test_cancel_stops_the_request_and_tells_what_was_pending() -> None:
    told: list[Any] = []
    server = Server([state(HUMAN), state(ANSWER), anyio.Event()], [state(MORE)])
    with anyio.fail_after(60):
        async with talking(server, on_cancel=lambda c, _: told.append(len(c))) as runtime:
            await runtime.append("Hi")
            await runtime.wait(lambda: texts(runtime) == ["Hi", "Hel"])
            await runtime.append("later")
            await runtime.cancel_run()
            await runtime.wait(lambda: told == [1])
            assert texts(runtime) == ["Hi", "Hel"]
            assert not runtime.is_running
            await runtime.append("again")
            await runtime.idle()
            assert texts(runtime) == ["Hi", "Hello"]


async def test_tools_that_a_run_leaves_open_are_executed_and_answered() -> None:
    calls = [{"id": "c", "name": "find", "args": {"q": 1}}]
    asking = put(["messages", "1"], {"type": "ai", "id": "a", "content": "", "tool_calls": calls})
    found = put(
        ["messages", "2"], {"type": "tool", "tool_call_id": "c", "content": "found", "status": "success"}
    )
    server = Server([state(HUMAN), state(asking)], [state(found)])

    async def find(args: Any) -> Any:
        await anyio.lowlevel.checkpoint()
        return {"n": args["q"] + 1}

    with anyio.fail_after(60):
        async with talking(server, tools={"find": find}) as runtime:
            await runtime.append("Hi")
            await runtime.wait(lambda: len(server.asked) == 2)
            await runtime.idle()
            assert runtime.messages[-1].content[0].result == "found"
    (answer,) = server.asked[1]["commands"]
    assert (answer["type"], answer["toolCallId"], answer["result"]) == ("add-tool-result", "c", {"n": 2})
    assert answer["isError"] is False


async def test_event_stream_is_read_too() -> None:
    def event(chunk: Any) -> str:
        return f"data: {json.dumps(chunk)}\n"

    update = {"type": "update-state", "path": [], "operations": [HUMAN, ANSWER, MORE]}
    part = {"type": "part-start", "path": [0], "part": {"type": "text"}}
    server = Server([": heartbeat\n", event(part), event(update), "data: [DONE]\n"], [event(update)])
    with anyio.fail_after(60):
        async with talking(server, protocol="assistant-transport") as runtime:
            await runtime.append("Hi")
            await runtime.idle()
            assert texts(runtime) == ["Hi", "Hello"]
            await runtime.append("cut")
            await runtime.idle()
            assert "[DONE]" in str(runtime.error)


async def test_misuse_is_refused() -> None:
    async with httpx.AsyncClient(timeout=60) as client:
        with pytest.raises(InvalidAdapter):
            AssistantTransportOverHttp(client, converter=LangChainConverter(), protocol="x")  # type: ignore[arg-type]
        runtime = AssistantTransportOverHttp(client, converter=LangChainConverter())
        with pytest.raises(NotNow):
            await runtime.append("early")
        assert not runtime.capabilities.switch_to_branch


@pytest.mark.parametrize("protocol", ["data-stream", "assistant-transport"])
async def test_server_of_the_python_assistant_stream_is_understood(protocol: str) -> None:
    pytest.importorskip("assistant_stream")
    from assistant_stream import RunController, create_run
    from assistant_stream.serialization import AssistantTransportResponse, DataStreamResponse
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.routing import Route

    async def answer(request: Request) -> Any:
        body = await request.json()

        async def run(controller: RunController) -> None:
            if controller.state is None:
                controller.state = {}
            if "messages" not in controller.state:
                controller.state["messages"] = []
            for command in body["commands"]:
                text = command["message"]["parts"][0]["text"]
                controller.state["messages"].append(
                    {"type": "human", "id": command["message"]["id"], "content": text}
                )
                controller.state["messages"].append({"type": "ai", "id": f"a-{text}", "content": ""})
                for token in ("You ", "said ", text):
                    controller.state["messages"][-1]["content"] += token
                    await anyio.lowlevel.checkpoint()

        response = {"data-stream": DataStreamResponse, "assistant-transport": AssistantTransportResponse}
        return response[protocol](create_run(run, state=body["state"]))

    app = Starlette(routes=[Route("/assistant", answer, methods=["POST"])])
    with anyio.fail_after(60):
        async with (
            live_server(app) as (_, port),
            httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=None) as client,
            AssistantTransportOverHttp(
                client,
                converter=LangChainConverter(),
                initial_state={},
                protocol=protocol,  # type: ignore[arg-type]
            ) as runtime,
        ):
            for text in ("one", "two"):
                await runtime.append(text)
                await runtime.idle()
            assert runtime.error is None
            assert texts(runtime) == ["one", "You said one", "two", "You said two"]
