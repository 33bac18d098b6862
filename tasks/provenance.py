"""What the bytes of a shard may depend on besides its registration, and where the code came from: kept in its marker.

No host name, no user, no path; of the environment only what is on a list of names.
"""

from __future__ import annotations

import platform
import subprocess
from collections.abc import Mapping
from functools import cache
from importlib.metadata import version
from pathlib import Path

import torch

from neuromod_core.kernel.types import Json, file_digest
from tasks.environment import recorded


def engine(project: str) -> Mapping[str, Json]:
    """Return libraries, kernels, processor and code of this process, and what is recorded of its environment."""
    return {**_fixed(project), "environment": recorded()}


@cache
def _fixed(project: str) -> Mapping[str, Json]:
    lock = Path(project) / "requirements.lock"
    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": version("transformers"),
        "pyarrow": version("pyarrow"),
        "cpu": torch.backends.cpu.get_cpu_capability(),
        "processor": _processor(Path("/proc/cpuinfo")),
        "threads": torch.get_num_threads(),
        "device": "cuda" if torch.cuda.is_available() else "cpu",
        "gpus": _gpus(),
        "kernels": _kernels(),
        "commit": _git(project, "rev-parse", "HEAD") or "unknown",
        "modified": bool(_git(project, "status", "--porcelain")),
        "lock": file_digest(lock) if lock.is_file() else "unknown",
    }


def _processor(cpuinfo: Path) -> str:
    """Return the name of the processor."""
    lines = cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines() if cpuinfo.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _gpus() -> list[Json]:
    """Return the names of the GPUs that this process sees."""
    return [torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())]


def _kernels() -> dict[str, Json]:
    """Return the settings and libraries that choose how a product of matrices is computed."""
    return {
        "mkldnn": torch.backends.mkldnn.is_available(),  # type: ignore[no-untyped-call]
        "mkl": torch.backends.mkl.is_available(),  # type: ignore[no-untyped-call]
        "cuda": torch.version.cuda,
        "tf32": torch.backends.cuda.matmul.allow_tf32,
        "deterministic": torch.are_deterministic_algorithms_enabled(),
    }


def _git(project: str, *arguments: str) -> str:
    try:
        done = subprocess.run(["git", "-C", project, *arguments], capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
