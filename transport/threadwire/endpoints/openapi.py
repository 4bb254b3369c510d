"""`GET /openapi.json`: all HTTP routes as an OpenAPI 3.1 document, made from the types behind them.

`protocol-spec/openapi.json` holds the output. Spec: PROTOCOL.md §14.15.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from ..core.errors import ErrorInfo
from ..core.frames import COMMAND_ID_PATTERN, PROTOCOL_VERSION, THREAD_ID_PATTERN, Limits
from ..core.values import MAX_INTEGER
from ..engine.store import ThreadPage, ThreadRecord
from .assistant import Cancelled, InitialState
from .assistant_request import IDEMPOTENCY_KEY
from .assistant_stream import ENCODERS, REPLAY_HEADER, THREAD_HEADER
from .chat_formats import FORMATS
from .responses import Document
from .threads import History, NewThread, State, ThreadChange

Schema = dict[str, Any]

PATH: Final = "/openapi.json"


class Failure(msgspec.Struct, frozen=True):
    """The body of every response of 400 or more. Spec: PROTOCOL.md §14.2."""

    error: ErrorInfo


class Health(msgspec.Struct, frozen=True):
    """The server is well."""

    status: str


_TYPES: Final = (
    ThreadRecord,
    ThreadPage,
    NewThread,
    ThreadChange,
    State,
    History,
    InitialState,
    Cancelled,
    Failure,
    Health,
)

_SEQ: Final[Schema] = {"type": "integer", "minimum": 0, "maximum": MAX_INTEGER}
_THREAD_ID: Final[Schema] = {"type": "string", "pattern": THREAD_ID_PATTERN}
_NULLABLE_THREAD_ID: Final[Schema] = {"anyOf": [_THREAD_ID, {"type": "null"}]}
_NULLABLE_TEXT: Final[Schema] = {"type": ["string", "null"]}

_COMMAND: Final[Schema] = {
    "description": "One of what `GET /schema` says that the agent accepts, and an id of the client's choice.",
    "type": "object",
    "properties": {"type": {"type": "string"}, "id": {"type": "string", "pattern": COMMAND_ID_PATTERN}},
    "required": ["type"],
}
_ASSISTANT: Final[Schema] = {
    "description": "Members besides these are the context of the run. Spec: PROTOCOL.md §14.9.",
    "type": "object",
    "properties": {
        "commands": {"type": "array", "items": _COMMAND, "maxItems": Limits().max_frames},
        "threadId": _NULLABLE_THREAD_ID,
        "state": {"description": "What the client has; a new thread may begin with it."},
        "parentId": _NULLABLE_TEXT,
    },
    "required": ["commands"],
}
_CHAT: Final[Schema] = {
    "description": "Members besides these are the context of the run. Spec: PROTOCOL.md §14.16.",
    "type": "object",
    "properties": {
        "messages": {
            "type": "array",
            "minItems": 1,
            "items": {
                "type": "object",
                "properties": {
                    "role": {"enum": ["system", "user", "assistant", "tool"]},
                    "content": {
                        "anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "object"}}]
                    },
                    "id": _NULLABLE_TEXT,
                    "unstable_id": _NULLABLE_TEXT,
                },
                "required": ["role", "content"],
            },
        },
        "threadId": _NULLABLE_THREAD_ID,
        "parentId": _NULLABLE_TEXT,
        "unstable_assistantMessageId": _NULLABLE_TEXT,
        "state": {"description": "It may name an anonymous thread."},
    },
    "required": ["messages"],
}
_ABOUT_A_RUN: Final[Schema] = {
    "type": "object",
    "properties": {
        "threadId": _NULLABLE_THREAD_ID,
        "runId": _NULLABLE_TEXT,
        "state": {"description": "What the client has; it may name an anonymous thread."},
    },
}


def routes() -> list[BaseRoute]:
    document: Document | None = None

    async def openapi_json(request: Request) -> Response:
        nonlocal document
        if document is None:
            document = Document(msgspec.json.encode(openapi()), "application/json")
        return document.response(request.headers)

    return [Route(PATH, openapi_json)]


def openapi() -> Schema:
    """The document."""
    _, components = msgspec.json.schema_components(_TYPES, ref_template="#/components/schemas/{name}")
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Threadwire",
            "version": f"{PROTOCOL_VERSION}.0.0",
            "description": "Threads of agents as live JSON documents. PROTOCOL.md is the authority.",
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        "servers": [{"url": "http://127.0.0.1:8000", "description": "A server started with its defaults."}],
        "paths": {**_threads(), **_assistant(), **_server()},
        "components": {
            "schemas": components,
            "responses": {
                "Refused": _answer("What is wrong with the request.", "Failure"),
                "Unavailable": _answer("It may work later.", "Failure"),
            },
        },
    }


# the routes


def _threads() -> Schema:
    record = _answer("The thread's record.", "ThreadRecord")
    made = {**record, "headers": {"Location": _header("Where the record is.")}}
    id = _parameter("path", "id", _THREAD_ID, "The thread's id, or another name of it.")
    page = [
        _parameter(
            "query", "limit", {"type": "integer", "minimum": 1, "maximum": 200, "default": 50}, "How many."
        ),
        _parameter("query", "cursor", {"type": "string"}, "Of the page before."),
        _parameter("query", "archived", {"enum": ["exclude", "include", "only"]}, "Which of them."),
        _parameter("query", "agent", {"type": "string"}, "Only those of this agent."),
    ]
    slice_ = [
        _parameter("query", "after", _SEQ, "The updates with a larger seq."),
        _parameter(
            "query", "limit", {"type": "integer", "minimum": 1, "maximum": 1000, "default": 100}, "How many."
        ),
    ]
    return {
        "/threads": {
            "get": _operation(
                "listThreads", "Lists threads.", {"200": _answer("A page.", "ThreadPage")}, page
            ),
            "post": _operation(
                "createThread", "Makes a thread.", {"201": made}, body=_ref("NewThread"), optional=True
            ),
        },
        "/threads/{id}": {
            "parameters": [id],
            "get": _operation("getThread", "Describes a thread.", {"200": record}),
            "patch": _operation(
                "changeThread",
                "Changes its record.",
                {"200": record},
                body=_ref("ThreadChange"),
                optional=True,
            ),
            "delete": _operation("deleteThread", "Removes all there is of it.", {"204": _nothing("Done.")}),
        },
        "/threads/{id}/archive": {
            "parameters": [id],
            "post": _operation("archiveThread", "Archives it.", {"200": record}),
        },
        "/threads/{id}/unarchive": {
            "parameters": [id],
            "post": _operation("unarchiveThread", "Takes it out of the archive.", {"200": record}),
        },
        "/threads/{id}/title": {
            "parameters": [id],
            "post": _operation("titleThread", "Has its agent title it.", {"200": record}),
        },
        "/threads/{id}/state": {
            "parameters": [id],
            "get": _operation(
                "getState", "Its state.", {"200": _answer("The state and its position.", "State")}
            ),
        },
        "/threads/{id}/history": {
            "parameters": [id],
            "get": _operation(
                "getHistory", "Its log.", {"200": _answer("Updates, in order.", "History")}, slice_
            ),
        },
    }


def _assistant() -> Schema:
    format = _parameter(
        "query", "format", {"enum": list(FORMATS), "default": "data-stream"}, "The stream's encoding."
    )
    protocol = _parameter(
        "query", "protocol", {"enum": list(ENCODERS), "default": "data-stream"}, "The stream's encoding."
    )
    absence = _parameter(
        "query",
        "on_disconnect",
        {"anyOf": [{"enum": ["continue", "cancel"]}, {"type": "number", "minimum": 0, "maximum": 1e9}]},
        "What becomes of the run when nobody is there to see it: seconds that it goes on, or a word.",
    )
    key = _parameter(
        "header",
        IDEMPOTENCY_KEY,
        {"type": "string", "pattern": COMMAND_ID_PATTERN},
        "Makes a repeated request count once.",
    )
    thread = _parameter("query", "threadId", _THREAD_ID, "As in the body, and goes before that.")
    operations = {
        "assistant": (
            "Gives commands to a thread, and streams its state to the end of the run.",
            {"200": _stream()},
            [protocol, thread, absence, key],
            _ASSISTANT,
        ),
        "resume": (
            "Streams the state to the end of the run that goes on.",
            {"200": _stream({REPLAY_HEADER: _header("Bytes that tell what was before.", "integer")})},
            [protocol, thread],
            _ABOUT_A_RUN,
        ),
        "initial-state": (
            "Tells of the run that goes on.",
            {"200": _answer("The run and the state.", "InitialState"), "204": _nothing("There is none.")},
            [thread],
            _ABOUT_A_RUN,
        ),
        "chat": (
            "Answers a conversation, and streams the answer's parts.",
            {"200": _stream()},
            [format, absence],
            _CHAT,
        ),
        "cancel": (
            "Stops the run.",
            {"200": _answer("The run as it ended.", "Cancelled")},
            [thread],
            _ABOUT_A_RUN,
        ),
    }
    agent = _parameter("path", "agent", {"type": "string", "minLength": 1}, "The agent's name.")
    paths: Schema = {}
    for name, (summary, responses, parameters, body) in operations.items():
        for prefix, suffix, own in (("", "", []), ("/agents/{agent}", "OfAgent", [agent])):
            identifier = name.replace("-s", "S") + suffix
            operation = _operation(identifier, summary, responses, parameters, body=body)
            paths[f"{prefix}/{name}"] = {**({"parameters": own} if own else {}), "post": operation}
    return paths


def _server() -> Schema:
    anything = {
        "200": {"description": "A document.", "content": {"application/json": {"schema": {"type": "object"}}}}
    }
    health = {"200": _answer("It is.", "Health")}
    return {
        "/schema": {
            "get": _operation("getSchema", "The frames, and what agents accept, as JSON Schemas.", anything)
        },
        PATH: {"get": _operation("getOpenapi", "This document.", anything)},
        "/healthz": {"get": _operation("isAlive", "Whether the process serves.", health)},
        "/readyz": {"get": _operation("isReady", "Whether it takes work.", health)},
    }


# the parts of a document


def _operation(
    identifier: str,
    summary: str,
    responses: Schema,
    parameters: list[Schema] | None = None,
    *,
    body: Schema | None = None,
    optional: bool = False,
) -> Schema:
    operation: Schema = {"operationId": identifier, "summary": summary}
    if parameters:
        operation["parameters"] = parameters
    if body is not None:
        operation["requestBody"] = {
            "required": not optional,
            "content": {"application/json": {"schema": body}},
        }
    refused = {"$ref": "#/components/responses/Refused"}
    unavailable = {"$ref": "#/components/responses/Unavailable"}
    operation["responses"] = {**responses, "4XX": refused, "503": unavailable}
    return operation


def _ref(name: str) -> Schema:
    return {"$ref": f"#/components/schemas/{name}"}


def _answer(description: str, schema: str) -> Schema:
    return {"description": description, "content": {"application/json": {"schema": _ref(schema)}}}


def _nothing(description: str) -> Schema:
    return {"description": description}


def _stream(headers: Schema | None = None) -> Schema:
    event = {"type": "object", "properties": {"data": {"type": "string"}}, "required": ["data"]}
    lines, events = (encoder.media_type.partition(";")[0] for encoder in ENCODERS.values())
    return {
        "description": "The state as it changes. Spec: PROTOCOL.md §14.10.",
        "headers": {THREAD_HEADER: _header("The thread's id."), **(headers or {})},
        "content": {lines: {"schema": {"type": "string"}}, events: {"schema": event}},
    }


def _header(description: str, kind: str = "string") -> Schema:
    return {"description": description, "schema": {"type": kind}}


def _parameter(place: str, name: str, schema: Schema, description: str) -> Schema:
    return {
        "name": name,
        "in": place,
        "description": description,
        "required": place == "path",
        "schema": schema,
    }
