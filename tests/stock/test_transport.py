"""The stock `useAssistantTransportRuntime`, unmodified, against the real server, in both of its protocols."""

from __future__ import annotations

import itertools
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from tests.stock.conftest import transport
from tests.support.server import Server
from tests.support.stock import Browser, Page

pytestmark = pytest.mark.anyio

UNICODE = 'é 漢字 🎈👩‍👩‍👧 \u2028 \u0000 ﷽ \\n "quoted" </script>'


def roles(page: Page) -> list[str]:
    return [message["role"] for message in page.messages]


async def thread_of(page: Page) -> str:
    """The server's id of the thread that the page shows."""
    return str(page.of("response")[-1]["headers"]["threadwire-thread"])


async def server_state(server: Server, page: Page) -> Any:
    return (await server.state(await thread_of(page)))["state"]


# messages


async def test_a_message_is_answered_and_page_and_server_have_the_same_state(
    server: Server, page: Page
) -> None:
    await page.say("hello there, you")
    assert roles(page) == ["user", "assistant"]
    assert page.texts == ["hello there, you", "hello there, you"]
    assert page.errors == []
    assert page.messages[-1]["status"]["type"] == "complete"
    assert page.shown["state"] == await server_state(server, page)


async def test_the_answer_grows_and_never_shrinks_and_the_question_never_goes(page: Page) -> None:
    await page.say("count 200 every 2")
    texts = page.shown_texts(1)
    assert len(texts) > 5, "a page that is slow sees some of the steps only"
    assert all(after.startswith(before) for before, after in itertools.pairwise(texts))
    assert texts[-1] == "".join(f"{n} " for n in range(1, 201))
    counts = [len(event["messages"]) for event in page.of("show")]
    assert counts == sorted(counts)
    assert page.shown_texts(0) == ["count 200 every 2"]


async def test_the_second_message_of_a_new_thread_goes_on_with_it(server: Server, page: Page) -> None:
    await page.say("one")
    await page.say("two")
    await page.say("three")
    assert page.texts == ["one", "one", "two", "two", "three", "three"]
    first, second, third = page.bodies
    assert "threadId" not in first
    assert second["threadId"] == third["threadId"]
    ids = {event["headers"]["threadwire-thread"] for event in page.of("response")}
    assert len(ids) == 1
    assert page.shown["state"] == await server_state(server, page)


async def test_a_known_thread_is_gone_on_with_from_another_page(
    server: Server, pages: Browser, options: dict[str, Any]
) -> None:
    use = {**options, "body": {"threadId": f"known-{options['protocol']}"}}
    first = await pages.open(use=use)
    await first.say("one")
    second = await pages.open(use=use)
    await second.say("two")
    assert second.texts == ["one", "one", "two", "two"]
    assert second.shown["state"] == await server_state(server, second)


async def test_threads_run_beside_each_other_in_one_page(page: Page) -> None:
    await page.send("count 100 every 5")
    await page.until(lambda: len(page.messages) == 2 and page.texts[1])
    first = page.shown["thread"]
    await page.do("newThread")
    await page.say("meanwhile")
    assert page.texts == ["meanwhile", "meanwhile"]
    await page.do("switchThread", thread=first)
    await page.until(lambda: page.shown["thread"] == first and not page.running and page.messages)
    assert page.texts == ["count 100 every 5", "".join(f"{n} " for n in range(1, 101))]
    assert page.errors == []


async def test_pages_of_other_people_have_threads_of_their_own(
    pages: Browser, options: dict[str, Any]
) -> None:
    mine, theirs = await pages.open(use=options), await pages.open(use=options)
    await mine.say("mine")
    await theirs.say("theirs")
    await mine.say("mine too")
    assert mine.texts == ["mine", "mine", "mine too", "mine too"]
    assert theirs.texts == ["theirs", "theirs"]


@pytest.mark.parametrize("text", [UNICODE, "x" * 200_000, "word " * 40_000, " a \n\t "])
async def test_any_text_comes_back_exactly(server: Server, page: Page, text: str) -> None:
    await page.say(text)
    assert page.texts == [text, text]
    assert page.errors == []
    assert page.shown["state"] == await server_state(server, page)


async def test_what_comes_along_with_a_message_reaches_the_agent(
    pages: Browser, options: dict[str, Any]
) -> None:
    tool = {"name": "colour", "description": "Picks one.", "result": "red"}
    page = await pages.open(use={**options, "body": {"mood": "good"}}, tools=[tool])
    await page.say("context")
    context = page.texts[1]
    assert '"mood": "good"' in context
    assert '"colour"' in context
    assert "commands" not in context


