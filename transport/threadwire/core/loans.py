"""Notices when an agent goes on editing a container after the state took a copy of it.

Such an edit goes nowhere: `message = {...}; messages.append(message); message["content"] += token`
would lose text without a word. So what was copied in is compared, later, with how it was then.

Spec: none, this is between the server and its agents.
"""

from __future__ import annotations

from collections.abc import Mapping
from sys import getrefcount
from typing import Any, Final

import msgspec

from .errors import ThreadwireError
from .operations import Json, Path, format_path
from .values import Wrapper

_SMALL: Final = 4096
"""Up to this size a container may be compared at any check, a larger one only at the first and last."""
_MAX_LOANS: Final = 1000
_UNCHECKED: Final = 64
_UNCHECKED_BYTES: Final = 256 * 1024
"""So many containers, of so many bytes, may be kept alive only to be compared at the next check."""


class DetachedWrite(ThreadwireError):
    """The agent changed a container after it was copied in, so that the change went nowhere."""

    def __init__(self, path: str) -> None:
        super().__init__(
            f"the value put at {path} was changed afterwards; the state holds a copy: "
            f"change it through the state instead"
        )
        self.path = path


class _Loan:
    """A container of the agent's, what it was like when it was copied, and the copy that the state has."""

    __slots__ = ("container", "content", "copy", "size")

    def __init__(self, container: Any, copy: Any) -> None:
        content = _content(container)
        self.container = container
        self.copy = copy
        self.content = hash(content)
        self.size = len(content or b"")

    def changed(self) -> bool:
        return hash(_content(self.container)) != self.content

    def needed(self) -> bool:
        """Whether anyone else has the copy: the state does, or did lately."""
        copy = self.copy
        return getrefcount(copy) > _UNSHARED

    def held(self) -> bool:
        """Whether anyone else can still edit the container, or one in it."""
        waiting = [self.container]
        while waiting:
            container = waiting.pop()
            inner = _containers_in(container)
            if getrefcount(container) > _UNSHARED and (inner or type(container) is not tuple):
                return True
            waiting += inner
        return False


def _containers_in(container: Any) -> list[Any]:
    # A list at once, since another thread may be at work on the container.
    items = list(container.values() if isinstance(container, Mapping) else container)
    return [item for item in items if isinstance(item, dict | list | tuple)]


class Loans:
    """The containers to keep an eye on. At most the newest thousand that others hold are."""

    __slots__ = ("_changed", "_kept", "_new", "_sweep_at", "_unchecked", "due")

    def __init__(self) -> None:
        self._new: dict[int, _Loan] = {}
        self._kept: dict[int, _Loan] = {}
        """Those that others held at the last check; the next in turn comes first."""
        self._unchecked = 0
        """About the bytes of the new ones that nobody else may hold."""
        self._sweep_at = _UNCHECKED
        self._changed: _Loan | None = None
        """One that was found changed between checks."""
        self.due = False
        """Whether a check has anything to look at: there is one for every token, mostly with nothing."""

    def lend(self, container: Any, copy: Any) -> None:
        """`copy`, which goes into the state, was made of `container`."""
        if type(copy) not in (dict, list) or isinstance(container, Wrapper):
            return
        # Putting a container in again tells that its changes are known of.
        self._kept.pop(id(container), None)
        loan = self._new[id(container)] = _Loan(container, copy)
        self.due = True
        self._unchecked += loan.size
        if self._unchecked > _UNCHECKED_BYTES or len(self._new) > self._sweep_at:
            self._sweep()

    def check(self, root: Json, *, last: bool = False, patient: bool = False) -> None:
        """Compares what came since the last check, and one of the others in turn; with `last`, all.

        So a check costs the same however many containers an agent holds. A `patient` check leaves
        those alone that someone else can still edit: it may come in the midst of an edit.

        Raises:
            DetachedWrite: one was changed whose copy is in the state `root` still. Nothing is kept
                an eye on from then.
        """
        if self._changed is not None:
            loan, self._changed = self._changed, None
            self._complain(loan, root)
        if self._kept and not last:
            identity = next(iter(self._kept))
            self._look(identity, self._kept.pop(identity), root, compare_held=not patient)
        if self._new:
            new, self._new = self._new, {}
            self._unchecked = 0
            while new:
                identity, loan = new.popitem()
                self._look(identity, loan, root, compare_held=not patient, first=True)
            while len(self._kept) > _MAX_LOANS:
                del self._kept[next(iter(self._kept))]
        if self._kept and last:
            kept, self._kept = self._kept, {}
            for loan in kept.values():
                if loan.changed():
                    self._complain(loan, root)
        self.due = bool(self._kept or self._new)

    def _look(
        self, identity: int, loan: _Loan, root: Json, *, compare_held: bool, first: bool = False
    ) -> None:
        held = loan.held()
        compare = not held or (compare_held and (first or loan.size <= _SMALL))
        if compare and loan.changed():
            self._complain(loan, root)
        elif held:
            self._kept[identity] = loan

    def _complain(self, loan: _Loan, root: Json) -> None:
        """Nothing is lost where the copy is no longer in the state: the change was not meant for it."""
        path = _path_of(loan.copy, root)
        if path is not None:
            self._new.clear()
            self._kept.clear()
            raise DetachedWrite(format_path(path))

    def _sweep(self) -> None:
        """Lets go of those that can't be changed any more, or have no copy in the state any more."""
        for identity, loan in list(self._new.items()):
            if not loan.held():
                del self._new[identity]
                if self._changed is None and loan.changed():
                    self._changed = loan
            elif not loan.needed():
                del self._new[identity]
        while len(self._new) > _MAX_LOANS:
            del self._new[next(iter(self._new))]
        self._unchecked = 0
        self._sweep_at = max(_UNCHECKED, 2 * len(self._new))


def _path_of(container: Any, root: Json) -> Path | None:
    """Where in a state the very container is, if it is."""
    waiting: list[tuple[Path, Any]] = [((), root)]
    while waiting:
        path, value = waiting.pop()
        if value is container:
            return path
        if type(value) is dict or type(value) is list:
            items = value.items() if type(value) is dict else enumerate(value)
            waiting += [((*path, key), item) for key, item in items if type(item) in (dict, list)]
    return None


def _content(container: Any) -> bytes | None:
    """All that is in a container; None for what no state takes."""
    try:
        return _encode(container)
    except (TypeError, ValueError, OverflowError, RecursionError):
        return None


def _plain(value: Any) -> Any:
    """What msgspec doesn't know by itself. A view changes with the state: its changes aren't lost."""
    if isinstance(value, Wrapper):
        return None
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError


_encode: Final = msgspec.msgpack.Encoder(enc_hook=_plain, order="deterministic").encode


def _unshared() -> int:
    """The references to a container that only a loan has, as its methods count them."""
    loan = _Loan([], None)
    container = loan.container
    return getrefcount(container)


_UNSHARED: Final = _unshared()
