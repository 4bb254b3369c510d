from __future__ import annotations

import copy
import json
from typing import Any

import pytest
from hypothesis import given, settings

from tests.support.strategies import states, states_with_operations
from threadwire.core.canonical import canonical
from threadwire.core.diff import diff
from threadwire.core.errors import InvalidOperation
from threadwire.core.lowering import Lowering, lower
from threadwire.core.operations import AppendText, Delete, Json, Operation, Set, Splice, apply


class StockError(Exception):
    """What ends a run in a stock client."""


class StockAccumulator:
    """What a stock client makes of operations: written after its behaviour, not after ours."""

    def __init__(self, state: Json) -> None:
        self.state = json.loads(json.dumps(state))

    def apply(self, operations: list[Any]) -> None:
        for operation in json.loads(json.dumps([self._wire(each) for each in operations])):
            self.state = self._update(self.state, operation["path"], operation)

    @staticmethod
    def _wire(operation: Set | AppendText) -> dict[str, Json]:
        kind = {Set: "set", AppendText: "append-text"}[type(operation)]
        return {"type": kind, "path": list(operation.path), "value": operation.value}

    def _update(self, state: Json, path: list[Json], operation: dict[str, Json], there: bool = True) -> Json:
        if not path:
            if operation["type"] == "set":
                return operation["value"]
            if not there or not isinstance(state, str):
                raise StockError("append-text on what is no string")
            return state + operation["value"]
        key, *rest = path
        if not isinstance(key, str) or key == "__proto__":
            raise StockError(f"path segment {key!r}")
        if state is None:
            state = {}
        if isinstance(state, list):
            if not key.isdigit():
                raise StockError(f"not an index: {key!r}")
            index = int(key)
            if index > len(state):
                raise StockError(f"index {index} of {len(state)}")
            there = index < len(state)
            value = self._update(state[index] if there else None, rest, operation, there)
            return [*state[:index], value, *state[index + 1 :]]
        if not isinstance(state, dict):
            raise StockError(f"no container at {key!r}")
        return {**state, key: self._update(state.get(key), rest, operation, key in state)}


def test_paths_become_strings() -> None:
    state = {"m": [{"t": ""}]}
    lowered, after = lower(state, [AppendText(("m", 0, "t"), "a"), Set(("m", 1), 2)])
    assert lowered == [AppendText(("m", "0", "t"), "a"), Set(("m", "1"), 2)]
    assert after == {"m": [{"t": "a"}, 2]}


def test_a_delete_sets_the_container() -> None:
    state = {"a": {"b": 1, "c": 2}, "list": [1, 2, 3]}
    assert lower(state, [Delete(("a", "b"))])[0] == [Set(("a",), {"c": 2})]
    assert lower(state, [Delete(("list", "1"))])[0] == [Set(("list",), [1, 3])]
    assert lower(state, [Delete(("a",))])[0] == [Set((), {"list": [1, 2, 3]})]


def test_a_splice_that_appends_sets_the_items_behind_the_last() -> None:
    state = {"m": [_message(1)]}
    lowered, after = lower(state, [Splice(("m",), 1, 0, [_message(2), _message(3)])])
    assert lowered == [Set(("m", "1"), _message(2)), Set(("m", "2"), _message(3))]
    assert after == {"m": [_message(1), _message(2), _message(3)]}


def test_a_splice_that_moves_nothing_sets_the_items_it_replaces() -> None:
    state = [_message(n) for n in range(5)]
    assert lower(state, [Splice((), 1, 2, [_message(8), _message(9)])])[0] == [
        Set(("1",), _message(8)),
        Set(("2",), _message(9)),
    ]
    assert lower(state, [Splice((), 4, 1, [_message(8), _message(9)])])[0] == [
        Set(("4",), _message(8)),
        Set(("5",), _message(9)),
    ]


def test_a_splice_that_moves_items_sets_the_array() -> None:
    state = {"m": ["a", "b"]}
    assert lower(state, [Splice(("m",), 0, 0, ["x"])])[0] == [Set(("m",), ["x", "a", "b"])]
    assert lower(state, [Splice(("m",), 1, 1, [])])[0] == [Set(("m",), ["a"])]


def test_an_array_is_set_where_that_is_cheaper_than_its_items() -> None:
    assert lower([], [Splice((), 0, 0, list(range(100)))])[0] == [Set((), list(range(100)))]


