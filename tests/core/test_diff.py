from __future__ import annotations

import copy
import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.strategies import operation_sequences, respelled, states
from threadwire.core.canonical import canonical
from threadwire.core.cost import operation_cost
from threadwire.core.diff import diff, equal
from threadwire.core.operations import AppendText, Delete, Json, Set, Splice, apply

# equality


@pytest.mark.parametrize(
    ("a", "b"),
    [
        (1, 1.0),
        (0, -0.0),
        (0.0, -0.0),
        ([1, 0], [1.0, -0.0]),
        ({"a": 1, "b": 2.0}, {"b": 2, "a": 1.0}),
        ([{"a": [True, None]}], [{"a": [True, None]}]),
    ],
)
def test_equal_values_may_be_spelled_differently(a: Json, b: Json) -> None:
    assert equal(a, b)
    assert diff(a, b) == []


@pytest.mark.parametrize(("a", "b"), [(True, 1), (False, 0), (True, 1.0), (False, -0.0)])
@pytest.mark.parametrize(
    "wrap",
    [
        lambda value: value,
        lambda value: [value],
        lambda value: {"a": value},
        lambda value: {"a": [{"b": ["text", None, {"c": value}]}]},
        lambda value: ["text"] * 40 + [[value]],
        lambda value: {str(n): value if n == 30 else "text" for n in range(40)},
        lambda value: [{"id": "m1", "done": value}, {"id": "m2"}],
    ],
)
def test_true_is_not_1_and_false_is_not_0_wherever_they_stand(a: Json, b: Json, wrap: Any) -> None:
    for old, new in ((wrap(a), wrap(b)), (wrap(b), wrap(a))):
        assert not equal(old, new)
        operations = diff(old, new)
        assert len(operations) == 1
        assert canonical(apply(old, operations)) == canonical(new)


def test_values_of_different_kinds_are_not_equal() -> None:
    kinds: list[Json] = [None, False, True, 0, 1, "", "0", [], {}, [None], {"a": None}]
    for i, a in enumerate(kinds):
        for j, b in enumerate(kinds):
            assert equal(a, b) == (i == j)
            assert (diff(a, b) == []) == (i == j)


# what leads from one to the other


def test_a_string_that_grew_gets_only_the_rest() -> None:
    old = {"messages": [{"content": "Hel"}]}
    assert diff(old, {"messages": [{"content": "Hello"}]}) == [AppendText(("messages", 0, "content"), "lo")]
    assert diff("", "a") == [AppendText((), "a")]


def test_a_string_that_changed_otherwise_is_set() -> None:
    assert diff({"a": "Hello"}, {"a": "Hallo"}) == [Set(("a",), "Hallo")]
    assert diff({"a": "Hello"}, {"a": "Hell"}) == [Set(("a",), "Hell")]


def test_keys_that_came_are_set_and_keys_that_went_are_deleted() -> None:
    old = {"kept": "x" * 100, "gone": 1}
    new = {"kept": "x" * 100, "came": None}
    assert diff(old, new) == [Delete(("gone",)), Set(("came",), None)]


def test_a_key_that_looks_like_an_index_stays_a_string() -> None:
    assert diff({"0": 1, "a": "x" * 100}, {"0": 2, "a": "x" * 100}) == [Set(("0",), 2)]


def test_appended_items_are_set_at_the_length() -> None:
    old = [_message(1)]
    assert diff(old, [_message(1), _message(2), _message(3)]) == [
        Set((1,), _message(2)),
        Set((2,), _message(3)),
    ]


def test_a_message_that_grew_and_one_that_followed_are_two_operations() -> None:
    old = {"messages": [_message(1), _message(2)]}
    new = {"messages": [_message(1), _message(2, " and"), _message(3)]}
    assert diff(old, new) == [
        AppendText(("messages", 1, "content"), " and"),
        Set(("messages", 2), _message(3)),
    ]


def test_an_inserted_item_is_a_splice() -> None:
    old = [_message(n) for n in (1, 2, 3)]
    assert diff(old, [_message(1), _message(9), _message(2), _message(3)]) == [
        Splice((), 1, 0, [_message(9)])
    ]


def test_removed_items_are_a_splice() -> None:
    old = [_message(n) for n in (1, 2, 3, 4)]
    assert diff(old, [_message(1), _message(4)]) == [Splice((), 1, 2, [])]
    assert diff(old, [_message(1)]) == [Splice((), 1, 3, [])]


