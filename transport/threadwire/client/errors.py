"""What the client's runtimes and converters raise when they are used in a way they can't follow.

ThreadwireError
└─ ClientError
   ├─ NotSupported     no handler or adapter was given for it: capability
   ├─ NotFound         an id that names nothing: kind, id
   ├─ NotNow           it is possible, but not at this moment
   ├─ InvalidMessage   a message that can't be shown: field
   ├─ InvalidAdapter   an adapter with a wrong or missing handler: field
   └─ MessageNotSent   raise it in `on_new` to hand the message back to the composer
"""

from __future__ import annotations

from ..core.errors import ThreadwireError


class ClientError(ThreadwireError):
    """The root of what runtimes and converters raise on purpose."""


class NotSupported(ClientError):
    """The runtime has no handler or adapter for it; `capability` names what is missing."""

    def __init__(self, capability: str, message: str) -> None:
        super().__init__(message)
        self.capability = capability


class NotFound(ClientError):
    """There is nothing of this id. `kind` is `message`, `tool call`, `attachment` and the like."""

    def __init__(self, kind: str, id: str | None) -> None:
        super().__init__(f"there is no {kind} with the id {id!r}")
        self.kind = kind
        self.id = id


class NotNow(ClientError):
    """The runtime can do it, but not in the state it is in."""


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


class MessageNotSent(ClientError):
    """Nothing was done about the message: raised by `on_new`, it brings the draft back to the composer."""

    def __init__(self, message: str = "the message was not sent") -> None:
        super().__init__(message)
