"""The page at `/about`: says what is served, and nothing that isn't escaped."""

from __future__ import annotations

import ast
import base64
import hashlib
import re
import shutil
import subprocess
import sys
from html import unescape
from html.parser import HTMLParser

import anyio
import httpx
import pytest
from websockets.asyncio.client import connect

import threadwire
from tests.support.http import http_client
from tests.support.live_server import live_server
from threadwire.endpoints.openapi import openapi
from threadwire.version import __version__

pytestmark = pytest.mark.anyio

NASTY = "<script>alert('x')</script>\"&amp;"


class SetTitle(threadwire.Command, frozen=True, tag="set-title<b>"):
    title: str
    color: str = "red"


def agent(name: str) -> threadwire.Agent:
    @threadwire.agent(name=name)
    async def made(run: threadwire.Run) -> None:
        """internal notes"""

    return made


class Tags(HTMLParser):
    """The tags of a document, every one closed, and their links."""

    VOID = frozenset({"meta", "link"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: set[str] = set()
        self.links: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.add(tag)
        self.links += [value or "" for name, value in attrs if name in ("href", "src")]
        assert not [name for name, _ in attrs if name.startswith("on") or name == "style"]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.add(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


async def page_of(
    *agents: threadwire.Agent, host: str = "threadwire.test", path: str = "/about"
) -> httpx.Response:
    async with http_client(*agents) as (http, _):
        response = await http.get(path, headers={"host": host})
    assert response.status_code == 200
    return response


async def test_page_tells_agents_commands_store_and_version() -> None:
    support = agent("support")

    @support.on(SetTitle)
    async def set_title(run: threadwire.Run, command: SetTitle) -> None: ...

    response = await page_of(support, agent("billing"))
    assert response.headers["content-type"] == "text/html; charset=utf-8"
    text = unescape(response.text)
    for part in ("support", "billing", "set-title<b>", "title, color?", __version__, "store: memory"):
        assert part in text
    assert "internal notes" not in text


async def test_page_names_every_route() -> None:
    text = unescape((await page_of(agent("a"))).text)
    own = [path for path in openapi()["paths"] if not path.startswith("/agents/")]
    assert len(own) > 10
    for path in own:
        last = path.rpartition("/")[2]
        assert path in text or f"/{last} " in text, path


async def test_page_tells_the_address_that_the_client_used() -> None:
    text = unescape((await page_of(agent("a"), host="agents.example:8443")).text)
    assert 'connect("ws://agents.example:8443/ws")' in text
    assert "curl 'http://agents.example:8443/threads'" in text
    async with http_client(agent("a")) as (http, _):
        response = await http.get("https://agents.example/about")
    assert "wss://agents.example/ws" in response.text


@pytest.mark.parametrize(
    "host", ['"><script>alert(1)</script>', "a b", "a'b", "", "a" * 300, "a`id`", "$(id)"]
)
async def test_senseless_host_is_not_repeated(host: str) -> None:
    response = await page_of(agent("a"), host=host)
    assert Tags(response.text).seen.isdisjoint({"script", "b"})
    if host:
        assert host not in unescape(response.text)


async def test_names_from_outside_are_escaped() -> None:
    nasty = agent(NASTY)

    @nasty.on(SetTitle)
    async def set_title(run: threadwire.Run, command: SetTitle) -> None: ...

    response = await page_of(nasty)
    assert Tags(response.text).seen.isdisjoint({"script", "b"})
    assert NASTY in unescape(response.text)


async def test_browser_may_load_nothing_but_the_styles_and_icon_of_the_page() -> None:
    response = await page_of(agent("a"))
    policy = dict(rule.split(" ", 1) for rule in response.headers["content-security-policy"].split("; "))
    assert policy["default-src"] == policy["frame-ancestors"] == "'none'"
    assert "script-src" not in policy
    (style,) = re.findall(r"<style>(.*?)</style>", response.text, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert policy["style-src"] == f"'sha256-{digest}'"
    assert "url(" not in style
    assert response.headers["x-content-type-options"] == "nosniff"


async def test_all_links_of_the_page_lead_somewhere() -> None:
    async with http_client(agent("a")) as (http, _):
        links = Tags((await http.get("/about")).text).links
        assert set(links) == {"/favicon.ico", "/schema"}
        for link in links:
            assert (await http.get(link)).status_code == 200


async def test_icon_is_a_picture() -> None:
    response = await page_of(agent("a"), path="/favicon.ico")
    assert response.headers["content-type"] == "image/svg+xml"
    assert response.text.startswith("<svg")


async def test_python_example_is_python_whatever_the_agent_is_called() -> None:
    for name in ("support", NASTY, 'a"b\\', "ünï"):
        text = unescape((await page_of(agent(name))).text)
        (code,) = re.findall(r"<pre>(import asyncio.*?)</pre>", text, re.DOTALL)
        strings = {node.value for node in ast.walk(ast.parse(code)) if isinstance(node, ast.Constant)}
        assert name in strings


async def test_examples_do_what_they_show_when_they_are_pasted() -> None:
    @threadwire.agent
    async def echo(run: threadwire.Run) -> None:
        for command in run.commands:
            assert isinstance(command, threadwire.AddMessage)
            run.state.setdefault("said", []).append(command.message.text)

    app = threadwire.create_app(agents={"echo": echo}, store="memory:")
    async with live_server(app) as (_, port), httpx.AsyncClient() as http:
        page = (await http.get(f"http://127.0.0.1:{port}/about")).text
        frames, python, shell = (unescape(code) for code in re.findall(r"<pre>(.*?)</pre>", page, re.DOTALL))
        with anyio.fail_after(30):
            async with connect(f"ws://127.0.0.1:{port}/ws") as socket:
                for line in frames.splitlines():
                    await socket.send(line)
                while '"said"' not in (received := str(await socket.recv())):
                    assert '"error"' not in received
            done = await anyio.run_process(
                [sys.executable, "-W", "error", "-c", python], stderr=subprocess.STDOUT
            )
            assert done.stdout.decode().splitlines()[-1] == "{'said': ['hello', 'hello']}"
            if shutil.which("curl"):
                done = await anyio.run_process(shell.replace("curl ", "curl --silent --fail --noproxy '*' "))
                assert b"Second" in done.stdout
