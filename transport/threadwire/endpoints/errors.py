"""Where exceptions become HTTP responses: `{"error": {"code", "message", "field"?}}` and a status.

Spec: PROTOCOL.md §14.2.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any, Final

from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ..core.errors import ErrorInfo, ProtocolError, Refused, StoreError
from .responses import json_response

logger = logging.getLogger("threadwire")

STATUSES: Final[dict[str, int]] = {
    "unauthenticated": 401,
    "forbidden": 403,
    "seeding-disabled": 403,
    "not-found": 404,
    "method-not-allowed": 405,
    "agent-mismatch": 409,
    "already-answered": 409,
    "command-id-reused": 409,
    "conflict": 409,
    "thread-busy": 409,
    "thread-waiting": 409,
    "history-gone": 410,
    "state-too-large": 413,
    "too-large": 413,
    "wrong-content-type": 415,
    "too-many-pending": 429,
    "internal": 500,
    "draining": 503,
    "overloaded": 503,
    "store-unavailable": 503,
}
"""By code. Every other code, those of agents too, is about the request's contents: 400."""

_HEADERS: Final[dict[int, dict[str, str]]] = {
    401: {"WWW-Authenticate": "Bearer"},
    429: {"Retry-After": "1"},
    503: {"Retry-After": "1"},
}
_OF_STARLETTE: Final[dict[int, ErrorInfo]] = {
    401: ErrorInfo("unauthenticated", "the request does not say who it is from"),
    403: ErrorInfo("forbidden", "not allowed"),
    404: ErrorInfo("not-found", "there is nothing at this path"),
    405: ErrorInfo("method-not-allowed", "this path does not take this method; Allow names those it takes"),
    413: ErrorInfo("too-large", "the body is too large"),
    503: ErrorInfo("overloaded", "the server is at a limit; try again later"),
}


def error_response(error: ErrorInfo, headers: Mapping[str, str] | None = None) -> Response:
    """The response that an error's code calls for."""
    status = STATUSES.get(error.code, 400)
    return json_response({"error": error}, status, {**_HEADERS.get(status, {}), **(headers or {})})


def _response_to(error: Exception) -> Response | None:
    """What an exception is answered with; None where nobody expected it."""
    if isinstance(error, Refused | ProtocolError):
        return error_response(error.info)
    if isinstance(error, StoreError):
        logger.warning("a request failed: %s", error)
        return error_response(ErrorInfo("store-unavailable", "the store can't be used now; try again"))
    return None


async def _answer_starlette(request: Request, error: Exception) -> Response:
    """What Starlette itself refuses, such as a path without a route."""
    assert isinstance(error, HTTPException)
    if error.status_code < 400:
        return Response(status_code=error.status_code, headers=error.headers)
    info = _OF_STARLETTE.get(error.status_code)
    if info is None:
        code = "invalid-request" if error.status_code < 500 else "internal"
        return json_response(
            {"error": ErrorInfo(code, str(error.detail)[:300])}, error.status_code, error.headers
        )
    return error_response(info, error.headers)


HANDLERS: Final[dict[Any, Callable[[Request, Exception], Any]]] = {HTTPException: _answer_starlette}
"""For Starlette's `exception_handlers`; all other exceptions are answered by `Errors`."""


class Errors:
    """Middleware that answers what the routes raise.

    Of an exception that nobody expected, the client sees a reference and the log has the rest.
    (Starlette's own last resort raises it again, for the ASGI server to log it a second time.)
    """

    def __init__(self, app: ASGIApp, *, new_id: Callable[[], str]) -> None:
        self._app = app
        self._new_id = new_id

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = False

        async def send_on(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)

        try:
            await self._app(scope, receive, send_on)
        except ClientDisconnect:
            return  # nobody is there to be answered
        except Exception as error:
            if started:
                raise  # the ASGI server cuts the connection, so that no client takes the part for the whole
            response = _response_to(error)
            if response is None:
                reference = self._new_id()[:8]
                # The path may hold line breaks.
                logger.exception("%s %r failed [%s]", scope["method"], scope["path"], reference)
                response = error_response(
                    ErrorInfo("internal", f"a fault of the server; its log has more under {reference}")
                )
            await response(scope, receive, send)
