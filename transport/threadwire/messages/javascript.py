"""The few things about JavaScript that can be seen in converted messages: blank text, JSON as text."""

from __future__ import annotations

import json
import re
from typing import Any, Final

import rfc8785

SPACE: Final = (
    "\t\n\v\f\r \u00a0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a"
    "\u2028\u2029\u202f\u205f\u3000\ufeff"
)
"""What `trim` removes."""

_INDEX: Final = re.compile("0|[1-9][0-9]{0,9}")
_LARGEST_INDEX: Final = 2**32 - 2


def is_blank(text: str | None) -> bool:
    """Whether nothing of the text is visible."""
    return not text or not text.strip(SPACE)


def stringify(value: Any) -> str:
    """JSON as `JSON.stringify` writes it: no spaces, numbers as JavaScript's, integer-like keys first."""
    if isinstance(value, dict):
        keys = in_javascript_order(list(value))
        return "{" + ",".join(f"{_text(str(key))}:{stringify(value[key])}" for key in keys) + "}"
    if isinstance(value, list | tuple):
        return "[" + ",".join(map(stringify, value)) + "]"
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, float):
        if value != value or value in (float("inf"), float("-inf")):
            return "null"
        return rfc8785.dumps(value).decode()
    return json.dumps(value)


def in_javascript_order(keys: list[str]) -> list[str]:
    """The keys of an object in the order JavaScript keeps them in."""
    indexes = [key for key in keys if _INDEX.fullmatch(key) and int(key) <= _LARGEST_INDEX]
    if not indexes:
        return keys
    first = sorted(indexes, key=int)
    return first + [key for key in keys if key not in set(first)]


def _text(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)
