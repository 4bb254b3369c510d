"""Any value of a graph's state as JSON of the document; LangChain messages in particular.

Knows nothing of runs, streams or the document itself. Above it are the parts that put values there;
`message_json` takes messages from there again.

What is shown while a graph runs has to equal what is shown after a restart, when the same state
comes out of the checkpointer. So each kind is written in a form that LangGraph's own serialiser
(`JsonPlusSerializer`) doesn't change: a tuple is a list, an exception its `repr`, a lone surrogate a
`?`. These can't agree, because the checkpointer loses what was there:

* a message (or another model) in a field of a Pydantic model that is declared with a base class,
  such as `list[BaseMessage]`: it comes back as the base class, so without its `tool_calls`;
  declare `list[AnyMessage]`;
* NumPy arrays of objects and of records;
* two keys of one dict that become the same, such as a date and its ISO text;
* a field of a Pydantic model whose serializer, called on what it returned, returns another thing;
* an object of a class that is not found again by its module and name, or is not allowed by
  `LANGGRAPH_STRICT_MSGPACK`, comes back as what it was stored as. That is the same JSON for Pydantic
  models, dataclasses, NamedTuples and enums; but a secret has lost the type that hid it, a message
  in such a model, or of such a class, is an object with all its fields, and a set of such objects is
  not sorted.
"""

from __future__ import annotations

import base64
import dataclasses
import json
import math
import re
import uuid
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Set
from datetime import date, datetime, time, timedelta, tzinfo
from decimal import Decimal
from enum import Enum
from fractions import Fraction
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from pathlib import PurePath
from typing import Any, Final, NamedTuple, TypeAlias

import msgspec
from langchain_core.messages import (
    AIMessage,
    AIMessageChunk,
    BaseMessage,
    ChatMessage,
    FunctionMessage,
    HumanMessage,
    HumanMessageChunk,
    RemoveMessage,
    SystemMessage,
    ToolMessage,
    ToolMessageChunk,
)
from langgraph.types import Send
from pydantic import BaseModel, PlainSerializer, RootModel, WrapSerializer

from threadwire.core.operations import FORBIDDEN_KEYS, Json
from threadwire.core.values import MAX_INTEGER

MAX_DEPTH: Final = 80
"""How many containers may nest. The document takes 100, and values go in some way down."""

CUT: Final = "…"
"""Stands for what is nested too deep, and for a container inside itself."""

SECRET: Final = "**********"

_REPR_LENGTH: Final = 200
_ADDRESS: Final = re.compile(r" at 0x[0-9A-Fa-f]+")


def to_json(value: object) -> Json:
    """A fresh JSON value that the document takes, of anything; never raises.

    None, bool, str, list and dict are what they are. Then, by the type that a value has when it is
    met, at any depth:

    ========================================== ===================================================
    messages                                    `message_to_json`
    datetime, date, time                        ISO 8601
    timedelta                                   seconds
    UUID, Decimal, Fraction, complex, paths,    their text
    addresses, time zones, URLs, patterns
    Enum                                        its value
    Pydantic models, dataclasses, NamedTuples,  an object of the fields (excluded ones left out,
    msgspec Structs, attrs classes, Send        computed ones and extras included)
    tuple, deque, range, other collections      a list
    set, frozenset                              a sorted list: null, booleans, numbers, texts, others
    NumPy scalars and arrays                    `tolist()`
    bytes, bytearray, memoryview                `{"$bytes": "<base64>"}`
    NaN and infinities                          null
    integers beyond ±(2^53-1)                   decimal text
    exceptions                                  their `repr`, as the checkpointer has it
    secrets                                     `**********`
    anything else                               its `repr` without addresses, cut at 200 characters
    ========================================== ===================================================

    A NamedTuple inside a Pydantic model, messages included, is a list, as Pydantic dumps it. A set
    with members that the checkpointer turns into lists (tuples) keeps its order.

    Keys of a dict that are no strings get the text that `json.dumps` would give them, or their
    `str`. A key that the document forbids gets a `$` before it: `$__proto__`. Where such a key is
    taken, it gets a number: `1#2`, `1#3`. Keys that are strings are never changed for another's sake.
    """
    return _Conversion().convert(value, MAX_DEPTH)


