"""Instrument cards: scales asked of a model, kept, judged, written as JSON and as pictures."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from neuromod_core.engine import best_path, dosed
from neuromod_core.instruments import Scale
from neuromod_core.kernel.errors import ConfigError
from neuromod_core.kernel.types import digest
from neuromod_core.models import ModelSpec
from neuromod_core.packs import Pack
from neuromod_core.report import instruments as pages
from neuromod_core.report.canvas import write_png
from neuromod_core.trial.library import Library
from neuromod_core.trial.prompts import Prompter
from neuromod_core.trial.psychometrics import STAGES, Answers, Desk, Scope, administer_scale, asked
from neuromod_core.trial.register import given, kl_factors
from neuromod_core.trial.scale_card import ScaleCard, card
from tasks import progress
from tasks.document import EMBEDDED, EMBEDDED_TITLE
from tasks.lab import Places, calibration, kept, library, model, units


@dataclass(frozen=True)
class Wanted:
    """What is asked of which model: scales of the project and imported ones, and the packs to read change under.

    names: scales of the project; None for all of them.
    """

    spec: ModelSpec
    scope: Scope
    packs: tuple[str, ...]
    names: tuple[str, ...] | None = None
    added: tuple[Scale, ...] = ()


def scales(texts: Library, wanted: Wanted) -> Mapping[str, Scale]:
    """Return the scales that are asked, by name.

    Raises:
        ConfigError: for an added scale that has the name of one of the project's.
    """
    known = {name: texts.scale(name) for name in (texts.scales if wanted.names is None else wanted.names)}
    for scale in wanted.added:
        if scale.name in texts.scales:
            raise ConfigError(f"There is a scale {scale.name!r} already; name the file otherwise.")
        known[scale.name] = scale
    return known


def packs_of(texts: Library, names: Sequence[str]) -> tuple[Pack, ...]:
    """Return single packs by name.

    Raises:
        ConfigError: for an ensemble or a pack that is matched to others: neither is one pack.
    """
    packs = tuple(texts.pack(name) for name in names)
    for pack in packs:
        if pack.members or pack.match is not None:
            raise ConfigError(f"Pack {pack.name!r} stands for several; a card reads change under single packs.")
    return packs


def cards(wanted: Wanted, places: Places) -> tuple[ScaleCard, ...]:
    """Return the cards of scales on a model, each told from the others that were asked.

    What a scale answered is kept, and read back where nothing changed.
    """
    texts = library(places.project)
    chosen, packs = scales(texts, wanted), packs_of(texts, wanted.packs)
    progress.stage("loading the model and its calibration")
    loaded = model(wanted.spec, places.cache)
    found, store = calibration(loaded, packs, places), kept(places)
    with dosed(loaded, best_path(loaded)) as session:
        factors = kl_factors(packs, units(session, found, places)) if packs else {}
        progress.stage("scales", len(chosen) * len(STAGES))
        given_packs = tuple(replace(given(pack, factors, 1.0), kl=None) for pack in packs)
        desk = Desk(session, found.subject, Prompter(loaded, texts), wanted.scope)
        answers = {}
        for name, scale in chosen.items():
            key = digest(asked(desk, scale, given_packs, found.fingerprint))
            if (known := store.read(f"answers-{name}", key)) is None:
                made = administer_scale(desk, scale, given_packs, partial(_said, name))
                store.write(f"answers-{name}", key, made.parts(), {"scale": name})
                answers[name] = made
            else:
                answers[name] = Answers.of(known[0])
                progress.tick(len(STAGES))
    identity = (loaded.name, loaded.fingerprint)
    progress.stage("cards", len(chosen))
    return tuple(_card(scale, answers, wanted.packs, identity) for scale in chosen.values())


def _said(scale: str, part: str) -> None:
    progress.tick(1)
    progress.say(f"{scale}: {part}")


def _card(scale: Scale, answers: Mapping[str, Answers], packs: Sequence[str], identity: tuple[str, str]) -> ScaleCard:
    others = {name: answer for name, answer in answers.items() if name != scale.name}
    progress.tick(1)
    return card(scale, answers[scale.name], others, packs, identity)


def write(found: Sequence[ScaleCard], places: Places) -> list[Path]:
    """Write cards as JSON and as pictures beside the runs; return the JSON files."""
    written = []
    progress.stage("pictures", len(found))
    for one in found:
        folder = places.private / "instruments" / one.model
        folder.mkdir(parents=True, exist_ok=True)
        file = folder / f"{one.scale}.json"
        file.write_text(json.dumps(one.as_json(), indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        write_png(pages.card_plot(one), folder)
        written.append(file)
        progress.tick(1)
    return written


def title(spec: ModelSpec) -> str:
    """Return how the documentation calls a model."""
    return EMBEDDED_TITLE if spec.source == EMBEDDED.source else spec.name


def document(found: Sequence[ScaleCard], name: str, folder: Path) -> None:
    """Write instruments.md and its pictures into a folder of documentation."""
    progress.stage("page")
    pages.write(found, name, folder)


def row(found: ScaleCard) -> dict[str, object]:
    """Return one line of the table of cards."""
    shown = ("alpha", "omega", "wordings", "convergent r", "discriminant r", "known groups", "acquiescence")
    numbers = {name: found.value(name) for name in shown}
    return {
        "scale": found.scale,
        "items": len(found.items),
        **{name: "" if value is None else f"{value:.2f}" for name, value in numbers.items()},
    }
