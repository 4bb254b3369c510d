"""The object that a JSON text stands for as far as it has come.

A model writes the arguments of a tool call piece by piece. Strings are shown as far as they are
there, numbers up to their last digit, `t` is already true; a key appears with its value.
"""

from __future__ import annotations

import json
import re
from typing import Any, Final

from ..core.operations import Json

_SPACE: Final = re.compile(r"[ \t\n\r]*")
_STRING: Final = re.compile(r'"(?:[^"\\]|\\u[0-9a-fA-F]{4}|\\[^u])*')
"""A string without its last quote; an escape that is cut off is left out."""
_NUMBER: Final = re.compile(r"-?[0-9]+(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?")
_WORD: Final = re.compile("[a-z]+")
_LITERALS: Final = ("true", "false", "null")
_HALF_A_CHARACTER: Final = re.compile(r"\\u[dD][89abAB][0-9a-fA-F]{2}$")


def parse_partial_json(text: str) -> Json | None:
    """The object (or array) that the beginning of a JSON text shows; None if there is none to see."""
    if not text:
        return {}
    whole = _parse(text)
    return whole if whole is not None else _parse(_closed(text))


def _parse(text: str) -> Json | None:
    try:
        value = json.loads(text.removeprefix("\ufeff"), parse_constant=_refuse)
    except (ValueError, RecursionError):
        return None
    if not isinstance(value, dict | list):
        return None
    if ("\\u" in text or "__proto__" in text or "constructor" in text) and _is_hostile(value):
        return None
    return value


def _refuse(constant: str) -> None:
    raise ValueError(constant)


def _is_hostile(value: Any) -> bool:
    """Whether an object would change its prototype in JavaScript."""
    pending = [value]
    while pending:
        item = pending.pop()
        if isinstance(item, dict):
            if "__proto__" in item:
                return True
            constructor = item.get("constructor")
            if isinstance(constructor, dict) and "prototype" in constructor:
                return True
            pending.extend(item.values())
        elif isinstance(item, list):
            pending.extend(item)
    return False


def _closed(text: str) -> str:
    """The part of `text` that stands for something, with all that is open in it closed."""
    open_: list[str] = []  # the brackets that are still to come, innermost last
    kept = 0
    awaited = "value"
    at = 0
    while awaited:
        space = _SPACE.match(text, at)
        at = space.end() if space else at
        char = text[at : at + 1]
        if char == "":
            break
        if awaited in ("key", "first key") and char == '"':
            string = _STRING.match(text, at)
            assert string
            at = string.end() + 1
            if text[at - 1 : at] != '"':
                break
            awaited = "colon"
            continue
        if awaited == "colon" and char == ":":
            at, awaited = at + 1, "value"
            continue
        if awaited == "comma" and char == ",":
            at, awaited = at + 1, "key" if open_[-1] == "}" else "value"
            continue
        if awaited in ("comma", "first key", "first item") and open_ and char == open_[-1]:
            open_.pop()
            at = kept = at + 1
        elif awaited == "comma" or (awaited == "key" and char != "}"):
            return ""  # no JSON goes on like this
        elif awaited not in ("value", "first item"):
            break
        elif char in "{[":
            open_.append("}" if char == "{" else "]")
            at = kept = at + 1
            awaited = "first key" if char == "{" else "first item"
            continue
        elif char == '"':
            string = _STRING.match(text, at)
            assert string
            end = string.end()
            if text[end : end + 1] != '"':
                begun = _HALF_A_CHARACTER.sub("", text[:end])
                return begun + '"' + "".join(reversed(open_))
            at = kept = end + 1
        elif char == "-" or char.isdigit():
            number = _NUMBER.match(text, at)
            if number is None:
                break
            at = kept = number.end()
            if not text[at:].strip(".eE+-"):
                break
        else:
            word = _WORD.match(text, at)
            literal = next((each for each in _LITERALS if word and each.startswith(word[0])), None)
            if word is None or literal is None:
                break
            if word.end() < len(text) and word[0] != literal:
                break
            if word[0] != literal:
                return text[:at] + literal + "".join(reversed(open_))
            at = kept = word.end()
        awaited = "comma" if open_ else ""
    return text[:kept] + "".join(reversed(open_))
