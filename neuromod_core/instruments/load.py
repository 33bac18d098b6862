"""Loaders: a file becomes frozen texts, or an InstrumentError that names the file, the record and the key."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from neuromod_core.instruments.records import (
    Record,
    first_repeat,
    read_headed_jsonl,
    read_headed_yaml,
    read_yaml,
)
from neuromod_core.instruments.texts import Frames, Item, Opener, Passage, Scale, State, Subscale, Vignette
from neuromod_core.kernel.errors import InstrumentError

KINDS = ("scale", "frames", "hygiene")
VIGNETTE_SPLITS = ("study", "pilot")
PASSAGE_SPLITS = ("probe", "calibration")
PARAPHRASES = 3
LEVELS = 5


def _unique(path: Path, what: str, values: Iterable[str]) -> None:
    twice = first_repeat(values)
    if twice is not None:
        raise InstrumentError(f"{path.as_posix()}: two {what} are {twice!r}")


def _item(record: Record, subscales: tuple[str, ...]) -> Item:
    named = record.only("id", "subscale", "keyed", "antonym").named()
    return Item(
        id=named.text("id"),
        subscale=named.choice("subscale", subscales),
        keyed=named.text("keyed"),
        antonym=named.text("antonym"),
    )


def load_scale(path: Path) -> Scale:
    """Return the scale that a YAML file holds.

    Raises:
        InstrumentError: for an unknown, missing or repeated key, an empty text, an item in no known subscale, a
            subscale without items, two items of one id or two equal sentences, or a scale not named after its file.
    """
    record = read_headed_yaml(path, "scale", "scale", "subscales", "items")
    groups = record.record("subscales")
    subscales = tuple(Subscale(name=name, label=groups.text(name)) for name in groups.entries)
    names = tuple(group.name for group in subscales)
    items = tuple(_item(entry, names) for entry in record.records("items"))
    _unique(path, "item ids", (item.id for item in items))
    _unique(path, "sentences", (text for item in items for text in (item.keyed, item.antonym)))
    for name in names:
        if not any(item.subscale == name for item in items):
            raise groups.wrong(f"subscale {name!r} has no item")
    return Scale(
        name=record.choice("scale", (path.stem,)),
        title=record.text("title"),
        version=record.text("version"),
        subscales=subscales,
        items=items,
    )


def load_scales(folder: Path) -> dict[str, Scale]:
    """Return every scale in `folder` by name, in the order of the names; files of another kind are not scales.

    Raises:
        InstrumentError: as `load_scale`, for a file of no known kind, for an item id used by two scales, or if the
            folder holds no scale.
    """
    paths = [path for path in sorted(folder.glob("*.yaml")) if read_yaml(path).choice("kind", KINDS) == "scale"]
    if not paths:
        raise InstrumentError(f"{folder.as_posix()}: no YAML file of kind 'scale' in this folder")
    scales = [load_scale(path) for path in paths]
    _unique(folder, "item ids", (item.id for scale in scales for item in scale.items))
    return {scale.name: scale for scale in scales}


def _state(record: Record) -> State:
    named = record.only("id", "scale", "system").named()
    return State(id=named.text("id"), scale=named.optional_text("scale"), system=named.text("system"))


def load_frames(path: Path) -> Frames:
    """Return the prompt frames that a YAML file holds.

    Raises:
        InstrumentError: as `load_scale`, and for other than five labels, two states of one id, or two states that
            control one scale.
    """
    record = read_headed_yaml(path, "frames", "system", "question", "options", "states", "persona")
    options = record.record("options").only("instruction", "labels", "lead_in", "closing")
    states = tuple(_state(entry) for entry in record.records("states"))
    _unique(path, "state ids", (state.id for state in states))
    _unique(path, "states' scales", (state.scale for state in states if state.scale is not None))
    return Frames(
        system=record.text("system"),
        question=record.text("question"),
        instruction=options.text("instruction"),
        labels=options.texts("labels", LEVELS),
        lead_in=options.text("lead_in"),
        closing=options.text("closing"),
        states=states,
        persona=record.text("persona"),
    )


def _vignette(record: Record) -> Vignette:
    named = record.named()
    return Vignette(
        id=named.text("id"),
        topic=named.text("topic"),
        split=named.choice("split", VIGNETTE_SPLITS),
        paraphrases=named.texts("paraphrases", PARAPHRASES),
    )


def load_vignettes(path: Path) -> tuple[Vignette, ...]:
    """Return the contexts of a JSON-lines file, in its order.

    Raises:
        InstrumentError: for an unknown, missing or repeated key, an empty text, other than three paraphrases, an
            unknown split, or an id, topic or text that occurs twice.
    """
    lines = read_headed_jsonl(path, "vignettes", "id", "topic", "split", "paraphrases")
    vignettes = tuple(_vignette(line) for line in lines)
    _unique(path, "vignette ids", (vignette.id for vignette in vignettes))
    _unique(path, "topics", (vignette.topic for vignette in vignettes))
    _unique(path, "texts", (text for vignette in vignettes for text in vignette.paraphrases))
    return vignettes


def _passage(record: Record) -> Passage:
    named = record.named()
    return Passage(
        id=named.text("id"),
        topic=named.text("topic"),
        split=named.choice("split", PASSAGE_SPLITS),
        text=named.text("text"),
    )


def load_passages(path: Path) -> tuple[Passage, ...]:
    """Return the neutral passages of a JSON-lines file, in its order.

    Raises:
        InstrumentError: for an unknown, missing or repeated key, an empty text, an unknown split, or an id, topic or
            text that occurs twice.
    """
    passages = tuple(_passage(line) for line in read_headed_jsonl(path, "passages", "id", "topic", "split", "text"))
    _unique(path, "passage ids", (passage.id for passage in passages))
    _unique(path, "topics", (passage.topic for passage in passages))
    _unique(path, "texts", (passage.text for passage in passages))
    return passages


def _opener(record: Record) -> Opener:
    named = record.only("id", "text").named()
    return Opener(id=named.text("id"), text=named.text("text"))


def load_openers(path: Path) -> tuple[Opener, ...]:
    """Return the story openers of a YAML file, in its order.

    Raises:
        InstrumentError: for an unknown, missing or repeated key, an empty text, or an id or text that occurs twice.
    """
    openers = tuple(_opener(entry) for entry in read_headed_yaml(path, "openers", "openers").records("openers"))
    _unique(path, "opener ids", (opener.id for opener in openers))
    _unique(path, "texts", (opener.text for opener in openers))
    return openers
