"""What is recorded between two cuts: as few operations as possible, right in every order of edits."""

from __future__ import annotations

import tracemalloc
from typing import Any

import pytest

from tests.support.documents import Watched
from threadwire.core.codec import encode_log
from threadwire.core.operations import AppendText, Delete, Set, Splice
from threadwire.core.recording import SLACK


@pytest.fixture
def watched() -> Watched:
    return Watched(
        {
            "messages": [{"id": "m0", "content": "a"}, {"id": "m1", "content": "b"}],
            "texts": ["x", "y", "z"],
            "title": "",
            "meta": {"deep": {"n": 0, "list": [1, 2]}},
        }
    )


# joining


def test_tokens_to_one_leaf_are_one_append(watched: Watched) -> None:
    for token in ("one ", "two ", "three"):
        watched.document.append_text(("messages", -1, "content"), token)
    assert watched.cut() == [AppendText(("messages", 1, "content"), "one two three")]


def test_every_way_to_append_joins_the_same_operation(watched: Watched) -> None:
    message = watched.root["messages"][1]
    watched.document.append_text(("messages", 1, "content"), "1")
    message["content"] += "2"
    message.append_text("content", "3")
    watched.draft.append_text(["messages", "1", "content"], "4")
    watched.root.append_text(("messages", -1, "content"), "5")
    assert watched.cut() == [AppendText(("messages", 1, "content"), "12345")]


def test_tokens_to_two_leaves_are_two_appends(watched: Watched) -> None:
    for token in "abc":
        watched.document.append_text(("messages", 0, "content"), token)
        watched.document.append_text(("messages", 1, "content"), token)
    assert watched.cut() == [
        AppendText(("messages", 0, "content"), "abc"),
        AppendText(("messages", 1, "content"), "abc"),
    ]


def test_appends_after_a_cut_are_new_ones(watched: Watched) -> None:
    for token in ("first", "second"):
        watched.document.append_text(("title",), token)
        assert watched.cut() == [AppendText(("title",), token)]
    watched.root["title"] += "third"
    assert watched.cut() == [AppendText(("title",), "third")]


def test_sets_of_one_key_are_one_set_of_the_last_value(watched: Watched) -> None:
    for number in range(100):
        watched.root["meta"]["deep"]["n"] = number
    assert watched.cut() == [Set(("meta", "deep", "n"), 99)]


def test_text_appended_to_what_was_set_is_part_of_the_set(watched: Watched) -> None:
    watched.root["title"] = "new"
    watched.document.append_text(("title",), " and more")
    watched.root["other"] = "o"
    watched.root["other"] += "k"
    assert watched.cut() == [AppendText(("title",), "new and more"), Set(("other",), "ok")]


def test_a_set_swallows_the_appends_before_it(watched: Watched) -> None:
    watched.document.append_text(("messages", 0, "content"), "lost")
    watched.root["messages"][0]["content"] = "other"
    watched.document.append_text(("messages", 0, "content"), "!")
    assert watched.cut() == [Set(("messages", 0, "content"), "other!")]


def test_set_and_delete_are_a_delete(watched: Watched) -> None:
    watched.root["title"] = "x"
    del watched.root["title"]
    assert watched.cut() == [Delete(("title",))]


def test_delete_and_set_are_a_set(watched: Watched) -> None:
    del watched.root["meta"]
    watched.root["meta"] = {"n": 1}
    watched.root["meta"]["n"] = 2
    assert watched.cut() == [Set(("meta",), {"n": 2})]


def test_what_is_put_in_and_taken_out_again_leaves_no_trace(watched: Watched) -> None:
    watched.root["new"] = {"a": 1}
    watched.root["new"]["b"] = [2]
    del watched.root["new"]
    watched.root["texts"].append("w")
    watched.root["texts"].append(["v"])
    watched.root["texts"].pop()
    watched.root["texts"].pop()
    assert watched.cut() == []
    assert watched.written == 2  # and the next write is told of again


def test_what_is_written_inside_of_what_was_put_in_is_part_of_its_value(watched: Watched) -> None:
    messages = watched.root["messages"]
    messages.append({"id": "m2", "content": "", "parts": []})
    messages[-1]["content"] += "token"
    messages[-1]["parts"].append({"text": ""})
    watched.document.append_text(("messages", 2, "parts", 0, "text"), "tok")
    messages[-1]["parts"][0]["text"] += "en"
    del messages[-1]["id"]
    assert watched.cut() == [
        Set(("messages", 2), {"content": "token", "parts": [{"text": "token"}]}),
    ]
    watched.document.append_text(("messages", 2, "parts", 0, "text"), "s")
    assert watched.cut() == [AppendText(("messages", 2, "parts", 0, "text"), "s")]


