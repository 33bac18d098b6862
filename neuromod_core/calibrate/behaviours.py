"""Public steering sets: questions with an answer that shows a behaviour, to learn from and held out.

Two kinds of sets: the seven A/B behaviours of CAA, and persona statements answered with yes or no. A *unit* is two
askings of which the first is matched by the first answer (A, Yes) and the second by the second (B, No): one A/B
question in both orders of its options, or two statements. Sources: Rimsky et al. 2024 (CAA); Perez et al. 2022.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from neuromod_core.kernel.errors import CalibrationError, IntegrityError
from neuromod_core.kernel.register import unknown
from neuromod_core.kernel.rng import rng
from neuromod_core.kernel.types import file_digest

PAIRS, UNITS = 128, 25  # at most: questions to learn from, and held-out units

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
