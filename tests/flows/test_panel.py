"""The panel of side effects in a whole study on a tiny model: blind, paired, resumable, stoppable, and verified."""

from __future__ import annotations

import dataclasses
import secrets
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from neuromod_core.instruments.tasks import certainty
from neuromod_core.kernel.errors import ConfigError, IntegrityError, OutOfRange, UnknownName
from neuromod_core.models import LoadedModel
from neuromod_core.report import telemetry
from neuromod_core.report.build import build
from neuromod_core.report.plots.safety import margins as draw_margins
from neuromod_core.report.plots.safety import measures as draw_measures
from neuromod_core.report.plots.telemetry import telemetry as draw_telemetry
from neuromod_core.report.safety import absences, halts, margins, measures, sentences
from neuromod_core.store import MemoryStore
from neuromod_core.store.compact import read_manifest
from neuromod_core.store.tables import SORT_KEYS, table
from neuromod_core.trial import stopping
from neuromod_core.trial.archive import Archive
from neuromod_core.trial.bank import Bank, check, deal, load_bank, registered
from neuromod_core.trial.close import judge, record_gates
from neuromod_core.trial.examine import Bench, examine, missed
from neuromod_core.trial.executed import ran
from neuromod_core.trial.gates import before_first_cell
from neuromod_core.trial.harms import HARMS_FAMILY, MARGINS_FAMILY, harms_of, labelled
from neuromod_core.trial.library import Library
from neuromod_core.trial.panel import ENDPOINTS, Panel, StopRule
from neuromod_core.trial.plan import Registration
from neuromod_core.trial.register import register
from neuromod_core.trial.roles import Allocator
from neuromod_core.trial.scoring import Labels
from neuromod_core.trial.sitting import rows_of
from neuromod_core.trial.stopping import STOPPED, not_run, unseen
from neuromod_core.trial.verify import verify
from tests.conftest import ROOT
from tests.flows.conftest import CONFIG, READY, finish, open_room

PANEL = Panel(
    requests=2,
    xstest=1,
    replies=1,
    problems=5,
    figures=1,
    writing=1,
    summaries=1,
    associations=1,
    grammar=1,
    paragraphs=1,
    telemetry_units=2,
    reply_tokens=3,
)
STOP = StopRule(endpoint="abuse", bound=0.001, alpha=0.4, every=1)


def prepared(panel: Panel, library: Library, model: LoadedModel, units: int = 6) -> tuple[Registration, Bench]:
    bank = load_bank(ROOT, None, panel, units)
    config = dataclasses.replace(CONFIG, panel=registered(panel, bank), option_units=0)
    registration = register(config, library, model, READY, secrets.token_bytes)
    asked = deal(panel, bank, [unit.unit_id for unit in registration.plan.units], registration.plan.seed)
    return registration, Bench(bank, asked, panel.reply_tokens)


def conducted(
    registration: Registration,
    bench: Bench,
    library: Library,
    model: LoadedModel,
    shards: tuple[int, ...] = (0, 1, 2),
    told: Callable[[dict[str, list[dict[str, object]]]], object] = lambda _: None,
) -> Archive:
    """Run a study; `told` may change the rows of a shard before they are committed."""
    archive = Archive(MemoryStore())
    archive.publish(registration)
    with open_room(registration, library, model) as room:
        record_gates(archive, before_first_cell(room, registration, library.pack("placebo")))
        for shard in shards:
            seats = Allocator(registration).runner().seats(shard)
            reasons = not_run(archive, registration, shard)
            rows = {
                name: [dict(line) for line in lines] for name, lines in rows_of(room, bench, seats, reasons).items()
            }
            told(rows)
            began = ran(seats, index=len(archive.store.keys("commits/")), process="one")
            engine = {"cpu": "any", "lock": "any", "torch": "any", "transformers": "any", "executed": began}
            archive.commit_shard(
                registration,
                shard,
                responses=rows["responses"],
                generations=rows["generations"],
                provenance=engine,
                further={name: rows[name] for name in ("panel", "telemetry")},
            )
    finish(archive, registration)
    return archive


