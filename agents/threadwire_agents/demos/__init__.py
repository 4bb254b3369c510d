"""Agents to look at and to test with; they need no model and no network."""

from __future__ import annotations

from threadwire.engine.agent import Agent

from .planner import planner
from .scripted import scripted


def agents() -> dict[str, Agent]:
    """The bundled agents by the names they are served under; the first is the default."""
    return {"planner": planner, "scripted": scripted}
