"""Many threads, of which one is shown: a list that is kept elsewhere, and a runtime for each in use.

A new thread lives here alone until its first message is sent; then the adapter makes it.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, aclosing
from datetime import datetime
from types import TracebackType
from typing import Any, Generic, Literal, Protocol, Self, TypeAlias, TypeVar

import anyio
import msgspec

from ...core.operations import Json
from ...messages.like import generate_id
from ...messages.model import RunningStatus, ThreadAssistantMessage, ThreadMessage
from ..errors import NotFound, NotNow, NotSupported
from .calling import call
from .subscribable import Subscribable
from .tasks import Tasks
from .thread import ThreadRuntime

R = TypeVar("R", bound=ThreadRuntime)
Status: TypeAlias = Literal["new", "regular", "archived", "deleted"]

log = logging.getLogger("threadwire.client")


class RemoteThread(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """A thread as the adapter knows it."""

    remote_id: str
    status: Literal["regular", "archived"] = "regular"
    external_id: str | None = None
    title: str | None = None
    last_message_at: datetime | None = None
    custom: dict[str, Json] | None = None


class ThreadPage(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """Some of the threads, the newest first; `next_cursor` asks for more."""

    threads: tuple[RemoteThread, ...]
    next_cursor: str | None = None


class InitializedThread(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """What the adapter calls a thread that it has made."""

    remote_id: str
    external_id: str | None = None


class RemoteThreadListAdapter(Protocol):
    """Where threads are kept. It may also have `async update_custom(remote_id, custom)`."""

    async def list(self, after: str | None = None) -> ThreadPage:
        """The first threads, or those after a cursor."""

    async def initialize(self, thread_id: str) -> InitializedThread:
        """Makes a thread that is new here."""

    async def rename(self, remote_id: str, title: str) -> None:
        """Gives it a title."""

    async def archive(self, remote_id: str) -> None:
        """Puts it away."""

    async def unarchive(self, remote_id: str) -> None:
        """Takes it out again."""

    async def delete(self, remote_id: str) -> None:
        """Removes it."""

    async def fetch(self, remote_id: str) -> RemoteThread:
        """One that wasn't listed."""

    def generate_title(
        self, remote_id: str, messages: Sequence[ThreadMessage]
    ) -> Awaitable[str | None] | AsyncIterator[str]:
        """A title for the messages, whole or piece by piece; kept by the time it is there."""


class ThreadItem(Generic[R]):
    """A thread of the list. Its `id` stays the same; `remote_id` is there once the adapter knows it."""

    def __init__(self, threads: ThreadList[R], id: str, status: Status, remote: RemoteThread | None) -> None:
        self._threads = threads
        self._initializing = anyio.Lock(fast_acquire=True)
        self._stop: anyio.Event | None = None
        self._ready = anyio.Event()
        self._failure: Exception | None = None
        self._titled_by_hand = False
        self.id = id
        self.status: Status = status
        self.remote_id = remote.remote_id if remote else None
        self.external_id = remote.external_id if remote else None
        self.title = remote.title if remote else None
        self.last_message_at = remote.last_message_at if remote else None
        self.custom = remote.custom if remote else None
        self.runtime: R | None = None
        """Its runtime, while it has one."""

    async def initialize(self) -> InitializedThread:
        """Makes the thread at the adapter, if it isn't yet. Raises what the adapter raises.

        A runtime calls it before the first message is kept: `LocalRuntime(initialize=...)`.
        """
        return await self._threads._initialize(self)


