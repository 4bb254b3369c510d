"""What a stock AssistantTransport client asks for: the body, the query and the headers, read and checked.

The client posts its whole state each time. The server has its own, so that one stays bytes; only a
thread that doesn't exist yet takes it for a seed.

Spec: PROTOCOL.md §14.9, §14.11 and §14.12.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Sequence
from typing import Final, Literal, TypeAlias

import anyio.to_thread
import msgspec
from msgspec import UNSET, Raw, UnsetType
from starlette.requests import Request

from ..core.commands import AddMessage, Command, Regenerate
from ..core.draft import RESERVED
from ..core.errors import Refused
from ..core.frames import COMMAND_ID_PATTERN, Limits
from ..core.operations import Json
from ..core.reading import checked, decode_json, read_json
from ..core.values import measure
from ..engine.agent import Agent
from .bodies import LargeBodies, check_thread_id, convert, read_query

Protocol: TypeAlias = Literal["data-stream", "assistant-transport"]

IDEMPOTENCY_KEY: Final = "Idempotency-Key"

_OWN: Final = frozenset({"commands", "state", "threadId", "runId", "parentId"})
"""The members of a body that mean something here; all others are the run's context."""
_SMALL: Final = 64 * 1024
_MAX_STORED: Final = 8 * 1024 * 1024
"""Each command keeps the context: no more than this for all of a request."""

_COMMAND_ID: Final = re.compile(COMMAND_ID_PATTERN)

_members = msgspec.json.Decoder(dict[str, Raw])


class _Area(msgspec.Struct):
    thread: str | UnsetType = UNSET


class _Posted(msgspec.Struct):
    threadwire: _Area | UnsetType = UNSET


_posted = msgspec.json.Decoder(_Posted)


class Incoming(msgspec.Struct, frozen=True):
    """A command to submit. `body` is without what belongs to the request."""

    id: str
    body: dict[str, Json]
    command: Command


class Query(msgspec.Struct, frozen=True):
    """The parameters; `thread_id` is for clients whose body can't say it, and goes before the body's."""

    protocol: Protocol = "data-stream"
    on_disconnect: str | UnsetType = UNSET
    thread_id: str | UnsetType = msgspec.field(name="threadId", default=UNSET)


class Body(msgspec.Struct, frozen=True, rename="camel"):
    """The members that mean something to the server, but for the state."""

    commands: list[dict[str, Json]] | UnsetType = UNSET
    thread_id: str | None = None
    run_id: str | None = None


class AssistantRequest:
    """One request.

    Attributes:
        query: the parameters of its URL.
        thread_id, run_id: what it is about, each an id or None.
        context: what the body says besides.
        token: that of an anonymous thread in the posted state, unchecked, or None.
        key: by which a repetition is known again, or None.
    """

    def __init__(
        self,
        query: Query,
        data: bytes,
        body: Body,
        *,
        context: dict[str, Json],
        state: bytes | None,
        key: str | None,
    ) -> None:
        self.query = query
        self.thread_id = body.thread_id if query.thread_id is UNSET else query.thread_id
        self.run_id = body.run_id
        self.context = context
        self.key = key
        self.token = None if state is None else _token_in(state)
        self._commands = body.commands
        self._data = data
        self._state = state

    @property
    def repeatable(self) -> bytes | None:
        """What is the same each time that the request is repeated; None where it can't be known again."""
        if self.key is not None:
            return self.key.encode() + b"\n" + self._data
        commands = self._commands or []
        known = commands and all(type(command.get("id")) is str for command in commands)
        return self._data if known else None

    def commands(self, agent: Agent, limits: Limits, new_id: Callable[[], str]) -> list[Incoming]:
        """The commands, checked against what the agent accepts; those without an id get one.

        Raises:
            Refused: `invalid-request` or a code of commands, with the field.
        """
        given = self._commands
        if given is UNSET:
            raise Refused("invalid-request", "a request has commands, an array", "body.commands")
        if len(given) > limits.max_frames:
            message = f"more than {limits.max_frames} commands in one request"
            raise Refused("too-large", message, "body.commands")
        if len(given) * len(msgspec.json.encode(self.context)) > _MAX_STORED:
            raise Refused("too-large", "so many commands with so large a context", "body")
        commands = [self._command(number, body, agent, new_id) for number, body in enumerate(given)]
        seen: set[str] = set()
        for number, command in enumerate(commands):
            if command.id in seen:
                raise Refused("invalid-request", "two commands of this id", f"body.commands.{number}.id")
            seen.add(command.id)
        return commands

    def _command(
        self, number: int, body: dict[str, Json], agent: Agent, new_id: Callable[[], str]
    ) -> Incoming:
        field = f"body.commands.{number}"
        kind = agent.registry.kind(body.get("type"))
        id = None
        # A type that has an `id` of its own keeps it.
        if "id" in body and not (kind is not None and "id" in kind.__struct_encode_fields__):
            id = body["id"]
            if type(id) is not str or not _COMMAND_ID.fullmatch(id):
                message = "a command id is 1 to 128 visible ASCII characters"
                raise Refused("invalid-request", message, f"{field}.id")
            body = {name: value for name, value in body.items() if name != "id"}
        command = agent.registry.read(body, field=field)
        if id is None and self.key is not None:
            id = f"{hashlib.sha256(self.key.encode()).hexdigest()[:32]}-{number}"
        return Incoming(new_id() if id is None else id, body, command)

    async def seed(self, agent: Agent, limits: Limits) -> dict[str, Json] | None:
        """The state that a new thread of the agent begins with; None where it begins empty.

        Raises:
            Refused: `state-too-large`, a code of values or what the agent refuses, with the field.
        """
        data = self._state
        if agent.seed is False or data is None or data in (b"null", b"{}"):
            return None
        if len(data) > limits.max_state_bytes:
            raise Refused("state-too-large", f"larger than {limits.max_state_bytes} bytes", "body.state")
        if len(data) > _SMALL:
            return await anyio.to_thread.run_sync(self._read_seed, data, agent, limits)
        return self._read_seed(data, agent, limits)

    def _read_seed(self, data: bytes, agent: Agent, limits: Limits) -> dict[str, Json]:
        state = read_json(data, max_depth=limits.max_depth, field="body.state", wide_integers=True)
        if type(state) is not dict:
            raise Refused("invalid-request", "a thread's first state is an object", "body.state")
        # The server's own, of a thread that is no more.
        state.pop(RESERVED, None)
        if measure(state) > limits.max_state_bytes:
            raise Refused("state-too-large", f"larger than {limits.max_state_bytes} bytes", "body.state")
        try:
            return agent.read_seed(state)
        except Refused as refusal:
            refusal.field = f"body.{refusal.field or 'state'}"
            raise


