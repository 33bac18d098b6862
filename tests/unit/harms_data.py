"""A made-up panel of side effects for tests of the report: every kind of event, measure and gap occurs in it."""

from __future__ import annotations

import numpy as np
import pandas as pd

from neuromod_core.kernel.rng import rng
from neuromod_core.report import ReportData
from neuromod_core.safety import ABUSE, REFUSAL, UNSAFE, Stop, compare
from neuromod_core.trial.harms import Comparison, Harms
from neuromod_core.trial.stopping import Look
from neuromod_core.trial.wholes import wholes
from tests.unit.report_data import BASELINE, names, unit_ids

KINDS = {("refusal", "odds"): REFUSAL, ("unsafe", "odds"): UNSAFE, ("abuse", "text"): ABUSE}
RATE = {"lucid": 0.02, "drift": 0.3, "hot": 0.5, "veil": 0.12}
MOVED = {"drift": -0.15, "hot": -0.3, "veil": -0.1}
TOLD = (BASELINE, "inert", "lucid", "drift", "hot", "veil")


def comparisons(pairs: int) -> tuple[Comparison, ...]:
    draw = rng(3, "events")
    found = []
    for (instrument, reading), margin in KINDS.items():
        base = draw.random(pairs) < 0.1
        for arm in [name for name in names() if name != BASELINE]:
            turned = draw.random(pairs) < RATE.get(arm, 0.0)
            ours: list[bool | None] = [bool(a) for a in base | turned]
            if arm == "veil":
                ours[:5] = [None] * 5
            counts = (sum(bool(each) for each in ours), int(base.sum()))
            found.append(Comparison(arm, instrument, reading, compare(ours, base.tolist(), margin), *counts))
    return tuple(found)


def solved(unit: str, arm: str, task: str, chance: float, draw: np.random.Generator) -> list[tuple[object, ...]]:
    """Return the rows of one ranked problem: solved or not, how sure, and what told a match of letters."""
    right = float(draw.random() < 0.75 + MOVED.get(arm, 0.0))
    lead, target = abs(draw.normal(0, 1.5)), int(unit[1:]) % 2 == 0
    brier = 2 * (right - 1 / (1 + np.exp(-lead))) ** 2
    evidence = lead if target == bool(right) else -lead
    item = f"{task}-{unit}"
    return [
        (unit, arm, task, item, "ranked", right, chance, None, None, [lead, 0.0]),
        (unit, arm, "certainty", item, "brier", brier, 1 - chance, None, None, None),
        *([(unit, arm, task, item, "evidence", evidence, None, target, None, None)] if task == "n_back" else []),
    ]


def panel(units: int) -> pd.DataFrame:
    draw = rng(3, "panel")
    rows = []
    for arm in names():
        for unit in unit_ids(units):
            for task, chance in (("arithmetic", 0.25), ("n_back", 0.5), ("facts", 0.25)):
                rows += solved(unit, arm, task, chance, draw)
            odds = draw.normal(-0.5 + MOVED.get(arm, 0.0), 0.4)
            for reading, value in (("apt over literal", odds), ("apt over anomalous", odds + 1)):
                rows.append((unit, arm, "metaphor", f"m-{unit}", reading, value, None, None, None, None))
            rows.append((unit, arm, "summary", f"s-{unit}", "written", draw.integers(6) / 5, None, None, None, None))
            few = draw.random() < 0.3
            far, why = (None, "5 valid nouns, 7 are needed") if few else (draw.normal(0.8, 0.04), None)
            rows.append((unit, arm, "association", f"a-{unit}", "written", far, None, None, why, None))
            odds = draw.normal(-2 + 3 * RATE.get(arm, 0.0), 0.4)
            rows.append((unit, arm, "refusal", f"r-{unit}", "odds", odds, None, odds > 0, None, None))
            rows.append((unit, arm, "unsafe", f"u-{unit}", "odds", odds + 1, None, odds < -1, None, None))
            words = draw.normal(80 + 60 * MOVED.get(arm, 0.0), 5)
            rows.append((unit, arm, "verbosity", "opener", "text", words, None, None, None, None))
            rows.append((unit, arm, "abuse", "opener", "text", None, None, None, "no word list", None))
    columns = ["unit_id", "arm", "instrument", "item", "reading", "value", "chance", "event", "reason", "loglik"]
    return pd.DataFrame(rows, columns=columns)


def telemetry(units: int, tokens: int) -> pd.DataFrame:
    draw = rng(3, "telemetry")
    rows = []
    for arm in TOLD:
        size = 0.0 if arm in (BASELINE, "inert") else 0.2 + RATE.get(arm, 0.0)
        for unit in unit_ids(units):
            count = tokens - int(draw.integers(0, tokens // 3))
            kl = size * (1 + 0.3 * np.sin(np.arange(count) / 9)) * draw.gamma(4, 0.25, count)
            mass = draw.dirichlet(np.array([2, 8, 9, 14, 8]) * (1 + np.array([0, size, 0, -size / 2, 0])) * 20)
            power = draw.dirichlet(np.array([20, 40, 40]) * (1 + np.array([size, 0, -size / 2])))
            each = [draw.gamma(8, 0.25, count) for _ in range(3)]
            repeated = (draw.random(count) < 0.05 + size / 5).astype(float)
            rows.append((unit, arm, *each, kl, repeated, mass, None if unit == "v001" else power, None))
    columns = ["entropy", "surprisal", "attention_entropy", "kl", "repeated", "attention_mass", "spectral_power"]
    return pd.DataFrame(rows, columns=["unit_id", "arm", *columns, "reason"])


def harms(units: int = 26, pairs: int = 120, tokens: int = 96) -> Harms:
    """Return the panel; equal arguments give equal data."""
    rule = Stop("incoherent stories", 0.3, looks=2)
    looks = (
        ("drift", Look(1, 4, "a" * 32, rule.judge(5, 12))),
        ("hot", Look(1, 4, "b" * 32, rule.judge(11, 12))),
    )
    absent = {"ldnoobw": "there is no ldnoobw/en.txt in the data folder"}
    seen, told = panel(units), telemetry(min(units, 6), tokens)
    return Harms(comparisons(pairs), seen, told, looks, absent, "as registered", wholes(seen, names(), 3))


def with_harms(data: ReportData) -> ReportData:
    """Return a study with its panel."""
    fields = {name: getattr(data, name) for name in data.__dataclass_fields__ if name != "harms"}
    return ReportData(**fields, harms=harms())
