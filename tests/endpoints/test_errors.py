"""What goes wrong becomes a response: coded, small, and silent about the inside."""

from __future__ import annotations

import logging

import pytest
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from tests.support.http import client_of, error_of
from tests.support.spec import section, tables, words
from threadwire.core.errors import (
    CODES,
    CommandError,
    ProtocolError,
    Refused,
    StoreUnavailable,
    WriteConflict,
)
from threadwire.endpoints.errors import STATUSES
from threadwire.endpoints.http import http_application
from threadwire.engine.settings import Settings

pytestmark = pytest.mark.anyio


async def answer_to(error: Exception) -> tuple[int, dict[str, str], dict[str, str]]:
    """(status, error, headers) that the exception becomes."""

    async def endpoint(request: Request) -> Response:
        raise error

    app = http_application(
        [Route("/secret-path", endpoint)], settings=Settings(new_id=lambda: "reference-1234")
    )
    async with client_of(app) as client:
        response = await client.get("/secret-path")
    return response.status_code, error_of(response, response.status_code), dict(response.headers)


@pytest.mark.spec("14.2")
def test_statuses_are_those_of_the_specification() -> None:
    (rows,) = tables(section("14.2"))
    stated = {code: int(row["status"]) for row in rows for code in words(row["codes"])}
    assert {code: status for code, status in stated.items() if status != 400} == STATUSES
    assert stated.keys() | STATUSES.keys() <= CODES.keys()


@pytest.mark.parametrize(
    ("code", "status"),
    [
        ("malformed", 400),
        ("duplicate-key", 400),
        ("invalid-request", 400),
        ("invalid-command", 400),
        ("a-code-of-the-agent", 400),
        ("unauthenticated", 401),
        ("forbidden", 403),
        ("not-found", 404),
        ("conflict", 409),
        ("agent-mismatch", 409),
        ("history-gone", 410),
        ("too-large", 413),
        ("wrong-content-type", 415),
        ("overloaded", 503),
    ],
)
async def test_refusal_has_the_status_of_its_code(
    caplog: pytest.LogCaptureFixture, code: str, status: int
) -> None:
    got, error, headers = await answer_to(CommandError(code, "why", "body.title"))
    assert (got, error) == (status, {"code": code, "message": "why", "field": "body.title"})
    assert ("retry-after" in headers) == (status == 503)
    assert ("www-authenticate" in headers) == (status == 401)
    assert not caplog.records


async def test_error_without_a_field_has_no_field() -> None:
    assert (await answer_to(Refused("not-found", "gone")))[1] == {"code": "not-found", "message": "gone"}
    assert (await answer_to(ProtocolError("too-large", "large", 1009)))[0] == 413


async def test_store_failure_is_503_and_its_text_stays_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    for failure in (StoreUnavailable("disk /var/secret is full"), WriteConflict("owner 10.0.0.7")):
        caplog.clear()
        status, error, headers = await answer_to(failure)
        assert (status, error["code"]) == (503, "store-unavailable")
        assert headers["retry-after"] == "1"
        assert str(failure) not in error["message"]
        assert str(failure) in caplog.text
        assert "Traceback" not in caplog.text


async def test_unexpected_exception_is_a_reference_for_the_client_and_a_traceback_for_the_log(
    caplog: pytest.LogCaptureFixture,
) -> None:
    status, error, _ = await answer_to(RuntimeError("password=hunter2"))
    assert (status, error["code"]) == (500, "internal")
    assert "referenc" in error["message"]
    assert "hunter2" not in error["message"]
    assert "RuntimeError" not in error["message"]
    (record,) = caplog.records
    assert record.levelno == logging.ERROR
    assert "[referenc]" in record.getMessage()
    assert "hunter2" in caplog.text


async def test_exceptions_of_starlette_are_answered_alike() -> None:
    assert (await answer_to(HTTPException(401)))[1]["code"] == "unauthenticated"
    assert (await answer_to(HTTPException(503)))[2]["retry-after"] == "1"
    assert (await answer_to(HTTPException(422, detail="odd")))[:2] == (
        422,
        {"code": "invalid-request", "message": "odd"},
    )
    status, error, headers = await answer_to(HTTPException(429, headers={"Retry-After": "7"}))
    assert (status, error["code"], headers["retry-after"]) == (429, "invalid-request", "7")


async def test_unknown_paths_and_methods_are_answered_in_json() -> None:
    async def endpoint(request: Request) -> Response:
        return Response()

    app = http_application([Route("/a", endpoint, methods=["GET", "POST"])], settings=Settings())
    async with client_of(app) as client:
        for path in ("/", "/b", "/a/", "/a/b", "/%00", "//a", "/%f0%28", "/..%2f..%2fetc/passwd", "/a%3f"):
            assert error_of(await client.get(path), 404)["code"] == "not-found"
        for method in ("PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "BREW"):
            response = await client.request(method, "/a")
            assert error_of(response, 405)["code"] == "method-not-allowed"
            assert set(response.headers["allow"].split(", ")) == {"GET", "HEAD", "POST"}


async def test_stream_that_fails_midway_is_cut_not_ended() -> None:
    async def chunks() -> object:
        yield b"one"
        raise RuntimeError("broken")

    async def endpoint(request: Request) -> Response:
        return StreamingResponse(chunks())  # type: ignore[arg-type]

    app = http_application([Route("/stream", endpoint)], settings=Settings())
    async with client_of(app) as client:
        with pytest.raises(RuntimeError, match="broken"):
            await client.get("/stream")


async def test_responses_are_not_stored_and_not_sniffed_unless_they_say_so() -> None:
    async def endpoint(request: Request) -> Response:
        return Response("x", headers={"Cache-Control": "no-cache"} if "keep" in request.query_params else {})

    app = http_application([Route("/a", endpoint)], settings=Settings())
    async with client_of(app) as client:
        plain, kept = await client.get("/a"), await client.get("/a?keep")
    assert (plain.headers["cache-control"], kept.headers["cache-control"]) == ("no-store", "no-cache")
    assert plain.headers["x-content-type-options"] == "nosniff"
