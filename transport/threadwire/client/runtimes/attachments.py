"""Files on their way into a message."""

from __future__ import annotations

import base64
import html
import mimetypes
import os
from collections.abc import AsyncIterator, Awaitable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, Protocol, TypeAlias

import anyio
import msgspec

from ...messages.like import generate_id
from ...messages.model import (
    AudioMessagePart,
    CompleteAttachment,
    FileMessagePart,
    ImageMessagePart,
    TextMessagePart,
    UserMessagePart,
)
from ..errors import NotSupported


@dataclass(frozen=True)
class File:
    """A file to attach: its `name`, MIME `type`, and where its bytes are."""

    name: str
    type: str
    source: bytes | Path

    @classmethod
    def from_path(cls, path: str | os.PathLike[str], type: str | None = None) -> File:
        """The file at `path`; its type is guessed from its name where it isn't given."""
        guessed, _ = mimetypes.guess_type(os.fspath(path))
        return cls(Path(path).name, type or guessed or "", Path(path))

    async def read(self) -> bytes:
        """Its bytes. Raises OSError where they can't be read."""
        if isinstance(self.source, bytes):
            return self.source
        return await anyio.Path(self.source).read_bytes()


class UploadingStatus(msgspec.Struct, frozen=True, tag="running", tag_field="type"):
    """On its way to where the adapter keeps it; `progress` is between 0 and 1."""

    progress: float
    reason: Literal["uploading"] = "uploading"


class AwaitsSendStatus(msgspec.Struct, frozen=True, tag="requires-action", tag_field="type"):
    """Waits for the message to be sent."""

    reason: Literal["composer-send"] = "composer-send"


class AttachmentFailedStatus(
    msgspec.Struct, frozen=True, tag="incomplete", tag_field="type", omit_defaults=True
):
    """Can't be sent as it is."""

    reason: Literal["error", "upload-paused"]
    message: str | None = None


PendingStatus: TypeAlias = UploadingStatus | AwaitsSendStatus | AttachmentFailedStatus


class PendingAttachment(msgspec.Struct, frozen=True, kw_only=True):
    """An attachment of a message that isn't sent yet."""

    id: str
    type: str
    name: str
    file: File
    status: PendingStatus
    content_type: str | None = None


Attachment: TypeAlias = PendingAttachment | CompleteAttachment


class AttachmentAdapter(Protocol):
    """Makes attachments of files. `accept` lists what it takes as an HTML input does: `image/*,.pdf`."""

    @property
    def accept(self) -> str:
        """MIME types and suffixes with commas between them; `*` is everything."""

    def add(self, file: File) -> Awaitable[PendingAttachment] | AsyncIterator[PendingAttachment]:
        """The attachment, or its states while it is uploaded."""

    async def remove(self, attachment: Attachment) -> None:
        """The user doesn't want it any more."""

    async def send(self, attachment: PendingAttachment) -> CompleteAttachment:
        """The attachment as it stands in the message that is sent now."""


class SimpleImageAttachmentAdapter:
    """Puts images into the message itself, as `data:` URLs."""

    accept: Final = "image/*"

    async def add(self, file: File) -> PendingAttachment:
        """The attachment; nothing is read yet."""
        return _pending("image", file)

    async def remove(self, attachment: Attachment) -> None:
        """Nothing is kept anywhere."""

    async def send(self, attachment: PendingAttachment) -> CompleteAttachment:
        """The image as a part. Raises OSError where the file can't be read."""
        file = attachment.file
        data = base64.b64encode(await file.read()).decode()
        url = f"data:{file.type or 'application/octet-stream'};base64,{data}"
        return complete(attachment, ImageMessagePart(url))


