"""The blind, attacked: what is written before unblinding, what codes give away, what a role can hold."""

from __future__ import annotations

import dataclasses
import hashlib
import hmac
import itertools
import json
import pickle
import re
import secrets
import typing
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest

from flows import cli
from neuromod_core.design import commit, crossover
from neuromod_core.kernel.errors import IntegrityError
from neuromod_core.kernel.rng import rng
from neuromod_core.kernel.types import canonical, digest
from neuromod_core.models import LoadedModel
from neuromod_core.packs import Pack
from neuromod_core.store.tables import decode
from neuromod_core.trial.library import Library, load_library
from neuromod_core.trial.plan import Arm, Assignment, PublicPlan, Registration, parse_registration
from neuromod_core.trial.register import register
from neuromod_core.trial.roles import Allocator, Analyst, CodedPlan, Runner, Scorer
from tests.conftest import ROOT
from tests.flows.blind import RUN, Blind, calibrated
from tests.flows.conftest import CONFIG, READY

ORDINARY = {"placebo", "none"}  # names that are words of the field; a pack of that name is looked for in quotes


def written(folder: Path) -> dict[str, str]:
    """The text of every file of a run; tables as text."""
    texts = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            data = path.read_bytes()
            texts[str(path.relative_to(folder))] = (
                decode(data).to_pandas().to_json() if path.suffix == ".parquet" else data.decode()
            )
    return texts


def secrets_of(registration: Registration) -> list[str]:
    """What must not be seen before unblinding: names, fingerprints and hashes of packs, in every common form."""
    found = []
    for arm in registration.plan.arms:
        found += [arm.fingerprint, arm.fingerprint[:12], digest(arm.pack.encode()), digest(arm.pack.encode())[:12]]
        found += [f'"{arm.name}"' if arm.name in ORDINARY else arm.name, hashlib.sha256(arm.name.encode()).hexdigest()]
        found += [hashlib.md5(arm.name.encode()).hexdigest(), digest(json.loads(arm.pack))]
    return found


def test_nothing_written_or_said_before_unblinding_names_a_pack(blind: Blind) -> None:
    secrets, texts = secrets_of(blind.registration), written(blind.folder)
    assert {"plan.json", "analysis/dry_run.json", "ledger/000000.json"} <= set(texts)
    assert any(name.startswith("data/") for name in texts)
    texts |= {"names": " ".join(str(path) for path in blind.root.rglob("*") if "cache" not in path.parts)}
    texts |= {"console and logs": blind.told, "parameters": " ".join(blind.parameters)}
    assert [(name, secret) for name, text in texts.items() for secret in secrets if secret in text] == []


def test_the_search_finds_what_it_looks_for(blind: Blind) -> None:
    sealed = blind.file.read_text("utf-8")
    secrets = secrets_of(blind.registration)
    assert [secret for secret in secrets if secret in sealed]
    assert all(arm.name in sealed and arm.fingerprint in sealed for arm in blind.registration.plan.arms)


def test_tracking_and_every_other_step_that_names_arms_comes_after_unblinding(blind: Blind) -> None:
    assert blind.steps[-1] == "unblind"
    assert blind.steps[-2] == "dummy-label dry run"
    assert "track" not in blind.steps
    assert not list(blind.root.glob("mlflow.db"))
    assert not (blind.folder / "opened").exists()


def test_only_the_owner_reads_a_registration_file(blind: Blind) -> None:
    assert blind.file.stat().st_mode & 0o077 == 0


# ------------------------------------------------------------------------------------------------------------- attacks


def tokens(folder: Path) -> set[str]:
    """Every hexadecimal token of twelve digits or more that an attacker sees."""
    return {found for text in written(folder).values() for found in re.findall(r"[0-9a-f]{12,64}", text)}


