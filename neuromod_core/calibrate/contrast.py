"""Contrast sets: pairs of sentences that differ in one concept and nothing else."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from neuromod_core.kernel.errors import CalibrationError
from neuromod_core.kernel.register import unknown

FEWEST_PAIRS, FEWEST_TOPICS = 100, 12


@dataclass(frozen=True)
class Pair:
    """Two sentences on one topic: with the concept, and without."""

    topic: str
    positive: str
    negative: str


def topics_of(pairs: Sequence[Pair]) -> tuple[str, ...]:
    """Return the topics of a contrast set, in the order in which calibration numbers them."""
    return tuple(sorted({pair.topic for pair in pairs}))


def _pair(line: str, where: str) -> Pair:
    try:
        fields = json.loads(line)
    except json.JSONDecodeError as error:
        raise CalibrationError(f"{where}: not JSON: {error.msg}.") from None
    if not isinstance(fields, dict) or set(fields) != {"topic", "positive", "negative"}:
        raise CalibrationError(f"{where}: a pair has the keys topic, positive, negative; given {line[:60]!r}.")
    if not all(isinstance(value, str) and value.strip() for value in fields.values()):
        raise CalibrationError(f"{where}: topic, positive and negative are texts and none is empty.")
    return Pair(**fields)


def load_contrast(folder: Path, concept: str) -> tuple[Pair, ...]:
    """Return the contrast set of `concept`, sorted by topic.

    Raises:
        UnknownName: when there is no set of that name.
        CalibrationError: for a malformed, repeated or one-sided pair, or fewer than 100 pairs or 12 topics.
    """
    path = folder / f"{concept}.jsonl"
    if not path.is_file():
        raise unknown("contrast set", concept, {file.stem: file for file in folder.glob("*.jsonl")})
    lines = path.read_text(encoding="utf-8").splitlines()
    pairs = [_pair(line, f"{path.name}:{number}") for number, line in enumerate(lines, 1) if line.strip()]
    texts = Counter(text for pair in pairs for text in (pair.positive, pair.negative))
    repeated = [text for text, count in texts.items() if count > 1]
    if repeated:
        raise CalibrationError(f"{path.name}: a sentence occurs twice: {repeated[0][:60]!r}.")
    topics = {pair.topic for pair in pairs}
    if len(pairs) < FEWEST_PAIRS or len(topics) < FEWEST_TOPICS:
        raise CalibrationError(
            f"{path.name}: {len(pairs)} pairs on {len(topics)} topics; "
            f"at least {FEWEST_PAIRS} pairs on {FEWEST_TOPICS} topics are needed."
        )
    return tuple(sorted(pairs, key=lambda pair: (pair.topic, pair.positive)))
