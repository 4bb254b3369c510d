"""The example that hosts an OpenAI-compatible model, against a local fake of that API."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import anyio
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

import threadwire
from tests.support.live_server import live_server
from threadwire.client import (
    AssistantTransportRuntime,
    LangChainConverter,
    connect,
    convert_any_message,
    message_text,
)

pytestmark = pytest.mark.anyio

EXAMPLE = Path(__file__).parents[2] / "examples" / "openai_compatible.py"


def example() -> Any:
    spec = importlib.util.spec_from_file_location("openai_compatible", EXAMPLE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def fake(asked: list[Any]) -> Starlette:
    """The API: echoes the last message in pieces; `broken` is refused, `long` is cut off."""

    async def completions(request: Request) -> Response:
        body = await request.json()
        asked.append((request.headers["authorization"], body))
        said = body["messages"][-1]["content"][0]["text"]
        if said == "broken":
            return JSONResponse({"error": "no"}, 429)

        async def events() -> Any:
            yield ": a comment\n\n"
            for piece in ("You ", "said ", said):
                yield f"data: {json.dumps({'choices': [{'delta': {'content': piece}}]})}\n\n"
            reason = "length" if said == "long" else "stop"
            yield f"data: {json.dumps({'choices': [{'delta': {}, 'finish_reason': reason}]})}\n\n"
            yield "data: [DONE]\n\n"

        return StreamingResponse(events(), media_type="text/event-stream")

    return Starlette(routes=[Route("/v1/chat/completions", completions, methods=["POST"])])


async def test_answers_are_streamed_from_the_api(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []
    with anyio.fail_after(60):
        async with live_server(fake(asked)) as (_, api_port):
            monkeypatch.setenv("OPENAI_BASE_URL", f"http://127.0.0.1:{api_port}/v1")
            monkeypatch.setenv("OPENAI_API_KEY", "key")
            app = threadwire.create_app(agents={"openai": example().agent}, store="memory:")
            async with (
                live_server(app) as (_, port),
                connect(f"ws://127.0.0.1:{port}/ws") as connection,
                AssistantTransportRuntime(
                    connection, "t", converter=LangChainConverter(callback=convert_any_message)
                ) as runtime,
            ):
                for text in ("hello", "again", "long", "broken"):
                    await runtime.append(text)
                    await runtime.idle()
                answers = [message_text(each) for each in runtime.messages if each.role == "assistant"]
                assert answers == ["You said hello", "You said again", "You said long", ""]
                statuses = [each.get("status") for each in runtime.agent_state["messages"][1::2]]
                assert [status["type"] for status in statuses] == ["complete"] * 2 + ["incomplete"] * 2
                assert "429" in statuses[3]["error"]["message"]
    authorization, body = asked[1]
    assert authorization == "Bearer key"
    assert body["stream"] is True
    assert [(each["role"], each["content"]) for each in body["messages"]] == [
        ("user", [{"type": "text", "text": "hello"}]),
        ("assistant", "You said hello"),
        ("user", [{"type": "text", "text": "again"}]),
    ]
