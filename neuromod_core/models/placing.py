"""Where the weights of a model go, decided before they are read: one device, or several where one is too small."""

from __future__ import annotations

import json
from dataclasses import dataclass

import torch
from torch import nn
from transformers import PreTrainedModel

from neuromod_core.kernel.errors import ModelError
from neuromod_core.models.anatomy import anatomy
from neuromod_core.models.memory import Free, Need, gib
from neuromod_core.models.spec import ModelSpec

WHOLE = ""  # the module path of a whole model
Devices = dict[str, str]


@dataclass(frozen=True)
class Placement:
    """Where weights go: module -> device, or None to let accelerate fill the GPUs one after the other."""

    devices: Devices | None

    @property
    def spread(self) -> bool:
        """Whether the weights lie on several devices."""
        return self.devices is None or len(set(self.devices.values())) > 1

    @property
    def argument(self) -> Devices | str | None:
        """What the library must be told; nothing for a model that lies in the processor's memory."""
        return "auto" if self.devices is None else None if self.devices == {WHOLE: "cpu"} else self.devices


def place(spec: ModelSpec, needed: Need, free: Free) -> Placement:
    """Return where the weights of a model go.

    `spec.device_map` is "auto" (the GPU with most room; several where one is too small; the processor where there is
    none), a device ("cpu", "cuda", "cuda:1"), or a JSON object from module to device.

    Raises:
        ModelError: when a device does not exist, or the model does not fit; with all numbers, and what to do.
    """
    wanted = spec.device_map
    if wanted == "auto":
        return _roomiest(spec, needed, free)
    devices = _parsed(spec) if wanted.startswith("{") else {WHOLE: _device(spec, wanted)}
    room = {"cpu": free.processor} | {f"cuda:{number}": size for number, size in enumerate(free.gpus)}
    if unknown := sorted(set(devices.values()) - set(room)):
        raise ModelError(
            f"Model {spec.name!r} is to be placed on {', '.join(unknown)}. Here there is {', '.join(room)}. "
            "(model.device_map)"
        )
    chosen = sorted(set(devices.values()))
    _check(spec, needed, sum(room[device] for device in chosen), " and ".join(chosen), free)
    return Placement(devices)


def _roomiest(spec: ModelSpec, needed: Need, free: Free) -> Placement:
    if not free.gpus:
        _check(spec, needed, free.processor, "the processor", free)
        return Placement({WHOLE: "cpu"})
    best = max(range(len(free.gpus)), key=lambda number: free.gpus[number])
    if needed.total <= free.gpus[best]:
        return Placement({WHOLE: f"cuda:{best}"})
    count = len(free.gpus)
    _check(spec, needed, sum(free.gpus), "the GPU" if count == 1 else f"all {count} GPUs", free)
    return Placement(None)


def _device(spec: ModelSpec, name: str) -> str:
    try:
        found = torch.device(name)
    except RuntimeError:
        raise ModelError(
            f"Model {spec.name!r} has device_map {name!r}. Allowed: auto, cpu, cuda:NUMBER, or module: device pairs."
        ) from None
    return f"{found.type}:{found.index or 0}" if found.type == "cuda" else found.type


def _parsed(spec: ModelSpec) -> Devices:
    try:
        pairs = json.loads(spec.device_map)
    except ValueError:
        raise ModelError(f"Model {spec.name!r}: device_map {spec.device_map!r} is not a JSON object.") from None
    return {
        module: f"cuda:{device}" if isinstance(device, int) else _device(spec, str(device))
        for module, device in pairs.items()
    }


def _check(spec: ModelSpec, needed: Need, room: int, where: str, free: Free) -> None:
    if needed.total <= room:
        return
    remedies = ["a smaller model", "a smaller runtime.batch"] if needed.weights < room else ["a smaller model"]
    if spec.dtype == "float32":
        remedies.append("model.dtype=bfloat16")
    if free.gpus and spec.dtype not in ("nf4", "int8"):
        remedies.append("model.dtype=nf4")
    remedies.append("more or larger GPUs" if free.gpus else "a machine with GPUs or more memory")
    raise ModelError(
        f"Model {spec.name!r} does not fit: it needs {needed}; free on {where}: {gib(room)}. "
        f"Take {', '.join(remedies[:-1])}, or {remedies[-1]}."
    )


def gather(network: PreTrainedModel) -> torch.device:
    """Let the parts of a model that lies on several devices take and give states on one; return that device.

    Between the embedding, the blocks, the last norm and the unembedding, states are then where the embedding is, as on
    a model that lies on one device: what the engine edits there needs no device of its own.
    """
    from accelerate.hooks import AlignDevicesHook, SequentialHook, add_hook_to_module

    parts = anatomy(network)
    embedding = parts.find(network, "embedding")
    blocks = list(parts.find(network, "blocks").children())
    home = _runs_on(embedding)
    for module in (embedding, *blocks, parts.find(network, "norm"), parts.find(network, "head")):
        skipped = network._skip_keys_device_placement
        align = AlignDevicesHook(_runs_on(module), io_same_device=True, skip_keys=skipped)
        inner = getattr(module, "_hf_hook", None)
        add_hook_to_module(module, align if inner is None else SequentialHook(align, inner))
    return home


def _runs_on(module: nn.Module) -> torch.device:
    """Return the device that a module computes on."""
    hook = getattr(module, "_hf_hook", None)
    found = getattr(hook, "execution_device", None)
    return torch.device(found) if found is not None else next(module.parameters()).device
