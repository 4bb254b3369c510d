"""What errors of PostgreSQL and of the way to it mean for the engine."""

from __future__ import annotations

from typing import Final

import asyncpg

from ..core.errors import StoreError, StoreUnavailable, first_line

FAULTS: Final = (
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    OSError,
    TimeoutError,
)
"""All that a statement may raise through no fault of this program."""
_MOMENTARY: Final = (
    asyncpg.DeadlockDetectedError,
    asyncpg.SerializationError,
    asyncpg.LockNotAvailableError,
)
_OUTAGES: Final = (
    OSError,
    TimeoutError,
    asyncpg.InterfaceError,  # the connection was closed under it
    asyncpg.InternalClientError,  # the same, seen before the driver has: it is amid the server's farewell
    asyncpg.PostgresConnectionError,
    asyncpg.OperatorInterventionError,  # shut down, crashed, cancelled
    asyncpg.InsufficientResourcesError,  # the disk is full, too many connections
    asyncpg.ReadOnlySQLTransactionError,  # a standby
    asyncpg.PostgresSystemError,
    asyncpg.InternalServerError,
    asyncpg.InvalidAuthorizationSpecificationError,
    asyncpg.InvalidCatalogNameError,
    *_MOMENTARY,
)


def is_momentary(error: Exception) -> bool:
    """Whether the same statement may do at once, and was not carried out."""
    return isinstance(error, _MOMENTARY)


def is_outage(error: Exception) -> bool:
    """Whether it is the database that fails, and not what was asked of it."""
    # A value that can't be sent is a ValueError and, of all things, an InterfaceError.
    return isinstance(error, _OUTAGES) and not isinstance(error, ValueError)


def store_error(error: Exception) -> StoreError:
    """The error as the engine knows it."""
    if isinstance(error, StoreError):
        return error
    text = first_line(error)
    if isinstance(error, OSError) and error.strerror:
        text = error.strerror  # without its number
    if isinstance(error, TimeoutError):
        text = "it does not answer"
    kind = StoreUnavailable if is_outage(error) else StoreError
    fault = kind(f"PostgreSQL: {text}")
    fault.__cause__ = error
    return fault
