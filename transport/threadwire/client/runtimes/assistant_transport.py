"""A thread of a server as a runtime: its state, converted to messages, and commands back.

What a user does is shown at once: commands on their way are given to the converter with the state,
each until its effect is in the state. A message that is added has the id it will have there.
"""

from __future__ import annotations

import logging
import uuid
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Final, Self, TypeAlias

import anyio
from msgspec import UNSET

from ...core.client_session import ENDED
from ...core.commands import (
    AddMessage,
    AddToolResult,
    AudioPart,
    AudioSource,
    Command,
    DataPart,
    FilePart,
    ImagePart,
    Part,
    Regenerate,
    SwitchBranch,
    TextPart,
    UserMessage,
)
from ...core.errors import CommandError, ConnectionClosed, Refused
from ...core.frames import Strategy
from ...core.frames import Tool as ToolCall
from ...core.operations import Json
from ...messages.model import (
    AudioMessagePart,
    DataMessagePart,
    FileMessagePart,
    ImageMessagePart,
    TextMessagePart,
    ThreadMessage,
    replace,
)
from ..connection import Connection
from ..errors import InvalidMessage, NotFound, NotNow
from ..thread import Receipt, Thread
from .actions import AddToolResultOptions, AppendMessage, StartRun
from .adapters import Capabilities
from .calling import call, call_tool, check_handler
from .external_store import ExternalStoreAdapter, ExternalStoreRuntime, RuntimeAdapters
from .local_run import ToolFunction
from .tasks import Tasks

log = logging.getLogger("threadwire.client")

EXECUTING: Final[Mapping[str, Json]] = {"type": "executing"}


@dataclass(frozen=True, eq=False)
class PendingCommand:
    """A command whose effect isn't in the state yet."""

    id: str
    command: Command | Mapping[str, Json]


@dataclass(frozen=True)
class ConnectionMetadata:
    """What a converter may want to show beside the state.

    `is_sending`: a run goes on, or a command is on its way. `tool_statuses` are of the tool calls
    that this client executes, `{"type": "executing"}` by id.
    """

    pending_commands: tuple[PendingCommand, ...] = ()
    is_sending: bool = False
    tool_statuses: Mapping[str, Json] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class TransportState:
    """What a converter makes of a state: the messages to show, and whether a run goes on."""

    messages: Sequence[ThreadMessage]
    is_running: bool
    state: Json = None


StateConverter: TypeAlias = Callable[[Json, ConnectionMetadata], TransportState]


