"""What comes along with a command: durable with it, and given to the run that it starts.

Spec: PROTOCOL.md §14.9 and §14.13.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from ..core.operations import Json


class Sent(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One request's, the same for all of its commands.

    Attributes:
        context: what else the client sent: `tools`, `system` and the like.
        absence_s: how long the run may go on with nobody there to see it; None: to its end.
    """

    context: dict[str, Json] = {}
    absence_s: float | None = None

    def encode(self) -> bytes:
        """As a store keeps it."""
        return msgspec.json.encode(self)

    @classmethod
    def decode(cls, data: bytes | None) -> Sent | None:
        """What `encode` made, or None for a command that came without."""
        return None if data is None else msgspec.json.decode(data, type=Sent)


def newest_context(batch: Iterable[Sent | None]) -> dict[str, Any]:
    """The context of a run: that of the last of its commands that came with any. It is the run's own."""
    newest: dict[str, Any] = {}
    for sent in batch:
        if sent is not None and sent.context:
            newest = sent.context
    return msgspec.json.decode(msgspec.json.encode(newest))  # type: ignore[no-any-return]


def patience_of(batch: Iterable[Sent | None]) -> float | None:
    """How long a run of these commands may go on alone; None where any of them is to be seen through."""
    longest = 0.0
    for sent in batch:
        if sent is None or sent.absence_s is None:
            return None
        longest = max(longest, sent.absence_s)
    return longest
