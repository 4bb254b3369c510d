"""Frames and operations to bytes and back, in JSON and MessagePack.

What comes from a client is read by `reading` first, which refuses what these decoders would let
through; what comes from a server is trusted. Spec: PROTOCOL.md §5.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final, Literal, TypeAlias, assert_never, get_args

import msgspec

from .errors import ProtocolError
from .frames import ClientFrame, ServerFrame, Update
from .operations import AppendText, Delete, Json, Operation, Set, Splice

Encoding: TypeAlias = Literal["json", "msgpack"]

_json = msgspec.json.Encoder()
_msgpack = msgspec.msgpack.Encoder()
_server_frames = msgspec.json.Decoder(ServerFrame | list[ServerFrame])
_server_frames_msgpack = msgspec.msgpack.Decoder(ServerFrame | list[ServerFrame])
_SERVER_TYPES: Final = frozenset(kind.__struct_config__.tag for kind in get_args(ServerFrame))


def encode_value(value: Json, encoding: Encoding) -> bytes:
    return _json.encode(value) if encoding == "json" else _msgpack.encode(value)


def encode_frame(frame: ClientFrame | ServerFrame, encoding: Encoding) -> bytes:
    """One message that holds one frame. An update's `ops` may be a list of operations in either encoding."""
    if encoding == "json":
        return _json.encode(frame)
    if type(frame) is Update and type(frame.ops) is list:
        frame = msgspec.structs.replace(frame, ops=[operation_array(each) for each in frame.ops])
    return _msgpack.encode(frame)


def encode_message(frames: Iterable[bytes], encoding: Encoding) -> bytes:
    """One message of several encoded frames."""
    raw = [msgspec.Raw(frame) for frame in frames]
    if len(raw) == 1:
        return bytes(raw[0])
    return _json.encode(raw) if encoding == "json" else _msgpack.encode(raw)


class UpdateEncoder:
    """The update frames of one thread and epoch, as `encode_frame` would make them.

    There is one for every token: only what differs from one to the next is encoded anew.
    """

    __slots__ = ("_json", "_msgpack", "epoch", "thread")

    def __init__(self, thread: str, epoch: int) -> None:
        self.thread = thread
        self.epoch = epoch
        empty = Update(thread=thread, epoch=epoch, seq=0, ops=[])
        self._json = _json.encode(empty).removesuffix(b'0,"ops":[]}')
        self._msgpack = _msgpack.encode(empty).removesuffix(b"\x00\xa3ops\x90")

    def json(self, seq: int, operations: list[Operation]) -> bytes:
        return b'%b%d,"ops":%b}' % (self._json, seq, _json.encode(operations))

    def msgpack(self, seq: int, data: bytes) -> bytes:
        """`data` is what `encode_log` made of the operations."""
        return b"%b%b\xa3ops%b" % (self._msgpack, _msgpack.encode(seq), data)


def operation_array(operation: Operation) -> tuple[Json, ...]:
    """An operation's MessagePack form: `[type, path, value...]`. Spec: PROTOCOL.md §5.3."""
    if type(operation) is AppendText:
        return ("append-text", operation.path, operation.value)
    if type(operation) is Set:
        return ("set", operation.path, operation.value)
    if type(operation) is Delete:
        return ("delete", operation.path)
    assert type(operation) is Splice
    return ("splice", operation.path, operation.index, operation.delete_count, operation.items)


def operation_from_array(array: Json) -> Operation:
    """Raises ProtocolError where the array is no operation."""
    match array:
        case ["append-text", [*path], str(value)]:
            return AppendText(tuple(path), value)
        case ["set", [*path], value]:
            return Set(tuple(path), value)
        case ["delete", [*path]]:
            return Delete(tuple(path))
        case ["splice", [*path], int(index), int(delete_count), [*items]]:
            return Splice(tuple(path), index, delete_count, items)
    raise ProtocolError("malformed", "an array that is no operation", 4400)


def encode_log(operations: Sequence[Operation]) -> bytes:
    """Operations as a log row holds them: their MessagePack wire form."""
    if len(operations) == 1:
        first = operations[0]
        if type(first) is AppendText:  # a token
            return _msgpack.encode((("append-text", first.path, first.value),))
    return _msgpack.encode([operation_array(each) for each in operations])


def decode_log(data: bytes) -> list[Operation]:
    """The operations of a log row."""
    return [operation_from_array(array) for array in msgspec.msgpack.decode(data)]


def decode_server_message(data: bytes | str, encoding: Encoding) -> list[ServerFrame]:
    """The frames of a message from a server, an update's `ops` as operations.

    Frames of unknown types are left out.

    Raises:
        ProtocolError: it is no message of this protocol.
    """
    try:
        try:
            if encoding == "json":
                message = _server_frames.decode(data)
            else:
                assert isinstance(data, bytes)
                message = _server_frames_msgpack.decode(data)
        except msgspec.ValidationError:
            message = _known_frames(data, encoding)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
        raise ProtocolError("malformed", f"not a message of the server: {error}", 4400) from None
    frames = message if type(message) is list else [message]
    return [_with_operations(frame, encoding) if type(frame) is Update else frame for frame in frames]


def _known_frames(data: bytes | str, encoding: Encoding) -> list[ServerFrame]:
    """The frames of a message without those of types newer than this client. Spec: PROTOCOL.md §13.2."""
    if encoding == "json":
        message = msgspec.json.decode(data)
    else:
        assert isinstance(data, bytes)
        message = msgspec.msgpack.decode(data)
    frames = message if type(message) is list else [message]
    return [msgspec.convert(frame, ServerFrame) for frame in frames if not _is_unknown(frame)]


def _is_unknown(frame: Json) -> bool:
    name = frame.get("type") if type(frame) is dict else None
    return type(name) is str and name not in _SERVER_TYPES


def _with_operations(update: Update, encoding: Encoding) -> Update:
    match encoding:
        case "json":
            try:
                operations = msgspec.convert(update.ops, list[Operation])
            except msgspec.ValidationError as error:
                raise ProtocolError("malformed", f"not operations: {error}", 4400) from None
        case "msgpack":
            if type(update.ops) is not list:
                raise ProtocolError("malformed", "not operations: not an array", 4400)
            operations = [operation_from_array(array) for array in update.ops]
        case _:
            assert_never(encoding)
    return msgspec.structs.replace(update, ops=operations)
