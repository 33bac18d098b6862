"""Pages of the documentation that hold measurements: made by running, never by hand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from neuromod_core.calibrate.acts import acts
from neuromod_core.effects import Effect, Subject
from neuromod_core.engine import dosed
from neuromod_core.kernel.errors import NotOnThisModel
from neuromod_core.models import ModelSpec
from neuromod_core.packs import Dosed, Pack
from neuromod_core.report.effects import examples, page
from tasks import progress
from tasks.lab import Places, calibration, library, model

EMBEDDED = ModelSpec("smollm2-135m", "embedded")
EMBEDDED_TITLE = "SmolLM2-135M-Instruct (Q4_1, dequantised)"
GIVEN: Mapping[str, object] = {"bias_type": "calm", "heads": "17.3,18.6", "steering_type": "visionary"}
TEXTS = 4
Dose = tuple[str, Effect, float]


def _meaningful(made: Sequence[Dose], subject: Subject) -> list[Dose]:
    """Return the effects that mean something on a model."""
    found = []
    for name, effect, dose in made:
        try:
            effect.check(subject)
        except NotOnThisModel:
            continue
        found.append((name, effect, dose))
    return found


def effects_page(places: Places) -> str:
    """Return docs/effects.md: the register, and what every effect does to the embedded model."""
    made = list(examples(GIVEN))
    packs = tuple(Pack(name, "one effect", "control", (Dosed(name, effect, 0.0),)) for name, effect, _ in made)
    progress.stage("loading the model and its calibration")
    loaded, texts = model(EMBEDDED, places.cache), library(places.project)
    subject = calibration(loaded, packs, places).subject
    made, passages = _meaningful(made, subject), [loaded.encode(text) for text in texts.neutral()[:TEXTS]]
    progress.stage("effects at their doses", len(made) * len(passages))
    with dosed(loaded) as session:
        found = acts(session, made, passages, subject, progress.tick)
    return page(EMBEDDED_TITLE, made, found)
