"""Liveness and readiness."""

from __future__ import annotations

import anyio
import httpx
import pytest

import threadwire
from tests.support.engine import engine
from tests.support.http import client_of, error_of, http_client
from threadwire.core.errors import StoreUnavailable
from threadwire.endpoints import health
from threadwire.endpoints.http import http_application
from threadwire.stores.memory import MemoryStore

pytestmark = pytest.mark.anyio


@threadwire.agent
async def idle(run: threadwire.Run) -> None: ...


class Store(MemoryStore):
    """Its check raises `error`, or hangs until `answer` is set."""

    def __init__(self) -> None:
        super().__init__()
        self.error: Exception | None = None
        self.answer: anyio.Event | None = None
        self.checks = 0

    async def check(self) -> None:
        self.checks += 1
        if self.answer is not None:
            await self.answer.wait()
        if self.error is not None:
            raise self.error


@pytest.mark.spec("14.8")
async def test_server_with_its_store_is_alive_and_ready() -> None:
    async with http_client(idle) as (http, _):
        for path in ("/healthz", "/readyz"):
            response = await http.get(path)
            assert (response.status_code, response.json()) == (200, {"status": "ok"})
            assert response.headers["cache-control"] == "no-store"
            assert (await http.head(path)).status_code == 200


@pytest.mark.spec("14.8")
async def test_draining_server_is_alive_and_not_ready() -> None:
    async with http_client(idle) as (http, threads):
        threads.draining = True
        response = await http.get("/readyz")
        assert error_of(response, 503)["code"] == "draining"
        assert response.headers["retry-after"]
        assert (await http.get("/healthz")).status_code == 200


@pytest.mark.parametrize(
    "error", [StoreUnavailable("disk /secret full"), RuntimeError("secret"), OSError(28, "x")]
)
async def test_server_whose_store_takes_no_writes_is_not_ready_until_it_does(
    error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    store = Store()
    async with http_client(idle, store=store) as (http, _):
        store.error = error
        response = await http.get("/readyz")
        assert error_of(response, 503)["code"] == "store-unavailable"
        assert "secret" not in response.text
        assert "not ready" in caplog.text
        assert (await http.get("/healthz")).status_code == 200
        store.error = None
        assert (await http.get("/readyz")).status_code == 200


async def test_store_that_hangs_is_asked_once_and_the_server_not_ready() -> None:
    store = Store()
    async with engine(idle, store=store) as threads:
        app = http_application(health.routes(threads, check_s=0.02), settings=threads.settings)
        async with client_of(app) as http:
            store.answer = anyio.Event()
            with anyio.fail_after(60):
                answers: list[httpx.Response] = []

                async def probe() -> None:
                    answers.append(await http.get("/readyz"))

                async with anyio.create_task_group() as group:
                    for _ in range(10):
                        group.start_soon(probe)
                for answer in answers:
                    assert error_of(answer, 503)["code"] == "store-unavailable"
                assert (await http.get("/readyz")).status_code == 503
                assert store.checks == 1
                assert (await http.get("/healthz")).status_code == 200
                store.answer.set()
                while (await http.get("/readyz")).status_code != 200:
                    pass


async def test_store_is_given_two_seconds() -> None:
    assert health.CHECK_S == 2
