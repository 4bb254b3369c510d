"""What the playground costs the browser: 500 tokens a second into threads of many messages.

    python -m benchmarks.playground [--quick] [--json FILE]

Needs chromium, Playwright and the built page. Pictures a second, and the CPU time of the page's main
thread, in headless Chromium with software rendering; with and without the inspector beside the chat.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Any, Final

from benchmarks.support import Figure, command_line
from tests.support.browser import Window, launched, window
from tests.support.server import Server, running

AGENT: Final = Path(__file__).parents[1] / "tests" / "web" / "agents.py"
RATE: Final = 500
WATCHED_S: Final = 6

_FRAMES: Final = """
(seconds) => new Promise((resolve) => {
  const began = performance.now();
  let frames = 0;
  const look = () => {
    const passed = performance.now() - began;
    if (passed >= seconds * 1000) resolve((frames * 1000) / passed);
    else { frames += 1; requestAnimationFrame(look); }
  };
  requestAnimationFrame(look);
})
"""


async def main_thread_s(session: Any) -> float:
    """CPU time of the page's main thread so far."""
    metrics = (await session.send("Performance.getMetrics"))["metrics"]
    return float(next(each["value"] for each in metrics if each["name"] == "TaskDuration"))


async def opened(page: Window, server: Server, messages: int, inspector: bool) -> float:
    """Opens a thread of so many messages; how long it took until its last one was there, in seconds."""
    await page.page.add_init_script(
        f"localStorage.setItem('threadwire.inspector', '{str(inspector).lower()}')"
    )
    await page.open(server.url)
    await page.say(f"history {messages}")
    last = page.page.locator(".message", has_text=f"Message {messages - 1} with").first
    await last.wait_for()
    await page.idle()
    began = time.perf_counter()
    await page.page.reload()
    await last.wait_for()
    return time.perf_counter() - began


async def watch(page: Window) -> tuple[float, float]:
    """Pictures a second, and the share of the main thread, while tokens stream."""
    session = await page.page.context.new_cdp_session(page.page)
    await session.send("Performance.enable", {"timeDomain": "threadTicks"})
    await page.say(f"stream {RATE * (WATCHED_S + 3)}")
    await page.answer("token100").wait_for()
    before = await main_thread_s(session)
    began = time.perf_counter()
    pictures = await page.page.evaluate(_FRAMES, WATCHED_S)
    share = (await main_thread_s(session) - before) / (time.perf_counter() - began)
    return float(pictures), 100 * share


async def measure(quick: bool) -> list[Figure]:
    figures: list[Figure] = []
    with tempfile.TemporaryDirectory() as folder:
        served = running(Path(folder), f"fast={AGENT}:fast", store="memory:")
        async with served as server, launched() as browser:
            for messages in (500,) if quick else (50, 500, 2000):
                shares: list[float] = []
                for inspector in (False, True):
                    async with window(browser, "benchmark", viewport={"width": 1440, "height": 900}) as page:
                        took_s = await opened(page, server, messages, inspector)
                        pictures, share = await watch(page)
                    shares.append(share)
                    name = f"{messages} messages{', with inspector' if inspector else ''}"
                    figures += [
                        Figure(name=f"{name}: opens in", value=took_s, unit="s", at_most=1),
                        Figure(name=f"{name}: pictures", value=pictures, unit="/s", at_least=50),
                        Figure(name=f"{name}: main thread", value=share, unit="%", at_most=70),
                    ]
                added = shares[1] - shares[0]
                figures.append(
                    Figure(name=f"{messages} messages: inspector adds", value=added, unit="%", at_most=15)
                )
    return figures


if __name__ == "__main__":
    command_line("playground", __doc__, measure)
