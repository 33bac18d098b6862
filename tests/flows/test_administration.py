"""What a unit reads is registered, equal for all its arms, and balanced; what is invalid is missing with a reason."""

from __future__ import annotations

import dataclasses
import math
import secrets
from collections import Counter

import numpy as np
import pandas as pd
import pytest

from neuromod_core.instruments import LABEL_SETS, ORDERS
from neuromod_core.models import LoadedModel
from neuromod_core.store.tables import decode
from neuromod_core.trial.archive import Archive
from neuromod_core.trial.close import judge
from neuromod_core.trial.control import pilot_units, primary_reading
from neuromod_core.trial.crossed import CROSSED, EMPTY, TOLD, cross_verdicts
from neuromod_core.trial.leakage import leakage
from neuromod_core.trial.library import Library
from neuromod_core.trial.plan import Control, Probe, Registration
from neuromod_core.trial.prompts import Prompter
from neuromod_core.trial.readings import CONTENT_FREE, PREFERRED, READINGS
from neuromod_core.trial.register import Readiness, register, units_of
from neuromod_core.trial.scoring import cell_scores
from tests.flows.conftest import CONFIG, READY, run_study
from tests.flows.test_trial import synthetic

LARGE = dataclasses.replace(CONFIG, units=36)


def passing(*readings: str) -> Readiness:
    controls = tuple(Control(reading, "pdq_s", 2.0, 0.01, 8, reading in readings, "given") for reading in PREFERRED)
    return dataclasses.replace(READY, controls=controls)


# ------------------------------------------------------------------------------------------------------ what is dealt


def test_nuisance_factors_are_balanced_alone_and_in_pairs(library: Library) -> None:
    units = units_of(LARGE, library)
    for factor in ("paraphrase", "item_wording", "option_order", "labels"):
        assert len(set(Counter(getattr(unit, factor) for unit in units).values())) == 1
    for one, other in (("paraphrase", "item_wording"), ("labels", "option_order"), ("labels", "item_wording")):
        pairs = Counter((getattr(unit, one), getattr(unit, other)) for unit in units)
        assert len(set(pairs.values())) == 1
        assert len(pairs) == len({pair[0] for pair in pairs}) * len({pair[1] for pair in pairs})
    assert {unit.labels for unit in units} == set(LABEL_SETS)
    assert {unit.option_order for unit in units} == set(ORDERS)


def test_all_arms_of_a_unit_read_the_same(registration: Registration, closed: Archive) -> None:
    """The rows of two arms of a unit name the same items and readings, and where both do nothing they are equal."""
    rows = closed.rows(registration, "responses")
    asked = rows.groupby("cell_code")[["instrument", "item", "reading"]].apply(
        lambda part: frozenset(map(tuple, part.to_numpy()))
    )
    for unit in registration.plan.units:
        cells = [cell for cell in registration.plan.cells if cell.unit_id == unit.unit_id and cell.battery == "full"]
        assert len({asked[cell.cell_code] for cell in cells}) == 1
        assert {reading for _, _, reading in asked[cells[0].cell_code]} == (
            {"statement", "likelihood"}
            | ({"options", "texts"} if unit.options else set())
            | ({"sampled"} if unit.sampled else set())
        )


def test_another_wording_is_another_text(library: Library, llama: LoadedModel, registration: Registration) -> None:
    prompter, scale = Prompter(llama, library), library.scale("pdq_s")
    unit = registration.plan.units[0]
    read = [prompter.statements([scale], dataclasses.replace(unit, item_wording=wording)) for wording in range(3)]
    assert len({tuple(texts) for texts in read}) == 3
    adopted = library.scale("personality")
    assert (
        len({tuple(prompter.statements([adopted], dataclasses.replace(unit, item_wording=n))) for n in range(3)}) == 1
    )


def test_a_model_is_given_label_sets_that_it_can_tell_apart(library: Library, llama: LoadedModel) -> None:
    prompter = Prompter(llama, library)
    fit, ending = prompter.label_sets(), prompter.ending()
    assert set(fit) < set(LABEL_SETS)  # its tokens are letters: "slightly" and "strongly" begin alike
    for unit in [*units_of(LARGE, library, sets=fit), *pilot_units(library, sets=fit)]:
        forms = prompter.option_forms(unit)
        assert len({token for form in forms for token in form}) == sum(map(len, forms))
        whole = prompter.option_texts(unit)
        assert all(len(text) > len(ending) and text[len(text) - len(ending) :] == ending for text in whole)


