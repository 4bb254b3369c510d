"""Views behave as the dicts and lists they show: the same results, the same exceptions, the same order."""

from __future__ import annotations

import copy
import enum
import sys
from collections.abc import Callable, Iterable, Iterator, MutableMapping, MutableSequence
from functools import partial
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.documents import Watched, same
from threadwire.core.draft import Draft
from threadwire.core.errors import Refused, RunEnded
from threadwire.core.operations import AppendText, Delete, Json, Set, Splice
from threadwire.core.values import Wrapper

DICT: dict[str, Any] = {"a": 1, "b": {"x": [1]}, "c": [1, {"y": 2}], "text": "é", "none": None}
LIST: list[Any] = ["x", {"id": 1}, [1, 2], "y", {"id": 0}, "x", None, 5]
NUMBERS: list[Any] = [3, 1, 2, 1, 5, 4]


class Key(str, enum.Enum):  # noqa: UP042 - not the same as StrEnum
    A = "a"
    B = "b"


class Index:
    def __init__(self, index: int) -> None:
        self._index = index

    def __index__(self) -> int:
        return self._index


def plain(value: Any) -> Any:
    """What a result comes down to: views and iterators as what they show."""
    if isinstance(value, Wrapper):
        return plain(value.value())
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, str | bytes):
        return value
    if isinstance(value, tuple):
        return tuple(plain(item) for item in value)
    if isinstance(value, Iterable):
        return [plain(item) for item in value]
    return value


def outcome(code: str, target: Any) -> Any:
    """What a line of code gives or raises."""
    names = {"d": target, "copy": copy, "sys": sys, "Key": Key, "Index": Index, "iter": iter}
    try:
        try:
            expression = compile(code, "line", "eval")
        except SyntaxError:
            exec(compile(code, "line", "exec"), names)
            return None
        return plain(eval(expression, names))
    except Exception as error:
        return type(error)


def agree(code: str, start: Any) -> None:
    """The line does to a view, wherever it is, what it does to the real thing."""
    real = copy.deepcopy(start)
    expected = outcome(code, real)
    places: list[tuple[Json, Callable[[Any], Any]]] = [
        (start, lambda root: root),
        ({"k": start}, lambda root: root["k"]),
        ([0, [start]], lambda root: root[1][0]),
    ]
    for state, find in places:
        for fresh in (False, True):
            watched = Watched({} if fresh and isinstance(state, dict) else [] if fresh else state)
            if fresh:
                watched.draft.replace(state)
            view = find(watched.root)
            assert same(outcome(code, view), expected), code
            assert same(plain(view), real), code
            assert same(plain(find(watched.root)), real), code
            watched.cut()


