from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
from hypothesis import given, settings

from tests.support.strategies import states_with_operations
from threadwire.core.canonical import canonical
from threadwire.core.errors import InvalidOperation
from threadwire.core.operations import (
    FORBIDDEN_KEYS,
    AppendText,
    Cell,
    Delete,
    Json,
    Operation,
    Path,
    Segment,
    Set,
    Splice,
    apply,
    apply_in_place,
    edit,
)

# what operations do


@pytest.mark.parametrize("path", [("list", 1), ("list", "1")])
def test_an_array_index_may_be_an_integer_or_its_decimal_form(path: Path) -> None:
    state = {"list": ["a", "b", "c"]}
    assert apply(state, [Set(path, "x")]) == {"list": ["a", "x", "c"]}
    assert apply(state, [AppendText(path, "x")]) == {"list": ["a", "bx", "c"]}
    assert apply(state, [Delete(path)]) == {"list": ["a", "c"]}
    assert apply([state["list"], ["k", "l", "m"]], [Splice(path[1:], 0, 3, [])]) == [["a", "b", "c"], []]


@pytest.mark.parametrize("segment", [0, "0"])
def test_in_an_object_an_integer_means_the_key_it_spells(segment: Segment) -> None:
    assert apply({"0": "a"}, [Set((segment,), "b")]) == {"0": "b"}
    assert apply({"0": "a"}, [AppendText((segment,), "b")]) == {"0": "ab"}
    assert apply({"0": "a"}, [Delete((segment,))]) == {}
    assert apply({"0": {"0": [1]}}, [Splice((segment, segment), 0, 1, [2])]) == {"0": {"0": [2]}}


@pytest.mark.parametrize(
    "segment", ["01", "-1", "1.0", "", " 1", "1 ", "+1", "1e0", "0x1", "1_0", "١", "1" * 17, "a", -1]
)
def test_only_a_canonical_index_addresses_an_array_but_any_string_is_a_key(segment: Segment) -> None:
    for operation in (
        Set(("at", segment), 1),
        Set(("at", segment, "x"), 1),
        AppendText(("at", segment), "x"),
        Delete(("at", segment)),
        Splice(("at", segment), 0, 0, []),
    ):
        assert _refusal({"at": ["text", ["x"]]}, operation) == "invalid-path"
    assert apply({"at": {}}, [Set(("at", segment), 1)]) == {"at": {str(segment): 1}}


def test_set_makes_missing_parents_objects_whatever_the_keys_look_like() -> None:
    assert apply({}, [Set(("a", 0, "1"), True)]) == {"a": {"0": {"1": True}}}
    assert apply(None, [Set(("a", "b"), 1)]) == {"a": {"b": 1}}


def test_set_makes_an_object_of_a_null_parent() -> None:
    assert apply({"a": None}, [Set(("a", "b"), 1)]) == {"a": {"b": 1}}
    assert apply([None], [Set((0, "b"), 1)]) == [{"b": 1}]


def test_set_at_the_length_of_an_array_appends() -> None:
    assert apply(["a"], [Set((1,), "b"), Set(("2",), "c")]) == ["a", "b", "c"]
    assert apply({"a": []}, [Set(("a", 0, "b", "c"), 1)]) == {"a": [{"b": {"c": 1}}]}


def test_set_replaces_a_value_of_any_kind() -> None:
    for value in (None, True, 1, "text", [1], {"a": 1}):
        assert apply({"a": [1]}, [Set(("a",), value)]) == {"a": value}
        assert apply({"a": [1]}, [Set((), value)]) == value


def test_append_text_appends_to_strings_also_to_the_root() -> None:
    assert apply("a", [AppendText((), "b"), AppendText((), "")]) == "ab"
    assert apply(["é"], [AppendText((0,), "漢"), AppendText((0,), "😀")]) == ["é漢😀"]


def test_delete_closes_the_gap_in_an_array() -> None:
    assert apply([0, 1, 2], [Delete((1,)), Delete(("1",))]) == [0]


def test_splice_replaces_items() -> None:
    assert apply([0, 1, 2, 3], [Splice((), 1, 2, ["a", "b", "c"])]) == [0, "a", "b", "c", 3]
    assert apply([0], [Splice((), 1, 0, [1])]) == [0, 1]
    assert apply([0], [Splice((), 0, 1, [])]) == []


# what doesn't fit


