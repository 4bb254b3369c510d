"""Which pages of browsers may use the server: those it served itself, and those of allowed origins.

CORS keeps other pages from reading answers; it keeps them neither from sending requests that
change something nor from opening WebSockets. Spec: PROTOCOL.md §5.5.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from ..core.errors import Refused

_ORIGIN: Final = re.compile(r"([a-z][a-z0-9+.-]*)://(\[[0-9a-f:.]+\]|[^\s/?#@:\[\]]+)(?::([0-9]{1,5}))?/?")
_DEFAULT_PORTS: Final = {"http": "80", "https": "443"}
_SAFE_METHODS: Final = frozenset({"GET", "HEAD", "OPTIONS"})


def normal_origin(origin: str) -> str:
    """An origin as browsers write it: lower case, without the scheme's default port.

    Raises:
        ValueError: it is none, such as `null` or `example.com`.
    """
    parts = _ORIGIN.fullmatch(origin.lower())
    if parts is None:
        raise ValueError(f"{origin!r} is no origin, such as https://example.com")
    scheme, host, port = parts.groups()
    return f"{scheme}://{host}" if port in (None, _DEFAULT_PORTS.get(scheme)) else f"{scheme}://{host}:{port}"


def origin_allowed(headers: Headers, allow_origins: Iterable[str]) -> bool:
    """Whether the request is from no browser, from a page of the same host and port, or of an allowed origin.

    `*` among the origins allows all. Schemes are not compared: a proxy may have taken the TLS off.
    """
    origins = headers.getlist("origin")
    if not origins:
        return True
    allowed = set(allow_origins)
    if "*" in allowed:
        return True
    if len(origins) > 1:
        return False
    try:
        origin = normal_origin(origins[0])
    except ValueError:
        return False
    return _same(origin, headers.getlist("host")) or origin in map(_normal, allowed)


def _same(origin: str, hosts: list[str]) -> bool:
    scheme = origin.partition("://")[0]
    return scheme in _DEFAULT_PORTS and len(hosts) == 1 and _normal(f"{scheme}://{hosts[0]}") == origin


def _normal(origin: str) -> str | None:
    try:
        return normal_origin(origin)
    except ValueError:
        return None


class OriginGuard:
    """Middleware that refuses what would change something and comes from another site's page."""

    def __init__(self, app: ASGIApp, *, allow_origins: Iterable[str]) -> None:
        self._app = app
        self._allow_origins = tuple(allow_origins)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        safe = scope["type"] != "http" or scope["method"] in _SAFE_METHODS
        if not safe and not origin_allowed(Headers(scope=scope), self._allow_origins):
            raise Refused("forbidden", "this origin is not allowed")
        await self._app(scope, receive, send)
