"""What values and operations cost on the wire: bytes, near enough to compare and to bound.

`diff` chooses the cheaper of two ways by it, `merge` bounds a backlog. Escapes and the frame
around are not counted.
"""

from __future__ import annotations

from typing import Final

import msgspec

from .operations import AppendText, Json, Operation, Path, Set, Splice

_encode: Final = msgspec.msgpack.Encoder().encode

_OPERATION: Final = 32
_ATOM: Final = 5


def encoded(value: Json) -> bytes | None:
    """The MessagePack form, or None for what has none.

    What has the same form is the same value. The reverse isn't true: keys may stand in another
    order, and 1 may be spelled 1.0.
    """
    try:
        return _encode(value)
    except (TypeError, ValueError, OverflowError, RecursionError):
        return None


def text_cost(text: str) -> int:
    """The bytes of `text` in UTF-8."""
    return len(text) if text.isascii() else len(text.encode(errors="surrogatepass"))


def value_cost(value: Json) -> int:
    """The bytes that `value` takes."""
    kind = type(value)
    if kind is str:
        return text_cost(value) + 2
    if kind is dict or kind is list:
        return len(encoded(value) or b"")
    return _ATOM


def path_cost(path: Path) -> int:
    """The bytes that an operation takes without its value."""
    return _OPERATION + sum([len(segment) + 3 if type(segment) is str else 3 for segment in path])


def operation_cost(operation: Operation) -> int:
    """The bytes that `operation` takes."""
    if isinstance(operation, Set | AppendText):
        return path_cost(operation.path) + value_cost(operation.value)
    if isinstance(operation, Splice):
        return path_cost(operation.path) + value_cost(operation.items)
    return path_cost(operation.path)


def costs_more(value: Json, budget: int) -> bool:
    """Whether `value` takes more bytes than `budget`; looks at no more of it than it takes to know."""
    waiting = [value]
    while waiting:
        value = waiting.pop()
        kind = type(value)
        if kind is str:
            budget -= text_cost(value) + 2
        elif kind is dict or kind is list:
            budget -= 1
            if len(value) > budget:
                return True
            if kind is dict:
                budget -= sum(map(len, value)) + len(value)
                waiting += value.values()
            else:
                waiting += value
        else:
            budget -= 1
        if budget < 0:
            return True
    return False
