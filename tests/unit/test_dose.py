"""The KL unit: what is found is what was asked for, the first crossing is taken, and a range is never left."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from neuromod_core.calibrate import Cache, Calibration
from neuromod_core.calibrate.causal import HeldOut, causal
from neuromod_core.calibrate.curve import Curve, Point, curves
from neuromod_core.calibrate.dose import (
    TOLERANCE,
    Matched,
    divergences,
    kl_units,
    largest_factor,
    loudness,
    rollouts,
)
from neuromod_core.calibrate.reading import Given, divergence, read
from neuromod_core.calibrate.units import units
from neuromod_core.effects.sampler.temperature import Temperature
from neuromod_core.effects.steering.add import Steering
from neuromod_core.engine import Session, dosed
from neuromod_core.kernel.errors import CalibrationError, PackError
from neuromod_core.models import LoadedModel
from neuromod_core.packs import Dosed, Pack, parse_pack
from neuromod_core.trial.register import given, kl_factors
from tests.conftest import subject_of

TEXTS = [tuple(range(60 + at, 100 + at)) for at in range(0, 60, 20)]
HOT = Pack("hot", "temperature", "control", (Dosed("temperature", Temperature(), 0.5),))
PUSH = Pack("push", "steering", "control", (Dosed("steering", Steering(steering_type="visionary"), 0.4),))
BOTH = Pack("both", "both", "control", (*HOT.effects, *PUSH.effects))


@pytest.fixture
def session(llama: LoadedModel) -> Iterator[Session]:
    with dosed(llama) as opened:
        yield opened


def test_a_pack_in_its_unit_is_as_loud_as_asked(session: Session) -> None:
    subject, packs = subject_of(session.model), [PUSH, BOTH]
    targets = [0.02, 0.05]
    found = kl_units(session, packs, TEXTS, subject, targets=targets)
    for pack, target, unit in zip(packs, targets, found, strict=True):
        assert unit is not None
        again = float(loudness(divergences(session, [pack.scaled(unit.factor)], TEXTS, subject))[0])
        assert again == pytest.approx(target, rel=TOLERANCE)
        assert again == pytest.approx(unit.kl)


def test_a_unit_can_be_heard_on_what_the_pack_writes(session: Session) -> None:
    subject = subject_of(session.model)
    (unit,) = kl_units(session, [PUSH], TEXTS, subject, targets=[0.02], heard="rollout")
    assert unit is not None
    again = float(loudness(rollouts(session, [PUSH.scaled(unit.factor)], TEXTS, subject).kl.flatten(1))[0])
    assert again == pytest.approx(unit.kl), "what is said was reached is reached again"
    assert again == pytest.approx(0.02, rel=0.5), "text that is written jumps where a token changes"
    assert unit != kl_units(session, [PUSH], TEXTS, subject, targets=[0.02])[0]


def test_packs_solved_together_are_solved_as_alone(session: Session) -> None:
    subject = subject_of(session.model)
    together = kl_units(session, [PUSH, BOTH], TEXTS, subject, targets=[0.02, 0.05])
    alone = [kl_units(session, [p], TEXTS, subject, targets=[t])[0] for p, t in ((PUSH, 0.02), (BOTH, 0.05))]
    for one, other in zip(together, alone, strict=True):
        assert one is not None
        assert other is not None
        assert one.factor == pytest.approx(other.factor, rel=1e-3)


def test_a_guess_saves_work_and_not_the_answer(session: Session) -> None:
    subject, rows = subject_of(session.model), {"grid": 0, "guess": 0}

    def counted(name: str) -> object:
        def tick(count: int) -> None:
            rows[name] += count

        return tick

    (slow,) = kl_units(session, [PUSH], TEXTS, subject, targets=[0.02], tick=counted("grid"))  # type: ignore[arg-type]
    assert slow is not None
    (fast,) = kl_units(
        session,
        [PUSH],
        TEXTS,
        subject,
        targets=[0.02],
        guess=0.9 * slow.factor,
        tick=counted("guess"),  # type: ignore[arg-type]
    )
    assert fast is not None
    assert fast.factor == pytest.approx(slow.factor, rel=2 * TOLERANCE)
    assert rows["guess"] < rows["grid"]


def test_a_divergence_out_of_reach_is_none_and_no_number(session: Session) -> None:
    assert kl_units(session, [PUSH], TEXTS, subject_of(session.model), targets=[50.0]) == [None]


def test_the_divergence_is_the_sum_spelled_out(session: Session) -> None:
    subject = subject_of(session.model)
    plain, hot = read(
        session, [Given(Pack("none", "n", "control"), (5, 6), (7, 8, 9)), Given(HOT, (5, 6), (7, 8, 9))], subject
    )
    tokens = torch.tensor([[5, 6, 7, 8, 9]])
    with torch.inference_mode():
        logits = session.model.network(tokens).logits[0, 1:4].float()
    flat = (logits / 2.0**0.5).log_softmax(-1)
    expected = (flat.exp() * (flat - logits.log_softmax(-1))).sum(-1)
    assert divergence(hot.logprob, plain.logprob) == pytest.approx(expected.numpy(), abs=1e-5)


def test_a_rollout_is_judged_on_what_the_dosed_model_wrote(session: Session) -> None:
    packs = [Pack("none", "n", "control"), HOT]
    found = rollouts(session, packs, TEXTS[:2], subject_of(session.model))
    assert found.kl.shape == found.surprise.shape == (2, 2, 32)
    assert float(found.kl[0].nan_to_num().abs().max()) < 1e-6
    assert float(found.kl[1].nanmean()) > 0
    (text,) = found.tokens[1][:1]
    with torch.inference_mode():
        whole = torch.tensor([[*TEXTS[0][:8], *text]])
        logprob = session.model.network(whole).logits[0, 7:-1].float().log_softmax(-1)
    expected = -logprob[torch.arange(len(text)), torch.tensor(text)]
    assert found.surprise[1, 0, : len(text)].numpy() == pytest.approx(expected.numpy(), abs=1e-4)
    assert bool(found.surprise[1, 0, len(text) :].isnan().all())


def test_the_largest_factor_is_where_the_first_dose_leaves_its_range() -> None:
    assert largest_factor(HOT) == pytest.approx(4.0)
    assert largest_factor(BOTH) == pytest.approx(4.0)
    down = Pack("down", "d", "control", (Dosed("temperature", Temperature(), -0.25),))
    assert largest_factor(down) == pytest.approx(8.0)
    with pytest.raises(CalibrationError, match="Pack 'nothing' has no dose that could be scaled"):
        largest_factor(Pack("nothing", "n", "control"))


def test_a_text_too_short_to_be_read_is_refused(session: Session) -> None:
    with pytest.raises(CalibrationError, match="A neutral text has 5 tokens; more than 8 are needed"):
        divergences(session, [HOT], [(1, 2, 3, 4, 5)], subject_of(session.model))


def test_units_are_kept_and_read(session: Session, tmp_path: Path) -> None:
    found = Calibration(subject_of(session.model), (), torch.zeros(2, 4), 1.0, "f")
    neutral = ["A lighthouse is a tower that carries a lamp to guide ships near the coast of the land." * 2] * 3
    packs = [dataclasses.replace(PUSH, kl=0.02), dataclasses.replace(HOT, kl=50.0)]
    fresh = units(session.model, lambda: session, packs, neutral, found, Cache(tmp_path))
    rows: list[int] = []
    kept = units(session.model, lambda: session, packs, neutral, found, Cache(tmp_path), rows.append)
    assert fresh == kept
    assert rows == []
    assert fresh[0] is not None
    assert fresh[1] is None


def test_a_study_scales_what_asks_for_a_divergence_and_nothing_else() -> None:
    loud, plain = dataclasses.replace(PUSH, kl=1.0), HOT
    factors = kl_factors([loud, plain], lambda packs: [Matched(0.5, 1.0) for _ in packs])
    assert factors == {"push": {"": 0.5}}
    assert given(loud, factors, 2.0).effects[0].dose == pytest.approx(0.4)
    assert given(plain, factors, 2.0).effects[0].dose == pytest.approx(1.0)
    with pytest.raises(CalibrationError, match="'push' asks for a KL divergence of 1 nats, which it does not reach"):
        kl_factors([loud], lambda packs: [None])


def test_a_divergence_is_asked_of_something_that_can_be_scaled() -> None:
    text = '{"name": "p", "description": "d", "class": "c", "version": 1, "effects": [], "kl": %s}'
    with pytest.raises(PackError, match="'p' asks for a KL divergence but has no dose"):
        parse_pack(text % "1.0", "p.json")
    with pytest.raises(PackError, match="kl: input should be greater than 0, given 0"):
        parse_pack(text % "0", "p.json")


def test_a_causal_check_finds_a_direction_that_writes_a_word(session: Session) -> None:
    """The readout row of a token, as a vector, makes that token likelier: further than shams of the same KL."""
    subject = subject_of(session.model)
    wanted = session.model.network.get_output_embeddings().weight[65].detach().float()  # type: ignore[union-attr]
    unit = wanted / wanted.norm()
    vector = dataclasses.replace(subject.vectors["visionary"], direction=unit, layer=1, stream_norm=400.0)
    generator = torch.Generator().manual_seed(1)
    shams = torch.nn.functional.normalize(torch.randn(20, len(unit), generator=generator), dim=-1).double().numpy()
    pairs = [[((65, 70 + at), (66, 70 + at))] for at in range(8)]
    without = unit.double().numpy()[None].repeat(8, 0)
    found = causal(session, HeldOut(vector, without, shams, pairs), (5, 6), TEXTS[:1], subject)
    assert len(found.topics) == 8
    assert found.shift is not None
    assert found.shift > 0
    assert found.pvalue == pytest.approx(1 / (1 + len(found.random) + len(found.shuffled)))
    assert found.passed
    weak = dataclasses.replace(vector, stream_norm=1e-6)
    nothing = causal(session, HeldOut(weak, without, shams, pairs), (5, 6), TEXTS[:1], subject)
    assert nothing.shift is None
    assert not nothing.passed


def test_a_curve_says_where_more_is_not_more_and_where_text_breaks(session: Session) -> None:
    subject = subject_of(session.model)
    (curve,) = curves(session, [HOT], [1.0], TEXTS[:2], subject)
    assert [point.multiple for point in curve.points] == [0.0, 0.25, 0.5, 1.0, 1.5, 2.0, 3.0]
    assert curve.points[0].kl == pytest.approx(0.0, abs=1e-6)
    rising = [point.kl for point in curve.points]
    assert rising == sorted(rising)
    assert curve.falling == ()
    assert [point.multiple for point in curves(session, [HOT], [2.0], TEXTS[:1], subject)[0].points][-1] == 2.0


def test_guards_and_falling_doses_are_read_off_the_points() -> None:
    plain = Point(0.0, 0.0, 0.0, 10.0, 0.1)
    found = Curve(
        "p",
        (plain, Point(0.5, 1.0, 1.0, 12.0, 0.1), Point(1.0, 0.7, 1.0, 31.0, 0.1), Point(2.0, 1.5, 1.0, 12.0, 0.4)),
    )
    assert found.falling == (1.0,)
    assert found.broken == (1.0, 2.0)


def test_a_placebo_matched_on_kl_is_brought_to_the_unit() -> None:
    body = {"name": "loud", "description": "a temperature", "class": "control", "version": 1}
    body["effects"] = [{"effect": "temperature", "weight": 0.5, "direction": "up"}]  # type: ignore[assignment]
    matched, spelt = (parse_pack(json.dumps(body | more), "pack") for more in ({"match": "kl"}, {"kl": 1.0}))
    assert matched == spelt
    assert parse_pack(json.dumps(body | {"match": "kl", "kl": 0.5}), "pack").kl == 0.5
