"""The answer key: which option stands for which level, how options are marked, and what a written reply says."""

from __future__ import annotations

import re
from collections.abc import Sequence
from string import ascii_uppercase
from typing import Literal, TypeAlias, get_args

from neuromod_core.kernel.register import unknown

Order: TypeAlias = Literal["ascending", "descending"]
Labels: TypeAlias = Literal["digits", "letters", "words"]

ORDERS: tuple[Order, ...] = get_args(Order)
LABEL_SETS: tuple[Labels, ...] = get_args(Labels)
SHOWN = 32  # characters of a reply that a reason quotes


def levels(order: Order, count: int) -> tuple[int, ...]:
    """Return the level (0 = lowest) that each of the options 0 ... count-1 stands for.

    >>> levels("descending", 5)
    (4, 3, 2, 1, 0)

    Raises:
        UnknownName: for another order.
    """
    directions = {"ascending": 1, "descending": -1}
    if order not in directions:
        raise unknown("option order", order, directions)
    return tuple(range(count))[:: directions[order]]


def marks(labels: Labels, texts: Sequence[str]) -> tuple[str, ...]:
    """Return the mark of each option as it is answered; `texts` are the options' labels in the order shown.

    >>> marks("letters", ["no", "yes"]), marks("words", ["no", "yes"])
    (('A', 'B'), ('no', 'yes'))

    Raises:
        UnknownName: for another label set.
    """
    if labels not in LABEL_SETS:
        raise unknown("label set", labels, list[str](LABEL_SETS))
    if labels == "words":
        return tuple(texts)
    return tuple(str(place) if labels == "digits" else ascii_uppercase[place] for place in range(len(texts)))


def parse_reply(reply: str, labels: Labels, texts: Sequence[str]) -> tuple[int | None, str | None]:
    """Return (option, None) for a reply that is one option and nothing else, or (None, reason).

    A reply is an option when it is its mark, its label, or both as the key has them; case, and what is neither letter
    nor digit around it, do not count. Everything else is missing: nothing is guessed from a longer reply.

    >>> parse_reply(" 1. ", "digits", ["no", "yes"]), parse_reply("1 = yes", "digits", ["no", "yes"])
    ((1, None), (1, None))
    >>> parse_reply("yes or no", "digits", ["no", "yes"])
    (None, "no option: 'yes or no'")
    """
    plain = _plain(reply)
    for option, (mark, text) in enumerate(zip(marks(labels, texts), texts, strict=True)):
        if plain in {_plain(mark), _plain(text), _plain(f"{mark} {text}")}:
            return option, None
    return None, "an empty reply" if not plain else f"no option: {' '.join(reply.split())[:SHOWN]!r}"


def _plain(text: str) -> str:
    """Return the words of a text in lower case, one blank between them."""
    return " ".join(re.findall(r"\w+", text.casefold()))
