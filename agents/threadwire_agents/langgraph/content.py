"""What a client sends, as LangChain messages: its message, and the result of a tool it executed.

The blocks are those that the stock converter of assistant-ui reads and that LangChain's models
take: `text`, `image_url`, and `file` and `audio` with `source_type`. Above it is what runs a graph;
how messages become JSON again is in `serialise`.
"""

from __future__ import annotations

import base64
import binascii
import json
from typing import Any, Final, TypeAlias, assert_never
from urllib.parse import unquote_to_bytes

from langchain_core.messages import HumanMessage, SystemMessage, ToolMessage

from threadwire.core.commands import (
    AddToolResult,
    AudioPart,
    DataPart,
    FilePart,
    ImagePart,
    Part,
    TextPart,
    UserMessage,
)
from threadwire.core.errors import CommandError
from threadwire.core.operations import Json

Block: TypeAlias = dict[str, Any]

UNKNOWN_TYPE: Final = "application/octet-stream"
UNNAMED: Final = "file"
"""Some models refuse a file without a name; the stock client shows this one."""


def human_message(message: UserMessage, id: str) -> HumanMessage | SystemMessage:
    """The message of an `add-message` command, by its role.

    One text part is a string, several parts are a list of blocks, none is the empty string. A data
    part is not for the model: it goes into `additional_kwargs["metadata"]`, which models don't get
    and the stock client shows as the message's custom metadata, as `{"data": [{name, data}]}`. An
    image's filename goes there too, since models refuse unknown fields of images, as
    `{"filenames": {"<index of its block>": filename}}`.

    Raises:
        CommandError: `invalid-command`, naming the field such as `command.message.parts.0.image`.
    """
    blocks: list[Block] = []
    data: list[Json] = []
    filenames: dict[str, str] = {}
    for index, part in enumerate(message.parts):
        if isinstance(part, DataPart):
            data.append({"name": part.name, "data": part.data})
            continue
        if isinstance(part, ImagePart) and part.filename:
            filenames[str(len(blocks))] = part.filename
        blocks.append(_block(part, f"command.message.parts.{index}"))
    metadata = {name: value for name, value in (("data", data), ("filenames", filenames)) if value}
    kind = SystemMessage if message.role == "system" else HumanMessage
    return kind(content=_content(blocks), id=id, additional_kwargs={"metadata": metadata} if metadata else {})


def tool_message(command: AddToolResult, name: str | None, id: str) -> ToolMessage:
    """The message of an `add-tool-result` command; `name` is the called tool's.

    The model sees the result, JSON unless it is a string; or `modelContent` where that is given: a
    string, a list of `{type: "text", text}` and `{type: "file", data, mediaType, filename?}` parts
    or of LangChain's own blocks, or any other value as JSON. Then `artifact` holds the result,
    unless the client gave an artifact.

    Raises:
        CommandError: `invalid-command`, naming the field such as `command.modelContent.0.data`.
    """
    content: str | list[Any]
    if command.model_content is None:
        content = _as_text(command.result)
        artifact = command.artifact
    else:
        content = _model_content(command.model_content)
        artifact = command.result if command.artifact is None else command.artifact
    return ToolMessage(
        content=content,
        tool_call_id=command.tool_call_id,
        name=name,
        id=id,
        artifact=artifact,
        status="error" if command.is_error else "success",
    )


def _content(blocks: list[Block]) -> str | list[Any]:
    if not blocks:
        return ""
    if len(blocks) == 1 and blocks[0]["type"] == "text":
        text: str = blocks[0]["text"]
        return text
    return list(blocks)


def _block(part: Part, field: str) -> Block:
    match part:
        case TextPart():
            return {"type": "text", "text": part.text}
        case ImagePart():
            return _image(part.image, f"{field}.image")
        case FilePart():
            return _file(part.data, part.mime_type, part.filename, f"{field}.data")
        case AudioPart():
            data, _ = _base64(part.audio.data, f"{field}.audio.data")
            return {
                "type": "audio",
                "source_type": "base64",
                "data": data,
                "mime_type": f"audio/{part.audio.format}",
            }
        case DataPart():
            raise AssertionError("data parts have no block")
    assert_never(part)


def _image(url: str, field: str) -> Block:
    start = url[:8].lower()
    if start.startswith("data:"):
        _base64(url, field)
    elif not start.startswith("https://"):
        raise CommandError("invalid-command", "an image is an https: or data: URL", field)
    return {"type": "image_url", "image_url": {"url": url}}


def _file(data: str, mime_type: str, filename: str | None, field: str) -> Block:
    name = filename or UNNAMED
    # Where models and the stock client look for the name differs.
    named = {"filename": name, "metadata": {"filename": name}}
    if data[:8].lower().startswith(("https://", "http://")):
        kind = mime_type or UNKNOWN_TYPE
        return {"type": "file", "source_type": "url", "url": data, "mime_type": kind, **named}
    plain, found = _base64(data, field)
    kind = mime_type or found or UNKNOWN_TYPE
    return {"type": "file", "source_type": "base64", "data": plain, "mime_type": kind, **named}


def _base64(data: str, field: str) -> tuple[str, str]:
    """The base64 and the type (or "") of a data: URL, or of base64 itself."""
    mime_type = ""
    if data[:5].lower() == "data:":
        head, comma, data = data[5:].partition(",")
        if not comma:
            raise CommandError("invalid-command", "a data: URL has a comma before its data", field)
        mime_type, *parameters = [item.strip() for item in head.split(";")]
        if "base64" not in [item.lower() for item in parameters]:
            return base64.b64encode(unquote_to_bytes(data)).decode(), mime_type
    try:
        binascii.a2b_base64(data, strict_mode=True)
    except (ValueError, binascii.Error) as error:
        raise CommandError("invalid-command", f"neither base64 nor a URL: {error}", field) from None
    return data, mime_type


def _model_content(content: Json) -> str | list[Any]:
    if type(content) is not list:
        return _as_text(content)
    return _content(
        [_model_block(item, f"command.modelContent.{index}") for index, item in enumerate(content)]
    )


def _model_block(item: Json, field: str) -> Block:
    if type(item) is str:
        return {"type": "text", "text": item}
    if type(item) is not dict or type(item.get("type")) is not str:
        raise CommandError("invalid-command", "a part has a type, a string", field)
    if item["type"] == "text" and type(item.get("text")) is not str:
        raise CommandError("invalid-command", "a string", f"{field}.text")
    if item["type"] != "file" or "mediaType" not in item:
        return dict(item)
    for name in ("data", "mediaType", "filename"):
        if type(item.get(name, "")) is not str or (name == "data" and name not in item):
            raise CommandError("invalid-command", "a string", f"{field}.{name}")
    mime_type: str = item["mediaType"]
    data: str = item["data"]
    if mime_type.lower().startswith("image/"):
        if not data[:8].lower().startswith(("data:", "https://")):
            data = f"data:{mime_type};base64,{data}"
        return _image(data, f"{field}.data")
    return _file(data, mime_type, item.get("filename"), f"{field}.data")


def _as_text(value: Json) -> str:
    if type(value) is str:
        return value
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
