"""Summarisation: how many of a passage's listed facts a summary says within its limit of words."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from neuromod_core.instruments.records import Record, first_repeat, read_headed_yaml
from neuromod_core.instruments.tasks.constraints import words
from neuromod_core.instruments.tasks.problem import EMPTY, Mark
from neuromod_core.instruments.texts import Text
from neuromod_core.kernel.errors import InstrumentError

TASK = "summary"
FACTS = 5


@dataclass(frozen=True)
class Fact(Text):
    """A fact of a passage. A text says it if every group of `needs` has a member that occurs as a word or phrase;
    a trailing * stands for any ending."""

    says: str
    needs: tuple[tuple[str, ...], ...]

    def said(self, text: str) -> bool:
        """Return whether `text` says it."""
        return all(any(_occurs(phrase, text) for phrase in group) for group in self.needs)


def _occurs(phrase: str, text: str) -> bool:
    ending = r"\w*" if phrase.endswith("*") else r"(?!\w)"
    return re.search(rf"(?<!\w){re.escape(phrase.rstrip('*').casefold())}{ending}", text.casefold()) is not None


@dataclass(frozen=True)
class Account(Text):
    """A passage with five facts; `limit` is how many words a summary may have, `reference` is one that says all.

    level: 1 for a generous limit, 2 for a tight one.
    """

    id: str
    level: int
    text: str
    limit: int
    facts: tuple[Fact, ...]
    reference: str

    @property
    def prompt(self) -> str:
        """Return the instruction and the passage."""
        return f"Summarise this text in at most {self.limit} words. Keep every important fact.\n\n{self.text}"


def coverage(item: Account, text: str) -> Mark:
    """Return the mark of a summary: the share of the facts that its first `limit` words say; an empty one is missing.

    What comes after the limit does not count, so that copying the whole passage earns what its beginning says.
    """
    if not text.strip():
        return Mark(item.id, TASK, item.level, None, None, EMPTY)
    counted = within(text, item.limit)
    return Mark(item.id, TASK, item.level, sum(fact.said(counted) for fact in item.facts) / len(item.facts), None)


def within(text: str, limit: int) -> str:
    """Return the beginning of a text, at most `limit` words.

    >>> within("one - two three", 2)
    'one two'
    """
    return " ".join(words(text)[:limit])


def _fact(record: Record) -> Fact:
    fact = record.only("says", "needs")
    return Fact(fact.text("says"), tuple(tuple(group.split("|")) for group in fact.texts("needs")))


def _account(record: Record) -> Account:
    entry = record.only("id", "level", "limit", "text", "facts", "reference").named()
    facts = tuple(_fact(each) for each in entry.records("facts"))
    if len(facts) != FACTS:
        raise entry.wrong(f"'facts' has {len(facts)} entries, expected {FACTS}")
    limit = int(entry.choice("limit", tuple(str(number) for number in range(20, 81))))
    level = int(entry.choice("level", ("1", "2")))
    return Account(entry.text("id"), level, entry.text("text"), limit, facts, entry.text("reference"))


def load_accounts(path: Path) -> tuple[Account, ...]:
    """Return the passages of a YAML file, in its order.

    Raises:
        InstrumentError: for an unknown, missing or repeated key, an empty text, other than five facts, a limit or level
            outside the range, or an id or text that occurs twice.
    """
    accounts = tuple(_account(entry) for entry in read_headed_yaml(path, "accounts", "passages").records("passages"))
    for what in ([each.id for each in accounts], [each.text for each in accounts]):
        if (twice := first_repeat(what)) is not None:
            raise InstrumentError(f"{path.as_posix()}: two passages are {twice!r}")
    return accounts
