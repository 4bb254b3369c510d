"""What agents keep as messages, whatever its form: LangChain's, or a role with content."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from ...client.messages.external import NO_METADATA, ConverterMetadata
from ...client.messages.joining import OutputLike
from ...client.messages.langchain import convert_langchain_messages
from ...core.operations import Json

_LANGCHAIN: Final = ("human", "ai", "system", "tool", "remove")
_ROLES: Final = {
    "user": "user",
    "human": "user",
    "assistant": "assistant",
    "ai": "assistant",
    "system": "system",
}


def convert_any_message(
    message: Json, metadata: ConverterMetadata = NO_METADATA
) -> OutputLike | Sequence[OutputLike]:
    """What a message of an agent's state means; nothing, where it has neither form."""
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
    return {"role": role, "content": content, "id": id if isinstance(id, str) else None}
