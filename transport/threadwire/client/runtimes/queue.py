"""Messages that wait for the run to end: two lanes, of which `steer` goes first."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Literal, Protocol, TypeAlias

from ...messages.like import generate_id
from ...messages.model import FileMessagePart, ImageMessagePart, TextMessagePart, message_text
from ..errors import InvalidAdapter, NotFound
from .actions import AppendMessage
from .subscribable import Subscribable

Lane: TypeAlias = Literal["queue", "steer"]


@dataclass(frozen=True, kw_only=True)
class QueueItem:
    """A message that waits: its text as `prompt`, and its text and file parts."""

    id: str
    prompt: str
    parts: tuple[TextMessagePart | FileMessagePart, ...]


class QueueAdapter(Protocol):
    """What a runtime needs of a queue. `MessageQueue` is one."""

    @property
    def items(self) -> tuple[QueueItem, ...]:
        """Those that go in their order."""

    @property
    def steer_items(self) -> tuple[QueueItem, ...]:
        """Those that go before."""

    def enqueue(self, message: AppendMessage) -> None:
        """Puts a message at the end of the queue."""

    def steer(self, message: AppendMessage) -> None:
        """Takes a message next."""

    def move(self, item_id: str, *, lane: Lane | None = None, before: str | None = None) -> None:
        """Puts an item before another, or at the end of a lane."""

    def remove(self, item_id: str) -> None:
        """Forgets an item."""

    def notify_cancelled(self) -> None:
        """The user stops the run: what waits goes on waiting."""


class MessageQueue(Subscribable):
    """A queue that hands out one message at a time.

    `run` is given a message as soon as nothing runs; whoever runs it calls `notify_idle` at the
    end (and `notify_busy` where a run began by itself). With `cancel`, steering stops the run that
    goes on; without, the message is the next.
    """

    def __init__(
        self, run: Callable[[AppendMessage], object], cancel: Callable[[], object] | None = None
    ) -> None:
        super().__init__()
        for name, handler in (("run", run), ("cancel", cancel)):
            if not callable(handler) and (handler is not None or name == "run"):
                raise InvalidAdapter(name, f"a function, not {type(handler).__name__}")
        self._run = run
        self._cancel = cancel
        self._lanes: dict[Lane, list[QueueItem]] = {"queue": [], "steer": []}
        self._messages: dict[str, AppendMessage] = {}
        self._running = False
        self._paused = False
        self._interrupted = 0  # ends of runs that steering stopped, still to come

    @property
    def items(self) -> tuple[QueueItem, ...]:
        """Those that go in their order."""
        return tuple(self._lanes["queue"])

    @property
    def steer_items(self) -> tuple[QueueItem, ...]:
        """Those that go before."""
        return tuple(self._lanes["steer"])

    @property
    def is_busy(self) -> bool:
        """Whether a run goes on, or is about to begin."""
        return self._running

    def enqueue(self, message: AppendMessage) -> None:
        """Puts a message at the end of the queue; it goes at once if nothing runs."""
        self._push("queue", message)

    def steer(self, message: AppendMessage) -> None:
        """Takes a message next; where the run can be stopped, now."""
        if self._running and self._cancel is not None:
            self._interrupt(message)
        else:
            self._push("steer", message)

    def move(self, item_id: str, *, lane: Lane | None = None, before: str | None = None) -> None:
        """Puts an item before another, or at the end of a lane (its own, if none is given).

        Into the steer lane without a place, while a run goes on that can be stopped, it goes now.

        Raises:
            NotFound: there is no such item, or none to put it before in that lane.
        """
        source, item = self._find(item_id)
        target = lane or source
        rest = [each for each in self._lanes[target] if each is not item]
        if before is None:
            at = len(rest)
        else:
            at = next((place for place, each in enumerate(rest) if each.id == before), -1)
            if at < 0:
                raise NotFound("queue item", before)
        self._lanes[source].remove(item)
        if before is None and target == "steer" != source and self._running and self._cancel is not None:
            self._interrupt(self._messages.pop(item_id))
            return
        self._lanes[target].insert(at, item)
        self._notify()
        self._advance()

    def edit(self, item_id: str, message: AppendMessage) -> None:
        """Puts another message in the item's place. Raises NotFound."""
        lane, item = self._find(item_id)
        self._messages[item_id] = message
        self._lanes[lane][self._lanes[lane].index(item)] = _item(item_id, message)
        self._notify()

    def remove(self, item_id: str) -> None:
        """Forgets an item. Raises NotFound."""
        lane, item = self._find(item_id)
        self._lanes[lane].remove(item)
        del self._messages[item_id]
        self._notify()

    def clear(self) -> None:
        """Forgets all of them."""
        self._messages.clear()
        self._lanes = {"queue": [], "steer": []}
        self._notify()

    def notify_busy(self) -> None:
        """A run began that isn't the queue's."""
        self._paused = False
        self._running = True

    def notify_idle(self) -> None:
        """The run has ended: the next message goes."""
        if self._interrupted:
            self._interrupted -= 1
            return
        self._running = False
        self._advance()

    def notify_cancelled(self) -> None:
        """The user stops the run: what waits goes on waiting until something is sent."""
        self._paused = self._running

    def _push(self, lane: Lane, message: AppendMessage) -> None:
        self._paused = False
        id = generate_id()
        self._messages[id] = message
        self._lanes[lane].append(_item(id, message))
        self._notify()
        self._advance()

    def _advance(self) -> None:
        lane = self._lanes["steer"] or self._lanes["queue"]
        if self._running or self._paused or not lane:
            return
        item = lane.pop(0)
        message = self._messages.pop(item.id)
        self._notify()
        self._running = True
        try:
            self._run(message)
        except BaseException:
            self._running, self._paused = False, True
            lane.insert(0, item)
            self._messages[item.id] = message
            self._notify()
            raise

    def _interrupt(self, message: AppendMessage) -> None:
        assert self._cancel is not None
        self._paused = False
        self._interrupted += 1
        self._notify()
        self._cancel()
        self._run(message)

    def _find(self, item_id: str) -> tuple[Lane, QueueItem]:
        for lane, items in self._lanes.items():
            for item in items:
                if item.id == item_id:
                    return lane, item
        raise NotFound("queue item", item_id)


def _item(id: str, message: AppendMessage) -> QueueItem:
    return QueueItem(id=id, prompt=message_text(message), parts=tuple(_parts(message)))


def _parts(message: AppendMessage) -> Iterable[TextMessagePart | FileMessagePart]:
    # The text of an attachment is the file's, not the user's.
    attached = (part for attachment in message.attachments for part in attachment.content)
    source: list[Any] = [*message.content, *(p for p in attached if not isinstance(p, TextMessagePart))]
    for part in source:
        if isinstance(part, TextMessagePart | FileMessagePart):
            yield part
        elif isinstance(part, ImageMessagePart):
            yield FileMessagePart(data=part.image, mime_type="image/*", filename=part.filename)
