"""What messages, their converters and chat models raise when they are used in a way that can't be followed.

ThreadwireError
└─ ClientError
   ├─ NotFound         an id that names nothing: kind, id
   ├─ InvalidMessage   a message that can't be shown: field
   └─ InvalidAdapter   an adapter with a wrong or missing handler: field

Runtimes raise more of them: see `client/errors.py`.
"""

from __future__ import annotations

from ..core.errors import ThreadwireError


class ClientError(ThreadwireError):
    """The root of what runtimes and converters raise on purpose."""


class NotFound(ClientError):
    """There is nothing of this id. `kind` is `message`, `tool call`, `attachment` and the like."""

    def __init__(self, kind: str, id: str | None) -> None:
        super().__init__(f"there is no {kind} with the id {id!r}")
        self.kind = kind
        self.id = id


class InvalidMessage(ClientError):
    """A message that can't be converted; `field` is the path of what is wrong, as in `content.0.type`."""

    def __init__(self, message: str, field: str | None = None) -> None:
        super().__init__(f"{field}: {message}" if field else message)
        self.field = field


class InvalidAdapter(ClientError):
    """An adapter that can't be used; `field` names the handler or value."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(f"{field}: {message}")
        self.field = field
