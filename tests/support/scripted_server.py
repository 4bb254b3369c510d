"""A WebSocket server that plays one script per connection, for tests of the client."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TypeAlias, TypeVar

import anyio
from websockets.asyncio.server import ServerConnection
from websockets.asyncio.server import serve as listen
from websockets.typing import Subprotocol

from threadwire.core.codec import Encoding, encode_frame, encode_message
from threadwire.core.frames import SUBPROTOCOLS, ClientFrame, Limits, ServerFrame, Welcome
from threadwire.core.session import Rejected, ServerSession

F = TypeVar("F", bound=ClientFrame)

TIMEOUT_S = 60


class Peer:
    """The server's end of one connection."""

    def __init__(self, socket: ServerConnection) -> None:
        self.socket = socket
        self.encoding: Encoding = "json" if socket.subprotocol == "threadwire.v1.json" else "msgpack"
        self._session = ServerSession(self.encoding, Limits(max_frame_bytes=2**30))
        self._heard: list[ClientFrame] = []

    async def say(self, *frames: ServerFrame) -> None:
        """Sends the frames as one message."""
        message = encode_message([encode_frame(each, self.encoding) for each in frames], self.encoding)
        await self.socket.send(message, text=self.encoding == "json")

    async def greet(self, limits: Limits | None = None) -> None:
        await self.say(Welcome(server="s", connection="c", agents=("a", "b"), limits=limits or Limits()))

    async def hear(self, kind: type[F]) -> F:
        """The next frame, which is of that kind."""
        while not self._heard:
            for frame in self._session.receive(await self.socket.recv()):
                assert not isinstance(frame, Rejected), frame
                self._heard.append(frame)
        frame = self._heard.pop(0)
        assert isinstance(frame, kind), frame
        return frame

    def cut(self) -> None:
        """Loses the connection without a word."""
        self.socket.transport.abort()


Script: TypeAlias = Callable[[Peer], Awaitable[None]]


@asynccontextmanager
async def scripted_server(
    *scripts: Script, limits: Limits | None = None, greets: bool = True
) -> AsyncIterator[str]:
    """The URL of a server that plays the first script on its first connection, and so on.

    A connection stays open when its script is through. What a script raises is raised at the end,
    and so is a connection too many or too few. All that is inside the block has a minute.
    """
    failures: list[Exception] = []
    waiting = list(scripts)

    async def handle(socket: ServerConnection) -> None:
        try:
            assert waiting, "a connection for which there is no script"
            script = waiting.pop(0)
            peer = Peer(socket)
            if greets:
                await peer.greet(limits)
            await script(peer)
        except Exception as error:
            failures.append(error)
            await socket.close(4400, "the script failed")
        await socket.wait_closed()

    subprotocols = [Subprotocol(name) for name in SUBPROTOCOLS]
    with anyio.fail_after(TIMEOUT_S):
        try:
            async with listen(
                handle, "127.0.0.1", 0, subprotocols=subprotocols, max_size=None, ping_interval=None
            ) as server:
                yield f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}/ws"
        finally:
            for failure in failures:
                raise failure
    assert not waiting, f"{len(waiting)} scripts were not played"
