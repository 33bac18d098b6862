"""Slow twins: what a twin of each kind of effect is given and returns, and how the two are compared.

A twin sees one row: numpy arrays without the row dimension, a float dose that is not zero, and a `Spot` instead of a
`Place` or a `Step`. It is called as

    LogitEffect     twin(effect, logits (vocabulary,), dose, spot) -> (vocabulary,)
    ShiftEffect     twin(effect, subject) -> [(layer, (width,)), ...]
    StreamEffect    twin(effect, hidden (tokens, width), dose, spot) -> (tokens, width)
    QueryEffect     twin(effect, dose, subject) -> (depth, heads)
    HeadEffect      twin(effect, dose, subject, stream) -> (depth, heads)
    ScoreEffect     twin(effect, scores (heads, queries, keys), dose, spot) -> the same shape
    WeightEffect    twin(effect, weights (heads, queries, keys), dose, spot) -> the same shape
    CacheEffect     twin(effect, keys (kv heads, keys, size), values, dose, spot) -> (keys, values)
    EvictionEffect  twin(effect, queries (heads, queries, size), keys, values, dose, spot) -> (kv heads, keys) bool
    RouterEffect    twin(effect, logits (tokens, experts), before (tokens, experts), dose, spot) -> (tokens, experts)
    PromptEffect    twin(effect, prompt, dose, stream, subject) -> tuple of tokens
    ModuleEffect    twin(effect, path, entering (tokens, inputs), output (tokens, outputs), dose) -> (tokens, outputs)
    ChoiceEffect    twin(effect, own [float, ...], undosed [float, ...], tokens) -> number of the candidate kept

Randomness is an input: a twin may draw the same numbers through `uniforms` and `normals`, and must do the rest alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

import numpy as np
import torch

from neuromod_core.effects import EFFECTS, Effect, Stream, Subject
from neuromod_core.effects import kinds as k
from neuromod_core.effects.subject import Place, Step

Array = np.ndarray
TOLERANCE = 1e-4


@dataclass(frozen=True)
class Spot:
    """Where a row is: positions of queries and keys, the position at which its response starts, and the text so far."""

    subject: Subject
    stream: Stream
    layer: int = 0
    queries: list[int] = field(default_factory=list)
    keys: list[int] = field(default_factory=list)
    start: int = 0
    entering: Array | None = None
    index: int = 0
    history: list[int] = field(default_factory=list)
    prompt: list[int] = field(default_factory=list)
    early: dict[int, Array] = field(default_factory=dict)


def _random(*shape: int, seed: int = 1) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def _doses(kind: type[Effect]) -> list[float]:
    low, high = kind.doses
    return [dose for dose in (0.35, 1.0, -0.35, -1.0) if low <= dose <= high] + [0.0]


STARTS = (9, 4, 12, 0, 7)  # where the response of each row starts
LENGTH = 14


def _place(subject: Subject, rows: int, layer: int, entering: torch.Tensor | None) -> Place:
    """Rows that are padded on the left by 0, 1, 2 ... tokens, so that positions differ from columns."""
    positions = torch.arange(LENGTH)[None] - torch.arange(rows)[:, None]
    streams = tuple(Stream(5, f"twin{row}") for row in range(rows))
    return Place(layer, positions, positions, torch.tensor(STARTS[:rows]), streams, subject, entering)


def _spot(place: Place, row: int) -> Spot:
    entering = None if place.entering is None else place.entering[row].numpy()
    return Spot(
        subject=place.subject,
        stream=place.streams[row],
        layer=place.layer,
        queries=place.queries[row].tolist(),
        keys=place.keys[row].tolist(),
        start=int(place.start[row]),
        entering=entering,
    )


def _step(effect: k.LogitEffect, subject: Subject, rows: int) -> Step:
    history = torch.tensor([[60, 61, 60, 62], [70, -1, -1, -1], [-1] * 4, [80, 81, 82, 80], [90, 90, 90, -1]])[:rows]
    prompt = torch.tensor([[-1, 60, 63], [71, 72, 71], [-1, -1, 75], [80, 84, 85], [91, 92, 93]])[:rows]
    layer = effect.early(subject)
    early = {} if layer is None else {layer: 2 * _random(rows, subject.shape.vocabulary, seed=9)}
    streams = tuple(Stream(5, f"twin{row}") for row in range(rows))
    return Step((history >= 0).sum(-1), history, subject, prompt, streams, early)


def _step_spot(step: Step, row: int) -> Spot:
    return Spot(
        subject=step.subject,
        stream=step.streams[row],
        index=int(step.index[row]),
        history=[token for token in step.history[row].tolist() if token >= 0],
        prompt=[token for token in step.prompt[row].tolist() if token >= 0],
        early={layer: logits[row].numpy() for layer, logits in step.early.items()},
    )


def _equal(ours: torch.Tensor, expected: object, seen: Array | None = None) -> None:
    """Assert that two arrays agree, where they are `seen`."""
    mine, other = ours.numpy(), np.asarray(expected)
    where = np.ones(mine.shape, dtype=bool) if seen is None else np.broadcast_to(seen, mine.shape)
    np.testing.assert_allclose(mine[where], other[where], atol=TOLERANCE, rtol=TOLERANCE)


@dataclass(frozen=True)
class Case:
    """Rows at several doses, one of them 0, each at a place of its own."""

    effect: Effect
    twin: Callable[..., object]
    subject: Subject
    doses: list[float]
    place: Place

    @property
    def dose(self) -> torch.Tensor:
        return torch.tensor(self.doses)

    @property
    def spots(self) -> list[Spot]:
        return [_spot(self.place, row) for row in range(len(self.doses))]

    def random(self, *shape: int, seed: int = 1) -> torch.Tensor:
        return _random(len(self.doses), *shape, seed=seed)

    def rows(self, *arrays: torch.Tensor) -> Iterator[tuple[int, float, Spot, list[Array]]]:
        """Yield (row, dose, spot, the row's part of the arrays)."""
        for row, (dose, spot) in enumerate(zip(self.doses, self.spots, strict=True)):
            yield row, dose, spot, [array[row].numpy().copy() for array in arrays]


def _logits(case: Case) -> None:
    step, z = _step(case.effect, case.subject, len(case.doses)), 2 * case.random(case.subject.shape.vocabulary)
    ours = case.effect(z, case.dose, step)
    for row, dose, _, (line,) in case.rows(z):
        _equal(ours[row], case.twin(case.effect, line, dose, _step_spot(step, row)) if dose else line)


def _shifts(case: Case) -> None:
    for (layer, ours), (other, expected) in zip(
        case.effect.shifts(case.subject), case.twin(case.effect, case.subject), strict=True
    ):
        assert layer == other
        _equal(ours, expected)


def _streams(case: Case) -> None:
    layer, width = list(case.effect.layers(case.subject))[-1], case.subject.shape.width
    case = replace(case, place=case.place.at(layer, case.random(LENGTH, width, seed=2) if layer >= 0 else None))
    hidden = 3 * case.random(LENGTH, width)
    ours = case.effect(hidden, case.dose, case.place)
    for row, dose, spot, (line,) in case.rows(hidden):
        _equal(ours[row], case.twin(case.effect, line, dose, spot) if dose else line)


def _queries(case: Case) -> None:
    _equal(case.effect.gain(case.dose, case.subject), [case.twin(case.effect, d, case.subject) for d in case.doses])


def _heads(case: Case) -> None:
    ours = case.effect.gate(case.dose, case.subject, case.place.streams)
    for row, dose, spot, _ in case.rows():
        _equal(ours[row], case.twin(case.effect, dose, case.subject, spot.stream))


def _scores(case: Case) -> None:
    scores = 2 * case.random(case.subject.shape.heads, LENGTH, LENGTH)
    ours = case.effect(scores, case.dose, case.place)
    for row, dose, spot, (line,) in case.rows(scores):
        queries, keys = np.array(spot.queries)[:, None], np.array(spot.keys)[None, :]
        seen = (keys >= 0) & (queries >= keys)
        _equal(ours[row], case.twin(case.effect, line, dose, spot) if dose else line, seen)


def _weights(case: Case) -> None:
    hidden = (case.place.distance < 0) | (case.place.keys < 0)[:, None, None, :]
    raw = 2 * case.random(case.subject.shape.heads, LENGTH, LENGTH)
    weights = raw.masked_fill(hidden, -1e30).softmax(-1)
    ours = case.effect(weights, case.dose, case.place)
    for row, dose, spot, (line,) in case.rows(weights):
        real = (np.array(spot.queries) >= 0)[:, None]
        _equal(ours[row], case.twin(case.effect, line, dose, spot) if dose else line, real)


def _cache(case: Case) -> None:
    keys, values = (case.random(case.subject.shape.kv_heads, LENGTH, 8, seed=seed) for seed in (1, 2))
    ours = case.effect(keys, values, case.dose, case.place)
    for row, dose, spot, pair in case.rows(keys, values):
        expected = case.twin(case.effect, *pair, dose, spot) if dose else pair
        for part in range(2):
            _equal(ours[part][row], expected[part], (np.array(spot.keys) >= 0)[:, None])


def _evictions(case: Case) -> None:
    shape = case.subject.shape
    states = [case.random(count, LENGTH, 8, seed=count) for count in (shape.heads, shape.kv_heads, shape.kv_heads)]
    ours = case.effect.hidden(*states, case.dose, case.place)
    for row, dose, spot, parts in case.rows(*states):
        assert ours[row].tolist() == np.asarray(case.twin(case.effect, *parts, dose, spot)).tolist()


def _routers(case: Case) -> None:
    z, before = (case.random(LENGTH, case.subject.shape.experts, seed=seed) for seed in (1, 4))
    ours = case.effect(z, before, case.dose, case.place)
    for row, dose, spot, pair in case.rows(z, before):
        _equal(ours[row], case.twin(case.effect, *pair, dose, spot) if dose else pair[0])


def _prompts(case: Case) -> None:
    prompt = tuple(range(60, 90))
    for _, dose, spot, _ in case.rows():
        expected = case.twin(case.effect, prompt, dose, spot.stream, case.subject) if dose else prompt
        assert case.effect(prompt, dose, spot.stream, case.subject) == expected


def _modules(case: Case) -> None:
    for path in case.effect.paths(case.subject):
        outputs, inputs = case.subject.reading().linear_shape(path)
        x, y = case.random(LENGTH, inputs), case.random(LENGTH, outputs, seed=2)
        ours = case.effect(path, x, y, case.dose)
        for row, dose, _, pair in case.rows(x, y):
            _equal(ours[row], case.twin(case.effect, path, *pair, dose) if dose else pair[1])


def _choices(case: Case) -> None:
    own, undosed, tokens = [-2.0, -1.5, -1.7, -1.5], [-3.0, -3.5, -2.5, -4.0], ((65, 66), (65, 67, 68), (70,), (70, 71))
    value = case.effect.value(k.Evidence(torch.tensor(own), torch.tensor(undosed), tokens))
    assert int(value.argmax()) == case.twin(case.effect, own, undosed, tokens)


COMPARISONS: dict[type[Effect], Callable[[Case], None]] = {
    k.LogitEffect: _logits,
    k.ShiftEffect: _shifts,
    k.StreamEffect: _streams,
    k.QueryEffect: _queries,
    k.HeadEffect: _heads,
    k.ScoreEffect: _scores,
    k.WeightEffect: _weights,
    k.CacheEffect: _cache,
    k.EvictionEffect: _evictions,
    k.RouterEffect: _routers,
    k.PromptEffect: _prompts,
    k.ModuleEffect: _modules,
    k.ChoiceEffect: _choices,
}


def compare(name: str, effect: Effect, twin: Callable[..., object], subject: Subject) -> None:
    """Assert that an effect and its twin agree at every tested dose: all rows at once, against one row at a time."""
    doses = _doses(EFFECTS[name])
    case = Case(effect, twin, subject, doses, _place(subject, len(doses), 1, None))
    kinds = [kind for kind in COMPARISONS if isinstance(effect, kind)]
    assert kinds, f"no comparison is known for the kind of {name}"
    COMPARISONS[kinds[0]](case)
