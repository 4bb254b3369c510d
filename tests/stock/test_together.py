"""Stock clients beside others on one thread, and through what happens to servers."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import pytest

import threadwire
from tests.stock.conftest import AGENTS, transport
from tests.support.live_server import live_server
from tests.support.server import Server, running
from tests.support.stock import Browser, Page
from threadwire.core.frames import Limits
from threadwire.endpoints.app import create_app

pytestmark = pytest.mark.anyio


def settled(page: Page, ends: int) -> Callable[[], bool]:
    return lambda: page.ends >= ends and not page.running


async def test_a_websocket_client_and_two_pages_see_one_state_throughout(
    server: Server, pages: Browser, protocol: str
) -> None:
    name = f"together-{protocol}"
    use = transport(server, protocol, body={"threadId": name})
    first, second = await pages.open(use=use), await pages.open(use=use)
    async with server.client() as client:
        view = await client.open(name)
        states: list[Any] = []

        async def read() -> None:
            while True:
                await client.receive()
                states.append(view.state)

        async with anyio.create_task_group() as group:
            group.start_soon(read)
            await first.send("count 60 every 10")
            await first.until(lambda: first.texts[1:] and first.texts[1])
            await second.do("resume")
            await first.until(settled(first, 1))
            await second.until(settled(second, 1))
            with anyio.fail_after(60):
                while view.run is None or view.run.status != "completed":
                    await anyio.lowlevel.checkpoint()
            group.cancel_scope.cancel()
        assert (first.errors, second.errors) == ([], [])
        assert first.shown["state"] == second.shown["state"] == view.state
        assert view.state == (await server.state(name))["state"]
        # Both pages went through states that the thread had, in their order.
        texts = [
            state["messages"][1]["content"]
            for state in states
            if state and len(state.get("messages", [])) == 2
        ]
        whole = texts[-1]
        for page in (first, second):
            assert all(whole.startswith(text) for text in page.shown_texts(1))
        await client.say(name, "ws", "from the socket")
        await client.until(lambda: "from the socket" in str(view.state["messages"][-1]["content"]))
        await client.until_run(name, "completed")
    await second.do("resume")
    await second.until(settled(second, 2))
    assert second.texts[2:] == ["from the socket"] * 2
    assert first.errors == second.errors == []


async def test_a_websocket_client_keeps_a_run_alive_that_the_page_has_left(
    server: Server, pages: Browser, protocol: str
) -> None:
    name = f"kept-{protocol}"
    page = await pages.open(use=transport(server, protocol, on_disconnect=0.5, body={"threadId": name}))
    async with server.client() as client:
        view = await client.open(name)
        await page.send("count 250 every 10")
        await page.until(lambda: page.texts[1:] and page.texts[1])
        await page.do("stop")
        await client.until_run(name, "completed", "cancelled")
        assert view.run.status == "completed"


@pytest.mark.parametrize("ending", ["kill", "stop"])
async def test_a_server_that_ends_in_mid_answer_is_an_error_and_the_next_has_all_that_was_shown(
    tmp_path: Path, pages: Browser, protocol: str, ending: str
) -> None:
    async with running(tmp_path, *AGENTS, "--drain-s", "0.1") as server:
        port = server.port
        use = transport(server, protocol, body={"threadId": "t"})
        page = await pages.open(use=use)
        await page.say("hello")
        await page.send("count 2000 every 5")
        await page.until(lambda: "20 " in "".join(page.texts[3:]))
        await (server.kill() if ending == "kill" else server.stop())
        await page.until(settled(page, 2))
        assert len(page.errors) == 1
        shown = page.texts[3]
        await server.start(port=port)
        await page.do("resume")
        await page.until(settled(page, 3))
        after = await pages.open(use=use)
        await after.do("resume")
        await after.until(settled(after, 1))
        state = (await server.state("t"))["state"]
        assert page.shown["state"] == after.shown["state"] == state
        assert page.texts[3].startswith(shown)
        await page.say("and on")
        assert page.texts[4:] == ["and on", "and on"]


@asynccontextmanager
async def hiding_cuts(server: Server) -> AsyncIterator[str]:
    """The URL of a proxy that ends its responses in order, however the server's end."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        length = re.search(rb"content-length: (\d+)", head, re.IGNORECASE)
        assert length is not None
        upstream, to_server = await asyncio.open_connection("127.0.0.1", server.port)
        to_server.write(head.replace(b"keep-alive", b"close") + await reader.readexactly(int(length[1])))
        answer = await upstream.readuntil(b"\r\n\r\n")
        assert b"transfer-encoding: chunked" in answer.lower()
        writer.write(answer)
        with suppress(asyncio.IncompleteReadError, OSError):
            while size := int(await upstream.readuntil(b"\r\n"), 16):
                data = await upstream.readexactly(size + 2)
                writer.write(b"%x\r\n%b" % (size, data))
        writer.write(b"0\r\n\r\n")
        writer.close()
        to_server.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as proxy:
        yield f"http://127.0.0.1:{proxy.sockets[0].getsockname()[1]}"


