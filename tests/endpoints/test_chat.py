"""`POST /chat`: what clients that keep the conversation ask for, and the parts they are sent."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest

import threadwire
from tests.support.http import client_of, error_of
from threadwire.core.frames import Limits
from threadwire.endpoints.app import Application, create_app
from threadwire.engine.agent import as_agent
from threadwire.engine.settings import Settings
from threadwire.engine.threads import Threads
from threadwire.stores.memory import MemoryStore

pytestmark = pytest.mark.anyio

FORMATS = ("data-stream", "ui-message-stream")
both = pytest.mark.parametrize("format", FORMATS)


@threadwire.agent
async def talker(run: threadwire.Run) -> None:
    """Says what it was told, and tells which command that was."""
    for command in run.commands:
        messages = run.state.setdefault("messages", [])
        match command:
            case threadwire.AddMessage():
                ids = [message["id"] for message in messages]
                if command.source_id is not None:
                    del messages[ids.index(command.source_id) :]
                text = command.message.text
                messages.append({"id": command.message.id, "role": "user", "content": text})
            case threadwire.Regenerate():
                ids = [message["id"] for message in messages]
                del messages[ids.index(command.parent_id) + 1 :]
                text = "again " + messages[-1]["content"]
            case threadwire.AddToolResult():
                text = f"result {command.tool_name} {command.result} {command.is_error}"
                tool = {
                    "id": run.new_id(),
                    "role": "tool",
                    "tool_call_id": command.tool_call_id,
                    "content": "x",
                }
                messages.append(tool)
            case _:
                raise threadwire.AgentError("no")
        messages.append({"id": run.new_id(), "role": "assistant", "content": ""})
        if text.startswith("call"):
            messages[-1]["tool_calls"] = [{"id": "c1", "name": "pick", "args": {"n": 1}}]
        if text == "everything":
            everything(messages)
        messages[-1].append_text("content", text)
        if text == "fail":
            raise threadwire.AgentError("it failed: ünï")


def everything(messages: Any) -> None:
    messages[-1]["content"] = [
        {"type": "reasoning", "text": "hm"},
        {"type": "text", "text": "see"},
        {"type": "source", "id": "s", "url": "https://example.com", "title": "E"},
        {"type": "file", "data": "QQ==", "mimeType": "text/plain"},
    ]
    messages[-1]["tool_calls"] = [
        {"id": "ok", "name": "f", "args": {}, "partial_json": '{"a":1}'},
        {"id": "bad", "name": "f", "args": {}, "partial_json": '{"a'},
    ]
    for id, status in (("ok", "success"), ("bad", "error")):
        messages.append({"id": id, "type": "tool", "tool_call_id": id, "content": "out", "status": status})
    messages.append({"id": "last", "role": "assistant", "content": ""})
    messages[-1]["usage"] = {"input_tokens": 1, "output_tokens": 2}


@asynccontextmanager
async def serving(**settings: Any) -> AsyncIterator[tuple[httpx.AsyncClient, Threads]]:
    agent = as_agent(talker, "talker")
    assert agent is not None
    threads = Threads(agents={"talker": agent}, store=MemoryStore(), settings=Settings(**settings))
    app = Application(threads)
    async with app.running(), client_of(app) as client:
        yield client, threads


def says(*texts: str) -> list[dict[str, Any]]:
    """A conversation in which user and assistant take turns."""
    roles = ("user", "assistant")
    return [
        {"role": roles[n % 2], "content": [{"type": "text", "text": text}]} for n, text in enumerate(texts)
    ]


async def chat(
    client: httpx.AsyncClient, messages: Any, format: str = "data-stream", **body: Any
) -> httpx.Response:
    response = await client.post(f"/chat?format={format}", json={"messages": messages, **body})
    assert response.status_code == 200, response.text
    return response


def parts(response: httpx.Response) -> list[Any]:
    """(type, value) of each line, or each event; checked for how they are put."""
    text = response.text
    if response.headers["content-type"].startswith("text/event-stream"):
        *events, done, rest = text.split("\n\n")
        assert (done, rest) == ("data: [DONE]", "")
        return [json.loads(event.removeprefix("data: ")) for event in events]
    assert text.endswith("\n")
    lines = [line for line in text.split("\n") if line.strip()]
    return [(kind, json.loads(value)) for kind, _, value in (line.partition(":") for line in lines)]


def text_of(response: httpx.Response) -> str:
    return "".join(part[1] for part in parts(response) if part[0] == "0")


async def state(threads: Threads, response: httpx.Response) -> Any:
    thread = await threads.get(response.headers["threadwire-thread"])
    return json.loads((await thread.snapshot("json")).state)


@both
async def test_pages_of_allowed_origins_may_read_the_header_that_tells_the_format(format: str) -> None:
    origin = "https://app.example"
    app = create_app(agents={"talker": talker}, store="memory:", allow_origins=[origin])
    async with app.running(), client_of(app) as client:
        response = await client.post(
            f"/chat?format={format}", json={"messages": says("hello")}, headers={"Origin": origin}
        )
    assert response.headers["access-control-allow-origin"] == origin
    exposed = {name.lower() for name in response.headers["access-control-expose-headers"].split(", ")}
    assert {name for name in response.headers if name.startswith("x-vercel")} == {f"x-vercel-ai-{format}"}
    assert {f"x-vercel-ai-{format}", "threadwire-thread"} <= exposed


@pytest.mark.spec("14.16")
async def test_the_users_message_is_answered_under_the_id_it_has() -> None:
    async with serving() as (client, threads):
        response = await chat(client, says("hello"), parentId="u1")
        assert text_of(response) == "hello"
        messages = (await state(threads, response))["messages"]
        assert [(m["role"], m["content"]) for m in messages] == [("user", "hello"), ("assistant", "hello")]
        assert messages[0]["id"] == "u1"


async def test_an_anonymous_thread_is_gone_on_with_by_the_token_that_the_stream_sets() -> None:
    async with serving() as (client, threads):
        first = await chat(client, says("one"), parentId="u1")
        ((operation,),) = (value for kind, value in parts(first) if kind == "aui-state")
        assert operation["path"] == []
        second = await chat(
            client, says("one", "one", "two"), parentId="u2", state=operation["value"], threadId="t"
        )
        assert text_of(second) == "two"
        assert second.headers["threadwire-thread"] == first.headers["threadwire-thread"]
        assert [m["content"] for m in (await state(threads, second))["messages"]] == [
            "one",
            "one",
            "two",
            "two",
        ]


async def test_a_thread_that_is_new_begins_with_the_messages_before() -> None:
    async with serving() as (client, threads):
        call = {"type": "tool-call", "toolCallId": "c", "toolName": "f", "input": {"x": 1}}
        output = {"type": "error-json", "value": {"no": 1}}
        posted = [
            {"role": "system", "content": "be brief"},
            {"role": "user", "content": "one", "unstable_id": "u1"},
            {"role": "assistant", "content": [{"type": "text", "text": "I call"}, call]},
            {
                "role": "tool",
                "content": [{"type": "tool-result", "toolCallId": "c", "toolName": "f", "output": output}],
            },
            *says("two"),
        ]
        response = await chat(client, posted, threadId="t")
        assert text_of(response) == "two"
        messages = (await state(threads, response))["messages"]
        assert [m.get("content") for m in messages] == ["one", "I call", '{"no":1}', "two", "two"]
        assert messages[0]["id"] == "u1"
        assert messages[1]["tool_calls"] == [{"id": "c", "name": "f", "args": {"x": 1}}]
        assert (messages[2]["tool_call_id"], messages[2]["status"]) == ("c", "error")


async def test_the_messages_of_a_thread_that_is_there_are_its_own() -> None:
    async with serving() as (client, threads):
        await chat(client, says("one"), threadId="t", parentId="u1")
        response = await chat(client, says("forged", "forged", "two"), threadId="t", parentId="u2")
        assert [m["content"] for m in (await state(threads, response))["messages"]] == [
            "one",
            "one",
            "two",
            "two",
        ]


async def test_an_edit_takes_the_place_of_the_message_at_its_place() -> None:
    async with serving() as (client, threads):
        for n, texts in enumerate((("a",), ("a", "a", "b"), ("a", "a", "b", "b", "c"))):
            await chat(client, says(*texts), threadId="t", parentId=f"u{n}")
        response = await chat(client, says("a", "a", "other"), threadId="t", parentId="u9")
        assert text_of(response) == "other"
        assert [m["content"] for m in (await state(threads, response))["messages"]] == [
            "a",
            "a",
            "other",
            "other",
        ]


async def test_a_message_that_the_thread_has_is_answered_anew() -> None:
    async with serving() as (client, threads):
        await chat(client, says("one"), threadId="t", parentId="u1")
        response = await chat(client, says("one"), threadId="t", parentId="u1")
        assert text_of(response) == "again one"
        assert [m["content"] for m in (await state(threads, response))["messages"]] == ["one", "again one"]


async def test_results_of_tools_are_given_and_only_what_follows_is_shown() -> None:
    async with serving() as (client, _):
        first = await chat(client, says("call"), threadId="t", parentId="u1")
        assert parts(first)[-1][1]["finishReason"] == "tool-calls"
        posted = [
            *says("call"),
            {"role": "assistant", "content": [{"type": "tool-call", "toolCallId": "c1", "toolName": "pick"}]},
            {
                "role": "tool",
                "content": [
                    {
                        "type": "tool-result",
                        "toolCallId": "c1",
                        "toolName": "pick",
                        "output": {"type": "json", "value": 7},
                    }
                ],
            },
        ]
        second = await chat(client, posted, threadId="t", parentId="u1")
        assert text_of(second) == "result pick 7 False"
        assert parts(second)[-1] == (
            "d",
            {"finishReason": "stop", "usage": {"inputTokens": 0, "outputTokens": 0}},
        )
        again = await client.post("/chat", json={"messages": posted, "threadId": "t"})
        assert error_of(again, 400)["field"] == "body.messages"


@pytest.mark.spec("14.17")
async def test_every_kind_of_part_in_a_data_stream() -> None:
    async with serving() as (client, _):
        response = await chat(client, says("everything"), threadId="t", unstable_assistantMessageId="m")
        assert response.headers["x-vercel-ai-data-stream"] == "v1"
        usage = {"inputTokens": 1, "outputTokens": 2}
        assert parts(response) == [
            ("f", {"messageId": "m"}),
            ("g", "hm"),
            ("0", "see"),
            ("h", {"sourceType": "url", "id": "s", "url": "https://example.com", "title": "E"}),
            ("k", {"data": "QQ==", "mimeType": "text/plain"}),
            ("b", {"toolCallId": "ok", "toolName": "f"}),
            ("c", {"toolCallId": "ok", "argsTextDelta": '{"a":1}'}),
            ("b", {"toolCallId": "bad", "toolName": "f"}),
            ("c", {"toolCallId": "bad", "argsTextDelta": '{"a'}),
            ("c", {"toolCallId": "ok", "argsTextDelta": "", "isFinal": True}),
            ("a", {"toolCallId": "ok", "result": "out"}),
            ("c", {"toolCallId": "bad", "argsTextDelta": "", "isFinal": True}),
            ("a", {"toolCallId": "bad", "result": "out", "isError": True}),
            ("0", "everything"),
            ("e", {"finishReason": "stop", "usage": usage, "isContinued": False}),
            ("d", {"finishReason": "stop", "usage": usage}),
        ]


async def test_every_kind_of_part_in_a_ui_message_stream() -> None:
    async with serving() as (client, _):
        response = await chat(
            client, says("everything"), "ui-message-stream", threadId="t", unstable_assistantMessageId="m"
        )
        assert response.headers["x-vercel-ai-ui-message-stream"] == "v1"
        assert parts(response) == [
            {"type": "start", "messageId": "m"},
            {"type": "reasoning-start", "id": "reasoning-1"},
            {"type": "reasoning-delta", "id": "reasoning-1", "delta": "hm"},
            {"type": "reasoning-end", "id": "reasoning-1"},
            {"type": "text-start", "id": "text-2"},
            {"type": "text-delta", "id": "text-2", "delta": "see"},
            {"type": "text-end", "id": "text-2"},
            {"type": "source-url", "sourceId": "s", "url": "https://example.com", "title": "E"},
            {"type": "file", "url": "data:text/plain;base64,QQ==", "mediaType": "text/plain"},
            {"type": "tool-input-start", "toolCallId": "ok", "toolName": "f"},
            {"type": "tool-input-delta", "toolCallId": "ok", "inputTextDelta": '{"a":1}'},
            {"type": "tool-input-start", "toolCallId": "bad", "toolName": "f"},
            {"type": "tool-input-delta", "toolCallId": "bad", "inputTextDelta": '{"a'},
            {"type": "tool-input-available", "toolCallId": "ok", "toolName": "f", "input": {"a": 1}},
            {"type": "tool-output-available", "toolCallId": "ok", "output": "out"},
            {
                "type": "tool-input-error",
                "toolCallId": "bad",
                "toolName": "f",
                "input": '{"a',
                "errorText": "the arguments are not JSON",
            },
            {"type": "tool-output-error", "toolCallId": "bad", "errorText": "out"},
            {"type": "text-start", "id": "text-3"},
            {"type": "text-delta", "id": "text-3", "delta": "everything"},
            {"type": "text-end", "id": "text-3"},
            {"type": "finish", "finishReason": "stop", "usage": {"inputTokens": 1, "outputTokens": 2}},
        ]


@both
async def test_a_failure_is_told_and_then_the_end(format: str) -> None:
    async with serving() as (client, _):
        *_, error, finish = parts(await chat(client, says("fail"), format, threadId="t"))[-3:]
        if format == "data-stream":
            (*_, error, step, finish) = parts(await chat(client, says("fail"), format, threadId="t2"))
            assert error == ("3", "it failed: ünï")
            assert (step[0], finish[0]) == ("e", "d")
            assert finish[1]["finishReason"] == "error"
        else:
            assert error == {"type": "error", "errorText": "it failed: ünï"}
            assert (finish["type"], finish["finishReason"]) == ("finish", "error")


USER = {"role": "user", "content": "hello"}


@pytest.mark.parametrize(
    ("body", "field"),
    [
        (b"", "body"),
        (b"nonsense", "body"),
        (b"[]", "body"),
        (b'{"messages": [{"role": "user", "content": NaN}]}', "body"),
        (b'{"messages": [{"role": "user", "content": "\\ud800"}]}', "body.messages.0.content"),
        (b'{"messages": [], "messages": []}', "body.messages"),
        (b'{"messages":' + b"[" * 5000 + b"]" * 5000 + b"}", "body"),
        ({}, "body.messages"),
        ({"messages": None}, "body.messages"),
        ({"messages": {}}, "body.messages"),
        ({"messages": []}, "body.messages"),
        ({"messages": ["hello"]}, "body.messages.0"),
        ({"messages": [{"role": "user"}]}, "body.messages.0.content"),
        ({"messages": [{"role": "robot", "content": "x"}]}, "body.messages.0.role"),
        ({"messages": [{"role": "user", "content": 7}]}, "body.messages.0.content"),
        ({"messages": [{"role": "user", "content": ["x"]}]}, "body.messages.0.content"),
        ({"messages": [{"role": "user", "content": ""}]}, "body.messages.0.content"),
        ({"messages": [{"role": "user", "content": []}]}, "body.messages.0.content"),
        ({"messages": [{"role": "user", "content": [{"type": "hologram"}]}]}, "body.messages"),
        ({"messages": [{"role": "user", "content": [{"type": "text"}]}]}, "body.messages"),
        ({"messages": [{"role": "user", "content": [{"type": "file", "data": 7}]}]}, "body.messages"),
        ({"messages": [{"role": "assistant", "content": "x"}]}, "body.messages"),
        ({"messages": [{"role": "system", "content": "x"}]}, "body.messages"),
        ({"messages": [USER, {"role": "assistant", "content": "x"}]}, "body.messages"),
        ({"messages": [USER, {"role": "tool", "content": [{"type": "tool-result"}]}]}, "body.messages"),
        ({"messages": [USER], "threadId": 7}, "body.threadId"),
        ({"messages": [USER], "threadId": "a/b"}, "body.threadId"),
        ({"messages": [USER], "parentId": 7}, "body.parentId"),
        ({"messages": [USER], "unstable_assistantMessageId": []}, "body.unstable_assistantMessageId"),
        ({"messages": [USER], "more": {"__proto__": 1}}, "body.more"),
        ({"messages": [USER], "more": "x" * 2_000_000}, "body"),
    ],
)
async def test_a_body_that_makes_no_sense_is_refused_with_the_fields_name(body: Any, field: str) -> None:
    async with serving() as (client, threads):
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        response = await client.post("/chat", content=data, headers={"Content-Type": "application/json"})
        assert 400 <= response.status_code < 500
        error = error_of(response, response.status_code)
        assert error["field"].startswith(field)
        assert len(threads.feeds) == 0
        assert len(threads) == 0, "nothing is made for it"


async def test_of_results_of_which_one_is_refused_none_is_taken() -> None:
    async with serving() as (client, threads):
        first = await chat(client, says("call"), threadId="t", parentId="u1")
        before = await state(threads, first)
        results = [
            {"type": "tool-result", "toolCallId": id, "toolName": name, "result": 7}
            for id, name in (("c1", "pick"), ("c2", 5))
        ]
        posted = [*says("call"), {"role": "tool", "content": results}]
        error = error_of(await client.post("/chat", json={"messages": posted, "threadId": "t"}), 400)
        assert error["field"] == "body.messages"
        thread = await threads.get("t")
        await thread.runner.ended()
        assert not thread.runner.active_or_queued
        assert await state(threads, first) == before


async def test_a_request_that_is_no_json_or_about_nobody_is_refused() -> None:
    async with serving(limits=Limits(max_state_bytes=1024)) as (client, _):
        response = await client.post("/chat", content=b"x", headers={"Content-Type": "text/plain"})
        error_of(response, 415)
        error_of(await client.post("/agents/nobody/chat", json={"messages": [USER]}), 404)
        error = error_of(await client.post("/chat?format=morse", json={"messages": [USER]}), 400)
        assert error["field"] == "query.format"
        error = error_of(await client.post("/chat?on_disconnect=soon", json={"messages": [USER]}), 400)
        assert error["field"] == "query.on_disconnect"
        large = {"messages": [{"role": "user", "content": "x" * 1_100_000}]}
        error_of(await client.post("/chat", json=large), 413)


async def test_what_else_is_posted_is_the_runs_context_and_odd_states_are_nobodys_business() -> None:
    async with serving() as (client, threads):
        for odd in (
            7,
            "x",
            {"threadwire": 7},
            {"threadwire": {"thread": 7}},
            {"threadwire": {"thread": "no"}},
        ):
            response = await chat(client, says("hello"), state=odd, system="be brief")
            assert text_of(response) == "hello"
            assert len((await state(threads, response))["messages"]) == 2


@both
async def test_the_parts_of_a_message_are_exact_whatever_its_text(format: str) -> None:
    text = 'é 漢字 🎈 \u2028\r\n\0 data: [DONE]\n\n 0:"x"'
    async with serving() as (client, _):
        response = await chat(client, says(text), format, threadId="t")
        if format == "data-stream":
            assert text_of(response) == text
        else:
            assert "".join(part.get("delta", "") for part in parts(response)) == text
