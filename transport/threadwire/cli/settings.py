"""What `threadwire serve` can be told: each option is a flag and an environment variable; flags win."""

from __future__ import annotations

import argparse
import ipaddress
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

from ..endpoints.assistant_request import parse_on_disconnect
from ..endpoints.origin import normal_origin
from .errors import UsageError

T = TypeVar("T")

LOG_LEVELS: Final = ("debug", "info", "warning", "error")
_TRUE: Final = frozenset({"1", "true", "yes", "on"})
_FALSE: Final = frozenset({"0", "false", "no", "off"})


def _host(text: str) -> str:
    if not text or any(character.isspace() or character in "/@" for character in text):
        raise ValueError(f"{text!r} is no host name or address")
    return text.removeprefix("[").removesuffix("]")


def _port(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and int(text) <= 65535):
        raise ValueError(f"{text!r} is no port: a number from 0 (any free one) to 65535")
    return int(text)


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0 <= seconds < math.inf:
        raise ValueError(f"{text!r} is no number of seconds, 0 or more")
    return seconds


def _lease(text: str) -> float:
    seconds = _seconds(text)
    if not 0.3 <= seconds <= 3600:
        raise ValueError(f"{text!r} is no number of seconds from 0.3 to 3600")
    return seconds


def _count(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and len(text) < 16 and int(text) > 0):
        raise ValueError(f"{text!r} is no number above 0")
    return int(text)


def _yes(text: str) -> bool:
    word = text.lower()
    if word not in _TRUE | _FALSE:
        raise ValueError(f"{text!r} is neither yes nor no")
    return word in _TRUE


def _log_level(text: str) -> str:
    if text.lower() not in LOG_LEVELS:
        raise ValueError(f"{text!r} is none of {', '.join(LOG_LEVELS)}")
    return text.lower()


def _origins(text: str) -> tuple[str, ...]:
    return tuple(
        origin if origin == "*" else normal_origin(origin) for origin in text.replace(",", " ").split()
    )


@dataclass(frozen=True)
class Option(Generic[T]):
    """`parse` raises ValueError with what is wrong. `metavar` None: a switch, on or off."""

    name: str
    parse: Callable[[str], T]
    default: T
    metavar: str | None
    help: str
    repeatable: bool = False

    @property
    def flag(self) -> str:
        return f"--{self.name}"

    @property
    def variable(self) -> str:
        return "THREADWIRE_" + self.name.upper().replace("-", "_")

    def add_to(self, parser: argparse.ArgumentParser) -> None:
        """Arguments are kept as text, to be read in the same way as variables."""
        if self.metavar is None:
            parser.add_argument(self.flag, action="store_const", const="yes", help=self.help)
        elif self.repeatable:
            parser.add_argument(self.flag, action="append", metavar=self.metavar, help=self.help)
        else:
            parser.add_argument(self.flag, metavar=self.metavar, help=self.help)

    def read(self, arguments: argparse.Namespace, environ: Mapping[str, str]) -> T:
        """Raises UsageError, naming the flag or the variable. An empty variable counts as none."""
        source, given = self.flag, getattr(arguments, self.name.replace("-", "_"))
        if given is None:
            source, given = self.variable, environ.get(self.variable) or None
        if given is None:
            return self.default
        try:
            return self.parse(" ".join(given) if isinstance(given, list) else given)
        except ValueError as error:
            raise UsageError(f"{source}: {error}") from None


