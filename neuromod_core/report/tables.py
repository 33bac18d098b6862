"""The tables of a report, as text in cells: what a template can print without knowing a number."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import pandas as pd

from neuromod_core.report.data import ROLES, ReportData
from neuromod_core.report.palette import looks
from neuromod_core.report.shifts import Mean, at, nll_shifts, scale_names, scale_shifts, specificity_shifts, story_means
from neuromod_core.report.verdicts import Verdict, reported_state, verdicts
from neuromod_core.report.wording import (
    MISSING,
    count,
    interval,
    listed,
    percent,
    plain,
    pvalue,
    reading_name,
    reading_unit,
    signed,
    words,
)
from neuromod_core.trial.leakage import Leakage, leakage

PROVENANCE: Mapping[str, str] = {
    "plan_hash": "plan hash",
    "registration_id": "registration",
    "root_hash": "root hash of the data",
    "model_sha256": "SHA-256 of the model",
    "dtype": "dtype",
    "cpu_features": "CPU features",
    "commit": "commit",
    "lock_sha256": "SHA-256 of the lock file",
    "seeds": "seeds",
    "command": "command that regenerates this report",
}
"""Keys that every report should have, and their labels; what is absent is said to be not recorded."""


WHERE = ("arm", "scale", "against", "reading")
OUTCOME = ("estimate", "95 % interval", "g_z", "p", "adjusted p", "n", "state")
"""Headers of the columns that say what a verdict is about, and how it came out."""

DASH = "\u2013"
"""Stands where a column does not apply."""

NO_ESTIMATE: Mapping[str, str] = {"not informative": "zero by construction", "not measurable": "no valid scores"}
"""States without an estimate, and what stands in its place."""


class Cell(NamedTuple):
    """Text with the class that styles it."""

    text: str
    style: str = ""


@dataclass(frozen=True)
class Table:
    """A caption, a header (may be empty) and rows; the first cell of a row names the row."""

    caption: str
    header: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]


def _number(text: str) -> Cell:
    return Cell(text, "missing" if text == MISSING else "number")


def _style(state: str) -> str:
    return state.replace(" ", "-")


def facts(data: ReportData) -> Table:
    """Return the design in lines."""
    study = data.study
    lines = {
        "model": study.model,
        "units": f"{study.units} contexts, each receives every arm",
        "periods": f"{study.periods} per unit",
        "readings": "; ".join(reading_name(code) for code in study.readings),
        "primary reading": reading_name(data.primary_reading),
        "primary scale": f"{data.primary_scale}; foils: {listed(study.foils)}",
        "minimum effect": f"{data.min_effect:g} {reading_unit(data.primary_reading)}",
        "alpha": f"{study.alpha:g} in family {study.primary_family}",
        **{f"family {code}": text for code, text in study.families.items()},
        **study.details,
    }
    return Table("Design", (), tuple((Cell(name), Cell(text)) for name, text in lines.items()))


def arms(data: ReportData) -> Table:
    """Return the arms with their roles, effects and predictions."""
    words = {1: "up", -1: "down", None: "no direction"}
    rows = []
    for name, arm in data.arm_rows.items():
        predicted = f"{arm.target}, {words[arm.sign]}" if arm.target else "none"
        texts = (ROLES[arm.role], arm.pack or "none", arm.effects or "none", predicted)
        rows.append((Cell(f"{looks(data)[name].letter}  {name}"), *map(Cell, texts)))
    return Table("Arms", ("arm", "role", "pack", "effects and signed doses", "predicted"), tuple(rows))


def gates(data: ReportData) -> Table:
    """Return the gates with their state and evidence."""
    rows = []
    for row in data.gates.to_dict("records"):
        state, evidence = words(row["state"]), words(row["evidence"]) or "not recorded"
        rows.append((Cell(f"{row['code']}  {row['title']}"), Cell(state, _style(state)), Cell(evidence)))
    return Table("Gates", ("gate", "state", "evidence"), tuple(rows))


def primary(data: ReportData) -> Table:
    """Return the primary family, one row per arm and comparator, controls first."""
    family = data.study.primary_family
    rows = [(*_where(row), *_outcome(data, row)) for row in verdicts(data, family)]
    return Table(_title(data, family), (*WHERE, *OUTCOME), tuple(rows))


def secondary(data: ReportData) -> list[Table]:
    """Return every other family that has verdicts, one row per hypothesis."""
    codes = [code for code in data.study.families if code != data.study.primary_family]
    header = ("hypothesis", *WHERE, *OUTCOME)
    return [Table(_title(data, code), header, rows) for code in codes if (rows := _family(data, code))]


def _family(data: ReportData, code: str) -> tuple[tuple[Cell, ...], ...]:
    return tuple((Cell(row.hypothesis), *_where(row), *_outcome(data, row)) for row in verdicts(data, code))


def _title(data: ReportData, family: str) -> str:
    return f"Family {family}: {data.study.families[family]}"


def _where(row: Verdict) -> list[Cell]:
    return [Cell(text or DASH) for text in (row.arm, row.scale, row.comparator, row.reading.replace("_", " "))]


def _outcome(data: ReportData, row: Verdict) -> list[Cell]:
    """Return the cells under `OUTCOME`."""
    state = reported_state(data, row)
    said = Cell(f"{state}{f' ({row.note})' if row.note else ''}", _style(state))
    if state in NO_ESTIMATE:
        return [Cell(NO_ESTIMATE[state], "missing"), *[Cell(DASH, "missing")] * 4, _number(count(row.n)), said]
    bounds, tests = interval(row.ci_low, row.ci_high), (pvalue(row.p), pvalue(row.p_adj))
    return [*map(_number, (signed(row.estimate), bounds, signed(row.g_z), *tests, count(row.n))), said]


def shifts(data: ReportData, reading: str) -> Table:
    """Return the mean shifts against the baseline in one reading, with half-widths of 95 % intervals and n."""
    means = scale_shifts(data, reading)
    scales = scale_names(data, means)
    names = [arm for arm in data.arm_names if arm != data.study.baseline]
    rows = [(Cell(arm), *[_shift(at(means, arm, scale)) for scale in scales]) for arm in names]
    caption = f"{reading_name(reading)}: mean shift \u00b1 95 % half-width ({reading_unit(reading)}; n units)"
    return Table(caption, ("arm", *scales), tuple(rows))


def leaks(data: ReportData) -> Table | None:
    """Return how much of every shift by options a content-free sentence explains; None without such a reading."""
    scales = (data.primary_scale, *data.study.foils)
    found = leakage(data.scores, data.study.baseline, data.arm_names, scales)
    rows = [
        (Cell(row.arm), Cell(row.scale), Cell(reading_name(row.reading)), *_leak(row))
        for row in found
        if row.n or row.reading.endswith("raw")
    ]
    header = ("arm", "scale", "reading", "shift", "content-free", "what is left", "share explained", "n")
    caption = "Token bias: how far a sentence without content shifts under the same answer key (POMP points)"
    return Table(caption, header, tuple(rows)) if rows else None


def _leak(row: Leakage) -> list[Cell]:
    numbers = [signed(value, 1) for value in (row.shift, row.content_free, row.residual)]
    return [*map(_number, (*numbers, percent(row.share), count(row.n)))]


def _shift(mean: Mean) -> Cell:
    return _number(MISSING if mean.mean is None else f"{signed(mean.mean)} \u00b1 {plain(mean.half)} (n = {mean.n})")


def _level(mean: Mean) -> Cell:
    return _number(MISSING if mean.mean is None else f"{plain(mean.mean, 3)} \u00b1 {plain(mean.half, 3)}")


def side_effects(data: ReportData) -> Table:
    """Return cost, effect and repetition per arm."""
    cost, effect = nll_shifts(data), specificity_shifts(data)
    pairs, repeats = story_means(data, "distinct_2"), story_means(data, "repeated_4gram_share")
    rows = [
        (Cell(arm), _shift(at(cost, arm)), _shift(at(effect, arm)), _level(at(pairs, arm)), _level(at(repeats, arm)))
        for arm in data.arm_names
    ]
    unit = reading_unit(data.primary_reading)
    effect_header = f"{data.primary_scale} minus foils, shift ({unit})"
    header = ("arm", "neutral text, shift (nats per token)", effect_header, "distinct-2", "repeated 4-gram share")
    return Table(f"Mean \u00b1 95 % half-width; shifts are against {data.study.baseline}", header, tuple(rows))


def stops(data: ReportData) -> Table:
    """Return why stories ended, as shares of each arm's stories."""
    shares = pd.crosstab(data.generations["arm"], data.generations["stop_reason"].fillna(MISSING), normalize="index")
    names = [arm for arm in data.arm_names if arm in shares.index]
    rows = [(Cell(arm), *[_number(percent(share)) for share in shares.loc[[arm]].to_numpy(float)[0]]) for arm in names]
    return Table("Why stories ended", ("arm", *map(str, shares.columns)), tuple(rows))


