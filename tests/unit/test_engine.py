"""The engine against its slow twins: batched = one by one, cached = uncached, sampled frequencies = softmax."""

from __future__ import annotations

import dataclasses
import importlib

import pytest
import torch

from neuromod_core.effects import EFFECTS, Stream, Subject
from neuromod_core.engine import Row, choose, dosed, generate, score
from neuromod_core.engine.decode import write
from neuromod_core.engine.sampling import draw
from neuromod_core.kernel.errors import DataError
from neuromod_core.models import LoadedModel
from neuromod_core.packs import Dosed, Pack
from tests.oracles.engine import likelihood, sample

NONE = Pack(name="none", description="nothing", kind="control")
PROMPTS = [tuple((5 * i + 7 * j) % 180 + 30 for j in range(9 + 4 * i)) for i in range(3)]
TEXTS = [(40, 41), (60,), (99, 98, 97, 96, 95)]


def dosed_pack(name: str, dose: float, **parameters: object) -> Pack:
    effect = EFFECTS[name](**parameters)
    return Pack(name="p", description="d", kind="t", effects=(Dosed(name, effect, dose),))


def test_scoring_equals_one_forward_pass_per_token(model: LoadedModel, subject: Subject) -> None:
    rows = [Row(prompt, NONE, Stream(0, "u")) for prompt in PROMPTS]
    with dosed(model) as session:
        read = score(session, rows, TEXTS, subject, batch=4, slab=3)
    for row, line in zip(rows, read, strict=True):
        for text, value in zip(TEXTS, line, strict=True):
            assert value.raw == pytest.approx(likelihood(model, row.prompt, text), abs=2e-4)
            assert value.expressed == value.raw
            assert value.tokens == len(text)


def test_sampling_equals_one_forward_pass_per_token(model: LoadedModel, subject: Subject) -> None:
    rows = [Row(prompt, NONE, Stream(4, f"u{i}")) for i, prompt in enumerate(PROMPTS)]
    with dosed(model) as session:
        written = generate(session, rows, subject, tokens=7)
    assert [list(row.tokens) for row in written] == [sample(model, row, 7) for row in rows]


def test_expressed_likelihood_is_that_of_the_edited_distribution(llama: LoadedModel) -> None:
    from tests.conftest import subject_of

    pack = dosed_pack("temperature", 1.0)
    row = Row(PROMPTS[0], pack, Stream(0, "u"))
    with dosed(llama) as session:
        value = score(session, [row], [TEXTS[2]], subject_of(llama))[0][0]
    total, text = 0.0, list(PROMPTS[0])
    for token in TEXTS[2]:
        with torch.inference_mode():
            logits = llama.network(torch.tensor([text])).logits[0, -1].float()
        total += float((logits / 2).log_softmax(-1)[token])
        text.append(token)
    assert value.expressed == pytest.approx(total, abs=2e-4)
    assert value.raw == pytest.approx(likelihood(llama, PROMPTS[0], TEXTS[2]), abs=2e-4)


def test_a_token_outside_the_nucleus_has_no_likelihood(llama: LoadedModel) -> None:
    from tests.conftest import subject_of

    row = Row(PROMPTS[0], dosed_pack("top_p", -1.0, reach=0.99), Stream(0, "u"))
    with torch.inference_mode():
        logits = llama.network(torch.tensor([PROMPTS[0]])).logits[0, -1]
    least, most = int(logits.argmin()), int(logits.argmax())
    with dosed(llama) as session:
        outside, inside = score(session, [row], [[least], [most]], subject_of(llama))[0]
    assert outside.expressed == float("-inf")
    assert torch.isfinite(torch.tensor(outside.raw))
    assert inside.expressed == pytest.approx(0.0, abs=1e-5)


def test_choices_are_the_next_token_log_probabilities(model: LoadedModel, subject: Subject) -> None:
    rows = [Row(prompt, NONE, Stream(0, "u")) for prompt in PROMPTS]
    with dosed(model) as session:
        read = choose(session, rows, TEXTS, (50, 51, 52), subject, batch=4)
    for row, line in zip(rows, read, strict=True):
        for text, value in zip(TEXTS, line, strict=True):
            with torch.inference_mode():
                logits = model.network(torch.tensor([[*row.prompt, *text]])).logits[0, -1].float()
            assert list(value.raw) == pytest.approx(logits.log_softmax(-1)[[50, 51, 52]].tolist(), abs=2e-4)
            assert value.expressed == value.raw


def test_rows_that_differ_in_their_sampler_alone_share_a_pass_and_part_in_expression(llama: LoadedModel) -> None:
    from tests.conftest import subject_of

    packs = [NONE, dosed_pack("temperature", 0.5), dosed_pack("temperature", -0.5)]
    rows = [Row(PROMPTS[1], pack, Stream(0, "u")) for pack in packs]
    with dosed(llama) as session:
        together = score(session, rows, TEXTS, subject_of(llama))
        alone = [score(session, [row], TEXTS, subject_of(llama))[0] for row in rows]
    assert len({line[2].raw for line in together}) == 1
    assert len({line[2].expressed for line in together}) == 3
    for a, b in zip(together, alone, strict=True):
        assert [v.expressed for v in a] == pytest.approx([v.expressed for v in b], abs=2e-4)


