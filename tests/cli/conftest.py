"""A project of the user's to name targets in."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.project import Write, project_in


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Write]:
    """Writes files into an empty working directory: `project("my_agent.py", source)`."""
    with project_in(tmp_path, monkeypatch) as write:
        yield write
