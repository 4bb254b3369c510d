"""`GET /healthz` and `GET /readyz`: whether the process lives, and whether it should be given work.

Spec: PROTOCOL.md §14.8.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from ..core.errors import Refused
from ..engine.store import Store
from ..engine.threads import Threads
from .responses import json_response

logger = logging.getLogger("threadwire")

CHECK_S: Final = 2.0
"""How long the store may take to show that it can be written to."""


def routes(threads: Threads, *, check_s: float = CHECK_S) -> list[BaseRoute]:
    probe = _StoreProbe(threads.store, check_s)

    async def healthz(request: Request) -> Response:
        return json_response({"status": "ok"})

    async def readyz(request: Request) -> Response:
        if threads.draining:
            raise Refused("draining", "the server is stopping")
        fault = await probe.fault()
        if fault is not None:
            raise Refused("store-unavailable", fault)
        return json_response({"status": "ok"})

    return [Route("/healthz", healthz), Route("/readyz", readyz)]


class _StoreProbe:
    """Checks the store, once at a time: a store that hangs isn't given more to hang on."""

    def __init__(self, store: Store, patience_s: float) -> None:
        self._store = store
        self._patience_s = patience_s
        self._check: asyncio.Task[None] | None = None

    async def fault(self) -> str | None:
        """What is wrong with the store; None where it can be written to."""
        check = self._check
        if check is None:
            check = self._check = asyncio.ensure_future(self._store.check())
            check.add_done_callback(self._checked)
        # Not cancelled after that time: it may be a thread that can't be.
        await asyncio.wait([check], timeout=self._patience_s)
        if not check.done():
            return f"the store has not answered for {self._patience_s:g} s"
        if check.cancelled() or check.exception() is not None:
            return "the store can't be written to"
        return None

    def _checked(self, check: asyncio.Task[None]) -> None:
        self._check = None
        if not check.cancelled() and (error := check.exception()) is not None:
            logger.warning("the store is not ready: %s", error)
