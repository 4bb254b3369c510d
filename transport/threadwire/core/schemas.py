"""The protocol's shapes as JSON Schemas (2020-12), made from the types that read and write them.

What the types leave open (`ops`, the form of ids, the integers of a position) is made precise
here. A schema says what a peer should send; what a server accepts may be more lenient.
`protocol-spec/schemas` holds the output. Spec: PROTOCOL.md §14.7.
"""

from __future__ import annotations

from typing import Any, Final, TypeAlias

import msgspec

from .commands import CommandRegistry
from .frames import COMMAND_ID_PATTERN, STRATEGIES, THREAD_ID_PATTERN, ClientFrame, ServerFrame
from .operations import FORBIDDEN_KEYS, Operation
from .values import MAX_INTEGER

Schema: TypeAlias = dict[str, Any]

DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"

_FORBIDDEN: Final = {"enum": sorted(FORBIDDEN_KEYS)}

_SHARED: Final[dict[str, Schema]] = {
    "ThreadId": {"type": "string", "pattern": THREAD_ID_PATTERN},
    "CommandId": {"type": "string", "pattern": COMMAND_ID_PATTERN},
    "Hash": {
        "description": "SHA-256 of the state's RFC 8785 form. Spec: PROTOCOL.md §2.8.",
        "type": "string",
        "pattern": "^[0-9a-f]{64}$",
    },
    "Epoch": {"type": "integer", "minimum": 0, "maximum": MAX_INTEGER},
    "Sequence": {"type": "integer", "minimum": 0, "maximum": MAX_INTEGER},
    "Position": {
        "description": "A place in a thread's log. Spec: PROTOCOL.md §4.",
        "type": "object",
        "properties": {"epoch": {"$ref": "#/$defs/Epoch"}, "seq": {"$ref": "#/$defs/Sequence"}},
        "required": ["epoch", "seq"],
    },
    "Path": {
        "description": "Keys and array indexes from the root on. Spec: PROTOCOL.md §3.5.",
        "type": "array",
        "items": {
            "anyOf": [
                {"type": "string", "not": _FORBIDDEN},
                {"type": "integer", "minimum": -MAX_INTEGER, "maximum": MAX_INTEGER},
            ]
        },
    },
    "Value": {
        "description": "What a state may hold. Spec: PROTOCOL.md §2.",
        "items": {"$ref": "#/$defs/Value"},
        "additionalProperties": {"$ref": "#/$defs/Value"},
        "propertyNames": {"not": _FORBIDDEN},
    },
    "CommandBody": {
        "description": "Which types and fields there are, the agent says. Spec: PROTOCOL.md §7.6 and §7.7.",
        "type": "object",
        "properties": {"type": {"type": "string"}},
        "required": ["type"],
        "additionalProperties": {"$ref": "#/$defs/Value"},
        "propertyNames": {"not": _FORBIDDEN},
    },
    "Strategy": {"description": "Spec: PROTOCOL.md §7.4.", "enum": [*STRATEGIES, None]},
    "Since": {
        "description": "The replica's position. What names no state is answered by a snapshot.",
        "anyOf": [{"$ref": "#/$defs/Position"}, {"type": "null"}],
    },
    "Operations": {"type": "array", "items": {"$ref": "#/$defs/Operation"}},
    "Heads": {
        "type": "object",
        "propertyNames": {"$ref": "#/$defs/ThreadId"},
        "additionalProperties": {
            "type": "array",
            "prefixItems": [{"$ref": "#/$defs/Epoch"}, {"$ref": "#/$defs/Sequence"}],
            "items": False,
            "minItems": 2,
        },
    },
}
"""Definitions more precise than the types they stand for."""

_PRECISE: Final[dict[tuple[str, str], str]] = {
    ("SendCommand", "id"): "CommandId",
    ("SendCommand", "command"): "CommandBody",
    ("SendCommand", "strategy"): "Strategy",
    ("CommandState", "id"): "CommandId",
    ("Open", "since"): "Since",
    ("Open", "state"): "Value",
    ("Ping", "nonce"): "Value",
    ("Pong", "nonce"): "Value",
    ("Tool", "args"): "Value",
    ("Snapshot", "state"): "Value",
    ("Update", "ops"): "Operations",
    ("Heartbeat", "heads"): "Heads",
    ("Set", "value"): "Value",
}
"""Fields by struct → the definition they have."""

