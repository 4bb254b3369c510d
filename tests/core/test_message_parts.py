"""What messages of the common shapes show."""

from __future__ import annotations

from typing import Any

import pytest

from threadwire.core.message_parts import Call, File, Result, Source, Text, read_message

TEXT = Text("text", ("content",), "hi")


@pytest.mark.parametrize(
    ("message", "parts"),
    [
        ({"role": "assistant", "content": "hi"}, [TEXT]),
        ({"type": "ai", "content": "hi"}, [TEXT]),
        ({"type": "AIMessageChunk", "content": "hi"}, [TEXT]),
        ({"role": "assistant", "content": ["hi"]}, [Text("text", ("content", "0"), "hi")]),
        (
            {"role": "assistant", "parts": [{"type": "text", "text": "hi"}]},
            [Text("text", ("parts", "0", "text"), "hi")],
        ),
        ({"role": "assistant", "content": None}, []),
        ({"role": "assistant", "content": [None, 7, {}, {"type": "text"}, {"type": ["x"]}]}, []),
        (
            {"type": "ai", "content": "hi", "additional_kwargs": {"reasoning_content": "hm"}},
            [Text("reasoning", ("additional_kwargs", "reasoning_content"), "hm"), TEXT],
        ),
        (
            {"type": "ai", "content": [{"type": "thinking", "thinking": "hm"}]},
            [Text("reasoning", ("content", "0", "thinking"), "hm")],
        ),
        (
            {"type": "ai", "content": [{"type": "reasoning", "summary": [{"text": "a"}, {"text": "b"}, 1]}]},
            [
                Text("reasoning", ("content", "0", "summary", "0", "text"), "a"),
                Text("reasoning", ("content", "0", "summary", "1", "text"), "b"),
            ],
        ),
        (
            {"type": "ai", "content": "", "tool_calls": [{"id": "c", "name": "f", "args": {"x": 1}}]},
            [Text("text", ("content",), ""), Call("c", "f", '{"x":1}', None)],
        ),
        (
            {"type": "ai", "tool_calls": [{"id": "c", "name": "f", "args": {}, "partial_json": '{"x'}]},
            [Call("c", "f", '{"x', ("tool_calls", "0", "partial_json"))],
        ),
        (
            {"role": "assistant", "tool_calls": [{"id": "c", "function": {"name": "f", "arguments": "{"}}]},
            [Call("c", "f", "{", ("tool_calls", "0", "function", "arguments"))],
        ),
        ({"type": "ai", "tool_calls": [{"id": None, "name": "f"}, {"id": "c"}, 3]}, []),
        (
            {
                "role": "assistant",
                "content": [
                    {"type": "tool-call", "toolCallId": "c", "toolName": "f", "args": {}, "result": None}
                ],
            },
            [Call("c", "f", "", None), Result("c", None)],
        ),
        (
            {"type": "tool", "tool_call_id": "c", "content": "no", "status": "error", "artifact": [1]},
            [Result("c", "no", True, [1])],
        ),
        (
            {
                "role": "tool",
                "content": [{"type": "tool-result", "toolCallId": "c", "result": 1, "isError": True}],
            },
            [Result("c", 1, True)],
        ),
        (
            {
                "role": "assistant",
                "content": [{"type": "source", "id": "s", "url": "https://x", "title": "X"}],
            },
            [Source("s", "https://x", "X")],
        ),
        (
            {
                "type": "ai",
                "content": [
                    {"type": "text", "text": "hi", "annotations": [{"type": "citation", "url": "https://x"}]}
                ],
            },
            [Text("text", ("content", "0", "text"), "hi"), Source("https://x", "https://x")],
        ),
        (
            {"role": "assistant", "content": [{"type": "file", "data": "QQ==", "mimeType": "text/plain"}]},
            [File("QQ==", "text/plain")],
        ),
        (
            {
                "type": "ai",
                "content": [{"type": "image_url", "image_url": {"url": "data:image/gif;base64,R0"}}],
            },
            [File("data:image/gif;base64,R0", "image/gif")],
        ),
        ({"type": "human", "content": "hi"}, []),
        ({"role": "system", "content": "hi"}, []),
    ],
)
def test_the_parts_of_a_message(message: Any, parts: list[Any]) -> None:
    read = read_message(message)
    assert read is not None
    assert read.parts == parts


@pytest.mark.parametrize(
    "message", [None, "hi", 3, [], {}, {"role": 7}, {"type": ["ai"]}, {"type": "remove"}]
)
def test_what_is_no_message_has_none(message: Any) -> None:
    assert read_message(message) is None


@pytest.mark.parametrize(
    ("message", "usage"),
    [
        ({"type": "ai", "usage_metadata": {"input_tokens": 1, "output_tokens": 2}}, (1, 2)),
        ({"role": "assistant", "usage": {"inputTokens": 1, "outputTokens": 2}}, (1, 2)),
        ({"role": "assistant", "metadata": {"usage": {"inputTokens": 1, "outputTokens": 2}}}, (1, 2)),
        ({"role": "assistant", "usage": {"inputTokens": "1"}}, None),
    ],
)
def test_usage_is_found_where_frameworks_put_it(message: Any, usage: Any) -> None:
    read = read_message(message)
    assert read is not None
    assert read.usage == usage
