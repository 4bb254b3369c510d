"""The state of a LangGraph graph, with the commands on their way to it, as messages."""

from __future__ import annotations

from typing import Any

from ...core.commands import AddMessage, AddToolResult, FilePart, ImagePart, TextPart, UserMessage
from ...core.operations import Json
from ...messages.external import ConverterCallback, ConverterMetadata, ExternalMessageConverter
from ...messages.langchain import convert_langchain_messages
from .assistant_transport import ConnectionMetadata, PendingCommand, TransportState


class LangChainConverter:
    """Converts states that hold LangChain messages under `messages_key`; one for each thread.

    Another `callback` reads messages of another form; those that are pending are LangChain's for it.

    Messages and tool results on their way are shown as they will stand in the state; an edit hides
    what it replaces. The error of a failed run stands with the last message.
    """

    def __init__(
        self,
        messages_key: str = "messages",
        *,
        callback: ConverterCallback[Any] = convert_langchain_messages,
    ) -> None:
        self._key = messages_key
        self._converter: ExternalMessageConverter[Any] = ExternalMessageConverter(callback)
        self._pending: dict[str, Json] = {}  # command id -> the message it is shown as
        self._metadata = ConverterMetadata()

    def __call__(self, state: Json, connection: ConnectionMetadata) -> TransportState:
        """The messages of `state` and of what is pending."""
        held = state.get(self._key) if isinstance(state, dict) else None
        messages = held if isinstance(held, list) else []
        if connection.pending_commands or self._pending:
            messages = self._with_pending(messages, connection.pending_commands)
        error = _error(state)
        if error != self._metadata.error:
            self._metadata = ConverterMetadata(error=error)
        return TransportState(
            messages=self._converter.convert(
                messages, is_running=connection.is_sending, metadata=self._metadata
            ),
            is_running=connection.is_sending,
            state=state,
        )

    def _with_pending(self, messages: list[Json], pending: tuple[PendingCommand, ...]) -> list[Json]:
        shown = {each.id: self._pending.get(each.id) or _message(each) for each in pending}
        self._pending = {id: message for id, message in shown.items() if message is not None}
        for each in pending:
            command = each.command
            if isinstance(command, AddMessage) and command.source_id is not None:
                messages = _before(messages, command.source_id)
            if each.id in self._pending:
                messages = [*messages, self._pending[each.id]]
        return messages


def _message(pending: PendingCommand) -> Json:
    command = pending.command
    if isinstance(command, AddMessage):
        return {"type": "human", "id": command.message.id or pending.id, "content": _content(command.message)}
    if isinstance(command, AddToolResult):
        return {
            "type": "tool",
            "tool_call_id": command.tool_call_id,
            "content": command.result,
            "status": "error" if command.is_error else "success",
        }
    return None


def _content(message: UserMessage) -> Json:
    if len(message.parts) == 1 and isinstance(message.parts[0], TextPart):
        return message.parts[0].text
    blocks: list[Json] = []
    for part in message.parts:
        if isinstance(part, TextPart):
            blocks.append({"type": "text", "text": part.text})
        elif isinstance(part, ImagePart):
            blocks.append({"type": "image_url", "image_url": {"url": part.image}})
        elif isinstance(part, FilePart):
            file = {"type": "file", "data": part.data, "mime_type": part.mime_type}
            blocks.append({**file, "metadata": {"filename": part.filename or "file"}})
    return blocks


def _before(messages: list[Json], message_id: str) -> list[Json]:
    for index, message in enumerate(messages):
        if isinstance(message, dict) and message.get("id") == message_id:
            return messages[:index]
    return messages


def _error(state: Json) -> Json:
    server = state.get("threadwire") if isinstance(state, dict) else None
    return server.get("error") if isinstance(server, dict) else None
