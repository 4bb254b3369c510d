"""Calls of the graph: each is noted down, streamed into the document, and carries commands out.

A command has had its effect once what it brought is both shown and in a checkpoint.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from typing import Any

from langchain_core.messages import AnyMessage
from langgraph.errors import GraphDrained, GraphRecursionError
from langgraph.runtime import RunControl
from langgraph.types import StateSnapshot

from threadwire.core.errors import AgentError
from threadwire.core.operations import Json
from threadwire.engine.run import Given

from .answers import open_calls
from .branches import Branches
from .checkpoints import CALL, Call
from .converter import MODES
from .graph_thread import GraphThread
from .saver import COMMANDS, CheckpointLost


class Calls:
    """The calls that one run makes of its graph.

    Args:
        context: what the graph's runtime context is.
        durability: as LangGraph takes it.
    """

    def __init__(self, thread: GraphThread, branches: Branches, *, context: Any, durability: Any) -> None:
        self._thread = thread
        self._branches = branches
        self._context = context
        self._durability = durability
        self.given: dict[str, tuple[str, str | None]] = {}
        """By command, the id of its message and the head before it."""
        self.carried: list[Given] = []
        """The commands that the call under way carries out, until they have had their effect."""
        self._input: set[str] = set()
        """Ids of messages in its input."""
        self._told = False
        self._durable = False
        self._control: RunControl | None = None
        """Stops the graph, while it is called, for what was steered in."""
        self._running: set[str] = set()
        """The root graph's tasks that have begun and not ended."""
        thread.call_saved = self._saved

    async def call(
        self,
        input: Any,
        *,
        given: Sequence[Given] = (),
        messages: Sequence[AnyMessage] = (),
        answers: Mapping[str, dict[str, Json]] | None = None,
        fork: bool = False,
        start: str | None = None,
        resuming: bool = False,
    ) -> tuple[StateSnapshot, bool]:
        """Calls the graph: its state when it stops, and whether it was stopped for what was steered in.

        It goes on from the head or, with `fork`, from `start` (None: from nothing). `resuming`: with
        tasks of which some may have ended.
        """
        before = start if fork else self._thread.saver.head
        self.carry(given)
        self._input = {str(message.id) for message in messages}
        for each, message in zip(given, messages, strict=False):
            self.given[each.id] = (str(message.id), before)
        note: Call = {
            "run": self._thread.run.id,
            "epoch": self._thread.hosting.epoch,
            "start": before,
            "messages": dict(self.given),
            "answers": dict(answers or {}),
            "branch": self._branches.fork[1] if self._branches.fork else None,
            "after": self._branches.fork[0] if self._branches.fork else None,
        }
        self._thread.checkpoints.notes[CALL] = dict(note)
        # What is noted has to be durable before the graph can leave anything behind.
        await self._thread.hosting.flush()
        try:
            drained = await self._stream(input, fork, start, resuming)
        except CheckpointLost:
            await self._thread.seed()
            drained = await self._stream(input, fork, self._thread.saver.head if fork else None, resuming)
        state = await self._thread.settle()
        self.apply_carried()
        return state, drained

    async def _stream(
        self, input: Any, fork: bool, start: str | None, resuming: bool, *, one_step: bool = False
    ) -> bool:
        """Streams one call into the document; whether it was stopped for a command that was steered in."""
        config = self._thread.config
        if fork and start is None:
            self._thread.saver.head = None
        elif fork:
            config = self._thread.at(start)
        self._thread.converter.resuming = resuming
        control = RunControl()
        self._control = None if one_step else control
        self._running.clear()
        try:
            stream: AsyncGenerator[Any, None] = self._thread.graph.astream(  # type: ignore[call-overload]
                input,
                config,
                context=self._context,
                stream_mode=MODES,
                subgraphs=True,
                durability=self._durability,
                interrupt_after="*" if one_step else None,
                control=control,
                version="v1",
            )
            async with aclosing(stream) as events:
                feed = self._thread.converter.feed
                async for namespace, mode, payload in events:
                    feed(namespace, mode, payload)
                    if mode == "values" and not namespace:
                        self._told = True
                        self._apply_if_shown()
                    elif mode == "tasks" and not namespace:
                        if "triggers" in payload:
                            self._running.add(payload["id"])
                        else:
                            self._running.discard(payload["id"])
        except GraphDrained:
            return True
        except GraphRecursionError as error:
            text = (
                "the graph has taken as many steps as its recursion_limit allows, and has not come to its end"
            )
            raise AgentError(text, code="recursion-limit") from error
        finally:
            self._control = None
        return False

    async def until_between(self, state: StateSnapshot) -> StateSnapshot:
        """Goes on to where something can come between: not a call and its result, nor within a subgraph."""
        while (
            state.next
            and not state.interrupts
            and (self._running or open_calls(self._thread.messages(state)))
        ):
            await self._stream(None, False, None, True, one_step=True)
            state = await self._thread.settle()
        return state

    # effects

    def carry(self, given: Sequence[Given]) -> None:
        """The calls and updates that follow carry these commands out."""
        self.carried = list(given)
        self._thread.marks[COMMANDS] = " ".join(each.id for each in given)
        self._told = self._durable = False

    def _saved(self, id: str, before: str | None, messages: list[Any]) -> None:
        self._thread.checkpoints.saved(id, before, messages, dict(self.given.values()))
        self._thread.checkpoints.has_called()
        if self._branches.fork is not None:
            self._branches.note(messages)
        self._durable = True
        self._apply_if_shown()
        if self._control is not None and self._thread.hosting.has_steered:
            # No superstep is under way, if checkpoints are waited for: a subgraph would be stopped too.
            self._control.request_drain()

    def _apply_if_shown(self) -> None:
        if self._told and self._durable:
            self.apply_carried()

    def apply_carried(self) -> None:
        for given in self.carried:
            self._thread.hosting.apply(given)
        self.carried = []

    def apply_if_taken(self) -> None:
        """What the graph has taken has had its effect, though the run was cut short."""
        taken = self._input <= set(self._thread.shown_ids()) if self._input else self._told
        if taken:
            self.apply_carried()
