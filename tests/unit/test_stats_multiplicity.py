from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import false_discovery_control, norm

from neuromod_core.kernel.errors import DataError, OutOfRange, UnknownName
from neuromod_core.stats import Family, adjust, benjamini_bogomolov, bogomolov, intersection_union
from neuromod_core.stats.multiplicity import Method

METHODS: tuple[Method, ...] = ("bh", "bonferroni", "by", "holm")
THROMBOLYSIS = [  # Benjamini & Hochberg 1995, section 4.1
    0.0001, 0.0004, 0.0019, 0.0095, 0.0201, 0.0278, 0.0298, 0.0344, 0.0459, 0.324, 0.4262, 0.5719, 0.6528, 0.759, 1.0,
]  # fmt: skip
IN_R: dict[Method, list[float]] = {  # p.adjust of R 4.2.2
    "bh": [0.0015, 0.003, 0.0095, 0.035625, 0.0603, 0.0638571428571429, 0.0638571428571429, 0.0645, 0.0765, 0.486,
           0.581181818181818, 0.714875, 0.753230769230769, 0.813214285714286, 1],
    "by": [0.00497734348984349, 0.00995468697968698, 0.0315231754356754, 0.118211907883783, 0.200089208291708,
           0.211892622853337, 0.211892622853337, 0.21402577006327, 0.253844517982018, 1, 1, 1, 1, 1, 1],
    "holm": [0.0015, 0.0056, 0.0247, 0.114, 0.2211, 0.278, 0.278, 0.278, 0.3213, 1, 1, 1, 1, 1, 1],
    "bonferroni": [0.0015, 0.006, 0.0285, 0.1425, 0.3015, 0.417, 0.447, 0.516, 0.6885, 1, 1, 1, 1, 1, 1],
}  # fmt: skip


@pytest.mark.parametrize("method", METHODS)
def test_the_example_of_benjamini_and_hochberg_agrees_with_r(method: Method) -> None:
    assert adjust(THROMBOLYSIS, method).tolist() == pytest.approx(IN_R[method], rel=1e-12)


def test_the_paper_rejects_four_where_bonferroni_rejects_three() -> None:
    assert (np.sum(adjust(THROMBOLYSIS) <= 0.05), np.sum(adjust(THROMBOLYSIS, "bonferroni") <= 0.05)) == (4, 3)


@pytest.mark.parametrize("method", ["bh", "by"])
@pytest.mark.parametrize("size", [1, 2, 30])
def test_false_discovery_rates_agree_with_scipy(method: Method, size: int) -> None:
    p = np.random.default_rng(size).beta(0.5, 2.0, size)
    assert adjust(p, method) == pytest.approx(false_discovery_control(p, method=method), rel=1e-12)


@pytest.mark.parametrize("method", METHODS)
def test_the_order_given_is_the_order_returned_and_ties_stay_ties(method: Method) -> None:
    p = np.array([0.04, 0.001, 0.04, 0.9, 0.02])
    adjusted = adjust(p, method)
    moved = np.array([3, 0, 4, 1, 2])
    assert np.array_equal(adjust(p[moved], method), adjusted[moved])
    assert adjusted[0] == adjusted[2]
    assert (np.diff(adjusted[np.argsort(p)]) >= 0).all()
    assert ((p <= adjusted) & (adjusted <= 1)).all()


def test_methods_are_ordered_by_what_they_promise() -> None:
    bh, bonferroni, by, holm = (adjust(THROMBOLYSIS, method) for method in METHODS)
    assert (bh <= holm).all()
    assert (holm <= bonferroni).all()
    assert (bh <= by).all()


@pytest.mark.parametrize("given", [0.0, -0.1, 1.1, float("nan")])
def test_what_is_no_p_value_is_refused(given: float) -> None:
    message = rf"A p-value lies in \(0, 1\]; given: {given}"
    with pytest.raises(DataError, match=message):
        adjust([0.5, given])
    with pytest.raises(DataError, match=message):
        intersection_union([0.5, given])


def test_no_p_values_and_another_method_are_refused() -> None:
    with pytest.raises(DataError, match=r"have shape \(0,\)"):
        adjust([])
    with pytest.raises(UnknownName, match=r"No adjustment is called 'hom'\. Did you mean 'holm'\?"):
        adjust([0.5], "hom")  # type: ignore[arg-type]


def test_the_two_level_procedure_agrees_with_a_case_worked_by_hand() -> None:
    """Simes .003, .12, .006: two of three families at .05, so BH within them at .05 * 2 / 3."""
    found = bogomolov({"A": [0.001, 0.01, 0.2], "B": [0.04, 0.3, 0.5], "C": [0.002, 0.6, 0.9]}, level=0.05)
    assert [family.simes for family in found] == pytest.approx([0.003, 0.12, 0.006])
    assert [family.selected for family in found] == [True, False, True]
    assert [family.rejected for family in found] == [(True, True, False), (False,) * 3, (True, False, False)]
    assert found[0].p_adj == pytest.approx((0.0045, 0.0225, 0.3))
    assert found[1] == Family("B", pytest.approx(0.12), False, None, (False,) * 3)


def test_one_family_is_plain_benjamini_hochberg() -> None:
    (only,) = bogomolov({"all": THROMBOLYSIS})
    assert only.p_adj == tuple(adjust(THROMBOLYSIS).tolist())
    assert sum(only.rejected) == 4


def test_families_without_a_finding_make_the_others_pay() -> None:
    alone = bogomolov({"A": [0.01, 0.02]})[0]
    crowded = bogomolov({"A": [0.01, 0.02], "B": [0.9], "C": [0.8]}, level=0.1)[0]
    assert alone.rejected == (True, True)
    assert crowded.p_adj == pytest.approx((0.06, 0.06))


def test_a_discovery_rate_outside_its_range_is_refused() -> None:
    with pytest.raises(OutOfRange, match=r"The false discovery rate is 5\.0"):
        bogomolov({"A": [0.5]}, level=5.0)


def test_an_intersection_union_claim_is_as_weak_as_its_weakest_test() -> None:
    assert intersection_union([0.01]) == 0.01
    assert intersection_union([0.2, 0.01, 0.03]) == 0.2


def test_the_two_level_procedure_keeps_its_first_name() -> None:
    assert benjamini_bogomolov is bogomolov


def test_the_average_error_over_the_selected_families_is_held() -> None:
    """Twenty families of five true null hypotheses and four with findings: the mean false discovery rate within."""
    draw, rates = np.random.default_rng(0), []
    for _ in range(300):
        z = draw.normal(size=(24, 5))
        z[:4, :2] += 4.0
        p = 2 * norm.sf(np.abs(z))
        found = [family for family in bogomolov({str(k): row for k, row in enumerate(p)}) if family.selected]
        false = [sum(f.rejected[2 if int(f.name) < 4 else 0 :]) / max(sum(f.rejected), 1) for f in found]
        rates.append(np.mean(false) if false else 0.0)
    assert np.mean(rates) <= 0.05 + 4 * np.std(rates) / np.sqrt(300)
