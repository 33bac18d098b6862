"""Sampling text from rows with different packs, one forward pass per token for all of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from neuromod_core.effects import Stream, Subject
from neuromod_core.effects.kinds import ChoiceEffect, Evidence
from neuromod_core.engine.decode import Written, write
from neuromod_core.engine.rows import Row, pad_left, pad_right
from neuromod_core.engine.session import Session
from neuromod_core.kernel.errors import DataError
from neuromod_core.packs import Pack, bind

UNDOSED = Pack(name="undosed", description="no intervention", kind="control")
READ_AT_ONCE = 4096  # tokens in one forward pass when candidates are judged


@dataclass(frozen=True)
class Generation:
    """What one row wrote.

    tokens: the response, its stop token included.  entropy, logprob: per token, in nats, of the distribution that was
    sampled from (after the pack's sampler effects).
    """

    tokens: tuple[int, ...]
    stop: Literal["stop token", "length"]
    entropy: tuple[float, ...]
    logprob: tuple[float, ...]


def _generation(written: Written, row: int, stops: frozenset[int]) -> Generation:
    tokens = [token for token in written.tokens[row].tolist() if token >= 0]
    return Generation(
        tokens=tuple(tokens),
        stop="stop token" if tokens[-1] in stops else "length",
        entropy=tuple(written.entropy[row, : len(tokens)].tolist()),
        logprob=tuple(written.logprob[row, : len(tokens)].tolist()),
    )


def _chooser(row: Row) -> tuple[ChoiceEffect, float] | None:
    """Return the effect that chooses among the row's candidates, with its dose; None when the row has one candidate."""
    found = [
        (item.effect, item.dose) for item in row.pack.effects if isinstance(item.effect, ChoiceEffect) and item.dose
    ]
    if len(found) > 1:
        raise DataError(f"Pack {row.pack.name!r} has {len(found)} effects that choose among candidates; at most one.")
    return found[0] if found else None


@torch.inference_mode()
def first_entropy(session: Session, rows: Sequence[Row], subject: Subject) -> list[float]:
    """Return the entropy in nats of the first token's distribution of every row, as its pack edits it."""
    device, found = session.model.device, []
    for row in rows:
        binding = bind([row.pack], [row.stream], subject, device=device)
        prompt = pad_left([row.reads(subject)], device)
        hidden = session.forward(
            prompt.tokens, prompt.mask, pad=prompt.pad, binding=binding, start=prompt.lengths, cache=None
        )
        read = session.read(hidden.at(slice(None), -1))
        nothing = prompt.tokens[:, :0]
        edited = binding.edit_logits(read.logits, torch.zeros_like(prompt.pad), nothing, prompt.known, read.early)
        found.append(float(torch.special.entr(edited.softmax(-1)).sum()))
    return found


def _candidates(session: Session, rows: Sequence[Row], subject: Subject) -> list[list[Row]]:
    """Return the candidate rows of every row; the first is the row itself."""
    everyone = [[row] for row in rows]
    for number, row in enumerate(rows):
        if (chooser := _chooser(row)) is not None:
            effect, dose = chooser
            effect.check(subject)
            count = effect.candidates(dose, first_entropy(session, [row], subject)[0])
            everyone[number] += [
                replace(row, stream=Stream(row.stream.root, f"{row.stream.name}/candidate{extra}"))
                for extra in range(1, count)
            ]
    return everyone


@torch.inference_mode()
def undosed_logprob(
    session: Session, prompt: Sequence[int], texts: Sequence[Sequence[int]], subject: Subject
) -> Tensor:
    """Return the mean log-likelihood (texts,) per token, in nats, of texts after a prompt, under the undosed model."""
    device, means = session.model.device, []
    per = max(1, READ_AT_ONCE // (len(prompt) + max(len(text) for text in texts)))
    for begin in range(0, len(texts), per):
        part = texts[begin : begin + per]
        padded = pad_right([[*prompt, *text] for text in part], device)
        binding = bind([UNDOSED] * len(part), [Stream(0, "undosed")] * len(part), subject, device=device)
        start = torch.full_like(padded.pad, len(prompt))
        hidden = session.forward(padded.tokens, padded.mask, pad=padded.pad, binding=binding, start=start, cache=None)
        for row, text in enumerate(part):
            at = slice(len(prompt) - 1, len(prompt) + len(text) - 1)
            logprob = session.model.logits(hidden.last[row, at]).log_softmax(-1)
            means.append(logprob.gather(-1, torch.tensor(list(text), device=device)[:, None]).mean())
    return torch.stack(means)


def _best(session: Session, rows: Sequence[Row], candidates: Sequence[Generation], subject: Subject) -> Generation:
    chooser = _chooser(rows[0])
    if chooser is None or len(candidates) == 1:
        return candidates[0]
    effect, texts = chooser[0], tuple(candidate.tokens for candidate in candidates)
    own = torch.tensor([sum(candidate.logprob) / len(candidate.logprob) for candidate in candidates])
    undosed = undosed_logprob(session, rows[0].prompt, texts, subject).cpu() if effect.verified else None
    return candidates[int(effect.value(Evidence(own, undosed, texts)).argmax())]


def generate(
    session: Session, rows: Sequence[Row], subject: Subject, *, tokens: int | Sequence[int], slots: int = 256
) -> list[Generation]:
    """Sample up to `tokens` tokens for every row, from the model's own distribution as the row's pack edits it.

    tokens: one limit for all rows, or one a row.  slots: rows written side by side; the others wait for a slot.
    A row's text depends on its prompt, pack and stream alone. A row ends at a stop token or at its limit.
    """
    limits = [tokens] * len(rows) if isinstance(tokens, int) else list(tokens)
    groups = _candidates(session, rows, subject)
    flat = [row for group in groups for row in group]
    spread = [limit for limit, group in zip(limits, groups, strict=True) for _ in group]
    written = write(session, flat, subject, limits=spread, slots=slots)
    stories = iter(_generation(written, row, session.model.stop_tokens) for row in range(len(flat)))
    return [_best(session, group, [next(stories) for _ in group], subject) for group in groups]
