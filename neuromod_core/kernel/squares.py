"""The square that designs deal from and re-randomisation tests draw from."""

from __future__ import annotations

from neuromod_core.kernel.errors import DesignError


def check_arms(n_arms: int) -> None:
    """Raise unless there is an order to balance."""
    if n_arms < 2:
        raise DesignError(f"A crossover of {n_arms} arm(s) has no order to balance; at least 2 arms are needed.")


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
    check_arms(n_arms)
    first = [(place + 1) // 2 if place % 2 else -(place // 2) for place in range(n_arms)]
    square = tuple(tuple((arm + shift) % n_arms for arm in first) for shift in range(n_arms))
    return square if n_arms % 2 == 0 else square + tuple(row[::-1] for row in square)
