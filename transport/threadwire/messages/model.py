"""Thread messages and their parts, as assistant-ui knows them.

Names are Python's; encoded, a message is what a JavaScript `ThreadMessage` is in JSON. Messages
are immutable: a change is a new message, so that what stayed the same keeps its identity.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, ClassVar, Final, Literal, TypeAlias, TypeVar

import msgspec
from msgspec import UNSET, UnsetType

from ..core.operations import Json

S = TypeVar("S", bound=msgspec.Struct)


def _always(value: Any) -> Any:
    """A default that is encoded all the same: `omit_defaults` doesn't look behind a factory."""
    return msgspec.field(default_factory=lambda: value)


# statuses


class _Status(msgspec.Struct, frozen=True, tag_field="type", omit_defaults=True):
    @property
    def type(self) -> str:
        """`running`, `complete`, `requires-action` or `incomplete`."""
        tag = self.__struct_config__.tag
        assert isinstance(tag, str)
        return tag


class RunningStatus(_Status, frozen=True, tag="running"):
    """More is to come."""


class CompleteStatus(_Status, frozen=True, tag="complete", omit_defaults=True):
    """Nothing more is to come. Parts and attachments have no `reason`."""

    reason: Literal["stop", "unknown"] | None = None


class RequiresActionStatus(_Status, frozen=True, tag="requires-action"):
    """Waits for the result of a tool call, or for an answer."""

    reason: Literal["tool-calls", "interrupt"]


class IncompleteStatus(_Status, frozen=True, tag="incomplete", omit_defaults=True):
    """Ended early; `error` says more where the reason is `error`."""

    reason: Literal["cancelled", "tool-calls", "length", "content-filter", "other", "error"]
    error: Json | UnsetType = UNSET


MessageStatus: TypeAlias = RunningStatus | CompleteStatus | RequiresActionStatus | IncompleteStatus

# parts


class _Part(msgspec.Struct, frozen=True, tag_field="type", rename="camel", omit_defaults=True):
    @property
    def type(self) -> str:
        """What kind of part it is, such as `text`."""
        tag = self.__struct_config__.tag
        assert isinstance(tag, str)
        return tag


class TextMessagePart(_Part, frozen=True, tag="text"):
    """Text, in Markdown where the one who wrote it did so."""

    text: str
    status: MessageStatus | None = None
    provider_metadata: dict[str, Json] | None = None
    parent_id: str | None = None


class ReasoningMessagePart(_Part, frozen=True, tag="reasoning"):
    """What a model thought before it answered."""

    text: str = msgspec.field(default_factory=str)
    status: MessageStatus | None = None
    summary: str | None = msgspec.field(default=None, name="unstable_summary")
    provider_metadata: dict[str, Json] | None = None
    parent_id: str | None = None


class SourceMessagePart(_Part, frozen=True, tag="source"):
    """What an answer rests on: a page with a `url`, or a document with `title` and `media_type`."""

    source_type: Literal["url", "document"]
    id: str
    url: str | None = None
    title: str | None = None
    media_type: str | None = None
    filename: str | None = None
    provider_metadata: dict[str, Json] | None = None
    parent_id: str | None = None


class ImageMessagePart(_Part, frozen=True, tag="image"):
    """`image` is a `data:`, `https:` or `blob:` URL."""

    image: str
    filename: str | None = None
    provider_metadata: dict[str, Json] | None = None


class FileMessagePart(_Part, frozen=True, tag="file"):
    """`data` is base64 or a URL; with `source_type` `id` it is the name a provider gave the file."""

    data: str
    mime_type: str
    filename: str | None = None
    source_type: Literal["url", "id"] | None = None
    provider_metadata: dict[str, Json] | None = None
    parent_id: str | None = None


class AudioData(msgspec.Struct, frozen=True):
    """`data` is base64; `format` is `mp3` or `wav`."""

    data: str
    format: str


class AudioMessagePart(_Part, frozen=True, tag="audio"):
    """Sound that a user sent."""

    audio: AudioData


class DataMessagePart(_Part, frozen=True, tag="data"):
    """An application's own data; `name` says what it is."""

    name: str
    data: Json = _always(None)


