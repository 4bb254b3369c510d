"""Agents to look at and to test with; they need no language model and no network."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from .planner import planner
from .scripted import scripted

if TYPE_CHECKING:
    from threadwire.engine.agent import Agent

logger = logging.getLogger("threadwire.demos")


def agents() -> dict[str, Agent]:
    """The bundled agents by the names they are served under; the first is the default.

    The assistant, a LangGraph graph, is the first where LangChain is installed; else the log says how
    to get it. Only here is LangChain imported, which takes about a second.

    Raises:
        ValueError: THREADWIRE_MODEL names no model that the assistant can use.
    """
    others: dict[str, Agent] = {"planner": planner, "scripted": scripted}
    try:
        from ..langgraph import LangGraphAgent
        from .assistant import assistant
    except ImportError as missing:
        logger.info("pip install 'threadwire[demos]' adds a LangGraph agent to the demos (%s)", missing)
        return others
    return {"assistant": LangGraphAgent(assistant(), name="assistant"), **others}