def test_inverse_transform_sampling_has_the_frequencies_of_the_softmax() -> None:
    logits = torch.tensor([[0.5, 0.0, 0.3, 0.2]]).log()
    uniform = torch.arange(10_000, dtype=torch.float64) / 10_000
    drawn = draw(logits.expand(10_000, -1), uniform)
    assert torch.bincount(drawn.token, minlength=4).tolist() == pytest.approx([5000, 0, 3000, 2000], abs=1)
    assert int(draw(logits, torch.tensor([1 - 2**-53], dtype=torch.float64)).token) == 3


def test_a_draw_inverts_the_cumulative_distribution_and_tells_its_entropy() -> None:
    generator = torch.Generator().manual_seed(3)
    logits = 3 * torch.randn(64, 1000, generator=generator)
    logits[:, ::3] = float("-inf")
    uniform = torch.rand(64, dtype=torch.float64, generator=generator)
    logprob = logits.double().log_softmax(-1)
    expected = [
        int(torch.searchsorted(row.exp().cumsum(-1), u, right=True)) for row, u in zip(logprob, uniform, strict=True)
    ]
    drawn = draw(logits, uniform)
    assert drawn.token.tolist() == expected
    assert torch.allclose(drawn.logprob.double(), logprob.gather(-1, drawn.token[:, None])[:, 0], atol=1e-5)
    assert torch.allclose(drawn.entropy.double(), torch.special.entr(logprob.exp()).sum(-1), atol=1e-5)


def test_waiting_rows_take_the_slots_of_rows_that_ended(model: LoadedModel, subject: Subject) -> None:
    """Refilled slots change nothing but the time it takes: every row writes what it writes alone."""
    packs = [NONE, dosed_pack("temperature", 0.5), dosed_pack("steering", 1.0, steering_type="visionary")]
    rows = [Row(PROMPTS[i % 3], packs[i % 3], Stream(4, f"u{i}")) for i in range(21)]
    limits = [3 + (5 * i) % 11 for i in range(21)]
    with dosed(model) as session:
        through_four = generate(session, rows, subject, tokens=limits, slots=4)
        alone = [generate(session, [row], subject, tokens=limit)[0] for row, limit in zip(rows, limits, strict=True)]
    assert [row.tokens for row in through_four] == [row.tokens for row in alone]
    assert all(len(row.tokens) == limit or row.stop == "stop token" for row, limit in zip(alone, limits, strict=True))


def test_slots_are_kept_busy_and_the_cache_stays_small(llama: LoadedModel) -> None:
    from tests.conftest import subject_of

    free = dataclasses.replace(llama, stop_tokens=frozenset())
    rows = [Row(PROMPTS[i % 3], NONE, Stream(4, f"u{i}")) for i in range(160)]
    limits = [16 + (37 * i) % 113 for i in range(160)]
    with dosed(free) as session:
        written = write(session, rows, subject_of(llama), limits=limits, slots=16)
    assert (written.tokens >= 0).sum(-1).tolist() == limits
    assert written.busy >= 0.85


def test_a_stop_token_ends_a_row_and_no_other(llama: LoadedModel) -> None:
    from tests.conftest import subject_of

    rows = [Row(prompt, NONE, Stream(4, f"u{i}")) for i, prompt in enumerate(PROMPTS)]
    with dosed(llama) as session:
        free = generate(session, rows, subject_of(llama), tokens=9)
    stopping = dataclasses.replace(llama, stop_tokens=frozenset({free[1].tokens[3]}))
    with dosed(stopping) as session:
        stopped = generate(session, rows, subject_of(llama), tokens=9)
    assert stopped[1].tokens == free[1].tokens[:4]
    assert stopped[1].stop == "stop token"
    assert len(stopped[1].entropy) == len(stopped[1].logprob) == 4


def test_empty_texts_are_refused(llama: LoadedModel) -> None:
    from tests.conftest import subject_of

    with pytest.raises(DataError, match="empty prompt"):
        Row((), NONE, Stream(0, "u"))
    row = Row(PROMPTS[0], NONE, Stream(0, "u"))
    with dosed(llama) as session, pytest.raises(DataError, match="response to score is empty"):
        score(session, [row], [()], subject_of(llama))


def test_a_large_model_is_not_held_twice(llama: LoadedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    module = importlib.import_module("neuromod_core.engine.dosed")  # the function of that name hides it
    assert module.best_path(llama) == "fused"
    monkeypatch.setattr(module, "LARGEST", 1000)
    assert module.best_path(llama) == "library"


def test_without_laid_out_weights_the_fused_pass_reads_the_same(
    llama: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    from neuromod_core.engine import fused
    from tests.conftest import subject_of

    rows = [Row(prompt, NONE, Stream(0, "u")) for prompt in PROMPTS]
    found = []
    for laid_out in (True, False):
        if not laid_out:
            monkeypatch.setattr(fused, "_lays_out", lambda _weight: False)
        session = fused.FusedSession(llama, fused.Fused(llama))
        found.append([value.raw for line in score(session, rows, TEXTS, subject_of(llama)) for value in line])
    assert found[0] == pytest.approx(found[1], abs=2e-4)
