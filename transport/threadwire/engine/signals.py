"""What nodes tell each other over the bus. Each may be lost, late or come twice without harm."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from typing import Final, TypeAlias, TypeVar

import msgspec

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

    Said when it changes, and again and again: what wasn't for a while is no longer so.
    """

    node: str
    thread: str
    readers: int
    tools: list[Tools] = []


class Execute(_Signal, frozen=True, tag="x"):
    """To a follower: this subscriber is to execute the call, unless it has been told so."""

    thread: str
    subscriber: str
    call: str


class Cancel(_Signal, frozen=True, tag="c"):
    """To an owner: stop the run, or all. Said until it is answered; `id` is the same each time."""

    node: str
    thread: str
    id: str
    run: str | None


class Cancelled(_Signal, frozen=True, tag="d"):
    """The answer: it is done and durable."""

    id: str


class Free(_Signal, frozen=True, tag="f"):
    """To all: there are threads that no node has, some or all of them named."""

    threads: list[str]


class Gone(_Signal, frozen=True, tag="g"):
    """To all: a thread was deleted."""

    thread: str


Signal: TypeAlias = Wrote | Rows | Submitted | Presence | Execute | Cancel | Cancelled | Free | Gone

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
