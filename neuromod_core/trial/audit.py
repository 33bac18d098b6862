"""The analysis audits itself: how often does it claim what is not there, cover what is, and find what it should?

Simulated studies go through the very functions that decide a registered study. What comes out is a share of studies, to
be compared with what the method promises; a share of n studies has the Monte-Carlo error sqrt(v (1 - v) / n).

Sign flips, max-T and re-randomisation use `Settings.draws` random arrangements in place of the 100 000 of a study (all
2^n up to 16 units), which leaves every p-value valid. The sign flips of one line are shared by its studies.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from neuromod_core.design import crossover
from neuromod_core.kernel.errors import DataError, OutOfRange
from neuromod_core.kernel.rng import rng
from neuromod_core.stats import (
    Interval,
    Result,
    adjust,
    bogomolov,
    bootstraps,
    intersection_union,
    max_t,
    noninferiority,
    noninferiority_proportions,
    paired,
    power,
    rerandomise,
    tango,
    tost,
)
from neuromod_core.stats.arrangements import Alternative
from neuromod_core.stats.mixed import clmm, glmm, lmm
from neuromod_core.stats.signflip import flip_pvalues
from neuromod_core.trial import simulate
from neuromod_core.trial.analysis import DECISIONS, primary, tables
from neuromod_core.trial.checks import LEVEL, Check, Line, at_most, caught, claimed, covered, powered, sized, strained
from neuromod_core.trial.simulate import POPULATIONS, Population

Array = NDArray[np.float64]
MINIMUM, MARGIN, LARGE, LEAST = 0.5, 1.0, 3.0, 10
BLOCK = 50  # studies that share one set of resamples
SECOND = 1_000_000  # added to the seed of a second draw
Tick = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How much is simulated.

    studies: per line.  trials: whole studies through the primary analysis in each scenario, and courses re-randomised.
    fits: of each linear mixed model.  links: of the binomial and of the ordinal one.  draws, resamples: per test and
    per interval.
    """

    studies: int = 4_000
    trials: int = 1_000
    fits: int = 1_000
    links: int = 200
    draws: int = 2_000
    resamples: int = 999
    seed: int = 0

    def __post_init__(self) -> None:
        least = min(self.studies, self.trials, self.fits, self.links)
        if least < LEAST:
            raise OutOfRange(f"An audit of {least} studies says nothing; at least {LEAST}.")

    def again(self) -> Settings:
        """Return the settings of a second draw, afresh and four times as large."""
        counts = {name: 4 * getattr(self, name) for name in ("studies", "trials", "fits", "links")}
        return replace(self, seed=self.seed + SECOND, **counts)


QUICK = Settings(studies=300, trials=20, fits=10, links=10, draws=999, resamples=399)


@dataclass(frozen=True, eq=False)
class Audit:
    """All lines of an audit and what they were made with."""

    lines: tuple[Line, ...]
    settings: Settings

    @property
    def checks(self) -> tuple[Check, ...]:
        """Return the checks."""
        return tuple(line.check for line in self.lines)

    @property
    def failed(self) -> tuple[Check, ...]:
        """Return the checks whose value lies outside its limits."""
        return tuple(check for check in self.checks if not check.passed)


# ----------------------------------------------------------------------------------------------------------- components


def _generator(settings: Settings, *names: str) -> np.random.Generator:
    return rng(settings.seed, "audit", *names)


def sign_flips(settings: Settings) -> Iterator[Line]:
    """Yield the size of the sign flips in every population: of no effect, and of an effect at the minimum."""
    sides: tuple[tuple[str, float, Alternative], ...] = (
        ("no effect, two-sided", 0.0, "two-sided"),
        ("at the minimum, greater", MINIMUM, "greater"),
        ("at the minimum, less", -MINIMUM, "less"),
    )
    for name, population in POPULATIONS.items():
        for side, effect, alternative in sides:
            generator = _generator(settings, "sign-flip", name, side)
            minimum = abs(simulate.mean_difference(population, effect))
            data = simulate.differences(population, effect, settings.studies, generator)
            p = flip_pvalues(data, minimum=minimum, alternative=alternative, draws=settings.draws, generator=generator)
            yield sized(f"sign-flip, {side}: {name}", p)


def intervals(settings: Settings) -> Iterator[Line]:
    """Yield the coverage of the bootstrap-t interval in every population."""
    for name, population in POPULATIONS.items():
        generator = _generator(settings, "bootstrap-t", name)
        truth = simulate.mean_difference(population, MINIMUM)
        data = simulate.differences(population, MINIMUM, settings.studies, generator)
        found = [
            _interval(each)
            for start in range(0, settings.studies, BLOCK)
            for each in bootstraps(data[:, start : start + BLOCK], draws=settings.resamples, generator=generator)
        ]
        yield covered(f"bootstrap-t: {name}", found, truth)


