"""The cursor of a thread list: the place of the last thread of a page, opaque to clients."""

from __future__ import annotations

import base64

import msgspec


def write_cursor(updated_at: float, thread: str) -> str:
    place = msgspec.json.encode((float(updated_at), thread))
    return base64.urlsafe_b64encode(place).decode().rstrip("=")


def read_cursor(cursor: str) -> tuple[float, str]:
    """The `updated_at` and id of the thread that the next page comes after.

    Raises:
        ValueError: `write_cursor` did not make it.
    """
    try:
        place = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4))
        updated_at, thread = msgspec.json.decode(place, type=tuple[float, str])
    except (ValueError, msgspec.MsgspecError):
        raise ValueError("not a cursor of a thread list") from None
    if write_cursor(updated_at, thread) != cursor:  # both decoders are lenient
        raise ValueError("not a cursor of a thread list")
    return updated_at, thread
