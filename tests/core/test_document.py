"""A document edited by paths: what it takes, what it refuses, what it costs. Joining is in test_recording."""

from __future__ import annotations

import inspect
import sys
import threading
import tracemalloc
from collections import UserDict
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.documents import Watched, same
from tests.support.strategies import places, states_with_operations, values
from threadwire.core.codec import decode_log, encode_log
from threadwire.core.document import Document, LockedDocument
from threadwire.core.draft import Draft
from threadwire.core.errors import InvalidOperation, InvalidValue, Refused
from threadwire.core.operations import AppendText, Delete, Json, Operation, Path, Set, Splice, apply
from threadwire.core.values import measure


class Segment(str):
    __slots__ = ()


@pytest.fixture
def watched() -> Watched:
    return Watched(
        {
            "messages": [{"content": "a"}, {"content": "b"}],
            "texts": ["x", "y"],
            "1": {"2": "numbers"},
            "n": 1,
            "none": None,
        }
    )


# paths


@pytest.mark.parametrize(
    ("path", "canonical"),
    [
        (("messages", -1, "content"), ("messages", 1, "content")),
        (["messages", 1, "content"], ("messages", 1, "content")),
        (("messages", "1", "content"), ("messages", 1, "content")),
        (("messages", -2, "content"), ("messages", 0, "content")),
        (("texts", -1), ("texts", 1)),
        (("texts", "0"), ("texts", 0)),
        ((1, 2), ("1", "2")),
        (("1", 2), ("1", "2")),
        ((Segment("messages"), 0, Segment("content")), ("messages", 0, "content")),
    ],
)
def test_paths_are_recorded_with_indexes_from_the_front(
    watched: Watched, path: Path, canonical: Path
) -> None:
    for _ in range(2):
        watched.document.append_text(path, "t")
    (operation,) = watched.cut()
    assert isinstance(operation, AppendText)
    assert operation == AppendText(canonical, "tt")
    assert [type(segment) for segment in operation.path] == [type(segment) for segment in canonical]
    watched.document.set(path, 1)
    assert watched.cut() == [Set(canonical, 1)]
    watched.document.delete(path)
    assert watched.cut() == [Delete(canonical)]


@pytest.mark.parametrize("spelled", [("list",), ["list"], (Segment("list"),)])
def test_a_splice_counts_from_the_front(spelled: Path) -> None:
    watched = Watched({"list": [0, 1, 2, 3]})
    watched.document.splice(spelled, 1, 2, ["a", {"b": 1}])
    assert watched.cut() == [Splice(("list",), 1, 2, ["a", {"b": 1}])]
    watched.document.splice(spelled, 4, 0, iter([{}, []]))
    assert watched.cut() == [Splice(("list",), 4, 0, [{}, []])]
    assert watched.state == {"list": [0, "a", {"b": 1}, 3, {}, []]}


def test_a_set_at_the_end_of_a_list_appends(watched: Watched) -> None:
    watched.document.set(("texts", 2), "z")
    watched.document.set(("texts", "3"), "w")
    watched.document.set(("messages", 2), {"content": ""})
    watched.document.append_text(("messages", 2, "content"), "c")
    watched.cut()
    assert watched.state["texts"] == ["x", "y", "z", "w"]
    assert watched.state["messages"][2] == {"content": "c"}


def test_a_negative_index_names_another_item_when_the_list_grows(watched: Watched) -> None:
    path = ("messages", -1, "content")
    watched.document.append_text(path, "1")
    watched.document.set(("messages", 2), {"content": ""})
    watched.document.append_text(path, "2")
    watched.document.delete(("messages", 2))
    watched.document.append_text(path, "3")
    watched.document.splice(("messages",), 0, 1, [])
    watched.document.append_text(path, "4")
    assert watched.state["messages"] == [{"content": "b134"}]
    watched.cut()


