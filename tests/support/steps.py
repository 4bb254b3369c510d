"""How much Python is executed: the same on every machine, however busy."""

from __future__ import annotations

import gc
import sys
from types import FrameType
from typing import Any


class Steps:
    """Counts the lines that are executed from `begin` on: calls, and each turn of a loop."""

    def __init__(self) -> None:
        self.count = 0
        self._before: Any = None
        self._collects = False

    def begin(self) -> None:
        """Counts what is called from here on."""
        # What other tests left would be finalised meanwhile, and counted.
        self._collects = gc.isenabled()
        gc.disable()
        self._before = sys.gettrace()
        sys.settrace(self._trace)

    def end(self) -> int:
        """How many there were."""
        sys.settrace(self._before)
        if self._collects:
            gc.enable()
        return self.count

    def _trace(self, frame: FrameType, event: str, arg: object) -> Any:
        self.count += 1
        return self._trace
