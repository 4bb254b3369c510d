"""A thread of any AssistantTransport server over plain HTTP: commands out, a stream of states back.

There is one request at a time; commands that are given meanwhile go with the next one. The server
answers with the state as it changes, which is converted to messages as in `assistant_transport`.
"""

from __future__ import annotations

import logging
import uuid
from collections.abc import Awaitable, Callable, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self

import anyio
import msgspec

from ...core.commands import AddMessage, AddToolResult, Command
from ...core.operations import Json
from ...messages.auto_status import is_pending
from ...messages.chat_model import ModelContext
from ...messages.data_stream import DataStreamError, DataStreamMessage
from ...messages.model import ThreadMessage, ToolCallMessagePart
from ...messages.state_stream import StateStream
from ..errors import InvalidAdapter, NotNow
from .actions import AddToolResultOptions, AppendMessage, ResumeRun, StartRun
from .assistant_transport import (
    EXECUTING,
    ConnectionMetadata,
    PendingCommand,
    StateConverter,
    user_message,
)
from .calling import call, call_tool, check_handler
from .external_store import ExternalStoreAdapter, ExternalStoreRuntime, RuntimeAdapters
from .local_run import ToolFunction
from .tasks import Tasks

if TYPE_CHECKING:
    import httpx

log = logging.getLogger("threadwire.client")

_PROTOCOLS = ("data-stream", "assistant-transport")


