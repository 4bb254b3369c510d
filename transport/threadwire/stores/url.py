"""Store URLs."""

from __future__ import annotations

from typing import Final

from ..engine.store import Store
from .memory import MemoryStore
from .sqlite import SQLiteStore

FORMS: Final = "memory:, sqlite:///relative.db or sqlite:////absolute.db"


def open_store(url: str) -> Store:
    """The store that a URL names, to be entered by the caller: `memory:`, `sqlite:///relative.db`,
    `sqlite:////absolute.db`.

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
        raise ValueError(f"{scheme}:// stores are not available in this version; use {FORMS}")
    raise ValueError(f"no store is known for {scheme[:40]!r}; use {FORMS}")
