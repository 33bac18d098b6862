"""Williams orders: every unit receives every arm, balanced for period and for first-order carry-over.

This module does not know what an arm is, nor when its cells run: it deals in numbers 0 .. arms - 1.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np

from neuromod_core.design.balance import balanced_levels
from neuromod_core.kernel.errors import DesignError


def williams(n_arms: int) -> tuple[tuple[int, ...], ...]:
    """Return the sequences of a Williams design, one tuple of arms in order of period for each.

    Formula:  row_0 = 0, 1, t-1, 2, t-2, ...  and  row_i = row_0 + i (mod t);  for odd t also every row reversed.
    An even t gives t sequences and each ordered pair of arms once; an odd t gives 2 t sequences and each pair twice.
    Source: Williams 1949, Australian Journal of Scientific Research A 2:149.

    Raises:
        DesignError: for fewer than two arms.

    >>> williams(4)
    ((0, 1, 3, 2), (1, 2, 0, 3), (2, 3, 1, 0), (3, 0, 2, 1))
    >>> len(williams(5))
    10
    """
    if n_arms < 2:
        raise DesignError(f"A crossover of {n_arms} arm(s) has no order to balance; at least 2 arms are needed.")
    first = [(place + 1) // 2 if place % 2 else -(place // 2) for place in range(n_arms)]
    square = tuple(tuple((arm + shift) % n_arms for arm in first) for shift in range(n_arms))
    return square if n_arms % 2 == 0 else square + tuple(row[::-1] for row in square)


def assign_sequences(n_units: int, n_arms: int, generator: np.random.Generator) -> tuple[int, ...]:
    """Return the number of the Williams sequence of each unit, in permuted blocks: every sequence equally often.

    Raises:
        DesignError: when `n_units` is not a positive multiple of the number of sequences; it names the nearest.

    >>> sorted(assign_sequences(8, 4, np.random.default_rng(0)))
    [0, 0, 1, 1, 2, 2, 3, 3]
    """
    n_sequences = len(williams(n_arms))
    if n_units < 1 or n_units % n_sequences:
        below = max(n_units, 0) // n_sequences * n_sequences
        allowed = [str(count) for count in (below, below + n_sequences) if count]
        raise DesignError(
            f"{n_units} units cannot be balanced over {n_arms} arms: {n_sequences} sequences need a multiple of "
            f"{n_sequences} units; the nearest allowed: {', '.join(allowed)}."
        )
    return balanced_levels(n_units, n_sequences, generator)


def crossover(n_units: int, n_arms: int, generator: np.random.Generator) -> tuple[tuple[int, ...], ...]:
    """Return the arms of each unit in order of period: (n_units, n_arms), every row a permutation of the arms.

    The Williams sequences are randomised by a random relabelling of the arms and a random order of the rows (never by
    shuffling within a row, which would undo the balance), then dealt to units in permuted blocks.
    Source: Jones & Kenward 2014, Design and Analysis of Cross-Over Trials, 3rd ed.

    Raises:
        DesignError: when `n_units` is not a positive multiple of the number of sequences; it names the nearest.

    >>> orders = crossover(8, 4, np.random.default_rng(0))
    >>> len(orders), sorted(orders[0])
    (8, [0, 1, 2, 3])
    """
    assigned = assign_sequences(n_units, n_arms, generator)
    label = generator.permutation(n_arms).tolist()
    rows = [tuple(label[arm] for arm in row) for row in williams(n_arms)]
    shuffled = [rows[place] for place in generator.permutation(len(rows))]
    return tuple(shuffled[number] for number in assigned)


def sequence_numbers(orders: Sequence[Hashable]) -> tuple[int, ...]:
    """Return the sequence number of each unit, counting distinct orders as they first appear.

    >>> sequence_numbers([(1, 0), (0, 1), (1, 0)])
    (0, 1, 0)
    """
    number = {order: place for place, order in enumerate(dict.fromkeys(orders))}
    return tuple(number[order] for order in orders)
