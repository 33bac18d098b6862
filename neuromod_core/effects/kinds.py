"""The kinds of effect. A kind says what an effect may touch; its base class makes dose zero exactly nothing.

Every tensor has its rows first; n rows are in a call. `__call__` is what the engine uses; `edit` (or `gain`, `gate`,
`shifts` ...) is what an effect defines, for doses (n,) of which none needs to be treated as special.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from neuromod_core.effects.base import Effect
from neuromod_core.effects.subject import Place, Step, Stream, Subject, Window
from neuromod_core.kernel.errors import NotOnThisModel


def keep_undosed(edited: Tensor, original: Tensor, dose: Tensor) -> Tensor:
    """Return `edited` where the row's dose is not zero, and `original`, bit for bit, elsewhere."""
    chosen = (dose != 0).view(-1, *[1] * (original.dim() - 1))
    return torch.where(chosen, edited.to(original.dtype), original)


class LogitEffect(Effect):
    """Edits next-token logits."""

    family = "sampler"
    site = "next-token logits"

    def __call__(self, logits: Tensor, dose: Tensor, step: Step) -> Tensor:
        """Return `logits` (n, vocabulary) edited where `dose` (n,) is not zero; the other rows are not touched."""
        rows = dose.nonzero()[:, 0]
        if len(rows) == 0:
            return logits
        if len(rows) == len(dose):
            return self.edit(logits, dose, step)
        return logits.index_copy(0, rows, self.edit(logits[rows], dose[rows], step.take(rows)))

    def early(self, subject: Subject) -> int | None:
        """Return the block whose early logits `edit` reads from `step.early`, None for none."""
        return None

    @abstractmethod
    def edit(self, logits: Tensor, dose: Tensor, step: Step) -> Tensor:
        """Return edited logits (n, vocabulary) for doses (n,), never in place."""


class ShiftEffect(Effect):
    """Adds dose x fixed vectors to the residual stream: such effects of a row merge into one table per layer."""

    family = "steering"
    site = "residual stream (fixed vector)"

    @property
    def spans(self) -> tuple[Window, int]:
        """The tokens it acts on: a window, and how many tokens of the response it waits for."""
        return "both", 0

    @abstractmethod
    def shifts(self, subject: Subject) -> Sequence[tuple[int, Tensor]]:
        """Return (layer, vector (width,)) pairs: what dose 1 adds to the output of those blocks."""


class StreamEffect(Effect):
    """Edits the residual stream at the output of some blocks; layer -1 is the token embedding."""

    family = "activation"
    site = "residual stream"

    def __call__(self, hidden: Tensor, dose: Tensor, place: Place) -> Tensor:
        """Return `hidden` (n, tokens, width) edited where `dose` (n,) is not zero."""
        return keep_undosed(self.edit(hidden, dose, place), hidden, dose)

    @abstractmethod
    def layers(self, subject: Subject) -> Sequence[int]:
        """Return the blocks whose output it edits; -1 is the embedding."""

    @abstractmethod
    def edit(self, hidden: Tensor, dose: Tensor, place: Place) -> Tensor:
        """Return edited states (n, tokens, width) for doses (n,), never in place."""


class AttentionEffect(Effect):
    """Acts inside the attention function."""

    family = "attention"
    needs = "attention"

    def check(self, subject: Subject) -> None:
        """Raise NotOnThisModel when the model's attention cannot be reached."""
        if not subject.shape.attention:
            raise NotOnThisModel(
                f"{type(self).__name__} edits attention, which {subject.name} computes out of reach "
                "(its architecture does not use the attention interface)."
            )


class QueryEffect(AttentionEffect):
    """Multiplies queries inside the attention function: the raw score S of a head becomes gain x S."""

    site = "queries of heads"

    @abstractmethod
    def gain(self, dose: Tensor, subject: Subject) -> Tensor:
        """Return gains (n, depth, heads) for doses (n,); exactly 1 where the dose is 0."""