async def test_plain_messages_are_as_good_as_those_of_langchain(
    server: Server, pages: Browser, protocol: str
) -> None:
    use = {"api": f"{server.url}/agents/plain/assistant?protocol={protocol}", "protocol": protocol}
    page = await pages.open(use=use, converter="generic")
    await page.say("hello you")
    await page.say("again")
    assert page.texts == ["hello you", "hello you", "again", "again"]


# edits


@pytest.mark.parametrize(("index", "left"), [(0, []), (2, ["one", "one"]), (4, ["one", "one", "two", "two"])])
async def test_an_edit_takes_the_place_of_what_it_edits_and_what_followed(
    server: Server, page: Page, index: int, left: list[str]
) -> None:
    for text in ("one", "two", "three"):
        await page.say(text)
    ended = page.ends
    await page.do("edit", index=index, text="other")
    await page.until(lambda: page.ends > ended and not page.running)
    assert page.texts == [*left, "other", "other"]
    assert page.shown["state"] == await server_state(server, page)
    await page.say("and on")
    assert page.texts == [*left, "other", "other", "and on", "and on"]


async def test_a_message_after_a_turn_with_a_tool_keeps_the_turn(server: Server, page: Page) -> None:
    await page.say("look up something")
    await page.say("next")
    assert page.texts == ["look up something", "found three", "next", "next"]
    assert page.shown["state"] == await server_state(server, page)


# tools


async def test_the_arguments_of_a_call_are_shown_as_they_come(page: Page) -> None:
    await page.say("look up the long way round")
    (call,) = page.calls
    assert call["args"] == {"query": "look up the long way round"}
    assert call["result"] == '{"hits": 3}'
    shown = [
        part["argsText"]
        for event in page.of("show")
        for message in event["messages"]
        for part in message["content"]
        if part["type"] == "tool-call"
    ]
    assert all(after.startswith(before) for before, after in itertools.pairwise(shown))
    assert shown[-1] == call["argsText"]


@pytest.mark.parametrize(
    ("result", "error", "said"),
    [
        ("blue", False, "You said blue, success."),
        ({"deep": [1, None, "ü"]}, False, 'You said {"deep": [1, null, "\\u00fc"]}, success.'),
        (0, False, "You said 0, success."),
        ("no colour", True, "You said no colour, error."),
    ],
)
async def test_the_result_of_a_call_goes_back_and_the_agent_goes_on(
    server: Server, page: Page, result: Any, error: bool, said: str
) -> None:
    await page.say('ask colour {"of": "the sky"}')
    (call,) = page.calls
    assert (call["toolName"], call["args"]) == ("colour", {"of": "the sky"})
    ended = page.ends
    await page.do("result", call=call["toolCallId"], result=result, error=error)
    await page.until(lambda: page.ends > ended and not page.running)
    assert page.texts[-1] == f"I ask. {said}"
    assert page.errors == []
    assert page.calls[0]["isError"] is error
    assert page.shown["state"] == await server_state(server, page)
    command = page.bodies[-1]["commands"][0]
    assert (command["type"], command["result"]) == ("add-tool-result", result)


async def test_a_tool_of_the_page_is_executed_once_and_its_result_sent(
    pages: Browser, options: dict[str, Any]
) -> None:
    tool = {"name": "colour", "description": "Picks a colour.", "result": {"is": "red"}}
    page = await pages.open(use=options, tools=[tool])
    await page.send('ask colour {"of": "the sky"}')
    await page.until(lambda: page.ends >= 2 and not page.running)
    assert page.texts[-1] == 'I ask. You said {"is": "red"}, success.'
    assert [event["args"] for event in page.of("execute")] == [{"of": "the sky"}]
    assert page.errors == []


async def test_a_tool_of_the_page_that_fails_tells_the_agent_so(
    pages: Browser, options: dict[str, Any]
) -> None:
    tool = {"name": "colour", "description": "Picks a colour.", "failure": "out of paint"}
    page = await pages.open(use=options, tools=[tool])
    await page.send('ask colour {"of": "the sky"}')
    await page.until(lambda: page.ends >= 2 and not page.running)
    assert "out of paint" in page.texts[-1]
    assert page.texts[-1].endswith("error.")


# commands


async def test_a_custom_command_is_handled_without_a_run_of_the_agent(server: Server, page: Page) -> None:
    await page.say("hello")
    ended = page.ends
    await page.do("commands", commands=[{"type": "set-title", "title": "Lunch"}])
    await page.until(lambda: page.ends > ended and not page.running)
    assert page.shown["state"]["title"] == "Lunch"
    assert page.texts == ["hello", "hello"]
    assert page.shown["state"] == await server_state(server, page)


