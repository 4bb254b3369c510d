"""`GET /schema`: what each agent accepts, and the frames, as JSON Schemas. Spec: PROTOCOL.md §14.7."""

from __future__ import annotations

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from ..core.commands import Command
from ..core.schemas import frame_schemas
from ..engine.threads import Threads
from .responses import Document


def routes(threads: Threads) -> list[BaseRoute]:
    made_of: list[tuple[type[Command], ...]] = []
    document: Document | None = None

    async def schema(request: Request) -> Response:
        nonlocal made_of, document
        # An agent may be given handlers for new types after it is served.
        types = [agent.registry.types for agent in threads.agents.values()]
        if document is None or types != made_of:
            made_of, document = types, Document(_schemas(threads), "application/json")
        return document.response(request.headers)

    return [Route("/schema", schema)]


def _schemas(threads: Threads) -> bytes:
    frames = frame_schemas()
    return msgspec.json.encode(
        {
            "commands": {name: agent.registry.schema() for name, agent in threads.agents.items()},
            "frames": {"client": frames["client-frames"], "server": frames["server-frames"]},
            "operations": frames["operations"],
        }
    )
