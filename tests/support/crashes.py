"""Crashes at every moment: a store and a checkpointer that count what is written, and stop at one write.

A moment is just before or just after a write of either. At the moment that was asked for the process
is gone: nothing more reaches either disk, and no answer comes.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import BaseCheckpointSaver, CheckpointTuple

from tests.support.faulty_store import FaultyStore

Saver = BaseCheckpointSaver[Any]


class Gone(Exception):
    """The process that asks is no more."""


class Moments:
    """Counts them; at the one that was asked for, the process is gone."""

    def __init__(self, crash_at: int | None = None) -> None:
        self.crash_at = crash_at
        self.count = 0
        self.names: list[str] = []
        self.dead = False
        self.crashed = asyncio.Event()

    def reach(self, name: str) -> bool:
        """Whether the process is gone, now or before."""
        if not self.dead:
            self.count += 1
            self.names.append(name)
            if self.count == self.crash_at:
                self.die()
        return self.dead

    def die(self) -> None:
        self.dead = True
        self.crashed.set()


class CrashingStore(FaultyStore):
    """Its disk stays; `moments` is of one process, and is to be set anew for the next."""

    def __init__(self) -> None:
        super().__init__()
        self.moments = Moments()

    def _work(self) -> None:
        # Of what waits to be written, all is lost in a crash.
        if self.moments.reach("before store") or not self._jobs:
            self.crash()
            return
        super()._work()
        if self.moments.reach("after store"):
            self.crash()


class CrashingSaver(Saver):
    """A process's way to the checkpointer `disk`."""

    def __init__(self, disk: Saver, moments: Moments) -> None:
        super().__init__(serde=disk.serde)
        self.disk = disk
        self.moments = moments
        self.reads = 0

    def _check(self) -> None:
        if self.moments.dead:
            raise Gone

    def _reach(self, name: str) -> None:
        self.moments.reach(name)
        self._check()

    async def aget_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        self._check()
        self.reads += 1
        return await self.disk.aget_tuple(config)

    async def aput(self, config: Any, checkpoint: Any, metadata: Any, new_versions: Any) -> Any:
        self._reach("before checkpoint")
        saved = await self.disk.aput(config, checkpoint, metadata, new_versions)
        self._reach("after checkpoint")
        return saved

    async def aput_writes(
        self, config: Any, writes: Sequence[tuple[str, Any]], task_id: str, task_path: str = ""
    ) -> None:
        self._reach("before task")
        await self.disk.aput_writes(config, writes, task_id, task_path)
        self._reach("after task")

    async def alist(self, config: Any, **options: Any) -> AsyncIterator[CheckpointTuple]:  # type: ignore[override]
        self._check()
        async for found in self.disk.alist(config, **options):
            self.reads += 1
            yield found

    async def adelete_thread(self, thread_id: str) -> None:
        self._check()
        await self.disk.adelete_thread(thread_id)

    def get_next_version(self, current: Any, channel: None) -> Any:
        return self.disk.get_next_version(current, channel)
