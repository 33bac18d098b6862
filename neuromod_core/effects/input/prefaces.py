"""Text put before the prompt: a preface that is seen as much as the dose says, and passages that fit the prompt."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, fsum, log
from typing import overload

from torch import Tensor

from neuromod_core.effects.base import EFFECTS, Stage, in_range
from neuromod_core.effects.input.reading import lexical, tokens_of
from neuromod_core.effects.kinds import PromptEffect, ScoreEffect
from neuromod_core.effects.subject import Place, Reader, Stream, Subject
from neuromod_core.kernel.errors import OutOfRange

PREFACE = (
    "What follows is read slowly and taken as it is. Each part is given its own weight, and nothing is in a hurry.\n"
)
PASSAGES = (
    "Rain falls when moist air rises and cools; clouds gather first over hills and along the coast.",
    "People sleep for about a third of their lives, and most dreams are forgotten within minutes of waking.",
    "Bread rises because yeast turns sugar into gas; warm dough rises faster than cold dough.",
    "A friend who listens often helps more than one who gives advice, and trust grows slowly.",
    "Memory is rebuilt each time it is used, so that two witnesses rarely tell the same story.",
    "Music changes mood through tempo and loudness, and a familiar tune brings back places and people.",
    "Cities grow along rivers and roads; their old streets follow paths that people once walked.",
    "The eye sees colour only near the centre of the field of view; the mind fills in the rest.",
)


@EFFECTS.add("structured_prefaces")
@dataclass(frozen=True, kw_only=True)
class StructuredPrefaces(PromptEffect, ScoreEffect):
    """Let a text that was never in the prompt be seen, as much as the dose says:  S'(q, k) = S(q, k) + ln d  for the
    keys k of the preface, whose tokens stand before the prompt.

    The attention odds of the preface are multiplied by d: at d = 1 it is read like any text, near 0 it is hardly there.
    It comes before what other effects put before the prompt; a pack holds at most one.
    Source: Li & Liang 2021 (prefix tuning, for the idea of keys that come before a prompt); this project.
    """

    text: str = PREFACE
    family = "input"
    site = "prompt tokens and attention scores"
    doses = (0.0, 2.0)
    stage = Stage.TRUNCATE
    observable, moves = "preface_mass", 1

    def __post_init__(self) -> None:
        if not self.text.strip():
            raise OutOfRange("structured_prefaces: text is empty; allowed is any text.")

    def check(self, subject: Subject) -> None:
        """Raise NotOnThisModel when attention is out of reach or there is no tokenizer."""
        super().check(subject)
        subject.reading()

    @overload
    def __call__(self, read: tuple[int, ...], dose: float, where: Stream, subject: Subject) -> tuple[int, ...]: ...
    @overload
    def __call__(self, read: Tensor, dose: Tensor, where: Place, subject: None = None) -> Tensor: ...
    def __call__(
        self,
        read: tuple[int, ...] | Tensor,
        dose: float | Tensor,
        where: Stream | Place,
        subject: Subject | None = None,
    ) -> tuple[int, ...] | Tensor:
        """Return a prompt with its preface (as a `PromptEffect`), or scores that see it (as a `ScoreEffect`)."""
        if isinstance(read, Tensor):
            assert isinstance(dose, Tensor)  # noqa: S101 - see the overloads
            assert isinstance(where, Place)  # noqa: S101
            return ScoreEffect.__call__(self, read, dose, where)
        assert subject is not None  # noqa: S101
        return tokens_of(subject.reading(), self.text) + read if dose else read

    def edit(self, scores: Tensor, dose: Tensor, place: Place) -> Tensor:  # type: ignore[override]
        """See `ScoreEffect.edit`; nothing else of a prompt changes than what stands before it."""
        length = len(tokens_of(place.subject.reading(), self.text))
        preface = (place.keys < length)[:, None, None, :]
        return scores + preface * dose.log()[:, None, None, None]


def relevance(reader: Reader, passages: Sequence[str], prompt: Sequence[int]) -> list[float]:
    """Return the sum of ln(passages / passages that hold it) over the words that a passage shares with a prompt."""
    ordinary = lexical(reader) > 0
    words = [{token for token in tokens_of(reader, passage) if ordinary[token]} for passage in passages]
    holders = Counter(token for found in words for token in found)
    return [fsum(log(len(passages) / holders[token]) for token in found & set(prompt)) for found in words]


@EFFECTS.add("retrieval_rate_modulation")
@dataclass(frozen=True, kw_only=True)
class RetrievalRate(PromptEffect):
    """Put passages before the prompt, as a retriever would: the  n = ceil(rate |d|)  ones most like it (d > 0), or
    the n ones least like it (d < 0: retrieval that misses).

    Likeness is the sum of ln(N / passages that hold it) over shared words, N the number of passages; ties keep their
    order, and the most extreme passage comes last, next to the prompt. `passages` are separated by "|".
    Source: Sparck Jones 1972 (inverse document frequency); retrieval in context: Lewis et al. 2020.
    """

    rate: float = 4.0
    passages: str = "|".join(PASSAGES)
    stage = Stage.SCALE
    observable, moves = "retrieved_relevance", 1

    def __post_init__(self) -> None:
        if len(self.texts) < 2 or not all(text.strip() for text in self.texts):
            raise OutOfRange("retrieval_rate_modulation: passages needs at least two texts, separated by '|'.")
        in_range(self.rate, 0.01, len(self.texts) / 2, "retrieval_rate_modulation: rate (passages)")

    @property
    def texts(self) -> tuple[str, ...]:
        """The passages, one a line."""
        return tuple(text.strip() + "\n" for text in self.passages.split("|"))

    def check(self, subject: Subject) -> None:
        """Raise NotOnThisModel without a tokenizer."""
        subject.reading()

    def edit(self, prompt: tuple[int, ...], dose: float, stream: Stream, subject: Subject) -> tuple[int, ...]:
        """See `PromptEffect.edit`."""
        reader = subject.reading()
        likeness = relevance(reader, self.texts, prompt)
        order = sorted(range(len(likeness)), key=lambda number: -likeness[number] if dose > 0 else likeness[number])
        chosen = order[: ceil(self.rate * abs(dose))]
        before = [token for number in reversed(chosen) for token in tokens_of(reader, self.texts[number])]
        return (*before, *prompt)
