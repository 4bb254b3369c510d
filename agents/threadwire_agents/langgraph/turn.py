"""One run of a graph: its commands become calls of the graph, whose stream goes into the document.

A call is noted down before it is made, and each checkpoint that it saves names the commands it carries
out. So a later process that finds the run cut off knows which commands have had their effect: those
named by a checkpoint that goes back to where the run began. It goes on from the last of these.

Below are `converter` (events to edits), `saver` and `checkpoints` (where the thread is), `answers`
(what clients are asked) and `partial` (what a cut run leaves); above is `agent`.

Spec: PROTOCOL.md §15.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Collection, Iterator, Mapping, Sequence
from contextlib import aclosing, contextmanager
from typing import Any, Final, NamedTuple

from langchain_core.messages import AnyMessage, BaseMessage
from langchain_core.runnables import RunnableConfig
from langgraph.channels import DeltaChannel
from langgraph.checkpoint.base import CheckpointTuple
from langgraph.errors import GraphDrained, is_invalid_resume
from langgraph.graph import END, START
from langgraph.pregel import Pregel
from langgraph.runtime import RunControl
from langgraph.types import Command as GraphCommand
from langgraph.types import StateSnapshot, StateUpdate
from pydantic import ValidationError

from threadwire.core.commands import AddMessage, AddToolResult, Regenerate, Resume, SwitchBranch
from threadwire.core.draft import RESERVED
from threadwire.core.errors import AgentError, CommandError, Refused
from threadwire.core.operations import Json
from threadwire.engine.run import Given, Run

from .answers import answer_map, find_questions, open_calls
from .checkpoints import CALL, UNSAVED, Call, Checkpoints
from .content import human_message, tool_message
from .converter import MODES, Converter
from .messages import value_at
from .partial import closing_messages, kept_partials
from .saver import COMMANDS, EPOCH, RUN, CheckpointLost, HeadSaver, Saver
from .serialise import message_from_json, message_to_json, plain, to_json
from .shape import Shape, brief, editor_of

logger = logging.getLogger("threadwire")

Graph = Pregel[Any, Any, Any, Any]

_TOOLS: Final = "tools"
_RESUME: Final = "__resume__"
"""The channel of answers that a task has taken."""


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


class Turn:
    """One run of `graph`.

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
        context: Any,
        durability: Any,
        client_tools: frozenset[str],
    ) -> None:
        self._run = run
        self._hosting = run.hosting
        self._checkpoints = checkpoints
        self._shape = shape
        self._config = config
        self._context = context
        self._durability = durability
        self._client_tools = client_tools
        self._inner = inner
        self._marks = {RUN: run.id, EPOCH: str(self._hosting.epoch), COMMANDS: ""}
        self._saver = HeadSaver(inner, checkpoints.head, metadata=self._marks, saved=self._saved)
        self._graph: Graph = graph.copy(update={"checkpointer": self._saver})
        self._editor = editor_of(self._graph)
        self._converter = Converter(self._hosting, messages=shape.messages, shares=shape.shares)
        checkpoints.begin(run.id)
        self._given: dict[str, tuple[str, str | None]] = {}
        """By command, the id of its message and the head before it."""
        self._carried: list[Given] = []
        """The commands that the call under way carries out, until they have had their effect."""
        self._input: set[str] = set()
        """Ids of messages in its input."""
        self._fork: tuple[str, str] | None = None
        """Where it goes another way: after a message, beside another one that followed it."""
        self._told = False
        self._durable = False
        self._updating = False
        """Whether an update is being made, of which nothing is noted until it is shown."""
        self._unnamed: list[tuple[str, str | None, list[Any]]] = []
        """The checkpoints of it."""
        self._node: str | None = None
        """The node of the root graph that has streamed last."""
        self._control: RunControl | None = None
        """Stops the graph, while it is called, for what was steered in."""
        self._running: set[str] = set()
        """The root graph's tasks that have begun and not ended."""

    # runs

    async def run(self, commands: Sequence[Given]) -> None:
        """Carries the commands out, in order; without any, a handler wants the graph to run."""
        self._converter.begin()
        await self._guarded(self._work(commands) if commands else self._start())

    async def recover(self, commands: Sequence[Given]) -> None:
        """Goes on with a run that was cut; `commands` are those of it that aren't settled."""
        await self._guarded(self._work_again(commands))

    async def handle(self, changes: Mapping[str, Json]) -> StateSnapshot:
        """Gives channels the values that a handler has left in them; raises Refused for what is none.

        They have their effect when the state that this returns is shown.
        """
        await self._ready()
        update = {}
        for name, value in changes.items():
            new = await self._read_messages(value) if name == self._shape.messages else value
            update[name] = self._shape.whole(name, new)
        await self._update(update)
        return await self._state()

    async def _read_messages(self, shown: Json) -> list[BaseMessage]:
        """Messages as a handler has left them: the graph's own where it didn't touch them."""
        if type(shown) is not list:
            raise Refused("invalid-operation", "messages are a list", "state.messages")
        own = {message.id: message for message in self._messages(await self._state())}
        messages = []
        for place, item in enumerate(shown):
            new = plain(item)
            message = own.get(new.get("id")) if type(new) is dict else None
            if message is None or message_to_json(message) != new:
                try:
                    message = message_from_json(new)
                except (ValueError, TypeError, AttributeError) as error:
                    raise Refused("invalid-operation", str(error)[:300], f"state.messages.{place}") from None
                message.id = message.id or self._run.new_id()
            messages.append(message)
        return messages

    async def _guarded(self, work: Any) -> None:
        """Keeps what is shown when the work is cut short or fails."""
        try:
            await work
        except asyncio.CancelledError:
            if self._run.cancelled:
                await self._keep_partial("cancelled")
            raise
        except Exception as error:
            info = self._hosting.describe(error)
            failure = AgentError(info.message, code=info.code)
            self._converter.fail({"code": info.code, "message": info.message})
            await self._keep_partial("failed")
            for given in self._carried:
                if not given.settled:
                    self._hosting.reject(given, failure)
            raise failure from error

    async def _work(self, commands: Sequence[Given]) -> None:
        # A call of the graph finds out by itself whether the head is there: one read of the state less.
        await self._ready(calls=all(map(_is_message, commands)) and not open_calls(self._last_turn()))
        added: list[Given] = []
        for given in commands:
            if _is_message(given):
                added.append(given)
                continue
            await self._add(added)
            added = []
            await self._attempt(given)
        await self._add(added)

    async def _attempt(self, given: Given) -> None:
        """Carries out a command that is a step of its own, or rejects it."""
        command = given.command
        self._carried = [given]
        self._fork = None
        try:
            if isinstance(command, AddMessage):
                await self._edit(given, command)
            elif isinstance(command, Regenerate):
                await self._regenerate(given, command)
            elif isinstance(command, SwitchBranch):
                await self._switch(given, command)
            elif isinstance(command, AddToolResult):
                await self._results([given])
            elif isinstance(command, Resume):
                raise CommandError("unknown-interrupt", "no run waits for an answer", "command.answers")
            else:
                raise CommandError("unknown-command", f"a graph has no use for {command.type_name()}")
        except CommandError as refusal:
            if given.settled:
                raise
            self._hosting.reject(given, refusal)

    async def _work_again(self, commands: Sequence[Given]) -> None:
        noted: Any = self._checkpoints.notes.get(CALL)
        call: Call | None = noted if noted is not None and noted["run"] == self._run.id else None
        applied: set[str] = set()
        if call is not None:
            self._given = {command: (id, before) for command, (id, before) in call["messages"].items()}
            if call["after"] is not None and call["branch"] is not None:
                self._fork = (call["after"], call["branch"])
            applied = await self._find_head(call)
        try:
            state = await self._state()
        except CheckpointLost:
            await self._work_lost(commands)
            return
        if call is not None:
            # What it had begun to clean up comes again.
            self._checkpoints.notes.pop(UNSAVED, None)
            self.show(state, cut=True)
            if self._fork is not None:
                self._note_branch(self._messages(state))
        if (state.metadata or {}).get(RUN) != self._run.id:
            # It was cut before the graph had taken anything of it.
            await self._work(commands)
            return
        asked = await self._asked(state)
        answered = call["answers"] if call is not None else {}
        done = {id for each in answered.values() for id, was in each.items() if asked.get(id) != was}
        left = []
        for given in commands:
            if given.id in applied or (answered.get(given.id) and answered[given.id].keys() <= done):
                self._hosting.apply(given)
            else:
                left.append(given)
        answers = [given for given in left if isinstance(given.command, Resume | AddToolResult)]
        if answers and (state.tasks or open_calls(self._messages(state))):
            # It was cut between an answer and its effect.
            state = await self._answer(answers, state, done=done)
            left = [given for given in left if given not in answers]
        elif (done or _goes_on(state)) and not await self._at_breakpoint(state, call):
            state = await self._call(None, resuming=True)
        await self._until_done(state)
        await self._work(left)

    async def _work_lost(self, commands: Sequence[Given]) -> None:
        """Goes on where the graph knows nothing of the thread any more, but for what is shown of it."""
        if not commands:
            raise AgentError(
                "the server went down during the run, and the graph's checkpoints were lost",
                code="interrupted-by-crash",
            )
        await self._work(commands)

    async def _at_breakpoint(self, state: StateSnapshot, call: Call | None) -> bool:
        """Whether the graph was stopped here, before or after a node, by how it was compiled."""
        head = self._saver.head
        if self._checkpoints.notes.get("breakpoint") == head is not None:
            return True
        if call is None or head == call["start"] or (state.metadata or {}).get("source") == "fork":
            return False  # it went on from here
        if _names_any(self._graph.interrupt_before_nodes, state.next):
            return True
        if not self._graph.interrupt_after_nodes or state.parent_config is None:
            return False
        before = await self._graph.aget_state(state.parent_config)
        return _names_any(self._graph.interrupt_after_nodes, [task.name for task in before.tasks])

    async def _asked(self, state: StateSnapshot) -> dict[str, Json]:
        """By interrupt: what is asked, and how many answers its task has taken before.

        A node that asks twice does so under the same id.
        """
        if not state.interrupts:
            return {}
        return await self._asked_in(await self._graph.aget_state(self._config, subgraphs=True))

    async def _asked_in(self, state: StateSnapshot) -> dict[str, Json]:
        found = await self._saver.aget_tuple(state.config)
        pending = found.pending_writes if found is not None else None
        before = {task: len(value) for task, channel, value in pending or () if channel == _RESUME}
        asked: dict[str, Json] = {}
        for task in state.tasks:
            # A subgraph may have gone on since its interrupts were told to the graph above.
            inner = await self._asked_in(task.state) if isinstance(task.state, StateSnapshot) else {}
            own = {each.id: [to_json(each.value), before.get(task.id, 0)] for each in task.interrupts}
            asked.update(inner or own)
        return asked

    async def _find_head(self, call: Call) -> set[str]:
        """Finds the last checkpoint that the cut run saved, and the commands that its checkpoints name.

        It descends from the head or from where the call went on, and is not of an owner before the call's.
        """
        roots = {self._checkpoints.head, call["start"]}
        oldest = self._checkpoints.base(self._run.id) or ""
        saved: dict[str, _Saved] = {}
        async with aclosing(self._inner.alist(self._config)) as found:  # type: ignore[type-var]
            async for each in found:
                if each.checkpoint["id"] < oldest:
                    break
                if not each.config["configurable"].get("checkpoint_ns"):
                    saved[each.checkpoint["id"]] = self._read_saved(each)
        own = {id for id, each in saved.items() if each.run == self._run.id}
        for id in sorted(own, reverse=True):
            line = [id]
            while line[-1] in own and (before := saved[line[-1]].before) is not None:
                line.append(before)
            start = next((place for place, each in enumerate(line) if each in roots), None)
            if start is None and None in roots and saved[line[-1]].before is None:
                start = len(line)
            if start is not None and all(saved[each].counts(call) for each in line[:start]):
                await self._adopt(line, start, saved)
                return {command for each in line if each in own for command in saved[each].commands}
        return set()

    def _read_saved(self, found: CheckpointTuple) -> _Saved:
        marks: Mapping[str, Any] = found.metadata
        values = found.checkpoint["channel_values"]
        messages = values.get(self._shape.messages) if self._shape.messages else None
        return _Saved(
            run=marks.get(RUN),
            epoch=int(marks.get(EPOCH, 0)),
            updates=marks.get("source") == "update",
            commands=str(marks.get(COMMANDS, "")).split(),
            before=(found.parent_config or {}).get("configurable", {}).get("checkpoint_id"),
            messages=messages if isinstance(messages, list) else [],
        )

    async def _adopt(self, line: Sequence[str], start: int, saved: Mapping[str, _Saved]) -> None:
        """The checkpoints of `line`, newest first, up to that at `start` come after what is noted."""
        found = await self._inner.aget_tuple(self._at(line[start])) if start < len(line) else None
        self._checkpoints.follow(self._read_saved(found).messages if found is not None else [])
        for id in reversed(line[:start]):
            each = saved[id]
            self._checkpoints.saved(id, each.before, each.messages, dict(self._given.values()))
            self._saver.head = id

    # commands

    async def _add(self, commands: list[Given]) -> None:
        """Messages become the input of one call."""
        if not commands:
            return
        self._carried = commands
        ready, messages = self._read(commands)
        if ready:
            await self._close_calls()
            await self._until_done(
                await self._call(self._shape.input(messages), given=ready, messages=messages)
            )

    def _read(self, commands: Sequence[Given]) -> tuple[list[Given], list[AnyMessage]]:
        """Commands with the messages that they add; others are rejected."""
        ready: list[Given] = []
        messages: list[AnyMessage] = []
        for given in commands:
            assert isinstance(given.command, AddMessage)
            try:
                messages.append(human_message(given.command.message, self._message_id(given)))
            except CommandError as refusal:
                self._hosting.reject(given, refusal)
            else:
                ready.append(given)
        return ready, messages

    async def _start(self) -> None:
        """Calls the graph with nothing new."""
        await self._ready()
        await self._close_calls()
        await self._until_done(await self._call(self._shape.input([])))

    async def _close_calls(self) -> None:
        """Models refuse a conversation that goes on before its tool calls have results."""
        if open_calls(self._last_turn()):
            await self._close(await self._state())

    async def _close(self, state: StateSnapshot, more: Sequence[Any] = ()) -> None:
        """Ends what the graph is in the midst of: drops its tasks, adds messages, and closes open calls."""
        updates = [[StateUpdate(None, END)]] if state.tasks else []
        before = self._messages(state)
        if self._shape.messages is not None:
            added = [*more, *closing_messages([*before, *more], self._run.new_id)]
            if added:
                updates.append([StateUpdate(self._adding(added, before), START)])
        if updates:
            with self._update_counts_when_shown():
                await self._editor.abulk_update_state(self._config, updates)
            await self._settle()

    async def _edit(self, given: Given, command: AddMessage) -> None:
        source = command.source_id
        assert source is not None
        shown = self._shown_ids()
        if source not in shown:
            raise CommandError(
                "unknown-message", "no such message is in the conversation", "command.sourceId"
            )
        message = human_message(command.message, self._message_id(given))
        self._leave(source)
        self._join_branches(source, str(message.id))
        place = shown.index(source)
        try:
            before: str | None = self._checkpoints.before(source)
        except KeyError:
            state = await self._call(
                await self._cut_short(shown[place:], message), given=[given], messages=[message]
            )
        else:
            # What came with it by one step stays.
            first = self._checkpoints.first(source)
            began = place
            while began and self._checkpoints.is_first(first, shown[began - 1]):
                began -= 1
            stay: list[Any] = [
                message_from_json(plain(item))
                for item in self._shown_messages()
                if type(item) is dict and item.get("id") in shown[began:place]
            ]
            input = self._shape.input([*stay, message])
            state = await self._call(input, given=[given], messages=[message], fork=True, start=before)
        await self._until_done(state)

    async def _regenerate(self, given: Given, command: Regenerate) -> None:
        parent = command.parent_id
        shown = self._shown_ids()
        if parent is None or parent not in shown:
            raise CommandError(
                "unknown-message", "no such message is in the conversation", "command.parentId"
            )
        place = shown.index(parent)
        old = shown[place + 1] if place + 1 < len(shown) else None
        if old is not None:
            self._leave(old)
            self._fork = (parent, old)
        start = await self._where_next(parent)
        if start is not None:
            state = await self._call(None, given=[given], fork=True, start=start)
        else:
            state = await self._call(await self._cut_short(shown[place + 1 :]), given=[given])
        await self._until_done(state)

    async def _cut_short(self, gone: Collection[str], *more: AnyMessage) -> Any:
        """The input that gives the conversation another end, where no checkpoint is known to go back to."""
        name = self._shape.messages
        assert name is not None, "there is no conversation"
        kept = [message for message in self._messages(await self._state()) if message.id not in gone]
        return {name: self._shape.whole(name, [*kept, *more])}

    async def _where_next(self, message: str) -> str | None:
        """The checkpoint that ends with the message and has something to run after it."""
        try:
            first = self._checkpoints.first(message)
        except KeyError:
            return None
        found = await self._graph.aget_state(self._at(first))
        messages = self._messages(found)
        return first if found.next and messages and messages[-1].id == message else None

    async def _switch(self, given: Given, command: SwitchBranch) -> None:
        wanted = command.message_id
        shown = self._shown_ids()
        if wanted not in shown:
            try:
                head = self._checkpoints.branch(wanted)
            except KeyError:
                raise CommandError(
                    "unknown-message", "no branch has this message", "command.messageId"
                ) from None
            before, self._saver.head = self._saver.head, head
            try:
                state = await self._state()
            except BaseException:
                self._saver.head = before
                raise
            self._leave()
            self._checkpoints.head = head
            self.show(state)
        self._hosting.apply(given)

    async def _results(self, commands: Sequence[Given]) -> None:
        """Results of tools that clients executed for a turn that has ended with its calls open."""
        await self._until_done(await self._take_results(commands, await self._state()))

    async def _take_results(self, commands: Sequence[Given], state: StateSnapshot) -> StateSnapshot:
        """Puts results in their places, and goes on once all calls of the turn have theirs."""
        for given in commands:
            command = given.command
            assert isinstance(command, AddToolResult)
            messages = self._messages(state)
            waiting = open_calls(messages)
            call = waiting.get(command.tool_call_id)
            if call is None:
                self._hosting.reject(given, _no_such_call(command, messages))
                continue
            message = tool_message(command, str(call["name"]), self._run.new_id())
            update = self._adding([message], messages)
            if len(waiting) == 1 and _TOOLS not in self._graph.nodes:
                state = await self._call(self._shape.input([message]), given=[given], messages=[message])
                continue
            self._carry([given])
            if len(waiting) > 1:
                await self._update(update)
            else:
                # In the name of the node that carries tools out, so that the graph goes on after it.
                await self._update(update, _TOOLS)
            state = await self._settle()
            self._apply_carried()
            if len(waiting) == 1:
                state = await self._call(None, resuming=True)
        return state

    # calls

    async def _call(
        self,
        input: Any,
        *,
        given: Sequence[Given] = (),
        messages: Sequence[AnyMessage] = (),
        answers: Mapping[str, dict[str, Json]] | None = None,
        fork: bool = False,
        start: str | None = None,
        resuming: bool = False,
    ) -> StateSnapshot:
        """Calls the graph, and returns its state when it stops.

        It goes on from the head or, with `fork`, from `start` (None: from nothing). `resuming`: with
        tasks of which some may have ended.
        """
        before = start if fork else self._saver.head
        self._carry(given)
        self._input = {str(message.id) for message in messages}
        for each, message in zip(given, messages, strict=False):
            self._given[each.id] = (str(message.id), before)
        note: Call = {
            "run": self._run.id,
            "epoch": self._hosting.epoch,
            "start": before,
            "messages": dict(self._given),
            "answers": dict(answers or {}),
            "branch": self._fork[1] if self._fork else None,
            "after": self._fork[0] if self._fork else None,
        }
        self._checkpoints.notes[CALL] = dict(note)
        # What is noted has to be durable before the graph can leave anything behind.
        await self._hosting.flush()
        try:
            drained = await self._stream(input, fork, start, resuming)
        except CheckpointLost:
            await self._seed()
            drained = await self._stream(input, fork, self._saver.head if fork else None, resuming)
        state = await self._settle()
        self._apply_carried()
        if drained:
            return await self._steer(await self._until_between(state)) or await self._call(
                None, resuming=True
            )
        return state

    async def _stream(
        self, input: Any, fork: bool, start: str | None, resuming: bool, *, one_step: bool = False
    ) -> bool:
        """Streams one call into the document; whether it was stopped for a command that was steered in."""
        config = self._config
        if fork and start is None:
            self._saver.head = None
        elif fork:
            config = self._at(start)
        self._converter.resuming = resuming
        control = RunControl()
        self._control = None if one_step else control
        self._running.clear()
        try:
            stream: AsyncGenerator[Any, None] = self._graph.astream(  # type: ignore[call-overload]
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
                feed = self._converter.feed
                async for namespace, mode, payload in events:
                    feed(namespace, mode, payload)
                    if mode == "values" and not namespace:
                        self._told = True
                        self._apply_if_shown()
                    elif mode == "tasks" and not namespace:
                        self._node = payload["name"]
                        if "triggers" in payload:
                            self._running.add(payload["id"])
                        else:
                            self._running.discard(payload["id"])
        except GraphDrained:
            return True
        finally:
            self._control = None
        return False

    def _carry(self, given: Sequence[Given]) -> None:
        """The calls and updates that follow carry these commands out."""
        self._carried = list(given)
        self._marks[COMMANDS] = " ".join(each.id for each in given)
        self._told = self._durable = False

    def _saved(self, id: str, before: str | None, checkpoint: Any) -> None:
        """A checkpoint of the graph is durable."""
        values = checkpoint["channel_values"]
        messages = values.get(self._shape.messages) if self._shape.messages else None
        if not isinstance(messages, list):
            messages = self._converter.root.known
        if self._updating:
            self._unnamed.append((id, before, messages))
            return
        self._checkpoints.saved(id, before, messages, dict(self._given.values()))
        if self._fork is not None:
            self._note_branch(messages)
        self._durable = True
        self._apply_if_shown()
        if self._control is not None and self._hosting.has_steered:
            # No superstep is under way, if checkpoints are waited for: a subgraph would be stopped too.
            self._control.request_drain()

    def _apply_if_shown(self) -> None:
        if self._told and self._durable:
            self._apply_carried()

    def _apply_carried(self) -> None:
        for given in self._carried:
            self._hosting.apply(given)
        self._carried = []

    async def _steer(self, state: StateSnapshot) -> StateSnapshot | None:
        """What was steered in becomes the graph's input; None where there is nothing of that kind."""
        # Commands of other kinds start the next run.
        steered = [
            given
            for given in self._hosting.steered()
            if isinstance(given.command, AddMessage) and given.command.source_id is None
        ]
        ready, messages = self._read(steered)
        if not ready:
            return None
        if state.interrupts or open_calls(self._messages(state)):
            await self._close(state)  # what it waits for is let go
        return await self._call(self._shape.input(messages), given=ready, messages=messages)

    async def _until_between(self, state: StateSnapshot) -> StateSnapshot:
        """Goes on to where something can come between: not a call and its result, nor within a subgraph."""
        while state.next and not state.interrupts and (self._running or open_calls(self._messages(state))):
            await self._stream(None, False, None, True, one_step=True)
            state = await self._settle()
        return state

    # asking

    async def _until_done(self, state: StateSnapshot) -> None:
        """Asks clients and goes on with what they answer, until the graph has come to its end."""
        while True:
            questions = find_questions(state, self._messages(state), self._tools())
            if not questions:
                return
            if self._hosting.has_steered:
                # As for a run that waits already: a message starts over.
                steered = await self._steer(state)
                if steered is not None:
                    state = steered
                    continue
            self._checkpoints.notes["breakpoint"] = self._saver.head if questions.breakpoint else None
            state = await self._answer(await self._hosting.ask(questions), state)

    async def _answer(
        self, answers: Sequence[Given], state: StateSnapshot, *, done: Collection[str] = ()
    ) -> StateSnapshot:
        """Goes on with answers. `done`: ids of interrupts that have taken theirs already."""
        asked = await self._asked(state)
        resume, taken, results = answer_map(answers, state)
        resume = {id: answer for id, answer in resume.items() if id not in done}
        if results:
            state = await self._take_results(results, state)
        if not taken:
            return state
        input: GraphCommand[Any] | None = GraphCommand(resume=resume) if resume else None
        try:
            noted = {given.id: _pick(asked, answer_map([given], state)[0]) for given in taken}
            return await self._call(input, given=taken, answers=noted, resuming=True)
        except ValidationError as error:
            if not is_invalid_resume(error):
                raise
            # The graph's own check knows more than the schema says; it has taken nothing.
            for given in taken:
                self._hosting.reject(given, CommandError("invalid-command", brief(error), "command.answers"))
            return await self._settle()

    def _tools(self) -> frozenset[str]:
        """The tools that clients execute, as far as is known."""
        return self._client_tools | self._hosting.client_tools()

    # the graph's state

    async def _state(self) -> StateSnapshot:
        return await self._graph.aget_state(self._config)

    async def _settle(self) -> StateSnapshot:
        """Shows the graph's state as it is kept."""
        self._converter.finish()
        state = await self._state()
        self.show(state)
        return state

    def show(self, state: StateSnapshot, *, cut: bool = False) -> None:
        """Shows a state that was just read, and notes down the checkpoint that it is of.

        `cut`: what the run has streamed beyond it stays until it is streamed anew.
        """
        for each in self._unnamed:
            self._checkpoints.saved(*each, {})
        self._unnamed.clear()
        # Tasks that were interrupted run again: what they have streamed is what clients are asked about.
        self._converter.settle(state.values, cut=cut or bool(state.interrupts))
        self._checkpoints.follow(self._kept_messages(state))

    def _kept_messages(self, state: StateSnapshot) -> list[Any]:
        """Those that the head holds: a state also shows what has run since, before a checkpoint has it."""
        name, read = self._shape.messages, self._saver.read
        if name is None or read is None or isinstance(self._graph.channels.get(name), DeltaChannel):
            return self._messages(state)
        kept = read.checkpoint["channel_values"].get(name)
        return kept if isinstance(kept, list) else []

    async def _update(self, values: Any, node: str | None = None) -> None:
        """Changes channels. By default it leaves nothing to run; in the name of a node, what follows it."""
        with self._update_counts_when_shown():
            if node is None:
                await self._editor.abulk_update_state(self._config, [[StateUpdate(values, START)]])
            else:
                await self._graph.aupdate_state(self._config, values, as_node=node)

    @contextmanager
    def _update_counts_when_shown(self) -> Iterator[None]:
        """What is saved within is noted down when the state is shown, to be durable together with that."""
        self._updating = True
        try:
            yield
        finally:
            self._updating = False

    async def _ready(self, *, calls: bool = False) -> None:
        """Brings the graph to what is shown, where it was left behind or knows nothing of it.

        `calls`: all that comes is a call of the graph.
        """
        if self._saver.head is None or not (calls or await self._has_head()):
            await self._seed()
        unsaved = self._checkpoints.notes.get(UNSAVED)
        if unsaved is not None:
            try:
                await self._save_partial(unsaved)
            except CheckpointLost:
                await self._seed()
                del self._checkpoints.notes[UNSAVED]
            except Exception:
                # A thread must stay usable, whatever a run has left.
                logger.exception("thread %s: what a run left is given up", self._run.thread)
                del self._checkpoints.notes[UNSAVED]
                await self._settle()
        self._checkpoints.follow_ids(self._shown_ids())

    async def _has_head(self) -> bool:
        try:
            return await self._saver.aget_tuple(self._config) is not None
        except CheckpointLost:
            return False

    async def _seed(self) -> None:
        """Gives a graph that knows nothing of the thread what is shown of it."""
        self._saver.head = self._checkpoints.head = None
        root = self._hosting.document.root
        values: dict[str, Any] = {}
        for name, value in root.items() if type(root) is dict else ():
            if name == RESERVED or not self._shape.takes(name):
                continue
            if name == self._shape.messages and type(value) is list:
                messages = [message_from_json(plain(item)) for item in value]
                for message in messages:
                    message.id = message.id or self._run.new_id()
                # They have no checkpoints of their own to go back to.
                self._checkpoints.follow(messages)
                values[name] = self._shape.whole(name, messages)
            elif value is not None:
                values[name] = self._shape.whole(name, plain(value))
        self._checkpoints.forget()
        if values:
            await self._update(values)
            await self._settle()

    async def _keep_partial(self, why: str) -> None:
        """What is shown of a run that was cut short stays, also in the graph's own state."""
        previews = self._converter.root.end_streams() if self._shape.messages else []
        self._converter.finish()
        # A fork that has saved nothing has changed nothing.
        self._saver.head = self._checkpoints.head
        self._checkpoints.notes[UNSAVED] = {"run": self._run.id, "messages": kept_partials(previews, why)}
        try:
            await self._save_partial(self._checkpoints.notes[UNSAVED])
            self._apply_if_taken()
        except CheckpointLost:
            pass  # the next run finds that out, and begins with what is shown
        except Exception:
            logger.exception("thread %s: what a run left is not in the graph's state yet", self._run.thread)

    async def _save_partial(self, unsaved: Any) -> None:
        state = await self._state()
        messages = self._messages(state)
        known = {message.id for message in messages}
        more: list[Any] = [
            message_from_json(item) for item in unsaved["messages"] if item.get("id") not in known
        ]
        self._marks[COMMANDS] = ""
        await self._close(state, more)
        await self._settle()
        del self._checkpoints.notes[UNSAVED]

    def _apply_if_taken(self) -> None:
        """What the graph has taken has had its effect, though the run was cut short."""
        taken = self._input <= set(self._shown_ids()) if self._input else self._told
        if taken:
            self._apply_carried()

    # small things

    def _adding(self, messages: list[Any], before: list[Any]) -> dict[str, Any]:
        """An update that adds messages to those that the graph has."""
        name = self._shape.messages
        assert name is not None, "there is no conversation"
        return {name: messages if self._shape.reduces(name) else [*before, *messages]}

    def _at(self, checkpoint: str | None) -> RunnableConfig:
        given = {**self._config["configurable"], "checkpoint_id": checkpoint}
        return {**self._config, "configurable": given}

    def _messages(self, state: StateSnapshot) -> list[Any]:
        values = state.values
        found = (
            values.get(self._shape.messages) if self._shape.messages and isinstance(values, dict) else None
        )
        # A graph with a reducer of its own may have other things between them.
        return [each for each in found if isinstance(each, BaseMessage)] if isinstance(found, list) else []

    def _shown_messages(self) -> list[Any]:
        if self._shape.messages is None:
            return []
        found = value_at(self._hosting.document, (self._shape.messages,))
        return found if type(found) is list else []

    def _last_turn(self) -> list[BaseMessage]:
        """What is shown after the last message that isn't a model's or a tool's."""
        turn: list[BaseMessage] = []
        for item in reversed(self._shown_messages()):
            if type(item) is not dict or item.get("type") not in ("ai", "tool"):
                break
            turn.append(message_from_json(plain(item)))
        return turn[::-1]

    def _shown_ids(self) -> list[str]:
        found = [item.get("id") for item in self._shown_messages() if type(item) is dict]
        return [id for id in found if type(id) is str and id]

    def _message_id(self, given: Given) -> str:
        """The id of the message a command adds: the client's where it is unused."""
        if given.id in self._given:
            return self._given[given.id][0]
        assert isinstance(given.command, AddMessage)
        wanted = given.command.message.id
        return wanted if wanted and wanted not in self._shown_ids() else self._run.new_id()

    # branches

    def _leave(self, *messages: str) -> None:
        """The branch that the thread is on is left as it is, wherever branches part on it."""
        groups = value_at(self._hosting.document, (RESERVED, "branches"))
        shown = self._shown_ids() if type(groups) is dict else []
        for message in {*messages, *(id for id in shown if id in groups)}:
            self._checkpoints.leave(message)

    def _siblings(self, message: str) -> list[str]:
        found = value_at(self._hosting.document, (RESERVED, "branches", message))
        return list(found) if type(found) is list else [message]

    def _join_branches(self, old: str, new: str) -> None:
        """`new` stands beside `old` where branches part."""
        group: list[Json] = [*self._siblings(old)]
        if new in group:
            return
        group.append(new)
        for message in group:
            self._converter.put(("branches", str(message)), group)

    def _note_branch(self, messages: Sequence[Any]) -> None:
        """The first message that the other way has brought stands beside the one of the way before."""
        assert self._fork is not None
        after, old = self._fork
        messages = [message for message in messages if isinstance(message, BaseMessage)]
        for place in range(len(messages) - 1, 0, -1):
            if messages[place - 1].id == after:
                if messages[place].id != old:
                    self._join_branches(old, str(messages[place].id))
                    self._fork = None
                return


def _no_such_call(command: AddToolResult, messages: Sequence[Any]) -> CommandError:
    id = command.tool_call_id
    if any(getattr(message, "tool_call_id", None) == id for message in messages):
        return CommandError("already-answered", "this call has its result", "command.toolCallId")
    return CommandError("unknown-tool-call", "no such call is open", "command.toolCallId")


def _is_message(given: Given) -> bool:
    return isinstance(given.command, AddMessage) and given.command.source_id is None


def _goes_on(state: StateSnapshot) -> bool:
    """Whether anything is to run that doesn't wait for an answer, or what has run is to be put together."""
    waits = any(task.result is None and not task.interrupts for task in state.tasks)
    return bool(state.tasks) and (waits or not state.interrupts)


def _pick(asked: Mapping[str, Json], ids: Collection[str]) -> dict[str, Json]:
    return {id: asked[id] for id in ids if id in asked}


def _names_any(nodes: str | Sequence[str], names: Sequence[str]) -> bool:
    """Whether any of the names is of the nodes; `*` is all but the start."""
    return any(name != START and (nodes == "*" or name in nodes) for name in names)
