"""How what is added to a chat's message is put on the wire: a data stream, or a UI message stream.

The stock client knows either by a header of the response. What happens is `part_stream`'s business.

Spec: PROTOCOL.md §14.17.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, Protocol, assert_never

import msgspec

from ..core.draft import RESERVED
from ..core.errors import ErrorInfo
from ..core.message_parts import File, Result, Source
from ..core.operations import Json, Operation
from ..core.part_stream import (
    ArgsDelta,
    CallReady,
    CallStarted,
    Event,
    Finish,
    PartStream,
    TextDelta,
)

_encode: Final = msgspec.json.Encoder().encode
_APART: Final = "\n\n"
"""Between texts of different messages, where the format has one text for both."""


class _State(msgspec.Struct):
    messages: Json = None


_state: Final = msgspec.json.Decoder(_State)


class Format(Protocol):
    """One response's encoding."""

    media_type: str
    header: str
    """Is `v1` in the response: by it the client knows the format."""
    heartbeat: bytes
    end: bytes
    """After all that `event` and the others gave."""

    def begin(self, thread: str | None) -> bytes:
        """`thread`: the token of an anonymous one, for the client to send back."""
        ...

    def event(self, event: Event) -> bytes: ...

    def error(self, text: str) -> bytes: ...


class DataStream:
    """Lines of a type and a JSON value; each leaves the beginning of a blank one, so that a cut shows."""

    media_type = "text/plain; charset=utf-8"
    header = "x-vercel-ai-data-stream"
    heartbeat = b"\n "
    end = b"\n"

    def __init__(self, message: str) -> None:
        self._message = message

    def begin(self, thread: str | None) -> bytes:
        step = _line("f", {"messageId": self._message})
        if thread is None:
            return step
        state = {RESERVED: {"thread": thread}}
        return step + _line("aui-state", [{"type": "set", "path": [], "value": state}])

    def event(self, event: Event) -> bytes:
        match event:
            case TextDelta():
                text = _APART + event.text if event.apart else event.text
                return _line("0" if event.kind == "text" else "g", text)
            case CallStarted():
                return _line("b", {"toolCallId": event.id, "toolName": event.name})
            case ArgsDelta():
                return _line("c", {"toolCallId": event.id, "argsTextDelta": event.text})
            case CallReady():
                return _line("c", {"toolCallId": event.id, "argsTextDelta": "", "isFinal": True})
            case Result():
                result = {"toolCallId": event.call, "result": event.value}
                if event.artifact is not None:
                    result["artifact"] = event.artifact
                return _line("a", {**result, "isError": True} if event.is_error else result)
            case Source():
                return _line("h", {"sourceType": "url", **_source(event, "id")})
            case File():
                return _line("k", {"data": event.data, "mimeType": event.media_type})
            case Finish():
                end = {"finishReason": event.reason, "usage": _usage(event)}
                return _line("e", {**end, "isContinued": False}) + _line("d", end)
            case _:
                assert_never(event)

    def error(self, text: str) -> bytes:
        return _line("3", text)


class UIMessageStream:
    """Server-sent events, as the AI SDK has them."""

    media_type = "text/event-stream"
    header = "x-vercel-ai-ui-message-stream"
    heartbeat = b":\n\n"
    end = b"data: [DONE]\n\n"

    def __init__(self, message: str) -> None:
        self._message = message
        self._open: tuple[str, str] | None = None
        """Kind and id of the text that has begun."""
        self._texts = 0

    def begin(self, thread: str | None) -> bytes:
        return _event({"type": "start", "messageId": self._message})

    def event(self, event: Event) -> bytes:
        if isinstance(event, TextDelta):
            return self._text(event)
        return self._close() + _event(self._other(event))

    def _text(self, event: TextDelta) -> bytes:
        data = b""
        if event.apart or self._open is None or self._open[0] != event.kind:
            data = self._close()
            self._texts += 1
            self._open = (event.kind, f"{event.kind}-{self._texts}")
            data += _event({"type": f"{event.kind}-start", "id": self._open[1]})
        text = _APART + event.text if event.apart else event.text
        return data + _event({"type": f"{event.kind}-delta", "id": self._open[1], "delta": text})

    def _close(self) -> bytes:
        if self._open is None:
            return b""
        kind, id = self._open
        self._open = None
        return _event({"type": f"{kind}-end", "id": id})

    def _other(self, event: Event) -> dict[str, Any]:
        match event:
            case CallStarted():
                return {"type": "tool-input-start", "toolCallId": event.id, "toolName": event.name}
            case ArgsDelta():
                return {"type": "tool-input-delta", "toolCallId": event.id, "inputTextDelta": event.text}
            case CallReady():
                call = {"toolCallId": event.id, "toolName": event.name}
                try:
                    return {"type": "tool-input-available", **call, "input": msgspec.json.decode(event.args)}
                except msgspec.DecodeError:
                    text = "the arguments are not JSON"
                    return {"type": "tool-input-error", **call, "input": event.args, "errorText": text}
            case Result():
                if event.is_error:
                    text = event.value if type(event.value) is str else _encode(event.value).decode()
                    return {"type": "tool-output-error", "toolCallId": event.call, "errorText": text}
                return {"type": "tool-output-available", "toolCallId": event.call, "output": event.value}
            case Source():
                return {"type": "source-url", **_source(event, "sourceId")}
            case File():
                url = event.data
                if "://" not in url and not url.startswith("data:"):
                    url = f"data:{event.media_type};base64,{url}"
                return {"type": "file", "url": url, "mediaType": event.media_type}
            case Finish():
                return {"type": "finish", "finishReason": event.reason, "usage": _usage(event)}
            case _:
                raise TypeError(event)

    def error(self, text: str) -> bytes:
        return self._close() + _event({"type": "error", "errorText": text})


FORMATS: Final[Mapping[str, type[DataStream] | type[UIMessageStream]]] = {
    "data-stream": DataStream,
    "ui-message-stream": UIMessageStream,
}


class ChatEncoder:
    """What `RunResponse` asks to encode, for one response: the run as `Format` says it.

    Args:
        thread: the token of an anonymous thread.
    """

    def __init__(self, parts: PartStream, format: Format, *, thread: str | None) -> None:
        self.media_type = format.media_type
        self.heartbeat = format.heartbeat
        self.begin = format.begin(thread)
        self._parts = parts
        self._format = format
        self._failed = False

    def state(self, data: bytes) -> bytes:
        return self._all(self._parts.state(_state.decode(data).messages))

    def operations(self, operations: Sequence[Operation]) -> bytes:
        return self._all(self._parts.apply(operations))

    def error(self, error: ErrorInfo) -> bytes:
        self._failed = True
        return self._format.error(error.message)

    @property
    def end(self) -> bytes:
        return self._all(self._parts.finish(failed=self._failed)) + self._format.end

    def _all(self, events: Sequence[Event]) -> bytes:
        return b"".join(map(self._format.event, events))


def _line(kind: str, value: Json) -> bytes:
    return b"\n%b:%b\n " % (kind.encode(), _encode(value))


def _event(value: Json) -> bytes:
    return b"data: %b\n\n" % _encode(value)


def _source(source: Source, id: str) -> dict[str, str]:
    named = {} if source.title is None else {"title": source.title}
    return {id: source.id, "url": source.url, **named}


def _usage(finish: Finish) -> dict[str, int]:
    return {"inputTokens": finish.input_tokens, "outputTokens": finish.output_tokens}
