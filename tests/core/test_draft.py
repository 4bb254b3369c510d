"""A run's access to the state, the server's key in it, and all kinds of edits in every order."""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from tests.support.documents import Watched, same
from threadwire.core.document import Document
from threadwire.core.draft import RESERVED, Draft
from threadwire.core.errors import Refused, RunEnded
from threadwire.core.operations import AppendText, Delete, Json, Set
from threadwire.core.recording import SLACK
from threadwire.core.values import Wrapper


@pytest.fixture
def watched() -> Watched:
    return Watched({"messages": [], "threadwire": {"interrupts": {}}, "title": "t"})


# the root


def test_the_root_is_what_the_state_is() -> None:
    for state in (None, 5, True, "text", 2.5):
        assert same(Draft(Document(state)).root(), state)
    for container in ({}, {"a": 1}, [], [1]):
        root = Draft(Document(container)).root()
        assert isinstance(root, Wrapper)
        assert same(root.value(), container)


def test_the_root_stays_one_view_and_follows_the_state(watched: Watched) -> None:
    root = watched.root
    assert watched.root is root
    watched.document.set((), {"other": []})
    assert watched.root is root
    root["other"].append(1)
    watched.draft.replace({"more": 1})
    root["more"] += 1
    watched.cut()
    assert watched.state == {"more": 2}


def test_a_root_of_another_kind_is_another_view(watched: Watched) -> None:
    watched.document.set((), [1])
    old, items = watched.root, watched.root
    assert items == [1]
    watched.document.set((), [2, 3])
    items.append(4)
    watched.document.set((), "text")
    watched.cut()
    assert watched.root == "text"
    items.append(5)
    watched.document.set((), {})
    watched.cut()
    watched.root["a"] = 1
    old.append(6)
    assert watched.cut() == [Set(("a",), 1)]
    assert old == [2, 3, 4, 5, 6]


def test_a_state_that_is_a_string_grows(watched: Watched) -> None:
    watched.document.set((), "to")
    watched.draft.append_text((), "ken")
    watched.draft.replace("tokens")
    assert watched.cut() == [Set((), "tokens")]


def test_two_drafts_edit_one_state_and_end_apart(watched: Watched) -> None:
    other = Draft(watched.document)
    watched.root["messages"].append({"content": ""})
    message = other.root()["messages"][0]
    message["content"] += "b"
    watched.root["copy"] = message
    watched.draft.revoke()
    message["content"] += "c"
    with pytest.raises(RunEnded):
        watched.draft.root()
    watched.cut()
    assert watched.state["messages"] == [{"content": "bc"}]
    assert watched.state["copy"] == {"content": "b"}


# the key that is the server's


def test_the_servers_key_is_not_seen(watched: Watched) -> None:
    root = watched.root
    assert RESERVED not in root
    assert root.get(RESERVED) is None
    assert list(root) == list(root.keys()) == ["messages", "title"]
    assert list(reversed(root)) == ["title", "messages"]
    assert list(root.items()) == [("messages", []), ("title", "t")]
    assert list(root.values()) == [[], "t"]
    assert len(root) == len(root.items()) == 2
    assert repr(root) == "{'messages': [], 'title': 't'}"
    plain = {"messages": [], "title": "t"}
    for whole in (root.value(), root.copy(), copy.deepcopy(root), {**root}, root | {}, {} | root):
        assert whole == plain
    assert root == plain
    assert plain == root
    assert root != {**plain, RESERVED: {"interrupts": {}}}
    assert [plain] == [root]
    assert root in [plain]
    with pytest.raises(KeyError):
        root[RESERVED]
    watched.root["all"] = root
    watched.cut()
    assert watched.state["all"] == plain


@pytest.mark.parametrize("state", [{"threadwire": {"a": 1}, "n": 1}, {"n": 1}])
@pytest.mark.parametrize(
    "write",
    [
        lambda draft: draft.root().__setitem__("threadwire", 1),
        lambda draft: draft.root().__setitem__("threadwire", draft.root()),
        lambda draft: draft.root().setdefault("threadwire", {}),
        lambda draft: draft.root().update(threadwire=1),
        lambda draft: draft.root().update({"n": 2, "threadwire": 1}),
        lambda draft: draft.root().__ior__([("n", 2), ("threadwire", 1)]),
        lambda draft: draft.append_text(("threadwire",), "x"),
        lambda draft: draft.append_text(["threadwire", "a"], "x"),
        lambda draft: draft.root().append_text("threadwire", "x"),
        lambda draft: draft.root().append_text(("threadwire", "a"), "x"),
        lambda draft: draft.root().append_text(["threadwire"], "x"),
        lambda draft: draft.replace({"n": 2, "threadwire": {}}),
    ],
)
def test_the_servers_key_cannot_be_written(state: Json, write: Callable[[Draft], object]) -> None:
    watched = Watched(state)
    with watched.refused("reserved-key", "state.threadwire"):
        write(watched.draft)


