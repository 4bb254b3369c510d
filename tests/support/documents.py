"""A document and a replica of it that knows only what the log would hold."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from threadwire.core.codec import decode_log, encode_log
from threadwire.core.document import Document
from threadwire.core.draft import Draft
from threadwire.core.errors import Refused
from threadwire.core.operations import Json, Operation, apply
from threadwire.core.values import measure


def same(a: Json, b: Json) -> bool:
    """Whether two plain values are equal in kind too: True is not 1, a view is not a dict."""
    if type(a) is not type(b):
        return False
    if type(a) is dict:
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if type(a) is list:
        return len(a) == len(b) and all(map(same, a, b))
    return bool(a == b)


class Watched:
    """Checks, with every cut, that what was recorded leads the replica to the state."""

    def __init__(
        self,
        state: Json,
        *,
        max_bytes: int = 32 * 1024 * 1024,
        max_depth: int = 100,
        kind: type[Document] = Document,
    ) -> None:
        self.written = 0
        self.document = kind(
            copy.deepcopy(state), on_write=self._on_write, max_bytes=max_bytes, max_depth=max_depth
        )
        self.draft = Draft(self.document)
        self.replica = copy.deepcopy(state)

    def _on_write(self) -> None:
        self.written += 1

    @property
    def root(self) -> Json:
        return self.draft.root()

    @property
    def state(self) -> Json:
        return self.document.root

    def cut(self) -> list[Operation]:
        """Replays a cut on the replica; returns the operations as the log has them."""
        dirty = self.document.dirty
        operations = decode_log(encode_log(self.document.cut()))
        assert dirty == bool(operations)
        assert not self.document.dirty
        self.replica = apply(self.replica, operations)
        assert same(self.replica, self.state), operations
        self.check_size()
        return operations

    def check_size(self) -> None:
        assert self.document.size == measure(self.state)

    @contextmanager
    def refused(self, code: str, field: str | None) -> Iterator[None]:
        """Expects a refusal that leaves everything as it was."""
        self.cut()
        before = copy.deepcopy(self.state), self.document.writes
        with pytest.raises(Refused) as refusal:
            yield
        assert (refusal.value.code, refusal.value.field) == (code, field)
        assert same(self.state, before[0])
        assert self.document.writes == before[1]
        assert not self.document.dirty
        assert self.cut() == []
