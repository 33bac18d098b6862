"""How much memory a model needs, from its configuration and the headers of its files, before any weight is read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import psutil
import torch
from transformers import PretrainedConfig

from neuromod_core.models.folder import Stored
from neuromod_core.models.formats import Format

SLAB = 256  # places whose logits are held at a time
TABLES = 4  # tables over the vocabulary at each: raw, edited, sorted, probabilities
PASS = 8192  # prompt tokens in one forward pass
GIB = 2**30


@dataclass(frozen=True)
class Batch:
    """What is held at once: rows, and tokens of each whose keys and values are kept."""

    rows: int = 192
    tokens: int = 256


@dataclass(frozen=True)
class Need:
    """Bytes that a model needs.

    weights: of its tensors in the number format asked for.
    cache: keys and values = 2 x layers x kv heads x head size x rows x tokens x bytes a number.
    work: states of one pass (prompt tokens x (2 x inner width + 6 x width)), and logits (4 tables in float32).
    """

    weights: int
    cache: int
    work: int

    @property
    def total(self) -> int:
        """All of it."""
        return self.weights + self.cache + self.work

    def __str__(self) -> str:
        """As in "16.1 GiB of weights + 6.0 GiB of keys and values + 1.1 GiB of work = 23.2 GiB"."""
        parts = {"weights": self.weights, "keys and values": self.cache, "work": self.work}
        return " + ".join(f"{gib(size)} of {name}" for name, size in parts.items()) + f" = {gib(self.total)}"


def gib(size: float) -> str:
    """Return a number of bytes as text."""
    return f"{size / GIB:.1f} GiB" if size >= GIB / 10 else f"{size / 2**20:.0f} MiB"


def _quantised(name: str, tensor: Stored) -> bool:
    """Return whether a quantised format packs a tensor: matrices of blocks, not embeddings and norms."""
    return len(tensor.shape) == 2 and not any(part in name for part in ("embed", "lm_head", "wte", "wpe"))


def weight_bytes(stored: Mapping[str, Stored], format: Format) -> int:
    """Return the bytes of tensors once they are loaded. Blocks of MXFP4 hold two weights a byte and are unpacked."""
    wide, bits = format.dtype.itemsize, 0.0
    for name, tensor in stored.items():
        if name.endswith("_scales"):
            continue
        if name.endswith("_blocks"):
            bits += tensor.size * 2 * 8 * wide
        elif format.bits is not None and _quantised(name, tensor):
            bits += tensor.size * format.bits
        else:
            bits += tensor.size * 8 * (wide if tensor.float else 1)
    return int(bits / 8)


def cache_bytes(config: PretrainedConfig, dtype: torch.dtype, batch: Batch) -> int:
    """Return the bytes of keys and values of a batch."""
    heads = config.num_attention_heads
    size = getattr(config, "head_dim", None) or config.hidden_size // heads
    kept = getattr(config, "num_key_value_heads", None) or heads
    return int(2 * config.num_hidden_layers * kept * size * batch.rows * batch.tokens * dtype.itemsize)


def work_bytes(config: PretrainedConfig, dtype: torch.dtype) -> int:
    """Return the bytes of the states and logits that a pass holds beside weights and cache."""
    inner = getattr(config, "intermediate_size", None) or 4 * config.hidden_size
    inner *= getattr(config, "num_experts_per_tok", None) or 1
    states = PASS * (2 * inner + 6 * config.hidden_size) * dtype.itemsize
    return int(states + SLAB * TABLES * config.vocab_size * torch.float32.itemsize)


def need(config: PretrainedConfig, weights: int, format: Format, batch: Batch) -> Need:
    """Return what a model of this configuration needs, given the bytes of its weights."""
    return Need(weights, cache_bytes(config, format.dtype, batch), work_bytes(config, format.dtype))


@dataclass(frozen=True)
class Free:
    """Free memory in bytes: of the processor, and of each GPU."""

    processor: int
    gpus: tuple[int, ...] = ()


def free_memory() -> Free:
    """Return the free memory of this machine, or of the container this process runs in, whichever is less."""
    gpus = tuple(torch.cuda.mem_get_info(number)[0] for number in range(torch.cuda.device_count()))
    return Free(min([psutil.virtual_memory().available, *_container(Path("/sys/fs/cgroup"))]), gpus)


def _container(root: Path) -> list[int]:
    """Return what a container's limit leaves, if there is one. Pages of files can be given back and count as free.

    Source: the Linux kernel's documentation of control groups, versions 2 and 1.
    """
    for limit, used, statistics, reclaimable in (
        ("memory.max", "memory.current", "memory.stat", "inactive_file"),
        ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes", "memory/memory.stat", "total_inactive_file"),
    ):
        if (root / limit).is_file() and (text := (root / limit).read_text().strip()) != "max":
            rows = (line.split() for line in (root / statistics).read_text().splitlines())
            pages = sum(int(row[1]) for row in rows if row[:1] == [reclaimable])
            return [max(0, int(text) - int((root / used).read_text()) + pages)]
    return []
