"""Bodies that make no sense: each is refused at once by a small error, on every route for stock clients."""

from __future__ import annotations

import anyio
import httpx
import pytest

from tests.support.http import client_of, error_of
from tests.support.malformed import ROUTES, malformed
from tests.support.stock_client import body
from threadwire.endpoints.app import create_app
from threadwire_agents.demos.scripted import scripted

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("path", ROUTES)
@pytest.mark.parametrize("prefix", ["", "/agents/scripted"])
async def test_bodies_that_make_no_sense_are_refused_by_a_small_error(prefix: str, path: str) -> None:
    cases = malformed(path, "t")
    assert len({case.name for case in cases}) >= 60
    app = create_app(agents={"scripted": scripted}, store="memory:")
    async with app.running(), client_of(app) as http:
        assert (await http.post("/assistant", json=body("hello", threadId="t"))).status_code == 200
        before = (await http.get("/threads/t/state")).json()
        for case in cases:
            with anyio.fail_after(60):
                response = await _post(http, prefix + path, case.data)
            error = error_of(response, case.status)
            assert error["code"] == (case.code or error["code"]), (case.name, error)
            assert error["field"].startswith(case.field), (case.name, error)
        assert (await http.get("/threads/t/state")).json() == before
        assert len((await http.get("/threads")).json()["threads"]) == 1
        assert len(app.threads.feeds) == 0


@pytest.mark.parametrize("path", ROUTES)
async def test_the_rest_of_each_of_these_bodies_is_right(path: str) -> None:
    app = create_app(agents={"scripted": scripted}, store="memory:")
    async with app.running(), client_of(app) as http:
        assert (await http.post("/assistant", json=body("hello", threadId="t"))).status_code == 200
        response = await http.post(path, json={"threadId": "t", **ROUTES[path], "more": {"a": [1]}})
        assert response.status_code in (200, 204)


async def _post(http: httpx.AsyncClient, path: str, data: bytes) -> httpx.Response:
    return await http.post(path, content=data, headers={"Content-Type": "application/json"})
