"""One racer of the self-test, as a process of its own: `python -m neuromod_core.store.racer STORE NAME`.

It says `ready`, then for each key on its standard input tries to create it, and answers 1 (created), 0 (was there) or
what went wrong.
"""

from __future__ import annotations

import sys

from neuromod_core.kernel.errors import NeuromodError
from neuromod_core.store.schemes import open_store


def race(uri: str, name: str) -> None:
    """Answer every key on standard input."""
    store = open_store(uri)
    print("ready", flush=True)
    for line in sys.stdin:
        try:
            print(int(store.put_new(line.strip(), name.encode())), flush=True)
        except NeuromodError as error:
            print(error, flush=True)


if __name__ == "__main__":
    race(*sys.argv[1:])
