"""What leads from one state to another, as operations.

Nothing is known but the two states: what is the same object in both costs nothing, what is equal
is compared in C. Where two ways lead there, the one with fewer bytes is taken.

Spec: PROTOCOL.md §2 (equality) and §3.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Hashable, Iterator
from itertools import compress
from operator import is_not
from typing import Final

import msgspec

from .cost import costs_more, encoded, operation_cost, path_cost
from .operations import AppendText, Delete, Json, Operation, Path, Set, Splice

_CHUNK: Final = 16
"""Items compared at a time. More gains nothing; less pays for more calls."""

_MISSING: Final = object()
_by_content: Final = msgspec.msgpack.Encoder(order="deterministic")


def equal(a: Json, b: Json) -> bool:
    """Whether two values are the same JSON value: 1 and 1.0 are, 1 and true are not.

    Spec: PROTOCOL.md §2.
    """
    return a is b or (bool(a == b) and _same_kinds(a, b))


def diff(old: Json, new: Json) -> list[Operation]:
    """Operations that make `old` equal to `new`; none if and only if the two are equal.

    They hold values of `new`, not copies. A string that grew gets the rest appended. Items of an
    array are recognised by `id` (a string or an integer) where they are objects that have one, by
    their content otherwise, by their place where neither tells; those at the end are set at the
    index after the last one. Spec: PROTOCOL.md §3.
    """
    differ = _Differ()
    differ.value(old, new, ())
    return differ.operations


class _Differ:
    __slots__ = ("_costs", "operations")

    def __init__(self) -> None:
        self.operations: list[Operation] = []
        self._costs = [0]
        """What the first n operations cost together, by n, as far as somebody asked."""

    def value(self, old: Json, new: Json, path: Path) -> None:
        """Emits what leads from `old` to `new` at `path`."""
        if old is new:
            return
        kind = type(new)
        if kind is not type(old):
            if not equal(old, new):
                self.operations.append(Set(path, new))
        elif kind is dict:
            self._object(old, new, path)
        elif kind is list:
            self._array(old, new, path)
        elif old != new:
            if kind is str and new.startswith(old):
                self.operations.append(AppendText(path, new[len(old) :]))
            else:
                self.operations.append(Set(path, new))

    def _object(self, old: dict[str, Json], new: dict[str, Json], path: Path) -> None:
        mark = len(self.operations)
        for key in old:
            if key not in new:
                self.operations.append(Delete((*path, key)))
        changed = [key for key, value in new.items() if old.get(key, _MISSING) is not value]
        if len(changed) > _CHUNK:
            for key in changed:
                if key not in old:
                    self.operations.append(Set((*path, key), new[key]))
            changed = [key for key in changed if key in old]
            which = _unequal([old[key] for key in changed], [new[key] for key in changed])
            changed = [changed[index] for index in which]
        for key in changed:
            if key in old:
                self.value(old[key], new[key], (*path, key))
            else:
                self.operations.append(Set((*path, key), new[key]))
        self._settle(mark, Set(path, new))

    def _array(self, old: list[Json], new: list[Json], path: Path) -> None:
        shorter = min(len(old), len(new))
        start = next(_unequal(old, new), shorter)
        if start == len(old) == len(new):
            return
        same_at_end = 0
        if start < shorter:
            same_at_end = next(_unequal(old[start:][::-1], new[start:][::-1]), shorter - start)
        olds = old[start : len(old) - same_at_end]
        news = new[start : len(new) - same_at_end]

        mark = len(self.operations)
        pairs = _aligned(olds, news)
        changed = set(_unequal([olds[i] for i, _ in pairs], [news[j] for _, j in pairs]))
        # From left to right: all before the place at hand stands as in `new` already.
        i = j = 0
        for number, (next_i, next_j) in enumerate(pairs):
            if i < next_i or j < next_j:
                self._gap(olds[i:next_i], news[j:next_j], path, start + j, at_end=False)
            if number in changed:
                self.value(olds[next_i], news[next_j], (*path, start + next_j))
            i, j = next_i + 1, next_j + 1
        self._gap(olds[i:], news[j:], path, start + j, at_end=not same_at_end)
        self._settle(mark, Set(path, new))

    def _gap(self, olds: list[Json], news: list[Json], path: Path, index: int, *, at_end: bool) -> None:
        """Puts `news` in the place of `olds`, which stand at `index` and are other items."""
        mark = len(self.operations)
        for offset, (old, new) in enumerate(zip(olds, news, strict=False)):
            self.value(old, new, (*path, index + offset))
        both = min(len(olds), len(news))
        if len(olds) > both:
            self.operations.append(Splice(path, index + both, len(olds) - both, []))
        elif len(news) > both and at_end:
            for offset in range(both, len(news)):
                self.operations.append(Set((*path, index + offset), news[offset]))
        elif len(news) > both:
            self.operations.append(Splice(path, index + both, 0, news[both:]))
        if olds:
            self._settle(mark, Splice(path, index, len(olds), news))

    def _settle(self, mark: int, instead: Set | Splice) -> None:
        """Puts one operation in the place of those since `mark` if it costs no more than they."""
        if len(self.operations) - mark < 2:
            return
        costs = self._costs
        for operation in self.operations[len(costs) - 1 :]:
            costs.append(costs[-1] + operation_cost(operation))
        budget = costs[-1] - costs[mark] - path_cost(instead.path)
        if not costs_more(instead.value if isinstance(instead, Set) else instead.items, budget):
            self.operations[mark:] = [instead]
            del costs[mark + 1 :]


def _same_kinds(a: Json, b: Json) -> bool:
    """Whether two values that Python finds equal hold true and false in the same places."""
    kind = type(a)
    if kind is dict:
        for key, value in a.items():
            kind = type(value)
            if kind is str or value is None:
                continue
            if kind is dict or kind is list:
                if not _same_kinds(value, b[key]):
                    return False
            elif (kind is bool) != (type(b[key]) is bool):
                return False
        return True
    if kind is list:
        if len(a) < _CHUNK:
            return all(map(_same_kinds, a, b))
        for start in range(0, len(a), _CHUNK):
            some, others = a[start : start + _CHUNK], b[start : start + _CHUNK]
            if not _same_form(some, others) and not all(map(_same_kinds, some, others)):
                return False
        return True
    return (kind is bool) == (type(b) is bool)


def _same_form(a: Json, b: Json) -> bool:
    """Whether two values have the same encoding: the fastest way to find them equal, true or false told
    from 1 and 0. That they haven't says nothing."""
    form = encoded(a)
    return form is not None and form == encoded(b)


