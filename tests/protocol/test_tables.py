"""The tables of PROTOCOL.md against the constants of the implementation."""

from __future__ import annotations

import re

import msgspec
import pytest

from tests.support.spec import plain, section, sections, tables, words
from threadwire.core.commands import BUILT_IN, Part
from threadwire.core.errors import CLOSE_CODES, CODES, reconnect_after
from threadwire.core.frames import STRATEGIES, SUBPROTOCOLS, Limits
from threadwire.core.values import MAX_INTEGER
from threadwire.engine.run import TRANSITIONS


@pytest.mark.spec("12.1")
def test_error_codes() -> None:
    rows = [row for table in tables(section("12.1")) for row in table]
    assert [(plain(row["code"]), plain(row["meaning"])) for row in rows] == list(CODES.items())


@pytest.mark.spec("12.2")
def test_close_codes() -> None:
    (rows,) = tables(section("12.2"))
    assert {int(row["close code"]): plain(row["meaning"]) for row in rows} == CLOSE_CODES
    for row in rows:
        assert reconnect_after(int(row["close code"])) == (row["reconnect"] == "yes")


@pytest.mark.spec("12.2")
def test_codes_after_which_nobody_reconnects() -> None:
    (sentence,) = re.findall(r"MUST NOT simply reconnect after (.+?):", section("12.2"), re.DOTALL)
    first, last, *others = map(int, re.findall(r"\d{4}", sentence))
    refused = {*range(first, last + 1), *others}
    assert {code for code in range(1000, 5000) if not reconnect_after(code)} == refused


@pytest.mark.spec("11.1")
def test_limits() -> None:
    (rows,) = tables(section("11.1"))
    stated = {words(row["member of `limits`"])[0]: float(row["default"].replace(",", "")) for row in rows}
    assert stated == msgspec.to_builtins(Limits())


@pytest.mark.spec("5.1")
def test_subprotocols() -> None:
    (rows,) = tables(section("5.1"))
    assert [plain(row["subprotocol"]) for row in rows] == list(SUBPROTOCOLS)


@pytest.mark.spec("7.4")
def test_strategies() -> None:
    (rows,) = tables(section("7.4"))
    assert tuple(plain(row["strategy"]) for row in rows) == STRATEGIES


@pytest.mark.spec("8.1")
def test_transitions_of_runs() -> None:
    statuses, transitions = tables(section("8.1"))
    assert {plain(row["status"]): row["ended"] == "yes" for row in statuses} == {
        status: not following for status, following in TRANSITIONS.items()
    }
    stated: dict[str, set[str]] = {plain(row["status"]): set() for row in statuses}
    for row in transitions:
        if row["from"] != "(none)":
            stated[plain(row["from"])].update(words(row["to"]))
    assert stated == TRANSITIONS


@pytest.mark.spec("7.6")
def test_built_in_commands() -> None:
    commands, parts = tables(section("7.6"))
    stated = {words(row["`type`"])[0]: row["fields"] for row in commands}
    assert list(stated) == [kind.type_name() for kind in BUILT_IN]
    for kind in BUILT_IN:
        fields = {
            field.encode_name + ("" if field.required else "?") for field in msgspec.structs.fields(kind)
        }
        assert {words(each)[0] for each in stated[kind.type_name()].split(";")} == fields
    part_types: dict[object, list[str]] = {
        kind.__struct_config__.tag: [
            field.encode_name + ("" if field.required else "?") for field in msgspec.structs.fields(kind)
        ]
        for kind in Part.__args__
    }
    assert {
        words(row["part `type`"])[0]: [words(each)[0] for each in row["fields"].split(";")] for row in parts
    } == part_types


@pytest.mark.spec("2.2")
def test_the_largest_integer() -> None:
    assert f"±{MAX_INTEGER}" in section("2.2")


def test_sections_are_numbered_without_gaps() -> None:
    expected = [0, 0]
    for number in sections():
        parts = [int(part) for part in number.split(".")]
        expected = [expected[0] + 1, 0] if len(parts) == 1 else [expected[0], expected[1] + 1]
        assert parts == expected[: len(parts)]


def test_references_inside_the_specification_lead_somewhere() -> None:
    known = sections()
    for number in sections():
        for reference in re.findall(r"§(\d+(?:\.\d+)*)", section(number)):
            assert reference in known, f"§{number} refers to §{reference}"
