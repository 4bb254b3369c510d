"""HTTP streams of a server process, read as they come."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import anyio
import httpx

from tests.support.server import Server
from tests.support.stock_client import Broken, StreamReader


class Stream:
    """One response as it comes."""

    def __init__(self, response: httpx.Response, protocol: str) -> None:
        self.reader = StreamReader(protocol)
        self.response = response
        self._pieces = response.aiter_bytes()

    async def read(self) -> bool:
        """Takes the next bytes; False at the end of the body."""
        async for piece in self._pieces:
            self.reader.feed(piece)
            return True
        return False

    async def until(self, condition: Callable[[], Any], timeout_s: float = 60) -> None:
        with anyio.fail_after(timeout_s):
            while not condition():
                assert await self.read(), "the stream ended before"

    async def end(self, timeout_s: float = 60) -> StreamReader:
        with anyio.fail_after(timeout_s):
            while await self.read():
                pass
        self.reader.end()
        return self.reader

    @property
    def errors(self) -> list[str]:
        return self.reader.errors

    @property
    def text(self) -> str:
        """What the agent has written last."""
        messages = (self.reader.state or {}).get("messages", [])
        return messages[-1]["content"] if messages else ""


@asynccontextmanager
async def post(
    server: Server,
    http: httpx.AsyncClient,
    content: Any,
    *,
    path: str = "/assistant",
    protocol: str = "data-stream",
    query: dict[str, str] | None = None,
    headers: dict[str, str] | None = None,
) -> AsyncIterator[Stream]:
    url = f"{server.url}{path}"
    params = {"protocol": protocol, **(query or {})}
    async with http.stream("POST", url, json=content, params=params, headers=headers) as response:
        assert response.status_code == 200, await response.aread()
        yield Stream(response, protocol)


async def until_run(server: Server, thread: str, *statuses: str) -> dict[str, Any]:
    """`GET /state` once the thread's run is one of these."""
    with anyio.fail_after(60):
        while True:
            state = await server.state(thread)
            if state["run"] is not None and state["run"]["status"] in statuses:
                return state
            await asyncio.sleep(0.02)


class ChatStream:
    """A response of `/chat` as it comes: its text, and its errors.

    Attributes:
        whole: whether it has come to the end that a client takes for success or failure, and not for a cut.
    """

    def __init__(self, response: httpx.Response, format: str) -> None:
        self.response = response
        self.text = ""
        self.errors: list[str] = []
        self.whole = False
        self._separator = b"\n" if format == "data-stream" else b"\n\n"
        self._buffer = b""
        self._pieces = response.aiter_bytes()

    async def read(self) -> bool:
        """Takes the next bytes; False at the end of the body."""
        async for piece in self._pieces:
            *parts, self._buffer = (self._buffer + piece).split(self._separator)
            for part in parts:
                self._take(part.decode())
            return True
        return False

    async def until(self, condition: Callable[[], Any], timeout_s: float = 60) -> None:
        with anyio.fail_after(timeout_s):
            while not condition():
                assert await self.read(), "the stream ended before"

    async def end(self, timeout_s: float = 60) -> None:
        with anyio.fail_after(timeout_s):
            while await self.read():
                pass
        if self._buffer or not self.whole:
            raise Broken("it ended within a line, or without an end")

    def _take(self, part: str) -> None:
        assert not self.whole or not part.strip() or part == "data: [DONE]", f"{part!r} after the end"
        if part.startswith("data: "):
            self._event(part.removeprefix("data: "))
        elif part.strip() and not part.startswith(":"):
            kind, _, value = part.partition(":")
            self._line(kind, json.loads(value))

    def _line(self, kind: str, value: Any) -> None:
        match kind:
            case "0":
                self.text += value
            case "3":
                self.errors.append(value)
            case "d":
                self.whole = True

    def _event(self, data: str) -> None:
        if data == "[DONE]":
            self.whole = True
            return
        event = json.loads(data)
        match event["type"]:
            case "text-delta":
                self.text += event["delta"]
            case "error":
                self.errors.append(event["errorText"])


@asynccontextmanager
async def chat(
    server: Server, http: httpx.AsyncClient, text: str, *, thread: str, format: str = "data-stream"
) -> AsyncIterator[ChatStream]:
    content = {"messages": [{"role": "user", "content": text}], "threadId": thread}
    url = f"{server.url}/chat"
    async with http.stream("POST", url, json=content, params={"format": format}) as response:
        assert response.status_code == 200, await response.aread()
        yield ChatStream(response, format)
