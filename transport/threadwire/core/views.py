"""What agents hold of the state: views that read like dict and list, and record what is changed.

A view is bound to a container, not to a path: it follows it through inserts, sorts and
reverses. What was removed or replaced is detached: writing to it changes nothing but itself.
Values are copied in. The root key `threadwire` is the server's and not seen here.

Where a method of dict or list takes or gives a container, it takes anything a state may hold and
gives a view; what it removes it gives as a plain value. An edit that is refused changes nothing.

Below is `document`, which records; above is `draft`, which hands them out and revokes them.
"""

from __future__ import annotations

import sys
from collections.abc import (
    Callable,
    ItemsView,
    Iterable,
    Iterator,
    KeysView,
    Mapping,
    MutableMapping,
    MutableSequence,
    Sequence,
    ValuesView,
)
from operator import index as to_index
from typing import Any, Final, SupportsIndex, TypeVar, cast, overload

from .document import Document
from .errors import InvalidValue, Refused, RunEnded
from .operations import Json, Path, Segment
from .values import Wrapper, place, plain_copy, plain_key

T = TypeVar("T")

RESERVED: Final = "threadwire"
"""The root key that belongs to the server. Spec: PROTOCOL.md §2.5."""

_MISSING: Final = object()


def reserved_key() -> Refused:
    return Refused("reserved-key", f"the root key {RESERVED!r} is the server's", f"state.{RESERVED}")


class Access:
    """The document of some views, for as long as they may be used."""

    __slots__ = ("_document",)

    def __init__(self, document: Document) -> None:
        self._document: Document | None = document

    @property
    def document(self) -> Document:
        """Raises RunEnded once revoked."""
        if self._document is None:
            raise RunEnded("the run has ended: its state can no longer be used")
        return self._document

    def check(self) -> None:
        """Raises RunEnded once revoked."""
        if self._document is None:
            raise RunEnded("the run has ended: its state can no longer be used")

    @property
    def revoked(self) -> bool:
        return self._document is None

    def revoke(self) -> None:
        """From now on, every use of the views raises RunEnded."""
        self._document = None


class View(Wrapper):
    __slots__ = ("_access", "_key", "_node", "_parent")

    _node: Any

    def __init__(self, access: Access, parent: View | None, key: Segment | None, node: Any) -> None:
        self._access = access
        self._parent = parent
        self._key = key
        """Where the parent had this container last."""
        self._node = node

    def value(self) -> Any:
        """A plain copy, free of the state."""
        with self._access.document.lock:
            return plain_copy(self._shown())

    def append_text(self, path: Segment | Sequence[Segment], text: str) -> None:
        """Appends to the string at `path` in here: a key, or several that lead down to it.

        The way for tokens: it costs the same for any length of the text.
        """
        keys = (path,) if isinstance(path, str | int) else path
        with self._access.document.lock:
            document, where, _ = self._locate()
            document.append_text((*where, *keys), text)

    def _shown(self) -> Any:
        """The plain container as it may be seen, not to be edited."""
        return self._node

    def _view(self, key: Segment, child: Json) -> View:
        """The view of a container that stands in this one."""
        return (DictDraft if type(child) is dict else ListDraft)(self._access, self, key, child)

    def _locate(self) -> tuple[Document, Path, bool]:
        """(document, this container's path, whether it is in what was put in since the last cut).

        A container that was removed is alone in a document that nobody cuts.
        """
        document = self._access.document
        recording = document.recording
        fresh = recording.fresh
        absorbed = recording.whole
        path: list[Segment] = []
        view = self
        node = self._node
        while True:
            if fresh and id(node) in fresh:
                absorbed = True
            parent = view._parent
            if parent is None:
                break
            key: Any = view._key
            siblings = parent._node
            if type(siblings) is dict:
                if siblings.get(key) is not node:
                    return document.elsewhere(self._node), (), True
            elif not (key < len(siblings) and siblings[key] is node):
                key = next((place for place, item in enumerate(siblings) if item is node), None)
                if key is None:
                    return document.elsewhere(self._node), (), True
                view._key = key
            path.append(key)
            view = parent
            node = siblings
        if node is not document.root:
            return document.elsewhere(self._node), (), True
        path.reverse()
        return document, tuple(path), absorbed

    def __repr__(self) -> str:
        return "<the state of a run that has ended>" if self._access.revoked else repr(self._shown())

    def __copy__(self) -> Any:
        return self.value()

    def __deepcopy__(self, memo: object) -> Any:
        return self.value()

    __hash__ = None  # type: ignore[assignment]


def _plain(value: Any) -> Any:
    """What to compare with: of a view the container."""
    if isinstance(value, View):
        value._access.check()
        return value._shown()
    return value


def _while_open(access: Access, items: Iterable[T]) -> Iterator[T]:
    for item in items:
        access.check()
        yield item


