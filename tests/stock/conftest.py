"""A Node process with the stock clients and a server process, shared by the tests of a file."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.server import Server, running
from tests.support.stock import Browser, Page, browser, require_packages

AGENTS = tuple(f"{name}={Path(__file__).parent / 'agents.py'}:{name}" for name in ("chat", "plain"))


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module")
async def server(anyio_backend: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Server]:
    require_packages()
    async with running(tmp_path_factory.mktemp("server"), *AGENTS, "--on-disconnect", "60") as server:
        yield server


@pytest.fixture(scope="module")
async def shared_browser(anyio_backend: str) -> AsyncIterator[Browser]:
    require_packages()
    async with browser() as shared:
        yield shared


@pytest.fixture
async def pages(shared_browser: Browser) -> AsyncIterator[Browser]:
    """Where a test opens its pages. What the packages complain about meanwhile is a failure."""
    shared_browser.console.clear()
    yield shared_browser
    assert not shared_browser.console, shared_browser.console


@pytest.fixture(params=["data-stream", "assistant-transport"])
def protocol(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def transport(
    server: Server, protocol: str, *, on_disconnect: float | None = None, **use: Any
) -> dict[str, Any]:
    """What a front-end developer gives `useAssistantTransportRuntime`.

    `on_disconnect` is how many seconds a run goes on alone, where that isn't a minute.
    """
    absence = "" if on_disconnect is None else f"&on_disconnect={on_disconnect}"
    return {
        "api": f"{server.url}/assistant?protocol={protocol}{absence}",
        "resumeApi": f"{server.url}/resume?protocol={protocol}",
        "protocol": protocol,
        **use,
    }


@pytest.fixture
def options(server: Server, protocol: str) -> dict[str, Any]:
    return transport(server, protocol)


@pytest.fixture
async def page(pages: Browser, options: dict[str, Any]) -> Page:
    return await pages.open(use=options)
