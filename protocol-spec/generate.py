"""Writes the schemas, `asyncapi.json` and `openapi.json` beside this file, from the implementation's types.

    python protocol-spec/generate.py

A test compares what this makes with what is committed, byte for byte.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from threadwire.core.frames import PROTOCOL_VERSION, SUBPROTOCOLS
from threadwire.core.schemas import frame_schemas
from threadwire.endpoints.openapi import openapi

HERE = Path(__file__).parent
SIDES = {"client": "client-frames", "server": "server-frames"}


def files() -> dict[str, str]:
    """Path relative to this directory → text."""
    schemas = frame_schemas()
    documents = {f"schemas/{name}.json": schema for name, schema in schemas.items()}
    documents["asyncapi.json"] = asyncapi(schemas)
    documents["openapi.json"] = openapi()
    return {
        path: json.dumps(document, indent=2, ensure_ascii=False) + "\n"
        for path, document in documents.items()
    }


def asyncapi(schemas: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """The WebSocket as an AsyncAPI 3.0 document, seen from the server."""
    messages = {side: _messages(side, schemas[file], file) for side, file in SIDES.items()}
    every = {name: message for side in messages.values() for name, message in side.items()}
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Threadwire",
            "version": f"{PROTOCOL_VERSION}.0.0",
            "description": "Threads of agents as live JSON documents. PROTOCOL.md is the authority.",
            "license": {"name": "MIT"},
        },
        "defaultContentType": "application/json",
        "servers": {
            "local": {
                "host": "127.0.0.1:8000",
                "protocol": "ws",
                "description": "A server started with its defaults.",
            }
        },
        "channels": {
            "connection": {
                "address": "/ws",
                "title": "One connection",
                "description": (
                    "Carries any number of threads. A WebSocket message is one of these messages, or an "
                    "array of them. With threadwire.v1.msgpack the same frames are MessagePack."
                ),
                "messages": {name: {"$ref": f"#/components/messages/{name}"} for name in every},
                "bindings": {
                    "ws": {
                        "method": "GET",
                        "headers": {
                            "type": "object",
                            "properties": {
                                "Sec-WebSocket-Protocol": {"type": "string", "enum": list(SUBPROTOCOLS)}
                            },
                        },
                        "bindingVersion": "0.1.0",
                    }
                },
            }
        },
        "operations": {
            "receiveFrame": _operation("receive", "What clients send.", messages["client"]),
            "sendFrame": _operation("send", "What the server sends.", messages["server"]),
        },
        "components": {"messages": every},
    }


def _messages(side: str, schema: dict[str, Any], file: str) -> dict[str, Any]:
    messages = {}
    for reference in schema["anyOf"]:
        definition = reference["$ref"].removeprefix("#/$defs/")
        struct = schema["$defs"][definition]
        (tag,) = struct["properties"]["type"]["enum"]
        message = {"name": tag, "title": f"{tag}, from the {side}", "contentType": "application/json"}
        if "description" in struct:
            message["summary"] = struct["description"]
        messages[f"{side}-{tag}"] = {
            **message,
            "payload": {"$ref": f"schemas/{file}.json#/$defs/{definition}"},
        }
    return messages


def _operation(action: str, summary: str, messages: dict[str, Any]) -> dict[str, Any]:
    return {
        "action": action,
        "summary": summary,
        "channel": {"$ref": "#/channels/connection"},
        "messages": [{"$ref": f"#/channels/connection/messages/{name}"} for name in messages],
    }


if __name__ == "__main__":
    for path, text in files().items():
        (HERE / path).parent.mkdir(exist_ok=True)
        (HERE / path).write_text(text, encoding="utf-8")
