"""What clients send, as messages that LangChain's models take and the stock converter reads."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.messages import HumanMessage, SystemMessage
from langchain_core.messages.block_translators.openai import convert_to_openai_data_block

from tests.support.strategies import values
from threadwire.core.commands import (
    AddToolResult,
    AudioPart,
    AudioSource,
    DataPart,
    FilePart,
    ImagePart,
    Part,
    TextPart,
    UserMessage,
)
from threadwire.core.errors import CommandError
from threadwire_agents.langgraph.content import human_message, tool_message
from threadwire_agents.langgraph.message_json import message_from_json
from threadwire_agents.langgraph.serialise import message_to_json

PNG = "data:image/png;base64,iVBORw0="
PDF = {
    "type": "file",
    "source_type": "base64",
    "data": "JVBERg==",
    "mime_type": "application/pdf",
    "filename": "a.pdf",
    "metadata": {"filename": "a.pdf"},
}


def human(*parts: Part) -> HumanMessage:
    message = human_message(UserMessage(parts=parts), "m1")
    assert isinstance(message, HumanMessage)
    assert message.id == "m1"
    assert message_from_json(message_to_json(message)) == message
    return message


def tool(**fields: Any) -> Any:
    return tool_message(AddToolResult(tool_call_id="c1", **fields), "find", "m1")


@pytest.mark.parametrize("text", ["", "hi", "é\n漢"])
def test_one_text_part_is_a_string(text: str) -> None:
    message = human(TextPart(text))
    assert message.content == text
    assert message.additional_kwargs == {}


def test_no_parts_are_the_empty_string() -> None:
    assert human().content == ""


def test_several_parts_are_blocks_in_their_order() -> None:
    message = human(TextPart("a"), ImagePart(PNG), TextPart("b"), ImagePart("https://a.b/c.png"))
    assert message.content == [
        {"type": "text", "text": "a"},
        {"type": "image_url", "image_url": {"url": PNG}},
        {"type": "text", "text": "b"},
        {"type": "image_url", "image_url": {"url": "https://a.b/c.png"}},
    ]


def test_an_image_alone_is_a_list_of_its_block() -> None:
    assert human(ImagePart(PNG)).content == [{"type": "image_url", "image_url": {"url": PNG}}]


def test_the_name_of_an_image_is_kept_from_the_model() -> None:
    message = human(DataPart("d", 1), TextPart("a"), ImagePart(PNG, "cat.png"), ImagePart(PNG))
    assert message.additional_kwargs["metadata"]["filenames"] == {"1": "cat.png"}
    assert [block["type"] for block in message.content_blocks] == ["text", "image", "image"]


@pytest.mark.parametrize(
    ("part", "block"),
    [
        (FilePart("JVBERg==", "application/pdf", "a.pdf"), PDF),
        (FilePart("data:application/pdf;base64,JVBERg==", "", "a.pdf"), PDF),
        (
            FilePart("data:text/plain;charset=utf-8,h%C3%A9", "text/plain"),
            {
                "type": "file",
                "source_type": "base64",
                "data": "aMOp",
                "mime_type": "text/plain",
                "filename": "file",
                "metadata": {"filename": "file"},
            },
        ),
        (
            FilePart("https://a.b/c", ""),
            {
                "type": "file",
                "source_type": "url",
                "url": "https://a.b/c",
                "mime_type": "application/octet-stream",
                "filename": "file",
                "metadata": {"filename": "file"},
            },
        ),
        (
            AudioPart(AudioSource("AAAA", "mp3")),
            {"type": "audio", "source_type": "base64", "data": "AAAA", "mime_type": "audio/mp3"},
        ),
        (
            AudioPart(AudioSource("data:audio/wav;base64,AAAA", "wav")),
            {"type": "audio", "source_type": "base64", "data": "AAAA", "mime_type": "audio/wav"},
        ),
    ],
)
def test_files_and_sound_are_blocks_that_both_sides_read(part: Part, block: dict[str, Any]) -> None:
    message = human(part)
    assert message.content == [block]
    (standard,) = message.content_blocks
    assert standard["type"] == block["type"]
    if "data" in block:
        assert standard["base64"] == block["data"]  # type: ignore[typeddict-item]
        assert standard["mime_type"] == block["mime_type"]  # type: ignore[typeddict-item]
        assert convert_to_openai_data_block(block) == convert_to_openai_data_block(dict(standard))
    else:
        assert standard["url"] == block["url"]  # type: ignore[typeddict-item]


def test_data_goes_beside_the_content() -> None:
    message = human(TextPart("a"), DataPart("place", {"x": 1}), DataPart("n", None))
    assert message.content == "a"
    assert message.additional_kwargs == {
        "metadata": {"data": [{"name": "place", "data": {"x": 1}}, {"name": "n", "data": None}]}
    }
    assert human(DataPart("n", 1)).content == ""


def test_a_system_message_is_one() -> None:
    message = human_message(UserMessage(parts=(TextPart("be kind"),), role="system"), "s")
    assert message == SystemMessage("be kind", id="s")


@pytest.mark.parametrize(
    ("part", "field"),
    [
        (ImagePart("cat.png"), "image"),
        (ImagePart(""), "image"),
        (ImagePart("http://a.b/c.png"), "image"),
        (ImagePart("javascript:alert(1)"), "image"),
        (ImagePart("data:image/png"), "image"),
        (ImagePart("data:image/png;base64,!"), "image"),
        (FilePart("ftp://a.b/c", "text/plain"), "data"),
        (FilePart("abc", "text/plain"), "data"),
        (FilePart("é===", "text/plain"), "data"),
        (FilePart("data:text/plain", "text/plain"), "data"),
        (AudioPart(AudioSource("https://a.b/c.mp3", "mp3")), "audio.data"),
    ],
)
def test_bad_data_is_refused_by_its_field(part: Part, field: str) -> None:
    with pytest.raises(CommandError) as refusal:
        human(TextPart("a"), part)
    assert refusal.value.code == "invalid-command"
    assert refusal.value.field == f"command.message.parts.1.{field}"


def test_a_tool_result_that_is_text_stays_as_it_is() -> None:
    message = tool(result="42 é")
    assert message_to_json(message) == {
        "type": "tool",
        "id": "m1",
        "name": "find",
        "content": "42 é",
        "tool_call_id": "c1",
        "status": "success",
    }


@pytest.mark.parametrize(
    ("result", "content"),
    [(None, "null"), (True, "true"), (1.5, "1.5"), ({"a": [1, "é"]}, '{"a":[1,"é"]}'), ([], "[]")],
)
def test_another_tool_result_is_compact_json(result: Any, content: str) -> None:
    assert tool(result=result).content == content


@given(values)
def test_a_tool_result_can_be_read_back(result: Any) -> None:
    content = tool(result=result).content
    assert (content if isinstance(result, str) else json.loads(content)) == result


def test_a_failed_tool_says_so() -> None:
    assert tool(result="no", is_error=True).status == "error"


def test_an_artifact_is_passed_on() -> None:
    message = tool(result="x", artifact={"a": 1})
    assert (message.content, message.artifact) == ("x", {"a": 1})


@pytest.mark.parametrize(
    ("given", "content"),
    [
        ("short", "short"),
        ("", ""),
        ({"a": 1}, '{"a":1}'),
        ([], ""),
        ([{"type": "text", "text": "short"}], "short"),
        (
            ["a", {"type": "text", "text": "b"}],
            [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}],
        ),
        ([{"type": "reasoning", "reasoning": "r"}], [{"type": "reasoning", "reasoning": "r"}]),
        (
            [{"type": "file", "data": "JVBERg==", "mediaType": "application/pdf", "filename": "a.pdf"}],
            [PDF],
        ),
        (
            [{"type": "file", "data": "iVBORw0=", "mediaType": "image/png"}],
            [{"type": "image_url", "image_url": {"url": PNG}}],
        ),
        (
            [{"type": "file", "data": PNG, "mediaType": "image/png"}],
            [{"type": "image_url", "image_url": {"url": PNG}}],
        ),
    ],
)
def test_the_model_sees_its_own_content_where_that_is_given(given: Any, content: Any) -> None:
    message = tool(result={"all": 1}, model_content=given)
    assert message.content == content
    assert message.artifact == {"all": 1}
    assert tool(result=1, model_content=given, artifact="mine").artifact == "mine"


@pytest.mark.parametrize(
    ("part", "field"),
    [
        (5, ""),
        ({}, ""),
        ({"type": 1}, ""),
        ({"type": "text"}, ".text"),
        ({"type": "file", "mediaType": "a/b"}, ".data"),
        ({"type": "file", "mediaType": "a/b", "data": "!"}, ".data"),
        ({"type": "file", "mediaType": 1, "data": ""}, ".mediaType"),
        ({"type": "file", "mediaType": "a/b", "data": "", "filename": 1}, ".filename"),
        ({"type": "file", "mediaType": "image/png", "data": "!"}, ".data"),
    ],
)
def test_bad_content_for_the_model_is_refused_by_its_field(part: Any, field: str) -> None:
    with pytest.raises(CommandError) as refusal:
        tool(result=1, model_content=["a", part])
    assert (refusal.value.code, refusal.value.field) == ("invalid-command", f"command.modelContent.1{field}")


texts = st.text(max_size=8)
parts = st.one_of(
    st.builds(TextPart, texts),
    st.builds(
        ImagePart, texts | texts.map("data:{}".format) | texts.map("https://{}".format), st.none() | texts
    ),
    st.builds(FilePart, texts | texts.map("data:{}".format), texts, st.none() | texts),
    st.builds(AudioPart, st.builds(AudioSource, texts | texts.map("data:;base64,{}".format), texts)),
    st.builds(DataPart, texts, values),
)


@given(st.lists(parts, max_size=4))
def test_any_message_is_taken_or_refused_by_a_field(given: list[Part]) -> None:
    field: str | None = "command.message.parts."
    try:
        human(*given)
    except CommandError as error:
        field = error.field
    assert field is not None
    assert field.startswith("command.message.parts.")
