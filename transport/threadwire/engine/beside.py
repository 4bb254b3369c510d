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
from ..core.operations import Json, Operation, Path, Segment
from .hosting import Hosting, Questions
from .run import Given, Run

if TYPE_CHECKING:
    from .runner import Runner

_ABSENT: Final = object()


class Beside:
    """The host of a handler beside the run: it can't wait for clients, since a wait belongs to the run."""

    beside = True
    rolls_back = False

    def __init__(self, runner: Runner) -> None:
        self.flush = runner.flush
        self.new_id = runner.new_id
        self.take = runner.take
        self.epoch = runner.epoch
        self.client_tools = runner.client_tools
        self.stored_notes = runner.stored_notes
        self.note = runner.note
        self.apply = runner.apply
        self.reject = runner.reject
        self.error_info = runner.error_info

    async def interrupt(self, value: object) -> Json:
        raise _cannot_wait()

    async def call_client_tool(self, name: str, args: object) -> AddToolResult:
        raise _cannot_wait()

    def recovered(self) -> None:
        pass  # it begins with each start

    async def ask(self, questions: Questions) -> Sequence[Given]:
        raise _cannot_wait()

    def hosting(self, run: Run, draft: Draft) -> Hosting:
        return Hosting(draft, self, run)


def _cannot_wait() -> AgentError:
    return AgentError("a handler beside the run can't wait for clients")


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

    def set(self, path: Sequence[Segment], value: object) -> None:
        self._note(path)
        self._document.set(path, value)

    def delete(self, path: Sequence[Segment]) -> None:
        self._note(path)
        self._document.delete(path)

    def splice(self, path: Sequence[Segment], index: int, delete_count: int, items: Iterable[object]) -> None:
        self._note(path)
        self._document.splice(path, index, delete_count, items)

    def edit(self, operation: Operation) -> None:
        self._note(operation.path)
        self._document.edit(operation)

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
        *parents, key = cast("tuple[str, ...]", path)
        value = _at(now, path)
        container: Any = old
        for parent in parents:
            if type(container) is dict and value is not _ABSENT:
                container.setdefault(parent, {})  # the run had made it
            container = _at(container, (parent,))
        if type(container) is not dict:
            continue
        if value is _ABSENT:
            container.pop(key, None)
        else:
            container[key] = value
    return old


def _at(value: Any, path: Path) -> Any:
    for key in path:
        if type(value) is not dict or key not in value:
            return _ABSENT
        value = value[key]
    return value
