"""Where a run that was cut stands: its last checkpoint, and whether the graph goes on by itself from there.

Each checkpoint that a call saves names the commands it carries out. So those have had their effect that
are named by a checkpoint which goes back to where the run began.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import aclosing
from typing import Any, NamedTuple

from langgraph.checkpoint.base import CheckpointTuple
from langgraph.graph import START
from langgraph.types import StateSnapshot

from .checkpoints import Call
from .graph_thread import GraphThread
from .saver import COMMANDS, EPOCH, RUN


class _Saved(NamedTuple):
    """A checkpoint as a later process finds it."""

    run: str | None
    epoch: int
    updates: bool
    commands: list[str]
    before: str | None
    messages: list[Any]

    def counts(self, call: Call) -> bool:
        """Whether it does though the log doesn't name it: not as an update, nor of an owner before."""
        return self.epoch >= call["epoch"] and not self.updates


async def find_head(thread: GraphThread, call: Call) -> set[str]:
    """Finds the last checkpoint that the cut run saved, and the commands that its checkpoints name.

    It descends from the head or from where the call went on, and is not of an owner before the call's.
    """
    roots = {thread.checkpoints.head, call["start"]}
    oldest = thread.checkpoints.base(thread.run.id) or ""
    saved: dict[str, _Saved] = {}
    async with aclosing(thread.inner.alist(thread.config)) as found:  # type: ignore[type-var]
        async for each in found:
            if each.checkpoint["id"] < oldest:
                break
            if not each.config["configurable"].get("checkpoint_ns"):
                saved[each.checkpoint["id"]] = _read_saved(thread, each)
    own = {id for id, each in saved.items() if each.run == thread.run.id}
    for id in sorted(own, reverse=True):
        line = [id]
        while line[-1] in own and (before := saved[line[-1]].before) is not None:
            line.append(before)
        start = next((place for place, each in enumerate(line) if each in roots), None)
        if start is None and None in roots and saved[line[-1]].before is None:
            start = len(line)
        if start is not None and all(saved[each].counts(call) for each in line[:start]):
            await _adopt(thread, line, start, saved, call)
            return {command for each in line if each in own for command in saved[each].commands}
    return set()


def _read_saved(thread: GraphThread, found: CheckpointTuple) -> _Saved:
    marks: Mapping[str, Any] = found.metadata
    values = found.checkpoint["channel_values"]
    messages = values.get(thread.shape.messages) if thread.shape.messages else None
    return _Saved(
        run=marks.get(RUN),
        epoch=int(marks.get(EPOCH, 0)),
        updates=marks.get("source") == "update",
        commands=str(marks.get(COMMANDS, "")).split(),
        before=(found.parent_config or {}).get("configurable", {}).get("checkpoint_id"),
        messages=messages if isinstance(messages, list) else [],
    )


async def _adopt(
    thread: GraphThread, line: Sequence[str], start: int, saved: Mapping[str, _Saved], call: Call
) -> None:
    """The checkpoints of `line`, newest first, up to that at `start` come after what is noted."""
    found = await thread.inner.aget_tuple(thread.at(line[start])) if start < len(line) else None
    thread.checkpoints.follow(_read_saved(thread, found).messages if found is not None else [])
    for id in reversed(line[:start]):
        each = saved[id]
        thread.checkpoints.saved(id, each.before, each.messages, dict(call["messages"].values()))
        thread.saver.head = id


async def at_breakpoint(thread: GraphThread, state: StateSnapshot, call: Call | None) -> bool:
    """Whether the graph was stopped here, before or after a node, by how it was compiled."""
    head = thread.saver.head
    if thread.checkpoints.notes.get("breakpoint") == head is not None:
        return True
    if call is None or head == call["start"] or (state.metadata or {}).get("source") == "fork":
        return False  # it went on from here
    if _names_any(thread.graph.interrupt_before_nodes, state.next):
        return True
    if not thread.graph.interrupt_after_nodes or state.parent_config is None:
        return False
    before = await thread.graph.aget_state(state.parent_config)
    return _names_any(thread.graph.interrupt_after_nodes, [task.name for task in before.tasks])


def goes_on(state: StateSnapshot) -> bool:
    """Whether anything is to run that doesn't wait for an answer, or what has run is to be put together."""
    waits = any(task.result is None and not task.interrupts for task in state.tasks)
    return bool(state.tasks) and (waits or not state.interrupts)


def _names_any(nodes: str | Sequence[str], names: Sequence[str]) -> bool:
    """Whether any of the names is of the nodes; `*` is all but the start."""
    return any(name != START and (nodes == "*" or name in nodes) for name in names)