def test_several_items_at_the_end_are_one_splice_with_what_is_written_in_them(watched: Watched) -> None:
    messages = watched.root["messages"]
    messages.extend([{"content": ""}, {"content": ""}])
    messages[2]["content"] += "two"
    messages[3]["content"] += "three"
    assert watched.cut() == [Splice(("messages",), 2, 0, [{"content": "two"}, {"content": "three"}])]


def test_what_does_not_change_anything_is_not_recorded(watched: Watched) -> None:
    root = watched.root
    root["title"] = ""
    root["title"] += ""
    root["meta"]["deep"]["n"] = 0
    root["meta"] = root["meta"]
    root["messages"] += []
    root["meta"] |= {}
    root["texts"][0] = "x"
    root["texts"][1:2] = ["y"]
    root["texts"].extend([])
    root["texts"][1:1] = []
    root.update({})
    root.update(title="", messages=root["messages"])
    root["messages"].sort(key=lambda message: str(message["id"]))
    watched.document.append_text(("title",), "")
    watched.document.append_text(["title"], "")
    watched.draft.replace(root)
    assert watched.document.writes == 0
    assert watched.cut() == []


# orders of edits in which a path changes its meaning


def test_a_key_set_before_its_list_shifts_keeps_its_value(watched: Watched) -> None:
    texts = watched.root["texts"]
    texts[2] = "set"
    texts.insert(0, "first")
    texts[2] = "other"
    texts[3] += " more"
    assert watched.cut() == [
        Set(("texts", 2), "set"),
        Splice(("texts",), 0, 0, ["first"]),
        Set(("texts", 2), "other"),
        AppendText(("texts", 3), " more"),
    ]


def test_text_appended_before_its_list_shifts_stays_with_its_item(watched: Watched) -> None:
    texts = watched.root["texts"]
    texts[0] += "1"
    watched.document.append_text(("texts", 1), "2")
    del texts[0]
    watched.document.append_text(("texts", 1), "3")
    watched.document.append_text(("texts", 0), "4")
    texts.pop()
    watched.cut()
    assert watched.state["texts"] == ["y24"]


def test_a_lone_text_stays_with_its_item_when_its_list_shifts(watched: Watched) -> None:
    texts = watched.root["texts"]
    for number in range(3):
        texts[number] += "1"
        texts.insert(number, "new")
        assert watched.cut() == [
            AppendText(("texts", number), "1"),
            Splice(("texts",), number, 0, ["new"]),
        ]
        texts[number + 1] += "2"
        del texts[number]
        watched.cut()
    assert watched.state["texts"] == ["x12", "y12", "z12"]


def test_of_two_appended_items_the_first_can_go(watched: Watched) -> None:
    texts = watched.root["texts"]
    texts.append("first")
    texts.append({"second": ""})
    del texts[3]
    texts[3]["second"] += "stays"
    watched.cut()
    assert watched.state["texts"] == ["x", "y", "z", {"second": "stays"}]


def test_an_item_follows_its_container_through_a_shift(watched: Watched) -> None:
    message = watched.root["messages"][1]
    message["content"] += "1"
    watched.root["messages"].insert(0, {"id": "new"})
    message["content"] += "2"
    message["done"] = True
    assert watched.cut() == [
        AppendText(("messages", 1, "content"), "12"),
        Splice(("messages",), 0, 0, [{"id": "new"}]),
        Set(("messages", 2, "done"), True),
    ]


def test_what_was_appended_stays_open_after_a_shift(watched: Watched) -> None:
    messages = watched.root["messages"]
    messages.append({"content": ""})
    last = messages[-1]
    messages.insert(0, {"id": "new"})
    last["content"] += "still in the set"
    assert watched.cut() == [
        Set(("messages", 2), {"content": "still in the set"}),
        Splice(("messages",), 0, 0, [{"id": "new"}]),
    ]


def test_pop_and_put_back_is_a_copy_with_a_life_of_its_own(watched: Watched) -> None:
    messages = watched.root["messages"]
    view = messages[0]
    view["content"] += "1"
    messages.append(messages.pop(0))
    view["content"] += "into the void"
    messages[-1]["content"] += "2"
    watched.cut()
    assert [message["content"] for message in watched.state["messages"]] == ["b", "a12"]


