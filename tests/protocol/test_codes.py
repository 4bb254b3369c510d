"""The error codes that the source raises are those of PROTOCOL.md, and the other way round."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.support.spec import section, words
from threadwire.core import errors
from threadwire.core.errors import CODES

ROOT: Final = Path(__file__).parents[2]

RAISED: Final = {
    name
    for name, kind in vars(errors).items()
    if isinstance(kind, type)
    and issubclass(kind, (errors.Refused, errors.ProtocolError, errors.AgentError, errors.ErrorInfo))
}
"""What is made with a code: as its first argument, or as `code`."""

NOT_RAISED: Final = {"strategy-unsupported"}
"""Codes for agents that can't do what those hosted here all can."""


def files() -> Iterator[tuple[str, ast.Module]]:
    """All source but the table itself and the demo agents, which have words of their own."""
    for package in ("transport/threadwire", "agents/threadwire_agents"):
        for path in sorted((ROOT / package).rglob("*.py")):
            if "demos" not in path.parts and path.parts[-2:] != ("core", "errors.py"):
                yield str(path.relative_to(ROOT)), ast.parse(path.read_text(encoding="utf-8"))


def literals(node: ast.AST) -> Iterator[str]:
    for each in ast.walk(node):
        if isinstance(each, ast.Constant) and isinstance(each.value, str):
            yield each.value


def raised() -> Iterator[tuple[str, str]]:
    """Where, and the code, of each error that is made with one written out."""
    for path, tree in files():
        for call in ast.walk(tree):
            if not isinstance(call, ast.Call):
                continue
            name = getattr(call.func, "id", None) or getattr(call.func, "attr", None)
            if name not in RAISED:
                continue
            codes = [keyword.value for keyword in call.keywords if keyword.arg == "code"]
            if name != "AgentError":
                codes += call.args[:1]
            for code in codes:
                for literal in literals(code):
                    yield f"{path}:{call.lineno}", literal


def of_graphs() -> set[str]:
    """The codes that hosted graphs have beside those of the table."""
    (row,) = re.findall(r"^\| `error` \| (.+) \|$", section("15.3"), re.MULTILINE)
    return {word for word in words(row.partition("the codes are those of §8.5")[2]) if "-" in word}


@pytest.mark.spec("12.1")
def test_codes_in_the_source_are_codes_of_the_specification() -> None:
    found = list(raised())
    assert len(found) > 100
    known = CODES.keys() | of_graphs()
    assert [(where, code) for where, code in found if code not in known] == []


@pytest.mark.spec("12.1")
def test_codes_of_the_specification_are_in_the_source() -> None:
    found = {literal for _, tree in files() for literal in literals(tree)}
    assert (CODES.keys() | of_graphs()) - found == NOT_RAISED
