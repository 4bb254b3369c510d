"""The four operations on a state, and what they do to a JSON value.

`apply` leaves its input as it was and shares every untouched part with its result;
`apply_in_place` edits the value it is given. Both refuse what does not fit, with the same
errors. Recording of edits is in `document`, joining of operations in `merge`.

Spec: PROTOCOL.md §3 and §4.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any, Final, TypeAlias

import msgspec

from .errors import InvalidOperation

Json: TypeAlias = Any
"""A JSON value: None, bool, int, float, str, list[Json] or dict[str, Json]."""

Segment: TypeAlias = str | int
Path: TypeAlias = tuple[Segment, ...]

FORBIDDEN_KEYS: Final = frozenset({"__proto__", "constructor", "prototype"})
"""Keys that JavaScript clients can't hold safely. Spec: PROTOCOL.md §2.4."""


_INDEX: Final = re.compile("0|[1-9][0-9]{0,15}")


class Set(msgspec.Struct, frozen=True, tag="set", tag_field="type"):
    """Puts `value` at `path`. Missing parents become objects. Spec: PROTOCOL.md §3.1."""

    path: Path
    value: Json


class AppendText(msgspec.Struct, frozen=True, tag="append-text", tag_field="type"):
    """Appends to the string at `path`. Spec: PROTOCOL.md §3.2."""

    path: Path
    value: str


class Delete(msgspec.Struct, frozen=True, tag="delete", tag_field="type"):
    """Removes the key or the array item at `path`. Spec: PROTOCOL.md §3.3."""

    path: Path


class Splice(msgspec.Struct, frozen=True, tag="splice", tag_field="type"):
    """In the array at `path`, puts `items` in the place of `delete_count` items at `index`.

    Spec: PROTOCOL.md §3.4.
    """

    path: Path
    index: int
    delete_count: int
    items: list[Json]


Operation: TypeAlias = Set | AppendText | Delete | Splice


def array_index(segment: Segment, path: Path) -> int:
    """The array index a segment means: an integer ≥ 0, or its canonical decimal form as a string."""
    if type(segment) is int:
        if segment >= 0:
            return segment
    elif type(segment) is str and _INDEX.fullmatch(segment):
        return int(segment)
    raise InvalidOperation("invalid-path", f"{segment!r} is no array index", format_path(path))


def object_key(segment: Segment, path: Path) -> str:
    """The object key a segment means: itself, or an integer's decimal form."""
    key = segment if type(segment) is str else str(segment)
    if key in FORBIDDEN_KEYS:
        raise InvalidOperation("forbidden-key", f"the key {key!r} is refused", format_path(path))
    return key


def format_path(path: Sequence[Segment]) -> str:
    """A path as the `field` of an error: `state.messages.0.content`. It can be encoded whatever is in it."""
    return ".".join(["state", *(str(segment) for segment in path)]).encode(errors="backslashreplace").decode()


class Cell:
    """Holds a root, so that replacing the root is an edit like any other. For `edit`, within core."""

    __slots__ = ("owned", "root")

    def __init__(self, root: Json, owned: dict[int, Json] | None) -> None:
        self.root = root
        self.owned = owned
        """Containers copied or made by `edit`, by id, which nobody else has seen; None where all may be
        edited in place. Clear it before handing out what the cell holds."""

    def own(self, container: Json) -> Json:
        if self.owned is None or id(container) in self.owned:
            return container
        copy = container.copy()
        self.owned[id(copy)] = copy
        return copy


def apply(state: Json, operations: Iterable[Operation]) -> Json:
    """The state after `operations`; `state` itself is left as it was and shared where untouched.

    A batch with one operation that doesn't fit raises InvalidOperation and changes nothing.
    Spec: PROTOCOL.md §3.
    """
    cell = Cell(state, {})
    for operation in operations:
        edit(cell, operation)
    return cell.root


def apply_in_place(state: Json, operations: Iterable[Operation]) -> Json:
    """As `apply`, but edits `state` itself; returns the root, which `set []` replaces.

    The values of the operations become part of the state, and later operations edit them: neither
    they nor `state` may hold a container twice, nor be shared with anyone who expects them unchanged.
    After an InvalidOperation the state is left with the operations before it applied.
    """
    cell = Cell(state, None)
    for operation in operations:
        edit(cell, operation)
    return cell.root


