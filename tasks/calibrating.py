"""A model's whole calibration: made or read, shown, written beside the documentation, shipped with the project."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path

from pydantic import TypeAdapter

from neuromod_core.calibrate import Request, calibrate
from neuromod_core.calibrate.activations import middle_states
from neuromod_core.calibrate.causal import Causal
from neuromod_core.calibrate.complete import Evidence, complete
from neuromod_core.calibrate.contrast import load_contrast
from neuromod_core.calibrate.curve import Curve
from neuromod_core.calibrate.dose import Heard, Matched
from neuromod_core.calibrate.export import export
from neuromod_core.calibrate.keep import Cache
from neuromod_core.calibrate.leaks import Leaks, items_of, leaks, texts_of
from neuromod_core.calibrate.methods import METHODS
from neuromod_core.calibrate.units import Opener, kept_curves, units
from neuromod_core.calibrate.units import passages as passages_of
from neuromod_core.calibrate.vectors import DEFAULT, MEAN, Card, Position, middle
from neuromod_core.calibrate.wording import wording
from neuromod_core.effects import Subject
from neuromod_core.engine import best_path, dosed
from neuromod_core.kernel.types import plain
from neuromod_core.models import LoadedModel, ModelSpec
from neuromod_core.packs import Pack
from neuromod_core.report import heads
from neuromod_core.report.canvas import write_png
from neuromod_core.report.doses import page as doses_page
from neuromod_core.report.doses import picture
from neuromod_core.report.vectors import card_plot, overview, page, specificity
from tasks import progress
from tasks.document import EMBEDDED, EMBEDDED_TITLE
from tasks.lab import Places, asked, kept, library, model


class Bar:
    """The progress bar of this process."""

    def stage(self, name: str, total: int) -> None:
        """See `complete.Progress`."""
        progress.stage(name, total)

    def tick(self) -> None:
        """See `complete.Progress`."""
        progress.tick(1)


@dataclass(frozen=True)
class Responses:
    """The KL unit of every pack that asks for one, and its curve; and the packs that do not reach it."""

    units: Mapping[str, Matched]
    curves: tuple[Curve, ...]
    silent: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Calibrated:
    """The evidence on one model, and where it is kept. subject: the model's norms and head sets."""

    name: str
    model: LoadedModel
    subject: Subject
    evidence: Evidence
    responses: Responses
    cache: Cache


def concepts_of(places: Places) -> tuple[str, ...]:
    """Return the names of all contrast sets."""
    return tuple(sorted(path.stem for path in library(places.project).contrast.glob("*.jsonl")))


def evidence(
    spec: ModelSpec,
    places: Places,
    concepts: Sequence[str],
    *,
    method: str = DEFAULT,
    position: Position = MEAN,
    heard: Heard = "text",
) -> Calibrated:
    """Return the whole calibration of a model, made where it is not kept.

    method, position: how a direction is made of pairs, and where a sentence is read.  heard: where the KL divergence of
    a pack is measured.

    Raises:
        UnknownName: for an extraction method or a concept that does not exist, before anything is read.
    """
    METHODS[method]
    for concept in concepts:
        load_contrast(library(places.project).contrast, concept)
    progress.stage("loading the model")
    loaded, cache = model(spec, places.cache), kept(places)
    request = asked(places, tuple(concepts), method=method, position=position)
    base = calibrate(loaded, asked(places, ()), cache, tick=progress.say)
    with ExitStack() as stack:
        session = lru_cache(1)(lambda: stack.enter_context(dosed(loaded, best_path(loaded))))
        found = complete(loaded, session, request, base, cache, Bar())
        responses = respond(loaded, session, found, places, cache, heard)
    return Calibrated(
        EMBEDDED_TITLE if spec.source == EMBEDDED.source else loaded.name, loaded, base.subject, found, responses, cache
    )


def respond(
    loaded: LoadedModel, session: Opener, found: Evidence, places: Places, cache: Cache, heard: Heard = "text"
) -> Responses:
    """Return the KL units and the curves of all packs whose vectors may be used; shams have units and no curves."""
    texts = library(places.project)
    packs = [pack for pack in texts.packs.values() if _scaled(pack, found)]
    equipped = calibrate(loaded, asked(places, *Request.names(packs)), cache)
    singles = [one for pack in packs for one in pack.singles]
    progress.stage("KL units of packs")
    found_units = units(loaded, session, singles, texts.neutral(), equipped, cache, heard=heard)
    solved = dict(zip(map(id, singles), found_units, strict=True))
    known = {pack.name: unit for pack in singles if (unit := solved[id(pack)]) is not None and pack in packs}
    reached = [pack for pack in packs if pack.name in known]
    progress.stage("dose-response curves")
    passages = passages_of(loaded, texts.neutral())
    found_curves = kept_curves(
        loaded, session, reached, [known[p.name].factor for p in reached], passages, equipped, cache
    )
    silent = tuple(pack.name for pack in packs if pack.name not in known and not pack.members)
    return Responses(known, found_curves, silent)


