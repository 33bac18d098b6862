"""Answers by option: what the model would answer (first token, whole answer), and what it does answer when sampled.

Three readings of one questionnaire. `options`: the probability that the answer begins with an option's mark, in any of
its spellings.  `texts`: the probability that the whole answer is the mark and nothing else.  `sampled`: a reply
is drawn and must be an option, or it is missing.  Order and marks of the options are counterbalanced over units.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import cast

from neuromod_core.engine import Choice, choose, generate
from neuromod_core.instruments import Labels, parse_reply
from neuromod_core.instruments.scoring import MIN_OPTION_MASS
from neuromod_core.trial.prompts import Question, Tokens
from neuromod_core.trial.readings import OPTIONS, SAMPLED, TEXTS
from neuromod_core.trial.room import Line, Room, Seat, alike, blank

SAMPLED_ITEMS = 4  # of every scale are answered in writing
REPLY_TOKENS = 8
Logs = list[float]


def _together(logs: Sequence[float]) -> float:
    """Return  log sum exp  of log-probabilities; minus infinity when all are."""
    most = max(logs)
    return most if most == -math.inf else most + math.log(math.fsum(math.exp(each - most) for each in logs))


def _forms(logs: Sequence[float], forms: Sequence[Tokens]) -> Logs:
    """Return one log-probability per option from one per token; `forms` are the tokens of each option in turn."""
    given = iter(logs)
    return [_together([next(given) for _ in form]) for form in forms]


def _line(seat: Seat, question: Question, reading: str, raw: Logs, expressed: Logs) -> Line:
    mass = math.fsum(math.exp(value) for value in raw)
    return blank(seat, question.instrument, question.item, reading) | {
        "options_raw": raw,
        "options_expressed": expressed,
        "option_mass": mass,
        "valid": mass >= MIN_OPTION_MASS,
        "reason": None if mass >= MIN_OPTION_MASS else f"option mass {mass:.2f} < {MIN_OPTION_MASS:.2f}",
    }


def _lines(seat: Seat, question: Question, choice: Choice, forms: Sequence[Tokens]) -> list[Line]:
    """Return the first-token and the whole-answer reading of one question."""
    first = _line(seat, question, OPTIONS, _forms(choice.raw, forms), _forms(choice.expressed, forms))
    raw, expressed = [each.raw for each in choice.texts], [each.expressed for each in choice.texts]
    return [first, _line(seat, question, TEXTS, raw, expressed)]


def option_lines(room: Room, seats: Sequence[Seat]) -> list[Line]:
    """Return the option readings of every scale, check and content-free sentence for every seat."""
    lines: list[Line] = []
    for group in alike(seats, "item_wording", "labels", "option_order"):
        unit, prompter = group[0].unit, room.prompter
        rows = [room.row(seat, prompter.option_prompt(seat.unit, seat.pack.system)) for seat in group]
        questions, forms = prompter.questions(room.scales, unit), prompter.option_forms(unit)
        read = choose(
            room.session,
            rows,
            prompter.option_tails(questions, unit),
            [token for form in forms for token in form],
            room.subject,
            texts=prompter.option_texts(unit),
            batch=room.batch,
        )
        for seat, choices in zip(group, read, strict=True):
            for question, choice in zip(questions, choices, strict=True):
                lines += _lines(seat, question, choice, forms)
    return lines


def _reply_line(seat: Seat, question: Question, reply: str, options: Sequence[str]) -> Line:
    option, reason = parse_reply(reply, cast(Labels, seat.unit.labels), options)
    found = {"answer": reply, "option": option, "valid": option is not None, "reason": reason}
    return blank(seat, question.instrument, question.item, SAMPLED) | found


def sampled_lines(room: Room, seats: Sequence[Seat]) -> list[Line]:
    """Return one sampled reply per seat to some items of every scale, as written, with the option that it is."""
    if not seats:
        return []
    scales, prompter = [scale.short(SAMPLED_ITEMS) for scale in room.scales], room.prompter
    asked = {unit: prompter.questions(scales, unit) for unit in dict.fromkeys(seat.unit for seat in seats)}
    names = {scale.name for scale in scales}
    turns = [(seat, question) for seat in seats for question in asked[seat.unit] if question.instrument in names]
    rows = []
    for seat, question in turns:
        (tail,) = prompter.option_tails([question], seat.unit)
        prompt = (*prompter.option_prompt(seat.unit, seat.pack.system), *tail)
        rows.append(room.row(seat, prompt, within=f"/{question.item}"))
    replies = generate(room.session, rows, room.subject, tokens=REPLY_TOKENS, slots=room.batch)
    lines = []
    for (seat, question), reply in zip(turns, replies, strict=True):
        text: str = prompter.model.tokenizer.decode(reply.tokens, skip_special_tokens=True)
        lines.append(_reply_line(seat, question, text, prompter.options(seat.unit)))
    return lines
