"""Bodies that make no sense on any route, and what each is refused for."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

ROUTES: Final[Mapping[str, dict[str, Any]]] = {
    "/assistant": {"commands": []},
    "/resume": {},
    "/initial-state": {},
    "/cancel": {},
    "/chat": {"messages": [{"role": "user", "content": "hello"}]},
}
"""By path, the members without which a body of its own would be refused."""


class Malformed(NamedTuple):
    """`data` is the body; it is refused with `status` and `code`, and the field begins with `field`."""

    name: str
    data: bytes
    code: str
    field: str
    status: int = 400


def malformed(path: str, thread: str) -> list[Malformed]:
    """Bodies for a route which, but for what is wrong with each, are about the thread."""
    members = {"threadId": thread, **ROUTES[path]}
    good = json.dumps(members)[1:-1].encode()

    def whole(name: str, data: bytes, code: str = "malformed", field: str = "body") -> Malformed:
        return Malformed(name, data, code, field)

    def extra(
        name: str, value: bytes, code: str = "malformed", field: str = "body", status: int = 400
    ) -> Malformed:
        return Malformed(name, b'{%b,"more":%b}' % (good, value), code, field, status)

    def instead(name: str, member: str, value: Any) -> Malformed:
        data = json.dumps({**members, member: value}).encode()
        return Malformed(name, data, "invalid-request", f"body.{member}")

    ids: dict[str, Any] = {
        "number": 7,
        "array": [],
        "object": {},
        "boolean": True,
        "empty text": "",
        "slash": "a/b",
        "space": "a b",
        "long": "x" * 129,
        "control": "\0",
        "letter of no ASCII": "é",
        "newline": "t\n",
    }
    cases = [
        whole("words", b"nonsense"),
        whole("nothing but a space", b" "),
        whole("open object", b"{"),
        whole("open text", b'{"threadId":"'),
        whole("no value", b'{"threadId":}'),
        whole("no colon", b'{"threadId" "t"}'),
        whole("text of no quotes", b"{threadId:1}"),
        whole("single quotes", b"{'threadId':'t'}"),
        whole("comma at the end", b"{%b,}" % good),
        whole("comment", b"{%b}//x" % good),
        whole("two values", b"{%b}{%b}" % (good, good)),
        whole("bytes that are no UTF-8", b'{%b,"more":"\xff"}' % good),
        whole("UTF-16", ("{" + good.decode() + "}").encode("utf-16")),
        whole("byte order mark", b"\xef\xbb\xbf{%b}" % good),
        whole("form", b"threadId=t&messages=x"),
        whole("XML", b"<?xml version='1.0'?><a/>"),
        whole("array", b"[]", "invalid-request"),
        whole("null", b"null", "invalid-request"),
        whole("number", b"7", "invalid-request"),
        whole("text", b'"x"', "invalid-request"),
        whole("boolean", b"true", "invalid-request"),
        whole("array 5,000 deep", b"[" * 5000 + b"]" * 5000, "", "body"),
        whole("member twice", b'{%b,"threadId":"%b"}' % (good, thread.encode()), "duplicate-key"),
        extra("NaN", b"NaN", "not-finite"),
        extra("NaN in depth", b'{"a":[NaN]}', "not-finite"),
        extra("Infinity", b"Infinity", "not-finite"),
        extra("-Infinity", b"-Infinity", "not-finite"),
        extra("1e400", b"1e400", "not-finite"),
        extra("2^53 + 1", b"9007199254740993", "integer-range"),
        extra("-2^53 - 1", b"-9007199254740993", "integer-range"),
        extra("number of 5,000 digits", b"9" * 5000, "integer-range"),
        extra("number with a zero ahead", b"007"),
        extra("number that is hexadecimal", b"0x10"),
        extra("lone surrogate", b'"\\ud800"', "invalid-unicode", "body.more"),
        extra("lone low surrogate", b'"x\\udc00x"', "invalid-unicode", "body.more"),
        extra("lone surrogate in a key", b'{"\\ud800":1}', "invalid-unicode"),
        extra("surrogates the wrong way round", b'"\\udc00\\ud800"', "invalid-unicode", "body.more"),
        extra("half an escape", b'"\\u12"'),
        extra("escape that is none", b'"\\x41"'),
        extra("control character", b'"a\nb"'),
        extra("key twice", b'{"a":1,"a":2}', "duplicate-key", "body.more"),
        extra("__proto__", b'{"__proto__":1}', "forbidden-key", "body.more"),
        extra("constructor", b'[{"constructor":1}]', "forbidden-key", "body.more"),
        extra("prototype", b'{"a":{"prototype":1}}', "forbidden-key", "body.more"),
        extra("arrays 150 deep", b"[" * 150 + b"]" * 150, "too-deep"),
        extra("arrays 5,000 deep", b"[" * 5000 + b"]" * 5000, ""),
        extra("objects 5,000 deep", b'{"a":' * 5000 + b"1" + b"}" * 5000, ""),
        extra("arrays 200,000 deep", b"[" * 200_000 + b"]" * 200_000, ""),
        extra("open arrays 200,000 deep", b"[" * 200_000, ""),
        extra("text of 5 MB", b'"%b"' % (b"x" * 5_000_000), "too-large", status=413),
        extra("text of 40 MB", b'"%b"' % (b"x" * 40_000_000), "too-large", status=413),
        *(instead(f"threadId: {name}", "threadId", value) for name, value in ids.items()),
    ]
    if path == "/chat":
        cases += [
            instead(f"messages: {name}", "messages", value)
            for name, value in {
                "null": None,
                "number": 7,
                "object": {},
                "text": "hello",
                "none": [],
                "a text": ["x"],
                "a null": [None],
                "no role": [{"content": "x"}],
                "no content": [{"role": "user"}],
                "role of nobody": [{"role": "robot", "content": "x"}],
                "20,000 of them with nothing to say": [{"role": "user", "content": ""}] * 20_000,
            }.items()
        ]
    else:
        cases += [
            instead(f"runId: {name}", "runId", value)
            for name, value in {"number": 7, "array": [], "object": {}, "boolean": False}.items()
        ]
        cases += [
            instead(f"commands: {name}", "commands", value)
            for name, value in {
                "number": 7,
                "object": {},
                "text": "x",
                "null": None,
                "numbers": [7],
                "nulls": [None],
                "arrays": [[]],
                "texts": ["x"] * 20_000,
            }.items()
        ]
    return cases
