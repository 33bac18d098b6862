"""The frozen plan of a study: what is public before the first cell runs, and the sealed part beside it.

Public is everything but the arms: contexts, cells, scales, readings, the analysis; a pack appears as a handle,
HMAC(key, fingerprint). Sealed are the arms with their packs, what each cell code stands for, and the key.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from pydantic import ConfigDict, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass as checked

from neuromod_core.design import Order, commit, key_commitment
from neuromod_core.kernel.errors import DesignError, IntegrityError
from neuromod_core.kernel.types import canonical, digest
from neuromod_core.trial.panel import Panel

UNKNOWN = "unknown"  # of a commit: the code was no checkout
BATTERIES = ("full", "statements", "options")  # what a cell is asked: everything, or one reading alone
STRICT = ConfigDict(extra="forbid", strict=True)


@checked(frozen=True, config=STRICT)
class Unit:
    """One context: a vignette in one of its wordings, and the levels of the nuisance factors.

    paraphrase: wording of the vignette.  item_wording: wording of all items.  option_order, labels: how the answer key
    is written.  options: whether option readings are taken.  sampled: whether replies are sampled and read too. All of
    it is the same for all arms of the unit.
    """

    unit_id: str
    vignette: str
    paraphrase: int
    option_order: str
    opener: str
    passage: str
    options: bool
    item_wording: int = 0
    labels: str = "digits"
    sampled: bool = False


@checked(frozen=True, config=STRICT)
class Cell:
    """One unit under one arm (or one member of it), as everybody may know it: the arm is not said.

    period: place in the unit's order; further members of an ensemble come after the last period of the crossover.
    The unit's sequence is not said either: units of one sequence have one arm in each period, so that it would label
    equal arms. slot: row of the shard's batches.
    """

    cell_code: str
    unit_id: str
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
class Probe:
    """A validity check as scoring needs it: levels of the option key that count as right.

    kind: `infrequency` (tabulated) or `instructed` (a cell that fails has no option scores).
    """

    name: str
    kind: str
    expected: tuple[int, ...]


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


@checked(frozen=True, kw_only=True, config=STRICT)
class Outline:
    """What is fixed before the first cell runs and may be known by all: everything but the arms.

    code: commit of the code that registered the study, "unknown" where it was no checkout.
    order: how sequences were made, "williams" or "cyclic".
    primary_reading: options, texts or statement: the first whose positive control passed; None when none did.
    checks: what validity checks expect; none where no unit takes option readings.
    panel: what is measured beside the scales.
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
    code: str = UNKNOWN
    order: Order = "williams"
    panel: Panel = dataclasses.field(default_factory=Panel)
    texts: dict[str, str]
    units: tuple[Unit, ...]
    cells: tuple[Cell, ...]
    shards: int
    scales: tuple[str, ...]
    primary_scale: str
    foil_items: int
    primary_reading: str | None
    controls: tuple[Control, ...]
    checks: tuple[Probe, ...] = ()
    story_tokens: int
    batch: int
    dose: float
    min_effect: float
    alpha: float
    draws: int
    resamples: int

    def unit(self, name: str) -> Unit:
        """Return the unit called `name`."""
        return self._units[name]

    @cached_property
    def _units(self) -> Mapping[str, Unit]:
        return {unit.unit_id: unit for unit in self.units}


@checked(frozen=True, kw_only=True, config=STRICT)
class PublicPlan(Outline):
    """The plan as everybody may know it. Its digest is the plan hash that a registration commits to.

    handles: HMAC-SHA256(key, pack fingerprint) of each arm, sorted.
    """

    handles: tuple[str, ...]

    @cached_property
    def fingerprint(self) -> str:
        """The plan hash: SHA-256 of the canonical form."""
        return digest(as_json(self))


@checked(frozen=True, kw_only=True, config=STRICT)
class Plan(Outline):
    """The whole plan, arms included: known to allocator and runner, and to everybody once unblinded.

    calibration: fingerprint of the vectors, heads and norms its packs use.
    unvalidated: vectors that failed their validation and are used all the same.
    """

    arms: tuple[Arm, ...]
    calibration: str
    unvalidated: tuple[str, ...]

    @property
    def baseline(self) -> str:
        """Name of the arm every shift is taken against."""
        return self.arms[0].name

    def arm(self, role: str) -> Arm | None:
        """Return the arm with this role, None when the study has none (or more than one: packs, assay)."""
        found = [arm for arm in self.arms if arm.role == role]
        return found[0] if len(found) == 1 else None


