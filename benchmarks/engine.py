"""How fast the engine is, beside transformers' `generate` on the same machine, in the same process, arms interleaved.

    python benchmarks/engine.py [--quick] [--dtype bfloat16]

Prints tables of ratios and writes benchmarks/results/engine.json and docs/pictures/engine.png. Figures depend on the
machine; ratios travel better. Each arm must first pass the correctness gate; one that fails is listed as wrong, however
fast.
"""

from __future__ import annotations

import argparse
import json
import platform
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # so that it runs as a script too

from benchmarks.arms import NONE, ROOT, Arm, Bench
from benchmarks.picture import draw
from neuromod_core.engine import dosed, score
from neuromod_core.engine.decode import write
from neuromod_core.engine.pages import keep_pages
from neuromod_core.models import ModelSpec, load

CACHE = Path.home() / ".cache" / "neuromod"
OUT = Console(width=120)
TOLERANCE = 5e-3  # nats over a response, between batch shapes
FLOPS = 2.0  # a multiplication and an addition per weight and token
Figures = dict[str, object]


def seconds(arm: Arm) -> float:
    begun = time.perf_counter()
    arm()
    return time.perf_counter() - begun


def interleaved(arms: Mapping[str, Arm], blocks: int) -> dict[str, list[float]]:
    """Return arm -> seconds in each block; every block runs all arms, starting with another one."""
    names, times = list(arms), {name: [] for name in arms}
    for arm in arms.values():
        arm()  # warm-up
    for block in range(blocks):
        for name in names[block % len(names) :] + names[: block % len(names)]:
            times[name].append(seconds(arms[name]))
        OUT.log(f"block {block + 1} of {blocks}: " + ", ".join(f"{name} {t[-1]:.2f} s" for name, t in times.items()))
    return times


def ratio(slow: Sequence[float], fast: Sequence[float]) -> float:
    """Return the median over blocks of slow / fast."""
    return statistics.median(a / b for a, b in zip(slow, fast, strict=True))


def product_rate(dtype: torch.dtype) -> float:
    """Return the rate of a 2048^3 matrix product, in GFLOP/s: the best of eight."""
    a, b = torch.randn(2048, 2048).to(dtype), torch.randn(2048, 2048).to(dtype)
    return 2 * 2048**3 / min(seconds(lambda: a @ b) for _ in range(8)) / 1e9


def gate(bench: Bench, path: str) -> list[str]:
    """Return what is wrong with a path, in float32; an empty list is a licence to be timed."""
    count, wrong = 6, []
    rows = bench.rows([bench.packs[i] for i in (0, 3, 5, 6)] + [NONE, bench.packs[3].scaled(0.0)])
    texts = [(504, 338, 260), (1, 2, 3, 4, 5)]
    with dosed(bench.model, path) as session:  # type: ignore[arg-type]
        together = score(session, rows, texts, bench.subject)
        alone = [score(session, [row], texts, bench.subject)[0] for row in rows]
        plain = score(session, bench.rows([NONE] * count), texts, bench.subject)
    apart = [max(abs(a.raw - b.raw) for a, b in zip(x, y, strict=True)) for x, y in zip(together, alone, strict=True)]
    if max(apart) > TOLERANCE:
        wrong.append(f"a row differs from itself alone by {max(apart):.3g} nats")
    if together[5] != plain[5]:
        wrong.append("zero dose is not the identity")
    if any(abs(together[i][1].raw - plain[i][1].raw) < 1e-4 for i in range(4)):
        wrong.append("a dose moves nothing")
    return wrong


def gates() -> Figures:
    """Return what is wrong with each path. In bfloat16 rounding between batch shapes hides errors, so not in it."""
    bench = Bench.on(load(ModelSpec("smollm2-135m", "embedded", dtype="float32"), CACHE), CACHE)
    return {path: gate(bench, path) or "nothing" for path in ("library", "fused")}


def best_settings(bench: Bench, tokens: int) -> dict[str, object]:
    """Return the settings of `generate` that are fastest here, of those that run on a CPU without compiling."""
    candidates: list[dict[str, object]] = [{}, {"cache_implementation": "static"}]
    arms = {str(number): bench.generate(64, tokens, **one) for number, one in enumerate(candidates)}
    times = {name: min(seconds(arm) for _ in range(2)) for name, arm in arms.items()}
    return candidates[int(min(times, key=lambda name: times[name]))]


