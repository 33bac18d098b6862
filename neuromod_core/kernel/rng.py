"""Named random streams. There is no global seed: who needs randomness names the stream it owns.

A stream is a Philox counter keyed by SHA-256 of (root, names), so streams with different names are independent, and the
first k values of a stream do not depend on how many are drawn in all.  Source: Salmon et al. 2011.
"""

from __future__ import annotations

import hashlib

import numpy as np


def rng(root: int, *names: str) -> np.random.Generator:
    """Return the generator of the stream called `names` under `root`.

    >>> float(rng(7, "cell", "a").random()) == float(rng(7, "cell", "a").random())
    True
    >>> float(rng(7, "cell", "a").random()) == float(rng(7, "cell", "b").random())
    False
    """
    text = "\x1f".join((str(root), *names)).encode()
    key = int.from_bytes(hashlib.sha256(text).digest()[:16], "big")
    return np.random.Generator(np.random.Philox(key=key))
