"""The records of one registration in a store: public plan, ledger, shards, opened allocation, dataset.

    plan.json                    public, frozen: packs appear as HMAC handles
    ledger/000000.json ...       hash-chained, append-only: registered, gates, data, dry run, unblinded, closed;
                                 amendments where they were made
    data/, commits/              shards (see store.commits)
    analysis/dry_run.json        the whole analysis on dummy labels, arms as codes
    opened/allocation.json       arms, allocation and key: published by unblinding, not there before
    analysis/order.json          the order as it was executed, audited
    dataset/                     the closed study

Until unblinding the sealed part is in the registration file and in the runner's memory, and nowhere here.

Everything is created once and never overwritten; doing a step again must give the same bytes.
"""

from __future__ import annotations

import hmac
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from types import MappingProxyType
from typing import TypeVar

import pandas as pd
import pyarrow as pa

from neuromod_core.design import Entry, append, dump, load, verify, verify_commitment
from neuromod_core.kernel.errors import IntegrityError, UnblindRefused
from neuromod_core.kernel.types import Json, canonical, digest, plain
from neuromod_core.store import Store
from neuromod_core.store.commits import Marker, commit, commits, read_table
from neuromod_core.store.tables import table
from neuromod_core.trial.plan import UNKNOWN, Outline, Plan, PublicPlan, Registration, as_json, parse_plan, parse_sealed

PLAN, OPENED, DRY_RUN = "plan.json", "opened/allocation.json", "analysis/dry_run.json"
AMENDED = "amended"
Line = Mapping[str, object]
P = TypeVar("P", bound=Outline)


