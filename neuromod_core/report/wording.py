"""Numbers as a reader sees them. A number that is missing is said to be missing, never printed as one."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import SupportsFloat

import pandas as pd

from neuromod_core.kernel.errors import DataError

MISSING = "missing"
"""What stands where a number would."""

MINUS = "\u2212"
NAME_LENGTH = 28

READINGS: Mapping[str, tuple[str, str]] = {
    "statement_raw": ("statement contrast, raw", "nats per pair"),
    "statement_expressed": ("statement contrast, expressed", "nats per pair"),
    "options_raw": ("option scores, raw", "POMP points"),
    "options_expressed": ("option scores, expressed", "POMP points"),
    "texts_raw": ("whole answers, raw", "POMP points"),
    "texts_expressed": ("whole answers, expressed", "POMP points"),
    "sampled_expressed": ("sampled replies", "POMP points"),
}
"""Reading code -> (name, unit of its scores). POMP: percent of maximum possible."""


def number(value: object) -> float | None:
    """Return a cell of a table as a number; null, NaN and None are None.

    >>> number(1), number(float("nan")), number(None)
    (1.0, None, None)
    """
    if value is None or value is pd.NA:
        return None
    if not isinstance(value, SupportsFloat):
        raise DataError(f"A number for the report is {value!r}; it must be a number or null.")
    parsed = float(value)
    return None if math.isnan(parsed) else parsed


def words(value: object) -> str:
    """Return a cell of a table as text; null, NaN and None are empty.

    >>> words("length"), words(float("nan")), words(None), words(3)
    ('length', '', '', '3')
    """
    absent = value is None or value is pd.NA or (isinstance(value, float) and math.isnan(value))
    return "" if absent else str(value)


def signed(value: float | None, digits: int = 2) -> str:
    """Return a number with its sign and a true minus, for differences; what rounds to zero has no sign.

    >>> signed(-0.5), signed(1), signed(-0.0001), signed(None)
    ('\u22120.50', '+1.00', '0.00', 'missing')
    """
    if value is None:
        return MISSING
    text = f"{value:+.{digits}f}"
    return text[1:] if float(text) == 0 else text.replace("-", MINUS)


def plain(value: float | None, digits: int = 2) -> str:
    """Return a number without a plus sign.

    >>> plain(0.1234), plain(-2.0, 1), plain(None)
    ('0.12', '\u22122.0', 'missing')
    """
    return MISSING if value is None else f"{value:.{digits}f}".replace("-", MINUS)


def count(value: float | None) -> str:
    """Return a whole number.

    >>> count(12.0), count(None)
    ('12', 'missing')
    """
    return MISSING if value is None else f"{value:.0f}"


def pvalue(value: float | None) -> str:
    """Return a p-value with three decimals, or a bound; a p-value is never printed as zero.

    >>> pvalue(0.0421), pvalue(1e-5), pvalue(None)
    ('0.042', '< 0.001', 'missing')
    """
    if value is None:
        return MISSING
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def percent(share: float | None) -> str:
    """Return a share as a percentage.

    >>> percent(0.125), percent(0.0), percent(None)
    ('12.5 %', '0 %', 'missing')
    """
    if share is None:
        return MISSING
    return "0 %" if share == 0 else f"{100 * share:.1f} %"


def interval(low: float | None, high: float | None) -> str:
    """Return a confidence interval in brackets.

    >>> interval(-0.5, 1), interval(None, 1)
    ('[\u22120.50, +1.00]', 'missing')
    """
    return MISSING if low is None or high is None else f"[{signed(low)}, {signed(high)}]"


def listed(names: Sequence[str]) -> str:
    """Return names as a sentence lists them.

    >>> listed(["a"]), listed(["a", "b", "c"])
    ('a', 'a, b and c')
    """
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def short(name: str) -> str:
    """Return a name that fits beside a picture: cut, with an ellipsis, after 28 characters.

    >>> short("lucid"), len(short("a" * 40))
    ('lucid', 28)
    """
    return name if len(name) <= NAME_LENGTH else f"{name[: NAME_LENGTH - 1]}\u2026"


def reading_name(code: str) -> str:
    """Return the words for a reading code; an unknown code speaks for itself."""
    return READINGS[code][0] if code in READINGS else code


def reading_unit(code: str) -> str:
    """Return the unit of a reading's scores; an unknown code has the unit 'points'."""
    return READINGS[code][1] if code in READINGS else "points"