@pytest.mark.parametrize(
    "code",
    [
        # reading
        "d['a'], d['b'], d['c'][1]['y']",
        "d['nothing']",
        "d[1]",
        "d[None]",
        "d[[]]",
        "d[Key.A], d[Key.B]",
        "d.get('a'), d.get('b'), d.get('nothing'), d.get('nothing', 5), d.get(1)",
        "d.get([])",
        "d.get()",
        "'a' in d, 'nothing' in d, 1 in d, None in d, Key.A in d",
        "[] in d",
        "len(d), bool(d)",
        "list(d), [*d], tuple(d), sorted(d), max(d)",
        "list(reversed(d))",
        "list(d.keys()), list(d.values()), list(d.items())",
        "list(reversed(d.keys())), list(reversed(d.values())), list(reversed(d.items()))",
        "len(d.keys()), len(d.values()), len(d.items())",
        "'a' in d.keys(), 1 in d.values(), ('a', 1) in d.items(), ('a', 2) in d.items(), 9 in d.values()",
        "sorted(d.keys() & {'a', 'q'}), sorted(d.keys() | {'q'}), sorted(d.keys() - {'a'})",
        "dict(d), {**d}",
        "[key for key, value in d.items() if isinstance(value, int)]",
        "[type(key) for key in d]",
        "d == {}, d == dict(d), dict(d) == d, d != {}, d == 5, d != None, d == [], d == d",
        "d == {**d, 'a': True}, d == {**d, 'a': 2}",
        "d['b'] == {'x': [1]}, {'x': [1]} == d['b'], d['b'] == d['b'], d['b'] != d['c']",
        "d < {}",
        "d < d",
        "hash(d)",
        "d + {}",
        "d | {'a': 2, 'z': 1}, {'a': 2, 'z': 1} | d, d | d",
        "d | [('z', 1)]",
        "[('z', 1)] | d",
        "d | 5",
        "d.copy()",
        "copy.copy(d), copy.deepcopy(d)",
        "str(d['b']), repr(d['c']), f'{d}'",
        "d.nothing",
        "d.append(1)",
        # putting
        "d['a'] = 2",
        "d['new'] = {'k': [1, {}]}",
        "d['b'] = None",
        "d['b']['x'] = 'y'",
        "d['b']['x'] += [2, 3]",
        "d['b']['x'] *= 2",
        "d['b']['x'] *= 0",
        "d['b'] |= {'z': 1}",
        "d['a'] += 1",
        "d['a'] -= 0.5",
        "d['a'] += 'x'",
        "d['text'] += 'ü€😀'",
        "d['text'] += ''",
        "d['text'] = 'é'",
        "d['text'] = 'éa'",
        "d['text'] = ''",
        "d['text'] *= 3",
        "d['none'] += 1",
        "d[Key.A] = 7",
        "d[Key.B]['x'] = 7",
        "d['c'], d['a'] = 1, 2",
        "d['b'], d['c'] = 1, [2]",
        "d.setdefault('a'), d.setdefault('new'), d.setdefault('other', [1]), d.setdefault('b', 5)",
        "d.setdefault('list', []).append(1)",
        "d.setdefault([], 1)",
        "d.setdefault()",
        "d.update({'a': 2, 'b': 3})",
        "d.update(a=2, z={'k': 1}, other=3, self=4)",
        "d.update([('a', 2), ['z', 3]], b=5)",
        "d.update([('a', 1), ('a', 2)])",
        "d.update(iter([('a', 2)]))",
        "d.update()",
        "d.update({})",
        "d.update(d)",
        "d.update(d['b'])",
        "d.update(d['b'], a=d['c'])",
        "d.update(None)",
        "d.update(5)",
        "d.update(['ab', 'cd'])",
        "d.update(['abc'])",
        "d.update([1])",
        "d.update({}, {})",
        "d |= {'a': 5}",
        "d |= [('z', 1)]",
        "d |= 5",
        # removing
        "del d['a']",
        "del d['b']['x'], d['b']",
        "del d['nothing']",
        "del d[1]",
        "del d[[]]",
        "del d[Key.A]",
        "d.pop('a')",
        "d.pop('b')",
        "d.pop(Key.B)['x']",
        "d.pop('nothing')",
        "d.pop('nothing', None), d.pop('nothing', []), d.pop('a', 5)",
        "d.pop(1, 2)",
        "d.pop()",
        "d.popitem()",
        "d.popitem(), d.popitem(), d.popitem(), d.popitem(), d.popitem()",
        "[d.popitem() for _ in range(6)]",
        "d.clear()",
        "d.clear(); d.popitem()",
        "d.clear(); d['a'] = 1",
        "d['z'] = d.pop('a'); d['b'] = d.pop('b')",
        "[d.pop(key) for key in list(d)]",
        "for key in d: d[key] = 0",
        "for key in d: del d[key]",
        "for key in d: d[key + '!'] = 1",
        "for value in d.values(): d.clear()",
        "for key, value in d.items(): d['a'] = key",
        "it = iter(d); next(it); d['q'] = 1; next(it)",
    ],
)
def test_a_view_of_a_dict_is_like_a_dict(code: str) -> None:
    agree(code, DICT)
    agree(code, {})


