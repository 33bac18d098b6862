"""The story emotion test: stories told under packs from the same openers and the same randomness, read, and compared.

A pair is one opener and one sample, told under the pack and under what it is compared with. The openers are fixed: what
is found holds for stories from these openers, not for stories.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from neuromod_core.affect.reader import Array, Reader
from neuromod_core.affect.signatures import INTENSITY, Controls
from neuromod_core.affect.story import Course, course
from neuromod_core.effects import Stream, Subject
from neuromod_core.engine import Row, Session, generate
from neuromod_core.instruments import Message, Opener
from neuromod_core.kernel.errors import DataError, OutOfRange
from neuromod_core.kernel.rng import rng
from neuromod_core.packs import Pack
from neuromod_core.stats import Result, adjust, bootstrap_t, constant_by_construction, paired, sign_flip
from neuromod_core.stats.arrangements import Alternative
from neuromod_core.stats.result import Cell
from neuromod_core.trial.prompts import Prompter

SAME = "every story is the same under both: this pack changes nothing that a story shows"
ALPHA = 0.05
TOLD, PLAIN = "told {}", "told nothing"
"""Names of the stories of the positive control: by a writer who is told of an emotion, and by one who is not."""
ALTERNATIVES: Mapping[int | None, Alternative] = {1: "greater", -1: "less", None: "two-sided"}


@dataclass(frozen=True)
class Told:
    """One story. text: as it was written; tokens: how many."""

    pack: str
    opener: str
    sample: int
    text: str
    tokens: int


@dataclass(frozen=True)
class Teller:
    """Where stories are told."""

    session: Session
    subject: Subject
    prompter: Prompter


@dataclass(frozen=True)
class Shift:
    """What a pack does to one emotion of a story, in the reader's unit, against its comparator.

    predicted: +1, -1, or None where nothing is predicted.  found: None where it cannot be tested, with the reason.
    p_adj: BH-adjusted within its family: all predictions, or everything else.
    """

    pack: str
    against: str
    emotion: str
    predicted: int | None
    found: Result | None
    g_z: float | None
    p_adj: float | None
    reason: str | None

    @property
    def state(self) -> str:
        """What this comes to, in a word or two."""
        if self.found is None or self.p_adj is None:
            return "not testable"
        if self.p_adj > ALPHA:
            return "not shown"
        if self.predicted is None:
            return "shifted"
        return "as predicted"

    def as_row(self) -> dict[str, Cell]:
        """Return the row of a table."""
        blank: dict[str, Cell] = dict.fromkeys(("estimate", "ci_low", "ci_high", "p", "n", "method"))
        row = blank if self.found is None else {key: self.found.as_row()[key] for key in blank}
        return {
            "pack": self.pack,
            "against": self.against,
            "emotion": self.emotion,
            "predicted": self.predicted,
            **row,
            "g_z": self.g_z,
            "p_adj": self.p_adj,
            "state": self.state,
            "reason": self.reason,
        }


def told_packs(controls: Controls, emotions: Sequence[str]) -> Mapping[str, tuple[Pack, ...]]:
    """Return the packs of the positive control, by name: nothing but a system text."""
    texts = {TOLD.format(name): text for name, text in controls.emotions.items() if name in emotions}
    return {
        name: (Pack(name=name, description="positive control of the story test", kind="control", system=text),)
        for name, text in {PLAIN: controls.plain, **texts}.items()
    }


def told_shifts(readings: Readings, emotions: Sequence[str]) -> tuple[Shift, ...]:
    """Return what each told emotion does to its own reading and, undirected, to the others, against the plain writer.

    Formula:  as `shifts`, where the prediction is that a told emotion rises.
    """
    names = [TOLD.format(name) for name in emotions]
    return shifts(readings, names, PLAIN, {TOLD.format(name): {name: 1} for name in emotions}, {})


def tell(
    desk: Teller,
    packs: Mapping[str, Sequence[Pack]],
    openers: Sequence[Opener],
    *,
    samples: int,
    tokens: int,
    seed: int,
) -> tuple[Told, ...]:
    """Return the stories of every pack, opener and sample.

    packs: name -> the single packs it stands for; members of an ensemble are dealt over the stories in turn.
    Equal opener and sample share their randomness, so that a difference between packs is not one of luck.

    Raises:
        OutOfRange: for fewer than one sample.
    """
    if samples < 1:
        raise OutOfRange(f"samples is {samples}; at least 1 story from each opener is needed.")
    places = [(opener, sample) for opener in openers for sample in range(samples)]
    asked = [
        (name, singles[number % len(singles)], opener, sample)
        for name, singles in packs.items()
        for number, (opener, sample) in enumerate(places)
    ]
    rows = [
        Row(_prompt(desk.prompter, opener, pack.system), pack, Stream(seed, f"{opener.id}/{sample}"))
        for _, pack, opener, sample in asked
    ]
    written = generate(desk.session, rows, desk.subject, tokens=tokens)
    decode = desk.session.model.tokenizer.decode
    return tuple(
        Told(name, opener.id, sample, decode(story.tokens, skip_special_tokens=True), len(story.tokens))
        for (name, _, opener, sample), story in zip(asked, written, strict=True)
    )


def _prompt(prompter: Prompter, opener: Opener, system: str | None) -> tuple[int, ...]:
    turns = [Message("system", system or prompter.library.frames.system), Message("user", opener.text)]
    return prompter.text(prompter.chat(turns))


@dataclass(frozen=True, eq=False)
class Readings:
    """All stories as one reader reads them. courses: None for a story without a word."""

    reader: str
    dimensions: tuple[str, ...]
    told: tuple[str, ...]
    stories: tuple[Told, ...]
    courses: tuple[Course | None, ...]

    def column(self, pack: str, emotion: str, value: Callable[[Course], Array]) -> Array:
        """Return a value per story of a pack, (stories,), NaN where a story has none.

        emotion: one of the reader's, or `intensity`, the mean of all it may tell.
        """
        wanted = self.told if emotion == INTENSITY else (emotion,)
        places = [self.dimensions.index(name) for name in wanted]
        mine = [one for story, one in zip(self.stories, self.courses, strict=True) if story.pack == pack]
        return np.array([np.nan if one is None else float(value(one)[places].mean()) for one in mine])

    def paths(self, pack: str) -> Array:
        """Return the courses of a pack's stories on their common clock, (stories, steps, dimensions)."""
        found = zip(self.stories, self.courses, strict=True)
        return np.array([one.path for story, one in found if story.pack == pack and one is not None])


