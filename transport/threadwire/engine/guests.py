"""Subscribers of an owner's thread that are connected to other nodes, as far as the owner needs to know them.

They get the thread's updates from the log, by way of their own node. The owner only counts them, and
gives tool calls to those that execute some.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Final, cast
from weakref import WeakValueDictionary

from .message import Message
from .signals import Execute, Presence, Row
from .store import Append
from .subscriber import Subscriber

if TYPE_CHECKING:
    from .nodes import Nodes
    from .thread import Thread

SILENT_S: Final = 7.0
"""A node that hasn't said for so long that it follows a thread does so no more."""
_UNHEARD_S: Final = 4.0
"""Who follows a thread has found out by then that it has another owner, and said that it is there."""


class GuestConnection:
    """A connection of another node: only to tell which commands and subscribers come from the same."""

    __slots__ = ("__weakref__", "name", "node")

    def __init__(self, node: str, name: str) -> None:
        self.node = node
        self.name = name


class Guest:
    """A subscriber at another node that executes tools. Stands where a `Subscriber` would."""

    __slots__ = ("_nodes", "_thread", "calls", "name", "sink", "tools")

    def __init__(self, nodes: Nodes, thread: str, name: str, sink: GuestConnection) -> None:
        self._nodes = nodes
        self._thread = thread
        self.name = name
        self.sink = sink
        self.tools: tuple[str, ...] = ()
        self.calls: dict[str, None] = {}
        """Given to it. Said again and again: the bus may lose it, and what comes twice does no harm."""

    def tool(self, message: Message) -> None:
        frame = message.frame("json")
        self.calls[frame.tool_call_id] = None  # type: ignore[union-attr]
        self.say_calls(lambda call: True)

    def say_calls(self, is_open: Callable[[str], bool]) -> None:
        self.calls = {call: None for call in self.calls if is_open(call)}
        for call in self.calls:
            self._nodes.say(self.sink.node, Execute(thread=self._thread, subscriber=self.name, call=call))


class _Node:
    def __init__(self) -> None:
        self.heard_at = 0.0
        self.readers = 0
        self.guests: dict[str, Guest] = {}


class Guests:
    """One for each thread that this node owns."""

    def __init__(
        self, nodes: Nodes, thread: Thread, *, version: int, confirmed_at: float, goes_on: bool
    ) -> None:
        """`goes_on`: the thread is taken in the midst of a run, which others may be reading."""
        self._bus = nodes
        self._version = version
        self._thread = thread
        self._loop = asyncio.get_running_loop()
        self._nodes: dict[str, _Node] = {}
        self.confirmed_at = confirmed_at
        """When the store was last asked to begin this node's lease anew, and did."""
        self._unheard_until = self._loop.time() + _UNHEARD_S if goes_on else None
        """Until when somebody is taken to read who has had no time to say so."""
        self._connections: WeakValueDictionary[tuple[str, str], GuestConnection] = WeakValueDictionary()

    @property
    def nodes(self) -> list[str]:
        """Those that follow the thread."""
        return list(self._nodes)

    @property
    def readers(self) -> int:
        unheard = 0 if self._unheard_until is None else 1
        return unheard + sum(node.readers for node in self._nodes.values())

    async def confirm(self, *, anew: bool = False) -> None:
        """Returns where no other node can have the thread; loses it where one has. `anew`: or has had."""
        if anew or self._loop.time() - self.confirmed_at >= self._bus.lease_s:
            await self._bus.confirm(self._thread)

    def wrote(self, entry: Append) -> None:
        """Tells of what is durable now: by the row itself, where there is no more to it than that."""
        self._version += 1
        row = None
        if self._nodes and not entry.commands and entry.run is None and entry.data is not None:
            row = Row(entry.thread, entry.epoch, entry.seq, self._version, entry.data)
        for node in self._nodes:
            self._bus.wrote(node, self._thread.id, row)

    def __iter__(self) -> Iterator[Guest]:
        for node in self._nodes.values():
            yield from node.guests.values()

    def connection(self, origin: str) -> GuestConnection:
        """The connection that a command came from, as `node/name`."""
        node, _, name = origin.partition("/")
        found = self._connections.get((node, name))
        if found is None:
            found = self._connections[node, name] = GuestConnection(node, name)
        return found

    def expect(self, origin: str) -> None:
        """A command came from a node: whoever sent it reads there, until the node says otherwise."""
        name = origin.partition("/")[0]
        if name not in self._nodes:
            node = self._nodes[name] = _Node()
            node.heard_at = self._loop.time()
            node.readers = 1
            self._thread.absence.changed()

    def heard(self, presence: Presence) -> None:
        """A node says who is there."""
        if presence.node not in self._nodes:
            self._bus.wrote(presence.node, self._thread.id, None)  # it has not been told until now
        node = self._nodes.setdefault(presence.node, _Node())
        node.heard_at = self._loop.time()
        node.readers = presence.readers
        self._thread.absence.changed()
        before, node.guests = node.guests, {}
        new: list[Guest] = []
        for tools in presence.tools:
            guest = before.pop(tools.subscriber, None)
            known = guest is not None
            if guest is None:
                connection = self.connection(f"{presence.node}/{tools.connection}")
                guest = Guest(self._bus, self._thread.id, tools.subscriber, connection)
            guest.tools = tools.names
            node.guests[tools.subscriber] = guest
            if known:
                guest.say_calls(self._thread.waiting.is_open)
            else:
                new.append(guest)
        for guest in new:
            self._thread.waiting.joined(_executor(guest))
        for gone in before.values():
            self._thread.waiting.left(_executor(gone))

    def expire(self) -> None:
        """Forgets nodes that are silent."""
        now = self._loop.time()
        if self._unheard_until is not None and now > self._unheard_until:
            self._unheard_until = None
            self._thread.absence.changed()
        for name, node in list(self._nodes.items()):
            if now - node.heard_at > SILENT_S:
                del self._nodes[name]
                for guest in node.guests.values():
                    self._thread.waiting.left(_executor(guest))
                self._thread.absence.changed()


def _executor(guest: Guest) -> Subscriber:
    """It does all that is asked of a subscriber that executes tools."""
    return cast(Subscriber, guest)
