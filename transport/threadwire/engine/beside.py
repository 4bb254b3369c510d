"""Handlers beside a run: what they are given, and what they wrote, which a rollback of the run leaves.

Spec: PROTOCOL.md §7.4.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Final, cast

from ..core.commands import AddToolResult
from ..core.document import Document
from ..core.draft import Draft
from ..core.errors import AgentError
from ..core.operations import Json, Path, Segment
from .hosting import Hosting
from .run import Run

if TYPE_CHECKING:
    from .runner import Runner

_ABSENT: Final = object()


class Beside:
    """The host of a handler beside the run: it can't wait for clients, since a wait belongs to the run."""

    def __init__(self, runner: Runner) -> None:
        self.flush = runner.flush
        self.new_id = runner.new_id
        self.take = runner.take
        self._runner = runner

    async def interrupt(self, value: object) -> Json:
        raise AgentError("a handler beside the run can't wait for clients")

    async def call_client_tool(self, name: str, args: object) -> AddToolResult:
        raise AgentError("a handler beside the run can't wait for clients")

    def hosting(self, run: Run, draft: Draft) -> Hosting:
        return Hosting(draft, self._runner, run.commands, run.inbox)


class NotingDraft(Draft):
    """A draft that notes in `written` the places that were changed through it, down to the first list."""

    __slots__ = ()

    def __init__(self, document: Document, written: dict[Path, None]) -> None:
        super().__init__(cast(Document, _Noting(document, written)))


class _Noting:
    """A document, and a note of each edit."""

    def __init__(self, document: Document, written: dict[Path, None]) -> None:
        self._document = document
        self._written = written

    def __getattr__(self, name: str) -> Any:
        return getattr(self._document, name)

    def _note(self, path: Sequence[Segment]) -> None:
        keys: list[Segment] = []
        for key in path:
            if type(key) is not str:
                break
            keys.append(key)
        self._written[tuple(keys)] = None

    def append_text(self, path: Sequence[Segment], text: str) -> None:
        self._note(path)
        self._document.append_text(path, text)

    def replace(self, value: object, *, keep: frozenset[str] = frozenset()) -> None:
        self._note(())
        self._document.replace(value, keep=keep)

    def put(
        self, container: Any, key: Segment, value: object, path: Path, absorbed: bool, **how: Any
    ) -> None:
        self._note((*path, key))
        self._document.put(container, key, value, path, absorbed, **how)

    def put_all(
        self,
        container: Any,
        items: Sequence[tuple[Segment, object]],
        path: Path,
        absorbed: bool,
        **how: Any,
    ) -> None:
        for key, _ in items:
            self._note((*path, key))
        self._document.put_all(container, items, path, absorbed, **how)

    def take(self, container: Any, key: Segment, path: Path, absorbed: bool) -> Json:
        self._note((*path, key))
        return self._document.take(container, key, path, absorbed)

    def remove(self, container: Any, key: Segment, path: Path, absorbed: bool) -> None:
        self._note((*path, key))
        self._document.remove(container, key, path, absorbed)

    def replace_items(
        self,
        container: list[Json],
        index: int,
        count: int,
        items: Iterable[object],
        path: Path,
        absorbed: bool,
        **how: Any,
    ) -> None:
        self._note(path)
        self._document.replace_items(container, index, count, items, path, absorbed, **how)

    def reorder(
        self, container: list[Json], before: list[Json], after: list[Json], path: Path, absorbed: bool
    ) -> None:
        self._note(path)
        self._document.reorder(container, before, after, path, absorbed)


def keep_written(old: Json, now: Json, written: Iterable[Path]) -> Json:
    """`old`, which is changed, with what stands in `now` at the places in `written`."""
    for path in written:
        if not path:
            return now
        value, container = _at(now, path), _at(old, path[:-1])
        if type(container) is not dict:
            continue
        if value is _ABSENT:
            container.pop(cast(str, path[-1]), None)
        else:
            container[cast(str, path[-1])] = value
    return old


def _at(value: Any, path: Path) -> Any:
    for key in path:
        if type(value) is not dict or key not in value:
            return _ABSENT
        value = value[key]
    return value
