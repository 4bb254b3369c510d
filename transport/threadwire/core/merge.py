"""Operations that wait for a slow reader, merged while they wait.

What a `Merger` holds does to a state what all that was added to it does, one after the other,
with fewer operations: text appended to one place is one operation, what is written into a value
that waits is done in the value, what is overwritten or deleted is dropped.

It doesn't see the state, so it can't tell an array from an object with the keys "0" and "1".
Where items may have moved, what waits stays as it is and merging starts anew behind it. So what
waits may grow with some patterns of edits; its cost tells, and a snapshot is always cheaper in
the end.

Spec: PROTOCOL.md §10.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from io import StringIO
from typing import Final, TypeAlias

from .cost import operation_cost, path_cost, text_cost, value_cost
from .operations import AppendText, Cell, Delete, Json, Operation, Path, Set, Splice, edit

_Keys: TypeAlias = tuple[str, ...]
"""A path with every segment as a string, so that 0 and "0", which mean the same, are the same."""

_INDEX: Final = re.compile("0|[1-9][0-9]{0,15}")
_MAX_OWNED: Final = 64
_SLACK: Final = 1024


def merge(operations: Iterable[Operation]) -> list[Operation]:
    """Operations that do the same, fewer where they can be. Spec: PROTOCOL.md §10."""
    merger = Merger()
    merger.add(operations)
    return merger.operations()


class Merger:
    """A backlog of operations, each of which fits the state that those before it lead to.

    The operations given are never changed, nor is what `operations` returned.
    """

    __slots__ = ("_cost", "_next", "_root", "_texts", "_waiting")

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        """Forgets all that waits."""
        self._waiting: dict[int, _Entry] = {}
        """All entries by number, in the order in which they are to be applied."""
        self._next = 0
        self._root = _Node()
        self._texts: dict[Path, StringIO] = {}
        """Where the text of the next append to a path goes. What is not here is found by `_root`."""
        self._cost = 0

    def __len__(self) -> int:
        """How many operations wait."""
        return len(self._waiting)

    @property
    def cost(self) -> int:
        """About the bytes of what waits, encoded; too much rather than too little."""
        return self._cost

    def add(self, operations: Iterable[Operation]) -> None:
        """Adds operations behind those that wait."""
        texts = self._texts
        for operation in operations:
            if type(operation) is AppendText:
                # Tokens go to one place many times in a row: no more is done for them than this.
                text = texts.get(operation.path)
                if text is None:
                    text = texts[operation.path] = self._text(operation.path)
                value = operation.value
                text.write(value)
                self._cost += len(value) if value.isascii() else text_cost(value)
                continue
            texts.clear()
            if isinstance(operation, Set):
                self._set(operation)
            elif isinstance(operation, Delete):
                self._delete(operation)
            elif isinstance(operation, Splice) and (operation.delete_count or operation.items):
                self._splice(operation)

    def operations(self) -> list[Operation]:
        """All that waits, as operations to be applied in this order. It goes on waiting."""
        self._texts.clear()
        return [entry.operation() for entry in self._waiting.values()]

    # one kind of operation each

    def _text(self, path: Path) -> StringIO:
        node, value, keys = self._find(_keys(path))
        if value is not None:
            return value.text(keys)
        entry = node.entry
        if type(entry) is not _Text:
            entry = _Text(path)
            self._put(entry)
            node.hold(entry)
        return entry.buffer

    def _set(self, operation: Set) -> None:
        node, value, keys = self._find(_keys(operation.path))
        if value is not None and keys:
            self._cost += value.edit(Set(keys, operation.value))
            return
        number = self._drop(node.take())
        entry = _Value(operation)
        self._put(entry, number)
        node.hold(entry)

    def _delete(self, operation: Delete) -> None:
        *parents, key = _keys(operation.path)
        parent, value, keys = self._find(tuple(parents))
        if value is not None:
            self._cost += value.edit(Delete((*keys, key)))
            return
        if type(parent.entry) is _Items:
            self._splice(Splice(operation.path[:-1], int(key), 1, []))
            return
        held = self._blank(parent, key, operation.path)
        entry = _Done(operation)
        self._put(entry)
        held.append(entry)
        if _is_index(key) and all(map(_is_index, parent.children)):
            # Perhaps an array, whose later items have moved.
            for later in [other for other in parent.children if int(other) >= int(key)]:
                held += parent.children.pop(later).take()
            parent.sealed += held
        else:
            parent.children[key] = node = _Node()
            node.sealed = held

    def _splice(self, operation: Splice) -> None:
        index, delete_count, items = operation.index, operation.delete_count, operation.items
        node, value, keys = self._find(_keys(operation.path))
        if value is not None:
            self._cost += value.edit(Splice(keys, index, delete_count, items))
            return
        end = index + delete_count
        moves = len(items) != delete_count
        removed = [key for key in node.children if index <= int(key) < end]
        moved = [key for key in node.children if int(key) >= end] if moves else []
        before = node.entry
        if type(before) is _Items and not removed and not moved and before.touches(index, end):
            self._cost += before.splice(index, delete_count, items)
            if before.does_nothing:
                self._drop([before])
                node.entry = None
            return
        for key in removed:
            node.sealed += self._blank(node, key, (*operation.path, key))
        for key in moved:
            node.sealed += node.children.pop(key).take()
        entry = _Items(operation)
        self._put(entry)
        node.hold(entry)

    # inside

    def _find(self, path: _Keys) -> tuple[_Node, _Value | _Items | None, _Keys]:
        """What waits for the place at `path`: its node, or the value that holds the place, and where."""
        node = self._root
        for depth, key in enumerate(path):
            entry = node.entry
            if type(entry) is _Value:
                return node, entry, path[depth:]
            if type(entry) is _Items and entry.index <= (index := int(key)) < entry.index + entry.count:
                return node, entry, (str(index - entry.index), *path[depth + 1 :])
            child = node.children.get(key)
            if child is None:
                child = node.children[key] = _Node()
            node = child
        return node, node.entry if type(node.entry) is _Value else None, ()

    def _put(self, entry: _Entry, number: int | None = None) -> None:
        """Makes the entry the last one, or puts it in the place of that with a number."""
        if number is None:
            number = self._next
            self._next += 1
        entry.number = number
        self._waiting[number] = entry
        self._cost += entry.cost

    def _drop(self, entries: list[_Entry]) -> int | None:
        """Drops all entries of one place; returns the number of the first that set something, which
        is where the place came to be if it wasn't there before. It has to be filled or deleted."""
        first: int | None = None
        for entry in entries:
            self._cost -= entry.cost_with_texts()
            if type(entry) is _Value and (first is None or entry.number < first):
                first = entry.number
        for entry in entries:
            if entry.number != first:
                del self._waiting[entry.number]
        return first

    def _blank(self, parent: _Node, key: str, path: Path) -> list[_Entry]:
        """Drops what waits for a place about to be deleted; what must stay is returned.

        If the place came to be by what is dropped, it must come to be still, to be deleted.
        """
        node = parent.children.pop(key, None)
        if node is None:
            return []
        number = self._drop(node.take())
        if number is None:
            return []
        entry = _Value(Set(path, None))
        self._put(entry, number)
        return [entry]


