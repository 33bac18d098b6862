"""Effects on what is still seen of the past: what they move, and their slow twins."""

from __future__ import annotations

import math

import numpy as np
import torch

from neuromod_core.effects import Subject
from neuromod_core.effects.kinds import EvictionEffect
from neuromod_core.effects.subject import uniforms
from neuromod_core.models import LoadedModel
from neuromod_core.packs import Pack
from tests.laws import measure
from tests.laws.families.attention import each, last_mass, weights
from tests.laws.twins import Array, Spot


def distant_score_size(model: LoadedModel, subject: Subject, pack: Pack) -> float:
    return float(measure.scores(subject, pack)[:, 63, :16].abs().mean())


def distant_mass(model: LoadedModel, subject: Subject, pack: Pack) -> float:
    return float(measure.scores(subject, pack).softmax(-1)[:, 63, :32].sum(-1).mean())


def visible_keys(model: LoadedModel, subject: Subject, pack: Pack) -> float:
    return float(torch.isfinite(measure.scores(subject, pack)[0, 63]).sum())


def distant_weight(model: LoadedModel, subject: Subject, pack: Pack) -> float:
    return float(weights(subject, pack)[:, 63, :32].sum(-1).mean())


def newest_segment_mass(model: LoadedModel, subject: Subject, pack: Pack) -> float:
    return last_mass(subject, pack, slice(44, 64))


def kept_keys(model: LoadedModel, subject: Subject, pack: Pack) -> float:
    """Share of the prompt's keys that every kv head still sees, while writing."""
    heads, gone = measure.heads(subject), torch.zeros(2, 64, dtype=torch.bool)
    for effect, dose in measure.binding_of(subject, pack).of(EvictionEffect):
        gone = gone | effect.hidden(heads.query, heads.key, heads.value, dose, measure.place(subject))[0]
    return 1 - float(gone[:, : measure.START].double().mean())


def reading_error(model: LoadedModel, subject: Subject, pack: Pack) -> float:
    return float((measure.attended(subject, pack) - measure.attended(subject, measure.NONE)).square().mean())


def exponential_decay_kv(effect, scores: Array, dose: float, spot: Spot) -> Array:
    rate = dose * math.log(2) / effect.half_life
    return each(scores, spot, lambda s, q, k: s * math.exp(-rate * (q - k)))


def odds_decay_kv(effect, scores: Array, dose: float, spot: Spot) -> Array:
    rate = dose * math.log(2) / effect.half_life
    return each(scores, spot, lambda s, q, k: s - rate * (q - k))


def stride_compression_kv(effect, scores: Array, dose: float, spot: Spot) -> Array:
    stride = 1 + math.ceil(effect.reach * dose)
    return each(
        scores,
        spot,
        lambda s, q, k: s if k % stride == 0 or k < effect.sinks or q - k < effect.recent else -math.inf,
    )


def truncation_kv(effect, scores: Array, dose: float, spot: Spot) -> Array:
    window = math.ceil(effect.reach / dose)
    return each(scores, spot, lambda s, q, k: s if q - k < window or k < effect.sinks else -math.inf)


def kv_decay(effect, a: Array, dose: float, spot: Spot) -> Array:
    def swollen(x: float) -> float:
        return 2 ** (-dose * x) if dose > 0 else 2 ** (-dose * (1 - 2**-x))

    return each(a, spot, lambda w, q, k: w * swollen((q - k) / effect.half_life) if w else 0.0)


