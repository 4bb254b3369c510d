"""One thread's state as a client holds it, moved along the log by snapshots and updates.

States are immutable: an update makes a new one, which shares all that it left alone with the one
before. What to ask for when a frame doesn't fit is decided in `client_session`.

Spec: PROTOCOL.md §4.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

import msgspec

from .canonical import state_hash
from .errors import Refused
from .frames import Position, Snapshot, Update
from .operations import Json, apply

Outcome: TypeAlias = Literal["applied", "misfit", "diverged"]
"""What a frame did to a replica: it was taken in; it doesn't lead on from here; it showed that the
replica isn't what the server has."""


class Replica:
    """`state` at `position`, which is None until the first snapshot."""

    def __init__(self) -> None:
        self.state: Json = None
        self.position: Position | None = None
        self._diverged = False

    @property
    def since(self) -> Position | None:
        """Where to resume the log; None asks for a snapshot."""
        return None if self._diverged else self.position

    def snapshot(self, frame: Snapshot) -> Outcome:
        """Puts the frame's state in the place of all there was."""
        if frame.hash is not msgspec.UNSET and not _has_hash(frame.state, frame.hash):
            return self._diverge()
        position = Position(frame.epoch, frame.seq)
        if position != self.since:  # else it is the state that is here, which keeps its identity
            self.state = frame.state
            self.position = position
        self._diverged = False
        return "applied"

    def update(self, frame: Update) -> Outcome:
        """Applies the operations if they lead on from this state. Spec: PROTOCOL.md §4.5."""
        here = self.since
        if here is None or frame.base != here.seq:
            return "misfit"
        try:
            state = apply(self.state, frame.ops)
        except Refused:
            return self._diverge()
        if frame.hash is not None and not _has_hash(state, frame.hash):
            return self._diverge()
        self.state = state
        self.position = Position(frame.epoch, frame.seq)
        return "applied"

    def _diverge(self) -> Outcome:
        self._diverged = True
        return "diverged"


def _has_hash(state: Json, expected: str) -> bool:
    try:
        return state_hash(state) == expected
    except Refused:
        return False
