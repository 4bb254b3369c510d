"""Data streams, and the messages they add up to."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.vectors import cases, normal
from threadwire.messages.data_stream import DataStreamError, DataStreamMessage
from threadwire.messages.model import to_json


def read(case: dict[str, Any]) -> DataStreamMessage:
    message = DataStreamMessage()
    data = case["text"].encode()
    message.feed(data[: case["at"]])
    message.feed(data[case["at"] :])
    message.end()
    return message


@pytest.mark.parametrize("case", cases("data_streams"), ids=lambda case: str(len(case["text"])))
def test_data_stream_adds_up_to_what_it_does_in_javascript(case: dict[str, Any]) -> None:
    if "error" in case:
        with pytest.raises(DataStreamError):
            read(case)
        return
    message = read(case)
    expected = case["expected"] or {
        "parts": [],
        "status": {"type": "complete", "reason": "unknown"},
        "metadata": {"unstable_state": None, "steps": []},
    }
    shown = [_without_status(part) for part in to_json(message.parts)]
    given = {"text": "", "ids": ["c1", "c2", "c3", "s", "p", "q", "m", *_ids(expected)]}
    assert normal(shown, given) == expected["parts"]
    assert to_json(message.status) == expected["status"]
    assert message.state == expected["metadata"]["unstable_state"]
    assert normal(message.steps, given) == expected["metadata"]["steps"]
    assert message.data == expected["metadata"].get("unstable_data", [])
    assert message.annotations == expected["metadata"].get("unstable_annotations", [])


def _without_status(part: dict[str, Any]) -> dict[str, Any]:
    return part if part["type"] in ("text", "reasoning") else {k: v for k, v in part.items() if k != "status"}


def _ids(expected: Any) -> list[str]:
    return [part["toolCallId"] for part in expected["parts"] if "toolCallId" in part]


def test_stream_cut_at_every_byte_adds_up_to_the_same() -> None:
    text = '0:"Zürich"\r\n0:" 🎉"\r9:{"toolCallId":"c","toolName":"t","args":{"a":"é"}}\n'
    data = text.encode()
    whole = DataStreamMessage()
    whole.feed(data)
    whole.end()
    pieces = DataStreamMessage()
    for at in range(len(data)):
        pieces.feed(data[at : at + 1])
    pieces.end()
    assert to_json(pieces.parts) == to_json(whole.parts)
    assert [part["type"] for part in to_json(pieces.parts)] == ["text", "tool-call"]
    assert to_json(pieces.parts)[0]["text"] == "Zürich 🎉"


def test_lenient_reader_leaves_out_what_does_not_fit() -> None:
    message = DataStreamMessage(strict=False)
    message.feed(b'zz:1\nc:{"toolCallId":"x","argsTextDelta":"{"}\nb:7\n0:"ok"\naui-state:[{"type":"odd"}]\n')
    message.end()
    assert [part["text"] for part in to_json(message.parts)] == ["ok"]
