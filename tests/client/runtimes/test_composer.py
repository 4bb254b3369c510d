"""Where messages are written."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from threadwire.client.errors import MessageNotSent, NotFound, NotNow, NotSupported
from threadwire.client.runtimes.actions import AppendMessage
from threadwire.client.runtimes.adapters import DictationResult
from threadwire.client.runtimes.attachments import (
    Attachment,
    AttachmentFailedStatus,
    File,
    PendingAttachment,
    SimpleTextAttachmentAdapter,
    UploadingStatus,
    complete,
)
from threadwire.client.runtimes.external_store import (
    ExternalStoreAdapter,
    ExternalStoreRuntime,
    RuntimeAdapters,
)
from threadwire.messages.like import from_thread_message_like
from threadwire.messages.model import (
    CompleteAttachment,
    ImageMessagePart,
    TextMessagePart,
    message_text,
    replace,
)

pytestmark = pytest.mark.anyio

TEXT = File("a.txt", "text/plain", b"inside")


class Uploading(SimpleTextAttachmentAdapter):
    """Uploads when it is told to."""

    def __init__(self) -> None:
        self.go_on = anyio.Event()
        self.sending = anyio.Event()
        self.removed: list[str] = []
        self.fails = False

    async def remove(self, attachment: Attachment) -> None:
        self.removed.append(attachment.name)

    async def send(self, attachment: PendingAttachment) -> CompleteAttachment:
        self.sending.set()
        await self.go_on.wait()
        if self.fails:
            raise OSError("upload failed")
        return complete(attachment, TextMessagePart("uploaded"))


def runtime_of(
    got: list[AppendMessage], attachments: Any = None, **options: Any
) -> ExternalStoreRuntime[Any]:
    options = {"on_new": got.append, "messages": [], **options}
    return ExternalStoreRuntime(
        ExternalStoreAdapter(adapters=RuntimeAdapters(attachments=attachments), **options)
    )


async def test_message_is_sent_with_all_that_belongs_to_it() -> None:
    got: list[AppendMessage] = []
    runtime = runtime_of(got, SimpleTextAttachmentAdapter())
    composer = runtime.composer
    composer.text, composer.quote, composer.run_config = "look", {"text": "this"}, {"custom": {"a": 1}}
    await composer.add_attachment(TEXT)
    await composer.send(start_run=False)
    (message,) = got
    assert (message_text(message), message.role, message.parent_id) == ("look", "user", None)
    assert message.attachments[0].content == (
        TextMessagePart('<attachment name="a.txt">\ninside\n</attachment>'),
    )
    assert message.metadata.custom == {"quote": {"text": "this"}}
    assert (message.run_config, message.start_run) == ({"custom": {"a": 1}}, False)
    assert (composer.text, composer.quote, composer.attachments) == ("", None, ())


async def test_empty_message_is_not_sent() -> None:
    runtime = runtime_of([])
    runtime.composer.text = "  \n"
    assert not runtime.composer.can_send
    with pytest.raises(NotNow, match="nothing"):
        await runtime.composer.send()


async def test_changes_are_announced_once() -> None:
    composer = runtime_of([]).composer
    changes: list[str] = []
    composer.subscribe(lambda: changes.append(composer.text))
    composer.text = "a"
    composer.text = "a"
    composer.role = "assistant"
    assert changes == ["a", "a"]


async def test_while_a_message_is_uploaded_another_can_be_written_but_not_sent() -> None:
    got: list[AppendMessage] = []
    adapter = Uploading()
    composer = runtime_of(got, adapter).composer
    composer.text = "one"
    await composer.add_attachment(TEXT)
    with anyio.fail_after(60):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(composer.send)
            await adapter.sending.wait()
            composer.text = "two"
            with pytest.raises(NotNow, match="being sent"):
                await composer.send()
            adapter.go_on.set()
    assert [message_text(message) for message in got] == ["one"]
    assert (composer.text, composer.attachments) == ("two", ())
    assert composer.can_send


async def test_attachment_that_is_removed_during_the_upload_is_not_sent() -> None:
    got: list[AppendMessage] = []
    adapter = Uploading()
    composer = runtime_of(got, adapter).composer
    composer.text = "one"
    await composer.add_attachment(TEXT)
    with anyio.fail_after(60):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(composer.send)
            await adapter.sending.wait()
            await composer.remove_attachment(composer.attachments[0].id)
            adapter.go_on.set()
    assert got[0].attachments == ()
    assert adapter.removed == ["a.txt"]


async def test_failed_upload_brings_the_draft_back() -> None:
    got: list[AppendMessage] = []
    adapter = Uploading()
    adapter.fails = True
    adapter.go_on.set()
    composer = runtime_of(got, adapter).composer
    composer.text = "one"
    await composer.add_attachment(TEXT)
    with pytest.raises(OSError, match="upload failed"):
        await composer.send()
    assert (got, composer.text, len(composer.attachments)) == ([], "one", 1)
    assert composer.can_send


async def test_cancelled_send_brings_the_draft_back() -> None:
    adapter = Uploading()
    composer = runtime_of([], adapter).composer
    composer.text = "one"
    await composer.add_attachment(TEXT)
    with anyio.fail_after(60):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(composer.send)
            await adapter.sending.wait()
            tasks.cancel_scope.cancel()
    assert (composer.text, len(composer.attachments)) == ("one", 1)
    assert composer.can_send


async def test_reset_during_the_upload_sends_nothing() -> None:
    got: list[AppendMessage] = []
    adapter = Uploading()
    composer = runtime_of(got, adapter).composer
    composer.text = "one"
    await composer.add_attachment(TEXT)
    with anyio.fail_after(60):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(composer.send)
            await adapter.sending.wait()
            await composer.reset()
            composer.text = "two"
            adapter.go_on.set()
    assert (got, composer.text, composer.attachments) == ([], "two", ())


async def test_message_that_nobody_took_comes_back_unless_another_is_being_written() -> None:
    async def refuse(message: AppendMessage) -> None:
        if message_text(message) == "two":
            runtime.composer.text = "three"
        raise MessageNotSent

    runtime = runtime_of([], on_new=refuse)
    for text, left in (("one", "one"), ("two", "three")):
        runtime.composer.text = text
        with pytest.raises(MessageNotSent):
            await runtime.composer.send()
        assert runtime.composer.text == left


async def test_states_of_an_upload_are_shown() -> None:
    class Progress(Uploading):
        async def add(self, file: File) -> AsyncIterator[PendingAttachment]:  # type: ignore[override]
            pending = await SimpleTextAttachmentAdapter().add(file)
            for progress in (0.0, 0.5):
                yield replace(pending, status=UploadingStatus(progress))
            if self.fails:
                raise OSError("lost")
            yield pending

    adapter = Progress()
    composer = runtime_of([], adapter).composer
    seen: list[Any] = []
    composer.subscribe(lambda: seen.append(composer.attachments[-1].status))
    await composer.add_attachment(TEXT)
    assert [getattr(status, "progress", "done") for status in seen] == [0.0, 0.5, "done"]
    adapter.fails = True
    with pytest.raises(OSError, match="lost"):
        await composer.add_attachment(TEXT)
    assert composer.attachments[-1].status == AttachmentFailedStatus("error", "lost")
    assert len(composer.attachments) == 2
    await composer.clear_attachments()
    assert composer.attachments == ()


async def test_complete_attachments_need_no_adapter() -> None:
    got: list[AppendMessage] = []
    composer = runtime_of(got).composer
    image = CompleteAttachment(id="i", type="image", name="i", content=(ImageMessagePart("https://x"),))
    await composer.add_attachment(image)
    await composer.send()
    assert got[0].attachments == (image,)
    assert got[0].content == ()
    with pytest.raises(NotSupported):
        await composer.add_attachment(TEXT)
    with pytest.raises(NotFound):
        await composer.remove_attachment("x")


async def test_file_of_another_type_is_refused() -> None:
    composer = runtime_of([], SimpleTextAttachmentAdapter()).composer
    with pytest.raises(NotSupported, match="accepted are"):
        await composer.add_attachment(File("a.png", "image/png", b""))


async def test_edit_takes_the_place_of_its_message() -> None:
    got: list[AppendMessage] = []
    first, second = (
        from_thread_message_like(
            {
                "id": id,
                "role": "user",
                "content": [{"type": "text", "text": id}, {"type": "image", "image": "https://x/y.png"}],
            }
        )
        for id in ("a", "b")
    )
    runtime = runtime_of([], messages=[first, second], on_edit=got.append)
    edit = runtime.begin_edit("b")
    assert runtime.edit_composer("b") is edit
    assert (edit.text, [each.type for each in edit.attachments]) == ("b", ["image"])
    with pytest.raises(NotNow):
        runtime.begin_edit("b")
    edit.text = "better"
    await edit.send()
    assert (got[0].parent_id, got[0].source_id, message_text(got[0])) == ("a", "b", "better")
    assert got[0].attachments[0].content == (ImageMessagePart("https://x/y.png"),)
    assert runtime.edit_composer("b") is None
    await runtime.begin_edit("a").cancel()
    assert runtime.edit_composer("a") is None
    assert len(got) == 1


async def test_edit_of_an_answer_keeps_what_is_not_text() -> None:
    got: list[AppendMessage] = []
    call = {"type": "tool-call", "toolCallId": "c", "toolName": "t", "args": {}, "result": 1}
    answer = from_thread_message_like(
        {"id": "a", "role": "assistant", "content": [{"type": "text", "text": "so"}, call]}
    )
    runtime = runtime_of([], messages=[answer], on_edit=got.append)
    edit = runtime.begin_edit("a")
    edit.text = "so it is"
    await edit.send()
    assert [part.type for part in got[0].content] == ["text", "tool-call"]
    assert got[0].role == "assistant"


class Speaking:
    """Hears what it is told."""

    def __init__(self, *results: DictationResult) -> None:
        self.results = results
        self.said = anyio.Event()
        self.closed = False

    @asynccontextmanager
    async def listen(self) -> AsyncIterator[AsyncIterator[DictationResult]]:
        async def results() -> AsyncIterator[DictationResult]:
            for result in self.results:
                yield result
            self.said.set()
            await anyio.sleep_forever()

        try:
            yield results()
        finally:
            self.closed = True


async def test_dictation_is_written_behind_the_text_until_it_is_stopped() -> None:
    adapter = Speaking(
        DictationResult("he", is_final=False),
        DictationResult("hello"),
        DictationResult("you", is_final=False),
    )
    runtime = runtime_of([])
    runtime.update(adapters=RuntimeAdapters(dictation=adapter))
    composer = runtime.composer
    composer.text = "Say:"
    seen: list[str] = []
    composer.subscribe(lambda: seen.append(composer.text))
    with anyio.fail_after(60):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(composer.dictate)
            await adapter.said.wait()
            assert composer.is_dictating
            composer.stop_dictation()
    assert [text for at, text in enumerate(seen) if at == 0 or text != seen[at - 1]] == [
        "Say:",
        "Say: he",
        "Say: hello",
        "Say: hello you",
    ]
    assert not composer.is_dictating
    assert adapter.closed