APPEND_REFUSALS: list[tuple[Path, str, str]] = [
    (("nothing",), "path-missing", "state.nothing"),
    (("nothing", "deeper"), "path-missing", "state.nothing"),
    (("messages", 0, "nothing"), "path-missing", "state.messages.0.nothing"),
    (("messages", 2), "index-out-of-range", "state.messages.2"),
    (("messages", 2, "content"), "index-out-of-range", "state.messages.2"),
    (("messages", -3, "content"), "invalid-path", "state.messages.-3"),
    (("messages", "-1", "content"), "invalid-path", "state.messages.-1"),
    (("messages", "01", "content"), "invalid-path", "state.messages.01"),
    (("messages", "x"), "invalid-path", "state.messages.x"),
    (("messages", ""), "invalid-path", "state.messages."),
    (("n",), "not-a-string", "state.n"),
    (("none",), "not-a-string", "state.none"),
    (("messages",), "not-a-string", "state.messages"),
    (("messages", 0), "not-a-string", "state.messages.0"),
    ((), "not-a-string", "state"),
    (("messages", 0, "content", 0), "invalid-path", "state.messages.0.content"),
    (("messages", 0, "content", "x"), "invalid-path", "state.messages.0.content"),
    (("texts", 0, 0), "invalid-path", "state.texts.0"),
    (("n", "x"), "invalid-path", "state.n"),
    (("none", "x"), "invalid-path", "state.none"),
    (("__proto__",), "forbidden-key", "state.__proto__"),
]


@pytest.mark.parametrize(("path", "code", "field"), APPEND_REFUSALS)
def test_text_can_be_appended_to_a_string_only(watched: Watched, path: Path, code: str, field: str) -> None:
    for spelled in (path, list(path)):
        for text in ("text", ""):
            with watched.refused(code, field):
                watched.document.append_text(spelled, text)


@pytest.mark.parametrize("segment", [True, 1.0, None, ("texts",), slice(0, 1), b"texts"])
def test_what_is_no_segment_is_refused(watched: Watched, segment: Any) -> None:
    edits: list[Callable[[Any], object]] = [
        lambda path: watched.document.append_text(path, "text"),
        lambda path: watched.document.set(path, 1),
        lambda path: watched.document.delete(path),
        lambda path: watched.document.splice(path, 0, 0, []),
    ]
    for path in ([segment, "x"], [segment], ("texts", segment), ["messages", segment, "content"]):
        for edit in edits:
            with pytest.raises(InvalidOperation) as refusal:
                edit(path)
            assert refusal.value.code == "invalid-path"
    assert watched.cut() == []


@pytest.mark.parametrize(
    ("text", "code"),
    [(None, "not-a-string"), (1, "not-a-string"), (b"x", "not-a-string"), ("a\ud800", "invalid-unicode")],
)
def test_only_text_can_be_appended(watched: Watched, text: Any, code: str) -> None:
    paths: list[Any] = [("texts", 0), ["texts", 0], ("messages", -1, "content")]
    for path in paths:
        field = "state.texts.0" if "texts" in path else "state.messages.-1.content"
        with watched.refused(code, field):
            watched.document.append_text(path, text)
        watched.document.append_text(path, "now the place is known")
        with watched.refused(code, field):
            watched.document.append_text(path, text)


def test_a_str_subclass_is_appended_as_what_it_spells(watched: Watched) -> None:
    watched.document.append_text(("texts", 0), Segment("é"))
    assert watched.cut() == [AppendText(("texts", 0), "é")]
    assert type(watched.state["texts"][0]) is str


def test_text_is_appended_to_a_state_that_is_a_string() -> None:
    watched = Watched("a")
    watched.document.append_text((), "b")
    watched.document.append_text((), "")
    watched.document.append_text([], "é")
    assert watched.cut() == [Set((), "abé")]
    with watched.refused("invalid-unicode", "state"):
        watched.document.append_text((), "\ud800")
    with watched.refused("not-a-string", "state"):
        watched.document.append_text((), 5)  # type: ignore[arg-type]


