"""Binding packs to rows: equal effects of different rows become one tensor operation with one dose per row."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TypeVar

import torch
from torch import Tensor

from neuromod_core.effects import Effect, Step, Stream, Subject
from neuromod_core.effects.kinds import (
    CacheEffect,
    EvictionEffect,
    HeadEffect,
    LogitEffect,
    ModuleEffect,
    QueryEffect,
    ScoreEffect,
    ShiftEffect,
    StreamEffect,
    WeightEffect,
)
from neuromod_core.effects.subject import Window
from neuromod_core.packs.pack import Pack

E = TypeVar("E", bound=Effect)
Pairs = tuple[tuple[E, Tensor], ...]
Spans = tuple[Window, int]
EDITS_ATTENTION = (ScoreEffect, WeightEffect, CacheEffect, EvictionEffect)


@dataclass(frozen=True, eq=False)
class Binding:
    """What every row of a batch receives, as tables with one line per row.

    effects: all effects in stage order, each with its doses (rows,).
    shifts: layer -> ((span of tokens, vectors (rows, width)), ...): the sums of all additive vectors there.
    gains, gates: (rows, depth, heads) factors on queries and on head outputs; None when no row has any.
    """

    subject: Subject
    streams: tuple[Stream, ...]
    effects: Pairs[Effect]
    shifts: Mapping[int, tuple[tuple[Spans, Tensor], ...]]
    gains: Tensor | None
    gates: Tensor | None
    _kinds: dict[type, object] = field(default_factory=dict, init=False, repr=False)

    @property
    def rows(self) -> int:
        """Number of rows."""
        return len(self.streams)

    def of(self, kind: type[E]) -> Pairs[E]:
        """Return the effects of a kind in stage order, each with its doses (rows,)."""
        if kind not in self._kinds:
            self._kinds[kind] = tuple((effect, dose) for effect, dose in self.effects if isinstance(effect, kind))
        found: Pairs[E] = self._kinds[kind]  # type: ignore[assignment]
        return found

    @cached_property
    def edits(self) -> Mapping[int, Pairs[StreamEffect]]:
        """Layer -> the effects on the residual stream there (-1: the embedding)."""
        by_layer: dict[int, list[tuple[StreamEffect, Tensor]]] = defaultdict(list)
        for effect, dose in self.of(StreamEffect):
            for layer in effect.layers(self.subject):
                by_layer[layer].append((effect, dose))
        return {layer: tuple(pairs) for layer, pairs in by_layer.items()}

    @cached_property
    def modules(self) -> Mapping[str, Pairs[ModuleEffect]]:
        """Path -> the effects on the linear module there."""
        by_path: dict[str, list[tuple[ModuleEffect, Tensor]]] = defaultdict(list)
        for effect, dose in self.of(ModuleEffect):
            for path in effect.paths(self.subject):
                by_path[path].append((effect, dose))
        return {path: tuple(pairs) for path, pairs in by_path.items()}

    @cached_property
    def watched(self) -> frozenset[int]:
        """Blocks whose early logits some sampler effect reads."""
        layers = (effect.early(self.subject) for effect, _ in self.of(LogitEffect))
        return frozenset(layer for layer in layers if layer is not None)

    @cached_property
    def touched(self) -> Tensor:
        """Indices of the rows whose attention must be computed in the open."""
        doses = [dose for effect, dose in self.effects if isinstance(effect, EDITS_ATTENTION)]
        return _any_dose(doses, self.rows).nonzero().flatten()

    @cached_property
    def open(self) -> Binding:
        """The binding of the touched rows; without any, it holds no effect."""
        taken = self.take(self.touched)
        return taken if len(self.touched) else replace(taken, effects=())

    @cached_property
    def sampled(self) -> Tensor:
        """(rows,) bool: whether some effect edits the row's logits."""
        return _any_dose([dose for _, dose in self.of(LogitEffect)], self.rows)

    def edit_logits(
        self,
        logits: Tensor,
        index: Tensor,
        history: Tensor,
        prompt: Tensor,
        early: Mapping[int, Tensor] | None = None,
    ) -> Tensor:
        """Return next-token logits (rows, vocabulary) after every row's sampler effects, in stage order.

        index, history, prompt, early: as in `Step`.
        """
        step, effects = Step(index, history, self.subject, prompt, self.streams, early or {}), self.of(LogitEffect)
        edited = logits.clone() if effects else logits
        for effect, dose in effects:
            rows = dose.nonzero()[:, 0]
            if len(rows) == self.rows:
                edited = effect.edit(edited, dose, step)
            elif len(rows):
                edited[rows] = effect.edit(edited[rows], dose[rows], step.take(rows)).to(edited.dtype)
        return edited

    def take(self, rows: Sequence[int] | Tensor) -> Binding:
        """Return the binding of the rows at these indices; an index may repeat."""
        index = torch.as_tensor(rows, dtype=torch.long)
        return Binding(
            subject=self.subject,
            streams=tuple(self.streams[row] for row in index.tolist()),
            effects=tuple((effect, dose[index]) for effect, dose in self.effects),
            shifts={at: tuple((span, table[index]) for span, table in tables) for at, tables in self.shifts.items()},
            gains=None if self.gains is None else self.gains[index],
            gates=None if self.gates is None else self.gates[index],
        )


def _any_dose(doses: Sequence[Tensor], rows: int) -> Tensor:
    """Return (rows,) bool: whether any of the doses is not zero."""
    if not doses:
        return torch.zeros(rows, dtype=torch.bool)
    return torch.stack([dose != 0 for dose in doses]).any(0)


def _order(pair: tuple[Effect, Tensor]) -> tuple[int, str]:
    """Stage first, then a fixed order within a stage, so that a pack's list order changes nothing, not one bit."""
    return pair[0].stage, repr(pair[0])


def _doses(packs: Sequence[Pack], device: torch.device) -> Pairs[Effect]:
    table: dict[Effect, Tensor] = defaultdict(lambda: torch.zeros(len(packs)))
    for row, pack in enumerate(packs):
        for item in pack.effects:
            table[item.effect][row] += item.dose
    return tuple(sorted(((effect, dose.to(device)) for effect, dose in table.items()), key=_order))


def _shifts(
    effects: Pairs[Effect], subject: Subject, device: torch.device
) -> Mapping[int, tuple[tuple[Spans, Tensor], ...]]:
    tables: dict[int, dict[Spans, Tensor]] = defaultdict(dict)
    for effect, dose in effects:
        if isinstance(effect, ShiftEffect):
            for layer, vector in effect.shifts(subject):
                added = dose[:, None] * vector.to(device)[None, :]
                there = tables[layer]
                there[effect.spans] = there[effect.spans] + added if effect.spans in there else added
    return {layer: tuple(spans.items()) for layer, spans in tables.items()}


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
        NotOnThisModel: when an effect means nothing on it.
    """
    where = device or torch.device("cpu")
    for pack in dict.fromkeys(packs):
        pack.check(subject)
    effects, owned = _doses(packs, where), tuple(streams)
    return Binding(
        subject=subject,
        streams=owned,
        effects=effects,
        shifts=_shifts(effects, subject, where),
        gains=_product(effect.gain(dose, subject) for effect, dose in effects if isinstance(effect, QueryEffect)),
        gates=_product(effect.gate(dose, subject, owned) for effect, dose in effects if isinstance(effect, HeadEffect)),
    )
