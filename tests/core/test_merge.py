from __future__ import annotations

import copy

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.strategies import states_with_operations
from threadwire.core.canonical import canonical
from threadwire.core.cost import operation_cost
from threadwire.core.merge import Merger, merge
from threadwire.core.operations import AppendText, Delete, Json, Operation, Set, Splice, apply

# text


def test_text_for_one_place_is_joined() -> None:
    path = ("messages", 0, "content")
    assert merge([AppendText(path, "Hel"), AppendText(path, "lo"), AppendText(path, "é漢")]) == [
        AppendText(path, "Helloé漢")
    ]


def test_text_for_several_places_is_joined_for_each() -> None:
    assert merge([AppendText(("a",), "1"), AppendText(("b",), "2"), AppendText(("a",), "3")]) == [
        AppendText(("a",), "13"),
        AppendText(("b",), "2"),
    ]


def test_an_index_is_the_same_place_in_both_spellings() -> None:
    operations = [AppendText(("m", index), text) for index, text in ((0, "a"), ("0", "b"), (0, "c"))]
    assert merge(operations) == [AppendText(("m", 0), "abc")]
    value: list[Operation] = [Set(("m",), ["", ""]), *operations, Set(("m", "1"), "x"), *operations]
    assert merge(value) == [Set(("m",), ["abcabc", "x"])]


def test_text_for_the_root_is_joined() -> None:
    assert merge([AppendText((), "a"), AppendText((), "b")]) == [AppendText((), "ab")]
    assert merge([Set((), "a"), AppendText((), "b")]) == [Set((), "ab")]


def test_line_ends_are_left_alone() -> None:
    assert merge([AppendText(("a",), "x\r"), AppendText(("a",), "\ny\r\n")]) == [
        AppendText(("a",), "x\r\ny\r\n")
    ]


def test_many_tokens_are_one_operation_that_costs_their_bytes() -> None:
    merger = Merger()
    merger.add([AppendText(("a",), "")])
    empty = merger.cost
    for _ in range(10_000):
        merger.add([AppendText(("a",), "tök ")])
    assert len(merger) == 1
    assert merger.cost == empty + 50_000
    assert merger.operations() == [AppendText(("a",), "tök " * 10_000)]


# writing into what waits


def test_text_is_appended_in_a_string_that_waits() -> None:
    assert merge([Set(("a",), "x"), AppendText(("a",), "y"), AppendText(("a",), "z")]) == [Set(("a",), "xyz")]


def test_what_is_written_into_a_value_that_waits_is_part_of_it() -> None:
    operations: list[Operation] = [
        Set(("messages", 3), {"content": "", "parts": [1, 2]}),
        AppendText(("messages", 3, "content"), "Hel"),
        AppendText(("messages", "3", "content"), "lo"),
        Set(("messages", 3, "status", "type"), "running"),
        Splice(("messages", 3, "parts"), 2, 0, [3]),
        Delete(("messages", 3, "parts", 0)),
        AppendText(("messages", 3, "content"), "!"),
    ]
    assert merge(operations) == [
        Set(("messages", 3), {"content": "Hello!", "parts": [2, 3], "status": {"type": "running"}})
    ]


def test_what_is_written_into_items_that_wait_is_part_of_them() -> None:
    operations: list[Operation] = [
        Splice(("m",), 5, 1, [{"t": ""}, {"t": ""}]),
        AppendText(("m", 6, "t"), "a"),
        AppendText(("m", 5, "t"), "b"),
        Set(("m", 5, "done"), True),
        AppendText(("m", 6, "t"), "c"),
        AppendText(("m", 4, "t"), "d"),
    ]
    assert merge(operations) == [
        Splice(("m",), 5, 1, [{"t": "b", "done": True}, {"t": "ac"}]),
        AppendText(("m", 4, "t"), "d"),
    ]