def test_the_servers_key_cannot_be_removed(watched: Watched) -> None:
    root = watched.root
    with pytest.raises(KeyError):
        del root[RESERVED]
    with pytest.raises(KeyError):
        root.pop(RESERVED)
    assert root.pop(RESERVED, 5) == 5
    assert root.popitem() == ("title", "t")
    root["z"] = 1
    root.clear()
    with pytest.raises(KeyError):
        root.popitem()
    assert not root
    watched.cut()
    assert watched.state == {"threadwire": {"interrupts": {}}}


def test_below_the_root_the_word_is_free(watched: Watched) -> None:
    watched.root["messages"].append({RESERVED: "x"})
    watched.root["messages"][0][RESERVED] += "y"
    watched.draft.append_text(("messages", 0, RESERVED), "z")
    watched.root["messages"][0].append_text(RESERVED, "!")
    assert watched.root["messages"][0].pop(RESERVED) == "xyz!"
    watched.cut()


# replacing the whole


def test_a_replaced_state_keeps_the_servers_key(watched: Watched) -> None:
    text = "so long that the whole state would cost more " * 10
    watched.root["text"] = text
    watched.cut()
    watched.draft.replace({"title": "tt", "text": text, "new": [1]})
    assert watched.state == {"threadwire": {"interrupts": {}}, "title": "tt", "text": text, "new": [1]}
    assert sorted(watched.cut(), key=str) == [
        AppendText(("title",), "t"),
        Delete(("messages",)),
        Set(("new",), [1]),
    ]
    others: list[Json] = [[], "text", None]
    for value in others:
        with watched.refused("reserved-key", "state"):
            watched.draft.replace(value)
    watched.draft.replace({})
    watched.cut()
    assert watched.state == {"threadwire": {"interrupts": {}}}


def test_a_state_without_the_servers_key_may_become_anything() -> None:
    watched = Watched({"a": 1})
    values: list[Json] = [[1, {"threadwire": 2}], "text", {"a": [1]}, None, {}]
    for value in values:
        watched.draft.replace(value)
        watched.cut()
        assert watched.state == value


def test_a_state_is_replaced_by_itself_without_a_trace(watched: Watched) -> None:
    watched.draft.replace(watched.root)
    watched.draft.replace(watched.root.value())
    assert watched.cut() == []


def test_what_a_replacement_leaves_as_it_was_keeps_its_views() -> None:
    messages = [{"id": str(number), "content": "text " * 50} for number in range(1, 3)]
    watched = Watched({"messages": messages})
    first, second = watched.root["messages"]
    state = watched.root.value()
    state["messages"][1]["content"] += "more"
    state["messages"].insert(0, {"id": "0"})
    watched.draft.replace(state)
    first["content"] += "!"
    second["content"] += "!"
    watched.cut()
    assert [message.get("content", "")[-5:] for message in watched.state["messages"]] == [
        "",
        "ext !",
        "more!",
    ]


def test_a_replacement_that_is_refused_changes_nothing(watched: Watched) -> None:
    state = watched.root.value()
    state["title"] = "other"
    state["messages"] = [{"content": object()}]
    with watched.refused("unsupported-type", "state.messages.0.content"):
        watched.draft.replace(state)


# any edits in any order


