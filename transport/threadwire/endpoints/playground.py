"""The playground: the built page of `web/playground`, where it is there.

A wheel and a source distribution carry it; in a checkout it is there once it has been built. All
of it comes from this server, and its policy lets the browser load and reach nothing else.
"""

from __future__ import annotations

import gzip
import hashlib
import mimetypes
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import anyio.to_thread
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from ..core.errors import Refused

FOLDER: Final = Path(__file__).parent / "static"
"""Where the build puts it; git ignores it."""

POLICY: Final = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        # Pictures that are attached stand in the message; none are loaded from elsewhere.
        "img-src 'self' data: blob:",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    )
)

_SMALL: Final = 1024
"""Smaller than this, compressing isn't worth it."""
_FOREVER: Final = "public, max-age=31536000, immutable"


@dataclass(frozen=True)
class _File:
    data: bytes
    compressed: bytes | None
    media_type: str
    etag: str


class Playground:
    """The files of a built page, read once and kept compressed too."""

    def __init__(self, folder: Path = FOLDER) -> None:
        # What may be asked for is settled here: no path of a request ever gets to the file system.
        self._paths = {
            path.relative_to(folder).as_posix(): path
            for path in (*folder.glob("*.*"), *folder.glob("assets/*"))
            if path.is_file()
        }
        self._files: dict[str, _File] = {}

    @property
    def is_built(self) -> bool:
        return "index.html" in self._paths

    async def response(self, request: Request, name: str) -> Response:
        """The file, or 304 where the client has it.

        Raises:
            Refused: `not-found`.
        """
        file = self._files.get(name)
        if file is None:
            path = self._paths.get(name)
            if path is None:
                raise Refused("not-found", "there is no such page")
            file = self._files[name] = await anyio.to_thread.run_sync(_read, path)
        headers = {"ETag": file.etag, "Vary": "Accept-Encoding", "Referrer-Policy": "no-referrer"}
        # The names of assets change with what is in them.
        headers["Cache-Control"] = _FOREVER if name.startswith("assets/") else "no-cache"
        if name == "index.html":
            headers["Content-Security-Policy"] = POLICY
            headers["Cross-Origin-Opener-Policy"] = "same-origin"
        tags = request.headers.get("if-none-match", "").split(",")
        if file.etag in [tag.strip().removeprefix("W/") for tag in tags]:
            return Response(status_code=304, headers=headers)
        if file.compressed is not None and "gzip" in request.headers.get("accept-encoding", ""):
            headers["Content-Encoding"] = "gzip"
            return Response(file.compressed, headers=headers, media_type=file.media_type)
        return Response(file.data, headers=headers, media_type=file.media_type)

    def routes(self) -> list[BaseRoute]:
        """The routes of all but the page itself."""

        async def asset(request: Request) -> Response:
            return await self.response(request, f"assets/{request.path_params['name']}")

        async def licences(request: Request) -> Response:
            return await self.response(request, "third-party-licences.md")

        return [Route("/assets/{name}", asset), Route("/third-party-licences.md", licences)]


def _read(path: Path) -> _File:
    data = path.read_bytes()
    # Systems differ in what they know of suffixes, and browsers run no script of another type.
    known = {".js": "text/javascript", ".css": "text/css", ".html": "text/html", ".md": "text/markdown"}
    media_type = known.get(path.suffix) or mimetypes.guess_type(path.name)[0] or "application/octet-stream"
    is_text = media_type.startswith("text/") or media_type in ("image/svg+xml", "application/json")
    compressed = gzip.compress(data, 9, mtime=0) if is_text and len(data) >= _SMALL else None
    return _File(data, compressed, media_type, f'"{hashlib.sha256(data).hexdigest()[:32]}"')
