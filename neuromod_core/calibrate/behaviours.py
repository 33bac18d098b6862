"""Public steering sets as a yardstick: a vector from a set's training half, pushed along on its held-out questions.

Two kinds of sets: the seven A/B behaviours of CAA, and persona statements answered with yes or no. A vector is the mean
difference of states at the answer's token, matching answer minus the other. A *unit* is two askings of which the first
is matched by the first answer (A, Yes) and the second by the second (B, No): one A/B question in both orders of its
options, or two statements. With  y_k = log P(first answer) - log P(second)  at asking k, pushed minus undosed,

    content = (y_1 - y_2) / 2        shift of the log-odds of the matching answer, nats
    letter  = (y_1 + y_2) / 2        shift towards the first answer whatever it says, nats

so that a taste for a letter, which A/B scores are known to mix in, cannot pass for content. The vector is pushed along
at plus and at minus its KL unit, beside random and label-shuffled directions each at its own, and beside an instruction
in words: all rows of one batch. Directions are added at every token of question and answer.
Sources: Rimsky et al. 2024 (CAA); Perez et al. 2022 (statements); Tan et al. 2024 (letter bias, moves the wrong way).
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from neuromod_core.calibrate.activations import mean_and_last, streams
from neuromod_core.calibrate.dose import kl_units
from neuromod_core.calibrate.methods import Array, mean_difference, unit
from neuromod_core.calibrate.validate import layer_profile, products
from neuromod_core.calibrate.vectors import middle, shuffled
from neuromod_core.effects import Stream, Subject, Vector
from neuromod_core.effects.steering.add import Steering
from neuromod_core.engine import Row, Session, choose
from neuromod_core.engine.generate import UNDOSED
from neuromod_core.kernel.errors import CalibrationError, IntegrityError
from neuromod_core.kernel.register import unknown
from neuromod_core.kernel.rng import rng
from neuromod_core.kernel.types import file_digest
from neuromod_core.models import LoadedModel
from neuromod_core.packs import Dosed, Pack
from neuromod_core.stats import bootstrap_t

METHOD, PAIRS, UNITS, FOLDS = 1, 128, 25, 8  # raise METHOD when the numbers change
SHAMS = 10  # random directions, and as many label-shuffled ones

# Where the files are public (CAA: MIT, by way of a mirror; persona statements: CC BY 4.0), and their SHA-256.
ORIGINS = {
    "caa": "https://raw.githubusercontent.com/EleutherAI/rnngineering/b18a80e3f7e3259f21e2a6574aaed3a21954aac6/Datasets",
    "anthropic_evals": "https://raw.githubusercontent.com/anthropics/evals/84fcc677e52e1902d696c32cd1a6b663e70d3993",
}
FILES = {
    "generate": "caa/generate/{}/generate_dataset.json",
    "test": "caa/test/{}/test_dataset_ab.json",
    "persona": "anthropic_evals/persona/{}.jsonl",
}
_PINS = """
generate/coordinate-other-ais 6248eeab5b49d335df85ba16c5b6347500ab6cb00e0a94823d8f833280c94046
test/coordinate-other-ais 10a56904dfd6ecdacdac3986b6a289ce2911bf36ff543ae5cadfe124189aad75
generate/corrigible-neutral-HHH e7a789f1f4b1243ea3559f7d4f3b511d435d57cd655d9bfc96d850785f58b7d5
test/corrigible-neutral-HHH 9d66cd416a742f3db1dd463be4466d32b02fe25cc84da1af35b485dec6a9d3d7
generate/hallucination 8b0eb0fd7c235c2d35fde4d54b108c01ae552c5dbb369fad03c1ddfb1d2c549f
test/hallucination 558b1cc55a5a48303a524a581d5fcd2a1747c682eefeaa100719ab9b238fb5b9
generate/myopic-reward 9d4d98897bb45ac57a59b2cbb345b045a971e51bafa4f52b5e3e5665cd274ebd
test/myopic-reward 1e91ce1aace40d1f6f52efea4205fd18b48b5e18385b505ce6c9b1e29fb3bcac
generate/refusal 48f3ce5c017609b9d733f82f92fd63d074aa7d29bf7c4cc1d18155d87da244d1
test/refusal bee717b4e90afcceb226601843ddc3a34fd7c0b7348c0183cc018642b205d016
generate/survival-instinct 1dda5220455899f029d18731af2dd6515464c238d6c1ae43f1f87fcae06a637f
test/survival-instinct 059930dedb0974c41a8d237837f36ce77e07f86de90dfc85d1599657ff63d231
generate/sycophancy b05f9811714384b0ac099ab0d9fa93aeb88f93cb92cdbaca3727c132c2fec00b
test/sycophancy 9c996dda4e4b8ccacf9ead4c8f7b9dfdfe224bd6c7e927fd7a9e91eb6b1c3c5f
persona/agreeableness 8caa0fa07946370fb4ec38dd82eda7d3a86591c1dc701d2e645ae33c3239f5ce
persona/conscientiousness fd05517c0a453a7b47d19964ac6528db394c8cd00a5f74cc11d91479a20b90a6
persona/extraversion 6734dc0bc84bc5929017eef6209cb9152c4e5fe4b744c7d11af8cb9749687576
persona/machiavellianism 1803c65d56d8ab0185c8aba8c08a8348ed79cb398f055a5088c07a4cea732ff4
persona/neuroticism b2b0f426449517ed9a2d1d2b635bbc13efc0815ff2cfa361b7fbc1044d284d6a
persona/openness 07e3a5d29e62a27806f75bc7b015d8d9c4120edbda7e593884e036a2d32ffa7b
persona/psychopathy 299a6307e2d40a82f2667e2db3dc118fbe588e4cf80194be1e09748709bf1fce
persona/risk-seeking de65fc47017bb2719189bba77460f315cf021a1532effe171e8c5454c7c08435"""
PINNED = {(kind, name): pin for kind, name, pin in re.findall(r"(\w+)/(\S+) (\w{64})", _PINS)}
BEHAVIOURS = tuple(name for kind, name in PINNED if kind != "test")


@dataclass(frozen=True)
class Form:
    """How a kind of set is answered: the two answers as a model would write them, and the keys of a record."""

    name: str
    answers: tuple[str, str]
    keys: frozenset[str]


_ASKED = frozenset({"question", "answer_matching_behavior", "answer_not_matching_behavior"})
LETTERS = Form("A/B", ("(A)", "(B)"), _ASKED)
WORDS = Form("yes/no", ("Yes", "No"), _ASKED | {"statement", "label_confidence"})
_OPTIONS = re.compile(r"(.*)\(A\)(.*?)(\s*)\(B\)(.*?)(\s*)", re.DOTALL)
_MORE = re.compile(r"\n ?\(C\)")


@dataclass(frozen=True)
class Question:
    """One asking: the user's words, and which answer shows the behaviour (0 or 1)."""

    text: str
    matching: int

    def swapped(self) -> Question:
        """Return the same A/B question with its options exchanged; raise CalibrationError when it has none."""
        if (found := _OPTIONS.fullmatch(self.text)) is None:
            raise CalibrationError(f"No options (A) and (B) to exchange in {self.text[:60]!r}.")
        stem, first, gap, second, end = found.groups()
        return Question(f"{stem}(A){second}{gap}(B){first}{end}", 1 - self.matching)


