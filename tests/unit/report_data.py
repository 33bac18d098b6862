"""A made-up but complete study, for tests of the report: every kind of arm, gate, state and gap occurs in it."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from scipy.stats import t as student

from neuromod_core.kernel.rng import rng
from neuromod_core.report import ReportData

BASELINE = "none"
SCALES = ("visionary", "stimulation", "sedation", "dissociation", "warmth")
FOILS = ("stimulation", "sedation", "warmth")
READINGS = ("statement_raw", "statement_expressed", "options_raw", "options_expressed")
ITEMS = tuple(f"visionary-{index:02d}" for index in range(1, 9))
STORY = (
    "The tram stopped at the harbour and nobody got off. A woman with a paper bag looked at the water, counted boats, "
    "and began to tell the driver about her brother, who had once painted every door in the street the same green. "
)

ARMS = (
    ("none", "none", None, "", None, None),
    ("inert", "P0", "visionary", "steering visionary 0.00", None, None),
    ("sham vector", "P1", None, "steering sham +0.20 (24 draws)", None, None),
    ("matched temperature", "P2", None, "temperature +0.41", None, None),
    ("terse style", "P3", None, "prompt style", None, None),
    ("persona", "persona", None, "prompt persona", "visionary", 1),
    ("known vector", "assay", "assay", "steering visionary +0.30", "visionary", 1),
    ("lucid", "pack", "lucid", "steering visionary +0.12, temperature +0.20", "visionary", 1),
    ("drift", "pack", "drift", "attention spread +0.40, router noise +0.10", "visionary", 1),
    ("lull", "pack", "lull", "steering sedation +0.20", "sedation", 1),
    ("spur", "pack", "spur", "steering stimulation +0.15, top-p \u22120.20", "stimulation", 1),
    ("veil", "pack", "veil", "cache decay +0.50", "dissociation", 1),
    ("hot", "pack", "hot", "temperature +0.80", "warmth", -1),
)
PLACEBOS = {"sham vector": "statement_raw", "matched temperature": "statement_expressed"}
SHIFT = {"sham vector": 0.1, "persona": 1.6, "known vector": 2.9, "lucid": 1.15, "drift": 0.35, "veil": -0.4}
NLL = {"known vector": 0.31, "lucid": 0.09, "drift": 0.22, "veil": 0.6, "lull": 0.07, "spur": 0.05, "sham vector": 0.12}
HEAT = {"matched temperature": 0.5, "hot": 1.0, "drift": 0.6, "lucid": 0.3, "veil": -0.7, "known vector": 0.2}


def names() -> list[str]:
    return [arm[0] for arm in ARMS]


def unit_ids(units: int) -> list[str]:
    return [f"v{index:03d}" for index in range(units)]


def scores(units: int) -> pd.DataFrame:
    draw = rng(11, "scores")
    rows = []
    base = draw.normal(0, 0.6, (units, len(SCALES)))
    for arm, _, _, _, target, _ in ARMS:
        for place, scale in enumerate(SCALES):
            effect = SHIFT.get(arm, 0.0) * (1.0 if scale == "visionary" else 0.3)
            effect += 0.9 if target == scale and scale != "visionary" and arm != "hot" else 0.0
            for reading in READINGS:
                options = reading.startswith("options")
                moved = 50 + 3 * HEAT.get(arm, 0.0) if options else effect
                values = base[:, place] + moved + draw.normal(0, 0.05 if arm == "inert" else 0.7, units)
                for unit, value in zip(unit_ids(units), values, strict=True):
                    lost = (arm == "veil" and options) or (arm == "drift" and draw.random() < 0.06)
                    reason = ("option mass below 0.5" if options else "no valid item") if lost else None
                    valid = 0 if lost else 8 - int(draw.random() < 0.1)
                    rows.append((unit, arm, None, scale, reading, None if lost else value, 8, valid, reason))
    columns = ["unit_id", "arm", "member", "scale", "reading", "value", "n_items", "n_valid", "reason"]
    table = pd.DataFrame(rows, columns=columns)
    gone = (table["arm"] == "terse style") & (table["scale"] == "dissociation")
    table.loc[gone, ["value", "reason"]] = [np.nan, "scale not administered"]
    return table


def items(units: int) -> pd.DataFrame:
    draw = rng(11, "items")
    rows = []
    for arm in names():
        for place, item in enumerate(ITEMS):
            if (arm, place) == ("veil", 3):
                continue
            values = SHIFT.get(arm, 0.0) * (0.4 + 0.15 * place) + draw.normal(0, 0.8, units)
            rows += [(u, arm, None, "visionary", item, v) for u, v in zip(unit_ids(units), values, strict=True)]
    return pd.DataFrame(rows, columns=["unit_id", "arm", "member", "scale", "item", "contrast"])


def verdicts(table: pd.DataFrame, min_effect: float) -> pd.DataFrame:
    own = [(arm, target) for arm, role, _, _, target, _ in ARMS if role in {"assay", "pack"} and target]
    rows = [_verdict("F1", table, arm, scale, against, min_effect) for arm, scale in own for against in PLACEBOS]
    others = [arm for arm in names() if arm not in {"none", "inert"} and (arm, "visionary") not in own]
    rows += [_verdict("F5", table, arm, "visionary", against, min_effect) for arm in others for against in PLACEBOS]
    left_out = {*zip(PLACEBOS, PLACEBOS, strict=True), ("terse style", "matched temperature")}
    return pd.DataFrame([row for row in rows if (row["arm"], row["comparator"]) not in left_out])


def _verdict(family: str, table: pd.DataFrame, arm: str, scale: str, against: str, least: float) -> dict[str, object]:
    reading = PLACEBOS[against]
    wide = table[table["reading"] == reading].pivot(index="unit_id", columns=["arm", "scale"], values="value")
    foils = [name for name in FOILS if name != scale]
    contrast = wide[arm][scale] - wide[arm][foils].mean(axis=1)
    gap = (contrast - wide[against][scale] + wide[against][foils].mean(axis=1)).dropna().to_numpy()
    mean, error = float(gap.mean()), float(gap.std(ddof=1) / np.sqrt(gap.size))
    half = float(student.ppf(0.975, gap.size - 1)) * error
    sign = -1 if arm == "hot" else 1
    p = float(max(1e-4, student.sf((sign * mean - least) / error, gap.size - 1)))
    row = {"family": family, "hypothesis": f"{arm} > {against}", "arm": arm, "scale": scale, "reading": reading}
    row |= {
        "comparator": against,
        "estimate": mean,
        "ci_low": mean - half,
        "ci_high": mean + half,
        "g_z": mean / error / np.sqrt(gap.size),
    }
    row |= {"statistic": (sign * mean - least) / error, "p": p, "p_adj": min(1.0, 4 * p), "n": gap.size}
    row |= {"method": "sign-flip", "informative": True, "state": "supported" if 4 * p < 0.05 else "not supported"}
    row |= {"note": None}
    empty = dict.fromkeys(("estimate", "ci_low", "ci_high", "g_z", "statistic", "p", "p_adj"))
    if (arm, against) == ("hot", "matched temperature"):
        return row | empty | {"informative": False, "state": "not informative", "note": "the same sampler"}
    if (arm, scale) == ("veil", "dissociation"):
        return row | empty | {"n": None, "state": "not measurable", "note": "2 valid units"}
    return row


def generations(units: int, tokens: int) -> pd.DataFrame:
    draw = rng(11, "stories")
    rows = []
    for arm in names():
        for unit in unit_ids(units):
            length = int(draw.integers(tokens // 2, tokens + 1))
            level = 2.2 + HEAT.get(arm, 0.0) + 0.8 * np.exp(-np.arange(length) / 12)
            entropy = np.abs(level + draw.normal(0, 0.8, length))
            repeat = float(np.clip(draw.normal(0.05 + 0.25 * NLL.get(arm, 0.0), 0.02), 0, 1))
            text = " ".join((STORY * 12).split()[: int(length * 0.8)])
            ended = "stop token" if length < tokens else "length"
            row = (unit, arm, None, "Tell a short story about a journey.", text, list(entropy), list(-entropy))
            rows.append((*row, 0.93 - repeat, repeat, ended))
    columns = ["unit_id", "arm", "member", "prompt", "text", "entropy", "logprob", "distinct_2"]
    return pd.DataFrame(rows, columns=[*columns, "repeated_4gram_share", "stop_reason"])


def order(units: int) -> pd.DataFrame:
    arms = names()
    zigzag = [(place + 1) // 2 if place % 2 else -(place // 2) for place in range(len(arms))]
    rows = [
        (unit, period + 1, arms[(step + index) % len(arms)])
        for index, unit in enumerate(unit_ids(units))
        for period, step in enumerate(zigzag)
    ]
    return pd.DataFrame(rows, columns=["unit_id", "period", "arm"])


GATES = pd.DataFrame(
    [
        ("G1", "null pack is the baseline, bit by bit", "passed", "624 of 624 cells equal"),
        ("G2", "no carry-over between cells", "passed", "48 of 48 cells equal after a fresh start"),
        ("G3", "executed order is balanced", "passed", "every arm follows every other 3 or 4 times"),
        ("G4", "the model answers validly under placebo", "passed", "statement contrast: 99.1 % valid items"),
        ("G5", "an instructed state moves the scale", "passed", "g_z = 2.31, 95 % interval [1.84, 2.79]"),
        ("G6", "arms cannot be guessed from metadata", "not run", "no guesser was configured"),
        ("G7", "commitments verified", "passed", "plan, code and data match the ledger"),
    ],
    columns=["code", "title", "state", "evidence"],
)

DESIGN: Mapping[str, object] = {
    "title": "Do six packs change what a small model reports?",
    "question": (
        "Six packs, each predicted to move one scale, were given to a language model beside inert, sham and "
        "entropy-matched placebos, in balanced order and blinded. Does any pack move its scale, and not the others, "
        "further than both placebos do?"
    ),
    "model": "smollm2-135m, instruction-tuned",
    "baseline": BASELINE,
    "units": 26,
    "periods": len(ARMS),
    "alpha": 0.05,
    "readings": list(READINGS),
    "families": {
        "F1": "each pack on its own target scale, sign-flip test against the minimum effect, max-T over packs",
        "F5": "every arm on the primary scale, hierarchical false-discovery rate 0.05",
    },
    "primary_family": "F1",
    "specificity_families": ["F5"],
    "foils": list(FOILS),
    "gated_out": {
        "options_raw": "G5 failed for it: an instructed state moves keyed and antonym items alike (g_z = 0.04).",
        "options_expressed": "G5 failed for it: an instructed state moves keyed and antonym items alike (g_z = 0.02).",
    },
    "details": {"paraphrases": "3, rotated over units", "sham draws": "24, dose-matched at 1 nat"},
    "limits": ["One model of 135 million parameters: larger models may respond otherwise."],
}

PROVENANCE = {
    "plan_hash": "4f1c" * 16,
    "registration_id": "reg-7c9d2f",
    "root_hash": "9ab3" * 16,
    "model_sha256": "51ee" * 16,
    "dtype": "float32",
    "cpu_features": "avx2 fma",
    "commit": "0c7d5f1a2b",
    "seeds": "root 7",
    "command": "neuromod run study=reproduce",
}


def report_data(units: int = 26, tokens: int = 120) -> ReportData:
    """Return the study; equal arguments give equal data."""
    table = scores(units)
    draw = rng(11, "other")
    cost = [(u, arm, 3.1 + NLL.get(arm, 0.0) + draw.normal(0, 0.05)) for arm in names() for u in unit_ids(units)]
    shams = [(f"draw-{index:02d}", value) for index, value in enumerate(draw.normal(0.05, 0.45, 24))]
    return ReportData(
        scores=table,
        items=items(units),
        verdicts=verdicts(table, 0.5),
        gates=GATES,
        shams=pd.DataFrame(shams, columns=["member", "estimate"]),
        side_effects=pd.DataFrame(cost, columns=["unit_id", "arm", "neutral_nll"]),
        generations=generations(units, tokens),
        order=order(units),
        design={**DESIGN, "units": units},
        arms=pd.DataFrame(ARMS[::-1], columns=["arm", "role", "pack", "effects", "target_scale", "predicted_sign"]),
        provenance=PROVENANCE,
        primary_scale="visionary",
        primary_reading="statement_raw",
        min_effect=0.5,
    )
