"""What nodes tell each other. Each may be lost, late or come twice without harm.

It goes over the bus; an `Ask` and its `Answer`, where the bus doesn't bring them, by the store.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from typing import Final, TypeAlias, TypeVar

import msgspec

from ..core.operations import Json
from .bus import MAX_MESSAGE

T = TypeVar("T")


class _Signal(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="t"):
    pass


class Wrote(_Signal, frozen=True, tag="w"):
    """From an owner: there is more to be read of these."""

    threads: list[str]


class Row(msgspec.Struct, frozen=True, array_like=True):
    """Of a thread's log, and the `shared.Standing.version` of the thread with it."""

    thread: str
    epoch: int
    seq: int
    version: int
    data: bytes

    @property
    def size(self) -> int:
        """Its characters in a message, at most."""
        return len(self.thread) + 4 * len(self.data) // 3 + 64


class Rows(_Signal, frozen=True, tag="l"):
    """From an owner, in place of Wrote: all that there is more to be read of these threads."""

    rows: list[Row]


class Submitted(_Signal, frozen=True, tag="s"):
    """To an owner: there are commands in the inbox."""

    threads: list[str]


class Tools(msgspec.Struct, frozen=True, array_like=True):
    """A subscriber that executes tools, and the connection it is of."""

    subscriber: str
    connection: str
    names: tuple[str, ...]


class Presence(_Signal, frozen=True, tag="p"):
    """To an owner: the node follows the thread for so many subscribers, some of which execute tools.

    Said when it changes, and again and again: what wasn't for a while is no longer so. `answer`: the node has
    heard nothing of the owner for a while, and wants to.
    """

    node: str
    thread: str
    readers: int
    tools: list[Tools] = []
    answer: bool = False


class Heard(_Signal, frozen=True, tag="h"):
    """To a follower: the owner knows that it is there."""

    thread: str


class Execute(_Signal, frozen=True, tag="x"):
    """To a follower: this subscriber is to execute the call, unless it has been told so."""

    thread: str
    subscriber: str
    call: str


class _Ask(_Signal, frozen=True):
    """To an owner, from `node`. Said until it is answered; `id` is the same each time."""

    node: str
    thread: str
    id: str


class Cancel(_Ask, frozen=True, tag="c"):
    """Stop the run, or all. The answer is yes, once it is durable."""

    run: str | None


class Seed(_Ask, frozen=True, tag="i"):
    """Begin with this state, if nothing was ever written. The answer is yes, once all is durable."""

    state: dict[str, Json]


class Alone(_Ask, frozen=True, tag="a"):
    """Is the run abandoned, or will it be within that time?"""

    within_s: float


class Answer(_Signal, frozen=True, tag="d"):
    """To whoever asked."""

    id: str
    yes: bool


class Mail(_Signal, frozen=True, tag="m"):
    """There is something in the store for the node."""


class Free(_Signal, frozen=True, tag="f"):
    """To all: there are threads that no node has, some or all of them named."""

    threads: list[str]


class Gone(_Signal, frozen=True, tag="g"):
    """To all: a thread was deleted."""

    thread: str


Ask: TypeAlias = Cancel | Seed | Alone
Signal: TypeAlias = Wrote | Rows | Submitted | Presence | Heard | Execute | Ask | Answer | Mail | Free | Gone

encode: Final = msgspec.json.Encoder().encode
_decoder: Final[msgspec.json.Decoder[Signal]] = msgspec.json.Decoder(Signal)

_ROOM: Final = MAX_MESSAGE - 40
"""Characters of a message for what is listed in it."""
LARGEST_ROW: Final = 2000
"""The `size` of rows up to which they go over the bus; larger ones are read."""


def write(signal: Signal) -> str | None:
    """Its message; None where it is too long for one."""
    text = encode(signal).decode()
    if not text.isascii():  # the names of tools may be anything
        text = json.dumps(msgspec.to_builtins(signal))
    return text if len(text) <= MAX_MESSAGE else None


def write_mail(signal: Signal) -> str:
    """Its message by the store, of any length."""
    return encode(signal).decode()


def read(message: str) -> Signal | None:
    """The signal of a message; None for one of another version."""
    try:
        return _decoder.decode(message)
    except msgspec.MsgspecError:
        return None


def portions(items: Iterable[T], size: Callable[[T], int]) -> Iterator[list[T]]:
    """As lists that fit a message; `size`: characters of an item in it."""
    portion: list[T] = []
    room = _ROOM
    for item in items:
        if portion and room < size(item):
            yield portion
            portion, room = [], _ROOM
        portion.append(item)
        room -= size(item)
    if portion:
        yield portion
