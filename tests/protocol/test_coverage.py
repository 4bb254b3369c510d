"""Every numbered section is shown by a vector or a test, and every reference to one leads somewhere.

A vector case names its sections in `section`; a test names one by `@pytest.mark.spec("4.3")` or a
comment `PROTOCOL §4.3`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from tests.support.spec import VECTORS, sections, sections_of, vectors

ROOT: Final = Path(__file__).parents[2]

INFORMATIVE: Final = {"1.1", "1.2", "1.3", "1.4", "9.7", "9.8", "13.1", "13.4"}
"""Sections that say nothing a test could show."""

SHOWN_ELSEWHERE: Final[dict[str, str]] = {
    "4.6": "tests/system/test_kill.py::"
    "test_kill_9_loses_nothing_shown_and_applies_each_acknowledged_command_once",
    "4.7": "tests/endpoints/test_threads.py::"
    "test_history_below_the_floor_is_gone_and_begins_at_the_floor_by_itself",
    "5.5": "tests/system/test_hostile.py::test_a_foreign_origin_is_refused_and_the_own_one_is_not",
    "8.6": "tests/system/test_kill.py::"
    "test_kill_9_loses_nothing_shown_and_applies_each_acknowledged_command_once",
    "10.3": "tests/engine/test_thread.py::test_a_backlog_heavier_than_the_state_becomes_a_snapshot",
    "12.3": "tests/client/test_connection.py::test_an_unavailable_store_is_asked_again",
}
"""Sections shown by a test that doesn't say so itself → `path::test`."""

UNSHOWN: Final[set[str]] = set()
"""Sections that nothing shows yet. One that is shown has to leave this set."""

_MARK: Final = re.compile(r"""mark\.spec\(\s*["'](\d+(?:\.\d+)*)["']\s*\)""")
_COMMENT: Final = re.compile(r"PROTOCOL §(\d+(?:\.\d+)*)")
_REFERENCES: Final = re.compile(r"PROTOCOL(?:\.md)?((?:[\s,#]|and|to|§\d+(?:\.\d+)*)*)")


def sources(*directories: str, suffixes: tuple[str, ...] = (".py",)) -> Iterator[tuple[Path, str]]:
    for directory in directories:
        for path in sorted((ROOT / directory).rglob("*")):
            if path.suffix in suffixes and "node_modules" not in path.parts and path.is_file():
                yield path, path.read_text(encoding="utf-8")


def named_by_vectors() -> dict[str, str]:
    return {
        section: f"{path.name}: {case['comment']}"
        for path in sorted(VECTORS.glob("*.json"))
        for case in vectors(path.stem)
        for section in sections_of(case)
    }


def named_by_tests() -> dict[str, str]:
    return {
        section: str(path.relative_to(ROOT))
        for path, text in sources("tests")
        if path != Path(__file__)
        for section in (*_MARK.findall(text), *_COMMENT.findall(text))
    }


def leaves() -> list[str]:
    numbers = list(sections())
    return [number for number in numbers if not any(other.startswith(f"{number}.") for other in numbers)]


def shown() -> dict[str, str]:
    """Section → where it is shown."""
    return named_by_vectors() | named_by_tests() | SHOWN_ELSEWHERE


def test_every_section_is_shown() -> None:
    missing = set(leaves()) - shown().keys() - INFORMATIVE - UNSHOWN
    assert missing == set()


def test_exceptions_are_sections_that_nothing_shows() -> None:
    assert set(leaves()) >= INFORMATIVE | UNSHOWN
    assert shown().keys().isdisjoint(INFORMATIVE | UNSHOWN)


def test_what_vectors_and_tests_name_exists() -> None:
    known = leaves()
    for section, where in shown().items():
        assert section in known, f"{where} names §{section}"


def test_tests_that_show_a_section_elsewhere_exist() -> None:
    for section, where in SHOWN_ELSEWHERE.items():
        path, _, test = where.partition("::")
        assert f"def {test}(" in (ROOT / path).read_text(encoding="utf-8"), f"§{section}: {where}"


def test_references_in_the_source_lead_somewhere() -> None:
    known = sections()
    for path, text in sources(
        "transport", "agents", "tests", "benchmarks", "web", suffixes=(".py", ".ts", ".tsx")
    ):
        for references in _REFERENCES.findall(text):
            for number in re.findall(r"§(\d+(?:\.\d+)*)", references):
                assert number in known, f"{path.relative_to(ROOT)} refers to §{number}"
