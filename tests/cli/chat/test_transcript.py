"""What of a thread is printed, and when."""

from __future__ import annotations

from typing import Any

import pytest

from threadwire.cli.chat.transcript import Entry, Transcript, finished
from threadwire.messages.like import from_thread_message_like


def user(id: str, text: str) -> Any:
    return from_thread_message_like({"role": "user", "id": id, "content": text})


def answer(id: str, *content: Any, status: Any = None) -> Any:
    parts = [{"type": "text", "text": part} if isinstance(part, str) else part for part in content]
    status = status or {"type": "running"}
    return from_thread_message_like({"role": "assistant", "id": id, "content": parts, "status": status})


DONE = {"type": "complete", "reason": "stop"}


@pytest.mark.parametrize(
    ("text", "end"),
    [
        ("", 0),
        ("one", 0),
        ("one\n", 0),
        ("one\n\ntwo", 5),
        ("one\n\ntwo\n\n", 10),
        ("```py\na\n\nb", 0),
        ("```py\na\n\nb\n```", 0),
        ("```py\na\n\nb\n```\n", 15),
        ("x\n\n~~~\n\n```\n", 3),
    ],
)
def test_blocks_end_at_empty_lines_outside_of_code(text: str, end: int) -> None:
    assert finished(text) == end


def test_text_is_printed_block_by_block_and_all_of_it_at_the_end() -> None:
    transcript = Transcript()
    question = user("u", "hi")
    assert transcript.update([question]) == [Entry("user", "hi")]
    assert transcript.update([question, answer("a", "Hel")]) == []
    assert transcript.tail == "Hel"
    assert transcript.update([question, answer("a", "Hello\n\nHow")]) == [Entry("text", "Hello")]
    assert transcript.tail == "How"
    done = answer("a", "Hello\n\nHow are you?", status=DONE)
    assert transcript.update([question, done]) == [Entry("text", "How are you?")]
    assert transcript.update([question, done]) == []
    assert transcript.tail == ""


def test_calls_are_printed_once_and_their_results_when_they_come() -> None:
    def call(**fields: Any) -> Any:
        return {"type": "tool-call", "toolCallId": "c", "toolName": "find", **fields}

    transcript = Transcript()
    assert transcript.update([answer("a", call(argsText='{"q": "x'))]) == []
    assert transcript.tail == 'find({"q": "x'
    called = call(args={"q": "x"})
    assert transcript.update([answer("a", called, "so")]) == [Entry("call", 'find({"q": "x"})')]
    assert transcript.update([answer("a", {**called, "result": {"n": 1}}, "so")]) == [
        Entry("result", '{"n": 1}')
    ]
    assert transcript.update([answer("a", {**called, "result": {"n": 1}}, "so", status=DONE)]) == [
        Entry("text", "so")
    ]
    failed = call(args={}, result="no", isError=True)
    assert Transcript().update([answer("a", failed, status=DONE)]) == [
        Entry("call", "find({})"),
        Entry("error", "no"),
    ]


def test_end_of_a_run_that_went_wrong_is_told_once() -> None:
    transcript = Transcript()
    error = {"type": "incomplete", "reason": "error", "error": {"code": "x", "message": "no credit"}}
    failed = answer("a", "so", status=error)
    assert transcript.update([failed]) == [Entry("text", "so"), Entry("error", "no credit")]
    assert transcript.update([failed]) == []
    stopped = answer("b", status={"type": "incomplete", "reason": "cancelled"})
    assert transcript.update([failed, stopped]) == [Entry("error", "stopped")]


def test_other_branch_is_printed_from_where_it_differs() -> None:
    transcript = Transcript()
    transcript.update([user("u", "hi"), answer("a", "one", status=DONE), user("v", "and")])
    entries = transcript.update([user("u", "hi"), answer("b", "two", status=DONE)])
    assert [entry.kind for entry in entries] == ["changed", "text"]
    assert transcript.update([user("u", "hi")]) == []


def test_messages_on_their_way_are_printed_when_they_are_in_the_thread() -> None:
    transcript = Transcript()
    first, second, third = (user(id, f"say {id}") for id in ("u1", "u2", "u3"))
    transcript.update([first, answer("a1", "One")])
    # With something behind it an answer that is being written looks like one that has ended.
    grown = answer("a1", "One two", status=DONE)
    assert transcript.update([first, grown, second, third], {"u2", "u3"}) == []
    assert transcript.tail == "One two"
    ended = answer("a1", "One two three", status=DONE)
    assert transcript.update([first, ended, second, answer("a2", ""), third], {"u3"}) == [
        Entry("text", "One two three"),
        Entry("user", "say u2"),
    ]
    printed = transcript.update([first, ended, second, answer("a2", "Yes", status=DONE), third])
    assert printed == [Entry("text", "Yes"), Entry("user", "say u3")]


def test_change_is_told_when_something_follows() -> None:
    transcript = Transcript()
    transcript.update([user("u1", "hi"), answer("a1", "Hello", status=DONE)])
    assert transcript.update([]) == []
    changed = transcript.update([user("u2", "hey")])
    assert [entry.kind for entry in changed] == ["changed", "user"]
