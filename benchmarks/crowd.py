"""A crowd of clients in a process of its own, so that the time of the server's process is the server's.

The clients connect, may say something, and then only read and count. They are steered over a control
connection: one JSON object per line each way.
"""

from __future__ import annotations

import asyncio
import base64
import json
import multiprocessing
import struct
from collections.abc import Sequence
from typing import Any, cast

from benchmarks.support import raise_file_limit, run

_AT_ONCE = 50
_QUIET_S = 0.25

_HANDSHAKE = (
    "GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n{more}\r\n"
)


def handshake(port: int, path: str, subprotocol: str | None = None) -> bytes:
    more = f"Sec-WebSocket-Protocol: {subprotocol}\r\n" if subprotocol else ""
    return _HANDSHAKE.format(path=path, port=port, more=more).encode()


def client_message(payload: bytes, *, text: bool) -> bytes:
    """The WebSocket frame of a message as a client sends it: masked, with a mask that changes nothing."""
    head, size = 0x81 if text else 0x82, len(payload)
    if size < 126:
        return bytes((head, 0x80 | size, 0, 0, 0, 0)) + payload
    return struct.pack("!BBHI", head, 0x80 | 126, size, 0) + payload


# the crowd's process


class _Group:
    """Clients of one port: their sockets, and the bytes they have got together."""

    def __init__(self) -> None:
        self.received = 0
        self.expected = 0
        self.reached = asyncio.Event()
        self.transports: list[asyncio.Transport] = []

    def count(self, size: int) -> None:
        self.received += size
        if self.received >= self.expected:
            self.reached.set()

    async def wait_for(self, total: int) -> None:
        self.expected = total
        self.reached.clear()
        if self.received < total:
            await self.reached.wait()

    async def settle(self) -> None:
        """Waits until nothing comes any more, and begins to count anew."""
        before = -1
        while self.received != before:
            before = self.received
            await asyncio.sleep(_QUIET_S)
        self.received = 0


class _Client(asyncio.Protocol):
    """Sends the handshake, where there is one, and counts what comes after its answer."""

    def __init__(self, group: _Group, opening: bytes, first: bytes) -> None:
        self._group = group
        self._opening = opening
        self._first = first
        self.open: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._head = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is none by class
        self._group.transports.append(self._transport)
        if self._opening:
            self._transport.write(self._opening)
        else:
            self.open.set_result(None)

    def data_received(self, data: bytes) -> None:
        if self.open.done():
            self._group.count(len(data))
            return
        self._head += data
        head, end, rest = self._head.partition(b"\r\n\r\n")
        if not end:
            return
        if b" 101 " not in head:
            self.open.set_exception(ConnectionError(head.decode("latin-1")))
            return
        self.open.set_result(None)
        self._group.count(len(rest))
        if self._first:
            self._transport.write(self._first)

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.open.done():
            self.open.set_exception(exc or ConnectionError("closed during the handshake"))


async def _connect(order: dict[str, Any]) -> _Group:
    group = _Group()
    opening = base64.b64decode(order["opening"])
    says = [base64.b64decode(each) for each in order["says"]] or [b""]
    room = asyncio.Semaphore(_AT_ONCE)

    async def connect(first: bytes) -> None:
        async with room:
            _, client = await asyncio.get_running_loop().create_connection(
                lambda: _Client(group, opening, first), "127.0.0.1", order["port"]
            )
            await client.open

    await asyncio.gather(*(connect(says[number % len(says)]) for number in range(order["count"])))
    return group


async def _crowd(control_port: int) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", control_port)
    groups: dict[str, _Group] = {}
    while line := await reader.readline():
        order = json.loads(line)
        name = order["group"]
        match order["do"]:
            case "connect":
                groups[name] = await _connect(order)
            case "wait":
                await groups[name].wait_for(order["bytes"])
            case "settle":
                await groups[name].settle()
            case "leave":
                for transport in groups.pop(name).transports:
                    transport.abort()
        writer.write(b"{}\n")


def _crowd_process(control_port: int) -> None:
    raise_file_limit()
    run(_crowd(control_port))


# the benchmark's process


class Crowd:
    """The server's handle on the crowd. Use as an async context manager."""

    async def __aenter__(self) -> Crowd:
        joined: asyncio.Future[tuple[asyncio.StreamReader, asyncio.StreamWriter]]
        joined = asyncio.get_running_loop().create_future()
        self._server = await asyncio.start_server(
            lambda reader, writer: joined.set_result((reader, writer)), "127.0.0.1", 0, limit=2**24
        )
        port = self._server.sockets[0].getsockname()[1]
        spawn = multiprocessing.get_context("spawn")
        self._process = spawn.Process(target=_crowd_process, args=(port,), daemon=True)
        self._process.start()
        self._reader, self._writer = await joined
        return self

    async def __aexit__(self, *_: object) -> None:
        self._writer.close()
        self._server.close()
        await asyncio.to_thread(self._process.join, 5)
        self._process.kill()

    async def _order(self, do: str, group: str, **order: Any) -> None:
        self._writer.write(json.dumps({"do": do, "group": group, **order}).encode() + b"\n")
        if not await self._reader.readline():
            raise ConnectionError("the crowd is gone")

    async def connect(
        self, group: str, port: int, count: int, *, opening: bytes = b"", says: Sequence[bytes] = ()
    ) -> None:
        """Opens `count` connections.

        `opening` is a WebSocket handshake, or nothing for plain TCP; each client in turn sends the next
        of `says` when it has been answered.
        """
        await self._order(
            "connect",
            group,
            port=port,
            count=count,
            opening=base64.b64encode(opening).decode(),
            says=[base64.b64encode(each).decode() for each in says],
        )

    async def settle(self, group: str) -> None:
        """Returns when the group has got nothing for a while; bytes are counted from here on."""
        await self._order("settle", group)

    async def wait(self, group: str, total_bytes: int) -> None:
        """Returns once the group has got `total_bytes` since it was connected or settled."""
        await self._order("wait", group, bytes=total_bytes)

    async def leave(self, group: str) -> None:
        """Drops the group's connections."""
        await self._order("leave", group)
