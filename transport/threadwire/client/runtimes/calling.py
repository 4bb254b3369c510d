"""Calls handlers, which may be plain functions or coroutine functions, and checks that they are."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from ..errors import InvalidAdapter

T = TypeVar("T")


async def call(handler: Callable[..., Awaitable[T] | T], *args: Any) -> T:
    """What the handler returns, awaited where it has to be."""
    result = handler(*args)
    if inspect.isawaitable(result):
        return await result
    return result


def check_handler(name: str, handler: object) -> None:
    """Raises InvalidAdapter where something that can't be called was given."""
    if handler is not None and not callable(handler):
        raise InvalidAdapter(name, f"a function, not {type(handler).__name__}")
