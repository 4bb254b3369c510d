"""What a message of a state shows: text, reasoning, tool calls and results, sources, files.

Agents write messages in the shapes of their frameworks. A `MessageReader` knows a shape; `read_message`
knows the common ones, from the message alone: `{role, content}` with parts as stock clients or model
APIs have them, and what LangChain serialises, `{type: human | ai | tool, content, tool_calls, ...}`.

What becomes of the parts while they stream is in `part_stream`. Spec: PROTOCOL.md §14.17.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, Literal, Protocol, TypeAlias

import msgspec

from .operations import Json, Path

TextKind: TypeAlias = Literal["text", "reasoning"]


class Text(msgspec.Struct, frozen=True):
    """A text that may grow; `path` is its place in the message."""

    kind: TextKind
    path: Path
    text: str


class Call(msgspec.Struct, frozen=True):
    """A tool call. `args` is as much of its arguments' JSON as there is, which may grow at `path`."""

    id: str
    name: str
    args: str
    path: Path | None


class Result(msgspec.Struct, frozen=True):
    """What came of a call."""

    call: str
    value: Json
    is_error: bool = False
    artifact: Json = None


class Source(msgspec.Struct, frozen=True):
    """A web page that the text refers to."""

    id: str
    url: str
    title: str | None = None


class File(msgspec.Struct, frozen=True):
    """A file: base64, or a URL."""

    data: str
    media_type: str


Part: TypeAlias = Text | Call | Result | Source | File


class MessageParts(msgspec.Struct, frozen=True):
    """A message as a chat shows it.

    Attributes:
        id: None where it has none.
        parts: in their order.
        usage: (input tokens, output tokens), where that is told.
        finish_reason: why a model stopped, in its own word.
    """

    role: Literal["user", "assistant", "tool", "system"]
    id: str | None
    parts: list[Part]
    usage: tuple[int, int] | None = None
    finish_reason: str | None = None


class MessageReader(Protocol):
    """Knows a shape of messages; gives None for what is no message of it."""

    def __call__(self, message: Json, /) -> MessageParts | None: ...


_ROLES: Final[dict[Json, Literal["user", "assistant", "tool", "system"]]] = {
    "user": "user",
    "human": "user",
    "assistant": "assistant",
    "ai": "assistant",
    "AIMessageChunk": "assistant",
    "tool": "tool",
    "system": "system",
    "developer": "system",
}
_MEDIA: Final = ("mediaType", "mimeType", "media_type", "mime_type")


def read_message(message: Json) -> MessageParts | None:
    """The parts of a message in one of the common shapes."""
    if type(message) is not dict:
        return None
    named = message.get("role", message.get("type"))
    role = _ROLES.get(named) if type(named) is str else None
    if role is None:
        return None
    if role == "assistant":
        parts = [*_reasoning(message), *_content(message), *_calls(message)]
    elif role == "tool":
        parts = list(_results(message))
    else:
        parts = []
    id = message.get("id")
    return MessageParts(
        role=role,
        id=id if type(id) is str else None,
        parts=parts,
        usage=_usage(message),
        finish_reason=_finish_reason(message),
    )


def _reasoning(message: dict[str, Json]) -> Iterator[Part]:
    """Where model APIs put it beside the content."""
    for path in (("additional_kwargs", "reasoning_content"), ("reasoning_content",)):
        text = _at(message, *path)
        if type(text) is str:
            yield Text("reasoning", path, text)
            return


def _content(message: dict[str, Json]) -> Iterator[Part]:
    name = "content" if "content" in message else "parts"
    content = message.get(name)
    if type(content) is str:
        yield Text("text", (name,), content)
    elif type(content) is list:
        for index, block in enumerate(content):
            place = (name, str(index))
            if type(block) is str:
                yield Text("text", place, block)
            elif type(block) is dict:
                yield from _block(block, place)