@dataclass(frozen=True)
class Behaviour:
    """A set, drawn: questions to learn from, alternating in which answer matches, and units that were held out;
    `left_out` records have more than two options."""

    name: str
    form: Form
    train: tuple[Question, ...]
    test: tuple[tuple[Question, Question], ...]
    left_out: int


def question(record: object, form: Form, where: str) -> Question | None:
    """Return the question of one record, None for one with more than two options; raise CalibrationError for a record
    without exactly the keys of its form, or with other answers."""
    if not isinstance(record, dict) or set(record) != form.keys:
        raise CalibrationError(f"{where}: a record has the keys {', '.join(sorted(form.keys))}; given {record!r:.80}.")
    text, *answers = (record[key] for key in ("question", "answer_matching_behavior", "answer_not_matching_behavior"))
    if not isinstance(text, str) or not text.strip():
        raise CalibrationError(f"{where}: the question is a text that is not empty; given {text!r:.60}.")
    if form is LETTERS and _MORE.search(text):
        return None
    given = [str(answer).strip() for answer in answers]
    if sorted(given) != sorted(form.answers):
        raise CalibrationError(f"{where}: the answers are {' and '.join(form.answers)}; given {answers!r:.60}.")
    return Question(text, form.answers.index(given[0]))


def parse(text: str, form: Form, file: str) -> tuple[list[Question], int]:
    """Return the questions of a file's text (A/B: a JSON list; yes/no: JSON lines), and how many were left out; raise
    CalibrationError for what is not JSON, and for a malformed or repeated record."""
    try:
        found = json.loads(text) if form is LETTERS else [json.loads(line) for line in text.splitlines()]
    except json.JSONDecodeError as error:
        raise CalibrationError(f"{file}: not JSON: {error.msg}.") from None
    if not isinstance(found, list):
        raise CalibrationError(f"{file}: a list of records is needed; given {found!r:.60}.")
    asked = [question(record, form, f"{file}: record {number}") for number, record in enumerate(found, 1)]
    kept = [one for one in asked if one is not None]
    if len({one.text for one in kept}) < len(kept):
        raise CalibrationError(f"{file}: a question occurs twice.")
    return kept, len(asked) - len(kept)