def _interval(found: Result | DataError) -> Interval:
    """Return the interval; where there is none nothing is claimed, and an empty interval covers nothing."""
    nothing = Interval(math.nan, math.nan, 1 - LEVEL)
    return nothing if isinstance(found, DataError) or found.ci is None else found.ci


def margins(settings: Settings) -> Iterator[Line]:
    """Yield the size of equivalence at its upper margin, and of non-inferiority at its lower one."""
    for name, population in POPULATIONS.items():
        generator = _generator(settings, "equivalence", name)
        margin = simulate.mean_difference(population, MARGIN)
        data = simulate.differences(population, MARGIN, settings.studies, generator).T
        yield sized(f"equivalence at the margin: {name}", [tost(each, margin=margin).pvalue for each in data])
        generator = _generator(settings, "non-inferiority", name)
        margin = -simulate.mean_difference(population, -MINIMUM)
        data = simulate.differences(population, -MINIMUM, settings.studies, generator).T
        p = [noninferiority(each, margin=margin, alpha=LEVEL).pvalue for each in data]
        yield sized(f"non-inferiority at the margin: {name}", p)


def strains(settings: Settings) -> Iterator[Line]:
    """Yield the size of one-sided tests when an arm sinks by one into a floor where four in ten scores lie anyhow."""
    generator, population = _generator(settings, "strain"), simulate.DEEP_FLOOR
    minimum = -simulate.mean_difference(population, -MARGIN)
    data = simulate.differences(population, -MARGIN, settings.studies, generator)
    p = flip_pvalues(data, minimum=minimum, alternative="less", draws=settings.draws, generator=generator)
    yield strained("sign-flip, at the minimum, less: sinking into a floor", p)
    rest = [noninferiority(each, margin=minimum, alpha=LEVEL).pvalue for each in data.T]
    yield strained("non-inferiority at the margin: sinking into a floor", rest)


def proportions(settings: Settings) -> Iterator[Line]:
    """Yield size and coverage of Tango's score for paired yes or no, and its non-inferiority at the margin."""
    for units, only_first, only_second in ((126, 0.1, 0.1), (200, 0.055, 0.025), (400, 0.035, 0.005)):
        truth = only_first - only_second
        label = f"{units} units, {only_first + only_second:g} change sides"
        generator = _generator(settings, "proportions", label)
        pairs = list(zip(*simulate.answers(only_first, only_second, units, settings.studies, generator), strict=True))
        tests = [tango(*pair) for pair in pairs]
        yield covered(f"Tango: {label}", [test.ci for test in tests if test.ci is not None], truth)
        if truth == 0:
            yield sized(f"Tango, no difference: {label}", [test.pvalue for test in tests])
        else:
            p = [noninferiority_proportions(*pair, margin=truth, alpha=LEVEL).pvalue for pair in pairs]
            yield sized(f"non-inferiority at a margin of {truth:g}: {label}", p)


def families(settings: Settings) -> Iterator[Line]:
    """Yield the family-wise error of max-T over six arms that share a placebo: all at the minimum, and half of them."""
    for name in ("normal", "unit slopes", "skewed"):
        for effects in ([MINIMUM] * 6, [MINIMUM] * 3 + [LARGE] * 3):
            half = LARGE in effects
            generator = _generator(settings, "max-T", name, str(half))
            data = simulate.family(POPULATIONS[name], effects, settings.studies, generator)
            p = [_smallest(each, effects, settings, generator) for each in data]
            if half:
                yield claimed(f"max-T, three of six arms at the minimum: {name}", np.array(p) <= LEVEL)
            else:
                yield sized(f"max-T, all six arms at the minimum: {name}", p)


def _smallest(data: Array, effects: Sequence[float], settings: Settings, generator: np.random.Generator) -> float:
    """Return the least adjusted p among arms whose effect does not exceed the minimum."""
    tests = max_t(data, minimum=MINIMUM, alternative="greater", draws=settings.draws, generator=generator)
    return min(test.p_adj for test, effect in zip(tests, effects, strict=True) if effect <= MINIMUM)