async def test_commands_sent_together_are_one_request_in_their_order(page: Page) -> None:
    titles = [{"type": "set-title", "title": title} for title in ("a", "b", "c")]
    await page.do("commands", commands=titles)
    await page.until(lambda: page.ends and not page.running)
    assert [body["commands"] for body in page.bodies] == [titles]
    assert page.shown["state"]["title"] == "c"


async def test_what_is_sent_during_a_run_follows_in_one_request_in_its_order(
    server: Server, page: Page
) -> None:
    await page.send("count 300 every 10")
    await page.until(lambda: len(page.messages) > 1 and page.texts[1])
    await page.send("second")
    await page.do("commands", commands=[{"type": "set-title", "title": "Queued"}])
    await page.send("third")
    await page.until(lambda: page.ends >= 2 and not page.running)
    assert [[c["type"] for c in body["commands"]] for body in page.bodies] == [
        ["add-message"],
        ["add-message", "set-title", "add-message"],
    ]
    assert page.texts[2:] == ["second", "second", "third", "third"]
    assert page.shown["state"]["title"] == "Queued"
    assert page.shown["state"] == await server_state(server, page)


async def test_commands_with_ids_of_the_client_are_taken(pages: Browser, options: dict[str, Any]) -> None:
    page = await pages.open(use=options, ids=f"own-{options['protocol']}")
    await page.say("hello")
    assert page.texts == ["hello", "hello"]
    assert page.errors == []


# errors


async def test_the_agents_error_is_told_once_with_its_text_and_the_part_stays(
    server: Server, page: Page
) -> None:
    await page.say("fail now")
    assert page.errors == ["the agent says why"]
    assert page.texts == ["fail now", "fail "]
    await page.say("and on")
    assert page.errors == ["the agent says why"]
    assert page.texts == ["fail now", "fail ", "and on", "and on"]
    assert page.shown["state"] == await server_state(server, page)


async def test_a_refused_message_is_told_with_its_text(page: Page) -> None:
    await page.say("refuse this")
    assert page.errors == ["this message is refused"]
    await page.say("fine")
    assert page.texts[-2:] == ["fine", "fine"]


async def test_a_command_that_nobody_knows_is_refused_with_the_fields_name(page: Page) -> None:
    await page.do("commands", commands=[{"type": "no-such", "x": 1}])
    await page.until(lambda: page.ends and not page.running)
    (text,) = page.errors
    assert text.startswith("Status 400: ")
    assert '"code":"unknown-command"' in text
    assert "body.commands.0.type" in text
    await page.say("fine")
    assert page.texts == ["fine", "fine"]


async def test_an_agent_that_is_not_there_is_told(server: Server, pages: Browser, protocol: str) -> None:
    page = await pages.open(use={"api": f"{server.url}/agents/nobody/assistant", "protocol": protocol})
    await page.say("hello")
    (text,) = page.errors
    assert text.startswith("Status 404: ")
    assert "nobody" in text


# stop


async def test_a_stop_takes_effect_at_once_and_the_next_message_works(server: Server, page: Page) -> None:
    await page.send("hang on")
    await page.until(lambda: page.texts[1:] == ["hang "])
    await page.do("stop")
    await page.until(lambda: page.of("cancel") and not page.running)
    await page.say("next")
    assert page.texts == ["hang on", "hang ", "next", "next"]
    assert page.errors == []
    assert page.shown["state"] == await server_state(server, page)


async def test_a_run_that_nobody_comes_back_to_is_cancelled(
    server: Server, pages: Browser, protocol: str
) -> None:
    page = await pages.open(use=transport(server, protocol, on_disconnect=0.5))
    await page.send("hang on")
    await page.until(lambda: page.texts[1:] == ["hang "])
    thread = await thread_of(page)
    await page.do("stop")
    await page.until_idle()
    with anyio.fail_after(60):
        while (await server.state(thread))["run"]["status"] != "cancelled":
            await anyio.lowlevel.checkpoint()
    await page.say("next")
    assert page.texts[-2:] == ["next", "next"]


# coming back


@pytest.fixture
def known(options: dict[str, Any], request: pytest.FixtureRequest) -> dict[str, Any]:
    """Options of pages that know their thread's id from elsewhere, such as their address."""
    name = "".join(c if c.isalnum() else "-" for c in request.node.name)[:100]
    return {**options, "body": {"threadId": name}}