@pytest.mark.parametrize(
    "code",
    [
        # reading
        "d[0], d[1], d[-1], d[7], d[-8], d[2][1]",
        "d[8]",
        "d[-9]",
        "d[True], d[False]",
        "d[Index(1)], d[Index(-1)]",
        "d[Index(99)]",
        "d['0']",
        "d[None]",
        "d[1.0]",
        "d[:], d[1:3], d[-3:], d[:-2], d[5:2], d[99:], d[-99:2]",
        "d[::2], d[::-1], d[5:0:-2], d[-2:1:-1], d[::99], d[Index(1):Index(3)]",
        "d[::0]",
        "d['a':]",
        "[item for item in d], list(d), [*d], tuple(d)",
        "list(reversed(d)), list(enumerate(d)), list(zip(d, d))",
        "len(d), bool(d)",
        "'x' in d, {'id': 1} in d, [1, 2] in d, None in d, 'nothing' in d, 5.0 in d, True in d",
        "d.index('x'), d.index({'id': 0}), d.index([1, 2]), d.index(5), d.index(None)",
        "d.index('nothing')",
        "d.index('x', 1), d.index('x', -3), d.index('x', 0, 1), d.index('x', -99, 99)",
        "d.index('x', 1, 5)",
        "d.index('y', 0, -5)",
        "d.index()",
        "d.count('x'), d.count({'id': 1}), d.count('nothing'), d.count(5)",
        "d == list(d), list(d) == d, d == [], d != [], d == 5, d == tuple(d), d == d, d != d",
        "d[2] < [1, 3], d[2] <= [1, 2], d[2] > [1], d[2] >= [2], [0] < d[2], [1, 2] >= d[2], d[2] < d[2]",
        "d < 5",
        "d < (1,)",
        "5 < d",
        "d >= {}",
        "d < [1]",
        "hash(d)",
        "d + [1], [1] + d, d + d, d[2] + d[2]",
        "d + (1,)",
        "(1,) + d",
        "d + 'ab'",
        "d + None",
        "d * 2, 2 * d, d * 0, d * -1, d * True, d * Index(2)",
        "d * 1.5",
        "d * 'a'",
        "d * d",
        "d.copy(), copy.copy(d), copy.deepcopy(d)",
        "str(d), repr(d), f'{d}'",
        "min(d[2]), max(d[2]), sum(d[2]), sorted(d[2], reverse=True), any(d), all(d)",
        "d.nothing",
        "d.keys()",
        # putting
        "d[0] = 'z'",
        "d[-1] = {'k': []}",
        "d[8] = 1",
        "d[-9] = 1",
        "d['0'] = 1",
        "d[True] = 'second'",
        "d[0] += 'more'",
        "d[7] += 1",
        "d[1] += 1",
        "d[2] += [3]",
        "d[2] += 'ab'",
        "d[2] += 5",
        "d[2] *= 3",
        "d[1] |= {'k': 1}",
        "d[1]['id'] += 1",
        "d[1], d[2] = 1, 2",
        "d[0], d[-1] = d[-1], d[0]",
        "d += [1, [2]]",
        "d += ()",
        "d += 'ab'",
        "d += {'k': 1}",
        "d += d",
        "d += 5",
        "d *= 2",
        "d *= 0",
        "d *= -5",
        "d *= 1",
        "d *= 1.5",
        "d.append('z')",
        "d.append([1]); d[-1].append(2); d.append({}); d[-1]['k'] = 1",
        "d.append(d[1])",
        "d.append()",
        "d.append(1, 2)",
        "d.extend([1, {}, []])",
        "d.extend([1])",
        "d.extend([])",
        "d.extend(iter([1, 2]))",
        "d.extend(x for x in d[2])",
        "d.extend('ab')",
        "d.extend({'k': 1})",
        "d.extend(d)",
        "d.extend(d[1:3])",
        "d.extend(5)",
        "d.extend(None)",
        "d.insert(0, 'z')",
        "d.insert(3, {'k': 1})",
        "d.insert(8, 'z')",
        "d.insert(99, 'z')",
        "d.insert(-1, 'z')",
        "d.insert(-99, [1])",
        "d.insert(True, 'z')",
        "d.insert(Index(2), 'z')",
        "d.insert(0, d[2])",
        "d.insert('a', 1)",
        "d.insert(None, 1)",
        "d.insert(1)",
        # slices
        "d[1:3] = ['z']",
        "d[1:3] = ['z', 'w']",
        "d[1:3] = [{}, [], {}]",
        "d[1:3] = []",
        "d[:] = []",
        "d[:] = [1, 2, 3]",
        "d[3:3] = [1, 2]",
        "d[5:2] = ['z', 'w']",
        "d[99:] = ['z']",
        "d[-99:-99] = ['z']",
        "d[0:0] = d",
        "d[2:4] = d[4:6]",
        "d[:] = d[::-1]",
        "d[1:2] = d[1:2]",
        "d[1:3] = 'abc'",
        "d[1:3] = iter([1, 2, 3])",
        "d[1:3] = {'k': 1}",
        "d[1:3] = 5",
        "d[1:3] = None",
        "d[1:3:1] = [1, 2, 3]",
        "d[::2] = [1, 2, 3, 4]",
        "d[::-1] = [1, 2, 3, 4, 5, 6, 7, {}]",
        "d[::-1] = d",
        "d[5:0:-2] = ['z', {}, []]",
        "d[::2] = d[1::2]",
        "d[::2] = [1]",
        "d[::2] = [1, 2, 3, 4, 5]",
        "d[::2] = 5",
        "d[::-1] = []",
        "d[5:2:2] = []",
        "d[5:2:2] = [1]",
        "d[::0] = [1]",
        "d['a':] = [1]",
        "d[:] += [1]",
        # removing
        "del d[0]",
        "del d[-1], d[-1]",
        "del d[8]",
        "del d[-9]",
        "del d['0']",
        "del d[1]['id']",
        "del d[:]",
        "del d[1:3]",
        "del d[5:2]",
        "del d[::2]",
        "del d[::-1]",
        "del d[::-2]",
        "del d[1:6:3]",
        "del d[5:1:-1]",
        "del d[99:], d[:1]",
        "del d[::0]",
        "d.pop()",
        "d.pop(0), d.pop(0), d.pop(-2)",
        "d.pop(8)",
        "d.pop(-9)",
        "d.pop('0')",
        "d.pop(None)",
        "d.pop(0, 1)",
        "d.pop(True)",
        "[d.pop() for _ in range(8)]",
        "[d.pop() for _ in range(9)]",
        "d.append(d.pop(0))",
        "d.insert(0, d.pop())",
        "d.remove('x')",
        "d.remove('x'); d.remove('x')",
        "d.remove({'id': 0})",
        "d.remove([1, 2])",
        "d.remove(5.0)",
        "d.remove('nothing')",
        "d.remove(d[4])",
        "d.remove()",
        "d.clear()",
        "d.clear(); d.append(1); d.pop()",
        # ordering
        "d.reverse()",
        "d.reverse(1)",
        "d.sort()",
        "d.sort(key=str)",
        "d.sort(key=lambda item: str(item), reverse=True)",
        "d.sort(key=lambda item: len(str(item)))",
        "d.sort(key=lambda item: 0, reverse=True)",
        "d.sort(str)",
        "d.sort(key=5)",
        "d.sort(key=lambda item: item['id'])",
        "d[2].sort(reverse=True)",
        # editing while iterating
        "[d.append(1) for item in d if len(d) < 20]",
        "[d.pop() for item in d]",
        "[d.remove(item) for item in d if isinstance(item, str)]",
        "[d.insert(0, 1) for item in d if len(d) < 12]",
        "[d.pop() for item in reversed(d)]",
        "[d.append(1) for item in reversed(d)]",
        "it = iter(d); list(it); d.append(1); d[0] = list(it)",
        "for i, item in enumerate(d): d[i] = i",
    ],
)
def test_a_view_of_a_list_is_like_a_list(code: str) -> None:
    agree(code, LIST)
    agree(code, [])
    agree(code, NUMBERS)


