"""What `threadwire chat` is told."""

from __future__ import annotations

import argparse
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit, urlunsplit

from ...core.frames import THREAD_ID_PATTERN
from ..errors import UsageError

_THREAD_ID: Final = re.compile(THREAD_ID_PATTERN)

DESCRIPTION = """\
Talks to an agent of a server. URL is the server's: http://127.0.0.1:8000, or its WebSocket's.

Without a terminal on its input and output it sends what it reads, writes the answer, and ends:
  echo "What is new?" | threadwire chat http://127.0.0.1:8000"""


@dataclass(frozen=True, kw_only=True)
class ChatSettings:
    """What `threadwire chat` was told."""

    url: str
    thread: str | None
    agent: str | None
    token: str | None
    attachments: tuple[Path, ...]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of the command."""
    parser.add_argument("url", metavar="URL", help="the server: http://host:port or ws://host:port/ws")
    parser.add_argument("--thread", metavar="ID", help="the thread to talk in (default: a new one)")
    parser.add_argument("--agent", metavar="NAME", help="the agent of a new thread (default: the first)")
    parser.add_argument("--token", help="says who you are (also THREADWIRE_TOKEN)")
    parser.add_argument(
        "--attach", action="append", default=[], metavar="PATH", help="a file that goes with the message"
    )


def read_arguments(arguments: argparse.Namespace, environ: Mapping[str, str]) -> ChatSettings:
    """Raises UsageError, naming the argument."""
    attachments = tuple(map(Path, arguments.attach))
    for path in attachments:
        if not path.is_file():
            raise UsageError(f"--attach: there is no file {str(path)!r}")
    if arguments.thread is not None:
        check_thread_id(arguments.thread)
    return ChatSettings(
        url=websocket_url(arguments.url),
        thread=arguments.thread,
        agent=arguments.agent,
        token=arguments.token or environ.get("THREADWIRE_TOKEN") or None,
        attachments=attachments,
    )


def check_thread_id(id: str) -> None:
    """Raises UsageError where no thread can have this id."""
    if not _THREAD_ID.fullmatch(id):
        raise UsageError(f"a thread id is 1 to 128 of A-Z a-z 0-9 _ . : ~ -, not {id!r}")


def websocket_url(url: str) -> str:
    """The URL of the server's WebSocket. Raises UsageError where it is none."""
    schemes = {"http": "ws", "https": "wss", "ws": "ws", "wss": "wss"}
    try:
        parts = urlsplit(url)
        is_one = parts.scheme in schemes and bool(parts.hostname) and parts.port != 0
    except ValueError:  # a port that is none, an address with one bracket
        is_one = False
    if not is_one:
        raise UsageError(f"URL: {url!r} is no http:, https:, ws: or wss: URL")
    path = parts.path.rstrip("/")
    if parts.scheme in ("http", "https"):
        path = path.removesuffix("/ws") + "/ws"
    return urlunsplit((schemes[parts.scheme], parts.netloc, path or "/ws", parts.query, ""))


def http_url(websocket: str) -> str:
    """The URL below which the server's HTTP routes are."""
    parts = urlsplit(websocket)
    path = parts.path.removesuffix("/ws")
    return urlunsplit(("https" if parts.scheme == "wss" else "http", parts.netloc, path, "", ""))
