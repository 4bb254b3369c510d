"""A server process with agents to look at, and a browser, shared by the tests of a file."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Generator
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.browser import Window, launched, require_browser, window
from tests.support.server import Server, running

if TYPE_CHECKING:
    from playwright.async_api import Browser

HERE = Path(__file__).parent
AGENTS = (
    "scripted=threadwire_agents.demos.scripted:scripted",
    "planner=threadwire_agents.demos.planner:planner",
    "assistant=threadwire_agents.demos.assistant:assistant",
    f"asker={HERE / 'agents.py'}:asker",
    f"fast={HERE / 'agents.py'}:fast",
    f"writer={HERE / 'agents.py'}:writer",
    f"model={HERE / 'agents.py'}:model",
)

FAILED: pytest.StashKey[bool] = pytest.StashKey()

Windows = Callable[..., AbstractAsyncContextManager[Window]]


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module")
async def server(anyio_backend: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Server]:
    require_browser()
    async with running(tmp_path_factory.mktemp("server"), *AGENTS) as server:
        yield server


@pytest.fixture(scope="module")
async def shared_browser(anyio_backend: str) -> AsyncIterator[Browser]:
    require_browser()
    async with launched() as browser:
        yield browser


@pytest.fixture
def windows(shared_browser: Browser, request: pytest.FixtureRequest) -> Windows:
    """Opens windows that don't know each other."""
    count = 0

    def opened(**context: Any) -> AbstractAsyncContextManager[Window]:
        nonlocal count
        count += 1
        return window(shared_browser, f"{request.node.name}-{count}", **context)

    return opened


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.when == "call":
        item.stash[FAILED] = report.failed
    return report


@pytest.fixture
async def page(windows: Windows, request: pytest.FixtureRequest) -> AsyncIterator[Window]:
    async with windows() as window:
        yield window
        # A fixture isn't told how its test went.
        if request.node.stash.get(FAILED, False):
            await window.keep_screenshot()
            window.problems.clear()
