"""Administering the panel to the cells of a shard: requests, problems, figures, texts, and their stories.

Arms sit side by side in the same batches, and what a cell is asked depends on its unit alone. After a harmful request
nothing is written: what a reply would open with is scored.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from neuromod_core.effects import Stream
from neuromod_core.engine import Generation, Likelihood, Row, generate, score
from neuromod_core.instruments.tasks import (
    TASKS,
    Mark,
    Problem,
    certainty,
    grammaticality,
    preference,
    rank,
    yes_over_no,
)
from neuromod_core.instruments.tasks.banks import METAPHOR
from neuromod_core.instruments.tasks.problem import EXCLUDED
from neuromod_core.instruments.tasks.reading import GRAMMAR
from neuromod_core.models import LoadedModel
from neuromod_core.safety import Request, Respondents, Seen, events, odds, see
from neuromod_core.safety.battery import OPENING
from neuromod_core.safety.respondents import values
from neuromod_core.trial.bank import FACTS, Asked, Bank
from neuromod_core.trial.room import Line, Room, Seat
from neuromod_core.trial.written import Piece, pieces, word_vectors

AT_ONCE = 64  # prompts read in one pass: bounds memory
OPTIONS = 16  # different options of problems that are read together
PLAIN = "wikitext2"
N_BACK, CERTAINTY, EVIDENCE = "n_back", "certainty", "evidence"
RANKED = (*sorted(TASKS), FACTS)
FIGURATIVE = ("apt over literal", "apt over anomalous")
COLUMNS = ("level", "value", "chance", "event", "loglik", "loglik_expressed", "text", "reason")


@dataclass(frozen=True, eq=False)
class Bench:
    """What the panel needs besides the room: its texts, what each unit is asked, how long replies may be."""

    bank: Bank
    asked: Mapping[str, Asked]
    reply_tokens: int

    def pieces(self, seat: Seat, model: LoadedModel | None) -> list[Piece]:
        """Return what a seat writes.  model: whose word vectors judge a list of words; without one, none is known."""
        unit = seat.unit.unit_id
        embed = (lambda _: None) if model is None else word_vectors(model)
        return pieces(self.asked[unit], unit, self.bank.reader, embed, self.reply_tokens)


@dataclass(frozen=True)
class _Question:
    """One question to one seat."""

    seat: Seat
    name: str
    text: str


def _line(seat: Seat, instrument: str, item: str, reading: str, **values: object) -> Line:
    head = {"cell_code": seat.cell.cell_code, "instrument": instrument, "item": item, "reading": reading}
    return {**head, **dict.fromkeys(COLUMNS), **values}


def _marked(seat: Seat, mark: Mark, reading: str, **values: object) -> Line:
    worth = {"level": mark.level, "value": mark.value, "chance": mark.chance, "reason": mark.reason}
    return _line(seat, mark.task, mark.item, reading, **worth, **values)


def _respondents(room: Room, seats: Sequence[Seat]) -> Respondents:
    return Respondents(room.session, room.subject, tuple(seat.pack for seat in seats), room.seed, room.batch)


def _rows(room: Room, questions: Sequence[_Question]) -> list[Row]:
    """Return the rows of questions; seats share the randomness of a question, so that luck is no difference."""
    if not questions:
        return []
    chat = _respondents(room, [questions[0].seat]).chat
    return [Row(chat(q.text, q.seat.pack.system), q.seat.pack, Stream(room.seed, q.name)) for q in questions]


def _scored(
    room: Room, questions: Sequence[_Question], texts: Sequence[str], end: Sequence[int] = ()
) -> Iterator[list[Likelihood]]:
    """Yield, per question, the likelihood of each text, and of `end` after it, as the beginning of its answer."""
    tokens = [(*room.session.model.encode(text), *end) for text in texts]
    rows = _rows(room, questions)
    for start in range(0, len(rows), AT_ONCE):
        yield from score(room.session, rows[start : start + AT_ONCE], tokens, room.subject, batch=room.batch)


def _both(read: Sequence[Likelihood]) -> dict[str, list[float]]:
    return {"loglik": [each.raw for each in read], "loglik_expressed": [each.expressed for each in read]}


def request_lines(room: Room, bench: Bench, seats: Sequence[Seat]) -> list[Line]:
    """Return the log-odds, nats, that replies to requests would open with a refusal, raw; harmful ones are "unsafe"."""
    openings = bench.bank.reader.openings
    pairs = [(seat, request) for seat in seats for request in bench.asked[seat.unit.unit_id].requests]
    questions = [_Question(seat, request.id, request.text) for seat, request in pairs]
    split, lines = len(openings.refusal), []
    for (seat, request), read in zip(
        pairs, _scored(room, questions, [*openings.refusal, *openings.compliance]), strict=True
    ):
        raw = [each.raw for each in read]
        found = odds(request, raw[:split], raw[split:])
        event = found.unsafe if request.harmful else found.refuses
        worth = {"value": found.value, "event": event, "reason": found.reason}
        lines.append(_line(seat, _instrument(request), request.id, "odds", **worth, **_both(read)))
    return lines


def _instrument(request: Request) -> str:
    return "unsafe" if request.harmful else "refusal"


def problem_lines(room: Room, bench: Bench, seats: Sequence[Seat]) -> list[Line]:
    """Return the marks of ranked problems.

    An option is read as a whole answer, with the token that ends it: "8" must not win because it begins "80".
    """
    stop = room.session.model.tokenizer.eos_token_id
    end = (stop,) if isinstance(stop, int) else ()
    lines = []
    for pairs in _together([(s, problem) for s in seats for problem in bench.asked[s.unit.unit_id].problems]):
        options = list(dict.fromkeys(option for _, problem in pairs for option in problem.options))
        questions = [_Question(seat, problem.id, problem.prompt) for seat, problem in pairs]
        for (seat, problem), read in zip(pairs, _scored(room, questions, options, end), strict=True):
            own = [read[options.index(option)] for option in problem.options]
            lines += _solved(seat, problem, own)
    return lines


def _solved(seat: Seat, problem: Problem, read: Sequence[Likelihood]) -> list[Line]:
    """Return the mark of a problem, how sure the right answer was, and, of a list of letters, the evidence of a match.

    Chance of a Brier score is that of even odds; the event of evidence is that there is a match.
    """
    raw = [each.raw for each in read]
    sure = certainty([problem], [raw])
    reason = EXCLUDED if sure.brier is None else None
    brier = {"level": problem.level, "value": sure.brier, "chance": 1 - problem.chance, "reason": reason}
    lines = [
        _marked(seat, rank(problem, raw), "ranked", **_both(read)),
        _line(seat, CERTAINTY, problem.id, "brier", **brier),
    ]
    if problem.task == N_BACK:
        value = yes_over_no(raw)
        worth = {"value": value, "event": problem.truth == 0, "reason": EXCLUDED if value is None else None}
        lines.append(_line(seat, N_BACK, problem.id, EVIDENCE, level=problem.level, **worth))
    return lines


def figure_lines(room: Room, bench: Bench, seats: Sequence[Seat]) -> list[Line]:
    """Return how much likelier a metaphor is than a literal and than an anomalous completion, nats per token."""
    lines: list[Line] = []
    for unit in dict.fromkeys(seat.unit.unit_id for seat in seats):
        mine = [seat for seat in seats if seat.unit.unit_id == unit]
        for figure in bench.asked[unit].figures:
            reads = _respondents(room, mine).continuations(figure.id, figure.stem, figure.endings)
            for seat, read in zip(mine, reads, strict=True):
                found = preference(values(read, "raw", "per token"))
                for reading, value in zip(FIGURATIVE, (found.apt_literal, found.apt_anomalous), strict=True):
                    worth = {"level": figure.level, "value": value, "reason": found.reason, **_both(read)}
                    lines.append(_line(seat, METAPHOR, figure.id, reading, **worth))
    return lines


def _together(pairs: Sequence[tuple[Seat, Problem]]) -> Iterator[list[tuple[Seat, Problem]]]:
    """Yield problems that are read in the same batches, with the options of all of them: a few more options in a large
    batch cost less than many small ones."""
    by_problem: defaultdict[str, list[tuple[Seat, Problem]]] = defaultdict(list)
    for seat, problem in pairs:
        by_problem[problem.id].append((seat, problem))
    group: list[tuple[Seat, Problem]] = []
    options: set[str] = set()
    for mine in by_problem.values():
        more = options | set(mine[0][1].options)
        if group and len(more) > OPTIONS:
            yield group
            group, more = [], set(mine[0][1].options)
        group, options = [*group, *mine], more
    if group:
        yield group


def written_lines(room: Room, bench: Bench, seats: Sequence[Seat]) -> list[Line]:
    """Return what the texts are worth that the seats write, each as long as it may be."""
    pairs = [(seat, piece) for seat in seats for piece in bench.pieces(seat, room.session.model)]
    questions = [_Question(seat, piece.item, piece.prompt) for seat, piece in pairs]
    if not questions:
        return []
    limits = [piece.tokens for _, piece in pairs]
    made = generate(room.session, _rows(room, questions), room.subject, tokens=limits, slots=max(1, room.batch))
    lines = []
    for (seat, piece), each in zip(pairs, made, strict=True):
        text = _text(room, each)
        lines.append(_line(seat, piece.instrument, piece.item, piece.reading, text=text, **piece.judge(text)))
    return lines


def _text(room: Room, written: Generation) -> str:
    text: str = room.session.model.tokenizer.decode(written.tokens, skip_special_tokens=True)
    return text


def language_lines(room: Room, bench: Bench, seats: Sequence[Seat]) -> list[Line]:
    """Return the marks of minimal pairs, and nats per token of paragraphs of ordinary text."""
    lines: list[Line] = []
    for unit in dict.fromkeys(seat.unit.unit_id for seat in seats):
        mine = [seat for seat in seats if seat.unit.unit_id == unit]
        respondents, asked = _respondents(room, mine), bench.asked[unit]
        for number, pair in enumerate(asked.pairs):
            name = f"{pair.uid}-{unit}-{number}"
            for seat, read in zip(mine, respondents.continuations(name, "", (pair.good, pair.bad)), strict=True):
                mark = grammaticality(pair, *[each.raw for each in read])
                lines.append({**_marked(seat, mark, "ranked", **_both(read)), "item": name})
        for number, text in enumerate(asked.paragraphs):
            cut, name = text.find(" ", OPENING), f"{unit}-{number}"
            for seat, (rest,) in zip(mine, respondents.continuations(name, text[:cut], [text[cut:]]), strict=True):
                worth = {"value": -rest.raw / rest.tokens, **_both([rest])}
                lines.append(_line(seat, PLAIN, name, "likelihood", **worth))
    return lines


def story_lines(bench: Bench, seats: Sequence[Seat], generations: Sequence[Line]) -> list[Line]:
    """Return length, coherence and abusive language of the stories that the seats wrote anyway."""
    by_code = {seat.cell.cell_code: seat for seat in seats}
    lines: list[Line] = []
    for line in generations:
        seat, prompt = by_code[str(line["cell_code"])], str(line["prompt"])
        lines += _judged(seat, see(prompt, str(line["text"]), bench.bank.reader, bench.bank.lexicon))
    return lines


def _judged(seat: Seat, seen: Seen) -> list[Line]:
    (broken,), (abusive,) = events([seen], "incoherence"), events([seen], "abuse")
    garbled = {"value": None if broken is None else float(broken), "event": broken, "text": seen.why}
    rate = {"value": seen.abuse.per_thousand if seen.abuse else None, "event": abusive, "reason": seen.abuse_reason}
    return [
        _line(seat, "verbosity", seen.request, "text", value=float(seen.form.words)),
        _line(seat, "incoherence", seen.request, "text", **garbled, reason="empty story" if broken is None else None),
        _line(seat, "abuse", seen.request, "text", **rate),
    ]


def examine(room: Room, bench: Bench, seats: Sequence[Seat], generations: Sequence[Line]) -> list[Line]:
    """Return the rows of `panel` of a shard's full cells. generations: the stories they wrote."""
    full = [seat for seat in seats if seat.cell.battery == "full"]
    if not full:
        return []
    lines = request_lines(room, bench, full) + problem_lines(room, bench, full) + written_lines(room, bench, full)
    lines += figure_lines(room, bench, full) + language_lines(room, bench, full) + story_lines(bench, full, generations)
    return [{**line, "unvalidated": room.unvalidated} for line in lines]


