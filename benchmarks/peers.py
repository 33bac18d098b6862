"""Steering libraries beside the engine: one vector for all rows, and a different vector for every row.

    pip install --no-deps repeng steering-vectors nnsight      # whichever of them
    python benchmarks/peers.py

A peer that is not installed, or does not run on this version of transformers, is listed with the reason. Each arm must
first pass the gate: its vector moves the logits, a zero vector does not, and leaving restores the model. The engine and
`generate` undosed stand beside them. What a library cannot give to the rows of one batch, it is asked for one by one;
nnsight, whose interventions are code on tensors, gives every row its own vector at once.
"""

from __future__ import annotations

import importlib
import json
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # so that it runs as a script too

from benchmarks.arms import ROOT, Arm, Bench
from benchmarks.engine import CACHE, commit_of, interleaved, machine, ratio, shown
from neuromod_core.effects import EFFECTS
from neuromod_core.engine import dosed
from neuromod_core.engine.decode import write
from neuromod_core.engine.pages import keep_pages
from neuromod_core.models import ModelSpec, load
from neuromod_core.packs import Dosed, Pack

LAYER, COUNT, TOKENS, BLOCKS = 15, 16, 16, 7


@dataclass(frozen=True)
class Peer:
    """A library and how it adds one vector at one layer for the duration of a `with`."""

    package: str
    steered: Callable[[Bench, Tensor], object]


@contextmanager
def _hook(bench: Bench, vector: Tensor) -> Iterator[None]:
    """The floor: a bare forward hook."""

    def add(_module: object, _inputs: object, output: object) -> object:
        return (output[0] + vector, *output[1:]) if isinstance(output, tuple) else output + vector  # type: ignore[operator]

    handle = bench.model.blocks[LAYER].register_forward_hook(add)
    try:
        yield
    finally:
        handle.remove()


@contextmanager
def _repeng(bench: Bench, vector: Tensor) -> Iterator[None]:
    control = importlib.import_module("repeng").ControlModel(bench.model.network, [LAYER])
    try:
        control.set_raw_control({LAYER: vector})
        yield
    finally:
        control.reset()
        control.unwrap()


@contextmanager
def _steering_vectors(bench: Bench, vector: Tensor) -> Iterator[None]:
    library = importlib.import_module("steering_vectors")
    with library.SteeringVector({LAYER: vector}).apply(bench.model.network):
        yield


def _nnsight(bench: Bench, vector: Tensor) -> tuple[object, Callable[[object], object]]:
    """Return the model as nnsight wraps it, and what adds `vector` (width,) or (rows, 1, width) inside its context."""
    library = importlib.import_module("nnsight")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        wrapped = library.LanguageModel(bench.model.network, tokenizer=bench.model.tokenizer)
    block = wrapped.model.layers[LAYER]

    def add(output: object) -> object:
        return (output[0] + vector, *output[1:]) if isinstance(output, tuple) else output + vector  # type: ignore[operator]

    return wrapped, lambda: setattr(block, "output", add(block.output))  # type: ignore[return-value]


def _nnsight_gate(bench: Bench, vector: Tensor) -> str | None:
    """Return what is wrong with nnsight, None for nothing."""
    tokens, network = torch.tensor([bench.prompts(1)[0]]), bench.model.network
    plain = network(tokens).logits.detach()

    def read(pushed: Tensor) -> Tensor:
        wrapped, add = _nnsight(bench, pushed)
        with wrapped.trace(tokens):  # type: ignore[attr-defined]
            add()  # type: ignore[call-arg]
            logits = wrapped.lm_head.output.save()  # type: ignore[attr-defined]
        return logits  # type: ignore[no-any-return]  # noqa: RET504 - the library reads the body of the `with`

    moved, still = read(vector), read(torch.zeros_like(vector))
    if not torch.equal(network(tokens).logits, plain):
        return "leaves a trace"
    return (
        "moves nothing" if torch.equal(moved, plain) else None if torch.equal(still, plain) else "zero is not nothing"
    )


