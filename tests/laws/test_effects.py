"""Laws of effects, over the register x tiny models of every architecture.

A new effect is covered before its author writes a test.
"""

from __future__ import annotations

import dataclasses
import itertools

import pytest
import torch

from neuromod_core.effects import EFFECTS, Stream, Subject
from neuromod_core.engine import Row, dosed, generate, score
from neuromod_core.models import LoadedModel
from neuromod_core.packs import Dosed, Pack, bind
from tests.laws.observables import OBSERVABLES

REQUIRED = {"steering": {"steering_type": "visionary"}, "style_affect_logit_bias": {"bias_type": "calm"}}
TOLERANCE = 5e-4  # nats over a response: float32, other summation order


def pack_of(name: str, dose: float) -> Pack:
    effect = EFFECTS[name](**REQUIRED.get(name, {}))
    return Pack(name=f"only_{name}", description="one effect", kind="test", effects=(Dosed(name, effect, dose),))


def some_dose(name: str) -> float:
    low, high = EFFECTS[name].doses
    return 0.8 if high >= 0.8 else low


NONE = Pack(name="none", description="nothing", kind="control")
PROMPTS = [tuple((7 * i + 3 * j) % 200 + 20 for j in range(40 + 3 * (i % 4))) for i in range(len(EFFECTS) + 2)]
RESPONSES = [tuple((11 * k + 5 * j) % 90 + 30 for j in range(4 + k)) for k in range(3)]


def rows_of(packs: list[Pack]) -> list[Row]:
    return [Row(PROMPTS[i], pack, Stream(11, f"unit{i}")) for i, pack in enumerate(packs)]


def mixed() -> list[Pack]:
    """Every registered effect as a row of one batch, and two rows with nothing."""
    return [pack_of(name, some_dose(name)) for name in EFFECTS] + [NONE, NONE]


def readings(model: LoadedModel, subject: Subject, rows: list[Row]) -> torch.Tensor:
    with dosed(model) as session:
        scored = score(session, rows, RESPONSES, subject)
    return torch.tensor([[[cell.raw, cell.expressed] for cell in line] for line in scored], dtype=torch.float64)


def same(a: torch.Tensor, b: torch.Tensor, tolerance: float = TOLERANCE) -> bool:
    finite = torch.isfinite(a)
    return bool((finite == torch.isfinite(b)).all()) and bool(((a - b)[finite].abs() <= tolerance).all())


@pytest.mark.parametrize("name", EFFECTS)
def test_zero_dose_is_bitwise_identity(name: str, model: LoadedModel, subject: Subject) -> None:
    undosed, at_zero = (rows_of([pack] * 4) for pack in (NONE, pack_of(name, 0.0)))
    assert torch.equal(readings(model, subject, undosed), readings(model, subject, at_zero))
    with dosed(model) as session:
        assert generate(session, undosed, subject, tokens=6) == generate(session, at_zero, subject, tokens=6)


def test_undosed_engine_is_the_library_bit_for_bit(model: LoadedModel, subject: Subject) -> None:
    tokens = torch.tensor([PROMPTS[0], PROMPTS[4]])
    with torch.inference_mode():
        expected = model.network(tokens).logits
        with dosed(model):
            assert torch.equal(model.network(tokens).logits, expected)
        assert torch.equal(
            model.logits(model.hidden(tokens, torch.ones_like(tokens), torch.arange(40)[None], None)), expected
        )


def test_a_row_does_not_depend_on_its_neighbours(model: LoadedModel, subject: Subject) -> None:
    rows = rows_of(mixed())
    together = readings(model, subject, rows)
    order = torch.randperm(len(rows), generator=torch.Generator().manual_seed(1))
    shuffled = readings(model, subject, [rows[i] for i in order])
    assert same(together[order], shuffled)
    alone = torch.cat([readings(model, subject, [row]) for row in rows])
    assert same(together, alone)


def test_undosed_rows_are_bitwise_the_same_beside_dosed_neighbours(model: LoadedModel, subject: Subject) -> None:
    if model.network.config.model_type == "mixtral":
        pytest.skip("expert grouping changes the summation order: bounded, not bitwise, as the neighbour law shows")
    packs = mixed()
    beside_dosed = readings(model, subject, rows_of(packs))
    beside_undosed = readings(model, subject, rows_of([NONE] * len(packs)))
    assert torch.equal(beside_dosed[-2:], beside_undosed[-2:])


@pytest.mark.parametrize("name", EFFECTS)
def test_generated_tokens_do_not_depend_on_the_batch(name: str, model: LoadedModel, subject: Subject) -> None:
    rows = rows_of([pack_of(name, some_dose(name)), NONE, pack_of("temperature", -1.0)])
    with dosed(model) as session:
        together = generate(session, rows, subject, tokens=8)
        alone = [generate(session, [row], subject, tokens=8)[0] for row in rows]
        backwards = generate(session, rows[::-1], subject, tokens=8)[::-1]
    assert [row.tokens for row in together] == [row.tokens for row in alone] == [row.tokens for row in backwards]


