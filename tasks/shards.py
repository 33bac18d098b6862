"""Which shard a worker takes next. Markers are the truth; a claim is a hint, and a wrong one costs nothing but time.

A worker first takes shards that nobody has begun: it creates the shard's claim, and of several workers one is told that
it did. When none is left, it takes those that others began and did not commit: their workers may be dead or slow, and
the first commit counts. A claim has no term, so no clock decides anything.

Source: Dean & Ghemawat 2004, section 3.6 (backup tasks).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from neuromod_core.kernel.types import canonical, digest
from neuromod_core.store.commits import committed
from tasks.lab import Run, process

CLAIMS = "claims/"


def missing(run: Run) -> list[int]:
    """Return the shards without a marker, in the registered order."""
    done = set(committed(run.archive().store))
    return [number for number, name in _names(run).items() if name not in done]


def turns(run: Run, numbers: Sequence[int], worker: str | None = None) -> Iterator[int]:
    """Yield those of the shards `numbers` that this worker is to administer; each is to be committed before the next.

    When the iterator ends, every shard of `numbers` has a marker. worker: a name for this process, drawn from it by
    default. Shards are begun in the registered order, so that what a safety look needs is there when it comes.
    """
    worker = worker or process()
    store, names = run.archive().store, _names(run)
    begun = set(store.keys(CLAIMS))
    for number in numbers:
        claim = f"{CLAIMS}{names[number]}"
        if claim in begun:
            continue
        if store.put_new(claim, canonical({"worker": worker})):
            yield number
        begun = set(store.keys(CLAIMS))  # others went on meanwhile; a list is cheaper than trying every claim
    for number in sorted(set(missing(run)) & set(numbers), key=lambda number: digest([worker, number])):
        if names[number] not in committed(store):
            yield number


def _names(run: Run) -> dict[int, str]:
    """Return the name of every shard by its number."""
    registration, archive = run.registration(), run.archive()
    return {number: archive.shard_id(registration, number) for number in range(registration.plan.shards)}