def test_views_say_what_they_are() -> None:
    watched = Watched({"list": [{}]})
    assert isinstance(watched.root, MutableMapping)
    assert isinstance(watched.root["list"], MutableSequence)
    match watched.root:
        case {"list": [{}]}:
            pass
        case _:
            pytest.fail("patterns see through views")


def test_what_is_removed_is_plain() -> None:
    watched = Watched({"a": {"b": [1]}, "list": [{"c": [2]}, [3]], "z": {}})
    removed = [
        watched.root.popitem()[1],
        watched.root["list"].pop(),
        watched.root["list"].pop(0),
        watched.root.pop("a"),
        watched.root.value(),
        watched.root.copy(),
        watched.root["list"] * 1,
        watched.root["list"] + [],
        watched.root | {},
    ]
    assert [type(each) for each in removed] == [dict, list, dict, dict, dict, dict, list, list, dict]
    removed[3]["b"].append(2)
    removed[4]["list"].append(1)
    assert removed[3] == {"b": [1, 2]}
    watched.cut()
    assert watched.state == {"list": []}


# identity


def test_views_follow_their_containers_through_all_that_moves_them() -> None:
    watched = Watched({"list": [{"id": number} for number in range(6)]})
    items = watched.root["list"]
    views = list(items)
    items.insert(0, {"id": "new"})
    items.sort(key=lambda item: str(item["id"]), reverse=True)
    del items[2]
    items.reverse()
    items[1:1] = [{}, {}]
    items.pop(0)
    del items[-1]
    for number, view in enumerate(views):
        view["seen"] = number
    watched.cut()
    for number, view in enumerate(views):
        view["again"] = number
    watched.cut()
    found = [item for item in watched.state["list"] if "seen" in item]
    assert all(item == {"id": item["id"], "seen": item["id"], "again": item["id"]} for item in found)
    assert len(found) == 4
    assert all(view == {"id": n, "seen": n, "again": n} for n, view in enumerate(views))


def test_a_view_follows_an_edit_by_path() -> None:
    watched = Watched({"list": [{"text": ""}, {"text": ""}]})
    view = watched.root["list"][1]
    watched.document.splice(("list",), 0, 1, [])
    view["text"] += "here"
    watched.document.append_text(("list", 0, "text"), "!")
    assert view["text"] == "here!"
    watched.document.set(("list", 0), {"text": "other"})
    assert view["text"] == "here!"
    view["text"] += " in the void"
    watched.cut()
    assert watched.state == {"list": [{"text": "other"}]}


def test_views_of_one_container_are_one() -> None:
    watched = Watched({"list": [{"n": 1}]})
    a, b = watched.root["list"][0], Draft(watched.document).root()["list"][-1]
    a["n"] = 2
    assert a == b == {"n": 2}
    b["m"] = 3
    assert a == b == {"n": 2, "m": 3}
    assert watched.root["list"].index(b) == 0
    watched.cut()


def test_a_view_put_elsewhere_is_copied() -> None:
    watched = Watched({"a": {"n": [1]}, "list": []})
    a = watched.root["a"]
    watched.root["b"] = a
    watched.root["list"].append(a)
    watched.root["list"].extend([a, {"inner": a}])
    a["inside"] = a
    a["n"].append(2)
    watched.cut()
    assert watched.state == {
        "a": {"n": [1, 2], "inside": {"n": [1]}},
        "b": {"n": [1]},
        "list": [{"n": [1]}, {"n": [1]}, {"inner": {"n": [1]}}],
    }


def test_the_same_object_put_in_twice_is_two() -> None:
    watched = Watched({"list": []})
    item: dict[str, object] = {"tags": []}
    watched.root["list"].extend([item, item])
    watched.root["pair"] = [item, item]
    watched.root["list"][0]["tags"].append("a")
    watched.root["pair"][1]["tags"].append("b")
    watched.cut()
    assert watched.state == {
        "list": [{"tags": ["a"]}, {"tags": []}],
        "pair": [{"tags": []}, {"tags": ["b"]}],
    }
    assert item == {"tags": []}