def test_items_are_recognised_by_id_though_they_moved_and_changed() -> None:
    old = [_message(n) for n in (1, 2, 3, 4)]
    new = [_message(9), _message(1, "!"), _message(3), _message(4, "?"), _message(5)]
    assert diff(old, new) == [
        Splice((), 0, 0, [_message(9)]),
        AppendText((1, "content"), "!"),
        Splice((), 2, 1, []),
        AppendText((3, "content"), "?"),
        Set((4,), _message(5)),
    ]


def test_the_fewest_items_are_moved() -> None:
    old = [_message(n) for n in range(8)]
    new = [_message(n) for n in (0, 7, 1, 2, 3, 4, 5, 6)]
    assert diff(old, new) == [Splice((), 1, 0, [_message(7)]), Splice((), 8, 1, [])]
    new = [_message(n) for n in (1, 7, 2, 3, 4, 5, 6, 0)]
    assert diff(old, new) == [Splice((), 0, 1, []), Splice((), 1, 0, [_message(7)]), Set((7, "id"), 0)]


def test_an_item_that_got_another_id_is_edited_where_it_stands() -> None:
    old = [_message(1), _message("local")]
    new = [_message(1), {**_message("local", "!"), "id": "remote"}]
    assert diff(old, new) == [Set((1, "id"), "remote"), AppendText((1, "content"), "!")]


def test_items_without_id_are_recognised_by_content() -> None:
    old = ["a" * 100, "b" * 100, "c" * 100, "d" * 100]
    new = ["b" * 100, "c" * 100, "x", "d" * 100, "e" * 100]
    assert diff(old, new) == [
        Splice((), 0, 1, []),
        Splice((), 2, 0, ["x"]),
        Set((4,), "e" * 100),
    ]
    objects = [[{"text": text}] for text in old], [[{"text": text}] for text in new]
    assert len(diff(*objects)) == 3


def test_items_without_id_that_changed_are_edited_where_they_stand() -> None:
    old = [{"type": "text", "text": "Hel" * 50}, {"type": "tool", "args": "{" * 100}]
    new = [{"type": "text", "text": "Hel" * 50 + "lo"}, {"type": "tool", "args": "{" * 100 + "}"}]
    assert diff(old, new) == [AppendText((0, "text"), "lo"), AppendText((1, "args"), "}")]


def test_items_that_look_alike_are_told_apart_by_their_order() -> None:
    old = [{"id": "same", "n": n, "text": "x" * 100} for n in (1, 2, 3)]
    new = [{"id": "same", "n": n, "text": "x" * 100} for n in (1, 2, 4)]
    assert diff(old, new) == [Set((2, "n"), 4)]


def test_an_id_that_is_a_number_is_not_the_id_that_spells_it() -> None:
    old = [{"id": 1, "text": "a" * 100}, {"id": "1", "text": "b" * 100}]
    new = [{"id": "1", "text": "b" * 100}, {"id": 2, "text": "c" * 100}]
    assert canonical(apply(old, diff(old, new))) == canonical(new)
    assert diff(old, new)[0] == Splice((), 0, 1, [])


def test_where_all_changed_the_container_is_set() -> None:
    old = {"a": {"b": 1, "c": 2, "d": [1, 2, 3]}, "kept": "x" * 100}
    new = {"a": {"e": 3, "f": 4, "d": [4, 5, 6]}, "kept": "x" * 100}
    assert diff(old, new) == [Set(("a",), new["a"])]
    assert diff({"a": 1, "b": 2}, {"c": 3, "d": 4}) == [Set((), {"c": 3, "d": 4})]


def test_what_was_replaced_as_a_whole_does_not_weigh_on_what_follows() -> None:
    old = {"a": {str(n): 1 for n in range(20)}, "b": {"x": 1, "y": 1, "kept": "x" * 200}}
    new = {"a": {str(n): 2 for n in range(20)}, "b": {"x": 2, "y": 2, "kept": "x" * 200}}
    assert diff(old, new) == [Set(("a",), new["a"]), Set(("b", "x"), 2), Set(("b", "y"), 2)]


def test_other_items_replace_a_run_of_items_at_once() -> None:
    old = [_message(n) for n in range(100)]
    new = [*old[:40], *[{"id": f"new{n}", "role": "tool", "content": "y"} for n in range(5)], *old[60:]]
    assert diff(old, new) == [Splice((), 40, 20, new[40:45])]