def discoveries(settings: Settings) -> Iterator[Line]:
    """Yield the false discovery rate in four families of six contrasts, of which the first has effects."""
    studies, population = settings.studies // 2, POPULATIONS["unequal spread"]
    generator = _generator(settings, "discoveries")
    effects = np.array([0.8] * 5 + [0.0] * 19)
    data = simulate.family(population, effects.tolist(), studies, generator)
    flat = np.ascontiguousarray(data.transpose(1, 0, 2).reshape(population.units, -1))
    p = flip_pvalues(flat, minimum=0.0, alternative="two-sided", draws=settings.draws, generator=generator)
    by_study, null = p.reshape(studies, 24), effects == 0
    yield at_most("Benjamini-Hochberg, 24 contrasts", [_false(adjust(row) <= LEVEL, null) for row in by_study])
    yield at_most("Benjamini-Bogomolov, 4 families of 6", [_false_within(row, null) for row in by_study])


def _false(rejected: NDArray[np.bool_], null: NDArray[np.bool_]) -> float:
    """Return the share of false ones among rejections, 0 without any."""
    return float((rejected & null).sum() / max(int(rejected.sum()), 1))


def _false_within(p: Array, null: NDArray[np.bool_]) -> float:
    """Return the share of false rejections, on average over the families that were selected."""
    found = bogomolov({str(number): part for number, part in enumerate(p.reshape(4, 6))}, level=LEVEL)
    shares = [
        _false(np.array(one.rejected), part)
        for one, part in zip(found, null.reshape(4, 6), strict=True)
        if one.selected
    ]
    return float(np.mean(shares)) if shares else 0.0


def sequences(settings: Settings) -> Iterator[Line]:
    """Yield the size of the re-randomisation of Williams sequences under a course over periods and unequal spread."""
    for name in ("normal", "skewed"):
        generator = _generator(settings, "sequences", name)
        rows = np.array(crossover(48, 4, generator), dtype=np.int64)
        data = simulate.courses(POPULATIONS[name], rows, settings.trials, generator)
        tests = [rerandomise(each, rows, [1, -1, 0, 0], draws=settings.draws, generator=generator) for each in data]
        yield sized(f"re-randomised sequences: {name}", [test.pvalue for test in tests])


def powers(settings: Settings) -> Iterator[Line]:
    """Yield power against the closed form, in normal differences with SD 1."""
    count, normal = settings.studies, Population(unit_sd=0, slope_sd=0.5**0.5, residual_sd=0)
    plans: tuple[tuple[str, float, int, Alternative, float], ...] = (
        ("sign-flip, two-sided", 0.5, 34, "two-sided", 0.0),
        ("sign-flip, two-sided", 0.8, 15, "two-sided", 0.0),
        ("sign-flip beyond the minimum", 0.4, 48, "greater", MINIMUM),
    )
    for name, effect, units, side, minimum in plans:
        generator = _generator(settings, "power", name, str(units))
        data = simulate.differences(replace(normal, units=units), effect + minimum, count, generator)
        p = flip_pvalues(data, minimum=minimum, alternative=side, draws=settings.draws, generator=generator)
        test = power(effect, units, test="greater" if side == "greater" else "two-sided")
        yield powered(f"{name}, d = {effect:g}, {units} units", p, test)
    generator = _generator(settings, "power", "margins")
    data = simulate.differences(replace(normal, units=36), 0.0, count, generator).T
    p_same = [tost(each, margin=0.5).pvalue for each in data]
    yield powered("equivalence within .5 SD, 36 units", p_same, power(0.0, 36, test="equivalence", margin=0.5))
    p_worse = [noninferiority(each, margin=0.4, alpha=LEVEL).pvalue for each in data]
    yield powered("non-inferiority by .4 SD, 36 units", p_worse, power(0.0, 36, test="noninferiority", margin=0.4))


# ----------------------------------------------------------------------------------------------- composites and models


def composites(settings: Settings) -> Iterator[Line]:
    """Yield the composite claim where it is easiest to make falsely: at the minimum against one placebo of two."""
    for name, population in POPULATIONS.items():
        generator = _generator(settings, "composite", name)
        pair = np.array([[MINIMUM], [0.0], [MINIMUM - LARGE]])
        scores = simulate.draw(population, pair, settings.studies, generator)[..., 0]
        minimum = simulate.mean_difference(population, MINIMUM)
        columns = [np.ascontiguousarray((scores[:, :, 0] - scores[:, :, other]).T) for other in (1, 2)]
        tests = [
            flip_pvalues(each, minimum=minimum, alternative="greater", draws=settings.draws, generator=generator)
            for each in columns
        ]
        p = [intersection_union(both) for both in zip(*tests, strict=True)]
        yield claimed(f"intersection-union, least favourable: {name}", np.array(p) <= LEVEL)


