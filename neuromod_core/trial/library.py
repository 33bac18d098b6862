"""Everything written that a study uses: packs, scales, frames, contexts, story openers, passages."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from neuromod_core.instruments import (
    Check,
    Frames,
    Opener,
    Passage,
    Scale,
    Vignette,
    load_frames,
    load_openers,
    load_passages,
    load_scales,
    load_validity,
    load_vignettes,
)
from neuromod_core.kernel.errors import ConfigError
from neuromod_core.kernel.register import unknown
from neuromod_core.kernel.types import digest, plain
from neuromod_core.packs import Pack, load_packs, parse_pack

T = TypeVar("T")
_LEVEL = re.compile(r"\d+(\.\d+)?")


@dataclass(frozen=True)
class Library:
    """The texts of the project, read once. sources: the packs as their files spell them."""

    packs: Mapping[str, Pack]
    sources: Mapping[str, str]
    scales: Mapping[str, Scale]
    frames: Frames
    checks: tuple[Check, ...]
    vignettes: tuple[Vignette, ...]
    openers: tuple[Opener, ...]
    passages: tuple[Passage, ...]
    contrast: Path
    lexicon: Path

    def pack(self, name: str) -> Pack:
        """Return the pack called `name`; `lsd@0.5` is the pack `lsd` at half its dose.

        Raises:
            UnknownName: there is no such pack.
            ConfigError: what follows the @ is no positive number; PackError: that much of it is out of range.
        """
        if name in self.packs:
            return self.packs[name]
        return replace(parse_pack(self.source(name), name), name=name)

    def source(self, name: str) -> str:
        """Return the pack called `name` as text, complete in itself.

        name@d: kl d where the pack asks for a KL divergence (nats are its dose), else every dose times d.
        """
        base, at, level = name.partition("@")
        if base not in self.packs:
            raise unknown("pack", base, dict(self.packs))
        if not at:
            return self.sources[base]
        if not _LEVEL.fullmatch(level) or not float(level):
            raise ConfigError(f"Arm {name!r}: {level!r} is no dose factor; allowed is a positive number, {base}@0.5.")
        return _at(self.sources[base], float(level))

    def scale(self, name: str) -> Scale:
        """Return the scale called `name`."""
        if name not in self.scales:
            raise unknown("scale", name, dict(self.scales))
        return self.scales[name]

    def administered(self, names: Sequence[str], primary: str, foil_items: int) -> tuple[Scale, ...]:
        """Return the scales as a study administers them: the primary one whole, `foil_items` of every other one.

        The items of a short form are spread evenly over the scale, so that every part of it is represented; see
        `Scale.short`.
        """
        return tuple(self.scale(name) if name == primary else self.scale(name).short(foil_items) for name in names)

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
            "validity": digest(plain(self.checks)),
            "vignettes": digest(plain(self.vignettes)),
            **{f"scale {name}": digest(plain(scale)) for name, scale in self.scales.items()},
        }


def _at(text: str, level: float) -> str:
    """Return the text of a pack with its dose times `level`."""
    body = json.loads(text)
    if body.get("kl") is not None:
        body["kl"] *= level
    else:
        for entry in body["effects"]:
            entry["weight"] *= level
    return json.dumps(body, indent=2, ensure_ascii=False) + "\n"


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
        checks=load_validity(texts / "instruments" / "validity.yaml"),
        vignettes=load_vignettes(texts / "vignettes" / "vignettes.jsonl"),
        openers=load_openers(texts / "stories" / "openers.yaml"),
        passages=load_passages(texts / "neutral" / "passages.jsonl"),
        contrast=texts / "contrast",
        lexicon=texts / "lexicon",
    )
