"""What a client that keeps the conversation itself asks for: the whole of it, and what that is to the thread.

The client posts all messages each time. What is new about them becomes a command: a message, an edit of
an earlier one, a run again from one, or the results of tools. The rest is only read where the thread is new.

Spec: PROTOCOL.md §14.16.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Final, Literal

import anyio.to_thread
import msgspec
from msgspec import UNSET, UnsetType
from starlette.requests import Request

from ..core.errors import Refused
from ..core.frames import Limits
from ..core.message_parts import Part, Result, read_message
from ..core.operations import Json
from ..core.reading import read_json
from .bodies import LargeBodies, check_thread_id, convert

_OWN: Final = frozenset(
    {"messages", "state", "threadId", "parentId", "unstable_assistantMessageId", "unstable_threadId"}
)
_LARGE: Final = 64 * 1024


class ChatMessage(msgspec.Struct, frozen=True):
    """A message as clients post it; of an assistant's and a tool's parts the unknown ones are let through."""

    role: Literal["system", "user", "assistant", "tool"]
    content: str | list[dict[str, Json]]
    unstable_id: str | None = None
    id: str | None = None

    @property
    def parts(self) -> list[dict[str, Json]]:
        """The content; a text is one part, and an empty one none."""
        if isinstance(self.content, str):
            return [{"type": "text", "text": self.content}] if self.content else []
        return self.content

    @property
    def own_id(self) -> str | None:
        return self.unstable_id or self.id


class _Own(msgspec.Struct, frozen=True):
    thread: str | None = None


class _Kept(msgspec.Struct, frozen=True):
    threadwire: _Own = _Own()


class ChatBody(msgspec.Struct, frozen=True, rename="camel"):
    """The members of a body that mean something to the server."""

    messages: list[ChatMessage]
    thread_id: str | None = None
    parent_id: str | UnsetType | None = UNSET
    unstable_assistant_message_id: str | None = msgspec.field(
        name="unstable_assistantMessageId", default=None
    )
    state: Json = None


class Ask(msgspec.Struct, frozen=True):
    """What a request is to its thread.

    Attributes:
        commands: their bodies, in order.
        after: the id of the message that the answer follows, where one is known.
    """

    commands: list[dict[str, Json]]
    after: str | None


class ChatRequest:
    """One request; `context` is all that its body says besides the messages and where they belong."""

    def __init__(self, body: ChatBody, context: dict[str, Json]) -> None:
        self.body = body
        self.context = context
        try:
            kept = msgspec.convert(body.state, _Kept | None) or _Kept()
        except msgspec.ValidationError:
            kept = _Kept()  # the application's own
        self.token = kept.threadwire.thread
        # What the client has of the answer so far comes last; an empty one doesn't come at all.
        messages = body.messages
        end = len(messages)
        while end and messages[end - 1].role in ("assistant", "tool"):
            end -= 1
        if not end or messages[end - 1].role != "user":
            raise Refused("invalid-request", "the messages end with one of the user", "body.messages")
        self._message = messages[end - 1]
        self._before = messages[: end - 1]
        self._answer = messages[end:]
        if not content_parts(self._message):
            raise Refused("invalid-request", "the message is empty", f"body.messages.{end - 1}.content")

    def history(self, new_id: Callable[[], str]) -> list[dict[str, Json]]:
        """The messages before the one that is asked about, for a thread that doesn't have them."""
        earlier = list(self._before)
        if self._continues:
            end = len(self._answer)
            while end and self._answer[end - 1].role == "tool":
                end -= 1
            earlier += [self._message, *self._answer[:end]]
        return [seed for message in earlier for seed in _as_seed(message, new_id)]

    def ask(self, known: Sequence[Json], new_id: Callable[[], str]) -> Ask:
        """What there is to do, where the thread has the messages `known`."""
        if self._continues:
            return Ask(self._results(known), None)
        id = self._message.own_id or self._named or new_id()
        ids = [message.get("id") if type(message) is dict else None for message in known]
        if id in ids:
            return Ask([{"type": "regenerate", "parentId": id}], id)
        at = self._place(known)
        source = ids[at] if at < len(ids) else None
        command = {
            "type": "add-message",
            "message": {"role": "user", "id": id, "parts": content_parts(self._message)},
            "parentId": ids[at - 1] if 0 < at <= len(ids) else None,
            "sourceId": source,
        }
        return Ask([command], id)

    # inside

    @property
    def _continues(self) -> bool:
        """Whether it is about results of tools, and not about the user's message."""
        return bool(self._answer)

    @property
    def _named(self) -> str | None:
        parent = self.body.parent_id
        return parent if type(parent) is str and parent else None

    def _place(self, known: Sequence[Json]) -> int:
        """The index among the thread's messages that the message has; their number for a new one.

        The users' messages before it are counted: the client names none of them.
        """
        asked = sum(message.role == "user" for message in self._before)
        for index, message in enumerate(known):
            read = read_message(message)
            if read is not None and read.role == "user":
                if not asked:
                    return index
                asked -= 1
        return len(known)

    def _results(self, known: Sequence[Json]) -> list[dict[str, Json]]:
        """A command for each result that the thread doesn't have."""
        has = {part.call for message in known for part in _parts(message) if isinstance(part, Result)}
        commands: list[dict[str, Json]] = []
        for message in self._answer:
            if message.role != "tool":
                continue
            for part in message.parts:
                call = part.get("toolCallId")
                if part.get("type") == "tool-result" and type(call) is str and call not in has:
                    commands.append({"type": "add-tool-result", "toolCallId": call, **_outcome(part)})
        if not commands:
            raise Refused("invalid-request", "no tool has a result that is new", "body.messages")
        return commands


