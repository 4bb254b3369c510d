"""The HTTP routes over a running engine, and a client that talks to them inside the process."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Any

import httpx
from starlette.routing import BaseRoute

from tests.support.engine import engine
from threadwire.endpoints import health, page, schema, threads
from threadwire.endpoints.http import http_application
from threadwire.engine.settings import Settings
from threadwire.engine.store import Store
from threadwire.engine.threads import Threads


@asynccontextmanager
async def http_client(
    *targets: Any,
    store: Store | None = None,
    settings: Settings | None = None,
    allow_origins: Iterable[str] = (),
    more_routes: Iterable[BaseRoute] = (),
) -> AsyncIterator[tuple[httpx.AsyncClient, Threads]]:
    """A client of all routes over the given agents; what the application raises, the test gets."""
    async with engine(*targets, store=store, settings=settings) as running:
        parts = (threads, schema, health, page)
        app = http_application(
            [*(route for part in parts for route in part.routes(running)), *more_routes],
            settings=running.settings,
            allow_origins=allow_origins,
        )
        async with client_of(app) as client:
            yield client, running


def client_of(app: Any) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://threadwire.test")


def error_of(response: httpx.Response, status: int) -> dict[str, str]:
    """The error of a refusal, checked for its form."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/json"
    assert response.headers["cache-control"] == "no-store"
    if response.request.method == "HEAD":
        return {}
    assert len(response.content) < 1000
    assert "Traceback" not in response.text
    body = response.json()
    assert body.keys() == {"error"}
    error = body["error"]
    assert {"code", "message"} <= error.keys() <= {"code", "message", "field"}
    assert all(type(value) is str and value for value in error.values())
    return dict(error)
