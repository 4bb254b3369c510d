"""Files on their way into a message."""

from __future__ import annotations

from pathlib import Path

import pytest

from threadwire.client.errors import NotSupported
from threadwire.client.runtimes.attachments import (
    CompositeAttachmentAdapter,
    File,
    SimpleImageAttachmentAdapter,
    SimpleTextAttachmentAdapter,
    attachment_of,
    file_matches,
)
from threadwire.messages.model import (
    AudioData,
    AudioMessagePart,
    DataMessagePart,
    FileMessagePart,
    ImageMessagePart,
    TextMessagePart,
    UserMessagePart,
    to_json,
)

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize(
    ("name", "type", "accept", "matches"),
    [
        ("a.png", "image/png", "*", True),
        ("a.png", "image/png", "image/*", True),
        ("a.png", "imagery/png", "image/*", False),
        ("a.PDF", "", ".pdf", True),
        ("a.pdf", "application/pdf; x=1", "text/plain, application/PDF", True),
        ("a.pdf", "", "application/pdf", False),
        ("a", "", "", False),
        ("a.txt", "text/plain", "text/*,image/*", True),
    ],
)
def test_accept_is_read_as_that_of_an_input(name: str, type: str, accept: str, matches: bool) -> None:
    assert file_matches(name, type, accept) is matches


async def test_image_becomes_a_data_url() -> None:
    adapter = SimpleImageAttachmentAdapter()
    pending = await adapter.add(File("a.png", "image/png", b"\x00\x01"))
    assert (pending.type, pending.name, pending.status.reason) == ("image", "a.png", "composer-send")
    assert to_json(await adapter.send(pending)) == {
        "id": pending.id,
        "type": "image",
        "name": "a.png",
        "contentType": "image/png",
        "status": {"type": "complete"},
        "content": [{"type": "image", "image": "data:image/png;base64,AAE="}],
    }


async def test_text_is_put_into_an_element(tmp_path: Path) -> None:
    path = tmp_path / 'a "b" & <c>.md'
    path.write_text("# Hi\n")
    adapter = SimpleTextAttachmentAdapter()
    file = File.from_path(path)
    assert file.type == "text/markdown"
    complete = await adapter.send(await adapter.add(file))
    assert complete.content == (
        TextMessagePart('<attachment name="a &quot;b&quot; &amp; &lt;c&gt;.md">\n# Hi\n\n</attachment>'),
    )


async def test_several_adapters_share_the_files() -> None:
    adapter = CompositeAttachmentAdapter([SimpleImageAttachmentAdapter(), SimpleTextAttachmentAdapter()])
    assert adapter.accept.startswith("image/*,text/plain,")
    text = await adapter.add(File("a.txt", "text/plain", b"hi"))  # type: ignore[misc]
    assert text.type == "document"
    assert (await adapter.send(text)).content[0].type == "text"
    await adapter.remove(text)
    with pytest.raises(NotSupported, match="application/pdf"):
        adapter.add(File("a.pdf", "application/pdf", b""))


def test_adapter_for_everything_is_the_last() -> None:
    class Everything(SimpleTextAttachmentAdapter):
        accept = "*"  # type: ignore[misc]

    assert CompositeAttachmentAdapter([SimpleImageAttachmentAdapter(), Everything()]).accept == "*"
    with pytest.raises(ValueError, match="last"):
        CompositeAttachmentAdapter([Everything(), SimpleImageAttachmentAdapter()])


@pytest.mark.parametrize(
    ("part", "kind", "name"),
    [
        (ImageMessagePart("https://x"), "image", "image"),
        (ImageMessagePart("https://x", filename="f.png"), "image", "f.png"),
        (FileMessagePart("AA", "text/plain"), "document", "document"),
        (AudioMessagePart(AudioData("AA", "mp3")), "audio", "audio.mp3"),
        (DataMessagePart("chart", {}), "data", "chart"),
    ],
)
def test_parts_of_a_message_are_attachments_of_its_edit(part: UserMessagePart, kind: str, name: str) -> None:
    attachment = attachment_of(part)
    assert (attachment.type, attachment.name, attachment.content) == (kind, name, (part,))