def test_putting_a_container_where_it_is_leaves_it_there() -> None:
    watched = Watched({"list": [{"n": 1}, {"n": 2}], "d": {}})
    root = watched.root
    item, list_, d = root["list"][0], root["list"], root["d"]
    root["list"] = root["list"]
    root["d"] = d
    root["list"][0] = item
    root["list"][-2] = root["list"][0]
    root["list"][::2] = [item]
    root.update(d=d, list=list_)
    root |= {"d": d}
    root["list"] += []
    root["d"] |= {}
    assert not watched.document.dirty
    item["n"] = 5
    d["k"] = 1
    assert watched.cut() == [Set(("list", 0, "n"), 5), Set(("d", "k"), 1)]


def test_items_are_found_by_view_before_they_are_found_by_value() -> None:
    watched = Watched([{"n": 1}, {"n": 1}, {"n": 1}])
    root = watched.root
    last = root[2]
    assert root.index(last) == 2
    assert root.index(last, -1) == 2
    with pytest.raises(ValueError, match="not in list"):
        root.index({"n": 2})
    assert root.index(last, 0, 2) == 0  # not itself there, but its equal
    assert root.count(last) == 3
    root[0]["first"] = True
    root.remove(last)
    watched.cut()
    assert watched.state == [{"n": 1, "first": True}, {"n": 1}]
    assert root.index(last) == 1
    assert last in root


def test_containers_compare_by_what_is_in_them() -> None:
    watched = Watched({"a": [{"n": [1]}], "b": [{"n": [1]}]})
    a, b = watched.root["a"], watched.root["b"]
    assert a == b
    assert [a[0]] == b
    assert {"k": a[0]} == {"k": {"n": [1]}}
    assert a == [{"n": b[0]["n"]}]
    assert a[0]["n"] in b[0].values()
    b[0]["n"].append(2)
    assert a != b
    assert a[0] != b[0]
    assert a[0]["n"] < b[0]["n"] <= [1, 2]
    assert [1, 2] >= b[0]["n"] > a[0]["n"]


def test_sorting_gives_views_to_the_key_and_moves_containers() -> None:
    watched = Watched([{"rank": 2, "text": "b"}, {"rank": 1, "text": "a"}, {"rank": 2, "text": "c"}])
    second = watched.root[1]
    watched.root.sort(key=lambda item: item["rank"], reverse=True)
    second["text"] += "!"
    assert watched.cut() == [
        Set((), [{"rank": 2, "text": "b"}, {"rank": 2, "text": "c"}, {"rank": 1, "text": "a!"}])
    ]


def test_a_sort_whose_key_edits_the_list_is_refused() -> None:
    for edit in ("append", "replace"):
        watched = Watched({"list": [3, [2], 1]})
        items = watched.root["list"]

        def key(item: object, edit: str = edit, items: Any = items) -> str:
            if edit == "append":
                items.append(0)
            else:
                items[1] = [7]
            return str(item)

        with pytest.raises(ValueError, match="modified during sort"):
            items.sort(key=key)
        watched.check_size()
        watched.cut()


def test_a_sort_whose_key_fails_changes_nothing() -> None:
    watched = Watched([3, {"n": 2}, 1])
    with pytest.raises(TypeError):
        watched.root.sort()
    with pytest.raises(ZeroDivisionError):
        watched.root.sort(key=lambda item: 1 / 0)
    assert watched.cut() == []


def test_what_feeds_an_extend_may_edit_the_state_itself() -> None:
    watched = Watched({"list": [{"n": 0}], "outer": [[1]]})
    inner = watched.root["outer"][0]

    def items() -> Iterator[dict[str, int]]:
        for number in range(3):
            watched.root["list"].insert(0, {"n": 10 + number})
            watched.root["outer"].insert(0, [])
            yield {"n": number}

    watched.root["list"].extend(items())
    inner.extend(len(watched.root["outer"].value()) for _ in items())
    inner[1:1] = (item for item in items())
    watched.cut()
    assert inner == [1, {"n": 0}, {"n": 1}, {"n": 2}, 5, 6, 7]
    assert watched.state["list"][3:4] == [{"n": 12}]


# text


@pytest.mark.parametrize(
    ("state", "find", "path", "where"),
    [
        ({"text": "a"}, lambda root: root, "text", ("text",)),
        ({"m": [{"text": "a"}]}, lambda root: root["m"][-1], "text", ("m", 0, "text")),
        ({"m": [{"text": "a"}]}, lambda root: root["m"], (-1, "text"), ("m", 0, "text")),
        ({"m": [{"text": "a"}]}, lambda root: root, ["m", "0", "text"], ("m", 0, "text")),
        ({"m": ["x", "a"]}, lambda root: root["m"], -1, ("m", 1)),
        (["x", "a"], lambda root: root, 1, (1,)),
    ],
)
def test_a_node_takes_text_for_what_is_in_it(
    state: Json, find: Callable[[Any], Any], path: Any, where: tuple[Any, ...]
) -> None:
    watched = Watched(state)
    node = find(watched.root)
    for token in ("é", "", "b"):
        node.append_text(path, token)
    assert watched.cut() == [AppendText(where, "éb")]