async def test_a_kill_is_an_error_also_behind_a_proxy_that_hides_it(
    tmp_path: Path, pages: Browser, protocol: str
) -> None:
    async with running(tmp_path, *AGENTS) as server, hiding_cuts(server) as url:
        use = {"api": f"{url}/assistant?protocol={protocol}", "protocol": protocol, "body": {"threadId": "t"}}
        page = await pages.open(use=use)
        await page.say("hello")
        assert (page.errors, page.texts) == ([], ["hello", "hello"])
        await page.send("count 2000 every 5")
        await page.until(lambda: "20 " in "".join(page.texts[3:]))
        await server.kill()
        await page.until(settled(page, 2))
        (text,) = page.errors
        assert text.startswith("Stream ended")


@pytest.mark.parametrize("format", ["data-stream", "ui-message-stream"])
async def test_a_chat_that_is_cut_by_a_kill_is_an_error_and_goes_on_with_the_next_server(
    tmp_path: Path, pages: Browser, format: str
) -> None:
    async with running(tmp_path, *AGENTS) as server:
        port = server.port
        use = {"api": f"{server.url}/chat?format={format}", "body": {"threadId": "t"}}
        page = await pages.open(runtime="data-stream", use=use)
        await page.send("count 2000 every 5")
        await page.until(lambda: "20 " in "".join(page.texts[1:]))
        await server.kill()
        await page.until_idle()
        assert len(page.errors) == 1
        assert page.messages[1]["status"]["type"] == "incomplete"
        await page.until(lambda: pages.console)
        assert [event["event"] for event in pages.console] == ["unhandled"]
        pages.console.clear()
        await server.start(port=port)
        await page.say("and on")
        assert page.texts[2:] == ["and on", "and on"]


@threadwire.agent
async def quiet(run: threadwire.Run) -> None:
    """Says two words, and long nothing after each."""
    run.state["messages"] = [
        {"type": "human", "id": "h", "content": "x"},
        {"type": "ai", "id": "a", "content": ""},
    ]
    for word in ("one ", "two"):
        run.append_text(("messages", 1, "content"), word)
        await asyncio.sleep(0.5)


async def test_signs_of_life_are_no_news_to_the_client(pages: Browser, protocol: str) -> None:
    app = create_app(agents={"quiet": quiet}, store="memory:", limits=Limits(heartbeat_s=0.02))
    async with live_server(app) as (_, port):
        use = {"api": f"http://127.0.0.1:{port}/assistant?protocol={protocol}", "protocol": protocol}
        page = await pages.open(use=use)
        await page.say("x")
        assert page.texts == ["x", "one two"]
        assert page.errors == []
        for format in ("data-stream", "ui-message-stream"):
            use = {"api": f"http://127.0.0.1:{port}/chat?format={format}"}
            page = await pages.open(runtime="data-stream", use=use)
            await page.say("x")
            assert page.texts == ["x", "one two"]
            assert page.errors == []
