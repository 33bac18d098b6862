"""How well a reader agrees with labels: accuracy, Cohen's kappa, and the table behind them."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

from neuromod_core.kernel.errors import DataError
from neuromod_core.safety.coherence import Cell


@dataclass(frozen=True)
class Agreement:
    """Agreement of readings with labels.

    kappa: None when chance agreement is 1.  ci: 95 % interval of kappa.  table: (label, reading, count), non-zero ones.
    n_missing: items without a reading; they count as disagreement in `accuracy_all`, and nowhere else.
    """

    accuracy: float
    accuracy_all: float
    kappa: float | None
    ci: tuple[float, float] | None
    table: tuple[tuple[str, str, int], ...]
    n: int
    n_missing: int

    def __str__(self) -> str:
        if self.kappa is None or self.ci is None:
            return f"accuracy {self.accuracy:.3f}, kappa not defined (n = {self.n}, {self.n_missing} missing)"
        low, high = self.ci
        return (
            f"accuracy {self.accuracy:.3f}, kappa = {self.kappa:.3f} [{low:.2f}, {high:.2f}] "
            f"(n = {self.n}, {self.n_missing} missing)"
        )

    def as_row(self) -> dict[str, Cell]:
        """Return the row of a table of validations."""
        low, high = self.ci if self.ci else (None, None)
        return {
            "accuracy": self.accuracy,
            "accuracy_all": self.accuracy_all,
            "kappa": self.kappa,
            "ci_low": low,
            "ci_high": high,
            "n": self.n,
            "n_missing": self.n_missing,
        }


def agreement(labels: Sequence[str], readings: Sequence[str | None]) -> Agreement:
    """Return the agreement of readings with labels of the same items.

    Formula:  p_o = share of equal pairs,  p_e = sum over k of p(label = k) p(reading = k),
        kappa = (p_o - p_e) / (1 - p_e),  with its large-sample interval kappa +- 1.96 s; s is 0 for perfect agreement.
    Source: Cohen 1960; Fleiss, Cohen & Everitt 1969 (standard error).

    Raises:
        DataError: for unequal numbers, or no item with a reading.
    """
    if len(labels) != len(readings):
        raise DataError(f"{len(readings)} readings for {len(labels)} labels.")
    pairs = [(label, reading) for label, reading in zip(labels, readings, strict=True) if reading is not None]
    if not pairs:
        raise DataError("No item has a reading; agreement needs at least one.")
    table = Counter(pairs)
    equal = sum(count for (label, reading), count in table.items() if label == reading)
    kappa, error = _kappa(table, len(pairs))
    half = NormalDist().inv_cdf(0.975) * (error or 0.0)
    return Agreement(
        accuracy=equal / len(pairs),
        accuracy_all=equal / len(labels),
        kappa=kappa,
        ci=None if kappa is None else (max(kappa - half, -1.0), min(kappa + half, 1.0)),
        table=tuple((label, reading, count) for (label, reading), count in sorted(table.items())),
        n=len(pairs),
        n_missing=len(labels) - len(pairs),
    )


def _kappa(table: Counter[tuple[str, str]], n: int) -> tuple[float | None, float | None]:
    """Return kappa and its standard error from a table of (label, reading) pairs."""
    share = {pair: count / n for pair, count in table.items()}
    rows: Counter[str] = Counter()
    columns: Counter[str] = Counter()
    for (label, reading), count in table.items():
        rows[label] += count
        columns[reading] += count
    p = {kind: rows[kind] / n for kind in rows | columns}
    q = {kind: columns[kind] / n for kind in rows | columns}
    observed = math.fsum(value for (label, reading), value in share.items() if label == reading)
    expected = math.fsum(p[kind] * q[kind] for kind in p)
    if expected >= 1 - 1e-12:
        return None, None
    kappa = (observed - expected) / (1 - expected)
    agreeing = math.fsum(share.get((kind, kind), 0.0) * (1 - (p[kind] + q[kind]) * (1 - kappa)) ** 2 for kind in p)
    other = (1 - kappa) ** 2 * math.fsum(
        value * (q[label] + p[reading]) ** 2 for (label, reading), value in share.items() if label != reading
    )
    variance = (agreeing + other - (kappa - expected * (1 - kappa)) ** 2) / (n * (1 - expected) ** 2)
    return kappa, math.sqrt(max(variance, 0.0))