@pytest.mark.parametrize(
    ("state", "operation", "code", "field"),
    [
        # nothing is there
        ({}, AppendText(("a",), "x"), "path-missing", "state.a"),
        ({}, AppendText(("a", "b"), "x"), "path-missing", "state.a"),
        ({"a": None}, AppendText(("a", "b"), "x"), "path-missing", "state.a"),
        ({}, Delete(("a",)), "path-missing", "state.a"),
        ({"a": {}}, Delete(("a", "b", "c")), "path-missing", "state.a.b"),
        ({}, Splice(("a",), 0, 0, []), "path-missing", "state.a"),
        # beyond the array
        ([1], Set((2,), 1), "index-out-of-range", "state.2"),
        ([1], Set((2, "a"), 1), "index-out-of-range", "state.2"),
        ([1], Delete((1,)), "index-out-of-range", "state.1"),
        (["a"], AppendText((1,), "x"), "index-out-of-range", "state.1"),
        ([[]], AppendText((1, 0), "x"), "index-out-of-range", "state.1"),
        ({"a": [1]}, Splice(("a",), 2, 0, []), "index-out-of-range", "state.a"),
        ({"a": [1]}, Splice(("a",), -1, 0, []), "index-out-of-range", "state.a"),
        ({"a": [1]}, Splice(("a",), 1, 1, []), "index-out-of-range", "state.a"),
        ({"a": [1]}, Splice(("a",), 0, -1, []), "index-out-of-range", "state.a"),
        # no string
        ({"a": 1}, AppendText(("a",), "x"), "not-a-string", "state.a"),
        ({"a": None}, AppendText(("a",), "x"), "not-a-string", "state.a"),
        ([[]], AppendText((0,), "x"), "not-a-string", "state.0"),
        ({}, AppendText((), "x"), "not-a-string", "state"),
        # no container of that kind
        (1, Set(("a",), 1), "invalid-path", "state.a"),
        ("text", Set((0,), 1), "invalid-path", "state.0"),
        (None, Delete(("a",)), "invalid-path", "state.a"),
        ({"a": "text"}, Set(("a", "b"), 1), "invalid-path", "state.a"),
        ({"a": False}, Set(("a", "b", "c"), 1), "invalid-path", "state.a"),
        ({"a": 0}, Delete(("a", "b")), "invalid-path", "state.a"),
        ([], Set(("a",), 1), "invalid-path", "state.a"),
        ({"a": {}}, Splice(("a",), 0, 0, []), "invalid-path", "state.a"),
        ("text", Splice((), 0, 0, []), "invalid-path", "state"),
        ({}, Delete(()), "invalid-path", "state"),
    ],
)
def test_what_does_not_fit_is_refused_with_its_code_and_place(
    state: Json, operation: Operation, code: str, field: str
) -> None:
    for function in (apply, apply_in_place):
        before = copy.deepcopy(state)
        with pytest.raises(InvalidOperation) as caught:
            function(state, [operation])
        assert (caught.value.code, caught.value.field) == (code, field)
        assert state == before


@pytest.mark.parametrize("key", sorted(FORBIDDEN_KEYS))
def test_forbidden_keys_are_refused_anywhere_in_a_path(key: str) -> None:
    for operation in (
        Set((key,), 1),
        Set(("a", key), 1),
        Set((key, "a"), 1),
        Set(("new", key, "a"), 1),
        AppendText((key,), "x"),
        Delete(("a", key)),
        Splice((key,), 0, 0, []),
    ):
        assert _refusal({"a": {}}, operation) == "forbidden-key"


def test_a_refused_set_makes_no_parents() -> None:
    cases: list[tuple[Json, Path]] = [
        ({}, ("a", "b", "__proto__")),
        ({"a": None}, ("a", "b", "__proto__")),
        ({"a": []}, ("a", 0, "b", "__proto__")),
        ([None], (0, "__proto__")),
    ]
    for state, path in cases:
        before = copy.deepcopy(state)
        with pytest.raises(InvalidOperation):
            apply_in_place(state, [Set(path, 1)])
        assert state == before


# apply


def test_apply_shares_all_that_an_operation_does_not_touch() -> None:
    state: Json = {"messages": [{"parts": [{"text": "a"}]}, {"parts": [{"text": "b"}]}], "other": {"x": [1]}}
    after = apply(state, [AppendText(("messages", 1, "parts", 0, "text"), "c")])
    assert after["messages"][1]["parts"][0]["text"] == "bc"
    assert after["other"] is state["other"]
    assert after["messages"][0] is state["messages"][0]
    assert after is not state
    assert state["messages"][1]["parts"][0]["text"] == "b"


def test_apply_of_nothing_is_the_state_itself() -> None:
    state = {"a": [1]}
    assert apply(state, []) is state


