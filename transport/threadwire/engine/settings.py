"""What the engine is given from outside: limits, clock, ids, retention."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from ..core.frames import Limits


def random_id() -> str:
    """96 random bits, as 16 characters."""
    return secrets.token_urlsafe(12)


def random_token() -> str:
    """128 random bits, as 22 characters."""
    return secrets.token_urlsafe(16)


@dataclass(frozen=True, kw_only=True, slots=True)
class Settings:
    """Times in seconds, sizes in bytes."""

    limits: Limits = field(default_factory=Limits)
    clock: Callable[[], float] = time.time
    new_id: Callable[[], str] = random_id
    new_token: Callable[[], str] = random_token
    show_errors: bool = False
    """Whether clients see the text of any exception an agent raises."""
    history_updates: int = 10_000
    """At least this many updates of each thread are kept in its log."""
    history_s: float = 24 * 3600
    """Updates younger than this are kept too, ..."""
    history_bytes: int = 64 * 1024 * 1024
    """... as long as the thread's log isn't larger than this."""
    cancel_grace_s: float = 0.5
    """How long a cancelled run may still write while it cleans up."""
    tool_grace_s: float = 10
    """How long a connection may be gone before its tool calls are given to another."""
    absence_s: float | None = 15
    """How long a run that was started over HTTP goes on with nobody there to see it; None: to its end."""
    anonymous_s: float = 24 * 3600
    """How long a thread that no client has an id for is kept after its last update."""
    store_patience_s: float = 10
    """How long a failing append is tried again."""
    idle_s: float = 60
    """How long a thread that nobody uses stays in memory."""
    max_starts: int = 3
    """Runs that may end in a crash before a command is given up."""
