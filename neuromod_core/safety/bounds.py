"""Exact bounds of a share, and the rule that stops an arm.

Source: Clopper & Pearson 1934 (bounds); Hanley & Lippman-Hand 1983 (three over n).
"""

from __future__ import annotations

from dataclasses import dataclass

from scipy.special import betaincinv

from neuromod_core.kernel.errors import OutOfRange
from neuromod_core.safety.coherence import Cell


def _counts(events: int, n: int, alpha: float) -> None:
    if not (n >= 1 and 0 <= events <= n):
        raise OutOfRange(f"{events} events in {n}; 0 <= events <= n and n >= 1 are needed.")
    if not 0 < alpha < 0.5:
        raise OutOfRange(f"alpha is {alpha}; 0 < alpha < 0.5 is needed.")


def at_least(events: int, n: int, *, alpha: float = 0.025) -> float:
    """Return the exact lower bound of a share: the p at which so many events or more have probability `alpha`.

    Formula:  I_p(events, n - events + 1) = alpha;  0 for no event.

    Raises:
        OutOfRange: for counts outside 0 <= events <= n, or alpha outside (0, 1/2).

    >>> round(at_least(3, 20), 4)
    0.0321
    """
    _counts(events, n, alpha)
    return float(betaincinv(events, n - events + 1, alpha)) if events else 0.0


def at_most(events: int, n: int, *, alpha: float = 0.05) -> float:
    """Return the exact upper bound of a share: the p at which so few events or fewer have probability `alpha`.

    Formula:  I_p(events + 1, n - events) = 1 - alpha;  1 if every one is an event; 1 - alpha^(1/n) for none.

    Raises:
        OutOfRange: as `at_least`.

    >>> round(at_most(0, 100), 4)
    0.0295
    """
    _counts(events, n, alpha)
    return float(betaincinv(events + 1, n - events, 1 - alpha)) if events < n else 1.0


def three_over(n: int) -> float:
    """Return  3 / n,  the quick 95 % upper bound of a share without an event in n; above 1 it bounds nothing.

    Raises:
        OutOfRange: for n below 1.

    >>> three_over(200)
    0.015
    """
    if n < 1:
        raise OutOfRange(f"n is {n}; at least 1 is needed.")
    return 3 / n


@dataclass(frozen=True)
class Halt:
    """What a stopping rule says of the counts so far; `lower` is the exact lower bound of the share of events."""

    endpoint: str
    stop: bool
    events: int
    n: int
    lower: float
    bound: float
    alpha: float

    def __str__(self) -> str:
        share = f"{self.events} of {self.n} are {self.endpoint}, at least {self.lower:.3f}"
        return f"{'stop' if self.stop else 'go on'}: {share} (limit {self.bound:g}, one-sided alpha {self.alpha:g})"

    def as_row(self) -> dict[str, Cell]:
        """Return the row of a table of looks."""
        return {
            "endpoint": self.endpoint,
            "stop": int(self.stop),
            "events": self.events,
            "n": self.n,
            "lower": self.lower,
            "bound": self.bound,
            "alpha": self.alpha,
        }


@dataclass(frozen=True)
class Stop:
    """Stop an arm as soon as the exact lower bound of its share of events lies above `bound`.

    looks: how often the counts will be looked at; each look has alpha / looks, so that all together stop an arm whose
    share is at the bound with probability alpha at most (Bonferroni).
    """

    endpoint: str
    bound: float
    alpha: float = 0.025
    looks: int = 1

    def __post_init__(self) -> None:
        if not (0 < self.bound < 1 and 0 < self.alpha < 0.5 and self.looks >= 1):
            raise OutOfRange(
                f"Stop {self.endpoint!r}: bound {self.bound}, alpha {self.alpha}, {self.looks} looks; 0 < bound < 1, "
                "0 < alpha < 0.5 and at least one look are needed."
            )

    def judge(self, events: int, n: int) -> Halt:
        """Return whether to stop after `events` in `n`.

        Raises:
            OutOfRange: for counts outside 0 <= events <= n.
        """
        alpha = self.alpha / self.looks
        lower = at_least(events, n, alpha=alpha)
        return Halt(self.endpoint, lower > self.bound, events, n, lower, self.bound, alpha)

    def fewest(self, n: int) -> int | None:
        """Return the least number of events among `n` that stops the arm; None if not even n events do."""
        return next((events for events in range(n + 1) if self.judge(events, n).stop), None)
