"""The playground's files: served as they are, from this server alone, or not at all."""

from __future__ import annotations

import gzip
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest

import threadwire
from tests.support.engine import engine
from tests.support.http import client_of, error_of
from threadwire.endpoints import page
from threadwire.endpoints.http import http_application
from threadwire.endpoints.playground import Playground

pytestmark = pytest.mark.anyio

SCRIPT = b"console.log('playground');" * 100


@threadwire.agent
async def echo(run: threadwire.Run) -> None: ...


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    built = tmp_path / "built"
    (built / "assets").mkdir(parents=True)
    (built / "index.html").write_text("<!doctype html><title>Threadwire</title>")
    (built / "assets" / "index-1a2b.js").write_bytes(SCRIPT)
    (built / "third-party-licences.md").write_text("# Licences")
    (tmp_path / "secret.txt").write_text("secret")
    return built


@asynccontextmanager
async def served(folder: Path) -> AsyncIterator[httpx.AsyncClient]:
    async with engine(echo) as threads:
        routes = page.routes(threads, Playground(folder))
        async with client_of(http_application(routes, settings=threads.settings)) as client:
            yield client


async def test_root_is_the_playground_and_about_the_page_that_tells_what_is_served(folder: Path) -> None:
    async with served(folder) as http:
        root = await http.get("/")
        assert root.headers["content-type"] == "text/html; charset=utf-8"
        assert root.text == "<!doctype html><title>Threadwire</title>"
        about = (await http.get("/about")).text
        assert "echo" in about
        assert "make page" not in about


async def test_where_it_is_not_built_the_other_page_stands_in_its_place(tmp_path: Path) -> None:
    async with served(tmp_path / "nowhere") as http:
        root = await http.get("/")
        assert "make page" in root.text
        assert "echo" in root.text
        error_of(await http.get("/assets/index.js"), 404)
        error_of(await http.get("/third-party-licences.md"), 404)


async def test_browser_may_run_and_reach_only_what_is_of_this_server(folder: Path) -> None:
    async with served(folder) as http:
        headers = (await http.get("/")).headers
    policy = dict(rule.split(" ", 1) for rule in headers["content-security-policy"].split("; "))
    assert policy["default-src"] == policy["base-uri"] == policy["frame-ancestors"] == "'none'"
    assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == "'self'"
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"


async def test_files_are_compressed_for_those_who_can_read_it(folder: Path) -> None:
    async with served(folder) as http:
        plain = await http.get("/assets/index-1a2b.js", headers={"accept-encoding": "identity"})
        assert plain.content == SCRIPT
        assert "content-encoding" not in plain.headers
        async with http.stream("GET", "/assets/index-1a2b.js") as packed:
            raw = b"".join([part async for part in packed.aiter_raw()])
    assert packed.headers["content-encoding"] == "gzip"
    assert packed.headers["content-type"] == "text/javascript; charset=utf-8"
    assert gzip.decompress(raw) == SCRIPT
    assert len(raw) < len(SCRIPT) / 10


async def test_assets_are_kept_for_ever_and_the_page_is_asked_for_anew(folder: Path) -> None:
    async with served(folder) as http:
        asset = await http.get("/assets/index-1a2b.js")
        assert "immutable" in asset.headers["cache-control"]
        root = await http.get("/")
        assert root.headers["cache-control"] == "no-cache"
        again = await http.get("/", headers={"if-none-match": root.headers["etag"]})
        assert again.status_code == 304
        assert again.content == b""


@pytest.mark.parametrize(
    "path", ["/assets/..%2f..%2fsecret.txt", "/assets/%2e%2e/index.html", "/assets/none.js", "/assets/a%00b"]
)
async def test_nothing_else_can_be_read(folder: Path, path: str) -> None:
    async with served(folder) as http:
        error_of(await http.get(path), 404)
