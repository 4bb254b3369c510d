"""Code as users of the client's runtimes write it; all of it is right."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import httpx

from threadwire.client import (
    AppendMessage,
    AssistantTransportRuntime,
    ChatModelRunOptions,
    ChatModelRunResult,
    CompositeAttachmentAdapter,
    DataStreamModel,
    ExternalMessageConverter,
    ExternalStoreAdapter,
    ExternalStoreRuntime,
    LangChainConverter,
    LocalAdapters,
    LocalRuntime,
    MessageQueue,
    RepositoryItem,
    ServerThreads,
    SimpleImageAttachmentAdapter,
    SimpleTextAttachmentAdapter,
    TextMessagePart,
    ThreadItem,
    ThreadList,
    ThreadMessage,
    ThreadSuggestion,
    connect,
    convert_langchain_messages,
)


async def streaming(options: ChatModelRunOptions) -> AsyncIterator[ChatModelRunResult]:
    yield ChatModelRunResult(content=[TextMessagePart("x")])


async def whole(options: ChatModelRunOptions) -> dict[str, Any]:
    return {"content": []}


class Model:
    async def run(self, options: ChatModelRunOptions) -> AsyncIterator[dict[str, Any]]:
        yield {"content": []}


class History:
    async def load(self) -> None: ...
    async def append(self, item: RepositoryItem) -> None: ...


class Suggestions:
    async def generate(self, messages: Any) -> list[ThreadSuggestion]:
        return []


class Feedback:
    def submit(self, message: ThreadMessage, type: str, comment: str | None) -> None: ...


attachments = CompositeAttachmentAdapter([SimpleImageAttachmentAdapter(), SimpleTextAttachmentAdapter()])
adapters = LocalAdapters(
    history=History(), suggestion=Suggestions(), feedback=Feedback(), attachments=attachments
)
LocalRuntime(streaming)
LocalRuntime(whole)
LocalRuntime(Model(), adapters=adapters)
LocalRuntime(DataStreamModel(httpx.AsyncClient()))


async def on_new(message: AppendMessage) -> None:
    print(message.parent_id)


store: ExternalStoreRuntime[dict[str, Any]] = ExternalStoreRuntime(
    ExternalStoreAdapter(
        messages=[{"text": "hi"}],
        convert_message=lambda message: {"role": "user", "content": message["text"]},
        on_new=on_new,
        queue=MessageQueue(print),
    )
)
converter: ExternalMessageConverter[dict[str, Any]] = ExternalMessageConverter(convert_langchain_messages)


def make(item: ThreadItem[LocalRuntime]) -> LocalRuntime:
    return LocalRuntime(streaming, initialize=item.initialize)


ThreadList(ServerThreads(httpx.AsyncClient()), make)


async def main() -> None:
    async with (
        connect("ws://127.0.0.1:8000/ws") as connection,
        AssistantTransportRuntime(connection, "t", converter=LangChainConverter()) as runtime,
    ):
        await runtime.append("hi")
        for message in runtime.messages:
            if message.role == "assistant":
                print(message.status, message.content)
            elif message.role == "user":
                print(message.attachments)