class ChatReader:
    """Reads the requests of a server."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._bodies = LargeBodies(limits)

    async def read(self, request: Request) -> ChatRequest:
        """The request, read and checked.

        Raises:
            Refused: `wrong-content-type`, `too-large`, `malformed`, `invalid-request`, `overloaded` or a
                code of values, with the field.
        """
        async with self._bodies.read(request) as data:
            if len(data) > _LARGE:
                return await anyio.to_thread.run_sync(parse_chat, data, self._limits)
            return parse_chat(data, self._limits)


def parse_chat(data: bytes, limits: Limits) -> ChatRequest:
    """As `ChatReader.read`, of a body that is there; an empty one is `{}`."""
    try:
        value = read_json(data or b"{}", max_depth=limits.max_depth + 2, field="body")
    except Refused as refusal:
        refusal.field = refusal.field or "body"
        raise
    body = convert(value, ChatBody, "body")
    if body.thread_id is not None:
        check_thread_id(body.thread_id, "body.threadId")
    context = {name: member for name, member in value.items() if name not in _OWN}
    if len(msgspec.json.encode(context)) > limits.max_frame_bytes:
        raise Refused("too-large", f"more than {limits.max_frame_bytes} bytes besides the messages", "body")
    return ChatRequest(body, context)


def content_parts(message: ChatMessage) -> list[dict[str, Json]]:
    """A user's content as the parts of a command's message."""
    parts: list[dict[str, Json]] = []
    for part in message.parts:
        if part.get("type") == "file" and str(part.get("mediaType", "")).startswith("image/"):
            parts.append({"type": "image", "image": part.get("data")})
        elif part.get("type") == "file":
            file = {"type": "file", "data": part.get("data"), "mimeType": part.get("mediaType")}
            name = part.get("filename")
            parts.append(file if name is None else {**file, "filename": name})
        else:
            parts.append(part)
    return parts


def _parts(message: Json) -> list[Part]:
    read = read_message(message)
    return [] if read is None else read.parts


def _outcome(part: dict[str, Json]) -> dict[str, Json]:
    """What a posted result says, as members of a command."""
    output = part.get("output")
    if type(output) is dict and type(output.get("type")) is str:
        result, is_error = output.get("value"), output["type"].startswith("error")
    else:
        result, is_error = part.get("result"), part.get("isError") is True
    return {"toolName": part.get("toolName"), "result": result, "isError": is_error}


def _as_seed(message: ChatMessage, new_id: Callable[[], str]) -> Iterator[dict[str, Json]]:
    """A message of the past as a state holds it. An instruction to the model is none."""
    parts = message.parts
    id = message.own_id or new_id()
    text = "".join(part["text"] for part in parts if type(part.get("text")) is str)
    match message.role:
        case "user":
            whole = all(part.get("type") == "text" for part in parts)
            yield {"id": id, "role": "user", "content": text if whole else content_parts(message)}
        case "assistant":
            calls = [
                {"id": part.get("toolCallId"), "name": part.get("toolName"), "args": _args(part)}
                for part in parts
                if part.get("type") == "tool-call"
            ]
            seed: dict[str, Json] = {"id": id, "role": "assistant", "content": text}
            yield {**seed, "tool_calls": calls} if calls else seed
        case "tool":
            for part in parts:
                if part.get("type") == "tool-result":
                    outcome = _outcome(part)
                    result = outcome["result"]
                    yield {
                        "id": new_id(),
                        "role": "tool",
                        "tool_call_id": part.get("toolCallId"),
                        "name": part.get("toolName"),
                        "content": result if type(result) is str else msgspec.json.encode(result).decode(),
                        "status": "error" if outcome["isError"] else "success",
                    }


def _args(part: dict[str, Json]) -> Json:
    return part["input"] if "input" in part else part.get("args", {})