def want_answer(commands: Sequence[Incoming]) -> bool:
    """Whether one of them asks for an answer: a message, or that one be answered again."""
    return any(isinstance(each.command, AddMessage | Regenerate) for each in commands)


def read_absence(given: str | UnsetType, default: float | None) -> float | None:
    """What `on_disconnect` says of how long the run may go on alone: seconds, or None for ever.

    Raises:
        Refused: `invalid-request`, field `query.on_disconnect`.
    """
    if given is UNSET:
        return default
    try:
        return parse_on_disconnect(given)
    except ValueError as error:
        raise Refused("invalid-request", str(error), "query.on_disconnect") from None


def parse_on_disconnect(text: str) -> float | None:
    """Seconds; None for `continue`. Raises ValueError."""
    if text == "continue":
        return None
    if text == "cancel":
        return 0.0
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds <= 10**9:
        raise ValueError(f"{text[:50]!r} is neither continue, nor cancel, nor a number of seconds, 0 or more")
    return seconds


class RequestReader:
    """Reads the requests of a server; one for all of its routes."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._bodies = LargeBodies(limits)

    async def read(self, request: Request) -> AssistantRequest:
        """The request; of its state no more is looked at than the token.

        Raises:
            Refused: `wrong-content-type`, `too-large`, `malformed`, `invalid-request`, `overloaded` or
                a code of values, with the field.
        """
        query = read_query(request, Query)
        if query.thread_id is not UNSET:
            check_thread_id(query.thread_id, "query.threadId")
        key = request.headers.get(IDEMPOTENCY_KEY)
        if key is not None and not _COMMAND_ID.fullmatch(key):
            message = "an idempotency key is 1 to 128 visible ASCII characters"
            raise Refused("invalid-request", message, f"header.{IDEMPOTENCY_KEY}")
        async with self._bodies.read(request) as data:
            if len(data) > _SMALL:
                return await anyio.to_thread.run_sync(self._parse, query, data, key)
            return self._parse(query, data, key)

    def _parse(self, query: Query, data: bytes, key: str | None) -> AssistantRequest:
        limits = self._limits
        try:
            rest, state = self._split(data or b"{}")
            pairs = decode_json(rest)
        except Refused as refusal:
            refusal.field = refusal.field or "body"
            raise
        # The state alone may hold what no other member may: mostly nobody looks at it.
        plain = checked(
            tuple(pair for pair in pairs if pair[0] != "state"), max_depth=limits.max_depth + 2, field="body"
        )
        if sum(name == "state" for name, _ in pairs) > 1:
            raise Refused("duplicate-key", "an object holds the same key twice", "body.state")
        body = convert(plain, Body, "body")
        if body.thread_id is not None:
            check_thread_id(body.thread_id, "body.threadId")
        context = {name: value for name, value in plain.items() if name not in _OWN}
        return AssistantRequest(query, data, body, context=context, state=state, key=key)

    def _split(self, data: bytes) -> tuple[bytes, bytes | None]:
        """The body, with as little of its state as may be; and the state."""
        limits = self._limits
        try:
            members = _members.decode(data)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            if len(data) <= 2 * limits.max_frame_bytes:
                # The strict reader knows better what is wrong, and where.
                body = read_json(data, max_depth=limits.max_depth + 2, field="body")
                if type(body) is not dict:
                    raise Refused("invalid-request", "a request's body is an object", "body") from None
            raise Refused("malformed", f"not JSON: {error}"[:200], "body") from None
        state = bytes(members["state"]) if "state" in members else None
        if len(data) - len(state or b"") > limits.max_frame_bytes:
            sizes = {name: len(bytes(value)) for name, value in members.items() if name != "state"}
            largest = max(sizes, key=sizes.__getitem__, default="")
            message = f"more than {limits.max_frame_bytes} bytes besides the state"
            raise Refused("too-large", message, f"body.{largest}"[:200].rstrip("."))
        if state is not None and len(state) > _SMALL and data.count(state) == 1:
            return data.replace(state, b"null"), state
        return data, state


def _token_in(state: bytes) -> str | None:
    try:
        posted = _posted.decode(state)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
    area = posted.threadwire
    return None if area is UNSET or area.thread is UNSET else area.thread
