"""Stock clients, unmodified, against LangGraph graphs on the real server, the demo assistant above all."""

from __future__ import annotations

import itertools
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.stock.conftest import transport
from tests.support.server import Server, running
from tests.support.stock import Browser, Page, require_packages

pytestmark = [pytest.mark.anyio, pytest.mark.spec("15.4")]

GRAPHS = tuple(
    f"{name}={Path(__file__).parent / 'graphs.py'}:{name}"
    for name in ("assistant", "slow", "page", "context")
)

SUM = "What is 2 + 3?"
WEATHER = "What's the weather in Lisbon, and how much is 15 % of the temperature?"
LONG = "What can you do?"
POSTCARD = 'Send Ada a postcard saying "Hi"'


@pytest.fixture(scope="module")
async def server(anyio_backend: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Server]:
    require_packages()
    async with running(tmp_path_factory.mktemp("server"), *GRAPHS) as server:
        yield server


def use_of(server: Server, protocol: str, agent: str, **use: Any) -> dict[str, Any]:
    """What a front-end developer gives the transport runtime for one of the graphs."""
    of_all = transport(server, protocol, **use)
    return {**of_all, "api": f"{server.url}/agents/{agent}/assistant?protocol={protocol}"}


async def state_of(server: Server, page: Page) -> Any:
    return (await server.state(page.of("response")[-1]["headers"]["threadwire-thread"]))["state"]


async def check(server: Server, page: Page) -> None:
    """The page has told no error, and shows the state that the server has."""
    assert page.errors == []
    assert page.shown["state"] == await state_of(server, page)


async def until_ended(page: Page, ended: int) -> None:
    """Waits for the end of the run after the first `ended` ones."""
    await page.until(lambda: page.ends > ended and not page.running)


def grows(texts: list[str]) -> bool:
    return all(after.startswith(before) for before, after in itertools.pairwise(texts))


def shown_args(page: Page, call: str) -> list[str]:
    """The text of a call's arguments, each time that it was another."""
    texts = [
        part["argsText"]
        for event in page.of("show")
        for message in event["messages"]
        for part in message["content"]
        if part.get("toolCallId") == call
    ]
    return [text for text, _ in itertools.groupby(texts)]


@pytest.fixture
async def page(server: Server, pages: Browser, protocol: str) -> Page:
    return await pages.open(use=use_of(server, protocol, "assistant"))


# transport


async def test_tools_are_called_and_their_arguments_and_the_answer_grow(server: Server, page: Page) -> None:
    await page.say(WEATHER)
    await check(server, page)
    assert [call["toolName"] for call in page.calls] == ["weather", "look_up_city", "calculate"]
    shown = []
    for call in page.calls:
        assert json.loads(call["argsText"]) == call["args"]
        assert call["result"]
        texts = shown_args(page, call["toolCallId"])
        assert grows(texts)
        shown += texts
    # A page that is slow sees some of the steps only.
    assert len(shown) > len(page.calls)
    assert "**17.5 °C**" in page.texts[-1]
    texts = page.shown_texts(len(page.messages) - 1)
    assert len(texts) > 1
    assert grows(texts)
    await page.say(SUM)
    assert page.texts[-1].endswith("is **5**.")
    await check(server, page)


@pytest.mark.parametrize(
    ("decision", "said"),
    [
        ({"type": "approve"}, "is on its way"),
        ({"type": "reject", "message": "too short"}, "the call was rejected: too short"),
    ],
)
async def test_an_interrupt_is_answered_by_a_resume_command(
    server: Server, page: Page, decision: dict[str, Any], said: str
) -> None:
    await page.say(POSTCARD)
    ((interrupt, entry),) = page.shown["state"]["threadwire"]["interrupts"].items()
    assert entry["value"]["action_requests"][0]["args"] == {"to": "Ada", "text": "Hi"}
    await check(server, page)
    ended = page.ends
    resume = {"type": "resume", "answers": {interrupt: {"decisions": [decision]}}}
    await page.do("commands", commands=[resume])
    await until_ended(page, ended)
    assert said in page.texts[-1]
    assert "interrupts" not in page.shown["state"].get("threadwire", {})
    assert len(page.shown["state"]["postcards"]) == (decision["type"] == "approve")
    await check(server, page)


