"""The ASGI application: the endpoints over one `Threads`, and its start and stop."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager

import anyio
from starlette.applications import Starlette
from starlette.types import Receive, Scope, Send

from ..core.frames import Limits
from ..engine.agent import Agent, as_agent
from ..engine.anonymous import AnonymousThreads
from ..engine.settings import Settings
from ..engine.store import Store
from ..engine.threads import Threads
from ..stores import open_store
from . import assistant, chat, health, openapi, page, schema, websocket
from . import threads as thread_routes
from .http import http_application


class Application:
    """What `create_app` returns. Its store is opened by ASGI's lifespan, or by `async with app.running()`.

    Attributes:
        threads: the engine; for tests and embedding.
    """

    def __init__(self, threads: Threads, *, allow_origins: Sequence[str] = ()) -> None:
        self.threads = threads
        self._anonymous = AnonymousThreads(threads)
        self._websocket = websocket.WebSocketEndpoint(threads, allow_origins=allow_origins)
        self._http = http_application(
            [
                *page.routes(threads),
                *health.routes(threads),
                *schema.routes(threads),
                *openapi.routes(),
                *websocket.routes(),
                *thread_routes.routes(threads),
                *assistant.routes(threads, self._anonymous),
                *chat.routes(threads, self._anonymous),
            ],
            settings=threads.settings,
            allow_origins=allow_origins,
            lifespan=self._lifespan,
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "websocket":
            await self._http(scope, receive, send)
        # Where the application is mounted at a path, that is in front.
        elif scope["path"].removeprefix(scope.get("root_path", "")) == websocket.PATH:
            await self._websocket(scope, receive, send)
        else:
            await websocket.refuse_path(scope, receive, send)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Opens the store, takes up what was cut off, and stops in order at the end."""
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(self.threads.store)
            await stack.enter_async_context(self.threads)
            group = await stack.enter_async_context(anyio.create_task_group())
            group.start_soon(self._websocket.beat)
            group.start_soon(self._anonymous.expire)
            try:
                yield
            finally:
                group.cancel_scope.cancel()

    @asynccontextmanager
    async def _lifespan(self, app: Starlette) -> AsyncIterator[None]:
        async with self.running():
            yield

    async def drain(self, timeout_s: float) -> None:
        """Before the server stops: says goodbye, lets runs end for `timeout_s`, makes all durable."""
        self.threads.draining = True
        self._websocket.goodbye("the server stops")
        await self.threads.drain(timeout_s)


def create_app(
    *,
    agents: Mapping[str, object],
    store: Store | str = "sqlite:///threadwire.db",
    limits: Limits | None = None,
    allow_origins: Iterable[str] = (),
    show_errors: bool = False,
    history: int = 10_000,
    on_disconnect: float | None = 15,
    settings: Settings | None = None,
) -> Application:
    """An ASGI application that serves `agents`.

    Args:
        agents: agents (or functions over a run) by route name; the first is the default.
        store: a store, or its URL: `memory:`, `sqlite:///relative.db`, `sqlite:////absolute.db`,
            `postgresql://user:password@host/database`.
        limits: what clients are held to.
        allow_origins: browser origins allowed beside the server's own; `*` allows all.
        show_errors: whether clients see the text of any exception an agent raises.
        history: updates of each thread that are kept at least.
        on_disconnect: seconds that a run started over HTTP goes on for when nobody is there to see it; None:
            to its end.
        settings: all of the engine's settings, in place of the four above.

    Raises:
        ValueError: a store URL of an unknown form, or something that is no agent.
    """
    served: dict[str, Agent] = {}
    for name, target in agents.items():
        agent = as_agent(target, name)
        if agent is None:
            raise ValueError(f"{name!r} is no agent: {type(target).__qualname__}")
        served[name] = agent
    if settings is None:
        settings = Settings(
            limits=limits or Limits(),
            show_errors=show_errors,
            history_updates=history,
            absence_s=on_disconnect,
        )
    opened = open_store(store) if isinstance(store, str) else store
    threads = Threads(agents=served, store=opened, settings=settings)
    return Application(threads, allow_origins=tuple(allow_origins))
