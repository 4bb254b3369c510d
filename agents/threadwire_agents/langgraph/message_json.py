"""Messages as they stand in the document: read back as the graph's own, and with the arguments as they came.

`partial_json`, the text of a tool call's arguments as it was streamed, is the document's alone.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Final

from langchain_core.messages import BaseMessage, RemoveMessage
from pydantic import ValidationError

from threadwire.core.operations import Json

from .serialise import CLASSES, to_json

_NEEDED: Final = {"id": ("remove",), "tool_call_id": ("tool",), "name": ("function",), "role": ("chat",)}


def message_from_json(data: Mapping[str, Json]) -> BaseMessage:
    """The message that `message_to_json` would write as `data`; `partial_json` of tool calls is left out.

    Raises:
        ValueError: naming the field, such as `tool_calls.0.name`.
    """
    if not isinstance(data, Mapping):
        raise ValueError("a message is an object")
    fields = dict(data)
    kind = fields.pop("type", None)
    message = CLASSES.get(kind) if isinstance(kind, str) else None
    if message is None:
        raise ValueError(f"type: one of {', '.join(CLASSES)}, not {str(kind)[:50]!r}")
    for name, needed in _NEEDED.items():
        if kind in needed and not isinstance(fields.get(name), str):
            raise ValueError(f"{name}: a string, in a message of type {kind}")
    if message is RemoveMessage:
        fields.pop("content", None)
    elif not isinstance(fields.get("content"), str | list):
        raise ValueError("content: a string or a list of blocks")
    for name in ("tool_calls", "invalid_tool_calls"):
        if name in fields:
            fields[name] = _calls_from_json(fields[name], name)
    try:
        return message(**fields)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise ValueError(f"{'.'.join(map(str, first['loc']))}: {first['msg']}") from None
    except Exception as error:
        raise ValueError(f"not a message of type {kind}: {error}") from error


def _calls_from_json(calls: Json, name: str) -> list[dict[str, Json]]:
    if not isinstance(calls, list):
        raise ValueError(f"{name}: a list")
    valid = name == "tool_calls"
    read = []
    for index, call in enumerate(calls):
        where = f"{name}.{index}"
        if not isinstance(call, Mapping):
            raise ValueError(f"{where}: an object")
        if not isinstance(call.get("name"), str) and (valid or call.get("name") is not None):
            raise ValueError(f"{where}.name: a string")
        if not isinstance(call.get("id"), str | None):
            raise ValueError(f"{where}.id: a string or null")
        if not isinstance(call.get("args"), dict if valid else str | None):
            raise ValueError(f"{where}.args: {'an object' if valid else 'a string or null'}")
        fields = {"id": call.get("id"), "name": call.get("name"), "args": call.get("args")}
        if not valid:
            fields["error"] = call.get("error")
        read.append(fields)
    return read


def merge_message(shown: Mapping[str, Json] | None, final: dict[str, Json]) -> dict[str, Json]:
    """`final`, with the `partial_json` that `shown` has for a tool call where it says the same arguments.

    So the text of the arguments that a client has seen growing stays as it is. Both are what
    `message_to_json` writes, `shown` with `{id, name, args: {}, partial_json}` for tool calls that
    were streamed. Neither is changed.
    """
    calls = final.get("tool_calls")
    before = shown.get("tool_calls") if shown else None
    if not calls or not isinstance(before, list):
        return final
    texts = {
        call["id"]: call["partial_json"]
        for call in reversed(before)
        if isinstance(call, dict) and isinstance(call.get("partial_json"), str) and call.get("id")
    }
    merged = []
    for index, call in enumerate(calls):
        text = texts.get(call.get("id"))
        if text is None and index < len(before) and isinstance(before[index], dict):
            # The id of a streamed call may not be known yet.
            text = None if before[index].get("id") else before[index].get("partial_json")
        merged.append({**call, "partial_json": text} if _says(text, call.get("args")) else call)
    return {**final, "tool_calls": merged}


def _says(text: object, args: Json) -> bool:
    if not isinstance(text, str):
        return False
    try:
        return _same(to_json(json.loads(text, parse_constant=_refuse)), args)
    except (ValueError, RecursionError):
        return False


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")


def _same(a: Json, b: Json) -> bool:
    """Equality of JSON values, in which true is not 1."""
    if type(a) is dict and type(b) is dict:
        return a.keys() == b.keys() and all(_same(item, b[key]) for key, item in a.items())
    if type(a) is list and type(b) is list:
        return len(a) == len(b) and all(map(_same, a, b))
    return bool(a == b) and (type(a) is bool) == (type(b) is bool)


def plain(value: Json) -> Json:
    """A copy without the `partial_json` of tool calls: what the graph's own values come to."""
    if type(value) is dict:
        return {
            key: [_without_text(call) for call in item]
            if key == "tool_calls" and type(item) is list
            else plain(item)
            for key, item in value.items()
        }
    if type(value) is list:
        return [plain(item) for item in value]
    return value


def _without_text(call: Json) -> Json:
    call = plain(call)
    if type(call) is dict:
        call.pop("partial_json", None)
    return call
