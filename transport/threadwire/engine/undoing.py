"""Undoes what a run wrote: by one update, which leaves what handlers beside it have written.

The log is never shortened. When a run is undone is the business of `runner`, above.

Spec: PROTOCOL.md §7.4.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from typing import TYPE_CHECKING, TypeVar

from ..core.document import DetachedWrite
from ..core.errors import StoreError, StoreUnavailable
from ..core.operations import Json, Path
from .beside import keep_written
from .notes import Notes
from .store import RunRecord

if TYPE_CHECKING:
    from .thread import Thread

logger = logging.getLogger("threadwire")

T = TypeVar("T")


async def undo(thread: Thread, run: RunRecord, kept: Iterable[Path]) -> bool:
    """Brings the thread's state back to where it was when the run began, but for what is at the paths `kept`.

    Where the log doesn't reach back so far the state stays. Returns whether the thread is still here.
    """
    try:
        # First it becomes durable: what is applied by it has to have been in the state.
        await thread.flush()
        old, notes = await _patiently(thread, lambda: _read_base(thread, run.base))
    except StoreError as failure:
        thread.lose(failure)
        return False
    except LookupError:
        logger.warning("thread %s: too much was written since the run began to undo it", thread.id)
        return True
    if thread.closed:
        return False
    try:
        _bring_back(thread, old, kept)
        thread.agent.rolled_back(run.id, Notes(notes, check=lambda: None, changed=thread.note_changed))
    except Exception:
        logger.exception("thread %s: not all of the run %s was undone", thread.id, run.id)
    return True


async def _read_base(thread: Thread, base: int) -> tuple[Json, dict[str, bytes]]:
    return await thread.state_at(base), await thread.stored_notes()


async def _patiently(thread: Thread, call: Callable[[], Awaitable[T]]) -> T:
    """What `call` returns, tried again for as long as a failing append is."""
    loop = asyncio.get_running_loop()
    failing_since: float | None = None
    while True:
        try:
            return await call()
        except StoreUnavailable:
            now = loop.time()
            failing_since = now if failing_since is None else failing_since
            if thread.closed or now - failing_since >= thread.settings.store_patience_s:
                raise
            await asyncio.sleep(0.05 + (now - failing_since) / 4)


def _bring_back(thread: Thread, old: Json, kept: Iterable[Path]) -> None:
    document = thread.document
    with suppress(DetachedWrite):  # it is being undone
        document.check_loans(last=True)
    document.replace(keep_written(old, document.root, kept))
