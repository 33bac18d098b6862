"""The audit: it passes on the analysis as it is, and it notices what it is there to notice."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from scipy import stats as scipy_stats

from flows.cli import main
from neuromod_core.kernel.errors import OutOfRange
from neuromod_core.report.audit import page, write
from neuromod_core.stats import Interval, paired
from neuromod_core.trial import simulate
from neuromod_core.trial.analysis import DECISIONS, primary, tables
from neuromod_core.trial.audit import MINIMUM, QUICK, SUITES, Audit, Settings, audit
from neuromod_core.trial.checks import Line, at_most, caught, claimed, covered, powered, sized
from neuromod_core.trial.simulate import POPULATIONS, Population, differences, draw, mean_difference


def stream(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


@pytest.fixture(scope="module")
def short() -> Audit:
    return audit(QUICK)


# ------------------------------------------------------------------------------------------------------------ the audit


def test_the_analysis_passes_a_short_audit(short: Audit) -> None:
    assert [f"{one.name}: {one.value:.3f} not in {one.low:.3f} .. {one.high:.3f}" for one in short.failed] == []
    assert {one.part for one in short.checks} == {"size", "coverage", "at most", "power", "strain", "caught"}


def test_every_check_has_a_name_of_its_own_and_finite_limits(short: Audit) -> None:
    names = [one.name for one in short.checks]
    assert len(set(names)) == len(names)
    for one in short.checks:
        assert 0 <= one.low < one.high
        assert one.n > 0
        assert math.isfinite(one.error)


def test_equal_seeds_give_equal_audits_and_other_seeds_others() -> None:
    def values(seed: int) -> list[float]:
        settings = Settings(studies=20, trials=20, fits=20, draws=99, resamples=99, seed=seed)
        return [line.check.value for name in ("sign flips", "families") for line in SUITES[name](settings)]

    assert values(1) == values(1) != values(2)


def test_an_audit_of_few_studies_is_refused() -> None:
    with pytest.raises(OutOfRange, match="An audit of 5 studies says nothing; at least 10"):
        Settings(studies=5)


# ------------------------------------------------------------------------------------------- what a check has to notice


def test_a_test_that_rejects_too_often_or_too_rarely_fails() -> None:
    uniform = stream().random(4000)
    assert sized("honest", uniform).check.passed
    assert not sized("liberal", uniform**1.4).check.passed
    assert not sized("conservative", uniform**0.7).check.passed


def test_limits_are_the_promised_ones_from_a_thousand_studies_and_wider_below() -> None:
    assert (sized("", np.ones(1000)).check.low, sized("", np.ones(1000)).check.high) == (0.035, 0.065)
    few = sized("", np.ones(100)).check
    assert few.high == pytest.approx(0.05 + 3 * math.sqrt(0.05 * 0.95 / 100))
    assert few.low == 0.0
    assert covered("", [Interval(0, 1, 0.95)] * 1000, 0.5).check.low == 0.93


def test_the_percentile_bootstrap_of_few_skewed_units_is_noticed() -> None:
    """It is known to cover less than nine in ten with eight skewed units."""
    generator, data = stream(1), stream(2).exponential(size=(1000, 8)) - 1
    found = []
    for units in data:
        low, high = np.quantile(generator.choice(units, size=(499, 8)).mean(axis=1), [0.025, 0.975])
        found.append(Interval(float(low), float(high), 0.95))
    line = covered("percentile", found, 0.0)
    assert line.check.value < 0.92
    assert not line.check.passed


def test_an_interval_that_does_not_exist_covers_nothing() -> None:
    nothing = [Interval(math.nan, math.nan, 0.95)]
    assert covered("", nothing * 100, 0.0).check.value == 0


def test_a_normal_quantile_in_place_of_t_is_noticed() -> None:
    """With four units a z test rejects about 15 times in a hundred."""
    data = stream(3).normal(size=(4000, 4))
    z = [2 * float(scipy_stats.norm.sf(abs(paired(each).statistic))) for each in data]
    assert sized("t", [paired(each).pvalue for each in data]).check.passed
    assert not sized("z", z).check.passed


def test_an_error_rate_above_its_level_is_noticed_and_one_below_is_not() -> None:
    assert at_most("", np.r_[np.ones(50), np.zeros(950)]).check.passed
    assert not at_most("", np.r_[np.ones(70), np.zeros(930)]).check.passed


def test_power_other_than_promised_is_noticed_either_way() -> None:
    p = np.r_[np.full(800, 0.01), np.full(200, 0.5)]
    assert powered("", p, 0.81).check.passed
    assert not powered("", p, 0.75).check.passed
    assert not powered("", p, 0.85).check.passed


def test_a_correct_analysis_among_the_wrong_ones_is_noticed() -> None:
    assert not caught("", stream(4).random(1000)).check.passed


# ---------------------------------------------------------------------------------------------------- simulated studies


@pytest.mark.parametrize("name", POPULATIONS)
def test_the_mean_of_a_population_is_its_truth(name: str) -> None:
    population = POPULATIONS[name]
    data = differences(population, MINIMUM, 100_000 // population.units, stream(5))
    error = float(data.std()) / math.sqrt(data.size)
    assert float(data.mean()) == pytest.approx(mean_difference(population, MINIMUM), abs=4 * error + 0.003)


def test_a_floor_takes_part_of_an_effect_away() -> None:
    assert 0.3 < mean_difference(POPULATIONS["floor"], MINIMUM) < MINIMUM - 0.02


def test_a_population_has_the_shape_it_names() -> None:
    skewed = draw(Population(unit_sd=0, slope_sd=0, residual_sd=2, skew=1.5), np.zeros((1, 1)), 2000, stream(8))
    assert float(scipy_stats.skew(skewed, axis=None)) == pytest.approx(1.5, abs=0.1)
    assert float(skewed.std()) == pytest.approx(2, rel=0.03)
    unequal = draw(Population(unit_sd=0, ratio=3), np.zeros((2, 1)), 1000, stream(9))
    spread = unequal.std(axis=(0, 1, 3))
    assert spread[0] / spread[1] == pytest.approx(3, rel=0.05)
    coarse = draw(Population(step=0.5, floor=-1, ceiling=1), np.zeros((2, 1)), 50, stream(10))
    assert set(np.unique(coarse)) == {-1.0, -0.5, 0.0, 0.5, 1.0}


def test_slopes_are_shared_by_the_scales_of_a_cell() -> None:
    data = draw(Population(unit_sd=0, slope_sd=1, residual_sd=1), np.zeros((1, 2)), 2000, stream(11)).reshape(-1, 2)
    assert np.corrcoef(data.T)[0, 1] == pytest.approx(0.5, abs=0.02)


def test_arms_of_a_family_share_their_comparator() -> None:
    data = simulate.family(POPULATIONS["normal"], [0.0, 0.0, 1.0], 1000, stream(12)).reshape(-1, 3)
    assert np.corrcoef(data.T)[0, 1:] == pytest.approx([0.5, 0.5], abs=0.02)
    assert data.mean(axis=0) == pytest.approx([0, 0, 1], abs=0.02)


def test_answers_change_sides_as_often_as_asked() -> None:
    first, second = simulate.answers(0.1, 0.04, 500, 400, stream(13))
    assert float((first > second).mean()) == pytest.approx(0.1, abs=0.003)
    assert float((first < second).mean()) == pytest.approx(0.04, abs=0.002)
    assert float((first * second).mean()) == pytest.approx(0.086, abs=0.003)


def test_a_course_over_periods_hangs_on_the_period_and_not_on_the_arm() -> None:
    rows = np.tile(np.array([[0, 1, 2], [1, 2, 0], [2, 0, 1]]), (4, 1))
    scores = simulate.courses(POPULATIONS["normal"], rows, 2000, stream(14))
    assert scores.mean(axis=(0, 1)) == pytest.approx([0, 1, 2], abs=0.03)
    arms = [float(scores[:, rows == arm].mean()) for arm in range(3)]
    assert arms == pytest.approx([1, 1, 1], abs=0.03)


def test_the_primary_analysis_finds_what_a_simulated_study_holds() -> None:
    study = simulate.study(24, minimum=0.5, draws=999, resamples=199)
    effects = np.zeros((6, 3))
    effects[3, 0], effects[4, 1], effects[5, 2] = 3, 3, -3
    verdicts = primary(study.plan, tables(study.plan, study.scores(effects, effects, stream(15))))
    assert [one.state for one in verdicts if one.family == DECISIONS] == ["supported"] * 3
    assert all(abs(abs(one.estimate or 0) - 3) < 1 for one in verdicts)


# ----------------------------------------------------------------------------------------------------- page and command


def test_the_page_names_every_check_and_marks_what_fails(short: Audit, tmp_path: Path) -> None:
    bad = Audit((*short.lines, sized("rejects always", np.full(100, 0.001))), short.settings)
    text = page(bad)
    assert all(one.name in text for one in bad.checks)
    assert "**1 fail**" in text
    assert "| rejects always | 1.000 |" in text
    assert text.count("**outside**") == 1
    assert "A short audit" in text
    write(short, tmp_path)
    assert {path.name for path in (tmp_path / "pictures").iterdir()} == {"audit-pvalues.png", "audit-checks.png"}


def test_the_command_prints_rows_and_its_exit_code_tells_of_a_failure(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    code = main(["audit", "--quick", "--studies", "10", "--json", "--document", str(tmp_path)])
    rows = json.loads(capsys.readouterr().out)
    assert code == (0 if all(row["passed"] for row in rows) else 3)
    assert {"part", "name", "value", "low", "high", "n", "error", "passed"} == set(rows[0])
    assert (tmp_path / "audit.md").is_file()


def test_the_command_refuses_what_cannot_be_done(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["audit", "--studies", "3"]) == 2
    assert main(["audit", "--document", "nowhere"]) == 2
    assert "There is no folder nowhere" in capsys.readouterr().err


def test_sizes_come_with_the_p_values_behind_them(short: Audit) -> None:
    with_p = {line.check.part for line in short.lines if isinstance(line, Line) and line.pvalues is not None}
    assert with_p == {"size", "strain"}


def test_a_second_draw_is_afresh_and_four_times_as_large() -> None:
    again = QUICK.again()
    assert again.seed != QUICK.seed
    assert (again.studies, again.trials, again.fits, again.links) == (1200, 80, 40, 40)
    assert (again.draws, again.resamples) == (QUICK.draws, QUICK.resamples)


def test_the_limit_of_false_claims_is_binomial() -> None:
    """One in forty-four exceeds it at the level: the largest share that is not surprising by two errors."""
    for n in (20, 400, 4000):
        high = claimed("", np.zeros(n, dtype=bool)).check.high
        assert scipy_stats.binom.sf(round(high * n), n, 0.05) <= scipy_stats.norm.sf(2)
        assert scipy_stats.binom.sf(round(high * n) - 1, n, 0.05) > scipy_stats.norm.sf(2)
    assert claimed("", np.arange(4000) < 228).check.passed
    assert not claimed("", np.arange(4000) < 229).check.passed
