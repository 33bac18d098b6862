"""What an effect may know about where it acts: the model's shape, its calibration, the place and the step.

Rows come first in every tensor. Positions count tokens from 0 and are negative at left padding.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal, Protocol

import numpy as np
import torch
from torch import Tensor

from neuromod_core.kernel.errors import MissingVector, NoSuchLayer, NotOnThisModel
from neuromod_core.kernel.register import unknown
from neuromod_core.kernel.rng import key_of, normal_at, uniform_at

Window = Literal["both", "prompt", "response"]
LIST_OF_HEADS = re.compile(r"\d+\.\d+(, ?\d+\.\d+)*")


@dataclass(frozen=True)
class Shape:
    """Counts an effect needs to size its tables.

    experts, chosen: experts per block and how many a token takes; 0 on dense models.
    attention: whether attention scores can be reached (through the attention interface of transformers).
    """

    depth: int
    heads: int
    width: int
    vocabulary: int
    kv_heads: int = 0
    experts: int = 0
    chosen: int = 0
    attention: bool = True


class Reader(Protocol):
    """What an effect may ask of the undosed model and its tokenizer: facts that stay as they are while it acts."""

    @property
    def stop_tokens(self) -> frozenset[int]:
        """The tokens that end a response."""

    def encode(self, text: str) -> tuple[int, ...]:
        """Return the tokens of a text, without special tokens."""

    def word_vectors(self) -> Tensor:
        """Return the token embeddings (vocabulary, width)."""

    def token_class(self, name: str) -> Tensor:
        """Return which tokens belong to a class, (vocabulary,) bool."""

    def mean_stream(self, text: str) -> Tensor:
        """Return the residual stream (depth, width), averaged over the tokens of a text but the first."""

    def linear_shape(self, path: str) -> tuple[int, int]:
        """Return (outputs, inputs) of the linear module at a dotted path; raise NotOnThisModel when there is none."""


@dataclass(frozen=True, eq=False)
class Vector:
    """A calibrated steering vector.

    layer: the block whose output it is added to.  direction: (width,), unit norm, positive pole up.
    stream_norm: median norm of the residual stream there, token 0 excluded: the unit of a relative dose.
    valid: whether it passed its own validation (leave-topics-out permutation test).
    midpoint: projection on the direction halfway between the two poles, where a probe changes its mind.
    shuffled: (draws, width) unit vectors made from the same pairs with labels shuffled: shams of the same covariance.
    """

    name: str
    layer: int
    direction: Tensor
    stream_norm: float
    valid: bool
    midpoint: float = 0.0
    shuffled: Tensor | None = None


@dataclass(frozen=True, eq=False)
class Subject:
    """One model as effects see it: its shape and what was calibrated on it.

    head_sets: name -> (depth, heads) bool.  lexicons: name -> token ids of a word list.
    stream_norms: (depth,) median norms of the residual stream, for directions that were not calibrated here.
    """

    name: str
    shape: Shape
    vectors: Mapping[str, Vector] = field(default_factory=dict)
    head_sets: Mapping[str, Tensor] = field(default_factory=dict)
    lexicons: Mapping[str, Tensor] = field(default_factory=dict)
    stream_norms: Tensor | None = None
    reader: Reader | None = None

    def vector(self, name: str) -> Vector:
        """Return the vector called `name`; raise MissingVector when there is none, or it failed its validation."""
        if name not in self.vectors:
            known = ", ".join(sorted(self.vectors)) or "none"
            raise MissingVector(f"Steering asks for vector {name!r}; calibrated on {self.name}: {known}.")
        if not self.vectors[name].valid:
            raise MissingVector(f"Steering asks for vector {name!r}, which failed its validation on {self.name}.")
        return self.vectors[name]

    def head_set(self, name: str) -> Tensor:
        """Return the head set called `name`, (depth, heads) bool: "all", a calibrated set, or a list of layer.head,
        counted from 0, such as "17.3,18.6".

        Raises:
            MissingVector: when there is no set of that name, or it is empty.
            NoSuchLayer: when a list names a head that the model does not have.
        """
        if LIST_OF_HEADS.fullmatch(name):
            return self._listed(name)
        if name == "all":
            return torch.ones(self.shape.depth, self.shape.heads, dtype=torch.bool)
        if name not in self.head_sets or not bool(self.head_sets[name].any()):
            known = ", ".join(sorted(key for key, value in self.head_sets.items() if bool(value.any()))) or "none"
            raise MissingVector(f"An effect asks for head set {name!r}; calibrated on {self.name}: {known}.")
        return self.head_sets[name]

    def _listed(self, heads: str) -> Tensor:
        depth, count = self.shape.depth, self.shape.heads
        chosen = torch.zeros(depth, count, dtype=torch.bool)
        for item in heads.split(","):
            layer, head = map(int, item.strip().split("."))
            if layer >= depth or head >= count:
                raise NoSuchLayer(
                    f"An effect asks for head {item.strip()}; {self.name} has layers 0 to {depth - 1} "
                    f"of heads 0 to {count - 1}."
                )
            chosen[layer, head] = True
        return chosen

    def lexicon(self, name: str) -> Tensor:
        """Return the token ids of the word list called `name`."""
        if name not in self.lexicons:
            raise unknown("lexicon", name, dict(self.lexicons))
        return self.lexicons[name]

    def stream_norm(self, layer: int) -> float:
        """Return the median norm of the residual stream after block `layer`; raise MissingVector when not measured."""
        if self.stream_norms is None:
            raise MissingVector(
                f"An effect asks for the residual stream's norm, which was not measured on {self.name}."
            )
        return float(self.stream_norms[layer])

    def reading(self) -> Reader:
        """Return the reader; raise NotOnThisModel when there is none (a subject without its model)."""
        if self.reader is None:
            raise NotOnThisModel(f"An effect asks for the tokenizer of {self.name}, which is not at hand.")
        return self.reader


@dataclass(frozen=True)
class Stream:
    """The named randomness a row owns: two rows with equal streams draw equal numbers."""

    root: int
    name: str


def _keys(streams: tuple[Stream, ...], purpose: str) -> np.ndarray:
    found = [key_of(stream.root, stream.name, purpose) for stream in streams]
    return np.array(found, dtype=np.uint32).reshape(-1, 2)


def _drawn(
    draw: Callable[..., np.ndarray], streams: tuple[Stream, ...], purpose: str, index: Tensor, count: int
) -> Tensor:
    values = draw(_keys(streams, purpose), index.cpu().numpy().astype(np.int64), count)
    return torch.from_numpy(values).to(index.device)


def uniforms(streams: tuple[Stream, ...], purpose: str, index: Tensor, count: int) -> Tensor:
    """Return uniforms (n, m, count): value j belongs to (row's stream, purpose, index (n, m)) and to nothing else."""
    return _drawn(uniform_at, streams, purpose, index, count)


def normals(streams: tuple[Stream, ...], purpose: str, index: Tensor, count: int) -> Tensor:
    """Return standard normals (n, m, count), addressed as those of `uniforms`."""
    return _drawn(normal_at, streams, purpose, index, count)


@dataclass(frozen=True, eq=False)
class Step:
    """Where a logit is: token count within the response, and the text so far.

    index: (n,) tokens generated before this one.  history: (n, t) earlier response tokens, -1 where there is none.
    prompt: (n, p) tokens of the prompt, -1 where there is none.  streams: the randomness of the n rows.
    early: block -> logits (n, vocabulary) read off its output, for the blocks that effects asked for.
    """

    index: Tensor
    history: Tensor
    subject: Subject
    prompt: Tensor
    streams: tuple[Stream, ...] = ()
    early: Mapping[int, Tensor] = field(default_factory=dict)

    def take(self, rows: Tensor) -> Step:
        """Return the step of the rows at these indices."""
        return Step(
            index=self.index[rows],
            history=self.history[rows],
            subject=self.subject,
            prompt=self.prompt[rows],
            streams=tuple(self.streams[row] for row in rows.tolist()) if self.streams else (),
            early={layer: logits[rows] for layer, logits in self.early.items()},
        )


@dataclass(frozen=True, eq=False)
class Place:
    """Where a residual stream, an attention score or a router is.

    queries: (n, q) positions of the tokens being computed.  keys: (n, k) positions of the keys they see.
    start: (n,) position of the first token of the response: earlier tokens are read (prompt), later ones written.
    streams: the randomness of the n rows.
    entering: (n, q, width) what entered the block, where the effect acts on what leaves it.
    """

    layer: int
    queries: Tensor
    keys: Tensor
    start: Tensor
    streams: tuple[Stream, ...]
    subject: Subject
    entering: Tensor | None = None

    @property
    def distance(self) -> Tensor:
        """Tokens from query back to key, (n, 1, q, k); negative where the key lies ahead."""
        return (self.queries[:, :, None] - self.keys[:, None, :])[:, None]

    @property
    def written(self) -> Tensor:
        """(n, q) bool: whether the token belongs to the response."""
        return self.queries >= self.start[:, None]

    def inside(self, window: Window, after: int = 0) -> Tensor:
        """Return (n, q) bool: whether the token lies in a window, from the `after`-th token of the response on."""
        if window == "prompt":
            return ~self.written
        late = self.queries >= self.start[:, None] + after
        return late if window == "response" or after else torch.ones_like(late)

    def at(self, layer: int, entering: Tensor | None) -> Place:
        """Return the same place at another layer."""
        return replace(self, layer=layer, entering=entering)