REFUSALS: list[tuple[Callable[[Document], object], str, str]] = [
    (lambda d: d.set(("nothing", "x"), 1), "path-missing", "state.nothing"),
    (lambda d: d.set(("texts", 3), 1), "index-out-of-range", "state.texts.3"),
    (lambda d: d.set(("texts", -3), 1), "invalid-path", "state.texts.-3"),
    (lambda d: d.set(("texts", 0, 0), 1), "invalid-path", "state.texts.0"),
    (lambda d: d.set(("none", "x"), 1), "invalid-path", "state.none"),
    (lambda d: d.set(("constructor",), 1), "forbidden-key", "state.constructor"),
    (lambda d: d.set(("prototype", "x"), 1), "forbidden-key", "state.prototype"),
    (lambda d: d.set(("\ud800",), 1), "invalid-unicode", "state"),
    (lambda d: d.set(("messages", 0, "\ud800"), 1), "invalid-unicode", "state.messages.0"),
    (lambda d: d.set(("x",), {1}), "unsupported-type", "state.x"),
    (lambda d: d.set(("texts", -1), [float("inf")]), "not-finite", "state.texts.1.0"),
    (lambda d: d.set((), {"a": {2: 1}}), "invalid-key", "state.a"),
    (lambda d: d.delete(()), "invalid-path", "state"),
    (lambda d: d.delete(("nothing",)), "path-missing", "state.nothing"),
    (lambda d: d.delete(("texts", 2)), "index-out-of-range", "state.texts.2"),
    (lambda d: d.delete(("texts", 0, 0)), "invalid-path", "state.texts.0"),
    (lambda d: d.splice((), 0, 0, [1]), "invalid-path", "state"),
    (lambda d: d.splice(("n",), 0, 0, [1]), "invalid-path", "state.n"),
    (lambda d: d.splice(("texts",), 3, 0, [1]), "index-out-of-range", "state.texts"),
    (lambda d: d.splice(("texts",), -1, 0, [1]), "index-out-of-range", "state.texts"),
    (lambda d: d.splice(("texts",), 1, 2, [1]), "index-out-of-range", "state.texts"),
    (lambda d: d.splice(("texts",), 1, -1, [1]), "index-out-of-range", "state.texts"),
    (lambda d: d.splice(("texts",), 1, 0, [1, "\ud800"]), "invalid-unicode", "state.texts.2"),
    (lambda d: d.replace({"a": [2**53]}), "integer-range", "state.a.0"),
    (lambda d: d.edit(Delete(("nothing",))), "path-missing", "state.nothing"),
]


@pytest.mark.parametrize(("edit", "code", "field"), REFUSALS)
def test_an_edit_that_does_not_fit_changes_nothing(
    watched: Watched, edit: Callable[[Document], object], code: str, field: str
) -> None:
    with watched.refused(code, field):
        edit(watched.document)


def test_errors_about_unspeakable_keys_can_be_sent(watched: Watched) -> None:
    for path in (("\ud800",), ("\ud800", "x"), ["texts", "\udfff"]):
        with pytest.raises(Refused) as refusal:
            watched.document.append_text(path, "x")
        msgspec.json.encode(refusal.value.info)


# sizes


def test_depth_is_bounded_from_the_root() -> None:
    watched = Watched({"a": {"b": [0]}}, max_depth=4)
    watched.document.set(("a", "b", 0), {})
    watched.document.set(("a", "c"), [[]])
    watched.document.set((), {"a": {"b": [{}]}})
    with watched.refused("too-deep", "state.a.b.0.k"):
        watched.document.set(("a", "b", 0), {"k": []})
    with watched.refused("too-deep", "state.a.b.1.0"):
        watched.document.splice(("a", "b"), 1, 0, [[[]]])
    with watched.refused("too-deep", "state.a.b.0.c"):
        watched.document.set(("a", "b", 0, "c"), {})
    with watched.refused("too-deep", "state.0.0.0.0"):
        watched.document.replace([[[[[]]]]])


