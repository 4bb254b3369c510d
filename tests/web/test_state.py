"""The live state beside the chat: tree, operations, timeline, commands, time travel."""

from __future__ import annotations

import re

import pytest

from tests.support.browser import Window
from tests.support.server import Server
from tests.web.conftest import Windows

pytestmark = pytest.mark.anyio


async def seq(page: Window) -> tuple[int, int]:
    """The sequence that is shown, and the newest."""
    shown, last = (await page.page.get_by_test_id("seq").inner_text()).split("/")
    return int(shown), int(last)


async def test_state_changes_as_the_agent_works(page: Window, server: Server) -> None:
    await page.open(server.url, "scripted")
    await page.say("count 10000 every 20")
    await page.row("messages.1.content").filter(has_text="1 2 3").wait_for()
    await page.until("document.querySelector('.tree').getAnimations({subtree: true}).length > 0")
    await page.row("messages.1.content").filter(has_text="40").wait_for()
    await page.row("messages.1.content").click()
    await page.page.get_by_role("region", name="Text of messages.1.content").get_by_text("39 40").wait_for()
    await page.page.get_by_role("button", name="Stop", exact=True).click()
    await page.idle()


async def test_what_changes_is_brought_into_view_until_somebody_looks_around(
    page: Window, server: Server
) -> None:
    await page.open(server.url, "fast")
    await page.say("history 60")
    await page.answer("Message 59 with").wait_for()
    await page.idle()
    await page.page.get_by_role("button", name="Open all").click()
    await page.page.get_by_label("follow changes").check()
    await page.say("stream 400")
    await page.row("messages.61.content").filter(has_text="token").wait_for()
    tree = page.page.get_by_role("tree", name="State")
    await tree.press("Home")
    await page.row("").wait_for()
    await page.idle()
    await page.row("").wait_for()


async def test_tree_is_used_by_keyboard(page: Window, server: Server) -> None:
    await page.open(server.url, "scripted")
    await page.say("one")
    await page.idle()
    tree = page.page.get_by_role("tree", name="State")
    await tree.focus()

    async def active() -> str:
        return str(await page.page.locator(".row.active").get_attribute("data-path"))

    assert await active() == ""
    for key, path in (("ArrowDown", "messages"), ("ArrowRight", "messages.0"), ("End", "messages.1.content")):
        await tree.press(key)
        assert await active() == path
    await tree.press("ArrowLeft")
    assert await active() == "messages.1"
    await tree.press("ArrowLeft")
    await page.row("messages.1.content").wait_for(state="detached")
    await tree.press("Enter")
    await page.row("messages.1.content").wait_for()


async def test_time_travel_shows_every_state_and_what_differs(page: Window, server: Server) -> None:
    await page.open(server.url, "scripted")
    await page.say("before")
    await page.answer("before").wait_for()
    await page.idle()
    _, first = await seq(page)
    await page.say("count 30 every 20")
    text = page.row("messages.3.content")
    await text.filter(has_text="29 30").wait_for()
    await page.idle()
    slider = page.page.get_by_label("Sequence", exact=True)
    _, last = await seq(page)
    before = (first + last) // 2
    await slider.fill(str(before))
    await text.filter(has_not_text="29 30").wait_for()
    assert await seq(page) == (before, last)
    await page.page.get_by_role("button", name="One sequence on").click()
    assert await seq(page) == (before + 1, last)
    await slider.fill(str(last))
    await text.filter(has_text="29 30").wait_for()
    await page.page.get_by_role("checkbox", name="compare with").check()
    await page.page.get_by_label("Sequence to compare with").fill(str(before))
    await page.page.locator(".comparison li", has_text="messages.3.content").wait_for()
    await page.page.get_by_role("checkbox", name="compare with").uncheck()
    await page.page.get_by_role("button", name="Live").click()
    assert await seq(page) == (last, last)


async def test_log_from_before_the_page_was_opened_can_be_loaded(page: Window, server: Server) -> None:
    await page.open(server.url, "scripted")
    await page.say("count 30 every 5")
    await page.answer("30").wait_for()
    await page.page.reload()
    await page.page.get_by_role("button", name=re.compile("Load what was before")).click()
    await page.page.get_by_label("Sequence", exact=True).fill("0")
    await page.row("").filter(has_text="{}").wait_for()


