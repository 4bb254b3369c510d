"""Settings shared by all tests."""

from __future__ import annotations

import pytest

from tests.support import postgresql


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def pytest_sessionfinish() -> None:
    postgresql.remove_shared_server()
