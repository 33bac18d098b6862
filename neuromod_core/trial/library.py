"""Everything written that a study uses: packs, scales, frames, contexts, story openers, passages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from neuromod_core.instruments import (
    Frames,
    Opener,
    Passage,
    Scale,
    Vignette,
    load_frames,
    load_openers,
    load_passages,
    load_scales,
    load_vignettes,
)
from neuromod_core.kernel.errors import ConfigError
from neuromod_core.kernel.register import unknown
from neuromod_core.kernel.types import digest, plain
from neuromod_core.packs import Pack, load_packs

T = TypeVar("T")


@dataclass(frozen=True)
class Library:
    """The texts of the project, read once. sources: the packs as their files spell them."""

    packs: Mapping[str, Pack]
    sources: Mapping[str, str]
    scales: Mapping[str, Scale]
    frames: Frames
    vignettes: tuple[Vignette, ...]
    openers: tuple[Opener, ...]
    passages: tuple[Passage, ...]
    contrast: Path
    lexicon: Path

    def pack(self, name: str) -> Pack:
        """Return the pack called `name`."""
        if name not in self.packs:
            raise unknown("pack", name, dict(self.packs))
        return self.packs[name]

    def scale(self, name: str) -> Scale:
        """Return the scale called `name`."""
        if name not in self.scales:
            raise unknown("scale", name, dict(self.scales))
        return self.scales[name]

    def administered(self, names: Sequence[str], primary: str, foil_items: int) -> tuple[Scale, ...]:
        """Return the scales as a study administers them: the primary one whole, `foil_items` of every other one.

        The items of a short form are spread evenly over the scale, so that every part of it is represented.
        """
        return tuple(self.scale(name) if name == primary else _short(self.scale(name), foil_items) for name in names)

    def vignette(self, name: str) -> Vignette:
        """Return the context called `name`."""
        return _by_id("vignette", name, {item.id: item for item in self.vignettes})

    def passage(self, name: str) -> Passage:
        """Return the neutral passage called `name`."""
        return _by_id("passage", name, {item.id: item for item in self.passages})

    def opener(self, name: str) -> Opener:
        """Return the story opener called `name`."""
        return _by_id("opener", name, {item.id: item for item in self.openers})

    def neutral(self) -> tuple[str, ...]:
        """Return the passages on which norms and entropies are calibrated; studies probe with the others."""
        return tuple(item.text for item in self.passages if item.split == "calibration")

    def fingerprints(self) -> Mapping[str, str]:
        """Return the digest of every text a study administers, by kind."""
        return {
            "frames": digest(plain(self.frames)),
            "openers": digest(plain(self.openers)),
            "passages": digest(plain(self.passages)),
            "vignettes": digest(plain(self.vignettes)),
            **{f"scale {name}": digest(plain(scale)) for name, scale in self.scales.items()},
        }


def _short(scale: Scale, count: int) -> Scale:
    last = len(scale.items) - 1
    if count > last:
        return scale
    chosen = {round(place * last / max(1, count - 1)) for place in range(count)}
    return replace(scale, items=tuple(item for place, item in enumerate(scale.items) if place in chosen))


def _by_id(kind: str, name: str, known: Mapping[str, T]) -> T:
    if name not in known:
        raise unknown(kind, name, dict(known))
    return known[name]


def load_library(root: Path) -> Library:
    """Read the project's texts below `root` (its `packs` and `datasets` folders).

    Raises:
        ConfigError: when a folder is missing; PackError, InstrumentError: for a file that is not as it must be.
    """
    for folder in ("packs", "datasets"):
        if not (root / folder).is_dir():
            raise ConfigError(f"There is no folder {folder!r} in {root}; run inside a checkout of the project.")
    texts = root / "datasets"
    return Library(
        packs=(packs := load_packs(root / "packs")),
        sources={name: (root / "packs" / f"{name}.json").read_text(encoding="utf-8") for name in packs},
        scales=load_scales(texts / "instruments"),
        frames=load_frames(texts / "instruments" / "frames.yaml"),
        vignettes=load_vignettes(texts / "vignettes" / "vignettes.jsonl"),
        openers=load_openers(texts / "stories" / "openers.yaml"),
        passages=load_passages(texts / "neutral" / "passages.jsonl"),
        contrast=texts / "contrast",
        lexicon=texts / "lexicon",
    )