class DictDraft(View, MutableMapping[str, Any]):
    """A dict of the state: all of dict works on it."""

    __slots__ = ()

    _node: dict[str, Json]

    def _own_key(self, key: object, path: Path) -> str:
        """The key as a plain str, if it may be written."""
        try:
            return plain_key(key)
        except InvalidValue as error:
            raise place(error, path) from None

    # reading

    def __getitem__(self, key: str) -> Any:
        self._access.check()
        child = self._node[key]
        kind = type(child)
        return self._view(str.__str__(key), child) if kind is dict or kind is list else child

    def __iter__(self) -> Iterator[str]:
        self._access.check()
        return _while_open(self._access, self._node)

    def __reversed__(self) -> Iterator[str]:
        self._access.check()
        return _while_open(self._access, reversed(self._node))

    def __len__(self) -> int:
        self._access.check()
        return len(self._node)

    def __contains__(self, key: object) -> bool:
        self._access.check()
        return key in self._node

    def keys(self) -> KeysView[str]:
        return _Keys(self)

    def values(self) -> ValuesView[Any]:
        return _Values(self)

    def items(self) -> ItemsView[str, Any]:
        return _Items(self)

    def copy(self) -> dict[str, Any]:
        """A plain copy, free of the state."""
        return cast(dict[str, Any], self.value())

    def __eq__(self, other: object) -> bool:
        mine, other = _plain(self), _plain(other)
        return bool(mine == other) if isinstance(other, dict) else NotImplemented

    def __or__(self, other: Mapping[str, Any]) -> dict[str, Any]:
        plain = self.copy()
        return plain | dict(other) if isinstance(other, dict | DictDraft) else NotImplemented

    def __ror__(self, other: Mapping[str, Any]) -> dict[str, Any]:
        plain = self.copy()
        return dict(other) | plain if isinstance(other, dict | DictDraft) else NotImplemented

    # writing

    def __setitem__(self, key: str, value: object) -> None:
        with self._access.document.lock:
            document, path, absorbed = self._locate()
            if type(key) is not str or key not in self._node:
                key = self._own_key(key, path)
            if type(value) is str or not self._holds(key, value):
                document.put(self._node, key, value, path, absorbed, lend=True)

    def _holds(self, key: str, value: object) -> bool:
        """Whether that very container stands there, as what `state["items"] += [...]` ends with."""
        return isinstance(value, View) and self._node.get(key) is value._node

    def __delitem__(self, key: str) -> None:
        with self._access.document.lock:
            document, path, absorbed = self._locate()
            if key not in self:
                raise KeyError(key)
            document.remove(self._node, str.__str__(key), path, absorbed)

    def pop(self, key: str, default: Any = _MISSING) -> Any:
        """Removes the key and returns its plain value."""
        with self._access.document.lock:
            document, path, absorbed = self._locate()
            if key in self:
                return document.take(self._node, str.__str__(key), path, absorbed)
        if default is _MISSING:
            raise KeyError(key)
        return default

    def popitem(self) -> tuple[str, Any]:
        """Removes the last item put in."""
        with self._access.document.lock:
            for key in reversed(self):
                return key, self.pop(key)
        raise KeyError("popitem(): dictionary is empty")

    def clear(self) -> None:
        with self._access.document.lock:
            for key in list(self):
                del self[key]

    def setdefault(self, key: str, default: Any = None) -> Any:
        with self._access.document.lock:
            if key not in self:
                self[key] = default
            return self[key]

    def update(self, other: Any = (), /, **more: Any) -> None:
        """All of it goes in or, if a part is refused, nothing."""
        items = dict(other, **more)
        with self._access.document.lock:
            document, path, absorbed = self._locate()
            own = {self._own_key(key, path): value for key, value in items.items()}
            changes = [(key, value) for key, value in own.items() if not self._holds(key, value)]
            document.put_all(self._node, changes, path, absorbed, lend=True)

    def __ior__(self, other: Mapping[str, Any] | Iterable[tuple[str, Any]]) -> DictDraft:
        self.update(other)
        return self


class _Reversible:
    """What the views of dicts have over the abstract ones they are made from."""

    def __init__(self, mapping: DictDraft) -> None:
        super().__init__(mapping)  # type: ignore[call-arg]
        self._dict = mapping


class _Keys(_Reversible, KeysView[str]):
    def __reversed__(self) -> Iterator[str]:
        return reversed(self._dict)


class _Values(_Reversible, ValuesView[Any]):
    def __reversed__(self) -> Iterator[Any]:
        return (self._dict[key] for key in reversed(self._dict))


class _Items(_Reversible, ItemsView[str, Any]):
    def __reversed__(self) -> Iterator[tuple[str, Any]]:
        return ((key, self._dict[key]) for key in reversed(self._dict))


