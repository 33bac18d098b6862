"""Laws of effects, over the register x tiny models of every architecture.

All effects are rows of one batch, so that a law is tried on every effect at the cost of one. A new effect is covered
before its author writes a test.
"""

from __future__ import annotations

import dataclasses
import itertools

import pytest
import torch

from neuromod_core.effects import EFFECTS, Stream, Subject
from neuromod_core.effects.kinds import ChoiceEffect, ImageEffect
from neuromod_core.engine import Row, dosed, generate, score
from neuromod_core.engine.dosed import Path
from neuromod_core.engine.rows import pad_left
from neuromod_core.kernel.errors import NotOnThisModel
from neuromod_core.models import LoadedModel, tiny
from neuromod_core.packs import Dosed, Pack, bind
from tests.conftest import subject_of
from tests.laws.families import EXAMPLES, OBSERVABLES

TOLERANCE = 5e-4  # nats over a response: float32, other summation order
LANGUAGE = [name for name in EFFECTS if not issubclass(EFFECTS[name], ImageEffect)]
NONE = Pack(name="none", description="nothing", kind="control")
RESPONSES = [(30, 35, 40, 30), (41, 46, 41, 56, 41), (52, 57, 62, 67, 72, 77)]


def pack_of(name: str, dose: float) -> Pack:
    effect = EFFECTS[name](**EXAMPLES.get(name, {}))
    return Pack(name=f"only_{name}", description="one effect", kind="test", effects=(Dosed(name, effect, dose),))


def some_dose(name: str) -> float:
    low, high = EFFECTS[name].doses
    return 0.8 if high >= 0.8 else low


def names_on(subject: Subject) -> list[str]:
    """The effects that mean something on this model."""
    found = []
    for name in EFFECTS:
        try:
            pack_of(name, 0.0).check(subject)
            found.append(name)
        except NotOnThisModel:
            continue
    return found


def prompt(i: int) -> tuple[int, ...]:
    return tuple((7 * i + 3 * j) % 200 + 20 for j in range(40 + 3 * (i % 4)))


def rows_of(packs: list[Pack]) -> list[Row]:
    return [Row(prompt(i), pack, Stream(11, f"unit{i}")) for i, pack in enumerate(packs)]


def mixed(subject: Subject) -> list[Pack]:
    """Every effect as a row of one batch, and two rows with nothing."""
    return [pack_of(name, some_dose(name)) for name in names_on(subject)] + [NONE, NONE]


def readings(model: LoadedModel, subject: Subject, rows: list[Row], path: Path = "library") -> torch.Tensor:
    with dosed(model, path) as session:
        scored = score(session, rows, RESPONSES, subject)
    return torch.tensor([[[cell.raw, cell.expressed] for cell in line] for line in scored], dtype=torch.float64)


def differing(a: torch.Tensor, b: torch.Tensor, rows: list[Row], tolerance: float = TOLERANCE) -> list[str]:
    """The packs whose readings differ by more than the tolerance (0: by a single bit)."""
    equal = (torch.isfinite(a) == torch.isfinite(b)) & (~torch.isfinite(a) | ((a - b).abs() <= tolerance))
    return [
        row.pack.name for row, fine in zip(rows, equal.reshape(len(rows), -1).all(1).tolist(), strict=True) if not fine
    ]


def mixes_rows(model: LoadedModel) -> bool:
    """Experts group tokens of all rows, so the summation order depends on the neighbours: bounded, not bitwise."""
    return model.experts > 0


def test_zero_dose_is_bitwise_identity(model: LoadedModel, subject: Subject, path: Path) -> None:
    names = names_on(subject)
    at_zero = rows_of([pack_of(name, 0.0) for name in names])
    undosed = rows_of([NONE] * len(names))
    assert not differing(readings(model, subject, at_zero, path), readings(model, subject, undosed, path), at_zero, 0.0)
    with dosed(model, path) as session:
        assert generate(session, undosed, subject, tokens=6) == generate(session, at_zero, subject, tokens=6)