@checked(frozen=True, config=STRICT)
class Assignment:
    """What a cell code stands for."""

    cell_code: str
    arm: str
    member: str


@checked(frozen=True, config=STRICT)
class Sealed:
    """What the allocation commitment is to. codes: a random code per arm, for an analyst who may not see names."""

    allocation: tuple[Assignment, ...]
    arms: tuple[Arm, ...]
    codes: tuple[str, ...]
    calibration: str
    unvalidated: tuple[str, ...]


@dataclass(frozen=True, repr=False)
class Registration:
    """A plan with its sealed part: what each cell code stands for, and the key that commits to it."""

    plan: Plan
    key: bytes
    allocation: tuple[Assignment, ...]
    codes: tuple[str, ...]

    def __repr__(self) -> str:
        return f"Registration({self.registration_id})"

    @cached_property
    def public(self) -> PublicPlan:
        """The plan as everybody may know it: packs as handles."""
        fields = {field.name: getattr(self.plan, field.name) for field in dataclasses.fields(Outline)}
        handles = sorted(commit(self.key, arm.fingerprint.encode()) for arm in self.plan.arms)
        return PublicPlan(**fields, handles=tuple(handles))

    @cached_property
    def table(self) -> bytes:
        """The sealed part without the key, in canonical form: what the commitment is to."""
        plan = self.plan
        return canonical(as_json(Sealed(self.allocation, plan.arms, self.codes, plan.calibration, plan.unvalidated)))

    @property
    def commitments(self) -> Mapping[str, str]:
        """What is published before the first cell runs."""
        return {
            "plan": self.public.fingerprint,
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
        return canonical({"plan": as_json(self.public), "sealed": json.loads(self.sealed())})


def as_json(value: object) -> object:
    """Return a plan, or a sequence of its parts, as JSON types."""
    if isinstance(value, tuple):
        return [as_json(item) for item in value]
    return dataclasses.asdict(value)  # type: ignore[call-overload]


def parse_plan(text: bytes, where: str) -> PublicPlan:
    """Return the public plan that canonical JSON spells; raise IntegrityError when it is not one, naming the place."""
    try:
        return TypeAdapter(PublicPlan).validate_json(text, strict=True)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(map(str, first["loc"]))
        raise IntegrityError(f"{where} is not a plan: {place}: {first['msg']}.") from None


def parse_sealed(public: PublicPlan, text: bytes, where: str) -> Registration:
    """Return the registration whose public plan and sealed part these are.

    Raises:
        IntegrityError: for a sealed part of another form, and for one whose arms do not give the plan's handles.
    """
    try:
        body = json.loads(text)
        sealed = TypeAdapter(Sealed).validate_json(json.dumps(body["table"]), strict=True)
        key = bytes.fromhex(body["key"])
        outline = {field.name: getattr(public, field.name) for field in dataclasses.fields(Outline)}
        plan = Plan(**outline, arms=sealed.arms, calibration=sealed.calibration, unvalidated=sealed.unvalidated)
        registration = Registration(plan, key, sealed.allocation, sealed.codes)
        handles = registration.public.handles
    except (ValueError, KeyError, TypeError, DesignError) as error:
        raise IntegrityError(f"{where} is not a sealed allocation ({type(error).__name__}).") from None
    if handles != public.handles:
        raise IntegrityError(f"{where}: its arms are not those whose handles the plan lists.")
    return registration


def parse_registration(text: bytes, where: str) -> Registration:
    """Return the registration that a file written by `Registration.dump` holds."""
    try:
        body = json.loads(text)
        plan, sealed = body["plan"], body["sealed"]
    except (ValueError, KeyError, TypeError) as error:
        raise IntegrityError(f"{where} is not a registration ({type(error).__name__}).") from None
    return parse_sealed(parse_plan(canonical(plan), where), canonical(sealed), where)


def cells_of(plan: Outline, shard: int) -> Sequence[Cell]:
    """Return the cells of a shard, in slot order."""
    return sorted((cell for cell in plan.cells if cell.shard == shard), key=lambda cell: cell.slot)
