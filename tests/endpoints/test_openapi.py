"""The OpenAPI document: complete, and true of a real server for requests that nobody thought of."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)
from starlette.routing import Route

from tests.support.http import client_of
from threadwire.endpoints.app import create_app
from threadwire.endpoints.openapi import openapi
from threadwire_agents.demos import agents, scripted

SCHEMA = schemathesis.openapi.from_dict(openapi())
ELSEWHERE = {"/", "/about", "/assets/{name}", "/favicon.ico", "/third-party-licences.md", "/ws"}
"""For browsers and WebSockets, not for programs."""


@pytest.mark.spec("14.15")
@pytest.mark.anyio
async def test_document_is_served_and_may_be_kept() -> None:
    app = create_app(agents=agents(), store="memory:")
    async with app.running(), client_of(app) as http:
        answer = await http.get("/openapi.json")
        assert answer.json() == openapi()
        assert answer.json()["openapi"].startswith("3.1")
        again = await http.get("/openapi.json", headers={"If-None-Match": answer.headers["etag"]})
        assert again.status_code == 304


def test_every_route_is_in_the_document_and_every_path_is_a_route() -> None:
    app = create_app(agents={"scripted": scripted}, store="memory:")
    routed = {
        (route.path, method.lower())
        for route in app._http.routes
        if isinstance(route, Route)
        for method in route.methods or ()
        if method != "HEAD" and route.path not in ELSEWHERE
    }
    documented = {
        (path, method)
        for path, item in openapi()["paths"].items()
        for method in item
        if method != "parameters"
    }
    assert documented == routed


def test_operations_have_names_of_their_own() -> None:
    paths = openapi()["paths"].values()
    names = [item[method]["operationId"] for item in paths for method in item if method != "parameters"]
    assert len(names) == len(set(names))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a server in a process of its own."""
    directory: Path = tmp_path_factory.mktemp("openapi")
    log = directory / "server.log"
    command = [
        sys.executable,
        "-W",
        "error",
        "-m",
        "threadwire",
        "serve",
        "--store",
        "memory:",
        "--port",
        "0",
    ]
    target = "scripted=threadwire_agents.demos.scripted:scripted"
    with (
        log.open("wb") as errors,
        subprocess.Popen(
            [*command, target],
            stdout=subprocess.PIPE,
            stderr=errors,
            cwd=directory,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
        ) as process,
    ):
        assert process.stdout is not None
        line = process.stdout.readline().decode()
        found = re.search(r"http://127\.0\.0\.1:\d+", line)
        assert found is not None, log.read_text()
        try:
            yield found[0]
        finally:
            process.terminate()
            process.stdout.read()
    assert process.returncode == 0
    assert "Traceback" not in log.read_text()


@SCHEMA.parametrize()
@settings(
    max_examples=25, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck), database=None
)
def test_server_answers_as_the_document_says(case: Any, server: str) -> None:
    response = case.call(base_url=server, timeout=60)
    case.validate_response(
        response,
        checks=[
            not_a_server_error,
            status_code_conformance,
            content_type_conformance,
            response_schema_conformance,
        ],
    )
    if response.status_code >= 400:
        error = response.json()["error"]
        assert {"code", "message"} <= error.keys() <= {"code", "message", "field"}
        assert len(response.content) < 1000
