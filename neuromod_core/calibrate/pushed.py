"""Public steering sets as a yardstick: a vector from a set's training half, pushed along on its held-out questions.

A vector is the mean difference of states at the answer's token, matching answer minus the other. Of a unit's askings
k = 1, 2 (`behaviours`), with  y_k = log P(first answer) - log P(second)  pushed minus undosed,

    content = (y_1 - y_2) / 2        shift of the log-odds of the matching answer, nats
    letter  = (y_1 + y_2) / 2        shift towards the first answer whatever it says, nats

so that a taste for a letter, which A/B scores are known to mix in, cannot pass for content. The vector is pushed along
at plus and at minus its KL unit, beside random and label-shuffled directions each at its own, and beside an instruction
in words: all rows of one batch. Directions are added at every token of question and answer.
Sources: Rimsky et al. 2024 (CAA); Tan et al. 2024 (letter bias, moves the wrong way).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from neuromod_core.calibrate.activations import mean_and_last, streams
from neuromod_core.calibrate.behaviours import Behaviour, Form, Question
from neuromod_core.calibrate.dose import kl_units
from neuromod_core.calibrate.methods import Array, mean_difference, unit
from neuromod_core.calibrate.validate import layer_profile, products
from neuromod_core.calibrate.vectors import middle, shuffled
from neuromod_core.effects import Stream, Subject, Vector
from neuromod_core.effects.steering.add import Steering
from neuromod_core.engine import Row, Session, choose
from neuromod_core.engine.generate import UNDOSED
from neuromod_core.kernel.errors import CalibrationError
from neuromod_core.kernel.rng import rng
from neuromod_core.models import LoadedModel
from neuromod_core.packs import Dosed, Pack
from neuromod_core.stats import bootstrap_t

METHOD, FOLDS = 1, 8  # raise METHOD when the numbers change
SHAMS = 10  # random directions, and as many label-shuffled ones


@dataclass(frozen=True)
class Turn:
    """A question in a model's chat template: head, the user's words with `tail`, `lead`, then one of `answers`, the
    tokens at which the form's two answers part."""

    head: tuple[int, ...]
    tail: str
    lead: tuple[int, ...]
    answers: tuple[int, int]

    def asks(self, model: LoadedModel, text: str) -> tuple[int, ...]:
        """Return the tokens after the head, up to the answer's."""
        return model.encode(text + self.tail) + self.lead


def turn(model: LoadedModel, form: Form) -> Turn:
    """Return how a model is asked; raise CalibrationError where its tokens do not part the two answers."""
    asked = [{"role": "user", "content": (mark := "QUESTION")}]
    parts = model.tokenizer.apply_chat_template(asked, add_generation_prompt=True, tokenize=False).split(mark)
    if len(parts) != 2:
        raise CalibrationError(f"The chat template of {model.name} gives the user's words {len(parts) - 1} times.")
    first, second = (model.encode(answer) for answer in form.answers)
    if (at := next((at for at, (a, b) in enumerate(zip(first, second, strict=False)) if a != b), None)) is None:
        raise CalibrationError(f"The tokens of {model.name} do not part {' and '.join(form.answers)}.")
    return Turn(model.encode(parts[0]), parts[1], first[:at], (first[at], second[at]))


def observed(model: LoadedModel, how: Turn, questions: Sequence[Question]) -> Array:
    """Return states (questions, 2, layers, width) at the answer's token: of the matching answer, then of the other."""
    texts = [
        (*how.head, *how.asks(model, one.text), how.answers[answer])
        for one in questions
        for answer in (one.matching, 1 - one.matching)
    ]
    last = streams(model, texts, mean_and_last(0))[:, :, 1].numpy().astype(np.float64)
    return np.reshape(last, (len(questions), 2, *last.shape[1:]))


@dataclass(frozen=True, eq=False)
class Learned:
    """A vector (width,) at the layer of largest cross-validated d', and label-shuffled ones (draws, width) there."""

    layer: int
    separation: float
    vector: Array
    shuffled: Array