@pytest.mark.parametrize(
    "edit",
    [
        lambda d: d.append_text(("text",), "x" * 11),
        lambda d: d.append_text(("text",), "é" * 6),
        lambda d: d.append_text(["text"], "x" * 11),
        lambda d: d.set(("text",), "0123456789" + "x" * 11),
        lambda d: d.set(("keys",), "x"),
        lambda d: d.set(("list", 1), "12345678"),
        lambda d: d.set(("list", 0), {"12345": 1}),
        lambda d: d.splice(("list",), 0, 1, [1, "12345678"]),
        lambda d: d.splice(("list",), 0, 0, [1, 1]),
        lambda d: d.set((), {"text": "0123456789", "list": [1], "mores": ""}),
        lambda d: d.replace({"text": "0123456789", "list": [1, 1, 1]}),
        lambda d: Draft(d).root().update(text="", list=[1, 2, 3, 4]),
        lambda d: Draft(d).root()["list"].extend([1, 1]),
    ],
)
def test_a_state_beyond_its_limit_is_refused(edit: Callable[[Document], object]) -> None:
    state = {"text": "0123456789", "list": [1]}
    watched = Watched(state, max_bytes=measure(state) + 10)
    with watched.refused("state-too-large", "state"):
        edit(watched.document)
    watched.document.append_text(("text",), "x" * 10)
    with watched.refused("state-too-large", "state"):
        watched.document.append_text(("text",), "x")
    watched.document.delete(("list",))
    watched.document.append_text(("text",), "x")
    watched.cut()


def test_a_state_beyond_its_limit_can_be_made_smaller_but_no_larger() -> None:
    state = {"a": "x" * 100, "b": "y" * 100}
    watched = Watched(state, max_bytes=50)
    with watched.refused("state-too-large", "state"):
        watched.document.append_text(("a",), "x")
    with watched.refused("state-too-large", "state"):
        watched.document.set(("c",), None)
    watched.document.set(("a",), "x" * 90)
    watched.document.replace({"a": "x" * 80, "b": "y" * 90})
    watched.document.delete(("a",))
    watched.cut()


def test_a_replaced_state_may_be_larger_on_the_way() -> None:
    text = "so long that the whole state would cost more " * 20
    state = {"text": text, "a": ["x" * 100], "b": []}
    watched = Watched(state, max_bytes=measure(state))
    watched.document.replace({"b": ["y" * 100], "a": [], "text": text})
    assert len(watched.cut()) == 2
    with watched.refused("state-too-large", "state"):
        watched.document.replace({"b": ["y" * 101], "a": [], "text": text})
    with watched.refused("state-too-large", "state"):
        watched.document.append_text(("b", 0), "y")


def test_a_value_that_unfolds_without_end_is_refused() -> None:
    bomb: object = []
    for _ in range(60):
        bomb = [bomb, bomb]
    watched = Watched({"list": []}, max_bytes=10_000)
    with watched.refused("state-too-large", "state"):
        watched.document.set(("list", 0), bomb)
    with watched.refused("state-too-large", "state"):
        watched.document.replace(bomb)


def test_a_value_that_edits_the_state_while_it_is_copied_is_refused(watched: Watched) -> None:
    class Meddler(UserDict[str, int]):
        def items(self) -> Any:
            watched.root["n"] += 1
            return super().items()

    edits: list[Callable[[], object]] = [
        lambda: watched.document.set(("x",), [Meddler(a=1)]),
        lambda: watched.root["texts"].insert(0, Meddler(a=1)),
        lambda: watched.root.update(a=1, b=Meddler(a=1)),
        lambda: watched.draft.replace({"a": Meddler(a=1)}),
    ]
    for edit in edits:
        n = watched.state["n"]
        with pytest.raises(RuntimeError, match="changed by a value"):
            edit()
        assert watched.state["n"] == n + 1
        watched.cut()


def spelled_out(state: Json) -> Iterator[tuple[str, ...]]:
    """The paths of all containers, all segments as strings."""
    for path, value in places(state):
        if type(value) in (dict, list):
            yield tuple(map(str, path))


