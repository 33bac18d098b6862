"""From texts to tokens: what a cell reads, and what is scored after it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

from neuromod_core.instruments import (
    LABEL_SETS,
    Item,
    Labels,
    Message,
    Order,
    Prompt,
    Scale,
    Wording,
    marks,
    option_prefix,
    option_tail,
    shown,
    statement_messages,
)
from neuromod_core.kernel.errors import ModelError
from neuromod_core.models import LoadedModel
from neuromod_core.trial.library import Library
from neuromod_core.trial.plan import Unit
from neuromod_core.trial.readings import ANTONYM, CONTENT_FREE, VALIDITY

SLOT = "\x00"  # stands where the item will be while a chat template is applied
OPENING_TOKENS = 8  # of a neutral passage are read; the rest is scored
Tokens = tuple[int, ...]


@dataclass(frozen=True)
class Question:
    """One sentence that is answered by an option, and the names of its row."""

    instrument: str
    item: str
    text: str


def worded(item: Item, unit: Unit) -> Wording:
    """Return the wording of an item that a unit reads; an item of one wording has no other."""
    return item.wordings[unit.item_wording % len(item.wordings)]


@dataclass(frozen=True)
class Prompter:
    """Tokens of one model for the texts of one library."""

    model: LoadedModel
    library: Library

    def text(self, text: str) -> Tokens:
        """Return the tokens of a text as it stands."""
        return tuple(self.model.tokenizer(text, add_special_tokens=False)["input_ids"])

    def chat(self, messages: Sequence[Message]) -> str:
        """Return the chat template's text up to where the model writes."""
        turns = [{"role": message.role, "content": message.content} for message in messages]
        rendered: str = self.model.tokenizer.apply_chat_template(turns, add_generation_prompt=True, tokenize=False)
        return rendered

    def statement_prompt(self, unit: Unit, system: str | None) -> Tokens:
        """Return what stands before a keyed or antonym sentence."""
        return self.text(self.chat(statement_messages(self.library.frames, self.context(unit), system=system)))

    def statements(self, scales: Sequence[Scale], unit: Unit) -> list[Tokens]:
        """Return all sentences of the scales in the unit's wording: keyed then antonym, item by item."""
        pairs = [worded(item, unit) for scale in scales for item in scale.items]
        return [self.text(text) for pair in pairs for text in (pair.keyed, pair.antonym)]

    def questions(self, scales: Sequence[Scale], unit: Unit) -> list[Question]:
        """Return every sentence that a unit answers by an option.

        The items of the scales, keyed; the antonym of each scale's consistency item; the validity checks; and
        sentences without content.
        """
        keyed = [Question(scale.name, item.id, worded(item, unit).keyed) for scale in scales for item in scale.items]
        mirrors = [item for scale in scales if (item := scale.consistency_item) is not None]
        return [
            *keyed,
            *(Question(ANTONYM, item.id, worded(item, unit).antonym) for item in mirrors),
            *(Question(VALIDITY, check.id, check.text) for check in self.library.checks),
            *(Question(CONTENT_FREE, text, text) for text in self.library.frames.content_free),
        ]

    def option_prompt(self, unit: Unit, system: str | None) -> Tokens:
        """Return what all items of an option questionnaire share."""
        prompt = option_prefix(
            self.library.frames, self.context(unit), order=_order(unit), labels=_labels(unit), system=system
        )
        return self.text(self._around(prompt)[0])

    def option_tails(self, questions: Sequence[Question], unit: Unit) -> list[Tokens]:
        """Return what is one item's own: its sentence, the closing instruction and the turn of the model."""
        end = self._around(Prompt(system=self.library.frames.system, user=""))[1]
        return [self.text(option_tail(self.library.frames, item.text, _labels(unit)) + end) for item in questions]

    def options(self, unit: Unit) -> tuple[str, ...]:
        """Return the labels of the options in the order in which the unit reads them."""
        return shown(self.library.frames, _order(unit))

    def label_sets(self) -> tuple[Labels, ...]:
        """Return the label sets whose options this model begins differently, so that the first token tells them apart.

        Raises:
            ModelError: when there is none.
        """
        fit = tuple(labels for labels in LABEL_SETS if all(self._starts(labels, self.library.frames.labels)))
        if not fit:
            raise ModelError(f"{self.model.name} begins two options alike in every label set: {', '.join(LABEL_SETS)}.")
        return fit

    def option_forms(self, unit: Unit) -> tuple[Tokens, ...]:
        """Return, per option, the tokens with which an answer by it may begin: with and without a blank and a capital.

        A token that begins two options belongs to neither.

        Raises:
            ModelError: when an option has no token of its own.
        """
        own = self._starts(_labels(unit), self.options(unit))
        if not all(own):
            raise ModelError(f"{self.model.name} begins two options of the label set {unit.labels!r} alike.")
        return own

    def _starts(self, labels: Labels, options: Sequence[str]) -> tuple[Tokens, ...]:
        starts = [{self.text(form)[0] for form in _forms(mark)} for mark in marks(labels, options)]
        shared = {token for token, count in Counter(token for start in starts for token in start).items() if count > 1}
        return tuple(tuple(sorted(start - shared)) for start in starts)

    def option_texts(self, unit: Unit) -> tuple[Tokens, ...]:
        """Return, per option, the whole answer by it: its mark and the end of the model's turn."""
        ending = self.ending()
        return tuple((*self.text(mark), *ending) for mark in marks(_labels(unit), self.options(unit)))

    def ending(self) -> Tokens:
        """Return the token that ends the model's turn in its chat template; none where the template has none."""
        turns = [{"role": "user", "content": "."}, {"role": "assistant", "content": SLOT}]
        rendered: str = self.model.tokenizer.apply_chat_template(turns, tokenize=False)
        return self.text(rendered.partition(SLOT)[2].strip())[:1]

    def story_prompt(self, unit: Unit, system: str | None) -> Tokens:
        """Return what stands before a story."""
        opener = self.library.opener(unit.opener).text
        return self.text(self.chat([Message("system", system or self.library.frames.system), Message("user", opener)]))

    def passage(self, unit: Unit) -> tuple[Tokens, Tokens]:
        """Return the opening and the rest of the unit's neutral passage."""
        tokens = self.text(self.library.passage(unit.passage).text)
        return tokens[:OPENING_TOKENS], tokens[OPENING_TOKENS:]

    def context(self, unit: Unit) -> str:
        """Return the unit's vignette in its wording."""
        return self.library.vignette(unit.vignette).paraphrases[unit.paraphrase]

    def _around(self, prompt: Prompt) -> tuple[str, str]:
        before, _, after = self.chat(prompt.messages(SLOT)).partition(SLOT)
        return before, after


def _order(unit: Unit) -> Order:
    return cast(Order, unit.option_order)


def _labels(unit: Unit) -> Labels:
    return cast(Labels, unit.labels)


def _forms(mark: str) -> tuple[str, ...]:
    return mark, f" {mark}", mark.capitalize(), f" {mark.capitalize()}"