def validity(data: ReportData) -> Table:
    """Return the share of invalid items, and of scores that are missing by reason, for each arm."""
    scores = data.scores.assign(reason=data.scores["reason"].fillna("no reason given").map(_kind_of_reason))
    reasons = sorted(map(str, scores.loc[scores["value"].isna(), "reason"].unique()))
    rows = [(Cell(arm), *_validity(scores[scores["arm"] == arm], reasons)) for arm in data.arm_names]
    header = ("arm", "invalid items", "scores missing", *[f"because: {reason}" for reason in reasons])
    return Table("Share of invalid items and of missing scores, by arm and reason", header, tuple(rows))


def _kind_of_reason(reason: str) -> str:
    """Return a reason without its figures, so that equal reasons share a column."""
    said = reason.rpartition("first missing: ")[2]
    return re.split(r"\s\d", said)[0]


def _validity(scores: pd.DataFrame, reasons: list[str]) -> list[Cell]:
    absent = scores.loc[scores["value"].isna(), "reason"]
    items = float(scores["n_items"].sum())
    invalid = 1 - float(scores["n_valid"].sum()) / items if items else None
    counts = [len(absent), *[int((absent == reason).sum()) for reason in reasons]]
    return [_number(percent(share)) for share in (invalid, *[n / len(scores) if len(scores) else None for n in counts])]


def provenance(data: ReportData) -> Table:
    """Return fingerprints and the command that regenerates the report; what is absent is said."""
    extra = {key: key.replace("_", " ") for key in data.provenance if key not in PROVENANCE}
    rows = []
    for key, label in {**PROVENANCE, **extra}.items():
        known = key in data.provenance and bool(data.provenance[key])
        value = Cell(data.provenance[key], "code") if known else Cell("not recorded", "missing")
        rows.append((Cell(label), value))
    return Table("Provenance", (), tuple(rows))