@settings(max_examples=200, deadline=None)
@given(states_with_operations(max_size=12), st.data())
def test_operations_made_as_edits_give_the_state_they_describe(
    state_and_operations: tuple[Json, list[Operation]], data: st.DataObject
) -> None:
    state, operations = state_and_operations
    watched = Watched(state)
    for operation in operations:
        expected = apply(watched.state, [operation])
        try:
            watched.document.edit(operation)
        except InvalidOperation:
            # Only a set makes the parents it misses when it is applied; an edit never does.
            assert isinstance(operation, Set)
            assert tuple(map(str, operation.path[:-1])) not in spelled_out(watched.state)
            break
        assert watched.state == expected
        watched.check_size()
        if data.draw(st.booleans()):
            watched.cut()
    watched.cut()


@given(values, values)
def test_replace_makes_the_state_equal_and_records_the_way(old: Json, new: Json) -> None:
    watched = Watched(old)
    watched.document.replace(new)
    assert watched.state == new
    watched.cut()
    watched.document.replace(new)
    assert watched.cut() == []


def test_replace_records_only_what_differs(watched: Watched) -> None:
    state = watched.root.value()
    state["messages"][1]["content"] += "token"
    state["texts"].append("z")
    watched.document.replace(state)
    assert watched.cut() == [
        AppendText(("messages", 1, "content"), "token"),
        Set(("texts", 2), "z"),
    ]
    state["texts"].append("not in the state")
    assert watched.state["texts"] == ["x", "y", "z"]


def test_replace_keeps_the_root_keys_it_is_told_to(watched: Watched) -> None:
    keep = frozenset(("n", "texts", "never there"))
    watched.document.replace({"n": 2, "never there": 3, "new": 1}, keep=keep)
    assert watched.state == {"n": 1, "texts": ["x", "y"], "new": 1}
    with watched.refused("reserved-key", "state"):
        watched.document.replace([], keep=keep)
    watched.document.replace([], keep=frozenset(("never there",)))
    assert watched.state == []
    watched.cut()


# cutting


def test_the_first_edit_after_a_cut_is_told_of(watched: Watched) -> None:
    assert not watched.document.dirty
    for number in range(1, 4):
        for _ in range(3):
            watched.document.append_text(("texts", 0), "t")
            watched.root["n"] += 1
        assert watched.written == number
        assert watched.cut()
    assert watched.document.writes == 18
    assert watched.cut() == []


def test_reading_and_encoding_leave_nothing_to_cut(watched: Watched) -> None:
    assert msgspec.json.decode(watched.document.encode("json")) == watched.state
    assert msgspec.msgpack.decode(watched.document.encode("msgpack")) == watched.state
    _ = watched.root["messages"][0]["content"], list(watched.root), repr(watched.root)
    assert not watched.document.dirty


# growing in place


def leaf_is_free(document: Document, path: Path) -> bool:
    """Whether only its container has the string at `path`."""
    container: Any = document.root
    for segment in path[:-1]:
        container = container[segment]
    alone = ["".join(["a", "b"])]
    return sys.getrefcount(container[path[-1]]) == sys.getrefcount(alone[0])


def grow_by_path(watched: Watched) -> None:
    watched.document.append_text(("messages", -1, "content"), "t")


def grow_by_list_path(watched: Watched) -> None:
    watched.draft.append_text(["messages", 0, "content"], "t")


def grow_by_node(watched: Watched) -> None:
    watched.root["messages"][0].append_text("content", "t")