def segment_gains_kv(effect, scores: Array, dose: float, spot: Spot) -> Array:
    assert effect.pattern == "alternating"
    signs = [(-1) ** (distance // effect.window) for distance in range(64)]
    return each(scores, spot, lambda s, q, k: s + effect.span * dose * signs[q - k] if k <= q else s)


def forgotten(effect, importance: Array, dose: float, spot: Spot) -> Array:
    """The least important of the free prompt keys, (kv heads, keys) bool; of equals the oldest goes first."""
    gone = np.zeros(importance.shape, dtype=bool)
    free = [c for c, k in enumerate(spot.keys) if effect.sinks <= k < spot.start - effect.recent]
    count = math.floor(min(1.0, effect.reach * dose) * len(free))
    for head, line in enumerate(importance):
        for column in sorted(free, key=lambda c: (line[c], c))[:count]:
            gone[head, column] = True
    return gone


def prompt_columns(spot: Spot) -> list[int]:
    return [column for column, k in enumerate(spot.keys) if 0 <= k < spot.start]


def kv_compression(effect, q: Array, keys: Array, values: Array, dose: float, spot: Spot) -> Array:
    importance = [[-round(1000 * math.log(math.sqrt(sum(x * x for x in k)))) for k in head] for head in keys]
    return forgotten(effect, np.array(importance), dose, spot)


def keydiff_compression(effect, q: Array, keys: Array, values: Array, dose: float, spot: Spot) -> Array:
    unit = keys / np.sqrt((keys**2).sum(-1, keepdims=True))
    means = [sum((head[c] for c in prompt_columns(spot)), np.zeros(keys.shape[-1])) for head in unit]
    importance = [[-float(k @ mean) for k in head] for head, mean in zip(unit, means, strict=True)]
    return forgotten(effect, np.array(importance), dose, spot)


def random_eviction_kv(effect, q: Array, keys: Array, values: Array, dose: float, spot: Spot) -> Array:
    drawn = uniforms((spot.stream,), f"random_eviction/{spot.layer}", torch.tensor([spot.keys]), len(keys))[0]
    return forgotten(effect, drawn.numpy().T, dose, spot)


def paid(queries: Array, keys: Array, spot: Spot, last: int) -> Array:
    """Attention (kv heads, keys) that the last prompt queries pay, summed over them and over the heads of a group."""
    total, group = np.zeros(keys.shape[:2]), len(queries) // len(keys)
    for head, (row, q) in ((h, x) for h in range(len(queries)) for x in enumerate(spot.queries)):
        if q >= 0 and spot.start - last <= q < spot.start:
            seen = [c for c, k in enumerate(spot.keys) if 0 <= k <= q]
            mass = [math.exp(queries[head, row] @ keys[head // group, c] / math.sqrt(keys.shape[-1])) for c in seen]
            for column, m in zip(seen, mass, strict=True):
                total[head // group, column] += m / sum(mass)
    return total


def h2o_compression(effect, queries: Array, keys: Array, values: Array, dose: float, spot: Spot) -> Array:
    return forgotten(effect, paid(queries, keys, spot, 1000), dose, spot)


def snapkv_compression(effect, queries: Array, keys: Array, values: Array, dose: float, spot: Spot) -> Array:
    total, half = paid(queries, keys, spot, effect.window), effect.pool // 2
    pooled = [[sum(head[max(0, c - half) : c + half + 1]) for c in range(len(head))] for head in total]
    return forgotten(effect, np.array(pooled), dose, spot)


def expected_attention_compression(
    effect, queries: Array, keys: Array, values: Array, dose: float, spot: Spot
) -> Array:
    importance, group, columns = np.zeros(keys.shape[:2]), len(queries) // len(keys), prompt_columns(spot)
    rows = [row for row, q in enumerate(spot.queries) if 0 <= q < spot.start]
    for head, asked in enumerate(queries):
        scores = keys[head // group] @ asked[rows].T / math.sqrt(keys.shape[-1])
        mass = {c: math.exp(scores[c].mean() + scores[c].var() / 2) for c in columns}
        for c in columns:
            importance[head // group, c] += mass[c] / sum(mass.values()) * np.linalg.norm(values[head // group, c])
    return forgotten(effect, importance, dose, spot)


def coins(purpose: str, states: Array, spot: Spot) -> Array:
    """Signs (kv heads, keys, size): bit i of the words of a position, 16 bits a word, heads first."""
    count, tokens, size = states.shape
    words = uniforms((spot.stream,), f"{purpose}/{spot.layer}", torch.tensor([spot.keys]), -(-count * size // 16))
    e = np.zeros(states.shape)
    for head, token, channel in np.ndindex(count, tokens, size):
        word, bit = divmod(head * size + channel, 16)
        e[head, token, channel] = 1 if int(float(words[0, token, word]) * 65536) // 2**bit % 2 else -1
    return e


def noisy(purpose: str, states: Array, relative: float, spot: Spot) -> Array:
    rms = np.sqrt((states**2).mean(-1, keepdims=True))
    return states + relative * rms * coins(purpose, states, spot)


def value_noise_kv(effect, keys: Array, values: Array, dose: float, spot: Spot) -> tuple[Array, Array]:
    return keys, noisy("value_noise", values, effect.span * dose, spot)


def key_noise_kv(effect, keys: Array, values: Array, dose: float, spot: Spot) -> tuple[Array, Array]:
    return noisy("key_noise", keys, effect.span * dose, spot), values


def quantise_kv(effect, keys: Array, values: Array, dose: float, spot: Spot) -> list[Array]:
    levels, rounded = round(2 ** (8 - effect.reach * dose)), [keys.copy(), values.copy()]
    for states in rounded:
        for head, token in np.ndindex(*states.shape[:2]):
            x = states[head, token]
            grid = np.linspace(x.min(), x.max(), levels)
            states[head, token] = [grid[np.abs(grid - value).argmin()] for value in x]
    return rounded


FEW = {"sinks": 1, "recent": 1, "reach": 0.9}  # something to forget in the nine tokens of a twin's prompt
EXAMPLES: dict[str, dict[str, object]] = {
    "expected_attention_compression": FEW,
    "h2o_compression": FEW,
    "keydiff_compression": FEW,
    "kv_compression": FEW,
    "random_eviction_kv": FEW,
    "snapkv_compression": {**FEW, "window": 4, "pool": 3},
}
OBSERVABLES = {
    "distant_mass": distant_mass,
    "distant_score_size": distant_score_size,
    "distant_weight": distant_weight,
    "kept_keys": kept_keys,
    "newest_segment_mass": newest_segment_mass,
    "reading_error": reading_error,
    "visible_keys": visible_keys,
}
TWINS = {
    "expected_attention_compression": expected_attention_compression,
    "exponential_decay_kv": exponential_decay_kv,
    "h2o_compression": h2o_compression,
    "key_noise_kv": key_noise_kv,
    "keydiff_compression": keydiff_compression,
    "kv_compression": kv_compression,
    "kv_decay": kv_decay,
    "odds_decay_kv": odds_decay_kv,
    "quantise_kv": quantise_kv,
    "random_eviction_kv": random_eviction_kv,
    "segment_gains_kv": segment_gains_kv,
    "snapkv_compression": snapkv_compression,
    "stride_compression_kv": stride_compression_kv,
    "truncation_kv": truncation_kv,
    "value_noise_kv": value_noise_kv,
}
