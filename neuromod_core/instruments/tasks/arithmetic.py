"""Whole-number arithmetic with distractors that look like slips."""

from __future__ import annotations

import numpy as np

from neuromod_core.instruments.tasks.generated import TASKS, Draft, Generator, shuffled

_WRONG = 3


def _digits(stream: np.random.Generator, low: int, high: int) -> int:
    """Return a whole number from low to high, both possible."""
    return int(stream.integers(low, high, endpoint=True))


def _expression(level: int, stream: np.random.Generator) -> tuple[str, int, tuple[int, ...]]:
    """Return an expression, its value, and values that a slip of its own kind would give."""
    match level:
        case 1:
            a, b = _digits(stream, 2, 9), _digits(stream, 2, 9)
            return f"{a} + {b}", a + b, (a * b,)
        case 2:
            a, b = _digits(stream, 11, 89), _digits(stream, 11, 89)
            high, low = max(a, b), min(a, b)
            if stream.random() < 0.5:
                return f"{a} + {b}", a + b, (a + b - 10,)  # the carry is lost
            return f"{high} - {low}", high - low, (high - low + 10,)
        case 3:
            a, b = _digits(stream, 12, 49), _digits(stream, 3, 9)
            return f"{a} * {b}", a * b, (a * b - b, a * b + a, (a // 10) * b * 10 + a % 10)
        case _:
            a, b, c = _digits(stream, 12, 89), _digits(stream, 3, 12), _digits(stream, 3, 12)
            return f"{a} + {b} * {c}", a + b * c, ((a + b) * c, a + b + c)


def _make(level: int, _number: int, stream: np.random.Generator) -> Draft:
    expression, value, slips = _expression(level, stream)
    near = [value + int(step) for step in stream.permutation([-10, -2, -1, 1, 2, 10])]
    wrong = [other for other in dict.fromkeys([*slips, *near]) if other != value and other >= 0][:_WRONG]
    options, truth = shuffled(tuple(str(number) for number in (value, *wrong)), stream)
    return Draft(f"What is {expression}? Answer with the number only.", options, truth)


TASKS.add("arithmetic")(Generator(levels=4, make=_make))
