"""From texts to tokens: what a cell reads, and what is scored after it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

from neuromod_core.instruments import Message, Order, Prompt, Scale, option_prefix, option_tail, statement_messages
from neuromod_core.kernel.errors import ModelError
from neuromod_core.models import LoadedModel
from neuromod_core.trial.library import Library
from neuromod_core.trial.plan import Unit

SLOT = "\x00"  # stands where the item will be while a chat template is applied
OPENING_TOKENS = 8  # of a neutral passage are read; the rest is scored
Tokens = tuple[int, ...]


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

    def statements(self, scales: Sequence[Scale]) -> list[Tokens]:
        """Return all sentences of the scales: keyed then antonym, item by item."""
        return [self.text(text) for scale in scales for item in scale.items for text in (item.keyed, item.antonym)]

    def option_prompt(self, unit: Unit, system: str | None) -> Tokens:
        """Return what all items of an option questionnaire share."""
        prompt = option_prefix(
            self.library.frames, self.context(unit), order=cast(Order, unit.option_order), system=system
        )
        return self.text(self._around(prompt)[0])

    def option_tails(self, scales: Sequence[Scale]) -> list[Tokens]:
        """Return what is one item's own: its keyed sentence, the closing instruction and the turn of the model."""
        end = self._around(Prompt(system=self.library.frames.system, user=""))[1]
        items = [item.keyed for scale in scales for item in scale.items]
        return [self.text(option_tail(self.library.frames, item) + end) for item in items]

    def option_answers(self) -> Tokens:
        """Return the token of each option digit; raise ModelError when a digit is not one token."""
        digits = [self.text(str(digit)) for digit in range(len(self.library.frames.labels))]
        if any(len(tokens) != 1 for tokens in digits):
            raise ModelError(f"{self.model.name} does not write the option digits as single tokens.")
        return tuple(tokens[0] for tokens in digits)

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
