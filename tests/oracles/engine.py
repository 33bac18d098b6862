"""The slow twins of the engine: one row, one token at a time, no cache, the library's own model."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from neuromod_core.engine import Row
from neuromod_core.engine.decode import uniforms
from neuromod_core.models import LoadedModel


def likelihood(model: LoadedModel, prompt: Sequence[int], response: Sequence[int]) -> float:
    """Sum of log-probabilities, one forward pass per token."""
    total, text = 0.0, list(prompt)
    for token in response:
        with torch.inference_mode():
            logits = model.network(torch.tensor([text])).logits[0, -1].float()
        total += float(logits.log_softmax(-1)[token])
        text.append(token)
    return total


def sample(model: LoadedModel, row: Row, count: int) -> list[int]:
    """Inverse transform sampling from the model's own distribution, one forward pass per token."""
    uniform, text, written = uniforms([row], count)[0].numpy(), list(row.prompt), []
    for step in range(count):
        with torch.inference_mode():
            logits = model.network(torch.tensor([text])).logits[0, -1].float()
        cumulative = np.cumsum(logits.log_softmax(-1).double().exp().numpy())
        token = int(np.searchsorted(cumulative, uniform[step] * cumulative[-1], side="right"))
        written.append(token)
        text.append(token)
        if token in model.stop_tokens:
            break
    return written