@pytest.mark.parametrize("name", EFFECTS)
def test_cached_equals_uncached(name: str, model: LoadedModel, subject: Subject) -> None:
    """Sampled log-probabilities (token by token on a cache) = the same text read in one pass."""
    row = Row(PROMPTS[3], pack_of(name, some_dose(name)), Stream(5, "u"))
    with dosed(model) as session:
        written = generate(session, [row], subject, tokens=8)[0]
        read = score(session, [row], [written.tokens], subject)[0][0]
    assert read.expressed == pytest.approx(sum(written.logprob), abs=TOLERANCE)


def test_left_padding_is_invisible(model: LoadedModel, subject: Subject) -> None:
    packs = mixed()
    rows = [Row(PROMPTS[0], pack, Stream(11, "u")) for pack in packs]
    padded = [*rows, Row(PROMPTS[0] * 2, NONE, Stream(11, "long"))]
    assert same(readings(model, subject, rows), readings(model, subject, padded)[:-1])


@pytest.mark.parametrize("name", EFFECTS)
def test_a_dose_moves_what_the_effect_says(name: str, model: LoadedModel, subject: Subject) -> None:
    """Effect-size guard: the declared observable moves in the declared direction, further at a larger dose."""
    kind = EFFECTS[name]
    sign = 1 if kind.doses[1] > 0 else -1
    measure = OBSERVABLES[kind.observable]
    small, large = (measure(model, subject, pack_of(name, sign * size)) for size in (0.4, 0.95))
    nothing = measure(model, subject, NONE)
    assert sign * kind.moves * (small - nothing) > 1e-6, f"{kind.observable}: {nothing} -> {small}"
    assert sign * kind.moves * (large - small) >= 0, f"{kind.observable}: {small} -> {large}"


def test_the_order_of_effects_in_a_pack_changes_nothing(llama: LoadedModel) -> None:
    from tests.conftest import subject_of

    subject = subject_of(llama)
    effects = [item for name in EFFECTS for item in pack_of(name, some_dose(name)).effects]
    packs = [
        dataclasses.replace(NONE, effects=tuple(order)) for order in (effects, effects[::-1], effects[3:] + effects[:3])
    ]
    a, b, c = (readings(llama, subject, rows_of([pack] * 2)) for pack in packs)
    assert torch.equal(a, b)
    assert torch.equal(b, c)


def test_no_two_effects_are_the_same(llama: LoadedModel) -> None:
    from tests.conftest import subject_of

    subject = subject_of(llama)
    rows = [Row(PROMPTS[1] * 2, pack_of(name, some_dose(name)), Stream(1, "u")) for name in EFFECTS]
    outputs = readings(llama, subject, [*rows, Row(PROMPTS[1] * 2, NONE, Stream(1, "u"))])
    for a, b in itertools.combinations(range(len(outputs)), 2):
        assert not torch.equal(outputs[a], outputs[b]), f"{([*EFFECTS, 'none'])[a]} = {([*EFFECTS, 'none'])[b]}"


def trace(model: LoadedModel) -> tuple[object, ...]:
    network = model.network
    hooks = sum(len(module._forward_hooks) + len(module._forward_pre_hooks) for module in network.modules())
    state = {key: value.clone() for key, value in network.state_dict().items()}
    return hooks, network.config._attn_implementation, [type(m).forward for m in network.modules()], state


def same_trace(a: tuple[object, ...], b: tuple[object, ...]) -> bool:
    return a[:3] == b[:3] and all(torch.equal(a[3][key], b[3][key]) for key in a[3])  # type: ignore[index]


def test_leaving_restores_the_model_bitwise_also_after_an_exception(model: LoadedModel, subject: Subject) -> None:
    tokens = torch.tensor([PROMPTS[0]])
    with torch.inference_mode():
        before, logits = trace(model), model.network(tokens).logits
        with dosed(model) as session:
            score(session, rows_of(mixed()), RESPONSES, subject)
        assert same_trace(before, trace(model))
        with pytest.raises(ZeroDivisionError):
            fail_while_dosed(model, subject)
        assert same_trace(before, trace(model))
        assert torch.equal(model.network(tokens).logits, logits)


def fail_while_dosed(model: LoadedModel, subject: Subject) -> None:
    with dosed(model) as session:
        generate(session, rows_of(mixed()), subject, tokens=3)
        raise ZeroDivisionError


def test_a_binding_of_repeated_rows_is_the_binding_of_those_packs(llama: LoadedModel) -> None:
    from tests.conftest import subject_of

    subject, packs = subject_of(llama), mixed()
    streams = [Stream(1, str(i)) for i in range(len(packs))]
    index = [2, 0, 2, 5]
    taken = bind(packs, streams, subject).take(index)
    direct = bind([packs[i] for i in index], [streams[i] for i in index], subject)
    assert taken.streams == direct.streams
    for phase, shifts in direct.shifts.items():
        assert all(torch.equal(taken.shifts[phase][layer], table) for layer, table in shifts.items())
    for one, other in ((taken.gains, direct.gains), (taken.gates, direct.gates)):
        assert other is None or torch.equal(one, other)
