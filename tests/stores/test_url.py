"""Store URLs."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from threadwire.stores import MemoryStore, SQLiteStore, open_store


def test_memory_is_the_memory_store() -> None:
    assert isinstance(open_store("memory:"), MemoryStore)


@pytest.mark.anyio
async def test_sqlite_urls_are_relative_with_three_slashes_and_absolute_with_four(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for url in ("sqlite:///relative.db", "sqlite:///sub/relative.db", f"sqlite:///{tmp_path}/absolute.db"):
        store = open_store(url)
        assert isinstance(store, SQLiteStore)
        async with store:
            pass
    for name in ("relative.db", "sub/relative.db", "absolute.db"):
        assert os.path.isfile(name)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "threads.db",
        "memory",
        "memory://",
        "sqlite:",
        "sqlite://",
        "sqlite:///",
        "sqlite://relative.db",
        "sqlite:relative.db",
        "sqlite:///:memory:",
        "sqlite:///threads.db?mode=ro",
        "sqlite:///threads\0.db",
        "mysql://user:secret@host/threads",
        "postgresql:user:secret@host/threads",
    ],
)
def test_other_urls_are_refused_in_one_line_that_lists_the_forms(url: str) -> None:
    with pytest.raises(
        ValueError, match=r"memory:, sqlite:///relative\.db, sqlite:////absolute\.db or postgresql://"
    ) as caught:
        open_store(url)
    assert "\n" not in str(caught.value)
    assert "secret" not in str(caught.value)


def test_postgresql_urls_need_the_package_that_speaks_to_it(monkeypatch: pytest.MonkeyPatch) -> None:
    for scheme in ("postgresql", "postgres"):
        store = open_store(f"{scheme}://user:secret@host/threads")
        assert store.url == f"{scheme}://user:secret@host/threads"
    monkeypatch.setitem(sys.modules, "asyncpg", None)
    for name in [name for name in sys.modules if name.startswith("threadwire.stores.postgresql")]:
        monkeypatch.delitem(sys.modules, name)
    with pytest.raises(ValueError, match=r"pip install 'threadwire\[postgresql\]'") as caught:
        open_store("postgresql://user:secret@host/threads")
    assert "secret" not in str(caught.value)
