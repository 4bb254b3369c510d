"""The frames of the WebSocket protocol, as tagged structs. Encoding is in `codec`.

Fields that a client may leave out have defaults; unknown fields are ignored, so that a newer
peer can talk to an older one. Spec: PROTOCOL.md §6.
"""

from __future__ import annotations

from typing import Any, Final, Literal, TypeAlias

import msgspec

from .errors import ErrorInfo
from .operations import Json

PROTOCOL_VERSION: Final = 1
SUBPROTOCOLS: Final = {"threadwire.v1.json": "json", "threadwire.v1.msgpack": "msgpack"}
"""WebSocket subprotocol → encoding. Spec: PROTOCOL.md §5.1."""

STRATEGIES: Final = ("enqueue", "interrupt", "rollback", "reject", "steer")
"""What a command does that arrives while a run is active. Spec: PROTOCOL.md §7.4."""

Strategy: TypeAlias = Literal["enqueue", "interrupt", "rollback", "reject", "steer"]
RunStatus: TypeAlias = Literal["queued", "running", "waiting", "completed", "failed", "cancelled"]
CommandStatus: TypeAlias = Literal["queued", "running", "applied", "rejected", "cancelled"]

THREAD_ID_PATTERN: Final = r"^[A-Za-z0-9_.:~-]{1,128}$"
COMMAND_ID_PATTERN: Final = r"^[\x21-\x7e]{1,128}$"

ThreadId: TypeAlias = str
"""1 to 128 of `A-Z a-z 0-9 _ . : ~ -`; the codec checks it so that the error names the rule."""


class _Frame(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="type"):
    pass


class Position(msgspec.Struct, frozen=True):
    """A place in a thread's log. Spec: PROTOCOL.md §4."""

    epoch: int
    seq: int


# client → server


class Hello(_Frame, frozen=True, kw_only=True, tag="hello"):
    """Says who the connection is; the first frame where the server needs it."""

    token: str | None = None
    client: str | None = None
    hash: bool = False


class Open(_Frame, frozen=True, kw_only=True, tag="open"):
    """Follows a thread. `since` is read leniently: what makes no sense is answered by a snapshot."""

    thread: ThreadId
    agent: str | None = None
    since: Json = None
    state: Json | msgspec.UnsetType = msgspec.UNSET
    tools: tuple[str, ...] = ()
    hash: bool = False


class Close(_Frame, frozen=True, kw_only=True, tag="close"):
    thread: ThreadId


class SendCommand(_Frame, frozen=True, kw_only=True, tag="command"):
    """`command` is read by the agent's registry, since only the agent knows its types."""

    thread: ThreadId
    id: str
    command: Json
    strategy: Json = None
    agent: str | None = None


class Cancel(_Frame, frozen=True, kw_only=True, tag="cancel"):
    thread: ThreadId
    run: str | None = None


class Ping(_Frame, frozen=True, kw_only=True, tag="ping"):
    nonce: Json = None


ClientFrame: TypeAlias = Hello | Open | Close | SendCommand | Cancel | Ping

# server → client


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """What the server accepts and sends. Bytes, counts, seconds. Spec: PROTOCOL.md §11."""

    max_frame_bytes: int = 1024 * 1024
    max_frames: int = 100
    max_depth: int = 100
    max_threads: int = 1000
    max_pending_commands: int = 1000
    max_state_bytes: int = 32 * 1024 * 1024
    heartbeat_s: float = 15
    unresponsive_s: float = 60


class Welcome(_Frame, frozen=True, kw_only=True, tag="welcome"):
    protocol: int = msgspec.field(default_factory=lambda: PROTOCOL_VERSION)
    server: str
    connection: str
    agents: tuple[str, ...]
    limits: Limits
    strategies: tuple[str, ...] = msgspec.field(default_factory=lambda: STRATEGIES)


class RunInfo(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A run as clients see it; `error` says why it failed."""

    id: str
    status: RunStatus
    error: ErrorInfo | None = None


class Snapshot(_Frame, frozen=True, kw_only=True, tag="snapshot", omit_defaults=False):
    """The whole state at `seq`. `hash` only where asked for."""

    thread: ThreadId
    epoch: int
    seq: int
    state: Json
    run: RunInfo | None
    hash: str | msgspec.UnsetType = msgspec.UNSET


class Update(_Frame, frozen=True, kw_only=True, tag="update", rename={"from_": "from"}):
    """The operations that lead from `from_` (default seq - 1) to `seq`. Spec: PROTOCOL.md §4.3."""

    thread: ThreadId
    epoch: int
    seq: int
    from_: int | None = None
    ops: Any
    hash: str | None = None

    @property
    def base(self) -> int:
        """The sequence the operations apply to."""
        return self.seq - 1 if self.from_ is None else self.from_


class Run(_Frame, frozen=True, kw_only=True, tag="run", omit_defaults=False):
    """The thread's current or last run; None where there never was one."""

    thread: ThreadId
    run: RunInfo | None


class CommandState(_Frame, frozen=True, kw_only=True, tag="command"):
    """What became of a command."""

    thread: ThreadId
    id: str
    status: CommandStatus
    duplicate: bool = False
    seq: int | None = None
    error: ErrorInfo | None = None


class Heartbeat(_Frame, frozen=True, kw_only=True, tag="heartbeat"):
    """The last position put on this connection, by thread."""

    heads: dict[str, tuple[int, int]]


class Pong(_Frame, frozen=True, kw_only=True, tag="pong", omit_defaults=False):
    nonce: Json = None


class Tool(_Frame, frozen=True, kw_only=True, tag="tool"):
    """This connection is to execute the call."""

    thread: ThreadId
    tool_call_id: str
    name: str
    args: Json


class Error(_Frame, frozen=True, kw_only=True, tag="error"):
    code: str
    message: str
    thread: ThreadId | None = None
    id: str | None = None
    field: str | None = None


class Goodbye(_Frame, frozen=True, kw_only=True, tag="goodbye"):
    """The server is about to close the connection."""

    reason: str
    reconnect: bool


ServerFrame: TypeAlias = (
    Welcome | Snapshot | Update | Run | CommandState | Heartbeat | Pong | Tool | Error | Goodbye
)