class GenerativeUIMessagePart(_Part, frozen=True, tag="generative-ui"):
    """A tree of components to show, as JSON."""

    spec: Json
    id: str | None = None
    parent_id: str | None = None


class ToolCallTiming(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    """Milliseconds since the epoch."""

    started_at: float
    completed_at: float | None = None


class ToolInterrupt(msgspec.Struct, frozen=True):
    """A tool call asks a human for something before it goes on."""

    type: Literal["human"]
    payload: Json


class ToolApprovalOption(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    """One answer to a request for approval. Kinds that begin with `_` are the application's own."""

    id: str
    kind: str
    label: str | None = None
    description: str | None = None
    grants: tuple[str, ...] | None = None
    confirm: Json | UnsetType = UNSET


class ToolApproval(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    """A request for approval; open as long as neither `approved` nor `resolution` is there."""

    id: str
    prompt: str | None = None
    display: Literal["decision", "select", "text"] | None = None
    allow_freeform: bool | None = None
    approved: bool | None = None
    reason: str | None = None
    is_automatic: bool | None = None
    options: tuple[ToolApprovalOption, ...] | None = None
    option_id: str | None = None
    text: str | None = None
    resolution: Literal["cancelled", "expired"] | None = None

    @property
    def is_open(self) -> bool:
        """Whether somebody has to decide."""
        return self.approved is None and self.resolution is None


class _ToolCallFields(_Part, frozen=True, kw_only=True):
    tool_name: str
    result: Json | UnsetType = UNSET
    is_error: bool | None = None
    artifact: Json | UnsetType = UNSET
    model_content: tuple[Json, ...] | None = None
    timing: ToolCallTiming | None = None
    mcp: Json | UnsetType = UNSET
    provider_metadata: dict[str, Json] | None = None
    interrupt: ToolInterrupt | None = None
    approval: ToolApproval | None = None
    parent_id: str | None = None
    messages: tuple[ThreadMessage, ...] | None = None

    @property
    def has_result(self) -> bool:
        """Whether there is a result; null is one."""
        return self.result is not UNSET


class ToolCallMessagePart(_ToolCallFields, frozen=True, kw_only=True, tag="tool-call"):
    """A call of a tool, and what came of it.

    While the model still writes it, `args` is what can be read of `args_text` so far. `result` is
    `msgspec.UNSET` as long as there is none. `messages` is a conversation that the tool had.
    """

    tool_call_id: str
    args: Json
    args_text: str


class ToolCallLike(_ToolCallFields, frozen=True, kw_only=True, tag="tool-call"):
    """A tool call as it may be written in a `ThreadMessageLike`: `args` or `args_text` follow from
    the other, and an id is made up where there is none."""

    tool_call_id: str | None = None
    args: Json = None
    args_text: str | None = None


UserMessagePart: TypeAlias = (
    TextMessagePart | ImageMessagePart | FileMessagePart | DataMessagePart | AudioMessagePart
)
AssistantMessagePart: TypeAlias = (
    TextMessagePart
    | ReasoningMessagePart
    | ToolCallMessagePart
    | SourceMessagePart
    | FileMessagePart
    | ImageMessagePart
    | DataMessagePart
    | GenerativeUIMessagePart
)

# attachments


class CompleteAttachment(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """Something attached to a message, ready to be sent. `type` is `image`, `document`, `file` or another."""

    id: str
    type: str
    name: str
    content: tuple[UserMessagePart, ...]
    content_type: str | None = None
    status: CompleteStatus = _always(CompleteStatus())


# metadata


class MessageTiming(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """How a message was streamed; times in milliseconds."""

    stream_start_time: float
    total_chunks: int
    tool_call_count: int
    first_token_time: float | None = None
    total_stream_time: float | None = None
    token_count: int | None = None
    tokens_per_second: float | None = None


class SubmittedFeedback(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a user thought of a message."""

    type: Literal["positive", "negative"]
    comment: str | None = None


class MessageMetadata(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """What system and user messages carry along; `custom` is the application's own."""

    custom: dict[str, Json] = _always({})
    is_optimistic: bool | None = None
    modality: Literal["voice"] | None = None


class AssistantMetadata(MessageMetadata, frozen=True, kw_only=True):
    """What assistant messages carry along: the agent's `state` after it, `steps` of the model, ..."""

    state: Json = msgspec.field(default_factory=lambda: None, name="unstable_state")
    annotations: tuple[Json, ...] = msgspec.field(default_factory=lambda: (), name="unstable_annotations")
    data: tuple[Json, ...] = msgspec.field(default_factory=lambda: (), name="unstable_data")
    steps: tuple[Json, ...] = _always(())
    timing: MessageTiming | None = None
    submitted_feedback: SubmittedFeedback | None = None


# messages

_ORIGINALS: Final = "originals"


def now() -> datetime:
    """This moment, with the milliseconds that JavaScript keeps."""
    time = datetime.now(UTC)
    return time.replace(microsecond=time.microsecond // 1000 * 1000)


class _Message(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    dict=True,
    weakref=True,
    tag_field="role",
    rename="camel",
    omit_defaults=True,
):
    id: str
    created_at: datetime = msgspec.field(default_factory=now)


class ThreadSystemMessage(_Message, frozen=True, kw_only=True, tag="system"):
    """What the model is told about its task."""

    role: ClassVar[Literal["system"]] = "system"
    content: tuple[TextMessagePart]
    metadata: MessageMetadata = _always(MessageMetadata())


class ThreadUserMessage(_Message, frozen=True, kw_only=True, tag="user"):
    """What a user said."""

    role: ClassVar[Literal["user"]] = "user"
    content: tuple[UserMessagePart, ...]
    attachments: tuple[CompleteAttachment, ...] = _always(())
    metadata: MessageMetadata = _always(MessageMetadata())


class ThreadAssistantMessage(_Message, frozen=True, kw_only=True, tag="assistant"):
    """What the agent answered, and did."""

    role: ClassVar[Literal["assistant"]] = "assistant"
    content: tuple[AssistantMessagePart, ...]
    status: MessageStatus
    metadata: AssistantMetadata = _always(AssistantMetadata())


ThreadMessage: TypeAlias = ThreadSystemMessage | ThreadUserMessage | ThreadAssistantMessage
Role: TypeAlias = Literal["system", "user", "assistant"]


def message_text(message: Any) -> str:
    """The text parts of a message, with an empty line between them."""
    return "\n\n".join(part.text for part in message.content if isinstance(part, TextMessagePart))


def original_messages(message: ThreadMessage) -> Sequence[Any]:
    """The messages that this one was converted from, in their own form; none if it wasn't."""
    originals: Sequence[Any] = message.__dict__.get(_ORIGINALS, ())
    return originals


def bind_originals(message: ThreadMessage, originals: Sequence[Any]) -> None:
    """Remembers what `message` was converted from."""
    message.__dict__[_ORIGINALS] = originals


def replace(struct: S, **changes: Any) -> S:
    """A copy with some fields changed; a message keeps its originals."""
    copy = msgspec.structs.replace(struct, **changes)
    if isinstance(struct, _Message) and _ORIGINALS in struct.__dict__:
        copy.__dict__[_ORIGINALS] = struct.__dict__[_ORIGINALS]
    return copy


def to_json(value: Any) -> Json:
    """A message, part, status or a list of them as plain JSON, times written as JavaScript does."""
    return _with_javascript_times(msgspec.to_builtins(value, builtin_types=(datetime,)))


def message_from_json(value: Json) -> ThreadMessage:
    """The message that `to_json` or JavaScript made this of.

    Raises:
        msgspec.ValidationError: it is none.
    """
    message: ThreadMessage = msgspec.convert(value, ThreadMessage)
    return message


def javascript_time(time: datetime) -> str:
    """As `Date.toISOString` writes it; a time without a zone counts as UTC."""
    utc = time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)
    return f"{utc:%Y-%m-%dT%H:%M:%S}.{utc.microsecond // 1000:03d}Z"


def _with_javascript_times(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _with_javascript_times(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_with_javascript_times(item) for item in value]
    return javascript_time(value) if isinstance(value, datetime) else value