class _Node:
    """A place in the state as it will be, and what waits for it."""

    __slots__ = ("children", "entry", "sealed")

    def __init__(self) -> None:
        self.children: dict[str, _Node] = {}
        self.entry: _Entry | None = None
        """What later operations at this place may be merged with: nothing that waits behind it
        matters to them."""
        self.sealed: list[_Entry] = []
        """What else waits for this place and those beneath: not to be merged with, but to be dropped
        when the place is overwritten."""

    def hold(self, entry: _Entry) -> None:
        if self.entry is not None:
            self.sealed.append(self.entry)
        self.entry = entry

    def take(self) -> list[_Entry]:
        """All that waits for this place and those beneath, which the node forgets."""
        taken = self.sealed
        if self.entry is not None:
            taken.append(self.entry)
        for child in self.children.values():
            taken += child.take()
        self.children = {}
        self.entry = None
        self.sealed = []
        return taken


class _Entry:
    """One operation that waits."""

    __slots__ = ("cost", "number")

    def __init__(self, cost: int) -> None:
        self.cost = cost
        """Its bytes, without text not yet taken in."""
        self.number = 0

    def operation(self) -> Operation:
        raise NotImplementedError

    def cost_with_texts(self) -> int:
        return self.cost


class _Done(_Entry):
    """An operation that nothing is merged with."""

    __slots__ = ("_operation",)

    def __init__(self, operation: Operation) -> None:
        super().__init__(operation_cost(operation))
        self._operation = operation

    def operation(self) -> Operation:
        return self._operation


