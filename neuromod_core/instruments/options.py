"""The order of the answer key: which option digit stands for which level."""

from __future__ import annotations

from typing import Literal, TypeAlias

from neuromod_core.kernel.register import unknown

Order: TypeAlias = Literal["ascending", "descending"]


def levels(order: Order, count: int) -> tuple[int, ...]:
    """Return the level (0 = lowest) that each of the option digits 0 ... count-1 stands for.

    >>> levels("descending", 5)
    (4, 3, 2, 1, 0)

    Raises:
        UnknownName: for another order.
    """
    directions = {"ascending": 1, "descending": -1}
    if order not in directions:
        raise unknown("option order", order, directions)
    return tuple(range(count))[:: directions[order]]