async def test_an_answer_that_is_none_is_told_and_the_question_stays(server: Server, page: Page) -> None:
    await page.say(POSTCARD)
    (interrupt,) = page.shown["state"]["threadwire"]["interrupts"]
    ended = page.ends
    resume: dict[str, Any] = {"type": "resume", "answers": {interrupt: {"decisions": []}}}
    await page.do("commands", commands=[resume])
    await page.until(lambda: page.ends > ended and page.errors)
    (text,) = page.errors
    assert "expected 1 decisions" in text
    await page.until(lambda: not page.running)
    assert list((await state_of(server, page))["threadwire"]["interrupts"]) == [interrupt]


async def test_a_message_goes_over_a_question_that_is_open(server: Server, page: Page) -> None:
    await page.say(POSTCARD)
    await page.say(SUM)
    assert page.texts[-1].endswith("is **5**.")
    assert page.shown["state"]["postcards"] == []
    await check(server, page)


@pytest.mark.parametrize("index", [0, 2])
async def test_an_edit_goes_another_way_from_before_the_message(
    server: Server, page: Page, index: int
) -> None:
    await page.say(SUM)
    await page.say("What is 3 + 4?")
    ended = page.ends
    await page.do("edit", index=index, text="What is 10 + 10?")
    await until_ended(page, ended)
    assert len(page.messages) == index + 2
    assert page.texts[index] == "What is 10 + 10?"
    assert page.texts[-1].endswith("is **20**.")
    assert len(page.shown["state"]["threadwire"]["branches"]) == 2
    await check(server, page)


async def test_a_tool_of_the_page_is_executed_and_the_graph_goes_on(
    server: Server, pages: Browser, protocol: str
) -> None:
    tool = {
        "name": "calculate",
        "description": "Calculates.",
        "parameters": {"type": "object", "properties": {"expression": {"type": "string"}}},
        "result": {"expression": "2 + 3", "result": 5},
    }
    page = await pages.open(use=use_of(server, protocol, "page"), tools=[tool])
    await page.send(SUM)
    await page.until(lambda: page.ends >= 2 and not page.running)
    assert [event["args"] for event in page.of("execute")] == [{"expression": "2 + 3"}]
    assert page.texts[-1].endswith("is **5**.")
    assert "tool_calls" not in page.shown["state"].get("threadwire", {})
    await check(server, page)
    await page.say("Hello!")
    await check(server, page)


async def test_a_page_whose_tool_is_answered_by_its_user_goes_on(
    server: Server, pages: Browser, protocol: str
) -> None:
    body = {"tools": {"calculate": {"description": "Calculates.", "parameters": {"type": "object"}}}}
    page = await pages.open(use=use_of(server, protocol, "page", body=body))
    await page.say(SUM)
    (call,) = page.calls
    ended = page.ends
    await page.do("result", call=call["toolCallId"], result="out of paper", error=True)
    await until_ended(page, ended)
    assert "can't be calculated: out of paper" in page.texts[-1]
    assert page.calls[0]["isError"] is True
    await check(server, page)


async def test_a_stop_keeps_what_was_said_and_the_next_message_goes_on(
    server: Server, pages: Browser, protocol: str
) -> None:
    page = await pages.open(use=use_of(server, protocol, "slow"))
    await page.send(LONG)
    await page.until(lambda: len(page.messages) > 1 and page.texts[1].count(" ") > 5)
    await page.do("stop")
    await page.until(lambda: page.of("cancel") and not page.running)
    said = page.texts[1]
    await page.say("Thanks")
    assert page.texts[1].startswith(said)
    assert len(page.messages) == 4
    assert page.texts[3].startswith("You're welcome.")
    await check(server, page)