HOST = Option(
    "host", _host, "127.0.0.1", "HOST", "address to listen on; 0.0.0.0 for all (default: 127.0.0.1)"
)
PORT = Option("port", _port, 8000, "PORT", "port to listen on; 0 for any free one (default: 8000)")
STORE = Option(
    "store",
    str,
    "sqlite:///threadwire.db",
    "URL",
    "where threads are kept: sqlite:///relative.db, sqlite:////absolute.db, postgresql://USER@HOST/DATABASE"
    " to share them with other servers, or memory: to forget them at the end"
    " (default: sqlite:///threadwire.db)",
)
WORKERS = Option(
    "workers",
    _count,
    1,
    "N",
    "processes that share the port; more than one need a postgresql:// store (default: 1)",
)
LEASE_S = Option(
    "lease-s",
    _lease,
    5.0,
    "SECONDS",
    "on a postgresql:// store: how long the threads of a server that gives no sign of life stay with it"
    " before others take them (default: 5)",
)
ALLOW_ORIGIN: Option[tuple[str, ...]] = Option(
    "allow-origin",
    _origins,
    (),
    "ORIGIN",
    "a web site whose pages may use this server beside its own, such as https://app.example.com;"
    " may be repeated; * for all",
    repeatable=True,
)
DRAIN_S = Option(
    "drain-s", _seconds, 10.0, "SECONDS", "how long runs may go on when the server is stopped (default: 10)"
)
ON_DISCONNECT: Option[float | None] = Option(
    "on-disconnect",
    parse_on_disconnect,
    15.0,
    "WHAT",
    "what becomes of a run started over HTTP when nobody is there to see it: continue, cancel, or the seconds"
    " that it may go on alone (default: 15)",
)
HISTORY = Option(
    "history", _count, 10_000, "N", "updates of each thread that are kept at least (default: 10000)"
)
SHOW_ERRORS: Option[bool | None] = Option(
    "show-errors",
    _yes,
    None,
    None,
    "clients see the text of every error in an agent, not only of those meant for them"
    " (default: on where --host is this machine only)",
)
DEBUG = Option("debug", _yes, False, None, "show the traceback when the server can't start")
LOG_LEVEL = Option(
    "log-level",
    _log_level,
    "info",
    "LEVEL",
    f"{', '.join(LOG_LEVELS)}; debug shows requests too (default: info)",
)

OPTIONS: Final = (
    HOST,
    PORT,
    STORE,
    WORKERS,
    LEASE_S,
    ALLOW_ORIGIN,
    ON_DISCONNECT,
    DRAIN_S,
    HISTORY,
    SHOW_ERRORS,
    DEBUG,
    LOG_LEVEL,
)


@dataclass(frozen=True, kw_only=True)
class ServeSettings:
    targets: tuple[str, ...]
    host: str
    port: int
    store: str
    workers: int
    lease_s: float
    allow_origins: tuple[str, ...]
    on_disconnect: float | None
    drain_s: float
    history: int
    show_errors: bool
    debug: bool
    log_level: str


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of `serve`."""
    for option in OPTIONS:
        option.add_to(parser)
        if option is SHOW_ERRORS:
            parser.add_argument(
                "--no-show-errors", dest="show_errors", action="store_const", const="no", help="hide them"
            )


def read_settings(arguments: argparse.Namespace, environ: Mapping[str, str]) -> ServeSettings:
    """Raises UsageError, naming the flag or the variable."""
    host = HOST.read(arguments, environ)
    show_errors = SHOW_ERRORS.read(arguments, environ)
    store = STORE.read(arguments, environ)
    workers = WORKERS.read(arguments, environ)
    if workers > 1 and store.partition(":")[0] not in ("postgresql", "postgres"):
        kind = store.partition(":")[0][:40]
        raise UsageError(
            f"--workers: {workers} processes can't share a {kind}: store, which belongs to one; "
            "use --store postgresql://..."
        )
    return ServeSettings(
        targets=tuple(arguments.targets),
        host=host,
        port=PORT.read(arguments, environ),
        store=store,
        workers=workers,
        lease_s=LEASE_S.read(arguments, environ),
        allow_origins=ALLOW_ORIGIN.read(arguments, environ),
        on_disconnect=ON_DISCONNECT.read(arguments, environ),
        drain_s=DRAIN_S.read(arguments, environ),
        history=HISTORY.read(arguments, environ),
        show_errors=is_loopback(host) if show_errors is None else show_errors,
        debug=DEBUG.read(arguments, environ),
        log_level=LOG_LEVEL.read(arguments, environ),
    )


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach a server that listens on `host`."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"
