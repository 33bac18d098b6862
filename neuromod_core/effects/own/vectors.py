"""Directions from files: a steering vector of any origin, and features of a sparse autoencoder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from neuromod_core.effects.base import EFFECTS, in_range
from neuromod_core.effects.kinds import ShiftEffect, StreamEffect
from neuromod_core.effects.own.files import fits, has_layer, named, tensors, verify
from neuromod_core.effects.subject import Place, Subject
from neuromod_core.kernel.errors import MissingVector


@EFFECTS.add("vector_file")
@dataclass(frozen=True, kw_only=True)
class VectorFile(ShiftEffect):
    """Push along a vector from a file (d > 0) or against it (d < 0):  h' = h + relative d m v / |v|.

    `path` is a .npy or .safetensors file with one vector (width,) or one per block (depth, width), `key` the tensor's
    name where a file has several, m the stream's median norm at `layer`. `sha256`, if given, is checked. The file's
    vector is not validated here.  Source: this project; the addition as Rimsky et al. 2024.
    """

    path: str
    layer: int
    key: str = ""
    relative: float = 0.5
    sha256: str = ""
    family = "own"
    observable, moves = "own_vector_projection", 1

    def __post_init__(self) -> None:
        in_range(self.relative, 0.001, 2.0, "vector_file: relative")

    def check(self, subject: Subject) -> None:
        """Raise one clear error when file, layer or width do not fit the model."""
        has_layer(self.layer, subject.shape.depth, "vector_file", subject.name)
        verify(self.path, self.sha256, "vector_file")
        self.shifts(subject)

    def shifts(self, subject: Subject) -> Sequence[tuple[int, Tensor]]:
        """See `ShiftEffect.shifts`."""
        found = named(self.path, self.key, "vector_file")
        if found.dim() not in (1, 2) or (found.dim() == 2 and len(found) != subject.shape.depth):
            allowed = f"(width,) or ({subject.shape.depth}, width)"
            raise MissingVector(f"vector_file: {self.path!r} has shape {tuple(found.shape)}; allowed is {allowed}.")
        fits(found.shape[-1], subject.shape.width, f"vector_file: {self.path!r}", subject.name)
        vector = found[self.layer] if found.dim() == 2 else found
        if not float(vector.norm()) > 0:
            raise MissingVector(f"vector_file: {self.path!r} holds no direction: its norm is {float(vector.norm()):g}.")
        return ((self.layer, self.relative * subject.stream_norm(self.layer) * vector / vector.norm()),)


def _decoder(path: str, feature: int, subject: Subject, who: str) -> Tensor:
    """Return the decoder direction (width,) of a feature: a row of `W_dec` (features, width)."""
    decoder = named(path, "W_dec", who)
    if decoder.dim() != 2:
        shape = tuple(decoder.shape)
        raise MissingVector(f"{who}: W_dec of {path!r} has shape {shape}; allowed is (features, width).")
    fits(decoder.shape[-1], subject.shape.width, f"{who}: W_dec of {path!r}", subject.name)
    if not 0 <= feature < len(decoder):
        raise MissingVector(f"{who} asks for feature {feature}; {path!r} has 0 to {len(decoder) - 1}.")
    return decoder[feature]


@EFFECTS.add("sae_feature")
@dataclass(frozen=True, kw_only=True)
class SAEFeature(ShiftEffect):
    """Add a feature of a sparse autoencoder (d > 0) or take it away (d < 0):  h' = h + d scale W_dec[feature].

    `path` is a .safetensors file with `W_dec` (features, width), made for the output of block `layer`; `scale` is in
    units of the feature's activation. `sha256`, if given, is checked.  Source: Templeton et al. 2024.
    """

    path: str
    layer: int
    feature: int
    scale: float = 5.0
    sha256: str = ""
    family = "own"
    observable, moves = "sae_projection", 1

    def __post_init__(self) -> None:
        in_range(self.scale, 1e-3, 1e5, "sae_feature: scale (activation)")

    def check(self, subject: Subject) -> None:
        """Raise one clear error when file, layer, feature or width do not fit the model."""
        has_layer(self.layer, subject.shape.depth, "sae_feature", subject.name)
        verify(self.path, self.sha256, "sae_feature")
        _decoder(self.path, self.feature, subject, "sae_feature")

    def shifts(self, subject: Subject) -> Sequence[tuple[int, Tensor]]:
        """See `ShiftEffect.shifts`."""
        return ((self.layer, self.scale * _decoder(self.path, self.feature, subject, "sae_feature")),)


@EFFECTS.add("sae_clamp")
@dataclass(frozen=True, kw_only=True)
class SAEClamp(StreamEffect):
    """Move a feature of a sparse autoencoder towards a fixed activation:  h' = h + d (target - a) W_dec[feature],
    a = relu((h - b_dec) . W_enc[:, feature] + b_enc[feature]),  token by token.

    d = 1 puts it there, `target` 0 silences it. The file holds W_enc (width, features), W_dec (features, width), b_enc
    and b_dec, made for the output of block `layer`, with plain relu.  Source: Templeton et al. 2024 (clamping).
    """

    path: str
    layer: int
    feature: int
    target: float = 5.0
    sha256: str = ""
    family = "own"
    doses = (0.0, 1.0)
    observable, moves = "sae_distance_to_target", -1

    def __post_init__(self) -> None:
        in_range(self.target, 0.0, 1e5, "sae_clamp: target (activation)")

    def check(self, subject: Subject) -> None:
        """Raise one clear error when file, layer, feature or width do not fit the model."""
        has_layer(self.layer, subject.shape.depth, "sae_clamp", subject.name)
        verify(self.path, self.sha256, "sae_clamp")
        decoder = _decoder(self.path, self.feature, subject, "sae_clamp")
        features = len(named(self.path, "W_dec", "sae_clamp"))
        shapes = {"W_enc": (len(decoder), features), "b_enc": (features,), "b_dec": (len(decoder),)}
        for key, shape in shapes.items():
            if (found := tuple(named(self.path, key, "sae_clamp").shape)) != shape:
                raise MissingVector(f"sae_clamp: {key} of {self.path!r} has shape {found}; W_dec asks for {shape}.")

    def layers(self, subject: Subject) -> Sequence[int]:
        """See `StreamEffect.layers`."""
        return (self.layer,)

    def edit(self, hidden: Tensor, dose: Tensor, place: Place) -> Tensor:
        """See `StreamEffect.edit`."""
        sae = tensors(self.path, "sae_clamp")
        parts = (sae["W_enc"][:, self.feature], sae["W_dec"][self.feature], sae["b_enc"][self.feature], sae["b_dec"])
        encode, decode, bias, centre = (part.to(hidden.device) for part in parts)
        h = hidden.float()
        active = torch.relu((h - centre) @ encode + bias)
        return h + (dose[:, None] * (self.target - active))[..., None] * decode
