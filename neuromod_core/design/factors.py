"""Nuisance factors of units, dealt so that every two of them are balanced against each other."""

from __future__ import annotations

import numpy as np

from neuromod_core.kernel.errors import DesignError

LEVELS = (2, 3, 3, 3)  # of the four factors
RUN = 18  # units in which every pair of levels of two factors occurs equally often


def orthogonal_levels(n_units: int, generator: np.random.Generator) -> tuple[tuple[int, int, int, int], ...]:
    """Return, per unit, levels of four factors: one of two levels and three of three.

    Formula:  (t mod 2,  t mod 3,  (t + s) mod 3,  (t + 2 s) mod 3),  s = t div 3,  t the unit's number; levels of each
    factor are then renamed at random. Every two factors are orthogonal in any 18 units in a row (the three of three
    levels already in nine), and the counts of a factor's levels differ by at most one in the first n units, whatever n.

    Raises:
        DesignError: for fewer than one unit.

    Source: Rao 1947, J. Roy. Statist. Soc. Suppl. 9:128 (orthogonal arrays of strength two).

    >>> from collections import Counter
    >>> dealt = orthogonal_levels(18, np.random.default_rng(0))
    >>> set(Counter((unit[1], unit[3]) for unit in dealt).values())
    {2}
    """
    if n_units < 1:
        raise DesignError(f"{n_units} units were asked for; a factor is dealt to at least one.")
    names = [generator.permutation(count).tolist() for count in LEVELS]
    dealt = []
    for t in range(n_units):
        s = t // 3
        plain = (t % 2, t % 3, (t + s) % 3, (t + 2 * s) % 3)
        dealt.append(tuple(names[factor][level] for factor, level in enumerate(plain)))
    return tuple(dealt)
