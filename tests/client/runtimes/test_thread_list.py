"""Many threads, of which one is shown."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from threadwire.client.errors import InvalidAdapter, MessageNotSent, NotFound, NotNow, NotSupported
from threadwire.client.runtimes.external_threads import (
    ExternalThread,
    ExternalThreadList,
    ExternalThreadListAdapter,
)
from threadwire.client.runtimes.local import LocalRuntime
from threadwire.client.runtimes.thread_list import (
    InitializedThread,
    RemoteThread,
    ThreadItem,
    ThreadList,
    ThreadPage,
)
from threadwire.messages.chat_model import ChatModelRunOptions
from threadwire.messages.model import ThreadMessage, message_text

pytestmark = pytest.mark.anyio


class Kept:
    """Keeps threads, and what was asked of it."""

    def __init__(self, *threads: RemoteThread, page: int = 10) -> None:
        self.threads = list(threads)
        self.page = page
        self.log: list[Any] = []
        self.failure: Exception | None = None
        self.gate = anyio.Event()
        self.gate.set()

    async def _note(self, *what: Any) -> None:
        self.log.append(what)
        await self.gate.wait()
        if self.failure is not None:
            raise self.failure

    async def list(self, after: str | None = None) -> ThreadPage:
        await self._note("list", after)
        start = int(after or 0)
        end = start + self.page
        more = str(end) if end < len(self.threads) else None
        return ThreadPage(threads=tuple(self.threads[start:end]), next_cursor=more)

    async def initialize(self, thread_id: str) -> InitializedThread:
        await self._note("initialize")
        return InitializedThread(remote_id=f"r{len(self.log)}", external_id="e")

    async def rename(self, remote_id: str, title: str) -> None:
        await self._note("rename", remote_id, title)

    async def archive(self, remote_id: str) -> None:
        await self._note("archive", remote_id)

    async def unarchive(self, remote_id: str) -> None:
        await self._note("unarchive", remote_id)

    async def delete(self, remote_id: str) -> None:
        await self._note("delete", remote_id)

    async def fetch(self, remote_id: str) -> RemoteThread:
        await self._note("fetch", remote_id)
        return RemoteThread(remote_id=remote_id, title="fetched")

    async def generate_title(self, remote_id: str, messages: Sequence[ThreadMessage]) -> AsyncIterator[str]:
        await self._note("title", [message_text(message) for message in messages])
        yield "About "
        yield message_text(messages[0])


async def model(options: ChatModelRunOptions) -> Any:
    return {"content": [{"type": "text", "text": "Hello"}]}


def local(item: ThreadItem[LocalRuntime]) -> LocalRuntime:
    return LocalRuntime(model, initialize=item.initialize)


def threads_of(adapter: Kept, **options: Any) -> ThreadList[LocalRuntime]:
    return ThreadList(adapter, local, **options)


async def settle() -> None:
    for _ in range(100):
        await anyio.lowlevel.checkpoint()


def three() -> Kept:
    return Kept(
        RemoteThread(remote_id="a", title="A"),
        RemoteThread(remote_id="b", title="B"),
        RemoteThread(remote_id="c", title="C", status="archived"),
    )


async def test_thread_is_made_before_its_first_message_is_answered_and_gets_a_title() -> None:
    adapter = three()
    async with threads_of(adapter) as threads:
        await settle()
        new_id = threads.main_thread_id
        assert threads.new_thread_id == new_id
        assert threads.thread_ids == ("a", "b")
        await threads.main.append("cats")
        await settle()
        item = threads.item(new_id)
        assert (item.status, item.remote_id, item.external_id) == ("regular", "r2", "e")
        assert item.title == "About cats"
        assert threads.thread_ids == (new_id, "a", "b")
        assert threads.item("r2") is item
        await threads.main.append("dogs")
        await settle()
        assert [each[0] for each in adapter.log] == ["list", "initialize", "title"]


async def test_threads_are_listed_page_by_page() -> None:
    adapter = Kept(*(RemoteThread(remote_id=f"t{at}") for at in range(5)), page=2)
    async with threads_of(adapter) as threads:
        await settle()
        assert (threads.thread_ids, threads.has_more) == (("t0", "t1"), True)
        await threads.load_more()
        await threads.load_more()
        assert (threads.thread_ids, threads.has_more) == (("t0", "t1", "t2", "t3", "t4"), False)
        await threads.load_more()
        assert [each for each in adapter.log if each[0] == "list"] == [
            ("list", None),
            ("list", "2"),
            ("list", "4"),
        ]
        adapter.threads = [RemoteThread(remote_id="t9"), *adapter.threads[:1]]
        await threads.load()
        assert threads.thread_ids == ("t9", "t0")


async def test_failed_list_is_told_and_can_be_loaded_again() -> None:
    adapter = three()
    adapter.failure = OSError("offline")
    async with threads_of(adapter) as threads:
        await settle()
        assert str(threads.load_error) == "offline"
        adapter.failure = None
        await threads.load()
        assert (threads.load_error, threads.thread_ids) == (None, ("a", "b"))


async def test_each_thread_keeps_its_runtime_while_another_is_shown() -> None:
    async with threads_of(three()) as threads:
        await settle()
        await threads.switch_to_thread("a")
        await threads.main.append("in a")
        first = threads.main
        await threads.switch_to_thread("b")
        assert threads.main.messages == ()
        await threads.switch_to_thread("a")
        assert threads.main is first
        await threads.switch_to_new_thread()
        new = threads.main_thread_id
        await threads.switch_to_new_thread()
        assert threads.main_thread_id == new
        await threads.detach("a")
        await threads.switch_to_thread("a")
        assert threads.main is not first


async def test_changes_are_shown_at_once_and_taken_back_where_they_are_refused() -> None:
    adapter = three()
    async with threads_of(adapter) as threads:
        await settle()
        adapter.gate = anyio.Event()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(threads.rename, "a", "new")
            tasks.start_soon(threads.archive, "b")
            await settle()
            assert threads.item("a").title == "new"
            assert (threads.thread_ids, threads.archived_thread_ids) == (("a",), ("b", "c"))
            adapter.gate.set()
        adapter.failure = OSError("offline")
        for attempt in (
            lambda: threads.rename("a", "other"),
            lambda: threads.unarchive("c"),
            lambda: threads.delete("a"),
        ):
            with pytest.raises(OSError, match="offline"):
                await attempt()
        assert threads.item("a").title == "new"
        assert (threads.thread_ids, threads.archived_thread_ids) == (("a",), ("b", "c"))


async def test_archiving_and_deleting_the_main_thread_shows_a_new_one() -> None:
    adapter = three()
    async with threads_of(adapter) as threads:
        await settle()
        await threads.switch_to_thread("a")
        await threads.archive("a")
        assert threads.main_thread_id == threads.new_thread_id
        await threads.switch_to_thread("b")
        await threads.delete("b")
        assert threads.main_thread_id == threads.new_thread_id
        with pytest.raises(NotFound):
            threads.item("b")
        assert threads.archived_thread_ids == ("a", "c")


async def test_archived_thread_is_taken_out_when_it_is_shown() -> None:
    adapter = three()
    async with threads_of(adapter) as threads:
        await settle()
        await threads.switch_to_thread("c", unarchive=False)
        assert threads.archived_thread_ids == ("c",)
        await threads.switch_to_new_thread()
        await threads.switch_to_thread("c")
        assert threads.archived_thread_ids == ()
        assert ("unarchive", "c") in adapter.log


async def test_thread_that_is_not_listed_is_fetched() -> None:
    adapter = three()
    async with threads_of(adapter, thread_id="z") as threads:
        assert threads.item("z").title == "fetched"
        await settle()
        assert threads.main_thread_id == "z"
        assert threads.thread_ids == ("a", "b", "z")


async def test_thread_that_cannot_be_fetched_is_raised_as_it_is() -> None:
    adapter = three()
    adapter.failure = OSError("offline")
    with pytest.raises(OSError, match="offline"):
        async with threads_of(adapter, thread_id="z"):
            pass


async def test_later_choice_of_a_thread_counts() -> None:
    adapter = three()
    async with threads_of(adapter) as threads:
        await settle()
        adapter.gate = anyio.Event()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(threads.switch_to_thread, "slow")
            await settle()
            await threads.switch_to_thread("a")
            adapter.gate.set()
        assert threads.main_thread_id == "a"


async def test_thread_that_cannot_be_made_gives_the_message_back() -> None:
    adapter = three()
    async with threads_of(adapter) as threads:
        await settle()
        adapter.failure = OSError("offline")
        threads.main.composer.text = "Hi"
        with pytest.raises(MessageNotSent):
            await threads.main.composer.send()
        assert threads.main.composer.text == "Hi"
        assert threads.new_thread_id == threads.main_thread_id
        adapter.failure = None
        await threads.main.composer.send()
        assert len(threads.thread_ids) == 3


async def test_title_that_is_given_by_hand_stays() -> None:
    adapter = three()
    async with threads_of(adapter) as threads:
        await settle()
        await threads.switch_to_thread("a")
        await threads.main.append("cats")
        adapter.gate = anyio.Event()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(threads.generate_title, "a")
            tasks.start_soon(threads.rename, "a", "mine")
            await settle()
            adapter.gate.set()
        assert threads.item("a").title == "mine"
        await threads.generate_title("a")
        assert threads.item("a").title == "About cats"


async def test_misuse_is_refused() -> None:
    threads = threads_of(three())
    with pytest.raises(NotNow):
        _ = threads.main
    async with threads:
        await settle()
        for attempt in (
            lambda: threads.rename(threads.main_thread_id, "x"),
            lambda: threads.archive("c"),
            lambda: threads.unarchive("a"),
            lambda: threads.generate_title("a"),
        ):
            with pytest.raises(NotNow):
                await attempt()
        with pytest.raises(NotFound):
            await threads.rename("x", "y")
        with pytest.raises(NotSupported):
            await threads.update_custom("a", {})


# threads that somebody else owns


async def test_owner_is_asked_about_its_threads() -> None:
    asked: list[Any] = []

    async def keep(*args: Any) -> None:
        asked.append(args)

    adapter = ExternalThreadListAdapter(
        thread_id="a",
        threads=[ExternalThread(id="a")],
        archived_threads=[ExternalThread(id="b")],
        on_switch_to_new_thread=keep,
        on_switch_to_thread=keep,
        on_rename=keep,
        on_archive=keep,
        on_unarchive=lambda id: asked.append((id,)),
    )
    threads = ExternalThreadList(adapter)
    assert (threads.main_thread_id, threads.thread_ids, threads.archived_thread_ids) == ("a", ("a",), ("b",))
    await threads.switch_to_new_thread()
    await threads.switch_to_thread("b")
    await threads.rename("a", "x")
    await threads.archive("a")
    await threads.unarchive("b")
    assert asked == [(), ("b",), ("a", "x"), ("a",), ("b",)]
    with pytest.raises(NotFound):
        await threads.archive("x")
    with pytest.raises(NotSupported):
        await threads.delete("a")
    with pytest.raises(InvalidAdapter) as caught:
        threads.set_adapter(ExternalThreadListAdapter(on_delete=3))  # type: ignore[arg-type]
    assert caught.value.field == "on_delete"
    threads.set_adapter(ExternalThreadListAdapter())
    assert threads.thread_ids == ()
