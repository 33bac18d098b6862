"""The labelled text that readers are trained and judged on: public files, and sentences of our own."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from neuromod_core.affect.plutchik import LABELS
from neuromod_core.instruments.records import read_headed_jsonl
from neuromod_core.instruments.tasks import PUBLIC, read_public, why_absent
from neuromod_core.instruments.texts import Text
from neuromod_core.kernel.types import digest

DEVELOPMENT, TRAINING, HELD_OUT = "goemotions-dev", "goemotions-train", "goemotions-test"
NAMES = "goemotions-labels"


@dataclass(frozen=True)
class Labelled(Text):
    """A text with the emotions that its annotators saw in it."""

    text: str
    emotions: frozenset[str]


@dataclass(frozen=True)
class Corpus:
    """Labelled texts. splits: the files they were read from."""

    splits: tuple[str, ...]
    texts: tuple[Labelled, ...]

    @property
    def fingerprint(self) -> str:
        """Digest of the pinned files and of what their labels count for."""
        return digest(
            [[PUBLIC[name].sha256 for name in self.splits], {key: list(value) for key, value in LABELS.items()}]
        )


def training(folder: Path) -> Corpus:
    """Return the text to train on: the training split where it is there, and the development split.

    Raises:
        DataError, IntegrityError: as `read_public`.
    """
    splits = (DEVELOPMENT,) if why_absent(folder, TRAINING) is not None else (TRAINING, DEVELOPMENT)
    return Corpus(splits, tuple(one for name in splits for one in _labelled(name, folder)))


def held_out(folder: Path) -> Corpus:
    """Return the text that no reader is trained on: the test split.

    Raises:
        DataError, IntegrityError: as `read_public`.
    """
    return Corpus((HELD_OUT,), _labelled(HELD_OUT, folder))


def _labelled(name: str, folder: Path) -> tuple[Labelled, ...]:
    names = read_public(folder, NAMES).split()
    meaning = {label: emotion for emotion, labels in LABELS.items() for label in labels}
    found = []
    for line in read_public(folder, name).splitlines():
        text, labels, _ = line.split("\t")
        seen = [names[int(number)] for number in labels.split(",")]
        found.append(Labelled(text, frozenset(meaning[label] for label in seen if label in meaning)))
    return tuple(found)


def load_sentences(path: Path) -> Corpus:
    """Return the story sentences of a JSON-lines file, each labelled with the emotion that it was written to show.

    Raises:
        InstrumentError: for an unknown, missing or repeated key, or an empty text.
    """
    lines = read_headed_jsonl(path, "sentences", "id", "emotion", "text")
    return Corpus((), tuple(Labelled(line.text("text"), frozenset({line.text("emotion")})) for line in lines))