_PRECISE_NAMES: Final[dict[str, str]] = {
    "thread": "ThreadId",
    "epoch": "Epoch",
    "seq": "Sequence",
    "from": "Sequence",
    "path": "Path",
}
"""Fields of these names have these definitions in every struct, or null where they may be null."""


def frame_schemas() -> dict[str, Schema]:
    """Schemas by name: `client-frames`, `server-frames`, `operations` (JSON form) and `commands`.

    `commands` are the built-in ones; an agent's registry knows its own too. Each schema stands
    on its own, and is the same in every process.
    """
    return {
        "client-frames": _frames("A frame from a client", ClientFrame),
        "server-frames": _frames("A frame from a server", ServerFrame),
        "operations": _operations(),
        "commands": {"title": "A built-in command", **_tidy(CommandRegistry().schema())},
    }


def _frames(title: str, union: Any) -> Schema:
    schema, structs = _components(union)
    defs = {**structs, **_SHARED, **_operation_defs()}
    defs["Message"] = {
        "description": "A frame or an array of frames. Spec: PROTOCOL.md §5.2.",
        "anyOf": [*schema["anyOf"], {"type": "array", "items": schema}],
    }
    return _document(title, schema, defs, roots=("Message",))


def _operations() -> Schema:
    return _document(
        "An operation", _operation_defs()["Operation"], {**_operation_defs(), **_SHARED}, roots=()
    )


def _operation_defs() -> dict[str, Schema]:
    union, structs = _components(Operation)
    splice = structs["Splice"]["properties"]
    splice["index"] = splice["delete_count"] = {"type": "integer", "minimum": 0, "maximum": MAX_INTEGER}
    splice["items"] = {"type": "array", "items": {"$ref": "#/$defs/Value"}}
    return {**structs, "Operation": union}


def _components(union: Any) -> tuple[Schema, dict[str, Schema]]:
    """The schema of a union of structs, and of the structs by name, made precise."""
    (schema,), structs = msgspec.json.schema_components([union], ref_template="#/$defs/{name}")
    structs = {name: _tidy(struct) for name, struct in structs.items()}
    for name, struct in structs.items():
        for field, old in struct["properties"].items():
            precise = _PRECISE.get((name, field))
            if precise is None and field in _PRECISE_NAMES:
                precise = _PRECISE_NAMES[field]
            if precise is None and field == "hash" and old.get("type") != "boolean":
                precise = "Hash"
            if precise is not None:
                struct["properties"][field] = _reference(precise, old)
    return _tidy(schema), structs


def _reference(name: str, old: Schema) -> Schema:
    """A reference in the place of `old`, which keeps whether null is allowed."""
    reference = {"$ref": f"#/$defs/{name}"}
    if {"type": "null"} in old.get("anyOf", ()):
        return {"anyOf": [reference, {"type": "null"}], "default": None}
    return reference


def _document(title: str, schema: Schema, defs: dict[str, Schema], *, roots: tuple[str, ...]) -> Schema:
    """A schema with the definitions that it and `roots` lead to."""
    needed: set[str] = set()
    waiting: list[Any] = [schema, *({"$ref": f"#/$defs/{name}"} for name in roots)]
    while waiting:
        part = waiting.pop()
        if isinstance(part, list):
            waiting.extend(part)
        elif isinstance(part, dict):
            waiting.extend(part.values())
            name = str(part.get("$ref", "")).removeprefix("#/$defs/")
            if name in defs and name not in needed:
                needed.add(name)
                waiting.append(defs[name])
    return {
        "$schema": DIALECT,
        "title": title,
        **schema,
        "$defs": {name: defs[name] for name in sorted(needed)},
    }


def _tidy(schema: Any) -> Any:
    """Without what is no JSON Schema, and with descriptions on one line."""
    if isinstance(schema, list):
        return [_tidy(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    tidy = {}
    for key, value in schema.items():
        if key == "description" and isinstance(value, str):
            tidy[key] = " ".join(value.split())
        elif key != "discriminator":
            tidy[key] = _tidy(value)
    return tidy