def test_a_splice_of_nothing_is_nothing() -> None:
    assert lower([1], [Splice((), 1, 0, [])]) == ([], [1])


def test_a_container_is_set_once_with_all_that_became_of_it() -> None:
    state = {"m": [_message(n) for n in range(4)], "n": 0}
    operations: list[Operation] = [
        AppendText(("m", 3, "content"), "a"),
        Delete(("m", 0)),
        AppendText(("m", 2, "content"), "b"),
        Set(("n",), 1),
        Delete(("m", 0)),
        Splice(("m", 1, "parts"), 0, 1, []),
        Set(("m", 2), _message(9)),
    ]
    lowered, after = lower(state, operations)
    assert lowered == [
        AppendText(("m", "3", "content"), "a"),
        Set(("n",), 1),
        Set(("m",), after["m"]),
    ]
    assert after == apply(state, operations)


def test_a_container_that_is_overwritten_is_not_set_before() -> None:
    state = {"a": {"b": {"c": [1, 2]}}}
    assert lower(state, [Delete(("a", "b", "c", 0)), Set(("a", "b"), 1)])[0] == [Set(("a", "b"), 1)]
    assert lower(state, [Delete(("a", "b", "c", 0)), Delete(("a", "b"))])[0] == [Set(("a",), {})]
    assert lower([[1, 2], "x"], [Delete((0, 0)), Splice((), 0, 1, ["y"])])[0] == [Set(("0",), "y")]


def test_what_was_lowered_is_not_changed_later() -> None:
    lowering = Lowering({"m": [{"t": "a", "l": [1]}, {"t": ""}]})
    lowered = lowering.lower([AppendText(("m", 0, "t"), "b"), Delete(("m", 1))])
    assert lowered == [AppendText(("m", "0", "t"), "b"), Set(("m",), [{"t": "ab", "l": [1]}])]
    before = copy.deepcopy(lowered)
    lowering.lower([AppendText(("m", 0, "t"), "c"), Set(("m", 0, "l", 1), 2), Set(("m", 1), {})])
    assert lowered == before
    assert lowering.state == {"m": [{"t": "abc", "l": [1, 2]}, {}]}


def test_a_state_that_was_read_is_not_changed_later() -> None:
    first = {"m": [{"t": "a"}]}
    lowering = Lowering(first)
    lowering.lower([AppendText(("m", 0, "t"), "b")])
    second = lowering.state
    lowering.lower([AppendText(("m", 0, "t"), "c")])
    assert first == {"m": [{"t": "a"}]}
    assert second == {"m": [{"t": "ab"}]}
    assert lowering.state == {"m": [{"t": "abc"}]}


def test_an_operation_that_does_not_fit_is_refused() -> None:
    state = {"a": [1]}
    for operation in (Delete(("b",)), Splice(("a",), 2, 0, []), AppendText(("a", 0), "x"), Set(("a", 2), 1)):
        with pytest.raises(InvalidOperation):
            lower(state, [operation])
    assert state == {"a": [1]}


@settings(deadline=None, max_examples=300)
@given(states_with_operations(max_size=12))
def test_a_stock_client_has_the_state_after_each_update(case: tuple[Json, list[Operation]]) -> None:
    state, operations = case
    before = copy.deepcopy((state, operations))
    stock = StockAccumulator(state)
    lowering = Lowering(state)
    for start in range(0, len(operations), 3):
        stock.apply(lowering.lower(operations[start : start + 3]))
        assert canonical(stock.state) == canonical(apply(state, operations[: start + 3]))
    assert canonical(lowering.state) == canonical(stock.state)
    lowered, after = lower(state, operations)
    once = StockAccumulator(state)
    once.apply(lowered)
    assert canonical(once.state) == canonical(after) == canonical(stock.state)
    assert (state, operations) == before


@settings(deadline=None, max_examples=200)
@given(states, states)
def test_a_stock_client_follows_what_diff_finds(old: Json, new: Json) -> None:
    stock = StockAccumulator(old)
    stock.apply(lower(old, diff(old, new))[0])
    assert canonical(stock.state) == canonical(new)


def _message(number: int) -> dict[str, Json]:
    return {"id": number, "content": "text of the message " * 5, "parts": [1]}
