"""LangGraph graphs as agents."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .agent import LangGraphAgent

__all__ = ["LangGraphAgent"]


def __getattr__(name: str) -> Any:
    # Only when it is asked for: the command line looks here for every target, and LangGraph takes a
    # second to import.
    if name == "LangGraphAgent":
        from .agent import LangGraphAgent

        return LangGraphAgent
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
