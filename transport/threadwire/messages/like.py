"""Messages written down loosely, and the thread messages they stand for."""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final, Literal, TypeAlias

import msgspec

from ..core.commands import convert_error
from ..core.operations import Json
from .auto_status import auto_status
from .errors import InvalidMessage
from .javascript import is_blank, stringify
from .model import (
    AssistantMessagePart,
    AssistantMetadata,
    AudioMessagePart,
    CompleteAttachment,
    DataMessagePart,
    FileMessagePart,
    GenerativeUIMessagePart,
    ImageMessagePart,
    MessageMetadata,
    MessageStatus,
    MessageTiming,
    ReasoningMessagePart,
    Role,
    SourceMessagePart,
    SubmittedFeedback,
    TextMessagePart,
    ThreadAssistantMessage,
    ThreadMessage,
    ThreadSystemMessage,
    ThreadUserMessage,
    ToolCallLike,
    ToolCallMessagePart,
    now,
)
from .partial_json import parse_partial_json

JoinStrategy: TypeAlias = Literal["concat-content", "none"]
LikePart: TypeAlias = (
    TextMessagePart
    | ReasoningMessagePart
    | ToolCallLike
    | SourceMessagePart
    | FileMessagePart
    | ImageMessagePart
    | DataMessagePart
    | GenerativeUIMessagePart
    | AudioMessagePart
)

_LIKE_PARTS: Final = (
    TextMessagePart,
    ReasoningMessagePart,
    ToolCallLike,
    ToolCallMessagePart,
    SourceMessagePart,
    FileMessagePart,
    ImageMessagePart,
    DataMessagePart,
    GenerativeUIMessagePart,
    AudioMessagePart,
)
_USER_PARTS: Final = (TextMessagePart, ImageMessagePart, FileMessagePart, DataMessagePart, AudioMessagePart)
_DATA_PREFIX: Final = "data-"
_DATA_URL: Final = re.compile(r"data:([^;,]+)(?:;[^;,]+)*;base64,(.*)", re.IGNORECASE)
_IMAGE_LINK: Final = re.compile("https://|blob:", re.IGNORECASE)


