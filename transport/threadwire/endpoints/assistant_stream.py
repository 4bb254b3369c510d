"""A run's stream as the stock AssistantTransport client reads it, in either of its two protocols.

A data stream ends in silence, and what is cut off at the end of a line looks whole. So one is never
left there: with each line the beginning of a blank one is sent, which the next takes to its end. A
server that dies is then an error to the client, even where a proxy hides how the connection ended.

Spec: PROTOCOL.md §14.10.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Final, Protocol

import anyio
import msgspec
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from ..core.errors import ErrorInfo
from ..core.operations import Operation
from ..engine.feed import Edits, End, Part, State
from ..engine.run_stream import RunStream

REPLAY_HEADER: Final = "Aui-Replay-Content-Length"
"""How many bytes at the beginning tell what was before."""

THREAD_HEADER: Final = "Threadwire-Thread"
"""The id of the thread that is shown."""

_PIECE: Final = 16 * 1024
"""No more is sent at once, so that a slow client is told from one that is gone."""

_PACE_S: Final = 0.001
"""The least time from one part to the next: what comes sooner is joined. Each part costs the client a
rendering; tokens of models come further apart, and don't wait."""

_encode: Final = msgspec.json.Encoder().encode


class Encoder(Protocol):
    """How a protocol says what there is to say."""

    media_type: str
    begin: bytes
    """What comes first, at once."""
    heartbeat: bytes
    """What means nothing, and may come between any two parts."""

    @property
    def end(self) -> bytes:
        """The last of a stream that came to its end."""
        ...

    def state(self, data: bytes) -> bytes:
        """The whole state, given as JSON."""
        ...

    def operations(self, operations: Sequence[Operation]) -> bytes: ...

    def error(self, error: ErrorInfo) -> bytes: ...


class DataStream:
    """Lines of a type and a JSON value."""

    media_type = "text/plain; charset=utf-8"
    begin = b" "
    heartbeat = b"\n "
    end = b"\n"

    def state(self, data: bytes) -> bytes:
        return b'\naui-state:[{"type":"set","path":[],"value":%b}]\n ' % data

    def operations(self, operations: Sequence[Operation]) -> bytes:
        return b"\naui-state:%b\n " % _encode(operations)

    def error(self, error: ErrorInfo) -> bytes:
        return b"\n3:%b\n " % _encode(error.message)


class AssistantTransport:
    """Server-sent events."""

    media_type = "text/event-stream"
    begin = b":\n\n"
    heartbeat = b":\n\n"
    end = b"data: [DONE]\n\n"

    def state(self, data: bytes) -> bytes:
        return (
            b'data: {"type":"update-state","path":[],"operations":[{"type":"set","path":[],"value":%b}]}\n\n'
            % data
        )

    def operations(self, operations: Sequence[Operation]) -> bytes:
        return b'data: {"type":"update-state","path":[],"operations":%b}\n\n' % _encode(operations)

    def error(self, error: ErrorInfo) -> bytes:
        return b"data: %b\n\n" % _encode({"type": "error", "path": [], "error": error.message})


ENCODERS: Final[Mapping[str, Encoder]] = {
    "data-stream": DataStream(),
    "assistant-transport": AssistantTransport(),
}


class RunResponse(Response):
    """Sends a stream to its end, or until the client is gone; closes it in either case.

    Args:
        heartbeat_s: how often a sign of life is sent while nothing else is.
        patience_s: how long the client may take no byte before it counts as gone.
        settle_s: how long the first part waits for what comes of the commands.
        replay: whether the first part tells what was before, and is announced as such.
    """

    def __init__(
        self,
        stream: RunStream,
        encoder: Encoder,
        *,
        heartbeat_s: float,
        patience_s: float,
        settle_s: float = 0.0,
        replay: bool = False,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        self.status_code = 200
        self.background = None
        self.media_type = encoder.media_type
        # A proxy must neither keep the stream back nor compress it, which would do the same.
        self.init_headers(
            {"Cache-Control": "no-store, no-transform", "X-Accel-Buffering": "no", **(headers or {})}
        )
        self._stream = stream
        self._encoder = encoder
        self._heartbeat_s = heartbeat_s
        self._patience_s = patience_s
        self._settle_s = settle_s
        self._replay = replay
        self._beat_due = False
        self._sending = False
        self._beats_waited = 0
        """How often it was to be sent while the client took nothing."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            async with anyio.create_task_group() as group:
                group.start_soon(self._watch, receive, group.cancel_scope)
                with suppress(OSError):  # ASGI's other way to say that the client is gone
                    await self._send_all(send, group.cancel_scope)
                group.cancel_scope.cancel()
        finally:
            self._stream.close()

    async def _watch(self, receive: Receive, scope: anyio.CancelScope) -> None:
        """Ends the response when the client is gone."""
        while (await receive())["type"] != "http.disconnect":
            pass
        scope.cancel()

    async def _send_all(self, send: Send, scope: anyio.CancelScope) -> None:
        loop = asyncio.get_running_loop()
        timer: asyncio.TimerHandle | None = None

        def beat() -> None:
            nonlocal timer
            timer = loop.call_later(self._heartbeat_s, beat)
            if not self._sending:
                self._beat_due = True
                self._stream.wake()
                return
            self._beats_waited += 1
            if self._beats_waited * self._heartbeat_s > self._patience_s:
                scope.cancel()  # the connection is cut: the client, if it is there, sees no end

        data = self._encoder.begin
        if self._replay:
            data += await self._first()
            self.headers[REPLAY_HEADER] = str(len(data))
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        beat()
        settles = not self._replay
        ended = False
        next_at = 0.0
        try:
            while not ended:
                if not data:
                    if settles:
                        settles = False
                        await self._stream.settle(self._settle_s)
                    if (early_s := next_at - loop.time()) > 0:
                        await asyncio.sleep(early_s)
                    part = self._stream.take()
                    if part is not None:
                        next_at = loop.time() + _PACE_S
                        data = self._encoded(part)
                        ended = isinstance(part, End)
                    elif self._beat_due:
                        data = self._encoder.heartbeat
                    else:
                        await self._stream.news()
                        continue
                self._sending = True
                for start in range(0, len(data), _PIECE):
                    self._beats_waited = 0
                    piece = data[start : start + _PIECE] if len(data) > _PIECE else data
                    await send({"type": "http.response.body", "body": piece, "more_body": True})
                self._sending = self._beat_due = False
                data = b""
            await send({"type": "http.response.body", "body": b"", "more_body": False})
        finally:
            if timer is not None:
                timer.cancel()

    async def _first(self) -> bytes:
        """The state that the stream begins with; empty where it ends without one."""
        while (part := self._stream.take()) is None:
            await self._stream.news()
        return self._encoder.state(part.data) if isinstance(part, State) else b""  # an end is taken again

    def _encoded(self, part: Part) -> bytes:
        if isinstance(part, Edits):
            return part.encoded(self._encoder.operations)
        if isinstance(part, State):
            return self._encoder.state(part.data)
        error = b"" if part.error is None else self._encoder.error(part.error)
        return error + self._encoder.end
