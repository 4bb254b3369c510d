"""The vectors for stock clients' requests against this implementation."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import urlencode

import httpx
import pytest

from tests.support.http import client_of, error_of
from tests.support.spec import parametrize, vectors
from tests.support.stock_client import StreamReader
from threadwire.endpoints.app import create_app
from threadwire.engine.settings import Settings
from threadwire.stores.memory import MemoryStore
from threadwire_agents.demos import scripted

pytestmark = pytest.mark.anyio


def content(case: dict[str, Any]) -> bytes:
    """The request's body."""
    if "hex" in case:
        return bytes.fromhex(case["hex"])
    if "text" in case:
        nest = case.get("nest", 0)
        filling = "x" * case["fill"] if "fill" in case else "[" * nest + "]" * nest
        return str(case["text"]).replace("%s", filling).encode()
    value = case["body"]
    if "repeat" in case:
        value = {**value, "commands": value["commands"] * case["repeat"]}
    return json.dumps(value).encode()


@parametrize("assistant")
async def test_requests_of_stock_clients(case: dict[str, Any]) -> None:
    app = create_app(agents={"scripted": scripted}, store=MemoryStore(), settings=Settings())
    async with app.running(), client_of(app) as http:
        response = await http.post(
            case.get("path", "/assistant"),
            content=content(case),
            params=urlencode(case.get("query", {})),
            headers=httpx.Headers(
                {"Content-Type": "application/json", **case.get("headers", {})}, encoding="utf-8"
            ),
        )
        if case["status"] >= 400:
            error = error_of(response, case["status"])
            assert error["code"] == case["error"]
            assert error.get("field") == case.get("field", error.get("field"))
            assert not [thread for thread in app.threads.loaded() if thread.head]
            assert (await http.get("/threads")).json()["threads"] == []
            return
        assert response.status_code == case["status"], response.text
        if case["status"] == 200:
            reader = StreamReader("data-stream")
            reader.feed(response.content)
            reader.end()
            assert reader.errors == []
            assert len(reader.states) >= 1
        else:
            assert response.content == b""


def test_many_ways_to_be_wrong_have_a_vector() -> None:
    wrong = [case for case in vectors("assistant") if case["status"] >= 400]
    assert len(wrong) >= 60
    assert {case["status"] for case in wrong} == {400, 404, 413, 415}
