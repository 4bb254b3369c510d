"""Threads of clients that have no id for them yet, or one that nobody else knows.

A stock client sends the first message of a new thread without an id. Its thread is given a random
token for an id, which stands in its state, so the client sends it back with what follows: then the
id that comes along becomes another name of the thread. A thread that never gets a lasting name
goes some time after its last update.

Spec: PROTOCOL.md §14.11.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import logging
import re
from typing import Final

from ..core.draft import RESERVED
from ..core.errors import Refused, StoreError
from ..core.operations import Json
from .store import ThreadRecord
from .thread import Thread
from .threads import Threads

logger = logging.getLogger("threadwire")

_TOKEN: Final = re.compile(r"[A-Za-z0-9_-]{22}")
_PASSING: Final = "__LOCALID_"
"""How ids begin that a stock client makes for itself, and forgets with the page."""
_SWEEP_S: Final = 300.0
_BATCH: Final = 100


def token_of(*parts: bytes) -> str:
    """The token that these parts always give, and others never."""
    digest = hashlib.sha256(b"".join(b"%d:%b" % (len(part), part) for part in parts)).digest()
    return base64.urlsafe_b64encode(digest[:16]).rstrip(b"=").decode()


class AnonymousThreads:
    """What the stock clients' routes ask for threads."""

    def __init__(self, threads: Threads) -> None:
        self._threads = threads

    async def find(self, id: str | None, token: str | None) -> Thread | None:
        """The thread of a client that has this id for it, and this token in its state; None for a new one.

        Raises:
            Refused, StoreError: as `Threads.find`.
        """
        threads = self._threads
        found = None if id is None else await threads.find(id)
        if token is None or not _TOKEN.fullmatch(token) or (found is not None and not found.untouched):
            return found
        name = await threads.store.find_name(token)
        if name is None or not name.anonymous or name.id != token:
            return found
        if id is not None and not await self._bind(id, token):
            return found
        return await threads.find(token)

    async def _bind(self, id: str, token: str) -> bool:
        if id == token:
            return True
        bound = await self._threads.store.bind(id, token, keep=not id.startswith(_PASSING))
        if bound:
            self._threads.forget(id)
        return bound

    async def make(
        self, id: str | None, *, agent: str | None, token: str | None = None, seed: Json = None
    ) -> Thread:
        """A new thread, with the seed for its state; one without an id that lasts is anonymous.

        `token` is the id of an anonymous one, where it must be the same each time.

        Raises:
            Refused, StoreError: as `Threads.get`.
        """
        threads = self._threads
        if id is not None and not id.startswith(_PASSING):
            thread = await threads.get(id, agent=agent)
            if thread.untouched and seed is not None:
                thread.document.replace(seed)
            return thread
        token = token or threads.settings.new_token()
        name = agent or threads.default_agent
        if name not in threads.agents:
            raise Refused("not-found", f"no agent {name[:100]!r} is served here", "agent")
        now = threads.settings.clock()
        await threads.store.create(
            ThreadRecord(id=token, agent=name, created_at=now, updated_at=now), anonymous=True
        )
        if id is not None and not await threads.store.bind(id, token, keep=False):
            named = await threads.find(id)  # somebody was faster
            if named is not None:
                return named
        thread = await threads.get(token, agent=agent)
        if thread.untouched:
            if seed is not None:
                thread.document.replace(seed)
            thread.document.set((RESERVED,), {"thread": token})
        return thread

    async def expire(self) -> None:
        """Runs for ever: deletes anonymous threads whose time is up."""
        while True:
            await asyncio.sleep(min(_SWEEP_S, self._threads.settings.anonymous_s / 4))
            try:
                await self._delete_unused()
            except StoreError as error:
                logger.warning("anonymous threads were not deleted: %s", error)

    async def _delete_unused(self) -> None:
        threads = self._threads
        before = threads.settings.clock() - threads.settings.anonymous_s
        while True:
            # A loaded one is in use, or was a moment ago; it is soon unloaded where nobody uses it.
            limit = len(threads) + _BATCH
            ids = await threads.store.anonymous_before(before, limit=limit)
            unused = [id for id in ids if threads.loaded_as(id) is None]
            for id in unused:
                # Its client may have come back while others were deleted.
                record = await threads.store.thread(id)
                if record is not None and record.updated_at < before and threads.loaded_as(id) is None:
                    await threads.delete(id)
            if len(ids) < limit:
                return
