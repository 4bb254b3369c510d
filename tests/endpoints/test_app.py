"""What `create_app` puts together, as clients of a real server meet it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
import httpx
import pytest
from starlette.applications import Starlette
from starlette.routing import Mount
from websockets.asyncio.client import connect as dial
from websockets.exceptions import InvalidStatus

import threadwire
from tests.support.live_server import live_server
from threadwire.client import ConnectionClosed, connect
from threadwire.endpoints.uvicorn_protocol import WebSocketProtocol

pytestmark = pytest.mark.anyio


@threadwire.agent
async def echo(run: threadwire.Run) -> None:
    for command in run.commands:
        assert isinstance(command, threadwire.AddMessage)
        run.state["said"] = command.message.text


def app() -> threadwire.Application:
    return threadwire.create_app(agents={"echo": echo}, store="memory:")


async def test_application_works_where_another_one_mounts_it() -> None:
    inner = app()

    @asynccontextmanager
    async def lifespan(outer: Starlette) -> AsyncIterator[None]:
        async with inner.running():
            yield

    outer = Starlette(routes=[Mount("/agents", inner)], lifespan=lifespan)
    async with live_server(outer, lifespan="on") as (_, port), httpx.AsyncClient(timeout=60) as http:
        url = f"127.0.0.1:{port}/agents"
        assert f"ws://{url}/ws" in (await http.get(f"http://{url}/about")).text
        with anyio.fail_after(60):
            async with connect(f"ws://{url}/ws") as connection, connection.open("t") as thread:
                await thread.send(threadwire.AddMessage.text("hello"))
                await thread.idle()
                assert thread.state == {"said": "hello"}
        assert (await http.get(f"http://{url}/threads/t/state")).json()["state"] == {"said": "hello"}


@pytest.mark.spec("5.1")
async def test_plain_request_to_the_websocket_is_told_what_it_is() -> None:
    async with live_server(app()) as (_, port), httpx.AsyncClient(timeout=60) as http:
        response = await http.get(f"http://127.0.0.1:{port}/ws")
        assert response.status_code == 426
        assert response.headers["upgrade"] == "websocket"
        assert "ws://" in response.json()["error"]["message"]


@pytest.mark.spec("5.1")
@pytest.mark.parametrize("path", ["/", "/wss", "/ws/", "/threads/ws"])
async def test_handshake_at_a_path_without_websocket_is_told_where_it_is(path: str) -> None:
    async with live_server(app(), ws=WebSocketProtocol) as (_, port):
        with pytest.raises(InvalidStatus) as refused:
            await dial(f"ws://127.0.0.1:{port}{path}")
        assert refused.value.response.status_code == 404
        assert b"it is at /ws" in refused.value.response.body
        with pytest.raises(ConnectionClosed, match="it is at /ws"):
            async with connect(f"ws://127.0.0.1:{port}{path}"):
                pass


async def test_refused_handshake_is_no_error_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    async with live_server(app(), ws=WebSocketProtocol) as (_, port):
        for options in ({"origin": "http://evil.example"}, {"subprotocols": ["mqtt"]}):
            with pytest.raises(InvalidStatus):
                await dial(f"ws://127.0.0.1:{port}/ws", **options)  # type: ignore[arg-type]
    assert not caplog.records