def dictionary(registration: Registration) -> Iterator[bytes]:
    """Contents a code could have been made of: all packs x doses x seeds, with unit and period, in common spellings."""
    library = load_library(ROOT)
    doses, seeds = ("", "0", "0.25", "0.5", "1", "1.0", "2"), ("", "0", "1", "42", str(registration.plan.seed))
    for name, pack in library.packs.items():
        bases = (name, pack.fingerprint, library.source(name))
        for base, dose, seed in itertools.product(bases, doses, seeds):
            for join in ("|", ":", ""):
                yield join.join(part for part in (base, dose, seed) if part).encode()
        for unit, period in itertools.product(registration.plan.units, range(4)):
            yield f"{name}|{unit.unit_id}|{period}".encode()
            yield canonical({"pack": name, "unit": unit.unit_id, "period": period})


def hits(seen: set[str], words: Iterator[bytes], keys: list[bytes]) -> list[bytes]:
    """Words whose plain hash, or HMAC under a known key, begins with or equals a seen token."""
    known = seen | {token[:12] for token in seen}
    found = []
    for word in words:
        prints = [function(word).hexdigest() for function in (hashlib.sha256, hashlib.md5, hashlib.sha1)]
        prints += [hmac.new(key, word, hashlib.sha256).hexdigest() for key in keys]
        if any(text in known or text[:32] in known or text[:16] in known or text[:12] in known for text in prints):
            found.append(word)
    return found


def known_keys(registration: Registration) -> list[bytes]:
    plan = registration.public
    texts = [
        plan.fingerprint,
        registration.registration_id,
        plan.study,
        str(plan.seed),
        plan.weights_sha256,
        "neuromod",
    ]
    published = list(registration.commitments.values())
    return [b"", bytes(32), *(text.encode() for text in texts), *(bytes.fromhex(text) for text in published)]


def test_a_dictionary_of_packs_doses_and_seeds_opens_no_code(blind: Blind) -> None:
    registration = blind.registration
    assert hits(tokens(blind.folder), dictionary(registration), known_keys(registration)) == []


def test_the_dictionary_opens_codes_that_were_made_of_their_content(blind: Blind) -> None:
    registration = blind.registration
    plain = {hashlib.sha256(b"lsd|0.5|42").hexdigest()[:32]}
    public_key = registration.registration_id.encode()
    keyed = {hmac.new(public_key, b"caffeine", hashlib.sha256).hexdigest()}
    assert b"lsd|0.5|42" in hits(plain, dictionary(registration), [])
    assert b"caffeine" in hits(keyed, dictionary(registration), known_keys(registration))


def test_handles_need_the_key(blind: Blind) -> None:
    registration = blind.registration
    made = sorted(commit(registration.key, arm.fingerprint.encode()) for arm in registration.plan.arms)
    assert list(registration.public.handles) == made
    other = dataclasses.replace(registration, key=bytes(32))
    assert not set(other.public.handles) & set(made)


def test_the_public_seed_does_not_give_the_order(library: Library, llama: LoadedModel) -> None:
    """With so many units that no two orders are the same by chance."""
    registration = register(dataclasses.replace(CONFIG, units=48), library, llama, READY, secrets.token_bytes)
    plan, arm_of = registration.plan, {item.cell_code: item.arm for item in registration.allocation}
    cells = sorted(
        (cell for cell in plan.cells if cell.battery == "full"), key=lambda cell: (cell.unit_id, cell.period)
    )
    real = [arm_of[cell.cell_code] for cell in cells]
    names = [arm.name for arm in plan.arms]
    for stream in (("order",), ("smoke", "order"), (plan.study, "order"), (plan.study,), ("crossover",)):
        for runs in (None, [unit % 2 for unit in range(len(plan.units))]):
            orders = crossover(len(plan.units), len(names), rng(plan.seed, *stream), runs=runs)
            assert [names[arm] for order in orders for arm in order] != real


