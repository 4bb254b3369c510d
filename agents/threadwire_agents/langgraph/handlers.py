"""What handlers of custom commands see of a hosted graph's state, and what becomes of their changes.

`run.state` has the graph's channels and the application's own values side by side. A change of a
channel becomes an update of the graph when the handler returns. Every other key stands under
`threadwire.values`, is written at once, and is left alone by edits and branches.

Spec: PROTOCOL.md §15.7.
"""

from __future__ import annotations

from collections.abc import Iterator, MutableMapping, Sequence
from typing import TYPE_CHECKING, Any

from threadwire.core.commands import Command
from threadwire.core.document import Document
from threadwire.core.draft import RESERVED, Draft
from threadwire.core.errors import CommandError, InvalidOperation, Refused
from threadwire.core.operations import Json, Segment
from threadwire.core.values import plain_copy
from threadwire.core.views import Access, DictDraft
from threadwire.engine.agent import Handler
from threadwire.engine.run import Run

from .checkpoints import Checkpoints

if TYPE_CHECKING:
    from .agent import LangGraphAgent

VALUES = "values"


class GraphHandler(Handler[Any]):
    """Calls a handler with the graph's state as it sees it, and makes its changes."""

    def __init__(self, handler: Handler[Any], agent: LangGraphAgent) -> None:
        self.immediate = handler.immediate
        self._handler = handler
        self._agent = agent

    async def __call__(self, run: Run, command: Command) -> None:
        shape = await self._agent.shape(run)
        draft = GraphDraft(run.hosting.document, shape.channels)
        seen = run.over(draft)
        try:
            await self._handler(seen, command)
            changes = draft.changes()
        finally:
            draft.revoke()
        if self.immediate and (changes or seen.agent_wanted):
            wanted = f"change the graph's channel {next(iter(changes))!r}" if changes else "start the graph"
            raise CommandError("invalid-command", f"an immediate handler can't {wanted}")
        if run.hosting.beside and (changes or seen.agent_wanted):
            text = "the run waits for clients; the graph can't be changed or started meanwhile"
            raise CommandError("thread-waiting", text)
        if changes:
            await self._agent.update(run, changes)
        if seen.agent_wanted:
            run.start_agent()
            # Durable together with the command, for a process that finds the run cut off before the call.
            Checkpoints(await run.hosting.notes()).want(run.id)


class GraphDraft(Draft):
    """A draft whose root is a `GraphState`. Channels are edited in a copy."""

    __slots__ = ("_channels", "_names", "_old", "_state")

    def __init__(self, document: Document, names: frozenset[str]) -> None:
        super().__init__(document)
        root = document.root
        shown = root if type(root) is dict else {}
        self._names = names
        self._old: dict[str, Json] = {name: plain_copy(shown[name]) for name in names if name in shown}
        self._channels = Draft(Document(plain_copy(self._old)))
        self._state: GraphState | None = None

    def root(self) -> Any:
        if self._state is None:
            self._state = GraphState(self, self._channels, self._names)
        return self._state

    def revoke(self) -> None:
        super().revoke()
        self._channels.revoke()

    def append_text(self, path: Sequence[Segment], text: str) -> None:
        if path and path[0] in self._names:
            self._channels.append_text(path, text)
        else:
            self.values()
            self.document.append_text((RESERVED, VALUES, *path), text)

    def replace(self, value: object) -> None:
        raise InvalidOperation("invalid-operation", "a graph's state can't be replaced as a whole", "state")

    def values(self) -> DictDraft:
        """The application's own values, made where there are none."""
        document = self.document
        root: Any = document.root
        if RESERVED not in root:
            document.set((RESERVED,), {VALUES: {}})
        elif VALUES not in root[RESERVED]:
            document.set((RESERVED, VALUES), {})
        access = Access(document)
        outer = DictDraft(access, DictDraft(access, None, None, root), RESERVED, root[RESERVED])
        return DictDraft(access, outer, VALUES, root[RESERVED][VALUES])

    def has_values(self) -> bool:
        root: Any = self.document.root
        return VALUES in root.get(RESERVED, {})

    def changes(self) -> dict[str, Json]:
        """The channels that the handler has changed, as it left them."""
        new: Any = self._channels.document.root
        return {
            name: plain_copy(value)
            for name, value in new.items()
            if name not in self._old or value != self._old[name]
        }


class GraphState(MutableMapping[str, Any]):
    """The graph's channels and the application's own values, in one mapping."""

    def __init__(self, draft: GraphDraft, channels: Draft, names: frozenset[str]) -> None:
        self._draft = draft
        self._channels: Any = channels.root()
        self._names = names

    def __getitem__(self, key: str) -> Any:
        if key in self._names:
            return self._channels[key]
        if not self._draft.has_values():
            raise KeyError(key)
        return self._draft.values()[key]

    def __setitem__(self, key: str, value: Any) -> None:
        if key in self._names:
            self._channels[key] = value
        elif key == RESERVED:
            raise Refused("reserved-key", f"the key {RESERVED!r} is the server's", "state")
        else:
            self._draft.values()[key] = value

    def __delitem__(self, key: str) -> None:
        if key in self._names:
            raise InvalidOperation(
                "invalid-operation", "a channel of a graph can't be removed", f"state.{key}"
            )
        if key not in self:
            raise KeyError(key)
        del self._draft.values()[key]

    def setdefault(self, key: str, default: Any = None) -> Any:
        # What stands in the state then, where the mixin's returns what was given.
        if key not in self:
            self[key] = default
        return self[key]

    def __iter__(self) -> Iterator[str]:
        yield from self._channels
        if self._draft.has_values():
            yield from self._draft.values()

    def __len__(self) -> int:
        return len(self._channels) + (len(self._draft.values()) if self._draft.has_values() else 0)
