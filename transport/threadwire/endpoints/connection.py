"""One WebSocket connection's way out: what is sent at once, what waits while the client is slow.

With a `Writer` (see `writer`) shared messages are framed once and their bytes written straight to
each transport. On another ASGI server a task sends them one after the other; while a send is
under way the connection isn't ready, and what comes meanwhile is merged.

Spec: PROTOCOL.md §5, §10.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, MutableMapping
from typing import Any, Final, TypeAlias

from ..core.codec import Encoding, encode_message
from ..core.frames import Heartbeat, ServerFrame
from ..engine.message import Message
from ..engine.subscriber import Subscriber
from .writer import Writer, frame_message

Send: TypeAlias = Callable[[MutableMapping[str, Any]], Awaitable[None]]

_BATCH_BYTES: Final = 64 * 1024
"""Waiting frames are joined into messages of about this size."""
_MAX_REPLIES: Final = 2000
"""With more answers waiting, nothing more is read from the connection."""


class Connection:
    """The `Sink` of one connection. `start` runs a coroutine function in the connection's task group."""

    def __init__(
        self,
        id: str,
        encoding: Encoding,
        *,
        send: Send,
        writer: Writer | None,
        start: Callable[[Callable[[], Coroutine[Any, Any, None]]], object],
    ) -> None:
        self.id = id
        self.encoding: Encoding = encoding
        self.subscribers: dict[str, Subscriber] = {}
        """By thread id."""
        self.closed = False
        self.on_drained: Callable[[], None] | None = None
        """Called when what waited has gone out."""
        self._text = encoding == "json"
        self._send = send
        self._writer = writer
        self._start = start
        self._lagging: dict[Subscriber, None] = {}
        self._replies: deque[Message] = deque()
        self._drain_scheduled = False
        self._batch: list[bytes] | None = None
        self._batch_bytes = 0
        self._outgoing: deque[bytes] = deque()
        self._sending = False
        self._seen_buffer = 0
        self._progress_at = 0.0
        if writer is not None:
            writer.on_writable = self._drain

    # what the engine uses

    @property
    def ready(self) -> bool:
        writer = self._writer
        if writer is not None:
            return writer.writable
        return not (self._sending or self.closed)

    def send(self, message: Message) -> None:
        if self._batch is not None:
            self._collect(message)
        elif self._writer is not None:
            self._writer.write(self._framed(message))
        else:
            self._outgoing.append(message.payload(self.encoding))
            self._pump()

    def lag(self, subscriber: Subscriber) -> None:
        self._lagging[subscriber] = None
        if self.ready and not self._drain_scheduled:
            # Nothing will tell that the connection is ready, since it is.
            self._drain_scheduled = True
            asyncio.get_running_loop().call_soon(self._drain)

    def lost(self, subscriber: Subscriber) -> None:
        self.drop(subscriber)

    # what the endpoint uses

    def post(self, frame: ServerFrame) -> None:
        """Sends a frame of this connection's own, after what waits already."""
        if self.ready and not self._replies and not self._lagging:
            self.send(Message(frame))
        else:
            self._replies.append(Message(frame))

    @property
    def clogged(self) -> bool:
        """Whether so many answers wait that nothing more should be asked."""
        return len(self._replies) > _MAX_REPLIES

    def drop(self, subscriber: Subscriber) -> None:
        """Forgets a subscriber."""
        self._lagging.pop(subscriber, None)
        if self.subscribers.get(subscriber.thread.id) is subscriber:
            del self.subscribers[subscriber.thread.id]

    def heartbeat(self) -> None:
        """Tells the positions put on this connection; a slow one is told nothing it couldn't read."""
        if not self.ready:
            return
        heads = {}
        for thread, subscriber in self.subscribers.items():
            position = subscriber.position
            if position is not None:
                heads[thread] = position
        self.send(Message(Heartbeat(heads=heads)))

    def unresponsive(self, now: float, after_s: float) -> bool:
        """Whether for `after_s` nothing came in and nothing that waits went out."""
        writer = self._writer
        if writer is None:
            return False  # the ASGI server's own pings tell
        waiting = writer.buffer_size()
        if waiting < self._seen_buffer:
            self._progress_at = now
        self._seen_buffer = waiting
        return now - max(self._progress_at, writer.last_received) > after_s

    def abort(self) -> None:
        """Drops the connection without a word."""
        if self._writer is not None:
            self._writer.abort()

    def close(self) -> None:
        """The connection is gone: nothing is sent any more."""
        self.closed = True
        if self._writer is not None:
            self._writer.on_writable = None
        for subscriber in list(self.subscribers.values()):
            subscriber.thread.unsubscribe(subscriber)
        self.subscribers.clear()
        self._lagging.clear()
        self._replies.clear()
        self._outgoing.clear()

    # inside

    def _framed(self, message: Message) -> bytes:
        if self._text:
            framed = message.wire_json
            if framed is None:
                framed = message.wire_json = frame_message(message.payload("json"), text=True)
        else:
            framed = message.wire_msgpack
            if framed is None:
                framed = message.wire_msgpack = frame_message(message.payload("msgpack"), text=False)
        return framed

    def _drain(self) -> None:
        """The client reads again: sends what waits, several frames in a message."""
        self._drain_scheduled = False
        self._batch = []
        self._batch_bytes = 0
        try:
            while self._lagging and self.ready:
                subscriber = next(iter(self._lagging))
                del self._lagging[subscriber]
                subscriber.drain()
            while self._replies and self.ready:
                self._collect(self._replies.popleft())
        finally:
            self._flush_batch()
            self._batch = None
        if self.on_drained is not None:
            self.on_drained()

    def _collect(self, message: Message) -> None:
        assert self._batch is not None
        payload = message.payload(self.encoding)
        self._batch.append(payload)
        self._batch_bytes += len(payload)
        if self._batch_bytes > _BATCH_BYTES:
            self._flush_batch()

    def _flush_batch(self) -> None:
        if not self._batch:
            return
        payload = encode_message(self._batch, self.encoding)
        self._batch = []
        self._batch_bytes = 0
        if self._writer is not None:
            self._writer.write(frame_message(payload, text=self._text))
        else:
            self._outgoing.append(payload)
            self._pump()

    def _pump(self) -> None:
        if not self._sending and not self.closed:
            self._sending = True
            self._start(self._send_outgoing)

    async def _send_outgoing(self) -> None:
        """Sends through ASGI, where there is no writer."""
        try:
            while self._outgoing:
                payload = self._outgoing.popleft()
                if self._text:
                    await self._send({"type": "websocket.send", "text": payload.decode()})
                else:
                    await self._send({"type": "websocket.send", "bytes": payload})
        except OSError:
            self.closed = True  # ASGI's way to say that the client is gone; receive() will tell
            return
        finally:
            self._sending = False
        self._drain()
