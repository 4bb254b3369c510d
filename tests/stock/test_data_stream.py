"""The stock `useDataStreamRuntime`, unmodified, against the real server, in both formats of its stream."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from tests.support.server import Server
from tests.support.stock import Browser, Page

pytestmark = pytest.mark.anyio


@pytest.fixture(params=["data-stream", "ui-message-stream"])
def format(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def use(server: Server, format: str) -> dict[str, Any]:
    """What a front-end developer gives the runtime; the format is told by the response's header."""
    return {"api": f"{server.url}/chat?format={format}"}


@pytest.fixture
async def page(pages: Browser, use: dict[str, Any]) -> Page:
    return await pages.open(runtime="data-stream", use=use)


async def state_of(server: Server, page: Page) -> Any:
    thread = page.of("response")[-1]["headers"]["threadwire-thread"]
    return (await server.state(thread))["state"]


def content(message: dict[str, Any]) -> Any:
    return message.get("content")


async def test_a_message_is_answered_and_stands_in_a_thread_of_the_server(server: Server, page: Page) -> None:
    await page.say("hello there, you")
    assert page.texts == ["hello there, you", "hello there, you"]
    assert page.messages[-1]["status"] == {"type": "complete", "reason": "stop"}
    assert page.errors == []
    messages = (await state_of(server, page))["messages"]
    assert [content(message) for message in messages] == ["hello there, you"] * 2


async def test_the_stream_is_marked_with_its_format(page: Page, format: str) -> None:
    await page.say("hello")
    headers = page.of("response")[0]["headers"]
    marks = {name for name in headers if name.startswith("x-vercel")}
    assert marks == {f"x-vercel-ai-{format}"}
    assert headers[f"x-vercel-ai-{format}"] == "v1"


async def test_the_answer_grows_token_by_token(page: Page) -> None:
    await page.say("count 200 every 2")
    texts = page.shown_texts(1)
    assert len(texts) > 10, "a page that is slow sees some of the steps only"
    assert all(after.startswith(before) for before, after in itertools.pairwise(texts))
    assert texts[-1] == "".join(f"{n} " for n in range(1, 201))


@pytest.mark.parametrize("text", ['é 漢字 🎈👩‍👩‍👧 \u2028 \u0000 ﷽ \\n "quoted"', "word " * 40_000])
async def test_any_text_comes_back_exactly(page: Page, text: str) -> None:
    await page.say(text)
    assert page.texts == [text, text]


async def test_a_conversation_goes_on_in_one_thread(server: Server, page: Page) -> None:
    for text in ("one", "two", "three"):
        await page.say(text)
    assert page.texts == ["one", "one", "two", "two", "three", "three"]
    messages = (await state_of(server, page))["messages"]
    assert [content(message) for message in messages] == page.texts


async def test_a_tool_of_the_server_is_shown_with_arguments_and_result(page: Page, format: str) -> None:
    await page.say("look up the long way round")
    kinds = [part["type"] for part in page.messages[-1]["content"]]
    assert kinds == ["tool-call", "text"]
    (call,) = page.calls
    assert (call["toolName"], call["args"]) == ("look_up", {"query": "look up the long way round"})
    assert (call["result"], call["isError"]) == ('{"hits": 3}', False)
    assert page.texts[-1] == "found three"
    if format == "data-stream":  # the client takes the other format's arguments only when they are whole
        grown = {
            c["argsText"]
            for e in page.of("show")
            for m in e["messages"]
            for c in m["content"]
            if "argsText" in c
        }
        assert len(grown) > 3


async def test_reasoning_is_a_part_of_its_own(page: Page) -> None:
    await page.say("think hard")
    parts = page.messages[-1]["content"]
    assert [(part["type"], part["text"]) for part in parts] == [
        ("reasoning", "Hm, let me see. "),
        ("text", "Thought about it."),
    ]


async def test_usage_is_told_at_the_end(page: Page, format: str) -> None:
    await page.say("hello")
    if format == "data-stream":  # the client keeps it for steps, which the other format does without
        (step,) = page.messages[-1]["steps"]
        assert step["usage"] == {"inputTokens": 3, "outputTokens": 5}


async def test_a_tool_of_the_page_is_executed_and_the_agent_goes_on_with_its_result(
    server: Server, pages: Browser, use: dict[str, Any]
) -> None:
    tool = {"name": "colour", "description": "Picks a colour.", "result": {"is": "red"}}
    page = await pages.open(runtime="data-stream", use=use, tools=[tool])
    await page.send('ask colour {"of": "the sky"}')
    await page.until(
        lambda: page.texts[1:] == ['I ask. You said {"is": "red"}, success.'] and not page.running
    )
    assert [event["args"] for event in page.of("execute")] == [{"of": "the sky"}]
    messages = (await state_of(server, page))["messages"]
    # Where the format has no place for the thread's token, the next request brings all to a new one.
    kinds = [message.get("type") or message["role"] for message in messages]
    assert kinds in (["human", "ai", "tool", "ai"], ["user", "assistant", "tool", "ai"])
    await page.say("next")
    assert page.texts[2:] == ["next", "next"]


@pytest.mark.parametrize(("index", "left"), [(0, []), (2, ["one", "one"])])
async def test_an_edit_takes_the_place_of_what_it_edits_and_what_followed(
    server: Server, page: Page, index: int, left: list[str]
) -> None:
    for text in ("one", "two", "three"):
        await page.say(text)
    await page.do("edit", index=index, text="other")
    await page.until(lambda: page.texts == [*left, "other", "other"] and not page.running)
    messages = (await state_of(server, page))["messages"]
    assert [content(message) for message in messages] == page.texts


async def test_the_agents_error_ends_the_message_with_its_text(page: Page) -> None:
    await page.say_until_idle("fail now")
    assert page.texts == ["fail now", "fail "]
    status = page.messages[-1]["status"]
    assert (status["type"], status["reason"]) == ("incomplete", "error")
    assert status["error"]["message"] == "the agent says why"
    await page.say("and on")
    assert page.texts[2:] == ["and on", "and on"]


async def test_a_request_that_is_refused_is_told(server: Server, pages: Browser) -> None:
    page = await pages.open(runtime="data-stream", use={"api": f"{server.url}/agents/nobody/chat"})
    await page.say_until_idle("hello")
    (text,) = page.errors
    assert text.startswith("Status 404: ")
    await page.until(lambda: pages.console)
    # The runtime throws what it has told already.
    assert [event["event"] for event in pages.console] == ["unhandled"]
    pages.console.clear()


async def test_a_stop_takes_effect_at_once_and_the_next_message_works(page: Page) -> None:
    await page.send("hang on")
    await page.until(lambda: page.texts[1:] == ["hang "])
    await page.do("stop")
    await page.until_idle()
    await page.say("next")
    assert page.texts == ["hang on", "hang ", "next", "next"]


async def test_messages_of_plain_agents_are_as_good(server: Server, pages: Browser, format: str) -> None:
    use = {"api": f"{server.url}/agents/plain/chat?format={format}"}
    page = await pages.open(runtime="data-stream", use=use)
    await page.say("hello you")
    await page.say("again")
    assert page.texts == ["hello you", "hello you", "again", "again"]


async def test_other_clients_see_the_thread_too(
    server: Server, pages: Browser, use: dict[str, Any], format: str
) -> None:
    page = await pages.open(runtime="data-stream", use={**use, "body": {"threadId": f"seen-{format}"}})
    async with server.client() as client:
        await page.say("hello you")
        view = await client.open(f"seen-{format}")
        await client.until(lambda: view.seq > 0)
        assert [message["content"] for message in view.state["messages"]] == page.texts
