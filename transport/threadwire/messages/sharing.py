"""How far two lists of messages are the same: what a token costs must not grow with the thread."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, TypeVar

T = TypeVar("T")


def common_prefix(old: list[Any], new: Sequence[Any]) -> int:
    """How many items at the start are the same or equal.

    Lists are compared as wholes, which skips identical items at the speed of C (4 µs for 2,000).
    Messages change at the end, so it is looked at first. `old` is the caller's own: one of its
    items is exchanged for a moment.
    """
    after = new if type(new) is list else list(new)
    high = min(len(old), len(after))
    if high and len(old) == len(after) and old[-1] is not after[-1]:
        last, old[-1] = old[-1], after[-1]
        try:
            if old == after:
                return high if last == after[-1] else high - 1
        finally:
            old[-1] = last
    if old[:high] == after[:high]:
        return high
    low, step = high - 1, 1
    while old[:low] != after[:low]:
        high, low, step = low, max(0, low - step), step * 4
    while high - low > 1:
        middle = (low + high) // 2
        if old[low:middle] == after[low:middle]:
            low = middle
        else:
            high = middle
    return low


class Successor(tuple[T, ...]):
    """A tuple that knows how far it is the same as the one made before it."""

    version: object
    """The identity of this one."""
    previous: object
    """The identity of the one before."""
    unchanged: int
    """How many items at the start are the same objects in both."""

    @classmethod
    def of(cls, items: Iterable[T], previous: object, unchanged: int) -> Successor[T]:
        """The items, which follow on those of the version `previous`."""
        made = cls(items)
        made.version, made.previous, made.unchanged = object(), previous, unchanged
        return made
