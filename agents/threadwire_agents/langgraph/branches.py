"""Where a conversation parts: the other ways it has gone, and where each of them goes on from.

Spec: PROTOCOL.md §15.5.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from langchain_core.messages import AnyMessage, BaseMessage

from threadwire.core.draft import RESERVED
from threadwire.core.operations import Json

from .graph_thread import GraphThread
from .messages import value_at


class Branches:
    """The branches of one thread."""

    def __init__(self, thread: GraphThread) -> None:
        self._thread = thread
        self.fork: tuple[str, str] | None = None
        """Where the run goes another way: after a message, beside another one that followed it."""

    def leave(self, *messages: str) -> None:
        """The branch that the thread is on is left as it is, wherever branches part on it."""
        groups = value_at(self._thread.hosting.document, (RESERVED, "branches"))
        shown = self._thread.shown_ids() if type(groups) is dict else []
        for message in {*messages, *(id for id in shown if id in groups)}:
            self._thread.checkpoints.leave(message)

    def _siblings(self, message: str) -> list[str]:
        found = value_at(self._thread.hosting.document, (RESERVED, "branches", message))
        return list(found) if type(found) is list else [message]

    def join(self, old: str, new: str) -> None:
        """`new` stands beside `old` where branches part."""
        group: list[Json] = [*self._siblings(old)]
        if new in group:
            return
        group.append(new)
        for message in group:
            self._thread.converter.put(("branches", str(message)), group)

    def note(self, messages: Sequence[Any]) -> None:
        """The first message that the other way has brought stands beside the one of the way before."""
        assert self.fork is not None
        after, old = self.fork
        messages = [message for message in messages if isinstance(message, BaseMessage)]
        for place in range(len(messages) - 1, 0, -1):
            if messages[place - 1].id == after:
                if messages[place].id != old:
                    self.join(old, str(messages[place].id))
                    self.fork = None
                return

    async def where_next(self, message: str) -> str | None:
        """The checkpoint that ends with the message and has something to run after it."""
        try:
            first = self._thread.checkpoints.first(message)
        except KeyError:
            return None
        found = await self._thread.graph.aget_state(self._thread.at(first))
        messages = self._thread.messages(found)
        return first if found.next and messages and messages[-1].id == message else None

    async def cut_short(self, gone: Collection[str], *more: AnyMessage) -> Any:
        """The input that gives the conversation another end, where no checkpoint is known to go back to."""
        name = self._thread.shape.messages
        assert name is not None, "there is no conversation"
        before = self._thread.messages(await self._thread.state())
        kept = [message for message in before if message.id not in gone]
        return {name: self._thread.shape.whole(name, [*kept, *more])}