class RootDraft(DictDraft):
    """The state itself, without the server's key."""

    __slots__ = ("_last",)

    def __init__(self, access: Access, node: dict[str, Json]) -> None:
        super().__init__(access, None, None, node)
        self._last: View | None = None
        """The view last given: `state["messages"]` is asked for again with every token."""

    def _view(self, key: Segment, child: Json) -> View:
        last = self._last
        if last is None or last._node is not child:
            last = self._last = super()._view(key, child)
        return last

    def forget(self) -> None:
        """Nothing more will be asked for."""
        self._last = None

    def _own_key(self, key: object, path: Path) -> str:
        if key == RESERVED:
            raise reserved_key()
        return super()._own_key(key, path)

    def _shown(self) -> dict[str, Json]:
        if RESERVED not in self._node:
            return self._node
        return {key: value for key, value in self._node.items() if key != RESERVED}

    def append_text(self, path: Segment | Sequence[Segment], text: str) -> None:
        self._access.check()
        if (path if isinstance(path, str | int) else path[:1]) in (RESERVED, (RESERVED,), [RESERVED]):
            raise reserved_key()
        super().append_text(path, text)

    def __getitem__(self, key: str) -> Any:
        child = DictDraft.__getitem__(self, key)
        if key == RESERVED:
            raise KeyError(key)
        return child

    def __setitem__(self, key: str, value: object) -> None:
        self._access.check()
        if key == RESERVED:
            raise reserved_key()
        DictDraft.__setitem__(self, key, value)

    def __iter__(self) -> Iterator[str]:
        return (key for key in super().__iter__() if key != RESERVED)

    def __reversed__(self) -> Iterator[str]:
        return (key for key in super().__reversed__() if key != RESERVED)

    def __len__(self) -> int:
        return super().__len__() - (RESERVED in self._node)

    def __contains__(self, key: object) -> bool:
        return super().__contains__(key) and key != RESERVED


