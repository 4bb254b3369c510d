"""What is read in the chat: where it is scrolled to, and texts of all kinds."""

from __future__ import annotations

import pytest

from tests.support.browser import Window
from tests.support.server import Server
from tests.web.conftest import Windows

pytestmark = pytest.mark.anyio

LEFT = "(({scrollHeight, clientHeight, scrollTop}) => scrollHeight - clientHeight - scrollTop)"
VIEWPORT = "document.querySelector('.viewport')"
AT_END = f"{LEFT}({VIEWPORT}) <= 1"

# Where the viewport is once it doesn't move any more: a wheel may set it in motion for a while.
AT_REST = f"""new Promise((resolve) => {{
  const look = (before, still) => {{
    const now = {VIEWPORT}.scrollTop;
    if (still === 10) resolve(now);
    else requestAnimationFrame(() => look(now, now === before ? still + 1 : 0));
  }};
  look(-1, 0);
}})"""

TOP = "each => each.getBoundingClientRect().top"
LINES = """each => {
  const range = document.createRange();
  range.selectNodeContents(each);
  return range.getClientRects().length;
}"""

ODD_TEXT = """
<script>window.hacked = true</script><img src=x onerror="window.hacked = true">

[script](javascript:window.hacked=true) [data](data:text/html,x) [tab](java&#x09;script:alert(1)) [fine](https://example.com)

![no picture](data:image/png;base64,AAAA)

| Name | A very long heading of a column | Another one | One more of them | Last |
|------|---------------------------------|-------------|------------------|------|
| words words | words words words words | words words words | words words | words |

مرحبا بالعالم
"""


async def test_chat_keeps_to_the_end_only_while_the_reader_is_there(page: Window, server: Server) -> None:
    await page.open(server.url, "writer")
    await page.say("slowly 4000")
    await page.answer("Line 40.").wait_for()
    await page.until(AT_END)
    await page.page.locator(".viewport").hover()
    await page.page.mouse.wheel(0, -200)
    await page.until(f"{LEFT}({VIEWPORT}) > 150")
    top = await page.page.evaluate(AT_REST)
    lines = len((await page.texts())[1].split("Line"))
    await page.answer(f"Line {lines + 20}.").wait_for()
    assert await page.page.evaluate(f"{VIEWPORT}.scrollTop") == top
    await page.page.get_by_role("button", name="To the end of the conversation").click()
    await page.page.get_by_role("button", name="To the end of the conversation").wait_for(state="detached")
    lines = len((await page.texts())[1].split("Line"))
    await page.answer(f"Line {lines + 20}.").wait_for()
    await page.until(AT_END)
    await page.page.get_by_role("button", name="Stop", exact=True).click()
    await page.idle()


async def test_own_message_is_brought_into_view_and_others_leave_the_reader_alone(
    windows: Windows, server: Server
) -> None:
    async with windows() as one, windows() as two:
        await one.open(server.url, "writer")
        await one.say("slowly 40")
        await one.answer("Line 39.").wait_for()
        await one.idle()
        await two.page.goto(one.page.url)
        await two.answer("Line 39.").wait_for()
        await two.until(AT_END)
        await one.page.evaluate(f"{VIEWPORT}.scrollTop = 0")
        await one.page.get_by_role("button", name="To the end of the conversation").wait_for()
        await two.say("from the other window")
        await two.answer("from the other window").wait_for()
        await two.until(AT_END)
        await one.answer("from the other window").wait_for()
        await one.idle()
        assert await one.page.evaluate(f"{VIEWPORT}.scrollTop") == 0
        await one.say("from here")
        await one.answer("from here").wait_for()
        await one.until(AT_END)


async def test_what_is_read_stays_in_place_as_earlier_messages_come_in(page: Window, server: Server) -> None:
    await page.open(server.url, "fast")
    await page.say("history 200")
    await page.answer("Message 199 with").wait_for()
    await page.idle()
    await page.page.evaluate(f"{VIEWPORT}.scrollTop = 0")
    first = page.page.locator(".message", has_text="Message 140 with")
    await first.wait_for()
    before = await first.evaluate(TOP)
    await page.page.get_by_role("button", name="Show earlier messages").click()
    await page.page.locator(".message", has_text="Message 80 with").wait_for()
    assert await first.evaluate(TOP) == pytest.approx(before, abs=60)


async def test_place_in_the_chat_is_kept_while_something_else_is_shown(
    windows: Windows, server: Server
) -> None:
    async with windows(viewport={"width": 400, "height": 800}) as page:
        await page.open(server.url, "fast")
        await page.say("history 60")
        await page.answer("Message 59 with").wait_for()
        await page.idle()
        views = page.page.get_by_role("navigation", name="Views")
        for top in (700, 0):
            await page.page.evaluate(f"{VIEWPORT}.scrollTop = {top}")
            await views.get_by_role("button", name="State").click()
            await page.page.get_by_role("tree").wait_for()
            assert not await page.composer.is_visible()
            await views.get_by_role("button", name="Chat").click()
            await page.composer.wait_for()
            await page.until(f"{VIEWPORT}.scrollTop === {top}")
        await page.page.get_by_role("button", name="To the end of the conversation").click()
        await views.get_by_role("button", name="State").click()
        await views.get_by_role("button", name="Chat").click()
        await page.until(AT_END)


@pytest.mark.parametrize("width", [360, 1280])
async def test_hostile_and_odd_texts_do_no_harm(windows: Windows, server: Server, width: int) -> None:
    async with windows(viewport={"width": width, "height": 800}) as page:
        await page.open(server.url, "writer")
        await page.say(ODD_TEXT + "\n\n" + "x" * 100_000)
        await page.answer("xxxxx").wait_for()
        await page.idle()
        body = page.answer("xxxxx")
        assert await body.get_by_role("link").all_inner_texts() == ["fine"]
        assert await page.page.evaluate("window.hacked") is None
        await body.get_by_text("no picture: it can't be shown").wait_for()
        arabic = body.locator("p", has_text="مرحبا")
        assert await arabic.evaluate("each => getComputedStyle(each).direction") == "rtl"
        # Words of a table are whole, and what is wide is scrolled in itself.
        heading = body.get_by_role("columnheader", name="Last")
        assert await heading.evaluate(LINES) == 1
        assert await page.page.evaluate(f"{VIEWPORT}.scrollWidth <= {VIEWPORT}.clientWidth")
        assert await page.page.evaluate("document.documentElement.scrollWidth") == width


@pytest.mark.parametrize("secure", [True, False])
async def test_messages_and_code_are_copied_wherever_the_page_is_served(
    windows: Windows, server: Server, secure: bool
) -> None:
    async with windows(permissions=["clipboard-read", "clipboard-write"]) as page:
        if not secure:  # as browsers do on pages of other machines without https
            await page.page.add_init_script(
                "window.clipboard = navigator.clipboard;"
                "Object.defineProperty(navigator, 'clipboard', {value: undefined});"
            )
        await page.open(server.url, "writer")
        await page.say("**bold**\n\n```\nsome code\n```")
        await page.answer("some code").wait_for()
        await page.idle()
        read = f"{'navigator' if secure else 'window'}.clipboard.readText()"
        await page.page.get_by_role("button", name="Copy the code").click()
        await page.page.get_by_role("button", name="Copied").wait_for()
        assert await page.page.evaluate(read) == "some code"
        message = page.page.locator(".message.assistant")
        await message.get_by_role("button", name="Copy", exact=True).click()
        await message.locator(".actions").get_by_role("button", name="Copied").wait_for()
        assert await page.page.evaluate(read) == "**bold**\n\n```\nsome code\n```"