def message_to_json(message: BaseMessage) -> dict[str, Json]:
    """A message as `{type, id?, content, name?, ...}`.

    `type` is human, ai, system, tool, remove, function, chat, or what a class of one's own says; a
    chunk has the type of the whole message. `name`, `tool_calls`, `invalid_tool_calls`,
    `usage_metadata`, `response_metadata` and `additional_kwargs` are left out where empty,
    `artifact` where None, `example` where false. A tool message has `tool_call_id` and `status`
    always. What a class of one's own adds is kept.
    """
    return _message(_fields_of(message), None, MAX_DEPTH)


def exception_to_json(error: BaseException) -> dict[str, str]:
    """`{"type", "message"}` of what a task raised; for exceptions in a state see `to_json`."""
    try:
        message = str(error)
    except Exception:
        message = ""
    return {"type": type(error).__qualname__, "message": _text(message)}


# --- messages

CLASSES: Final[dict[str, type[BaseMessage]]] = {
    "human": HumanMessage,
    "ai": AIMessage,
    "system": SystemMessage,
    "tool": ToolMessage,
    "remove": RemoveMessage,
    "function": FunctionMessage,
    "chat": ChatMessage,
}
_TYPES: Final = {
    **{name: name for name in CLASSES},
    "AIMessageChunk": "ai",
    "HumanMessageChunk": "human",
    "SystemMessageChunk": "system",
    "ToolMessageChunk": "tool",
    "FunctionMessageChunk": "function",
    "ChatMessageChunk": "chat",
}
_PLAIN: Final = frozenset({*CLASSES.values(), AIMessageChunk, HumanMessageChunk, ToolMessageChunk})
"""Classes that have no fields but those that are known here."""

_COMMON: Final = frozenset({"type", "id", "content", "name", "additional_kwargs", "response_metadata"})
_CALLS: Final = {"tool_calls": "tool_call", "invalid_tool_calls": "invalid_tool_call"}
_IF_ANY: Final = frozenset({*_CALLS, "usage_metadata", "example"})
_STREAMED: Final = frozenset({"tool_call_chunks", "chunk_position"})
"""Of chunks; what they say is in `tool_calls` too."""
_KNOWN: Final = frozenset({"tool_call_id", "artifact", "status", "role", "usage_metadata", "example"})


def _fields_of(message: BaseMessage) -> Mapping[str, Any]:
    if type(message) in _PLAIN and not message.__pydantic_extra__:
        return message.__dict__
    return _fields(message)


def _message(fields: Mapping[str, Any], conversion: _Conversion | None, depth: int) -> dict[str, Json]:
    """A message by its fields, or by what Pydantic dumped of it; `conversion` is inside of it."""
    # This runs for every message of a superstep: plain text is taken here, the rest handed on.
    kind = fields["type"]
    result: dict[str, Json] = {"type": _TYPES.get(kind) or to_json(kind)}
    if (identity := fields["id"]) is not None:
        result["id"] = identity if type(identity) is str and identity.isascii() else to_json(identity)
    content = fields.get("content")
    if type(content) is str:
        result["content"] = content if content.isascii() else _text(content)
    else:
        conversion = conversion or _Conversion(inside=True)
        result["content"] = conversion.convert(content, depth - 1)
    others: dict[str, Any] | None = None
    if len(fields) > len(_COMMON):
        for name, value in fields.items():
            if name in _COMMON or name in _STREAMED or (not value and name in _IF_ANY):
                continue
            if name in _CALLS and type(value) is list:
                conversion = conversion or _Conversion(inside=True)
                result[name] = [_call(call, _CALLS[name], conversion, depth - 2) for call in value]
            elif name not in _KNOWN:
                others = others or {}
                others[name] = value
            elif type(value) is str and value.isascii():
                result[name] = value
            elif value is not None or name != "artifact":
                conversion = conversion or _Conversion(inside=True)
                result[name] = conversion.convert(value, depth - 1)
    if value := fields["name"]:
        result["name"] = to_json(value)
    if value := fields["additional_kwargs"]:
        conversion = conversion or _Conversion(inside=True)
        result["additional_kwargs"] = conversion.convert(value, depth - 1)
    if value := fields["response_metadata"]:
        conversion = conversion or _Conversion(inside=True)
        result["response_metadata"] = conversion.convert(value, depth - 1)
    if others is not None:
        conversion = conversion or _Conversion(inside=True)
        result = {**conversion.mapping(others, depth), **result}
    return result