def _nnsight_arms(bench: Bench, vectors: Tensor) -> Mapping[str, Arm]:
    inputs, settings = bench.batch(COUNT), bench.sampler(TOKENS)

    def arm(pushed: Tensor) -> Arm:
        wrapped, add = _nnsight(bench, pushed)

        def run() -> object:
            with wrapped.generate(**inputs, **settings) as tracer:  # type: ignore[attr-defined]
                for _ in tracer.iter[0:TOKENS]:
                    add()  # type: ignore[call-arg]
                written = tracer.result.save()
            return written  # noqa: RET504 - the library reads the body of the `with`

        return run

    return {"nnsight, one vector": arm(vectors[0]), f"nnsight, {COUNT} vectors": arm(vectors[:, None])}


PEERS = (
    Peer("a bare hook", _hook),
    Peer("repeng", _repeng),
    Peer("steering-vectors", _steering_vectors),
)


def _gate(bench: Bench, peer: Peer, vector: Tensor) -> str | None:
    """Return what is wrong with a peer, None for nothing."""
    tokens, network = torch.tensor([bench.prompts(1)[0]]), bench.model.network
    with torch.inference_mode():
        plain = network(tokens).logits
        with peer.steered(bench, vector):  # type: ignore[attr-defined]
            moved = network(tokens).logits
        with peer.steered(bench, torch.zeros_like(vector)):  # type: ignore[attr-defined]
            still = network(tokens).logits
        if not torch.equal(network(tokens).logits, plain):
            return "leaves a trace"
    if torch.equal(moved, plain):
        return "moves nothing"
    return None if torch.equal(still, plain) else "zero is not the identity"


def _arms(bench: Bench, peer: Peer, vectors: Tensor) -> Mapping[str, Arm]:
    together, alone = bench.generate(COUNT, TOKENS), bench.generate(1, TOKENS)

    def one() -> None:
        with peer.steered(bench, vectors[0]):  # type: ignore[attr-defined]
            together()

    def many() -> None:
        for vector in vectors:
            with peer.steered(bench, vector):  # type: ignore[attr-defined]
                alone()

    return {f"{peer.package}, one vector": one, f"{peer.package}, {COUNT} vectors": many}


def _engine(bench: Bench, many: bool) -> Arm:
    kind = EFFECTS["random_direction"]
    packs = [
        Pack(f"p{i}", "a direction", "control", (Dosed("random_direction", kind(draw=i if many else 0), 0.5),))
        for i in range(COUNT)
    ]
    rows = bench.rows(packs)

    def run() -> object:
        with dosed(bench.model, "fused") as session:
            return write(session, rows, bench.subject, limits=[TOKENS] * COUNT, slots=COUNT)

    return run


def main() -> None:
    keep_pages()
    bench = Bench.on(load(ModelSpec("smollm2-135m", "embedded", dtype="float32"), CACHE), CACHE)
    vectors = 20 * torch.randn(COUNT, bench.model.width, generator=torch.Generator().manual_seed(0))
    arms: dict[str, Arm] = {
        "generate, undosed": bench.generate(COUNT, TOKENS),
        "engine, undosed": bench.engine("none", COUNT, TOKENS),
        "engine, one vector": _engine(bench, many=False),
        f"engine, {COUNT} vectors": _engine(bench, many=True),
    }
    listed: dict[str, object] = {}
    for peer in PEERS:
        try:
            wrong = _gate(bench, peer, vectors[0])
            listed[peer.package] = wrong or (version(peer.package) if " " not in peer.package else "passes the gate")
        except (ImportError, PackageNotFoundError, AttributeError, TypeError, ValueError) as cause:
            wrong = listed[peer.package] = f"does not run here: {type(cause).__name__}: {str(cause)[:80]}"
        if wrong is None:
            arms |= _arms(bench, peer, vectors)
    try:
        wrong = _nnsight_gate(bench, vectors[0])
        listed["nnsight"] = wrong or version("nnsight")
    except (ImportError, PackageNotFoundError, AttributeError, TypeError, ValueError) as cause:
        wrong = listed["nnsight"] = f"does not run here: {type(cause).__name__}: {str(cause)[:80]}"
    if wrong is None:
        arms |= _nnsight_arms(bench, vectors)
    times = interleaved(arms, BLOCKS)
    results: dict[str, dict[str, object]] = {
        "machine": {**machine(bench), "commit": commit_of()},
        "peers": listed,
        "time over generate, undosed": {
            name: ratio(found, times["generate, undosed"]) for name, found in times.items()
        },
    }
    for title, figures in results.items():
        shown(title, figures)
    (ROOT / "benchmarks" / "results" / "peers.json").write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