def edit(cell: Cell, operation: Operation) -> None:
    """Applies one operation to what the cell holds; one that doesn't fit changes nothing."""
    path = operation.path
    if type(operation) is Splice:
        parent_path, leaf = path, None
    elif path:
        parent_path, leaf = path[:-1], path[-1]
    else:
        _edit_root(cell, operation)
        return
    container = _descend(cell, parent_path, create=type(operation) is Set, path=path)
    if type(operation) is Splice:
        _splice(container, operation)
    elif type(container) is dict:
        assert leaf is not None
        _edit_object(container, object_key(leaf, path), operation)
    else:
        assert leaf is not None
        _edit_array(container, array_index(leaf, path), operation)


def _edit_root(cell: Cell, operation: Operation) -> None:
    if type(operation) is Set:
        cell.root = operation.value
        if cell.owned is None:
            return
        # The value belongs to the operation, which others may apply too.
        cell.owned.clear()
    elif type(operation) is AppendText:
        if type(cell.root) is not str:
            raise InvalidOperation("not-a-string", "the state is not a string", "state")
        cell.root += operation.value
    else:
        raise InvalidOperation("invalid-path", "the root cannot be deleted", "state")


def _descend(cell: Cell, parents: Path, *, create: bool, path: Path) -> Json:
    """The container at `parents`, owned by the batch all the way down."""
    if type(cell.root) not in (dict, list):
        if not (create and cell.root is None):
            raise InvalidOperation("invalid-path", "the state is no container", format_path(path))
        _refuse_forbidden(path, path)
        cell.root = {}
    container = cell.root = cell.own(cell.root)
    for depth, segment in enumerate(parents):
        if type(container) is dict:
            key: Segment = object_key(segment, path)
            child = container.get(key)
        else:
            key = array_index(segment, path)
            if key > len(container) or (key == len(container) and not create):
                raise InvalidOperation(
                    "index-out-of-range",
                    f"index {key} of {len(container)} items",
                    format_path(path[: depth + 1]),
                )
            child = container[key] if key < len(container) else None
        if type(child) in (dict, list):
            owned = cell.own(child)
        elif child is None and create:
            _refuse_forbidden(path[depth + 1 :], path)
            owned = {}
            if cell.owned is not None:
                cell.owned[id(owned)] = owned
        elif child is None:
            raise InvalidOperation("path-missing", "nothing is there", format_path(path[: depth + 1]))
        else:
            raise InvalidOperation("invalid-path", "no container is there", format_path(path[: depth + 1]))
        if owned is not child:
            if type(container) is list and key == len(container):
                container.append(owned)
            else:
                container[key] = owned
        container = owned
    return container


def _refuse_forbidden(keys: Path, path: Path) -> None:
    """Before parents are made for an edit that could then be refused for a key beneath them."""
    for key in keys:
        object_key(key, path)


def _edit_object(container: dict[str, Json], key: str, operation: Operation) -> None:
    if type(operation) is Set:
        container[key] = operation.value
        return
    if key not in container:
        raise InvalidOperation("path-missing", "nothing is there", format_path(operation.path))
    if type(operation) is Delete:
        del container[key]
    else:
        assert type(operation) is AppendText
        _append(container, key, operation)


def _edit_array(container: list[Json], index: int, operation: Operation) -> None:
    if index == len(container) and type(operation) is Set:
        container.append(operation.value)
        return
    if index >= len(container):
        raise InvalidOperation(
            "index-out-of-range", f"index {index} of {len(container)} items", format_path(operation.path)
        )
    if type(operation) is Set:
        container[index] = operation.value
    elif type(operation) is Delete:
        del container[index]
    else:
        assert type(operation) is AppendText
        _append(container, index, operation)


def _append(container: Json, key: Segment, operation: AppendText) -> None:
    text = container[key]
    if type(text) is not str:
        raise InvalidOperation("not-a-string", "append-text needs a string", format_path(operation.path))
    # With the only reference in a local, CPython grows the string in place instead of copying it.
    container[key] = None
    text += operation.value
    container[key] = text


def _splice(container: Json, operation: Splice) -> None:
    if type(container) is not list:
        raise InvalidOperation("invalid-path", "splice needs an array", format_path(operation.path))
    index, count = operation.index, operation.delete_count
    if not 0 <= index <= len(container):
        raise InvalidOperation(
            "index-out-of-range", f"index {index} of {len(container)} items", format_path(operation.path)
        )
    if not 0 <= count <= len(container) - index:
        raise InvalidOperation(
            "index-out-of-range",
            f"{count} items from {index} of {len(container)}",
            format_path(operation.path),
        )
    container[index : index + count] = operation.items
