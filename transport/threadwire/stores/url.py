"""Store URLs."""

from __future__ import annotations

from typing import Final

from ..engine.store import Store
from .memory import MemoryStore
from .sqlite import SQLiteStore

FORMS: Final = "memory:, sqlite:///relative.db, sqlite:////absolute.db or postgresql://host/database"


def open_store(url: str, *, lease_s: float | None = None) -> Store:
    """The store that a URL names, to be entered by the caller: `memory:`, `sqlite:///relative.db`,
    `sqlite:////absolute.db`, `postgresql://user:password@host:port/database`.

    `lease_s` is for those that many processes share: how long a thread stays with one that gives no sign
    of life.

    Raises:
        ValueError: it is no such URL.
    """
    scheme, _, rest = url.partition(":")
    if url == "memory:":
        return MemoryStore()
    if scheme == "sqlite":
        path = rest.removeprefix("///")
        if path == rest or not path or path == ":memory:" or "?" in path or "\0" in path:
            raise ValueError(f"not a store URL: {url!r}; use {FORMS}")
        return SQLiteStore(path)
    # The rest of the URL may hold a password.
    if scheme in ("postgresql", "postgres"):
        if not rest.startswith("//"):
            raise ValueError(f"not a store URL: {scheme}: without //; use {FORMS}")
        return _open_postgresql(url, lease_s)
    raise ValueError(f"no store is known for {scheme[:40]!r}; use {FORMS}")


def _open_postgresql(url: str, lease_s: float | None) -> Store:
    try:
        from .postgresql import LEASE_S, PostgreSQLStore
    except ImportError as error:
        if error.name != "asyncpg":
            raise
        raise ValueError(
            "PostgreSQL needs the package asyncpg: pip install 'threadwire[postgresql]'"
        ) from None
    return PostgreSQLStore(url, lease_s=LEASE_S if lease_s is None else lease_s)
