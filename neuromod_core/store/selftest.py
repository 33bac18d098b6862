"""What a store must promise before a study is kept in it, tried out on the place itself.

Everything rests on one promise: a key is created once, and of several writers exactly one is told so. Some servers
accept the condition and ignore it; they lose commits without a word, and are refused here.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from threading import Barrier, Thread

from neuromod_core.kernel.errors import ConfigError, NeuromodError, StorageError
from neuromod_core.store.protocol import SweptStore
from neuromod_core.store.schemes import open_store

RACERS, ROUNDS, WRITES, LARGE = 8, 5, 20, 8 << 20
_SOURCE = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Kept:
    """A promise that the store kept, and how that was seen."""

    promise: str
    evidence: str


def selftest(uri: str, token: str) -> tuple[Kept, ...]:
    """Try every promise at the store `uri` with keys that begin with `doctor-<token>`, and remove them.

    `token` is a name no other self-test uses at the same time.

    Raises:
        ConfigError: a promise is broken; one line says which.
        StorageError: the store refuses.
    """
    with _probing(uri, token) as (store, stem):
        return (
            _created_once(store, stem),
            _read_after_write(store, stem),
            _large(store, stem),
            _race(store, stem, "threads", _threads),
            _race(store, stem, "processes", _processes),
        )


def refuse_overwriting(uri: str, token: str) -> None:
    """Raise ConfigError unless the store `uri` creates a key once: what a study asks before its first record."""
    with _probing(uri, token) as (store, stem):
        _created_once(store, stem)


@contextmanager
def _probing(uri: str, token: str) -> Iterator[tuple[SweptStore, str]]:
    """Yield a store and the beginning of the keys to probe it with, and remove these keys."""
    store, stem = open_store(uri), f"doctor-{token}"
    try:
        yield store, stem
    finally:
        with suppress(StorageError):  # a place may forbid removal, or have gone; the probes are small
            for key in store.keys(stem):
                store.remove(key)


def _created_once(store: SweptStore, stem: str) -> Kept:
    """Create one key twice; raise ConfigError unless the second is refused and the first stays."""
    key = f"{stem}-once"
    first, second = store.put_new(key, b"first"), store.put_new(key, b"second")
    if not first or second or store.get(key) != b"first":
        raise ConfigError(
            f"The store {store} cannot keep a study: it ignores the condition that a key must be new, "
            f"and the second of two writers is {'told that it created the key' if second else 'believed'}."
        )
    return Kept("a key is created once", "the second write was refused, the first stayed")


def _read_after_write(store: SweptStore, stem: str) -> Kept:
    """Write keys one after another; each must be readable and listed at once, over a connection of its own."""
    reader, seconds = open_store(str(store)), []
    for number in range(WRITES):
        key, data = f"{stem}-write-{number:02d}", f"bytes {number}".encode()
        begun = time.perf_counter()
        store.put_new(key, data)
        seconds.append(time.perf_counter() - begun)
        if not reader.holds(key) or reader.get(key) != data:
            raise ConfigError(f"The store {store} cannot keep a study: {key!r} was written, but is not read back.")
        if key not in reader.keys(stem):
            raise ConfigError(f"The store {store} cannot keep a study: {key!r} was written, but is not listed.")
    return Kept(
        "what is written is read and listed at once", f"{WRITES} of {WRITES}; a write takes {_ms(median(seconds))}"
    )


def _large(store: SweptStore, stem: str) -> Kept:
    key, data = f"{stem}-large", bytes(range(256)) * (LARGE // 256)
    begun = time.perf_counter()
    store.put_new(key, data)
    taken = time.perf_counter() - begun
    if store.get(key) != data:
        raise ConfigError(f"The store {store} cannot keep a study: a file of {LARGE >> 20} MiB came back changed.")
    return Kept("a file comes back whole", f"{LARGE >> 20} MiB, written in {_ms(taken)}")


Racing = Callable[[SweptStore, Sequence[str]], Sequence[Sequence[bool]]]


def _race(store: SweptStore, stem: str, kind: str, race: Racing) -> Kept:
    """Let racers create the same keys at once; raise ConfigError unless each key has one winner whose bytes stay."""
    keys = [f"{stem}-{kind}-{number}" for number in range(ROUNDS)]
    for key, won in zip(keys, race(store, keys), strict=True):
        winners = [racer for racer, mine in enumerate(won) if mine]
        if len(winners) != 1 or store.get(key) != _bytes(winners[0]):
            raise ConfigError(
                f"The store {store} cannot keep a study: of {RACERS} {kind} that created one key at once, "
                f"{len(winners)} were told that they had."
            )
    return Kept(f"of {RACERS} {kind} one creates a key", f"{ROUNDS} races, {ROUNDS} winners")


def _threads(store: SweptStore, keys: Sequence[str]) -> Sequence[Sequence[bool]]:
    start, rivals = Barrier(RACERS), [open_store(str(store)) for _ in range(RACERS)]
    won: list[list[bool | NeuromodError]] = [[False] * RACERS for _ in keys]

    def run(racer: int) -> None:
        for number, key in enumerate(keys):
            start.wait()
            try:
                won[number][racer] = rivals[racer].put_new(key, _bytes(racer))
            except NeuromodError as error:
                won[number][racer] = error

    racers = [Thread(target=run, args=(racer,)) for racer in range(RACERS)]
    for thread in racers:
        thread.start()
    for thread in racers:
        thread.join()
    return [[_answer(answer) for answer in row] for row in won]


def _answer(answer: bool | NeuromodError) -> bool:
    if isinstance(answer, NeuromodError):
        raise answer
    return answer


def _processes(store: SweptStore, keys: Sequence[str]) -> Sequence[Sequence[bool]]:
    with ExitStack() as stack:
        racers = [stack.enter_context(_process(store, racer)) for racer in range(RACERS)]
        for racer in racers:
            _heard(racer, {"ready"})
        won = []
        for key in keys:
            for racer in racers:
                _say(racer, key)
            won.append([_heard(racer, {"0", "1"}) == "1" for racer in racers])
        return won


@contextmanager
def _process(store: SweptStore, racer: int) -> Iterator[subprocess.Popen[str]]:
    words = [sys.executable, "-m", "neuromod_core.store.racer", str(store), _bytes(racer).decode()]
    pipe = subprocess.PIPE
    with subprocess.Popen(words, cwd=_SOURCE, stdin=pipe, stdout=pipe, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def _say(racer: subprocess.Popen[str], key: str) -> None:
    if racer.stdin is not None:
        racer.stdin.write(f"{key}\n")
        racer.stdin.flush()


def _heard(racer: subprocess.Popen[str], expected: set[str]) -> str:
    line = racer.stdout.readline().strip() if racer.stdout is not None else ""
    if line not in expected:
        raise StorageError(f"A process of the self-test could not write: {line or 'it ended without a word'}")
    return line


def _bytes(racer: int) -> bytes:
    return f"racer-{racer}".encode()


def _ms(seconds: float) -> str:
    return f"{seconds * 1000:.1f} ms"
