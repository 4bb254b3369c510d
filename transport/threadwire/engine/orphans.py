"""Threads that no node has, though something is to be done in them: each node takes up some.

Their owner has crashed, was cut off, or has given them away.
"""

from __future__ import annotations

import asyncio
import logging
import random
from typing import TYPE_CHECKING, Final

import anyio

from ..core.errors import Refused, StoreError
from .followed import Followed
from .shared import SharedStore
from .signals import Free

if TYPE_CHECKING:
    from .nodes import Nodes
    from .threads import Threads

logger = logging.getLogger("threadwire")

_LOOK_S: Final = 0.8
"""How often the store is asked for some, at least."""
_AT_ONCE: Final = 16
"""So that other nodes get their share."""
_SET_ASIDE_S: Final = 30.0
"""For how long a thread that could not be taken up is left to others."""


class Orphans:
    """One for each `Nodes`."""

    def __init__(self, nodes: Nodes, threads: Threads, store: SharedStore) -> None:
        self._nodes = nodes
        self._threads = threads
        self._store = store
        self._dice = random.Random(store.node)
        self._loop = asyncio.get_running_loop()
        self._wanted = asyncio.Event()
        self._set_aside: dict[str, float] = {}

    def look(self) -> None:
        """There may be some now."""
        self._wanted.set()

    async def take_up(self) -> None:
        """Waits until it is time, then takes up what it finds. Raises StoreError."""
        with anyio.move_on_after(_LOOK_S * self._dice.uniform(0.7, 1.1)):
            await self._wanted.wait()
        self._wanted.clear()
        if self._threads.draining:
            return
        now = self._loop.time()
        self._set_aside = {id: until for id, until in self._set_aside.items() if until > now}
        limit = _AT_ONCE + len(self._set_aside)
        found = await self._store.orphans(list(self._threads.agents), limit=limit)
        # Those that it owns have leases that were not begun anew in time: they are about to be.
        ids = [id for id in found if id not in self._set_aside and not self._nodes.owns(id)]
        if len(ids) >= _AT_ONCE:
            self.look()
            self._nodes.say(None, Free(threads=[]))  # the others shall take theirs
        await self._take(ids)

    async def _take(self, ids: list[str]) -> None:
        tasks = []
        for id in ids:
            thread = self._threads.loaded_as(id)
            if isinstance(thread, Followed):
                tasks.append(self._nodes.promote(thread))
            elif thread is None:
                tasks.append(self._threads.spawn(self._load(id)))
        if tasks:
            await asyncio.wait(tasks, timeout=_LOOK_S)

    async def _load(self, id: str) -> None:
        try:
            await self._threads.find(id)
        except StoreError as error:
            logger.warning("thread %s was not taken up: %s", id, error)
        except Refused as error:
            logger.warning("thread %s can't be taken up: %s", id, error)
            self._set_aside[id] = self._loop.time() + _SET_ASIDE_S
        except Exception:
            logger.exception("thread %s can't be taken up", id)
            self._set_aside[id] = self._loop.time() + _SET_ASIDE_S
