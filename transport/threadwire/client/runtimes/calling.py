"""Calls handlers, which may be plain functions or coroutine functions, and checks that they are."""

from __future__ import annotations

import inspect
import logging
from asyncio import CancelledError
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from ...core.operations import Json
from ..errors import InvalidAdapter
from .tasks import is_cancelled

log = logging.getLogger("threadwire.client")

T = TypeVar("T")


async def call(handler: Callable[..., Awaitable[T] | T], *args: Any) -> T:
    """What the handler returns, awaited where it has to be."""
    result = handler(*args)
    if inspect.isawaitable(result):
        return await result
    return result


async def call_tool(name: str, tool: Callable[[Json], Any], arguments: Json) -> tuple[Json, bool]:
    """What a tool returns, or what it raised as `{"error": text}`; and whether it failed."""
    try:
        return await call(tool, arguments), False
    except (Exception, CancelledError) as error:
        if isinstance(error, CancelledError) and is_cancelled():
            raise
        log.warning("the tool %s failed: %s", name, error)
        return {"error": str(error) or type(error).__name__}, True


def check_handler(name: str, handler: object) -> None:
    """Raises InvalidAdapter where something that can't be called was given."""
    if handler is not None and not callable(handler):
        raise InvalidAdapter(name, f"a function, not {type(handler).__name__}")
