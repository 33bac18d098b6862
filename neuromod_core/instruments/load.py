"""Loaders: a file becomes frozen texts, or an InstrumentError that names the file, the record and the key."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from neuromod_core.instruments.options import LABEL_SETS
from neuromod_core.instruments.records import (
    HEADER,
    Record,
    first_repeat,
    read_headed_jsonl,
    read_headed_yaml,
    read_yaml,
)
from neuromod_core.instruments.texts import (
    Check,
    Frames,
    Item,
    LabelSet,
    Opener,
    Passage,
    Scale,
    Source,
    State,
    Subscale,
    Vignette,
    Wording,
)
from neuromod_core.kernel.errors import InstrumentError

KINDS = ("scale", "frames", "hygiene", "validity")
ITEM_KEYS = ("id", "subscale", "keyed", "antonym")
SIDES = ("keyed", "antonym")
FURTHER_WORDINGS = 2
CHECKS = ("infrequency", "instructed")
VIGNETTE_SPLITS = ("study", "pilot")
PASSAGE_SPLITS = ("probe", "calibration")
PARAPHRASES = 3
LEVELS = 5


def _unique(path: Path, what: str, values: Iterable[str]) -> None:
    twice = first_repeat(values)
    if twice is not None:
        raise InstrumentError(f"{path.as_posix()}: two {what} are {twice!r}")


def _wordings(record: Record) -> tuple[Wording, ...]:
    pairs = tuple(pair.only(*SIDES) for pair in record.records("paraphrases"))
    if len(pairs) != FURTHER_WORDINGS:
        raise record.wrong(f"'paraphrases' has {len(pairs)} entries, expected {FURTHER_WORDINGS}")
    return tuple(Wording(keyed=pair.text("keyed"), antonym=pair.text("antonym")) for pair in pairs)


def _item(record: Record, subscales: tuple[str, ...], adopted: bool) -> Item:
    named = record.only(*ITEM_KEYS, *(() if adopted else ("paraphrases",))).named()
    return Item(
        id=named.text("id"),
        subscale=named.choice("subscale", subscales),
        keyed=named.text("keyed"),
        antonym=named.text("antonym"),
        paraphrases=() if adopted else _wordings(named),
    )


def _source(record: Record, items: tuple[Item, ...]) -> Source:
    record.choice("paraphrases", ("none",))
    source = record.record("source").only("text", "citation", "own")
    sentences = {f"{item.id} {side}" for item in items for side in SIDES}
    for name in source.texts("own"):
        if name not in sentences:
            raise source.wrong(f"'own' holds {name!r}, expected an item id and 'keyed' or 'antonym'")
    return Source(text=source.text("text"), citation=source.text("citation"), own=source.texts("own"))


def _consistency(record: Record, items: tuple[Item, ...]) -> str:
    name = record.text("consistency")
    if name not in {item.id for item in items}:
        raise record.wrong(f"'consistency' is {name!r}, which is no item of this scale")
    return name


def _sentences(item: Item) -> tuple[str, ...]:
    return tuple(text for wording in item.wordings for text in (wording.keyed, wording.antonym))


def load_scale(path: Path) -> Scale:
    """Return the scale that a YAML file holds.

    A scale worded here has three wordings an item, the main one and two under `paraphrases`, and names under
    `consistency` the item whose wordings check each other. The check is within an item, because most scales rise along
    one pole: two items that contradict each other would measure something else than the scale. A scale of adopted
    sentences says `paraphrases: none` and, in place of `consistency`, its `source`, which lists under `own` the
    sentences that were not adopted.

    Raises:
        InstrumentError: for an unknown, missing or repeated key, an empty text, an item in no known subscale, a
            subscale without items, two items of one id or two equal sentences, other than two further wordings of an
            item, a consistency item that the scale does not have, or a scale not named after its file.
    """
    return _scale(path, read_yaml(path))


def _scale(path: Path, whole: Record) -> Scale:
    """Return the scale in the record that `path` holds, as `load_scale`."""
    adopted = "paraphrases" in whole.entries
    own_keys = ("paraphrases", "source") if adopted else ("consistency",)
    record = whole.only(*HEADER, "scale", *own_keys, "subscales", "items")
    record.choice("kind", ("scale",))
    for key in HEADER:
        record.text(key)
    groups = record.record("subscales")
    subscales = tuple(Subscale(name=name, label=groups.text(name)) for name in groups.entries)
    names = tuple(group.name for group in subscales)
    items = tuple(_item(entry, names, adopted) for entry in record.records("items"))
    _unique(path, "item ids", (item.id for item in items))
    _unique(path, "sentences", (text for item in items for text in _sentences(item)))
    for name in names:
        if not any(item.subscale == name for item in items):
            raise groups.wrong(f"subscale {name!r} has no item")
    return Scale(
        name=record.choice("scale", (path.stem,)),
        title=record.text("title"),
        version=record.text("version"),
        subscales=subscales,
        items=items,
        consistency=None if adopted else _consistency(record, items),
        source=_source(record, items) if adopted else None,
    )


def load_scales(folder: Path) -> dict[str, Scale]:
    """Return every scale in `folder` by name, in the order of the names; files of another kind are not scales.

    Raises:
        InstrumentError: as `load_scale`, for a file of no known kind, for an item id used by two scales, or if the
            folder holds no scale.
    """
    files = {path: read_yaml(path) for path in sorted(folder.glob("*.yaml"))}
    scales = [_scale(path, whole) for path, whole in files.items() if whole.choice("kind", KINDS) == "scale"]
    if not scales:
        raise InstrumentError(f"{folder.as_posix()}: no YAML file of kind 'scale' in this folder")
    _unique(folder, "item ids", (item.id for scale in scales for item in scale.items))
    return {scale.name: scale for scale in scales}


def _check(record: Record, kind: str) -> Check:
    named = record.only("id", "text", "expected").named()
    return Check(id=named.text("id"), kind=kind, text=named.text("text"), expected=named.texts("expected"))


def load_validity(path: Path) -> tuple[Check, ...]:
    """Return the validity checks of a YAML file, infrequency statements first, then instructed responses.

    Raises:
        InstrumentError: for an unknown, missing or repeated key, an empty text, a check without an expected answer, or
            an id or text that occurs twice.

    Source: Meade & Craig 2012 (careless responses).
    """
    record = read_headed_yaml(path, "validity", *CHECKS)
    checks = tuple(_check(entry, kind) for kind in CHECKS for entry in record.records(kind))
    _unique(path, "check ids", (check.id for check in checks))
    _unique(path, "texts", (check.text for check in checks))
    return checks


def _state(record: Record) -> State:
    named = record.only("id", "scale", "system").named()
    return State(id=named.text("id"), scale=named.optional_text("scale"), system=named.text("system"))


def _label_set(record: Record, name: str) -> LabelSet:
    asked = record.only("instruction", "closing")
    return LabelSet(name=name, instruction=asked.text("instruction"), closing=asked.text("closing"))


def load_frames(path: Path) -> Frames:
    """Return the prompt frames that a YAML file holds.

    Raises:
        InstrumentError: as `load_scale`, and for other than five labels, two states of one id, or two states that
            control one scale.
    """
    record = read_headed_yaml(path, "frames", "system", "question", "options", "states", "persona")
    options = record.record("options").only("labels", "lead_in", "content_free", *LABEL_SETS)
    states = tuple(_state(entry) for entry in record.records("states"))
    _unique(path, "state ids", (state.id for state in states))
    _unique(path, "states' scales", (state.scale for state in states if state.scale is not None))
    return Frames(
        system=record.text("system"),
        question=record.text("question"),
        labels=options.texts("labels", LEVELS),
        lead_in=options.text("lead_in"),
        label_sets=tuple(_label_set(options.record(name), name) for name in LABEL_SETS),
        content_free=options.texts("content_free"),
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
