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

from ..messages.errors import ClientError, InvalidAdapter, InvalidMessage, NotFound

__all__ = [
    "ClientError",
    "InvalidAdapter",
    "InvalidMessage",
    "MessageNotSent",
    "NotFound",
    "NotNow",
    "NotSupported",
]


class NotSupported(ClientError):
    """The runtime has no handler or adapter for it; `capability` names what is missing."""

    def __init__(self, capability: str, message: str) -> None:
        super().__init__(message)
        self.capability = capability


class NotNow(ClientError):
    """The runtime can do it, but not in the state it is in."""


class MessageNotSent(ClientError):
    """Nothing was done about the message: raised by `on_new`, it brings the draft back to the composer."""

    def __init__(self, message: str = "the message was not sent") -> None:
        super().__init__(message)
