"""Stock assistant-ui clients in a Node process, and what their pages show, as events to wait for."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import os
import shutil
import subprocess
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest

STOCK = Path(__file__).parents[1] / "stock"
REQUIRED = "THREADWIRE_TEST_STOCK"
"""Where this environment variable is `required`, tests that can't run fail instead of being skipped."""

_NODE_MAJOR = 20
_LINE_LIMIT = 64 * 1024 * 1024


def require_packages() -> None:
    """Installs the packages where they aren't; skips, or fails, the test where that can't be done."""
    reason = _missing() or _install()
    if reason is not None:
        if os.environ.get(REQUIRED) == "required":
            pytest.fail(f"the stock clients are required: {reason}")
        pytest.skip(reason)


def _missing() -> str | None:
    if not shutil.which("node") or not shutil.which("npm"):
        return f"Node {_NODE_MAJOR} or newer and npm are needed"
    version = subprocess.run(["node", "--version"], capture_output=True, text=True, check=True).stdout.strip()
    if int(version.removeprefix("v").partition(".")[0]) < _NODE_MAJOR:
        return f"Node {_NODE_MAJOR} or newer is needed, this is {version}"
    return None


def _install() -> str | None:
    """Once for each state of the lock file, in `node_modules` beside it."""
    stamp = STOCK / "node_modules" / ".ready"
    wanted = hashlib.sha256((STOCK / "package-lock.json").read_bytes()).hexdigest()
    if stamp.exists() and stamp.read_text() == wanted:
        return None
    try:
        subprocess.run(
            ["npm", "ci", "--no-audit", "--no-fund", "--no-progress", "--fetch-retries=5"],
            cwd=STOCK,
            check=True,
            capture_output=True,
            text=True,
            timeout=600,
        )
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
        return f"npm could not install the stock packages: {str(error.stderr)[-500:]}"
    stamp.write_text(wanted)
    return None


class Page:
    """One mounted runtime. `events` is all that it has told; `shown` what it shows now."""

    def __init__(self, browser: Browser, name: str, *, is_data_stream: bool = False) -> None:
        self._browser = browser
        self.name = name
        self.is_data_stream = is_data_stream
        self.events: list[dict[str, Any]] = []

    # what it shows

    @property
    def shown(self) -> dict[str, Any]:
        return next(
            (event for event in reversed(self.events) if event["event"] == "show"),
            {"messages": [], "running": False, "loading": False},
        )

    @property
    def messages(self) -> list[dict[str, Any]]:
        return list(self.shown["messages"])

    @property
    def texts(self) -> list[str]:
        """The text of each message, without its other parts."""
        return [text_of(message) for message in self.messages]

    @property
    def calls(self) -> list[dict[str, Any]]:
        """All tool calls."""
        return [part for m in self.messages for part in m["content"] if part["type"] == "tool-call"]

    @property
    def running(self) -> bool:
        return bool(self.shown["running"])

    def of(self, event: str) -> list[dict[str, Any]]:
        """All events of a kind."""
        return [each for each in self.events if each["event"] == event]

    @property
    def errors(self) -> list[str]:
        return [event["text"] for event in self.of("error")]

    @property
    def bodies(self) -> list[Any]:
        """The body of each request."""
        return [event["body"] for event in self.of("request")]

    def shown_texts(self, index: int) -> list[str]:
        """What the message at `index` said, each time that it said something else."""
        texts: list[str] = []
        for event in self.of("show"):
            if len(event["messages"]) > index:
                text = text_of(event["messages"][index])
                if not texts or texts[-1] != text:
                    texts.append(text)
        return texts

    # what it does

    async def do(self, op: str, **params: Any) -> None:
        """Has the page do something, and returns once the runtime has taken it."""
        await self._browser.call(op, self.name, **params)

    async def send(self, text: str) -> None:
        await self.do("send", text=text)

    async def say(self, text: str) -> None:
        """Sends a message and waits for the end of the answer."""
        ended = self.ends
        await self.send(text)
        await self.until(lambda: self.ends > ended and not self.running)

    async def say_until_idle(self, text: str) -> None:
        """As `say`, where the runtime doesn't tell the end: a run that was shown, and is no more."""
        shown = len(self.of("show"))
        await self.send(text)
        await self.until(
            lambda: any(each["running"] for each in self.of("show")[shown:]) and not self.running
        )

    @property
    def ends(self) -> int:
        """Runs that have ended, one way or another."""
        # The transport runtime tells the end of every run, the other one only of those that succeed.
        kinds = ("finish", "error", "cancel") if self.is_data_stream else ("finish",)
        return sum(len(self.of(kind)) for kind in kinds)

    async def until(self, condition: Callable[[], Any], timeout_s: float = 60) -> None:
        """Waits for events that make the condition true."""
        try:
            with anyio.fail_after(timeout_s):
                while not condition():
                    await self._browser.news()
        except TimeoutError:
            raise AssertionError(f"it never came: {self.tail()}") from None

    async def until_idle(self) -> None:
        await self.until(lambda: not self.running)

    async def close(self) -> None:
        """As a page that is left or reloaded."""
        await self.do("close")

    def tail(self) -> str:
        """The last events, for the message of a failed test."""
        return "\n".join(json.dumps(event)[:600] for event in self.events[-8:])


