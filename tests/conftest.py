"""Settings shared by all tests."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, settings

from tests.support import postgresql

# How long an example takes says more of the machine than of what is tested.
settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def pytest_sessionfinish() -> None:
    postgresql.remove_shared_server()
