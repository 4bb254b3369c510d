"""A list of threads that somebody else owns: it is shown, and what users do is handed on."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, fields
from typing import Any, Final

import msgspec

from ...core.operations import Json
from ..errors import InvalidAdapter, NotFound, NotSupported
from .calling import call, check_handler
from .subscribable import Subscribable


class ExternalThread(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """A thread as its owner knows it."""

    id: str
    remote_id: str | None = None
    external_id: str | None = None
    title: str | None = None
    custom: dict[str, Json] | None = None


@dataclass(frozen=True, kw_only=True)
class ExternalThreadListAdapter:
    """The threads, and what their owner does about them. Handlers may be coroutine functions."""

    thread_id: str | None = None
    threads: Sequence[ExternalThread] = ()
    archived_threads: Sequence[ExternalThread] = ()
    is_loading: bool = False
    on_switch_to_new_thread: Callable[[], Awaitable[None] | None] | None = None
    on_switch_to_thread: Callable[[str], Awaitable[None] | None] | None = None
    on_rename: Callable[[str, str], Awaitable[None] | None] | None = None
    on_update_custom: Callable[[str, dict[str, Json] | None], Awaitable[None] | None] | None = None
    on_archive: Callable[[str], Awaitable[None] | None] | None = None
    on_unarchive: Callable[[str], Awaitable[None] | None] | None = None
    on_delete: Callable[[str], Awaitable[None] | None] | None = None


_HANDLERS: Final = tuple(
    field.name for field in fields(ExternalThreadListAdapter) if field.name.startswith("on_")
)


class ExternalThreadList(Subscribable):
    """Shows the threads of an adapter. Raises InvalidAdapter where a handler can't be called."""

    def __init__(self, adapter: ExternalThreadListAdapter) -> None:
        super().__init__()
        self._adapter = adapter
        _check(adapter)

    def set_adapter(self, adapter: ExternalThreadListAdapter) -> None:
        """Shows what the adapter says now. Raises InvalidAdapter, and keeps the one it has."""
        _check(adapter)
        self._adapter = adapter
        self._notify()

    @property
    def main_thread_id(self) -> str | None:
        """The thread that is shown; None is a new one."""
        return self._adapter.thread_id

    @property
    def thread_ids(self) -> tuple[str, ...]:
        """The threads that aren't archived."""
        return tuple(thread.id for thread in self._adapter.threads)

    @property
    def archived_thread_ids(self) -> tuple[str, ...]:
        """Those that are."""
        return tuple(thread.id for thread in self._adapter.archived_threads)

    @property
    def is_loading(self) -> bool:
        """Whether the list is still on its way here."""
        return self._adapter.is_loading

    def item(self, thread_id: str) -> ExternalThread:
        """The thread of that id. Raises NotFound."""
        for thread in (*self._adapter.threads, *self._adapter.archived_threads):
            if thread.id == thread_id:
                return thread
        raise NotFound("thread", thread_id)

    async def switch_to_new_thread(self) -> None:
        """Asks for a new thread. Raises NotSupported."""
        await call(self._handler("on_switch_to_new_thread"))

    async def switch_to_thread(self, thread_id: str) -> None:
        """Asks for a thread to be shown. Raises NotSupported, NotFound."""
        await self._about("on_switch_to_thread", thread_id)

    async def rename(self, thread_id: str, title: str) -> None:
        """Asks for a title. Raises NotSupported, NotFound."""
        await self._about("on_rename", thread_id, title)

    async def update_custom(self, thread_id: str, custom: dict[str, Json] | None) -> None:
        """Asks for other custom data. Raises NotSupported, NotFound."""
        await self._about("on_update_custom", thread_id, custom)

    async def archive(self, thread_id: str) -> None:
        """Asks for a thread to be put away. Raises NotSupported, NotFound."""
        await self._about("on_archive", thread_id)

    async def unarchive(self, thread_id: str) -> None:
        """Asks for a thread to be taken out again. Raises NotSupported, NotFound."""
        await self._about("on_unarchive", thread_id)

    async def delete(self, thread_id: str) -> None:
        """Asks for a thread to be removed. Raises NotSupported, NotFound."""
        await self._about("on_delete", thread_id)

    async def _about(self, name: str, thread_id: str, *args: Any) -> None:
        handler = self._handler(name)
        self.item(thread_id)
        await call(handler, thread_id, *args)

    def _handler(self, name: str) -> Callable[..., Any]:
        handler: Callable[..., Any] | None = getattr(self._adapter, name)
        if handler is None:
            raise NotSupported(name.removeprefix("on_"), f"the thread list has no {name}")
        return handler


def _check(adapter: object) -> None:
    if not isinstance(adapter, ExternalThreadListAdapter):
        raise InvalidAdapter("adapter", f"an ExternalThreadListAdapter, not {type(adapter).__name__}")
    for name in _HANDLERS:
        check_handler(name, getattr(adapter, name))