def learn(states: Array, name: str) -> Learned:
    """Return the mean-difference vector of states (pairs, 2, layers, width) of every layer of the model.

    The pairs alternate in which answer matches. The mean state of either answer is taken away first: it says what was
    answered, not what matches; the vector stays as it is, and d' and shuffled shams no longer rest on letters. The
    layer is the one of largest d', every eighth of the pairs being judged by the vector of the others. No held-out
    question is seen; d' at the chosen layer is the largest of several and flatters a little.
    """
    within, states = middle(states.shape[2]), states.copy()
    states[1::2] = states[1::2, ::-1]  # by answer
    states -= states.mean(0)
    states[1::2] = states[1::2, ::-1]  # by what matches again
    folds = (np.arange(len(states)) // 2) % FOLDS  # two in turn, so that both answers match in every fold
    profile = layer_profile(products(states[:, :, within], folds))
    layer = within.start + int(profile.argmax())
    here = states[:, :, layer]
    shams = shuffled(here[:, 0] - here[:, 1], f"behaviour {name}")[:SHAMS]
    return Learned(layer, float(profile.max()), mean_difference(here), shams)


def arms(
    session: Session, learned: Learned, name: str, neutral: Sequence[Sequence[int]], subject: Subject
) -> tuple[list[Pack], Subject]:
    """Return packs at their KL units, "up" and "down" first, and a subject that has their directions. A sham that
    cannot change the next token by 1 nat in its range is missing; CalibrationError is raised when the vector cannot."""
    random = unit(rng(0, "random behaviour", name).standard_normal((SHAMS, len(learned.vector))))
    directions = {"up": learned.vector, "down": learned.vector}
    directions |= {f"random{at:02d}": row for at, row in enumerate(random)}
    directions |= {f"shuffled{at:02d}": row for at, row in enumerate(learned.shuffled)}
    norm = subject.stream_norm(learned.layer)
    vectors = {
        key: Vector(key, learned.layer, torch.from_numpy(row.astype(np.float32)), norm, valid=True)
        for key, row in directions.items()
    }
    equipped = replace(subject, vectors=vectors)
    effects = {key: Steering(steering_type=key, relative=1.0) for key in directions}
    doses = [Dosed("steering", effect, -1.0 if key == "down" else 1.0) for key, effect in effects.items()]
    whole = [Pack(key, "a direction", "control", (dose,)) for key, dose in zip(directions, doses, strict=True)]
    found = kl_units(session, whole, neutral, equipped)
    packs = [pack.scaled(one.factor) for pack, one in zip(whole, found, strict=True) if one is not None]
    if [pack.name for pack in packs[:2]] != ["up", "down"]:
        raise CalibrationError(f"The vector of {name!r} cannot change the next token by 1 nat in its range.")
    return packs, equipped


def odds(session: Session, behaviour: Behaviour, how: Turn, rows: Sequence[Row], subject: Subject) -> Array:
    """Return log P(first answer) - log P(second) in nats, (rows, units, 2); rows read all questions in one batch."""
    asked = [how.asks(session.model, one.text) for pair in behaviour.test for one in pair]
    raw = np.array([[one.raw for one in line] for line in choose(session, rows, asked, how.answers, subject)])
    return np.reshape(raw[..., 0] - raw[..., 1], (len(rows), -1, 2))


def contents(odds: Array) -> tuple[Array, Array]:
    """Return content and letter shifts, (rows - 1, units) each, of odds (rows, units, 2) against their first row."""
    moved = odds[1:] - odds[0]
    return (moved[..., 0] - moved[..., 1]) / 2, (moved[..., 0] + moved[..., 1]) / 2


@dataclass(frozen=True)
class Shift:
    """What an arm did, in nats per question: content with its 95 % bootstrap-t interval over units, the share of units
    that moved against the arm's sign, and the mean shift towards the first answer, whatever it says."""

    mean: float
    low: float
    high: float
    wrong_way: float
    letter: float


@dataclass(frozen=True)
class Outcome:
    """What a behaviour's vector does to held-out questions.

    separation: cross-validated d' of the training pairs at `layer`.  up_dose, down_dose: KL units as shares of the
    residual norm.  undosed: mean log-odds of the matching answer before.  shams: content of every sham.
    pvalue: share of shams, the vector counted among them, that move content up as far (Phipson & Smyth 2010).
    """

    name: str
    form: str
    pairs: int
    units: int
    left_out: int
    layer: int
    separation: float
    up_dose: float
    down_dose: float
    undosed: float
    up: Shift
    down: Shift
    prompted: Shift
    shams: Mapping[str, float]
    pvalue: float


def shift(content: Array, letter: Array, sign: int, *names: str) -> Shift:
    """Return the summary of one arm's content and letter shifts, (units,) each; sign: which way it should move. Raise
    DataError for fewer than two units, or units that all move alike."""
    low, high, _ = bootstrap_t(content, generator=rng(0, "behaviour bootstrap", *names)).ci or (np.nan, np.nan, 0)
    return Shift(float(content.mean()), low, high, float((sign * content < 0).mean()), float(letter.mean()))


def outcome(
    session: Session,
    behaviour: Behaviour,
    instruction: str,
    neutral: Sequence[Sequence[int]],
    subject: Subject,
    tick: Callable[[str], None],
) -> Outcome:
    """Learn a behaviour's vector, match all arms in loudness, ask the held-out questions.

    instruction: what the prompt-only arm is told before a question.  neutral: texts on which doses are matched.
    subject: the model's stream norms.  tick: told what is done next.

    Raises:
        CalibrationError: when the vector cannot reach 1 nat, or the model's tokens do not part the answers.
        DataError: when an arm moves all units alike.
    """
    name, how, own = behaviour.name, turn(session.model, behaviour.form), Stream(0, "asked")
    tick("states")
    learned = learn(observed(session.model, how, behaviour.train), name)
    tick("KL units")
    packs, equipped = arms(session, learned, name, neutral, subject)
    told = Row(how.head + session.model.encode(f"{instruction}\n\n"), UNDOSED, own)
    rows = [Row(how.head, UNDOSED, own), told, *(Row(how.head, pack, own) for pack in packs)]
    tick("questions")
    asked = odds(session, behaviour, how, rows, equipped)
    content, letter = contents(asked)
    moved = {
        arm: shift(content[at], letter[at], sign, name, arm)
        for at, (arm, sign) in enumerate((("prompted", 1), ("up", 1), ("down", -1)))
    }
    shams = {pack.name: float(mean) for pack, mean in zip(packs[2:], content[3:].mean(1), strict=True)}
    return Outcome(
        name=name,
        form=behaviour.form.name,
        pairs=len(behaviour.train),
        units=len(behaviour.test),
        left_out=behaviour.left_out,
        layer=learned.layer,
        separation=learned.separation,
        up_dose=packs[0].effects[0].dose,
        down_dose=packs[1].effects[0].dose,
        undosed=float((asked[0, :, 0] - asked[0, :, 1]).mean() / 2),
        shams=shams,
        pvalue=(1 + sum(mean >= moved["up"].mean for mean in shams.values())) / (1 + len(shams)),
        **moved,
    )