def test_reordered_lists_are_sent_whole_with_later_writes_inside(watched: Watched) -> None:
    messages = watched.root["messages"]
    first = messages[0]
    first["content"] += "1"
    messages.reverse()
    first["content"] += "2"
    messages[0]["content"] = ""
    messages.append({"id": "m2"})
    del messages[1]["id"]
    operations = watched.cut()
    assert operations[-1] == Set(
        ("messages",), [{"id": "m1", "content": ""}, {"content": "a12"}, {"id": "m2"}]
    )
    assert len(operations) == 2
    first["content"] += "3"
    assert watched.cut() == [AppendText(("messages", 1, "content"), "3")]


def test_a_reordered_list_that_moves_with_its_parents_keeps_its_place(watched: Watched) -> None:
    root = watched.root
    root["outer"] = [[3, 1, 2], [6, 5]]
    watched.cut()
    inner = root["outer"][1]
    inner.sort()
    root["outer"].insert(0, [])
    inner.append(7)
    root["outer"][1].sort()
    watched.cut()
    assert watched.state["outer"] == [[], [1, 2, 3], [5, 6, 7]]


def test_writes_beneath_an_ancestor_that_goes_do_no_harm(watched: Watched) -> None:
    root = watched.root
    root["meta"]["deep"]["n"] = 5
    root["meta"]["deep"]["list"].insert(0, 0)
    root["meta"]["deep"]["list"][1] = "x"
    watched.document.append_text(("messages", 0, "content"), "gone")
    root["messages"][1]["new"] = {}
    del root["meta"]
    del root["messages"][0]
    root["messages"][0]["new"]["k"] = "stays"
    watched.cut()
    assert "meta" not in watched.state
    assert watched.state["messages"] == [{"id": "m1", "content": "b", "new": {"k": "stays"}}]


def test_writes_to_what_was_taken_out_are_neither_recorded_nor_counted(watched: Watched) -> None:
    deep = watched.root["meta"]["deep"]
    numbers = deep["list"]
    deep["n"] = 1
    watched.root["meta"] = {}
    writes = watched.document.writes
    deep["n"] = "x" * 1000
    numbers.append({"content": ""})
    numbers[-1]["content"] += "tokens"
    numbers[-1].append_text("content", "!")
    numbers.sort(key=str)
    del deep["list"][0], deep["list"]
    deep.clear()
    assert watched.document.writes == writes
    watched.check_size()
    watched.cut()
    assert watched.state["meta"] == {}
    deep["n"] = 2
    assert not watched.document.dirty
    assert watched.cut() == []


def test_a_container_that_is_emptied_after_it_was_taken_out_leaves_a_log_that_applies(
    watched: Watched,
) -> None:
    deep = watched.root["meta"]["deep"]
    deep["n"] = 1
    deep["list"][1] = {}
    deep["text"] = ""
    watched.cut()
    numbers = deep["list"]
    numbers[0] = 7
    deep.append_text("text", "t")
    watched.root["meta"]["deep"] = None
    numbers.clear()
    deep["text"] = 5
    watched.cut()
    assert watched.state["meta"] == {"deep": None}


def test_replacing_an_ancestor_of_what_was_put_in_closes_it(watched: Watched) -> None:
    root = watched.root
    root["meta"]["deep"]["fresh"] = {"n": 0}
    fresh = root["meta"]["deep"]["fresh"]
    root["meta"] = {"deep": {"fresh": {"n": 1}}}
    fresh["n"] = 2
    root["meta"]["deep"]["fresh"]["n"] += 2
    watched.cut()
    assert watched.state["meta"] == {"deep": {"fresh": {"n": 3}}}


def test_after_the_root_was_replaced_there_is_one_set(watched: Watched) -> None:
    watched.root["title"] = "before"
    watched.document.set((), {"messages": []})
    watched.root["messages"].append({"content": ""})
    watched.document.append_text(("messages", 0, "content"), "tok")
    assert watched.cut() == [Set((), {"messages": [{"content": "tok"}]})]
    watched.document.append_text(("messages", 0, "content"), "en")
    assert watched.cut() == [AppendText(("messages", 0, "content"), "en")]


def test_a_root_list_that_is_reordered_is_sent_whole() -> None:
    watched = Watched([3, [1], 2])
    watched.root.reverse()
    watched.root[1].append(0)
    assert watched.cut() == [Set((), [2, [1, 0], 3])]


def test_lists_in_lists_shift_each_for_itself() -> None:
    watched = Watched([[["a"], ["b"]], [["c"]]])
    b = watched.root[0][1]
    b[0] += "1"
    watched.root[0].insert(0, ["new"])
    b[0] += "2"
    watched.root.insert(0, [])
    b[0] += "3"
    b.insert(0, "first")
    b[1] += "4"
    watched.root[1].pop(0)
    b[1] += "5"
    watched.cut()
    assert watched.state == [[], [["a"], ["first", "b12345"]], [["c"]]]


