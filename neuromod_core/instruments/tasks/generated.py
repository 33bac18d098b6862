"""The register of generated tasks: each makes one problem of a level from a random stream that the problem owns."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from neuromod_core.instruments.tasks.problem import Problem
from neuromod_core.kernel.errors import OutOfRange
from neuromod_core.kernel.register import Register
from neuromod_core.kernel.rng import rng

_ATTEMPTS = 1000


@dataclass(frozen=True)
class Draft:
    """What a generator makes: a question, its options, and the index of the true one."""

    prompt: str
    options: tuple[str, ...]
    truth: int


@dataclass(frozen=True)
class Generator:
    """A task: `levels` difficulties, 1 the easiest; `make(level, number, stream)` is one draft.

    Two-option tasks make the first option true for even numbers and the second for odd ones, so that whoever always
    gives the same answer is right half of the time.
    """

    levels: int
    make: Callable[[int, int, np.random.Generator], Draft]


TASKS: Register[Generator] = Register("task")


def problems(task: str, *, root: int, per_level: int) -> tuple[Problem, ...]:
    """Return `per_level` distinct problems of every level, easiest first; the same for the same root.

    A problem does not depend on how many are asked for.

    Raises:
        UnknownName: for a task that is not registered.
        OutOfRange: for less than one problem a level, or more than the task has distinct ones.
    """
    generator = TASKS[task]
    if per_level < 1:
        raise OutOfRange(f"{per_level} problems a level were asked for; at least 1 is needed.")
    return tuple(
        problem
        for level in range(1, generator.levels + 1)
        for problem in _of_level(task, generator, level, root, per_level)
    )


def _of_level(task: str, generator: Generator, level: int, root: int, count: int) -> list[Problem]:
    found: dict[str, Problem] = {}
    for number in range(count):
        name, stream = f"{task}-{level}-{number:03d}", rng(root, "task", task, str(level), str(number))
        for _ in range(_ATTEMPTS):
            draft = generator.make(level, number, stream)
            if draft.prompt not in found:
                found[draft.prompt] = Problem(name, task, level, draft.prompt, draft.options, draft.truth)
                break
        else:
            raise OutOfRange(f"{task} level {level}: {count} distinct problems were asked for; it has {number}.")
    return list(found.values())


def shuffled(options: tuple[str, ...], stream: np.random.Generator) -> tuple[tuple[str, ...], int]:
    """Return options, of which the first is true, in random order, and where the true one now stands."""
    order = [int(index) for index in stream.permutation(len(options))]
    return tuple(options[index] for index in order), order.index(0)
