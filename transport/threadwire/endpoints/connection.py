"""One WebSocket connection's way out: what is sent at once, what waits while the client is slow.

With a `Writer` of the server's (see `writer`) shared messages are framed once and their bytes written
straight to each transport; elsewhere ASGI's `send` takes them (see `asgi_writer`). While the
writer isn't writable, the connection isn't ready and what comes is merged.

Spec: PROTOCOL.md §5, §10.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Final

from starlette.types import Send

from ..core.codec import Encoding, encode_message
from ..core.frames import Heartbeat, Run, RunInfo, ServerFrame
from ..engine.message import Message
from ..engine.subscriber import Subscriber
from .asgi_writer import AsgiWriter
from .writer import Writer, frame_message

_BATCH_BYTES: Final = 64 * 1024
"""Waiting frames are joined into messages of about this size."""
_MAX_REPLIES: Final = 2000
"""With more answers waiting, nothing more is read from the connection."""


class Connection:
    """The `Sink` of one connection. `start` runs a coroutine function in the connection's task group."""

    __slots__ = (
        "_batch",
        "_batch_bytes",
        "_drain_scheduled",
        "_frames",
        "_lagging",
        "_progress_at",
        "_replies",
        "_seen_buffer",
        "_text",
        "_writer",
        "encoding",
        "id",
        "on_drained",
        "subscribers",
    )

    def __init__(
        self,
        id: str,
        encoding: Encoding,
        *,
        send: Send,
        writer: Writer | None,
        start: Callable[[Callable[[], Coroutine[Any, Any, None]]], object],
    ) -> None:
        text = encoding == "json"
        self.id = id
        self.encoding: Encoding = encoding
        self.subscribers: dict[str, Subscriber] = {}
        """By thread id."""
        self.on_drained: Callable[[], None] | None = None
        """Called when what waited has gone out."""
        self._text = text
        self._frames = writer is not None
        """Whether the writer takes WebSocket frames, or else whole messages."""
        self._writer: Writer = writer or AsgiWriter(send, text=text, start=start)
        self._writer.on_writable = self._drain
        self._lagging: dict[Subscriber, None] = {}
        # A list, which takes nothing while it is empty; a deque takes 700 bytes of each idle connection.
        self._replies: list[Message] = []
        self._drain_scheduled = False
        self._batch: list[bytes] | None = None
        self._batch_bytes = 0
        self._seen_buffer = 0
        self._progress_at = 0.0

    # what the engine uses

    @property
    def ready(self) -> bool:
        return self._writer.writable

    def send(self, message: Message) -> None:
        if self._batch is not None:
            self._collect(message)
        else:
            self._writer.write(self._framed(message))

    def offer(self, message: Message) -> bool:
        # Once for each update and client: no call more than it takes.
        framed = None
        if self._frames:
            framed = message.wire_json if self._text else message.wire_msgpack
        return self._writer.offer(self._framed(message) if framed is None else framed)

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

    def post_run(self, thread: str, run: RunInfo | None) -> None:
        """Tells the status of a thread's run; a subscriber is told in order with its updates."""
        subscriber = self.subscribers.get(thread)
        if subscriber is not None:
            subscriber.run(run)
        else:
            self.post(Run(thread=thread, run=run))

    def add(self, subscriber: Subscriber) -> None:
        """Takes a new subscriber, which tells of the run itself: older answers must not come after that."""
        thread = subscriber.thread.id
        self.subscribers[thread] = subscriber
        self._replies = [message for message in self._replies if not _is_run(message, thread)]

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
        waiting = writer.buffer_size()
        if waiting < self._seen_buffer:
            self._progress_at = now
        self._seen_buffer = waiting
        return now - max(self._progress_at, writer.last_received) > after_s

    def abort(self) -> None:
        """Drops the connection without a word."""
        self._writer.abort()

    def close(self) -> None:
        """The connection is gone: nothing is sent any more."""
        self._writer.on_writable = None
        if not self._frames:
            self._writer.abort()
        for subscriber in list(self.subscribers.values()):
            subscriber.thread.unsubscribe(subscriber)
        self.subscribers.clear()
        self._lagging.clear()
        self._replies.clear()

    # inside

    def _framed(self, message: Message) -> bytes:
        if not self._frames:
            return message.payload(self.encoding)
        if self._text:
            framed = message.wire_json
            if framed is None:
                framed = message.wire_json = frame_message(message.json or message.payload("json"), text=True)
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
                self._collect(self._replies.pop(0))
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
        self._writer.write(frame_message(payload, text=self._text) if self._frames else payload)


def _is_run(message: Message, thread: str) -> bool:
    frame = message.frame("json")
    return isinstance(frame, Run) and frame.thread == thread