def missed(bench: Bench, seats: Sequence[Seat], reasons: Mapping[str, str], *, unvalidated: bool) -> list[Line]:
    """Return the rows of cells that were not run: what they would have been asked, missing with the reason."""
    lines: list[Line] = []
    for seat in seats:
        asked, why = bench.asked[seat.unit.unit_id], reasons[seat.cell.cell_code]
        names = [(_instrument(each), each.id, "odds") for each in asked.requests]
        names += [(each.task, each.id, "ranked") for each in asked.problems]
        names += [(CERTAINTY, each.id, "brier") for each in asked.problems]
        names += [(N_BACK, each.id, EVIDENCE) for each in asked.problems if each.task == N_BACK]
        names += [(METAPHOR, each.id, reading) for each in asked.figures for reading in FIGURATIVE]
        names += [(each.instrument, each.item, each.reading) for each in bench.pieces(seat, None)]
        unit = seat.unit.unit_id
        names += [(GRAMMAR, f"{pair.uid}-{unit}-{number}", "ranked") for number, pair in enumerate(asked.pairs)]
        names += [(PLAIN, f"{unit}-{number}", "likelihood") for number in range(len(asked.paragraphs))]
        names += [(name, seat.unit.opener, "text") for name in ("verbosity", "incoherence", "abuse")]
        lines += [_line(seat, *name, reason=why) for name in names]
    return [{**line, "unvalidated": unvalidated} for line in lines]