@pytest.fixture(scope="module")
def study(library: Library, llama: LoadedModel) -> tuple[Registration, Bench, Archive]:
    registration, bench = prepared(PANEL, library, llama)
    return registration, bench, conducted(registration, bench, library, llama)


def panel_of(archive: Archive, registration: Registration) -> pd.DataFrame:
    return labelled(registration.plan, archive.rows(registration, "panel"), Labels.real(registration.allocation))


def test_a_study_with_a_panel_verifies_and_its_numbers_follow_from_the_rows(
    study: tuple[Registration, Bench, Archive],
) -> None:
    _, _, archive = study
    assert verify(archive).root == read_manifest(archive.store).root
    assert {"panel", "telemetry"} <= set(read_manifest(archive.store).files)


def test_every_arm_of_a_unit_is_asked_the_same_and_no_two_units_are(study: tuple[Registration, Bench, Archive]) -> None:
    registration, _, archive = study
    panel = panel_of(archive, registration)
    whole = panel[["instrument", "item", "reading"]].agg("/".join, axis=1)
    asked = whole.groupby([panel["unit_id"], panel["arm"]]).apply(sorted)
    for _, of_unit in asked.groupby(level="unit_id"):
        assert all(other == of_unit.iloc[0] for other in of_unit)
        assert len(of_unit) == len(CONFIG.arms)
    for instrument in ("refusal", "unsafe"):
        rows = panel[(panel["instrument"] == instrument) & (panel["reading"] == "odds")]
        assert rows.groupby("item")["unit_id"].nunique().max() == 1


def test_the_inert_arm_differs_from_nothing_by_nothing(study: tuple[Registration, Bench, Archive]) -> None:
    """A pack at dose zero and no pack at all: bit for bit the same rows, and a KL of exactly zero."""
    registration, _, archive = study
    panel = panel_of(archive, registration)
    columns = ["unit_id", "instrument", "item", "reading"]
    none, inert = (panel[panel["arm"] == arm].set_index(columns).sort_index() for arm in ("none", "placebo"))
    pd.testing.assert_frame_equal(none.drop(columns="arm"), inert.drop(columns="arm"))
    told = labelled(registration.plan, archive.rows(registration, "telemetry"), Labels.real(registration.allocation))
    assert set(told["arm"]) == set(CONFIG.arms)
    assert told["unit_id"].nunique() == PANEL.telemetry_units
    still = told["arm"].isin(["none", "placebo"])
    assert all(value == 0 for values in told[still]["kl"] for value in values)
    assert all(max(values) > 0 for values in told[~still]["kl"])


def test_certainty_and_evidence_are_those_of_the_options_that_were_ranked(
    study: tuple[Registration, Bench, Archive],
) -> None:
    registration, bench, archive = study
    problems = {each.id: each for asked in bench.asked.values() for each in asked.problems}
    panel = panel_of(archive, registration)
    keyed = panel.set_index(["unit_id", "arm", "item", "reading"]).sort_index()
    ranked = panel[panel["item"].isin(problems) & (panel["reading"] == "ranked")]
    assert len(ranked) == len(problems) * len(CONFIG.arms)
    for row in ranked.itertuples():
        problem, read = problems[row.item], list(row.loglik)
        key = (row.unit_id, row.arm, row.item)
        brier = certainty([problem], [read]).brier
        assert keyed.loc[(*key, "brier")]["value"] == pytest.approx(brier)
        if problem.task == "n_back":
            told = keyed.loc[(*key, "evidence")]
            assert (told["value"], told["event"]) == (read[0] - read[1], problem.truth == 0)
    harms = harms_of(archive, registration, Labels.real(registration.allocation))
    assert harms is not None
    (whole,) = (each for each in harms.wholes if (each.arm, each.name) == ("none", "ECE"))
    mine = ranked[ranked["arm"] == "none"]
    twin = certainty([problems[item] for item in mine["item"]], [list(read) for read in mine["loglik"]])
    assert (whole.value, whole.n, whole.units) == (pytest.approx(twin.ece), len(problems), CONFIG.units)
    assert all(each.reason for each in harms.wholes if each.name == "AUC")  # six problems: too few


