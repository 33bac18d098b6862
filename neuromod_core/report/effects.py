"""The table of effects: read off the register, and written as a page with measurements. It names no effect."""

from __future__ import annotations

import dataclasses
import inspect
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from neuromod_core.calibrate.acts import Act
from neuromod_core.effects import EFFECTS, Effect
from neuromod_core.effects.kinds import ChoiceEffect, ImageEffect

MEANS = {None: "all", "attention": "attention interface", "router": "mixture of experts"}
DOSES = (0.25, 0.5, 1.0)


@dataclass(frozen=True)
class Entry:
    """One effect as a reader meets it. `formula` is the first paragraph of its docstring, `source` where it is from."""

    effect: str
    family: str
    site: str
    doses: str
    moves: str
    architectures: str
    formula: str
    source: str
    parameters: str


def _split(text: str) -> tuple[str, str]:
    """Return (formula, source) of a docstring."""
    source = " ".join(text.split()).partition("Source:")[2]
    first = " ".join(text.strip().split("\n\n")[0].split()).partition("Source:")[0]
    return first.strip().rstrip("."), source.strip().rstrip(".")


def entry(name: str, kind: type[Effect]) -> Entry:
    """Return the entry of a registered effect."""
    formula, source = _split(inspect.getdoc(kind) or "")
    image = issubclass(kind, ImageEffect)
    return Entry(
        effect=name,
        family=kind.family,
        site=kind.site,
        doses=f"{kind.doses[0]:g} .. {kind.doses[1]:g}",
        moves=f"{kind.observable.replace('_', ' ')} {'up' if kind.moves > 0 else 'down'}",
        architectures="none: refused on language models" if image else MEANS[kind.needs],
        formula=formula,
        source=source,
        parameters=", ".join(field.name for field in dataclasses.fields(kind)),
    )


def entries() -> list[Entry]:
    """Return the entries of the register, by family and name."""
    return sorted((entry(name, kind) for name, kind in EFFECTS.items()), key=lambda one: (one.family, one.effect))


def examples(given: Mapping[str, object]) -> Iterator[tuple[str, Effect, float]]:
    """Yield (name, effect, dose) of every effect that can be made from defaults and `given` parameters."""
    for name, kind in EFFECTS.items():
        wanted = [field.name for field in dataclasses.fields(kind) if field.default is dataclasses.MISSING]
        if issubclass(kind, ImageEffect | ChoiceEffect) or not set(wanted) <= set(given):
            continue
        effect = kind(**{key: given[key] for key in wanted})
        sign = 1 if kind.doses[1] > 0 else -1
        yield from ((name, effect, sign * dose) for dose in DOSES if abs(sign * dose) <= max(map(abs, kind.doses)))


def _cell(value: float | None) -> str:
    return "\u2013" if value is None else f"{value:.3g}"


def measured(made: Sequence[tuple[str, Effect, float]], found: Sequence[Act]) -> list[str]:
    """Return the lines of the table of what acted, one line an effect."""
    by_name: dict[str, list[tuple[float, Act]]] = {}
    for (name, _, dose), act in zip(made, found, strict=True):
        by_name.setdefault(name, []).append((dose, act))
    lines = [
        "| effect | doses | KL to undosed (nats a token) | entropy (nats) | attention moved |",
        "|---|---|---|---|---|",
    ]
    for name, rows in by_name.items():
        columns = [
            " / ".join(f"{dose:g}" for dose, _ in rows),
            " / ".join(_cell(act.kl) for _, act in rows),
            " / ".join(f"{act.entropy:+.2f}" for _, act in rows),
            " / ".join(_cell(act.moved) for _, act in rows),
        ]
        lines.append(f"| `{name}` | {' | '.join(columns)} |")
    return lines


def _escaped(text: str) -> str:
    return re.sub(r"([|<>*_])", r"\\\1", text)


def _family(name: str, members: Sequence[Entry]) -> Iterator[str]:
    yield from ("", f"### {name.capitalize()} ({len(members)})", "")
    yield from ("| effect | site | doses | moves | works on | what it does | source |", "|---|---|---|---|---|---|---|")
    for one in members:
        cells = (one.site, one.doses, one.moves, one.architectures, one.formula, one.source)
        yield f"| `{one.effect}` | {' | '.join(map(_escaped, cells))} |"


def page(model: str, made: Sequence[tuple[str, Effect, float]], found: Sequence[Act]) -> str:
    """Return docs/effects.md: the count, every effect by family, and what each was measured to do on `model`."""
    all_of_them = entries()
    lawful = [one for one in all_of_them if one.family != ImageEffect.family]
    parameters = sum(len(one.parameters.split(", ")) if one.parameters else 0 for one in lawful)
    families = Counter(one.family for one in lawful)
    lines = [
        "# Effects",
        "",
        "Written by `neuromod effects --document docs/effects.md`; do not edit by hand.",
        "",
        f"The register holds **{len(lawful)} effects in {len(families)} families**, and "
        f"{len(all_of_them) - len(lawful)} names of image effects that load, so that published packs parse, and are "
        "refused when they are bound to a language model. Every effect is held to the laws of `tests/laws` on fourteen "
        "architectures: zero dose is bitwise identity, a row never depends on its neighbours, cached equals uncached, "
        "left padding is invisible, it moves what it says, and it equals a slow twin.",
        "",
        f"The field's \u201c100+ interventions\u201d count effects times settings. Here {len(lawful)} effects have "
        f"{parameters} parameters besides the signed dose, and those that name a head set, a vector, a word list, a "
        "token class, a window or a direction have one member for each of them: a name here is a different thing done "
        "to a tensor, not a different setting.",
        "",
        "A positive dose moves the observable the way the table says; where the doses allow it, a negative one moves "
        "it back. Doses of packs are weight (0 to 1) times direction.",
    ]
    for name in families:
        lines += _family(name, [one for one in lawful if one.family == name])
    lines += ["", f"## Did it act? Measured on {model}", "", *_preamble()]
    return "\n".join([*lines, *measured(made, found), ""])


def _preamble() -> list[str]:
    return [
        "Neutral passages, the second half read after the first, nothing sampled. KL: divergence of the dosed "
        "next-token distribution from the undosed one. Entropy: its change. Attention moved: the share of attention "
        "that falls on other keys (\u2013 where the prompt has other tokens). Effects that choose among sampled "
        "responses, and those made of a user's files, are not in this table. What is cut off has no weight in the KL.",
        "",
    ]