small = st.recursive(
    st.sampled_from(["", "x", "xy", "é", "😀", 0, 1, True, False, None, 2.5]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    max_leaves=5,
)
keys = st.sampled_from("abc")
tokens = st.sampled_from(["t", "ü€", "", "token "])
numbers = st.integers(0, 40)
ways = st.integers(0, 3)


def sorting(item: Any) -> str:
    return json.dumps(item.value() if isinstance(item, Wrapper) else item, sort_keys=True)


class Edits(RuleBasedStateMachine):
    """A state edited through views and by paths, beside a plain model edited in the same way.

    A cut may come at any time; the replica, which gets what the log would hold, is then equal.
    Views that were kept stay with their containers, in the state or out of it.
    """

    @initialize(state=st.dictionaries(keys, small), slack=st.sampled_from([0, 300, SLACK]))
    def start(self, state: Json, slack: int) -> None:
        self.watched = Watched(state, max_depth=1000)
        self.watched.document.recording.slack = slack
        self.model = copy.deepcopy(state)
        self.kept: list[tuple[Any, Any]] = []

    def teardown(self) -> None:
        if hasattr(self, "watched"):
            self.watched.cut()

    def containers(self, kind: type) -> list[tuple[Any, Any, tuple[Any, ...] | None]]:
        """(plain container of the model, the view of it, its path): all there are, and all kept."""
        found: list[tuple[Any, Any, tuple[Any, ...] | None]] = []
        waiting: list[tuple[Any, Any, tuple[Any, ...]]] = [(self.model, self.watched.root, ())]
        while waiting:
            model, view, path = waiting.pop()
            if type(model) is kind:
                found.append((model, view, path))
            for key in model if type(model) is dict else range(len(model)):
                if type(model[key]) in (dict, list):
                    waiting.append((model[key], view[key], (*path, key)))
        return found + [(model, view, None) for model, view in self.kept if type(model) is kind]

    def pick(self, kind: type, number: int) -> tuple[Any, Any, tuple[Any, ...] | None]:
        found = self.containers(kind)
        return found[number % len(found)]

    def has(self, kind: type) -> bool:
        return bool(self.containers(kind))

    def has_list(self) -> bool:
        return hasattr(self, "watched") and self.has(list)

    # any container

    @rule(number=numbers, of=st.sampled_from([dict, list]))
    def keep(self, number: int, of: type) -> None:
        if self.has(of):
            self.kept = [*self.kept[-5:], self.pick(of, number)[:2]]

    @rule(number=numbers, of=st.sampled_from([dict, list]), where=numbers, text=tokens, way=ways)
    def grow_text(self, number: int, of: type, where: int, text: str, way: int) -> None:
        if not self.has(of):
            return
        model, view, path = self.pick(of, number)
        leaves: list[Any] = [
            key for key in (model if of is dict else range(len(model))) if type(model[key]) is str
        ]
        if not leaves:
            return
        key = leaves[where % len(leaves)]
        model[key] += text
        spelled = key - len(model) if of is list and where % 2 else key
        if way == 0 and path is not None:
            self.watched.document.append_text((*path, spelled), text)
        elif way == 1 and path is not None:
            self.watched.draft.append_text([*path, str(key)], text)
        elif way == 2:
            view.append_text(spelled, text)
        else:
            view[spelled] += text

    # dicts

    @rule(number=numbers, key=keys, value=small, way=ways)
    def put(self, number: int, key: str, value: Json, way: int) -> None:
        model, view, path = self.pick(dict, number)
        if way == 0 and path is not None:
            self.watched.document.set((*path, key), value)
        elif way == 1:
            view.update({key: value, "z": 1})
            model["z"] = 1
        else:
            view[key] = value
        if not (type(value) not in (dict, list) and key in model and same(model[key], value)):
            model[key] = copy.deepcopy(value)

    @rule(number=numbers, key=keys, value=small)
    def setdefault(self, number: int, key: str, value: Json) -> None:
        model, view, _ = self.pick(dict, number)
        assert view.setdefault(key, value) == model.setdefault(key, copy.deepcopy(value))

    @rule(number=numbers, key=keys, other=keys)
    def put_view(self, number: int, key: str, other: str) -> None:
        model, view, _ = self.pick(dict, number)
        if other in model:
            view[key] = view[other]
            if key != other:
                model[key] = copy.deepcopy(model[other])

    @rule(number=numbers, key=keys, way=ways)
    def remove(self, number: int, key: str, way: int) -> None:
        model, view, path = self.pick(dict, number)
        if key not in model:
            with pytest.raises(KeyError):
                view.pop(key)
            assert view.pop(key, 5) == 5
        elif way == 0:
            assert same(view.pop(key), model.pop(key))
        elif way == 1 and path is not None:
            self.watched.document.delete((*path, key))
            del model[key]
        else:
            del view[key]
            del model[key]

    @rule(number=numbers)
    def clear_dict(self, number: int) -> None:
        model, view, _ = self.pick(dict, number)
        model.clear()
        view.clear()

    # lists

    @precondition(has_list)
    @rule(number=numbers, index=st.integers(-6, 6), value=small, way=ways)
    def insert(self, number: int, index: int, value: Json, way: int) -> None:
        model, view, path = self.pick(list, number)
        if way == 0:
            view.append(value)
            model.append(copy.deepcopy(value))
        elif way == 1 and path is not None:
            self.watched.document.set((*path, len(model)), value)
            model.append(copy.deepcopy(value))
        else:
            view.insert(index, value)
            model.insert(index, copy.deepcopy(value))

    @precondition(has_list)
    @rule(number=numbers, values=st.lists(small, max_size=3))
    def extend(self, number: int, values: list[Json]) -> None:
        model, view, _ = self.pick(list, number)
        view.extend(values)
        model.extend(copy.deepcopy(values))

    @precondition(has_list)
    @rule(number=numbers, index=numbers, value=small)
    def replace_item(self, number: int, index: int, value: Json) -> None:
        model, view, _ = self.pick(list, number)
        if model:
            index %= len(model)
            view[index - len(model)] = value
            if type(value) in (dict, list) or not same(model[index], value):
                model[index] = copy.deepcopy(value)

    @precondition(has_list)
    @rule(number=numbers, index=numbers, way=ways)
    def remove_item(self, number: int, index: int, way: int) -> None:
        model, view, path = self.pick(list, number)
        if not model:
            with pytest.raises(IndexError):
                view.pop()
            return
        index %= len(model)
        if way == 0:
            assert same(view.pop(), model.pop())
        elif way == 1:
            assert same(view.pop(index), model.pop(index))
        elif way == 2 and path is not None:
            self.watched.document.delete((*path, index - len(model)))
            del model[index]
        elif type(model[index]) in (dict, list):
            view.remove(view[index])
            del model[index]
        else:
            del view[index]
            del model[index]

    @precondition(has_list)
    @rule(number=numbers, index=numbers, to=st.integers(-6, 6))
    def move_item(self, number: int, index: int, to: int) -> None:
        model, view, _ = self.pick(list, number)
        if model:
            index %= len(model)
            view.insert(to, view.pop(index))
            model.insert(to, copy.deepcopy(model.pop(index)))

    @precondition(has_list)
    @rule(
        number=numbers,
        start=st.none() | st.integers(-6, 6),
        stop=st.none() | st.integers(-6, 6),
        step=st.sampled_from([None, 1, 2, -1, -2]),
        values=st.none() | st.lists(small, max_size=3),
    )
    def edit_slice(
        self, number: int, start: int | None, stop: int | None, step: int | None, values: list[Json] | None
    ) -> None:
        model, view, _ = self.pick(list, number)
        where = slice(start, stop, step)
        if values is None:
            del view[where]
            del model[where]
        elif step in (None, 1) or len(values) == len(model[where]):
            view[where] = values
            # What is equal and no container stays; so do views of what isn't there.
            model[where] = copy.deepcopy(values)
        else:
            with pytest.raises(ValueError, match="extended slice"):
                view[where] = values

    @precondition(has_list)
    @rule(number=numbers, way=ways)
    def order(self, number: int, way: int) -> None:
        model, view, _ = self.pick(list, number)
        if way < 2:
            view.reverse()
            model.reverse()
        else:
            view.sort(key=sorting, reverse=way == 2)
            model.sort(key=sorting, reverse=way == 2)

    @precondition(has_list)
    @rule(number=numbers, times=st.integers(0, 2))
    def repeat(self, number: int, times: int) -> None:
        model, view, _ = self.pick(list, number)
        if len(model) < 20:
            view *= times
            if times:
                model.extend(copy.deepcopy(model * (times - 1)))
            else:
                model.clear()

    # the whole

    @rule(key=keys, value=small, text=tokens, seed=st.integers(0, 1000))
    def replace_all(self, key: str, value: Json, text: str, seed: int) -> None:
        state = copy.deepcopy(self.model)
        state[key] = value
        state["z"] = text
        for items in [item for item in state.values() if type(item) is list]:
            random.Random(seed).shuffle(items)
        self.watched.draft.replace(state)
        self.model = state
        self.kept.clear()  # what a replacement keeps is its own choice

    @rule(value=st.dictionaries(keys, small))
    def put_root(self, value: Json) -> None:
        root, model = self.watched.root, self.model
        self.watched.document.set((), value)
        assert self.watched.root is root
        model.clear()
        model.update(copy.deepcopy(value))

    @rule(way=ways, number=numbers)
    def refused(self, way: int, number: int) -> None:
        model, view, _ = self.pick(dict, number)
        before = self.watched.document.writes
        with pytest.raises(Refused):
            if way == 0:
                view.update(a=1, b=float("nan"))
            elif way == 1:
                view["__proto__"] = 1
            elif way == 2:
                self.watched.draft.replace({**copy.deepcopy(self.model), "a": {1}})
            else:
                view.append_text(("nothing there", 1), "text")
        assert self.watched.document.writes == before
        assert same(view.value(), model)

    @rule()
    def cut(self) -> None:
        self.watched.cut()

    @invariant()
    def everything_is_as_the_model_says(self) -> None:
        if not hasattr(self, "watched"):
            return
        assert same(self.watched.state, self.model)
        self.watched.check_size()
        for model, view in self.kept:
            assert same(view.value(), model)


Edits.TestCase.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
TestEditsInAnyOrder = Edits.TestCase
