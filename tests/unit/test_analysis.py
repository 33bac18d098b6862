"""The registered analysis: what it says of many hypotheses at once is what it would say of each alone."""

from __future__ import annotations

import dataclasses

import numpy as np
import pandas as pd
import pytest

from neuromod_core.kernel.errors import DataError
from neuromod_core.stats import adjust, bootstrap_t, max_t, sign_flip
from neuromod_core.trial import simulate
from neuromod_core.trial.analysis import (
    CONTRASTS,
    DECISIONS,
    PRIMARY,
    SHIFTS,
    SIDE_EFFECTS,
    Verdict,
    analyse,
    contrasts,
    primary,
    scale_shifts,
    shams_of,
    shift_of,
    side_effects,
    stream,
    tables,
)
from neuromod_core.trial.plan import Plan
from neuromod_core.trial.wide import wide

UNITS = 20


def drawn(units: int = UNITS, effect: float = 1.0) -> tuple[Plan, pd.DataFrame]:
    study = simulate.study(units, minimum=0.3, draws=499, resamples=399)
    effects = np.zeros((6, 3))
    effects[[3, 4, 5], [0, 1, 2]] = np.array([1, 1, -1]) * effect
    return study.plan, study.scores(effects, effects, np.random.default_rng(3))


@pytest.fixture(scope="module")
def study() -> tuple[Plan, pd.DataFrame]:
    return drawn()


def neutral_of(plan: Plan, units: int = UNITS) -> pd.DataFrame:
    generator = np.random.default_rng(4)
    rows = [(f"u{unit:03d}", arm.name, 3 + 0.1 * generator.normal()) for unit in range(units) for arm in plan.arms]
    return pd.DataFrame(rows, columns=["unit_id", "arm", "neutral_nll"])


def by_hand(scores: pd.DataFrame, arm: str, scale: str, reading: str, members: list[str] | None = None) -> pd.Series:
    """Return the specificity contrast of an arm per unit, averaged over members, by pivots."""
    rows = scores[(scores["reading"] == reading) & (scores["arm"] == arm)]
    if members is not None:
        rows = rows[rows["member"].isin(members)]
    wide_rows = rows.pivot_table(index=["unit_id", "member"], columns="scale", values="value")
    others = [name for name in ("first", "second", "third") if name != scale]
    return (wide_rows[scale] - wide_rows[others].mean(axis=1)).groupby("unit_id").mean()


# ---------------------------------------------------------------------------------------------------- one by one


@pytest.mark.parametrize("comparator", ["sham", "entropy"])
def test_the_primary_family_is_max_t_over_the_contrasts_of_a_comparator(
    study: tuple[Plan, pd.DataFrame], comparator: str
) -> None:
    plan, scores = study
    found = [one for one in primary(plan, tables(plan, scores)) if one.comparator == comparator]
    signs, columns = {"a": 1, "b": 1, "c": -1}, []
    for one in found:
        members = [one.arm] if comparator == "entropy" else None
        column = by_hand(scores, one.arm, one.scale, one.reading) - by_hand(
            scores, comparator, one.scale, one.reading, members
        )
        interval = bootstrap_t(column, draws=399, generator=stream(plan, "bootstrap", PRIMARY, comparator)).ci
        assert interval is not None
        assert (one.ci_low, one.ci_high) == pytest.approx(interval[:2], rel=1e-10)
        assert one.estimate == pytest.approx(column.mean(), rel=1e-12)
        columns.append(signs[one.arm] * column)
    tests = max_t(
        np.stack(columns, axis=1),
        minimum=0.3,
        alternative="greater",
        draws=499,
        generator=stream(plan, "flips", PRIMARY, comparator),
    )
    assert [(one.p, one.p_adj) for one in found] == [(test.pvalue, test.p_adj) for test in tests]


def test_every_secondary_verdict_is_the_sign_flip_of_its_own_differences(study: tuple[Plan, pd.DataFrame]) -> None:
    plan, scores = study
    found = scale_shifts(plan, tables(plan, scores))
    assert len(found) == 5 * 3
    for one in found:
        shift = shift_of(plan, scores, next(arm for arm in plan.arms if arm.name == one.arm), one.scale)
        test = sign_flip(shift, draws=499, generator=stream(plan, "flips", SHIFTS))
        assert (one.p, one.statistic) == (test.pvalue, pytest.approx(test.statistic, rel=1e-12))
    assert [one.p_adj for one in found] == adjust([one.p for one in found if one.p is not None]).tolist()


def test_the_same_rows_in_another_order_give_the_same_verdicts_to_the_last_bit(
    study: tuple[Plan, pd.DataFrame],
) -> None:
    plan, scores = study
    again = analyse(plan, scores.sample(frac=1, random_state=1), neutral_of(plan).sample(frac=1, random_state=2))
    assert again == analyse(plan, scores, neutral_of(plan))
    assert {one.family for one in again} == {PRIMARY, DECISIONS, SIDE_EFFECTS, SHIFTS, CONTRASTS}


