"""The graph's state of one thread, and the document that shows it.

Every read of the state goes through here, and every change of it that is no call of the graph: those
leave a checkpoint too, which is noted down when it is shown.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

from langchain_core.messages import BaseMessage
from langchain_core.runnables import RunnableConfig
from langgraph.channels import DeltaChannel
from langgraph.graph import END, START
from langgraph.types import StateSnapshot, StateUpdate

from threadwire.core.draft import RESERVED
from threadwire.core.errors import Refused
from threadwire.core.operations import Json
from threadwire.engine.run import Run

from .answers import closing_messages
from .checkpoints import Checkpoints
from .converter import Converter
from .message_json import message_from_json, plain
from .messages import value_at
from .saver import COMMANDS, EPOCH, RUN, CheckpointLost, HeadSaver, Saver, saver_for
from .serialise import to_json
from .shape import Shape, editor_of
from .source import Graph

_RESUME: Final = "__resume__"
"""The channel of answers that a task has taken."""


class GraphThread:
    """A thread of `graph`, as one run has it.

    Args:
        inner: the checkpointer that keeps the graph's threads.
        config: what every call is configured with.
    """

    def __init__(
        self,
        run: Run,
        graph: Graph,
        inner: Saver,
        checkpoints: Checkpoints,
        shape: Shape,
        *,
        config: RunnableConfig,
    ) -> None:
        self.run = run
        self.hosting = run.hosting
        self.checkpoints = checkpoints
        self.shape = shape
        self.config = config
        self.inner = inner = saver_for(graph, inner)
        self.marks = {RUN: run.id, EPOCH: str(self.hosting.epoch), COMMANDS: ""}
        """What each checkpoint is marked with."""
        self.saver = HeadSaver(inner, checkpoints.head, metadata=self.marks, saved=self._saved)
        self.graph: Graph = graph.copy(update={"checkpointer": self.saver})
        self.editor = editor_of(self.graph)
        self.converter = Converter(self.hosting, messages=shape.messages, shares=shape.shares)
        self.call_saved: Callable[[str, str | None, list[Any]], None] | None = None
        """Called with each checkpoint that a call of the graph has saved, the one before and its messages."""
        self._updating = False
        """Whether an update is being made, of which nothing is noted until it is shown."""
        self._unnamed: list[tuple[str, str | None, list[Any]]] = []
        """The checkpoints of it."""

    # the state

    async def state(self) -> StateSnapshot:
        self.saver.read = None
        return await self.graph.aget_state(self.config)

    async def shown_or_before(self) -> StateSnapshot:
        """The state, shown as that of a cut run; where it is of no use, the last one before, without tasks.

        It is of none where a node has written what another one's schema refuses, since that fails before each
        next task, for ever; or where it is larger than states may be.
        """
        while True:
            try:
                state = await self.state()
            except CheckpointLost:
                raise
            except Exception:
                if self.saver.read is None:
                    raise  # it is the checkpointer that has failed
            else:
                try:
                    self.show(state, cut=True)
                    return state
                except Refused:
                    if self.saver.read is None:
                        raise  # nothing could be less
            before = (self.saver.read.parent_config or {}).get("configurable", {}).get("checkpoint_id")
            self._unnamed.clear()
            self.saver.head = self.checkpoints.head = before
            if before is not None:
                await self.update({})

    async def settle(self) -> StateSnapshot:
        """Shows the graph's state as it is kept."""
        self.converter.finish()
        state = await self.state()
        self.show(state)
        return state

    def show(self, state: StateSnapshot, *, cut: bool = False) -> None:
        """Shows a state that was just read, and notes down the checkpoint that it is of.

        `cut`: what the run has streamed beyond it stays until it is streamed anew.
        """
        for each in self._unnamed:
            self.checkpoints.saved(*each, {})
        self._unnamed.clear()
        # Tasks that were interrupted run again: what they have streamed is what clients are asked about.
        self.converter.settle(state.values, cut=cut or bool(state.interrupts))
        self.checkpoints.follow(self._kept_messages(state))

    def _kept_messages(self, state: StateSnapshot) -> list[Any]:
        """Those that the head holds: a state also shows what has run since, before a checkpoint has it."""
        name, read = self.shape.messages, self.saver.read
        if name is None or read is None or isinstance(self.graph.channels.get(name), DeltaChannel):
            return self.messages(state)
        kept = read.checkpoint["channel_values"].get(name)
        return kept if isinstance(kept, list) else []

    async def places(self, state: StateSnapshot) -> dict[str, str]:
        """By interrupt that a subgraph asks, the `ns` of its call."""
        if not any(task.interrupts and task.state is not None for task in state.tasks):
            return {}
        return _places_in(await self.graph.aget_state(self.config, subgraphs=True))

    async def asked(self, state: StateSnapshot) -> dict[str, Json]:
        """By interrupt: what is asked, and how many answers its task has taken before.

        A node that asks twice does so under the same id.
        """
        if not state.interrupts:
            return {}
        return await self._asked_in(await self.graph.aget_state(self.config, subgraphs=True))

    async def _asked_in(self, state: StateSnapshot) -> dict[str, Json]:
        found = await self.saver.aget_tuple(state.config)
        pending = found.pending_writes if found is not None else None
        before = {task: len(value) for task, channel, value in pending or () if channel == _RESUME}
        asked: dict[str, Json] = {}
        for task in state.tasks:
            # A subgraph may have gone on since its interrupts were told to the graph above.
            inner = await self._asked_in(task.state) if isinstance(task.state, StateSnapshot) else {}
            own = {each.id: [to_json(each.value), before.get(task.id, 0)] for each in task.interrupts}
            asked.update(inner or own)
        return asked

    def messages(self, state: StateSnapshot) -> list[Any]:
        values = state.values
        found = values.get(self.shape.messages) if self.shape.messages and isinstance(values, dict) else None
        # A graph with a reducer of its own may have other things between them.
        return [each for each in found if isinstance(each, BaseMessage)] if isinstance(found, list) else []

    def at(self, checkpoint: str | None) -> RunnableConfig:
        given = {**self.config["configurable"], "checkpoint_id": checkpoint}
        return {**self.config, "configurable": given}

    # changes

    async def update(self, values: Any, node: str | None = None) -> None:
        """Changes channels. By default it leaves nothing to run; in the name of a node, what follows it."""
        with self._update_counts_when_shown():
            if node is None:
                await self.editor.abulk_update_state(self.config, [[StateUpdate(values, START)]])
            else:
                await self.graph.aupdate_state(self.config, values, as_node=node)

    @contextmanager
    def _update_counts_when_shown(self) -> Iterator[None]:
        """What is saved within is noted down when the state is shown, to be durable together with that."""
        self._updating = True
        try:
            yield
        finally:
            self._updating = False

    async def close(self, state: StateSnapshot, more: Sequence[Any] = (), *, why: str = "cancelled") -> None:
        """Ends what the graph is in the midst of: drops its tasks, adds messages, and closes open calls."""
        updates = [[StateUpdate(None, END)]] if state.tasks else []
        before = self.messages(state)
        if self.shape.messages is not None:
            added = [*more, *closing_messages([*before, *more], self.run.new_id, why)]
            if added:
                updates.append([StateUpdate(self.adding(added, before), START)])
        if updates:
            with self._update_counts_when_shown():
                await self.editor.abulk_update_state(self.config, updates)
            await self.settle()

    def adding(self, messages: list[Any], before: list[Any]) -> dict[str, Any]:
        """An update that adds messages to those that the graph has."""
        name = self.shape.messages
        assert name is not None, "there is no conversation"
        return {name: messages if self.shape.reduces(name) else [*before, *messages]}

    async def has_head(self) -> bool:
        try:
            return await self.saver.aget_tuple(self.config) is not None
        except CheckpointLost:
            return False

    async def seed(self) -> None:
        """Gives a graph that knows nothing of the thread what is shown of it."""
        self.saver.head = self.checkpoints.head = None
        root = self.hosting.document.root
        values: dict[str, Any] = {}
        for name, value in root.items() if type(root) is dict else ():
            if name == RESERVED or not self.shape.takes(name):
                continue
            if name == self.shape.messages and type(value) is list:
                messages = [message_from_json(plain(item)) for item in value]
                for message in messages:
                    message.id = message.id or self.run.new_id()
                # They have no checkpoints of their own to go back to.
                self.checkpoints.follow(messages)
                values[name] = self.shape.whole(name, messages)
            elif value is not None:
                values[name] = self.shape.whole(name, plain(value))
        self.checkpoints.forget()
        self.converter.remove("branches")
        if values:
            await self.update(values)
            await self.settle()

    # what is shown

    def shown_messages(self) -> list[Any]:
        if self.shape.messages is None:
            return []
        found = value_at(self.hosting.document, (self.shape.messages,))
        return found if type(found) is list else []

    def shown_ids(self) -> list[str]:
        found = [item.get("id") for item in self.shown_messages() if type(item) is dict]
        return [id for id in found if type(id) is str and id]

    def last_turn(self) -> list[BaseMessage]:
        """What is shown after the last message that isn't a model's or a tool's."""
        turn: list[BaseMessage] = []
        for item in reversed(self.shown_messages()):
            if type(item) is not dict or item.get("type") not in ("ai", "tool"):
                break
            turn.append(message_from_json(plain(item)))
        return turn[::-1]

    def _saved(self, id: str, before: str | None, checkpoint: Any) -> None:
        """A checkpoint of the graph is durable."""
        values = checkpoint["channel_values"]
        messages = values.get(self.shape.messages) if self.shape.messages else None
        if not isinstance(messages, list):
            messages = self.converter.root.known
        if self._updating:
            self._unnamed.append((id, before, messages))
        elif self.call_saved is not None:
            self.call_saved(id, before, messages)


def _places_in(state: StateSnapshot) -> dict[str, str]:
    places: dict[str, str] = {}
    for task in state.tasks:
        if isinstance(task.state, StateSnapshot):
            ns = task.state.config["configurable"]["checkpoint_ns"]
            places.update(dict.fromkeys((each.id for each in task.interrupts), ns))
            places.update(_places_in(task.state))
    return places
