"""What agents keep as messages, whatever its form: LangChain's, a thread message, a role with content."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from ..core.operations import Json
from .external import NO_METADATA, ConverterMetadata
from .joining import OutputLike
from .langchain import convert_langchain_messages

_LANGCHAIN: Final = ("human", "ai", "system", "tool", "remove")
_ROLES: Final = {
    "user": "user",
    "human": "user",
    "assistant": "assistant",
    "ai": "assistant",
    "system": "system",
}
_REST: Final = ("createdAt", "status", "attachments", "metadata")


def convert_any_message(
    message: Json, metadata: ConverterMetadata = NO_METADATA
) -> OutputLike | Sequence[OutputLike]:
    """What a message of an agent's state means; a callback for a converter.

    A LangChain message has a `type`, others a `role`, and `content` or `parts`; a text is the
    assistant's. What has neither form means nothing.
    """
    if isinstance(message, str):
        return {"role": "assistant", "content": message}
    if not isinstance(message, Mapping):
        return ()
    if message.get("type") in _LANGCHAIN:
        return convert_langchain_messages(message, metadata)
    role = _ROLES.get(str(message.get("role")))
    content: Any = message.get("content", message.get("parts"))
    if role is None or not isinstance(content, str | list):
        return ()
    id = message.get("id")
    rest = {name: message[name] for name in _REST if isinstance(message.get(name), str | list | dict)}
    return {"role": role, "content": content, "id": id if isinstance(id, str) else None, **rest}