def test_a_null_that_waits_becomes_an_object_when_written_into() -> None:
    assert merge([Set(("a",), None), Set(("a", "b"), 1)]) == [Set(("a",), {"b": 1})]


def test_the_operations_given_are_never_changed() -> None:
    value: Json = {"text": "a", "list": [{"n": 1}]}
    items: list[Json] = [{"text": "a"}]
    operations: list[Operation] = [
        Set(("a",), value),
        AppendText(("a", "text"), "b"),
        Set(("a", "list", 0, "n"), 2),
        Splice(("b",), 0, 0, items),
        AppendText(("b", 0, "text"), "b"),
        Splice(("b",), 1, 0, [{"text": "c"}]),
    ]
    before = copy.deepcopy(operations)
    assert merge(operations) == [
        Set(("a",), {"text": "ab", "list": [{"n": 2}]}),
        Splice(("b",), 0, 0, [{"text": "ab"}, {"text": "c"}]),
    ]
    assert operations == before


def test_what_was_returned_is_not_changed_by_what_is_added_later() -> None:
    merger = Merger()
    merger.add([Set(("a",), {"text": "", "list": []}), AppendText(("b",), "x")])
    states = []
    for n in range(4):
        merger.add([AppendText(("a", "text"), str(n)), Splice(("a", "list"), n, 0, [n])])
        merger.add([AppendText(("b",), str(n))])
        states.append(merger.operations())
    assert states == [
        [
            Set(("a",), {"text": "0123"[: n + 1], "list": list(range(n + 1))}),
            AppendText(("b",), "x" + "0123"[: n + 1]),
        ]
        for n in range(4)
    ]


def test_an_operation_that_nothing_was_merged_with_is_returned_itself() -> None:
    operations: list[Operation] = [Set(("a",), {"x": 1}), Delete(("b",)), Splice(("c",), 0, 1, [1])]
    merged = merge(operations)
    assert all(ours is theirs for ours, theirs in zip(merged, operations, strict=True))


# overwriting


def test_the_last_of_several_sets_of_one_place_remains() -> None:
    operations: list[Operation] = [Set(("a",), n) for n in range(10)]
    assert merge([operations[0], Set(("b",), 1), *operations[1:]]) == [Set(("a",), 9), Set(("b",), 1)]


def test_what_waits_beneath_a_place_that_is_set_is_dropped() -> None:
    operations: list[Operation] = [
        AppendText(("a", "text"), "x"),
        Set(("a", "b", "c"), 1),
        Set(("b",), 1),
        Splice(("a", "list"), 0, 1, []),
        Delete(("a", "list", 0)),
        Set(("a",), "new"),
    ]
    assert merge(operations) == [Set(("a",), "new"), Set(("b",), 1)]
    assert merge([*operations, Set((), {})]) == [Set((), {})]


def test_what_waits_for_items_that_moved_or_went_is_dropped_with_their_array() -> None:
    operations: list[Operation] = [
        Set(("m", 0), "a"),
        AppendText(("m", 1), "b"),
        Splice(("m",), 0, 1, []),
        Set(("m", 1), "c"),
        Delete(("n", 0)),
        Set(("m",), []),
        Set(("n",), []),
    ]
    assert merge(operations) == [Set(("m",), []), Set(("n",), [])]


def test_what_waits_beneath_a_key_that_is_deleted_is_dropped() -> None:
    operations: list[Operation] = [
        AppendText(("a", "text"), "x"),
        Splice(("a", "list"), 0, 1, []),
        Delete(("a",)),
    ]
    assert merge(operations) == [Delete(("a",))]


def test_a_key_that_may_be_new_is_still_there_to_be_deleted() -> None:
    merged = merge([Set(("a", "b"), "x" * 1000), Set(("a", "c"), 1), Delete(("a", "b"))])
    assert merged == [Set(("a", "b"), None), Set(("a", "c"), 1), Delete(("a", "b"))]
    assert apply({}, merged) == {"a": {"c": 1}}


