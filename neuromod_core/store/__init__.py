"""Bytes that are written once, and the tables, commits and datasets made of them. Knows nothing of models or arms."""

from __future__ import annotations

from neuromod_core.store.local import LocalStore
from neuromod_core.store.memory import MemoryStore
from neuromod_core.store.protocol import Store
from neuromod_core.store.schemes import folder_of, open_store

__all__ = ["LocalStore", "MemoryStore", "Store", "folder_of", "open_store"]
