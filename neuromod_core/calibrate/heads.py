"""Heads with a known part in copying: where they look on repeated random tokens, what they write, and what they cause.

On  [BOS, r_1 .. r_T, r_1 .. r_T]  with attention weights A, means over sequences and queries q of the second copy (but
its first, for which the copy has not begun):

    induction        A[q, q - (T - 1)]   the token after the first occurrence of the current one
    duplicate_token  A[q, q - T]         the first occurrence of the current one
    previous_token   A[q, q - 1]         the token before the current one

`head_scores` is all that a calibration needs. `findings` adds the evidence: the same scores with the second copy
shuffled, the copying score of every head, the causal check, and the published recipe for comparison.

Source: Olsson et al. 2022; Elhage et al. 2021 (copying); Wang et al. 2023 (duplicate-token heads, mean ablation).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from neuromod_core.calibrate.circuits import Copying, copying, tapped
from neuromod_core.kernel.errors import CalibrationError
from neuromod_core.kernel.rng import rng
from neuromod_core.models import LoadedModel

SEQUENCES, LENGTH, THRESHOLD = 12, 50, 0.3
DISTANCES = {"duplicate_token": LENGTH, "induction": LENGTH - 1, "previous_token": 1}
SHUFFLES, QUANTILE = 4, 0.99  # of the null
DRAWS = 24  # sets of random heads that the found ones are compared with
PROMPT, SHARE = " A B C D E F A", 0.2  # of the published recipe
Head = tuple[int, int]


def ordinary_tokens(model: LoadedModel) -> list[int]:
    """Return the tokens of the vocabulary that are not special."""
    special = set(model.tokenizer.all_special_ids)
    return [token for token in range(model.tokenizer.vocab_size) if token not in special]


def repeated_tokens(model: LoadedModel, seed: int = 0) -> Tensor:
    """Return (sequences, 1 + 2 length) tokens: a start token, then the same random ordinary tokens twice."""
    words = np.array(ordinary_tokens(model))
    half = rng(seed, "induction").choice(words, size=(SEQUENCES, LENGTH))
    start = model.tokenizer.bos_token_id
    column = np.full((SEQUENCES, 1), words[0] if start is None else start)
    return torch.from_numpy(np.concatenate([column, half, half], axis=1))


@torch.inference_mode()
def attention_patterns(model: LoadedModel, tokens: Tensor) -> Tensor:
    """Return attention weights (depth, sequences, heads, queries, keys) in explicit algebra."""
    before = model.network.config._attn_implementation
    model.network.set_attn_implementation("eager")
    try:
        output = model.network(tokens.to(model.device), output_attentions=True, use_cache=False)
    finally:
        model.network.set_attn_implementation(before)
    return torch.stack([weights.float().cpu() for weights in output.attentions])


def looks_back(patterns: Tensor, distance: int, length: int = LENGTH) -> Tensor:
    """Return (depth, heads, sequences): the mean weight on the key `distance` tokens back, over the second copy.

    patterns: (depth, sequences, heads, queries, keys) on repeated tokens.
    """
    stripe = patterns.diagonal(offset=-distance, dim1=-2, dim2=-1)
    return stripe[..., -length + 1 :].mean(-1).transpose(1, 2)


def prefix_matching(patterns: Tensor, length: int = LENGTH) -> Tensor:
    """Return the induction score (depth, heads, sequences) of attention patterns on repeated tokens."""
    return looks_back(patterns, length - 1, length)


def split_half(scores: Tensor) -> float:
    """Return the correlation over heads of the scores on odd and even sequences."""
    odd, even = scores[..., ::2].mean(-1).flatten(), scores[..., 1::2].mean(-1).flatten()
    return float(torch.corrcoef(torch.stack([odd, even]))[0, 1])


def _scores(model: LoadedModel, tokens: Tensor) -> dict[str, Tensor]:
    patterns = attention_patterns(model, tokens)
    return {name: looks_back(patterns, distance) for name, distance in DISTANCES.items()}


def head_scores(model: LoadedModel) -> dict[str, Tensor]:
    """Return head set -> scores (depth, heads, sequences) of every head."""
    return _scores(model, repeated_tokens(model))


def shuffled_copy(tokens: Tensor, seed: int) -> Tensor:
    """Return repeated tokens (sequences, 1 + 2 length) whose second copy is in another order, drawn per sequence."""
    length = tokens.shape[1] // 2
    order = rng(seed, "shuffled copy").permuted(np.tile(np.arange(length), (len(tokens), 1)), axis=1)
    second = tokens[:, 1 + length :].gather(1, torch.from_numpy(order))
    return torch.cat([tokens[:, : 1 + length], second], dim=1)


def shuffled_scores(model: LoadedModel, shuffles: int = SHUFFLES) -> dict[str, Tensor]:
    """Return head set -> scores (depth, heads, shuffles), means over sequences, where the second copy is no copy.

    The same tokens stand at the same distances, only not the ones that a copying head looks for. A head that counts
    positions scores as before: for previous_token this is therefore no null.
    """
    plain = repeated_tokens(model)
    drawn = [_scores(model, shuffled_copy(plain, seed)) for seed in range(shuffles)]
    return {name: torch.stack([one[name].mean(-1) for one in drawn], dim=-1) for name in DISTANCES}


# ----------------------------------------------------------------------------------------------------- what they cause


@dataclass(frozen=True)
class Ablation:
    """What mean-ablating heads does to the loss on repeated tokens, in nats per token of (first copy, second copy).

    undosed: without ablation.  ablated: of the heads found.  alone: of each of them.  random: of as many other heads of
    the same layers.
    """

    heads: tuple[Head, ...]
    undosed: tuple[float, float]
    ablated: tuple[float, float]
    alone: tuple[tuple[float, float], ...]
    random: tuple[tuple[float, float], ...]

    @property
    def rise(self) -> float:
        """How much the loss on the second copy rises, nats per token."""
        return self.ablated[1] - self.undosed[1]

    @property
    def rises_alone(self) -> tuple[float, ...]:
        """The same for every head alone."""
        return tuple(second - self.undosed[1] for _, second in self.alone)

    @property
    def random_rises(self) -> tuple[float, ...]:
        """The same for every set of random heads."""
        return tuple(second - self.undosed[1] for _, second in self.random)

    @property
    def pvalue(self) -> float:
        """Share of sets, the found one counted among them, that raise the loss at least as far."""
        return (1 + sum(rise >= self.rise for rise in self.random_rises)) / (1 + len(self.random))


def _losses(model: LoadedModel, tokens: Tensor) -> tuple[float, float]:
    """Return the mean loss in nats on the first copy, and on the second but its first token, which none foretells."""
    tokens = tokens.to(model.device)
    hidden = model.hidden(tokens, torch.ones_like(tokens), torch.arange(tokens.shape[1]).expand_as(tokens), None)
    length, losses = tokens.shape[1] // 2, []
    for states, text in zip(hidden, tokens, strict=True):
        losses.append(torch.nn.functional.cross_entropy(model.logits(states[:-1]), text[1:], reduction="none"))
    each = torch.stack(losses).double().mean(0)
    return float(each[:length].mean()), float(each[length + 1 :].mean())


def _means(model: LoadedModel, tokens: Tensor) -> tuple[Tensor, tuple[float, float]]:
    """Return what every head writes on average (depth, heads, size), start token left out, and the losses."""
    found: dict[int, Tensor] = {}

    def tap(module: nn.Module, _value: Tensor, output: Tensor) -> Tensor:
        found[int(module.layer_idx)] = output[:, 1:].mean((0, 1))  # type: ignore[arg-type]
        return output

    with tapped(model, tap):
        losses = _losses(model, tokens)
    return torch.stack([found[layer] for layer in range(model.depth)]), losses


def _ablated(model: LoadedModel, tokens: Tensor, means: Tensor, heads: Sequence[Head]) -> tuple[float, float]:
    """Return the losses where heads write their mean at every token but the start."""

    def tap(module: nn.Module, _value: Tensor, output: Tensor) -> Tensor:
        layer = int(module.layer_idx)  # type: ignore[arg-type]
        if which := [head for at, head in heads if at == layer]:
            output = output.clone()
            output[:, 1:, which] = means[layer, which]
        return output

    with tapped(model, tap):
        return _losses(model, tokens)


def comparable(heads: Sequence[Head], count: int) -> bool:
    """Return whether every layer, of `count` heads, has as many other heads as there are among `heads`."""
    layers = [layer for layer, _ in heads]
    return all(2 * layers.count(layer) <= count for layer in layers)


def like(heads: Sequence[Head], count: int, draw: np.random.Generator) -> tuple[Head, ...]:
    """Return as many random heads of the same layers, none of them among `heads`.

    count: heads per layer.

    Raises:
        CalibrationError: when a layer has too few other heads.
    """
    drawn: list[Head] = []
    for layer in sorted({layer for layer, _ in heads}):
        others = [head for head in range(count) if (layer, head) not in heads]
        wanted = count - len(others)
        if wanted > len(others):
            raise CalibrationError(
                f"Layer {layer} has {wanted} of the heads found and {len(others)} others; as many others are needed."
            )
        drawn += [(layer, int(head)) for head in sorted(draw.choice(others, size=wanted, replace=False))]
    return tuple(drawn)


@torch.inference_mode()
def ablation(model: LoadedModel, heads: Sequence[Head], draws: int = DRAWS) -> Ablation:
    """Return what mean-ablating `heads` does on repeated tokens, others than those they were found on.

    Raises:
        CalibrationError: without any head, or when a layer has too few others to compare with.
        NotOnThisModel: where attention does not go through the attention interface.
    """
    if not heads:
        raise CalibrationError(f"There is no head of {model.name} to ablate.")
    tokens = repeated_tokens(model, seed=1)[: SEQUENCES // 2]
    means, undosed = _means(model, tokens)
    sets = [like(heads, model.heads, rng(0, "random heads", str(number))) for number in range(draws)]
    singles = [(head,) for head in heads]
    ablated, *others = (_ablated(model, tokens, means, chosen) for chosen in (tuple(heads), *singles, *sets))
    return Ablation(tuple(heads), undosed, ablated, tuple(others[: len(singles)]), tuple(others[len(singles) :]))


# ------------------------------------------------------------------------------------------------ the published recipe


@dataclass(frozen=True, eq=False)
class Naive:
    """What the published recipe chooses: chosen (depth, heads) bool, by scores (depth, heads); None: it fell back."""

    chosen: Tensor
    scores: Tensor | None


def middle_heads(depth: int, heads: int) -> Tensor:
    """Return heads H/2 - 1 and H/2 of every layer, (depth, heads) bool: what the published recipe falls back on."""
    chosen = torch.zeros(depth, heads, dtype=torch.bool)
    chosen[:, max(0, heads // 2 - 1) : heads // 2 + 1] = True
    return chosen


def naive(model: LoadedModel) -> Naive:
    """Return the heads that the recipe of the Neuromod prototype takes for induction heads, in every layer.

    On " A B C D E F A", without a start token: attention from the last token to the one after its first occurrence; the
    top 20 % of every layer, two at least. Where no token recurs, the middle heads of every layer. Never used by a
    calibration: one text, an order known by heart, no start token, and a quota for layers that have no such head.
    """
    tokens = model.encode(PROMPT)
    if tokens[-1] not in tokens[:-1]:
        return Naive(middle_heads(model.depth, model.heads), None)
    scores = attention_patterns(model, torch.tensor([tokens]))[:, 0, :, -1, tokens.index(tokens[-1]) + 1]
    best = scores.topk(min(model.heads, max(2, int(SHARE * model.heads))), dim=-1).indices
    return Naive(torch.zeros_like(scores, dtype=torch.bool).scatter(1, best, value=True), scores)


# ------------------------------------------------------------------------------------------------------------ all of it


@dataclass(frozen=True, eq=False)
class Findings:
    """The evidence on the heads of a model.

    scores: head set -> (depth, heads, sequences).  shuffled: head set -> (depth, heads, shuffles), no copy to find.
    copying, ablation: None where what heads write is out of reach; ablation also where there is no induction head, or a
    layer has too few others to compare with.
    """

    scores: dict[str, Tensor]
    shuffled: dict[str, Tensor]
    copying: Copying | None
    ablation: Ablation | None
    naive: Naive

    def mean(self, name: str) -> Tensor:
        """Return the scores (depth, heads) of a head set."""
        return self.scores[name].mean(-1)

    def error(self, name: str) -> Tensor:
        """Return the standard errors (depth, heads) of the scores of a head set, over sequences."""
        scores = self.scores[name]
        error: Tensor = scores.std(-1) / scores.shape[-1] ** 0.5
        return error

    def members(self, name: str) -> tuple[Head, ...]:
        """Return the heads (layer, head) of a head set."""
        return tuple((int(layer), int(head)) for layer, head in (self.mean(name) >= THRESHOLD).nonzero())

    def near(self) -> tuple[Head, ...]:
        """Return the heads whose induction score is within two standard errors of the threshold."""
        close = (self.mean("induction") - THRESHOLD).abs() < 2 * self.error("induction")
        return tuple((int(layer), int(head)) for layer, head in close.nonzero())

    def limit(self, name: str) -> float:
        """Return the 99th percentile, over heads and shuffles, of the scores without a copy."""
        return float(self.shuffled[name].flatten().quantile(QUANTILE))


def findings(model: LoadedModel) -> Findings:
    """Return all evidence on the heads of a model."""
    scores = head_scores(model)
    means = scores["induction"].mean(-1)
    heads = [(int(layer), int(head)) for layer, head in (means >= THRESHOLD).nonzero()]
    written: Copying | None = None
    caused: Ablation | None = None
    if model.anatomy.attention:
        written = copying(model, ordinary_tokens(model), repeated_tokens(model)[:, 1:].flatten().tolist())
        caused = ablation(model, heads) if heads and comparable(heads, model.heads) else None
    return Findings(scores, shuffled_scores(model), written, caused, naive(model))
