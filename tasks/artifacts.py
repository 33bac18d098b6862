"""What the Prefect UI shows of a run: progress, who ran which shards, what was found, where the report is.

Before unblinding it shows counts alone. Prefect is a view: it can be lost, and the records say all of it again.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from uuid import UUID

from prefect.artifacts import (
    create_link_artifact,
    create_markdown_artifact,
    create_progress_artifact,
    create_table_artifact,
    update_progress_artifact,
)

from neuromod_core.kernel.types import Json
from neuromod_core.store.commits import Marker, commits, committed
from tasks.lab import Run


def _key(run: Run, what: str) -> str:
    """Return an artifact's name: the same for all workers of a run, so that the UI shows one history."""
    return _plain(f"{what}-{run.registration().registration_id}")


def share(run: Run) -> float:
    """Return the percentage of a run's shards that are committed."""
    return 100.0 * len(committed(run.archive().store)) / run.registration().plan.shards


def begin(run: Run) -> UUID:
    """Show what a run is, by its study, model and size, and how far it is."""
    plan = run.registration().public
    text = f"""# {plan.title}

{plan.question}

| model | units | cells | shards |
|---|---|---|---|
| {plan.model} | {len(plan.units)} | {len(plan.cells)} | {plan.shards} |

Records: `{run.folder()}`
"""
    create_markdown_artifact(text, key=_key(run, "plan"), description="What is run, without what is blind")
    made = create_progress_artifact(share(run), key=_key(run, "progress"), description="Shards committed, in percent")
    return UUID(str(made))


def advance(run: Run, progress: UUID) -> None:
    """Show how far a run is now, by whomever."""
    update_progress_artifact(progress, share(run))


def workers(run: Run) -> None:
    """Show how many shards each process committed."""
    counts = Counter(str(who) for who in map(_process, commits(run.archive().store).values()))
    rows = [{"process": name, "shards": count} for name, count in sorted(counts.items())]
    table(rows, _key(run, "workers"), "Shards by the process that committed them")


def outcome(run: Run, root: str) -> None:
    """Show what an unblinded study found, and where its report is."""
    from tasks import looks  # with what draws a report
    from tasks.reporting import REPORT

    found = "\n".join(f"- {line}" for line in looks.summary(run))
    failed = looks.failed_gates(run)
    gates = f"\n**Gate failed: {'; '.join(failed)}.** No claim is made.\n" if failed else ""
    text = f"# {run.registration().plan.title}\n\n{found}\n{gates}\nroot hash `{root}`\n"
    create_markdown_artifact(text, key=_key(run, "outcome"), description="What was found")
    link(f"{run.folder()}/{REPORT}", _key(run, "report"), "The self-contained report")
    if (tracking := run.places.tracking) is not None and tracking.startswith("http"):
        link(tracking, _key(run, "mlflow"), "MLflow: runs side by side")


def table(rows: Sequence[Mapping[str, object]], key: str, text: str) -> None:
    """Show rows."""
    create_table_artifact([dict(row) for row in rows], key=_plain(key), description=text)


def link(address: str, key: str, text: str) -> None:
    """Show an address; a path becomes one."""
    where = address if "://" in address else f"file://{address}"
    create_link_artifact(where, key=_plain(key), link_text=address, description=text)


def _plain(key: str) -> str:
    """Return a name as Prefect takes it: lower case, digits and dashes."""
    return re.sub("[^a-z0-9]+", "-", key.lower()).strip("-")


def _process(marker: Marker) -> Json:
    """Return the process that committed a shard."""
    executed = marker.provenance["executed"]
    return executed["process"] if isinstance(executed, Mapping) else None