def test_a_key_deleted_and_set_again_is_set() -> None:
    assert merge([Delete(("a",)), Set(("a",), 1)]) == [Set(("a",), 1)]
    assert merge([Set(("a",), 1), Delete(("a",)), Set(("a",), 2)]) == [Set(("a",), 2)]


def test_an_item_that_others_were_appended_behind_is_set_where_it_was_appended() -> None:
    operations: list[Operation] = [Set(("m", 0), "a"), Set(("m", 1), "b"), Set(("m", 0), "c")]
    assert merge(operations) == [Set(("m", 0), "c"), Set(("m", 1), "b")]
    operations = [Set(("m", 0, "x"), "a"), Set(("m", 1), "b"), Set(("m", 0, "y"), "a"), Set(("m", 0), "c")]
    assert merge(operations) == [Set(("m", 0), "c"), Set(("m", 1), "b")]


# arrays whose items move


def test_text_is_not_joined_where_its_item_may_have_moved() -> None:
    for moving in (
        Delete(("m", 0)),
        Delete(("m", "0")),
        Splice(("m",), 0, 1, []),
        Splice(("m",), 0, 0, [""]),
    ):
        operations: list[Operation] = [AppendText(("m", 1), "a"), moving, AppendText(("m", 1), "b")]
        assert merge(operations) == operations


def test_text_is_joined_where_nothing_moved_though_items_did() -> None:
    for moving in (
        Delete(("m", 2)),
        Splice(("m",), 2, 0, [""]),
        Splice(("m",), 0, 1, [""]),
        Delete(("n", 0)),
    ):
        operations: list[Operation] = [AppendText(("m", 1), "a"), moving, AppendText(("m", 1), "b")]
        assert merge(operations) == [AppendText(("m", 1), "ab"), moving]


def test_text_is_joined_after_a_delete_that_can_only_be_of_a_key() -> None:
    for key in ("x", "01", "-1", ""):
        a, b = AppendText(("m", "y"), "a"), AppendText(("m", "y"), "b")
        assert merge([a, Delete(("m", key)), b]) == [AppendText(("m", "y"), "ab"), Delete(("m", key))]
    with_key: list[Operation] = [AppendText(("m", "y"), "a"), Delete(("m", 0)), AppendText(("m", "y"), "b")]
    assert merge(with_key) == [AppendText(("m", "y"), "ab"), Delete(("m", 0))]


def test_a_value_that_waits_tells_an_array_from_an_object() -> None:
    assert merge([Set(("a",), {"0": "x", "1": ""}), Delete(("a", 0)), AppendText(("a", 1), "y")]) == [
        Set(("a",), {"1": "y"})
    ]
    assert merge([Set(("a",), ["x", ""]), Delete(("a", "0")), AppendText(("a", 0), "y")]) == [
        Set(("a",), ["y"])
    ]


def test_consecutive_splices_of_neighbouring_items_are_one() -> None:
    tail: list[Operation] = [Splice(("m",), 3 + n, 0, [n]) for n in range(5)]
    assert merge(tail) == [Splice(("m",), 3, 0, [0, 1, 2, 3, 4])]
    front: list[Operation] = [Splice(("m",), 0, 0, [n]) for n in range(3)]
    assert merge(front) == [Splice(("m",), 0, 0, [2, 1, 0])]
    removals: list[Operation] = [
        Splice(("m",), 2, 1, []),
        Splice(("m",), 1, 2, ["x"]),
        Splice(("m",), 2, 1, []),
    ]
    assert merge(removals) == [Splice(("m",), 1, 4, ["x"])]
    assert merge([Splice(("m",), 1, 1, ["a", "b", "c"]), Splice(("m",), 2, 1, []), Delete(("m", 1))]) == [
        Splice(("m",), 1, 1, ["c"])
    ]