def test_a_list_item_set_and_popped_at_the_end_is_deleted_in_order() -> None:
    watched = Watched(["a", "b", "c"])
    root = watched.root
    root[1] = "x"
    root[2] = "y"
    root.pop()
    root.pop()
    root.append("z")
    root.append("w")
    root[1] += "!"
    watched.cut()
    assert watched.state == ["a", "z!", "w"]


def test_items_appended_singly_and_together_are_taken_off_the_end_again() -> None:
    watched = Watched(["a"])
    root = watched.root
    root.append({"n": 1})
    root.extend([{"n": 2}, "three"])
    root.append("four")
    root.pop()
    root[-1] += "!"
    root.pop()
    root.pop()
    root[-1]["n"] += 10
    root.pop()
    root.append("b")
    watched.cut()
    assert watched.state == ["a", "b"]


# what waits is bounded by the state


def test_a_hundred_thousand_tokens_wait_as_one_text(watched: Watched) -> None:
    for _ in range(100_000):
        watched.document.append_text(("messages", 0, "content"), "token ")
    (operation,) = watched.cut()
    assert isinstance(operation, AppendText)
    assert len(operation.value) == 600_000


def test_a_hundred_thousand_sets_of_one_key_wait_as_one_set(watched: Watched) -> None:
    for number in range(100_000):
        watched.root["title"] = f"{number}"
        watched.root["meta"]["deep"] = {"n": number}
    assert watched.cut() == [
        Set(("title",), "99999"),
        Set(("meta", "deep"), {"n": 99999}),
    ]


@pytest.mark.parametrize(
    "loop",
    [
        "texts.insert(0, big); del texts[0]",
        "texts.append(big); texts.insert(0, 1); texts.pop(); texts.pop(0)",
        "texts.append(big); texts.insert(0, 1); texts[-1] = 0; texts.pop(0); texts.pop()",
        "texts.extend([big, big]); del texts[-2:]",
        "texts.extend([[big], [big]]); del texts[-2:]",
        "texts[1:1] = [big, 1]; texts[1:3] = []",
        "root['k'] = [big]; texts.reverse(); root['k'].append(1); del root['k']",
        "outer.append([[]]); outer[-1][0].append(big); outer.insert(0, 0); outer.clear()",
        "outer.append({}); outer.insert(0, 0); outer[1]['k'] = big; del outer[0], outer[0]",
        "root['k'] = {'l': []}; root['k']['l'].append(big); texts.reverse(); root['k'] = 1; del root['k']",
    ],
)
def test_what_goes_in_and_out_over_and_over_waits_in_bounds(loop: str) -> None:
    watched = Watched({"texts": ["x", "y", "z"], "outer": []})
    code = compile(loop, "loop", "exec")
    root: Any = watched.root
    names = {"root": root, "texts": root["texts"], "outer": root["outer"]}
    tracemalloc.start()
    try:
        for number in range(1_000):
            names["big"] = f"{number} {'b' * 10_000}"
            exec(code, names)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    # Ten to twenty megabytes have gone through.
    assert peak < 2_000_000
    assert len(encode_log(watched.document.cut())) < 200_000
    watched.check_size()


def test_small_items_that_go_in_and_out_wait_in_bounds() -> None:
    watched = Watched({"list": [0]})
    for _ in range(100_000):
        watched.root["list"].insert(0, 1)
        del watched.root["list"][0]
    watched.check_size()
    assert len(encode_log(watched.document.cut())) < 2 * SLACK


def test_nothing_waits_once_the_whole_state_is_to_be_sent(watched: Watched) -> None:
    watched.document.set((), {"list": [], "text": ""})
    for _ in range(100):
        watched.root["list"].insert(0, [""])
        watched.root["list"][-1].append({})
        watched.root["list"].reverse()
        watched.document.append_text(("list", -1, 0), "x")
        watched.root["text"] += "x"
        watched.document.delete(("list", -1))
        watched.root["list"].extend([[""], [""]])
    assert watched.document.recording.held == 0
    assert watched.document.recording.fresh == {}
    assert watched.cut() == [Set((), watched.state)]


def test_a_large_state_waits_with_many_small_edits_before_it_is_sent_whole() -> None:
    watched = Watched({"text": "x" * 1_000_000, "list": [0]})
    for _ in range(2_000):
        watched.root["list"].insert(0, 1)
        del watched.root["list"][0]
    assert len(watched.cut()) == 4_000
    for _ in range(20_000):
        watched.root["list"].insert(0, 1)
        del watched.root["list"][0]
    assert watched.cut() == [Set((), watched.state)]
    assert watched.document.recording.held == 0