def test_a_cell_alone_gives_the_rows_that_it_gave_beside_others_and_one_that_is_not_run_names_them(
    study: tuple[Registration, Bench, Archive], library: Library, llama: LoadedModel
) -> None:
    registration, bench, archive = study
    seat = next(each for each in Allocator(registration).runner().seats(0) if each.cell.battery == "full")
    code, keys = seat.cell.cell_code, list(SORT_KEYS["panel"])
    stories = archive.rows(registration, "generations")
    told = [dict(line) for line in stories[stories["cell_code"] == code].to_dict("records")]
    with open_room(registration, library, llama) as room:
        alone = table("panel", examine(room, bench, [seat], told)).to_pandas()
    whole = archive.rows(registration, "panel")
    beside = whole[whole["cell_code"] == code].reset_index(drop=True)
    pd.testing.assert_frame_equal(alone.sort_values(keys, ignore_index=True), beside, rtol=1e-5)
    gone = table("panel", missed(bench, [seat], {code: "not run"}, unvalidated=False)).to_pandas()
    assert sorted(gone[keys].agg("/".join, axis=1)) == sorted(beside[keys].agg("/".join, axis=1))
    assert set(gone["reason"]) == {"not run"}
    assert {*("certainty", "n_back", "metaphor", "summary", "association")} <= set(beside["instrument"])


def test_telemetry_repeats_the_entropy_that_was_noted_while_the_story_was_written(
    study: tuple[Registration, Bench, Archive],
) -> None:
    registration, _, archive = study
    keys = ["cell_code", "prompt", "sample"]
    stories, again = (archive.rows(registration, name).set_index(keys) for name in ("generations", "telemetry"))
    for key, row in again.iterrows():
        assert list(row["entropy"]) == pytest.approx(list(stories.loc[key]["entropy"]), abs=1e-4)
        assert sum(row["attention_mass"]) == pytest.approx(1, abs=1e-4)


def test_harmful_requests_are_scored_and_never_answered(study: tuple[Registration, Bench, Archive]) -> None:
    registration, _, archive = study
    panel = archive.rows(registration, "panel")
    harmful = panel[panel["instrument"] == "unsafe"]
    assert len(harmful) > 0
    assert harmful["text"].isna().all()
    assert set(panel[panel["reading"] == "reply"]["instrument"]) == {"refusal"}


def test_the_panel_has_families_of_its_own(study: tuple[Registration, Bench, Archive]) -> None:
    registration, _, archive = study
    verdicts = judge(archive, registration).verdicts
    kept = [item for item in verdicts if item.family == MARGINS_FAMILY]
    shifted = [item for item in verdicts if item.family == HARMS_FAMILY and item.p is not None]
    assert {item.state for item in kept} <= {"within the margin", "beyond the margin", "inconclusive", "not measurable"}
    assert all(item.p_adj is None for item in kept)  # one claim by intersection and union
    assert {item.arm for item in kept} == set(CONFIG.arms[1:])
    assert shifted
    assert all((item.p_adj or 0) >= (item.p or 1) for item in shifted)
    abuse = [item for item in kept if item.scale == "abuse"]
    assert {item.state for item in abuse} == {"not measurable"}  # the word list is public data, and absent


def test_the_report_shows_all_of_it(study: tuple[Registration, Bench, Archive]) -> None:
    _, _, archive = study
    data = build(archive)
    assert {plot.name for draw in (draw_margins, draw_measures, draw_telemetry) for plot in draw(data)} == {
        *("margins", "panel", "telemetry")
    }
    seen = telemetry.table(data)
    assert seen is not None
    assert len(seen.rows) == len(CONFIG.arms)
    assert len(absences(data)) == 4
    kept, measured = margins(data), measures(data)
    assert kept is not None
    assert measured is not None
    assert len(measured.rows) == len(CONFIG.arms)
    assert len(kept.rows) == 4 * (len(CONFIG.arms) - 1)
    assert any("inconclusive" in sentence for sentence in sentences(data))
    assert halts(data) is None