async def test_a_page_reloaded_in_mid_answer_shows_the_rest_of_it(
    server: Server, pages: Browser, protocol: str
) -> None:
    use = use_of(server, protocol, "slow", body={"threadId": f"reloaded-{protocol}"})
    before = await pages.open(use=use)
    await before.send(WEATHER)
    await before.until(lambda: before.calls and before.calls[0]["argsText"])
    await before.close()
    after = await pages.open(use=use)
    await after.do("resume")
    await until_ended(after, 0)
    assert [call["toolName"] for call in after.calls] == ["weather", "look_up_city", "calculate"]
    for call in after.calls:
        assert grows(shown_args(after, call["toolCallId"]))
    assert "not a forecast" in after.texts[-1]
    await check(server, after)
    await after.say("Thanks")
    assert after.texts[-1].startswith("You're welcome.")
    await check(server, after)


async def test_a_question_is_answered_by_the_page_that_was_opened_after_it(
    server: Server, pages: Browser, protocol: str
) -> None:
    use = use_of(server, protocol, "assistant", body={"threadId": f"asked-{protocol}"})
    before = await pages.open(use=use)
    await before.say(POSTCARD)
    await before.close()
    after = await pages.open(use=use)
    await after.do("resume")
    await until_ended(after, 0)
    (interrupt,) = after.shown["state"]["threadwire"]["interrupts"]
    answers = {interrupt: {"decisions": [{"type": "approve"}]}}
    await after.do("commands", commands=[{"type": "resume", "answers": answers}])
    await until_ended(after, 1)
    assert "is on its way" in after.texts[-1]
    await check(server, after)


async def test_an_answer_is_generated_again_and_its_branches_switched(server: Server, page: Page) -> None:
    await page.say(LONG)
    question, first = (page.shown["state"]["messages"][place]["id"] for place in (0, 1))
    await page.do("commands", commands=[{"type": "regenerate", "parentId": question}])
    await until_ended(page, 1)
    second = page.shown["state"]["messages"][1]["id"]
    assert page.shown["state"]["threadwire"]["branches"] == {id: [first, second] for id in (first, second)}
    assert len(page.shown["state"]["messages"]) == 2
    await check(server, page)
    await page.do("commands", commands=[{"type": "switch-branch", "messageId": first}])
    await until_ended(page, 2)
    assert page.shown["state"]["messages"][1]["id"] == first
    await check(server, page)


# data stream


