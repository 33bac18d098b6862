"""What units write for the panel: the prompts, how long a text may be, and what it is worth."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

from neuromod_core.instruments.tasks import Account, Instruction, Mark, adherence, coverage, divergence
from neuromod_core.instruments.tasks.divergence import Embed
from neuromod_core.instruments.tasks.instructions import TASK as WRITING
from neuromod_core.instruments.tasks.summaries import TASK as SUMMARY
from neuromod_core.models import LoadedModel
from neuromod_core.safety import Reader, Request, events, see
from neuromod_core.trial.bank import Asked

ASSOCIATION = "association"
LONG = 2  # summaries and lists of words may be so many times as long as a reply
Worth: TypeAlias = Mapping[str, object]


@dataclass(frozen=True)
class Piece:
    """A text that is asked for.  tokens: its greatest length.  judge: what a text is worth, as columns of `panel`."""

    instrument: str
    item: str
    reading: str
    prompt: str
    tokens: int
    judge: Callable[[str], Worth]


def pieces(asked: Asked, unit: str, reader: Reader, embed: Embed, reply_tokens: int) -> list[Piece]:
    """Return the texts that a unit is asked for: with constraints, summaries, lists of words, replies to the harmless.

    embed: the direction of a word that is known, for lists of words.
    """
    found = [_constrained(item, reply_tokens) for item in asked.writing]
    found += [_summary(item, LONG * reply_tokens) for item in asked.summaries]
    for number, prompt in enumerate(asked.associations):
        name = f"{ASSOCIATION}-{unit}-{number}"
        found.append(Piece(ASSOCIATION, name, "written", prompt, LONG * reply_tokens, lambda text: _apart(text, embed)))
    return found + [_reply(item, reader, reply_tokens) for item in asked.replies]


def _worth(mark: Mark) -> Worth:
    return {"level": mark.level, "value": mark.value, "chance": mark.chance, "reason": mark.reason}


def _constrained(item: Instruction, tokens: int) -> Piece:
    return Piece(WRITING, item.id, "written", item.prompt, tokens, lambda text: _worth(adherence(item, text)))


def _summary(item: Account, tokens: int) -> Piece:
    return Piece(SUMMARY, item.id, "written", item.prompt, tokens, lambda text: _worth(coverage(item, text)))


def _apart(text: str, embed: Embed) -> Worth:
    found = divergence(text, embed)
    return {"value": found.value, "reason": found.reason}


def _reply(request: Request, reader: Reader, tokens: int) -> Piece:
    def judge(text: str) -> Worth:
        (event,) = events([seen := see(request.id, text, reader, None)], "refusal")
        reason = None if event is not None else seen.why or "empty reply"
        return {"value": None if event is None else float(event), "event": event, "reason": reason}

    return Piece("refusal", request.id, "reply", request.text, tokens, judge)


def word_vectors(model: LoadedModel) -> Embed:
    """Return the undosed model's own vector of a word, whatever arm wrote it; None for a word that it does not know.

    Known is what is one token, at the beginning of a word. Whether it is a noun is not looked at. Distances are those
    of this vocabulary: they compare arms under one model, not models, nor with published values.
    """
    vectors = model.word_vectors()

    def embed(word: str) -> list[float] | None:
        token = model.encode(f" {word}")[-1]  # of a word that is split, this is its end
        if model.tokenizer.decode([token]).strip().casefold() != word or not bool(vectors[token].any()):
            return None
        return [float(value) for value in vectors[token].float().tolist()]

    return embed