async def test_operations_are_listed_filtered_and_lead_to_their_state(page: Window, server: Server) -> None:
    await page.open(server.url, "planner")
    await page.say("Bake bread")
    await page.tab("Operations")
    rows = page.page.locator(".log-row")
    await rows.filter(has_text="append-text").first.wait_for()
    await page.page.get_by_role("button", name="append-text", exact=True).click()
    await rows.filter(has_text="append-text").first.wait_for(state="detached")
    await page.page.get_by_label("Filter by path").fill("percent")
    await rows.filter(has_text="plan.progress.percent").first.wait_for()
    assert await rows.filter(has_text="tokens").count() == 0
    await page.idle()
    number = await rows.first.get_by_role("button").inner_text()
    await rows.first.get_by_role("button").click()
    assert (await seq(page))[0] == int(number)


async def test_custom_command_is_sent_from_its_schema(page: Window, server: Server) -> None:
    await page.open(server.url, "planner")
    await page.say("Bake bread")
    await page.answer("Done: 5 of 5").wait_for()
    await page.tab("Send")
    await page.page.get_by_role("button", name="Send add-todo").click()
    await page.page.get_by_text("title is missing").wait_for()
    await page.page.get_by_role("textbox", name="title").fill("Buy flour")
    await page.page.get_by_role("button", name="Send add-todo").click()
    await page.page.get_by_text(re.compile(r"Applied at \d+")).wait_for()
    await page.page.get_by_label("Command").select_option("remove-todo")
    await page.page.get_by_role("textbox", name="id").fill("nonsense")
    await page.page.get_by_role("button", name="Send remove-todo").click()
    await page.page.get_by_text("no-such-todo").wait_for()
    await page.tab("Timeline")
    await page.page.locator(".command.applied", has_text="add-todo").wait_for()
    await page.page.locator(".command.rejected", has_text="remove-todo").wait_for()
    await page.page.locator(".run.completed").first.wait_for()


async def test_all_of_it_has_room_on_a_phone(windows: Windows, server: Server) -> None:
    async with windows(viewport={"width": 400, "height": 800}, has_touch=True, is_mobile=True) as page:
        await page.open(server.url, "assistant")
        await page.say("How far is it from Lisbon to Oslo?")
        await page.answer("km").wait_for()
        for name, shown in (("State", ".tree"), ("Threads", ".thread-list"), ("Chat", ".composer")):
            await page.page.get_by_role("navigation", name="Views").get_by_role("button", name=name).click()
            await page.page.locator(shown).wait_for()
            assert await page.page.evaluate("document.documentElement.scrollWidth") == 400


@pytest.mark.parametrize("colours", ["light", "dark"])
async def test_axe_finds_nothing_serious(windows: Windows, server: Server, colours: str) -> None:
    async with windows(color_scheme=colours) as page:
        await page.open(server.url, "assistant")
        assert await page.axe() == []
        await page.say("Send a postcard to Ada that says: Hello")
        await page.page.get_by_role("button", name="Approve").wait_for()
        for tab in ("State", "Operations", "Timeline", "Send"):
            await page.tab(tab)
            await page.page.locator(".inspector-panel .spinner").wait_for(state="detached")
            assert await page.axe() == []
        for agent, text in (("asker", "ask"), ("asker", "card"), ("model", "pick")):
            await page.open(server.url, agent)
            await page.say(text)
            await page.page.get_by_role("button", name="Answer", exact=True).wait_for()
            assert await page.axe() == []


async def test_all_of_a_chat_goes_by_keyboard(page: Window, server: Server) -> None:
    await page.open(server.url, "assistant")
    keyboard = page.page.keyboard

    async def tab_to(label: str, key: str) -> None:
        for _ in range(60):
            await keyboard.press(key)
            focused = "document.activeElement.ariaLabel ?? document.activeElement.innerText"
            if str(await page.page.evaluate(focused)).strip() == label:
                return
        pytest.fail(f"{label} isn't reached")

    await page.composer.focus()
    await keyboard.type("Send a postcard to Ada that says: Hello")
    await keyboard.press("Enter")
    await page.page.get_by_role("button", name="Approve").wait_for()
    await tab_to("Approve", "Shift+Tab")
    await keyboard.press("Enter")
    await page.page.locator(".tool.done", has_text="send_postcard").wait_for()
    await page.idle()
    await page.composer.focus()
    await tab_to("Edit", "Shift+Tab")
    await keyboard.press("Enter")
    await page.page.get_by_label("Edit the message").fill("What is 20 + 30?")
    await keyboard.press("Enter")
    await page.answer(re.compile(r"\b50\b")).wait_for()
    await page.idle()
    await tab_to("Branch before", "Shift+Tab")
    await keyboard.press("Enter")
    await page.user("Send a postcard").wait_for()
    await tab_to("New thread", "Tab")
    await keyboard.press("Enter")
    await page.page.get_by_role("heading", name=re.compile("Talk to")).wait_for()
