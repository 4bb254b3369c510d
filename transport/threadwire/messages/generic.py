"""Thread messages as a model's provider is told them: roles, texts, files, calls and their results."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, Final, assert_never

from ..core.operations import Json
from .model import (
    FileMessagePart,
    ImageMessagePart,
    TextMessagePart,
    ThreadAssistantMessage,
    ThreadMessage,
    ThreadSystemMessage,
    ThreadUserMessage,
    ToolCallMessagePart,
    to_json,
)

_MEDIA_TYPES: Final = {
    "jpg": "image/jpeg",
    "jpeg": "image/jpeg",
    "png": "image/png",
    "gif": "image/gif",
    "webp": "image/webp",
    "svg": "image/svg+xml",
    "avif": "image/avif",
    "bmp": "image/bmp",
    "ico": "image/x-icon",
    "tiff": "image/tiff",
    "tif": "image/tiff",
    "heic": "image/heic",
    "heif": "image/heif",
}
_DATA_URL: Final = re.compile("data:([^;,]+)", re.IGNORECASE)
_NOT_COMPLETED: Final = {"error": "Tool call was not completed"}


def to_generic_messages(messages: Iterable[ThreadMessage]) -> list[dict[str, Json]]:
    """The messages in the common form, as JSON.

        {"role": "system", "content": text}
        {"role": "user", "content": [text or file parts]}
        {"role": "assistant", "content": [text or tool-call parts]}
        {"role": "tool", "content": [tool-result parts]}

    Files are `{type, data, mediaType, filename?}`, with images among them. Text after a tool's
    result begins another assistant message. A call without a result is answered with an error,
    since providers refuse one that isn't answered, unless somebody is still to decide about it.
    """
    generic: list[dict[str, Json]] = []
    for message in messages:
        if isinstance(message, ThreadSystemMessage):
            if message.content[0].text:
                generic.append({"role": "system", "content": message.content[0].text})
        elif isinstance(message, ThreadUserMessage):
            attached = (part for attachment in message.attachments for part in attachment.content)
            content = [part for each in (*message.content, *attached) if (part := _user_part(each))]
            if content:
                generic.append({"role": "user", "content": content})
        elif isinstance(message, ThreadAssistantMessage):
            generic += _assistant(message)
        else:
            assert_never(message)
    return generic


def _user_part(part: Any) -> dict[str, Json] | None:
    if isinstance(part, TextMessagePart):
        return {"type": "text", "text": part.text} if part.text else None
    if isinstance(part, ImageMessagePart) and part.image:
        return _file(part.image, _image_type(part.image), part.filename)
    if isinstance(part, FileMessagePart):
        data_url = _DATA_URL.match(part.data)
        declared = data_url[1].lower() if data_url else "application/octet-stream"
        return _file(part.data, part.mime_type or declared, part.filename)
    return None


def _file(data: str, media_type: str, filename: str | None) -> dict[str, Json]:
    name = {"filename": filename} if filename else {}
    return {"type": "file", "data": data, "mediaType": media_type, **name}


def _image_type(url: str) -> str:
    data_url = _DATA_URL.match(url)
    if data_url:
        return data_url[1].lower()
    path = re.split("[?#]", url, maxsplit=1)[0]
    return _MEDIA_TYPES.get(path.rpartition(".")[2].lower(), "image/png")


def _assistant(message: ThreadAssistantMessage) -> Iterable[dict[str, Json]]:
    said: list[Json] = []
    results: list[Json] = []
    for part in message.content:
        if isinstance(part, TextMessagePart) and part.text:
            if results:
                yield from _messages(said, results)
                said, results = [], []
            said.append({"type": "text", "text": part.text})
        elif isinstance(part, ToolCallMessagePart) and part.tool_call_id and part.tool_name:
            call = {"toolCallId": part.tool_call_id, "toolName": part.tool_name}
            said.append({"type": "tool-call", **call, "args": part.args})
            if part.has_result or not _awaits_an_answer(part):
                failed = {"isError": True} if part.is_error or not part.has_result else {}
                result = to_json(part.result) if part.has_result else dict(_NOT_COMPLETED)
                results.append({"type": "tool-result", **call, "result": result, **failed})
    yield from _messages(said, results)


def _messages(said: list[Json], results: list[Json]) -> Iterable[dict[str, Json]]:
    if said:
        yield {"role": "assistant", "content": said}
    if results:
        yield {"role": "tool", "content": results}


def _awaits_an_answer(call: ToolCallMessagePart) -> bool:
    approval = call.approval
    return call.interrupt is not None or (
        approval is not None and approval.approved is not False and approval.resolution is None
    )