class AssistantTransportOverHttp(ExternalStoreRuntime[ThreadMessage]):
    """Talks to the AssistantTransport route `url`, for the length of an `async with`.

        client = httpx.AsyncClient(base_url="http://...", timeout=None)
        async with AssistantTransportOverHttp(client, converter=LangChainConverter()) as runtime:
            await runtime.append("Hi")
            await runtime.idle()

    The state lives here and goes with each request; `agent_state` is the newest. Calls of `tools`
    that a run leaves without a result are executed here. `on_error(error, commands, update_state)`
    is told of a failed request, `on_cancel(commands, update_state)` of commands that were given up;
    without `on_error` a failure is in `error`.

    Raises:
        InvalidAdapter: a handler can't be called, or there is no such protocol.
    """

    def __init__(
        self,
        client: httpx.AsyncClient,
        url: str = "/assistant",
        *,
        converter: StateConverter,
        initial_state: Json = None,
        thread_id: str | None = None,
        protocol: Literal["data-stream", "assistant-transport"] = "data-stream",
        resume_url: str | None = None,
        tools: Mapping[str, ToolFunction] | None = None,
        context: ModelContext | None = None,
        body: Mapping[str, Json] | None = None,
        adapters: RuntimeAdapters | None = None,
        on_error: Callable[..., Awaitable[None] | None] | None = None,
        on_cancel: Callable[..., Awaitable[None] | None] | None = None,
    ) -> None:
        for name, handler in (("converter", converter), ("on_error", on_error), ("on_cancel", on_cancel)):
            check_handler(name, handler)
        if protocol not in _PROTOCOLS:
            raise InvalidAdapter("protocol", f"{' or '.join(_PROTOCOLS)}, not {protocol!r}")
        super().__init__(
            ExternalStoreAdapter(
                messages=(),
                on_new=self._add_message,
                on_edit=self._add_message,
                on_reload=self._reload,
                on_cancel=self._cancel,
                on_resume=None if resume_url is None else self._resume,
                on_add_tool_result=self._add_tool_result,
                adapters=adapters or RuntimeAdapters(),
            )
        )
        self._client = client
        self._url = url
        self._resume_url = resume_url
        self._converter_of_state = converter
        self._thread_id = thread_id
        self._protocol = protocol
        self._tools = dict(tools or {})
        self.context = context or ModelContext()
        """What the agent is told beside the messages; may be changed between requests."""
        self._body = dict(body or {})
        self._on_error = on_error
        self._on_cancel = on_cancel
        self.agent_state: Json = initial_state
        """The newest state."""
        self.error: Exception | None = None
        """Why the last request failed, where it did."""
        self._queued: list[PendingCommand] = []
        self._in_transit: list[PendingCommand] = []
        self._parent_id: str | msgspec.UnsetType | None = msgspec.UNSET
        self._executing: dict[str, anyio.CancelScope] = {}
        self._request: anyio.CancelScope | None = None
        self._work = anyio.Event()
        self._resuming = False
        self._tasks = Tasks()

    async def __aenter__(self) -> Self:
        await self._tasks.__aenter__()
        self._refresh()
        self._tasks.start(self._requests)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        return await self._tasks.__aexit__(kind, error, trace)

    @property
    def pending_commands(self) -> tuple[PendingCommand, ...]:
        """The commands that the server hasn't answered yet."""
        return (*self._in_transit, *self._queued)

    @property
    def is_sending(self) -> bool:
        """Whether a request goes on."""
        return self._request is not None

    async def idle(self) -> None:
        """Waits until no request goes on, no command waits, and no tool is executed."""
        await self.wait(lambda: not (self.is_sending or self._work.is_set() or self._executing))

    def send_command(self, command: Command | Mapping[str, Json]) -> None:
        """Sends any command with the next request, which begins as soon as the last one has ended.

        Raises:
            NotNow: outside of the `async with`.
        """
        self._enqueue(command, start=True)

    def update_state(self, update: Callable[[Json], Json]) -> None:
        """Goes on with what `update` makes of the state."""
        self.agent_state = update(self.agent_state)
        self._refresh()

    # handlers

    async def _add_message(self, append: AppendMessage) -> None:
        message = user_message(append, uuid.uuid4().hex)
        self._parent_id = append.parent_id
        self._enqueue(
            AddMessage(message=message, parent_id=append.parent_id, source_id=append.source_id),
            start=append.starts_run,
        )

    async def _reload(self, parent_id: str | None, run: StartRun) -> None:
        if not self._queued:
            raise NotNow("there is nothing to send: the server keeps the messages")
        self._parent_id = parent_id
        self._start()

    async def _resume(self, run: ResumeRun) -> None:
        self._resuming = True
        self._start()

    async def _add_tool_result(self, options: AddToolResultOptions) -> None:
        self.send_command(
            AddToolResult(
                tool_call_id=options.tool_call_id,
                tool_name=options.tool_name,
                result=options.result,
                is_error=options.is_error,
                artifact=None if options.artifact is msgspec.UNSET else options.artifact,
                model_content=options.model_content and list(options.model_content),
            )
        )

    async def _cancel(self) -> None:
        self._resuming = False
        for scope in self._executing.values():
            scope.cancel()
        if self._request is not None:
            self._request.cancel()
            await self.wait(lambda: self._request is None)

    # requests

    def _enqueue(self, command: Command | Mapping[str, Json], *, start: bool) -> None:
        if not self._tasks.entered:
            raise NotNow("the runtime is used in its `async with`")
        self._queued.append(PendingCommand(uuid.uuid4().hex, command))
        self._refresh()
        if start:
            self._start()

    def _start(self) -> None:
        self._work.set()

    async def _requests(self) -> None:
        while True:
            await self._work.wait()
            self._work = anyio.Event()
            resuming, self._resuming = self._resuming, False
            if not resuming:
                self._in_transit, self._queued = [*self._in_transit, *self._queued], []
            if self._in_transit or resuming:
                await self._send(resuming)
                self._start_tools()
            if self._queued and self._in_transit == [] and resuming:
                self._start()
            self._notify()

    async def _send(self, resuming: bool) -> None:
        self.error = None
        failure: Exception | None = None
        with anyio.CancelScope() as scope:
            self._request = scope
            self._refresh()
            try:
                await self._ask(resuming)
            except Exception as error:
                failure = self.error = error
        self._request = None
        if scope.cancelled_caught:
            given_up, self._in_transit, self._queued = self.pending_commands, [], []
            self._work = anyio.Event()
            await self._tell(self._on_cancel, given_up)
        elif failure is not None:
            sent, queued = self._in_transit, self._queued
            self._in_transit, self._queued = [], []
            self._work = anyio.Event()
            if self._on_error is None:
                log.warning("the request failed: %s", failure)
            else:
                commands = [each.command for each in sent]
                await call(self._on_error, failure, commands, self.update_state)
            if queued:
                await self._tell(self._on_cancel, queued)
        else:
            self._in_transit = []
        self._refresh()

    async def _tell(self, handler: Callable[..., Any] | None, commands: Any) -> None:
        if handler is not None:
            await call(handler, [each.command for each in commands], self.update_state)

    async def _ask(self, resuming: bool) -> None:
        reader: DataStreamMessage | StateStream
        strict = not resuming
        if self._protocol == "data-stream":
            reader = DataStreamMessage(state=self.agent_state, strict=strict)
        else:
            reader = StateStream(state=self.agent_state, strict=strict)
        url = self._resume_url if resuming and self._resume_url else self._url
        async with self._client.stream("POST", url, json=self._request_body(resuming)) as response:
            if not response.is_success:
                text = (await response.aread()).decode(errors="replace")
                raise DataStreamError(f"status {response.status_code}: {text[:500]}")
            async for data in response.aiter_bytes():
                if reader.feed(data) and reader.state is not self.agent_state:
                    self.agent_state = reader.state
                    self._in_transit = []  # the first change says that they have arrived
                    self._refresh()
        reader.end()
        if reader.error is not None:
            raise DataStreamError(reader.error)

    def _request_body(self, resuming: bool) -> dict[str, Json]:
        commands = [] if resuming else [_plain(each.command) for each in self._in_transit]
        parent_id, self._parent_id = self._parent_id, msgspec.UNSET
        context = self.context
        return {
            "commands": commands,
            "state": self.agent_state,
            "threadId": self._thread_id,
            "callSettings": dict(context.call_settings),
            "config": dict(context.config),
            **({} if context.system is None else {"system": context.system}),
            **({"tools": dict(context.tools)} if context.tools else {}),
            **({} if parent_id is msgspec.UNSET or resuming else {"parentId": parent_id}),
            **context.call_settings,
            **context.config,
            **self._body,
        }

    def _refresh(self) -> None:
        metadata = ConnectionMetadata(
            self.pending_commands, self.is_sending, dict.fromkeys(self._executing, EXECUTING)
        )
        converted = self._converter_of_state(self.agent_state, metadata)
        self.update(
            messages=converted.messages,
            is_running=converted.is_running,
            state=converted.state,
            extras=self.agent_state,
        )

    # tools

    def _start_tools(self) -> None:
        for message in self.messages:
            for part in message.content:
                if (
                    isinstance(part, ToolCallMessagePart)
                    and is_pending(part)
                    and part.tool_name in self._tools
                    and part.tool_call_id not in self._executing
                    and self.error is None
                    and not _is_answered(part.tool_call_id, self.pending_commands)
                ):
                    scope = self._executing[part.tool_call_id] = anyio.CancelScope()
                    self._tasks.start(self._execute, part, scope)

    async def _execute(self, part: ToolCallMessagePart, scope: anyio.CancelScope) -> None:
        with scope:
            self._refresh()
            result, failed = await call_tool(part.tool_name, self._tools[part.tool_name], part.args)
            self.send_command(
                AddToolResult(
                    tool_call_id=part.tool_call_id, tool_name=part.tool_name, result=result, is_error=failed
                )
            )
        self._executing.pop(part.tool_call_id, None)
        self._refresh()


def _plain(command: Command | Mapping[str, Json]) -> Json:
    """The command as JSON, with the fields that the stock client always sends."""
    if not isinstance(command, Command):
        return dict(command)
    plain: dict[str, Json] = msgspec.to_builtins(command)
    if isinstance(command, AddMessage):
        return {"parentId": None, "sourceId": None, **plain}
    return {"isError": False, **plain} if isinstance(command, AddToolResult) else plain


def _is_answered(tool_call_id: str, pending: tuple[PendingCommand, ...]) -> bool:
    return any(
        isinstance(each.command, AddToolResult) and each.command.tool_call_id == tool_call_id
        for each in pending
    )
