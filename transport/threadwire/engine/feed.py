"""A thread's updates for HTTP streams: lowered once for all of them, merged for each that is slow.

A feed follows a thread as one connection would, and keeps a copy of its state to lower by. Its
readers take what comes at their own pace: while one is busy its edits are merged, and when they
weigh more than the state, the state takes their place. So a reader costs at most about a state.
Text that goes on at one place is joined until the first of them takes it.

Above are `run_stream` and the endpoints. Spec: PROTOCOL.md §3.9, §10.3 and §14.10.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Final, TypeAlias

import msgspec

from ..core.codec import Encoding, encode_value
from ..core.errors import ErrorInfo
from ..core.frames import Error, Run, RunInfo
from ..core.lowering import Lowering
from ..core.merge import Merger
from ..core.operations import AppendText, Operation, Path
from .message import Message, SnapshotMessage, UpdateMessage
from .subscriber import Subscriber
from .thread import Thread

_MIN_BACKLOG_BYTES: Final = 64 * 1024
"""A backlog below this is kept even where the state is smaller."""
_STRING: Final = 64
"""About the bytes that a string takes in memory besides its characters."""

Encode: TypeAlias = Callable[[Sequence[Operation]], bytes]


class State(msgspec.Struct, frozen=True):
    """The whole state, as JSON."""

    data: bytes


class Edits:
    """Operations that stock clients know, which lead on from what was sent before."""

    __slots__ = ("_encoded", "operations")

    def __init__(self, operations: Sequence[Operation]) -> None:
        self.operations = operations
        self._encoded: dict[Encode, bytes] = {}

    def encoded(self, encode: Encode) -> bytes:
        """What `encode` makes of the operations, made once for all readers."""
        data = self._encoded.get(encode)
        if data is None:
            data = self._encoded[encode] = encode(self.operations)
        return data


class End(msgspec.Struct, frozen=True):
    """Nothing more comes; `error` says what went wrong, where something did."""

    error: ErrorInfo | None


Part: TypeAlias = State | Edits | End


class Reader:
    """One stream's place in a feed. `on_run` is called with each status of a run, after its updates."""

    __slots__ = ("_backlog", "_edits", "_end", "_feed", "_news", "_state_due", "_waiter", "on_run", "touched")

    def __init__(self, feed: Feed) -> None:
        self._feed = feed
        self._news = False
        self._waiter: asyncio.Future[None] | None = None
        self._state_due = True
        self._edits: Edits | None = None
        self._backlog: Merger | None = None
        self._end: End | None = None
        self.touched = False
        """Whether anything has come since it joined."""
        self.on_run: Callable[[RunInfo], None] | None = None

    def take(self) -> Part | None:
        """The next part; None where there is none yet. A reader's first part is a state."""
        self._feed.settle()
        if self._state_due:
            if self._feed.begun:
                self._state_due = False
                return State(self._feed.state())
            return self._end if self._feed.over else None
        if self._backlog is not None:
            operations = self._backlog.operations()
            self._forget()
            return Edits(operations)
        if self._edits is not None:
            edits, self._edits = self._edits, None
            return edits
        return self._end

    async def news(self) -> None:
        """Returns once something may be there to take. For one caller at a time."""
        # Once for each token and client: an asyncio.Event costs more.
        if not self._news:
            waiter = self._waiter = asyncio.get_running_loop().create_future()
            try:
                await waiter
            finally:
                self._waiter = None
        self._news = False

    def wake(self) -> None:
        """Makes `news` return."""
        self._news = True
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def finish(self, error: ErrorInfo | None) -> None:
        """Ends the stream after what waits."""
        self._feed.settle()
        if self._end is None:
            self._end = End(error)
            self.touched = True
            self.wake()

    def close(self) -> None:
        """Gives the place up."""
        self._feed.leave(self)
        self._forget()

    @property
    def thread(self) -> Thread:
        return self._feed.thread

    # what the feed calls

    def stir(self) -> None:
        """Something has come, which the feed keeps until `take`."""
        self.touched = True
        self.wake()

    def update(self, edits: Edits) -> None:
        if self._end is not None:
            return
        self.stir()
        if self._state_due:
            return
        if self._edits is None and self._backlog is None:
            self._edits = edits
            return
        if self._backlog is None:
            assert self._edits is not None
            self._backlog = Merger()
            self._backlog.add(self._edits.operations)
            self._edits = None
        self._backlog.add(edits.operations)
        if self._backlog.cost > max(_MIN_BACKLOG_BYTES, self._feed.thread.size):
            self.begin_anew()

    def begin_anew(self) -> None:
        """The state is next, whatever waits."""
        self._forget()
        self._state_due = True
        self.wake()

    def _forget(self) -> None:
        self._edits = None
        self._backlog = None


