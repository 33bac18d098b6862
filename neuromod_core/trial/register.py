"""Making a plan: units from vignettes, Williams orders, shards, sham draws, matched doses; then sealing it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from neuromod_core.calibrate.dose import Matched
from neuromod_core.calibrate.entropy import expressed_logits, match_entropy, mean_entropy
from neuromod_core.design import balanced_levels, new_codes, new_key
from neuromod_core.design.factors import orthogonal_levels
from neuromod_core.effects import Subject
from neuromod_core.engine import Session
from neuromod_core.instruments import LABEL_SETS, ORDERS, Labels
from neuromod_core.kernel.errors import CalibrationError, DesignError
from neuromod_core.kernel.rng import rng
from neuromod_core.models import LoadedModel
from neuromod_core.packs import Pack
from neuromod_core.trial.config import StudyConfig
from neuromod_core.trial.control import UNDOSED, label_sets, primary_reading
from neuromod_core.trial.dealing import Place, cells, places
from neuromod_core.trial.library import Library
from neuromod_core.trial.plan import UNKNOWN, Arm, Assignment, Cell, Control, Plan, Probe, Registration, Unit
from neuromod_core.trial.prompts import Prompter, Tokens
from neuromod_core.trial.readings import BY_OPTION, STATEMENT

ENTROPY_TEXTS = 8  # calibration passages on which entropies are matched
Entropy = Callable[[int], bytes]
Factors = Mapping[str, Mapping[str, float]]
Units = Callable[[Sequence[Pack]], Sequence[Matched | None]]


@dataclass(frozen=True)
class Readiness:
    """What must be known before a plan can be frozen.

    calibration: fingerprint of vectors, heads and norms.  factors: per arm that asks for a KL divergence, and per
    member, the factor that brings its doses there.  doses: temperature dose that matches each predicted arm's entropy.
    controls: outcome of the positive control.  unvalidated: vectors used although they failed their validation.
    """

    calibration: str
    factors: Factors
    doses: Mapping[str, float]
    controls: tuple[Control, ...]
    unvalidated: tuple[str, ...] = ()


def predicted(config: StudyConfig, library: Library) -> list[Pack]:
    """Return the arms for which something is predicted."""
    return [pack for name in config.arms if (pack := library.pack(name)).target_scale is not None]


def kl_factors(packs: Sequence[Pack], units: Units) -> Factors:
    """Return, per pack that asks for a KL divergence and per member ("" for a single pack), the factor on its doses.

    units: gives the KL units of single packs.

    Raises:
        CalibrationError: when a pack cannot reach the divergence it asks for within the ranges of its effects.
    """
    asking = [
        (pack.name, member, pack.member(int(member)) if member else pack)
        for pack in packs
        if pack.kl is not None
        for member in _members(pack, {})
    ]
    factors: dict[str, dict[str, float]] = {}
    for (name, member, pack), unit in zip(asking, units([single for _, _, single in asking]), strict=True):
        if unit is None:
            raise CalibrationError(
                f"Pack {name!r}{f' (member {member})' if member else ''} asks for a KL divergence of {pack.kl:g} nats, "
                "which it does not reach within the ranges of its effects."
            )
        factors.setdefault(name, {})[member] = unit.factor
    return factors


def matched_doses(
    session: Session, subject: Subject, packs: Sequence[Pack], *, texts: Sequence[Tokens]
) -> Mapping[str, float]:
    """Return the temperature dose at which the undosed model is as uncertain as under each pack, on neutral texts.

    packs: as they are given, at their doses. A pack whose entropy no temperature in range reaches is left out: it has
    no entropy placebo, and its comparison with one is not measurable.
    """
    undosed, doses = expressed_logits(session, UNDOSED, texts, subject), {}
    for pack in packs:
        try:
            doses[pack.name] = match_entropy(undosed, mean_entropy(session, pack, texts, subject), subject)
        except CalibrationError:
            continue
    return doses


def given(pack: Pack, factors: Factors, dose: float) -> Pack:
    """Return a single pack as a cell receives it at a study's dose."""
    return pack.scaled(dose * factors[pack.name][""] if pack.kl is not None else dose)