@pytest.mark.skipif(sys.implementation.name != "cpython", reason="CPython grows strings in place")
@pytest.mark.parametrize("grow", [grow_by_path, grow_by_list_path, grow_by_node])
@pytest.mark.parametrize(
    "before",
    [
        lambda watched: None,
        lambda watched: watched.root["messages"].__setitem__(0, {"content": "x" * 1_000_000}),
        lambda watched: watched.root["messages"][0].__setitem__("content", "y" * 1_000_000),
        lambda watched: watched.root["messages"].insert(0, {"content": "x" * 1_000_000}),
        lambda watched: watched.root["messages"].extend([1, {"content": "x" * 1_000_000}]),
        lambda watched: watched.root["messages"].reverse(),
        lambda watched: watched.draft.replace({"messages": [{"content": "x" * 1_000_001}]}),
        lambda watched: watched.document.set((), {"messages": [{"content": "x" * 1_000_000}]}),
        lambda watched: watched.root["messages"][0].__setitem__(
            "content", watched.root["messages"][0]["content"] + "t"
        ),
    ],
)
@pytest.mark.parametrize("cut", [False, True])
def test_a_token_on_a_megabyte_costs_no_copy(
    before: Callable[[Watched], object], grow: Callable[[Watched], None], cut: bool
) -> None:
    watched = Watched({"messages": [{"content": "x" * 1_000_000}]})
    before(watched)
    watched.replica = None
    path = ("messages", 0, "content")
    if not isinstance(watched.state["messages"][-1], dict) or len(watched.state["messages"]) > 1:
        watched.root["messages"][:] = watched.root["messages"][:1]
    if cut:
        watched.document.cut()
    grow(watched)  # the log's copy of what was set may part from the state here
    tracemalloc.start()
    try:
        grow(watched)
        tracemalloc.reset_peak()
        held, _ = tracemalloc.get_traced_memory()
        for _ in range(100):
            if cut:
                encode_log(watched.document.cut())
            grow(watched)
            assert leaf_is_free(watched.document, path)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak - held < 100_000


def test_parallel_streams_find_their_leaves_again() -> None:
    watched = Watched({"parts": [{"text": ""} for _ in range(100)]})
    for round_ in range(3):
        for number in range(100):
            watched.document.append_text(("parts", number, "text"), str(round_))
    operations = watched.cut()
    assert operations == [AppendText(("parts", number, "text"), "012") for number in range(100)]


# one document, several threads


def public_methods(kind: type) -> set[str]:
    return {
        name
        for name, member in inspect.getmembers(kind)
        if not name.startswith("_") and inspect.isfunction(member)
    }


class NotedLock:
    def __init__(self) -> None:
        self.entered = 0

    def __enter__(self) -> None:
        self.entered += 1

    def __exit__(self, *_: object) -> None:
        pass


CALLS: dict[str, tuple[Any, ...]] = {
    "append_text": (("t",), "x"),
    "check_loans": (),
    "cut": (),
    "delete": (("t",),),
    "edit": (Set(("t",), 1),),
    "encode": ("json",),
    "put": ({}, "t", 1, (), True),
    "put_all": ({}, [("t", 1)], (), True),
    "put_root": ({},),
    "remove": ({"t": 1}, "t", (), True),
    "reorder": ([1], [1], [1], (), True),
    "replace": ({},),
    "replace_items": ([1], 0, 1, [], (), True),
    "set": (("t",), 1),
    "splice": (("l",), 0, 0, []),
    "take": ({"t": 1}, "t", (), True),
}


def test_every_method_of_a_locked_document_takes_the_lock() -> None:
    methods = public_methods(LockedDocument)
    assert methods == public_methods(Document) == {*CALLS, "elsewhere"}
    for name, arguments in CALLS.items():
        document: Any = LockedDocument({"t": "", "l": []})
        document.lock = NotedLock()
        getattr(document, name)(*arguments)
        assert document.lock.entered, name


