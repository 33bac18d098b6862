"""Adding what two texts differ in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from neuromod_core.effects.activation.depth import block_at
from neuromod_core.effects.base import EFFECTS, in_range
from neuromod_core.effects.input.reading import once
from neuromod_core.effects.kinds import ShiftEffect
from neuromod_core.effects.subject import Subject
from neuromod_core.kernel.errors import NotOnThisModel, OutOfRange


@EFFECTS.add("activation_additions")
@dataclass(frozen=True, kw_only=True)
class ActivationAdditions(ShiftEffect):
    """Push towards what one text is like (d > 0) or what the other is like (d < 0):  h' = h + relative d m a / |a|,
    a = mean stream of `plus` - mean stream of `minus`.

    The streams are read off the undosed model at the block at the share `layer_share` of depth, averaged over tokens;
    m is the stream's median norm there. No contrast set is needed, and nothing is validated.
    Source: Turner et al. 2023 (ActAdd), who add token by token.
    """

    plus: str = "Everything around me is calm, clear and unhurried."
    minus: str = "Everything around me is tense, noisy and rushed."
    relative: float = 0.5
    layer_share: float = 0.5
    family = "activation"
    observable, moves = "added_projection", 1

    def __post_init__(self) -> None:
        in_range(self.relative, 0.001, 2.0, "activation_additions: relative")
        in_range(self.layer_share, 0.0, 1.0, "activation_additions: layer_share (of depth)")
        if self.plus == self.minus:
            raise OutOfRange(f"activation_additions: plus and minus are both {self.plus!r}; allowed are two texts.")

    def check(self, subject: Subject) -> None:
        """Raise NotOnThisModel without a tokenizer or with a text of one token, MissingVector without stream norms."""
        subject.stream_norm(block_at(subject.shape, self.layer_share))
        for text in (self.plus, self.minus):
            if (count := len(subject.reading().encode(text))) < 2:
                raise NotOnThisModel(
                    f"activation_additions: {text!r} has {count} tokens on {subject.name}; at least 2."
                )

    def shifts(self, subject: Subject) -> Sequence[tuple[int, Tensor]]:
        """See `ShiftEffect.shifts`."""
        reader, layer = subject.reading(), block_at(subject.shape, self.layer_share)
        plus, minus = (
            once(reader, ("mean_stream", text), lambda text=text: reader.mean_stream(text))  # type: ignore[misc]
            for text in (self.plus, self.minus)
        )
        difference = plus[layer].float() - minus[layer].float()
        return ((layer, self.relative * subject.stream_norm(layer) * difference / difference.norm()),)
