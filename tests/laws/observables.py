"""What each effect says it moves, measured: one function per observable, from (model, subject, pack) to a number."""

from __future__ import annotations

from collections.abc import Callable

import torch

from neuromod_core.effects import Stream, Subject
from neuromod_core.effects.subject import Place
from neuromod_core.engine.cache import reserve
from neuromod_core.engine.session import dosed
from neuromod_core.models import LoadedModel
from neuromod_core.packs import Pack, bind

Measure = Callable[[LoadedModel, Subject, Pack], float]
STREAM = Stream(3, "observed")
TOKENS = torch.tensor([[(13 * i) % 200 + 20 for i in range(64)]])
HISTORY = torch.tensor([[40, 40, 41, 40]])


def _binding(subject: Subject, pack: Pack):
    return bind([pack], [STREAM], subject)


def _logits(subject: Subject, pack: Pack) -> torch.Tensor:
    generator = torch.Generator().manual_seed(2)
    logits = 2 * torch.randn(1, subject.shape.vocabulary, generator=generator)
    return _binding(subject, pack).edit_logits(logits, torch.tensor([1]), HISTORY)


def entropy(model: LoadedModel, subject: Subject, pack: Pack) -> float:
    return float(torch.special.entr(_logits(subject, pack).softmax(-1)).sum())


def repeated_logit(model: LoadedModel, subject: Subject, pack: Pack) -> float:
    return float(_logits(subject, pack)[0, 40])


def lexicon_mass(model: LoadedModel, subject: Subject, pack: Pack) -> float:
    return float(_logits(subject, pack).softmax(-1)[0, subject.lexicon("calm")].sum())


def _residual(model: LoadedModel, subject: Subject, pack: Pack, layer: int) -> torch.Tensor:
    caught: list[torch.Tensor] = []

    def catch(_module: object, _inputs: object, output: object) -> None:
        caught.append(output[0] if isinstance(output, tuple) else output)  # type: ignore[index,arg-type]

    module = model.embedding if layer < 0 else model.blocks[layer]
    with torch.inference_mode(), dosed(model) as session:
        handle = module.register_forward_hook(catch)
        try:
            session.forward(
                TOKENS,
                torch.ones_like(TOKENS),
                pad=torch.zeros(1, dtype=torch.long),
                binding=_binding(subject, pack),
                phase="prompt",
                cache=reserve(model.depth, 64),
            )
        finally:
            handle.remove()
    return caught[0][0]


def projection(model: LoadedModel, subject: Subject, pack: Pack) -> float:
    vector = subject.vector("visionary")
    return float((_residual(model, subject, pack, vector.layer) @ vector.direction).mean())


def embedding_distance(model: LoadedModel, subject: Subject, pack: Pack) -> float:
    undosed = Pack(name="none", description="nothing", kind="control")
    return float((_residual(model, subject, pack, -1) - _residual(model, subject, undosed, -1)).norm())


def sharpness(model: LoadedModel, subject: Subject, pack: Pack) -> float:
    gains = _binding(subject, pack).gains
    heads = subject.head_set("induction")
    return 1.0 if gains is None else float(gains[0][heads].mean())


def silenced_heads(model: LoadedModel, subject: Subject, pack: Pack) -> float:
    """Mean over many streams: a random mask may spare every head of a tiny model."""
    gates = bind([pack] * 64, [Stream(3, str(i)) for i in range(64)], subject).gates
    return 0.0 if gates is None else float((gates == 0).double().mean())


def _scores(subject: Subject, pack: Pack) -> torch.Tensor:
    positions = torch.arange(64)[None]
    scores = torch.randn(1, 4, 64, 64, generator=torch.Generator().manual_seed(5))
    place = Place(0, positions, positions, (STREAM,), "prompt", subject)
    for effect, dose in _binding(subject, pack).scores:
        scores = effect(scores, dose, place)
    return scores.masked_fill(place.distance < 0, float("-inf"))


def distant_score_size(model: LoadedModel, subject: Subject, pack: Pack) -> float:
    scores = _scores(subject, pack)[0, :, 63, :16]
    return float(scores.abs().mean())


def distant_mass(model: LoadedModel, subject: Subject, pack: Pack) -> float:
    return float(_scores(subject, pack).softmax(-1)[0, :, 63, :32].sum(-1).mean())


def visible_keys(model: LoadedModel, subject: Subject, pack: Pack) -> float:
    return float(torch.isfinite(_scores(subject, pack)[0, 0, 63]).sum())


OBSERVABLES: dict[str, Measure] = {
    "distant_mass": distant_mass,
    "distant_score_size": distant_score_size,
    "embedding_distance": embedding_distance,
    "entropy": entropy,
    "lexicon_mass": lexicon_mass,
    "projection": projection,
    "repeated_logit": repeated_logit,
    "sharpness": sharpness,
    "silenced_heads": silenced_heads,
    "visible_keys": visible_keys,
}
