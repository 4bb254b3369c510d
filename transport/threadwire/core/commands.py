"""Commands: what clients ask of an agent, as typed structs; and the registry that reads them.

The built-in types are AssistantTransport's own (camelCase on the wire) and ours. A custom
command is a subclass of `Command` with a tag; an agent that has a handler for it accepts it.

Spec: PROTOCOL.md §7.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, ClassVar, Literal, Self, TypeAlias, dataclass_transform

import msgspec

from .errors import CommandError
from .operations import Json


@dataclass_transform(field_specifiers=(msgspec.field,))
class _CommandType(msgspec.StructMeta):
    """With a metaclass of its own, type checkers let subclasses be `frozen=True` or not (PEP 681)."""


class Command(
    msgspec.Struct, metaclass=_CommandType, kw_only=True, forbid_unknown_fields=True, tag_field="type"
):
    """The base of custom commands: `class SetTitle(threadwire.Command, tag="set-title"): title: str`.

    Unknown and wrong fields are refused with `invalid-command` and the field's name.
    """

    @classmethod
    def type_name(cls) -> str:
        """The `type` this command has on the wire."""
        tag = cls.__struct_config__.tag
        assert isinstance(tag, str)
        return tag


class TextPart(msgspec.Struct, frozen=True, tag="text", tag_field="type", rename="camel"):
    """Text of a message."""

    text: str


class ImagePart(msgspec.Struct, frozen=True, tag="image", tag_field="type", rename="camel"):
    """`image` is an https: or data: URL."""

    image: str
    filename: str | None = None


class FilePart(msgspec.Struct, frozen=True, tag="file", tag_field="type", rename="camel", omit_defaults=True):
    """`data` is base64 or a URL; `mime_type` says what it is."""

    data: str
    mime_type: str
    filename: str | None = None


class AudioSource(msgspec.Struct, frozen=True):
    """`data` is base64."""

    data: str
    format: str


class AudioPart(msgspec.Struct, frozen=True, tag="audio", tag_field="type", rename="camel"):
    """Sound in a message."""

    audio: AudioSource


class DataPart(msgspec.Struct, frozen=True, tag="data", tag_field="type", rename="camel"):
    """An application's own data in a message; `name` says what it is."""

    name: str
    data: Json


Part: TypeAlias = TextPart | ImagePart | FilePart | AudioPart | DataPart


class UserMessage(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A message as clients send it; `id` is kept if it is unused."""

    parts: tuple[Part, ...]
    role: Literal["user", "system"] = "user"
    id: str | None = None

    @property
    def text(self) -> str:
        """The text parts, one after the other."""
        return "".join(part.text for part in self.parts if isinstance(part, TextPart))


class _StockCommand(Command, kw_only=True, rename="camel", forbid_unknown_fields=False, omit_defaults=True):
    """Unknown fields are let through: the stock client may grow new ones."""


class AddMessage(_StockCommand, kw_only=True, tag="add-message"):
    """Adds a message, or puts it in the place of another one (the source) and of what came after that."""

    message: UserMessage
    parent_id: str | None = None
    source_id: str | None = None

    @classmethod
    def text(cls, text: str, *, id: str | None = None) -> Self:
        """A user's message of one text part."""
        return cls(message=UserMessage(parts=(TextPart(text),), id=id))


class AddToolResult(_StockCommand, kw_only=True, tag="add-tool-result"):
    """What came of a tool call that a client executed."""

    tool_call_id: str
    tool_name: str | None = None
    result: Json
    is_error: bool = False
    artifact: Json = None
    model_content: Json = None


class Resume(_StockCommand, kw_only=True, tag="resume"):
    """Answers open interrupts by id."""

    answers: dict[str, Json]


class Regenerate(_StockCommand, kw_only=True, tag="regenerate"):
    """Runs again from after a message, the parent."""

    parent_id: str | None


class SwitchBranch(_StockCommand, kw_only=True, tag="switch-branch"):
    """Makes the branch that holds the message current."""

    message_id: str


BUILT_IN: tuple[type[Command], ...] = (AddMessage, AddToolResult, Resume, Regenerate, SwitchBranch)

_FIELD = re.compile(r" - at `(?:key in )?\$\.?(.*)`$", re.DOTALL)
_NAMED = re.compile(r"^Object (?:missing required|contains unknown) field `(.*)`")


def convert_error(error: msgspec.ValidationError, prefix: str) -> tuple[str, str]:
    """(message, field path under `prefix`) of what msgspec found wrong."""
    text = str(error)
    at = _FIELD.search(text)
    where = at.group(1) if at else ""
    message = text[: at.start()] if at else text
    named = _NAMED.match(message)
    if named:
        where = f"{where}.{named.group(1)}" if where else named.group(1)
    where = where.replace("[...]", ".*").replace("[", ".").replace("]", "").lstrip(".")
    field = ".".join(part for part in (prefix, where) if part)
    return message[:300], field[:200]


class CommandRegistry:
    """The command types one agent accepts, by wire name."""

    _BUILT_IN: ClassVar[dict[str, type[Command]]] = {kind.type_name(): kind for kind in BUILT_IN}

    def __init__(self, custom: Iterable[type[Command]] = ()) -> None:
        self._types = dict(self._BUILT_IN)
        for kind in custom:
            self.add(kind)

    def add(self, kind: type[Command]) -> None:
        """Raises ValueError where the name belongs to another type."""
        name = kind.type_name()
        if self._types.setdefault(name, kind) is not kind:
            raise ValueError(f"the command type {name!r} is taken by {self._types[name].__qualname__}")

    @property
    def types(self) -> tuple[type[Command], ...]:
        return tuple(self._types.values())

    def kind(self, name: Json) -> type[Command] | None:
        """The type of that wire name, if it is one that is accepted."""
        return self._types.get(name) if type(name) is str else None

    def read(self, body: Json, *, field: str = "command") -> Command:
        """The typed command of a checked JSON object.

        Raises:
            CommandError: `unknown-command` or `invalid-command`, naming the field.
        """
        if type(body) is not dict:
            raise CommandError("invalid-command", "a command is an object", field)
        name = body.get("type")
        if type(name) is not str:
            raise CommandError("invalid-command", "a command has a type, a string", f"{field}.type")
        kind = self._types.get(name)
        if kind is None:
            raise CommandError("unknown-command", f"no such command: {name[:100]!r}", f"{field}.type")
        try:
            return msgspec.convert(body, kind)
        except msgspec.ValidationError as error:
            message, where = convert_error(error, field)
            raise CommandError("invalid-command", message, where) from None

    def schema(self) -> dict[str, Any]:
        """The JSON Schema of all accepted commands."""
        (schema,), components = msgspec.json.schema_components(
            [msgspec.defstruct("_", [])] if not self._types else [_union(self.types)],
            ref_template="#/$defs/{name}",
        )
        return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema, "$defs": components}


def _union(types: tuple[type[Command], ...]) -> Any:
    union: Any = types[0]
    for kind in types[1:]:
        union = union | kind
    return union
