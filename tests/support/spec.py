"""PROTOCOL.md and what belongs to it, as tests read them."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import pytest

SPEC: Final = Path(__file__).parents[2] / "protocol-spec"
VECTORS: Final = SPEC / "vectors"

_HEADING: Final = re.compile(r"^#{2,3} (\d+(?:\.\d+)*) (.+)$", re.MULTILINE)


def protocol() -> str:
    return (SPEC / "PROTOCOL.md").read_text(encoding="utf-8")


def sections() -> dict[str, str]:
    """Number → title of all sections, in order."""
    return dict(_HEADING.findall(protocol()))


def section(number: str) -> str:
    """The text of one section, with its subsections."""
    text = protocol()
    headings = list(_HEADING.finditer(text))
    for index, heading in enumerate(headings):
        if heading[1] == number:
            after = (each for each in headings[index + 1 :] if not each[1].startswith(f"{number}."))
            end = next(after, None)
            return text[heading.end() : end.start() if end else len(text)]
    raise KeyError(number)


def tables(text: str) -> list[list[dict[str, str]]]:
    """The Markdown tables of a text: rows by column heading."""
    found = []
    for block in re.findall(r"(?:^\|.*\|\n)+", text, re.MULTILINE):
        heading, _, *rows = [_cells(line) for line in block.splitlines()]
        found.append([dict(zip(heading, row, strict=True)) for row in rows])
    return found


def _cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip().strip("|").split("|")]


def words(cell: str) -> list[str]:
    """What stands in backquotes."""
    return re.findall(r"`([^`]+)`", cell)


def plain(cell: str) -> str:
    """Without backquotes."""
    return cell.replace("`", "")


def vectors(name: str) -> list[dict[str, Any]]:
    """The cases of one vector file."""
    cases: list[dict[str, Any]] = json.loads((VECTORS / f"{name}.json").read_text(encoding="utf-8"))
    return cases


def parametrize(
    name: str, where: Callable[[dict[str, Any]], bool] = lambda case: True
) -> pytest.MarkDecorator:
    """Runs the test once for each such case of a vector file, as `case`."""
    cases = {
        f"{number}-{case['comment'][:60]}": case for number, case in enumerate(vectors(name)) if where(case)
    }
    return pytest.mark.parametrize("case", cases.values(), ids=cases.keys())


def sections_of(case: dict[str, Any]) -> list[str]:
    """The sections that a case is about."""
    named = case["section"]
    return named if isinstance(named, list) else [named]
