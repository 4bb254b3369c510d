"""What can be read of JSON that isn't all there."""

from __future__ import annotations

import pytest

from tests.support.vectors import cases
from threadwire.messages.partial_json import parse_partial_json


@pytest.mark.parametrize("case", cases("partial_json"), ids=lambda case: case["text"][-20:] or "empty")
def test_partial_json_is_read_as_in_javascript(case: dict[str, object]) -> None:
    # An object without anything in it and none at all are the same to a tool call.
    assert (parse_partial_json(str(case["text"])) or {}) == (case["expected"] or {})


def test_nothing_to_see_is_none() -> None:
    assert parse_partial_json("nonsense") is None
    assert parse_partial_json("12") is None
    assert parse_partial_json("") == {}


def test_half_of_a_character_is_left_out() -> None:
    assert parse_partial_json('{"a":"x\\ud83d') == {"a": "x"}
    assert parse_partial_json('{"a":"x\\ud83d\\ude00') == {"a": "x\U0001f600"}


def test_deep_nesting_is_no_error() -> None:
    assert parse_partial_json('{"a":' * 100_000) is None
