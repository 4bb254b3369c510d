"""The stores: where threads are kept. The protocol they share is in `engine.store`."""

from .memory import MemoryStore as MemoryStore
from .sqlite import SQLiteStore as SQLiteStore
from .url import open_store as open_store

__all__ = ["MemoryStore", "SQLiteStore", "open_store"]
