"""Classes of tokens, read off what a token spells."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

TOKEN_CLASSES: Mapping[str, Callable[[str], bool]] = {
    "capital": lambda text: text.strip()[:1].isupper(),
    "continuation": lambda text: bool(text) and text[0].isalpha(),
    "digit": lambda text: any(character.isdigit() for character in text),
    "punctuation": lambda text: bool(text.strip()) and not any(character.isalnum() for character in text),
    "space": lambda text: bool(text) and not text.strip(),
    "word": lambda text: len(text) > 1 and text[0].isspace() and text.strip().isalpha(),
}


def classify(tokenizer: PreTrainedTokenizerBase, vocabulary: int) -> dict[str, Tensor]:
    """Return class -> which tokens belong to it, (vocabulary,) bool. Special tokens belong to none."""
    special, size = set(tokenizer.all_special_ids), min(vocabulary, len(tokenizer))
    spelt = ["" if token in special else tokenizer.decode([token]) for token in range(size)]
    spelt += [""] * (vocabulary - size)
    return {
        name: torch.tensor([belongs(text) for text in spelt], dtype=torch.bool)
        for name, belongs in TOKEN_CLASSES.items()
    }