def test_undosed_engine_is_the_library_bit_for_bit(model: LoadedModel, subject: Subject, path: Path) -> None:
    tokens = torch.tensor([prompt(0), prompt(4)])
    with torch.inference_mode():
        expected = model.network(tokens).logits
        with dosed(model, path):
            assert torch.equal(model.network(tokens).logits, expected)
        assert torch.equal(
            model.logits(model.hidden(tokens, torch.ones_like(tokens), torch.arange(40)[None], None)), expected
        )


def test_a_row_does_not_depend_on_its_neighbours(model: LoadedModel, subject: Subject, path: Path) -> None:
    rows = rows_of(mixed(subject))
    together = readings(model, subject, rows, path)
    order = torch.randperm(len(rows), generator=torch.Generator().manual_seed(1))
    shuffled = readings(model, subject, [rows[i] for i in order], path)
    assert not differing(together[order], shuffled, [rows[i] for i in order])


@pytest.mark.parametrize("part", [0, pytest.param(1, marks=pytest.mark.slow), pytest.param(2, marks=pytest.mark.slow)])
def test_a_row_alone_is_the_row_in_company(part: int, model: LoadedModel, subject: Subject, path: Path) -> None:
    """A third of effect x architecture in the fast suite, another third on the next one; all of it in the slow one."""
    rows = rows_of(mixed(subject))
    together = readings(model, subject, rows, path)
    chosen = [i for i in range(len(rows)) if (i + len(model.name)) % 3 == part]
    alone = torch.cat([readings(model, subject, [rows[i]], path) for i in chosen])
    assert not differing(together[chosen], alone, [rows[i] for i in chosen])


@pytest.mark.parametrize("architecture", ["llama", "mixtral"])
def test_rows_that_differ_in_dose_alone_differ(architecture: str) -> None:
    """Rows that read the same prompt share a pass only where their doses leave it the same."""
    model = tiny(architecture, seed=3)
    subject = subject_of(model)
    names = names_on(subject)
    sizes = {name: 1 if EFFECTS[name].doses[1] > 0 else -1 for name in names}
    packs = [pack_of(name, sizes[name] * dose) for name in names for dose in (0.4, 0.95)]
    rows = [Row(prompt(0), pack, Stream(11, "u")) for pack in packs]
    alone = [Row(prompt((i + 1) % 2), row.pack, row.stream) for i, row in enumerate(rows)]
    together, parted = readings(model, subject, rows), readings(model, subject, alone)
    second = list(range(1, len(rows), 2))
    assert not differing(together[second], parted[second], [rows[i] for i in second])


def test_undosed_rows_are_bitwise_the_same_beside_dosed_neighbours(
    model: LoadedModel, subject: Subject, path: Path
) -> None:
    if mixes_rows(model):
        pytest.skip("expert grouping changes the summation order: bounded, not bitwise, as the neighbour law shows")
    rows = rows_of(mixed(subject))
    undosed = [dataclasses.replace(row, pack=NONE, prompt=row.reads(subject)) for row in rows]
    dosed_readings, undosed_readings = readings(model, subject, rows, path), readings(model, subject, undosed, path)
    assert not differing(dosed_readings[-2:], undosed_readings[-2:], rows[-2:], 0.0)


def test_generated_tokens_do_not_depend_on_the_batch(model: LoadedModel, subject: Subject, path: Path) -> None:
    rows = rows_of(mixed(subject))
    with dosed(model, path) as session:
        together = generate(session, rows, subject, tokens=8)
        backwards = generate(session, rows[::-1], subject, tokens=8)[::-1]
        refilled = generate(session, rows, subject, tokens=8, slots=7)
    for other in (backwards, refilled):
        assert not [row.pack.name for row, a, b in zip(rows, together, other, strict=True) if a.tokens != b.tokens]


