"""When a state is stored whole, so that loading its thread need not read all of the log, which is trimmed.

`thread` has the state and tells how the log grows; `retention` says what of the log may go.

Spec: PROTOCOL.md §4.7.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

from ..core.errors import StoreError
from .retention import Retention
from .store import Owned, Store, StoredSnapshot

if TYPE_CHECKING:
    from .thread import Thread

logger = logging.getLogger("threadwire")

_SNAPSHOT_BYTES: Final = 256 * 1024
_SNAPSHOT_ROWS: Final = 5000
"""A snapshot is stored when the rows since the last weigh this and more than the state, or are so many."""
_RUN_BYTES: Final = 32 * 1024 * 1024
"""What a run may write in rows after a snapshot before another is stored."""


class Storing:
    """One for each loaded thread."""

    __slots__ = ("_bytes", "_retention", "_seq", "_store", "_thread", "busy", "log_bytes")

    def __init__(self, thread: Thread, store: Store, owned: Owned) -> None:
        settings = thread.settings
        self._thread = thread
        self._store = store
        self._retention = Retention(
            settings, time=min(settings.clock(), owned.record.updated_at), seq=owned.head
        )
        self._seq = owned.snapshot.seq if owned.snapshot else 0
        """That of the last snapshot."""
        self._bytes = 0
        """The log's bytes up to there."""
        self.log_bytes = 0
        """Those of all rows since the thread was loaded: the thread adds to it."""
        self.busy = False
        """Whether one is being stored."""

    @property
    def worthwhile(self) -> bool:
        """Whether a snapshot would make the next loading shorter."""
        return self._thread.head - self._seq > 20 and not self._base_at_stake

    @property
    def _base_at_stake(self) -> bool:
        """Whether a snapshot would drop the last that leads to the run's start, which may be rolled back to.

        So would the second that is stored after the run began.
        """
        base = self._thread.runner.base
        return base is not None and self._seq > base

    def check(self) -> None:
        """An update was committed: begins to store a snapshot where one is due."""
        # Once for each token: two comparisons, mostly.
        written = self.log_bytes - self._bytes
        rows = self._thread.head - self._seq
        if written <= _SNAPSHOT_BYTES and rows <= _SNAPSHOT_ROWS:
            return
        due = written > max(_SNAPSHOT_BYTES, self._thread.size) or rows > _SNAPSHOT_ROWS
        if self._base_at_stake:
            due = written > _RUN_BYTES
        if due and not self.busy:
            self.busy = True
            self._thread.spawn(self.store())

    async def store(self) -> None:
        """Stores the committed state and trims the log; if that fails, the next time will do."""
        thread = self._thread
        self.busy = True
        try:
            snapshot = await thread.snapshot("msgpack")
            self._seq = snapshot.seq
            self._bytes = self.log_bytes
            await self._store.save_snapshot(
                thread.id,
                StoredSnapshot(snapshot.seq, snapshot.epoch, snapshot.state),
                keep_after=min(
                    self._retention.droppable(snapshot.seq, self.log_bytes),
                    thread.head if thread.runner.base is None else thread.runner.base,
                ),
            )
        except StoreError as error:
            logger.warning("thread %s: no snapshot stored: %s", thread.id, error)
        finally:
            self.busy = False