def _call(call: Any, kind: str, conversion: _Conversion, depth: int) -> Json:
    """`kind` is said of every call: Pydantic adds it when it makes the message again."""
    result = conversion.convert(call, depth)
    if type(result) is dict:
        result["type"] = kind
    return result


# --- anything

_Leaf: TypeAlias = Callable[[Any], Json]
_Branch: TypeAlias = Callable[["_Conversion", Any, int], Json]


class _Conversion:
    """One walk through a value."""

    __slots__ = ("inside", "open")

    def __init__(self, *, inside: bool = False) -> None:
        self.open: set[int] = set()
        """The containers that are being walked through, by `id`."""
        self.inside = inside
        """Whether what is met is in a Pydantic model, which dumps it before it is stored."""

    def convert(self, value: Any, depth: int) -> Json:
        kind: Any = type(value)
        if kind is str:
            return value if value.isascii() else _text(value)
        if value is None or kind is bool:
            return value
        if kind is int:
            return value if -MAX_INTEGER <= value <= MAX_INTEGER else _large(value)
        if kind is float:
            return value + 0.0 if math.isfinite(value) else None  # -0.0 becomes 0.0
        try:
            if kind is dict or kind is list:
                way = None
            else:
                leaf, way = _ways(kind)
                if leaf is not None:
                    return leaf(value)
            if depth <= 0 or id(value) in self.open:
                return CUT
            self.open.add(id(value))
            try:
                if way is not None:
                    return way(self, value, depth)
                # A copy of a dict, because a node's thread may be writing to it.
                return self.items(value, depth) if kind is list else self.mapping(value.copy(), depth)
            finally:
                self.open.discard(id(value))
        except Exception:
            # Code of the value's own class failed.
            return _describe(value)

    def items(self, values: Iterable[Any], depth: int) -> list[Json]:
        depth -= 1
        return [self.convert(item, depth) for item in values]

    def mapping(self, values: Mapping[Any, Any], depth: int) -> dict[str, Json]:
        if self.inside and "response_metadata" in values and values.keys() >= _COMMON:
            # What Pydantic dumps of a message in a field whose type doesn't bring it back.
            return _message(values, self, depth)
        depth -= 1
        result: dict[str, Json] = {}
        changed: list[tuple[str, Any]] = []
        for key, item in values.items():
            if type(key) is str and key.isascii() and key not in FORBIDDEN_KEYS:
                if type(item) is str and item.isascii():
                    result[key] = item
                else:
                    result[key] = self.convert(item, depth)
                continue
            name = _key(key)
            if name is key:
                result[name] = self.convert(item, depth)
            else:
                changed.append((name, item))
        for name, item in changed:
            free, number = name, 1
            while free in result:
                number += 1
                free = f"{name}#{number}"
            result[free] = self.convert(item, depth)
        return result


def _key(key: Any) -> str:
    """The name of a key in JSON: the same object where it is a str that may stay as it is."""
    if type(key) is str:
        name = key if key.isascii() else _text(key)
    else:
        try:
            known = _known_key(key)
            name = _text(known if type(known) is str else _CONSTANTS.get(repr(known), str(known)))
        except Exception:
            name = _describe(key)
    return f"${name}" if name in FORBIDDEN_KEYS else name


_CONSTANTS: Final = {
    "None": "null",
    "True": "true",
    "False": "false",
    "nan": "NaN",
    "inf": "Infinity",
    "-inf": "-Infinity",
}
"""What `json.dumps` writes for keys, by their `repr`."""


def _known_key(key: Any) -> Any:
    """A key as the checkpointer gives it back."""
    if isinstance(key, Enum):
        return _known_key(key.value)
    if isinstance(key, str):
        return str.__str__(key)
    if isinstance(key, bool):
        return key
    if isinstance(key, int):
        return int.__int__(key)
    if isinstance(key, float):
        return float.__float__(key)
    if isinstance(key, datetime | date | time):
        return key.isoformat()
    if isinstance(key, uuid.UUID):
        return str(key)
    if isinstance(key, tuple):
        return tuple([_known_key(item) for item in key])
    if key is None or isinstance(key, bytes):
        return key
    kind: Any = type(key)
    leaf, _ = _ways(kind)
    return _describe(key) if leaf is None else str(leaf(key))


