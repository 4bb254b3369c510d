"""Outgoing frames, encoded once per encoding however many connections they go to."""

from __future__ import annotations

import msgspec

from ..core.codec import Encoding, UpdateEncoder, decode_log, encode_frame
from ..core.frames import RunInfo, ServerFrame, Snapshot
from ..core.operations import AppendText, Operation


class Message(msgspec.Struct, eq=False, gc=False):
    """A frame and its encodings, made when first asked for.

    `wire_json` and `wire_msgpack` are for endpoints: the payload as their transport frames it.
    A struct because one is made for every token, and structs are made in C.
    """

    _frame: ServerFrame | None = None
    json: bytes | None = None
    msgpack: bytes | None = None
    wire_json: bytes | None = None
    wire_msgpack: bytes | None = None

    def frame(self, encoding: Encoding) -> ServerFrame:
        assert self._frame is not None
        return self._frame

    def payload(self, encoding: Encoding) -> bytes:
        if encoding == "json":
            if self.json is None:
                self.json = self._encode(encoding)
            return self.json
        if self.msgpack is None:
            self.msgpack = self._encode(encoding)
        return self.msgpack

    def _encode(self, encoding: Encoding) -> bytes:
        return encode_frame(self.frame(encoding), encoding)


class UpdateMessage(Message, eq=False, gc=False, kw_only=True):
    """One row of a thread's log, as it goes out."""

    encoder: UpdateEncoder
    """Of the thread, and the epoch that wrote the row."""
    epoch: int
    seq: int
    data: bytes
    token: AppendText | None = None
    """The operation, where it is one that appends text: what comes most needn't be decoded."""

    def operations(self) -> list[Operation]:
        """The operations, free of the state."""
        return decode_log(self.data) if self.token is None else [self.token]

    def _encode(self, encoding: Encoding) -> bytes:
        if encoding == "json":
            return self.encoder.json(self.seq, self.operations())
        return self.encoder.msgpack(self.seq, self.data)


class SnapshotMessage(Message, eq=False, gc=False, kw_only=True):
    """The whole state at (`epoch`, `seq`), in one encoding, for all who ask for it there."""

    thread: str
    epoch: int
    seq: int
    state: bytes
    """The state alone, encoded."""
    run: RunInfo | None
    encoding: Encoding

    def frame(self, encoding: Encoding) -> ServerFrame:
        assert encoding == self.encoding
        return Snapshot(
            thread=self.thread, epoch=self.epoch, seq=self.seq, state=msgspec.Raw(self.state), run=self.run
        )
