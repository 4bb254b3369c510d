"""What was edited since the last cut, as the operations that lead from the state then to the state now.

Containers are known by identity, so that an edit finds its record again wherever its container
has moved. An edit of a key that has a record already changes that record, which keeps its place
among the operations; this is sound because

* what stands between an operation and a later edit of the same key doesn't reach through that
  key: what is inside a container put in since the last cut needs no records, it is part of the
  value it was put in with;
* before a list's items move, the records of its keys become operations, as they stand then.

So the same place is recorded once however often it is written, and what waits is bounded by the
state: where it would not be (items put in and taken out again, over and over), the whole state
takes its place.

Nothing is known here of limits or of where values come from; `document` is above.
Spec: PROTOCOL.md §3 and §10.
"""

from __future__ import annotations

from typing import Any, Final, Literal

from .operations import AppendText, Delete, Json, Operation, Path, Segment, Set, Splice

SLACK: Final = 64 * 1024
"""Bytes that may be `held` beyond what the state takes."""
_OPERATION: Final = 64
"""About the bytes of an operation without its value."""


class Slot:
    """One key of one container that was edited. Its value is read from the container at the cut."""

    __slots__ = ("container", "cut", "existed", "key", "kind", "number", "path", "start")

    def __init__(
        self,
        kind: Literal["set", "text", "delete"],
        container: Any,
        key: Segment,
        path: Path,
        *,
        existed: bool = True,
    ) -> None:
        self.kind = kind
        self.container = container
        self.key = key
        self.path = path
        self.existed = existed
        """Whether the key was there when this record was made."""
        self.start = 0
        """The length of the text when this record was made."""
        self.number = 0
        self.cut = -1
        """The cut for which what is appended here is recorded already."""

    def operation(self) -> Operation:
        if self.kind == "delete":
            return Delete(self.path)
        try:
            value = self.container[self.key]
        except LookupError:
            # A container that was itself replaced later, and emptied then: an operation that
            # follows overwrites whatever is put here.
            value = None
        if self.kind == "set":
            return Set(self.path, value)
        return AppendText(self.path, value[self.start :] if type(value) is str else "")


