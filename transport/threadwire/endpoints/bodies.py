"""Reads what a request brings, its body and its query, into structs.

Spec: PROTOCOL.md §14.1.
"""

from __future__ import annotations

from typing import TypeVar

import anyio
import msgspec
from starlette.requests import Request

from ..core.commands import convert_error
from ..core.errors import Refused
from ..core.frames import Limits
from ..core.operations import Json
from ..core.reading import read_json

T = TypeVar("T", bound=msgspec.Struct)


async def read_body(request: Request, kind: type[T], limits: Limits) -> T:
    """The body as a `kind`; no body is `{}`.

    Raises:
        Refused: `wrong-content-type`, `too-large`, `malformed`, `invalid-request` or a code of
            values; `field` is `body` or a path under it.
    """
    data = await read_in_time(request, limits.max_frame_bytes, limits.unresponsive_s)
    body: Json = {}
    if data:
        check_type(request)
        try:
            # The body is around the values that max_depth is about.
            body = read_json(data, max_depth=limits.max_depth + 1, field="body")
        except Refused as refusal:
            refusal.field = refusal.field or "body"
            raise
    return convert(body, kind, "body")


async def read_in_time(request: Request, max_bytes: int, patience_s: float) -> bytes:
    """The body, if it comes within the time.

    Raises:
        Refused: `too-large`, or `invalid-request` where it doesn't come.
    """
    try:
        with anyio.fail_after(patience_s):
            return await read_bytes(request, max_bytes)
    except TimeoutError:
        message = f"the body did not come within {patience_s:g} s"
        raise Refused("invalid-request", message, "body") from None


async def read_bytes(request: Request, max_bytes: int) -> bytes:
    """The body, of which no more than `max_bytes` are ever held, whatever its Content-Length says.

    Raises:
        Refused: `too-large`.
    """
    data = bytearray()
    async for chunk in request.stream():
        if len(data) + len(chunk) > max_bytes:
            raise Refused("too-large", f"the body is larger than {max_bytes} bytes", "body")
        data += chunk
    return bytes(data)


def read_query(request: Request, kind: type[T]) -> T:
    """The query parameters as a `kind`, numbers in decimal; of a repeated one the last counts.

    Raises:
        Refused: `invalid-request`; `field` is `query.` and the parameter's name.
    """
    return convert(dict(request.query_params), kind, "query", strict=False)


def check_type(request: Request) -> None:
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
