"""Starting the process in which no arm ever ran, and asking it what it read. It imports nothing that takes seconds.

That process spends its time as this one does: on imports, one core each. So it may be started before them.
"""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

from neuromod_core.kernel import garbage
from neuromod_core.kernel.errors import IntegrityError

if TYPE_CHECKING:
    from tasks.lab import Run

_BEGUN: dict[tuple[str, ...], subprocess.Popen[str]] = {}


def begin(file: str, project: str, cache: str, threads: int | None = None) -> None:
    """Start the fresh process of a registered study, unless it is running already.

    threads: None where torch, which knows how many there will be, is not loaded yet; the process says how many it took,
    and does nothing where there is a GPU: that may not hold two models.
    """
    words = (file, project, cache, *([] if threads is None else [str(threads)]))
    if words not in _BEGUN:
        _BEGUN[words] = subprocess.Popen(
            [sys.executable, "-m", "tasks.fresh", *words],
            cwd=project,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )


def _said(words: tuple[str, ...]) -> list[str]:
    """Return what the process of these words printed last: its threads, and the probe hash."""
    running = _BEGUN.pop(words)
    out, told = running.communicate()
    if running.returncode:
        last = next(reversed(told.strip().splitlines()), f"exit code {running.returncode}")
        raise IntegrityError(f"The fresh process that gate G2 compares with did not finish: {last}")
    return (out.strip().splitlines() or [""])[-1].split()


def fresh_hash(run: Run) -> str:
    """Return the probe hash of a fresh process on this machine, with as many threads as this one.

    Raises:
        IntegrityError: when that process does not finish; its last line says why.
    """
    import torch

    threads, words = torch.get_num_threads(), (run.file, run.places.project, run.places.cache)
    if words in _BEGUN:
        said = _said(words)
        if said[:1] == [str(threads)]:
            return said[-1]
    begin(*words, threads)
    return _said((*words, str(threads)))[-1]


if __name__ == "__main__":
    with garbage.loading():
        from tasks.washout import main
    sys.exit(main(sys.argv[1:]))
