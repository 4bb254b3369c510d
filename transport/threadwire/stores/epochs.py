"""The one rule by which epochs grow, the same for all stores. Spec: PROTOCOL.md §4."""

from __future__ import annotations

import math
from typing import Final

from ..core.errors import StoreError

LARGEST_EPOCH: Final = 2**53 - 1
"""Epochs travel as JSON numbers, which JavaScript holds exactly up to here."""


def next_epoch(last: int, now: float) -> int:
    """An epoch larger than `last`, and at least `now` (UNIX seconds) in milliseconds.

    The clock is in it for a store that was set back to an old copy: it would not know the
    epochs given out since. A clock that is beyond all sense is left out.
    """
    epoch = last + 1
    if epoch <= now * 1000 <= LARGEST_EPOCH:
        epoch = math.ceil(now * 1000)
    if epoch > LARGEST_EPOCH:
        raise StoreError("the store has used up all epochs")
    return epoch