def throughput(bench: Bench, blocks: int, tokens: int) -> Figures:
    """Return the figures at batch 64: every arm, an A/A arm, and the prior way."""
    settings = best_settings(bench, 8)
    arms: dict[str, Arm] = {
        "generate": bench.generate(64, tokens, **settings),
        "engine, no pack": bench.engine("none", 64, tokens),
        "engine, no pack, again": bench.engine("none", 64, tokens),
        "engine, one pack": bench.engine("one", 64, tokens),
        "engine, 64 packs": bench.engine("many", 64, tokens),
    }
    times = interleaved(arms, blocks)
    prior = statistics.median(seconds(bench.prior(tokens)) for _ in range(3))
    rates = {name: 64 * tokens / statistics.median(found) for name, found in times.items()}
    rates["prior way (batch 1, no cache)"] = tokens / prior
    work = _work(bench, 64, tokens)
    return {
        "settings of generate": settings,
        "tokens per second": rates,
        "A/A": ratio(times["engine, no pack"], times["engine, no pack, again"]),
        "64 packs over generate": ratio(times["generate"], times["engine, 64 packs"]),
        "no pack over generate": ratio(times["generate"], times["engine, no pack"]),
        "64 packs over the prior way": rates["engine, 64 packs"] / rates["prior way (batch 1, no cache)"],
        "cost of 64 packs over one": ratio(times["engine, 64 packs"], times["engine, one pack"]),
        "cost of 64 packs over none": ratio(times["engine, 64 packs"], times["engine, no pack"]),
        "GFLOP/s, no pack": work / statistics.median(times["engine, no pack"]) / 1e9,
    }


def _work(bench: Bench, count: int, tokens: int) -> float:
    """Return the floating-point operations of the weights' products: prompts once, and every new token."""
    network = bench.model.network
    blocks = sum(parameter.numel() for parameter in network.base_model.layers.parameters())
    head = network.lm_head.weight.numel()
    read = sum(map(len, bench.prompts(count))) + count * (tokens - 1)
    return FLOPS * (blocks * read + head * count * tokens)


def curve(bench: Bench, blocks: int, tokens: int) -> Figures:
    """Return tokens per second over the batch size, of `generate` and of the engine without and with packs."""
    points: dict[str, dict[int, float]] = {"generate": {}, "engine, no pack": {}, "engine, different packs": {}}
    ratios = {}
    for count in (1, 4, 16, 64, 256, 512):
        arms: dict[str, Arm] = {
            "engine, no pack": bench.engine("none", count, tokens),
            "engine, different packs": bench.engine("many", count, tokens),
        }
        if count <= 256:
            arms["generate"] = bench.generate(count, tokens)
        times = interleaved(arms, blocks if count < 64 else 1)
        for name, found in times.items():
            points[name][count] = count * tokens / statistics.median(found)
        if count <= 256:
            ratios[count] = ratio(times["generate"], times["engine, no pack"])
    best = max(points["engine, no pack"], key=lambda count: points["engine, no pack"][count])
    work = _work(bench, best, tokens) / (best * tokens)
    done = points["engine, no pack"][best] * work / 1e9
    return {
        "tokens per second": points,
        "no pack over generate": ratios,
        "best batch": best,
        "GFLOP/s at the best batch": done,
        "share of the product rate": done / product_rate(bench.model.dtype),
    }


def scoring(bench: Bench) -> Figures:
    """Return how much faster 60 items are read for 64 cells than with one call of `generate` an item."""
    items = [bench.model.encode(f" I feel that statement number {i} is true of me today.") for i in range(60)]
    rows = bench.rows(bench.chosen("many", 64))

    def read() -> None:
        with dosed(bench.model, "fused") as session:
            score(session, rows, items, bench.subject)

    ask = bench.generate(1, 8)
    ask()
    one = statistics.median(seconds(ask) for _ in range(12))
    ours = min(seconds(read) for _ in range(2))
    return {"seconds": ours, "seconds of 3840 calls": 3840 * one, "speed-up": 3840 * one / ours}


def occupancy(bench: Bench) -> Figures:
    """Return the share of slots that are busy when 256 rows of 16 to 128 tokens go through 64 slots."""
    limits = [16 + (37 * i) % 113 for i in range(256)]
    rows = bench.rows(bench.chosen("many", 256))
    with dosed(bench.model, "fused") as session:
        begun = time.perf_counter()
        written = write(session, rows, bench.subject, limits=limits, slots=64)
        return {"busy": written.busy, "tokens per second": sum(limits) / (time.perf_counter() - begun)}


def _resident() -> float:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / 2**30


