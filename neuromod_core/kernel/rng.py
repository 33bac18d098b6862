"""Named random streams. There is no global seed: who needs randomness names the stream it owns.

A stream is a Philox counter keyed by SHA-256 of (root, names), so streams with different names are independent, and the
first k values of a stream do not depend on how many are drawn in all. `uniform_at` and `normal_at` address a stream by
index instead of by order: a value depends on its key and its index alone, however a text is cut into passes and whoever
else is in the batch.  Source: Salmon et al. 2011 (Random123).
"""

from __future__ import annotations

import hashlib
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

_MULTIPLIERS = np.uint64(0xD2511F53), np.uint64(0xCD9E8D57)
_WEYL = np.array([0x9E3779B9, 0xBB67AE85], dtype=np.uint32)
_ROUNDS = 10
_LOW, _SHIFT = np.uint64(0xFFFFFFFF), np.uint64(32)


def _digest(root: int, names: tuple[str, ...]) -> bytes:
    return hashlib.sha256("\x1f".join((str(root), *names)).encode()).digest()


def rng(root: int, *names: str) -> np.random.Generator:
    """Return the generator of the stream called `names` under `root`.

    >>> float(rng(7, "cell", "a").random()) == float(rng(7, "cell", "a").random())
    True
    >>> float(rng(7, "cell", "a").random()) == float(rng(7, "cell", "b").random())
    False
    """
    return np.random.Generator(np.random.Philox(key=int.from_bytes(_digest(root, names)[:16], "big")))


@lru_cache(maxsize=65536)
def key_of(root: int, *names: str) -> tuple[int, int]:
    """Return the two 32-bit words that key the indexed values of the stream called `names` under `root`."""
    digest = _digest(root, ("indexed", *names))
    return int.from_bytes(digest[:4], "big"), int.from_bytes(digest[4:8], "big")


def philox(keys: NDArray[np.uint32], counters: NDArray[np.uint32]) -> NDArray[np.uint32]:
    """Return the Philox4x32-10 blocks (..., 4) of keys (..., 2) and counters (..., 4)."""
    shape = (*keys.shape[:-1], 4)
    keys = keys[..., None, :] if keys.ndim == 1 else keys  # arrays wrap around in silence, scalars do not
    one, two = (keys[..., part] for part in range(2))
    a, b, c, d = (counters[..., part] for part in range(4))
    for _ in range(_ROUNDS):
        left, right = a.astype(np.uint64) * _MULTIPLIERS[0], c.astype(np.uint64) * _MULTIPLIERS[1]
        a, b = (right >> _SHIFT).astype(np.uint32) ^ b ^ one, (right & _LOW).astype(np.uint32)
        c, d = (left >> _SHIFT).astype(np.uint32) ^ d ^ two, (left & _LOW).astype(np.uint32)
        one, two = one + _WEYL[:1], two + _WEYL[1:]
    return np.stack(np.broadcast_arrays(a, b, c, d), axis=-1).reshape(np.broadcast_shapes(shape, counters.shape))


def uniform_at(keys: NDArray[np.uint32], index: NDArray[np.int64], count: int) -> NDArray[np.float32]:
    """Return uniforms in (0, 1), shape (rows, places, count): value j at index i of the stream with that key.

    keys: (rows, 2).  index: (rows, places), any integers; negative ones are addresses like others.
    """
    blocks = -(-count // 4)
    counters = np.zeros((*index.shape, blocks, 4), dtype=np.uint32)
    counters[..., 0] = np.arange(blocks, dtype=np.uint32)
    counters[..., 1] = (index.astype(np.uint64) & _LOW).astype(np.uint32)[..., None]
    words = philox(keys[:, None, None, :], counters).reshape(*index.shape, blocks * 4)[..., :count]
    return ((words >> np.uint32(9)).astype(np.float32) + np.float32(0.5)) * np.float32(2**-23)


def normal_at(keys: NDArray[np.uint32], index: NDArray[np.int64], count: int) -> NDArray[np.float32]:
    """Return standard normals, shape (rows, places, count), addressed as in `uniform_at`.

    Source: Box & Muller 1958.
    """
    pairs = uniform_at(keys, index, count + count % 2).reshape(*index.shape, -1, 2)
    radius, angle = np.sqrt(-2 * np.log(pairs[..., 0])), np.float32(2 * np.pi) * pairs[..., 1]
    values = np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=-1)
    return values.reshape(*index.shape, -1)[..., :count]