def uncached(model: LoadedModel, subject: Subject, rows: list[Row], texts: list[tuple[int, ...]]) -> torch.Tensor:
    """Log-likelihood of a text after each row's prompt, read in one pass without any cache."""
    prompts = [row.reads(subject) for row in rows]
    padded = pad_left([a + b for a, b in zip(prompts, texts, strict=True)], model.device)
    binding = bind([row.pack for row in rows], [row.stream for row in rows], subject)
    start = torch.tensor([len(text) for text in prompts])
    known, totals = pad_left(prompts, model.device).known, torch.zeros(len(rows), dtype=torch.float64)
    with torch.inference_mode(), dosed(model) as session:
        hidden = session.forward(padded.tokens, padded.mask, pad=padded.pad, binding=binding, start=start, cache=None)
        for step in range(max(map(len, texts))):
            column = (padded.pad + start + step - 1).clamp(max=padded.tokens.shape[1] - 1)
            read = session.read(hidden.at(torch.arange(len(rows)), column))
            history = torch.tensor([list(text[:step]) + [-1] * (step - len(text[:step])) for text in texts]).long()
            edited = binding.edit_logits(
                read.logits, torch.full((len(rows),), step), history.view(len(rows), -1), known, read.early
            )
            logprob = edited.log_softmax(-1)
            for row, text in enumerate(texts):
                totals[row] += float(logprob[row, text[step]]) if step < len(text) else 0.0
    return totals


def test_cached_equals_uncached(model: LoadedModel, subject: Subject, path: Path) -> None:
    """What was sampled token by token on a cache, or scored after a cached prompt, is what one pass over all reads."""
    rows = rows_of(mixed(subject))
    with dosed(model, path) as session:
        written = generate(session, rows, subject, tokens=8)
        scored = torch.tensor([line[2].expressed for line in score(session, rows, RESPONSES, subject)])
    sampled = torch.tensor([sum(text.logprob) for text in written])
    assert not differing(sampled, uncached(model, subject, rows, [text.tokens for text in written]), rows)
    assert not differing(scored.double(), uncached(model, subject, rows, [RESPONSES[2]] * len(rows)), rows)


def test_left_padding_is_invisible(model: LoadedModel, subject: Subject, path: Path) -> None:
    rows = [Row(prompt(0), pack, Stream(11, "u")) for pack in mixed(subject)]
    padded = [*rows, Row(prompt(0) * 2, NONE, Stream(11, "long"))]
    assert not differing(readings(model, subject, rows, path), readings(model, subject, padded, path)[:-1], rows)


@pytest.mark.parametrize("name", LANGUAGE)
def test_a_dose_moves_what_the_effect_says(name: str) -> None:
    """Effect-size guard: the declared observable moves in the declared direction, further at a larger dose."""
    kind = EFFECTS[name]
    model = tiny("mixtral" if kind.needs == "router" else "llama", seed=3)
    subject, measure = subject_of(model), OBSERVABLES[kind.observable]
    nothing = measure(model, subject, NONE)
    for sign in (way for way, bound in ((1, kind.doses[1]), (-1, -kind.doses[0])) if bound > 0):
        small, large = (measure(model, subject, pack_of(name, sign * size)) for size in (0.4, 0.95))
        assert sign * kind.moves * (small - nothing) > 1e-6, f"{kind.observable}: {nothing} -> {small}"
        assert sign * kind.moves * (large - small) >= 0, f"{kind.observable}: {small} -> {large}"


@pytest.mark.parametrize("architecture", ["llama", "mixtral"])
def test_the_order_of_effects_in_a_pack_changes_nothing(architecture: str) -> None:
    model = tiny(architecture, seed=3)
    subject = subject_of(model)
    names = [name for name in names_on(subject) if not issubclass(EFFECTS[name], ChoiceEffect)]
    effects = [item for name in names for item in pack_of(name, some_dose(name)).effects]
    orders = (effects, effects[::-1], effects[5:] + effects[:5])
    packs = [dataclasses.replace(NONE, effects=tuple(order)) for order in orders]
    a, b, c = (readings(model, subject, rows_of([pack] * 2)) for pack in packs)
    assert torch.equal(a, b)
    assert torch.equal(b, c)