def test_a_node_takes_text_after_it_moved() -> None:
    watched = Watched([{"text": ""}])
    node = watched.root[0]
    node.append_text("text", "1")
    watched.root.insert(0, {})
    node.append_text("text", "2")
    watched.root[0] = {"text": "other"}
    watched.root.reverse()
    node.append_text("text", "3")
    watched.cut()
    assert watched.state == [{"text": "123"}, {"text": "other"}]


def test_text_for_what_is_no_string_is_refused() -> None:
    watched = Watched({"m": [{"text": "a"}]})
    refusals: list[tuple[Any, Any, str, str]] = [
        (watched.root["m"][0], "nothing", "path-missing", "state.m.0.nothing"),
        (watched.root["m"][0], ("text", 0), "invalid-path", "state.m.0.text"),
        (watched.root["m"], 1, "index-out-of-range", "state.m.1"),
        (watched.root["m"], -2, "invalid-path", "state.m.-2"),
        (watched.root["m"], (), "not-a-string", "state.m"),
        (watched.root, (), "not-a-string", "state"),
    ]
    for node, path, code, field in refusals:
        with watched.refused(code, field):
            node.append_text(path, "text")
    with watched.refused("not-a-string", "state.m.0.text"):
        watched.root["m"][0].append_text("text", 5)
    with watched.refused("invalid-unicode", "state.m.0.text"):
        watched.root["m"][0]["text"] += "\ud800"


# refusals


@pytest.mark.parametrize(
    ("value", "code", "inner"),
    [
        (float("nan"), "not-finite", ""),
        (2**53, "integer-range", ""),
        ("\ud800", "invalid-unicode", ""),
        ({1, 2}, "unsupported-type", ""),
        (b"x", "unsupported-type", ""),
        ([1, {"k": (object(),)}], "unsupported-type", ".1.k.0"),
        ({"k": {5: 1}}, "invalid-key", ".k"),
        ({"k": {"__proto__": 1}}, "forbidden-key", ".k.__proto__"),
    ],
)
def test_what_no_state_may_hold_is_refused_by_every_way_in(value: Any, code: str, inner: str) -> None:
    watched = Watched({"d": {"a": 1}, "l": [1, 2, 3], "t": "x"})
    root = watched.root
    ways: list[tuple[Callable[[], object], str]] = [
        (lambda: root.__setitem__("a", value), "a"),
        (lambda: root["d"].__setitem__("a", value), "d.a"),
        (lambda: root["d"].setdefault("b", value), "d.b"),
        (lambda: root["d"].update({"a": 5, "b": 6, "c": value}), "d.c"),
        (lambda: root["d"].update(a=value), "d.a"),
        (lambda: root["d"].__ior__([("c", 1), ("b", value)]), "d.b"),
        (lambda: root["l"].__setitem__(-1, value), "l.2"),
        (lambda: root["l"].append(value), "l.3"),
        (lambda: root["l"].insert(1, value), "l.1"),
        (lambda: root["l"].extend([5, value]), "l.4"),
        (lambda: root["l"].extend([value]), "l.3"),
        (lambda: root["l"].__iadd__([5, 6, value]), "l.5"),
        (lambda: root["l"].__setitem__(slice(1, 2), [5, value]), "l.2"),
        (lambda: root["l"].__setitem__(slice(None, None, 2), [5, value]), "l.2"),
        (lambda: root["l"].__setitem__(slice(None, None, -1), [5, 6, value]), "l.0"),
        (lambda: watched.draft.replace({"d": {"a": 2}, "l": [value]}), "l.0"),
    ]
    for way, field in ways:
        with watched.refused(code, f"state.{field}{inner}"):
            way()


@pytest.mark.parametrize(
    ("key", "code", "field"),
    [
        (5, "invalid-key", "state.d"),
        (None, "invalid-key", "state.d"),
        ((1,), "invalid-key", "state.d"),
        ("\udc00", "invalid-unicode", "state.d"),
        ("__proto__", "forbidden-key", "state.d.__proto__"),
        ("constructor", "forbidden-key", "state.d.constructor"),
        ("prototype", "forbidden-key", "state.d.prototype"),
    ],
)
def test_what_can_be_no_key_is_refused_by_every_way_in(key: Any, code: str, field: str) -> None:
    watched = Watched({"d": {"a": 1}})
    d = watched.root["d"]
    ways: list[Callable[[], object]] = [
        lambda: d.__setitem__(key, 1),
        lambda: d.setdefault(key, 1),
        lambda: d.update({"a": 2, key: 1}),
        lambda: d.update([(key, 1)]),
    ]
    for way in ways:
        with watched.refused(code, field):
            way()


