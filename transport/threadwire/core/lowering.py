"""Operations for stock AssistantTransport clients, which know only `set` and `append-text`.

What else there is becomes a set of the items or of the container that it changed, with the value
they then have. That takes the state to know, so a `Lowering` follows it.

Spec: PROTOCOL.md §3.9.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from .cost import costs_more, operation_cost
from .operations import AppendText, Cell, Json, Operation, Path, Set, Splice, edit

_MAX_OWNED: Final = 1024


def lower(state: Json, operations: Iterable[Operation]) -> tuple[list[Set | AppendText], Json]:
    """The lowered operations, and the state after them; `state`, the one before, is left as it was.

    Raises:
        InvalidOperation: one doesn't fit the state.
    """
    lowering = Lowering(state)
    return lowering.lower(operations), lowering.state


class Lowering:
    """One stream of lowered operations. What a token costs doesn't depend on the size of the state.

    Args:
        state: what the client has. It is left as it is.
    """

    __slots__ = ("_cell", "_owned")

    def __init__(self, state: Json) -> None:
        self._owned: dict[int, Json] = {}
        self._cell = Cell(state, self._owned)

    @property
    def state(self) -> Json:
        """What the client has after all that was lowered. It isn't edited any more."""
        self._owned.clear()
        return self._cell.root

    def lower(self, operations: Iterable[Operation]) -> list[Set | AppendText]:
        """Operations that do the same for a client that has `state`, with strings for path segments.

        The operations are one update: a container that has to be set is set once, at the end.

        Raises:
            InvalidOperation: one doesn't fit; the state holds those before it.
        """
        lowered: list[Set | AppendText] = []
        stale: list[Path] = []
        """Containers that the client has wrong until they are set."""
        for operation in operations:
            edit(self._cell, operation)
            path = tuple(map(str, operation.path))
            container = path if type(operation) is Splice else path[:-1]
            if stale and any(container[: len(each)] == each for each in stale):
                continue
            if type(operation) is AppendText:
                lowered.append(AppendText(path, operation.value))
                continue
            if type(operation) is Set:
                sets: list[Set] | None = [Set(path, operation.value)]
            else:
                sets = self._items(path, operation) if type(operation) is Splice else None
            if sets is None:
                stale = [each for each in stale if each[: len(container)] != container]
                stale.append(container)
                continue
            for each in sets:
                stale = [place for place in stale if place[: len(each.path)] != each.path]
            lowered += sets
        if stale:
            lowered += [Set(path, self._at(path)) for path in stale]
            self._owned.clear()  # the next edit copies what the client's operations now hold
        elif len(self._owned) > _MAX_OWNED:
            self._owned.clear()  # it keeps containers alive that are long gone from the state
        return lowered

    def _items(self, path: Path, splice: Splice) -> list[Set] | None:
        """A splice as sets of its items; None where other items moved or the whole array is cheaper."""
        array = self._at(path)
        count = len(splice.items)
        appends = count > splice.delete_count and splice.index + count == len(array)
        if count != splice.delete_count and not appends:
            return None
        sets = [Set((*path, str(splice.index + n)), item) for n, item in enumerate(splice.items)]
        if count > 1 and not costs_more(array, sum(map(operation_cost, sets))):
            return None
        return sets

    def _at(self, path: Path) -> Json:
        value = self._cell.root
        for key in path:
            value = value[int(key) if type(value) is list else key]
        return value
