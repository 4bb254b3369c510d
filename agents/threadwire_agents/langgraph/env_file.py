"""Files of environment variables (`.env`): `KEY=VALUE` lines, strictly read."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

_KEY: Final = re.compile(r"[ \t]*(?:export[ \t]+)?([A-Za-z_][A-Za-z0-9_]*)[ \t]*=")
_BLANK: Final = re.compile(r"[ \t]*(?:#[^\n]*)?(?:\n|\Z)")
_SINGLE: Final = re.compile(r"[ \t]*'([^']*)'")
_DOUBLE: Final = re.compile(r'[ \t]*"((?:[^"\\]|\\.)*)"', re.DOTALL)
_BARE: Final = re.compile(r"[^\n]*")
_COMMENT: Final = re.compile(r"[ \t]#.*")
_ESCAPES: Final = {"n": "\n", "r": "\r", "t": "\t", '"': '"', "\\": "\\", "$": "$", "\n": ""}
_REFERENCE: Final = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)(?::-([^}]*))?\}")


def parse_env(text: str, environment: Mapping[str, str]) -> dict[str, str]:
    """The variables a file sets, the last of a name winning.

    A value is taken up to the end of the line or ` #`; or it is in single quotes, as it is; or in double
    quotes, with the escapes of \\n, \\r, \\t, \\\\, \\" and \\$. Quoted values may have several lines.
    Outside single quotes `${NAME}` and `${NAME:-default}` stand for a variable of `environment`, or of
    the file above; for nothing, where there is none.

    Raises:
        ValueError: a line that is none of this; its number.
    """
    text = text.replace("\r\n", "\n")
    found: dict[str, str] = {}
    at = 0
    while at < len(text):
        blank = _BLANK.match(text, at)
        if blank is not None:
            at = blank.end()
            continue
        key = _KEY.match(text, at)
        value, stop = ("", at) if key is None else _value(text, key.end(), {**found, **environment})
        end = _BLANK.match(text, stop)
        if key is None or end is None or "\0" in value:
            raise ValueError(f"line {text.count(chr(10), 0, at) + 1}: expected KEY=VALUE")
        found[key.group(1)] = value
        at = end.end()
    return found


def _value(text: str, at: int, known: Mapping[str, str]) -> tuple[str, int]:
    """The value that begins at `at`, and where it ends."""
    if quoted := _SINGLE.match(text, at):
        return quoted.group(1), quoted.end()
    if quoted := _DOUBLE.match(text, at):
        return _expand(quoted.group(1), known, escapes=True), quoted.end()
    bare = _BARE.match(text, at)
    assert bare is not None
    if bare.group().lstrip(" \t")[:1] in ("'", '"'):
        return "", at  # a quote that isn't closed: the caller sees that the line doesn't end here
    return _expand(_COMMENT.sub("", bare.group()).strip(), known, escapes=False), bare.end()


def _expand(value: str, known: Mapping[str, str], *, escapes: bool) -> str:
    parts = []
    at = 0
    while at < len(value):
        if value.startswith("${", at) and (reference := _REFERENCE.match(value, at)):
            parts.append(known.get(reference.group(1)) or reference.group(2) or "")
            at = reference.end()
        elif escapes and value[at] == "\\":
            parts.append(_ESCAPES.get(value[at + 1], value[at : at + 2]))
            at += 2
        else:
            parts.append(value[at])
            at += 1
    return "".join(parts)
