"""The command line answers at once: what a command does not need, it does not load."""

from __future__ import annotations

import subprocess
import sys

HEAVY = {
    "duckdb",
    "hydra",
    "matplotlib",
    "mlflow",
    "numpy",
    "pandas",
    "prefect",
    "pyarrow",
    "scipy",
    "torch",
    "transformers",
}


def loaded_by(code: str) -> set[str]:
    """The heavy packages that a fresh process has loaded after this code."""
    told = subprocess.run(
        [sys.executable, "-c", f"import sys\n{code}\nprint(*sys.modules)"], capture_output=True, text=True, check=True
    )
    return HEAVY & set(told.stdout.split())


def test_help_loads_no_framework() -> None:
    assert loaded_by("from flows.cli import parser\nparser().format_help()\nimport flows.commands") == set()


def test_a_loaded_framework_is_noticed() -> None:
    assert "numpy" in loaded_by("import numpy")
