"""The server's side of one connection, without the socket: messages in, frames or refusals out.

A message that can't be read breaks the connection; what is wrong inside a readable one is
refused frame by frame, and its neighbours live. Values are checked in `reading`; what frames
mean is the engine's. Spec: PROTOCOL.md §5 to §7.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

import msgspec

from .codec import Encoding
from .commands import convert_error
from .errors import CODES, ErrorInfo, InvalidValue, ProtocolError, Refused
from .frames import (
    COMMAND_ID_PATTERN,
    STRATEGIES,
    THREAD_ID_PATTERN,
    Cancel,
    ClientFrame,
    Close,
    CommandState,
    Error,
    Hello,
    Limits,
    Open,
    Ping,
    Position,
    SendCommand,
    ServerFrame,
)
from .operations import Json
from .reading import Lenient, checked, decode_json, decode_msgpack
from .values import MAX_INTEGER

_KINDS: Final[dict[str, type[ClientFrame]]] = {
    "hello": Hello,
    "open": Open,
    "close": Close,
    "command": SendCommand,
    "cancel": Cancel,
    "ping": Ping,
}

_THREAD_ID: Final = re.compile(THREAD_ID_PATTERN)
_COMMAND_ID: Final = re.compile(COMMAND_ID_PATTERN)


class Rejected(msgspec.Struct, frozen=True, kw_only=True):
    """A frame, or a whole message, that was refused. `thread` and `id` where they could be read."""

    error: ErrorInfo
    thread: str | None = None
    id: str | None = None
    is_command: bool = False

    def reply(self) -> ServerFrame:
        """What the client is told: the end of its command, or an error. Spec: PROTOCOL.md §12."""
        if self.is_command and self.thread is not None and self.id is not None:
            return CommandState(thread=self.thread, id=self.id, status="rejected", error=self.error)
        return Error(
            code=self.error.code,
            message=self.error.message,
            thread=self.thread,
            id=self.id,
            field=self.error.field,
        )


class ServerSession:
    """Reads the messages of one connection."""

    def __init__(self, encoding: Encoding, limits: Limits) -> None:
        self.encoding: Final = encoding
        self.limits: Final = limits

    def receive(self, data: bytes | str) -> list[ClientFrame | Rejected]:
        """The frames of one WebSocket message, in order. Spec: PROTOCOL.md §5.2.

        Raises:
            ProtocolError: `wrong-encoding`, `too-large` or `malformed`; nothing of it is executed.
        """
        try:
            message = self._decode(data)
        except InvalidValue as error:
            return [Rejected(error=error.info)]
        except Refused as error:
            raise ProtocolError(error.code, error.message, 4400) from None
        if type(message) not in (list, tuple):
            raise ProtocolError("malformed", "not a frame or an array of frames", 4400)
        frames = message if type(message) is list else [message]
        if len(frames) > self.limits.max_frames:
            return [Rejected(error=ErrorInfo("too-many-frames", CODES["too-many-frames"]))]
        return [self._read(frame) for frame in frames]

    def _decode(self, data: bytes | str) -> Lenient:
        if isinstance(data, str):
            if self.encoding != "json":
                raise ProtocolError("wrong-encoding", "a text message on a MessagePack connection", 4400)
            self._check_size(len(data) if data.isascii() else len(data.encode(errors="surrogatepass")))
            return decode_json(data)
        if self.encoding != "msgpack":
            raise ProtocolError("wrong-encoding", "a binary message on a JSON connection", 4400)
        self._check_size(len(data))
        return decode_msgpack(data)

    def _check_size(self, size: int) -> None:
        if size > self.limits.max_frame_bytes:
            raise ProtocolError("too-large", f"a message of {size} bytes", 1009)

    def _read(self, lenient: Lenient) -> ClientFrame | Rejected:
        if type(lenient) is not tuple:
            return Rejected(error=ErrorInfo("invalid-frame", "a frame is an object"))
        try:
            # The frame is around the values that max_depth is about.
            return _read_frame(checked(lenient, max_depth=self.limits.max_depth + 1))
        except Refused as error:
            return _reject(lenient, error)


def read_position(since: Json) -> Position | None:
    """The position that an `open` frame's `since` names, or None for anything else."""
    match since:
        case {"epoch": epoch, "seq": seq}:
            epoch, seq = _integer(epoch), _integer(seq)
            if epoch is not None and seq is not None and seq >= 0:
                return Position(epoch, seq)
    return None


def _integer(value: Json) -> int | None:
    """An integer in either spelling, 3 or 3.0."""
    if type(value) is float and value.is_integer() and abs(value) <= MAX_INTEGER:
        return int(value)
    return value if type(value) is int else None


def _read_frame(body: dict[str, Json]) -> ClientFrame:
    """Raises Refused: `unknown-frame`, or `invalid-frame` with the field."""
    name = body.get("type")
    if type(name) is not str:
        raise Refused("invalid-frame", "a frame has a type, a string", "type")
    kind = _KINDS.get(name)
    if kind is None:
        raise Refused("unknown-frame", f"no such frame: {name[:50]!r}", "type")
    try:
        frame = msgspec.convert(body, kind)
    except msgspec.ValidationError as error:
        message, field = convert_error(error, "")
        raise Refused("invalid-frame", message, field) from None
    if not isinstance(frame, Hello | Ping) and not _THREAD_ID.fullmatch(frame.thread):
        raise Refused("invalid-frame", "a thread id is 1 to 128 of A-Z a-z 0-9 _ . : ~ -", "thread")
    if isinstance(frame, SendCommand):
        if not _COMMAND_ID.fullmatch(frame.id):
            raise Refused("invalid-frame", "a command id is 1 to 128 visible ASCII characters", "id")
        if frame.strategy is not None and frame.strategy not in STRATEGIES:
            raise Refused("invalid-frame", f"a strategy is one of {', '.join(STRATEGIES)}", "strategy")
    return frame


def _reject(pairs: Sequence[tuple[object, Lenient]], error: Refused) -> Rejected:
    """The refusal of a frame that may be unreadable but for its envelope."""

    def read_once(name: str) -> str | None:
        found = [value for key, value in pairs if key == name]
        return found[0] if len(found) == 1 and type(found[0]) is str else None

    thread, id_ = read_once("thread"), read_once("id")
    return Rejected(
        error=error.info,
        thread=thread if thread is not None and _THREAD_ID.fullmatch(thread) else None,
        id=id_ if id_ is not None and _COMMAND_ID.fullmatch(id_) else None,
        is_command=read_once("type") == "command",
    )
