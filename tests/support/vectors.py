"""What assistant-ui's own code made of many inputs: the vectors in `tests/client/vectors`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

_FOLDER = Path(__file__).parents[1] / "client" / "vectors"
_IDS = ("id", "toolCallId", "messageId", "parentId", "headId")


def cases(name: str) -> list[Any]:
    read: list[Any] = json.loads((_FOLDER / f"{name}.json").read_text())["cases"]
    return read


def normal(value: Any, given: Any) -> Any:
    """`value` with ids and times that aren't in `given` replaced by `<new>`, as the vectors have it."""
    known = set(_strings(given))

    def walk(item: Any, key: str = "") -> Any:
        if isinstance(item, list):
            return [walk(each, key) for each in item]
        if isinstance(item, dict):
            return {name: walk(each, name) for name, each in item.items()}
        if key == "createdAt":
            return item if item in known else "<new>"
        if key in _IDS and isinstance(item, str) and item not in known and not item.startswith("__external"):
            return "<new>"
        return item

    return walk(value)


def _strings(value: Any) -> list[str]:
    if isinstance(value, str):
        return [value]
    items = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return [text for item in items for text in _strings(item)]