def _text(text: str) -> str:
    """The same text, with `?` for each lone surrogate, as the checkpointer writes it."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode(errors="replace").decode()
    return text


def _large(number: int) -> str:
    try:
        return str(number)
    except ValueError:
        # Python refuses to write thousands of digits.
        return f"<an integer of {number.bit_length()} bits>"


def _describe(value: Any) -> str:
    try:
        text = repr(value)
    except Exception:
        text = f"<{type(value).__module__}.{type(value).__qualname__} object>"
    text = _ADDRESS.sub("", text)
    return _text(text if len(text) <= _REPR_LENGTH else text[: _REPR_LENGTH - 1] + CUT)


def _bytes(value: bytes | bytearray | memoryview) -> Json:
    return {"$bytes": base64.b64encode(bytes(value)).decode()}


def _number(value: int | float) -> Json:
    """Of a subclass."""
    return to_json(int.__int__(value) if isinstance(value, int) else float.__float__(value))


def _exception(error: BaseException) -> str:
    # With addresses and in full: what comes back from the checkpointer is this very text.
    try:
        return _text(repr(error))
    except Exception:
        return f"<{type(error).__qualname__}>"


@lru_cache(maxsize=1024)
def _ways(kind: Any) -> tuple[_Leaf | None, _Branch]:
    """What writes a value of this type if it holds no others, and if it may hold others."""
    return _leaf(kind), _branch(kind)


def _leaf(kind: type) -> _Leaf | None:
    if issubclass(kind, type):
        return _describe
    if issubclass(kind, Enum) or issubclass(kind, BaseModel):
        return None
    if issubclass(kind, str):
        return lambda value: _text(str.__str__(value))
    if issubclass(kind, int | float):
        return _number
    if issubclass(kind, bytes | bytearray | memoryview):
        return _bytes
    if hasattr(kind, "get_secret_value"):
        return lambda value: SECRET
    if issubclass(kind, datetime | date | time):
        return lambda value: _text(value.isoformat())
    if issubclass(kind, timedelta):
        return lambda value: value.total_seconds() + 0.0
    if issubclass(kind, _PRINTED) or hasattr(kind, "unicode_string"):
        return lambda value: _text(str(value))
    if issubclass(kind, BaseException) and not dataclasses.is_dataclass(kind):
        return _exception
    return None


_PRINTED: Final = (
    uuid.UUID,
    Decimal,
    Fraction,
    complex,
    PurePath,
    IPv4Address,
    IPv6Address,
    IPv4Network,
    IPv6Network,
    tzinfo,
)


def _branch(kind: type) -> _Branch:
    # In the order in which the checkpointer asks.
    for test, branch in _BRANCHES:
        if test(kind):
            return branch
    return lambda conversion, value, depth: _describe(value)


def _model(conversion: _Conversion, value: BaseModel, depth: int) -> Json:
    before, conversion.inside = conversion.inside, True
    try:
        if isinstance(value, BaseMessage):
            return _message(_fields_of(value), conversion, depth)
        if isinstance(value, RootModel):
            return conversion.convert(value.root, depth - 1)
        if _plan(type(value)).whole:
            return conversion.convert(value.model_dump(warnings=False), depth - 1)
        return conversion.mapping(_fields(value), depth)
    finally:
        conversion.inside = before


def _fields(model: BaseModel) -> dict[str, Any]:
    plan = _plan(type(model))
    held = model.__dict__
    fields = {name: held[name] for name in plan.names if name in held}
    if model.__pydantic_extra__:
        fields.update(model.__pydantic_extra__)
    if plan.serialised:
        fields.update(model.model_dump(include=set(plan.serialised), warnings=False))
    for name in plan.computed:
        fields[name] = getattr(model, name)
    return fields


class _Plan(NamedTuple):
    """How a class of Pydantic models is written."""

    names: tuple[str, ...]
    """Fields that are written by what they hold."""
    serialised: frozenset[str]
    """Fields that have a serializer of their own."""
    computed: tuple[str, ...]
    whole: bool
    """Whether the class says itself how it is dumped."""


@lru_cache(maxsize=1024)
def _plan(kind: type[BaseModel]) -> _Plan:
    decorators = kind.__pydantic_decorators__
    shown = [name for name, field in kind.model_fields.items() if not field.exclude]
    serialised = {
        name
        for name in shown
        for item in kind.model_fields[name].metadata
        if isinstance(item, PlainSerializer | WrapSerializer)
    }
    for decorator in decorators.field_serializers.values():
        named = decorator.info.fields
        serialised.update(shown if "*" in named else [name for name in named if name in shown])
    return _Plan(
        tuple([name for name in shown if name not in serialised]),
        frozenset(serialised),
        tuple(decorators.computed_fields),
        whole=bool(decorators.model_serializers),
    )


def _sorted(conversion: _Conversion, values: Set[Any], depth: int) -> Json:
    items = conversion.items(values, depth)
    if all(_stays_hashable(value, conversion.inside) for value in values):
        items.sort(key=_rank)
    return items


def _rank(item: Json) -> tuple[int, Any]:
    if item is None:
        return 0, 0
    if type(item) is bool:
        return 1, item
    if type(item) is int or type(item) is float:
        return 2, item
    if type(item) is str:
        return 3, item
    return 4, json.dumps(item, sort_keys=True)


def _stays_hashable(value: Any, inside: bool) -> bool:
    """Whether the checkpointer gives it back so that a set can hold it."""
    if isinstance(value, Enum):
        return _stays_hashable(value.value, inside)
    if isinstance(value, frozenset):
        return all(_stays_hashable(item, inside) for item in value)
    if isinstance(value, tuple):
        named = hasattr(value, "_asdict") and not inside
        return named and all(_stays_hashable(item, False) for item in value)
    if isinstance(value, BaseModel):
        return not inside and all(_stays_hashable(item, True) for item in value.__dict__.values())
    if dataclasses.is_dataclass(value):
        return not inside and all(
            _stays_hashable(getattr(value, field.name), inside) for field in dataclasses.fields(value)
        )
    return True


def _named(names: Callable[[Any], Iterable[str]]) -> _Branch:
    """Writes an object of the attributes that `names` gives."""

    def branch(conversion: _Conversion, value: Any, depth: int) -> Json:
        return conversion.mapping({name: getattr(value, name) for name in names(value)}, depth)

    return branch


def _called(method: str) -> _Branch:
    """Writes what a method returns in the value's place."""

    def branch(conversion: _Conversion, value: Any, depth: int) -> Json:
        return conversion.convert(getattr(value, method)(), depth - 1)

    return branch


