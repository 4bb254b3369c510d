"""Outgoing frames, encoded once per encoding however many connections they go to."""

from __future__ import annotations

import msgspec

from ..core.codec import Encoding, decode_log, encode_frame
from ..core.frames import RunInfo, ServerFrame, Snapshot, Update
from ..core.operations import Operation


class Message:
    """A frame and its encodings, made when first asked for.

    `wire_json` and `wire_msgpack` are for endpoints: the payload as their transport frames it.
    """

    __slots__ = ("_frame", "_json", "_msgpack", "wire_json", "wire_msgpack")

    def __init__(self, frame: ServerFrame | None) -> None:
        self._frame = frame
        self._json: bytes | None = None
        self._msgpack: bytes | None = None
        self.wire_json: bytes | None = None
        self.wire_msgpack: bytes | None = None

    def frame(self, encoding: Encoding) -> ServerFrame:
        assert self._frame is not None
        return self._frame

    def payload(self, encoding: Encoding) -> bytes:
        if encoding == "json":
            if self._json is None:
                self._json = encode_frame(self.frame(encoding), encoding)
            return self._json
        if self._msgpack is None:
            self._msgpack = encode_frame(self.frame(encoding), encoding)
        return self._msgpack


class UpdateMessage(Message):
    """One row of a thread's log, as it goes out and as it is kept.

    `operations` are the state's own values: given only where the JSON form is wanted, and
    encoded at once.
    """

    __slots__ = ("_thread", "data", "epoch", "seq")

    def __init__(
        self, thread: str, epoch: int, seq: int, data: bytes, operations: list[Operation] | None = None
    ) -> None:
        super().__init__(None)
        self._thread = thread
        self.epoch = epoch
        self.seq = seq
        self.data = data
        if operations is not None:
            self._json = encode_frame(Update(thread=thread, epoch=epoch, seq=seq, ops=operations), "json")

    def frame(self, encoding: Encoding) -> ServerFrame:
        ops = self.operations() if encoding == "json" else msgspec.Raw(self.data)
        return Update(thread=self._thread, epoch=self.epoch, seq=self.seq, ops=ops)

    def operations(self) -> list[Operation]:
        """The operations, free of the state."""
        return decode_log(self.data)


class SnapshotMessage(Message):
    """The whole state at (`epoch`, `seq`), in one encoding, for all who ask for it there."""

    __slots__ = ("_encoding", "epoch", "seq", "state")

    def __init__(
        self, thread: str, epoch: int, seq: int, state: bytes, run: RunInfo | None, encoding: Encoding
    ) -> None:
        super().__init__(Snapshot(thread=thread, epoch=epoch, seq=seq, state=msgspec.Raw(state), run=run))
        self._encoding = encoding
        self.epoch = epoch
        self.seq = seq
        self.state = state
        """The state alone, encoded."""

    def frame(self, encoding: Encoding) -> ServerFrame:
        assert encoding == self._encoding
        return super().frame(encoding)
