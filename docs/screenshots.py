#!/usr/bin/env python3
"""Makes the pictures of `playground.md` anew: `python docs/screenshots.py`, where page and chromium are.

Serves the demo agents on a free port with a store in memory, and does in a browser what the page shows.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.support.browser import Window, launched, window
from tests.support.server import running

IMAGES = Path(__file__).parent / "images"
AGENTS = (
    "assistant=threadwire_agents.demos.assistant:assistant",
    "planner=threadwire_agents.demos.planner:planner",
)


async def shoot(page: Window, name: str) -> None:
    await page.page.mouse.move(0, 0)
    await page.page.screenshot(path=IMAGES / f"{name}.png")


async def main() -> None:
    IMAGES.mkdir(exist_ok=True)
    size = {"width": 1280, "height": 800}
    with tempfile.TemporaryDirectory() as folder:
        async with running(Path(folder), *AGENTS, store="memory:") as server, launched() as browser:
            async with window(browser, "docs", viewport=size) as page:
                await page.open(server.url, "assistant")
                await page.say("How far is it from Lisbon to Oslo, and which is warmer in May?")
                await page.answer("along the great").wait_for()
                await shoot(page, "streaming")
                await page.idle()
                await page.say("Send a postcard to Ada that says: Greetings from Lisbon")
                await page.page.get_by_role("button", name="Approve").wait_for()
                await shoot(page, "approval")
            async with window(browser, "docs-dark", viewport=size, color_scheme="dark") as page:
                await page.open(server.url, "planner")
                await page.say("Plan a picnic for twelve people")
                await page.answer("Done: 5 of 5").wait_for()
                await page.idle()
                await page.page.get_by_label("Sequence", exact=True).fill("60")
                await page.page.get_by_label("compare with").check()
                await page.page.get_by_label("Sequence to compare with").fill("40")
                await shoot(page, "time-travel")
                await page.tab("Operations")
                await page.page.locator(".log-row").first.wait_for()
                await shoot(page, "operations")
            phone = {"width": 400, "height": 800}
            async with window(browser, "docs-phone", viewport=phone, has_touch=True, is_mobile=True) as page:
                await page.open(server.url, "assistant")
                await page.say("How far is it from Lisbon to Oslo?")
                await page.answer("km").wait_for()
                await page.idle()
                await shoot(page, "phone")


if __name__ == "__main__":
    asyncio.run(main())
