"""What the server's log looks like: short lines on stderr, and nothing that isn't news."""

from __future__ import annotations

import logging
from typing import Final

_FORMAT: Final = "%(asctime)s.%(msecs)03d %(levelname)-7s %(name)s: %(message)s"
_TIME: Final = "%Y-%m-%d %H:%M:%S"

_CHATTY: Final = ("asyncio", "httpcore", "httpx", "uvicorn.error", "websockets")
"""Loggers whose info is each connection and request, and whose debug is each frame with its content."""
_PROBES: Final = frozenset({"/healthz", "/readyz", "/metrics"})


def configure_logging(level: str) -> None:
    """Sends what is logged from `level` on to stderr. Requests are among it at `debug` only."""
    lowest = logging.getLevelNamesMapping()[level.upper()]
    logging.basicConfig(level=lowest, format=_FORMAT, datefmt=_TIME, force=True)
    debug = lowest <= logging.DEBUG
    for name in _CHATTY:
        logging.getLogger(name).setLevel(max(lowest, logging.INFO if debug else logging.WARNING))
    requests = logging.getLogger("uvicorn.access")
    requests.setLevel(logging.INFO if debug else logging.WARNING)
    requests.addFilter(_is_no_probe)


def _is_no_probe(record: logging.LogRecord) -> bool:
    """uvicorn's arguments: client, method, path with query, HTTP version, status."""
    arguments = record.args
    return not (
        isinstance(arguments, tuple)
        and len(arguments) == 5
        and str(arguments[2]).partition("?")[0] in _PROBES
    )