@pytest.fixture(params=["data-stream", "ui-message-stream"])
def format(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
async def chat(server: Server, pages: Browser, format: str) -> Page:
    use = {"api": f"{server.url}/agents/assistant/chat?format={format}"}
    return await pages.open(runtime="data-stream", use=use)


async def test_a_chat_shows_tools_and_goes_on_in_one_thread(server: Server, chat: Page) -> None:
    await chat.say(WEATHER)
    assert [call["toolName"] for call in chat.calls] == ["weather", "look_up_city", "calculate"]
    assert all(call["result"] for call in chat.calls)
    assert "not a forecast" in chat.texts[-1]
    await chat.say(SUM)
    assert chat.texts[-1].endswith("is **5**.")
    assert chat.errors == []
    kinds = [message["type"] for message in (await state_of(server, chat))["messages"]]
    assert kinds == ["human", "ai", "tool", "tool", "ai", "tool", "ai", "human", "ai", "tool", "ai"]


async def test_a_chat_generates_an_answer_again(server: Server, chat: Page) -> None:
    await chat.say("Hello!")
    await chat.say(SUM)
    first = (await state_of(server, chat))["messages"]
    ended = chat.ends
    await chat.do("reload", index=3)
    await until_ended(chat, ended)
    assert chat.errors == []
    assert chat.texts[-1].endswith("is **5**.")
    again = (await state_of(server, chat))["messages"]
    assert [message["type"] for message in again] == [message["type"] for message in first]
    assert again[-1]["id"] != first[-1]["id"]


async def test_a_chat_edits_a_message(server: Server, chat: Page) -> None:
    await chat.say(SUM)
    await chat.say("Thanks")
    ended = chat.ends
    await chat.do("edit", index=0, text="What is 10 + 10?")
    await until_ended(chat, ended)
    assert chat.errors == []
    assert chat.texts[-1].endswith("is **20**.")
    kinds = [message["type"] for message in (await state_of(server, chat))["messages"]]
    assert kinds == ["human", "ai", "tool", "ai"]


async def test_a_chat_is_stopped_and_goes_on(server: Server, pages: Browser, format: str) -> None:
    use = {"api": f"{server.url}/agents/slow/chat?format={format}"}
    chat = await pages.open(runtime="data-stream", use=use)
    await chat.send(LONG)
    await chat.until(lambda: len(chat.messages) > 1 and chat.texts[1].count(" ") > 5)
    await chat.do("stop")
    await chat.until_idle()
    await chat.say("Thanks")
    assert chat.texts[-1].startswith("You're welcome.")
    assert len(chat.messages) == 4


# what comes along

SENT: dict[str, Any] = {
    "system": "Be brief.",
    "tools": {"look": {"parameters": {"type": "object"}}},
    "config": {"model": "large"},
    "callSettings": {"temperature": 0.5},
}


async def test_what_comes_along_reaches_the_graph(server: Server, pages: Browser, protocol: str) -> None:
    page = await pages.open(use=use_of(server, protocol, "context", body=SENT))
    await page.say("Tell me.")
    assert json.loads(page.texts[-1]) == {**SENT, "model": "large"}
    await check(server, page)


async def post(server: Server, body: dict[str, Any], *, until: str) -> None:
    """Sends commands to the graph `context`, and goes away when a line of the answer has the text."""
    async with (
        httpx.AsyncClient(timeout=60) as http,
        http.stream("POST", f"{server.url}/agents/context/assistant", json=body) as answer,
    ):
        assert answer.status_code == 200
        async for line in answer.aiter_lines():
            if until in line:
                return
    raise AssertionError(f"the answer has ended without {until!r}")


async def test_a_run_that_is_answered_after_a_restart_has_what_came_along(tmp_path: Path) -> None:
    message = {"role": "user", "parts": [{"type": "text", "text": "ask"}]}
    body = {"threadId": "t", "commands": [{"type": "add-message", "message": message}], **SENT}
    async with running(tmp_path, *GRAPHS) as server:
        await post(server, body, until="May I?")
        assert await server.stop() == 0
        await server.start()
        async with server.client() as client:
            view = await client.open("t")
            await client.until(lambda: view.run is not None and view.run.status == "waiting")
            state: Any = view.state
            answers = dict.fromkeys(state["threadwire"]["interrupts"], True)
            command = {"type": "resume", "answers": answers}
            await client.send({"type": "command", "thread": "t", "id": "r", "command": command})
            await client.until(lambda: view.run.status == "completed")
        state = view.state
        assert json.loads(state["messages"][-1]["content"]) == {**SENT, "model": "large"}


async def test_a_run_that_goes_on_after_a_restart_has_what_came_along(tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    text = f"wait for {gate}"
    message = {"role": "user", "parts": [{"type": "text", "text": text}]}
    body = {"threadId": "t", "commands": [{"type": "add-message", "message": message}], **SENT}
    async with running(tmp_path, *GRAPHS) as server:
        await post(server, body, until=text)
        await server.kill()
        gate.touch()
        await server.start()
        async with server.client() as client:
            view = await client.open("t")
            await client.until(lambda: view.run is not None and view.run.status == "completed")
        state: Any = view.state
        assert json.loads(state["messages"][-1]["content"]) == {**SENT, "model": "large"}
