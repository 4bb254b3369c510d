"""What the user may want to say next, as an adapter thinks of it after a run."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import aclosing
from typing import Any, Final

import anyio

from ...messages.chat_model import is_stream
from ...messages.model import ThreadMessage
from .actions import ThreadSuggestion
from .adapters import SuggestionAdapter

log = logging.getLogger("threadwire.client")


class Suggestions:
    """The newest suggestions; without an adapter there are none."""

    def __init__(self, adapter: SuggestionAdapter | None, changed: Callable[[], None]) -> None:
        self._adapter: Final = adapter
        self._changed: Final = changed
        self._scope: anyio.CancelScope | None = None
        self.current: tuple[ThreadSuggestion, ...] = ()

    async def generate(self, messages: tuple[ThreadMessage, ...]) -> None:
        """Asks for suggestions, until they are there or `clear` is called."""
        if self._adapter is None:
            return
        with anyio.CancelScope() as scope:
            self._scope = scope
            try:
                answer: Any = self._adapter.generate(messages)
                if not is_stream(answer):
                    self._set(tuple(await answer))
                    return
                async with aclosing(answer):
                    async for suggestions in answer:
                        self._set(tuple(suggestions))
            except Exception:
                log.exception("there are no suggestions")
            finally:
                if self._scope is scope:
                    self._scope = None

    def stop(self) -> None:
        """Asks no longer."""
        if self._scope is not None:
            self._scope.cancel()
            self._scope = None

    def clear(self) -> None:
        """Asks no longer, and forgets what there is."""
        self.stop()
        self.current = ()

    def _set(self, suggestions: tuple[ThreadSuggestion, ...]) -> None:
        self.current = suggestions
        self._changed()