def _listed(conversion: _Conversion, value: Any, depth: int) -> Json:
    """Of NumPy's scalars and arrays, and what is like them."""
    plain = value.tolist()
    # A number wider than Python's stays what it is.
    return conversion.convert(float(plain) if type(plain) is type(value) else plain, depth - 1)


def _has(method: str) -> Callable[[type], bool]:
    return lambda kind: callable(getattr(kind, method, None))


def _is(*kinds: type) -> Callable[[type], bool]:
    return lambda kind: issubclass(kind, kinds)


def _namedtuple(conversion: _Conversion, value: Any, depth: int) -> Json:
    return conversion.items(value, depth) if conversion.inside else conversion.mapping(value._asdict(), depth)


def _send_fields(send: Send) -> list[str]:
    return ["node", "arg", *(["timeout"] if getattr(send, "timeout", None) is not None else [])]


_BRANCHES: Final[list[tuple[Callable[[type], bool], _Branch]]] = [
    (_is(BaseModel), _model),
    (_is(Enum), lambda c, value, depth: c.convert(value.value, depth - 1)),
    (_is(dict), lambda c, value, depth: c.mapping(dict(value), depth)),
    (_is(list), lambda c, value, depth: c.items(value, depth)),
    (_has("model_dump"), _called("model_dump")),
    (_has("dict"), _called("dict")),  # Pydantic's first version, and items of LangGraph's store
    (_has("_asdict"), _namedtuple),
    (_is(tuple), lambda c, value, depth: c.items(value, depth)),
    (_is(set, frozenset), _sorted),
    (_is(Send), _named(_send_fields)),
    (dataclasses.is_dataclass, _named(lambda value: [field.name for field in dataclasses.fields(value)])),
    (_is(msgspec.Struct), _named(lambda value: value.__struct_fields__)),
    (
        lambda kind: hasattr(kind, "__attrs_attrs__"),
        _named(lambda value: [field.name for field in value.__attrs_attrs__]),
    ),
    (_is(re.Pattern), lambda c, value, depth: c.convert(value.pattern, depth)),
    (_has("tolist"), _listed),
    (_is(Mapping), lambda c, value, depth: c.mapping(dict(value), depth)),
    (
        lambda kind: issubclass(kind, Collection) and not issubclass(kind, Iterator),
        lambda c, value, depth: c.items(value, depth),
    ),
]
