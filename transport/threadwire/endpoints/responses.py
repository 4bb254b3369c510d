"""The bodies that routes answer with."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import msgspec
from starlette.datastructures import Headers
from starlette.responses import Response

_encoder = msgspec.json.Encoder()


def json_response(value: object, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """A value or struct as JSON; a `msgspec.Raw` in it goes out as it is."""
    return Response(_encoder.encode(value), status, headers, media_type="application/json")


class Document:
    """Bytes that seldom change: clients keep them, and ask whether they are still the same."""

    def __init__(self, data: bytes, media_type: str) -> None:
        self._data = data
        self._media_type = media_type
        self._etag = f'"{hashlib.sha256(data).hexdigest()[:32]}"'

    def response(self, request_headers: Headers) -> Response:
        """200 with the bytes, or 304 where the client has them."""
        headers = {"ETag": self._etag, "Cache-Control": "no-cache"}
        tags = request_headers.get("if-none-match", "").split(",")
        known = [tag.strip().removeprefix("W/") for tag in tags]
        if self._etag in known or "*" in known:
            return Response(status_code=304, headers=headers)
        return Response(self._data, headers=headers, media_type=self._media_type)