def abusive(arm_codes: set[str]) -> Callable[[dict[str, list[dict[str, object]]]], None]:
    """Return a change of rows: stories of these cells hold a listed word, all others none."""

    def change(rows: dict[str, list[dict[str, object]]]) -> None:
        for line in rows["panel"]:
            if line["instrument"] == "abuse" and not str(line["reason"]).startswith(STOPPED):
                bad = line["cell_code"] in arm_codes
                line |= {"value": float(bad), "event": bad, "reason": None}

    return change


@pytest.fixture(scope="module")
def stopped(library: Library, llama: LoadedModel) -> tuple[Registration, Archive, set[str]]:
    registration, bench = prepared(Panel(requests=2, stop=STOP), library, llama)
    bad = {item.cell_code for item in registration.allocation if item.arm in ("creative_minus", "placebo")}
    return registration, conducted(registration, bench, library, llama, told=abusive(bad)), bad


def test_an_arm_beyond_the_bound_is_stopped_at_the_next_look_and_the_baseline_never(
    stopped: tuple[Registration, Archive, set[str]],
) -> None:
    registration, archive, _ = stopped
    arm_of = {item.cell_code: item.arm for item in registration.allocation}
    shard_of = {cell.cell_code: cell.shard for cell in registration.plan.cells}
    rows = archive.rows(registration, "responses")
    held = rows[rows["reason"].fillna("").str.startswith(STOPPED)]
    assert {arm_of[code] for code in held["cell_code"]} == {"creative_minus"}
    assert {shard_of[code] for code in held["cell_code"]} == {1, 2}
    cells = {code for code, arm in arm_of.items() if arm == "creative_minus" and shard_of[code] > 0}
    assert set(held["cell_code"]) == cells
    assert not cells & set(archive.rows(registration, "generations")["cell_code"])
    panel = archive.rows(registration, "panel")
    assert panel[panel["cell_code"].isin(cells)]["reason"].str.startswith(STOPPED).all()
    assert not held["valid"].any()


def test_a_stopped_study_closes_verifies_and_says_so(stopped: tuple[Registration, Archive, set[str]]) -> None:
    registration, archive, _ = stopped
    verify(archive)
    outcome = judge(archive, registration)
    states = {gate.code: gate.state for gate in outcome.gates}
    assert states["G4"] == "passed"
    wanted = (outcome.scores["arm"] == "creative_minus") & (outcome.scores["reading"] == "statement_raw")
    gone = outcome.scores[wanted & outcome.scores["value"].isna()]
    assert len(gone) > 0
    assert gone["reason"].str.startswith(f"{STOPPED} at look 1: abusive language").all()
    own = [item for item in outcome.verdicts if item.arm == "creative_minus" and item.family == "F1"]
    assert {item.state for item in own} == {"not measurable"}
    data = build(archive)
    looks = halts(data)
    assert looks is not None
    assert [row[1].text for row in looks.rows if row[-1].text == "stopped"] == ["creative_minus"]
    assert "Stopped for safety while the study ran: creative_minus." in sentences(data)


def test_what_is_written_of_a_stop_names_no_arm(stopped: tuple[Registration, Archive, set[str]]) -> None:
    registration, archive, _ = stopped
    reasons = set(archive.rows(registration, "responses")["reason"].dropna())
    assert not [text for text in reasons for arm in registration.plan.arms if arm.name in text]
    assert not [text for text in reasons for code in registration.codes if code in text]


