"""Packs: parsed strictly, hashed by what they do, and every bad file gives one clear line."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from neuromod_core.effects import EFFECTS, Effect, kinds
from neuromod_core.kernel.errors import MissingVector, NeuromodError, OutOfRange, PackError
from neuromod_core.packs import Dosed, Pack, load_pack, load_packs, parse_pack, schema
from tests.conftest import ROOT

GOOD = {
    "name": "x",
    "description": "d",
    "class": "test",
    "version": 1,
    "effects": [{"effect": "temperature", "weight": 0.3, "direction": "up"}],
}
BAD = [
    ({"effcts": []}, "x.json: unknown key 'effcts'; allowed: name, description, class"),
    (
        {"effects": [{"effect": "temperature", "wieght": 0.3}]},
        "effects[0]: unknown key 'wieght'; allowed: effect, weight",
    ),
    (
        {"effects": [{"effect": "temprature", "weight": 0.3}]},
        "No effect is called 'temprature' (x.json: effects[0]). Did you",
    ),
    (
        {"effects": [{"effect": "temperature", "weight": 1.5}]},
        "effects[0].weight: input should be less than or equal to 1",
    ),
    ({"effects": [{"effect": "temperature", "weight": float("nan")}]}, "NaN is not a number"),
    ({"effects": [{"effect": "temperature", "weight": float("inf")}]}, "Infinity is not a number"),
    (
        {"effects": [{"effect": "temperature", "weight": 0.3, "direction": "left"}]},
        "direction: input should be 'up' or 'down'",
    ),
    ({"effects": [{"effect": "top_p", "weight": 0.3}]}, "top_p: dose is 0.3; allowed is -1 to 0. (x.json: effects[0])"),
    ({"effects": [{"effect": "steering", "weight": 0.3}]}, "effect 'steering': steering_type"),
    (
        {"effects": [{"effect": "temperature", "weight": 0.1, "parameters": {"spn": 2.0}}]},
        "has no parameter 'spn'; allowed: span",
    ),
    (
        {"effects": [{"effect": "temperature", "weight": 0.1, "parameters": {"span": 99.0}}]},
        "span is 99; allowed is 1.01 to 10",
    ),
    ({"members": 5}, "has members but no steering effect"),
    ({"version": "1"}, "version: input should be a valid integer, given '1'"),
]


@pytest.mark.parametrize(("change", "message"), BAD)
def test_a_bad_pack_is_one_clear_line(change: dict[str, object], message: str) -> None:
    with pytest.raises(NeuromodError) as caught:
        parse_pack(json.dumps(GOOD | change), "x.json")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["{", "[]", "3", '{"name": "x"}', ""])
def test_text_that_is_no_pack_is_refused(text: str) -> None:
    with pytest.raises(PackError, match=r"^x\.json: "):
        parse_pack(text, "x.json")


def test_every_shipped_pack_loads_and_bears_its_name() -> None:
    packs = load_packs(ROOT / "packs")
    needed = {"none", "placebo", "sham_vectors", "entropy_temperature", "persona", "creative_plus", "creative_minus"}
    assert needed | {"lsd", "caffeine", "morphine", "ketamine", "mdma", "cannabis_thc"} <= set(packs)
    roles = {name: pack.role for name, pack in packs.items()}
    assert (roles["none"], roles["placebo"], roles["sham_vectors"], roles["entropy_temperature"]) == (
        "none",
        "P0",
        "P1",
        "P2",
    )
    assert (roles["persona"], roles["creative_minus"], roles["lsd"]) == ("persona", "assay", "pack")
    assert packs["sham_vectors"].members >= 20


def test_the_placebo_runs_every_site_at_dose_zero() -> None:
    placebo = load_packs(ROOT / "packs")["placebo"]
    concrete = [kind for kind in vars(kinds).values() if isinstance(kind, type) and issubclass(kind, Effect)]
    unlike = (kinds.ImageEffect, kinds.ModuleEffect, kinds.PlasticityEffect, kinds.RouterEffect)
    for kind in set(concrete) - {Effect, *unlike}:
        assert any(isinstance(item.effect, kind) for item in placebo.effects), f"no {kind.__name__} in the placebo"
    assert all(item.dose == 0 for item in placebo.effects)


def test_the_shipped_schema_is_the_generated_one() -> None:
    assert json.loads((ROOT / "packs" / "schema.json").read_text()) == schema()


def test_a_file_bears_its_packs_name(tmp_path: Path) -> None:
    (tmp_path / "y.json").write_text(json.dumps(GOOD))
    with pytest.raises(PackError, match=r"y\.json: the pack is called 'x'"):
        load_pack(tmp_path / "y.json")
    with pytest.raises(PackError, match="cannot be read"):
        load_pack(tmp_path / "absent.json")


def test_a_fingerprint_is_of_what_a_pack_does() -> None:
    lsd = load_packs(ROOT / "packs")["lsd"]
    reordered = dataclasses.replace(lsd, effects=lsd.effects[::-1], name="other", description="other")
    assert reordered.fingerprint == lsd.fingerprint
    assert lsd.scaled(0.5).fingerprint != lsd.fingerprint
    assert lsd.scaled(1.0) == lsd


def test_scaling_scales_every_dose_and_stays_in_range() -> None:
    lsd = load_packs(ROOT / "packs")["lsd"]
    assert [item.dose for item in lsd.scaled(2).effects] == [2 * item.dose for item in lsd.effects]
    with pytest.raises(OutOfRange, match=r"temperature: dose is 4\.5; allowed is -2 to 2"):
        lsd.scaled(10)


def test_members_of_an_ensemble_differ_in_their_draw_alone() -> None:
    sham = load_packs(ROOT / "packs")["sham_vectors"]
    members = [sham.member(draw) for draw in range(sham.members)]
    assert len({member.fingerprint for member in members}) == sham.members
    assert all(member.members == 0 and member.role == "pack" for member in members)
    with pytest.raises(OutOfRange, match="has members 0 to"):
        sham.member(sham.members)


def test_a_missing_or_failed_vector_is_an_error_that_names_it(llama) -> None:
    from tests.conftest import subject_of

    subject = subject_of(llama)
    effect = EFFECTS["steering"](steering_type="nowhere")
    pack = Pack(name="p", description="d", kind="t", effects=(Dosed("steering", effect, 0.1),))
    with pytest.raises(
        MissingVector, match=r"vector 'nowhere'; calibrated on tiny-llama: calm, creative, synesthesia, visionary"
    ):
        pack.check(subject)
    failed = dataclasses.replace(subject.vectors["calm"], valid=False)
    subject = dataclasses.replace(subject, vectors={"nowhere": failed})
    with pytest.raises(MissingVector, match="failed its validation on tiny-llama"):
        pack.check(subject)
