"""Stock runtimes over the server's own list of threads, and `resumeStateApi`, which goes by its ids."""

from __future__ import annotations

from typing import Any

import pytest

from tests.stock.conftest import transport
from tests.support.server import Server
from tests.support.stock import Browser, Page

pytestmark = pytest.mark.anyio


@pytest.fixture
def listed(server: Server, options: dict[str, Any]) -> dict[str, Any]:
    """How a page is opened that has the server's threads for its list."""
    return {"use": {**options, "resumeStateApi": f"{server.url}/initial-state"}, "threads": server.url}


async def opened(pages: Browser, listed: dict[str, Any], thread: str) -> Page:
    """A page at a thread's address."""
    page = await pages.open(**listed, thread=thread)
    await page.until(lambda: page.shown["remote"] == thread)
    return page


async def started(page: Page, text: str) -> str:
    """Sends the first message of a new thread, whose id is returned once the answer has begun."""
    await page.send(text)
    await page.until(lambda: len(page.messages) == 2 and page.texts[1] and page.shown["remote"])
    return str(page.shown["remote"])


async def test_a_new_thread_is_made_by_its_first_message_and_is_listed(pages: Browser, listed: Any) -> None:
    page = await pages.open(**listed)
    thread = await started(page, "hello")
    await page.until_idle()
    other = await pages.open(**listed)
    await other.until(lambda: thread in [each["id"] for each in other.shown["threads"]])


async def test_a_page_reloaded_in_mid_answer_resumes_from_the_retained_state(
    server: Server, pages: Browser, listed: dict[str, Any]
) -> None:
    before = await pages.open(**listed)
    thread = await started(before, "count 400 every 10")
    await before.close()
    after = await opened(pages, listed, thread)
    await after.do("resume")
    await after.until(lambda: after.ends == 1 and not after.running)
    assert after.texts == ["count 400 every 10", "".join(f"{n} " for n in range(1, 401))]
    assert after.errors == []
    assert after.shown["state"] == (await server.state(thread))["state"]
    asked, resumed = [event for event in after.of("request") if event["method"] == "POST"]
    assert (asked["path"], asked["body"]) == ("/initial-state", {"threadId": thread})
    assert resumed["body"]["runId"]
    assert "state" not in resumed["body"]


async def test_an_idle_thread_has_nothing_to_resume_and_that_is_no_error(
    pages: Browser, listed: dict[str, Any]
) -> None:
    before = await pages.open(**listed)
    thread = await started(before, "hello")
    await before.until_idle()
    after = await opened(pages, listed, thread)
    await after.do("resume")
    await after.until(lambda: after.ends == 1 and not after.running)
    assert after.errors == []
    posts = [event["path"] for event in after.of("request") if event["method"] == "POST"]
    assert posts == ["/initial-state"]
    assert after.of("response")[-1]["status"] == 204
    await after.say("and on")
    assert after.texts == ["hello", "hello", "and on", "and on"]


async def test_the_state_of_an_idle_thread_is_loaded_as_it_is_and_gone_on_with(
    server: Server, pages: Browser, listed: dict[str, Any]
) -> None:
    before = await pages.open(**listed)
    thread = await started(before, 'ask colour {"of": "the sky"}')
    await before.until_idle()
    tool = {"name": "colour", "description": "Picks a colour.", "result": "red"}
    after = await opened(pages, {**listed, "tools": [tool]}, thread)
    await after.do("load", state=(await server.state(thread))["state"])
    await after.until(lambda: len(after.messages) == 2)
    assert after.texts == before.texts
    await after.say("and on")
    assert after.texts[2:] == ["and on", "and on"]
    assert after.of("execute") == [], "the page before may have done it"
    await after.do("edit", index=0, text="other")
    await after.until(lambda: after.texts == ["other", "other"] and not after.running)
    assert after.shown["state"] == (await server.state(thread))["state"]
    assert after.errors == []


async def test_a_first_message_that_goes_out_without_the_threads_id_is_found_by_the_second(
    server: Server, pages: Browser, listed: dict[str, Any]
) -> None:
    page = await pages.open(**listed, late=True)
    thread = await started(page, "hello")
    await page.until_idle()
    await page.say("again")
    first, second = (event["body"] for event in page.of("request") if "commands" in (event["body"] or {}))
    assert "threadId" not in first
    assert second["threadId"] == thread
    assert page.texts == ["hello", "hello", "again", "again"]
    assert page.shown["state"] == (await server.state(thread))["state"]


async def test_resuming_a_run_that_is_not_the_threads_is_refused_and_leaves_the_page_as_it_was(
    server: Server, pages: Browser, protocol: str
) -> None:
    name = f"wrong-{protocol}"
    page = await pages.open(use=transport(server, protocol, body={"threadId": name}))
    await page.say("hello")
    wrong = transport(server, protocol, body={"threadId": name, "runId": "another"})
    other = await pages.open(use=wrong)
    await other.do("resume")
    await other.until(lambda: other.ends == 1 and not other.running)
    (text,) = other.errors
    assert text.startswith("Status 409: ")
    assert "body.runId" in text
    assert other.messages == []


async def test_a_thread_is_renamed_described_archived_taken_back_titled_and_deleted(
    server: Server, pages: Browser, listed: dict[str, Any]
) -> None:
    first = await pages.open(**listed)
    thread = await started(first, "hello")
    await first.until_idle()
    page = await opened(pages, listed, thread)

    async def do(method: str, *args: Any) -> None:
        await page.do("thread", thread=thread, method=method, args=list(args))

    def title() -> Any:
        return next((each["title"] for each in page.shown["threads"] if each["id"] == thread), None)

    await do("rename", "Lunch")
    await page.until(lambda: title() == "Lunch")
    await do("generateTitle")
    await page.until(lambda: title() == "2 messages")
    await do("archive")
    await page.until(lambda: thread in page.shown["archived"])
    await do("unarchive")
    await page.until(lambda: thread in [each["id"] for each in page.shown["threads"]])
    fresh = await opened(pages, listed, thread)
    await fresh.until(
        lambda: any(each["id"] == thread and each["title"] == "2 messages" for each in fresh.shown["threads"])
    )
    await fresh.close()
    await do("delete")
    await page.until(lambda: thread not in [each["id"] for each in page.shown["threads"]])


async def test_the_list_goes_on_page_by_page(server: Server, pages: Browser, listed: dict[str, Any]) -> None:
    ids = set()
    for text in ("one", "two", "three"):
        page = await pages.open(**listed)
        ids.add(await started(page, text))
        await page.until_idle()
    page = await pages.open(**listed)
    await page.until(lambda: page.shown["threads"])
    assert len(page.shown["threads"]) == 2
    for _ in range(30):
        if ids <= {each["id"] for each in page.shown["threads"]}:
            break
        shown = len(page.shown["threads"])
        await page.do("loadMore")
        await page.until(lambda shown=shown: len(page.shown["threads"]) > shown)  # type: ignore[misc]
    assert ids <= {each["id"] for each in page.shown["threads"]}
