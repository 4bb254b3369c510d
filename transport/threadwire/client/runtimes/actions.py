"""What users ask of a thread: a message to append, a run to start, a call to answer."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from datetime import datetime
from typing import Any, TypeAlias

import msgspec

from ...core.commands import convert_error
from ...core.operations import Json
from ...messages.chat_model import RunConfig
from ...messages.like import LikeMetadata, ThreadMessageLike, parts_of, read_like
from ...messages.model import (
    CompleteAttachment,
    Role,
    ToolApproval,
    now,
)
from ..errors import InvalidMessage, NotFound, NotSupported


class AppendMessage(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """A message that is to be added after `parent_id`; with a `source_id` it replaces that one.

    `start_run` is whether a run follows; by default one follows a user's message. With `steer` a
    runtime that has a queue takes the message next.
    """

    content: tuple[Any, ...]
    parent_id: str | None
    role: Role = "user"
    source_id: str | None = None
    attachments: tuple[CompleteAttachment, ...] = ()
    metadata: LikeMetadata = LikeMetadata()
    created_at: datetime = msgspec.field(default_factory=now)
    run_config: RunConfig | None = None
    start_run: bool | None = None
    steer: bool | None = None

    @property
    def starts_run(self) -> bool:
        """Whether a run follows."""
        return self.role == "user" if self.start_run is None else self.start_run

    @property
    def like(self) -> ThreadMessageLike:
        """The message itself, without where it goes."""
        return ThreadMessageLike(
            role=self.role,
            content=self.content,
            attachments=self.attachments or None,
            metadata=self.metadata,
            created_at=self.created_at,
        )


_APPEND_ONLY = ("parentId", "sourceId", "runConfig", "startRun", "steer")

Appendable: TypeAlias = str | AppendMessage | ThreadMessageLike | Mapping[str, Any]


def read_append(message: Appendable, tail_id: str | None) -> AppendMessage:
    """The message to append; where it doesn't say, it is a user's and goes to the end.

    Raises:
        InvalidMessage: a wrong or missing field.
    """
    if isinstance(message, AppendMessage):
        content = parts_of(read_like(ThreadMessageLike(role=message.role, content=message.content)))
        return msgspec.structs.replace(message, content=tuple(content))
    if isinstance(message, str):
        message = ThreadMessageLike(role="user", content=message)
    where: dict[str, Any] = {"parentId": tail_id}
    if isinstance(message, Mapping):
        where |= {name: message[name] for name in _APPEND_ONLY if name in message}
        rest = {name: value for name, value in message.items() if name not in _APPEND_ONLY}
        message = {"role": "user", **rest}
    like = read_like(message)
    try:
        append = msgspec.convert({**where, "content": []}, AppendMessage)
    except msgspec.ValidationError as error:
        raise InvalidMessage(*convert_error(error, "")) from None
    return msgspec.structs.replace(
        append,
        role=like.role,
        content=tuple(parts_of(like)),
        attachments=like.attachments or (),
        metadata=like.metadata or LikeMetadata(),
        created_at=like.created_at or append.created_at,
    )


class StartRun(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A run after the message `parent_id`; `source_id` is the message that it is to replace."""

    parent_id: str | None
    source_id: str | None = None
    run_config: RunConfig = msgspec.field(default_factory=dict)


class ResumeRun(StartRun, frozen=True, kw_only=True):
    """A run whose first round comes from `stream`, called as a chat model is."""

    stream: Callable[[Any], AsyncIterator[Any]] | None = None


class AddToolResultOptions(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """What came of a tool call."""

    message_id: str
    tool_call_id: str
    tool_name: str
    result: Json
    is_error: bool = False
    artifact: Json | msgspec.UnsetType = msgspec.UNSET
    model_content: tuple[Json, ...] | None = None


class ToolApprovalAnswer(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """A decision about a tool call, or the answer to its question."""

    approval_id: str
    approved: bool
    option_id: str | None = None
    text: str | None = None
    reason: str | None = None


class ThreadSuggestion(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Something the user may want to say next; `title` and `label` are how it is shown."""

    prompt: str
    title: str | None = None
    label: str | None = None


_DECIDED_BY_KIND = {"allow-once": True, "allow-always": True, "reject-once": False, "reject-always": False}


def resolve_approval(
    approval: ToolApproval,
    *,
    approved: bool | None = None,
    option_id: str | None = None,
    text: str | None = None,
    reason: str | None = None,
) -> ToolApprovalAnswer:
    """The decision that an answer is: of an option, what its kind says; of a question's answer, yes.

    Raises:
        NotFound: there is no such option.
        NotSupported: the request takes no text, or the answer doesn't decide.
    """
    takes_text = approval.display == "text" or approval.allow_freeform
    if text is not None and not takes_text:
        raise NotSupported("text", f"the approval {approval.id!r} takes no answer in words")
    if option_id is not None:
        option = next((each for each in approval.options or () if each.id == option_id), None)
        if option is None:
            raise NotFound("option", option_id)
        if approved is None:
            approved = _DECIDED_BY_KIND.get(option.kind)
    elif approved is None and text is not None and approval.display in ("text", "select"):
        approved = True
    if approved is None:
        raise NotSupported(
            "approved", f"the answer to {approval.id!r} doesn't decide: say whether it is approved"
        )
    return ToolApprovalAnswer(
        approval_id=approval.id, approved=approved, option_id=option_id, text=text, reason=reason
    )
