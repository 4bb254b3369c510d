"""A connection to a server, as users of the client hold it."""

from __future__ import annotations

import re
from asyncio import CancelledError
from collections.abc import Iterable, Mapping
from contextlib import AbstractAsyncContextManager
from ssl import SSLContext
from types import TracebackType
from typing import Final, Literal, Self

import anyio
import msgspec

from ..core.client_session import ClientSession
from ..core.codec import Encoding
from ..core.errors import ConnectionClosed
from ..core.frames import THREAD_ID_PATTERN, Limits, Welcome
from ..core.operations import Json
from .backoff import Backoff
from .pump import Pump
from .thread import Thread, follow

_THREAD_ID: Final = re.compile(THREAD_ID_PATTERN)


def connect(
    url: str,
    *,
    encoding: Encoding = "msgpack",
    token: str | None = None,
    headers: Mapping[str, str] | None = None,
    ssl: SSLContext | None = None,
    proxy: str | Literal[True] | None = True,
    compression: Literal["deflate"] | None = None,
    backoff: Backoff | None = None,
    open_timeout_s: float = 10,
    ping_interval_s: float | None = 20,
    retry_first: bool = False,
) -> Connection:
    """A connection to the server at a `ws:` or `wss:` URL, for use in `async with`.

    Once it is entered, a lost connection is made again after the waits that `backoff` gives, and
    everything goes on where it was. `token` says who the client is; `headers`, `ssl` and `proxy` go
    into the handshake (`proxy=True` looks for one in the environment). `open_timeout_s` bounds each
    try, up to the server's welcome. With `retry_first` the first try is repeated as well.

    Entering raises ConnectionClosed where the server can't be reached or refuses the client.
    """
    return Connection(
        Pump(
            ClientSession(token=token),
            url,
            encoding=encoding,
            headers=headers,
            ssl=ssl,
            proxy=proxy,
            compression=compression,
            backoff=Backoff() if backoff is None else backoff,
            open_timeout_s=open_timeout_s,
            ping_interval_s=ping_interval_s,
            retry_first=retry_first,
        )
    )


class Connection:
    """Any number of threads over one WebSocket, or over its successors. Made by `connect`."""

    def __init__(self, pump: Pump) -> None:
        self._pump = pump
        self._tasks = anyio.create_task_group()

    async def __aenter__(self) -> Self:
        await self._tasks.__aenter__()
        self._tasks.start_soon(self._pump.run)
        try:
            while not self._pump.connected:
                self._pump.raise_if_closed()
                await self._pump.changed(self._pump)
        except BaseException as error:
            await self.__aexit__(type(error), error, error.__traceback__)
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._pump.closed is None:
            self._pump.left = True
            self._pump.close(ConnectionClosed(1000, "the connection was closed here", reconnect=False))
        if isinstance(error, CancelledError):
            # The task group has to see whether the cancellation is its own.
            await self._tasks.__aexit__(kind, error, trace)
            return
        # Any other error passes by the task group, which would wrap it in an ExceptionGroup.
        self._tasks.cancel_scope.cancel()
        await self._tasks.__aexit__(None, None, None)

    @property
    def agents(self) -> tuple[str, ...]:
        """The names of the agents that the server has; the first is the default."""
        return self._welcome.agents

    @property
    def limits(self) -> Limits:
        """What the server accepts and sends."""
        return self._welcome.limits

    @property
    def connected(self) -> bool:
        """Whether the server is there now, or has to be found again."""
        return self._pump.connected

    def open(
        self,
        thread: str,
        *,
        agent: str | None = None,
        tools: Iterable[str] = (),
        hash: bool = False,
        state: Json | msgspec.UnsetType = msgspec.UNSET,
    ) -> AbstractAsyncContextManager[Thread]:
        """Follows a thread for the length of an `async with`, which is entered once its state is there.

        A thread that doesn't exist is made, for `agent` (default: the server's first) and from
        `state` where the agent allows that. `tools` names what `Thread.tool_calls` is ready to
        execute. `hash` compares the state with the server's at each run's end, at a cost in
        proportion to the state. Opened more than once on a connection, a thread is sent once.

        Raises:
            ValueError: the id is none.
            Refused: the server won't: `agent-mismatch`, `forbidden`, `not-found`, ...
            ConnectionClosed: the connection was closed for good.
        """
        if not _THREAD_ID.fullmatch(thread):
            raise ValueError(f"a thread id is 1 to 128 of A-Z a-z 0-9 _ . : ~ -, not {thread!r}")
        return follow(self._pump, thread, agent=agent, tools=tools, hash=hash, state=state)

    @property
    def _welcome(self) -> Welcome:
        welcome = self._pump.session.welcome
        if welcome is None:
            raise RuntimeError("the connection has not been entered")
        return welcome
