from __future__ import annotations

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.strategies import states_with_operations, values
from threadwire.core.cost import costs_more, encoded, operation_cost, text_cost, value_cost
from threadwire.core.operations import AppendText, Delete, Json, Operation, Set, Splice


@settings(deadline=None)
@given(values)
def test_a_value_costs_about_its_encoded_bytes(value: Json) -> None:
    assert abs(value_cost(value) - len(msgspec.msgpack.encode(value))) <= 5


@settings(deadline=None)
@given(states_with_operations())
def test_an_operation_costs_about_its_bytes_in_json(case: tuple[Json, list[Operation]]) -> None:
    for operation in case[1]:
        size = len(msgspec.json.encode(operation))
        assert operation_cost(operation) / 3 <= size <= operation_cost(operation) * 3


def test_text_is_counted_in_utf_8() -> None:
    assert text_cost("abc") == 3
    assert text_cost("é漢😀") == 2 + 3 + 4
    assert text_cost("\ud800") == 3


def test_what_counts_most_in_an_operation_is_its_value() -> None:
    text = "x" * 1000
    for operation in (AppendText(("a",), text), Set(("a",), {"b": text}), Splice(("a",), 0, 0, [text])):
        assert 1000 < operation_cost(operation) < 1100
    assert operation_cost(Delete(("a",))) < 50


@settings(deadline=None)
@given(values, st.integers(-1, 100))
def test_comparing_with_a_budget_agrees_with_the_cost(value: Json, budget: int) -> None:
    # A number is counted as the least it takes, a string's length prefix as two bytes.
    least, most = value_cost(value) * 0.3 - 5, value_cost(value) * 1.5 + 5
    if budget < least:
        assert costs_more(value, budget)
    if budget > most:
        assert not costs_more(value, budget)


def test_comparing_with_a_budget_looks_at_no_more_than_it_takes() -> None:
    endless: Json = ["text"]
    endless.append(endless)
    assert costs_more(endless, 1000)


def test_what_has_no_encoding_costs_nothing_and_breaks_nothing() -> None:
    deep: Json = []
    for _ in range(100_000):
        deep = [deep]
    for value in ([2**70], ["\ud800"], [object()], deep):
        assert encoded(value) is None
        assert value_cost(value) == 0
