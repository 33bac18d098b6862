"""The console script `neuromod`. It reads the command line and the environment, and nothing below it does.

Exit codes: 0 done, 2 the user can fix it (one line on stderr), 1 our bug (traceback), 3 a gate failed (report written).
"""

from __future__ import annotations

import argparse
import errno
import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

os.environ.setdefault("DO_NOT_TRACK", "1")
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
os.environ.setdefault("PREFECT_LOGGING_LEVEL", "WARNING")
os.environ.setdefault("PREFECT_SERVER_ANALYTICS_ENABLED", "false")
os.environ.setdefault("PREFECT_CLOUD_ENABLE_ORCHESTRATION_TELEMETRY", "false")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
os.environ.setdefault("TQDM_DISABLE", "1")

from flows import audit, calibrate, data, detect, instruments, records, signature, status, story, tracking
from neuromod_core import __version__
from neuromod_core.kernel.errors import NeuromodError
from tasks.environment import recall

FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS}


def cache_folder() -> Path:
    """Return where models and calibrations are kept: NEUROMOD_CACHE, or `neuromod` in the user's cache folder."""
    if chosen := os.environ.get("NEUROMOD_CACHE"):
        return Path(chosen)
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "neuromod"


def _add_trust(
    verbs: argparse._SubParsersAction[argparse.ArgumentParser], verb: Callable[[str, str], argparse.ArgumentParser]
) -> None:
    """Add the commands that open a study, amend its analysis and check it."""
    for name, text in (
        ("verify", "derive every published number again and print the root hash"),
        ("unblind", "open a study's allocation, if its ledger permits it"),
    ):
        verb(name, text).add_argument("run", help=records.RUN)
    verbs.choices["unblind"].add_argument("--registration", metavar="FILE", help="where it is not beside the run")
    amend = verb("amend", "change a registered analysis, with a reason: amend RUN --reason TEXT KEY=VALUE ...")
    amend.add_argument("run", help=records.RUN)
    amend.add_argument("--reason", required=True, metavar="TEXT", help="why; it goes into the ledger")
    amend.add_argument(
        "--exploratory", action="store_true", help="after unblinding: verdicts beside the registered ones"
    )
    amend.add_argument("--json", action="store_true", help="print JSON")
    amend.add_argument("changes", nargs="*", metavar="KEY=VALUE", help="min_effect, alpha, draws, resamples")


def parser() -> argparse.ArgumentParser:
    """Return the command line."""
    top = argparse.ArgumentParser(
        prog="neuromod", description="Blinded crossover experiments on dosed language models."
    )
    top.add_argument("--version", action="version", version=__version__)
    verbs = top.add_subparsers(dest="verb", required=True, metavar="COMMAND")

    def verb(name: str, text: str) -> argparse.ArgumentParser:
        return verbs.add_parser(name, help=text, description=text)

    run = verb("run", "register a study and run it, or resume it: neuromod run study=smoke [GROUP=CHOICE] [KEY=VALUE]")
    run.add_argument("-m", "--multirun", action="store_true", help="sweep over comma-separated values")
    plan = verb("plan", "say what a study would cost and could find, and what of it is done")
    plan.add_argument("--measure", action="store_true", help="time real cells for about 40 seconds: hours and bytes")
    plan.add_argument("--json", action="store_true", help="print JSON")
    verb("register", "freeze a study into a file: neuromod register study=smoke out=FILE")
    _add_trust(verbs, verb)
    calibrate.add_verbs(verb)
    doctor = verb("doctor", "check this machine: model, processor, storage, packs")
    doctor.add_argument("--json", action="store_true", help="print JSON")
    doctor.add_argument(
        "--storage", metavar="ROOT", help="try out this folder or s3:// address instead of storage.root"
    )
    records.add_verbs(verb, time.time())
    for module in (audit, data, status, tracking, instruments, story, detect, signature):
        module.add_verbs(verb)
    effects = verb("effects", "list the register of effects")
    effects.add_argument("--json", action="store_true", help="print JSON")
    effects.add_argument(
        "--document", metavar="FILE", help="measure every effect on the embedded model; write the page"
    )
    packs = verb("packs", "look at packs")
    inner = packs.add_subparsers(dest="action", required=True, metavar="ACTION")
    inner.add_parser("list", help="all packs").add_argument("--json", action="store_true", help="print JSON")
    inner.add_parser("show", help="one pack").add_argument("name")
    inner.add_parser("validate", help="check a pack file").add_argument("file")
    inner.add_parser("schema", help="the JSON schema of pack files")
    for name in ("run", "plan", "register"):
        verbs.choices[name].add_argument(
            "--allow-unvalidated",
            action="store_true",
            help="let packs use vectors that failed their validation; every row is marked",
        )
    for name in ("run", "plan", "register", "calibrate", "doctor"):
        verbs.choices[name].add_argument("overrides", nargs="*", help="Hydra overrides: GROUP=CHOICE, KEY=VALUE")
    return top


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; the one boundary at which an error the user can fix becomes one line and exit code 2."""
    top = parser()
    given, rest = top.parse_known_args(arguments)
    words = getattr(given, "overrides", getattr(given, "changes", None))
    if rest and (words is None or any(text.startswith("-") for text in rest)):
        top.error(f"unrecognized arguments: {' '.join(rest)}")
    if words is not None:
        words.extend(rest)  # what follows an option, argparse leaves over
    if getattr(given, "allow_unvalidated", False):
        given.overrides.append("allow_unvalidated=true")
    try:
        if given.verb in ("run", "plan", "register", "data", "story"):
            data.adopt(cache_folder(), os.environ.get("NEUROMOD_DATA"))
        from flows import commands  # with all that commands need: `neuromod --help` needs nothing of it

        recall(os.environ)
        return commands.run(given, cache_folder())
    except NeuromodError as error:
        print(f"neuromod: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        if error.errno not in FULL:
            raise
        print(f"neuromod: cannot write {error.filename or 'a file'}: {error.strerror}.", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("neuromod: interrupted; the same command resumes.", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
