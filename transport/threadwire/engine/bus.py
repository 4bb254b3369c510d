"""How nodes talk to each other: short messages that may be lost, late or twice, and are never relied on.

What must not be lost is in the store. The bus makes it be seen soon, and carries what is said again until
it is answered. So another one (Redis, NATS) can take the place of the store's own.
"""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import Final, Protocol, Self

MAX_MESSAGE: Final = 7000
"""Characters that a message may have: PostgreSQL's NOTIFY takes no more than 8,000 bytes."""


class Bus(Protocol):
    """Use as an async context manager, after `on_message` and `on_gap` were set.

    Attributes:
        on_message: called on the event loop with each message for this node or for all.
        on_gap: called when messages may have been missed, as after a connection was lost.
    """

    on_message: Callable[[str], None]
    on_gap: Callable[[], None]

    async def __aenter__(self) -> Self: ...

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def send(self, node: str | None, message: str) -> None:
        """Sends a message of ASCII text to a node, or to all others; returns at once, never raises.

        Those sent in one tick of the event loop may go together.
        """
        ...


class MemoryBus:
    """Nodes of one process. Each has its own `MemoryBus`, all made with the same `peers`."""

    def __init__(self, node: str, peers: dict[str, MemoryBus]) -> None:
        self.on_message: Callable[[str], None] = lambda message: None
        self.on_gap: Callable[[], None] = lambda: None
        self._node = node
        self._peers = peers

    async def __aenter__(self) -> Self:
        self._peers[self._node] = self
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._peers.pop(self._node, None)

    def send(self, node: str | None, message: str) -> None:
        for name, peer in list(self._peers.items()):
            if name == node or (node is None and peer is not self):
                self.deliver(peer, message)

    def deliver(self, peer: MemoryBus, message: str) -> None:
        """For tests to override: brings a message to a peer."""
        peer.on_message(message)