def test_splices_with_items_between_stay_apart() -> None:
    for other in (Splice(("m",), 1, 1, []), Splice(("m",), 5, 0, ["y"]), Splice(("n",), 3, 0, ["y"])):
        operations = [Splice(("m",), 3, 0, ["x"]), other]
        assert merge(operations) == operations


def test_items_put_in_and_taken_out_again_leave_nothing() -> None:
    merger = Merger()
    for _ in range(1000):
        merger.add([Splice(("m",), 0, 0, ["x"]), Splice(("m",), 0, 1, [])])
    assert (len(merger), merger.cost, merger.operations()) == (0, 0, [])
    assert merge([Splice(("m",), 3, 0, [])]) == []


def test_a_window_that_slides_without_end_grows_in_cost() -> None:
    merger = Merger()
    costs = []
    for _ in range(3):
        merger.add([Set(("m", 9), "x"), Delete(("m", 0))] * 100)
        costs.append(merger.cost)
    assert costs[0] > 100 * 10
    assert costs[2] == 3 * costs[0]
    merger.add([Set(("m",), [])])
    assert (len(merger), merger.cost < 100) == (1, True)


# cost


@pytest.mark.parametrize(
    "operations",
    [
        [Set(("a",), {"b": "x" * 100})],
        [Set(("a",), {"b": {}}), Set(("a", "b", "c"), "x" * 100), Delete(("a", "b", "c"))],
        [Set(("a",), "x"), AppendText(("a",), "x" * 100)],
        [Set(("a",), {"b": ""}), AppendText(("a", "b"), "x" * 100), Set(("a", "b"), "")],
        [AppendText(("b",), "x"), Set(("a",), 1), AppendText(("b",), "x" * 100), Set(("b",), "")],
        [Splice(("b",), 0, 1, ["x" * 100]), Splice(("b",), 0, 1, [""]), Delete(("c",)), Set(("c",), 1)],
    ],
)
def test_repeated_writes_to_the_same_places_have_a_bounded_cost(operations: list[Operation]) -> None:
    merger = Merger()
    for _ in range(1000):
        merger.add(operations)
    assert len(merger) <= len(operations)
    assert merger.cost <= 2 * sum(map(operation_cost, operations)) + 1024


def test_cleared_it_is_as_new() -> None:
    merger = Merger()
    merger.add([Set(("a",), {"b": ""}), AppendText(("a", "b"), "x"), AppendText(("c",), "y")])
    merger.clear()
    assert (len(merger), merger.cost, merger.operations()) == (0, 0, [])
    merger.add([AppendText(("a", "b"), "z"), AppendText(("c",), "y")])
    assert merger.operations() == [AppendText(("a", "b"), "z"), AppendText(("c",), "y")]


@settings(deadline=None, max_examples=500)
@given(states_with_operations(max_size=14), st.sets(st.integers(0, 13)))
def test_merged_operations_lead_to_the_same_state(
    case: tuple[Json, list[Operation]], reads: set[int]
) -> None:
    state, operations = case
    before = copy.deepcopy(operations)
    merger = Merger()
    expected = state
    returned = []
    for number, operation in enumerate(operations):
        merger.add([operation])
        expected = apply(expected, [operation])
        if number in reads:
            merged = merger.operations()
            assert canonical(apply(state, merged)) == canonical(expected)
            returned.append((merged, copy.deepcopy(merged)))
    merged = merger.operations()
    assert canonical(apply(state, merged)) == canonical(expected)
    assert merged == merge(operations)
    assert len(merger) == len(merged) <= len(operations)
    assert operations == before
    assert all(then == now for then, now in returned)


@settings(deadline=None, max_examples=200)
@given(states_with_operations(max_size=14))
def test_the_cost_is_about_that_of_the_merged_operations(case: tuple[Json, list[Operation]]) -> None:
    _, operations = case
    merger = Merger()
    merger.add(operations)
    exact = sum(map(operation_cost, merger.operations()))
    assert 0.7 * exact - 30 <= merger.cost <= 2 * sum(map(operation_cost, operations)) + 30
