"""Binding packs to rows: equal effects of different rows become one tensor operation with one dose per row."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, TypeVar

import torch
from torch import Tensor

from neuromod_core.effects import Effect, Step, Stream, Subject
from neuromod_core.effects.base import HeadEffect, LogitEffect, QueryEffect, ScoreEffect, ShiftEffect, StreamEffect
from neuromod_core.packs.pack import Pack

Phase = Literal["prompt", "response"]
PHASES: tuple[Phase, ...] = ("prompt", "response")
E = TypeVar("E", bound=Effect)
Doses = Mapping[Effect, Tensor]


@dataclass(frozen=True, eq=False)
class Binding:
    """What every row of a batch receives, as tables with one line per row.

    logits, scores: effects in stage order with their doses (rows,).
    shifts: phase -> layer -> (rows, width), the sum of all additive vectors there.
    edits: layer -> effects on the residual stream (layer -1: the embedding).
    gains, gates: (rows, depth, heads) factors on queries and on head outputs; None when no row has any.
    """

    subject: Subject
    streams: tuple[Stream, ...]
    logits: tuple[tuple[LogitEffect, Tensor], ...]
    shifts: Mapping[Phase, Mapping[int, Tensor]]
    edits: Mapping[int, tuple[tuple[StreamEffect, Tensor], ...]]
    gains: Tensor | None
    gates: Tensor | None
    scores: tuple[tuple[ScoreEffect, Tensor], ...]

    @property
    def rows(self) -> int:
        """Number of rows."""
        return len(self.streams)

    def edit_logits(self, logits: Tensor, index: Tensor, history: Tensor) -> Tensor:
        """Return next-token logits (rows, vocabulary) after every row's sampler effects, in stage order."""
        step = Step(index=index, history=history, subject=self.subject)
        for effect, dose in self.logits:
            logits = effect(logits, dose, step)
        return logits

    @cached_property
    def scored_rows(self) -> Tensor:
        """Indices of the rows whose attention scores some effect edits."""
        return _any_dose([dose for _, dose in self.scores], self.rows).nonzero().flatten()

    @cached_property
    def sampled(self) -> Tensor:
        """(rows,) bool: whether some effect edits the row's logits."""
        return _any_dose([dose for _, dose in self.logits], self.rows)

    def take(self, rows: Sequence[int] | Tensor) -> Binding:
        """Return the binding of the rows at these indices; an index may repeat."""
        index = torch.as_tensor(rows, dtype=torch.long)
        return Binding(
            subject=self.subject,
            streams=tuple(self.streams[row] for row in index.tolist()),
            logits=tuple((effect, dose[index]) for effect, dose in self.logits),
            shifts={phase: {at: table[index] for at, table in shift.items()} for phase, shift in self.shifts.items()},
            edits={at: tuple((effect, dose[index]) for effect, dose in pairs) for at, pairs in self.edits.items()},
            gains=None if self.gains is None else self.gains[index],
            gates=None if self.gates is None else self.gates[index],
            scores=tuple((effect, dose[index]) for effect, dose in self.scores),
        )


def _any_dose(doses: Sequence[Tensor], rows: int) -> Tensor:
    """Return (rows,) bool: whether any of the doses is not zero."""
    if not doses:
        return torch.zeros(rows, dtype=torch.bool)
    return torch.stack([dose != 0 for dose in doses]).any(0)


def _order(effect: Effect) -> tuple[int, str]:
    """Stage first, then a fixed order within a stage, so that a pack's list order changes nothing, not one bit."""
    return effect.stage, repr(effect)


def _of_kind(doses: Doses, kind: type[E]) -> tuple[tuple[E, Tensor], ...]:
    chosen = [(effect, dose) for effect, dose in doses.items() if isinstance(effect, kind)]
    return tuple(sorted(chosen, key=lambda pair: _order(pair[0])))


def _doses(packs: Sequence[Pack], device: torch.device) -> Doses:
    table: dict[Effect, Tensor] = defaultdict(lambda: torch.zeros(len(packs)))
    for row, pack in enumerate(packs):
        for item in pack.effects:
            table[item.effect][row] += item.dose
    return {effect: dose.to(device) for effect, dose in table.items()}


def _shifts(doses: Doses, phase: Phase, subject: Subject, device: torch.device) -> Mapping[int, Tensor]:
    tables: dict[int, Tensor] = {}
    for effect, dose in _of_kind(doses, ShiftEffect):
        if effect.acts_in(phase):
            layer, vector = effect.shift(subject)
            added = dose[:, None] * vector.to(device)[None, :]
            tables[layer] = tables[layer] + added if layer in tables else added
    return tables


def _edits(doses: Doses, subject: Subject) -> Mapping[int, tuple[tuple[StreamEffect, Tensor], ...]]:
    by_layer: dict[int, list[tuple[StreamEffect, Tensor]]] = defaultdict(list)
    for effect, dose in _of_kind(doses, StreamEffect):
        by_layer[effect.layer(subject)].append((effect, dose))
    return {layer: tuple(pairs) for layer, pairs in by_layer.items()}


def _product(factors: Iterable[Tensor]) -> Tensor | None:
    total: Tensor | None = None
    for factor in factors:
        total = factor if total is None else total * factor
    return total


def bind(
    packs: Sequence[Pack],
    streams: Sequence[Stream],
    subject: Subject,
    *,
    device: torch.device | None = None,
) -> Binding:
    """Return the binding of one pack and one stream per row, on a model with this shape and calibration.

    Raises:
        MissingVector, UnknownName: when a pack asks for what was not calibrated on `subject`.
    """
    where = device or torch.device("cpu")
    for pack in dict.fromkeys(packs):
        pack.check(subject)
    doses, owned = _doses(packs, where), tuple(streams)
    return Binding(
        subject=subject,
        streams=owned,
        logits=_of_kind(doses, LogitEffect),
        shifts={phase: _shifts(doses, phase, subject, where) for phase in PHASES},
        edits=_edits(doses, subject),
        gains=_product(effect.gain(dose, subject) for effect, dose in _of_kind(doses, QueryEffect)),
        gates=_product(effect.gate(dose, subject, owned) for effect, dose in _of_kind(doses, HeadEffect)),
        scores=_of_kind(doses, ScoreEffect),
    )