@pytest.mark.parametrize("architecture", ["llama", "mixtral"])
def test_no_two_effects_are_the_same(architecture: str) -> None:
    """At each tested dose, every pair of effects differs in what it reads, or in what it writes."""
    model = tiny(architecture, seed=3)
    subject = subject_of(model)
    names = [*names_on(subject), "none"]
    for size in (0.4, 0.8, 1.0):
        doses = [max(-size, EFFECTS[name].doses[0]) if EFFECTS[name].doses[1] <= 0 else size for name in names[:-1]]
        packs = [pack_of(name, dose) for name, dose in zip(names, doses, strict=False)] + [NONE]
        rows = [Row(prompt(1) * 2, pack, Stream(1, "u")) for pack in packs]
        outputs = readings(model, subject, rows)
        several = [Row(prompt(i) * 2, pack, Stream(1, f"u{i}")) for pack in packs for i in range(4)]
        with dosed(model) as session:
            texts = [text.tokens for text in generate(session, several, subject, tokens=24)]
        for a, b in itertools.combinations(range(len(rows)), 2):
            same = torch.equal(outputs[a], outputs[b]) and texts[4 * a : 4 * a + 4] == texts[4 * b : 4 * b + 4]
            assert not same, f"{names[a]} = {names[b]} at dose {size}"


def test_an_effect_that_means_nothing_here_is_refused(llama: LoadedModel) -> None:
    subject = subject_of(llama)
    for name in set(EFFECTS) - set(names_on(subject)):
        with pytest.raises(NotOnThisModel, match=r"dense model|language model"):
            bind([pack_of(name, 0.0)], [Stream(0, "u")], subject)


def trace(model: LoadedModel) -> tuple[object, ...]:
    network = model.network
    hooks = sum(len(module._forward_hooks) + len(module._forward_pre_hooks) for module in network.modules())
    state = {key: value.clone() for key, value in network.state_dict().items()}
    return hooks, network.config._attn_implementation, [type(m).forward for m in network.modules()], state


def same_trace(a: tuple[object, ...], b: tuple[object, ...]) -> bool:
    return a[:3] == b[:3] and all(torch.equal(a[3][key], b[3][key]) for key in a[3])  # type: ignore[index]


def test_leaving_restores_the_model_bitwise_also_after_an_exception(
    model: LoadedModel, subject: Subject, path: Path
) -> None:
    tokens = torch.tensor([prompt(0)])
    with torch.inference_mode():
        before, logits = trace(model), model.network(tokens).logits
        with dosed(model, path) as session:
            score(session, rows_of(mixed(subject)), RESPONSES, subject)
        assert same_trace(before, trace(model))
        with pytest.raises(ZeroDivisionError):
            fail_while_dosed(model, subject, path)
        assert same_trace(before, trace(model))
        assert torch.equal(model.network(tokens).logits, logits)


def fail_while_dosed(model: LoadedModel, subject: Subject, path: Path) -> None:
    with dosed(model, path) as session:
        generate(session, rows_of(mixed(subject)), subject, tokens=3)
        raise ZeroDivisionError


def test_a_binding_of_repeated_rows_is_the_binding_of_those_packs(llama: LoadedModel) -> None:
    subject = subject_of(llama)
    packs = mixed(subject)
    streams = [Stream(1, str(i)) for i in range(len(packs))]
    index = [2, 0, 2, 5]
    taken = bind(packs, streams, subject).take(index)
    direct = bind([packs[i] for i in index], [streams[i] for i in index], subject)
    assert taken.streams == direct.streams
    for layer, tables in direct.shifts.items():
        ours = dict(taken.shifts[layer])
        assert all(torch.equal(ours[span], table) for span, table in tables)
    for one, other in ((taken.gains, direct.gains), (taken.gates, direct.gates)):
        assert other is None or torch.equal(one, other)