class Feed:
    """The `Sink` by which the HTTP readers of one thread follow it. Made by `Feeds`."""

    __slots__ = (
        "_behind",
        "_keys",
        "_lowering",
        "_path",
        "_readers",
        "_state",
        "_subscriber",
        "_text",
        "_text_cost",
        "encoding",
        "made_for",
        "on_empty",
        "over",
    )

    def __init__(self, thread: Thread, on_empty: Callable[[Feed], None]) -> None:
        self.made_for = thread
        self.encoding: Encoding = "msgpack"
        self.on_empty = on_empty
        self.over = False
        """Whether the thread has dropped it."""
        self._readers: dict[Reader, None] = {}
        self._subscriber: Subscriber | None = None
        self._lowering: Lowering | None = None
        self._behind = Merger()
        """What `_lowering` has not been told yet, since nothing depended on it."""
        self._state: bytes | None = None
        self._path: Path = ()
        self._keys: Path = ()
        """The last path that text was appended to, and its segments as strings."""
        self._text: list[str] = []
        """What was appended there and no reader has been given: they have been woken for it."""
        self._text_cost = 0

    @property
    def thread(self) -> Thread:
        """As it is loaded now: it may have become another object since the feed was made."""
        return self.made_for if self._subscriber is None else self._subscriber.thread

    async def follow(self) -> None:
        """Begins, unless it has; returns when it shows all that was durable. Raises StoreError."""
        await self.thread.be_current()
        if self._subscriber is None:  # one of several that came at once may have begun meanwhile
            self._subscriber = await self.thread.subscribe(self)

    def join(self) -> Reader:
        """A new reader."""
        self.settle()
        reader = Reader(self)
        self._readers[reader] = None
        return reader

    def leave(self, reader: Reader) -> None:
        """The reader takes nothing more."""
        if reader in self._readers:
            del self._readers[reader]
            if not self._readers:
                self._stop()

    @property
    def begun(self) -> bool:
        """Whether the state is known."""
        return self._lowering is not None

    def state(self) -> bytes:
        """The state where the feed is, as JSON; made once for readers that come together."""
        assert self._lowering is not None
        self.settle()
        if self._state is None:
            self._catch_up()
            self._state = encode_value(self._lowering.state, "json")
        return self._state

    def settle(self) -> None:
        """Gives the readers the text that was kept for them."""
        if self._text:
            text = "".join(self._text)
            self._text.clear()
            self._text_cost = 0
            self._pass_on_texts([AppendText(self._keys, text)])

    def end(self, error: ErrorInfo) -> None:
        """Ends all streams."""
        for reader in self._readers:
            reader.finish(error)

    def _stop(self) -> None:
        self.on_empty(self)
        if self._subscriber is not None:
            self.thread.unsubscribe(self._subscriber)

    # what the engine calls

    @property
    def ready(self) -> bool:
        return True

    def send(self, message: Message) -> None:
        if isinstance(message, UpdateMessage):
            self._update(message)
        elif isinstance(message, SnapshotMessage):
            self.settle()
            self._lowering = Lowering(msgspec.msgpack.decode(message.state))
            self._behind.clear()
            self._state = None
            for reader in self._readers:
                reader.begin_anew()
        else:
            self.settle()
            frame = message.frame("json")
            if isinstance(frame, Run) and frame.run is not None:
                for reader in self._readers:
                    if reader.on_run is not None:
                        reader.on_run(frame.run)
            elif isinstance(frame, Error):
                self.end(ErrorInfo(frame.code, frame.message))

    def offer(self, message: Message) -> bool:
        self.send(message)
        return True

    def lag(self, subscriber: Subscriber) -> None:
        pass  # only before the first snapshot, which comes by itself

    def lost(self, subscriber: Subscriber) -> None:
        self.over = True
        self.end(ErrorInfo("store-unavailable", "the thread could not be kept up; resume it"))
        self.on_empty(self)

    def _update(self, message: UpdateMessage) -> None:
        if message.token is not None:
            self._append(message.token)
            return
        self.settle()
        operations = message.operations()
        if all(type(operation) is AppendText for operation in operations):
            self._pass_on_texts(
                [
                    AppendText(self._strings(operation.path), operation.value)
                    for operation in operations
                    if type(operation) is AppendText
                ]
            )
            return
        assert self._lowering is not None
        self._catch_up()
        lowered = self._lowering.lower(operations)
        if lowered:
            self._pass_on(lowered)

    def _append(self, token: AppendText) -> None:
        # Once for each token: as little as can be.
        if token.path != self._path:
            self.settle()
            self._strings(token.path)
        if not self._text:
            for reader in self._readers:
                reader.stir()
        self._text.append(token.value)
        self._text_cost += len(token.value) + _STRING
        if self._text_cost > _MIN_BACKLOG_BYTES:
            self.settle()

    def _pass_on_texts(self, texts: Sequence[AppendText]) -> None:
        """Texts are the same for any state: ours is brought up to them when it is needed."""
        self._behind.add(texts)
        if self._behind.cost > _MIN_BACKLOG_BYTES:
            self._catch_up()
        self._pass_on(texts)

    def _pass_on(self, lowered: Sequence[Operation]) -> None:
        self._state = None
        edits = Edits(lowered)
        for reader in self._readers:
            reader.update(edits)

    def _strings(self, path: Path) -> Path:
        if path != self._path:
            self._path, self._keys = path, tuple(map(str, path))
        return self._keys

    def _catch_up(self) -> None:
        if len(self._behind):
            assert self._lowering is not None
            self._lowering.lower(self._behind.operations())
            self._behind.clear()


class Feeds:
    """The feeds of a server: one for each thread that has HTTP readers."""

    def __init__(self) -> None:
        self._feeds: dict[Thread, Feed] = {}
        self._left = asyncio.Event()
        """Set when the last reader of a feed has gone."""

    def __len__(self) -> int:
        return len(self._feeds)

    async def join(self, thread: Thread) -> Reader:
        """A reader of the thread, from now on.

        Raises:
            Moved: the thread is another object by now.
            StoreError: what is durable could not be read.
        """
        feed = self._feeds.get(thread)
        if feed is None:
            thread.check_open()
            feed = self._feeds[thread] = Feed(thread, self._forget)
        reader = feed.join()
        try:
            await feed.follow()
        except BaseException:
            reader.close()
            raise
        return reader

    async def over(self) -> None:
        """Returns when no stream is left."""
        while self._feeds:
            self._left.clear()
            await self._left.wait()

    def end(self, error: ErrorInfo) -> None:
        """Ends all streams of the server."""
        for feed in list(self._feeds.values()):
            feed.end(error)

    def _forget(self, feed: Feed) -> None:
        if self._feeds.get(feed.made_for) is feed:
            del self._feeds[feed.made_for]
            self._left.set()