def test_a_stop_depends_on_earlier_shards_alone(
    stopped: tuple[Registration, Archive, set[str]], library: Library, llama: LoadedModel
) -> None:
    """A resumed study stops the same cells; a shard out of turn is refused, and says which one comes first."""
    registration, archive, _ = stopped
    empty = Archive(MemoryStore())
    empty.publish(registration)
    assert unseen(empty, registration, 2) == [0, 1]
    with pytest.raises(IntegrityError, match="Shard 2 comes after a safety look that needs shard 0"):
        not_run(empty, registration, 2)
    assert not_run(empty, registration, 0) == {}
    rows = archive.rows(registration, "panel")
    watcher = stopping.watch(registration)
    assert watcher is not None
    early = rows[rows["cell_code"].map(watcher.shard_of) == 0]
    assert watcher.reasons(early, 1) == watcher.reasons(rows, 1) == not_run(archive, registration, 1)


def test_rows_of_a_shard_depend_on_no_other_shard(
    study: tuple[Registration, Bench, Archive], library: Library, llama: LoadedModel
) -> None:
    """Administered first and in a fresh room, the last shard gives the rows that it gave as the last one."""
    registration, bench, archive = study
    seats = Allocator(registration).runner().seats(2)
    with open_room(registration, library, llama) as room:
        rows = rows_of(room, bench, seats, {})
    for name in ("panel", "telemetry"):
        keys = list(SORT_KEYS[name])
        again = table(name, rows[name]).to_pandas().sort_values(keys, ignore_index=True)
        whole = archive.rows(registration, name)
        mine = whole[whole["cell_code"].isin(set(again["cell_code"]))].reset_index(drop=True)
        pd.testing.assert_frame_equal(again, mine)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"requests": 61}, r"panel\.requests is 61; allowed is 0 to 60"),
        ({"reply_tokens": 0}, r"panel\.reply_tokens is 0"),
        ({"stop": STOP}, "needs a panel"),
    ],
)
def test_a_panel_out_of_range_is_refused(change: dict[str, object], message: str) -> None:
    with pytest.raises(OutOfRange, match=message):
        Panel(**change)  # type: ignore[arg-type]


def test_a_rule_that_means_nothing_is_refused() -> None:
    with pytest.raises(UnknownName, match="No endpoint is called 'abusee'"):
        StopRule("abusee", 0.1, 0.025, 1)
    with pytest.raises(OutOfRange, match="0 < bound < 1"):
        StopRule("abuse", 1.0, 0.025, 1)


def test_required_data_that_are_absent_are_one_line(tmp_path: Path) -> None:
    panel = Panel(xstest=1, required=True)
    with pytest.raises(ConfigError, match=r"This study needs ldnoobw: there is no ldnoobw/en\.txt in the data folder"):
        registered(panel, load_bank(ROOT, tmp_path, panel, 4))


def test_texts_that_changed_since_registration_are_refused() -> None:
    panel = Panel(requests=1)
    bank = load_bank(ROOT, None, panel, 4)
    fixed = registered(panel, bank)
    check(fixed, load_bank(ROOT, None, fixed, 4))
    with pytest.raises(IntegrityError, match="not the registered ones: requests changed"):
        check(dataclasses.replace(fixed, texts={**fixed.texts, "requests": "0" * 64}), bank)


def test_all_requests_are_asked_once_and_problems_take_turns(data_folder: Path) -> None:
    """The long panel: 52 units are asked all 450 requests of XSTest, each in one unit; every task in every unit."""
    panel = Panel(xstest=9, problems=5, grammar=13, paragraphs=1)
    bank: Bank = load_bank(ROOT, data_folder, panel, 52)
    asked = deal(panel, bank, [f"u{number}" for number in range(52)], 7).values()
    names = Counter(request.id for each in asked for request in each.requests)
    assert len(names) == 450
    assert set(names.values()) == {1}
    assert all(len({problem.task for problem in each.problems}) == 5 for each in asked)
    assert len({pair.uid for each in asked for pair in each.pairs}) == 67
    assert len({text for each in asked for text in each.paragraphs}) == 52
    assert set(ENDPOINTS) == {"refusal", "unsafe", "abuse", "incoherence"}
