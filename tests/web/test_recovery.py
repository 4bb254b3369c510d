"""The page through reloads, lost connections and a killed server: nothing is lost, nothing doubled."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from starlette.applications import Starlette
from starlette.routing import Mount

import threadwire
from tests.support.browser import Window
from tests.support.live_server import live_server
from tests.support.server import Server, running
from tests.support.tcp_proxy import line_to
from tests.web.conftest import AGENTS, Windows
from threadwire_agents.demos.scripted import scripted

pytestmark = pytest.mark.anyio


def counted(to: int) -> str:
    """What the scripted agent says when it counts."""
    return " ".join(map(str, range(1, to + 1)))


async def test_reload_in_mid_answer_loses_nothing(page: Window, server: Server) -> None:
    await page.open(server.url, "scripted")
    await page.say("count 200 every 15")
    await page.answer("1 2 3 4").wait_for()
    await page.page.reload()
    await page.answer(re.compile("199 200")).wait_for()
    await page.idle()
    assert await page.texts() == ["count 200 every 15", counted(200)]


async def test_two_windows_stay_in_step_one_of_them_offline_for_a_while(
    windows: Windows, server: Server
) -> None:
    async with line_to(server.port) as line, windows() as one, windows() as two:
        two.may_lose_the_server = True
        await one.open(server.url, "scripted")
        await one.say("first")
        await one.answer("first").wait_for()
        await two.page.goto(f"http://127.0.0.1:{line.port}/#{one.page.url.partition('#')[2]}")
        await two.answer("first").wait_for()
        line.cut()
        await two.page.locator(".badge.waiting").wait_for()
        await two.say("written offline")
        await two.page.get_by_text("Sending…").wait_for()
        await two.composer.fill("still being written")
        await one.say("count 700 every 15")  # more than ten seconds
        await one.answer("700").wait_for()
        line.mend()
        await two.page.get_by_role("button", name=re.compile("Try now")).click()
        for window in (one, two):
            await window.answer("written offline").wait_for()
            await window.idle()
        said = ["first", "first", "count 700 every 15", counted(700), "written offline", "written offline"]
        assert await one.texts() == said
        assert await two.texts() == said
        assert await two.composer.input_value() == "still being written"


async def test_page_recovers_by_itself_from_a_killed_server(windows: Windows, tmp_path: Path) -> None:
    async with running(tmp_path, *AGENTS) as server, windows() as page:
        page.may_lose_the_server = True
        await page.open(server.url, "scripted")
        await page.say("count 500 every 10")
        await page.answer("20 21").wait_for()
        port = server.port
        await server.kill()
        seen = (await page.texts())[1]
        await page.page.locator(".badge.waiting").wait_for()
        await page.say("are you back?")
        await server.start(port=port)
        await page.online()
        await page.answer("are you back?").wait_for()
        await page.idle()
        texts = await page.texts()
        assert [texts[0], *texts[2:]] == ["count 500 every 10", "are you back?", "are you back?"]
        assert texts[1].startswith(seen)


async def test_hosted_graph_goes_on_where_a_killed_server_left_it(windows: Windows, tmp_path: Path) -> None:
    async with running(tmp_path, *AGENTS) as server, windows() as page:
        page.may_lose_the_server = True
        await page.open(server.url, "assistant")
        await page.say("How far is it from Lisbon to Oslo, and which is warmer in May?")
        await page.page.locator(".tool").first.wait_for()
        port = server.port
        await server.kill()
        await page.page.locator(".badge.waiting").wait_for()
        await server.start(port=port)
        await page.answer(re.compile("warmer")).wait_for()
        await page.idle()
        assert await page.user().count() == 1
        assert await page.page.locator(".tool", has_text="distance").count() == 1


async def test_message_sent_offline_survives_a_reload_of_the_page(windows: Windows, server: Server) -> None:
    async with line_to(server.port) as line, windows() as page:
        page.may_lose_the_server = True
        await page.open(f"http://127.0.0.1:{line.port}", "scripted")
        await page.say("first")
        await page.answer("first").wait_for()
        line.cut()
        await page.page.locator(".badge.waiting").wait_for()
        await page.say("kept")
        await page.until("(sessionStorage.getItem('threadwire.outbox') ?? '').includes('kept')")
        line.mend()
        await page.page.reload()
        await page.answer("kept").wait_for()
        await page.idle()
        assert (await page.texts())[2:] == ["kept", "kept"]


async def test_thread_begun_offline_survives_a_reload_of_the_page(windows: Windows, server: Server) -> None:
    async with line_to(server.port) as line, windows() as page:
        page.may_lose_the_server = True
        await page.open(f"http://127.0.0.1:{line.port}", "writer")
        line.cut()
        await page.page.locator(".badge.waiting").wait_for()
        await page.say("begun offline")
        await page.until("(sessionStorage.getItem('threadwire.outbox') ?? '').includes('begun')")
        line.mend()
        await page.page.reload()
        await page.answer("begun offline").wait_for()
        await page.idle()
        assert await page.texts() == ["begun offline", "begun offline"]
        await page.page.locator(".item[data-active]", has_text="writer").wait_for()


async def test_network_that_comes_and_goes_loses_nothing(windows: Windows, server: Server) -> None:
    async with line_to(server.port) as line, windows() as page:
        page.may_lose_the_server = True
        await page.open(f"http://127.0.0.1:{line.port}", "scripted")
        await page.say("count 500 every 10")
        numbers = (20, 60, 100, 140, 180, 220)
        for number in numbers:
            await page.answer(f" {number} ").wait_for()
            line.cut()
            await page.page.locator(".badge.waiting").wait_for()
            await page.say(f"offline at {number}")
            line.mend()
            await page.page.evaluate("dispatchEvent(new Event('online'))")
        await page.answer(f"offline at {numbers[-1]}").wait_for()
        await page.idle()
        said = [f"offline at {number}" for number in numbers for _ in ("question", "answer")]
        assert await page.texts() == ["count 500 every 10", counted(500), *said]


async def test_network_that_is_gone_without_a_word_is_noticed_soon(windows: Windows, server: Server) -> None:
    async with line_to(server.port) as line, windows() as page:
        page.may_lose_the_server = True
        await page.open(f"http://127.0.0.1:{line.port}", "scripted")
        await page.say("count 100 every 10")
        await page.answer("1 2 3").wait_for()
        line.stall()
        await page.page.evaluate("dispatchEvent(new Event('offline'))")
        await page.page.locator(".badge:not(.online)").wait_for()  # by itself after 45 seconds
        line.mend()
        await page.page.evaluate("dispatchEvent(new Event('online'))")
        await page.answer(" 100").wait_for()
        await page.idle()
        assert await page.texts() == ["count 100 every 10", counted(100)]


async def test_thread_that_is_gone_says_so(page: Window, server: Server) -> None:
    await page.open(server.url, "scripted")
    await page.say("short-lived")
    await page.answer("short-lived").wait_for()
    await page.page.evaluate("fetch('threads/' + location.hash.split('/').pop(), {method: 'DELETE'})")
    gone = page.page.get_by_role("heading", name="This thread is gone")
    await gone.wait_for()
    page.may_miss_threads = True
    await page.page.reload()
    await gone.wait_for()
    assert "short-lived" not in await page.page.inner_text(".threads")
    await page.page.get_by_role("button", name="Begin a new one").click()
    await page.page.get_by_role("heading", name=re.compile("Talk to|Begin")).wait_for()


async def test_page_works_below_another_path(windows: Windows, tmp_path: Path) -> None:
    inner = threadwire.create_app(agents={"scripted": scripted}, store="memory:")
    outer = Starlette(routes=[Mount("/agents", inner)], lifespan=lambda app: inner.running())
    async with live_server(outer) as (_, port), windows() as page:
        await page.open(f"http://127.0.0.1:{port}/agents/")
        await page.say("from below")
        await page.answer("from below").wait_for()
        await page.page.locator(".item .title", has_text="from below").wait_for()
