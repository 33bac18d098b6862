"""Orders of arms: every unit receives every arm (or every arm of its set), balanced for period and carry-over.

This module does not know what an arm is, nor when its cells run: it deals in numbers 0 .. arms - 1.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Literal, TypeAlias

import numpy as np

from neuromod_core.design.balance import balanced_levels, dealt_in_runs
from neuromod_core.kernel.errors import DesignError
from neuromod_core.kernel.register import unknown
from neuromod_core.kernel.squares import check_arms, williams

Order: TypeAlias = Literal["williams", "cyclic"]

ORDERS: tuple[Order, ...] = ("williams", "cyclic")
WHOLE = 12  # up to this many arms, every unit receives all of them
SET = 8  # beyond, a unit receives at most this many


def cyclic(n_arms: int) -> tuple[tuple[int, ...], ...]:
    """Return the cyclic Latin square:  row_i = 0, 1, ... t-1  shifted by i (mod t).

    It balances arms over periods, and confounds each arm with the one before it: every arm but one always follows the
    same neighbour. It is an option for comparison; where a reset is exact, nothing can carry over.
    Source: Jones & Kenward 2014, Design and Analysis of Cross-Over Trials, 3rd ed.

    Raises:
        DesignError: for fewer than two arms.

    >>> cyclic(3)
    ((0, 1, 2), (1, 2, 0), (2, 0, 1))
    """
    check_arms(n_arms)
    return tuple(tuple((arm + shift) % n_arms for arm in range(n_arms)) for shift in range(n_arms))


def square(n_arms: int, order: Order = "williams") -> tuple[tuple[int, ...], ...]:
    """Return the sequences of an order by its name.

    Raises:
        UnknownName: for another order.
        DesignError: for fewer than two arms.

    >>> len(square(5)), len(square(5, "cyclic"))
    (10, 5)
    """
    match order:
        case "williams":
            return williams(n_arms)
        case "cyclic":
            return cyclic(n_arms)
        case _:
            raise unknown("order", order, list[str](ORDERS))


def sets(n_arms: int, shared: Sequence[int] = (0,)) -> tuple[tuple[int, ...], ...]:
    """Return the sets of arms that units receive: one of all arms up to twelve, else sets of at most eight.

    shared: the arms that are in every set, such as the placebos, so that every other arm is compared with them within
    units. The others are divided evenly, each into one set.
    Source: Senn 2002, Cross-over Trials in Clinical Research, 2nd ed., chapter 7 (incomplete blocks).

    Raises:
        DesignError: for fewer than two arms, or so many shared ones that a set has no place for another.

    >>> sets(4)
    ((0, 1, 2, 3),)
    >>> sets(15)
    ((0, 1, 3, 5, 7, 9, 11, 13), (0, 2, 4, 6, 8, 10, 12, 14))
    """
    check_arms(n_arms)
    if n_arms <= WHOLE:
        return (tuple(range(n_arms)),)
    if not 1 <= len(shared) < SET:
        raise DesignError(f"{len(shared)} arms shared by all sets; sets of {SET} allow 1 to {SET - 1}.")
    others = [arm for arm in range(n_arms) if arm not in shared]
    count = -(-len(others) // (SET - len(shared)))
    return tuple((*shared, *others[start::count]) for start in range(count))


def sequences(n_arms: int, order: Order = "williams", shared: Sequence[int] = (0,)) -> tuple[tuple[int, ...], ...]:
    """Return all sequences of a design: those of one square, or of the square of each set beyond twelve arms.

    Raises:
        UnknownName: for another order.
        DesignError: for fewer than two arms, or more shared arms than a set allows.

    >>> len(sequences(4)), len(sequences(15))
    (4, 16)
    """
    parts = sets(n_arms, shared)
    return tuple(tuple(part[place] for place in row) for part in parts for row in square(len(part), order))


def assign_sequences(n_units: int, n_arms: int, generator: np.random.Generator) -> tuple[int, ...]:
    """Return the number of the Williams sequence of each unit, in permuted blocks: every sequence equally often.

    Raises:
        DesignError: when `n_units` is not a positive multiple of the number of sequences; it names the nearest.

    >>> sorted(assign_sequences(8, 4, np.random.default_rng(0)))
    [0, 0, 1, 1, 2, 2, 3, 3]
    """
    n_sequences = len(williams(n_arms))
    _check_units(n_units, n_arms, n_sequences)
    return balanced_levels(n_units, n_sequences, generator)


def crossover(
    n_units: int,
    n_arms: int,
    generator: np.random.Generator,
    *,
    order: Order = "williams",
    shared: Sequence[int] = (0,),
    runs: Sequence[Hashable] | None = None,
) -> tuple[tuple[int, ...], ...]:
    """Return the arms of each unit in order of period, one tuple per unit.

    The sequences are randomised by a random relabelling of the arms and a random order of the rows (never by shuffling
    within a row, which would undo the balance), then dealt to units in permuted blocks. Beyond twelve arms a unit
    receives the arms of one set (see `sets`); relabelling then leaves the shared arms shared.
    runs: (units,), groups of units over which sequences are to be balanced as well, such as places in a batch.
    Source: Jones & Kenward 2014, Design and Analysis of Cross-Over Trials, 3rd ed.

    Raises:
        DesignError: when `n_units` is not a positive multiple of the number of sequences; it names the nearest.
        UnknownName: for another order.

    >>> orders = crossover(8, 4, np.random.default_rng(0))
    >>> len(orders), sorted(orders[0])
    (8, [0, 1, 2, 3])
    """
    written = sequences(n_arms, order, shared)
    _check_units(n_units, n_arms, len(written))
    if runs is None:
        assigned = balanced_levels(n_units, len(written), generator)
    else:
        assigned = dealt_in_runs(runs, len(written), generator)
    label = _relabelling(n_arms, shared, generator)
    rows = [tuple(label[arm] for arm in row) for row in written]
    shuffled = [rows[place] for place in generator.permutation(len(rows))]
    return tuple(shuffled[number] for number in assigned)


def sequence_numbers(orders: Sequence[Hashable]) -> tuple[int, ...]:
    """Return the sequence number of each unit, counting distinct orders as they first appear.

    >>> sequence_numbers([(1, 0), (0, 1), (1, 0)])
    (0, 1, 0)
    """
    number = {order: place for place, order in enumerate(dict.fromkeys(orders))}
    return tuple(number[order] for order in orders)


def _relabelling(n_arms: int, shared: Sequence[int], generator: np.random.Generator) -> list[int]:
    """Return a random label for each arm; in sets, shared arms take shared labels and others take the others'."""
    if n_arms <= WHOLE:
        labels: list[int] = generator.permutation(n_arms).tolist()
        return labels
    label = list(range(n_arms))
    for group in (list(shared), [arm for arm in range(n_arms) if arm not in shared]):
        for arm, place in zip(group, generator.permutation(len(group)), strict=True):
            label[arm] = group[place]
    return label


def _check_units(n_units: int, n_arms: int, n_sequences: int) -> None:
    """Raise unless every sequence is used equally often; the message names the nearest numbers of units."""
    if n_units < 1 or n_units % n_sequences:
        below = max(n_units, 0) // n_sequences * n_sequences
        allowed = [str(count) for count in (below, below + n_sequences) if count]
        raise DesignError(
            f"{n_units} units cannot be balanced over {n_arms} arms: {n_sequences} sequences need a multiple of "
            f"{n_sequences} units; the nearest allowed: {', '.join(allowed)}."
        )
