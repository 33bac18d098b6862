"""What a participant reads, as frozen values: items and scales, contexts, frames, story openers, neutral passages.

A value is trusted once it exists: the checks are in `load`. Every value has a fingerprint, so that a registration can
freeze the very words that were used.
"""

from __future__ import annotations

from dataclasses import dataclass

from neuromod_core.kernel.register import unknown
from neuromod_core.kernel.types import digest


@dataclass(frozen=True)
class Text:
    """Base of all shipped texts."""

    @property
    def fingerprint(self) -> str:
        """Return the SHA-256 of the canonical form of this value: 64 hex digits."""
        return digest(self)


@dataclass(frozen=True)
class Item(Text):
    """One pair of sentences about the present moment.

    `keyed` states the experience, `antonym` the ordinary or opposite case, at the same length (within two words) and in
    the same syntax, so that length and base rate cancel in the difference of their log-likelihoods.
    """

    id: str
    subscale: str
    keyed: str
    antonym: str


@dataclass(frozen=True)
class Subscale(Text):
    """A group of items of one scale, and what it is about."""

    name: str
    label: str


@dataclass(frozen=True)
class Scale(Text):
    """An instrument: items in order, each in one subscale. A study-specific index, without norms from people."""

    name: str
    title: str
    version: str
    subscales: tuple[Subscale, ...]
    items: tuple[Item, ...]

    def positions(self, subscale: str) -> tuple[int, ...]:
        """Return the indices of the items of `subscale` in `items`.

        Raises:
            UnknownName: if the scale has no such subscale.
        """
        names = [each.name for each in self.subscales]
        if subscale not in names:
            raise unknown("subscale", subscale, names, where=self.name)
        return tuple(index for index, item in enumerate(self.items) if item.subscale == subscale)


@dataclass(frozen=True)
class Vignette(Text):
    """An everyday context: one unit of the design. Its paraphrases say the same and are a balanced nuisance factor."""

    id: str
    topic: str
    split: str
    paraphrases: tuple[str, ...]


@dataclass(frozen=True)
class State(Text):
    """A system text that instructs a state: the positive control of the scale it names (None: of no scale)."""

    id: str
    scale: str | None
    system: str


@dataclass(frozen=True)
class Frames(Text):
    """The words around an item. `labels` name the option levels from lowest to highest."""

    system: str
    question: str
    instruction: str
    labels: tuple[str, ...]
    lead_in: str
    closing: str
    states: tuple[State, ...]
    persona: str

    def state(self, name: str) -> State:
        """Return the instructed state called `name`.

        Raises:
            UnknownName: if there is none.
        """
        for state in self.states:
            if state.id == name:
                return state
        raise unknown("state", name, [state.id for state in self.states])

    def control_of(self, scale: str) -> State:
        """Return the instructed state under which `scale` has to rise.

        Raises:
            UnknownName: if no state is the positive control of that scale.
        """
        for state in self.states:
            if state.scale == scale:
                return state
        raise unknown("scale with a positive control", scale, [state.scale for state in self.states if state.scale])


@dataclass(frozen=True)
class Opener(Text):
    """An instruction to continue a story."""

    id: str
    text: str


@dataclass(frozen=True)
class Passage(Text):
    """A neutral paragraph of facts, to measure perplexity or residual norms on."""

    id: str
    topic: str
    split: str
    text: str
