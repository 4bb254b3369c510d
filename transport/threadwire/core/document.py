"""The live state of a thread: edited in place, each edit recorded as an operation.

Containers are plain dicts and lists, so that a snapshot is encoded from them directly. `cut`
hands out what was recorded since the last cut as the operations that lead from the state then to
the state now; until then edits are joined (`recording`), so what waits is bounded by the state.

An edit that is refused changes nothing: all that can be refused is looked at before the first
change. Drafts (`draft`) are the face agents see. Spec: PROTOCOL.md §3 and §10.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Sequence
from functools import wraps
from operator import is_
from threading import RLock
from typing import Any, Concatenate, Final, ParamSpec, TypeVar

from .codec import Encoding, encode_value
from .diff import diff
from .errors import InvalidOperation, InvalidValue, Refused
from .loans import DetachedWrite as DetachedWrite
from .loans import Loans
from .operations import (
    AppendText,
    Delete,
    Json,
    Operation,
    Path,
    Segment,
    Set,
    Splice,
    array_index,
    format_path,
    object_key,
)
from .recording import Recording, Slot
from .values import copy_in, measure, measure_key, place, plain_copy, text_bytes

P = ParamSpec("P")
T = TypeVar("T")

_MAX_SPOTS: Final = 64


class Document:
    """A JSON value with recorded edits. For one thread only; see `LockedDocument`.

    Args:
        state: becomes the document's own.
        on_write: called at the first edit after a cut.
        max_bytes: edits that would make the state larger raise `state-too-large`.
        max_depth: how many containers may nest.

    Edits raise InvalidOperation where they don't fit the state, InvalidValue for what no state
    may hold, and Refused `state-too-large`.
    """

    def __init__(
        self,
        state: Json,
        *,
        on_write: Callable[[], None] | None = None,
        max_bytes: int = 32 * 1024 * 1024,
        max_depth: int = 100,
    ) -> None:
        self._root = state
        self._on_write = on_write
        self._max_bytes = max_bytes
        self._max_depth = max_depth
        self.size = measure(state)
        """About the bytes of the state on the wire."""
        self.writes = 0
        """How many edits were made; for telling whether one was made since."""
        self.lock: Final = RLock()
        """Held by views from where they look to where they write."""
        self.recording: Final = Recording()
        self.loans: Final = Loans()
        self._spots: dict[Sequence[Segment], Slot] = {}
        """Where text was appended, by path: found once, then known until something else is edited."""
        self._touched = False

    # reading

    @property
    def root(self) -> Json:
        """The state itself, not to be edited."""
        return self._root

    @property
    def dirty(self) -> bool:
        """Whether a cut would give operations."""
        return self._touched

    def encode(self, encoding: Encoding) -> bytes:
        """The whole state."""
        return encode_value(self._root, encoding)

    # editing by path: indexes may count from the end, parents must exist

    def set(self, path: Sequence[Segment], value: object) -> None:
        """Puts a copy of `value` at `path`; on a list, index = length appends."""
        if not path:
            self.put_root(value)
            return
        container, parents, absorbed = self._descend(path[:-1])
        self.put(container, self._key(container, path), value, parents, absorbed)

    def delete(self, path: Sequence[Segment]) -> None:
        if not path:
            raise InvalidOperation("invalid-path", "the root cannot be deleted", "state")
        container, parents, absorbed = self._descend(path[:-1])
        self.remove(container, self._key(container, path, existing=True), parents, absorbed)

    def splice(self, path: Sequence[Segment], index: int, delete_count: int, items: Iterable[object]) -> None:
        container, path, absorbed = self._descend(path)
        if type(container) is not list:
            raise InvalidOperation("invalid-path", "splice needs an array", format_path(path))
        if not (0 <= index <= len(container) and 0 <= delete_count <= len(container) - index):
            raise InvalidOperation("index-out-of-range", "splice beyond the array", format_path(path))
        self.replace_items(container, index, delete_count, items, path, absorbed)

    def append_text(self, path: Sequence[Segment], text: str) -> None:
        """Appends to the string at `path`. Costs the same for any length of it and size of the state."""
        try:
            spot = self._spots[path]
        except (LookupError, TypeError):
            if not path:
                self._append_to_root(text)
                return
            spot = self._spot(path)
        if type(text) is not str:
            text = _plain_text(text, path)
        if not text:
            return
        size = self.size + (len(text) if text.isascii() else _text_bytes(text, path))
        if size > self._max_bytes:
            raise self._too_large()
        container = spot.container
        key = spot.key
        grown = container[key]
        recording = self.recording
        if spot.cut != recording.cut:
            recording.append(spot, len(grown))
        # With the only reference in a local, CPython grows the string in place instead of copying it.
        # It switches to no other thread within these lines.
        container[key] = None
        grown += text
        container[key] = grown
        self.size = size
        self.writes += 1
        if not self._touched:
            self._touch()

    def replace(self, value: object, *, keep: frozenset[str] = frozenset()) -> None:
        """Makes the state equal to `value` by the edits that lead there; root keys in `keep` stay."""
        new, size = self._copy_in(value, ())
        old = self._root
        if keep and type(old) is dict:
            kept = {key: old[key] for key in keep if key in old}
            if type(new) is dict:
                new = {key: item for key, item in new.items() if key not in keep} | kept
                size = measure(new)
            elif kept:
                raise Refused("reserved-key", "this state must stay an object", "state")
        if size > max(self.size, self._max_bytes):
            raise self._too_large()
        # On the way there the state may be larger than at both ends.
        limit, self._max_bytes = self._max_bytes, sys.maxsize
        try:
            for operation in diff(old, new):
                self.edit(operation)
        finally:
            self._max_bytes = limit

    def edit(self, operation: Operation) -> None:
        """Makes the edit an operation describes (parents of a set must exist)."""
        match operation:
            case AppendText(path, value):
                self.append_text(path, value)
            case Set(path, value):
                self.set(path, value)
            case Delete(path):
                self.delete(path)
            case Splice(path, index, delete_count, items):
                self.splice(path, index, delete_count, items)

    def elsewhere(self, container: Any) -> Document:
        """What takes the edits of a container that is no longer in the state: they go nowhere."""
        return Document(container, max_bytes=sys.maxsize, max_depth=self._max_depth)

    # editing a container, for drafts: `path` is where it is; `absorbed` says that it is, or is inside
    # of, a container put in since the last cut

    def put(
        self,
        container: Any,
        key: Segment,
        value: object,
        path: Path,
        absorbed: bool,
        *,
        lend: bool = False,
    ) -> None:
        """container[key] = a copy of value; on a list, key = length appends.

        With `lend`, later changes of `value` itself will be noticed by `check_loans`.
        """
        exists = key in container if type(container) is dict else key < len(container)  # type: ignore[operator]
        old = container[key] if exists else None
        if type(old) is str and type(value) is str and value.startswith(old):
            added = value[len(old) :]
            if added:
                growth = len(added) if added.isascii() else _text_bytes(added, (*path, key))
                self._admit(growth, moves=False)
                if not absorbed:
                    self.recording.append_at(container, key, path, len(old))
                container[key] = value
                self._wrote()
        elif not (exists and _is_same(old, value)):
            copy, growth = self._copy_in(value, (*path, key))
            replaced = measure(old) if exists else 0
            self._admit(growth - replaced if exists else growth + measure_key(key))
            self._put(container, key, copy, path, absorbed, exists, replaced)
            if lend:
                self.loans.lend(value, copy)
            self._wrote()

    def put_all(
        self,
        container: Any,
        items: Sequence[tuple[Segment, object]],
        path: Path,
        absorbed: bool,
        *,
        lend: bool = False,
    ) -> None:
        """`put` for several keys, which on a list must exist: all or, if one is refused, none."""
        if len(items) == 1:
            self.put(container, *items[0], path, absorbed, lend=lend)
            return
        found = []
        growth = 0
        for key, value in items:
            exists = type(container) is list or key in container
            old = container[key] if exists else None
            if not (exists and _is_same(old, value)):
                copy, size = self._copy_in(value, (*path, key))
                replaced = measure(old) if exists else 0
                growth += size - replaced if exists else size + measure_key(key)
                found.append((key, value, copy, exists, replaced))
        if not found:
            return
        self._admit(growth)
        for key, value, copy, exists, replaced in found:
            self._put(container, key, copy, path, absorbed, exists, replaced)
            if lend:
                self.loans.lend(value, copy)
        self._wrote()

    def take(self, container: Any, key: Segment, path: Path, absorbed: bool) -> Json:
        """Removes container[key] and returns a plain copy of it."""
        # Not itself: records may read from inside what was removed, and views show it still.
        taken = plain_copy(container[key])
        self.remove(container, key, path, absorbed)
        return taken

    def remove(self, container: Any, key: Segment, path: Path, absorbed: bool) -> None:
        """del container[key]"""
        removed = container[key]
        size = measure(removed)
        self._admit(-size - measure_key(key))
        if not absorbed:
            self.recording.delete(container, key, path, replaced=size)
        self.recording.forget(removed)
        del container[key]
        self._wrote()
        if not self.recording:
            self._touched = False

    def replace_items(
        self,
        container: list[Json],
        index: int,
        count: int,
        items: Iterable[object],
        path: Path,
        absorbed: bool,
        *,
        lend: bool = False,
    ) -> None:
        """container[index : index + count] = copies of items."""
        items = list(items)
        if not items and not count:
            return
        if len(items) == 1 and (count == 1 or (not count and index == len(container))):
            self.put(container, index, items[0], path, absorbed, lend=lend)
            return
        copies: list[Json] = []
        added = 0
        for offset, item in enumerate(items):
            copy, size = self._copy_in(item, (*path, index + offset))
            copies.append(copy)
            added += size + 1
        replaced = sum([measure(item) + 1 for item in container[index : index + count]])
        self._admit(added - replaced)
        if not absorbed:
            self.recording.splice(container, index, count, copies, path, replaced=replaced)
        container[index : index + count] = copies
        if lend:
            for item, copy in zip(items, copies, strict=True):
                self.loans.lend(item, copy)
        self._wrote()

    def reorder(
        self, container: list[Json], before: list[Json], after: list[Json], path: Path, absorbed: bool
    ) -> None:
        """Puts a list's own items, which were `before`, into the order `after`; it is sent whole.

        Raises:
            ValueError: the list is not as it was before.
        """
        if not _same_items(container, before):
            raise ValueError("list modified during sort")
        if _same_items(before, after):
            return
        self._admit(0)
        if not absorbed:
            key = path[-1] if path else None
            parent = self._descend(path[:-1])[0] if path else None
            self.recording.reorder(container, parent, key, path[:-1], size=measure(container))
        container[:] = after
        self._wrote()

    def put_root(self, value: object) -> None:
        """Replaces the whole state. An object stays the same object, so that views of it stay."""
        copy, size = self._copy_in(value, ())
        self._admit(size - self.size)
        root = self._root
        if type(root) is dict and type(copy) is dict:
            root.clear()
            root.update(copy)
        elif type(root) is list and type(copy) is list:
            root[:] = copy
        else:
            self._root = copy
        self.recording.take_whole()
        self._wrote()

    # cutting

    def cut(self) -> list[Operation]:
        """The operations recorded since the last cut. Encode them, and let go of them, before the next edit.

        Their values are the state's own: the next edit changes them, and strings of the state that
        someone else holds can't grow in place.
        """
        self._touched = False
        return self.recording.take(self._root)

    def check_loans(self, *, last: bool = False) -> None:
        """Raises DetachedWrite where a container that was copied in has been changed since.

        Each check compares what was copied in since the last, and one of those before; `last`
        compares all that are left and forgets them.
        """
        self.loans.check(self._root, last=last)

    # inside

    def _put(
        self,
        container: Any,
        key: Segment,
        copy: Json,
        path: Path,
        absorbed: bool,
        exists: bool,
        replaced: int,
    ) -> None:
        old = container[key] if exists else None
        if not absorbed:
            if type(old) is str and type(copy) is str and copy.startswith(old):
                self.recording.append_at(container, key, path, len(old))
            else:
                self.recording.put(container, key, path, copy, existed=exists, replaced=replaced)
        self.recording.forget(old)
        if not exists and type(container) is list:
            container.append(copy)
        else:
            container[key] = copy

    def _copy_in(self, value: object, path: Path) -> tuple[Json, int]:
        writes = self.writes
        limit = max(self._max_bytes, self.size)
        copied = copy_in(value, depth=self._max_depth - len(path), path=path, max_bytes=limit)
        if self.writes != writes:
            raise RuntimeError("the state was changed by a value that was being copied into it")
        return copied

    def _admit(self, growth: int, *, moves: bool = True) -> None:
        """The last point at which an edit can be refused. `moves` unless it only lengthens a text."""
        size = self.size + growth
        if growth > 0 and size > self._max_bytes:
            raise self._too_large()
        self.size = size
        if moves and self._spots:
            self._spots = {}

    def _wrote(self) -> None:
        self.writes += 1
        if self.recording.held > self.size + self.recording.slack:
            self.recording.take_whole()
        if not self._touched:
            self._touch()

    def _touch(self) -> None:
        self._touched = True
        if self._on_write is not None:
            self._on_write()

    def _too_large(self) -> Refused:
        return Refused("state-too-large", f"the state would be larger than {self._max_bytes} bytes", "state")

    def _append_to_root(self, text: str) -> None:
        if type(self._root) is not str:
            raise InvalidOperation("not-a-string", "the state is not a string", "state")
        text = _plain_text(text, ())
        if text:
            self.put_root(self._root + text)

    def _spot(self, path: Sequence[Segment]) -> Slot:
        container, parents, absorbed = self._descend(path[:-1])
        key = self._key(container, path, existing=True)
        if type(container[key]) is not str:
            raise InvalidOperation("not-a-string", "append-text needs a string", format_path(path))
        spot = Slot("text", container, key, (*parents, key))
        if absorbed:
            spot.cut = self.recording.cut
        if type(path) is tuple:
            if len(self._spots) >= _MAX_SPOTS:
                self._spots.clear()
            self._spots[path] = spot
        return spot

    def _descend(self, path: Sequence[Segment]) -> tuple[Any, Path, bool]:
        """(container, its path with indexes from the front, whether an edit there is `absorbed`)."""
        container = self._root
        fresh = self.recording.fresh
        absorbed = self.recording.whole
        canonical: list[Segment] = []
        for segment in path:
            key = segment
            if type(container) is dict and type(segment) is str and segment in container:
                pass
            elif (
                type(container) is list
                and type(segment) is int
                and -len(container) <= segment < len(container)
            ):
                if segment < 0:
                    key = segment + len(container)
            else:
                key = self._key(container, [*canonical, segment], existing=True)
            container = container[key]
            canonical.append(key)
            if fresh and id(container) in fresh:
                absorbed = True
        if type(container) is not dict and type(container) is not list:
            raise InvalidOperation("invalid-path", "no container is there", format_path(path))
        return container, tuple(canonical), absorbed

    def _key(self, container: Any, path: Sequence[Segment], *, existing: bool = False) -> Segment:
        """The key that the last segment of `path` means in `container`."""
        segment = path[-1]
        if isinstance(segment, str):
            segment = str.__str__(segment)
        elif type(segment) is not int:
            kind = type(segment).__qualname__
            raise InvalidOperation("invalid-path", f"a {kind} is no path segment", format_path(path))
        if type(container) is dict:
            key = object_key(segment, tuple(path))
            if key not in container:
                if existing:
                    raise InvalidOperation("path-missing", "nothing is there", format_path(path))
                _text_bytes(key, path[:-1])
            return key
        if type(container) is not list:
            raise InvalidOperation("invalid-path", "no container is there", format_path(path[:-1]))
        if type(segment) is int and -len(container) <= segment < 0:
            return segment + len(container)
        index = array_index(segment, tuple(path))
        if index > len(container) or (existing and index == len(container)):
            raise InvalidOperation(
                "index-out-of-range", f"index {index} of {len(container)} items", format_path(path)
            )
        return index


def _is_same(old: Json, value: object) -> bool:
    """Whether putting `value` in the place of `old` changes nothing. Containers are always copied anew."""
    kind = type(value)
    return kind is type(old) and kind is not dict and kind is not list and old == value


def _same_items(items: list[Json], others: list[Json]) -> bool:
    return len(items) == len(others) and all(map(is_, items, others))


def _plain_text(text: str, path: Sequence[Segment]) -> str:
    if not isinstance(text, str):
        raise InvalidOperation("not-a-string", "only text can be appended", format_path(path))
    return str.__str__(text)


def _text_bytes(text: str, path: Sequence[Segment]) -> int:
    try:
        return text_bytes(text)
    except InvalidValue as error:
        raise place(error, path) from None


def _free(operation: Operation) -> Operation:
    """The operation with its own copy of what it puts in."""
    if type(operation) is Set:
        return Set(operation.path, plain_copy(operation.value))
    if type(operation) is Splice:
        return Splice(operation.path, operation.index, operation.delete_count, plain_copy(operation.items))
    return operation


def _locked(
    method: Callable[Concatenate[LockedDocument, P], T],
) -> Callable[Concatenate[LockedDocument, P], T]:
    @wraps(method)
    def call(self: LockedDocument, /, *args: P.args, **kwargs: P.kwargs) -> T:
        with self.lock:
            return method(self, *args, **kwargs)

    return call


class LockedDocument(Document):
    """A document for an agent in a worker thread, while the event loop cuts and other threads edit.

    Each edit is whole to the others. What an agent reads and then writes in two steps is not:
    two threads that do so with the same place must agree among themselves, as with a dict.
    """

    set = _locked(Document.set)
    delete = _locked(Document.delete)
    splice = _locked(Document.splice)
    replace = _locked(Document.replace)
    edit = _locked(Document.edit)
    put = _locked(Document.put)
    put_all = _locked(Document.put_all)
    take = _locked(Document.take)
    remove = _locked(Document.remove)
    replace_items = _locked(Document.replace_items)
    reorder = _locked(Document.reorder)
    put_root = _locked(Document.put_root)
    encode = _locked(Document.encode)

    def append_text(self, path: Sequence[Segment], text: str) -> None:
        with self.lock:
            Document.append_text(self, path, text)

    def cut(self) -> list[Operation]:
        """As for any document, but the operations are free of the state: it is edited on meanwhile."""
        with self.lock:
            return [_free(operation) for operation in Document.cut(self)]

    def check_loans(self, *, last: bool = False) -> None:
        """As for any document, but what the agent still holds is compared at the last check only.

        The agent goes on meanwhile: it may be about to put in again what it has just changed.
        """
        with self.lock:
            self.loans.check(self._root, last=last, patient=not last)