def test_a_failed_iterable_changes_nothing() -> None:
    watched = Watched({"l": [1]})

    def broken() -> Iterator[int]:
        yield 1
        raise ZeroDivisionError

    ways: list[Callable[[], object]] = [
        lambda: watched.root["l"].extend(broken()),
        lambda: watched.root["l"].__setitem__(slice(0, 1), broken()),
        lambda: watched.root.update((str(number), number) for number in broken()),
    ]
    for way in ways:
        with pytest.raises(ZeroDivisionError):
            way()
    assert watched.document.writes == 0


# the detached


def test_a_detached_view_is_a_container_of_its_own() -> None:
    watched = Watched({"d": {"list": [{"text": "a"}]}})
    d = watched.root["d"]
    items = d["list"]
    item = items[0]
    del watched.root["d"]
    item["text"] += "b"
    item.append_text("text", "c")
    items.append({"n": 1})
    items.append(item)
    items.sort(key=str)
    items.reverse()
    d.update(new=1)
    assert d == {"list": [{"text": "abc"}, {"text": "abc"}, {"n": 1}], "new": 1}
    assert item == items[0]
    with pytest.raises(Refused):
        d["x"] = float("nan")
    watched.root["back"] = d
    item["text"] = "not there"
    watched.cut()
    assert watched.state == {"back": {"list": [{"text": "abc"}, {"text": "abc"}, {"n": 1}], "new": 1}}


@pytest.mark.parametrize(
    "detach",
    [
        lambda root: root.pop("d"),
        lambda root: root.__delitem__("d"),
        lambda root: root.__setitem__("d", {"e": {}}),
        lambda root: root.clear(),
        lambda root: root.update(d=1, x=2),
        lambda root: root["outer"].__setitem__(slice(None), []),
        lambda root: root["outer"].__delitem__(slice(None, None, -2)),
        lambda root: root["outer"].__setitem__(slice(None, None, 2), [0, 0]),
        lambda root: root["outer"].__imul__(0),
        lambda root: root["outer"].pop(2),
    ],
)
def test_what_removes_a_container_detaches_its_views(detach: Callable[[Any], object]) -> None:
    watched = Watched({"d": {"e": {"n": 1}}, "outer": [0, 1, {"e": {"n": 1}}]})
    views = [watched.root["d"]["e"], watched.root["outer"][2]["e"]]
    state = watched.root.value()
    detach(watched.root)
    gone = [
        view
        for view, place in zip(views, ("d", "outer"), strict=True)
        if watched.state.get(place) != state[place]
    ]
    assert gone
    watched.cut()
    writes = watched.document.writes
    for view in gone:
        view["n"] = 2
        assert view == {"n": 2}
    assert watched.document.writes == writes
    assert watched.cut() == []


def test_a_detached_view_takes_more_than_the_state_would() -> None:
    watched = Watched({"d": {"n": ""}}, max_bytes=100)
    d = watched.root["d"]
    watched.root["d"] = None
    d["n"] = "x" * 1000
    d["n"] += "x"
    assert watched.document.size < 100
    watched.check_size()


# operations: what a client is sent


@pytest.mark.parametrize(
    ("code", "operations"),
    [
        ("d['l'].append(4)", [Set(("l", 3), 4)]),
        ("d['l'].extend([4, 5])", [Splice(("l",), 3, 0, [4, 5])]),
        ("d['l'].insert(1, 9)", [Splice(("l",), 1, 0, [9])]),
        ("d['l'].insert(99, 9)", [Set(("l", 3), 9)]),
        ("del d['l'][1]", [Delete(("l", 1))]),
        ("d['l'].pop()", [Delete(("l", 2))]),
        ("del d['l'][1:]", [Splice(("l",), 1, 2, [])]),
        ("d['l'].clear()", [Splice(("l",), 0, 3, [])]),
        ("d['l'][0:1] = [7]", [Set(("l", 0), 7)]),
        ("d['l'][0:2] = [7]", [Splice(("l",), 0, 2, [7])]),
        ("d['l'][::2] = [7, 8]", [Set(("l", 0), 7), Set(("l", 2), 8)]),
        ("del d['l'][::2]", [Delete(("l", 2)), Delete(("l", 0))]),
        ("d['l'].reverse()", [Set(("l",), [3, 2, 1])]),
        ("d['l'] *= 2", [Splice(("l",), 3, 0, [1, 2, 3])]),
        ("d['t'] += 'y'", [AppendText(("t",), "y")]),
        ("d['t'] = 'xyz'", [AppendText(("t",), "yz")]),
        ("d['t'] = 'y'", [Set(("t",), "y")]),
        ("d.update(t='xy', n=1)", [AppendText(("t",), "y"), Set(("n",), 1)]),
        ("d['k'] = {}", [Set(("k",), {})]),
        ("del d['t']", [Delete(("t",))]),
        ("d.clear()", [Delete(("l",)), Delete(("t",))]),
    ],
)
def test_an_edit_is_recorded_as_what_it_is(code: str, operations: list[Any]) -> None:
    watched = Watched({"l": [1, 2, 3], "t": "x"})
    exec(code, {"d": watched.root})
    assert watched.cut() == operations


# the end


