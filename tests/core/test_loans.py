"""An agent that goes on editing what it has put into the state is told, and no other is."""

from __future__ import annotations

import tracemalloc
from collections import OrderedDict, UserDict, defaultdict
from collections.abc import Callable
from typing import Any

import pytest

from tests.support.documents import Watched
from threadwire.core.document import DetachedWrite, LockedDocument


class Typed(dict[str, Any]):
    pass


@pytest.fixture
def watched() -> Watched:
    return Watched({"messages": [], "slot": None})


def check(watched: Watched, *, last: bool = False) -> None:
    """What the engine does when it cuts."""
    watched.document.check_loans(last=last)
    watched.cut()


def lost(watched: Watched, path: str, *, last: bool = False) -> None:
    with pytest.raises(DetachedWrite) as error:
        watched.document.check_loans(last=last)
    assert error.value.path == path
    assert path in str(error.value)
    watched.document.check_loans()
    watched.document.check_loans(last=True)


def test_text_added_to_a_message_after_it_was_appended_is_noticed(watched: Watched) -> None:
    message = {"content": ""}
    watched.root["messages"].append(message)
    message["content"] += "token"
    lost(watched, "state.messages.0")


def test_it_is_noticed_in_any_later_stretch(watched: Watched) -> None:
    message = {"content": ""}
    watched.root["messages"].append(message)
    for _ in range(10):
        check(watched)
    message["content"] += "token"
    lost(watched, "state.messages.0")


def test_it_is_noticed_at_the_end_of_the_run(watched: Watched) -> None:
    message = {"content": ""}
    watched.root["messages"].append(message)
    check(watched)
    message["content"] += "token"
    lost(watched, "state.messages.0", last=True)


def test_it_is_noticed_though_nobody_holds_the_message_any_more(watched: Watched) -> None:
    def add() -> None:
        message = {"content": ""}
        watched.root["messages"].append(message)
        message["content"] += "token"

    add()
    lost(watched, "state.messages.0")


def test_the_place_named_is_where_the_copy_is_now(watched: Watched) -> None:
    message = {"content": ""}
    watched.root["messages"].append(message)
    watched.root["messages"].insert(0, {})
    check(watched)
    watched.root["messages"].insert(0, {})
    message["content"] += "token"
    lost(watched, "state.messages.2")


@pytest.mark.parametrize(
    "put",
    [
        lambda root, value: root.__setitem__("slot", value),
        lambda root, value: root.setdefault("new", value),
        lambda root, value: root.update(slot=value, other=1),
        lambda root, value: root.__ior__({"slot": value}),
        lambda root, value: root["messages"].append(value),
        lambda root, value: root["messages"].insert(0, value),
        lambda root, value: root["messages"].extend([0, value]),
        lambda root, value: root["messages"].__iadd__([value]),
        lambda root, value: root["messages"].__setitem__(slice(0, 0), [value, 0]),
        lambda root, value: root["numbers"].__setitem__(1, value),
        lambda root, value: root["numbers"].__setitem__(slice(None, None, 2), [value, 0]),
    ],
)
def test_every_way_to_put_a_container_in_is_watched(put: Callable[[Any, Any], object]) -> None:
    for value in ({"a": 1}, [1]):
        watched = Watched({"messages": [], "numbers": [1, 2, 3], "slot": None})
        put(watched.root, value)
        if isinstance(value, dict):
            value["b"] = 2
        else:
            value.append(2)
        with pytest.raises(DetachedWrite):
            watched.document.check_loans()


@pytest.mark.parametrize(
    ("value", "change"),
    [
        (Typed(a=1), lambda value: value.update(a=2)),
        (OrderedDict(a=1), lambda value: value.update(b=2)),
        (defaultdict(str, a=""), lambda value: value.__setitem__("a", value["a"] + "x")),
        (UserDict(a=1), lambda value: value.update(a=2)),
        ({"a": {"b": [{"c": 1}]}}, lambda value: value["a"]["b"][0].update(c=2)),
        (({"a": 1},), lambda value: value[0].update(a=True)),
        ([1, 2], lambda value: value.reverse()),
        ([1], lambda value: value.append(object())),
        ([1], lambda value: value.append(value)),
        ({"a": 1}, lambda value: value.clear()),
        ([False], lambda value: value.__setitem__(0, 0)),
    ],
)
def test_every_change_of_every_kind_of_container_is_noticed(
    watched: Watched, value: Any, change: Callable[[Any], object]
) -> None:
    watched.root["slot"] = value
    check(watched)
    change(value)
    lost(watched, "state.slot")


