"""A chat model behind an HTTP route that answers with a data stream, such as a server's `/chat`."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ...core.operations import Json
from ...messages.chat_model import ChatModelRunOptions, ChatModelRunResult
from ...messages.data_stream import DataStreamError, DataStreamMessage
from ...messages.generic import to_generic_messages
from ...messages.model import RunningStatus, ThreadMessage

if TYPE_CHECKING:
    import httpx


class DataStreamModel:
    """A `ChatModelAdapter` that posts the messages to `url`, and reads the answer from the stream.

        LocalRuntime(DataStreamModel(httpx.AsyncClient(base_url="http://..."), "/chat"))

    The body is that of assistant-ui's data stream runtime; `body` adds to it. Text and calls are
    shown as they come; an error in the stream is the message's.

    Raises, from its runs:
        DataStreamError: the server refused, or its answer is no data stream.
        And what httpx raises.
    """

    def __init__(
        self, client: httpx.AsyncClient, url: str = "/chat", *, body: Mapping[str, Json] | None = None
    ) -> None:
        self._client = client
        self._url = url
        self._body = dict(body or {})

    async def run(self, options: ChatModelRunOptions) -> AsyncIterator[ChatModelRunResult]:
        """The answer, growing."""
        message = DataStreamMessage()
        async with self._client.stream("POST", self._url, json=self._request(options)) as response:
            if not response.is_success:
                text = (await response.aread()).decode(errors="replace")
                raise DataStreamError(f"status {response.status_code}: {text[:500]}")
            async for data in response.aiter_bytes():
                if message.feed(data):
                    yield _result(message)
        message.end()
        yield _result(message)

    def _request(self, options: ChatModelRunOptions) -> dict[str, Json]:
        current, context = options.current(), options.context
        state = current.metadata.state
        request: dict[str, Json] = {
            "messages": language_model_messages([*options.messages, current]),
            "tools": dict(context.tools),
            "unstable_assistantMessageId": options.message_id,
            "parentId": options.parent_id,
            "runConfig": dict(options.run_config),
            **({} if context.system is None else {"system": context.system}),
            **({} if options.thread_id is None else {"threadId": options.thread_id}),
            **({} if state is None else {"state": state}),
        }
        return {**request, **context.call_settings, **context.config, **self._body}


def language_model_messages(messages: Sequence[ThreadMessage]) -> list[Json]:
    """The messages as the AI SDK's language models take them."""
    return [{**each, "content": _content(each["content"])} for each in to_generic_messages(messages)]


def _content(content: Json) -> Json:
    return content if isinstance(content, str) else [_part(part) for part in content]


def _part(part: dict[str, Any]) -> Json:
    call = {name: part[name] for name in ("type", "toolCallId", "toolName") if name in part}
    if part["type"] == "tool-call":
        return {**call, "input": part["args"]}
    if part["type"] == "tool-result":
        kind = "error-json" if part.get("isError") else "json"
        return {**call, "output": {"type": kind, "value": part["result"]}}
    return part


def _result(message: DataStreamMessage) -> ChatModelRunResult:
    status = None if isinstance(message.status, RunningStatus) else message.status
    return ChatModelRunResult(content=tuple(message.parts), status=status, metadata=message.metadata)
