"""From JSON to a pack, strictly: an unknown key, effect, direction or parameter is an error that says where.

The format is that of published pack files (effect, weight in 0..1, direction up or down, parameters), plus our
metadata. Weight and direction become one signed dose.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from neuromod_core.effects import EFFECTS, Effect
from neuromod_core.kernel.errors import NeuromodError, PackError
from neuromod_core.kernel.register import unknown
from neuromod_core.kernel.types import Json
from neuromod_core.packs.pack import Dosed, Pack

Scalar = bool | int | float | str


class EffectEntry(BaseModel):
    """One entry of a pack's `effects`."""

    model_config = ConfigDict(extra="forbid", strict=True)
    effect: str
    weight: Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
    direction: Literal["up", "down"] = "up"
    parameters: dict[str, Scalar] = {}


KL_UNIT = 1.0  # nats at the 95th percentile


class PackFile(BaseModel):
    """A pack as its file spells it."""

    model_config = ConfigDict(extra="forbid", strict=True)
    name: Annotated[str, Field(pattern=r"^[a-z0-9_]+$")]
    description: Annotated[str, Field(min_length=1)]
    kind: Annotated[str, Field(alias="class", min_length=1)]
    version: Annotated[int, Field(ge=1)]
    effects: list[EffectEntry]
    system: Annotated[str, Field(min_length=1)] | None = None
    target_scale: str | None = None
    predicted_sign: Literal[-1, 1] | None = None
    members: Annotated[int, Field(ge=0, le=10_000)] = 0
    match: Literal["entropy", "kl"] | None = None  # "kl" is short for the KL unit: kl = 1 where kl is not given
    kl: Annotated[float, Field(gt=0, le=20, allow_inf_nan=False)] | None = None


def _first(error: ValidationError) -> str:
    """Return the first complaint of pydantic as one clause: where, what, what was given."""
    complaints = error.errors(include_url=False)
    complaint = next((one for one in complaints if one["type"] == "extra_forbidden"), complaints[0])
    where = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in complaint["loc"]).lstrip(".")
    if complaint["type"] == "extra_forbidden":
        parent, _, key = where.rpartition(".")
        entry = parent.startswith("effects[")
        allowed = [field.alias or name for name, field in (EffectEntry if entry else PackFile).model_fields.items()]
        return f"{parent + ': ' if parent else ''}unknown key {key!r}; allowed: {', '.join(allowed)}"
    given = "" if complaint["type"] == "missing" else f", given {complaint['input']!r}"
    return f"{where}{': ' if where else ''}{complaint['msg'][0].lower()}{complaint['msg'][1:]}{given}"


def _effect(entry: EffectEntry, where: str) -> Effect:
    if entry.effect not in EFFECTS:
        raise unknown("effect", entry.effect, dict(EFFECTS), where)
    kind = EFFECTS[entry.effect]
    fields = {field.name: field for field in dataclasses.fields(kind)}
    for key in entry.parameters:
        if key not in fields:
            allowed = ", ".join(fields) or "none"
            raise PackError(f"{where}: effect {entry.effect!r} has no parameter {key!r}; allowed: {allowed}")
    try:
        effect: Effect = TypeAdapter(kind).validate_json(json.dumps(entry.parameters), strict=True)
    except ValidationError as error:
        raise PackError(f"{where}: effect {entry.effect!r}: {_first(error)}") from None
    return effect


def _dosed(entry: EffectEntry, where: str) -> Dosed:
    try:
        return Dosed(entry.effect, _effect(entry, where), entry.weight * (1 if entry.direction == "up" else -1))
    except PackError:
        raise
    except NeuromodError as error:
        raise type(error)(f"{error} ({where})" if where not in str(error) else str(error)) from None


def _no_constant(constant: str) -> Json:
    raise PackError(f"{constant} is not a number")


def parse_pack(text: str, where: str) -> Pack:
    """Return the pack that `text` (JSON) spells; `where` names the file in errors.

    Raises:
        PackError: for text that is not JSON, NaN or infinity, unknown or missing keys, or a weight outside 0..1.
        UnknownName: for an effect that is not registered.
        OutOfRange: for a dose or parameter outside the range of its effect.
    """
    try:
        file = PackFile.model_validate(json.loads(text, parse_constant=_no_constant))
    except json.JSONDecodeError as error:
        raise PackError(f"{where}: not JSON: {error.msg} at line {error.lineno}.") from None
    except ValidationError as error:
        raise PackError(f"{where}: {_first(error)}.") from None
    except PackError as error:
        raise PackError(f"{where}: {error}.") from None
    effects = tuple(_dosed(entry, f"{where}: effects[{index}]") for index, entry in enumerate(file.effects))
    return Pack(
        name=file.name,
        description=file.description,
        kind=file.kind,
        effects=effects,
        system=file.system,
        target_scale=file.target_scale,
        predicted_sign=file.predicted_sign,
        members=file.members,
        match="entropy" if file.match == "entropy" else None,
        kl=KL_UNIT if file.match == "kl" and file.kl is None else file.kl,
    )


def load_pack(path: Path) -> Pack:
    """Return the pack in a file, whose stem must be the pack's name."""
    try:
        text = path.read_text(encoding="utf-8")
    except (FileNotFoundError, IsADirectoryError, PermissionError, UnicodeDecodeError) as cause:
        raise PackError(f"{path.name}: cannot be read as a pack file ({type(cause).__name__}).") from None
    pack = parse_pack(text, path.name)
    if pack.name != path.stem:
        raise PackError(f"{path.name}: the pack is called {pack.name!r}; a pack file bears its pack's name.")
    return pack


def load_packs(folder: Path) -> Mapping[str, Pack]:
    """Return every pack of a folder by name (schema.json aside)."""
    files = sorted(path for path in folder.glob("*.json") if path.name != "schema.json")
    return {path.stem: load_pack(path) for path in files}


def schema() -> Json:
    """Return the JSON schema of pack files, with every registered effect and its parameters."""
    body = PackFile.model_json_schema(by_alias=True)
    body["title"] = "Neuromod pack"
    entry = body["$defs"]["EffectEntry"]["properties"]
    entry["effect"] = {"enum": list(EFFECTS), "type": "string"}
    body["$defs"]["parameters"] = {name: TypeAdapter(kind).json_schema() for name, kind in EFFECTS.items()}
    result: Json = body
    return result
