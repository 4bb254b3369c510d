"""Every error Threadwire raises on purpose, and the table of codes that travel on the wire.

    ThreadwireError
    ├─ ProtocolError      the peer broke the framing: code, close_code
    ├─ Refused            one input refused, everything else lives: code, message, field
    │  ├─ InvalidValue    a value that state may not hold
    │  ├─ InvalidOperation  an operation that doesn't apply to the state it met
    │  └─ CommandError    a command refused
    ├─ AgentError         what an agent tells its clients
    ├─ RunEnded           a draft was used after its run had ended
    ├─ StoreError
    │  ├─ WriteConflict   fenced: another owner has written
    │  ├─ StoreUnavailable
    │  └─ StoreLocked     another process owns the store
    └─ ConnectionClosed   client side: code, reason, reconnect

Spec: PROTOCOL.md §12.
"""

from __future__ import annotations

from typing import Final

import msgspec

CODES: Final[dict[str, str]] = {
    # what can't be read
    "malformed": "the message is not valid JSON or MessagePack, or not a frame or an array of frames",
    "wrong-encoding": "a text message on a MessagePack connection, or a binary one on a JSON connection",
    "too-large": "the message is larger than limits.max_frame_bytes",
    "too-many-frames": "the message holds more frames than limits.max_frames",
    # values
    "too-deep": "nested deeper than limits.max_depth",
    "duplicate-key": "an object holds the same key twice",
    "forbidden-key": "__proto__, constructor and prototype are refused as keys and in paths",
    "invalid-key": "a key that is not a string",
    "not-finite": "NaN, Infinity or a number beyond the range of a double",
    "integer-range": "an integer outside ±(2^53-1)",
    "invalid-unicode": "a string with a lone surrogate or invalid UTF-8",
    "unsupported-type": "a type that JSON does not have",
    # operations
    "invalid-operation": "an operation of an unknown type or with wrong fields",
    "invalid-path": "a path segment that cannot address the container it met",
    "path-missing": "nothing is there",
    "index-out-of-range": "an array index or count beyond the array",
    "not-a-string": "append-text met a value that is not a string",
    # frames
    "unknown-frame": "a frame of an unknown type",
    "invalid-frame": "a frame with a missing or wrong field",
    "unauthenticated": "the connection has not said who it is",
    "forbidden": "not allowed",
    "not-found": "no such thread, run or agent",
    "too-many-threads": "the connection has limits.max_threads threads open",
    "agent-mismatch": "the thread belongs to another agent",
    "seeding-disabled": "the agent is not served with seed=True",
    "reserved-key": "the root key threadwire is the server's",
    # HTTP requests
    "invalid-request": "a request with a missing or wrong field",
    "wrong-content-type": "the body is not application/json",
    "method-not-allowed": "the path does not take this method",
    # commands
    "unknown-command": "no such command type",
    "invalid-command": "a command with a missing or wrong field",
    "command-id-reused": "the id was used for a command with another body",
    "too-many-pending": "limits.max_pending_commands commands of this thread wait already",
    "thread-busy": "a run is active and the strategy is reject",
    "strategy-unsupported": "the agent does not support this strategy",
    "gave-up": "the command was started three times and the server went down each time",
    "already-answered": "the tool call has its result",
    "unknown-interrupt": "no open interrupt has this id",
    "unknown-tool-call": "no open tool call has this id",
    "unknown-message": "no message has this id",
    "thread-waiting": "the run waits for clients, and what is to change can't meanwhile",
    # runs
    "agent-error": "the agent failed and says why",
    "agent-failed": "the agent failed; the server's log has the reason under the reference in the message",
    "detached-write": "the agent changed a container after it was copied into the state",
    "state-too-large": "the state would be larger than limits.max_state_bytes",
    "interrupted-by-crash": "the server went down during the run",
    "server-stopped": "the server was stopped during the run",
    # server
    "store-unavailable": "the store did not take the write; try again",
    "overloaded": "the server is at a limit; try again later",
    "draining": "the server is stopping and takes no new work",
    "history-gone": "the log no longer reaches back that far",
    "conflict": "it exists already, or changed meanwhile",
    "internal": "a fault of the server; its log has the reason under the reference in the message",
}
"""Stable words of the `code` field of errors, with their meaning. Spec: PROTOCOL.md §12.1."""

CLOSE_CODES: Final[dict[int, str]] = {
    1001: "going away: the server shuts down",
    1009: "too-large",
    1012: "the server restarts",
    4000: "unresponsive: nothing was read or answered for limits.unresponsive_s",
    4001: "the server could not keep the connection; reconnect",
    4400: "malformed or wrong-encoding",
    4401: "unauthenticated",
    4403: "forbidden",
}
"""WebSocket close codes; on 44xx and 1009 a client must not simply reconnect. Spec: PROTOCOL.md §12.2."""


def reconnect_after(close_code: int) -> bool:
    """Whether a client should reconnect by itself after this close code. Spec: PROTOCOL.md §12.2."""
    return not (4400 <= close_code < 4500 or close_code in (1002, 1003, 1007, 1008, 1009, 1010))


def first_line(error: BaseException) -> str:
    """What an exception of a driver says, without its details; its type where it says nothing."""
    text = str(error)
    return text.splitlines()[0] if text else type(error).__name__


class ErrorInfo(msgspec.Struct, frozen=True, omit_defaults=True):
    """An error as it stands in frames, records and HTTP bodies: `{code, message, field?}`."""

    code: str
    message: str
    field: str | None = None


class ThreadwireError(Exception):
    """The root of all errors raised on purpose."""


class ProtocolError(ThreadwireError):
    """The peer broke the framing; the connection is closed with `close_code`."""

    def __init__(self, code: str, message: str, close_code: int) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.close_code = close_code

    @property
    def info(self) -> ErrorInfo:
        return ErrorInfo(self.code, self.message)


class Refused(ThreadwireError):
    """One input is refused and nothing else suffers. `field` names it, as in `command.title`."""

    def __init__(self, code: str, message: str, field: str | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.field = field

    @property
    def info(self) -> ErrorInfo:
        return ErrorInfo(self.code, self.message, self.field)


class InvalidValue(Refused):
    """A value that the state may not hold; `field` is its path. Spec: PROTOCOL.md §2."""


class InvalidOperation(Refused):
    """An operation that does not apply to the state it met. Spec: PROTOCOL.md §3."""


class CommandError(Refused):
    """A command refused. Raise it in a handler to reject the command with a code of your own."""


class AgentError(ThreadwireError):
    """Raised by an agent to end its run as failed with a text that clients may see."""

    def __init__(self, message: str, *, code: str = "agent-error") -> None:
        super().__init__(message)
        self.code = code
        self.message = message

    @property
    def info(self) -> ErrorInfo:
        return ErrorInfo(self.code, self.message)


class RunEnded(ThreadwireError):
    """The run has ended: its state may no longer be read or written through it."""


class StoreError(ThreadwireError):
    """The root of what stores raise."""


class WriteConflict(StoreError):
    """Another owner has written to the thread; what this one holds is stale."""


class StoreUnavailable(StoreError):
    """The store did not take the write or the read; it may later."""


class StoreLocked(StoreError):
    """Another process has the store open."""


class ConnectionClosed(ThreadwireError):
    """The connection is closed for good. `reconnect` tells whether trying again makes sense."""

    def __init__(self, code: int, reason: str, *, reconnect: bool) -> None:
        super().__init__(f"connection closed: {code} {reason}".rstrip())
        self.code = code
        self.reason = reason
        self.reconnect = reconnect
