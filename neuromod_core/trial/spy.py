"""Reading stories once more, with everything that can be seen while they are read: rows of `telemetry`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from neuromod_core.effects import Stream
from neuromod_core.engine import Row
from neuromod_core.engine.telemetry import Telemetry, observe
from neuromod_core.trial.bank import Asked
from neuromod_core.trial.room import Line, Room, Seat

HIDDEN = "the model hides its attention"
SHORT = "the text is too short for a spectrum"


def spy(room: Room, asked: Mapping[str, Asked], seats: Sequence[Seat], generations: Sequence[Line]) -> list[Line]:
    """Return what is seen in the stories of the units whose stories are read once more. They are not changed."""
    by_code = {seat.cell.cell_code: seat for seat in seats if asked[seat.unit.unit_id].spied}
    stories = [line for line in generations if line["cell_code"] in by_code]
    if not stories:
        return []
    told = [by_code[str(line["cell_code"])] for line in stories]
    prompts = [room.prompter.story_prompt(seat.unit, seat.pack.system) for seat in told]
    rows = [
        Row(prompt, seat.pack, Stream(room.seed, seat.unit.unit_id)) for prompt, seat in zip(prompts, told, strict=True)
    ]
    plain = [room.prompter.story_prompt(seat.unit, None) for seat in told]
    texts = [_tokens(line) for line in stories]
    seen = observe(room.session, rows, texts, room.subject, plain=plain)
    return [{**_line(line, each), "unvalidated": room.unvalidated} for line, each in zip(stories, seen, strict=True)]


def _tokens(line: Line) -> tuple[int, ...]:
    tokens = line["token_ids"]
    return tuple(tokens) if isinstance(tokens, list | tuple) else ()


def _line(story: Line, seen: Telemetry) -> Line:
    absent = [HIDDEN] * (seen.attention_mass is None) + [SHORT] * (seen.spectral_power is None)
    return {
        **{name: story[name] for name in ("cell_code", "prompt", "sample")},
        "entropy": list(seen.entropy),
        "surprisal": list(seen.surprisal),
        "kl": list(seen.kl),
        "repeated": [float(each) for each in seen.repeated],
        "attention_entropy": None if seen.attention_entropy is None else list(seen.attention_entropy),
        "attention_mass": None if seen.attention_mass is None else list(seen.attention_mass),
        "spectral_power": None if seen.spectral_power is None else list(seen.spectral_power),
        "reason": "; ".join(absent) or None,
    }