def test_a_container_inside_of_what_was_put_in_is_watched_when_its_parent_is_gone(watched: Watched) -> None:
    parts: list[object] = []
    watched.root["messages"].append({"parts": parts})
    check(watched)
    check(watched)
    parts.append("text")
    lost(watched, "state.messages.0")


def test_changes_of_a_message_that_holds_a_view_are_noticed_but_not_the_views(watched: Watched) -> None:
    watched.root["slot"] = {"n": 1}
    message = {"quote": watched.root["slot"], "content": ""}
    watched.root["messages"].append(message)
    check(watched)
    watched.root["slot"]["n"] = 2
    check(watched)
    check(watched)
    message["content"] = "x"
    lost(watched, "state.messages.0")


def test_every_one_of_many_is_compared_in_its_turn(watched: Watched) -> None:
    messages = [{"content": str(number)} for number in range(50)]
    watched.root["messages"].extend(messages)
    check(watched)
    messages[30]["content"] = "changed"
    with pytest.raises(DetachedWrite) as error:
        for _ in range(50):
            watched.document.check_loans()
    assert error.value.path == "state.messages.30"


def test_large_containers_are_compared_at_the_first_check_and_the_last(watched: Watched) -> None:
    large = {"content": "x" * 10_000}
    watched.root["slot"] = large
    large["content"] = "y"
    lost(watched, "state.slot")

    large = {"content": "x" * 10_000}
    watched.root["slot"] = large
    check(watched)
    large["content"] = "y"
    for _ in range(10):
        check(watched)
    lost(watched, "state.slot", last=True)


def test_it_is_noticed_among_more_containers_than_are_kept_to_be_compared(watched: Watched) -> None:
    def add(change: bool) -> None:
        message = {"content": "x" * 100}
        watched.root["messages"].append(message)
        if change:
            message["content"] = ""

    for number in range(1000):
        add(number == 500)
    lost(watched, "state.messages.500")


# no false alarm


def test_what_is_left_as_it_was_raises_no_alarm(watched: Watched) -> None:
    message = {"content": "", "parts": [{"text": ""}]}
    watched.root["messages"].append(message)
    watched.root["slot"] = message
    watched.root["messages"][0]["content"] += "through the state"
    for _ in range(5):
        check(watched)
    check(watched, last=True)


def test_what_was_only_put_into_another_order_raises_no_alarm(watched: Watched) -> None:
    message = {"a": 1, "b": 2}
    watched.root["slot"] = message
    check(watched)
    message["a"] = message.pop("a")
    assert list(message) == ["b", "a"]
    check(watched)
    check(watched, last=True)


def test_what_is_changed_and_changed_back_in_one_stretch_raises_no_alarm(watched: Watched) -> None:
    message = {"content": ""}
    watched.root["slot"] = message
    check(watched)
    message["content"] = "x"
    message["content"] = ""
    check(watched)


def test_what_is_put_in_again_after_the_change_raises_no_alarm(watched: Watched) -> None:
    message = {"content": ""}
    watched.root["messages"].append(message)
    for stretches in (True, False):
        for token in ("one", "two"):
            message["content"] += token
            watched.root["messages"][0] = message
            if stretches:
                check(watched)
    check(watched, last=True)
    assert watched.state["messages"] == [{"content": "onetwoonetwo"}]


def test_a_template_that_is_filled_anew_for_each_copy_raises_no_alarm(watched: Watched) -> None:
    part: dict[str, object] = {}
    for number in range(200):
        part["n"] = number
        watched.root["messages"].append(part)
        if number % 3 == 0:
            check(watched)
    check(watched, last=True)
    assert watched.state["messages"] == [{"n": number} for number in range(200)]


def test_literals_raise_no_alarm(watched: Watched) -> None:
    for number in range(300):
        watched.root["messages"].append({"n": [number], "t": ({},)})
        watched.root["messages"][-1]["n"].append({"more": []})
    check(watched)
    check(watched, last=True)


