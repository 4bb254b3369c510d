"""Which origins may change something; and what CORS tells the allowed ones."""

from __future__ import annotations

import httpx
import pytest
from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from tests.support.http import client_of, error_of
from threadwire.endpoints.http import http_application
from threadwire.endpoints.origin import normal_origin, origin_allowed
from threadwire.endpoints.responses import json_response
from threadwire.engine.settings import Settings

pytestmark = pytest.mark.anyio


async def endpoint(request: Request) -> Response:
    return json_response({}, 201, {"Location": "/things/1"})


def client(*allow_origins: str) -> httpx.AsyncClient:
    routes = [Route("/things", endpoint, methods=["GET", "POST", "DELETE"])]
    return client_of(http_application(routes, settings=Settings(), allow_origins=allow_origins))


@pytest.mark.parametrize(
    ("origin", "host"),
    [
        (None, "a.example"),
        ("http://a.example", "a.example"),
        ("https://a.example", "a.example"),
        ("http://a.example", "a.example:80"),
        ("https://a.example", "a.example:443"),
        ("https://a.example:443", "a.example"),
        ("http://127.0.0.1:8000", "127.0.0.1:8000"),
        ("http://[::1]:8000", "[::1]:8000"),
        ("http://A.Example", "a.EXAMPLE"),
    ],
)
def test_no_origin_and_the_same_are_allowed(origin: str | None, host: str) -> None:
    assert origin_allowed(headers(origin, host), ())


@pytest.mark.parametrize(
    ("origin", "host"),
    [
        ("null", "a.example"),
        ("null", "null"),
        ("", "a.example"),
        ("", ""),
        ("http://b.example", "a.example"),
        ("http://a.example:8000", "a.example"),
        ("http://a.example", "a.example:8000"),
        ("http://a.example", "a.example:443"),
        ("https://a.example", "a.example:80"),
        ("http://a.example.b.example", "a.example"),
        ("http://b.example/a.example", "a.example"),
        ("http://a.example@b.example", "a.example"),
        ("http://a.example#@b.example", "b.example"),
        ("http://a.example", "user@a.example"),
        ("http://a.example", ""),
        ("http://a.example", None),
        ("http://", ""),
        ("ftp://a.example", "a.example"),
        ("chrome-extension://a.example", "a.example"),
        ("a.example", "a.example"),
        ("http://a.example\n", "a.example"),
        ("http://[::1", "[::1"),
        ("http://a.example:99999999999", "a.example:99999999999"),
    ],
)
def test_other_and_senseless_origins_are_refused(origin: str, host: str | None) -> None:
    assert not origin_allowed(headers(origin, host), ())
    assert origin_allowed(headers(origin, host), ["*"])


def test_listed_origins_are_allowed_in_any_spelling() -> None:
    allowed = ["https://App.example:443/", "tauri://localhost", "nonsense"]
    for origin in ("https://app.example", "https://app.example:443", "tauri://localhost"):
        assert origin_allowed(headers(origin, "a.example"), allowed)
    for origin in ("http://app.example", "https://app.example:444", "null", "nonsense"):
        assert not origin_allowed(headers(origin, "a.example"), allowed)


def test_two_origins_or_hosts_are_refused() -> None:
    both = [("origin", "http://a.example"), ("origin", "http://b.example"), ("host", "a.example")]
    assert not origin_allowed(Headers(raw=[(k.encode(), v.encode()) for k, v in both]), ())
    hosts = [("origin", "http://a.example"), ("host", "a.example"), ("host", "b.example")]
    assert not origin_allowed(Headers(raw=[(k.encode(), v.encode()) for k, v in hosts]), ())


@pytest.mark.parametrize("origin", ["null", "example.com", "https://a.example/path", "", "https://"])
def test_allow_list_with_something_else_than_origins_is_an_error(origin: str) -> None:
    with pytest.raises(ValueError, match="no origin"):
        client(origin)
    with pytest.raises(ValueError, match="no origin"):
        normal_origin(origin)


async def test_other_sites_can_change_nothing() -> None:
    async with client() as http:
        for method in ("POST", "DELETE"):
            for origin in ("http://evil.example", "null"):
                response = await http.request(method, "/things", headers={"origin": origin})
                assert error_of(response, 403)["code"] == "forbidden"
                assert "access-control-allow-origin" not in response.headers
        assert (await http.post("/things", headers={"origin": "http://threadwire.test"})).status_code == 201
        assert (await http.post("/things")).status_code == 201


async def test_other_sites_get_what_they_read_without_the_leave_to_see_it() -> None:
    async with client("https://app.example") as http:
        response = await http.get("/things", headers={"origin": "http://evil.example"})
        assert response.status_code == 201
        assert "access-control-allow-origin" not in response.headers


async def test_allowed_origin_reads_answers_errors_and_their_headers() -> None:
    async with client("https://app.example") as http:
        for path in ("/things", "/nothing"):
            response = await http.post(path, headers={"origin": "https://app.example"})
            assert response.headers["access-control-allow-origin"] == "https://app.example"
            assert response.headers["access-control-allow-credentials"] == "true"
            assert "Origin" in response.headers["vary"]
            exposed = response.headers["access-control-expose-headers"]
            ours = {"Aui-Replay-Content-Length", "Threadwire-Thread"}
            ours |= {"x-vercel-ai-data-stream", "x-vercel-ai-ui-message-stream"}
            assert {"ETag", "Location", "Retry-After"} | ours == set(exposed.split(", "))


async def test_any_origin_is_allowed_without_its_cookies() -> None:
    async with client("*") as http:
        response = await http.post("/things", headers={"origin": "http://evil.example"})
        assert response.status_code == 201
        assert response.headers["access-control-allow-origin"] == "*"
        assert "access-control-allow-credentials" not in response.headers


async def test_preflight_tells_allowed_origins_what_they_may_send() -> None:
    ask = {
        "access-control-request-method": "PATCH",
        "access-control-request-headers": "authorization,content-type,traceparent,x-of-the-page",
    }
    async with client("https://app.example") as http:
        response = await http.options("/things", headers={"origin": "https://app.example", **ask})
        assert response.status_code == 200
        assert "PATCH" in response.headers["access-control-allow-methods"]
        assert response.headers["access-control-allow-headers"] == ask["access-control-request-headers"]
        assert response.headers["x-content-type-options"] == "nosniff"
        refused = await http.options("/things", headers={"origin": "https://evil.example", **ask})
        assert error_of(refused, 403)["code"] == "forbidden"
        assert "access-control-allow-origin" not in refused.headers


def headers(origin: str | None, host: str | None) -> Headers:
    given = {"origin": origin, "host": host}
    return Headers({name: value for name, value in given.items() if value is not None})
