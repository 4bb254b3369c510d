"""What comes along with a command: durable with it, and given to the run that it starts.

Spec: PROTOCOL.md §14.9 and §14.13.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType
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


def joined(batch: Iterable[Sent | None]) -> Sent | None:
    """What came along with commands, None where nothing did: the newest context, the longest time.

    A command that came without one is to be seen through.
    """
    given = list(batch)
    some = [sent for sent in given if sent is not None]
    if not some:
        return None
    contexts = [sent.context for sent in some if sent.context]
    times = [None if sent is None else sent.absence_s for sent in given]
    known = [time for time in times if time is not None]
    return Sent(
        context=contexts[-1] if contexts else {},
        absence_s=max(known) if len(known) == len(times) else None,
    )


def context_of(sent: Sent | None) -> Mapping[str, Any]:
    """The context as a run may have it: nobody else sees what it does to it."""
    context: dict[str, Any] = {} if sent is None else msgspec.json.decode(msgspec.json.encode(sent.context))
    return MappingProxyType(context)
