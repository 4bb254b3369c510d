"""Hostile bodies over HTTP: refused by name, small, and without a trace in the log."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import anyio
import httpx
import msgspec
import pytest
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from tests.support.http import client_of, error_of
from threadwire.core.frames import Limits
from threadwire.endpoints.app import create_app
from threadwire.endpoints.bodies import read_body, read_query
from threadwire.endpoints.http import http_application
from threadwire.endpoints.responses import json_response
from threadwire.engine.settings import Settings
from threadwire_agents.demos.scripted import scripted

pytestmark = pytest.mark.anyio

JSON = {"content-type": "application/json"}


class Part(msgspec.Struct):
    name: str
    count: int = 0


class Thing(msgspec.Struct):
    title: str = ""
    custom: dict[str, Any] = {}
    parts: list[Part] = []


class Query(msgspec.Struct):
    limit: int = 1
    name: str | None = None


async def post(request: Request) -> Response:
    return json_response(await read_body(request, Thing, Limits()))


async def get(request: Request) -> Response:
    return json_response(read_query(request, Query))


@pytest.fixture
def client() -> httpx.AsyncClient:
    routes = [Route("/things", post, methods=["POST"]), Route("/query", get)]
    return client_of(http_application(routes, settings=Settings()))


@pytest.mark.parametrize(
    ("body", "code", "field"),
    [
        (b"not json", "malformed", "body"),
        (b'{"title": "x"', "malformed", "body"),
        (b'{"title": "x"} {}', "malformed", "body"),
        (b"\xff\xfe", "malformed", "body"),
        (b'{"title": "\xff"}', "malformed", "body"),
        (b'\xef\xbb\xbf{"title": "x"}', "malformed", "body"),
        (b"\x00", "malformed", "body"),
        (b"   ", "malformed", "body"),
        (b'{"custom": {"a": NaN}}', "not-finite", "body.custom.a"),
        (b'{"custom": {"a": -Infinity}}', "not-finite", "body.custom.a"),
        (b'{"custom": {"a": 1e400}}', "not-finite", "body.custom.a"),
        (b'{"title": "a", "title": "b"}', "duplicate-key", "body.title"),
        (b'{"custom": {"a": [{"b": 1, "b": 1}]}}', "duplicate-key", "body.custom.a.0.b"),
        (b'{"title": "\\ud800"}', "invalid-unicode", "body.title"),
        (b'{"custom": {"\\udfff": 1}}', "invalid-unicode", "body.custom.?"),
        (b'{"custom": {"n": 9007199254740992}}', "integer-range", "body.custom.n"),
        (b'{"custom": {"n": ' + b"9" * 5000 + b"}}", "integer-range", "body.custom.n"),
        (b'{"custom": {"__proto__": {}}}', "forbidden-key", "body.custom.__proto__"),
        (b'{"constructor": 1}', "forbidden-key", "body.constructor"),
        (b"[]", "invalid-request", "body"),
        (b'"text"', "invalid-request", "body"),
        (b"null", "invalid-request", "body"),
        (b'{"title": 1}', "invalid-request", "body.title"),
        (b'{"title": null}', "invalid-request", "body.title"),
        (b'{"custom": []}', "invalid-request", "body.custom"),
        (b'{"parts": [{"name": "a"}, {}]}', "invalid-request", "body.parts.1.name"),
        (b'{"parts": [{"name": "a", "count": true}]}', "invalid-request", "body.parts.0.count"),
    ],
)
@pytest.mark.spec("14.1")
async def test_hostile_body_is_refused_and_the_field_named(
    client: httpx.AsyncClient, caplog: pytest.LogCaptureFixture, body: bytes, code: str, field: str
) -> None:
    async with client:
        error = error_of(await client.post("/things", content=body, headers=JSON), 400)
    assert (error["code"], error.get("field")) == (code, field)
    assert not caplog.records


@pytest.mark.parametrize("depth", [101, 2_000, 100_000])
@pytest.mark.parametrize(("begin", "end"), [(b"[", b"]"), (b'{"a":', b"}")])
async def test_deep_body_is_refused(
    client: httpx.AsyncClient, caplog: pytest.LogCaptureFixture, depth: int, begin: bytes, end: bytes
) -> None:
    body = b'{"custom": {"deep": ' + begin * depth + b"1" + end * depth + b"}}"
    async with client:
        error = error_of(await client.post("/things", content=body, headers=JSON), 400)
    assert error["code"] == "too-deep"
    assert error["field"].startswith("body")
    assert not caplog.records


async def test_values_may_be_as_deep_in_a_body_as_in_a_state(client: httpx.AsyncClient) -> None:
    value: Any = 1
    for _ in range(99):
        value = [value]
    async with client:
        response = await client.post("/things", json={"custom": {"deep": value}})
        assert response.json()["custom"]["deep"] == value
        assert error_of(await client.post("/things", json={"custom": {"deep": [value]}}), 400)["code"] == (
            "too-deep"
        )


@pytest.mark.parametrize("length", [None, "2", "5242880"])
async def test_large_body_is_refused_before_it_is_held_whatever_its_content_length_says(
    client: httpx.AsyncClient, length: str | None
) -> None:
    read = 0

    async def body() -> AsyncIterator[bytes]:
        nonlocal read
        for _ in range(80):
            read += 64 * 1024
            yield b" " * 64 * 1024

    headers = {**JSON, **({} if length is None else {"content-length": length})}
    async with client:
        error = error_of(await client.post("/things", content=body(), headers=headers), 413)
    assert (error["code"], error["field"]) == ("too-large", "body")
    assert read <= Limits().max_frame_bytes + 2 * 64 * 1024


@pytest.mark.spec("14.1")
async def test_body_of_exactly_the_limit_is_read(client: httpx.AsyncClient) -> None:
    frame = len(json.dumps({"title": ""}))
    title = "x" * (Limits().max_frame_bytes - frame)
    async with client:
        response = await client.post("/things", content=json.dumps({"title": title}), headers=JSON)
        assert response.json()["title"] == title
        body = json.dumps({"title": title + "x"})
        assert error_of(await client.post("/things", content=body, headers=JSON), 413)["code"] == "too-large"


@pytest.mark.parametrize("type", [None, "", "text/plain", "application/x-www-form-urlencoded", "json", "*/*"])
async def test_body_of_another_type_is_refused(client: httpx.AsyncClient, type: str | None) -> None:
    headers = {} if type is None else {"content-type": type}
    async with client:
        error = error_of(await client.post("/things", content=b"{}", headers=headers), 415)
    assert error["code"] == "wrong-content-type"


async def test_compressed_body_is_refused(client: httpx.AsyncClient) -> None:
    headers = {**JSON, "content-encoding": "gzip"}
    async with client:
        error = error_of(await client.post("/things", content=b"\x1f\x8b", headers=headers), 415)
    assert error["code"] == "wrong-content-type"


async def test_json_type_is_known_in_any_case_and_with_parameters(client: httpx.AsyncClient) -> None:
    async with client:
        for type in ("Application/JSON", "application/json; charset=utf-8", "application/json ;x=y"):
            response = await client.post("/things", content=b'{"title": "t"}', headers={"content-type": type})
            assert response.json()["title"] == "t"


@pytest.mark.spec("14.1")
async def test_no_body_is_an_empty_object_of_no_type(client: httpx.AsyncClient) -> None:
    async with client:
        assert (await client.post("/things")).json() == {"title": "", "custom": {}, "parts": []}


@pytest.mark.spec("14.1")
async def test_unknown_members_and_parameters_are_ignored(client: httpx.AsyncClient) -> None:
    async with client:
        assert (await client.post("/things", json={"titel": 1})).status_code == 200
        assert (await client.get("/query?limmit=x&limit=3")).json() == {"limit": 3, "name": None}


@pytest.mark.parametrize("limit", ["", "x", "1.5", "null", "true", "9" * 5000, "%00", "%ff", "1%0a"])
async def test_parameter_that_is_no_number_is_refused_by_name(client: httpx.AsyncClient, limit: str) -> None:
    async with client:
        error = error_of(await client.get(f"/query?limit={limit}"), 400)
    assert (error["code"], error["field"]) == ("invalid-request", "query.limit")


async def test_text_parameters_are_taken_as_they_are(client: httpx.AsyncClient) -> None:
    async with client:
        for name in ("null", "1", "", "é\n"):
            assert (await client.get("/query", params={"name": name})).json()["name"] == name


async def test_client_that_leaves_during_its_body_is_not_answered(caplog: pytest.LogCaptureFixture) -> None:
    app = http_application([Route("/things", post, methods=["POST"])], settings=Settings())
    sent: list[Any] = []
    messages = iter([{"type": "http.request", "body": b"{", "more_body": True}, {"type": "http.disconnect"}])

    async def receive() -> Any:
        return next(messages)

    async def send(message: Any) -> None:
        sent.append(message)

    headers = [(b"content-type", b"application/json"), (b"host", b"h")]
    scope = {"type": "http", "method": "POST", "path": "/things", "query_string": b"", "headers": headers}
    await app(scope, receive, send)
    assert sent == []
    assert not caplog.records


@pytest.mark.parametrize(
    ("type", "length", "status", "code"),
    [
        ("application/json", 10**10, 413, "too-large"),
        ("application/json", "9" * 50, 413, "too-large"),
        ("text/plain", 10, 415, "wrong-content-type"),
    ],
)
@pytest.mark.parametrize("path", ["/threads", "/assistant", "/resume", "/initial-state", "/cancel", "/chat"])
async def test_what_the_headers_tell_is_refused_before_the_body_has_come(
    path: str, type: str, length: Any, status: int, code: str
) -> None:
    async def never() -> AsyncIterator[bytes]:
        yield b"{"
        await anyio.sleep_forever()

    headers = {"Content-Type": type, "Content-Length": str(length)}
    app = create_app(agents={"scripted": scripted}, store="memory:")
    with anyio.fail_after(60):
        async with app.running(), client_of(app) as http:
            error = error_of(await http.post(path, content=never(), headers=headers), status)
    assert (error["code"], error["field"]) == (code, "body")


async def test_body_that_does_not_come_is_refused() -> None:
    async def hurried(request: Request) -> Response:
        return json_response(await read_body(request, Thing, Limits(unresponsive_s=0.05)))

    async def never() -> AsyncIterator[bytes]:
        yield b"{"
        await anyio.sleep_forever()

    app = http_application([Route("/things", hurried, methods=["POST"])], settings=Settings())
    with anyio.fail_after(60):
        async with client_of(app) as http:
            error = error_of(await http.post("/things", content=never(), headers=JSON), 400)
    assert error == {
        "code": "invalid-request",
        "message": "the body did not come within 0.05 s",
        "field": "body",
    }
