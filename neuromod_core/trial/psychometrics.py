"""What a scale is asked of a model for its psychometrics: contexts x wordings x repeats, undosed, told and dosed.

Contexts are vignettes; where answers to a state or a pack are read, pilot vignettes only, which no study uses. This
module gives numbers, and no judgement: `scale_card` makes statistics of them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from neuromod_core.effects import Stream, Subject
from neuromod_core.engine import Row, Session, choose, score
from neuromod_core.instruments import (
    ORDERS,
    Prompt,
    Scale,
    Vignette,
    marks,
    option_prefix,
    option_tail,
    shown,
    statement_messages,
)
from neuromod_core.kernel.errors import ModelError, OutOfRange
from neuromod_core.kernel.types import Json, plain
from neuromod_core.packs import Pack
from neuromod_core.trial.control import UNDOSED
from neuromod_core.trial.prompts import SLOT, Prompter, Tokens

Array = NDArray[np.float64]
STAGES = ("undosed", "again", "state", "packs", "options")


@dataclass(frozen=True)
class Scope:
    """How much is asked of a model.

    units: contexts.  dosed_units: of these, how many are read again, in the instructed state and under packs.
    option_units: of these, how many are read by options, in both orders.  seeds: readings under every pack.
    batch: texts in one forward pass.
    """

    units: int = 24
    dosed_units: int = 8
    option_units: int = 3
    seeds: int = 2
    batch: int = 96

    @staticmethod
    def of(units: int) -> Scope:
        """Return the scope of so many contexts, the other numbers being their defaults where they are not more."""
        usual = Scope()
        return Scope(units, min(usual.dosed_units, units), min(usual.option_units, units))

    def __post_init__(self) -> None:
        for name, low, high in (
            ("units", 3, 150),
            ("dosed_units", 3, self.units),
            ("option_units", 0, self.units),
            ("seeds", 2, 100),
            ("batch", 1, 100_000),
        ):
            if not low <= getattr(self, name) <= high:
                raise OutOfRange(f"{name} is {getattr(self, name)}; allowed is {low} to {high}.")


@dataclass(frozen=True, eq=False)
class Desk:
    """Where scales are asked: a model under the engine, what packs need of it, its prompts, and the contexts."""

    session: Session
    subject: Subject
    prompter: Prompter
    scope: Scope

    @property
    def contexts(self) -> tuple[Vignette, ...]:
        """The vignettes, the pilot ones first: those that no study uses."""
        known = sorted(self.prompter.library.vignettes, key=lambda vignette: vignette.split != "pilot")
        pilots = sum(vignette.split == "pilot" for vignette in known)
        for name, there in (("units", len(known)), ("dosed_units", pilots), ("option_units", pilots)):
            if getattr(self.scope, name) > there:
                raise OutOfRange(f"{name} is {getattr(self.scope, name)}; {there} such vignettes are written.")
        return tuple(known[: self.scope.units])


@dataclass(frozen=True, eq=False)
class Answers:
    """The readings of one scale on one model, in nats. Last axis of likelihoods: keyed, antonym.

    undosed (units, wordings, items, 2).  again (dosed units, items, 2): the main wording once more, in another batch.
    state: the same under the instructed state of the scale, None where none is written.
    packs (packs, seeds, dosed units, items, 2).
    options (option units, orders, items, keyed and antonym, options): log-probabilities of the option digits.
    """

    undosed: Array
    again: Array
    state: Array | None
    packs: Array
    options: Array

    @property
    def contrasts(self) -> Array:
        """Keyed minus antonym, undosed: (units, wordings, items)."""
        return _contrast(self.undosed)

    @property
    def scores(self) -> Array:
        """The scale scores, undosed: (units, wordings), nats per pair."""
        return np.asarray(self.contrasts.mean(axis=-1))

    @property
    def state_change(self) -> Array | None:
        """Contrast in the instructed state minus undosed contrast: (dosed units, items)."""
        return None if self.state is None else _contrast(self.state) - self.contrasts[: len(self.state), 0]

    @property
    def pack_change(self) -> Array:
        """Contrast under each pack minus undosed contrast: (packs, seeds, dosed units, items)."""
        return _contrast(self.packs) - self.contrasts[: self.again.shape[0], 0]

    def parts(self) -> Mapping[str, Array]:
        """Return the arrays by name."""
        arrays = {name: getattr(self, name) for name in STAGES}
        return {name: array for name, array in arrays.items() if array is not None}

    @staticmethod
    def of(parts: Mapping[str, NDArray[np.float32] | Array]) -> Answers:
        """Return the answers that `parts` gave."""
        held = {name: np.asarray(parts[name], dtype=np.float64) for name in STAGES if name in parts}
        return Answers(held["undosed"], held["again"], held.get("state"), held["packs"], held["options"])


def _contrast(likelihoods: Array) -> Array:
    return np.asarray(likelihoods[..., 0] - likelihoods[..., 1])


def asked(desk: Desk, scale: Scale, packs: Sequence[Pack], calibration: str) -> Json:
    """Return all that the answers to a scale depend on, in canonical form."""
    frames, model = desk.prompter.library.frames, desk.session.model
    doses = [[pack.name, pack.fingerprint] for pack in packs]
    key = [frames.system, frames.question, _state(desk, scale), list(frames.labels), frames.lead_in]
    around = [*key, plain(frames.label_set("digits"))]
    texts = [plain(scale), around, [plain(context) for context in desk.contexts]]
    return ["answers", 1, model.fingerprint, calibration if packs else "none", plain(desk.scope), doses, texts]


def administer_scale(
    desk: Desk, scale: Scale, packs: Sequence[Pack], tick: Callable[[str], None] = lambda _: None
) -> Answers:
    """Return the answers to a scale; `tick` is told which part is finished.

    packs: single packs at their doses.
    """
    few = desk.contexts[: desk.scope.dosed_units]
    main = _sentences(desk.prompter, scale, 1)
    whole = _sentences(desk.prompter, scale, _wordings(scale))
    undosed = _read(desk, _rows(desk, desk.contexts), whole)
    tick("undosed")
    again = _read(desk, _rows(desk, few[::-1]), main)[::-1]
    tick("again")
    state = _state(desk, scale)
    told = None if state is None else _read(desk, _rows(desk, few, system=state), main)
    tick("state")
    dosed = [row for pack in packs for seed in range(desk.scope.seeds) for row in _rows(desk, few, pack, seed)]
    under = _read(desk, dosed, main) if dosed else np.zeros((0, len(main)))
    tick("packs")
    chosen = _options(desk, scale, desk.contexts[: desk.scope.option_units])
    tick("options")
    items = len(scale.items)
    return Answers(
        undosed.reshape(len(desk.contexts), _wordings(scale), items, 2),
        again.reshape(len(few), items, 2),
        None if told is None else told.reshape(len(few), items, 2),
        under.reshape(len(packs), desk.scope.seeds, len(few), items, 2),
        chosen,
    )


def _wordings(scale: Scale) -> int:
    return min(len(item.wordings) for item in scale.items)


def _state(desk: Desk, scale: Scale) -> str | None:
    """Return the instructed state under which the scale has to rise, None where none is written."""
    states = {state.scale: state.system for state in desk.prompter.library.frames.states}
    return states.get(scale.name)


def _sentences(prompter: Prompter, scale: Scale, wordings: int) -> list[Tokens]:
    """Return the sentences: wording by wording, item by item, keyed then antonym."""
    pairs = [item.wordings[number] for number in range(wordings) for item in scale.items]
    return [prompter.text(text) for pair in pairs for text in (pair.keyed, pair.antonym)]


def _text(desk: Desk, context: Vignette) -> str:
    """Return a context in one of its paraphrases, dealt in turn."""
    return context.paraphrases[desk.contexts.index(context) % len(context.paraphrases)]


def _rows(
    desk: Desk, contexts: Sequence[Vignette], pack: Pack = UNDOSED, seed: int = 0, system: str | None = None
) -> list[Row]:
    prompter, rows = desk.prompter, []
    for context in contexts:
        turns = statement_messages(prompter.library.frames, _text(desk, context), system=system or pack.system)
        rows.append(Row(prompter.text(prompter.chat(turns)), pack, Stream(seed, context.id)))
    return rows


def _read(desk: Desk, rows: Sequence[Row], sentences: Sequence[Tokens]) -> Array:
    """Return the raw log-likelihoods of sentences, (rows, sentences)."""
    read = score(desk.session, rows, sentences, desk.subject, batch=desk.scope.batch)
    return np.array([[one.raw for one in line] for line in read], dtype=np.float64)


def _options(desk: Desk, scale: Scale, contexts: Sequence[Vignette]) -> Array:
    """Return log-probabilities of the option digits, (units, orders, items, 2, options)."""
    prompter, frames = desk.prompter, desk.prompter.library.frames
    answers = _digits(prompter)
    sentences = [text for item in scale.items for text in (item.keyed, item.antonym)]
    end = _around(prompter, Prompt(frames.system, ""))[1]
    tails = [prompter.text(option_tail(frames, text) + end) for text in sentences]
    rows = [
        Row(prompter.text(_around(prompter, prompt)[0]), UNDOSED, Stream(0, context.id))
        for context in contexts
        for prompt in (option_prefix(frames, _text(desk, context), order=order) for order in ORDERS)
    ]
    shape = (len(contexts), len(ORDERS), len(scale.items), 2, len(answers))
    if not rows:
        return np.zeros(shape)
    read = choose(desk.session, rows, tails, answers, desk.subject, batch=desk.scope.batch)
    return np.array([[one.raw for one in line] for line in read], dtype=np.float64).reshape(shape)


def _digits(prompter: Prompter) -> Tokens:
    """Return the token of each option digit; raise ModelError when a digit is not one token."""
    digits = marks("digits", shown(prompter.library.frames, ORDERS[0]))
    tokens = [prompter.text(digit) for digit in digits]
    if any(len(each) != 1 for each in tokens):
        raise ModelError(f"{prompter.model.name} does not write the option digits as single tokens.")
    return tuple(each[0] for each in tokens)


def _around(prompter: Prompter, prompt: Prompt) -> tuple[str, str]:
    before, _, after = prompter.chat(prompt.messages(SLOT)).partition(SLOT)
    return before, after
