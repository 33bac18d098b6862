"""Where observables are read: one undisturbed view of each site under a pack, on a tiny model."""

from __future__ import annotations

import torch
from torch import Tensor

from neuromod_core.effects import Stream, Subject
from neuromod_core.effects.kinds import LogitEffect, ScoreEffect
from neuromod_core.effects.subject import Place
from neuromod_core.engine import Row, dosed, generate
from neuromod_core.engine.attention import Heads, in_the_open
from neuromod_core.models import LoadedModel
from neuromod_core.packs import Binding, Dosed, Pack, bind

STREAM = Stream(3, "observed")
TOKENS = torch.tensor([[(13 * i) % 200 + 20 for i in range(64)]])
START = 48  # the first token of TOKENS that counts as written
HISTORY = torch.tensor([[40, 40, 41, 40]])
PROMPT = torch.tensor([[50, 51, 50]])
NONE = Pack(name="none", description="nothing", kind="control")


def binding_of(subject: Subject, pack: Pack, streams: int = 1) -> Binding:
    owned = [STREAM] + [Stream(3, f"observed{i}") for i in range(1, streams)]
    return bind([pack] * streams, owned, subject)


def logits(subject: Subject, pack: Pack, *, index: int = 1, scale: float = 2.0) -> Tensor:
    """Next-token logits (vocabulary,) after the pack's sampler effects; those of an earlier block are other ones."""
    generator = torch.Generator().manual_seed(2)
    drawn = scale * torch.randn(1, subject.shape.vocabulary, generator=generator)
    early = 0.5 * drawn + torch.randn(1, subject.shape.vocabulary, generator=generator)
    binding = binding_of(subject, pack)
    layers = {
        effect.early(subject): early for effect, _ in binding.of(LogitEffect) if effect.early(subject) is not None
    }
    return binding.edit_logits(drawn, torch.tensor([index]), HISTORY, PROMPT, layers)[0]


def residual(model: LoadedModel, subject: Subject, pack: Pack, layer: int, start: int = START) -> Tensor:
    """The residual stream (tokens, width) at the output of a block (-1: the embedding), under the pack."""
    caught: list[Tensor] = []

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
                binding=binding_of(subject, pack),
                start=torch.tensor([start]),
                cache=None,
            )
        finally:
            handle.remove()
    return caught[0][0]


def place(subject: Subject, layer: int = 0, tokens: int = 64) -> Place:
    """All of a text of `tokens` tokens at once, the last quarter of it written."""
    positions = torch.arange(tokens)[None]
    return Place(layer, positions, positions, torch.tensor([3 * tokens // 4]), (STREAM,), subject)


def scores(subject: Subject, pack: Pack) -> Tensor:
    """Raw attention scores (heads, queries, keys) after the pack's effects on them; minus infinity ahead of a query."""
    here = place(subject)
    drawn = torch.randn(1, 4, 64, 64, generator=torch.Generator().manual_seed(5))
    for effect, dose in binding_of(subject, pack).of(ScoreEffect):
        drawn = effect(drawn, dose, here)
    return drawn.masked_fill(here.distance < 0, float("-inf"))[0]


def heads(subject: Subject) -> Heads:
    """Random queries, keys and values of a text of 64 tokens."""
    generator = torch.Generator().manual_seed(5)
    query, key, value = (torch.randn(1, count, 64, 8, generator=generator) for count in (4, 2, 2))
    return Heads(query, key, value, place(subject).distance >= 0, 8**-0.5)


def attended(subject: Subject, pack: Pack) -> Tensor:
    """What heads read (queries, heads, size) under the pack's effects on attention."""
    return in_the_open(heads(subject), place(subject), binding_of(subject, pack))[0][0]


def written(
    model: LoadedModel, subject: Subject, pack: Pack, *, rows: int = 8, tokens: int = 12
) -> list[tuple[int, ...]]:
    """Responses of several streams under the pack."""
    prompts = [tuple(TOKENS[0, i : i + 20].tolist()) for i in range(rows)]
    with dosed(model) as session:
        made = generate(
            session, [Row(p, pack, Stream(3, f"w{i}")) for i, p in enumerate(prompts)], subject, tokens=tokens
        )
    return [item.tokens for item in made]


def dosed_pack(name: str, effect: object, dose: float) -> Pack:
    return Pack(name=f"only_{name}", description="one effect", kind="test", effects=(Dosed(name, effect, dose),))  # type: ignore[arg-type]