def test_apply_is_all_or_nothing() -> None:
    state = {"list": [1, 2], "text": "a"}
    before = copy.deepcopy(state)
    with pytest.raises(InvalidOperation):
        apply(
            state,
            [
                AppendText(("text",), "b"),
                Splice(("list",), 0, 1, []),
                Set(("new",), 1),
                Delete(("missing",)),
            ],
        )
    assert state == before


def test_apply_leaves_the_values_of_operations_alone() -> None:
    value: Json = {"text": "a", "list": [1]}
    operations: list[Operation] = [
        Set(("a",), value),
        Set(("b",), value),
        AppendText(("a", "text"), "b"),
        Splice(("a", "list"), 0, 1, []),
        Set((), value),
        Delete(("text",)),
        Set(("items",), []),
        Splice(("items",), 0, 0, [value]),
        AppendText(("items", 0, "text"), "c"),
    ]
    first = apply({}, operations)
    assert value == {"text": "a", "list": [1]}
    assert apply({}, operations) == first == {"list": [1], "items": [{"text": "ac", "list": [1]}]}


def test_apply_edits_one_of_two_places_that_share_a_value() -> None:
    shared = {"text": "a"}
    assert apply([shared, shared], [AppendText((0, "text"), "b")]) == [{"text": "ab"}, {"text": "a"}]


@settings(deadline=None)
@given(states_with_operations())
def test_apply_leaves_its_input_alone_and_one_by_one_is_the_same(
    case: tuple[Json, list[Operation]],
) -> None:
    state, operations = case
    before = canonical(state)
    after = apply(state, operations)
    step = state
    for operation in operations:
        step = apply(step, [operation])
    assert canonical(after) == canonical(step)
    assert canonical(state) == before


# edit


def test_a_cell_keeps_what_it_holds_when_an_edit_is_refused() -> None:
    states: list[Json] = [None, {}, {"a": None}, {"a": []}]
    for state in states:
        cell = Cell(state, {})
        with pytest.raises(InvalidOperation):
            edit(cell, Set(("a", "b", "__proto__"), 1))
        assert cell.root == state


def test_a_cell_copies_a_container_once() -> None:
    state: Json = {"list": [{"text": ""}]}
    cell = Cell(state, {})
    edit(cell, AppendText(("list", 0, "text"), "a"))
    edit(cell, Set(("made", "here"), 1))
    containers = [cell.root, cell.root["list"], cell.root["list"][0], cell.root["made"]]
    edit(cell, AppendText(("list", 0, "text"), "b"))
    edit(cell, Set(("made", "here"), 2))
    again = [cell.root, cell.root["list"], cell.root["list"][0], cell.root["made"]]
    assert all(a is b for a, b in zip(containers, again, strict=True))
    assert state == {"list": [{"text": ""}]}


# apply_in_place


def test_apply_in_place_edits_the_containers_it_is_given() -> None:
    messages: Json = [{"text": "a"}]
    state = {"messages": messages}
    assert apply_in_place(state, [AppendText(("messages", 0, "text"), "b"), Set(("n",), 1)]) is state
    assert messages == [{"text": "ab"}]
    assert state == {"messages": messages, "n": 1}


def test_apply_in_place_returns_the_root_that_replaced_the_state() -> None:
    root = {"new": True}
    assert apply_in_place({"old": True}, [Set((), root)]) is root
    assert apply_in_place(None, [Set(("a",), 1)]) == {"a": 1}


def test_apply_in_place_keeps_what_came_before_an_operation_that_does_not_fit() -> None:
    state: Json = {"text": "a"}
    with pytest.raises(InvalidOperation):
        apply_in_place(state, [AppendText(("text",), "b"), Delete(("missing",)), AppendText(("text",), "c")])
    assert state == {"text": "ab"}


@settings(deadline=None)
@given(states_with_operations())
def test_apply_in_place_ends_where_apply_ends(case: tuple[Json, list[Operation]]) -> None:
    state, operations = case
    expected = canonical(apply(state, operations))
    assert canonical(apply_in_place(copy.deepcopy(state), copy.deepcopy(operations))) == expected


def _refusal(state: Json, operation: Operation) -> str:
    codes = set()
    functions: list[Callable[[Json, list[Operation]], Json]] = [apply, apply_in_place]
    for function in functions:
        given_state = copy.deepcopy(state)
        with pytest.raises(InvalidOperation) as caught:
            function(given_state, [operation])
        assert given_state == state
        codes.add(caught.value.code)
    (code,) = codes
    return code