def read_stories(reader: Reader, told: Sequence[str], stories: Sequence[Told]) -> Readings:
    """Return the readings of stories. told: the emotions that the reader may report."""
    courses = tuple(course(reader, story.text) for story in stories)
    return Readings(reader.name, reader.dimensions, tuple(told), tuple(stories), courses)


def shifts(
    readings: Readings,
    packs: Sequence[str],
    against: str,
    signatures: Mapping[str, Mapping[str, int]],
    gated: Mapping[str, str],
) -> tuple[Shift, ...]:
    """Return what every pack does to every emotion, predictions first.

    gated: emotion -> why the reader may not report it; a prediction about it is not testable.
    Formula:  d = mean reading under the pack - mean reading under the comparator, by pair; sign-flip test of mean d,
    one-sided in the predicted direction, two-sided where nothing is predicted; BH within either family.
    """
    emotions = [*readings.told, INTENSITY]
    expected = [(pack, name, sign) for pack in packs for name, sign in signatures.get(pack, {}).items()]
    known = {(pack, name) for pack, name, _ in expected}
    others = [(pack, name, None) for pack in packs for name in emotions if (pack, name) not in known]
    return (
        *_family(readings, expected, against, gated),
        *_family(readings, others, against, gated),
    )


def _family(
    readings: Readings, asked: Sequence[tuple[str, str, int | None]], against: str, gated: Mapping[str, str]
) -> tuple[Shift, ...]:
    """Return one family of shifts with their adjusted p."""
    made = [_shift(readings, pack, against, name, sign, gated) for pack, name, sign in asked]
    tested = [one.found.pvalue for one in made if one.found is not None]
    adjusted = iter(adjust(tested).tolist() if tested else [])
    return tuple(one if one.found is None else Shift(**{**vars(one), "p_adj": float(next(adjusted))}) for one in made)


def _shift(
    readings: Readings, pack: str, against: str, emotion: str, sign: int | None, gated: Mapping[str, str]
) -> Shift:
    """Return one shift without an adjusted p."""
    if emotion in gated:
        return Shift(pack, against, emotion, sign, None, None, None, gated[emotion])
    both = [readings.column(name, emotion, lambda one: one.mean) for name in (pack, against)]
    differences = (both[0] - both[1])[np.isfinite(both[0]) & np.isfinite(both[1])]
    try:
        if constant_by_construction(differences):
            return Shift(pack, against, emotion, sign, None, None, None, SAME)
        test = sign_flip(differences, alternative=ALTERNATIVES[sign], generator=rng(0, "stories", pack, emotion))
        interval = bootstrap_t(differences, generator=rng(0, "stories", pack, emotion, "interval"))
    except DataError as error:
        return Shift(pack, against, emotion, sign, None, None, None, str(error))
    found = Result(**{**vars(test), "ci": interval.ci})
    return Shift(pack, against, emotion, sign, found, paired(differences).g_z, None, None)
