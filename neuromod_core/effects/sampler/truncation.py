"""Truncation by rank or by threshold. A positive dose removes more; the likeliest token always stays."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from neuromod_core.effects.base import EFFECTS, Stage, in_range
from neuromod_core.effects.kinds import LogitEffect
from neuromod_core.effects.subject import Step, Subject
from neuromod_core.kernel.errors import NotOnThisModel


@EFFECTS.add("top_k")
@dataclass(frozen=True, kw_only=True)
class TopK(LogitEffect):
    """Keep the k likeliest tokens and the ties of the last,  k = round(V**(1 - d) size**d),  V the vocabulary's size.

    Dose 1 keeps `size`; equal steps of dose divide k by equal factors, so that no dose is idle on a large vocabulary.
    Source: Fan, Lewis & Dauphin 2018.
    """

    size: int = 40
    doses = (0.0, 2.0)
    stage = Stage.TRUNCATE
    observable, moves = "kept_tokens", -1

    def __post_init__(self) -> None:
        in_range(self.size, 1, 100_000, "top_k: size (tokens)")

    def check(self, subject: Subject) -> None:
        """Raise NotOnThisModel when the vocabulary has no more than `size` tokens."""
        super().check(subject)
        if self.size >= subject.shape.vocabulary:
            raise NotOnThisModel(
                f"top_k keeps {self.size} tokens; the language model {subject.name} has {subject.shape.vocabulary}."
            )

    def edit(self, logits: Tensor, dose: Tensor, step: Step) -> Tensor:
        """See `LogitEffect.edit`."""
        vocabulary, exponent = logits.shape[-1], dose.double()
        count = torch.round(vocabulary ** (1 - exponent) * self.size**exponent).long().clamp(1, vocabulary)
        last = logits.topk(int(count.max()), dim=-1).values.gather(-1, count[:, None] - 1)
        return logits.masked_fill(logits < last, float("-inf"))


@EFFECTS.add("min_p")
@dataclass(frozen=True, kw_only=True)
class MinP(LogitEffect):
    """Keep tokens at least a share as likely as the likeliest:  p[v] >= share d max p.  Source: Nguyen et al. 2024."""

    share: float = 0.1
    doses = (0.0, 2.0)
    stage = Stage.TRUNCATE
    observable, moves = "kept_tokens", -1

    def __post_init__(self) -> None:
        in_range(self.share, 0.0001, 0.5, "min_p: share")

    def edit(self, logits: Tensor, dose: Tensor, step: Step) -> Tensor:
        """See `LogitEffect.edit`."""
        floor = logits.amax(-1, keepdim=True) + (self.share * dose).log()[:, None].to(logits.dtype)
        return logits.masked_fill(logits < floor, float("-inf"))


@EFFECTS.add("eta_cutoff")
@dataclass(frozen=True, kw_only=True)
class EtaCutoff(LogitEffect):
    """Keep tokens with  p[v] >= eta = min(e, sqrt(e) exp(-H)),  e = epsilon d,  H the distribution's entropy in nats.

    The floor sinks where the model is unsure, so that open places stay open.  Source: Hewitt, Manning & Liang 2022.
    """

    epsilon: float = 0.01
    doses = (0.0, 2.0)
    stage = Stage.TRUNCATE
    observable, moves = "kept_tokens", -1

    def __post_init__(self) -> None:
        in_range(self.epsilon, 1e-5, 0.5, "eta_cutoff: epsilon")

    def edit(self, logits: Tensor, dose: Tensor, step: Step) -> Tensor:
        """See `LogitEffect.edit`."""
        p, epsilon = logits.softmax(-1), self.epsilon * dose
        entropy = torch.special.entr(p).sum(-1)
        eta = torch.minimum(epsilon, epsilon.sqrt() * torch.exp(-entropy))[:, None]
        return logits.masked_fill((p < eta) & (logits < logits.amax(-1, keepdim=True)), float("-inf"))


@EFFECTS.add("top_n_sigma")
@dataclass(frozen=True, kw_only=True)
class TopNSigma(LogitEffect):
    """Keep tokens within n standard deviations of the best logit:  z[v] >= max z - n sd(z),  n = sigmas / d.

    sd is taken over the tokens not yet excluded. What is kept does not depend on the temperature.
    Source: Tang et al. 2024.
    """

    sigmas: float = 1.0
    doses = (0.0, 2.0)
    stage = Stage.TRUNCATE
    observable, moves = "kept_tokens", -1

    def __post_init__(self) -> None:
        in_range(self.sigmas, 0.01, 10.0, "top_n_sigma: sigmas")

    def edit(self, logits: Tensor, dose: Tensor, step: Step) -> Tensor:
        """See `LogitEffect.edit`."""
        present = logits.isfinite()
        count = present.sum(-1, keepdim=True)
        mean = logits.masked_fill(~present, 0).sum(-1, keepdim=True) / count
        variance = (logits - mean).square().masked_fill(~present, 0).sum(-1, keepdim=True) / count
        reach = (self.sigmas / dose)[:, None].to(logits.dtype) * variance.sqrt()
        return logits.masked_fill(logits < logits.amax(-1, keepdim=True) - reach, float("-inf"))