DICT_USES = (
    """
    d['a'] | d['threadwire'] | d.get('a') | 'a' in d | len(d) | bool(d) | list(d) | iter(d) | reversed(d)
    list(d.keys()) | list(d.values()) | list(d.items()) | d == {} | {} == d | d == 5 | d != {}
    d.__or__({}) | d.__ror__({}) | d.copy() | d.value() | copy.copy(d) | copy.deepcopy(d)
    d.__setitem__('a', 1) | d.__setitem__('threadwire', 1) | d.__delitem__('a') | d.pop('a') | d.pop('x', 1)
    d.popitem() | d.clear() | d.setdefault('a') | d.setdefault('x', 1) | d.update(a=1) | d.update()
    d.__ior__({}) | d.append_text('t', 'x') | d.append_text('threadwire', 'x')
""".replace("\n", " | ")
    .strip(" |")
    .split(" | ")
)

LIST_USES = (
    """
    d[0] | d[-1] | d[:] | d[99] | len(d) | bool(d) | list(d) | iter(d) | reversed(d) | 1 in d
    d.index(1) | d.count(1) | d == [] | [] == d | d == 5 | d < [1] | d <= [1] | d > [] | d >= []
    d + [] | [] + d | d * 2 | d * 0 | d.copy() | d.value() | copy.copy(d) | copy.deepcopy(d)
    d.__setitem__(0, 1) | d.__setitem__(slice(0, 1), []) | d.__delitem__(0) | d.__delitem__(slice(0, 0))
    d.insert(0, 1) | d.append(1) | d.extend([]) | d.extend([1]) | d.pop() | d.pop(99) | d.remove(1)
    d.clear() | d.reverse() | d.sort() | d.__iadd__([]) | d.__imul__(1) | d.__imul__(0)
    d.append_text(0, 'x')
""".replace("\n", " | ")
    .strip(" |")
    .split(" | ")
)


def test_views_of_a_revoked_draft_can_no_longer_be_used() -> None:
    watched = Watched({"d": {"a": {"b": 1}}, "l": [1, [2]], "t": ""})
    draft = watched.draft
    root = draft.root()
    d, items = root["d"], root["l"]
    running: list[Iterator[Any]] = [
        iter(root), iter(d), reversed(d), iter(d.keys()), iter(d.values()), iter(d.items()),
        reversed(d.items()), iter(items), reversed(items), items._items(),
    ]  # fmt: skip
    keys, values, pairs = d.keys(), d.values(), d.items()
    draft.revoke()
    draft.revoke()
    uses: list[Callable[[], object]] = [
        draft.root,
        lambda: draft.append_text(("t",), "x"),
        lambda: draft.append_text(("threadwire",), "x"),
        lambda: draft.replace({}),
        lambda: draft.replace({"threadwire": 1}),
        lambda: keys.isdisjoint("a"),
        lambda: len(values),
        lambda: ("a", 1) in pairs,
    ]
    uses += [partial(next, iterator) for iterator in running]
    uses += [partial(eval, code, {"d": view, "copy": copy}) for view in (root, d) for code in DICT_USES]
    uses += [partial(eval, code, {"d": items, "copy": copy}) for code in LIST_USES]
    for use in uses:
        with pytest.raises(RunEnded):
            use()
    other = Watched({"k": [1]})
    for use in (
        lambda: other.root.__setitem__("k", d),
        lambda: other.root["k"].append([items]),
        lambda: other.root["k"].extend(items),
        lambda: other.root["k"].index(d),
        lambda: items in other.root["k"],
        lambda: other.root.update(d),
        lambda: other.draft.replace(root),
    ):
        with pytest.raises(RunEnded):
            use()
    assert not watched.document.dirty
    assert not other.document.dirty
    assert repr(root) == repr(items) == "<the state of a run that has ended>"
    assert Draft(watched.document).root() == watched.state


# all of it at once

scalars = st.sampled_from(["", "x", "y", "é", 0, 1, True, None, 2.5])
small = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("ab"), inner),
    max_leaves=4,
)


@settings(max_examples=100, deadline=None)
@given(st.lists(small, max_size=6), st.data())
def test_slices_do_what_they_do_to_lists(items: list[Json], data: st.DataObject) -> None:
    watched = Watched({"l": items})
    view, real = watched.root["l"], copy.deepcopy(items)
    bound = st.none() | st.integers(-8, 8)
    for _ in range(data.draw(st.integers(1, 4))):
        cut = slice(data.draw(bound), data.draw(bound), data.draw(bound.filter(lambda step: step != 0)))
        assert same(plain(view[cut]), real[cut])
        if data.draw(st.booleans()):
            new = data.draw(st.lists(small, max_size=4))
            try:
                real[cut] = copy.deepcopy(new)
            except ValueError:
                with pytest.raises(ValueError, match="extended slice"):
                    view[cut] = new
            else:
                view[cut] = new
        else:
            del real[cut]
            del view[cut]
        assert same(plain(view), real)
        watched.check_size()
        if data.draw(st.booleans()):
            watched.cut()
    watched.cut()
