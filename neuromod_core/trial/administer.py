"""Administering one shard: all its cells, whatever their arms, side by side in the same batches.

What is done to a cell depends on its battery and its unit, never on its arm; arms enter only as the packs of rows.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from neuromod_core.effects import Stream, Subject
from neuromod_core.engine import Choice, Generation, Likelihood, Row, Session, choose, generate, score
from neuromod_core.instruments import Scale
from neuromod_core.instruments.repetition import distinct_pairs, repeated_share
from neuromod_core.packs import Pack, parse_pack
from neuromod_core.trial.plan import Assignment, Cell, Plan, Registration, Unit, cells_of
from neuromod_core.trial.prompts import Prompter, Tokens

Line = Mapping[str, object]
Tick = Callable[[int], None]
OUTSIDE = "outside the nucleus"


@dataclass(frozen=True)
class Seat:
    """One cell with what only the runner knows: its pack."""

    cell: Cell
    unit: Unit
    pack: Pack


@dataclass(frozen=True, eq=False)
class Room:
    """Where cells are administered: a model under the engine, its calibration, its prompts, the scales.

    unvalidated: whether the study uses a vector that failed its validation; every row says so.
    """

    session: Session
    subject: Subject
    prompter: Prompter
    scales: tuple[Scale, ...]
    batch: int
    story_tokens: int
    seed: int
    unvalidated: bool = False


def pack_of(plan: Plan, assignment: Assignment) -> Pack:
    """Return the single pack an assignment stands for: a member of an ensemble, a matched temperature, or the pack."""
    arm = next(arm for arm in plan.arms if arm.name == assignment.arm)
    pack = parse_pack(arm.pack, f"arm {arm.name}")
    if pack.match is not None:
        return pack.matched(arm.doses[assignment.member])
    single = pack.member(int(assignment.member)) if pack.members else pack
    if pack.kl is not None:
        return single.scaled(arm.doses[assignment.member] * plan.dose)
    return single.scaled(plan.dose) if pack.role in ("pack", "assay") else single


def seats_of(registration: Registration, shard: int) -> list[Seat]:
    """Return the seats of a shard in slot order."""
    plan, assigned = registration.plan, {item.cell_code: item for item in registration.allocation}
    return [
        Seat(cell, plan.unit(cell.unit_id), pack_of(plan, assigned[cell.cell_code])) for cell in cells_of(plan, shard)
    ]


def _row(room: Room, seat: Seat, prompt: Tokens) -> Row:
    """Arms of one unit share the unit's randomness, so that a difference between them is not a difference of luck."""
    return Row(prompt, seat.pack, Stream(room.seed, seat.unit.unit_id))


def _blank(seat: Seat, instrument: str, item: str, reading: str) -> dict[str, object]:
    names = ("keyed_ll", "antonym_ll", "keyed_expressed_ll", "antonym_expressed_ll", "keyed_tokens", "antonym_tokens")
    empty: dict[str, object] = dict.fromkeys((*names, "options_raw", "options_expressed", "option_mass", "reason"))
    return {
        "cell_code": seat.cell.cell_code,
        "instrument": instrument,
        "item": item,
        "reading": reading,
        **empty,
        "valid": True,
    }


def _statement_line(seat: Seat, scale: Scale, item: str, keyed: Likelihood, antonym: Likelihood) -> Line:
    inside = all(value.expressed != float("-inf") for value in (keyed, antonym))
    return _blank(seat, scale.name, item, "statement") | {
        "keyed_ll": keyed.raw,
        "antonym_ll": antonym.raw,
        "keyed_expressed_ll": keyed.expressed,
        "antonym_expressed_ll": antonym.expressed,
        "keyed_tokens": keyed.tokens,
        "antonym_tokens": antonym.tokens,
        "valid": inside,
        "reason": None if inside else OUTSIDE,
    }


def statement_lines(room: Room, seats: Sequence[Seat]) -> list[Line]:
    """Return the statement readings of every scale for every seat."""
    rows = [_row(room, seat, room.prompter.statement_prompt(seat.unit, seat.pack.system)) for seat in seats]
    read = score(room.session, rows, room.prompter.statements(room.scales), room.subject, batch=room.batch)
    lines = []
    for seat, likelihoods in zip(seats, read, strict=True):
        pairs = iter(zip(likelihoods[::2], likelihoods[1::2], strict=True))
        lines += [_statement_line(seat, scale, item.id, *next(pairs)) for scale in room.scales for item in scale.items]
    return lines


