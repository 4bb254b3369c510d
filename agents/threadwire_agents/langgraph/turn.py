"""One run of a graph: its commands become calls of the graph, whose stream goes into the document.

A call is noted down before it is made, and each checkpoint that it saves names the commands it carries
out. So a later process that finds the run cut off knows which commands have had their effect, and goes
on from the last checkpoint.

Below are `call` (one call of the graph), `graph_thread` (its state), `branches` (other ways that the
conversation has gone), `answers` (what clients are asked), `recovery` (where a cut run stands) and
`partial` (what it leaves); above is `agent`.

Spec: PROTOCOL.md §15.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final

from langchain_core.messages import AnyMessage, BaseMessage
from langchain_core.runnables import RunnableConfig
from langgraph.errors import is_invalid_resume
from langgraph.types import Command as GraphCommand
from langgraph.types import StateSnapshot
from pydantic import ValidationError

from threadwire.core.commands import AddMessage, AddToolResult, Regenerate, Resume, SwitchBranch
from threadwire.core.errors import AgentError, CommandError, Refused
from threadwire.core.operations import Json
from threadwire.engine.run import Given, Run

from .answers import answer_map, find_questions, open_calls
from .branches import Branches
from .call import Calls
from .checkpoints import CALL, UNSAVED, Call, Checkpoints
from .content import human_message, tool_message
from .graph_thread import GraphThread
from .message_json import message_from_json, plain
from .partial import keep_partial, save_partial
from .recovery import at_breakpoint, find_head, goes_on
from .saver import RUN, CheckpointLost, Saver
from .serialise import message_to_json
from .shape import Shape, brief
from .source import Graph

logger = logging.getLogger("threadwire")

_TOOLS: Final = "tools"


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
        self._client_tools = client_tools
        self._thread = GraphThread(run, graph, inner, checkpoints, shape, config=config)
        self._branches = Branches(self._thread)
        self._calls = Calls(self._thread, self._branches, context=context, durability=durability)
        checkpoints.begin(run.id)

    # runs

    async def run(self, commands: Sequence[Given]) -> None:
        """Carries the commands out, in order; without any, a handler wants the graph to run."""
        self._thread.converter.begin()
        await self._guarded(self._work(commands) if commands else self._start())

    async def recover(self, commands: Sequence[Given]) -> None:
        """Goes on with a run that was cut; `commands` are those of it that aren't settled."""
        await self._guarded(self._work_again(commands))

    def show(self, state: StateSnapshot) -> None:
        """Shows a state that `handle` has returned."""
        self._thread.show(state)

    async def handle(self, changes: Mapping[str, Json]) -> StateSnapshot:
        """Gives channels the values that a handler has left in them; raises Refused for what is none.

        They have their effect when the state that this returns is shown.
        """
        await self._ready()
        update = {}
        for name, value in changes.items():
            new = await self._read_messages(value) if name == self._thread.shape.messages else value
            update[name] = self._thread.shape.whole(name, new)
        await self._thread.update(update)
        return await self._thread.state()

    async def _read_messages(self, shown: Json) -> list[BaseMessage]:
        """Messages as a handler has left them: the graph's own where it didn't touch them."""
        if type(shown) is not list:
            raise Refused("invalid-operation", "messages are a list", "state.messages")
        own = {message.id: message for message in self._thread.messages(await self._thread.state())}
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
            self._thread.converter.fail({"code": info.code, "message": info.message})
            await self._keep_partial("failed")
            for given in self._calls.carried:
                if not given.settled:
                    self._hosting.reject(given, failure)
            raise failure from error

    async def _keep_partial(self, why: str) -> None:
        # What is to be undone is noted only, should that fail: a checkpoint would look like the run's end.
        if await keep_partial(self._thread, why, save=not self._hosting.rolls_back):
            self._calls.apply_if_taken()

    async def _ready(self, *, calls: bool = False) -> None:
        """Brings the graph to what is shown, where it was left behind or knows nothing of it.

        `calls`: all that comes is a call of the graph.
        """
        if self._thread.saver.head is None or not (calls or await self._thread.has_head()):
            await self._thread.seed()
        unsaved = self._thread.checkpoints.notes.get(UNSAVED)
        if unsaved is not None:
            try:
                await save_partial(self._thread, unsaved)
            except CheckpointLost:
                await self._thread.seed()
                del self._thread.checkpoints.notes[UNSAVED]
            except Exception:
                # A thread must stay usable, whatever a run has left.
                logger.exception("thread %s: what a run left is given up", self._run.thread)
                del self._thread.checkpoints.notes[UNSAVED]
                await self._thread.settle()
        self._thread.checkpoints.follow_ids(self._thread.shown_ids())

    # commands

    async def _work(self, commands: Sequence[Given]) -> None:
        # A call of the graph finds out by itself whether the head is there: one read of the state less.
        await self._ready(calls=all(map(_is_message, commands)) and not open_calls(self._thread.last_turn()))
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
        self._calls.carried = [given]
        self._branches.fork = None
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

    async def _add(self, commands: list[Given]) -> None:
        """Messages become the input of one call."""
        if not commands:
            return
        self._calls.carried = commands
        ready, messages = self._read(commands)
        if ready:
            await self._close_calls()
            await self._until_done(
                await self._call(self._thread.shape.input(messages), given=ready, messages=messages)
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

    def _message_id(self, given: Given) -> str:
        """The id of the message a command adds: the client's where it is unused."""
        if given.id in self._calls.given:
            return self._calls.given[given.id][0]
        assert isinstance(given.command, AddMessage)
        wanted = given.command.message.id
        return wanted if wanted and wanted not in self._thread.shown_ids() else self._run.new_id()

    async def _start(self) -> None:
        """Calls the graph with nothing new."""
        await self._ready()
        await self._close_calls()
        await self._until_done(await self._call(self._thread.shape.input([])))

    async def _close_calls(self) -> None:
        """Models refuse a conversation that goes on before its tool calls have results."""
        if open_calls(self._thread.last_turn()):
            await self._thread.close(await self._thread.state())

    async def _edit(self, given: Given, command: AddMessage) -> None:
        source = command.source_id
        assert source is not None
        shown = self._thread.shown_ids()
        if source not in shown:
            raise CommandError(
                "unknown-message", "no such message is in the conversation", "command.sourceId"
            )
        message = human_message(command.message, self._message_id(given))
        self._branches.leave(source)
        self._branches.join(source, str(message.id))
        place = shown.index(source)
        try:
            before: str | None = self._thread.checkpoints.before(source)
        except KeyError:
            state = await self._call(
                await self._branches.cut_short(shown[place:], message), given=[given], messages=[message]
            )
        else:
            # What came with it by one step stays.
            first = self._thread.checkpoints.first(source)
            began = place
            while began and self._thread.checkpoints.is_first(first, shown[began - 1]):
                began -= 1
            stay: list[Any] = [
                message_from_json(plain(item))
                for item in self._thread.shown_messages()
                if type(item) is dict and item.get("id") in shown[began:place]
            ]
            input = self._thread.shape.input([*stay, message])
            state = await self._call(input, given=[given], messages=[message], fork=True, start=before)
        await self._until_done(state)

    async def _regenerate(self, given: Given, command: Regenerate) -> None:
        parent = command.parent_id
        shown = self._thread.shown_ids()
        if parent is None or parent not in shown:
            raise CommandError(
                "unknown-message", "no such message is in the conversation", "command.parentId"
            )
        place = shown.index(parent)
        old = shown[place + 1] if place + 1 < len(shown) else None
        if old is not None:
            self._branches.leave(old)
            self._branches.fork = (parent, old)
        start = await self._branches.where_next(parent)
        if start is not None:
            state = await self._call(None, given=[given], fork=True, start=start)
        else:
            state = await self._call(await self._branches.cut_short(shown[place + 1 :]), given=[given])
        await self._until_done(state)

    async def _switch(self, given: Given, command: SwitchBranch) -> None:
        wanted = command.message_id
        shown = self._thread.shown_ids()
        if wanted not in shown:
            try:
                head = self._thread.checkpoints.branch(wanted)
            except KeyError:
                raise CommandError(
                    "unknown-message", "no branch has this message", "command.messageId"
                ) from None
            before, self._thread.saver.head = self._thread.saver.head, head
            try:
                state = await self._thread.state()
            except BaseException:
                self._thread.saver.head = before
                raise
            self._branches.leave()
            self._thread.checkpoints.head = head
            self._thread.show(state)
        self._hosting.apply(given)

    async def _results(self, commands: Sequence[Given]) -> None:
        """Results of tools that clients executed for a turn that has ended with its calls open."""
        await self._until_done(await self._take_results(commands, await self._thread.state()))

    async def _take_results(self, commands: Sequence[Given], state: StateSnapshot) -> StateSnapshot:
        """Puts results in their places, and goes on once all calls of the turn have theirs."""
        for given in commands:
            command = given.command
            assert isinstance(command, AddToolResult)
            messages = self._thread.messages(state)
            waiting = open_calls(messages)
            call = waiting.get(command.tool_call_id)
            if call is None:
                self._hosting.reject(given, _no_such_call(command, messages))
                continue
            message = tool_message(command, str(call["name"]), self._run.new_id())
            update = self._thread.adding([message], messages)
            if len(waiting) == 1 and _TOOLS not in self._thread.graph.nodes:
                state = await self._call(
                    self._thread.shape.input([message]), given=[given], messages=[message]
                )
                continue
            self._calls.carry([given])
            if len(waiting) > 1:
                await self._thread.update(update)
            else:
                # In the name of the node that carries tools out, so that the graph goes on after it.
                await self._thread.update(update, _TOOLS)
            state = await self._thread.settle()
            self._calls.apply_carried()
            if len(waiting) == 1:
                state = await self._call(None, resuming=True)
        return state

    async def _call(self, input: Any, **options: Any) -> StateSnapshot:
        """Calls the graph, again where it was stopped for what was steered in: as `Calls.call`."""
        state, drained = await self._calls.call(input, **options)
        if not drained:
            return state
        state = await self._calls.until_between(state)
        return await self._steer(state) or await self._call(None, resuming=True)

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
        if state.interrupts or open_calls(self._thread.messages(state)):
            await self._thread.close(state)  # what it waits for is let go
        return await self._call(self._thread.shape.input(messages), given=ready, messages=messages)

    # asking

    async def _until_done(self, state: StateSnapshot) -> None:
        """Asks clients and goes on with what they answer, until the graph has come to its end."""
        while True:
            places = await self._thread.places(state)
            questions = find_questions(state, self._thread.messages(state), self._tools(), places=places)
            if not questions:
                return
            if self._hosting.has_steered:
                # As for a run that waits already: a message starts over.
                steered = await self._steer(state)
                if steered is not None:
                    state = steered
                    continue
            head = self._thread.saver.head
            self._thread.checkpoints.notes["breakpoint"] = head if questions.breakpoint else None
            state = await self._answer(await self._hosting.ask(questions), state)

    async def _answer(
        self, answers: Sequence[Given], state: StateSnapshot, *, done: Collection[str] = ()
    ) -> StateSnapshot:
        """Goes on with answers. `done`: ids of interrupts that have taken theirs already."""
        asked = await self._thread.asked(state)
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
            return await self._thread.settle()

    def _tools(self) -> frozenset[str]:
        """The tools that clients execute, as far as is known."""
        return self._client_tools | self._hosting.client_tools()

    # going on

    async def _work_again(self, commands: Sequence[Given]) -> None:
        noted: Any = self._thread.checkpoints.notes.get(CALL)
        call: Call | None = noted if noted is not None and noted["run"] == self._run.id else None
        applied: set[str] = set()
        if call is not None:
            self._calls.given = {command: (id, before) for command, (id, before) in call["messages"].items()}
            if call["after"] is not None and call["branch"] is not None:
                self._branches.fork = (call["after"], call["branch"])
            applied = await find_head(self._thread, call)
        # Of the call itself nothing has come where its head is still the one before.
        unmoved = call is None or self._thread.saver.head == call["start"]
        wanted = not commands and unmoved and self._thread.checkpoints.wants(self._run.id)
        try:
            state = await self._thread.state()
        except CheckpointLost:
            await self._work_lost(commands, wanted=wanted)
            return
        if call is not None:
            # What it had begun to clean up comes again.
            self._thread.checkpoints.notes.pop(UNSAVED, None)
            self._thread.show(state, cut=True)
            if self._branches.fork is not None:
                self._branches.note(self._thread.messages(state))
        self._hosting.recovered()
        if wanted:
            await self._start()
            return
        if (state.metadata or {}).get(RUN) != self._run.id:
            # It was cut before the graph had taken anything of it.
            await self._work(commands)
            return
        asked = await self._thread.asked(state)
        answered = call["answers"] if call is not None else {}
        done = {id for each in answered.values() for id, was in each.items() if asked.get(id) != was}
        left = []
        for given in commands:
            if given.id in applied or (answered.get(given.id) and answered[given.id].keys() <= done):
                self._hosting.apply(given)
            else:
                left.append(given)
        answers = [given for given in left if isinstance(given.command, Resume | AddToolResult)]
        if answers and (state.tasks or open_calls(self._thread.messages(state))):
            # It was cut between an answer and its effect.
            state = await self._answer(answers, state, done=done)
            left = [given for given in left if given not in answers]
        elif (done or goes_on(state)) and not await at_breakpoint(self._thread, state, call):
            state = await self._call(None, resuming=True)
        await self._until_done(state)
        await self._work(left)

    async def _work_lost(self, commands: Sequence[Given], *, wanted: bool) -> None:
        """Goes on where the graph knows nothing of the thread any more, but for what is shown of it."""
        self._hosting.recovered()
        if wanted:
            await self._start()
            return
        if not commands:
            raise AgentError(
                "the server went down during the run, and the graph's checkpoints were lost",
                code="interrupted-by-crash",
            )
        await self._work(commands)


def _no_such_call(command: AddToolResult, messages: Sequence[Any]) -> CommandError:
    id = command.tool_call_id
    if any(getattr(message, "tool_call_id", None) == id for message in messages):
        return CommandError("already-answered", "this call has its result", "command.toolCallId")
    return CommandError("unknown-tool-call", "no such call is open", "command.toolCallId")


def _is_message(given: Given) -> bool:
    return isinstance(given.command, AddMessage) and given.command.source_id is None


def _pick(asked: Mapping[str, Json], ids: Collection[str]) -> dict[str, Json]:
    return {id: asked[id] for id in ids if id in asked}