@pytest.fixture
def eager_threads() -> Iterator[None]:
    """Threads take turns far more often than they would."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        yield
    finally:
        sys.setswitchinterval(interval)


def in_threads(cutter: Callable[[], None], *workers: Callable[[], None]) -> None:
    """Runs the workers in threads, and the cutter over and over as long as they do."""
    errors: list[BaseException] = []

    def guarded(worker: Callable[[], None]) -> None:
        try:
            worker()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=guarded, args=(worker,), daemon=True) for worker in workers]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads) and not errors:
        cutter()
    for thread in threads:
        thread.join(timeout=30)
        assert not thread.is_alive()
    cutter()
    assert errors == []


@pytest.mark.usefixtures("eager_threads")
def test_a_worker_thread_writes_while_the_loop_cuts() -> None:
    document = LockedDocument({"messages": [], "texts": [], "meta": {"n": 0}})
    draft = Draft(document)
    replica = msgspec.msgpack.decode(document.encode("msgpack"))
    snapshots: list[bytes] = []

    def cut() -> None:
        nonlocal replica
        document.check_loans()
        replica = apply(replica, decode_log(encode_log(document.cut())))
        with document.lock:
            if not document.dirty:
                snapshots.append(document.encode("msgpack"))
                assert msgspec.msgpack.decode(snapshots.pop()) == replica

    def work() -> None:
        for number in range(400):
            messages = draft.root()["messages"]
            messages.append({"content": "", "parts": []})
            messages[-1]["parts"].append({"text": ""})
            for _ in range(5):
                draft.append_text(("messages", -1, "content"), "a")
                messages[-1]["content"] += "b"
                messages[-1]["parts"][0].append_text("text", "t")
            messages[-1]["parts"].insert(0, {"n": number})
            document.splice(("texts",), 0, 0, ["x"])
            draft.root()["texts"][0] += "y"
            document.set(("slot",), {"n": [number]})
            document.set(("slot", "n", 1), number)
            document.delete(("slot", "n", 0))
            if number % 50 == 0:
                draft.replace({**draft.root().value(), "slot": [number]})
            draft.root()["meta"]["n"] += 1
            draft.root()["meta"].update(last=number, half=number / 2)
            if number % 10 == 9:
                messages.reverse()
                del messages[2:]

    in_threads(cut, work)
    assert same(replica, document.root)
    assert document.size == measure(document.root)
    assert replica["meta"] == {"n": 400, "last": 399, "half": 199.5}
    assert replica["texts"] == ["xy"] * 400
    assert replica["slot"] == {"n": [399]}
    assert {message["content"] for message in replica["messages"]} == {"ab" * 5}


@pytest.mark.usefixtures("eager_threads")
def test_edits_of_several_threads_are_each_whole() -> None:
    document = LockedDocument({"list": [], "text": "", "counts": {}})
    replica: Json = {"list": [], "text": "", "counts": {}}

    def cut() -> None:
        nonlocal replica
        replica = apply(replica, decode_log(encode_log(document.cut())))

    def worker(name: str) -> Callable[[], None]:
        def work() -> None:
            root = Draft(document).root()
            for number in range(500):
                root["list"].append([name, number])
                root.append_text("text", name)
                document.append_text(("text",), name)
                root["counts"].setdefault(name, []).append(number)
                if number % 2:
                    root["list"].insert(0, name)
                    root["list"].remove(name)

        return work

    in_threads(cut, worker("a"), worker("b"))
    assert same(replica, document.root)
    assert document.size == measure(document.root)
    assert sorted(replica["text"]) == ["a"] * 1000 + ["b"] * 1000
    assert replica["counts"] == {"a": list(range(500)), "b": list(range(500))}
    assert [item for item in replica["list"] if item[0] == "a"] == [["a", n] for n in range(500)]
    assert [item for item in replica["list"] if item[0] == "b"] == [["b", n] for n in range(500)]


def test_what_a_locked_document_cuts_is_free_of_the_state() -> None:
    document = LockedDocument({"list": [0]})
    document.set(("new",), {"text": ""})
    document.splice(("list",), 0, 1, [{"text": ""}, 1])
    operations = document.cut()
    document.append_text(("new", "text"), "later")
    document.append_text(("list", 0, "text"), "later")
    assert operations == [Set(("new",), {"text": ""}), Splice(("list",), 0, 1, [{"text": ""}, 1])]


def test_refusals_are_of_the_kinds_that_are_documented(watched: Watched) -> None:
    with pytest.raises(InvalidOperation):
        watched.document.append_text(("n",), "x")
    with pytest.raises(InvalidValue):
        watched.document.set(("n",), b"")
