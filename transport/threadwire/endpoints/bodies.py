"""Reads what a request brings, its body and its query, into structs.

Spec: PROTOCOL.md §14.1.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final, TypeVar

import anyio
import msgspec
from starlette.requests import Request

from ..core.commands import convert_error
from ..core.errors import Refused
from ..core.frames import THREAD_ID_PATTERN, Limits
from ..core.operations import Json
from ..core.reading import read_json

T = TypeVar("T", bound=msgspec.Struct)

_STATE_SLACK: Final = 1024 * 1024
"""What a body may take besides a state."""
_LARGE_AT_ONCE: Final = 16
"""Bodies larger than any without a state that are in memory at once; others wait."""
_THREAD_ID: Final = re.compile(THREAD_ID_PATTERN)


async def read_body(request: Request, kind: type[T], limits: Limits) -> T:
    """The body as a `kind`; no body is `{}`.

    Raises:
        Refused: `wrong-content-type`, `too-large`, `malformed`, `invalid-request` or a code of
            values; `field` is `body` or a path under it.
    """
    data = await read_in_time(request, limits.max_frame_bytes, limits.unresponsive_s)
    body: Json = {}
    if data:
        try:
            # The body is around the values that max_depth is about.
            body = read_json(data, max_depth=limits.max_depth + 1, field="body")
        except Refused as refusal:
            refusal.field = refusal.field or "body"
            raise
    return convert(body, kind, "body")


class LargeBodies:
    """Reads bodies that may hold a state, and lets few large ones in at once. One for each set of routes."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._places: Final = anyio.Semaphore(_LARGE_AT_ONCE)

    @asynccontextmanager
    async def read(self, request: Request) -> AsyncIterator[bytes]:
        """The body, empty where there is none; a large one has its place for as long as the block lasts.

        Raises:
            Refused: as `read_in_time`, or `overloaded`.
        """
        limits = self._limits
        large = limits.max_state_bytes + _STATE_SLACK
        small = min(2 * limits.max_frame_bytes, large)
        _check_head(request, large)
        body = _Incoming(request, limits.unresponsive_s)
        # It takes a place once it is large, whatever its headers say: one that doesn't come takes none.
        if not await body.exceeds(small):
            yield body.whole()
            return
        try:
            with anyio.fail_after(limits.unresponsive_s):
                await self._places.acquire()
        except TimeoutError:
            raise Refused("overloaded", "too many large requests at once", "body") from None
        try:
            if await body.exceeds(large):
                raise _too_large(large)
            yield body.whole()
        finally:
            self._places.release()


async def read_in_time(request: Request, max_bytes: int, patience_s: float) -> bytes:
    """The body, said to be JSON, if it comes within the time; empty where there is none.

    Raises:
        Refused: `wrong-content-type`, `too-large`, or `invalid-request` where it doesn't come.
    """
    _check_head(request, max_bytes)
    body = _Incoming(request, patience_s)
    if await body.exceeds(max_bytes):
        raise _too_large(max_bytes)
    return body.whole()


class _Incoming:
    """A body that is read as far as somebody needs it, and may take so long to come."""

    def __init__(self, request: Request, patience_s: float) -> None:
        self._request = request
        self._chunks = request.stream()
        self._data = bytearray()
        self._patience_s = patience_s
        self._left_s = patience_s

    async def exceeds(self, size: int) -> bool:
        """Whether it is larger than this, whatever its Content-Length says; no more is read than tells.

        Raises:
            Refused: `invalid-request` where it doesn't come.
        """
        began = anyio.current_time()
        try:
            with anyio.fail_after(self._left_s):
                while len(self._data) <= size:
                    chunk = await anext(self._chunks, None)
                    if chunk is None:
                        return False
                    self._data += chunk
        except TimeoutError:
            message = f"the body did not come within {self._patience_s:g} s"
            raise Refused("invalid-request", message, "body") from None
        finally:
            self._left_s -= anyio.current_time() - began
        return True

    def whole(self) -> bytes:
        """All of it, once it has come. Raises Refused where it isn't said to be JSON."""
        if self._data:
            _check_type(self._request)
        return bytes(self._data)


def _check_head(request: Request, max_bytes: int) -> None:
    """Raises Refused where the headers tell that the body will be: nobody should have to send it first."""
    declared = _declared_bytes(request)
    if declared:
        _check_type(request)
        if declared > max_bytes:
            raise _too_large(max_bytes)


def _declared_bytes(request: Request) -> int | None:
    length = request.headers.get("content-length", "")
    return int(length[:20]) if length.isdecimal() else None


def _too_large(max_bytes: int) -> Refused:
    return Refused("too-large", f"the body is larger than {max_bytes} bytes", "body")


def read_query(request: Request, kind: type[T]) -> T:
    """The query parameters as a `kind`, numbers in decimal; of a repeated one the last counts.

    Raises:
        Refused: `invalid-request`; `field` is `query.` and the parameter's name.
    """
    return convert(dict(request.query_params), kind, "query", strict=False)


def _check_type(request: Request) -> None:
    """Raises Refused where the body isn't said to be JSON.

    A page of another site can send other types without asking the server first (CORS).
    """
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type != "application/json":
        raise Refused("wrong-content-type", "the body's Content-Type is not application/json", "body")
    if request.headers.get("content-encoding", "identity").lower() != "identity":
        raise Refused("wrong-content-type", "the body has a Content-Encoding", "body")


def convert(value: Json, kind: type[T], field: str, *, strict: bool = True) -> T:
    """A checked value as a `kind`; without `strict`, numbers may be texts.

    Raises:
        Refused: `invalid-request`, with a field under `field`.
    """
    try:
        return msgspec.convert(value, kind, strict=strict)
    except msgspec.ValidationError as error:
        message, where = convert_error(error, field)
        raise Refused("invalid-request", message, where) from None


def check_thread_id(id: str, field: str) -> None:
    """Raises Refused where no thread can have this id."""
    if not _THREAD_ID.fullmatch(id):
        raise Refused("invalid-request", "a thread's id is 1 to 128 of A-Z a-z 0-9 _ . : ~ -", field)
