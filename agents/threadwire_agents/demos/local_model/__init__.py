"""A chat model that needs no network: rules in the place of a language model."""

from __future__ import annotations

from .model import LocalModel

__all__ = ["LocalModel"]
