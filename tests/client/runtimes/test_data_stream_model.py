"""A chat model behind an HTTP route."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from threadwire.client.runtimes.data_stream_model import DataStreamModel
from threadwire.client.runtimes.local import LocalRuntime
from threadwire.messages.chat_model import ModelContext
from threadwire.messages.data_stream import DataStreamError
from threadwire.messages.model import IncompleteStatus, ThreadAssistantMessage, message_text

pytestmark = pytest.mark.anyio


class Pieces(httpx.AsyncByteStream):
    def __init__(self, *pieces: bytes) -> None:
        self._pieces = pieces

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for piece in self._pieces:
            yield piece


def server(asked: list[Any], *answers: httpx.Response) -> httpx.AsyncClient:
    left = list(answers)

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(json.loads(request.content))
        return left.pop(0)

    return httpx.AsyncClient(transport=httpx.MockTransport(answer), base_url="http://x")


def stream(*lines: str) -> httpx.Response:
    return httpx.Response(200, stream=Pieces(*(f"{line}\n".encode() for line in lines)))


FINISH = 'd:{"finishReason":"stop","usage":{"inputTokens":1,"outputTokens":1}}'
CALL = 'b:{"toolCallId":"c","toolName":"find"}'
ARGS = 'c:{"toolCallId":"c","argsTextDelta":"{\\"q\\":1}"}'
RESULT = 'a:{"toolCallId":"c","result":"found"}'
TOOLS = 'd:{"finishReason":"tool-calls","usage":{"inputTokens":1,"outputTokens":1}}'


async def test_answer_grows_as_the_stream_comes() -> None:
    asked: list[Any] = []
    seen: list[str] = []
    async with server(asked, stream('0:"Hel"', '0:"lo"', FINISH)) as client:
        context = ModelContext(system="be kind", call_settings={"temperature": 0})
        model = DataStreamModel(client, body={"extra": 1})
        async with LocalRuntime(model, context=context, thread_id="t") as runtime:
            runtime.subscribe(lambda: seen.append(message_text(runtime.messages[-1])))
            await runtime.append("Hi")
            assert message_text(runtime.messages[-1]) == "Hello"
    assert {"Hel", "Hello"} <= set(seen)
    (body,) = asked
    assert body["messages"] == [{"role": "user", "content": [{"type": "text", "text": "Hi"}]}]
    assert (body["system"], body["threadId"], body["extra"], body["temperature"]) == ("be kind", "t", 1, 0)


async def test_tool_results_go_back_with_the_next_call() -> None:
    asked: list[Any] = []
    answers = (stream(CALL, ARGS, RESULT, TOOLS), stream('0:"done"', FINISH))
    async with server(asked, *answers) as client, LocalRuntime(DataStreamModel(client)) as runtime:
        await runtime.append("Hi")
        assert [part.type for part in runtime.messages[-1].content] == ["tool-call", "text"]
    assert asked[1]["messages"][1:] == [
        {
            "role": "assistant",
            "content": [{"type": "tool-call", "toolCallId": "c", "toolName": "find", "input": {"q": 1}}],
        },
        {
            "role": "tool",
            "content": [
                {
                    "type": "tool-result",
                    "toolCallId": "c",
                    "toolName": "find",
                    "output": {"type": "json", "value": "found"},
                }
            ],
        },
    ]


async def test_error_in_the_stream_is_the_messages() -> None:
    answer = stream('0:"so"', '3:"no credit"')
    async with server([], answer) as client, LocalRuntime(DataStreamModel(client)) as runtime:
        await runtime.append("Hi")
        message = runtime.messages[-1]
        assert isinstance(message, ThreadAssistantMessage)
        assert message.status == IncompleteStatus("error", {"code": "unknown", "message": "no credit"})
        assert message_text(message) == "so"


@pytest.mark.parametrize(
    "answer", [httpx.Response(500, text="broken"), stream("zz:1"), httpx.Response(200, content=b'0:"cut')]
)
async def test_answer_that_is_none_fails_the_run(answer: httpx.Response) -> None:
    async with server([], answer) as client, LocalRuntime(DataStreamModel(client)) as runtime:
        with pytest.raises(DataStreamError):
            await runtime.append("Hi")
