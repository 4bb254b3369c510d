"""A graph's state, with what is on its way to it."""

from __future__ import annotations

from typing import Any

from threadwire.client.runtimes.assistant_transport import ConnectionMetadata, PendingCommand
from threadwire.client.runtimes.langchain_state import LangChainConverter
from threadwire.core.commands import AddMessage, AddToolResult, FilePart, ImagePart, TextPart, UserMessage
from threadwire.messages.model import IncompleteStatus, message_text

STATE = {
    "messages": [
        {"type": "human", "id": "h", "content": "hi"},
        {"type": "ai", "id": "a", "content": "", "tool_calls": [{"id": "c", "name": "t", "args": {}}]},
    ]
}


def pending(*commands: Any) -> ConnectionMetadata:
    return ConnectionMetadata(tuple(PendingCommand(f"p{i}", each) for i, each in enumerate(commands)), True)


def test_pending_commands_are_shown_as_they_will_stand_there() -> None:
    file = FilePart("AA", "text/plain", "a.txt")
    message = UserMessage(parts=(TextPart("look"), ImagePart("https://x/y.png"), file), id="new")
    shown = LangChainConverter()(
        STATE, pending(AddToolResult(tool_call_id="c", result="ok"), AddMessage(message=message))
    )
    assert [each.id for each in shown.messages] == ["h", "a", "new"]
    assert shown.messages[1].content[0].result == "ok"  # type: ignore[union-attr]
    assert [part.type for part in shown.messages[2].content] == ["text", "image", "file"]
    assert shown.is_running


def test_pending_edit_hides_what_it_replaces() -> None:
    edit = AddMessage(message=UserMessage(parts=(TextPart("ho"),), id="new"), source_id="h")
    converter = LangChainConverter()
    assert [each.id for each in converter(STATE, pending(edit)).messages] == ["new"]
    assert [each.id for each in converter(STATE, ConnectionMetadata()).messages] == ["h", "a"]


def test_pending_message_is_one_object_as_long_as_it_is_pending() -> None:
    connection = pending(AddMessage.text("new", id="new"))
    converter = LangChainConverter()
    first = converter(STATE, connection).messages[-1]
    assert converter({"messages": [*STATE["messages"]]}, connection).messages[-1] is first
    assert message_text(first) == "new"


def test_error_of_the_run_stands_with_the_last_message() -> None:
    state = {**STATE, "threadwire": {"error": {"code": "agent-error", "message": "no"}}}
    last = LangChainConverter()(state, ConnectionMetadata()).messages[-1]
    assert last.status == IncompleteStatus("error", {"code": "agent-error", "message": "no"})  # type: ignore[union-attr]


def test_state_without_messages_shows_none() -> None:
    for state in ({}, None, [], {"messages": "x"}, {"other": []}):
        assert LangChainConverter()(state, ConnectionMetadata()).messages == ()
    assert len(LangChainConverter("other")({"other": STATE["messages"]}, ConnectionMetadata()).messages) == 2
