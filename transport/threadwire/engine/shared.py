"""What a store promises beyond `store` where many nodes use it at once: leases, and logs to follow.

A node that takes a thread gets a lease on it, and an epoch that fences all before: an append is checked
against the epoch, never against a clock. A lease that isn't renewed ends, and then any node may take
the thread. The time of leases is the store's alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol, runtime_checkable

import msgspec

from ..core.frames import Strategy
from .bus import Bus
from .store import CommandRecord, LogRow, Owned, RunRecord, Store, Submission


class Elsewhere(msgspec.Struct, frozen=True):
    """Another node has the thread, for `lease_s` more seconds at least unless it gives it away."""

    owner: str
    lease_s: float


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """How much of a thread a follower knows."""

    thread: str
    after: int
    """It has the rows up to this seq."""
    run: str | None = None
    """The last run it knows; None asks for the last there is."""
    commands: tuple[str, ...] = ()
    """Those whose status it wants to know."""


class Progress(msgspec.Struct, frozen=True, kw_only=True):
    """A thread at one moment, beyond a follower's place. All of it belongs together.

    `rows` may end before `head`, where there are many. `runs` are the one of the place and those
    after it. `owner` is the node that has a lease, or None. `base` is the epoch of the row that the place
    is after, where that is still kept.
    """

    epoch: int
    head: int
    version: int
    owner: str | None
    base: int | None
    rows: list[LogRow]
    runs: list[RunRecord]
    commands: list[CommandRecord]


class Standing(msgspec.Struct, frozen=True):
    """`version` is one more after each append. `lease_s` is left of the owner's lease."""

    thread: str
    epoch: int
    version: int
    owner: str | None
    lease_s: float


class Arrival(msgspec.Struct, frozen=True):
    """A command that another node put into the inbox. `origin` is the connection it came from."""

    record: CommandRecord
    origin: str | None


@runtime_checkable
class SharedStore(Store, Protocol):
    """A Store that many nodes have open. Each opening is a node of its own, named by `node`.

    An append that failed with StoreUnavailable may still be on its way. It has no effect any more once
    a later append of its thread has, or the thread has been taken again.
    """

    @property
    def node(self) -> str: ...

    @property
    def lease_s(self) -> float:
        """How long a lease lasts."""
        ...

    @property
    def bus(self) -> Bus:
        """To be entered by the engine, while the store is open."""
        ...

    async def take(self, thread: str, *, agent: str | None, now: float) -> Owned | Elsewhere | None:
        """Like `acquire`, where no other node has a lease on the thread."""
        ...

    async def submit(
        self,
        thread: str,
        command: str,
        body: bytes,
        *,
        context: bytes | None = None,
        limit: int,
        now: float,
        strategy: Strategy = "enqueue",
        origin: str | None = None,
    ) -> Submission | None:
        """Like the other's; `origin` is for the owner, where that is another node."""
        ...

    async def arrivals(self, threads: Sequence[str]) -> dict[str, list[str]]:
        """By thread, the ids of commands with the status queued that came with an `origin`."""
        ...

    async def read_arrivals(self, thread: str, ids: Sequence[str]) -> list[Arrival]:
        """Commands of an inbox, by order."""
        ...

    async def renew(self, epochs: Mapping[str, int]) -> set[str]:
        """Begins the leases of this node anew; the threads that it still has, under these epochs."""
        ...

    async def release(self, thread: str, epoch: int, *, parked: bool) -> None:
        """Ends this node's lease, if it has one under that epoch.

        `parked`: what goes on in the thread waits for clients, and isn't to be taken up before they come.
        """
        ...

    async def orphans(self, agents: Sequence[str], *, limit: int) -> list[str]:
        """Threads of these agents that no node has, though something is to be done in them."""
        ...

    async def standings(self, threads: Sequence[str]) -> list[Standing]:
        """Those that exist."""
        ...

    async def follow(self, places: Sequence[Place], *, rows: int) -> dict[str, Progress]:
        """By thread, what has come since; at most `rows` rows of each. Those that exist."""
        ...
