"""Log likelihoods of single rows given their linear predictor, with two derivatives; all are concave in it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt
from scipy.special import expit, gammaln, log_ndtr

from neuromod_core.stats.sample import FloatArray

Link = Literal["logit", "probit"]
FAR = 1e8  # stands for an infinite threshold: no float64 probability lies beyond it
LATENT_VARIANCE: dict[str, float] = {"logit": math.pi**2 / 3, "probit": 1.0}


class Derivatives(NamedTuple):
    """First and second derivative of the log likelihood of each row by its predictor, (rows,) each."""

    first: FloatArray
    second: FloatArray


class RowLikelihood(Protocol):
    """What integration over random effects needs to know of an outcome."""

    def value(self, eta: FloatArray) -> FloatArray:
        """Return the log likelihood of each row at predictors (..., rows)."""

    def derivatives(self, eta: FloatArray) -> Derivatives:
        """Return the derivatives at predictors (rows,)."""


@dataclass(frozen=True)
class Binomial:
    """Successes out of trials, (rows,) each, with logit link:  l = log C(m, s) + s eta - m log(1 + exp eta)."""

    successes: FloatArray
    trials: FloatArray

    def value(self, eta: FloatArray) -> FloatArray:
        """Return the log likelihood of each row."""
        return np.asarray(self.ways + self.successes * eta - self.trials * _softplus(eta))

    @cached_property
    def ways(self) -> FloatArray:
        """Return log C(m, s), (rows,)."""
        s, m = self.successes, self.trials
        return np.asarray(gammaln(m + 1) - gammaln(s + 1) - gammaln(m - s + 1))

    def derivatives(self, eta: FloatArray) -> Derivatives:
        """Return s - m p and -m p (1 - p)."""
        p = expit(eta)
        return Derivatives(self.successes - self.trials * p, -self.trials * p * (1 - p))


@dataclass(frozen=True)
class Cumulative:
    """Ordered categories 0 .. K-1 of the rows:  l = log[F(cut_c - eta) - F(cut_{c-1} - eta)].  Source: McCullagh 1980.

    categories: (rows,).  cuts: (K - 1,), increasing.  F: logistic or standard normal.
    """

    categories: npt.NDArray[np.intp]
    cuts: FloatArray
    link: Link

    def value(self, eta: FloatArray) -> FloatArray:
        """Return the log likelihood of each row."""
        upper, lower = self._limits(eta)
        if self.link == "logit":
            between = np.log1p(-np.exp(-np.diff(self.ends)))[self.categories]
            return np.asarray(between - _softplus(-upper) - _softplus(lower))
        return _log_normal_between(lower, upper)

    def derivatives(self, eta: FloatArray) -> Derivatives:
        """Return F_u + F_l - 1 and -(f_u + f_l) for the logit; those of the normal for the probit."""
        upper, lower = self._limits(eta)
        if self.link == "logit":
            above, below = expit(upper), expit(lower)
            return Derivatives(above + below - 1, -above * (1 - above) - below * (1 - below))
        log_p = _log_normal_between(lower, upper)
        above, below = _density(upper, log_p), _density(lower, log_p)
        first = below - above
        return Derivatives(first, lower * below - upper * above - first**2)

    def _limits(self, eta: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Return the thresholds above and below each row, seen from its predictor."""
        return self.ends[self.categories + 1] - eta, self.ends[self.categories] - eta

    @property
    def ends(self) -> FloatArray:
        """Return the thresholds between the infinite ones, (K + 1,)."""
        return np.concatenate([[-FAR], self.cuts, [FAR]])


def _softplus(x: FloatArray) -> FloatArray:
    """Return log(1 + exp x), which does not overflow."""
    return np.asarray(np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x))))


def _log_normal_between(lower: FloatArray, upper: FloatArray) -> FloatArray:
    """Return log[Phi(upper) - Phi(lower)], from the tail in which both are small."""
    mirrored = lower > 0
    near, far = np.where(mirrored, -lower, upper), np.where(mirrored, -upper, lower)
    log_near, log_far = log_ndtr(near), log_ndtr(far)
    return np.asarray(log_near + np.log1p(-np.exp(log_far - log_near)))


def _density(limit: FloatArray, log_p: FloatArray) -> FloatArray:
    """Return phi(limit) / P."""
    return np.asarray(np.exp(-(limit**2) / 2 - math.log(2 * math.pi) / 2 - log_p))