def test_two_registrations_of_one_study_have_different_allocations(blind: Blind, tmp_path: Path) -> None:
    again = tmp_path / "again.json"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NEUROMOD_CACHE", str(blind.root.parent / "cache"))
        calibrated(patch)
        assert cli.main(["register", *RUN[1:], f"out={again}"]) == 0
    one, two = blind.registration, parse_registration(again.read_bytes(), "again")
    assert not {cell.cell_code for cell in one.plan.cells} & {cell.cell_code for cell in two.plan.cells}
    assert one.key != two.key
    assert one.codes != two.codes
    assert not set(one.public.handles) & set(two.public.handles)


# --------------------------------------------------------------------------------------------------------------- roles


def held(kind: type) -> set[type]:
    """Every class that a role's fields can reach by their types."""
    found: set[type] = set()
    queue: list[object] = [kind]
    while queue:
        one = queue.pop()
        queue += list(typing.get_args(one))
        if isinstance(one, type) and one not in found:
            found.add(one)
            if dataclasses.is_dataclass(one):
                queue += list(typing.get_type_hints(one).values())
    return found


def test_no_role_can_reach_by_type_what_it_must_not_have() -> None:
    assert not held(Scorer) & {Registration, Assignment, Arm, Pack, CodedPlan, Runner, Allocator}
    assert not held(Analyst) & {Registration, Assignment, Pack, Runner, Allocator}
    assert not held(Runner) & {Registration, Assignment, Arm, Allocator}
    assert not held(PublicPlan) & {Registration, Assignment, Arm, Pack}
    assert Registration in held(Allocator)


def test_passing_a_role_what_it_must_not_have_is_refused(registration: Registration) -> None:
    rows = pd.DataFrame()
    for wrong in (registration, registration.plan, Allocator(registration)):
        with pytest.raises(IntegrityError, match="This role holds a PublicPlan there; given a"):
            Scorer(wrong, rows)  # type: ignore[arg-type]
        with pytest.raises(IntegrityError, match="This role holds a PublicPlan there"):
            Runner(wrong, {})  # type: ignore[arg-type]
        with pytest.raises(IntegrityError, match="This role holds a CodedPlan there"):
            Analyst(wrong, rows, rows)  # type: ignore[arg-type]
    with pytest.raises(IntegrityError, match="DataFrame there; given a Registration"):
        Scorer(registration.public, registration)  # type: ignore[arg-type]


def test_an_analysts_plan_names_no_pack(registration: Registration) -> None:
    with pytest.raises(IntegrityError, match="does not say which vectors"):
        CodedPlan(registration.plan)
    coded = Allocator(registration).coded(registration.plan)
    with pytest.raises(IntegrityError, match="arms that are codes"):
        CodedPlan(dataclasses.replace(coded, arms=(dataclasses.replace(coded.arms[0], name="lsd"), *coded.arms[1:])))
    text = repr(CodedPlan(coded))
    assert not [arm.name for arm in registration.plan.arms if arm.name not in ORDINARY and arm.name in text]
    assert not [arm.fingerprint for arm in registration.plan.arms if arm.fingerprint in text]


def test_a_runner_keeps_its_packs_to_itself(registration: Registration) -> None:
    runner = Allocator(registration).runner()
    assert [seat.cell.slot for seat in runner.seats(0)] == list(range(len(runner.seats(0))))
    with pytest.raises(IntegrityError, match="cannot be pickled"):
        pickle.dumps(runner)
    shown = f"{runner} {runner!r} {registration} {registration!r}"
    assert not [arm.name for arm in registration.plan.arms if arm.name in shown]
    assert registration.key.hex() not in shown


def test_the_dry_run_sees_codes_of_a_dummy_allocation(blind: Blind) -> None:
    registration = blind.registration
    rows = json.loads((blind.folder / "analysis" / "dry_run.json").read_text("utf-8"))
    assert rows
    assert {row["arm"] for row in rows} <= set(registration.codes)
    dummy = Allocator(registration).dummy()
    code_of = dict(zip((arm.name for arm in registration.plan.arms), registration.codes, strict=True))
    same = [dummy.by_cell[item.cell_code][0] == code_of[item.arm] for item in registration.allocation]
    assert 0 < sum(same) < len(same)  # dealt anew: some agree by chance
