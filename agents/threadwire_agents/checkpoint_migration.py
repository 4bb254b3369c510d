"""Brings graphs' checkpoints along when threads are copied from an SQLite file into PostgreSQL.

They go through the two checkpointers themselves, so that each writes its own tables. The ids stay: a
thread's notes name them. What was copied before is written again without harm.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections import defaultdict
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

from threadwire.core.errors import StoreError, first_line

from .checkpoints_file import checkpoints_file

if TYPE_CHECKING:
    from langgraph.checkpoint.base import CheckpointTuple

    from .langgraph.saver import Saver

_SQLITE = "sqlite:///"


async def copy_checkpoints(
    source: str, target: str, *, progress: Callable[[str, int], None] = lambda what, count: None
) -> int:
    """Copies the checkpoints beside the store `source`, a sqlite:/// URL, to those beside `target`.

    Returns how many there were.

    Raises:
        StoreError: a checkpointer can't be used, a checkpoint can't be written, or a package is missing.
    """
    file = checkpoints_file(source.removeprefix(_SQLITE))
    if not file.is_file():
        return 0
    try:
        from .langgraph.savers import saver_beside
    except ImportError as error:
        hint = "pip install 'threadwire[langgraph-postgresql]'"
        raise StoreError(f"{file} has graphs' checkpoints, and to copy them {error}: {hint}") from error
    copied = 0
    try:
        async with saver_beside(source) as old, saver_beside(target) as new:
            for thread in await asyncio.to_thread(_threads, file):
                writer = _Writer(new)
                async for found in old.alist({"configurable": {"thread_id": thread}}):
                    await writer.write(found)
                    copied += 1
                    progress("checkpoints", copied)
    except (StoreError, ImportError) as error:
        raise StoreError(str(error)) from error
    except Exception as error:  # of either checkpointer's driver
        message = f"the checkpoints in {file} were not copied: {first_line(error)}"
        raise StoreError(message) from error
    return copied


def _threads(file: Path) -> list[str]:
    with closing(sqlite3.connect(file)) as connection:
        rows = connection.execute("SELECT DISTINCT thread_id FROM checkpoints").fetchall()
    return [thread for (thread,) in rows]


class _Writer:
    """Writes the checkpoints of one thread."""

    def __init__(self, saver: Saver) -> None:
        self._saver = saver
        self._written: set[tuple[str, str, Any]] = set()
        """In a file each checkpoint has all values of its own; in tables a value is there once."""

    async def write(self, found: CheckpointTuple) -> None:
        from langgraph.checkpoint.base import WRITES_IDX_MAP

        place: dict[str, Any] = found.config["configurable"]
        thread, namespace = place["thread_id"], place["checkpoint_ns"]
        parent = None if found.parent_config is None else found.parent_config["configurable"]
        new = {}
        for channel, version in found.checkpoint["channel_versions"].items():
            value = (namespace, channel, version)
            if value not in self._written:
                self._written.add(value)
                new[channel] = version
        below = {
            "thread_id": thread,
            "checkpoint_ns": namespace,
            "checkpoint_id": None if parent is None else parent["checkpoint_id"],
        }
        await self._saver.aput({"configurable": below}, found.checkpoint, found.metadata, new)
        # The special ones apart: they would take up the others' numbers.
        writes: defaultdict[tuple[str, bool], list[tuple[str, Any]]] = defaultdict(list)
        for task, channel, value in found.pending_writes or ():
            writes[task, channel in WRITES_IDX_MAP].append((channel, value))
        for (task, _), several in writes.items():
            await self._saver.aput_writes(found.config, several, task)