class Recording:
    """The edits since the last cut. Each is told before it is made, since it may move what is there."""

    __slots__ = ("_count", "_lone", "_slots", "_waiting", "cut", "fresh", "held", "slack", "whole")

    def __init__(self) -> None:
        self.cut = 0
        """Changes with each cut."""
        self._waiting: dict[int, Slot | Operation] = {}
        """What gives an operation each, in order."""
        self._count = 0
        self._slots: dict[int, tuple[Any, dict[Segment, Slot]]] = {}
        """By id of a container: itself (which keeps the id its own) and its keys' records."""
        self._lone: Slot | None = None
        """A text record as long as it is the only record: so it is with a token a cut."""
        self.fresh: dict[int, Any] = {}
        """By id: containers put in since the last cut. Edits inside them need no record."""
        self.whole = False
        """Whether the whole state is to be sent: no edit needs a record."""
        self.held = 0
        """About the bytes that records may hold of what is no longer in the state, and take themselves."""
        self.slack = SLACK

    def __bool__(self) -> bool:
        return self._lone is not None or self.whole or bool(self._waiting)

    def take(self, root: Json) -> list[Operation]:
        """The operations, which are then no longer recorded; the values in them are the state's own."""
        lone = self._lone
        operations: list[Operation]
        if lone is not None:
            operations = [AppendText(lone.path, lone.container[lone.key][lone.start :])]
        elif self.whole:
            operations = [Set((), root)]
        else:
            operations = [
                each.operation() if isinstance(each, Slot) else each for each in self._waiting.values()
            ]
        self._clear()
        return operations

    def _clear(self) -> None:
        self.cut += 1
        if self._slots:
            self._slots.clear()
        if self._lone is not None:
            self._lone = None
            return
        self._waiting.clear()
        self.fresh.clear()
        self.whole = False
        self.held = 0

    def take_whole(self) -> None:
        """The root was replaced, or the whole state costs less than what waits."""
        self._lone = None
        self._clear()
        self.whole = True

    def put(
        self, container: Any, key: Segment, parents: Path, value: Json, *, existed: bool, replaced: int
    ) -> None:
        """container[key] = value; `replaced` is the size of what it replaces."""
        slots = self._slots_of(container)
        slot = slots.get(key)
        if slot is None:
            slot = slots[key] = Slot("set", container, key, (*parents, key), existed=existed)
            self._add(slot)
            self.held += replaced
        else:
            slot.kind = "set"
        if type(value) is dict or type(value) is list:
            self.fresh[id(value)] = value

    def append(self, slot: Slot, start: int) -> None:
        """The text that `slot` stands for, `start` characters long, is appended to."""
        slot.cut = self.cut
        if self.whole:
            return
        if self._lone is None and not self._waiting:
            slot.start = start
            self._lone = slot
            return
        slots = self._slots_of(slot.container)
        if slot.key not in slots:
            slot.start = start
            slots[slot.key] = slot
            self._add(slot)

    def append_at(self, container: Any, key: Segment, parents: Path, start: int) -> None:
        """container[key], a text `start` characters long, is appended to."""
        lone = self._lone
        if lone is not None and lone.container is container and lone.key == key:
            return
        if (lone is None and not self._waiting) or key not in self._slots_of(container):
            self.append(Slot("text", container, key, (*parents, key)), start)

    def delete(self, container: Any, key: Segment, parents: Path, *, replaced: int) -> None:
        """del container[key]"""
        slots = self._slots_of(container)
        slot = slots.get(key)
        if slot is not None and not slot.existed and (type(container) is dict or key == len(container) - 1):
            # What was put in since the last cut is taken out again: as if nothing had been.
            del slots[key], self._waiting[slot.number]
            self.held -= _OPERATION
        elif type(container) is list:
            self._settle(container)
            self._add(Delete((*parents, key)))
            self.held += replaced
        elif slot is not None:
            slot.kind = "delete"
        else:
            slot = slots[key] = Slot("delete", container, key, (*parents, key))
            self._add(slot)
            self.held += replaced

    def splice(
        self, container: list[Json], index: int, count: int, items: list[Json], path: Path, *, replaced: int
    ) -> None:
        """container[index : index + count] = items"""
        if count or index < len(container):
            self._settle(container)
        self._add(Splice(path, index, count, items))
        self.held += replaced
        for item in items:
            if type(item) is dict or type(item) is list:
                self.fresh[id(item)] = item

    def reorder(
        self, container: list[Json], parent: Any, key: Segment | None, parents: Path, *, size: int
    ) -> None:
        """A list's items change places; it stands at parent[key], and is sent whole."""
        if key is None:
            self.take_whole()
            return
        self._settle(container)
        self.put(parent, key, parents, container, existed=True, replaced=size)

    def forget(self, removed: Json) -> None:
        """A container is no longer in the state, and `held` doesn't count it."""
        self.fresh.pop(id(removed), None)

    def _slots_of(self, container: Any) -> dict[Segment, Slot]:
        if self._lone is not None:
            self._register_lone()
        entry = self._slots.get(id(container))
        if entry is None:
            entry = self._slots[id(container)] = (container, {})
        return entry[1]

    def _add(self, each: Slot | Operation) -> None:
        if self._lone is not None:
            self._register_lone()
        self._count += 1
        self._waiting[self._count] = each
        if isinstance(each, Slot):
            each.number = self._count
        self.held += _OPERATION

    def _register_lone(self) -> None:
        """Another record comes."""
        slot, self._lone = self._lone, None
        assert slot is not None
        self._slots_of(slot.container)[slot.key] = slot
        self._add(slot)

    def _settle(self, container: list[Json]) -> None:
        """A list's items are about to move: its keys will mean other places."""
        if self._lone is not None:
            self._register_lone()
        entry = self._slots.pop(id(container), None)
        if entry is not None:
            for slot in entry[1].values():
                self._waiting[slot.number] = slot.operation()