class AssistantTransportRuntime(ExternalStoreRuntime[ThreadMessage]):
    """Follows a thread of `connection` for the length of an `async with`.

        runtime = AssistantTransportRuntime(connection, "thread-1", converter=LangChainConverter())
        async with runtime:
            await runtime.append("Hi")          # returns once the server has it for good
            await runtime.idle()                # when its run has ended

    `tools` are executed here when the server gives this connection a call of them; what they
    return is the result, what they raise an error. `on_error(error, commands, update_state)` is
    told of commands that were refused, `on_cancel(commands, update_state)` of those that were
    pending when the user stopped the run.

    Raises:
        InvalidAdapter: a handler can't be called.
    """

    def __init__(
        self,
        connection: Connection,
        thread_id: str,
        *,
        converter: StateConverter,
        agent: str | None = None,
        tools: Mapping[str, ToolFunction] | None = None,
        strategy: Strategy | None = None,
        adapters: RuntimeAdapters | None = None,
        on_error: Callable[..., Awaitable[None] | None] | None = None,
        on_cancel: Callable[..., Awaitable[None] | None] | None = None,
    ) -> None:
        self._tools = dict(tools or {})
        for name, handler in (("converter", converter), ("on_error", on_error), ("on_cancel", on_cancel)):
            check_handler(name, handler)
        for name, tool in self._tools.items():
            check_handler(f"tools.{name}", tool)
        super().__init__(
            ExternalStoreAdapter(
                messages=(),
                is_loading=True,
                on_new=self._add_message,
                on_edit=self._add_message,
                on_reload=self._regenerate,
                on_cancel=self._cancel,
                on_add_tool_result=self._add_tool_result,
                adapters=adapters or RuntimeAdapters(),
            )
        )
        self._connection = connection
        self._thread_id = thread_id
        self._agent = agent
        self._converter_of_state = converter
        self._strategy: Strategy | None = strategy
        self._on_error = on_error
        self._on_cancel = on_cancel
        self._pending: list[PendingCommand] = []
        self._sent: set[str] = set()  # ids of commands that the thread was given
        self._executing: dict[str, anyio.CancelScope] = {}
        self._override: tuple[Json, Json] | None = None  # (the state it was made of, the state to show)
        self._shown: tuple[Json, ConnectionMetadata] | None = None
        self._failure: Refused | ConnectionClosed | None = None
        self._followed: Thread | None = None
        self._stack = AsyncExitStack()
        self._tasks = Tasks()

    async def __aenter__(self) -> Self:
        self._followed = await self._stack.enter_async_context(
            self._connection.open(self._thread_id, agent=self._agent, tools=tuple(self._tools))
        )
        try:
            await self._tasks.__aenter__()
            self._refresh()
            self._tasks.start(self._follow)
            if self._tools:
                self._tasks.start(self._take_tool_calls)
        except BaseException as error:
            await self.__aexit__(type(error), error, error.__traceback__)
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        try:
            return await self._tasks.__aexit__(kind, error, trace)
        finally:
            self._followed = None
            await self._stack.aclose()

    # what there is

    @property
    def thread(self) -> Thread:
        """The thread that is followed. Raises NotNow outside of the `async with`."""
        if self._followed is None:
            raise NotNow("the runtime is used in its `async with`")
        return self._followed

    @property
    def agent_state(self) -> Json:
        """The thread's state, as it is shown."""
        state = self.thread.state
        return self._override[1] if self._override is not None and self._override[0] is state else state

    @property
    def pending_commands(self) -> tuple[PendingCommand, ...]:
        """The commands whose effect isn't in the state yet."""
        return tuple(self._pending)

    @property
    def failure(self) -> Refused | ConnectionClosed | None:
        """Why the thread is followed no more, where it isn't."""
        return self._failure

    @property
    def capabilities(self) -> Capabilities:
        """What can be done; branches where the agent lists them."""
        return replace(super().capabilities, switch_to_branch=bool(self._listed_branches()))

    def branches(self, message_id: str) -> tuple[str, ...]:
        """The ids of the message and of those that the agent could show in its place. Raises NotFound."""
        self.message(message_id)
        return tuple(self._listed_branches().get(message_id) or (message_id,))

    async def idle(self) -> None:
        """Waits until no run goes on and no command is on its way; one that waits for answers ends it.

        Raises:
            Refused, ConnectionClosed: the thread or the connection ended before.
        """
        thread = self.thread
        while True:
            await thread.idle()
            await self.wait(lambda: not (self._pending or self._executing) or self._failure is not None)
            if self._failure is not None:
                raise self._failure
            if self.is_sending or self._has_calls_for_tools():
                await thread.changed()
            else:
                self._refresh()  # the end of the run, if it isn't shown yet
                return

    @property
    def is_sending(self) -> bool:
        """Whether a run goes on, or a command is on its way."""
        run = self.thread.run
        return bool(self._pending) or (run is not None and run.status in ("queued", "running"))

    # what can be done

    async def send_command(self, command: Command | Mapping[str, Json], *, id: str | None = None) -> Receipt:
        """Sends any command, shown as pending until its effect is in the state.

        Raises:
            CommandError: it was refused.
            ConnectionClosed: the connection was closed for good before; it may have arrived.
        """
        pending = PendingCommand(uuid.uuid4().hex if id is None else id, command)
        thread = self.thread
        self._pending.append(pending)
        self._refresh()
        self._sent.add(pending.id)
        try:
            receipt = await thread.send(command, id=pending.id, strategy=self._strategy)
        except BaseException as error:
            self._drop(pending)
            if isinstance(error, CommandError):
                await self._report(error, pending)
            raise
        self._tasks.start(self._watch, pending, receipt)
        return receipt

    async def switch_to_branch(self, message_id: str) -> None:
        """Asks the server for the branch that the message is on.

        Raises:
            NotFound: the agent lists no such message.
            CommandError: it was refused.
        """
        if not any(message_id in siblings for siblings in self._listed_branches().values()):
            raise NotFound("branch", message_id)
        await self.send_command(SwitchBranch(message_id=message_id))

    def update_state(self, update: Callable[[Json], Json]) -> None:
        """Shows what `update` makes of the state, until the server says something newer.

        States are shared: `update` returns a new one, and leaves what it is given as it is.
        """
        state = self.thread.state
        self._override = (state, update(self.agent_state))
        self._refresh()

    # handlers

    async def _add_message(self, append: AppendMessage) -> None:
        id = uuid.uuid4().hex
        command = AddMessage(
            message=user_message(append, id),
            parent_id=self._known(append.parent_id),
            source_id=append.source_id,
        )
        await self.send_command(command, id=id)

    async def _regenerate(self, parent_id: str | None, run: StartRun) -> None:
        await self.send_command(Regenerate(parent_id=self._known(parent_id)))

    async def _add_tool_result(self, options: AddToolResultOptions) -> None:
        await self.send_command(
            AddToolResult(
                tool_call_id=options.tool_call_id,
                tool_name=options.tool_name,
                result=options.result,
                is_error=options.is_error,
                artifact=None if options.artifact is UNSET else options.artifact,
                model_content=options.model_content and list(options.model_content),
            )
        )

    async def _cancel(self) -> None:
        commands = [pending.command for pending in self._pending]
        await self.thread.cancel()
        if self._on_cancel is not None:
            await call(self._on_cancel, commands, self.update_state)

    def _known(self, message_id: str | None) -> str | None:
        """The message or the nearest before it that isn't only a placeholder here."""
        while message_id is not None and message_id in self._repository:
            if not self.message(message_id).metadata.is_optimistic:
                break
            message_id = self.parent_id(message_id)
        return message_id

    # following

    async def _follow(self) -> None:
        thread = self.thread
        try:
            while True:
                self._refresh()
                if thread.run is not None and thread.run.status in ENDED:
                    for scope in self._executing.values():
                        scope.cancel()
                await thread.changed()
        except (Refused, ConnectionClosed) as error:
            log.info("the thread %s is followed no more: %s", self._thread_id, error)
            self._failure = error
            self.update(is_disabled=True, is_running=False)

    def _refresh(self) -> None:
        """Converts what there is now, if it is something new."""
        thread = self.thread
        state = self.agent_state
        self._pending = [each for each in self._pending if not self._has_landed(each, thread)]
        metadata = ConnectionMetadata(
            tuple(self._pending), self.is_sending, dict.fromkeys(self._executing, EXECUTING)
        )
        if self._shown is not None and self._shown[0] is state and self._shown[1] == metadata:
            return
        self._shown = (state, metadata)
        converted = self._converter_of_state(state, metadata)
        self.update(
            messages=converted.messages,
            is_running=converted.is_running,
            state=converted.state,
            extras=state,
            is_loading=False,
        )

    def _has_landed(self, pending: PendingCommand, thread: Thread) -> bool:
        """Whether the state has its effect, or never will."""
        if pending.id in self._sent and not thread.awaits(pending.id):
            return True
        return _is_shown(pending, thread.state)

    def _drop(self, pending: PendingCommand) -> None:
        self._sent.discard(pending.id)
        if pending in self._pending:
            self._pending.remove(pending)
        if self._followed is not None:
            self._refresh()
        self._notify()

    async def _watch(self, pending: PendingCommand, receipt: Receipt) -> None:
        try:
            await receipt.applied()
        except CommandError as error:
            self._drop(pending)
            if error.code != "cancelled":
                await self._report(error, pending)
        except ConnectionClosed:
            pass  # `failure` says so
        self._drop(pending)

    async def _report(self, error: CommandError, pending: PendingCommand) -> None:
        if self._on_error is None:
            log.warning("the command %s was refused: %s", pending.id, error)
        else:
            await call(self._on_error, error, [pending.command], self.update_state)

    # tools

    async def _take_tool_calls(self) -> None:
        try:
            async for tool_call in self.thread.tool_calls():
                self._tasks.start(self._execute, tool_call)
        except (Refused, ConnectionClosed):
            pass  # `failure` says so

    async def _execute(self, tool_call: ToolCall) -> None:
        id = tool_call.tool_call_id
        with anyio.CancelScope() as scope:
            self._executing[id] = scope
            self._refresh()
            try:
                tool = self._tools[tool_call.name]
                result, failed = await call_tool(tool_call.name, tool, tool_call.args)
                await self._answer(tool_call, result, failed)
            except ConnectionClosed:
                return
            finally:
                self._executing.pop(id, None)
                if self._followed is not None:
                    self._refresh()

    async def _answer(self, tool_call: ToolCall, result: Json, failed: bool) -> None:
        answer = AddToolResult(
            tool_call_id=tool_call.tool_call_id, tool_name=tool_call.name, result=result, is_error=failed
        )
        try:
            await self.send_command(answer)
        except CommandError as error:
            if failed or error.code == "already-answered":
                return
            # What can't be sent as a result is an error of the tool.
            await self._answer(tool_call, {"error": str(error)}, True)

    def _listed_branches(self) -> Mapping[str, Sequence[str]]:
        """Message id → the ids of its siblings, it among them, as the agent lists them."""
        state = self._followed.state if self._followed is not None else None
        own = state.get("branches") if isinstance(state, dict) else None
        branches = self._server_state().get("branches", own)
        return branches if isinstance(branches, dict) else {}

    def _has_calls_for_tools(self) -> bool:
        """Whether the run waits for a tool that is executed here, or could be."""
        run = self.thread.run
        calls = self._server_state().get("tool_calls") if run and run.status == "waiting" else None
        return isinstance(calls, dict) and any(each.get("name") in self._tools for each in calls.values())

    def _server_state(self) -> Mapping[str, Any]:
        """What the server itself says in the state. Spec: PROTOCOL.md §8.4."""
        state = self._followed.state if self._followed is not None else None
        server = state.get("threadwire") if isinstance(state, dict) else None
        return server if isinstance(server, dict) else {}