def _unequal(olds: list[Json], news: list[Json]) -> Iterator[int]:
    """The indexes at which two lists differ, as far as both reach."""
    equal_until = singly_until = 0
    for index in compress(range(len(olds)), map(is_not, olds, news)):
        if index < equal_until:
            continue
        if index >= singly_until:
            end = index + _CHUNK
            if _same_form(olds[index:end], news[index:end]):
                equal_until = end
                continue
            singly_until = end
        if olds[index] != news[index] or not _same_kinds(olds[index], news[index]):
            yield index


def _aligned(olds: list[Json], news: list[Json]) -> list[tuple[int, int]]:
    """The pairs of indexes of the same items, increasing in both: the most items that need not move."""
    if not olds or not news or len(olds) == len(news) == 1:
        return []
    old_keys, new_keys = _keys(olds), _keys(news)
    if old_keys == new_keys:
        return [(index, index) for index in range(len(olds))]
    places = {key: index for index, key in enumerate(old_keys)}
    pairs = [(places[key], index) for index, key in enumerate(new_keys) if key in places]
    return pairs if pairs == sorted(pairs) else _longest_increasing(pairs)


def _keys(items: list[Json]) -> list[Hashable]:
    """What tells whether two items are the same one; of several that look alike, the n-th is the n-th."""
    keys: list[Hashable] = []
    seen: dict[Hashable, int] = {}
    for item in items:
        key: Hashable
        if type(item) is dict and type(item.get("id")) in (str, int):
            key = (item["id"],)
        elif type(item) is str:
            key = item
        else:
            try:
                key = _by_content.encode(item)
            except (TypeError, ValueError, OverflowError, RecursionError):
                key = object()
        count = seen.get(key, 0)
        seen[key] = count + 1
        keys.append((key, count) if count else key)
    return keys


def _longest_increasing(pairs: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """The longest selection of `pairs`, which increase in the second, that increases in the first too."""
    ends: list[int] = []
    """By length - 1: the smallest first number in which a selection of that length ends."""
    last: list[int] = []
    """By length - 1: the index in `pairs` of that end."""
    before: list[int] = []
    """By index in `pairs`: the index of the one before in its selection."""
    for index, (first, _) in enumerate(pairs):
        length = len(ends) if not ends or first > ends[-1] else bisect_left(ends, first)
        before.append(last[length - 1] if length else -1)
        ends[length : length + 1] = [first]
        last[length : length + 1] = [index]
    selection: list[tuple[int, int]] = []
    index = last[-1] if last else -1
    while index >= 0:
        selection.append(pairs[index])
        index = before[index]
    return selection[::-1]
