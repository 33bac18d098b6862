"""From a table and formulas to numbers: the fixed design matrix and the terms of random effects.

It knows no likelihood. Factors are coded by treatment contrasts; a formula follows Wilkinson & Rogers 1973.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt
import pandas as pd
from formulaic import Formula, ModelMatrix, model_matrix  # type: ignore[import-untyped]
from formulaic.errors import FormulaicError  # type: ignore[import-untyped]

from neuromod_core.kernel.errors import DataError
from neuromod_core.stats.mixed.result import position
from neuromod_core.stats.sample import FloatArray

IntArray: TypeAlias = npt.NDArray[np.intp]
RANK = 1e-10  # relative: a column that less than this sticks out of the others is one of their combinations


class Columns(Protocol):
    """Any table with named columns, as those of pandas and polars."""

    @property
    def columns(self) -> Sequence[str]:
        """Return the names."""

    def __getitem__(self, name: str, /) -> npt.ArrayLike:
        """Return the column called `name`."""


Table: TypeAlias = "pd.DataFrame | Columns | Mapping[str, npt.ArrayLike]"


class Fixed(NamedTuple):
    """The response (rows,), the design matrix (rows, columns), its columns' names, and which of them each term has."""

    response: pd.Series
    matrix: FloatArray
    names: tuple[str, ...]
    terms: Mapping[str, tuple[int, ...]]


class Term(NamedTuple):
    """Effects of one grouping factor that may correlate: (rows, k) columns, and the (rows,) level of each row."""

    group: str
    names: tuple[str, ...]
    columns: FloatArray
    codes: IntArray
    levels: int


def table(data: Table) -> pd.DataFrame:
    """Return `data` as a data frame with a fresh index.

    Raises:
        DataError: for columns of unequal length, or no rows.
    """
    if isinstance(data, pd.DataFrame):
        frame = data.reset_index(drop=True)
    else:
        names = list(data) if isinstance(data, Mapping) else list(data.columns)
        columns = {name: np.asarray(data[name]).tolist() for name in names}
        sizes = {name: len(column) for name, column in columns.items()}
        if len(set(sizes.values())) > 1:
            raise DataError(f"The data are not a table: the lengths of their columns are {sizes}.")
        frame = pd.DataFrame({name: pd.Series(column) for name, column in columns.items()})
    if frame.empty:
        raise DataError("The data have no rows.")
    return frame


def fixed_design(frame: pd.DataFrame, formula: str) -> Fixed:
    """Return what the formula `response ~ terms` asks for.

    Raises:
        DataError: for a formula that is none, missing values, or columns that are linearly dependent.
        UnknownName: for a column that the data do not have.
    """
    if formula.count("~") != 1:
        raise DataError(f"The fixed formula is {formula!r}; it must be 'response ~ terms'.")
    left, right = (part.strip() for part in formula.split("~"))
    response, matrix = _response(frame, left), _matrix(frame, right)
    numbers = np.array(matrix, dtype=np.float64).reshape(len(frame), -1)
    names = tuple(str(name) for name in matrix.columns)
    _full_rank(numbers, names)
    spans = {str(term): tuple(spots) for term, spots in matrix.model_spec.term_indices.items()}
    return Fixed(response, numbers, names, {k: v for k, v in spans.items() if k != "1"})


def _response(frame: pd.DataFrame, expression: str) -> pd.Series:
    """Return the response: a column as it is, or what an expression gives."""
    if expression in frame.columns:
        _complete(frame, {expression})
        return frame[expression]
    matrix = _matrix(frame, f"0 + {expression}")
    if matrix.shape[1] != 1:
        raise DataError(f"The response {expression!r} has {matrix.shape[1]} columns; one of numbers is needed.")
    return pd.Series(matrix.iloc[:, 0])


def ordinal_design(frame: pd.DataFrame, formula: str) -> Fixed:
    """Return the design of a model whose thresholds take the place of the intercept.

    Raises:
        DataError: as `fixed_design`, and for a response that is an expression, or a formula without an intercept.
        UnknownName: for a column that the data do not have.
    """
    if formula.count("~") != 1:
        raise DataError(f"The fixed formula is {formula!r}; it must be 'response ~ terms'.")
    name, right = (part.strip() for part in formula.split("~"))
    _known(frame, {name})
    found = fixed_design(frame, formula)
    if "Intercept" not in found.names:
        raise DataError(f"The terms are {right!r}; leave the intercept in, the thresholds take its place.")
    at = found.names.index("Intercept")
    terms = {term: tuple(spot - (spot > at) for spot in spots) for term, spots in found.terms.items()}
    names = tuple(other for other in found.names if other != "Intercept")
    return Fixed(frame[name], np.delete(found.matrix, at, axis=1), names, terms)


def numeric_response(response: pd.Series) -> FloatArray:
    """Return the response as finite numbers.

    Raises:
        DataError: when it is not, or when all its values agree.
    """
    try:
        values = np.asarray(response, dtype=np.float64)
    except (TypeError, ValueError) as cause:
        raise DataError(f"The responses are not numbers: {cause}.") from cause
    if not np.isfinite(values).all():
        raise DataError(f"{np.sum(~np.isfinite(values))} of {values.size} responses are missing or infinite.")
    if np.ptp(values) == 0:
        raise DataError(f"All {values.size} responses are {values[0]:g}; a model needs a response that varies.")
    return values


