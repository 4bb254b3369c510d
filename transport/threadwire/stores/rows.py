"""What stores have in common: rows as records, bounds of integers, the answer to a late write."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import msgspec

from ..core.errors import ErrorInfo, WriteConflict
from ..engine.store import Append, CommandRecord, RunRecord

LARGEST: Final = 2**63 - 1
"""Of 64-bit integers; numbers that clients may have chosen are cut to it."""


def cut_seq(seq: int) -> int:
    return max(-1, min(seq, LARGEST))


def cut_limit(limit: int) -> int:
    return max(0, min(limit, LARGEST))


def conflict(entry: Append) -> WriteConflict:
    return WriteConflict(
        f"thread {entry.thread} is not where epoch {entry.epoch} could write seq {entry.seq}"
    )


def command_record(row: Sequence[Any]) -> CommandRecord:
    """Of the columns id, n, body, status, starts, seq, error, context, strategy."""
    id, order, body, status, starts, seq, error, context, strategy = row
    return CommandRecord(
        id=id,
        order=order,
        body=body,
        status=status,
        starts=starts,
        seq=seq,
        error=_error(error),
        context=context,
        strategy=strategy,
    )


def run_record(row: Sequence[Any]) -> RunRecord:
    """Of the columns id, status, started_at, ended_at, error, base, starts, context."""
    id, status, started_at, ended_at, error, base, starts, context = row
    return RunRecord(
        id=id,
        status=status,
        started_at=started_at,
        ended_at=ended_at,
        error=_error(error),
        base=base,
        starts=starts,
        context=context,
    )


def _error(data: bytes | str | None) -> ErrorInfo | None:
    return None if data is None else msgspec.json.decode(data, type=ErrorInfo)
