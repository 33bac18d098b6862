"""Mean next-token entropy under a pack, and the temperature that gives the undosed model the same."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from neuromod_core.effects import Step, Stream, Subject
from neuromod_core.effects.sampler.temperature import Temperature
from neuromod_core.engine.cache import reserve
from neuromod_core.engine.rows import pad_left
from neuromod_core.engine.session import Session
from neuromod_core.kernel.errors import CalibrationError
from neuromod_core.packs import Pack, bind

TOLERANCE = 1e-3  # nats
SLABS = 8  # parts in which a large table of logits is turned into probabilities


@torch.inference_mode()
def expressed_logits(session: Session, pack: Pack, texts: Sequence[Sequence[int]], subject: Subject) -> Tensor:
    """Return next-token logits (places, vocabulary) after every token but the first of each text, as `pack` edits them.

    The texts are read as responses, so that schedules over tokens run as they do in generation.
    """
    device = session.model.device
    binding = bind([pack] * len(texts), [Stream(0, f"text{i}") for i in range(len(texts))], subject, device=device)
    padded = pad_left(texts, device)
    hidden = session.forward(
        padded.tokens,
        padded.mask,
        pad=padded.pad,
        binding=binding,
        start=torch.zeros_like(padded.pad),
        cache=reserve(session.model.depth, padded.tokens.shape[1]),
    )
    parts = []
    for row, pad in enumerate(padded.pad.tolist()):
        text = padded.tokens[row, pad:]
        index = torch.arange(1, len(text), device=device)
        earlier = torch.arange(len(text), device=device)[None, :] < index[:, None] + 1
        history = torch.where(earlier, text[None, :], -1)
        taken = binding.take([row] * len(index))
        read = session.read(hidden.at(row, slice(pad + 1, None)))
        prompt = text.new_zeros(len(index), 0)
        parts.append(taken.edit_logits(read.logits, index, history, prompt, read.early))
    return torch.cat(parts)


def entropy_of(logits: Tensor) -> float:
    """Return the mean entropy in nats of the distributions that logits (places, vocabulary) give."""
    entropies = [torch.special.entr(place.softmax(-1)).sum(-1) for place in torch.tensor_split(logits, SLABS)]
    return float(torch.cat(entropies).double().mean())


def mean_entropy(session: Session, pack: Pack, texts: Sequence[Sequence[int]], subject: Subject) -> float:
    """Return the mean next-token entropy in nats under `pack` over the tokens of neutral texts."""
    return entropy_of(expressed_logits(session, pack, texts, subject))


def match_entropy(undosed: Tensor, target: float, subject: Subject) -> float:
    """Return the dose of `temperature` at which undosed logits (places, vocabulary) have mean entropy `target` nats.

    Bisection over the doses of the effect; entropy rises with temperature.

    Raises:
        CalibrationError: when no dose in range reaches the target.
    """
    effect = Temperature()
    low, high = effect.doses
    places = len(undosed)
    nothing = torch.zeros(places, 0, dtype=torch.long)
    step = Step(torch.zeros(places), nothing, subject, nothing)

    def at(dose: float) -> float:
        return entropy_of(effect(undosed, torch.full((places,), dose), step))

    if not at(low) <= target <= at(high):
        raise CalibrationError(
            f"No temperature gives a mean entropy of {target:.3f} nats; in range are {at(low):.3f} to {at(high):.3f}."
        )
    middle = (low + high) / 2
    while abs(at(middle) - target) > TOLERANCE and high - low > 1e-4:
        low, high = (middle, high) if at(middle) < target else (low, middle)
        middle = (low + high) / 2
    return middle
