"""LangChain messages, as they stand in a graph's state, and what they mean to a thread."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from ..core.operations import Json
from .errors import InvalidMessage
from .external import NO_METADATA, ConverterMetadata
from .javascript import is_blank, stringify
from .joining import OutputLike, ToolResultLike
from .like import LikeMetadata, LikePart, ThreadMessageLike, read_like
from .model import (
    DataMessagePart,
    FileMessagePart,
    ImageMessagePart,
    ReasoningMessagePart,
    TextMessagePart,
    ToolCallLike,
)
from .partial_json import parse_partial_json

_BINARY: Final = "application/octet-stream"


def convert_langchain_messages(
    message: Mapping[str, Json], metadata: ConverterMetadata = NO_METADATA
) -> OutputLike | Sequence[OutputLike]:
    """What one LangChain message (JSON, with its `type`) means; a callback for a converter.

    `remove` messages and unknown types mean nothing. `metadata.custom["ui_messages"]` may hold
    LangGraph's UI messages by the id of the message they belong to.
    """
    kind = message.get("type")
    id = message.get("id")
    kwargs = message.get("additional_kwargs") or {}
    if kind == "ai":
        calls = enumerate(message.get("tool_calls") or ())
        timing = metadata.message_timing.get(id) if id else None
        ui = metadata.custom.get("ui_messages", {}).get(id, ()) if id else ()
        return ThreadMessageLike(
            role="assistant",
            id=id,
            content=(
                *_with_transcript(_parts(_assistant_blocks(message, kwargs)), kwargs),
                *(_tool_call(message, call, index) for index, call in calls),
                *(DataMessagePart(name=each["name"], data=each["props"]) for each in ui),
            ),
            metadata=LikeMetadata(custom=_custom(kwargs), timing=timing),
            **_status(message),
        )
    if kind == "human":
        content = message.get("content")
        return ThreadMessageLike(
            role="user", id=id, content=_parts(content), metadata=LikeMetadata(custom=_custom(kwargs))
        )
    if kind == "system":
        text = message.get("content")
        return ThreadMessageLike(
            role="system",
            id=id,
            content=(TextMessagePart(text),) if isinstance(text, str) else _parts(text),
            metadata=LikeMetadata(custom=_custom(kwargs)),
        )
    if kind == "tool":
        call_id = message.get("tool_call_id")
        fields: dict[str, Any] = {"artifact": message["artifact"]} if "artifact" in message else {}
        return ToolResultLike(
            tool_call_id=call_id if isinstance(call_id, str) else "",
            tool_name=message.get("name"),
            result=message.get("content"),
            is_error=message.get("status") == "error",
            **fields,
        )
    return ()


def _assistant_blocks(message: Mapping[str, Json], kwargs: Mapping[str, Json]) -> list[Json]:
    content = message.get("content")
    blocks = [{"type": "text", "text": content}] if isinstance(content, str) else list(content or ())
    reasoning = [kwargs["reasoning"]] if "reasoning" in kwargs else []
    return [*reasoning, *blocks, *(kwargs.get("tool_outputs") or ())]


def _parts(content: Json) -> tuple[LikePart, ...]:
    if content is None:
        return ()
    if isinstance(content, str):
        return (TextMessagePart(content),)
    if not isinstance(content, list | tuple):
        raise InvalidMessage("a text or a list of blocks", "content")
    parts = (_part(block, f"content.{index}") for index, block in enumerate(content))
    return tuple(part for part in parts if part is not None)


def _part(block: Json, field: str) -> LikePart | None:
    if isinstance(block, str):
        return TextMessagePart(block)
    if not isinstance(block, Mapping):
        raise InvalidMessage(f"a block is an object, not {type(block).__name__}", field)
    kind = block.get("type")
    if kind in ("text", "text_delta"):
        return TextMessagePart(_text(block.get("text")))
    if kind == "image_url":
        image = block.get("image_url")
        url = image.get("url") if isinstance(image, Mapping) else image
        return ImageMessagePart(url) if url and isinstance(url, str) else None
    if kind == "thinking":
        return ReasoningMessagePart(_text(block.get("thinking")))
    if kind == "reasoning":
        summary = block.get("summary")
        if summary:
            return ReasoningMessagePart("\n\n\n".join(_text((each or {}).get("text")) for each in summary))
        return ReasoningMessagePart(_text(block.get("reasoning")))
    if kind == "file":
        source = block.get("source_type")
        data = block.get(source if source in ("url", "id") else "data")
        name = (block.get("metadata") or {}).get("filename")
        return FileMessagePart(
            data=_text(data),
            mime_type=block.get("mime_type") or _BINARY,
            filename="file" if name is None else name,
            source_type=source if source in ("url", "id") else None,
        )
    if kind == "audio":
        mime_type = block.get("mime_type") or _BINARY
        subtype = mime_type.removeprefix("audio/") if mime_type.startswith("audio/") else ""
        return FileMessagePart(
            data=_text(block.get("data")),
            mime_type=mime_type,
            filename=f"audio.{subtype}" if subtype else "audio",
        )
    if kind == "computer_call":
        action = block.get("action")
        return ToolCallLike(
            tool_call_id=block.get("call_id"),
            tool_name="computer_call",
            args=action,
            args_text=stringify(action),
        )
    return None


def _tool_call(message: Mapping[str, Json], call: Mapping[str, Json], place: int) -> ToolCallLike:
    index = place if call.get("index") is None else call["index"]
    id = call.get("id") or f"lc-toolcall-{message.get('id') or 'unknown'}-{index}"
    args = call.get("args") or {}
    text = call.get("partial_json")
    if text is None:
        chunk = _chunk_of(message, call, index)
        if chunk is not None:
            text = chunk.get("args")
            text = chunk.get("args_json") if text is None else text
            text = "" if text is None and not args else text
    if text:
        parsed = parse_partial_json(text)
        args = {} if parsed is None else parsed
    elif text is None:
        text = stringify(args)
    return ToolCallLike(tool_call_id=id, tool_name=call["name"], args=args, args_text=text)


def _chunk_of(message: Mapping[str, Json], call: Mapping[str, Json], index: int) -> Mapping[str, Json] | None:
    id, chunks = call.get("id"), message.get("tool_call_chunks") or ()
    if id:
        return next((chunk for chunk in chunks if chunk.get("id") == id), None)
    return next((chunk for chunk in chunks if chunk.get("index") == index), None)


def _with_transcript(parts: tuple[LikePart, ...], kwargs: Mapping[str, Json]) -> Sequence[LikePart]:
    """A spoken answer has no text but what it was heard to say."""
    transcript = (kwargs.get("audio") or {}).get("transcript")
    if not isinstance(transcript, str) or is_blank(transcript):
        return parts
    if any(isinstance(part, TextMessagePart) and not is_blank(part.text) for part in parts):
        return parts
    return (*(part for part in parts if not isinstance(part, TextMessagePart)), TextMessagePart(transcript))


def _custom(kwargs: Mapping[str, Json]) -> dict[str, Json]:
    custom = kwargs.get("metadata")
    return dict(custom) if isinstance(custom, Mapping) else {}


def _status(message: Mapping[str, Json]) -> dict[str, Any]:
    """Some hosts put a thread message's status into theirs; LangChain's own is a word."""
    status = message.get("status")
    if not isinstance(status, Mapping):
        return {}
    return {"status": read_like({"role": "assistant", "content": "", "status": status}).status}


def _text(value: Json) -> str:
    return value if isinstance(value, str) else ""
