"""The fold of a run's operations into what is added to one message."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from threadwire.core import part_stream
from threadwire.core.message_parts import File, MessageParts, Result, Source, read_message
from threadwire.core.operations import AppendText, Set
from threadwire.core.part_stream import (
    ArgsDelta,
    CallReady,
    CallStarted,
    Event,
    Finish,
    PartStream,
    TextDelta,
    _key,
)

USER = {"type": "human", "id": "u", "content": "question"}


def put(*path: Any, value: Any) -> Set:
    return Set(tuple(map(str, ("messages", *path))), value)


def append(*path: Any, text: str) -> AppendText:
    return AppendText(tuple(map(str, ("messages", *path))), text)


def text_of(events: list[Event], kind: str = "text") -> str:
    return "".join(
        ("|" if event.apart else "") + event.text
        for event in events
        if isinstance(event, TextDelta) and event.kind == kind
    )


def ai(id: str, content: Any = "", **more: Any) -> dict[str, Any]:
    return {"type": "ai", "id": id, "content": content, **more}


def begun(*messages: Any, known: Any = (), after: str | None = "u") -> tuple[PartStream, list[Event]]:
    stream = PartStream(known, after=after)
    return stream, stream.state(list(messages))


def test_tokens_are_shown_as_they_are_appended() -> None:
    stream, events = begun()
    for operation in (
        put(0, value=USER),
        put(1, value=ai("a", "He")),
        append(1, "content", text="llo"),
        append(1, "content", text=" you"),
    ):
        events += stream.apply([operation])
    assert [event.text for event in events if isinstance(event, TextDelta)] == ["He", "llo", " you"]
    assert stream.finish() == [Finish("stop", 0, 0)]


def test_what_the_client_knows_is_not_shown_again_whatever_happens_to_it() -> None:
    known = [{"type": "human", "id": "u0", "content": "x"}, ai("a0", "old")]
    stream, events = begun(*known, known=known)
    events += stream.apply(
        [append(1, "content", text=" and older"), put(2, value=USER), put(3, value=ai("a", "new"))]
    )
    assert text_of(events) == "new"


def test_what_stands_before_the_users_message_is_not_shown() -> None:
    stream, events = begun()
    events += stream.apply([put(value=[ai("other", "of another run"), USER, ai("a", "mine")])])
    assert text_of(events) == "mine"


def test_messages_without_ids_are_told_by_their_place() -> None:
    known = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]
    stream, events = begun(*known, known=known, after=None)
    events += stream.apply([put(2, value={"role": "user", "content": "r"})])
    events += stream.apply([put(3, value={"role": "assistant", "content": "b"})])
    assert text_of(events) == "b"


def test_texts_of_two_messages_are_set_apart_and_blocks_of_one_are_not() -> None:
    stream, events = begun(USER, ai("a", [{"type": "text", "text": "one"}, {"type": "text", "text": " two"}]))
    events += stream.apply([put(2, value=ai("b"))])
    events += stream.apply([append(2, "content", text="three")])
    events += stream.apply([append(2, "content", text=" four")])
    assert text_of(events) == "one two|three four"


def test_reasoning_is_no_text() -> None:
    stream, events = begun(
        USER, ai("a", [{"type": "reasoning", "text": "hm"}, {"type": "text", "text": "x"}])
    )
    events += stream.apply([append(1, "content", 0, "text", text=" hm")])
    assert text_of(events, "reasoning") == "hm hm"
    assert text_of(events) == "x"


def test_a_call_is_told_with_its_arguments_as_they_grow_and_its_result() -> None:
    stream, events = begun(USER, ai("a", tool_calls=[]))
    call = {"id": "c", "name": "f", "args": {}, "partial_json": ""}
    events += stream.apply([put(1, "tool_calls", 0, value=call)])
    events += stream.apply([append(1, "tool_calls", 0, "partial_json", text='{"x":')])
    events += stream.apply([append(1, "tool_calls", 0, "partial_json", text="1}")])
    events += stream.apply([put(1, "tool_calls", 0, "args", value={"x": 1})])
    events += stream.apply([put(2, value={"type": "tool", "tool_call_id": "c", "content": "done"})])
    events += stream.finish()
    assert events == [
        CallStarted("c", "f"),
        ArgsDelta("c", '{"x":'),
        ArgsDelta("c", "1}"),
        CallReady("c", "f", '{"x":1}'),
        Result("c", "done"),
        Finish("stop", 0, 0),
    ]


def test_a_call_without_arguments_has_none() -> None:
    stream, events = begun(USER, ai("a", tool_calls=[{"id": "c", "name": "f", "args": {}}]))
    events += stream.finish()
    assert events == [
        CallStarted("c", "f"),
        ArgsDelta("c", "{}"),
        CallReady("c", "f", "{}"),
        Finish("tool-calls", 0, 0),
    ]


def test_a_result_of_a_call_that_the_client_knows_is_not_told() -> None:
    known = [USER, ai("a", tool_calls=[{"id": "c", "name": "f", "args": {}}])]
    stream, events = begun(*known, known=known, after=None)
    events += stream.apply(
        [put(2, value={"type": "tool", "id": "t", "tool_call_id": "c", "content": "done"})]
    )
    events += stream.apply([put(3, value=ai("b", "thanks"))])
    events += stream.finish()
    assert events == [TextDelta("text", "b.content", "thanks"), Finish("stop", 0, 0)]


def test_a_result_that_is_empty_is_told_once_it_is_not_or_at_the_end() -> None:
    calls = [{"id": id, "name": "f", "args": {}} for id in "cd"]
    stream, _ = begun(USER, ai("a", tool_calls=calls))
    tools = [{"type": "tool", "id": f"t{id}", "tool_call_id": id, "content": ""} for id in "cd"]
    events = stream.apply([put(2, value=tools[0]), put(3, value=tools[1])])
    assert events == []
    events += stream.apply([put(2, "content", value="now")])
    events += stream.finish()
    assert [event for event in events if isinstance(event, Result)] == [Result("c", "now"), Result("d", "")]


def test_sources_and_files_are_told_once() -> None:
    blocks = [
        {"type": "source", "id": "s", "url": "https://x"},
        {"type": "file", "data": "QQ==", "mimeType": "text/plain"},
    ]
    stream, events = begun(USER, ai("a", blocks))
    events += stream.apply([put(1, "name", value="x")])
    events += stream.state([USER, ai("a", blocks)])
    assert events == [Source("s", "https://x"), File("QQ==", "text/plain")]


def test_usage_is_summed_over_the_runs_messages() -> None:
    usage = {"input_tokens": 3, "output_tokens": 5}
    stream, _ = begun(USER, ai("a", "x", usage_metadata=usage), known=[], after="u")
    stream.apply([put(2, value=ai("b", "y"))])
    stream.apply([put(2, "usage_metadata", value=usage)])
    assert stream.finish()[-1] == Finish("stop", 6, 10)


@pytest.mark.parametrize(
    ("word", "reason"),
    [("stop", "stop"), ("max_tokens", "length"), ("length", "length"), ("content_filter", "content-filter")],
)
def test_why_the_model_stopped_is_told(word: str, reason: str) -> None:
    stream, _ = begun(USER, ai("a", "x", response_metadata={"finish_reason": word}))
    assert stream.finish() == [Finish(reason, 0, 0)]  # type: ignore[arg-type]


def test_a_failed_run_says_so() -> None:
    stream, _ = begun(USER, ai("a", "x"))
    assert stream.finish(failed=True) == [Finish("error", 0, 0)]


def test_the_whole_state_again_adds_only_what_is_new() -> None:
    stream, events = begun(USER, ai("a", "one"))
    events += stream.state([USER, ai("a", "one two"), ai("b", "three")])
    events += stream.apply([append(1, "content", text="!"), append(2, "content", text="?")])
    assert text_of(events) == "one two|three!?"


def test_a_text_that_another_takes_the_place_of_is_followed_by_that() -> None:
    stream, events = begun(USER, ai("a", "draft"))
    events += stream.apply([put(1, "content", value="")])
    events += stream.apply([append(1, "content", text="fin")])
    events += stream.apply([append(1, "content", text="al")])
    assert text_of(events) == "draft|final"


def test_a_text_that_is_written_anew_and_is_the_same_is_not_shown_twice() -> None:
    stream, events = begun(USER, ai("a", "the same"))
    events += stream.apply([put(1, "content", value="")])
    for piece in ("the", " sa", "me", ", and more"):
        events += stream.apply([append(1, "content", text=piece)])
    assert text_of(events) == "the same, and more"


def test_messages_that_move_are_the_same_messages() -> None:
    stream, events = begun(USER, ai("a", "one"))
    events += stream.apply([put(value=[{"type": "system", "id": "s", "content": ""}, USER, ai("a", "one")])])
    events += stream.apply([append(2, "content", text=" two")])
    assert text_of(events) == "one two"


@pytest.mark.parametrize(
    "messages", [None, "x", {"0": ai("a", "x")}, [None, 7, "x"], [{"type": "ai", "content": {"x": 1}}]]
)
def test_what_are_no_messages_show_nothing(messages: Any) -> None:
    stream = PartStream()
    assert stream.state(messages) == []
    assert stream.apply([Set(("messages",), messages), Set((), {"messages": messages}), Set((), 7)]) == []
    assert stream.finish() == [Finish("stop", 0, 0)]


def test_changes_beside_the_messages_show_nothing() -> None:
    stream, _ = begun(USER)
    assert stream.apply([Set(("title",), "x"), AppendText(("title",), "y"), Set(("a", "b"), 1)]) == []


@settings(deadline=None, max_examples=200)
@given(st.data())
def test_however_a_growing_conversation_is_sent_the_client_ends_with_its_texts(data: st.DataObject) -> None:
    """Appended one by one, merged into larger sets, or as the whole state: what is shown is what is there."""
    stream = PartStream(after="u")
    messages: list[dict[str, Any]] = [USER]
    events = stream.state([dict(m) for m in messages])
    for step in range(data.draw(st.integers(1, 12))):
        kind = data.draw(st.sampled_from(["message", "append", "state", "set"]))
        if kind == "message" or len(messages) == 1:
            messages.append(ai(f"m{step}"))
            events += stream.apply([put(len(messages) - 1, value=dict(messages[-1]))])
            continue
        text = data.draw(st.text("ab ", max_size=3))
        messages[-1]["content"] += text
        if kind == "append":
            events += stream.apply([append(len(messages) - 1, "content", text=text)])
        elif kind == "set":
            events += stream.apply([put(len(messages) - 1, "content", value=messages[-1]["content"])])
        else:
            events += stream.state([dict(m) for m in messages])
    shown: dict[str, str] = {}
    for event in events:
        if isinstance(event, TextDelta):
            shown[event.id] = shown.get(event.id, "") + event.text
    expected = {f"{m['id']}.content": m["content"] for m in messages[1:] if m["content"]}
    assert shown == expected


def test_a_token_is_shown_without_a_look_at_any_message() -> None:
    looked: list[Any] = []

    def read(message: Any) -> MessageParts | None:
        looked.append(message)
        return read_message(message)

    stream = PartStream([ai("old", "x")], after="u", read=read)
    stream.state(
        [
            ai("old", "x"),
            USER,
            ai("a", "x"),
            ai("b", tool_calls=[{"id": "c", "name": "f", "partial_json": ""}]),
        ]
    )
    looked.clear()
    events = stream.apply(
        [append(2, "content", text="y"), append(3, "tool_calls", 0, "partial_json", text="{}")]
    )
    assert len(events) == 2
    assert looked == []


def test_each_message_of_a_long_conversation_is_looked_at_a_few_times(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    looks = 0

    def counted(message: Any, index: int) -> str:
        nonlocal looks
        looks += 1
        return _key(message, index)

    monkeypatch.setattr(part_stream, "_key", counted)
    before = [{"type": "human", "id": f"h{number}", "content": "x"} for number in range(1000)]
    for after in ("u", "nobody"):
        looks = 0
        _, events = begun(*before, USER, ai("a", "Hello"), known=before, after=after)
        assert text_of(events) == "Hello"
        assert looks < 5 * len(before)
