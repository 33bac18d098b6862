"""Effects on image generation with the parameters that published packs give them. All shares lie between 0 and 1."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import ClassVar

from neuromod_core.effects.base import EFFECTS, in_range
from neuromod_core.effects.kinds import ImageEffect


@dataclass(frozen=True, kw_only=True)
class Picture(ImageEffect):
    """An effect on images whose numbers are shares.  name: what messages call it."""

    name: ClassVar[str]
    moves = 1

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            if isinstance(value := getattr(self, field.name), float):
                in_range(value, 0.0, 1.0, f"{self.name}: {field.name}")


@EFFECTS.add("color_bias")
@dataclass(frozen=True, kw_only=True)
class ColorBias(Picture):
    """Pull colours towards a palette (d > 0) or away from it (d < 0):  colour' = colour + d share (palette - colour).

    Source: visual packs published with neuromod-llm-poc (2026).
    """

    color_palette: str = "enhanced_natural"
    saturation_boost: float = 0.3
    contrast_boost: float = 0.0
    hue_shift_rate: float = 0.0
    color_bleeding: float = 0.0
    chromatic_aberration: float = 0.0
    warmth_enhancement: float = 0.0
    natural_tones: float = 0.0
    spiritual_colors: float = 0.0
    depth_enhancement: float = 0.0
    name = "color_bias"
    observable = "image_saturation"


@EFFECTS.add("style_transfer")
@dataclass(frozen=True, kw_only=True)
class StyleTransfer(Picture):
    """Pull texture towards a style (d > 0) or away from it (d < 0):  texture' = texture + d share (style - texture).

    Source: visual packs published with neuromod-llm-poc (2026).
    """

    style: str = "organic_natural"
    pattern_density: float = 0.0
    symmetry_enhancement: float = 0.0
    morphing_rate: float = 0.0
    pattern_flow: float = 0.0
    texture_breathing: float = 0.3
    fractal_nature: float = 0.0
    pattern_enhancement: float = 0.0
    geometric_patterns: float = 0.0
    spiritual_symbols: float = 0.0
    sacred_proportions: float = 0.0
    name = "style_transfer"
    observable = "image_style_likeness"


@EFFECTS.add("composition_bias")
@dataclass(frozen=True, kw_only=True)
class CompositionBias(Picture):
    """Pull the layout towards a scheme (d > 0) or away from it (d < 0):  layout' = layout + d share (scheme - layout).

    Source: visual packs published with neuromod-llm-poc (2026).
    """

    composition_type: str = "natural_harmony"
    depth_enhancement: float = 0.0
    perspective_distortion: float = 0.0
    curvature_enhancement: float = 0.0
    organic_symmetry: float = 0.0
    organic_balance: float = 0.4
    nature_connection: float = 0.0
    golden_ratio: float = 0.0
    spiritual_balance: float = 0.0
    name = "composition_bias"
    observable = "image_symmetry"


@EFFECTS.add("visual_entropy")
@dataclass(frozen=True, kw_only=True)
class VisualEntropy(Picture):
    """Add detail and noise (d > 0) or take it away (d < 0):  image' = image + d share detail.

    Source: visual packs published with neuromod-llm-poc (2026).
    """

    noise_level: float = 0.1
    texture_complexity: float = 0.3
    detail_amplification: float = 0.0
    pattern_recognition_boost: float = 0.0
    natural_patterns: float = 0.0
    geometric_clarity: float = 0.0
    name = "visual_entropy"
    observable = "image_entropy"


@EFFECTS.add("synesthetic_mapping")
@dataclass(frozen=True, kw_only=True)
class SynestheticMapping(Picture):
    """Let one sense set another (d > 0) or cut them apart (d < 0):  colour' = colour + d share map(sound).

    Source: visual packs published with neuromod-llm-poc (2026).
    """

    color_sound_mapping: bool = True
    texture_emotion_mapping: bool = True
    pattern_frequency_mapping: float = 0.4
    name = "synesthetic_mapping"
    observable = "image_crossmodal_likeness"


@EFFECTS.add("motion_blur")
@dataclass(frozen=True, kw_only=True)
class MotionBlur(Picture):
    """Smear along a direction:  image' = (1 - d trail) image + d trail blurred.

    Source: visual packs published with neuromod-llm-poc (2026).
    """

    blur_direction: str = "flowing"
    trail_length: float = 0.3
    motion_sensitivity: float = 0.4
    doses = (0.0, 2.0)
    name = "motion_blur"
    observable = "image_blur"