def units_of(
    config: StudyConfig, library: Library, primary: str | None = STATEMENT, sets: Sequence[Labels] = LABEL_SETS
) -> tuple[Unit, ...]:
    """Return the units: distinct vignettes drawn at random, with nuisance factors balanced over them.

    Wording of the vignette, wording of the items, order and marks of the options are dealt orthogonally, passages and
    openers in permuted blocks. When the primary reading is one by options, every unit takes it; else the first
    `option_units` do, and the first `sampled_units` are sampled.  sets: label sets that the model can answer by.
    """
    generator = rng(config.seed, config.name, "units")
    pool = [vignette for vignette in library.vignettes if vignette.split == "study"]
    chosen = [pool[place] for place in generator.permutation(len(pool))[: config.units]]
    texts = {text for vignette in chosen for text in vignette.paraphrases}
    if len({vignette.id for vignette in chosen}) < config.units or len(texts) < sum(len(v.paraphrases) for v in chosen):
        raise DesignError(f"study {config.name!r}: a unit occurs twice; every unit is a different vignette.")
    dealt = orthogonal_levels(config.units, generator)
    given = label_sets([labels for *_, labels in dealt], sets, generator)
    optional = config.units if primary in BY_OPTION else config.option_units
    probes = [passage.id for passage in library.passages if passage.split == "probe"]
    openers = balanced_levels(config.units, len(library.openers), generator)
    passages = balanced_levels(config.units, len(probes), generator)
    return tuple(
        Unit(
            unit_id=f"u{number:03d}",
            vignette=vignette.id,
            paraphrase=paraphrase,
            option_order=ORDERS[order],
            opener=library.openers[openers[number]].id,
            passage=probes[passages[number]],
            options=number < optional,
            item_wording=wording,
            labels=given[number],
            sampled=number < config.sampled_units,
        )
        for number, (vignette, (order, paraphrase, wording, _)) in enumerate(zip(chosen, dealt, strict=True))
    )


def _members(pack: Pack, doses: Mapping[str, float]) -> tuple[str, ...]:
    if pack.members:
        return tuple(f"{draw:02d}" for draw in range(pack.members))
    return tuple(doses) if pack.match is not None else ("",)


def arms_of(config: StudyConfig, library: Library, ready: Readiness) -> tuple[Arm, ...]:
    """Return the arms, each with its pack as text."""
    arms = []
    for name in config.arms:
        pack = library.pack(name)
        arms.append(
            Arm(
                name=name,
                role=pack.role,
                pack=library.source(name),
                fingerprint=pack.fingerprint,
                target_scale=pack.target_scale,
                predicted_sign=pack.predicted_sign,
                members=_members(pack, ready.doses),
                doses=dict(ready.doses if pack.match is not None else ready.factors.get(name, {})),
            )
        )
    return tuple(arms)


def register(
    config: StudyConfig,
    library: Library,
    model: LoadedModel,
    ready: Readiness,
    entropy: Entropy,
    *,
    code: str = UNKNOWN,
) -> Registration:
    """Return the sealed registration of a study: plan, orders, cell codes and key.

    entropy: gives random bytes, such as `secrets.token_bytes`: orders, codes and key are drawn from it, and derived
    from nothing that others know.
    code: commit of the code that registers; unblinding will ask for the same.

    Raises:
        DesignError: when the units cannot be balanced over the arms, or a vignette would occur twice.
    """
    primary = primary_reading(ready.controls, config.primary_scale)
    units = units_of(config, library, primary, Prompter(model, library).label_sets())
    arms = arms_of(config, library, ready)
    secret = rng(int.from_bytes(new_key(entropy), "big"), "order")
    dealt = places(config, arms, units, secret, "options" if primary in BY_OPTION else "statements")
    codes = new_codes(len(dealt), entropy)
    given_cells = cells(config, dealt, codes)
    plan = _plan(config, library, model, ready, arms=arms, units=units, dealt=given_cells, code=code)
    allocation = tuple(
        Assignment(name, place.arm, place.member) for name, place in sorted(zip(codes, dealt, strict=True), key=_code)
    )
    return Registration(plan, new_key(entropy), allocation, new_codes(len(arms), entropy))


def _plan(
    config: StudyConfig,
    library: Library,
    model: LoadedModel,
    ready: Readiness,
    *,
    arms: tuple[Arm, ...],
    units: tuple[Unit, ...],
    dealt: tuple[Cell, ...],
    code: str,
) -> Plan:
    """Return the plan of a study whose cells are dealt."""
    return Plan(
        version=3,
        study=config.name,
        title=config.title,
        question=config.question,
        seed=config.seed,
        model=config.model.name,
        model_source={
            "source": config.model.source,
            "path": config.model.path,
            "revision": config.model.revision,
            "dtype": config.model.dtype,
            "device_map": config.model.device_map,
        },
        model_fingerprint=model.fingerprint,
        weights_sha256=model.weights_sha256,
        dtype=str(model.dtype).removeprefix("torch."),
        calibration=ready.calibration,
        unvalidated=ready.unvalidated,
        code=code,
        order=config.order,
        panel=config.panel,
        texts=dict(library.fingerprints()),
        arms=arms,
        units=units,
        cells=dealt,
        shards=1 + max(cell.shard for cell in dealt),
        scales=config.scales,
        primary_scale=config.primary_scale,
        foil_items=config.foil_items,
        primary_reading=primary_reading(ready.controls, config.primary_scale),
        controls=ready.controls,
        checks=_checks(library) if any(unit.options for unit in units) else (),
        story_tokens=config.story_tokens,
        batch=config.batch,
        dose=config.dose,
        min_effect=config.min_effect,
        alpha=config.alpha,
        draws=config.draws,
        resamples=config.resamples,
    )


def _checks(library: Library) -> tuple[Probe, ...]:
    """Return what the validity checks expect, in levels."""
    labels = library.frames.labels
    return tuple(Probe(check.id, check.kind, check.levels(labels)) for check in library.checks)


def _code(pair: tuple[str, Place]) -> str:
    return pair[0]
