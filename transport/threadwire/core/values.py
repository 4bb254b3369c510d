"""Which values a state may hold, and the copy that is taken of what an agent puts in.

Agents hand in Python values; `copy_in` checks them and returns a plain JSON value that shares
no container with them. What clients send is checked by `reading`.

Spec: PROTOCOL.md §2.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Final

from .errors import InvalidValue, Refused
from .operations import FORBIDDEN_KEYS, Json, Segment, format_path

MAX_INTEGER: Final = 2**53 - 1
"""The largest integer a double holds exactly with all its neighbours. Spec: PROTOCOL.md §2.2."""


class Wrapper:
    """A view of a plain value, such as a draft node."""

    __slots__ = ()

    @abstractmethod
    def value(self) -> Json:
        """A plain copy of what is viewed."""


def text_bytes(text: str) -> int:
    """The length of `text` in UTF-8.

    Raises:
        InvalidValue: `invalid-unicode` for a lone surrogate, without a `field`.
    """
    if text.isascii():
        return len(text)
    try:
        return len(text.encode())
    except UnicodeEncodeError as error:
        raise InvalidValue("invalid-unicode", f"a lone surrogate at character {error.start}") from None


def plain_key(key: object) -> str:
    """A key of an object as a plain str.

    Raises:
        InvalidValue: whose `field` is at most the key itself.
    """
    if not isinstance(key, str):
        raise InvalidValue("invalid-key", f"a key is of type {type(key).__qualname__}, not a string")
    if type(key) is not str:
        key = str.__str__(key)
    if key in FORBIDDEN_KEYS:
        raise InvalidValue("forbidden-key", f"the key {key!r} is refused", key)
    text_bytes(key)
    return key


def place(error: InvalidValue, path: Sequence[Segment]) -> InvalidValue:
    """The error with its `field`, so far relative to `path`, counted from the state."""
    error.field = format_path(path if error.field is None else (*path, error.field))
    return error


def measure(value: Json) -> int:
    """About the bytes that a plain value takes on the wire, escapes not counted."""
    kind = type(value)
    if kind is str:
        return (len(value) if value.isascii() else len(value.encode())) + 2
    if kind is dict:
        return 2 + sum([measure_key(key) + measure(item) for key, item in value.items()])
    if kind is list:
        return 2 + sum([1 + measure(item) for item in value])
    return 6


def measure_key(key: Segment) -> int:
    """What an item takes beside its value: `key` is a str in an object, an int in an array."""
    return text_bytes(key) + 4 if type(key) is str else 1


def copy_in(
    value: object, *, depth: int, path: tuple[Segment, ...], max_bytes: int | None = None
) -> tuple[Json, int]:
    """A checked plain copy of `value`, and its `measure`.

    dict and other mappings become dict, list and tuple become list, subclasses of str, int and
    float (enums too) their plain value. `depth` is how many containers may nest; `path` is
    where the value goes, for the error's `field`.

    Raises:
        InvalidValue: naming the rule and the place.
        Refused: `state-too-large` where the copy would take more than `max_bytes`.
    """
    copier = _Copier(max_bytes)
    try:
        return copier.copy(value, depth), copier.size
    except InvalidValue as error:
        raise place(error, (*path, *reversed(copier.trail))) from None


def plain_copy(value: Json) -> Json:
    """A copy of a plain value; strings are shared."""
    kind = type(value)
    if kind is dict:
        return {key: plain_copy(item) for key, item in value.items()}
    if kind is list:
        return [plain_copy(item) for item in value]
    return value


class _Copier:
    __slots__ = ("_max_bytes", "size", "trail")

    def __init__(self, max_bytes: int | None) -> None:
        self._max_bytes = max_bytes
        self.size = 0
        self.trail: list[Segment] = []
        """Where an error was met, innermost first."""

    def copy(self, value: object, depth: int) -> Json:
        kind = type(value)
        if kind is str:
            self.size += text_bytes(value) + 2  # type: ignore[arg-type]
            return value
        if value is None or kind is bool:
            self.size += 6
            return value
        if kind is int or kind is float:
            self.size += 6
            return _number(value)  # type: ignore[arg-type]
        if isinstance(value, dict):
            return self._mapping(value, depth)
        if isinstance(value, list | tuple):
            return self._sequence(value, depth)
        if isinstance(value, Wrapper):
            # What a wrapper shows was checked when it was put where it is.
            inner = value.value()
            self._grow(measure(inner))
            if _depth(inner) > depth:
                raise InvalidValue("too-deep", "nested too deep")
            return inner
        if isinstance(value, str):
            return self.copy(str.__str__(value), depth)
        if isinstance(value, int):
            return self.copy(int.__int__(value), depth)
        if isinstance(value, float):
            return self.copy(float.__float__(value), depth)
        if isinstance(value, Mapping):
            return self._mapping(value, depth)
        raise InvalidValue(
            "unsupported-type", f"a {kind.__qualname__} is no JSON value; convert it before it goes in"
        )

    def _mapping(self, value: Mapping[object, object], depth: int) -> dict[str, Json]:
        if depth <= 0:
            raise InvalidValue("too-deep", "nested too deep")
        copy: dict[str, Json] = {}
        size = 2
        for given, item in value.items():
            key = plain_key(given)
            if key in copy:
                raise InvalidValue("duplicate-key", f"the key {key!r} comes twice", key)
            size += measure_key(key)
            try:
                copy[key] = self.copy(item, depth - 1)
            except InvalidValue:
                self.trail.append(key)
                raise
        self._grow(size)
        return copy

    def _sequence(self, value: list[object] | tuple[object, ...], depth: int) -> list[Json]:
        if depth <= 0:
            raise InvalidValue("too-deep", "nested too deep")
        copy: list[Json] = []
        for item in value:
            try:
                copy.append(self.copy(item, depth - 1))
            except InvalidValue:
                self.trail.append(len(copy))
                raise
        self._grow(2 + len(copy))
        return copy

    def _grow(self, size: int) -> None:
        # Looked at while copying: lists of one list twice, thirty deep, would fill the memory.
        self.size += size
        if self._max_bytes is not None and self.size > self._max_bytes:
            raise Refused(
                "state-too-large", f"the state would be larger than {self._max_bytes} bytes", "state"
            )


def _number(value: int | float) -> int | float:
    if type(value) is int:
        if not -MAX_INTEGER <= value <= MAX_INTEGER:
            raise InvalidValue("integer-range", "an integer outside ±(2^53-1)")
        return value
    if not math.isfinite(value):
        raise InvalidValue("not-finite", f"{value} is no JSON number")
    return value + 0.0  # -0.0 becomes 0.0


def _depth(value: Json) -> int:
    if type(value) is dict:
        return 1 + max((_depth(item) for item in value.values()), default=0)
    if type(value) is list:
        return 1 + max((_depth(item) for item in value), default=0)
    return 0
