"""What is around the HTTP routes: headers, CORS, errors, the check of origins."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from starlette.applications import Starlette
from starlette.datastructures import Headers, MutableHeaders
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import Response
from starlette.routing import BaseRoute
from starlette.types import ASGIApp, Lifespan, Message, Receive, Scope, Send

from ..core.errors import ErrorInfo
from ..engine.settings import Settings
from .chat_formats import FORMATS
from .errors import HANDLERS, Errors, error_response
from .origin import OriginGuard, normal_origin


def http_application(
    routes: Sequence[BaseRoute],
    *,
    settings: Settings,
    allow_origins: Iterable[str] = (),
    lifespan: Lifespan[Any] | None = None,
) -> Starlette:
    """The routes as an ASGI application.

    Args:
        allow_origins: whose pages may use it besides its own, such as `https://example.com`; `*` is all.

    Raises:
        ValueError: one of them is no origin.
    """
    origins = [origin if origin == "*" else normal_origin(origin) for origin in allow_origins]
    # From the outermost to the innermost: errors too get the headers.
    middleware = [Middleware(DefaultHeaders)]
    if origins:
        middleware.append(
            Middleware(
                Cors,
                allow_origins=origins,
                allow_credentials="*" not in origins,
                allow_methods=("GET", "POST", "PATCH", "DELETE"),
                # Any: pages have headers of their own, such as those of tracing, that should not stop them.
                allow_headers=("*",),
                expose_headers=(
                    "Aui-Replay-Content-Length",
                    "ETag",
                    "Location",
                    "Retry-After",
                    "Threadwire-Thread",
                    *(format.header for format in FORMATS.values()),
                ),
            )
        )
    middleware += [
        Middleware(Errors, new_id=settings.new_id),
        Middleware(OriginGuard, allow_origins=origins),
    ]
    app = Starlette(routes=routes, middleware=middleware, exception_handlers=HANDLERS, lifespan=lifespan)
    # A path with a slash too many is another path; Starlette's redirect fails on queries that are no UTF-8.
    app.router.redirect_slashes = False
    return app


class DefaultHeaders:
    """Middleware: browsers take bodies for what they are said to be, and nobody stores what changes."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_on(message: Message) -> None:
            if message["type"] == "http.response.start":
                message.setdefault("headers", [])
                headers = MutableHeaders(scope=message)
                headers.setdefault("X-Content-Type-Options", "nosniff")
                headers.setdefault("Cache-Control", "no-store")
            await send(message)

        await self._app(scope, receive, send_on if scope["type"] == "http" else send)


class Cors(CORSMiddleware):
    """Starlette's, with refusals in JSON."""

    def preflight_response(self, request_headers: Headers) -> Response:
        response = super().preflight_response(request_headers)
        if response.status_code < 400:
            return response
        return error_response(
            ErrorInfo("forbidden", "this origin or method is not allowed"),
            {"Vary": response.headers["vary"]},
        )
