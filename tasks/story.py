"""The story emotion test: a reader trained once, stories told under packs, readings, tests, pictures."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from neuromod_core.affect import Lexicon, Reader, Reliability, Trained, reliability, sources, train
from neuromod_core.affect.lexicon import parse_empath
from neuromod_core.affect.reader import METHOD
from neuromod_core.affect.reliability import told as may_tell
from neuromod_core.affect.signatures import load_controls, load_signatures
from neuromod_core.engine import best_path, dosed
from neuromod_core.instruments.tasks import read_public, why_absent
from neuromod_core.kernel.errors import ConfigError, DataError
from neuromod_core.kernel.types import digest
from neuromod_core.models import ModelSpec
from neuromod_core.packs import Pack
from neuromod_core.report import story as pages
from neuromod_core.report.canvas import write_png
from neuromod_core.trial.prompts import Prompter
from neuromod_core.trial.register import given, kl_factors
from neuromod_core.trial.story_test import (
    Readings,
    Shift,
    Teller,
    Told,
    read_stories,
    shifts,
    tell,
    told_packs,
    told_shifts,
)
from tasks import progress
from tasks.bench import data_folder
from tasks.document import EMBEDDED, EMBEDDED_TITLE
from tasks.lab import Places, calibration, kept, library, model, units


@dataclass(frozen=True)
class Asked:
    """What is told: packs, what they are compared with, how many stories from each opener, and how long.

    control: whether stories are also told by a writer who is told what people feel.
    """

    spec: ModelSpec
    packs: tuple[str, ...]
    against: str
    samples: int
    tokens: int
    seed: int
    control: bool = False


@dataclass(frozen=True, eq=False)
class Readers:
    """The trained reader and the baseline, each with its reliability on held-out comments and on story sentences."""

    trained: Trained
    lexicon: Lexicon
    held_out: Mapping[str, tuple[Reliability, ...]]
    stories: Mapping[str, tuple[Reliability, ...]]

    @property
    def told(self) -> tuple[str, ...]:
        """The emotions that the trained reader may report."""
        return may_tell(self.held_out[self.trained.name])

    @property
    def gated(self) -> Mapping[str, str]:
        """Emotion -> why the trained reader may not report it."""
        found = self.held_out[self.trained.name]
        return {one.dimension: one.reason for one in found if one.reason is not None}


@dataclass(frozen=True, eq=False)
class StoryTest:
    """A finished test. told: of the positive control; empty where it was not asked for."""

    model: str
    asked: Asked
    readers: Readers
    readings: Readings
    baseline: Readings
    shifts: tuple[Shift, ...]
    told: tuple[Shift, ...]


def readers(places: Places) -> Readers:
    """Return the readers; the trained one is kept, and read back where its text is the same.

    Raises:
        DataError: where the public data are not on this machine.
    """
    where = data_folder(places.cache)
    for name in ("goemotions-dev", "empath"):
        if why_absent(where, name) is not None:
            raise DataError(
                f"{name} is not on this machine: `neuromod data fetch`, or set NEUROMOD_DATA to its folder."
            )
    progress.stage("reader of emotions")
    corpus, store = sources.training(where), kept(places)
    key = digest(["reader", METHOD, corpus.fingerprint])
    if (known := store.read("reader", key)) is None:
        arrays, facts = train(corpus).parts()
        store.write("reader", key, arrays, facts)
        return readers(places)
    trained, lexicon = Trained.of(*known), parse_empath(read_public(where, "empath"))
    progress.say("reliability of the readers")
    held_out = sources.held_out(where)
    written = sources.load_sentences(_texts(places) / "sentences.jsonl")
    both: tuple[tuple[Reader, bool], ...] = ((trained, True), (lexicon, False))
    return Readers(
        trained,
        lexicon,
        {reader.name: reliability(reader, held_out, probabilities=sure) for reader, sure in both},
        {reader.name: reliability(reader, written, probabilities=False) for reader, _ in both},
    )


def _singles(names: Sequence[str], places: Places) -> tuple[Pack, ...]:
    """Return packs by name; raise ConfigError for one that is matched to others and has no dose of its own."""
    packs = tuple(library(places.project).pack(name) for name in names)
    for pack in packs:
        if pack.match is not None:
            raise ConfigError(f"Pack {pack.name!r} is matched to the arms of a study; it has no dose of its own.")
    return packs


def stories(asked: Asked, places: Places, emotions: Sequence[str]) -> tuple[Told, ...]:
    """Return the stories of a test. emotions: those of the positive control, where it is asked for."""
    names = tuple(dict.fromkeys((*asked.packs, asked.against)))
    packs, texts = _singles(names, places), library(places.project)
    progress.stage("loading the model and its calibration")
    loaded = model(asked.spec, places.cache)
    found = calibration(loaded, packs, places)
    with dosed(loaded, best_path(loaded)) as session:
        factors = kl_factors(packs, units(session, found, places))
        doses = {pack.name: _dosed(pack, factors) for pack in packs}
        if asked.control:
            doses |= told_packs(load_controls(_texts(places) / "controls.yaml"), emotions)
        count = len(doses) * len(texts.openers) * asked.samples
        progress.stage(f"{count} stories of {asked.tokens} tokens")
        teller = Teller(session, found.subject, Prompter(loaded, texts))
        return tell(teller, doses, texts.openers, samples=asked.samples, tokens=asked.tokens, seed=asked.seed)


def _dosed(pack: Pack, factors: Mapping[str, Mapping[str, float]]) -> tuple[Pack, ...]:
    """Return the single packs that a pack stands for, at their doses."""
    if not pack.members:
        return (replace(given(pack, factors, 1.0), kl=None),)
    scale = factors.get(pack.name, {})
    return tuple(
        replace(single.scaled(scale.get(f"{draw:02d}", 1.0)), kl=None) for draw, single in enumerate(pack.singles)
    )


def test(asked: Asked, places: Places) -> StoryTest:
    """Tell stories under packs, read them, and test what packs were predicted to do to them."""
    _singles((*asked.packs, asked.against), places)
    known = readers(places)
    written = stories(asked, places, known.told)
    progress.stage("readings and tests")
    readings = read_stories(known.trained, known.told, written)
    baseline = read_stories(known.lexicon, [name for name in known.told if name in known.lexicon.dimensions], written)
    signs = load_signatures(_texts(places) / "signatures.yaml")
    packs = [name for name in asked.packs if name != asked.against]
    found = shifts(readings, packs, asked.against, signs, known.gated)
    told = told_shifts(readings, known.told) if asked.control else ()
    return StoryTest(title(asked.spec), asked, known, readings, baseline, found, told)


def _texts(places: Places) -> Path:
    return Path(places.project) / "datasets" / "stories"


def title(spec: ModelSpec) -> str:
    """Return how the documentation calls a model."""
    return EMBEDDED_TITLE if spec.source == EMBEDDED.source else spec.name


def write(found: StoryTest, places: Places) -> Path:
    """Write stories, readings and tests as JSON, and the picture, beside the runs; return the folder."""
    folder = places.private / "stories" / f"{found.asked.spec.name}-{'-'.join(found.asked.packs)}"
    folder.mkdir(parents=True, exist_ok=True)
    tests = (*found.shifts, *found.told)
    body = pages.as_json(found.readings, found.baseline, tests, found.readers.held_out, found.readers.stories)
    (folder / "stories.json").write_text(json.dumps(body, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    write_png(pages.courses(found.readings, found.asked.packs, found.asked.against), folder)
    return folder


def document(found: StoryTest, folder: Path) -> None:
    """Write story.md and its pictures into a folder of documentation."""
    progress.stage("page")
    trained = found.readers.trained
    facts = pages.Facts(
        model=found.model,
        packs=found.asked.packs,
        against=found.asked.against,
        samples=found.asked.samples,
        tokens=found.asked.tokens,
        splits=trained.splits,
        texts=trained.texts,
        fingerprint=trained.fingerprint,
        held_out=found.readers.held_out,
        stories=found.readers.stories,
    )
    pages.write(facts, found.readings, found.baseline, found.shifts, found.told, folder)


def rows(found: StoryTest) -> list[dict[str, object]]:
    """Return one row a told emotion on its own reading, then one a prediction, then one for every other emotion."""
    own = [one for one in found.told if one.predicted is not None]
    return [pages.row(one) for one in (*own, *found.shifts)]


def reliability_rows(found: Readers) -> list[dict[str, object]]:
    """Return how well the trained reader tells each emotion, one row each."""
    pairs = zip(found.held_out[found.trained.name], found.stories[found.trained.name], strict=True)
    return [pages.reliability_row(comments, written) for comments, written in pairs]
