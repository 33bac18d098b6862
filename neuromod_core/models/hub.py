"""Fetching a model from the hub: small files first, so that what cannot run is refused before gigabytes are moved."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from huggingface_hub import snapshot_download
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from neuromod_core.kernel.errors import ModelError
from neuromod_core.models.spec import ModelSpec

SMALL = ("*.json", "*.jinja", "*.model", "*.txt")
BELOW = ("*/*",)  # other formats of the same weights lie in folders of their own


def fetch(spec: ModelSpec, patterns: Sequence[str], cache: Path | None = None) -> Path:
    """Return the folder of a model's snapshot in the hub's cache, with the files that match.

    cache: the hub's cache; None is where the environment has it (HF_HOME).

    Raises:
        ModelError: with the remedy: a gated or unknown model, an unknown revision, offline without a copy, no answer.
    """
    wanted = str(spec.path)
    try:
        found = snapshot_download(
            wanted, revision=spec.revision, allow_patterns=list(patterns), ignore_patterns=list(BELOW), cache_dir=cache
        )
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OfflineModeIsEnabled, OSError) as cause:
        raise ModelError(f"Model {spec.name!r}: {remedy(spec, cause)}") from cause
    return Path(found)


def remedy(spec: ModelSpec, error: Exception) -> str:
    """Return what is wrong with a model on the hub, and what to do about it, in one line."""
    match error:
        case GatedRepoError():
            return (
                f"{spec.path} is gated. Accept its licence on the model's page on the hub, then give an access token: "
                "`hf auth login`, or HF_TOKEN in the environment."
            )
        case RepositoryNotFoundError() | HFValidationError():
            return (
                f"{spec.path!r} is neither a folder nor a model on the hub (a private one needs HF_TOKEN). "
                "Give a hub id (owner/name) or a folder: model.path=..."
            )
        case RevisionNotFoundError():
            return (
                f"{spec.path} has no revision {spec.revision!r} on the hub: model.revision=COMMIT, a tag or a branch."
            )
        case LocalEntryNotFoundError() | OfflineModeIsEnabled():
            at = f" --revision {spec.revision}" if spec.revision else ""
            return (
                f"{spec.path} is not in the hub's cache, and the hub is off limits or does not answer. Fetch it once "
                f"with a connection: HF_HUB_OFFLINE=0 hf download {spec.path}{at}; or give a folder: model.path=FOLDER."
            )
        case _:
            return f"the hub did not give {spec.path}: {' '.join(str(error).split())[:200]}"
