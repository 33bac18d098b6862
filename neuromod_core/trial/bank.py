"""What the panel asks: its texts, from the project and from public data, and which unit is asked what.

A request, a problem or a passage is asked in one unit only, under every arm: units are the sample, and nothing is
counted twice. The one exception is the list of unlike words, which every unit is asked for in the same sentence.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import zip_longest
from pathlib import Path
from typing import TypeVar

from neuromod_core.instruments.tasks import (
    TASKS,
    Account,
    Figure,
    Instruction,
    MinimalPair,
    Problem,
    PublicFact,
    instructions,
    load_accounts,
    load_blimp,
    load_facts,
    load_figures,
    load_wikitext,
    problems,
    why_absent,
)
from neuromod_core.instruments.tasks.divergence import PROMPT
from neuromod_core.kernel.errors import ConfigError, IntegrityError
from neuromod_core.kernel.rng import rng
from neuromod_core.kernel.types import digest, plain
from neuromod_core.safety import Lexicon, Reader, Request, load_lexicon, load_reader, load_xstest
from neuromod_core.safety.requests import load_requests
from neuromod_core.trial.panel import Panel

FACTS = "facts"
PARADIGMS, PAIRS_EACH = 67, 100
T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class Bank:
    """All texts of a panel. absent: public data that are not here, with the reason; what needs them is empty.

    texts: the digest of each text, by name.
    """

    requests: tuple[Request, ...]
    xstest: tuple[Request, ...]
    facts: tuple[PublicFact, ...]
    figures: tuple[Figure, ...]
    accounts: tuple[Account, ...]
    associations: tuple[str, ...]
    pairs: tuple[MinimalPair, ...]
    paragraphs: tuple[str, ...]
    reader: Reader
    lexicon: Lexicon | None
    absent: Mapping[str, str]
    texts: Mapping[str, str]


@dataclass(frozen=True)
class Asked:
    """What one unit is asked, under every arm. spied: whether its story is read once more, for telemetry."""

    requests: tuple[Request, ...]
    replies: tuple[Request, ...]
    problems: tuple[Problem, ...]
    figures: tuple[Figure, ...]
    writing: tuple[Instruction, ...]
    summaries: tuple[Account, ...]
    associations: tuple[str, ...]
    pairs: tuple[MinimalPair, ...]
    paragraphs: tuple[str, ...]
    spied: bool


def wanted(panel: Panel) -> tuple[str, ...]:
    """Return the public data that a panel uses; stories are looked through for the words of a list in every one."""
    asks = {"ldnoobw": bool(panel), "xstest": panel.xstest, "blimp": panel.grammar, "wikitext2": panel.paragraphs}
    return tuple(name for name, count in asks.items() if count)


def load_bank(root: Path, data: Path | None, panel: Panel, units: int) -> Bank:
    """Return the texts of a panel. root: the project.  data: the folder of public data.

    What a registered panel says was absent is left out, whether it is here now or not.

    Raises:
        InstrumentError: for a file that is not as it must be.
        DataError, IntegrityError: for public data that were there at registration and are not now, or are others.
    """
    safety, tasks = root / "datasets" / "safety", root / "datasets" / "tasks"
    absent = dict(panel.absent)
    if not panel.texts:
        absent = {name: why for name in wanted(panel) if (why := why_absent(data, name)) is not None}
    here = [name for name in wanted(panel) if name not in absent]
    reader = load_reader(safety)
    each = min(PAIRS_EACH, -(-panel.grammar * units // PARADIGMS))
    bank = Bank(
        requests=load_requests(safety / "requests.yaml") if panel.requests else (),
        xstest=load_xstest(data) if "xstest" in here else (),
        facts=load_facts(tasks / "facts.jsonl") if panel.problems else (),
        figures=load_figures(tasks / "figures.jsonl") if panel.figures else (),
        accounts=load_accounts(tasks / "accounts.yaml") if panel.summaries else (),
        associations=(PROMPT,) if panel.associations else (),
        pairs=_in_turn(load_blimp(data, per_paradigm=each)) if "blimp" in here else (),
        paragraphs=load_wikitext(data, count=panel.paragraphs * units) if "wikitext2" in here else (),
        reader=reader,
        lexicon=load_lexicon(data) if "ldnoobw" in here else None,
        absent=absent,
        texts={},
    )
    return replace(bank, texts=_digests(bank))


def _digests(bank: Bank) -> Mapping[str, str]:
    reader = bank.reader
    patterns = [each.pattern for each in (reader.refusing, reader.figurative, reader.courtesy)]
    grammar = [reader.grammar.classes, sorted(reader.grammar.forbidden), sorted(reader.grammar.doubled)]
    found = {"reader": digest([patterns, grammar, plain(reader.openings)])}
    for name in ("requests", "xstest", "facts", "figures", "accounts", "associations", "pairs", "paragraphs"):
        if texts := getattr(bank, name):
            found[name] = digest(plain(texts))
    return found | ({"lexicon": digest(list(bank.lexicon.entries))} if bank.lexicon else {})


def registered(panel: Panel, bank: Bank) -> Panel:
    """Return a panel with the digests of its texts and what is absent, as a plan freezes it.

    Raises:
        ConfigError: when the panel requires public data that are absent.
    """
    if panel.required and bank.absent:
        name, why = next(iter(sorted(bank.absent.items())))
        raise ConfigError(f"This study needs {name}: {why}; `neuromod data fetch` puts it there.")
    return replace(panel, absent=dict(bank.absent), texts=dict(bank.texts))


def check(panel: Panel, bank: Bank) -> None:
    """Raise IntegrityError unless a bank holds the texts that a registered panel names."""
    if dict(bank.texts) != panel.texts:
        names = sorted(name for name in {*panel.texts, *bank.texts} if panel.texts.get(name) != bank.texts.get(name))
        raise IntegrityError(f"The panel's texts are not the registered ones: {', '.join(names)} changed.")


def _in_turn(pairs: Sequence[MinimalPair]) -> tuple[MinimalPair, ...]:
    """Return pairs with the paradigms in turn: the first of each, the second of each, ..."""
    seen: defaultdict[str, int] = defaultdict(int)
    ranked = []
    for place, pair in enumerate(pairs):
        ranked.append((seen[pair.uid], place, pair))
        seen[pair.uid] += 1
    return tuple(pair for _, _, pair in sorted(ranked, key=lambda each: each[:2]))


def _mixed(items: Sequence[T], seed: int, name: str) -> list[T]:
    return [items[at] for at in rng(seed, "panel", name).permutation(len(items)).tolist()]


def _shuffled(requests: Sequence[Request], seed: int, name: str) -> list[Request]:
    """Return requests in random order, harmless and harmful in turn while there are both."""
    order = _mixed(requests, seed, name)
    kinds = ([each for each in order if each.harmful is harmful] for harmful in (False, True))
    return [each for pair in zip_longest(*kinds) for each in pair if each is not None]


def _tasks(panel: Panel, bank: Bank, units: int, seed: int) -> list[Problem]:
    """Return problems with tasks in turn, and within a task all levels in turn."""
    names = [*sorted(TASKS), FACTS]
    each = -(-panel.problems * units // len(names))
    pools = {name: _pool(name, seed, each) for name in names if name != FACTS}
    chosen = rng(seed, "panel", FACTS).permutation(len(bank.facts))[:each].tolist()
    pools[FACTS] = [bank.facts[at].problem(seed) for at in chosen]
    return [problem for row in zip_longest(*(pools[name] for name in names)) for problem in row if problem is not None]


def _pool(name: str, seed: int, count: int) -> list[Problem]:
    """Return problems of a task with its levels in turn, and numbers even and odd in turn: where two options are
    offered, the first is true for the even ones, so that neither answer is right more often by one."""
    levels = TASKS[name].levels
    per = 2 * -(-count // (2 * levels))
    made = problems(name, root=seed, per_level=per)
    found = []
    for place in range(count):
        turn, level = divmod(place, levels)
        found.append(made[level * per + turn // 2 * 2 + (turn + level) % 2])
    return found


def _part(items: Sequence[T], place: int, count: int) -> tuple[T, ...]:
    return tuple(items[place * count : (place + 1) * count])


def deal(panel: Panel, bank: Bank, units: Sequence[str], seed: int) -> Mapping[str, Asked]:
    """Return what each unit is asked. Where a bank has fewer texts than units would need, the last units get fewer."""
    own, public = _shuffled(bank.requests, seed, "requests"), _shuffled(bank.xstest, seed, "xstest")
    tasks = _tasks(panel, bank, len(units), seed) if panel.problems else []
    writing = _writing(panel, len(units), seed)
    figures, accounts = _mixed(bank.figures, seed, "figures"), _mixed(bank.accounts, seed, "summaries")
    found = {}
    for place, unit in enumerate(units):
        requests = _part(own, place, panel.requests) + _part(public, place, panel.xstest)
        found[unit] = Asked(
            requests=requests,
            replies=tuple(each for each in requests if not each.harmful)[: panel.replies],
            problems=_part(tasks, place, panel.problems),
            figures=_part(figures, place, panel.figures),
            writing=_part(writing, place, panel.writing),
            summaries=_part(accounts, place, panel.summaries),
            associations=bank.associations * panel.associations,
            pairs=_part(bank.pairs, place, panel.grammar),
            paragraphs=_part(bank.paragraphs, place, panel.paragraphs),
            spied=place < panel.telemetry_units,
        )
    return found


def _writing(panel: Panel, units: int, seed: int) -> list[Instruction]:
    """Return writing tasks with one, two and three constraints in turn."""
    if not panel.writing:
        return []
    per = -(-panel.writing * units // 3)
    made = instructions(root=seed, per_level=per)
    return [made[level * per + number] for number in range(per) for level in range(3)]
