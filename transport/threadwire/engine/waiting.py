"""What a run waits for from clients: answers to interrupts, results of client tools.

While any is open, the run is `waiting`. The open ones stand in the state under `threadwire`, where
every client sees them; answers come as commands.

A function agent waits in the middle of its code, where the answer is the value of a call: that lives
as long as the run's task. A host asks for all that is open at once and is handed the commands that
answer; after a restart of the server it asks again.

Spec: PROTOCOL.md §8.4 and §8.7.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

from ..core.commands import AddToolResult, Command, Resume
from ..core.draft import RESERVED
from ..core.errors import AgentError, CommandError
from ..core.frames import Tool
from ..core.operations import Json
from .hosting import Questions
from .message import Message
from .run import Given
from .subscriber import Sink, Subscriber

if TYPE_CHECKING:
    from .thread import Thread

Kind: TypeAlias = Literal["interrupts", "tool_calls"]
Effect: TypeAlias = Literal["none", "done", "answer"]
"""Of a command: it is no answer; it had its effect; it is an answer that the run is to be given."""

_KINDS: Final[tuple[Kind, ...]] = ("interrupts", "tool_calls")
_MAX_ANSWERED: Final = 1000


class ToolCall:
    """A call that a client is to execute, and the connection it was given to."""

    __slots__ = ("args", "durable", "id", "name", "origin", "subscriber")

    def __init__(self, id: str, name: str, args: Json, origin: Sink | None) -> None:
        self.id = id
        self.name = name
        self.args = args
        self.origin = origin
        self.durable = False
        self.subscriber: Subscriber | None = None


class Waiting:
    """One for each loaded thread; `runner` asks it first when a command comes."""

    def __init__(self, thread: Thread, *, tool_grace_s: float) -> None:
        self._thread = thread
        self._tool_grace_s = tool_grace_s
        self._loop = asyncio.get_running_loop()
        self._open: dict[str, asyncio.Future[Any]] = {}
        self._calls: dict[str, ToolCall] = {}
        self._answered: dict[str, None] = {}
        """The last calls that have their result: another may come after their run."""
        self._asked: Questions | None = None
        """What a host asked last: that it has answers to some doesn't make the others void."""
        self._unanswered: set[str | None] = set()
        """Of that, what no answer has come to; None is the breakpoint."""
        self._answers: list[Given] = []
        self._arrival: asyncio.Future[None] | None = None

    def __bool__(self) -> bool:
        """Whether the run waits."""
        return bool(self._open) or (self._arrival is not None and not self._arrival.done())

    # what runs call

    async def interrupt(self, id: str, value: Json) -> Json:
        """Asks the clients, and returns what one of them answers."""
        self._put("interrupts", id, {"value": value})
        return await self._answer(id)

    async def call_tool(self, id: str, name: str, args: Json, origin: Sink | None) -> AddToolResult:
        """Has a client execute a tool, and returns its result."""
        call = ToolCall(id, name, args, origin)
        self._put("tool_calls", id, {"name": name, "args": args})
        self._calls[id] = call
        future = self._open_future(id)
        try:
            await self._thread.flush()
            call.durable = True
            self._assign(call)
            result = await future
        finally:
            self._close("tool_calls", id)
        assert isinstance(result, AddToolResult)
        return result

    async def ask(self, questions: Questions, origin: Sink | None) -> list[Given]:
        """Asks the clients, and returns the commands that answer once there is one."""
        answered = {id for given in self._answers for id in _answered_by(given.command)}
        self._asked = questions
        asked = {*questions.interrupts, *questions.calls, *((None,) if questions.breakpoint else ())}
        self._unanswered = asked - answered
        self._put_all(
            "interrupts", {id: value for id, value in questions.interrupts.items() if id in self._unanswered}
        )
        open_calls = {id: call for id, call in questions.calls.items() if id in self._unanswered}
        self._put_all(
            "tool_calls", {id: {"name": call.name, "args": call.args} for id, call in open_calls.items()}
        )
        for id in [id for id in self._calls if id not in open_calls]:
            del self._calls[id]
        for id, call in open_calls.items():
            if id not in self._calls:
                self._calls[id] = ToolCall(id, call.name, call.args, origin)
        if not self._answers:
            arrival = self._arrival = self._loop.create_future()
            self._thread.runner.waits(True)
            try:
                if self._calls:
                    await self._thread.flush()
                    for each in list(self._calls.values()):
                        if not each.durable:
                            each.durable = True
                            self._assign(each)
                await arrival
            finally:
                if self._arrival is arrival:  # else the run has ended, though whoever waits here has not
                    self._arrival = None
                    self._thread.runner.waits(False)
        answers, self._answers = self._answers, []
        return answers

    def deliver(self, given: Given) -> None:
        """Hands an answer to the host that asked."""
        self._answers.append(given)
        if self._arrival is not None and not self._arrival.done():
            self._arrival.set_result(None)
            self._thread.runner.waits(False)

    # what the runner calls

    def take(self, command: Command, *, handled: bool) -> Effect:
        """What the command does to what is open. `handled`: the agent has a handler for this type.

        Raises:
            CommandError: `unknown-interrupt`, `unknown-tool-call` or `already-answered`.
        """
        if isinstance(command, Resume) and not handled:
            self._check_resume(command)
            if self._asked is not None:
                return self._take_answer(command)
            for id, answer in command.answers.items():
                self._settle("interrupts", id, answer)
            return "done"
        if isinstance(command, AddToolResult):
            id = command.tool_call_id
            if id in self._calls and id in self._unanswered:
                return self._take_answer(command)
            if id in self._open and id in self._calls:
                self._settle("tool_calls", id, command)
                return "done"
            if id in self._answered:
                raise CommandError("already-answered", "this call has its result", "command.toolCallId")
            if self and self._asked is not None and not handled:
                # As a command of another run it would end this one.
                raise CommandError("unknown-tool-call", "no such call is open", "command.toolCallId")
        return "none"

    def _check_resume(self, command: Resume) -> None:
        for id in command.answers:
            if id not in (self._unanswered if self._asked is not None else self._open) or id in self._calls:
                raise CommandError(
                    "unknown-interrupt",
                    f"no open interrupt has the id {id[:100]!r}",
                    f"command.answers.{id[:100]}",
                )
        if not command.answers and None not in self._unanswered:
            raise CommandError("unknown-interrupt", "no run waits at a breakpoint", "command.answers")

    def _take_answer(self, command: Command) -> Effect:
        assert self._asked is not None
        self._asked.check(command)
        for id in _answered_by(command):
            self._unanswered.discard(id)
            if id is None:
                continue
            if self._calls.pop(id, None) is not None:
                self.note_answered(id)
                self._remove("tool_calls", id)
            else:
                self._remove("interrupts", id)
        return "answer"

    def note_answered(self, id: str) -> None:
        """A call has its result."""
        self._answered[id] = None
        if len(self._answered) > _MAX_ANSWERED:
            del self._answered[next(iter(self._answered))]

    def drop(self) -> None:
        """The run has ended: what is open goes, and what waits for it is cancelled."""
        for id, future in list(self._open.items()):
            self._close("tool_calls" if id in self._calls else "interrupts", id)
            future.cancel()
        if self._arrival is not None:
            self._arrival.cancel()
            self._arrival = None
            self._thread.runner.waits(False)
        self._asked = None
        self._unanswered.clear()
        self._answers.clear()
        self._calls.clear()
        self.forget_earlier()

    def forget_earlier(self) -> None:
        """Takes out what is left open, as by a run of an earlier owner."""
        for kind in _KINDS:
            for id in list(self._area(kind)):
                self._remove(kind, id)

    # what the thread calls

    def joined(self, subscriber: Subscriber) -> None:
        """A connection has opened the thread: it may execute what nobody does yet."""
        for call in self._calls.values():
            if call.subscriber is None:
                self._assign(call)
            elif call.subscriber.sink is subscriber.sink and call.name in subscriber.tools:
                call.subscriber = subscriber  # it has opened the thread anew, and is at work on it

    def left(self, subscriber: Subscriber) -> None:
        """A connection has gone: after a while its calls are given to another."""
        for call in self._calls.values():
            if call.subscriber is subscriber:
                self._loop.call_later(self._tool_grace_s, self._reassign, call)

    def is_open(self, call: str) -> bool:
        """Whether a client is still to execute it."""
        return call in self._calls

    # inside

    async def _answer(self, id: str) -> Json:
        future = self._open_future(id)
        try:
            return await future
        finally:
            self._close("interrupts", id)

    def _open_future(self, id: str) -> asyncio.Future[Any]:
        future: asyncio.Future[Any] = self._loop.create_future()
        self._open[id] = future
        self._thread.runner.waits(True)
        return future

    def _settle(self, kind: Kind, id: str, answer: object) -> None:
        future = self._open[id]
        if not future.done():
            future.set_result(answer)
        if kind == "tool_calls":
            self.note_answered(id)
        self._close(kind, id)

    def _close(self, kind: Kind, id: str) -> None:
        if self._open.pop(id, None) is None:
            return
        self._calls.pop(id, None)
        self._remove(kind, id)
        if not self._open:
            self._thread.runner.waits(False)

    def _assign(self, call: ToolCall) -> None:
        if not call.durable:
            return
        able = [each for each in self._thread.executors if call.name in each.tools]
        own = [each for each in able if each.sink is call.origin]
        call.subscriber = next(iter(own or able), None)
        if call.subscriber is not None:
            frame = Tool(thread=self._thread.id, tool_call_id=call.id, name=call.name, args=call.args)
            call.subscriber.tool(Message(frame))

    def _reassign(self, call: ToolCall) -> None:
        if self._calls.get(call.id) is call and call.subscriber not in self._thread.executors:
            self._assign(call)

    # the server's part of the state

    def _area(self, kind: Kind) -> dict[str, Json]:
        root = self._thread.document.root
        area = root.get(RESERVED, {}).get(kind, {}) if type(root) is dict else {}
        return area if type(area) is dict else {}

    def _put(self, kind: Kind, id: str, value: Json) -> None:
        document = self._thread.document
        if type(document.root) is not dict:
            raise AgentError("a run can wait for clients only where the state is an object")
        # One edit: what is refused leaves nothing behind.
        if RESERVED not in document.root:
            document.set((RESERVED,), {kind: {id: value}})
        elif kind not in document.root[RESERVED]:
            document.set((RESERVED, kind), {id: value})
        else:
            document.set((RESERVED, kind, id), value)

    def _put_all(self, kind: Kind, entries: Mapping[str, Json]) -> None:
        """Makes the area hold these and no others."""
        for id in [id for id in self._area(kind) if id not in entries]:
            self._remove(kind, id)
        for id, value in entries.items():
            self._put(kind, id, value)

    def _remove(self, kind: Kind, id: str) -> None:
        document = self._thread.document
        if id in self._area(kind):
            document.delete((RESERVED, kind, id))
            if not self._area(kind):
                document.delete((RESERVED, kind))
            if not document.root[RESERVED]:
                document.delete((RESERVED,))


def _answered_by(command: Command) -> list[str | None]:
    """The ids that a command answers, None for the breakpoint."""
    if isinstance(command, AddToolResult):
        return [command.tool_call_id]
    if isinstance(command, Resume):
        return list(command.answers) or [None]
    return []
