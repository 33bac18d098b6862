"""What is timed: `generate` at its best, the prior way, and this engine without, with one and with many packs.

An arm is a callable that writes `tokens` new tokens for every row of a batch and returns what it wrote. All arms read
the same prompts, and sample from the model's own distribution (temperature 1) unless their packs say otherwise.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from neuromod_core.effects import Stream, Subject
from neuromod_core.engine import Row, dosed
from neuromod_core.engine.decode import Written, write
from neuromod_core.models import LoadedModel
from neuromod_core.packs import Pack
from tasks.lab import Places, calibration, library

ROOT = Path(__file__).resolve().parents[1]
NONE = Pack("none", "no intervention", "control")
MIXED = ("lsd", "caffeine", "morphine", "ketamine", "mdma", "cannabis_thc", "creative_plus", "creative_minus")
WORDS = (
    "river",
    "mountain",
    "lantern",
    "garden",
    "winter",
    "sailor",
    "market",
    "copper",
    "violin",
    "harbour",
    "hat",
    "inn",
)
Arm = Callable[[], object]


@dataclass(frozen=True, eq=False)
class Bench:
    """A model that never stops early, its calibration, and packs to give."""

    model: LoadedModel
    subject: Subject
    packs: tuple[Pack, ...]

    @staticmethod
    def on(model: LoadedModel, cache: Path) -> Bench:
        """Return the bench of a model: eight shipped packs, each at eight doses, are 64 different packs."""
        texts = library(str(ROOT))
        shipped = tuple(texts.pack(name) for name in MIXED)
        places = Places(str(ROOT), str(cache), "runs", None)
        subject = calibration(model, shipped, places).subject
        many = tuple(pack.scaled(0.3 + 0.1 * step) for step in range(8) for pack in shipped)
        return Bench(dataclasses.replace(model, stop_tokens=frozenset()), subject, many)

    def prompts(self, count: int) -> list[tuple[int, ...]]:
        """Return ragged prompts in the model's chat template."""
        asked = [
            f"Tell me story {i} about a {WORDS[i % 12]} and a {WORDS[(5 * i + 3) % 12]}{', and a long walk' * (i % 3)}."
            for i in range(count)
        ]
        template = self.model.tokenizer.apply_chat_template
        return [
            tuple(template([{"role": "user", "content": text}], add_generation_prompt=True, return_dict=False))
            for text in asked
        ]

    def rows(self, packs: Sequence[Pack]) -> list[Row]:
        """Return one row a pack."""
        prompts = self.prompts(len(packs))
        return [
            Row(prompt, pack, Stream(0, f"u{i}")) for i, (prompt, pack) in enumerate(zip(prompts, packs, strict=True))
        ]

    def chosen(self, kind: str, count: int) -> list[Pack]:
        """Return the packs of a batch: "none", "one" for all rows, or "many" different ones."""
        return {"none": [NONE] * count, "one": [self.packs[3]] * count}.get(
            kind, [self.packs[i % len(self.packs)] for i in range(count)]
        )

    def engine(self, kind: str, count: int, tokens: int, path: str = "fused") -> Callable[[], Written]:
        """Return the arm of this engine."""
        rows = self.rows(self.chosen(kind, count))

        def run() -> Written:
            with dosed(self.model, path) as session:  # type: ignore[arg-type]
                return write(session, rows, self.subject, limits=[tokens] * count, slots=count)

        return run

    def generate(self, count: int, tokens: int, **settings: object) -> Callable[[], torch.Tensor]:
        """Return the arm of transformers' own `generate`."""
        inputs, sampler, network = self.batch(count), {**self.sampler(tokens), **settings}, self.model.network

        def run() -> torch.Tensor:
            with torch.inference_mode():
                written: torch.Tensor = network.generate(**inputs, **sampler)
            return written

        return run

    def batch(self, count: int) -> dict[str, torch.Tensor]:
        """Return the prompts of so many rows as `generate` takes them, padded on the left."""
        prompts = self.prompts(count)
        width = max(map(len, prompts))
        ids = torch.tensor([[0] * (width - len(prompt)) + list(prompt) for prompt in prompts])
        mask = torch.tensor([[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in prompts])
        return {"input_ids": ids, "attention_mask": mask}

    def sampler(self, tokens: int) -> dict[str, object]:
        """Return the settings of `generate`: the model's own distribution, exactly so many tokens."""
        plain = {"do_sample": True, "temperature": 1.0, "top_k": 0, "top_p": 1.0, "pad_token_id": 0}
        return {**plain, "min_new_tokens": tokens, "max_new_tokens": tokens}

    def prior(self, tokens: int) -> Callable[[], torch.Tensor]:
        """Return the prior way: one row, no cache, repetition processors."""
        return self.generate(1, tokens, use_cache=False, repetition_penalty=1.1, no_repeat_ngram_size=2)
