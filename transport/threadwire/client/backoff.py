"""How long to wait before trying again."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Backoff:
    """Waits that double from `initial_s` to `cap_s`, each cut by a random part of up to a half.

    A connection that has lasted `stable_s` starts them over. `random` returns numbers in [0, 1).
    """

    initial_s: float = 0.1
    cap_s: float = 5
    stable_s: float = 10
    random: Callable[[], float] = random.random

    def delay_s(self, attempt: int) -> float:
        """The wait before the `attempt`-th try in a row, which starts at 1."""
        # 2**40 is beyond any cap, and an exponent without a bound would overflow some day.
        whole = min(self.cap_s, self.initial_s * 2.0 ** min(attempt - 1, 40))
        return whole * (1 - self.random() / 2)
