"""The law of the trunk: what rows of one prompt share changes none of them, whatever each of them receives."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from neuromod_core.effects import EFFECTS, Stream, Subject
from neuromod_core.engine import Row, choose, dosed
from neuromod_core.engine.dosed import Path
from neuromod_core.engine.trunk import first_blocks, trunk_of
from neuromod_core.models import TINY, LoadedModel, tiny
from neuromod_core.models.anatomy import ANATOMIES
from neuromod_core.packs import bind
from tests.conftest import subject_of
from tests.laws.test_effects import NONE, differing, mixed, names_on, pack_of, prompt, readings, some_dose

ANSWERS = ((50,), (51, 52))
QUESTIONS = ((21, 22), (23, 24, 25))


def late(subject: Subject) -> Subject:
    """The stand-in calibration with vectors and heads in the last block alone, so that there is something to share."""
    last = subject.shape.depth - 1
    vectors = {name: dataclasses.replace(vector, layer=last) for name, vector in subject.vectors.items()}
    heads = {name: mask & (torch.arange(last + 1) == last)[:, None] for name, mask in subject.head_sets.items()}
    return dataclasses.replace(subject, vectors=vectors, head_sets=heads)


def of_one_prompt(subject: Subject) -> list[Row]:
    """Every effect, and nothing, after one prompt, and all of it once more after another."""
    packs = mixed(subject)
    return [Row(prompt(at), pack, Stream(11, f"u{i}")) for at in (0, 1) for i, pack in enumerate(packs)]


def chosen(model: LoadedModel, subject: Subject, rows: list[Row], path: Path) -> torch.Tensor:
    with dosed(model, path) as session:
        read = choose(session, rows, QUESTIONS, (50, 51), subject, texts=ANSWERS)
    return torch.tensor(
        [[[*choice.raw, *choice.expressed, *(text.raw for text in choice.texts)] for choice in line] for line in read],
        dtype=torch.float64,
    )


@pytest.mark.parametrize("architecture", sorted(name for name in TINY if ANATOMIES[name].fused))
def test_sharing_changes_no_row(architecture: str) -> None:
    """The library path shares nothing: it is what the fused path is compared with."""
    model = tiny(architecture, seed=3)
    subject = late(subject_of(model))
    rows = of_one_prompt(subject)
    assert not differing(readings(model, subject, rows, "fused"), readings(model, subject, rows, "library"), rows)
    assert not differing(chosen(model, subject, rows, "fused"), chosen(model, subject, rows, "library"), rows)


def test_a_row_is_on_its_own_from_the_first_block_that_an_effect_changes() -> None:
    """Over the register: up to its first block a dosed row is the undosed row, bit for bit, in a pass of its own."""
    model = tiny("llama", seed=3)
    subject, seen = late(subject_of(model)), 0
    tokens = torch.tensor([prompt(0)])
    with torch.inference_mode(), dosed(model) as session:
        found: list[torch.Tensor] = []
        hooks = [block.register_forward_hook(lambda *given: found.append(given[2])) for block in model.blocks]
        for name in names_on(subject):
            if EFFECTS[name].family in ("input", "sampler"):
                continue
            states, first = [], 0
            for pack in (NONE, pack_of(name, some_dose(name))):
                binding, first = bind([pack], [Stream(11, "u")], subject), 0
                first = int(first_blocks(binding, model.depth)[0])
                zero, start = torch.zeros(1, dtype=torch.long), torch.tensor([20])
                found.clear()
                session.forward(tokens, torch.ones_like(tokens), pad=zero, binding=binding, start=start, cache=None)
                states.append([output[0] if isinstance(output, tuple) else output for output in found])
            same = [torch.equal(a, b) for a, b in zip(*states, strict=True)]
            assert all(same[:first]), f"{name}: on its own from block {first}, alike: {same}"
            seen += first > 0
        for hook in hooks:
            hook.remove()
    assert seen, "no effect of the register begins above the first block"


def test_undosed_rows_of_one_prompt_are_one_line() -> None:
    model = tiny("llama", seed=3)
    subject, depth = late(subject_of(model)), model.depth
    steering = next(name for name in names_on(subject) if EFFECTS[name].family == "steering")
    packs = [NONE, pack_of(steering, 0.5), NONE, pack_of(steering, 0.0)]
    binding = bind(packs, [Stream(11, f"u{i}") for i in range(4)], subject)
    trunk = trunk_of(binding, torch.tensor([7, 7, 9, 7]), depth)
    assert trunk.stages[0].of.tolist() == [0, 0, 1, 0]
    assert trunk.stages[0].rows.tolist() == [0, 2]
    assert trunk.stages[-1].of.tolist() == [0, 2, 1, 0]
    assert trunk.at(depth - 1) is trunk.stages[-1]
    assert not trunk_of(binding, torch.arange(4), depth).shares
