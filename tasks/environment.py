"""What of the environment is recorded: only what is on a list of names, so that a key or token cannot enter."""

from __future__ import annotations

from collections.abc import Mapping

from neuromod_core.kernel.types import Json

ALLOWED = (
    "ATEN_CPU_CAPABILITY",
    "CUBLAS_WORKSPACE_CONFIG",
    "CUDA_LAUNCH_BLOCKING",
    "CUDA_VISIBLE_DEVICES",
    "DO_NOT_TRACK",
    "HF_HUB_OFFLINE",
    "MKL_NUM_THREADS",
    "MLFLOW_DISABLE_TELEMETRY",
    "NVIDIA_TF32_OVERRIDE",
    "OMP_NUM_THREADS",
    "PREFECT_SERVER_ANALYTICS_ENABLED",
    "PYTORCH_CUDA_ALLOC_CONF",
    "TORCH_ALLOW_TF32_CUBLAS_OVERRIDE",
)
"""The names of the environment that may be recorded: what changes how a model computes, and what keeps it offline."""

_RECORDED: dict[str, str] = {}


def recall(environment: Mapping[str, str]) -> None:
    """Keep what is allowed of the environment for the markers of this process; it is read nowhere else."""
    _RECORDED.clear()
    _RECORDED.update({name: environment[name] for name in ALLOWED if name in environment})


def recorded() -> dict[str, Json]:
    """Return what is kept."""
    return dict(_RECORDED)