class SimpleTextAttachmentAdapter:
    """Puts texts into the message itself, each in an `<attachment>` element."""

    accept: Final = "text/plain,text/html,text/markdown,text/csv,text/xml,text/json,application/json,text/css"

    async def add(self, file: File) -> PendingAttachment:
        """The attachment; nothing is read yet."""
        return _pending("document", file)

    async def remove(self, attachment: Attachment) -> None:
        """Nothing is kept anywhere."""

    async def send(self, attachment: PendingAttachment) -> CompleteAttachment:
        """The text as a part. Raises OSError where the file can't be read."""
        text = (await attachment.file.read()).decode("utf-8", errors="replace")
        name = html.escape(attachment.name, quote=False).replace('"', "&quot;")
        return complete(attachment, TextMessagePart(f'<attachment name="{name}">\n{text}\n</attachment>'))


class CompositeAttachmentAdapter:
    """Leaves each file to the first of several adapters that takes it."""

    def __init__(self, adapters: Sequence[AttachmentAdapter]) -> None:
        if any(adapter.accept == "*" for adapter in adapters[:-1]):
            raise ValueError("an adapter that takes everything has to be the last")
        self._adapters = tuple(adapters)
        takes_all = bool(adapters) and adapters[-1].accept == "*"
        self.accept: Final = "*" if takes_all else ",".join(adapter.accept for adapter in adapters)

    def add(self, file: File) -> Awaitable[PendingAttachment] | AsyncIterator[PendingAttachment]:
        """What the adapter for the file makes of it. Raises NotSupported where there is none."""
        return self._adapter(file.name, file.type).add(file)

    async def remove(self, attachment: Attachment) -> None:
        """Tells the adapter that made it."""
        await self._for(attachment).remove(attachment)

    async def send(self, attachment: PendingAttachment) -> CompleteAttachment:
        """What the adapter that made it sends."""
        return await self._for(attachment).send(attachment)

    def _for(self, attachment: Attachment) -> AttachmentAdapter:
        if isinstance(attachment, PendingAttachment):
            return self._adapter(attachment.file.name, attachment.file.type)
        return self._adapter(attachment.name, attachment.content_type or "")

    def _adapter(self, name: str, type: str) -> AttachmentAdapter:
        for adapter in self._adapters:
            if file_matches(name, type, adapter.accept):
                return adapter
        raise NotAccepted(name, type, self.accept)


class NotAccepted(NotSupported):
    """No adapter takes files of this type."""

    def __init__(self, name: str, type: str, accept: str) -> None:
        super().__init__("attachments", f"{name!r} is of the type {type or 'unknown'}; accepted are {accept}")


def file_matches(name: str, type: str, accept: str) -> bool:
    """Whether `accept`, as of an HTML input, takes a file of this name and MIME type."""
    if accept == "*":
        return True
    mime_type = type.split(";", 1)[0].strip().lower()
    for pattern in (each.strip().lower() for each in accept.split(",")):
        if pattern.startswith(".") and name.lower().endswith(pattern):
            return True
        if "/" in pattern and pattern == mime_type:
            return True
        if pattern.endswith("/*") and mime_type.startswith(pattern[:-1]):
            return True
    return False


def complete(attachment: PendingAttachment, *content: UserMessagePart) -> CompleteAttachment:
    """The attachment with its content, ready to be sent."""
    return CompleteAttachment(
        id=attachment.id,
        type=attachment.type,
        name=attachment.name,
        content_type=attachment.content_type,
        content=content,
    )


def attachment_of(part: UserMessagePart) -> CompleteAttachment:
    """A part that isn't text, as an attachment: how a message to edit shows it."""
    if isinstance(part, ImageMessagePart):
        kind, name, content_type = "image", part.filename or "image", None
    elif isinstance(part, FileMessagePart):
        kind, name, content_type = "document", part.filename or "document", part.mime_type
    elif isinstance(part, AudioMessagePart):
        kind, name, content_type = "audio", f"audio.{part.audio.format}", f"audio/{part.audio.format}"
    else:
        kind, name, content_type = "data", getattr(part, "name", "data"), None
    return CompleteAttachment(
        id=generate_id(), type=kind, name=name, content_type=content_type, content=(part,)
    )


def _pending(kind: str, file: File) -> PendingAttachment:
    return PendingAttachment(
        id=generate_id(),
        type=kind,
        name=file.name,
        content_type=file.type,
        file=file,
        status=AwaitsSendStatus(),
    )