# -------------------------------------------------------------------------------------------------- primary reading


def test_the_first_reading_that_passes_is_primary() -> None:
    for count in range(len(PREFERRED)):
        assert primary_reading(passing(*PREFERRED[count:]).controls, "pdq_s") == PREFERRED[count]
    assert primary_reading(passing().controls, "pdq_s") is None
    assert primary_reading(passing("statement").controls, "sdq") is None


@pytest.mark.parametrize("reading", ["options", "texts", "statement"])
def test_every_cell_takes_the_primary_reading(library: Library, llama: LoadedModel, reading: str) -> None:
    plan = register(CONFIG, library, llama, passing(reading), secrets.token_bytes).plan
    by_option = reading != "statement"
    assert all(unit.options for unit in plan.units) == by_option
    assert {cell.battery for cell in plan.cells} == {"full", "options" if by_option else "statements"}


# ------------------------------------------------------------------------------------------------ what becomes of it


def answered(levels: dict[tuple[str, str], float], mass: float = 1.0) -> pd.DataFrame:
    """Rows of one cell read by options: all the mass on the two levels around each given one."""
    lines = []
    for (instrument, item), level in levels.items():
        p = np.zeros(5)
        low = min(3, math.floor(level))
        p[low], p[low + 1] = mass * (low + 1 - level), mass * (level - low)
        with np.errstate(divide="ignore"):
            logs = list(np.log(p))
        lines.append(
            {
                "instrument": instrument,
                "item": item,
                "reading": "options",
                "options_raw": logs,
                "options_expressed": logs,
            }
        )
    return pd.DataFrame(lines)


CHECKS = (Probe("told", "instructed", (4,)), Probe("odd", "infrequency", (0, 1)))
GOOD = {("s", "a"): 3.0, ("s", "b"): 3.0, ("antonym", "a"): 1.0, ("validity", "told"): 4.0, ("validity", "odd"): 4.0}


def scored(rows: pd.DataFrame) -> dict[str, tuple[float | None, str | None]]:
    found = cell_scores(rows, "ascending", CHECKS, ("s",))
    return {scale: (score.value, score.reason) for scale, reading, score in found if reading == "options_raw"}


def test_a_cell_that_passes_its_checks_has_a_score() -> None:
    assert scored(answered(GOOD)) == {"s": (75.0, None)}


@pytest.mark.parametrize(
    ("changed", "mass", "reason"),
    [
        ({("validity", "told"): 0.0}, 1.0, "instructed responses: 0 of 1 as told, 1 needed"),
        ({("antonym", "a"): 3.5}, 1.0, "a sentence and its opposite are both affirmed: 1.25 levels off balance"),
        ({}, 0.4, "0 of 2 items valid, 2 needed; first missing: option mass 0.40 < 0.50"),
    ],
)
def test_an_invalid_answer_is_missing_with_its_reason(changed: dict, mass: float, reason: str) -> None:
    value, said = scored(answered(GOOD | changed, mass))["s"]
    assert value is None
    assert str(said).startswith(reason)


def test_every_score_has_a_value_or_a_reason_and_replies_are_kept(closed: Archive, registration: Registration) -> None:
    scores = judge(closed, registration).scores
    assert (scores["value"].isna() == scores["reason"].notna()).all()
    assert set(scores["reading"]) == set(READINGS)
    replies = closed.rows(registration, "responses").query("reading == 'sampled'")
    assert replies["answer"].notna().all()
    assert (replies["valid"] == replies["option"].notna()).all()
    assert (replies["valid"] == replies["reason"].isna()).all()


def test_what_a_sentence_without_content_explains_is_in_the_dataset(
    closed: Archive, registration: Registration
) -> None:
    table = decode(closed.store.get("dataset/leakage.parquet")).to_pandas()
    assert len(table) > 0
    assert (table["n"].eq(0) == table["shift"].isna()).all()
    nothing = table[(table["arm"] == "none") & table["n"].gt(0)]
    assert (nothing[["shift", "content_free", "residual"]] == 0).all(axis=None)


@pytest.mark.parametrize(("bias", "meant"), [(10.0, 0.0), (0.0, 10.0), (4.0, 6.0)])
def test_leakage_is_the_share_of_a_shift_that_says_nothing(bias: float, meant: float) -> None:
    rows = [
        (unit, arm, "", scale, "options_raw", 50 + (arm == "dosed") * (bias + meant * (scale == "s")))
        for unit in ("u0", "u1")
        for arm in ("none", "dosed")
        for scale in ("s", CONTENT_FREE)
    ]
    scores = pd.DataFrame(rows, columns=["unit_id", "arm", "member", "scale", "reading", "value"])
    (row,) = leakage(scores, "none", ("none", "dosed"), ("s",))
    assert (row.shift, row.content_free, row.residual) == (bias + meant, bias, meant)
    assert row.share == pytest.approx(bias / (bias + meant))


