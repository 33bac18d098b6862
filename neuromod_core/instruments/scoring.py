"""From log-probabilities to scores. Missing is missing: a score without enough valid items is None with its reason.

This module knows numbers only: no text, no model, no arm.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import ArrayLike

from neuromod_core.instruments.options import Order, levels
from neuromod_core.kernel.errors import DataError

MIN_OPTION_MASS = 0.5
MASS_TOLERANCE = 1e-4
MIN_VALID_SHARE = Fraction(4, 5)
OUTSIDE_NUCLEUS = "outside the nucleus"
NOT_A_NUMBER = "not a number"
NO_OPTION = "the reply is no option"


@dataclass(frozen=True)
class Score:
    """A scale score and the items behind it.

    Units: nats per pair (statement reading) or POMP, percent of the maximum possible (option reading).
    Either `value` or `reason` is None, never both.
    """

    value: float | None
    n_items: int
    n_valid: int
    reason: str | None


@dataclass(frozen=True)
class ItemScore:
    """One item's score, or None and the reason. Units: nats (statement reading) or levels from 0 (option reading)."""

    value: float | None
    reason: str | None


@dataclass(frozen=True)
class OptionScore(ItemScore):
    """One item's expected option level; `mass` is the probability that the answer is an option at all."""

    mass: float | None


def statement_contrast(keyed_ll: float, antonym_ll: float) -> ItemScore:
    """Return  ll(keyed) - ll(antonym)  in nats.

    A log-likelihood of minus infinity means that the sampler excludes a token of the sentence: the item is missing.
    """
    for ll in (keyed_ll, antonym_ll):
        if math.isnan(ll) or ll == math.inf:
            return ItemScore(None, NOT_A_NUMBER)
    if -math.inf in (keyed_ll, antonym_ll):
        return ItemScore(None, OUTSIDE_NUCLEUS)
    return ItemScore(keyed_ll - antonym_ll, None)


def statement_score(keyed_ll: ArrayLike, antonym_ll: ArrayLike) -> Score:
    """Return the mean over items of  ll(keyed) - ll(antonym),  in nats per pair.

    Args:
        keyed_ll: log-likelihoods of the keyed sentences in nats, shape (items,).
        antonym_ll: those of the antonyms, same shape.

    Raises:
        DataError: if the shapes differ or there is no item.
    """
    keyed, antonym = np.asarray(keyed_ll, dtype=np.float64), np.asarray(antonym_ll, dtype=np.float64)
    if keyed.ndim != 1 or keyed.shape != antonym.shape:
        raise DataError(
            f"keyed and antonym log-likelihoods have shapes {keyed.shape} and {antonym.shape}, expected (items,)"
        )
    return _mean([statement_contrast(k, a) for k, a in zip(keyed.tolist(), antonym.tolist(), strict=True)])


def option_expected(option_logprobs: ArrayLike, order: Order) -> OptionScore:
    """Return the expected option level of one item,  E = sum_k level(k) p(k) / mass,  with  mass = sum_k p(k).

    The item is missing if its mass is below one half.

    Args:
        option_logprobs: log-probabilities of the option digits 0 ... k-1 in nats, shape (options,); minus infinity is
            an option that the sampler excludes.
        order: `descending` means that digit 0 stands for the highest level.

    Raises:
        DataError: for another shape, or probabilities that sum to more than 1.
        UnknownName: for another order.
    """
    logprobs = np.asarray(option_logprobs, dtype=np.float64)
    if logprobs.ndim != 1 or logprobs.size < 2:
        raise DataError(f"option log-probabilities have shape {logprobs.shape}, expected (options,) with two or more")
    if np.isnan(logprobs).any():
        return OptionScore(None, NOT_A_NUMBER, mass=None)
    p = np.exp(logprobs)
    mass = float(p.sum())
    if mass > 1 + MASS_TOLERANCE:
        raise DataError(f"option probabilities sum to {mass:.6g}, expected at most 1: are these log-probabilities?")
    if mass < MIN_OPTION_MASS:
        return OptionScore(None, f"option mass {mass:.2f} < {MIN_OPTION_MASS:.2f}", mass=mass)
    return OptionScore(float(p @ np.array(levels(order, p.size))) / mass, None, mass=mass)


def option_score(option_logprobs: ArrayLike, order: Order) -> Score:
    """Return the scale score  POMP = 100 * mean over items of E / (k - 1),  from 0 (lowest label) to 100 (highest).

    Args:
        option_logprobs: log-probabilities in nats, shape (items, options).
        order: as in `option_expected`.

    Raises:
        DataError: for another shape, no item, or probabilities that sum to more than 1.
        UnknownName: for another order.

    Source: Cohen, Cohen, Aiken & West 1999.
    """
    logprobs = np.asarray(option_logprobs, dtype=np.float64)
    if logprobs.ndim != 2 or logprobs.shape[1] < 2:
        raise DataError(f"option log-probabilities have shape {logprobs.shape}, expected (items, two or more options)")
    return _mean([option_expected(row, order) for row in logprobs], unit=100 / (logprobs.shape[1] - 1))


def reply_score(options: Sequence[int | None], order: Order, count: int) -> Score:
    """Return the scale score in POMP from the options that replies are; None is a reply that is no option.

    Args:
        options: one option a reply, from 0 to count - 1, in the order shown.
        order: as in `option_expected`.
        count: number of options.

    Raises:
        DataError: for no reply, or an option that the key does not have.
        UnknownName: for another order.
    """
    level = levels(order, count)
    for option in options:
        if option is not None and not 0 <= option < count:
            raise DataError(f"a reply is option {option}; the key has options 0 to {count - 1}")
    items = [ItemScore(None, NO_OPTION) if one is None else ItemScore(float(level[one]), None) for one in options]
    return _mean(items, unit=100 / (count - 1))


def _mean(items: Sequence[ItemScore], unit: float = 1.0) -> Score:
    """Return `unit` times the mean of the valid items, or no value if fewer than 80 % of the items are valid."""
    if not items:
        raise DataError("a score of no items was asked for, expected at least one item")
    values = [item.value for item in items if item.value is not None]
    needed = math.ceil(MIN_VALID_SHARE * len(items))
    if len(values) >= needed:
        return Score(unit * math.fsum(values) / len(values), len(items), len(values), None)
    missing = next(item.reason for item in items if item.value is None)
    reason = f"{len(values)} of {len(items)} items valid, {needed} needed; first missing: {missing}"
    return Score(None, len(items), len(values), reason)
