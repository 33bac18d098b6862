"""Numbers at the border: what a statistic accepts, and what it calls constant."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import pandas as pd

from neuromod_core.kernel.errors import DataError, OutOfRange

FloatArray: TypeAlias = npt.NDArray[np.float64]
IntArray: TypeAlias = npt.NDArray[np.int64]

ROUNDING = 1e-12  # relative: what the arithmetic of float64 leaves on numbers that are equal on paper


def vector(values: npt.ArrayLike, name: str = "differences") -> FloatArray:
    """Return `values` as (units,), at least two finite numbers.

    Raises:
        DataError: for another shape, fewer than two units, a missing or infinite value, or something else than numbers.
    """
    return _sample(values, name, ("units",))


def matrix(values: npt.ArrayLike, name: str = "differences") -> FloatArray:
    """Return `values` as (units, contrasts), finite, with at least two units and one contrast.

    Raises:
        DataError: for another shape, fewer than two units, a missing or infinite value, or something else than numbers.
    """
    return _sample(values, name, ("units", "contrasts"))


def grid(values: npt.ArrayLike, name: str = "scores", axes: tuple[str, str] = ("units", "arms")) -> FloatArray:
    """Return `values` as a finite table with at least two rows and two columns, named by `axes`.

    Raises:
        DataError: for another shape, a missing or infinite value, or something else than numbers.
    """
    array = _sample(values, name, axes)
    if array.shape[1] < 2:
        raise DataError(
            f"The {name} have shape {array.shape}; ({', '.join(axes)}) with at least 2 {axes[1]} is needed."
        )
    return array


def pair(x: npt.ArrayLike, y: npt.ArrayLike) -> tuple[FloatArray, FloatArray]:
    """Return two samples of the same units, (units,) each.

    Raises:
        DataError: for unequal lengths, fewer than two units, or values that are not finite.
    """
    first, second = vector(x, "values of x"), vector(y, "values of y")
    if first.size != second.size:
        raise DataError(
            f"x has {first.size} units and y has {second.size}; a paired test needs the same units in both."
        )
    return first, second


def differences_of(x: npt.ArrayLike, y: npt.ArrayLike | None = None) -> FloatArray:
    """Return (units,) differences: x itself, or x - y when a second sample of the same units is given.

    Raises:
        DataError: for unequal lengths, fewer than two units, or values that are not finite.
    """
    if y is None:
        return vector(x)
    first, second = pair(x, y)
    return first - second


def codes(labels: npt.ArrayLike, size: int, name: str) -> IntArray:
    """Return (size,) labels of any kind as whole numbers 0, 1, ... in the order in which they first appear.

    Raises:
        DataError: for another shape, or a missing label.
    """
    array = np.asarray(labels)
    if array.shape != (size,):
        raise DataError(f"The {name} have shape {array.shape}; one label for each of {size} is needed.")
    numbered, _ = pd.factorize(array)
    if (numbered < 0).any():
        raise DataError(f"{int((numbered < 0).sum())} of {size} {name} are missing, the first at {numbered.argmin()}.")
    return numbered.astype(np.int64)


def open_unit(value: float, name: str) -> float:
    """Return `value` when it lies strictly between 0 and 1.

    Raises:
        OutOfRange: when it does not.
    """
    if not 0 < value < 1:
        raise OutOfRange(f"{name} is {value}; it must lie strictly between 0 and 1.")
    return value


def constant(differences: FloatArray) -> npt.NDArray[np.bool_]:
    """Return whether (units, ...) differences all agree, up to the rounding of float64: no spread to studentise by."""
    return np.asarray(np.ptp(differences, axis=0) <= ROUNDING * np.abs(differences).max(axis=0))


def varying(differences: FloatArray) -> FloatArray:
    """Return (units,) `differences` when they vary.

    Raises:
        DataError: when all agree: a deterministic readout gave a constant, which has no t statistic.
    """
    if constant(differences):
        raise DataError(
            f"All {differences.size} differences are {differences[0]:g}: without spread over units there is no t "
            "statistic. Report zeros as not informative; test a constant that is not zero by sign flips."
        )
    return differences


def constant_by_construction(differences: npt.ArrayLike) -> bool:
    """Return whether every one of the (units,) differences is exactly zero.

    So it is when a readout cannot see an intervention, as raw log-likelihoods cannot see a sampler: the contrast is
    then "not informative", which is not the same as no effect. A difference of 1e-17 is not exactly zero.

    Raises:
        DataError: for fewer than two units, or a value that is not finite.

    >>> constant_by_construction([0.0, 0.0, 0.0]), constant_by_construction([0.0, 0.0, 1e-17])
    (True, False)
    """
    return not vector(differences).any()


def _sample(values: npt.ArrayLike, name: str, axes: tuple[str, ...]) -> FloatArray:
    """Return `values` as float64 with the given axes, or raise."""
    try:
        array = np.asarray(values, dtype=np.float64, order="C")  # a frame sums in the same order
    except (TypeError, ValueError) as cause:
        raise DataError(f"The {name} are not an array of numbers: {cause}.") from cause
    if array.ndim != len(axes) or array.size == 0 or len(array) < 2:
        raise DataError(
            f"The {name} have shape {array.shape}; ({', '.join(axes)}) with at least 2 {axes[0]} is needed."
        )
    if not np.isfinite(array).all():
        bad = np.argwhere(~np.isfinite(array))
        raise DataError(
            f"{len(bad)} of {array.size} {name} are missing or infinite, the first at {tuple(bad[0].tolist())}; "
            "leave the unit out before the test."
        )
    return array