def _block(block: dict[str, Json], place: Path) -> Iterator[Part]:
    match block.get("type"):
        case "text" | "output_text":
            yield from _text("text", block, place, "text")
            for note in block.get("annotations") or ():
                if type(note) is dict and type(note.get("url")) is str:
                    yield _source(note)
        case "reasoning" | "thinking":
            yield from _text("reasoning", block, place, "text", "reasoning", "thinking")
            summary = block.get("summary")
            for index, item in enumerate(summary if type(summary) is list else ()):
                if type(item) is dict:
                    yield from _text("reasoning", item, (*place, "summary", str(index)), "text")
        case "tool-call":
            id, name = block.get("toolCallId"), block.get("toolName")
            if type(id) is str and type(name) is str:
                yield _call(id, name, block.get("args"), block, place, "argsText")
                if "result" in block:
                    yield Result(id, block["result"], block.get("isError") is True, block.get("artifact"))
        case "source" | "source-url" if type(block.get("url")) is str:
            yield _source(block)
        case "file" | "image" | "image_url":
            yield from _file(block)


def _text(kind: TextKind, block: dict[str, Json], place: Path, *names: str) -> Iterator[Part]:
    for name in names:
        if type(block.get(name)) is str:
            yield Text(kind, (*place, name), block[name])
            return


def _source(block: dict[str, Json]) -> Source:
    id = block.get("id", block.get("sourceId"))
    title = block.get("title")
    return Source(
        id if type(id) is str else block["url"], block["url"], title if type(title) is str else None
    )


def _file(block: dict[str, Json]) -> Iterator[Part]:
    image = block.get("image_url")
    found = [block.get(name) for name in ("data", "base64", "image", "url")]
    found.append(image.get("url") if type(image) is dict else image)
    data = next((each for each in found if type(each) is str), None)
    if data is None:
        return
    named = next((block[name] for name in _MEDIA if type(block.get(name)) is str), None)
    if named is None and data.startswith("data:"):
        named = data[5:].partition(",")[0].partition(";")[0]
    fallback = "application/octet-stream" if block["type"] == "file" else "image/png"
    yield File(data, named or fallback)


def _calls(message: dict[str, Json]) -> Iterator[Part]:
    calls = message.get("tool_calls")
    for index, call in enumerate(calls if type(calls) is list else ()):
        if type(call) is not dict:
            continue
        place = ("tool_calls", str(index))
        function = call.get("function")
        id = call.get("id")
        if type(id) is not str:
            continue  # it comes with the call's first piece, or soon after
        if type(function) is dict:
            if type(function.get("name")) is str:
                yield _call(id, function["name"], None, function, (*place, "function"), "arguments")
        elif type(call.get("name")) is str:
            yield _call(id, call["name"], call.get("args"), call, place, "partial_json")


def _call(id: str, name: str, args: Json, holder: dict[str, Json], place: Path, key: str) -> Call:
    text = holder.get(key)
    if type(text) is str:
        return Call(id, name, text, (*place, key))
    # Without a text there is nothing to grow: they come whole.
    return Call(id, name, msgspec.json.encode(args).decode() if args else "", None)


def _results(message: dict[str, Json]) -> Iterator[Part]:
    call = message.get("tool_call_id", message.get("toolCallId"))
    content = message.get("content")
    if type(call) is str:
        failed = message.get("status") == "error" or message.get("isError") is True
        yield Result(call, content, failed, message.get("artifact"))
    for block in content if type(content) is list else ():
        if (
            type(block) is dict
            and block.get("type") == "tool-result"
            and type(block.get("toolCallId")) is str
        ):
            value = block.get("result", block.get("output"))
            yield Result(block["toolCallId"], value, block.get("isError") is True, block.get("artifact"))


def _usage(message: dict[str, Json]) -> tuple[int, int] | None:
    for usage in (message.get("usage_metadata"), message.get("usage"), _at(message, "metadata", "usage")):
        if type(usage) is dict:
            given = usage.get("input_tokens", usage.get("inputTokens"))
            made = usage.get("output_tokens", usage.get("outputTokens"))
            if type(given) is int and type(made) is int:
                return given, made
    return None


def _finish_reason(message: dict[str, Json]) -> str | None:
    for name in ("finish_reason", "stop_reason"):
        reason = _at(message, "response_metadata", name)
        if type(reason) is str:
            return reason
    return None


def _at(value: Json, *path: str) -> Json:
    for key in path:
        value = value.get(key) if type(value) is dict else None
    return value