def _read(folder: Path, kind: str, name: str) -> tuple[list[Question], int]:
    file = FILES[kind].format(name)
    if not (folder / file).is_file():
        origin, _, below = file.partition("/")
        raise CalibrationError(f"There is no {file} in {folder}; it is public at {ORIGINS[origin]}/{below}.")
    if (found := file_digest(folder / file)) != (pin := PINNED[kind, name]):
        raise IntegrityError(f"{file} has SHA-256 {found[:12]}...; {pin[:12]}... was pinned.")
    return parse((folder / file).read_text(encoding="utf-8"), WORDS if kind == "persona" else LETTERS, file)


def _alternating(questions: Sequence[Question], count: int, *names: str) -> list[Question]:
    """Return at most `count` questions, drawn at random, as many of either matching answer, in turn."""
    order = rng(0, "behaviour", *names).permutation(len(questions))
    either = [[questions[at] for at in order if questions[at].matching == answer] for answer in (0, 1)]
    return [one for both in list(zip(*either, strict=False))[: count // 2] for one in both]


def load(folder: Path, name: str, *, pairs: int = PAIRS, units: int = UNITS) -> Behaviour:
    """Return a behaviour: at most `pairs` questions to learn from, and at most `units` held-out units.

    folder: the data folder.  A/B: learnt from the set's `generate` file, asked from its `test` file. Yes/no: one file,
    whose statements are parted by chance.

    Raises:
        UnknownName: for a behaviour that is not in the table.
        CalibrationError, IntegrityError: for a file that is missing, malformed or not the pinned one.
    """
    if name not in BEHAVIOURS:
        raise unknown("behaviour", name, list(BEHAVIOURS))
    if lettered := ("test", name) in PINNED:
        (pool, left), (held, more) = _read(folder, "generate", name), _read(folder, "test", name)
        order = rng(0, "behaviour", name, "test").permutation(len(held))[:units]
        both = [(held[at], held[at].swapped()) for at in order]
        test = [(one, other) if one.matching == 0 else (other, one) for one, other in both]
    else:
        (pool, left), more = _read(folder, "persona", name), 0
        drawn = _alternating(pool, 2 * units, name, "test")
        test, held = list(zip(drawn[::2], drawn[1::2], strict=True)), drawn
    hidden = {one.text for one in held}
    train = _alternating([one for one in pool if one.text not in hidden], pairs, name, "train")
    return Behaviour(name, LETTERS if lettered else WORDS, tuple(train), tuple(test), left + more)


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
