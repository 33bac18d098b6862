"""Effects on queries and on what heads write."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from neuromod_core.effects.base import EFFECTS, in_range
from neuromod_core.effects.kinds import HeadEffect, QueryEffect
from neuromod_core.effects.subject import Stream, Subject
from neuromod_core.kernel.rng import rng


@EFFECTS.add("qk_score_scaling")
@dataclass(frozen=True, kw_only=True)
class QKScoreScaling(QueryEffect):
    """Sharpen (d > 0) or blunt (d < 0) the attention of a head set:  S' = span**d S  on its heads, others unchanged.

    Acts inside the attention function, after any query norm and rotary embedding, so that every architecture feels it.
    `heads` names a calibrated set ("induction"), "all", or lists heads as "layer.head,layer.head".
    Source: Neuromod methodology; heads: Olsson et al. 2022.
    """

    heads: str = "induction"
    span: float = 2.0
    observable, moves = "sharpness", 1

    def __post_init__(self) -> None:
        in_range(self.span, 1.01, 10.0, "qk_score_scaling: span")

    def check(self, subject: Subject) -> None:
        """Raise MissingVector when the head set was not calibrated or is empty."""
        super().check(subject)
        subject.head_set(self.heads)

    def gain(self, dose: Tensor, subject: Subject) -> Tensor:
        """See `QueryEffect.gain`."""
        return torch.where(subject.head_set(self.heads).to(dose.device), self.span ** dose[:, None, None], 1.0)


@EFFECTS.add("attention_focus")
@dataclass(frozen=True, kw_only=True)
class AttentionFocus(QueryEffect):
    """Sharpen (d > 0) or blunt (d < 0) every head of the middle layers:  S' = span**d S.

    The middle layers are the blocks that reach into the middle third of the depth. This is the global counterpart of
    `qk_score_scaling`, which leaves all but a head set alone.  Source: Neuromod methodology.
    """

    span: float = 2.0
    observable, moves = "mean_sharpness", 1

    def __post_init__(self) -> None:
        in_range(self.span, 1.01, 10.0, "attention_focus: span")

    def gain(self, dose: Tensor, subject: Subject) -> Tensor:
        """See `QueryEffect.gain`."""
        depth, heads = subject.shape.depth, subject.shape.heads
        layer = torch.arange(depth, device=dose.device)[:, None].expand(depth, heads)
        return torch.where((3 * (layer + 1) > depth) & (3 * layer < 2 * depth), self.span ** dose[:, None, None], 1.0)


@EFFECTS.add("head_masking_dropout")
@dataclass(frozen=True, kw_only=True)
class HeadMasking(HeadEffect):
    """Silence a random share of heads:  o'_h = 0  where  u_h < rate d,  u_h uniform, drawn once per row.

    Masks of one row are nested in dose (a larger dose silences a superset), and the same at every token, so cached and
    uncached decoding agree. No rescaling of the remaining heads.  Source: Michel, Levy & Neubig 2019 (head ablation).
    """

    rate: float = 0.4
    doses = (0.0, 2.0)
    observable, moves = "silenced_heads", 1
    stochastic = True

    def __post_init__(self) -> None:
        in_range(self.rate, 0.01, 0.5, "head_masking_dropout: rate")

    def gate(self, dose: Tensor, subject: Subject, streams: tuple[Stream, ...]) -> Tensor:
        """See `HeadEffect.gate`."""
        shape = (subject.shape.depth, subject.shape.heads)
        draws = np.stack([rng(stream.root, stream.name, "head_masking").random(shape) for stream in streams])
        uniform = torch.from_numpy(draws).to(dose.device)
        return (uniform >= self.rate * dose.double()[:, None, None]).to(dose.dtype)


@EFFECTS.add("head_reweighting")
@dataclass(frozen=True, kw_only=True)
class HeadReweighting(HeadEffect):
    """Make a head set louder (d > 0) or quieter (d < 0):  o'_h = (1 + reach d) o_h  for its heads, others unchanged.

    `heads` names a calibrated set (induction, previous_token, duplicate_token) or "all". Heads look where they looked;
    what they write counts more or less.  Source: Neuromod methodology; gates on heads: Michel, Levy & Neubig 2019.
    """

    heads: str = "induction"
    reach: float = 0.5
    observable, moves = "head_gain", 1

    def __post_init__(self) -> None:
        in_range(self.reach, 0.01, 0.5, "head_reweighting: reach")

    def check(self, subject: Subject) -> None:
        """Raise MissingVector when the head set was not calibrated or is empty."""
        super().check(subject)
        subject.head_set(self.heads)

    def gate(self, dose: Tensor, subject: Subject, streams: tuple[Stream, ...]) -> Tensor:
        """See `HeadEffect.gate`."""
        return torch.where(subject.head_set(self.heads).to(dose.device), 1 + self.reach * dose[:, None, None], 1.0)


@EFFECTS.add("head_ablation")
@dataclass(frozen=True, kw_only=True)
class HeadAblation(HeadEffect):
    """Silence named heads by degrees:  o'_h = (1 - d) o_h  for the heads of a set, or of a list such as "17.3,18.6".

    For causal tests of heads that were found elsewhere; nothing is drawn.  Source: Michel, Levy & Neubig 2019.
    """

    heads: str
    doses = (0.0, 1.0)
    observable, moves = "head_gain", -1

    def check(self, subject: Subject) -> None:
        """Raise MissingVector or NoSuchLayer when the model has no such set, layer or head."""
        super().check(subject)
        subject.head_set(self.heads)

    def gate(self, dose: Tensor, subject: Subject, streams: tuple[Stream, ...]) -> Tensor:
        """See `HeadEffect.gate`."""
        return torch.where(subject.head_set(self.heads).to(dose.device), 1 - dose[:, None, None], 1.0)
