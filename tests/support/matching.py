"""Matchers of the session scripts: which values they match, and the names they give to parts.

The language is described in `protocol-spec/vectors/README.md`.
"""

from __future__ import annotations

import re
from typing import Any, Final, TypeAlias

Names: TypeAlias = dict[str, Any]

_ABSENT: Final = object()
_TYPES: Final[dict[str, tuple[type, ...]]] = {
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "array": (list,),
    "object": (dict,),
}


def same(a: Any, b: Any) -> bool:
    """Equality of JSON values: 1 and 1.0 are equal, 1 and true are not."""
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(map(same, a, b))
    return isinstance(a, bool) == isinstance(b, bool) and bool(a == b)


def match(matcher: Any, value: Any, names: Names, *, exact: bool = False) -> Names | None:
    """The names after the match, None where there is none. `exact`: objects have no further members.

    `names` is left as it was.
    """
    matching = _Matching(names)
    return matching.names if matching.matches(matcher, value, exact) else None


def fill(template: Any, names: Names) -> Any:
    """What is sent for `template`: `{"$value": name}` is replaced. Raises KeyError for an unknown name."""
    if isinstance(template, list):
        return [fill(item, names) for item in template]
    if isinstance(template, dict):
        if template.keys() == {"$value"}:
            return names[template["$value"]]
        return {key: fill(item, names) for key, item in template.items()}
    return template


class _Matching:
    """One attempt; `names` grows with it."""

    def __init__(self, names: Names) -> None:
        self.names = dict(names)

    def matches(self, matcher: Any, value: Any, exact: bool) -> bool:
        if isinstance(matcher, list):
            return (
                isinstance(value, list)
                and len(matcher) == len(value)
                and all(self.matches(each, item, exact) for each, item in zip(matcher, value, strict=True))
            )
        if not isinstance(matcher, dict):
            return value is not _ABSENT and same(matcher, value)
        special = next(iter(matcher)) if len(matcher) == 1 else ""
        if special.startswith("$"):
            return self._special(special, matcher[special], value, exact)
        return self._members(matcher, value, exact)

    def _members(self, matcher: dict[str, Any], value: Any, exact: bool) -> bool:
        if not isinstance(value, dict) or (exact and not value.keys() <= matcher.keys()):
            return False
        return all(
            # A state knows no further members, wherever in a frame it stands.
            self.matches(each, value.get(key, _ABSENT), exact or key == "state")
            for key, each in matcher.items()
        )

    def _special(self, special: str, operand: Any, value: Any, exact: bool) -> bool:
        if special == "$absent":
            return value is _ABSENT
        if value is _ABSENT:
            return False
        match special:
            case "$any":
                if operand == "value":
                    return True
                return isinstance(value, _TYPES[operand]) and (
                    operand == "boolean" or not isinstance(value, bool)
                )
            case "$bind":
                return same(self.names.setdefault(operand, value), value)
            case "$value":
                return same(self.names[operand], value)
            case "$not":
                return not _Matching(self.names).matches(operand, value, exact)
            case "$one":
                return any(self._attempt(each, value, exact) for each in operand)
            case "$has":
                return self._members(operand, value, False)
            case "$only":
                return self._members(operand, value, True)
            case "$first":
                return isinstance(value, list) and self.matches(operand, value[: len(operand)], exact)
            case "$pattern":
                return isinstance(value, str) and re.fullmatch(operand, value) is not None
        raise ValueError(f"no such matcher: {special}")

    def _attempt(self, matcher: Any, value: Any, exact: bool) -> bool:
        attempt = _Matching(self.names)
        if not attempt.matches(matcher, value, exact):
            return False
        self.names = attempt.names
        return True