class HeadEffect(AttentionEffect):
    """Multiplies what heads write, before the output projection."""

    site = "outputs of heads"

    @abstractmethod
    def gate(self, dose: Tensor, subject: Subject, streams: tuple[Stream, ...]) -> Tensor:
        """Return gates (n, depth, heads) for doses (n,); exactly 1 where the dose is 0."""


class ScoreEffect(AttentionEffect):
    """Edits raw attention scores S (n, heads, queries, keys), scaled by 1/sqrt(head size), before mask and softmax."""

    family = "cache"
    site = "attention scores"

    def __call__(self, scores: Tensor, dose: Tensor, place: Place) -> Tensor:
        """Return `scores` edited where `dose` (n,) is not zero."""
        return keep_undosed(self.edit(scores, dose, place), scores, dose)

    @abstractmethod
    def edit(self, scores: Tensor, dose: Tensor, place: Place) -> Tensor:
        """Return edited scores for doses (n,); minus infinity hides a key. Never in place."""


class WeightEffect(AttentionEffect):
    """Edits attention weights A (n, heads, queries, keys) after the softmax; hidden keys have weight 0."""

    site = "attention weights"

    def __call__(self, weights: Tensor, dose: Tensor, place: Place) -> Tensor:
        """Return `weights` edited where `dose` (n,) is not zero."""
        return keep_undosed(self.edit(weights, dose, place), weights, dose)

    @abstractmethod
    def edit(self, weights: Tensor, dose: Tensor, place: Place) -> Tensor:
        """Return edited weights for doses (n,). They need not sum to 1. Never in place."""


class CacheEffect(AttentionEffect):
    """Edits cached keys and values as they are read; the cache itself keeps what was written.

    A value may depend on its own content, its position, the row's stream and the layer: cached equals uncached.
    """

    family = "cache"
    site = "cached keys and values"

    def __call__(self, key: Tensor, value: Tensor, dose: Tensor, place: Place) -> tuple[Tensor, Tensor]:
        """Return keys and values (n, kv heads, keys, size) edited where `dose` (n,) is not zero."""
        keys, values = self.edit(key, value, dose, place)
        return keep_undosed(keys, key, dose), keep_undosed(values, value, dose)

    @abstractmethod
    def edit(self, key: Tensor, value: Tensor, dose: Tensor, place: Place) -> tuple[Tensor, Tensor]:
        """Return edited keys and values for doses (n,), never in place."""


class EvictionEffect(AttentionEffect):
    """Forgets, once the prompt is read, the share of its keys that matter least: responses no longer see them.

    share forgotten = reach x dose of the prompt's tokens, besides the first `sinks` and the last `recent` ones.
    """

    family = "cache"
    site = "prompt keys, by score"
    doses = (0.0, 2.0)
    reach: float
    sinks: int
    recent: int

    def hidden(self, query: Tensor, key: Tensor, value: Tensor, dose: Tensor, place: Place) -> Tensor:
        """Return which keys responses no longer see, (n, kv heads, keys) bool; all False where the dose is 0.

        The prompt ends where the response starts, or with what has been read so far: columns ahead are no keys.
        """
        end = torch.minimum(place.start, place.queries.amax(-1) + 1)[:, None, None]
        position = place.keys[:, None, :]
        free = (position >= self.sinks) & (position < end - self.recent)
        ranked = self.importance(query, key, value, place).masked_fill(~free, float("inf"))
        rank = ranked.argsort(stable=True, dim=-1).argsort(dim=-1)
        count = torch.floor((self.reach * dose[:, None, None].double()).clamp(max=1) * free.sum(-1, keepdim=True))
        gone: Tensor = (rank < count) & free
        return gone

    @abstractmethod
    def importance(self, query: Tensor, key: Tensor, value: Tensor, place: Place) -> Tensor:
        """Return how much each key matters, (n, kv heads, keys), from queries (n, heads, q, size) and keys, values."""