@pytest.mark.parametrize(
    "remove",
    [
        lambda root: root.pop("slot"),
        lambda root: root.__setitem__("slot", None),
        lambda root: root.__setitem__("slot", {"a": 1}),
        lambda root: root.clear(),
    ],
)
def test_changes_after_the_copy_has_left_the_state_raise_no_alarm(
    watched: Watched, remove: Callable[[Any], object]
) -> None:
    settings: dict[str, object] = {"a": 1}
    watched.root["slot"] = settings
    view = watched.root["slot"]
    check(watched)
    remove(watched.root)
    settings["b"] = 2
    check(watched)
    check(watched, last=True)
    assert view == {"a": 1}


def test_what_is_taken_over_from_the_state_may_be_changed(watched: Watched) -> None:
    watched.root["messages"].append({"content": "", "tags": ["a"]})
    message = watched.root["messages"].pop()
    message["tags"].append("b")
    plain = watched.root.value()
    plain["messages"].append(1)
    check(watched, last=True)


def test_what_was_refused_is_not_watched(watched: Watched) -> None:
    message: dict[str, object] = {"content": float("nan")}
    with watched.refused("not-finite", "state.slot.content"):
        watched.root["slot"] = message
    message["content"] = ""
    check(watched, last=True)


def test_whole_states_that_are_replaced_are_not_watched(watched: Watched) -> None:
    state: dict[str, Any] = {"messages": [{"content": ""}]}
    watched.draft.replace(state)
    state["messages"][0]["content"] += "token"
    check(watched)
    watched.draft.replace(state)
    check(watched, last=True)
    assert watched.state["messages"] == [{"content": "token"}]


# what it costs


def test_containers_that_only_the_watch_holds_are_let_go(watched: Watched) -> None:
    class Noted(dict[str, Any]):
        alive = 0

        def __init__(self, **items: Any) -> None:
            super().__init__(items)
            Noted.alive += 1

        def __del__(self) -> None:
            Noted.alive -= 1

    for number in range(1000):
        watched.root["slot"] = Noted(n=number)
    assert Noted.alive < 100
    check(watched)
    assert Noted.alive == 0
    held = [Noted(n=number) for number in range(3000)]
    watched.root["messages"].extend(held)
    del held
    check(watched, last=True)
    assert Noted.alive == 0


def test_large_containers_do_not_pile_up_before_a_check(watched: Watched) -> None:
    tracemalloc.start()
    try:
        for number in range(500):
            watched.root["slot"] = {"text": f"{number}{'x' * 50_000}"}
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 2_000_000


def test_what_an_agent_holds_does_not_keep_its_copies(watched: Watched) -> None:
    held: list[dict[str, str]] = []
    tracemalloc.start()
    try:
        for number in range(500):
            held.append({"text": ""})
            watched.root["slot"] = held[-1]
            watched.document.append_text(("slot", "text"), f"{number}{'x' * 10_000}")
            watched.root["slot"] = None
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 2_000_000


# an agent in a thread of its own, where a check may come at any moment


def test_a_threads_agent_may_be_in_the_midst_of_an_edit() -> None:
    watched = Watched({"messages": []}, kind=LockedDocument)
    message = {"content": ""}
    watched.root["messages"].append(message)
    check(watched)
    message["content"] += "token"
    check(watched)  # comes from the loop, between these two lines of the agent
    watched.root["messages"][-1] = message
    check(watched)
    check(watched, last=True)


def test_a_threads_detached_writes_are_noticed_at_the_end_of_the_run() -> None:
    watched = Watched({"messages": []}, kind=LockedDocument)
    message = {"content": ""}
    watched.root["messages"].append(message)
    message["content"] += "token"
    for _ in range(3):
        check(watched)
    lost(watched, "state.messages.0", last=True)


def test_a_threads_detached_writes_are_noticed_when_it_has_let_go() -> None:
    watched = Watched({"messages": []}, kind=LockedDocument)

    def add() -> None:
        message = {"content": ""}
        watched.root["messages"].append(message)
        check(watched)
        message["content"] += "token"

    add()
    lost(watched, "state.messages.0")