def _scaled(pack: Pack, found: Evidence) -> bool:
    """Return whether a pack asks for a KL divergence and its vectors may be used."""
    valid = {card.concept for card in found.cards if card.valid}
    needed = {name for item in pack.effects for name in item.effect.needs_vectors}
    return pack.kl is not None and needed <= valid


def _rounded(value: float | None, places: int) -> float | None:
    return None if value is None else round(value, places)


def row(card: Card) -> dict[str, object]:
    """Return one line of the table of vectors."""
    cause = card.causal or Causal()
    return {
        "vector": card.concept,
        "layer": card.layer,
        "d'": round(card.separation, 2),
        "AUC": round(card.auc, 3),
        "p topics": round(max(card.p_separation, card.p_auc), 5),
        "dose of 1 nat": _rounded(cause.relative, 3),
        "shift": _rounded(cause.shift, 2),
        "p shams": _rounded(cause.pvalue, 3),
        "valid": "yes" if card.valid else "; ".join(card.failures),
    }


def write_cards(found: Calibrated, folder: Path) -> list[Path]:
    """Write a card, JSON and picture, for every vector; return the JSON files."""
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for card in found.evidence.cards:
        facts = {"model": found.name, **plain(card), "valid": card.valid}  # type: ignore[dict-item]
        text, file = json.dumps(facts, indent=2) + "\n", folder / f"{card.concept}.json"
        if not file.is_file() or file.read_text(encoding="utf-8") != text:
            file.write_text(text, encoding="utf-8")
            write_png(card_plot(card, middle(found.model.depth).start), folder)
        written.append(file)
    return written


def document(found: Calibrated, places: Places, folder: Path) -> None:
    """Write vectors.md, heads.md and their pictures into a folder of documentation."""
    contrast = library(places.project).contrast
    progress.stage("wording of the contrast sets", len(found.evidence.cards))
    words = {}
    for card in found.evidence.cards:
        words[card.concept] = wording(card.concept, load_contrast(contrast, card.concept))
        progress.tick(1)
    (folder / "pictures").mkdir(parents=True, exist_ok=True)
    templates = Path(places.project) / "analysis" / "templates"
    text = page(found.name, found.evidence, words, leak_report(places), templates)
    (folder / "vectors.md").write_text(text, encoding="utf-8")
    for plot in (overview(found.evidence.cards), specificity(found.evidence)):
        write_png(plot, folder / "pictures")
    answers = found.responses
    doses = doses_page(found.name, answers.curves, answers.units, answers.silent, templates)
    (folder / "doses.md").write_text(doses, encoding="utf-8")
    if answers.curves:
        write_png(picture(answers.curves), folder / "pictures")
    progress.stage("heads: scores, circuits, ablation")
    heads.write(folder, found.model, found.name)


def write_gguf(found: Calibrated, folder: Path) -> int:
    """Write every valid vector as a control vector that llama.cpp reads; return how many there are."""
    folder.mkdir(parents=True, exist_ok=True)
    valid = [pair for pair in zip(found.evidence.cards, found.evidence.directions, strict=True) if pair[0].valid]
    for card, made in valid:
        norm, hint = found.subject.stream_norm(card.layer), str(found.model.network.config.model_type)
        export(folder / f"{card.concept}.gguf", card, made, norm, hint)
    return len(valid)


def read_leaks(file: Path) -> Leaks | None:
    """Return the leak report in a file, None where there is none."""
    return TypeAdapter(Leaks).validate_json(file.read_text(encoding="utf-8")) if file.is_file() else None


def leak_report(places: Places) -> Leaks:
    """Return what the contrast sets share with the instruments; read from the project while the texts are the same."""
    texts, file = library(places.project), Path(places.project) / "datasets" / "calibration" / "leaks.json"
    contrast = {name: load_contrast(texts.contrast, name) for name in concepts_of(places)}
    items = items_of(texts.scales.values())
    known = read_leaks(file)
    if known is not None and known.texts == texts_of(contrast, items):
        return known
    progress.stage("leaks between contrast sets and instruments")
    found = leaks(contrast, items, partial(middle_states, model(EMBEDDED, places.cache)))
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(plain(found), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return found


def ship(found: Calibrated) -> int:
    """Copy what is kept of a calibration into the project, in place of what was there; return the number of files."""
    target = found.cache.shipped
    if target is None:
        return 0
    target.mkdir(parents=True, exist_ok=True)
    files = {file.name: file.read_bytes() for file in sorted(found.cache.used)}
    for old in target.glob("*.safetensors"):
        old.unlink()
    for name, data in files.items():
        (target / name).write_bytes(data)
    return len(files)