def random_terms(frame: pd.DataFrame, formulas: str | Sequence[str]) -> tuple[Term, ...]:
    """Return the terms of `effects | group` (correlated) and `effects || group` (uncorrelated) formulas.

    A group is a column, a combination `a:b`, or `a/b`, which is a and a:b.

    Raises:
        DataError: for a formula that is none, a factor with one level, or an effect that is asked for twice.
        UnknownName: for a column that the data do not have.
    """
    wanted = (formulas,) if isinstance(formulas, str) else tuple(formulas)
    terms = tuple(term for formula in wanted for term in _terms(frame, formula))
    if not terms:
        raise DataError("No random effects are given; at least one formula 'effects | group' is needed.")
    effects = [(term.group, name) for term in terms for name in term.names]
    twice = sorted({f"{name} | {group}" for group, name in effects if effects.count((group, name)) > 1})
    if twice:
        raise DataError(f"The random effect {twice[0]} is asked for more than once.")
    return terms


def _terms(frame: pd.DataFrame, formula: str) -> list[Term]:
    """Return the terms of one formula."""
    match = re.fullmatch(r"\s*([^|]+?)\s*(\|\|?)\s*([\w.]+(?:\s*[:/]\s*[\w.]+)*)\s*", formula)
    if match is None:
        raise DataError(f"The random formula is {formula!r}; it must be 'effects | group' or 'effects || group'.")
    left, bar, right = match.groups()
    matrix = _matrix(frame, left)
    columns, names = np.array(matrix, dtype=np.float64), tuple(str(name) for name in matrix.columns)
    for name, column in zip(names, columns.T, strict=True):
        if not column.any():
            raise DataError(f"The random effect {name} of {formula!r} is zero in every row.")
    found = []
    for parts in _factors(right):
        codes, levels = _levels(frame, parts)
        group = ":".join(parts)
        if bar == "|":
            found.append(Term(group, names, columns, codes, levels))
        else:
            found += [Term(group, (name,), columns[:, [at]], codes, levels) for at, name in enumerate(names)]
    return found


def _factors(group: str) -> list[tuple[str, ...]]:
    """Return the factors of `a`, `a:b` or `a/b`, each as the columns it combines."""
    nested = [tuple(part.strip() for part in step.split(":")) for step in group.split("/")]
    return [tuple(name for step in nested[: depth + 1] for name in step) for depth in range(len(nested))]


def _levels(frame: pd.DataFrame, parts: tuple[str, ...]) -> tuple[IntArray, int]:
    """Return the level of each row and their number."""
    _known(frame, set(parts))
    _complete(frame, set(parts))
    each = np.column_stack([pd.factorize(frame[name])[0] for name in parts])
    levels, codes = np.unique(each, axis=0, return_inverse=True)
    if len(levels) < 2:
        raise DataError(f"The grouping factor {':'.join(parts)} has one level; at least two are needed.")
    return codes.ravel().astype(np.intp), len(levels)


def _matrix(frame: pd.DataFrame, formula: str) -> ModelMatrix:
    """Return the model matrix of a one-sided formula; names are looked up in the data only."""
    try:
        used = {str(name) for name in Formula(formula).required_variables}
        _known(frame, used)
        _complete(frame, used)
        matrix = model_matrix(formula, frame, na_action="raise", context={})
    except FormulaicError as cause:
        said = " ".join(re.sub(r"\x1b\[[\d;]*m", "", str(cause)).split())
        raise DataError(f"The formula {formula!r} cannot be used: {said}") from cause
    except ValueError as cause:
        raise DataError(f"The formula {formula!r} gives values that are missing: {cause}") from cause
    return matrix


def _known(frame: pd.DataFrame, names: set[str]) -> None:
    """Raise where a column does not exist."""
    for name in sorted(names):
        position(name, (str(column) for column in frame.columns), "column")


def _complete(frame: pd.DataFrame, names: set[str]) -> None:
    """Raise where a column has missing values."""
    for name in sorted(names):
        missing = int(frame[name].isna().sum())
        if missing:
            raise DataError(f"{missing} of {len(frame)} values of {name} are missing; leave those rows out.")


def _full_rank(matrix: FloatArray, names: tuple[str, ...]) -> None:
    """Raise where a column is a combination of those before it."""
    if not np.isfinite(matrix).all():
        raise DataError("The fixed design has values that are missing or infinite.")
    if matrix.shape[1] > len(matrix):
        raise DataError(f"There are {matrix.shape[1]} fixed effects and {len(matrix)} rows; more rows are needed.")
    size = np.linalg.norm(matrix, axis=0)
    scaled = matrix / np.where(size > 0, size, 1)
    outside = np.abs(np.diag(np.linalg.qr(scaled, mode="r"))) if names else np.ones(0)
    if (outside < RANK).any():
        name = names[int(np.argmax(outside < RANK))]
        raise DataError(f"The fixed effect {name} is a linear combination of the others; leave it or them out.")
