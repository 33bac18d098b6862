"""The frozen plan of a study, and the sealed part that only the runner opens."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from pydantic import ConfigDict, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass as checked

from neuromod_core.design import commit, key_commitment
from neuromod_core.kernel.errors import IntegrityError
from neuromod_core.kernel.types import canonical, digest

STRICT = ConfigDict(extra="forbid", strict=True)


@checked(frozen=True, config=STRICT)
class Unit:
    """One context: a vignette in one of its wordings, and the levels of the nuisance factors."""

    unit_id: str
    vignette: str
    paraphrase: int
    option_order: str
    opener: str
    passage: str
    options: bool


@checked(frozen=True, config=STRICT)
class Cell:
    """One unit under one arm (or one member of it), as everybody may know it: the arm is not said."""

    cell_code: str
    unit_id: str
    sequence: int
    period: int
    slot: int
    shard: int
    battery: str


@checked(frozen=True, config=STRICT)
class Arm:
    """One arm: the pack it receives, as text, so that the plan is complete without the project's files.

    members: names of the members of an ensemble ("0" .. for shams, the matched arm for an entropy placebo).
    doses: per member, the temperature dose of an entropy-matched placebo, or the factor that brings a pack to the KL
        divergence it asks for ("" for a single pack).
    """

    name: str
    role: str
    pack: str
    fingerprint: str
    target_scale: str | None
    predicted_sign: int | None
    members: tuple[str, ...]
    doses: dict[str, float]


@checked(frozen=True, config=STRICT)
class Control:
    """What the positive control found for one reading of one scale, before registration.

    g_z: standardised shift of the instructed state against the neutral frame, over pilot units.
    """

    reading: str
    scale: str
    g_z: float | None
    pvalue: float | None
    n: int
    passed: bool
    note: str


@checked(frozen=True, config=STRICT)
class Plan:
    """Everything fixed before the first cell runs. Its digest is what a registration registers.

    unvalidated: vectors that failed their validation and are used all the same.
    """

    version: int
    study: str
    title: str
    question: str
    seed: int
    model: str
    model_source: dict[str, str | None]
    model_fingerprint: str
    weights_sha256: str
    dtype: str
    calibration: str
    unvalidated: tuple[str, ...]
    texts: dict[str, str]
    arms: tuple[Arm, ...]
    units: tuple[Unit, ...]
    cells: tuple[Cell, ...]
    shards: int
    scales: tuple[str, ...]
    primary_scale: str
    foil_items: int
    primary_reading: str | None
    controls: tuple[Control, ...]
    story_tokens: int
    batch: int
    dose: float
    min_effect: float
    alpha: float
    draws: int
    resamples: int

    @cached_property
    def fingerprint(self) -> str:
        """Digest of the plan."""
        return digest(as_json(self))

    @property
    def baseline(self) -> str:
        """Name of the arm every shift is taken against."""
        return self.arms[0].name

    def arm(self, role: str) -> Arm | None:
        """Return the arm with this role, None when the study has none (or more than one: packs, assay)."""
        found = [arm for arm in self.arms if arm.role == role]
        return found[0] if len(found) == 1 else None

    def unit(self, name: str) -> Unit:
        """Return the unit called `name`."""
        return self._units[name]

    @cached_property
    def _units(self) -> Mapping[str, Unit]:
        return {unit.unit_id: unit for unit in self.units}


@checked(frozen=True, config=STRICT)
class Assignment:
    """What a cell code stands for."""

    cell_code: str
    arm: str
    member: str


@dataclass(frozen=True)
class Registration:
    """A plan with its sealed part: what each cell code stands for, and the key that commits to it."""

    plan: Plan
    key: bytes
    allocation: tuple[Assignment, ...]

    @cached_property
    def table(self) -> bytes:
        """The allocation in canonical form: what the commitment is to."""
        return canonical(as_json(self.allocation))

    @property
    def commitments(self) -> Mapping[str, str]:
        """What is published before the first cell runs."""
        return {
            "plan": self.plan.fingerprint,
            "allocation": commit(self.key, self.table),
            "key": key_commitment(self.key),
        }

    @property
    def registration_id(self) -> str:
        """Short public name of the registration."""
        return digest(dict(self.commitments))[:12]

    def sealed(self) -> bytes:
        """Return the sealed part in canonical form."""
        return canonical({"key": self.key.hex(), "table": json.loads(self.table)})

    def dump(self) -> bytes:
        """Return the registration as the bytes of a file."""
        return canonical({"plan": as_json(self.plan), "sealed": json.loads(self.sealed())})


def as_json(value: object) -> object:
    """Return a plan, or a sequence of its parts, as JSON types."""
    if isinstance(value, tuple):
        return [as_json(item) for item in value]
    return dataclasses.asdict(value)  # type: ignore[call-overload]


def parse_plan(text: bytes, where: str) -> Plan:
    """Return the plan that canonical JSON spells; raise IntegrityError when it is not one, naming the place."""
    try:
        return TypeAdapter(Plan).validate_json(text, strict=True)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(map(str, first["loc"]))
        raise IntegrityError(f"{where} is not a plan: {place}: {first['msg']}.") from None


def parse_sealed(plan: Plan, text: bytes, where: str) -> Registration:
    """Return the registration of `plan` whose sealed part is `text`."""
    try:
        body = json.loads(text)
        allocation = TypeAdapter(tuple[Assignment, ...]).validate_json(json.dumps(body["table"]), strict=True)
        return Registration(plan, bytes.fromhex(body["key"]), allocation)
    except (ValueError, KeyError, TypeError) as error:
        raise IntegrityError(f"{where} is not a sealed allocation ({type(error).__name__}).") from None


def parse_registration(text: bytes, where: str) -> Registration:
    """Return the registration that a file written by `Registration.dump` holds."""
    try:
        body = json.loads(text)
        plan, sealed = body["plan"], body["sealed"]
    except (ValueError, KeyError, TypeError) as error:
        raise IntegrityError(f"{where} is not a registration ({type(error).__name__}).") from None
    return parse_sealed(parse_plan(canonical(plan), where), canonical(sealed), where)


def cells_of(plan: Plan, shard: int) -> Sequence[Cell]:
    """Return the cells of a shard, in slot order."""
    return sorted((cell for cell in plan.cells if cell.shard == shard), key=lambda cell: cell.slot)
