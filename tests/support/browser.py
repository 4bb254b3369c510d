"""A real browser on the playground: complaints of a page are failures, and failures leave a screenshot."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import anyio
import pytest

from threadwire.endpoints.playground import Playground

if TYPE_CHECKING:
    from playwright.async_api import Browser, Locator, Page, Response

REQUIRED: Final = "THREADWIRE_TEST_WEB"
SCREENSHOTS: Final = Path(__file__).parents[2] / "tests" / "web" / "screenshots"
"""Of pages as they were when their test failed; git ignores it."""

_AXE: Final = Path(__file__).parents[2] / "web" / "node_modules" / "axe-core" / "axe.min.js"
_FLAGS: Final = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
_FINISH_ANIMATIONS: Final = """
for (const each of document.getAnimations()) {
  if (each.effect.getComputedTiming().endTime < Infinity) each.finish();
}
"""
_UNREACHABLE: Final = re.compile(
    r"ERR_CONNECTION_|ERR_EMPTY_RESPONSE|ERR_NETWORK|ERR_SOCKET|WebSocket connection to"
)


def chromium() -> str | None:
    return next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


def require_browser() -> None:
    """Skips the test where there is no browser or no built page; in CI that is a failure."""
    missing = []
    try:
        import playwright  # noqa: F401
    except ModuleNotFoundError:
        missing.append("the Python package playwright")
    if chromium() is None:
        missing.append("chromium")
    if not Playground().is_built:
        missing.append("the built playground (make page)")
    if missing:
        reason = f"missing: {', '.join(missing)}"
        if os.environ.get(REQUIRED) == "required":
            pytest.fail(reason)
        pytest.skip(reason)


@asynccontextmanager
async def launched() -> AsyncIterator[Browser]:
    from playwright.async_api import async_playwright

    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=chromium(), args=list(_FLAGS))
        try:
            yield browser
        finally:
            await browser.close()


class Window:
    """A page of the playground, with what people look at in it by name."""

    def __init__(self, page: Page, name: str) -> None:
        self.page = page
        self._name = re.sub(r"[^A-Za-z0-9-]+", "-", name)
        self.problems: list[str] = []
        self.may_lose_the_server = False
        """Then that it can't be reached is no complaint."""
        self.may_miss_threads = False
        """Then that a thread isn't found is no complaint."""
        page.on("console", lambda message: self._note(message.type, message.text))
        page.on("pageerror", lambda error: self.problems.append(f"pageerror: {error}"))
        page.on("requestfailed", lambda request: self._note("error", f"{request.url}: {request.failure}"))
        page.on("response", self._look)

    def _look(self, response: Response) -> None:
        missed = self.may_miss_threads and response.status == 404 and "/threads/" in response.url
        if response.status >= 400 and not missed:
            self.problems.append(f"{response.status}: {response.url}")

    def _note(self, kind: str, text: str) -> None:
        aborted = "ERR_ABORTED" in text  # a request that was under way as the page was left
        lost = self.may_lose_the_server and _UNREACHABLE.search(text)
        missed = self.may_miss_threads and "404" in text
        if kind in ("error", "warning") and not aborted and not lost and not missed:
            self.problems.append(f"{kind}: {text}")

    async def keep_screenshot(self) -> None:
        SCREENSHOTS.mkdir(exist_ok=True)
        await self.page.screenshot(path=SCREENSHOTS / f"{self._name}.png")

    async def open(self, url: str, agent: str | None = None) -> None:
        """Opens the page, for a new thread of an agent."""
        await self.page.goto(url)
        await self.online()
        if agent is not None:
            await self.page.locator(".agent-chips").get_by_role("button", name=agent, exact=True).click()

    async def online(self) -> None:
        await self.page.locator(".badge.online").wait_for(timeout=60_000)

    @property
    def composer(self) -> Locator:
        return self.page.get_by_label("Message", exact=True)

    async def say(self, text: str) -> None:
        await self.composer.fill(text)
        await self.composer.press("Enter")

    def user(self, text: str | None = None) -> Locator:
        found = self.page.locator(".message.user")
        return found if text is None else found.filter(has_text=text)

    def answer(self, text: str | re.Pattern[str] | None = None) -> Locator:
        found = self.page.locator(".message.assistant .body")
        return found if text is None else found.filter(has_text=text)

    async def idle(self) -> None:
        """Waits until no run goes on and nothing is on its way."""
        await self.page.locator(".delivery").wait_for(state="detached", timeout=60_000)
        await self.page.get_by_role("button", name="Stop", exact=True).wait_for(
            state="detached", timeout=60_000
        )

    async def texts(self) -> list[str]:
        """What users and agents said, in order."""
        found: list[str] = await self.page.locator(
            ".message.user .bubble, .message.assistant .body"
        ).all_inner_texts()
        return [text.strip() for text in found]

    async def until(self, expression: str, timeout_s: float = 60) -> None:
        """Waits until a JavaScript expression is true; the page's policy forbids Playwright's own way."""
        with anyio.fail_after(timeout_s):
            while not await self.page.evaluate(expression):
                await anyio.sleep(0.02)

    async def tab(self, name: str) -> None:
        await self.page.get_by_role("tab", name=name).click()

    def row(self, path: str) -> Locator:
        """A row of the state's tree, by a path such as `messages.0`."""
        return self.page.locator(f'.row[data-path="{path}"]')

    async def axe(self) -> list[str]:
        """What axe finds serious or critical on the page."""
        if not _AXE.exists():
            pytest.skip("axe-core is not installed in web/")
        await self.page.evaluate(_AXE.read_text())
        # What lights up for a moment is judged as it is afterwards.
        await self.page.evaluate(_FINISH_ANIMATIONS)
        found: list[dict[str, Any]] = await self.page.evaluate(
            "axe.run(document, {resultTypes: ['violations']}).then((result) => result.violations)"
        )
        return [
            f"{each['id']}: {each['help']}: {[node['target'] for node in each['nodes']]}"
            for each in found
            if each["impact"] in ("serious", "critical")
        ]


@asynccontextmanager
async def window(browser: Browser, name: str, **context: Any) -> AsyncIterator[Window]:
    """A window with storage of its own. `name` is that of the screenshot, should the test fail."""
    opened = await browser.new_context(**{"viewport": {"width": 1280, "height": 800}, **context})
    opened.set_default_timeout(60_000)
    window = Window(await opened.new_page(), name)
    try:
        yield window
        assert window.problems == []
    except BaseException:
        await window.keep_screenshot()
        raise
    finally:
        await opened.close()
