"""Sends through ASGI: at once where they can be, in order and in a task where they have to wait."""

from __future__ import annotations

import asyncio
from collections.abc import MutableMapping
from typing import Any

import anyio
import pytest

from threadwire.endpoints.asgi_writer import AsgiWriter

pytestmark = pytest.mark.anyio


class Server:
    """Takes `room` messages at once; each further one waits until there is room again."""

    def __init__(self, room: int) -> None:
        self.room = asyncio.Semaphore(room)
        self.sent: list[Any] = []
        self.error: Exception | None = None

    async def send(self, message: MutableMapping[str, Any]) -> None:
        await self.room.acquire()
        if self.error is not None:
            raise self.error
        self.sent.append(message.get("text", message.get("bytes")))


async def test_a_send_that_need_not_wait_is_done_before_write_returns() -> None:
    async with anyio.create_task_group() as group:
        server = Server(2)
        writer = AsgiWriter(server.send, text=True, start=lambda work: group.start_soon(work))
        writer.write(b"a")
        writer.write(b"b")
        assert server.sent == ["a", "b"]
        assert writer.writable


async def test_a_send_that_waits_holds_what_follows_in_order_and_tells_when_it_is_through() -> None:
    async with anyio.create_task_group() as group:
        server, told = Server(1), asyncio.Event()
        writer = AsgiWriter(server.send, text=False, start=lambda work: group.start_soon(work))
        writer.on_writable = told.set
        for message in (b"a", b"b", b"c"):
            writer.write(message)
        assert server.sent == [b"a"]
        assert not writer.writable
        server.room.release()
        server.room.release()
        with anyio.fail_after(60):
            await told.wait()
        assert server.sent == [b"a", b"b", b"c"]
        assert writer.writable


@pytest.mark.parametrize("room", [1, 0])
async def test_a_client_that_is_gone_ends_sending_without_an_error(room: int) -> None:
    async with anyio.create_task_group() as group:
        server = Server(room)
        server.error = ConnectionResetError()
        writer = AsgiWriter(server.send, text=True, start=lambda work: group.start_soon(work))
        writer.write(b"a")
        writer.write(b"b")
        server.room.release()
    assert not writer.writable
    writer.write(b"c")
    assert server.sent == []


async def test_a_cancelled_connection_cancels_the_send_that_waits() -> None:
    cancelled = asyncio.Event()

    async def send(message: MutableMapping[str, Any]) -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.set()
            raise

    async with anyio.create_task_group() as group:
        writer = AsgiWriter(send, text=True, start=lambda work: group.start_soon(work))
        writer.write(b"a")
        await anyio.lowlevel.checkpoint()
        await anyio.lowlevel.checkpoint()
        group.cancel_scope.cancel()
    assert cancelled.is_set()
