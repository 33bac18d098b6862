"""The records of one registration in a store: plan, sealed allocation, ledger, shards, dataset.

    plan.json                    public, frozen
    sealed/allocation.json       opened by the runner, and by unblinding
    ledger/000000.json ...       hash-chained, append-only: registered, gates, data, dry run, unblinded, closed
    data/, commits/              shards (see store.commits)
    analysis/dry_run.json        the whole analysis on dummy labels
    dataset/                     the closed study

Everything is created once and never overwritten; doing a step again must give the same bytes.
"""

from __future__ import annotations

import hmac
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256

import pandas as pd
import pyarrow as pa

from neuromod_core.design import Entry, append, dump, load, verify, verify_commitment
from neuromod_core.kernel.errors import IntegrityError, UnblindRefused
from neuromod_core.kernel.types import Json, canonical, digest, plain
from neuromod_core.store import Store
from neuromod_core.store.commits import Marker, commit, commits, read_table
from neuromod_core.store.tables import table
from neuromod_core.trial.plan import Plan, Registration, as_json, parse_plan, parse_sealed

PLAN, SEALED, DRY_RUN = "plan.json", "sealed/allocation.json", "analysis/dry_run.json"
Line = Mapping[str, object]


@dataclass(frozen=True)
class Archive:
    """One registration's records."""

    store: Store

    def put(self, key: str, data: bytes) -> None:
        """Create `key`; raise IntegrityError when it exists with other bytes."""
        if not self.store.put_new(key, data) and self.store.get(key) != data:
            raise IntegrityError(f"{key} exists with other content; it is written once. (store {self.store})")

    def publish(self, registration: Registration) -> None:
        """Record a registration: plan, sealed allocation, and the ledger entry that commits to both."""
        self.put(PLAN, canonical(as_json(registration.plan)))
        self.put(SEALED, registration.sealed())
        self.enter("registered", dict(registration.commitments))

    def plan(self) -> Plan:
        """Return the plan; raise IntegrityError when its bytes are not the ones registered."""
        text = self.store.get(PLAN)
        if digest(text) != (registered := self.entry("registered")["plan"]):
            raise IntegrityError(
                f"{PLAN} is not the registered plan: {registered} was registered, it gives {digest(text)}."
            )
        return parse_plan(text, PLAN)

    def registration(self) -> Registration:
        """Return plan and sealed part; raise IntegrityError when either is not what was committed to."""
        registration = parse_sealed(self.plan(), self.store.get(SEALED), SEALED)
        if registration.sealed() != self.store.get(SEALED):
            raise IntegrityError(f"{SEALED} is not in canonical form: it was edited.")
        committed = self.entry("registered")
        verify_commitment(
            registration.key,
            registration.table,
            committed=str(committed["allocation"]),
            committed_key=str(committed["key"]),
        )
        return registration

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
        entries = self.ledger()
        known = next((entry for entry in entries if entry.kind == kind), None)
        if known is None:
            entry = append(entries, kind, payload)
            self.put(f"ledger/{entry.index:06d}.json", dump([entry]).encode())
        elif canonical(known.payload) != canonical(payload):
            raise IntegrityError(f"The ledger already has an entry {kind!r} with other content. (store {self.store})")

    def shard_id(self, registration: Registration, shard: int) -> str:
        """Return the name of a shard: HMAC of the key over plan, model, packs and cell range; it says nothing."""
        plan = registration.plan
        content = [plan.fingerprint, plan.model_fingerprint, [arm.fingerprint for arm in plan.arms], shard]
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
    ) -> Marker:
        """Publish the rows of a shard."""
        tables = {"responses": table("responses", responses), "generations": table("generations", generations)}
        return commit(self.store, self.shard_id(registration, shard), tables=tables, provenance=provenance)

    def rows(self, registration: Registration, name: str) -> pd.DataFrame:
        """Return all rows of "responses" or "generations"; raise IntegrityError when a shard is missing."""
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
        return digest({marker.shard_id: plain(marker.files) for marker in self.done(registration).values()})

    def unblind(self) -> Registration:
        """Open the allocation.

        Raises:
            UnblindRefused: unless the data are complete and are those recorded, and the dry run was stored before.
            IntegrityError: when ledger, plan or allocation is not what was committed to.
        """
        registration = self.registration()
        for kind, wanted in (("data", "the data are recorded"), ("dry run", "the dummy-label dry run is stored")):
            if self.find(kind) is None:
                raise UnblindRefused(f"Unblinding comes after {wanted}; the ledger has no entry {kind!r}.")
        head = self.data_head(registration)
        if head != self.entry("data")["head"]:
            raise UnblindRefused(f"The data are not those recorded: {self.entry('data')['head']}, now {head}.")
        if digest(self.store.get(DRY_RUN)) != self.entry("dry run")["sha256"]:
            raise UnblindRefused(f"{DRY_RUN} is not the dry run that was recorded.")
        self.enter("unblinded", {"allocation": digest(registration.table)})
        return registration


def frame(rows: pa.Table) -> pd.DataFrame:
    """Return an Arrow table as a data frame."""
    result: pd.DataFrame = rows.to_pandas()
    return result