def _is_shown(pending: PendingCommand, state: Json) -> bool:
    """Whether a message that is being added stands in the state: the news of it may come after it."""
    command = pending.command
    if not isinstance(command, AddMessage) or command.message.id is None or not isinstance(state, dict):
        return False
    messages = state.get("messages")
    if not isinstance(messages, list):
        return False
    id = command.message.id
    return any(isinstance(message, dict) and message.get("id") == id for message in reversed(messages))


def user_message(append: AppendMessage, id: str) -> UserMessage:
    """What a user appends, as commands have it. Raises InvalidMessage."""
    if append.role != "user":
        raise InvalidMessage("only messages of users can be sent", "role")
    content = [*append.content, *(part for each in append.attachments for part in each.content)]
    parts = tuple(_command_part(part, f"content.{index}") for index, part in enumerate(content))
    if not parts:
        raise InvalidMessage("a message has content", "content")
    return UserMessage(parts=parts, id=id)


def _command_part(part: Any, where: str) -> Part:
    """A part of a thread message as commands have it. Raises InvalidMessage."""
    if isinstance(part, TextMessagePart):
        return TextPart(part.text)
    if isinstance(part, ImageMessagePart):
        return ImagePart(part.image, part.filename)
    if isinstance(part, FileMessagePart):
        return FilePart(part.data, part.mime_type, part.filename)
    if isinstance(part, AudioMessagePart):
        return AudioPart(AudioSource(part.audio.data, part.audio.format))
    if isinstance(part, DataMessagePart):
        return DataPart(part.name, part.data)
    raise InvalidMessage(f"messages of users have no {part.type} parts", f"{where}.type")
