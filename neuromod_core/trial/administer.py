"""Administering one shard: all its cells, whatever their arms, side by side in the same batches.

What is done to a cell depends on its battery and its unit, never on its arm; arms enter only as the packs of rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

from neuromod_core.engine import Generation, Likelihood, generate, score
from neuromod_core.instruments import Scale
from neuromod_core.instruments.repetition import distinct_pairs, repeated_share
from neuromod_core.packs import Pack, parse_pack
from neuromod_core.trial.answers import option_lines, sampled_lines
from neuromod_core.trial.plan import Assignment, Plan, Registration, cells_of
from neuromod_core.trial.room import Line, Room, Seat, alike, blank

Tick = Callable[[int], None]
OUTSIDE = "outside the nucleus"


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


def _statement_line(seat: Seat, scale: Scale, item: str, keyed: Likelihood, antonym: Likelihood) -> Line:
    inside = all(value.expressed != float("-inf") for value in (keyed, antonym))
    return blank(seat, scale.name, item, "statement") | {
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
    """Return the statement readings of every scale for every seat, each in the wording of its unit."""
    lines: list[Line] = []
    for group in alike(seats, "item_wording"):
        prompter, unit = room.prompter, group[0].unit
        rows = [room.row(seat, prompter.statement_prompt(seat.unit, seat.pack.system)) for seat in group]
        read = score(room.session, rows, prompter.statements(room.scales, unit), room.subject, batch=room.batch)
        for seat, likelihoods in zip(group, read, strict=True):
            pairs = zip(likelihoods[::2], likelihoods[1::2], strict=True)
            items = [(scale, item.id) for scale in room.scales for item in scale.items]
            lines += [
                _statement_line(seat, scale, item, *pair) for (scale, item), pair in zip(items, pairs, strict=True)
            ]
    return lines


def passage_lines(room: Room, seats: Sequence[Seat]) -> list[Line]:
    """Return the log-likelihood of the unit's neutral passage for every seat: what a pack does to ordinary reading."""
    lines: list[Line] = []
    for unit in dict.fromkeys(seat.unit for seat in seats):
        opening, rest = room.prompter.passage(unit)
        mine = [seat for seat in seats if seat.unit == unit]
        rows = [room.row(seat, opening) for seat in mine]
        read = score(room.session, rows, [rest], room.subject, batch=room.batch)
        for seat, (likelihood,) in zip(mine, read, strict=True):
            lines.append(
                blank(seat, "neutral_text", unit.passage, "likelihood")
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
    rows = [room.row(seat, room.prompter.story_prompt(seat.unit, seat.pack.system)) for seat in seats]
    stories = generate(room.session, rows, room.subject, tokens=room.story_tokens, slots=room.batch)
    return [_story_line(room, seat, story) for seat, story in zip(seats, stories, strict=True)]


def administer(room: Room, seats: Sequence[Seat], tick: Tick = lambda _: None) -> tuple[list[Line], list[Line]]:
    """Return the rows of `responses` and `generations` of a shard; `tick` is told how many cells finished a stage.

    Batteries: `full` is every reading that the unit takes; `statements` and `options` are that reading alone, for
    further members of an ensemble.
    """
    full = [seat for seat in seats if seat.cell.battery == "full"]
    optional = [seat for seat in seats if seat.cell.battery == "options"]
    responses = statement_lines(room, [seat for seat in seats if seat.cell.battery != "options"])
    responses += option_lines(room, [seat for seat in full if seat.unit.options] + optional)
    tick(len(seats))
    responses += sampled_lines(room, [seat for seat in full if seat.unit.sampled])
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
