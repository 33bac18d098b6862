"""A store that lives as long as its process: for dry runs and tests."""

from __future__ import annotations

from dataclasses import dataclass, field
from threading import Lock

from neuromod_core.store.protocol import check_key, check_prefix, missing


@dataclass(frozen=True, eq=False)
class MemoryStore:
    """Keys and bytes in a dictionary behind a lock; two stores are equal only if they are the same one."""

    _held: dict[str, bytes] = field(default_factory=dict, init=False, repr=False)
    _lock: Lock = field(default_factory=Lock, init=False, repr=False)

    def __str__(self) -> str:
        return "in memory"

    def get(self, key: str) -> bytes:
        """Return the bytes under `key`; `IntegrityError` if there are none."""
        check_key(key, self)
        try:
            return self._held[key]
        except KeyError:
            raise missing(key, self) from None

    def put_new(self, key: str, data: bytes) -> bool:
        """Keep `data` under `key`; False if the key exists."""
        check_key(key, self)
        with self._lock:
            if key in self._held:
                return False
            self._held[key] = bytes(data)
            return True

    def keys(self, prefix: str) -> tuple[str, ...]:
        """Return the keys that begin with `prefix`, sorted."""
        check_prefix(prefix, self)
        with self._lock:
            return tuple(sorted(key for key in self._held if key.startswith(prefix)))

    def holds(self, key: str) -> bool:
        """Return whether `key` was written."""
        check_key(key, self)
        return key in self._held