def memory(bench: Bench) -> Figures:
    """Return what a batch of 64 x 512 tokens needs beyond the model and its keys and values, in GiB."""
    before = _resident()
    bench.engine("many", 64, 512)()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    config = bench.model.network.config
    size = config.head_dim * bench.model.kv_heads * 2 * bench.model.depth * bench.model.dtype.itemsize
    held = 64 * (max(map(len, bench.prompts(64))) + 512) * size / 2**30
    return {"before": before, "keys and values": held, "peak": peak, "beyond both": peak - before - held}


def growth(bench: Bench) -> Figures:
    """Return resident memory after 100 and after 1000 small batches, in GiB."""
    run, found = bench.engine("many", 4, 1), {}
    for batch in range(1, 1001):
        run()
        if batch in (100, 1000):
            found[f"after {batch}"] = _resident()
    return {**found, "grown": found["after 1000"] - found["after 100"]}


def untouched(bench: Bench) -> Figures:
    """Return the rate of `generate` in a process of its own, where the C library keeps its own settings."""
    arm = bench.generate(64, 32)
    arm()
    return {"tokens per second": 64 * 32 / statistics.median(seconds(arm) for _ in range(3))}


ALONE: Mapping[str, Callable[[Bench], Figures]] = {
    "memory": memory,
    "growth": growth,
    "generate in a process of its own": untouched,
}


def in_a_fresh_process(section: str, dtype: str) -> Figures:
    """Return the figures of a section that must not see what others left in memory."""
    command = [sys.executable, "-m", "benchmarks.engine", "--section", section, "--dtype", dtype]
    done = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
    figures: Figures = json.loads(done.stdout.splitlines()[-1])
    return figures


def shown(title: str, figures: Mapping[str, object]) -> None:
    table = Table(title=title, show_header=False, title_justify="left")
    for key, value in figures.items():
        for inner, number in value.items() if isinstance(value, dict) and value else [("", value)]:
            text = f"{number:.3g}" if isinstance(number, float) else str(number)
            table.add_row(f"{key} {inner}".strip(), text)
    OUT.print(table)


def machine(bench: Bench) -> Figures:
    """Return where the figures are from, and the rate of the processor's own product."""
    return {
        "processor": platform.processor() or platform.machine(),
        "threads": torch.get_num_threads(),
        "dtype": str(bench.model.dtype).removeprefix("torch."),
        "torch": torch.__version__,
        "product GFLOP/s": product_rate(bench.model.dtype),
    }


def commit_of() -> str:
    """Return the commit of this checkout, and whether files differ from it."""
    asked = (["git", "rev-parse", "HEAD"], ["git", "status", "--porcelain"])
    head, changed = (subprocess.run(one, cwd=ROOT, check=True, capture_output=True, text=True).stdout for one in asked)
    return head.strip() + (" with changes" if changed.strip() else "")


def sections(quick: bool, dtype: str) -> Mapping[str, Callable[[Bench], Figures]]:
    """Return the parts of the benchmark by name."""
    blocks, tokens = (1, 8) if quick else (7, 32)
    alone = {name: lambda _bench, name=name: in_a_fresh_process(name, dtype) for name in ALONE}
    return {
        "machine": machine,
        "wrong": lambda _bench: gates(),
        "batch 64": lambda bench: throughput(bench, blocks, tokens),
        "curve": lambda bench: curve(bench, max(1, blocks - 4), tokens),
        "scoring": scoring,
        "slots": occupancy,
        **alone,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="few blocks: to see that it runs")
    parser.add_argument("--dtype", default="bfloat16", choices=["bfloat16", "float32"])
    parser.add_argument("--only", action="append", help="measure this section anew and keep the others' figures")
    parser.add_argument("--section", choices=list(ALONE), help="one section in this process, as a JSON line")
    given = parser.parse_args()
    if given.section != "generate in a process of its own":
        keep_pages()
    bench = Bench.on(load(ModelSpec("smollm2-135m", "embedded", dtype=given.dtype), CACHE), CACHE)
    if given.section:
        print(json.dumps(ALONE[given.section](bench)))
        return
    commit, file = commit_of(), Path(__file__).parent / "results" / "engine.json"
    results = json.loads(file.read_text(encoding="utf-8")) if given.only and file.is_file() else {}
    file.parent.mkdir(exist_ok=True)
    for name, measure in sections(given.quick, given.dtype).items():
        if not given.only or name in given.only:
            results[name] = {**measure(bench), "commit": commit}
            shown(name, results[name])
            file.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    if "curve" in results:
        draw(results["curve"], ROOT / "docs" / "pictures" / "engine.png")


if __name__ == "__main__":
    main()