class _Text(_Entry):
    """Text that grows."""

    __slots__ = ("_path", "buffer")

    def __init__(self, path: Path) -> None:
        super().__init__(path_cost(path))
        self._path = path
        self.buffer = StringIO()

    def operation(self) -> Operation:
        return AppendText(self._path, self.buffer.getvalue())

    def cost_with_texts(self) -> int:
        return self.cost + text_cost(self.buffer.getvalue())


class _Holder(_Entry):
    """An operation that puts a value somewhere. Later operations on the value are done in a copy of it."""

    __slots__ = ("_cell", "_limit", "_operation", "_path", "_texts", "_value")

    def __init__(self, operation: Set | Splice, value: Json) -> None:
        super().__init__(operation_cost(operation))
        self._path = operation.path
        self._operation: Operation | None = operation
        """What was given or returned last, if it still holds."""
        self._value = value
        """Shared with others, not to be edited."""
        self._cell: Cell | None = None
        """The value as it is now, if it was edited since."""
        self._texts: dict[_Keys, StringIO] = {}
        """Text to be appended in the value, by place."""
        self._limit = 2 * self.cost + _SLACK

    def make(self, value: Json) -> Operation:
        raise NotImplementedError

    def text(self, keys: _Keys) -> StringIO:
        """Where text to be appended at a place in the value goes, until the next `edit` or `operation`."""
        buffer = self._texts.get(keys)
        if buffer is None:
            buffer = self._texts[keys] = StringIO()
        return buffer

    def edit(self, operation: Operation) -> int:
        """Edits the value; returns by how much the cost has changed."""
        cell = self._current()
        cost = self.cost
        edit(cell, operation)
        assert cell.owned is not None
        if len(cell.owned) > _MAX_OWNED:
            cell.owned.clear()  # it keeps containers alive that are long gone from the value
        self.cost += operation_cost(operation)
        if self.cost > self._limit:
            # What was overwritten is still counted. Measured no more often than it could double.
            self.cost = path_cost(self._path) + value_cost(cell.root)
            self._limit = 2 * self.cost + _SLACK
        return self.cost - cost

    def operation(self) -> Operation:
        if self._texts:
            self._current()
        if self._cell is not None:
            self._value = self._cell.root
            self._cell = None
            self._operation = None
        if self._operation is None:
            self._operation = self.make(self._value)
        return self._operation

    def cost_with_texts(self) -> int:
        return self.cost + sum([text_cost(buffer.getvalue()) for buffer in self._texts.values()])

    def _current(self) -> Cell:
        """The value as it is now, to be edited."""
        cell = self._cell
        if cell is None:
            cell = self._cell = Cell(self._value, {})
        if self._texts:
            for keys, buffer in self._texts.items():
                text = buffer.getvalue()
                edit(cell, AppendText(keys, text))
                self.cost += text_cost(text)
            self._texts = {}
        return cell


class _Value(_Holder):
    """A Set."""

    __slots__ = ()

    def __init__(self, operation: Set) -> None:
        super().__init__(operation, operation.value)

    def make(self, value: Json) -> Operation:
        return Set(self._path, value)


class _Items(_Holder):
    """The last Splice of an array: where it stands, nothing has moved since."""

    __slots__ = ("delete_count", "index")

    def __init__(self, operation: Splice) -> None:
        super().__init__(operation, operation.items)
        self.index = operation.index
        self.delete_count = operation.delete_count

    def make(self, value: Json) -> Operation:
        return Splice(self._path, self.index, self.delete_count, value)

    @property
    def count(self) -> int:
        """How many items it puts in."""
        return len(self._value if self._cell is None else self._cell.root)

    @property
    def does_nothing(self) -> bool:
        return not self.delete_count and not self.count

    def touches(self, start: int, end: int) -> bool:
        """Whether the items from `start` to `end` overlap or adjoin those it put in."""
        return start <= self.index + self.count and end >= self.index

    def splice(self, start: int, delete_count: int, items: list[Json]) -> int:
        """Becomes what it and a splice that touches it do together; returns the change of the cost."""
        end = start + delete_count
        count = self.count
        first = max(start - self.index, 0)
        last = min(max(end - self.index, 0), count)
        change = self.edit(Splice((), first, last - first, items))
        self.delete_count += delete_count - (last - first)
        self.index = min(self.index, start)
        return change


def _keys(path: Path) -> _Keys:
    return tuple(map(str, path))


def _is_index(key: str) -> bool:
    """Whether the key can mean an array's item."""
    return _INDEX.fullmatch(key) is not None
