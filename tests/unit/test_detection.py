"""Detection models: they find what is there in packs they never saw, and nothing where nothing is."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from neuromod_core.kernel.errors import DataError
from neuromod_core.report.canvas import svg
from neuromod_core.report.detection import reliability
from neuromod_core.trial.detection import Cells, intensity, presence, together
from neuromod_core.trial.legacy import LEGACY, legacy

SCALES = ("a", "b", "c")
PACKS = ("p", "q", "r", "s")


def cells(shift: float, *, units: int = 16, dose: float = 1.0, packs: tuple[str, ...] = PACKS, seed: int = 0) -> Cells:
    """Cells of packs that all move the first scale by `shift` times the dose, beside two kinds of control."""
    draw = np.random.default_rng(seed)
    arms = [*packs, "sham", "inert"]
    keys = [(f"v{unit:02d}", arm) for unit in range(units) for arm in arms]
    active = np.array([arm in packs for _, arm in keys])
    features = draw.normal(size=(len(keys), len(SCALES)))
    features[:, 0] += np.where(active, shift * dose, 0.0)
    return Cells(
        features=features,
        active=active,
        arms=tuple(arm for _, arm in keys),
        units=tuple(unit for unit, _ in keys),
        dose=np.where(active, dose, 0.0),
        scales=SCALES,
        left_out=0,
    )


def test_what_packs_share_is_found_in_a_pack_that_was_held_out() -> None:
    found = presence(cells(2.0), draws=49)
    assert found.works
    assert found.area.estimate > 0.85
    assert found.brier < found.base_brier - 0.05
    assert 0.5 < found.slope < 2
    assert set(found.by_pack) == set(PACKS)
    assert sum(one.n for one in found.bins) == found.cells == 96
    assert "<svg" in svg(reliability(found))


def test_nothing_is_found_where_nothing_is() -> None:
    pvalues = [presence(cells(0.0, units=8, seed=seed), draws=19).pvalue for seed in range(8)]
    assert min(pvalues) >= 1 / 20
    assert sum(p <= 0.05 for p in pvalues) <= 3  # P(X > 3) < .001 for 8 fair tests


def test_a_pack_that_moves_like_no_other_is_not_claimed() -> None:
    """Learned on the others, the pack that moves the other way is judged to be less dosed than a placebo."""
    odd = cells(2.0)
    features = odd.features.copy()
    features[np.array(odd.arms) == "s", 0] -= 4.0
    assert presence(replace(odd, features=features), draws=1).by_pack["s"] < 0.3


def test_the_order_of_cells_does_not_matter() -> None:
    one = cells(1.0)
    order = np.random.default_rng(3).permutation(len(one.arms))
    other = Cells(
        one.features[order],
        one.active[order],
        tuple(one.arms[place] for place in order),
        tuple(one.units[place] for place in order),
        one.dose[order],
        one.scales,
        0,
    )
    assert presence(one, draws=1).area.estimate == pytest.approx(presence(other, draws=1).area.estimate, abs=1e-12)


def test_doses_are_told_over_runs() -> None:
    runs = together([cells(2.0, dose=dose, seed=seed) for seed, dose in enumerate((0.5, 1.0, 2.0))])
    found = intensity(runs, draws=99)
    assert found.rho > 0.5
    assert found.pvalue == pytest.approx(0.01)
    assert intensity(together([cells(0.0, dose=d, seed=9 + s) for s, d in enumerate((1, 2, 3))]), draws=99).rho < 0.4


@pytest.mark.parametrize(
    ("few", "reason"),
    [
        (cells(1.0, packs=("p", "q")), "2 dosed arms; at least 3"),
        (cells(1.0, units=6), "6 units; at least 8"),
    ],
)
def test_too_little_is_refused_with_the_reason(few: Cells, reason: str) -> None:
    for model in (presence, intensity):
        with pytest.raises(DataError, match=reason):
            model(few)


def test_one_dose_gives_no_model_of_intensity() -> None:
    with pytest.raises(DataError, match=r"dosed cells have 1 doses \(1\); runs of at least 3 are needed"):
        intensity(cells(1.0))


def test_runs_of_other_scales_are_not_mixed() -> None:
    with pytest.raises(DataError, match="different scales"):
        together([cells(1.0), replace(cells(1.0), scales=("a", "b", "d"))])


def test_the_weights_of_earlier_work_detect_everything_in_the_middle() -> None:
    """Why they are legacy: all items answered in the middle, which is what no answer was parsed to."""
    for scale, (_, weights) in LEGACY.items():
        middle, _ = legacy(scale, dict.fromkeys(weights, 2.0))
        assert middle > 0.9
    assert legacy("pdq_s", dict.fromkeys(LEGACY["pdq_s"][1], 2.0))[0] == pytest.approx(0.9427, abs=1e-4)
    with pytest.raises(DataError, match="no level of subscale 'vest'"):
        legacy("ddq", dict.fromkeys(("sed", "cog_slow", "calm", "motor", "disinh", "mem"), 1.0))
    with pytest.raises(DataError, match="No weights were published for 'adq_20'"):
        legacy("adq_20", {})