def text_of(message: dict[str, Any]) -> str:
    return "".join(part["text"] for part in message["content"] if part["type"] == "text")


class Browser:
    """The Node process, with any number of pages."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._calls: dict[int, asyncio.Future[None]] = {}
        self._pages: dict[str, Page] = {}
        self._news = asyncio.Event()
        self.console: list[dict[str, Any]] = []
        """What the packages have complained about."""

    async def open(self, **options: Any) -> Page:
        """A new page."""
        name = f"page-{len(self._pages)}"
        page = Page(self, name, is_data_stream=options.get("runtime") == "data-stream")
        self._pages[name] = page
        await page.do("open", options=options)
        await page.until(lambda: page.of("show"))
        return page

    async def call(self, op: str, page: str, **params: Any) -> None:
        assert self._process.stdin is not None
        id = len(self._calls)
        self._calls[id] = asyncio.get_running_loop().create_future()
        line = json.dumps({"id": id, "op": op, "page": page, **params})
        self._process.stdin.write(line.encode() + b"\n")
        with anyio.fail_after(60):
            await self._calls[id]

    async def news(self) -> None:
        """Returns when anything has happened."""
        self._news.clear()
        await self._news.wait()

    async def read(self) -> None:
        assert self._process.stdout is not None
        while line := await self._process.stdout.readline():
            event = json.loads(line)
            if "id" in event:
                call = self._calls[event["id"]]
                if "failed" in event:
                    call.set_exception(AssertionError(event["failed"]))
                elif not call.done():
                    call.set_result(None)
            elif event["page"] is None:
                self.console.append(event)
            else:
                self._pages[event["page"]].events.append(event)
            self._news.set()
        for call in self._calls.values():
            if not call.done():
                call.set_exception(AssertionError("the Node process has ended"))


@asynccontextmanager
async def browser() -> AsyncIterator[Browser]:
    """A browser for the length of a block. What the packages warn about fails the test at its end."""
    process = await asyncio.create_subprocess_exec(
        "node",
        "driver.mjs",
        cwd=STOCK,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        limit=_LINE_LIMIT,
        env={**os.environ, "NODE_ENV": "development"},
    )
    running = Browser(process)
    reading = asyncio.ensure_future(running.read())
    try:
        yield running
        crashes = [event for page in running._pages.values() for event in page.of("crash")]
        assert not crashes, crashes
        assert not running.console, running.console
    finally:
        with anyio.CancelScope(shield=True):
            assert process.stdin is not None
            process.stdin.close()
            try:
                with anyio.fail_after(60):
                    await process.wait()
            except TimeoutError:
                process.kill()
                await process.wait()
            reading.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await reading