class ListDraft(View, MutableSequence[Any]):
    """A list of the state: all of list works on it."""

    __slots__ = ()

    _node: list[Json]

    def _position(self, index: SupportsIndex) -> int:
        position = to_index(index)
        if position < 0:
            position += len(self._node)
        if not 0 <= position < len(self._node):
            raise IndexError("list index out of range")
        return position

    # reading

    @overload
    def __getitem__(self, index: SupportsIndex) -> Any: ...
    @overload
    def __getitem__(self, index: slice) -> list[Any]: ...
    def __getitem__(self, index: SupportsIndex | slice) -> Any:
        self._access.check()
        if isinstance(index, slice):
            return [self._item(position) for position in range(len(self._node))[index]]
        return self._item(to_index(index))

    def _item(self, index: int) -> Any:
        child = self._node[index]
        kind = type(child)
        if kind is dict or kind is list:
            return self._view(index if index >= 0 else index + len(self._node), child)
        return child

    def __len__(self) -> int:
        self._access.check()
        return len(self._node)

    def __iter__(self) -> Iterator[Any]:
        self._access.check()
        return self._items()

    def _items(self) -> Iterator[Any]:
        # As a list's: an item appended meanwhile is met, and indexes are read afresh.
        index = 0
        while index < len(self):
            yield self._item(index)
            index += 1

    def __reversed__(self) -> Iterator[Any]:
        self._access.check()
        return self._items_reversed(len(self._node) - 1)

    def _items_reversed(self, index: int) -> Iterator[Any]:
        while 0 <= index < len(self):
            yield self._item(index)
            index -= 1

    def __contains__(self, value: object) -> bool:
        self._access.check()
        return _plain(value) in self._node

    def index(self, value: Any, start: int = 0, stop: int = sys.maxsize) -> int:
        """Where `value` stands: of a view of this very list, its place; else, the first that is equal."""
        self._access.check()
        if isinstance(value, View):
            for position in range(len(self._node))[start:stop]:
                if self._node[position] is value._node:
                    return position
        return self._node.index(_plain(value), start, stop)

    def count(self, value: Any) -> int:
        self._access.check()
        return self._node.count(_plain(value))

    def copy(self) -> list[Any]:
        """A plain copy, free of the state."""
        return cast(list[Any], self.value())

    def __eq__(self, other: object) -> bool:
        mine, other = _plain(self), _plain(other)
        return bool(mine == other) if isinstance(other, list) else NotImplemented

    def __lt__(self, other: Sequence[Any]) -> bool:
        mine, other = _plain(self), _plain(other)
        return bool(mine < other) if isinstance(other, list) else NotImplemented

    def __le__(self, other: Sequence[Any]) -> bool:
        mine, other = _plain(self), _plain(other)
        return bool(mine <= other) if isinstance(other, list) else NotImplemented

    def __gt__(self, other: Sequence[Any]) -> bool:
        mine, other = _plain(self), _plain(other)
        return bool(mine > other) if isinstance(other, list) else NotImplemented

    def __ge__(self, other: Sequence[Any]) -> bool:
        mine, other = _plain(self), _plain(other)
        return bool(mine >= other) if isinstance(other, list) else NotImplemented

    def __add__(self, other: Sequence[Any]) -> list[Any]:
        plain = self.copy()
        return plain + list(other) if isinstance(other, list | ListDraft) else NotImplemented

    def __radd__(self, other: Sequence[Any]) -> list[Any]:
        plain = self.copy()
        return list(other) + plain if isinstance(other, list | ListDraft) else NotImplemented

    def __mul__(self, times: SupportsIndex) -> list[Any]:
        plain = self.copy()
        return [plain_copy(item) for _ in range(to_index(times)) for item in plain]

    __rmul__ = __mul__

    # writing

    @overload
    def __setitem__(self, index: SupportsIndex, value: Any) -> None: ...
    @overload
    def __setitem__(self, index: slice, value: Iterable[Any]) -> None: ...
    def __setitem__(self, index: SupportsIndex | slice, value: Any) -> None:
        values = list(value) if isinstance(index, slice) else [value]
        with self._access.document.lock:
            document, path, absorbed = self._locate()
            if not isinstance(index, slice):
                positions: Sequence[int] = (self._position(index),)
            else:
                positions = range(len(self._node))[index]
                if positions.step == 1:
                    document.replace_items(
                        self._node, positions.start, len(positions), values, path, absorbed, lend=True
                    )
                    return
                if len(values) != len(positions):
                    raise ValueError(
                        f"attempt to assign sequence of size {len(values)} "
                        f"to extended slice of size {len(positions)}"
                    )
            changes = [
                (position, item)
                for position, item in zip(positions, values, strict=True)
                # What `items[0] += [...]` ends with is there already.
                if not (isinstance(item, View) and self._node[position] is item._node)
            ]
            document.put_all(self._node, changes, path, absorbed, lend=True)

    def __delitem__(self, index: SupportsIndex | slice) -> None:
        with self._access.document.lock:
            document, path, absorbed = self._locate()
            if not isinstance(index, slice):
                document.remove(self._node, self._position(index), path, absorbed)
                return
            positions = sorted(range(len(self._node))[index])
            if positions and positions[-1] - positions[0] == len(positions) - 1:
                document.replace_items(self._node, positions[0], len(positions), (), path, absorbed)
            else:
                for position in reversed(positions):
                    document.remove(self._node, position, path, absorbed)

    def insert(self, index: SupportsIndex, value: Any) -> None:
        position = to_index(index)
        with self._access.document.lock:
            document, path, absorbed = self._locate()
            length = len(self._node)
            position = max(0, position + length) if position < 0 else min(position, length)
            document.replace_items(self._node, position, 0, (value,), path, absorbed, lend=True)

    def append(self, value: Any) -> None:
        self.insert(sys.maxsize, value)

    def extend(self, values: Iterable[Any]) -> None:
        """All of them are appended or, if one is refused, none."""
        values = list(values)
        with self._access.document.lock:
            document, path, absorbed = self._locate()
            document.replace_items(self._node, len(self._node), 0, values, path, absorbed, lend=True)

    def pop(self, index: SupportsIndex = -1) -> Any:
        """Removes the item and returns its plain value."""
        index = to_index(index)
        with self._access.document.lock:
            document, path, absorbed = self._locate()
            if not self._node:
                raise IndexError("pop from empty list")
            return document.take(self._node, self._position(index), path, absorbed)

    def remove(self, value: Any) -> None:
        with self._access.document.lock:
            del self[self.index(value)]

    def clear(self) -> None:
        del self[:]

    def reverse(self) -> None:
        with self._access.document.lock:
            before = self._node[:]
            self._reorder(before, before[::-1])

    def sort(self, *, key: Callable[[Any], Any] | None = None, reverse: bool = False) -> None:
        before = _plain(self)[:]
        order = [self._item(position) for position in range(len(before))]
        order.sort(key=key, reverse=reverse)
        self._reorder(before, [item._node if isinstance(item, View) else item for item in order])

    def _reorder(self, before: list[Json], after: list[Json]) -> None:
        with self._access.document.lock:
            document, path, absorbed = self._locate()
            document.reorder(self._node, before, after, path, absorbed)

    def __iadd__(self, values: Iterable[Any]) -> ListDraft:
        self.extend(values)
        return self

    def __imul__(self, times: SupportsIndex) -> ListDraft:
        times = to_index(times)
        with self._access.document.lock:
            if times <= 0:
                self.clear()
            else:
                self.extend(self * (times - 1))
        return self
