"""The state that a server streams as server-sent events: the assistant-transport protocol.

Only what changes the state, and errors, are of interest here; parts of messages pass by.
"""

from __future__ import annotations

import codecs
import json
import logging
from typing import Any, Final

import msgspec

from ..core.operations import AppendText, Json, Set
from ..core.operations import apply as apply_operations
from .data_stream import DataStreamError

log = logging.getLogger("threadwire.client")


class StateStream:
    """Takes an event stream's bytes in; `state` starts with the one given."""

    def __init__(self, *, state: Json = None, strict: bool = True) -> None:
        self.state = state
        self.error: str | None = None
        self._strict = strict
        self._decode: Final = codecs.getincrementaldecoder("utf-8")("replace")
        self._buffer = ""
        self._done = False

    def feed(self, data: bytes) -> bool:
        """Takes in what came; whether the state changed.

        Raises:
            Refused: operations that don't fit the state.
        """
        text = self._buffer + self._decode.decode(data)
        lines = text.split("\n")
        self._buffer = lines.pop()
        before = self.state
        for line in lines:
            self._take(line.rstrip("\r"))
        return self.state is not before

    def end(self) -> None:
        """The stream has ended. Raises DataStreamError where it didn't say so before."""
        if not self._done:
            if self._strict:
                raise DataStreamError("the stream ends without [DONE]")
            log.warning("the stream ends without [DONE]")

    def _take(self, line: str) -> None:
        if self._done or not line.startswith("data:"):
            return
        data = line[5:].removeprefix(" ")
        if data == "[DONE]":
            self._done = True
            return
        try:
            chunk = json.loads(data)
            kind: Any = chunk["type"]
        except (ValueError, TypeError, KeyError):
            log.warning("not a chunk of an assistant transport: %.200r", data)
            return
        if kind == "update-state":
            self._update(chunk.get("operations"))
        elif kind == "error":
            self.error = str(chunk.get("error"))

    def _update(self, operations: Json) -> None:
        try:
            typed = msgspec.convert(operations, list[Set | AppendText])
        except msgspec.ValidationError as error:
            raise DataStreamError(f"operations that are none: {error}") from None
        self.state = apply_operations({} if self.state is None else self.state, typed)
