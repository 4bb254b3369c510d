"""Threadwire: an agent server. Each thread's state is one JSON document, streamed as it changes.

The names here are the public API; `threadwire.client` is the Python client.
"""

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
from .endpoints.app import Application, create_app
from .engine.agent import Agent, FunctionAgent, agent
from .engine.run import Run
from .version import __version__

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
