"""A model's whole calibration: made or read, shown, written beside the documentation, shipped with the project."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from neuromod_core.calibrate import Request, calibrate
from neuromod_core.calibrate.complete import Evidence, complete
from neuromod_core.calibrate.contrast import load_contrast
from neuromod_core.calibrate.keep import Cache
from neuromod_core.calibrate.units import units
from neuromod_core.calibrate.vectors import DEFAULT, Card, middle
from neuromod_core.calibrate.wording import wording
from neuromod_core.engine import best_path, dosed
from neuromod_core.kernel.types import plain
from neuromod_core.models import ModelSpec
from neuromod_core.packs import Pack
from neuromod_core.report.canvas import write_png
from neuromod_core.report.vectors import card_plot, overview, page, specificity
from tasks import progress
from tasks.lab import Places, asked, kept, library, model


class Bar:
    """The progress bar of this process."""

    def stage(self, name: str, total: int) -> None:
        """See `complete.Progress`."""
        progress.stage(name, total)

    def tick(self) -> None:
        """See `complete.Progress`."""
        progress.tick(1)


@dataclass(frozen=True, eq=False)
class Calibrated:
    """The evidence on one model, and where it is kept."""

    name: str
    depth: int
    evidence: Evidence
    cache: Cache


def concepts_of(places: Places) -> tuple[str, ...]:
    """Return the names of all contrast sets."""
    return tuple(sorted(path.stem for path in library(places.project).contrast.glob("*.jsonl")))


def evidence(spec: ModelSpec, places: Places, concepts: Sequence[str], method: str = DEFAULT) -> Calibrated:
    """Return the whole calibration of a model, made where it is not kept."""
    progress.stage("loading the model")
    loaded, cache = model(spec, places.cache), kept(places)
    request = asked(places, tuple(concepts), method=method)
    base = calibrate(loaded, asked(places, ()), cache, tick=progress.say)
    with dosed(loaded, best_path(loaded)) as session:
        found = complete(session, request, base, cache, Bar())
        packs = [pack for pack in library(places.project).packs.values() if _scaled(pack, found)]
        equipped = calibrate(loaded, asked(places, *Request.names(packs)), cache)
        singles = [one for pack in packs for one in pack.singles]
        progress.stage("KL units of packs")
        units(session, singles, library(places.project).neutral(), equipped, cache)
    return Calibrated(loaded.name, loaded.depth, found, cache)


def _scaled(pack: Pack, found: Evidence) -> bool:
    """Return whether a pack asks for a KL divergence and its vectors may be used."""
    valid = {card.concept for card in found.cards if card.valid}
    needed = {name for item in pack.effects for name in item.effect.needs_vectors}
    return pack.kl is not None and needed <= valid


def row(card: Card) -> dict[str, object]:
    """Return one line of the table of vectors."""
    cause = card.causal
    return {
        "vector": card.concept,
        "layer": card.layer,
        "d'": round(card.separation, 2),
        "AUC": round(card.auc, 3),
        "p topics": round(max(card.p_separation, card.p_auc), 5),
        "dose of 1 nat": None if cause is None else round(cause.relative, 3),
        "shift": None if cause is None else round(cause.shift, 2),
        "p shams": None if cause is None else round(cause.pvalue, 3),
        "valid": "yes" if card.valid else "; ".join(card.failures),
    }


def write_cards(found: Calibrated, folder: Path) -> None:
    """Write a card, JSON and picture, for every vector."""
    folder.mkdir(parents=True, exist_ok=True)
    for card in found.evidence.cards:
        facts = {"model": found.name, **plain(card), "valid": card.valid}  # type: ignore[dict-item]
        (folder / f"{card.concept}.json").write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
        write_png(card_plot(card, middle(found.depth).start), folder)


def document(found: Calibrated, places: Places, folder: Path) -> None:
    """Write vectors.md and its pictures into a folder of documentation."""
    contrast = library(places.project).contrast
    progress.stage("wording of the contrast sets", len(found.evidence.cards))
    words = {}
    for card in found.evidence.cards:
        words[card.concept] = wording(card.concept, load_contrast(contrast, card.concept))
        progress.tick(1)
    (folder / "pictures").mkdir(parents=True, exist_ok=True)
    text = page(found.name, found.evidence, words, Path(places.project) / "analysis" / "templates")
    (folder / "vectors.md").write_text(text, encoding="utf-8")
    for plot in (overview(found.evidence.cards), specificity(found.evidence)):
        write_png(plot, folder / "pictures")


def ship(found: Calibrated) -> int:
    """Copy what is kept of a calibration into the project, in place of what was there; return the number of files."""
    target = found.cache.shipped
    if target is None:
        return 0
    target.mkdir(parents=True, exist_ok=True)
    for old in target.glob("*.safetensors"):
        old.unlink()
    files = sorted(found.cache.used)
    for file in files:
        shutil.copyfile(file, target / file.name)
    return len(files)
