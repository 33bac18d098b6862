"""What a participant reads, as frozen values: items, scales, checks, contexts, frames, openers, neutral passages.

A value is trusted once it exists: the checks are in `load`. Every value has a fingerprint, so that a registration can
freeze the very words that were used.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

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
class Wording(Text):
    """One way to put an item.

    `keyed` states the experience, `antonym` the ordinary or opposite case, at the same length (within two words) and in
    the same syntax, so that length and base rate cancel in the difference of their log-likelihoods.
    """

    keyed: str
    antonym: str


@dataclass(frozen=True)
class Item(Text):
    """One pair of sentences, `keyed` and `antonym` (see `Wording`), and other wordings of the same pair."""

    id: str
    subscale: str
    keyed: str
    antonym: str
    paraphrases: tuple[Wording, ...] = ()

    @property
    def wordings(self) -> tuple[Wording, ...]:
        """Return every wording of this item, the main one first."""
        return (Wording(self.keyed, self.antonym), *self.paraphrases)


@dataclass(frozen=True)
class Subscale(Text):
    """A group of items of one scale, and what it is about."""

    name: str
    label: str


@dataclass(frozen=True)
class Source(Text):
    """Where adopted sentences come from; `own` names those worded here instead, as `<item id> keyed` or `antonym`."""

    text: str
    citation: str
    own: tuple[str, ...]


@dataclass(frozen=True)
class Scale(Text):
    """An instrument: items in order, each in one subscale. A study-specific index, without norms from people.

    `consistency` is the id of the item whose wordings check each other, None in a scale of adopted sentences; `source`
    is theirs, None in a scale worded here.
    """

    name: str
    title: str
    version: str
    subscales: tuple[Subscale, ...]
    items: tuple[Item, ...]
    consistency: str | None = None
    source: Source | None = None

    def positions(self, subscale: str) -> tuple[int, ...]:
        """Return the indices of the items of `subscale` in `items`.

        Raises:
            UnknownName: if the scale has no such subscale.
        """
        names = [each.name for each in self.subscales]
        if subscale not in names:
            raise unknown("subscale", subscale, names, where=self.name)
        return tuple(index for index, item in enumerate(self.items) if item.subscale == subscale)

    def short(self, count: int) -> Scale:
        """Return a short form of `count` items, spread evenly over the scale; it keeps the item `consistency`.

        The item takes the place of the chosen one that is nearest to it.
        """
        last = len(self.items) - 1
        if count > last:
            return self
        chosen = {round(place * last / max(1, count - 1)) for place in range(count)}
        kept = next((place for place, item in enumerate(self.items) if item.id == self.consistency), None)
        if kept is not None and kept not in chosen:
            chosen.remove(min(chosen, key=lambda place: (abs(place - kept), place)))
            chosen.add(kept)
        return replace(self, items=tuple(item for place, item in enumerate(self.items) if place in chosen))

    @property
    def consistency_item(self) -> Item | None:
        """Return the item called `consistency`; None if the scale declares none or a short form leaves it out."""
        return next((item for item in self.items if item.id == self.consistency), None)


@dataclass(frozen=True)
class Check(Text):
    """A sentence that everyone who reads it answers alike.

    `kind` is `infrequency` (true of anyone, or of nobody) or `instructed` (the sentence says how to answer it).
    `expected` are the labels of the option key that count as right.
    """

    id: str
    kind: str
    text: str
    expected: tuple[str, ...]

    def levels(self, labels: tuple[str, ...]) -> tuple[int, ...]:
        """Return the expected answers as levels (0 = lowest) of an option key with these `labels`.

        Raises:
            UnknownName: if an expected label is not one of them.
        """
        for label in self.expected:
            if label not in labels:
                raise unknown("option label", label, list(labels), where=self.id)
        return tuple(labels.index(label) for label in self.expected)


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
class LabelSet(Text):
    """How the options of a key are marked (digits, letters or words), and the two sentences that ask for a mark."""

    name: str
    instruction: str
    closing: str


@dataclass(frozen=True)
class Frames(Text):
    """The words around an item. `labels` name the option levels from lowest to highest.

    `content_free` are stand-ins for a sentence that say nothing: how options are answered after them is bias alone.
    """

    system: str
    question: str
    labels: tuple[str, ...]
    lead_in: str
    label_sets: tuple[LabelSet, ...]
    content_free: tuple[str, ...]
    states: tuple[State, ...]
    persona: str

    def label_set(self, name: str) -> LabelSet:
        """Return the label set called `name`.

        Raises:
            UnknownName: if there is none.
        """
        for each in self.label_sets:
            if each.name == name:
                return each
        raise unknown("label set", name, [each.name for each in self.label_sets])

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