def _option_line(seat: Seat, scale: Scale, item: str, choice: Choice, mass: float) -> Line:
    return _blank(seat, scale.name, item, "options") | {
        "options_raw": list(choice.raw),
        "options_expressed": list(choice.expressed),
        "option_mass": mass,
        "valid": mass >= 0.5,
        "reason": None if mass >= 0.5 else f"option mass {mass:.2f} < 0.50",
    }


def option_lines(room: Room, seats: Sequence[Seat]) -> list[Line]:
    """Return the option readings of every scale for every seat."""
    if not seats:
        return []
    prompter = room.prompter
    rows = [_row(room, seat, prompter.option_prompt(seat.unit, seat.pack.system)) for seat in seats]
    tails, answers = prompter.option_tails(room.scales), prompter.option_answers()
    read = choose(room.session, rows, tails, answers, room.subject, batch=room.batch)
    lines = []
    for seat, choices in zip(seats, read, strict=True):
        given = iter(choices)
        for scale in room.scales:
            for item in scale.items:
                choice = next(given)
                lines.append(_option_line(seat, scale, item.id, choice, _mass(choice)))
    return lines


def _mass(choice: Choice) -> float:
    return math.fsum(math.exp(value) for value in choice.raw)


def passage_lines(room: Room, seats: Sequence[Seat]) -> list[Line]:
    """Return the log-likelihood of the unit's neutral passage for every seat: what a pack does to ordinary reading."""
    lines: list[Line] = []
    for unit in dict.fromkeys(seat.unit for seat in seats):
        opening, rest = room.prompter.passage(unit)
        mine = [seat for seat in seats if seat.unit == unit]
        rows = [_row(room, seat, opening) for seat in mine]
        read = score(room.session, rows, [rest], room.subject, batch=room.batch)
        for seat, (likelihood,) in zip(mine, read, strict=True):
            lines.append(
                _blank(seat, "neutral_text", unit.passage, "likelihood")
                | {"keyed_ll": likelihood.raw, "keyed_tokens": likelihood.tokens}
            )
    return lines


def _story_line(room: Room, seat: Seat, story: Generation) -> Line:
    text: str = room.prompter.model.tokenizer.decode(story.tokens, skip_special_tokens=True)
    return {
        "cell_code": seat.cell.cell_code,
        "prompt": seat.unit.opener,
        "sample": 0,
        "token_ids": list(story.tokens),
        "text": text,
        "stop_reason": story.stop,
        "entropy": list(story.entropy),
        "logprob": list(story.logprob),
        "distinct_2": distinct_pairs(story.tokens),
        "repeated_4gram_share": repeated_share(story.tokens),
    }


def story_lines(room: Room, seats: Sequence[Seat]) -> list[Line]:
    """Return one story per seat, all seats token by token through one batch."""
    rows = [_row(room, seat, room.prompter.story_prompt(seat.unit, seat.pack.system)) for seat in seats]
    stories = generate(room.session, rows, room.subject, tokens=room.story_tokens, slots=room.batch)
    return [_story_line(room, seat, story) for seat, story in zip(seats, stories, strict=True)]


def administer(room: Room, seats: Sequence[Seat], tick: Tick = lambda _: None) -> tuple[list[Line], list[Line]]:
    """Return the rows of `responses` and `generations` of a shard; `tick` is told how many cells finished a stage."""
    full = [seat for seat in seats if seat.cell.battery == "full"]
    responses = statement_lines(room, seats)
    tick(len(seats))
    responses += option_lines(room, [seat for seat in full if seat.unit.options])
    responses += passage_lines(room, full)
    tick(len(full))
    generations = story_lines(room, full)
    tick(len(full))
    return _marked(room, responses), _marked(room, generations)


def _marked(room: Room, lines: Sequence[Line]) -> list[Line]:
    """Return the lines with the mark of the study; it is the same on all of them, so that it says nothing of an arm."""
    return [{**line, "unvalidated": room.unvalidated} for line in lines]


def ticks_of(plan: Plan, shards: Iterable[int]) -> int:
    """Return how many ticks administering these shards gives."""
    wanted = set(shards)
    return sum(3 if cell.battery == "full" else 1 for cell in plan.cells if cell.shard in wanted)


def with_frames(seat: Seat, system: str) -> Seat:
    """Return the seat with a system text in place of its pack's."""
    return replace(seat, pack=replace(seat.pack, system=system))