def test_shams_are_the_means_of_their_draws(study: tuple[Plan, pd.DataFrame]) -> None:
    plan, scores = study
    found = shams_of(plan, scores).set_index("member")
    base = by_hand(scores, "none", "first", "statement_raw")
    for member in found.index:
        drawn_here = by_hand(scores, "sham", "first", "statement_raw", [member])
        assert found.loc[member, "estimate"] == pytest.approx((drawn_here - base).mean())


# ---------------------------------------------------------------------------------------------------- what can go wrong


def test_a_difference_that_is_the_same_everywhere_is_tested_and_has_no_interval(
    study: tuple[Plan, pd.DataFrame],
) -> None:
    plan, scores = study
    for arm, value in (("a", 2.0), ("none", 0.0)):
        scores = scores.assign(value=scores["value"].mask(scores["arm"] == arm, value))
    (one,) = [v for v in scale_shifts(plan, tables(plan, scores)) if (v.arm, v.scale) == ("a", "first")]
    assert (one.estimate, one.ci_low, one.g_z, one.statistic) == (2.0, None, None, None)
    assert one.p == 1 / 500
    assert "without spread over units" in str(one.note)


def test_missing_scores_and_zeros_are_said_and_leave_the_others_as_they_were(
    study: tuple[Plan, pd.DataFrame],
) -> None:
    plan, scores = study
    lost = (scores["unit_id"] == "u003") & (scores["arm"] == "a") & (scores["scale"] == "first")
    missing = scores.assign(value=scores["value"].mask(lost))
    before, after = ({(v.arm, v.scale): v for v in scale_shifts(plan, tables(plan, t))} for t in (scores, missing))
    assert after["a", "first"].note == "1 of 20 units have no valid score"
    assert after["a", "first"].state == "not measurable"
    assert all(dataclasses.replace(after[key], p_adj=None, state="") == dataclasses.replace(before[key], p_adj=None,
               state="") for key in before if key != ("a", "first"))  # fmt: skip
    same = scores.assign(value=scores["value"].mask(scores["arm"].isin(["a", "none"]), 1.0))
    zero = next(v for v in scale_shifts(plan, tables(plan, same)) if (v.arm, v.scale) == ("a", "first"))
    assert (zero.estimate, zero.state, zero.informative, zero.p) == (0.0, "not informative", False, None)


def test_arms_of_different_units_are_tested_apart_and_pay_for_it() -> None:
    plan, scores = drawn(40)
    first = scores["unit_id"] < "u020"
    divided = scores[~((scores["arm"] == "a") & ~first) & ~((scores["arm"] == "b") & first)]
    found = {v.arm: v for v in primary(plan, tables(plan, divided)) if v.comparator == "sham"}
    assert [found[arm].n for arm in "abc"] == [20, 20, 40]
    column = by_hand(divided, "a", "first", "statement_raw") - by_hand(divided, "sham", "first", "statement_raw")
    alone = sign_flip(
        column.dropna(), minimum=0.3, alternative="greater", draws=499, generator=stream(plan, "flips", PRIMARY, "sham")
    )
    assert (found["a"].p, found["a"].p_adj) == (alone.pvalue, min(1.0, 3 * alone.pvalue))


def test_what_moves_every_scale_is_no_specificity(study: tuple[Plan, pd.DataFrame]) -> None:
    plan, scores = study
    moved = scores.assign(value=scores["value"] + 5.0 * (scores["arm"] == "a"))
    before, after = ([v.estimate for v in primary(plan, tables(plan, t))] for t in (scores, moved))
    assert after == pytest.approx(before)
    one = next(v for v in contrasts(plan, tables(plan, scores)) if v.arm == "b")
    assert one.hypothesis == "b against sham on first"


def test_side_effects_are_differences_of_neutral_text(study: tuple[Plan, pd.DataFrame]) -> None:
    plan, _ = study
    table = neutral_of(plan)
    found: list[Verdict] = side_effects(plan, table)
    means = table.groupby("arm")["neutral_nll"].mean()
    assert [v.estimate for v in found] == pytest.approx([means[v.arm] - means["none"] for v in found])


# ---------------------------------------------------------------------------------------------------- the table


def test_a_wide_table_holds_every_score_at_its_place(study: tuple[Plan, pd.DataFrame]) -> None:
    _, scores = study
    table = wide(scores, "statement_expressed")
    rows = scores[scores["reading"] == "statement_expressed"]
    assert np.isnan(table.values).sum() == table.values.size - len(rows)
    for row in rows.sample(50, random_state=0).itertuples():
        at = (table.units.index(row.unit_id), table.cells[row.arm, row.member], table.scales[row.scale])
        assert table.values[at] == row.value


def test_two_scores_of_one_cell_and_a_scale_without_any_are_refused(study: tuple[Plan, pd.DataFrame]) -> None:
    _, scores = study
    with pytest.raises(DataError, match="name only"):
        wide(pd.concat([scores, scores[:1]]), str(scores["reading"].iloc[0]))
    with pytest.raises(DataError, match="no score on 'fourth' in this reading; it has first, second, third"):
        wide(scores, "statement_raw").on("fourth")
