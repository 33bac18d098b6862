"""Blinding indices as their papers define them, and their spread by drawing guesses."""

from __future__ import annotations

from collections.abc import Sequence


def james(counts: Sequence[Sequence[float]]) -> float:
    """Return (1 + P_u + (1 - P_u) K) / 2 from the (2, 3) counts, term by term."""
    n = sum(map(sum, counts))
    unsure = sum(row[2] for row in counts) / n
    sure = [[cell / n / (1 - unsure) for cell in row[:2]] for row in counts]
    rows, columns = [sum(row) for row in sure], [sum(column) for column in zip(*sure, strict=True)]
    observed = sum(sure[i][j] * 0.5 for i in range(2) for j in range(2) if i != j)
    expected = sum(rows[i] * columns[j] * 0.5 for i in range(2) for j in range(2) if i != j)
    return (1 + unsure + (1 - unsure) * (observed - expected) / expected) / 2
