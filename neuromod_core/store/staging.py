"""Writes that belong together: prepared at once, then made visible one after another."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext

from neuromod_core.store.local import LocalStore
from neuromod_core.store.protocol import Put, Store


def staged(store: Store, items: Mapping[str, bytes]) -> AbstractContextManager[Put]:
    """Return a `with` that yields the function which writes some of `items`: what it wrote is durable when it returns.

    So a first call can write files and a second one the marker that names them. A folder prepares all of them
    beforehand, which halves its waits for the disk; any other store writes key by key.
    """
    if isinstance(store, LocalStore):
        return store.staged(items)

    def put(*keys: str) -> frozenset[str]:
        return frozenset([key for key in keys if store.put_new(key, items[key])])

    return nullcontext(put)
