"""Amendments: what of a registered analysis was changed afterwards, why, and under which new plan hash.

Only keys of the analysis can be amended, and only before unblinding. Afterwards the same question can be asked as an
exploratory one: its verdicts are kept beside the dataset, under both hashes, and never replace a registered verdict.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from neuromod_core.kernel.errors import ConfigError, OutOfRange, UnblindRefused
from neuromod_core.kernel.register import unknown
from neuromod_core.kernel.types import Json, canonical
from neuromod_core.trial.archive import AMENDED, Archive
from neuromod_core.trial.close import judge
from neuromod_core.trial.config import ANALYSIS
from neuromod_core.trial.plan import Plan

WHOLE_NUMBERS = ("draws", "resamples")
EXPLORATORY = "exploratory"


@dataclass(frozen=True)
class Amendment:
    """One change of the analysis. registered, plan: the plan hash as registered, and with all amendments so far."""

    reason: str
    changes: Mapping[str, float | int]
    registered: str
    plan: str
    kind: str

    def payload(self) -> dict[str, Json]:
        """Return what the ledger keeps."""
        return {
            "reason": self.reason,
            "changes": dict(self.changes),
            "registered": self.registered,
            "plan": self.plan,
        }


def parse_changes(texts: Sequence[str]) -> dict[str, float | int]:
    """Return the changes that `KEY=VALUE` texts spell.

    Raises:
        ConfigError: for no change, a text of another form, a key twice, or a value that is no number.
        UnknownName: for a key that is not one of the analysis.
        OutOfRange: for a value that a study may not have.

    >>> parse_changes(["alpha=0.01", "draws=9999"])
    {'alpha': 0.01, 'draws': 9999}
    """
    if not texts:
        raise ConfigError(f"An amendment changes at least one key, as KEY=VALUE; keys: {', '.join(ANALYSIS)}.")
    changes: dict[str, float | int] = {}
    for text in texts:
        key, equals, written = text.partition("=")
        if not equals:
            raise ConfigError(f"{text!r} is not of the form KEY=VALUE.")
        if key not in ANALYSIS:
            raise unknown("key of the analysis", key, dict(ANALYSIS))
        if key in changes:
            raise ConfigError(f"An amendment names {key} twice.")
        changes[key] = _number(key, written)
    return changes


def _number(key: str, written: str) -> float | int:
    """Return a value in its range, or raise."""
    try:
        value: float | int = int(written) if key in WHOLE_NUMBERS else float(written)
    except ValueError:
        wanted = "a whole number" if key in WHOLE_NUMBERS else "a number"
        raise ConfigError(f"{key} is {wanted}; given {written!r}.") from None
    low, high = ANALYSIS[key]
    if not low <= value <= high:
        raise OutOfRange(f"{key} is {value:g}; allowed is {low:g} to {high:g}.")
    return value


def amend(archive: Archive, reason: str, changes: Mapping[str, float | int], *, exploratory: bool = False) -> Amendment:
    """Append an amendment to the ledger and return it; an exploratory one is also computed and its verdicts stored.

    Raises:
        ConfigError: for an empty reason, or values that are those of the plan already.
        UnblindRefused: for an amendment after unblinding that is not exploratory, and an exploratory one before.
    """
    if not reason.strip():
        raise ConfigError("An amendment needs a reason.")
    public, unblinded = archive.public(), archive.find("unblinded") is not None
    if unblinded and not exploratory:
        raise UnblindRefused(
            "The study is unblinded: its analysis is fixed; only an exploratory amendment is possible."
        )
    if exploratory and not unblinded:
        raise UnblindRefused("The study is not unblinded yet: amend its analysis itself, or explore afterwards.")
    before = archive.effective(public)
    after = replace(before, **changes)  # type: ignore[arg-type]
    if after.fingerprint == before.fingerprint:
        raise ConfigError("The amendment changes nothing: the plan has these values already.")
    kind = EXPLORATORY if exploratory else AMENDED
    amendment = Amendment(reason.strip(), dict(changes), public.fingerprint, after.fingerprint, kind)
    if exploratory:
        _explore(archive, amendment)
    archive.add(kind, amendment.payload())
    return amendment


def _explore(archive: Archive, amendment: Amendment) -> None:
    """Store the verdicts of the amended analysis as exploratory ones."""
    registration = archive.registration()
    plan: Plan = replace(archive.effective(registration.plan), **amendment.changes)  # type: ignore[arg-type]
    outcome = judge(archive, registration, plan)
    body: dict[str, object] = {**amendment.payload(), "label": EXPLORATORY}
    body["verdicts"] = [verdict.as_row() for verdict in outcome.verdicts]
    archive.put(f"{EXPLORATORY}/{amendment.plan}.json", canonical(body))
