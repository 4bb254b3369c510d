"""Threadwire's client: follow threads of a server and send commands to them.

from threadwire.client import connect

async with connect("ws://127.0.0.1:8000/ws") as connection:
    async with connection.open("thread-1", agent="support") as thread:
        receipt = await thread.send(AddMessage.text("hello"))
        async for state in thread.states():
            ...
"""

from ..core.commands import (
    AddMessage,
    AddToolResult,
    Command,
    Regenerate,
    Resume,
    SwitchBranch,
    UserMessage,
)
from ..core.errors import CommandError, ConnectionClosed, Refused, ThreadwireError
from ..core.frames import Limits, Position, RunInfo
from ..core.frames import Tool as ToolCall
from .backoff import Backoff
from .connection import Connection, connect
from .thread import Receipt, Thread

__all__ = [
    "AddMessage",
    "AddToolResult",
    "Backoff",
    "Command",
    "CommandError",
    "Connection",
    "ConnectionClosed",
    "Limits",
    "Position",
    "Receipt",
    "Refused",
    "Regenerate",
    "Resume",
    "RunInfo",
    "SwitchBranch",
    "Thread",
    "ThreadwireError",
    "ToolCall",
    "UserMessage",
    "connect",
]