def primaries(settings: Settings) -> Iterator[Line]:
    """Yield how often the registered primary analysis, from a table of scores to decisions, supports a false claim."""
    study = simulate.study(24, minimum=MINIMUM, draws=settings.draws, resamples=199)
    signs = np.zeros((6, 3))
    signs[[3, 4, 5], [0, 1, 2]] = 1, 1, -1
    for name, raw, expressed in (("the sham", MINIMUM, LARGE), ("the entropy placebo", LARGE, MINIMUM)):
        generator = _generator(settings, "primary", name)
        claims = []
        for _ in range(settings.trials):
            verdicts = primary(study.plan, tables(study.plan, study.scores(raw * signs, expressed * signs, generator)))
            claims.append(any(one.state == "supported" for one in verdicts if one.family == DECISIONS))
        yield claimed(f"primary analysis, three arms at the minimum against {name}", claims)


def models(settings: Settings) -> Iterator[Line]:
    """Yield the size of the mixed models for an arm without effect, contexts and items both random."""
    generator = _generator(settings, "models")
    linear, vanishing, binary, ordinal = [], [], [], []
    for _ in range(settings.fits):
        linear.append(_linear(simulate.item_rows(24, 8, 0.0, generator)))
        vanishing.append(_linear(simulate.item_rows(24, 8, 0.0, generator, turn_sd=0.2)))
    for _ in range(settings.links):
        rows = simulate.graded(simulate.item_rows(48, 6, 0.0, generator), (-1.0, 0.5, 1.5), 0.0, generator)
        ordinal.append(clmm(rows, "answer ~ treated", "treated || unit").coefficient("treated").pvalue)
        rows = rows.assign(yes=(rows["answer"] > 1).astype(int))
        binary.append(glmm(rows, "yes ~ treated", "treated || unit").coefficient("treated").pvalue)
    yield sized("linear mixed model, Kenward-Roger: 24 units, 8 items", linear)
    yield strained("linear mixed model, Kenward-Roger: a variance estimated as zero in one fit of three", vanishing)
    yield sized("binomial mixed model: 48 units, 6 items", binary)
    yield sized("ordinal mixed model: 48 units, 6 items", ordinal)


def _linear(rows: pd.DataFrame) -> float:
    """Return the p-value of an arm when contexts and items are both random."""
    return lmm(rows, "y ~ treated", ["treated || unit", "treated || item"]).coefficient("treated").pvalue


def controls(settings: Settings) -> Iterator[Line]:
    """Yield analyses that are wrong and that the audit has to notice: responses as units, a family unadjusted."""
    generator = _generator(settings, "controls")
    naive = []
    for _ in range(settings.trials):
        rows = simulate.item_rows(24, 8, 0.0, generator).sort_values(["treated", "unit", "item"])
        off, on = rows["y"].to_numpy().reshape(2, -1)
        naive.append(paired(on, off).pvalue)
    yield caught("responses counted as units", naive)
    data = simulate.family(POPULATIONS["normal"], [0.0] * 6, settings.studies, generator)
    flat = np.ascontiguousarray(data.transpose(1, 0, 2).reshape(data.shape[1], -1))
    p = flip_pvalues(flat, minimum=0.0, alternative="two-sided", draws=settings.draws, generator=generator)
    yield caught("the least of six unadjusted p", p.reshape(-1, 6).min(axis=1))


SUITES: Mapping[str, Callable[[Settings], Iterator[Line]]] = {
    "sign flips": sign_flips,
    "intervals": intervals,
    "margins": margins,
    "strains": strains,
    "proportions": proportions,
    "families": families,
    "discoveries": discoveries,
    "sequences": sequences,
    "power": powers,
    "composites": composites,
    "primary analysis": primaries,
    "mixed models": models,
    "positive controls": controls,
}


def audit(settings: Settings, tick: Tick = lambda _: None) -> Audit:
    """Return the audit; `tick` is told which part has begun.

    A line that is right at its limit lies outside now and then. A part with a line outside is drawn a second time,
    afresh and four times as large, under the same rules, and that draw decides: lines that are wrong stay outside.

    Source: Morris, White & Crowther 2019, Statistics in Medicine 38:2074 (simulation studies and their error).
    """
    lines: list[Line] = []
    for name, suite in SUITES.items():
        tick(name)
        found = list(suite(settings))
        lines += found if all(line.check.passed for line in found) else suite(settings.again())
    return Audit(tuple(lines), settings)
