"""The session scripts of the specification against a server on a real socket, in both encodings."""

from __future__ import annotations

import copy
from collections.abc import AsyncIterator, Sequence
from typing import Any

import httpx
import pytest
from starlette.types import Receive, Scope, Send
from websockets.asyncio.client import ClientConnection
from websockets.asyncio.client import connect as dial
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.typing import Subprotocol

from tests.support.live_server import live_server
from tests.support.player import (
    Encoding,
    HandshakeRefused,
    Peer,
    PeerClosed,
    play,
)
from tests.support.spec import vectors
from threadwire.core.frames import Limits
from threadwire.endpoints.app import Application, create_app
from threadwire.endpoints.uvicorn_protocol import WebSocketProtocol
from threadwire_agents.demos.scripted import scripted

pytestmark = pytest.mark.anyio

seeded = copy.copy(scripted)
seeded.seed = True
AGENTS = {"scripted": scripted, "other": scripted, "seeded": seeded}

SCRIPTS = [
    pytest.param(script, encoding, id=f"{script['name']}-{encoding}")
    for script in (*vectors("sessions"), *vectors("http"))
    for encoding in script.get("encodings", ("json", "msgpack"))
]


class SocketPeer:
    """A connection of the `websockets` library."""

    def __init__(self, socket: ClientConnection) -> None:
        self._socket = socket

    @property
    def subprotocol(self) -> str | None:
        return self._socket.subprotocol

    async def send(self, message: str | bytes) -> None:
        try:
            await self._socket.send(message)
        except ConnectionClosed as closed:
            raise self._closed(closed) from None

    async def receive(self) -> str | bytes:
        try:
            return await self._socket.recv()
        except ConnectionClosed as closed:
            raise self._closed(closed) from None

    async def close(self) -> None:
        await self._socket.close()

    @staticmethod
    def _closed(closed: ConnectionClosed) -> PeerClosed:
        return PeerClosed(closed.rcvd.code if closed.rcvd is not None else 1006)


class Site:
    """A listening server whose application is changed between scripts: each begins with an empty store."""

    def __init__(self) -> None:
        self.application: Application | None = None
        self.port = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        assert self.application is not None
        await self.application(scope, receive, send)

    async def connect(self, subprotocols: Sequence[str]) -> Peer:
        offered = [Subprotocol(name) for name in subprotocols] or None
        try:
            socket = await dial(f"ws://127.0.0.1:{self.port}/ws", subprotocols=offered, compression=None)
        except InvalidStatus as refused:
            raise HandshakeRefused(refused.response.status_code) from None
        return SocketPeer(socket)

    async def request(self, method: str, path: str, body: bytes | None) -> tuple[int, bytes]:
        headers = {} if body is None else {"content-type": "application/json"}
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{self.port}", timeout=60) as http:
            response = await http.request(method, path, content=body, headers=headers)
            return response.status_code, response.content


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    """One loop for all scripts, since they share the listening server."""
    return "asyncio"


@pytest.fixture(scope="module")
async def site(anyio_backend: str) -> AsyncIterator[Site]:
    site = Site()
    async with live_server(site, ws=WebSocketProtocol, lifespan="off") as (_, site.port):
        yield site


@pytest.mark.parametrize(("script", "encoding"), SCRIPTS)
async def test_session(site: Site, script: dict[str, Any], encoding: Encoding) -> None:
    limits = Limits(**script.get("limits", {}))
    application = create_app(agents=AGENTS, store="memory:", limits=limits)
    async with application.running():
        site.application = application
        await play(script, site.connect, site.request, encoding=encoding)


def test_names_of_scripts_are_unique() -> None:
    names = [script["name"] for script in (*vectors("sessions"), *vectors("http"))]
    assert len(set(names)) == len(names)
