"""Threadwire: an agent server. Each thread's state is one JSON document, streamed as it changes.

The names here are the public API; `threadwire.client` is the Python client.
"""

from typing import TYPE_CHECKING

from .core.commands import (
    AddMessage,
    AddToolResult,
    AudioPart,
    Command,
    DataPart,
    FilePart,
    ImagePart,
    Part,
    Regenerate,
    Resume,
    SwitchBranch,
    TextPart,
    UserMessage,
)
from .core.errors import (
    AgentError,
    CommandError,
    ConnectionClosed,
    ErrorInfo,
    InvalidOperation,
    InvalidValue,
    ProtocolError,
    Refused,
    RunEnded,
    StoreError,
    StoreUnavailable,
    ThreadwireError,
)
from .core.frames import Limits
from .engine.agent import Agent, FunctionAgent, agent
from .engine.run import Run
from .version import __version__

if TYPE_CHECKING:
    from .endpoints.app import Application, create_app
else:

    def __getattr__(name):
        """Loads the server when it is asked for: agents and clients do without."""
        if name in ("Application", "create_app"):
            from .endpoints import app

            return getattr(app, name)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

    def __dir__():
        return [*globals(), "Application", "create_app"]


__all__ = [
    "AddMessage",
    "AddToolResult",
    "Agent",
    "AgentError",
    "Application",
    "AudioPart",
    "Command",
    "CommandError",
    "ConnectionClosed",
    "DataPart",
    "ErrorInfo",
    "FilePart",
    "FunctionAgent",
    "ImagePart",
    "InvalidOperation",
    "InvalidValue",
    "Limits",
    "Part",
    "ProtocolError",
    "Refused",
    "Regenerate",
    "Resume",
    "Run",
    "RunEnded",
    "StoreError",
    "StoreUnavailable",
    "SwitchBranch",
    "TextPart",
    "ThreadwireError",
    "UserMessage",
    "__version__",
    "agent",
    "create_app",
]
