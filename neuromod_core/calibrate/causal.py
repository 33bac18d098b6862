"""Does a vector cause what it separates? Pushed along it, does the model find sentences with the concept likelier?

For a held-out pair with positive sentence s+ and negative s-,

    shift = [log P(s+) - log P(s-)] pushed  -  the same undosed        (nats per pair)

with the vector of all *other* topics, at the dose that changes the next token of neutral text by 1 nat (95th
percentile). Random directions and label-shuffled ones, each at its own dose of the same KL divergence, tell how far any
equally loud push moves the same pairs. Sources: Braun et al. 2025; Turner et al. 2023 (random vectors as controls).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from neuromod_core.calibrate.dose import kl_units
from neuromod_core.calibrate.methods import Array
from neuromod_core.effects import Stream, Subject, Vector
from neuromod_core.effects.steering.add import Steering
from neuromod_core.engine.generate import UNDOSED
from neuromod_core.engine.rows import Row
from neuromod_core.engine.score import score
from neuromod_core.engine.session import Session
from neuromod_core.kernel.rng import rng
from neuromod_core.packs import Dosed, Pack

SHAMS = 20  # random directions, and as many label-shuffled ones
PAIRS = 2  # held-out pairs of every topic
MATCHED_ON = 2  # neutral texts on which the doses of a vector and its shams are matched
Tokens = Sequence[int]


@dataclass(frozen=True)
class Causal:
    """What pushing along a vector did to held-out pairs, in nats per pair.

    relative: the vector's KL unit, as a share of the residual norm.  shift: mean over topics.  topics: mean shift of
    every topic.  random, shuffled: mean shift under every sham.  pvalue: share of shams, the vector counted among them,
    that shift at least as far.  All are missing when the vector cannot change the next token by 1 nat within its range.
    """

    relative: float | None = None
    shift: float | None = None
    topics: tuple[float, ...] = ()
    random: tuple[float, ...] = ()
    shuffled: tuple[float, ...] = ()
    pvalue: float | None = None

    @property
    def passed(self) -> bool:
        """Whether the vector moves its concept up, and further than 95 % of equally loud shams."""
        return self.shift is not None and self.pvalue is not None and self.shift > 0 and self.pvalue < 0.05


@dataclass(frozen=True, eq=False)
class HeldOut:
    """A concept to be tested: its vector, those made without each topic (topics, width), label-shuffled ones (draws,
    width), and for every topic some pairs of sentences as (positive, negative) tokens."""

    vector: Vector
    without: Array
    shuffled: Array
    pairs: Sequence[Sequence[tuple[Tokens, Tokens]]]


def _random(vector: Vector) -> Array:
    drawn = rng(0, "random direction", vector.name).standard_normal((SHAMS, len(vector.direction)))
    result: Array = drawn / np.linalg.norm(drawn, axis=-1, keepdims=True)
    return result


def _pack(name: str, dose: float) -> Pack:
    effect = Steering(steering_type=name, relative=1.0)
    return Pack(name, "a direction", "control", (Dosed("steering", effect, dose),))


def _with(subject: Subject, vector: Vector, directions: dict[str, Array]) -> Subject:
    """Return a subject whose vectors are the given directions, at the layer of `vector`."""
    made = {
        name: replace(vector, name=name, direction=torch.from_numpy(direction.astype(np.float32)), valid=True)
        for name, direction in directions.items()
    }
    return replace(subject, vectors=made)


def _log_odds(
    session: Session, packs: Sequence[Pack], prompt: Tokens, pairs: Sequence[tuple[Tokens, Tokens]], subject: Subject
) -> Array:
    """Return log P(positive) - log P(negative) in nats, (packs, pairs)."""
    rows = [Row(tuple(prompt), pack, Stream(0, "causal")) for pack in packs]
    found = score(session, rows, [text for pair in pairs for text in pair], subject)
    raw = np.array([[one.raw for one in line] for line in found])
    odds: Array = raw[:, ::2] - raw[:, 1::2]
    return odds


def _doses(session: Session, names: Sequence[str], neutral: Sequence[Tokens], subject: Subject) -> dict[str, float]:
    """Return the KL unit of every direction that reaches it; that of the first is where the others are looked for."""
    (first,) = kl_units(session, [_pack(names[0], 1.0)], neutral, subject)
    if first is None:
        return {}
    rest = kl_units(session, [_pack(name, 1.0) for name in names[1:]], neutral, subject, guess=first.factor)
    found = zip(names, (first, *rest), strict=True)
    return {name: unit.factor for name, unit in found if unit is not None}


def causal(session: Session, concept: HeldOut, prompt: Tokens, neutral: Sequence[Tokens], subject: Subject) -> Causal:
    """Return what pushing along a vector and along its shams does to held-out pairs.

    prompt: what the model reads before a sentence.  neutral: texts on which doses are matched.
    """
    directions = {"vector": concept.vector.direction.numpy().astype(np.float64)}
    directions |= {f"random{at:02d}": row for at, row in enumerate(_random(concept.vector))}
    directions |= {f"shuffled{at:02d}": row for at, row in enumerate(concept.shuffled[:SHAMS])}
    folds = {f"without{at:02d}": row for at, row in enumerate(concept.without)}
    equipped = _with(subject, concept.vector, directions | folds)
    doses = _doses(session, list(directions), neutral, equipped)
    if "vector" not in doses:
        return Causal()
    shams = [_pack(name, doses[name]) for name in directions if name in doses and name != "vector"]
    flat = [pair for topic in concept.pairs for pair in topic]
    moved = _log_odds(session, [UNDOSED, *shams], prompt, flat, equipped)
    plain = np.split(moved[0], np.cumsum([len(topic) for topic in concept.pairs])[:-1])
    topics = [
        float((_log_odds(session, [_pack(fold, doses["vector"])], prompt, pairs, equipped)[0] - before).mean())
        for fold, pairs, before in zip(folds, concept.pairs, plain, strict=True)
    ]
    means = dict(zip((pack.name for pack in shams), (moved[1:] - moved[0]).mean(1).tolist(), strict=True))
    shift = float(np.mean(topics))
    return Causal(
        relative=doses["vector"],
        shift=shift,
        topics=tuple(topics),
        random=tuple(mean for name, mean in means.items() if name.startswith("random")),
        shuffled=tuple(mean for name, mean in means.items() if name.startswith("shuffled")),
        pvalue=(1 + sum(mean >= shift for mean in means.values())) / (1 + len(means)),
    )