def test_a_list_that_was_emptied_or_filled_takes_one_operation() -> None:
    assert diff({"a": [1, 2, 3]}, {"a": []}) == [Splice(("a",), 0, 3, [])]
    assert diff({"a": []}, {"a": [1, 2, 3]}) == [Set(("a",), [1, 2, 3])]
    assert diff({"a": []}, {"a": [1]}) == [Set(("a", 0), 1)]


def test_the_root_may_change_its_kind() -> None:
    assert diff({"a": 1}, [1]) == [Set((), [1])]
    assert diff(None, {}) == [Set((), {})]


def test_what_is_the_same_object_is_not_looked_at() -> None:
    class Untouchable:
        def __eq__(self, other: object) -> bool:
            raise AssertionError

        __hash__ = None  # type: ignore[assignment]

    shared = {"a": [Untouchable()]}
    old = {"shared": shared, "list": [shared, shared], "n": 1, "text": "x" * 100}
    new = {"shared": shared, "list": [shared, shared], "n": 2, "text": "x" * 100}
    assert diff(old, new) == [Set(("n",), 2)]
    assert diff(old, old) == []


@settings(deadline=None, max_examples=300)
@given(states, states)
def test_the_operations_lead_from_any_state_to_any_other(old: Json, new: Json) -> None:
    before = canonical(old), canonical(new)
    operations = diff(old, new)
    assert canonical(apply(old, operations)) == canonical(new)
    assert (operations == []) == (canonical(old) == canonical(new)) == equal(old, new)
    assert (canonical(old), canonical(new)) == before


@settings(deadline=None, max_examples=300)
@given(st.data())
def test_the_operations_lead_from_a_state_to_what_edits_made_of_it(data: st.DataObject) -> None:
    old = data.draw(states)
    new = apply(old, data.draw(operation_sequences(old, max_size=4)))
    for variant in (new, copy.deepcopy(new), respelled(new)):
        operations = diff(old, variant)
        assert canonical(apply(old, operations)) == canonical(new)
        assert (operations == []) == (canonical(old) == canonical(new))


@settings(deadline=None)
@given(states)
def test_an_equal_state_takes_no_operation(state: Json) -> None:
    for variant in (copy.deepcopy(state), respelled(state)):
        assert equal(state, variant)
        assert diff(state, variant) == diff(variant, state) == []


@settings(deadline=None)
@given(states, states)
def test_the_operations_cost_no_more_than_to_set_the_state(old: Json, new: Json) -> None:
    operations = diff(old, new)
    # The path of a single operation may be longer than what a small container would take.
    slack = max((operation_cost(Set(each.path, None)) for each in operations), default=0)
    assert sum(map(operation_cost, operations)) <= operation_cost(Set((), new)) + slack


@settings(deadline=None, max_examples=300)
@given(*[st.lists(st.sampled_from(["a" * 50, "b" * 50, "c" * 50, 0, 1, True]), max_size=10)] * 2)
def test_lists_of_few_different_items_are_led_from_one_to_the_other(old: Json, new: Json) -> None:
    assert canonical(apply(old, diff(old, new))) == canonical(new)


@pytest.mark.parametrize("place", range(50))
def test_one_change_is_found_wherever_it_is(place: int) -> None:
    old: Json = [_message(n) for n in range(50)]
    new = copy.deepcopy(old)
    new[place]["content"] += "!"
    assert diff(old, new) == [AppendText((place, "content"), "!")]
    assert diff(
        {str(n): item for n, item in enumerate(old)}, {str(n): item for n, item in enumerate(new)}
    ) == [AppendText((str(place), "content"), "!")]


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 2**32))
def test_long_lists_are_led_from_any_order_to_any_other(seed: int) -> None:
    source = random.Random(seed)
    old = [_message(n, "." * source.randrange(3)) for n in range(60)]
    new = [_message(n, "." * source.randrange(3)) for n in range(30, 90)]
    window = source.randrange(1, 60)
    for start in range(0, 60, window):
        part = new[start : start + window]
        source.shuffle(part)
        new[start : start + window] = part
    for a, b in ((old, new), ({str(m["id"]): m for m in old}, {str(m["id"]): m for m in new})):
        assert canonical(apply(a, diff(a, b))) == canonical(b)


def _message(identity: str | int, more: str = "") -> dict[str, Json]:
    return {"id": identity, "role": "user", "content": "text of the message " * 5 + more}