class LikeMetadata(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """Metadata as it may be written in a `ThreadMessageLike`: what isn't there is None."""

    state: Json | msgspec.UnsetType = msgspec.field(default=msgspec.UNSET, name="unstable_state")
    annotations: tuple[Json, ...] | None = msgspec.field(default=None, name="unstable_annotations")
    data: tuple[Json, ...] | None = msgspec.field(default=None, name="unstable_data")
    steps: tuple[Json, ...] | None = None
    timing: MessageTiming | None = None
    submitted_feedback: SubmittedFeedback | None = None
    is_optimistic: bool | None = None
    modality: Literal["voice"] | None = None
    custom: dict[str, Json] | None = None


class ConvertConfig(msgspec.Struct, frozen=True, rename="camel"):
    """How one message is to be joined with the next, whatever holds for the others."""

    join_strategy: JoinStrategy | None = None


class ThreadMessageLike(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """A message with most of it left to be filled in. `content` is a text, or parts."""

    role: Role
    content: str | Sequence[Any]
    id: str | None = None
    created_at: datetime | None = None
    status: MessageStatus | None = None
    attachments: tuple[CompleteAttachment, ...] | None = None
    metadata: LikeMetadata | None = None
    convert_config: ConvertConfig | None = None


MessageLike: TypeAlias = ThreadMessageLike | ThreadMessage | Mapping[str, Any]


def generate_id() -> str:
    """An id that nothing else has."""
    return uuid.uuid4().hex


def read_like(like: MessageLike) -> ThreadMessageLike:
    """A message-like with its parts typed, from JSON or from parts that are.

    Raises:
        InvalidMessage: a wrong or missing field, or an unknown type of part.
    """
    if isinstance(like, ThreadMessageLike):
        if all(isinstance(part, _LIKE_PARTS) for part in parts_of(like)):
            return like
        return msgspec.structs.replace(like, content=_parts(like.content, like.role))
    if isinstance(like, ThreadSystemMessage | ThreadUserMessage | ThreadAssistantMessage):
        return _from_thread_message(like)
    if not isinstance(like, Mapping):
        raise InvalidMessage(f"a message is an object, not {type(like).__name__}")
    role: Any = like.get("role")
    if role not in ("system", "user", "assistant"):
        raise InvalidMessage(f"system, user or assistant, not {role!r:.100}", "role")
    content: Any = like.get("content")
    if not isinstance(content, str | list | tuple):
        raise InvalidMessage("a text or a list of parts", "content")
    rest = {key: value for key, value in like.items() if key != "content"}
    attachments = rest.get("attachments")
    if attachments:
        rest["attachments"] = [_plain_attachment(each) for each in attachments]
    try:
        read = msgspec.convert({**rest, "content": ""}, ThreadMessageLike)
    except msgspec.ValidationError as error:
        raise InvalidMessage(*convert_error(error, "")) from None
    if not isinstance(content, str):
        content = _parts(content, role)
    return msgspec.structs.replace(read, content=content)


def from_thread_message_like(
    like: MessageLike, fallback_id: str | None = None, fallback_status: MessageStatus | None = None
) -> ThreadMessage:
    """The thread message that `like` stands for, blank texts and unsafe images left out.

    `fallback_id` and `fallback_status` are for a message without them; by default an id is made
    up, and the status is the one that follows from the parts.

    Raises:
        InvalidMessage: a part or field that a message of this role can't have.
    """
    read = read_like(like)
    id = read.id if read.id is not None else fallback_id if fallback_id is not None else generate_id()
    created_at = read.created_at or now()
    metadata = read.metadata or _NO_METADATA
    content: Sequence[Any] = (
        (TextMessagePart(read.content),) if isinstance(read.content, str) else read.content
    )
    if read.role != "user" and read.attachments:
        raise InvalidMessage("only user messages have attachments", "attachments")
    if read.role != "assistant" and read.status:
        raise InvalidMessage("only assistant messages have a status", "status")
    if read.role != "assistant" and metadata.steps is not None:
        raise InvalidMessage("only assistant messages have steps", "metadata.steps")
    if read.role == "assistant":
        status = read.status or fallback_status
        if status is None:
            status = auto_status(content)
        return ThreadAssistantMessage(
            id=id,
            created_at=created_at,
            content=tuple(_assistant_parts(content)),
            status=status,
            metadata=AssistantMetadata(
                state=None if metadata.state is msgspec.UNSET else metadata.state,
                annotations=metadata.annotations or (),
                data=metadata.data or (),
                steps=metadata.steps or (),
                timing=metadata.timing,
                submitted_feedback=metadata.submitted_feedback,
                is_optimistic=metadata.is_optimistic or None,
                modality=metadata.modality,
                custom=metadata.custom or {},
            ),
        )
    if read.role == "user":
        for index, part in enumerate(content):
            if not isinstance(part, _USER_PARTS):
                raise InvalidMessage(f"user messages have no {part.type} parts", f"content.{index}.type")
        return ThreadUserMessage(
            id=id,
            created_at=created_at,
            content=tuple(content),
            attachments=read.attachments or (),
            metadata=MessageMetadata(
                is_optimistic=metadata.is_optimistic or None,
                modality=metadata.modality,
                custom=metadata.custom or {},
            ),
        )
    if len(content) != 1 or not isinstance(content[0], TextMessagePart):
        raise InvalidMessage("a system message has one part, a text", "content")
    return ThreadSystemMessage(
        id=id,
        created_at=created_at,
        content=(content[0],),
        metadata=MessageMetadata(custom=metadata.custom or {}),
    )


def parts_of(like: ThreadMessageLike) -> Sequence[Any]:
    """The content as parts."""
    return (TextMessagePart(like.content),) if isinstance(like.content, str) else like.content


def assistant_parts(content: Iterable[Any]) -> tuple[AssistantMessagePart, ...]:
    """Parts of an assistant message as a model gave them: typed, and none left out.

    Raises:
        InvalidMessage: a wrong field, or a part that an assistant message can't have.
    """
    parts = _parts(content, "assistant")
    for index, part in enumerate(parts):
        if isinstance(part, AudioMessagePart):
            raise InvalidMessage("assistant messages have no audio parts", f"content.{index}.type")
    return tuple(_tool_call(part) if isinstance(part, ToolCallLike) else part for part in parts)


def parse_data_url(url: str) -> tuple[str, str] | None:
    """(MIME type, base64) of a `data:` URL; None if it is none in base64."""
    match = _DATA_URL.fullmatch(url)
    return (match[1].lower(), match[2]) if match else None


_NO_METADATA: Final = LikeMetadata()


def _assistant_parts(content: Iterable[Any]) -> Iterable[Any]:
    for index, part in enumerate(content):
        if isinstance(part, TextMessagePart):
            if not is_blank(part.text):
                yield part
        elif isinstance(part, ReasoningMessagePart):
            if not (is_blank(part.text) and is_blank(part.summary)):
                yield part
        elif isinstance(part, ToolCallLike):
            yield _tool_call(part)
        elif isinstance(part, ImageMessagePart):
            if _is_safe_image(part.image):
                yield part
        elif isinstance(part, AudioMessagePart):
            raise InvalidMessage("assistant messages have no audio parts", f"content.{index}.type")
        else:
            yield part


def _tool_call(like: ToolCallLike) -> ToolCallMessagePart:
    text = like.args_text
    if isinstance(like.args, dict | list):
        args = like.args
        text = stringify(args) if text is None else text
    else:
        text = text or ""
        parsed = parse_partial_json(text)
        args = {} if parsed is None else parsed
    return ToolCallMessagePart(
        tool_call_id=like.tool_call_id or f"tool-{generate_id()}",
        tool_name=like.tool_name,
        args=args,
        args_text=text,
        result=like.result,
        is_error=like.is_error,
        artifact=like.artifact,
        model_content=like.model_content,
        timing=like.timing,
        mcp=like.mcp,
        provider_metadata=like.provider_metadata,
        interrupt=like.interrupt,
        approval=like.approval,
        parent_id=like.parent_id,
        messages=like.messages,
    )


def _is_safe_image(url: str) -> bool:
    if _IMAGE_LINK.match(url):
        return True
    data = parse_data_url(url)
    return data is not None and data[0].startswith("image/")


def _parts(content: Iterable[Any], role: str) -> tuple[Any, ...]:
    """Typed parts; those that are typed already stay the same objects."""
    return tuple(
        part if isinstance(part, _LIKE_PARTS) else _part(part, f"content.{index}", role)
        for index, part in enumerate(content)
    )


def _part(part: Any, field: str, role: str) -> LikePart:
    plain = _plain_part(part)
    if not isinstance(plain, Mapping):
        raise InvalidMessage(f"a part is an object, not {type(part).__name__}", field)
    try:
        converted: LikePart = msgspec.convert(plain, LikePart)
    except msgspec.ValidationError as error:
        message, where = convert_error(error, field)
        if where == f"{field}.type":
            message = f"{role} messages have no parts of the type {plain.get('type')!r:.100}"
        raise InvalidMessage(message, where) from None
    return converted


def _plain_part(part: Any) -> Any:
    """`data-NAME` parts are data parts of that name."""
    if isinstance(part, Mapping):
        kind = part.get("type")
        if isinstance(kind, str) and kind.startswith(_DATA_PREFIX):
            return {"type": "data", "name": kind[len(_DATA_PREFIX) :], "data": part.get("data")}
    return part


def _plain_attachment(attachment: Any) -> Any:
    if isinstance(attachment, Mapping) and isinstance(attachment.get("content"), list | tuple):
        return {**attachment, "content": [_plain_part(part) for part in attachment["content"]]}
    return attachment


def _from_thread_message(message: ThreadMessage) -> ThreadMessageLike:
    metadata = message.metadata
    if isinstance(metadata, AssistantMetadata):
        like = LikeMetadata(
            state=metadata.state,
            annotations=metadata.annotations,
            data=metadata.data,
            steps=metadata.steps,
            timing=metadata.timing,
            submitted_feedback=metadata.submitted_feedback,
            is_optimistic=metadata.is_optimistic,
            modality=metadata.modality,
            custom=metadata.custom,
        )
    else:
        like = LikeMetadata(
            is_optimistic=metadata.is_optimistic, modality=metadata.modality, custom=metadata.custom
        )
    return ThreadMessageLike(
        role=message.role,
        content=message.content,
        id=message.id,
        created_at=message.created_at,
        status=message.status if isinstance(message, ThreadAssistantMessage) else None,
        attachments=message.attachments if isinstance(message, ThreadUserMessage) else None,
        metadata=like,
    )