async def test_a_page_reloaded_in_mid_answer_shows_the_rest_of_it(
    server: Server, pages: Browser, known: dict[str, Any]
) -> None:
    before = await pages.open(use=known)
    await before.say("hello")
    await before.send("count 400 every 10")
    await before.until(lambda: "5 " in "".join(before.texts[3:]))
    await before.close()
    after = await pages.open(use=known)
    await after.do("resume")
    await after.until(lambda: after.ends == 1 and not after.running)
    assert after.texts == ["hello", "hello", "count 400 every 10", "".join(f"{n} " for n in range(1, 401))]
    assert after.errors == []
    assert after.shown["state"] == await server_state(server, after)
    assert len(after.shown_texts(3)) > 5
    assert after.bodies[0]["commands"] == []
    replayed = int(after.of("response")[0]["headers"]["aui-replay-content-length"])
    assert replayed > 0
    # It is loading while it replays what was, and not any more when new text comes.
    loading = [event["loading"] for event in after.of("show")]
    assert True in loading
    assert not after.shown["loading"]
    await after.say("and on")
    assert after.texts[-2:] == ["and on", "and on"]


async def test_any_number_of_pages_follow_one_run_to_its_end(
    server: Server, pages: Browser, known: dict[str, Any]
) -> None:
    first = await pages.open(use=known)
    await first.send("count 150 every 10")
    await first.until(lambda: first.texts[1:] and first.texts[1])
    others = [await pages.open(use=known) for _ in range(3)]
    for other in others:
        await other.do("resume")
    for page in (first, *others):
        await page.until(lambda page=page: page.ends == 1 and not page.running)  # type: ignore[misc]
        assert page.texts[1] == "".join(f"{n} " for n in range(1, 151))
        assert page.errors == []
        assert page.shown["state"] == await server_state(server, first)


@pytest.mark.parametrize("times", [1, 2])
async def test_the_same_page_resumes_each_time_that_its_connection_broke(
    server: Server, pages: Browser, known: Any, times: int
) -> None:
    page = await pages.open(use=known)
    await page.say("hello")
    await page.send("count 500 every 10")
    for time in range(1, times + 1):
        await page.until(lambda: f"{40 * time} " in "".join(page.texts[3:]))  # noqa: B023
        await page.do("cut")
        await page.until(lambda: page.ends == 1 + time and not page.running)  # noqa: B023
        assert len(page.errors) == time
        partial = page.texts[3]
        assert "500 " not in partial
        await page.do("resume")
    await page.until(lambda: page.ends == 2 + times and not page.running)
    assert page.texts == ["hello", "hello", "count 500 every 10", "".join(f"{n} " for n in range(1, 501))]
    assert page.texts[3].startswith(partial)
    assert len(page.errors) == times
    assert page.shown["state"] == await server_state(server, page)


async def test_resuming_a_finished_run_shows_all_of_it(server: Server, pages: Browser, known: Any) -> None:
    before = await pages.open(use=known)
    await before.say("hello")
    after = await pages.open(use=known)
    for ends in (1, 2):
        await after.do("resume")
        await after.until(lambda: after.ends == ends and not after.running)  # noqa: B023
        assert after.texts == ["hello", "hello"]
        assert after.errors == []


async def test_resuming_a_failed_run_tells_the_error_once_and_shows_what_was(
    pages: Browser, known: dict[str, Any]
) -> None:
    before = await pages.open(use=known)
    await before.say("fail now")
    after = await pages.open(use=known)
    await after.do("resume")
    await after.until(lambda: after.ends == 1 and not after.running)
    assert after.texts == ["fail now", "fail "]
    assert after.errors == ["the agent says why"]


async def test_resuming_a_thread_that_is_not_there_is_an_error(pages: Browser, known: dict[str, Any]) -> None:
    page = await pages.open(use=known)
    await page.do("resume")
    await page.until(lambda: page.ends == 1 and not page.running)
    (text,) = page.errors
    assert text.startswith("Status 404: ")


async def test_a_replayed_call_of_a_tool_is_not_executed_again(pages: Browser, known: dict[str, Any]) -> None:
    before = await pages.open(use=known)
    await before.say('ask colour {"of": "the sky"}')
    tool = {"name": "colour", "description": "Picks a colour.", "result": "red"}
    after = await pages.open(use=known, tools=[tool])
    await after.do("resume")
    await after.until(lambda: after.ends == 1 and not after.running)
    assert [call["toolName"] for call in after.calls] == ["colour"]
    await after.say("never mind")
    assert after.of("execute") == []
    assert after.texts[-1] == "never mind"