class RouterEffect(Effect):
    """Edits router logits of a mixture of experts."""

    family = "router"
    site = "expert router"
    needs = "router"

    def check(self, subject: Subject) -> None:
        """Raise NotOnThisModel on a model without experts."""
        if not subject.shape.experts:
            raise NotOnThisModel(f"{type(self).__name__} edits an expert router; {subject.name} is a dense model.")

    def __call__(self, logits: Tensor, before: Tensor, dose: Tensor, place: Place) -> Tensor:
        """Return router logits (n, tokens, experts) edited where `dose` (n,) is not zero."""
        return keep_undosed(self.edit(logits, before, dose, place), logits, dose)

    @abstractmethod
    def edit(self, logits: Tensor, before: Tensor, dose: Tensor, place: Place) -> Tensor:
        """Return edited logits for doses (n,); `before` are those of the token before (its own for the first)."""


class PromptEffect(Effect):
    """Edits the tokens of a prompt before they are read."""

    family = "input"
    site = "prompt tokens"

    def __call__(self, prompt: tuple[int, ...], dose: float, stream: Stream, subject: Subject) -> tuple[int, ...]:
        """Return the prompt as the row reads it."""
        return self.edit(prompt, dose, stream, subject) if dose else prompt

    @abstractmethod
    def edit(self, prompt: tuple[int, ...], dose: float, stream: Stream, subject: Subject) -> tuple[int, ...]:
        """Return the edited prompt for a dose that is not zero."""


class ModuleEffect(Effect):
    """Edits the output of named linear modules."""

    family = "own"
    site = "linear modules"

    def __call__(self, path: str, entering: Tensor, output: Tensor, dose: Tensor) -> Tensor:
        """Return `output` (n, tokens, outputs) of the module at `path` edited where `dose` (n,) is not zero."""
        return keep_undosed(self.edit(path, entering, output, dose), output, dose)

    @abstractmethod
    def paths(self, subject: Subject) -> Sequence[str]:
        """Return the dotted paths of the modules it edits."""

    @abstractmethod
    def edit(self, path: str, entering: Tensor, output: Tensor, dose: Tensor) -> Tensor:
        """Return edited outputs for doses (n,), from what entered the module (n, tokens, inputs). Never in place."""


@dataclass(frozen=True, eq=False)
class Evidence:
    """What is known of a row's c candidate responses.

    own: (c,) mean log-probability per token, in nats, of the distribution they were sampled from.
    undosed: (c,) the same under the undosed model; None unless the effect asks for it.
    tokens: the candidates themselves.
    """

    own: Tensor
    undosed: Tensor | None
    tokens: tuple[tuple[int, ...], ...]


class ChoiceEffect(Effect):
    """Writes several candidate responses and keeps the one that scores best: test-time compute.

    A response that is given rather than sampled has one candidate, so likelihoods are not affected.
    verified: whether `value` reads the candidates' likelihood under the undosed model.
    """

    family = "objective"
    site = "candidate responses"
    doses = (0.0, 2.0)
    verified: ClassVar[bool] = False

    @abstractmethod
    def candidates(self, dose: float, entropy: float) -> int:
        """Return how many candidates to write, at least 1, at the row's next-token entropy (nats) after its prompt."""

    @abstractmethod
    def value(self, evidence: Evidence) -> Tensor:
        """Return the score (c,) of the candidates; the first of the best is kept."""


class PlasticityEffect(Effect):
    """Changes weights while text is read or written, and puts them back. An interface: no member is registered yet."""

    family = "plasticity"
    site = "weights"


class ImageEffect(Effect):
    """An effect on image generation. It loads, so that published packs parse, and means nothing on a language model."""

    family = "visual"
    site = "image pipeline"

    def check(self, subject: Subject) -> None:
        """Raise NotOnThisModel: there is no image to act on."""
        raise NotOnThisModel(f"{type(self).__name__} acts on an image pipeline; {subject.name} is a language model.")