# ------------------------------------------------------------------------------------------------- cross-detection


def test_an_arm_raises_the_scale_it_moves_and_no_other(registration: Registration) -> None:
    plan = registration.plan
    there = cross_verdicts(plan, synthetic(registration, {"creative_plus": 3.0}))
    raised = {(item.arm, item.scale) for item in there if item.state == "supported"}
    assert raised == {("creative_plus", "pdq_s")}
    assert {item.family for item in there} == {CROSSED}
    assert {item.reading for item in there} == {"statement_expressed"}
    comparators = {item.arm: item.comparator for item in there}
    assert comparators == {"creative_plus": "entropy_temperature", "creative_minus": "entropy_temperature"}
    nothing = cross_verdicts(plan, synthetic(registration, {}))
    assert [item for item in nothing if item.state == "supported"] == []


FAKES = ("fake_temperature", "fake_noise", "fake_logit_bias")
ASSAY = dataclasses.replace(
    CONFIG,
    name="fakes",
    arms=("none", "entropy_temperature", *FAKES, "instructed_dreamlike"),
    option_units=0,
    sampled_units=0,
    story_tokens=1,
)
GIVEN = dataclasses.replace(
    READY,
    factors={fake: {"": 0.5} for fake in FAKES},
    doses={"fake_temperature": 0.25, "fake_noise": 0.02, "fake_logit_bias": 0.02, "instructed_dreamlike": 0.0},
)


def test_packs_without_content_raise_nothing(library: Library, llama: LoadedModel) -> None:
    """What a sampler does alone leaves the raw reading as it is, bit for bit, and moves the expressed one nowhere."""
    registration = register(ASSAY, library, llama, GIVEN, secrets.token_bytes)
    archive = run_study(registration, library, llama, list(range(registration.plan.shards)))
    verdicts = judge(archive, registration).verdicts
    shifts = {item.arm: item.state for item in verdicts if item.family == "F3" and item.arm in FAKES}
    assert shifts == dict.fromkeys(FAKES, "not informative")
    crossed = [item for item in verdicts if item.family == CROSSED]
    assert {(item.arm, item.scale) for item in crossed} == {
        (arm, scale) for arm in (*FAKES, "instructed_dreamlike") for scale in ASSAY.scales
    }
    assert {item.state for item in crossed if item.arm == "fake_temperature"} == {"not informative"}
    assert [item.hypothesis for item in crossed if item.arm in FAKES and item.state == "supported"] == []
    moved = [item for item in crossed if item.arm in ("fake_noise", "fake_logit_bias")]
    assert all(item.estimate for item in moved)


def test_a_told_state_is_seen_when_its_own_scale_shifts_beyond_a_plain_day(
    library: Library, llama: LoadedModel
) -> None:
    """Not beyond the baseline: being told of anything moves a scale too."""
    told = ("instructed_dreamlike", "instructed_drowsy", EMPTY)
    config = dataclasses.replace(CONFIG, arms=("none", *told), units=8, option_units=0, sampled_units=0)
    doses = dict.fromkeys(told[:2], 0.0)
    registration = register(
        config, library, llama, dataclasses.replace(READY, factors={}, doses=doses), secrets.token_bytes
    )

    def seen(effects: dict[str, float]) -> dict[str, tuple[str, str]]:
        found = cross_verdicts(registration.plan, synthetic(registration, effects))
        return {item.arm: (item.state, item.comparator) for item in found if item.family == TOLD}

    everywhere = dict.fromkeys(told, 3.0)
    assert seen({"instructed_dreamlike": 3.0})["instructed_dreamlike"] == ("supported", EMPTY)
    assert seen(everywhere)["instructed_dreamlike"] == ("not supported", EMPTY)
    assert set(seen(everywhere)) == {"instructed_dreamlike"}, "the scale of the other is not part of this study"


def test_described_states_are_those_of_the_frames(library: Library) -> None:
    states = {state.scale: state.system for state in library.frames.states}
    for name in ("instructed_dreamlike", "instructed_drowsy", EMPTY):
        pack = library.pack(name)
        assert pack.system == states[pack.target_scale]
