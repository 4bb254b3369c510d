"""Reads what comes from outside, JSON and MessagePack, into plain values that a state may hold.

Two steps. `decode_json` and `decode_msgpack` are lenient: they let through all that the rules of
§2 are about, and keep each object as a tuple of its (key, value) pairs. `checked` is strict: one
pass without recursion that builds the plain value, or refuses and says where. In between, a
caller can look at a part of a value whose other parts will be refused.

Spec: PROTOCOL.md §2 and §5.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from json import JSONDecodeError, JSONDecoder
from typing import Any, Final, TypeAlias

import msgpack  # type: ignore[import-untyped]

from .canonical import canonical
from .errors import CODES, InvalidValue, Refused
from .frames import Limits
from .operations import FORBIDDEN_KEYS, Json
from .values import MAX_INTEGER

Lenient: TypeAlias = Any
"""A decoded value that nobody has checked: arrays are lists, objects tuples of (key, value) pairs."""

MAX_FIELD: Final = 200
"""The most characters of an error's `field`; a longer path is cut at its end."""

_MAX_DIGITS: Final = len(str(-MAX_INTEGER))
_MAX_WIDE_DIGITS: Final = len(str(-(10**21 - 1)))


def _integer(literal: str) -> int:
    # int() of a million digits takes seconds, or raises: a longer literal is out of range anyway.
    return int(literal) if len(literal) <= _MAX_DIGITS else MAX_INTEGER + 1


def _integer_or_double(literal: str) -> int | float:
    if len(literal) > _MAX_WIDE_DIGITS:
        return MAX_INTEGER + 1
    integer = int(literal)
    if abs(integer) <= MAX_INTEGER:
        return integer
    double = float(literal)
    return double if double == integer or canonical(double) == literal.encode() else integer


# NaN and Infinity, which the decoder accepts, are left to the strict pass.
_json = JSONDecoder(object_pairs_hook=tuple, parse_int=_integer)
_wide_json = JSONDecoder(object_pairs_hook=tuple, parse_int=_integer_or_double)


def read_json(
    data: bytes | str,
    *,
    max_depth: int = Limits().max_depth,
    field: str = "",
    wide_integers: bool = False,
) -> Json:
    """The plain value of a JSON text, such as an HTTP body. `max_depth` and `field` are `checked`'s.

    With `wide_integers`, an integer beyond 2^53-1 that a double holds exactly, or that is how
    JSON.stringify writes a double (1e20 has 21 digits there), is read as that float.

    Raises:
        Refused: `malformed`.
        InvalidValue: a value against the rules; `field` is its path.
    """
    return checked(decode_json(data, wide_integers=wide_integers), max_depth=max_depth, field=field)


def read_msgpack(data: bytes, *, max_depth: int = Limits().max_depth, field: str = "") -> Json:
    """The plain value of a MessagePack message. Raises as `read_json` does."""
    return checked(decode_msgpack(data), max_depth=max_depth, field=field)


def decode_json(data: bytes | str, *, wide_integers: bool = False) -> Lenient:
    """The unchecked value of a JSON text; bytes are UTF-8 without a byte order mark.

    Raises:
        Refused: `malformed`.
        InvalidValue: `too-deep`, where the decoder itself can't follow (about 900 levels).
    """
    try:
        text = data if isinstance(data, str) else data.decode()
        return (_wide_json if wide_integers else _json).decode(text)
    except JSONDecodeError as error:
        raise Refused("malformed", f"not JSON: {error.msg} at character {error.pos}") from None
    except UnicodeDecodeError as error:
        raise Refused("malformed", f"not JSON: invalid UTF-8 at byte {error.start}") from None
    except RecursionError:
        raise _invalid("too-deep") from None


def decode_msgpack(data: bytes) -> Lenient:
    """The unchecked value of a MessagePack message.

    Raises:
        Refused: `malformed`.
        InvalidValue: `too-deep`, where the decoder itself can't follow (1,024 levels).
    """
    try:
        return msgpack.unpackb(
            data,
            object_pairs_hook=tuple,
            strict_map_key=False,
            # Invalid UTF-8 becomes lone surrogates, which valid UTF-8 never does.
            unicode_errors="surrogateescape",
        )
    except (msgpack.StackError, RecursionError):
        raise _invalid("too-deep") from None
    except (ValueError, msgpack.UnpackException):
        raise Refused("malformed", "not one complete MessagePack value") from None


def checked(value: Lenient, *, max_depth: int, field: str = "") -> Json:
    """The plain value of a decoded one, whose lists it takes over.

    `max_depth` is how many containers may nest; `field` is put before the path of errors.

    Raises:
        InvalidValue: `too-deep`, `duplicate-key`, `forbidden-key`, `invalid-key`, `not-finite`,
            `integer-range`, `invalid-unicode` or `unsupported-type`.
    """
    root: list[Json] = [None]
    items: Iterator[tuple[Any, Lenient]] = iter(((0, value),))
    container: Any = root
    # The containers around this one: what is left of each, its plain form, the key gone down by.
    outer: list[tuple[Iterator[tuple[Any, Lenient]], Any, Any]] = []

    def invalid(code: str, *keys: object) -> InvalidValue:
        path = [key for _, _, key in outer] + list(keys)
        return _invalid(code, field, path[1:])

    while True:
        is_object = type(container) is dict
        for key, item in items:
            if is_object:
                if type(key) is not str:
                    raise invalid("invalid-key")
                if not key.isascii() and not _is_unicode(key):
                    raise invalid("invalid-unicode", key)
                if key in container:
                    raise invalid("duplicate-key", key)
                if key in FORBIDDEN_KEYS:
                    raise invalid("forbidden-key", key)
            kind = type(item)
            if kind is str:
                if not item.isascii() and not _is_unicode(item):
                    raise invalid("invalid-unicode", key)
            elif kind is int:
                if not -MAX_INTEGER <= item <= MAX_INTEGER:
                    raise invalid("integer-range", key)
            elif kind is float:
                if not math.isfinite(item):
                    raise invalid("not-finite", key)
                item += 0.0  # -0.0 becomes 0.0
            elif kind is tuple or kind is list:
                if len(outer) == max_depth:
                    raise invalid("too-deep", key)
                inner = {} if kind is tuple else item
                container[key] = inner
                if item:
                    outer.append((items, container, key))
                    items, container = iter(item) if kind is tuple else enumerate(item), inner
                    break
                continue
            elif item is not None and kind is not bool:
                raise invalid("unsupported-type", key)
            container[key] = item
        else:
            if not outer:
                return root[0]
            items, container, _ = outer.pop()


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _invalid(code: str, field: str = "", path: Sequence[object] = ()) -> InvalidValue:
    """The refusal of what stands at `path` under `field`."""
    segments = [field] if field else []
    segments += [str(segment)[: MAX_FIELD + 1] for segment in path]
    # The field is sent back, so a lone surrogate becomes "?".
    where = ".".join(segments).encode(errors="replace").decode()
    if len(where) > MAX_FIELD:
        where = where[: MAX_FIELD - 1] + "…"
    return InvalidValue(code, CODES[code], where or None)