@dataclass(frozen=True)
class Archive:
    """One registration's records."""

    store: Store

    def put(self, key: str, data: bytes) -> None:
        """Create `key`; raise IntegrityError when it exists with other bytes."""
        if not self.store.put_new(key, data) and self.store.get(key) != data:
            raise IntegrityError(f"{key} exists with other content; it is written once. (store {self.store})")

    def publish(self, registration: Registration) -> None:
        """Record a registration: the public plan, and the ledger entry that commits to it and to the sealed part."""
        self.put(PLAN, canonical(as_json(registration.public)))
        self.enter("registered", dict(registration.commitments))

    def plan(self) -> Plan:
        """Return the whole plan of an unblinded study, as `registration` does."""
        return self.registration().plan

    def public(self) -> PublicPlan:
        """Return the public plan.

        Raises:
            IntegrityError: its bytes are not the ones registered, or another version of the code wrote them.
        """
        text = self.store.get(PLAN)
        if digest(text) != (registered := self.entry("registered")["plan"]):
            raise IntegrityError(
                f"{PLAN} is not the registered plan: {registered} was registered, it gives {digest(text)}."
            )
        plan = parse_plan(text, PLAN)
        if canonical(as_json(plan)) != text:
            raise IntegrityError(
                f"{PLAN} was written by another version of the code, commit {plan.code}; this one would read it "
                f"otherwise. Look at the study with that version. (store {self.store})"
            )
        return plan

    def registration(self) -> Registration:
        """Return plan and opened part of an unblinded study.

        Raises:
            UnblindRefused: before unblinding, when the allocation is not here.
            IntegrityError: when plan, allocation or key is not what was committed to.
        """
        if not self.store.holds(OPENED):
            raise UnblindRefused(f"The study is not unblinded yet: its allocation is sealed. (store {self.store})")
        registration = parse_sealed(self.public(), self.store.get(OPENED), OPENED)
        if registration.sealed() != self.store.get(OPENED):
            raise IntegrityError(f"{OPENED} is not in canonical form: it was edited.")
        self.check_commitments(registration)
        return registration

    def check_commitments(self, registration: Registration) -> None:
        """Raise IntegrityError unless the allocation and its key are those committed to before the first cell."""
        committed = self.entry("registered")
        verify_commitment(
            registration.key,
            registration.table,
            committed=str(committed["allocation"]),
            committed_key=str(committed["key"]),
        )

    def ledger(self) -> tuple[Entry, ...]:
        """Return the ledger with its chain verified."""
        entries = load("".join(self.store.get(key).decode() for key in self.store.keys("ledger/")))
        verify(entries)
        return entries

    def entry(self, kind: str) -> Mapping[str, Json]:
        """Return the payload of the entry of this kind; raise IntegrityError when there is none."""
        found = self.find(kind)
        if found is None:
            raise IntegrityError(f"The ledger has no entry {kind!r}. (store {self.store})")
        return found

    def find(self, kind: str) -> Mapping[str, Json] | None:
        """Return the payload of the entry of this kind, or None."""
        return next((entry.payload for entry in self.ledger() if entry.kind == kind), None)

    def enter(self, kind: str, payload: Mapping[str, Json]) -> None:
        """Append an entry; again with the same payload changes nothing, with another raises IntegrityError."""
        known = next((entry for entry in self.ledger() if entry.kind == kind), None)
        if known is None:
            self.add(kind, payload)
        elif canonical(known.payload) != canonical(payload):
            raise IntegrityError(f"The ledger already has an entry {kind!r} with other content. (store {self.store})")

    def add(self, kind: str, payload: Mapping[str, Json]) -> None:
        """Append an entry of a kind that may occur again."""
        entry = append(self.ledger(), kind, payload)
        self.put(f"ledger/{entry.index:06d}.json", dump([entry]).encode())

    def effective(self, plan: P) -> P:
        """Return a plan with the analysis keys as the ledger's amendments leave them."""
        changes: dict[str, Json] = {}
        for entry in self.ledger():
            if entry.kind == AMENDED and isinstance(entry.payload["changes"], Mapping):
                changes |= entry.payload["changes"]
        return replace(plan, **changes)  # type: ignore[arg-type]

    def amended(self) -> str | None:
        """Return the plan hash after the last amendment, None without one."""
        hashes = [str(entry.payload["plan"]) for entry in self.ledger() if entry.kind == AMENDED]
        return hashes[-1] if hashes else None

    def dry_run_entry(self) -> str:
        """Return the kind of the ledger entry for the dry run of the plan as it now stands."""
        amended = self.amended()
        return f"dry run {amended[:12]}" if amended else "dry run"

    def dry_run_key(self) -> str:
        """Return where the dry run of the plan as it now stands is kept."""
        amended = self.amended()
        return f"analysis/dry_run-{amended[:12]}.json" if amended else DRY_RUN

    def shard_id(self, registration: Registration, shard: int) -> str:
        """Return the name of a shard: HMAC of the key over plan, model, packs and cell range; it says nothing."""
        plan = registration.plan
        content = [
            registration.public.fingerprint,
            plan.model_fingerprint,
            [arm.fingerprint for arm in plan.arms],
            shard,
        ]
        return hmac.new(registration.key, canonical(content), sha256).hexdigest()

    def done(self, registration: Registration) -> Mapping[int, Marker]:
        """Return the committed shards by number."""
        found = commits(self.store)
        names = {self.shard_id(registration, shard): shard for shard in range(registration.plan.shards)}
        return {names[name]: marker for name, marker in found.items() if name in names}

    def commit_shard(
        self,
        registration: Registration,
        shard: int,
        *,
        responses: Sequence[Line],
        generations: Sequence[Line],
        provenance: Mapping[str, Json],
        further: Mapping[str, Sequence[Line]] = MappingProxyType({}),
    ) -> Marker:
        """Publish the rows of a shard. further: rows of other tables, by their name."""
        rows = {"responses": responses, "generations": generations, **further}
        tables = {name: table(name, lines) for name, lines in rows.items()}
        return commit(self.store, self.shard_id(registration, shard), tables=tables, provenance=provenance)

    def rows(self, registration: Registration, name: str) -> pd.DataFrame:
        """Return all rows of a table of raw data ("responses", ...); raise IntegrityError when a shard is missing."""
        return frame(self.raw(registration, name))

    def raw(self, registration: Registration, name: str) -> pa.Table:
        """Return the rows of `rows` as an Arrow table."""
        done = self.done(registration)
        if missing := sorted(set(range(registration.plan.shards)) - set(done)):
            raise IntegrityError(
                f"{len(missing)} of {registration.plan.shards} shards are not there yet: {missing[:8]}."
            )
        markers = {marker.shard_id: marker for marker in done.values()}
        return read_table(self.store, name, markers=markers)

    def data_head(self, registration: Registration) -> str:
        """Return the digest of all committed files: what the ledger records before unblinding."""
        return digest_of({marker.shard_id: marker for marker in self.done(registration).values()})

    def unblind(self, registration: Registration | None = None, *, code: str = UNKNOWN) -> Registration:
        """Open the allocation: publish arms, allocation and key here, once the ledger permits it.

        registration: the sealed registration; not needed once it was opened.  code: commit of the code that asks.

        Raises:
            UnblindRefused: unless plan, code and data are those of the ledger and the dry run was stored before.
            IntegrityError: when plan, allocation or key is not what was committed to.
        """
        self._check_data()
        if self.find("unblinded") is not None:
            return self.registration()
        if registration is None:
            if not self.store.holds(OPENED):
                raise UnblindRefused("The allocation is sealed in the registration file; unblinding needs that file.")
            registration = self.registration()
        self._check_plan(registration, code)
        self.check_commitments(registration)
        self.put(OPENED, registration.sealed())
        self.enter("unblinded", {"allocation": digest(registration.table)})
        return registration

    def _check_data(self) -> None:
        """Refuse unless the data are complete and are those recorded, and the dry run is the one stored."""
        for kind, wanted in (
            ("data", "the data are recorded"),
            (self.dry_run_entry(), "the dummy-label dry run of the plan as it stands is stored"),
        ):
            if self.find(kind) is None:
                raise UnblindRefused(f"Unblinding comes after {wanted}; the ledger has no entry {kind!r}.")
        head, recorded = digest_of(commits(self.store)), self.entry("data")["head"]
        if head != recorded:
            raise UnblindRefused(f"The data are not those recorded: {recorded} is in the ledger, now {head}.")
        if digest(self.store.get(self.dry_run_key())) != self.entry(self.dry_run_entry())["sha256"]:
            raise UnblindRefused(f"{self.dry_run_key()} is not the dry run that was recorded.")

    def _check_plan(self, registration: Registration, code: str) -> None:
        """Refuse unless the registration is this study's and the code is the one that registered it."""
        registered = self.entry("registered")["plan"]
        for given in (digest(self.store.get(PLAN)), registration.public.fingerprint):
            if given != registered:
                raise UnblindRefused(f"The plan is not the registered one: {registered} is in the ledger, now {given}.")
        if code != registration.plan.code:
            raise UnblindRefused(
                f"The code is not the one that registered the study: commit {registration.plan.code}, now {code}."
            )


def digest_of(markers: Mapping[str, Marker]) -> str:
    """Return the digest of all committed files: what the ledger records before unblinding."""
    return digest({marker.shard_id: plain(marker.files) for marker in markers.values()})


def frame(rows: pa.Table) -> pd.DataFrame:
    """Return an Arrow table as a data frame."""
    result: pd.DataFrame = rows.to_pandas()
    return result