class ThreadList(Subscribable, Generic[R]):
    """The threads of an adapter, for the length of an `async with`; one is the main thread.

        def runtime(item):
            return LocalRuntime(model, initialize=item.initialize, adapters=...)

        async with ThreadList(adapter, runtime) as threads:
            await threads.main.append("Hi")                  # makes the thread
            await threads.switch_to_thread(threads.thread_ids[1])

    Changes are shown at once, and taken back where the adapter refuses. Threads that are left go on
    in the background. A thread without a title gets one after its first run.
    """

    def __init__(
        self,
        adapter: RemoteThreadListAdapter,
        make_runtime: Callable[[ThreadItem[R]], AbstractAsyncContextManager[R]],
        *,
        thread_id: str | None = None,
        automatic_titles: bool = True,
    ) -> None:
        super().__init__()
        self._adapter = adapter
        self._make_runtime = make_runtime
        self._first = thread_id
        self._automatic_titles = automatic_titles
        self._items: dict[str, ThreadItem[R]] = {}
        self._order: list[str] = []
        self._main: ThreadItem[R] | None = None
        self._switches = 0
        self._cursor: str | None = None
        self._loading = 0
        self._generation = 0
        self._load_error: Exception | None = None
        self._tasks = Tasks()

    async def __aenter__(self) -> Self:
        await self._tasks.__aenter__()
        try:
            if self._first is None:
                await self.switch_to_new_thread()
            else:
                await self.switch_to_thread(self._first)
            self._tasks.start(self.load)
        except BaseException as error:
            await self.__aexit__(type(error), error, error.__traceback__)
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        return await self._tasks.__aexit__(kind, error, trace)

    # what there is

    @property
    def main(self) -> R:
        """The runtime of the main thread."""
        if self._main is None or self._main.runtime is None:
            raise NotNow("the thread list is used in its `async with`")
        return self._main.runtime

    @property
    def main_thread_id(self) -> str:
        """The id of the main thread."""
        if self._main is None:
            raise NotNow("the thread list is used in its `async with`")
        return self._main.id

    @property
    def new_thread_id(self) -> str | None:
        """The id of the thread that isn't made yet, if there is one."""
        return next((each.id for each in self._items.values() if each.status == "new"), None)

    @property
    def thread_ids(self) -> tuple[str, ...]:
        """The threads that aren't archived, in the adapter's order."""
        return tuple(id for id in self._order if self._items[id].status == "regular")

    @property
    def archived_thread_ids(self) -> tuple[str, ...]:
        """Those that are."""
        return tuple(id for id in self._order if self._items[id].status == "archived")

    @property
    def is_loading(self) -> bool:
        """Whether threads are being listed."""
        return self._loading > 0

    @property
    def load_error(self) -> Exception | None:
        """Why the list couldn't be loaded the last time."""
        return self._load_error

    @property
    def has_more(self) -> bool:
        """Whether `load_more` would find more threads."""
        return self._cursor is not None

    def item(self, thread_id: str) -> ThreadItem[R]:
        """The thread of that id, which may be the adapter's. Raises NotFound."""
        item = self._find(thread_id)
        if item is None:
            raise NotFound("thread", thread_id)
        return item

    # the list

    async def load(self) -> None:
        """Lists the threads from the beginning; a failure is in `load_error`."""
        self._generation += 1
        await self._list(None)

    async def load_more(self) -> None:
        """Lists the threads after those that are known, if there are more and none are on their way."""
        if self._cursor is not None and not self._loading:
            await self._list(self._cursor)

    async def switch_to_thread(self, thread_id: str, *, unarchive: bool = True) -> None:
        """Makes a thread the main one; one that isn't listed is fetched, an archived one taken out.

        Raises what the adapter raises.
        """
        self._switches += 1
        switch = self._switches
        item = self._find(thread_id)
        if item is None:
            remote = await self._adapter.fetch(thread_id)
            item = self._find(remote.remote_id) or self._add(remote, at_end=True)
        await self._start(item)
        if switch != self._switches:
            return  # another one was chosen meanwhile
        if item.status == "archived" and unarchive:
            await self.unarchive(item.id)
        if switch == self._switches and item.status != "deleted":
            self._main = item
            self._notify()

    async def switch_to_new_thread(self) -> None:
        """Makes a thread that nothing has been sent to the main one."""
        new_id = self.new_thread_id
        if new_id is None:
            new_id = generate_id()
            self._items[new_id] = ThreadItem(self, new_id, "new", None)
        await self.switch_to_thread(new_id)

    async def rename(self, thread_id: str, title: str) -> None:
        """Gives a thread a title. Raises NotFound, NotNow, and what the adapter raises."""
        item = self._made(thread_id)
        before = item._titled_by_hand
        item._titled_by_hand = True
        try:
            await self._apply(item, "title", title, self._adapter.rename, title)
        except BaseException:
            item._titled_by_hand = before
            raise

    async def update_custom(self, thread_id: str, custom: dict[str, Json] | None) -> None:
        """Gives a thread other custom data. Raises as `rename`, and NotSupported."""
        update = getattr(self._adapter, "update_custom", None)
        if update is None:
            raise NotSupported("custom", "the adapter has no update_custom")
        await self._apply(self._made(thread_id), "custom", custom, update, custom)

    async def archive(self, thread_id: str) -> None:
        """Puts a thread away. Raises as `rename`."""
        item = self._made(thread_id, "regular")
        await self._leave(item)
        await self._apply(item, "status", "archived", self._adapter.archive)

    async def unarchive(self, thread_id: str) -> None:
        """Takes a thread out again. Raises as `rename`."""
        item = self._made(thread_id, "archived")
        await self._apply(item, "status", "regular", self._adapter.unarchive)

    async def delete(self, thread_id: str) -> None:
        """Removes a thread, and ends its runtime. Raises as `rename`."""
        item = self._made(thread_id)
        await self._leave(item)
        await self._apply(item, "status", "deleted", self._adapter.delete)
        self._items.pop(item.id, None)
        self._order = [id for id in self._order if id != item.id]
        self._end(item)
        self._notify()

    async def detach(self, thread_id: str) -> None:
        """Ends the runtime of a thread, which stays in the list. Raises NotFound, NotNow."""
        item = self._made(thread_id)
        await self._leave(item)
        self._end(item)

    async def generate_title(self, thread_id: str) -> None:
        """Gives a thread the title that the adapter finds for its messages.

        A title that is given by hand meanwhile stays. Raises as `rename`.
        """
        item = self._made(thread_id)
        if item.runtime is None:
            raise NotNow("the thread isn't open")
        item._titled_by_hand = False
        made = await item.initialize()
        answer: Any = self._adapter.generate_title(made.remote_id, _settled(item.runtime.messages))
        if inspect.isawaitable(answer):
            self._set_title(item, await answer)
            return
        title = ""
        async with aclosing(answer):
            async for piece in answer:
                title += piece
                self._set_title(item, title)

    # inside

    def _find(self, thread_id: str) -> ThreadItem[R] | None:
        item = self._items.get(thread_id)
        if item is None:
            item = next((each for each in self._items.values() if each.remote_id == thread_id), None)
        return item if item is not None and item.status != "deleted" else None

    def _made(self, thread_id: str, status: Status | None = None) -> ThreadItem[R]:
        item = self.item(thread_id)
        if item.status == "new" or (status is not None and item.status != status):
            raise NotNow(f"the thread {thread_id!r} is {item.status}")
        return item

    def _add(self, remote: RemoteThread, *, at_end: bool) -> ThreadItem[R]:
        item = ThreadItem(self, remote.remote_id, remote.status, remote)
        self._items[item.id] = item
        self._order.insert(len(self._order) if at_end else 0, item.id)
        return item

    async def _list(self, cursor: str | None) -> None:
        generation = self._generation
        self._loading += 1
        self._load_error = None
        before = {item.remote_id: item.status for item in self._items.values()}
        self._notify()
        try:
            page = await self._adapter.list(cursor)
        except Exception as error:
            log.warning("the threads can't be listed: %s", error)
            if generation == self._generation:
                self._load_error = error
            return
        else:
            if generation == self._generation:
                self._take(page, before, from_start=cursor is None)
        finally:
            self._loading -= 1
            self._notify()

    def _take(self, page: ThreadPage, before: dict[str | None, Status], *, from_start: bool) -> None:
        listed: list[str] = []
        for remote in page.threads:
            item = next((each for each in self._items.values() if each.remote_id == remote.remote_id), None)
            if item is None:
                if remote.remote_id in before:
                    continue  # it was deleted while it was listed
                item = self._add(remote, at_end=True)
            elif item.status == before.get(remote.remote_id):  # else it changed meanwhile
                item.status = remote.status
                item.title = remote.title if not item._titled_by_hand else item.title
                item.external_id, item.custom = remote.external_id, remote.custom
                item.last_message_at = remote.last_message_at
            listed.append(item.id)
        self._cursor = page.next_cursor
        if from_start:
            # Threads that were made meanwhile stay in front; those in use stay in the list.
            others = [id for id in self._order if id not in set(listed)]
            fresh = [id for id in others if self._items[id].remote_id not in before]
            kept = [id for id in others if id not in fresh and self._items[id].runtime is not None]
            for id in set(others) - set(fresh) - set(kept):
                del self._items[id]
            self._order = [*fresh, *listed, *kept]

    async def _initialize(self, item: ThreadItem[R]) -> InitializedThread:
        async with item._initializing:
            if item.remote_id is None:
                item.status = "regular"
                self._order.insert(0, item.id)
                self._notify()
                try:
                    made = await self._adapter.initialize(item.id)
                except BaseException:
                    item.status = "new"
                    self._order.remove(item.id)
                    self._notify()
                    raise
                item.remote_id, item.external_id = made.remote_id, made.external_id
                self._notify()
            return InitializedThread(remote_id=item.remote_id, external_id=item.external_id)

    async def _apply(
        self, item: ThreadItem[R], field: str, value: Any, send: Callable[..., Any], *args: Any
    ) -> None:
        """Shows a change at once, and takes it back where the adapter refuses."""
        before = getattr(item, field)
        setattr(item, field, value)
        self._notify()
        try:
            made = await item.initialize()
            await call(send, made.remote_id, *args)
        except BaseException:
            if getattr(item, field) == value:
                setattr(item, field, before)
                self._notify()
            raise

    async def _leave(self, item: ThreadItem[R]) -> None:
        if item is self._main:
            await self.switch_to_new_thread()

    async def _start(self, item: ThreadItem[R]) -> None:
        if item._stop is None:
            item._stop = anyio.Event()
            item._ready, item._failure = anyio.Event(), None
            self._tasks.start(self._host, item, item._stop)
        await item._ready.wait()
        if item._failure is not None:
            raise item._failure

    def _end(self, item: ThreadItem[R]) -> None:
        if item._stop is not None:
            item._stop.set()
            item._stop = None

    async def _host(self, item: ThreadItem[R], stop: anyio.Event) -> None:
        """Keeps the item's runtime open, for as long as it is wanted."""
        try:
            async with self._make_runtime(item) as runtime:
                item.runtime = runtime
                item._ready.set()
                async with anyio.create_task_group() as tasks:
                    if self._automatic_titles:
                        tasks.start_soon(self._title_after_first_run, item, runtime)
                    await stop.wait()
                    tasks.cancel_scope.cancel()
        except Exception as error:
            if item._ready.is_set():
                raise
            item._failure = error
        finally:
            if item._stop is stop:
                item._stop = None
            item.runtime = None
            item._ready.set()

    async def _title_after_first_run(self, item: ThreadItem[R], runtime: R) -> None:
        await runtime.wait(lambda: runtime.is_running)
        await runtime.wait(lambda: not runtime.is_running)
        if item.status not in ("regular", "archived") or item.title is not None or item._titled_by_hand:
            return
        try:
            await self.generate_title(item.id)
        except Exception as error:
            log.warning("the thread %s gets no title: %s", item.id, error)

    def _set_title(self, item: ThreadItem[R], title: str | None) -> None:
        if title and not item._titled_by_hand:
            item.title = title
            self._notify()


def _settled(messages: Sequence[ThreadMessage]) -> tuple[ThreadMessage, ...]:
    """Those that aren't being written any more."""
    return tuple(
        message
        for message in messages
        if not (isinstance(message, ThreadAssistantMessage) and isinstance(message.status, RunningStatus))
    )
