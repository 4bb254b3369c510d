"""Write access to a thread's state for the life of a run.

Below are `views`, which the state is seen and changed through; above are runs, which revoke
their draft when they end.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from .document import Document
from .operations import Json, Segment
from .views import RESERVED as RESERVED
from .views import Access, ListDraft, RootDraft, reserved_key

_KEPT: Final = frozenset((RESERVED,))


class Draft(Access):
    """The state as one run reads and writes it."""

    __slots__ = ("_root",)

    def __init__(self, document: Document) -> None:
        super().__init__(document)
        self._root: RootDraft | ListDraft | None = None

    def revoke(self) -> None:
        """From now on, every use of this draft and its views raises RunEnded."""
        super().revoke()
        if isinstance(self._root, RootDraft):
            self._root.forget()
        self._root = None

    def root(self) -> Json:
        """The state: a view of a container, or the plain value."""
        node = self.document.root
        if self._root is None or self._root._node is not node:
            if type(node) is dict:
                self._root = RootDraft(self, node)
            elif type(node) is list:
                self._root = ListDraft(self, None, None, node)
            else:
                return node
        return self._root

    def append_text(self, path: Sequence[Segment], text: str) -> None:
        """Appends to the string at `path`, at the same cost for any length of it."""
        if self._document is None:
            self.check()
        elif path and path[0] == RESERVED:
            raise reserved_key()
        else:
            self._document.append_text(path, text)

    def replace(self, value: object) -> None:
        """Makes the state equal to `value`; only what differs is recorded."""
        document = self.document
        if isinstance(value, Mapping) and RESERVED in value:
            raise reserved_key()
        document.replace(value, keep=_KEPT)


class LockedDraft(Draft):
    """For an agent in a worker thread: once `revoke` has returned, no edit is under way any more."""

    __slots__ = ()

    def revoke(self) -> None:
        document = self._document
        if document is not None:
            with document.lock:
                super().revoke()

    def append_text(self, path: Sequence[Segment], text: str) -> None:
        with self.document.lock:
            super().append_text(path, text)

    def replace(self, value: object) -> None:
        with self.document.lock:
            super().replace(value)
