"""The KL units of packs on a calibrated model, kept like the rest of its calibration."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from pydantic import TypeAdapter

from neuromod_core.calibrate.curve import MULTIPLES, Curve, curves
from neuromod_core.calibrate.dose import PROMPT, TARGET, Heard, Matched, Tick, kl_units
from neuromod_core.calibrate.keep import Cache
from neuromod_core.calibrate.subject import METHOD, Calibration
from neuromod_core.effects import Subject
from neuromod_core.engine.session import Session
from neuromod_core.kernel.types import digest, plain
from neuromod_core.models import LoadedModel
from neuromod_core.packs import Pack

Opener = Callable[[], Session]
TEXTS, READ = 3, 60  # neutral texts, and tokens of each, that are read as responses


def passages(model: LoadedModel, neutral: Sequence[str]) -> list[tuple[int, ...]]:
    """Return the neutral texts, as tokens, on which doses are matched."""
    return [model.encode(text)[: PROMPT + READ] for text in neutral[:TEXTS]]


def _basis(pack: Pack, subject: Subject) -> str:
    """Return the digest of what a pack uses of a calibration."""
    names = sorted({name for item in pack.effects for name in item.effect.needs_vectors})
    vectors = [
        (name, one.layer, one.stream_norm, one.direction.tolist()) for name in names if (one := subject.vector(name))
    ]
    words = sorted({name for item in pack.effects for name in item.effect.needs_lexicons})
    heads = {name: mask.tolist() for name, mask in subject.head_sets.items()}
    norms = [] if subject.stream_norms is None else subject.stream_norms.tolist()
    return digest([vectors, [subject.lexicons[name].tolist() for name in words], heads, norms])


def kept_curves(
    model: LoadedModel,
    session: Opener,
    packs: Sequence[Pack],
    factors: Sequence[float],
    texts: Sequence[Sequence[int]],
    calibration: Calibration,
    cache: Cache,
) -> tuple[Curve, ...]:
    """Return the dose-response curves of packs at their units, from the cache where they are there."""
    made = [[pack.fingerprint, _basis(pack, calibration.subject), pack.name] for pack in packs]
    key = digest(["curves", METHOD, model.fingerprint, made, list(factors), list(texts), list(MULTIPLES)])
    if (kept := cache.read("curves", key)) is None:
        found = curves(session(), packs, factors, texts, calibration.subject)
        cache.write("curves", key, {}, {"curves": plain(found)})
        return kept_curves(model, session, packs, factors, texts, calibration, cache)
    return TypeAdapter(tuple[Curve, ...]).validate_python(kept[1]["curves"])


def units(
    model: LoadedModel,
    session: Opener,
    packs: Sequence[Pack],
    neutral: Sequence[str],
    calibration: Calibration,
    cache: Cache,
    tick: Tick = lambda _: None,
    heard: Heard = "text",
) -> list[Matched | None]:
    """Return the KL units of packs at the divergence each asks for (`pack.kl`; 1 nat where it asks for none), kept.

    heard: whether KL is measured on given text or on what the pack writes.

    All that are not in the cache are solved in one batch; `session` is opened for these alone.
    """
    texts = passages(model, neutral)
    targets = [TARGET if pack.kl is None else pack.kl for pack in packs]
    common = ["dose", METHOD, model.fingerprint, texts, *([] if heard == "text" else [heard])]
    keys = [
        digest([*common, _basis(pack, calibration.subject), pack.fingerprint, target])
        for pack, target in zip(packs, targets, strict=True)
    ]
    kept = [cache.read("dose", key) for key in keys]
    missing = [number for number, found in enumerate(kept) if found is None]
    wanted = [targets[number] for number in missing]
    asked = [packs[number] for number in missing]
    solved: list[Matched | None] = []
    if asked:
        subject = calibration.subject
        solved = kl_units(session(), asked, texts, subject, targets=wanted, heard=heard, tick=tick)
    for number, unit in zip(missing, solved, strict=True):
        numbers = np.array([] if unit is None else [unit.factor, unit.kl], dtype=np.float64)
        cache.write("dose", keys[number], {"unit": numbers}, {"pack": packs[number].name})
    read_back = [cache.read("dose", key) for key in keys]
    return [Matched(*found[0]["unit"].tolist()) if found and found[0]["unit"].size else None for found in read_back]
