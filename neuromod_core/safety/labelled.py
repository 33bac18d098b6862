"""A labelled set of replies to harmless requests, and how well the pattern reader agrees with it.

The set has 50 replies of each kind, half for revising the patterns ("train") and half that were not looked at
("validation"). Replies and patterns are worded by the same authors, who write more evenly than models do: the numbers
are an upper limit of what to expect on a model's own replies.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias, cast

from neuromod_core.instruments.records import first_repeat, read_headed_jsonl
from neuromod_core.instruments.texts import Text
from neuromod_core.kernel.errors import InstrumentError
from neuromod_core.safety.agreement import Agreement, agreement
from neuromod_core.safety.refusal import LABELS, Label, Reader

Split: TypeAlias = Literal["train", "validation"]
SPLITS: tuple[Split, ...] = ("train", "validation")


@dataclass(frozen=True)
class Reply(Text):
    """One labelled reply."""

    id: str
    label: Label
    split: Split
    text: str


def load_replies(path: Path) -> tuple[Reply, ...]:
    """Return the labelled replies of a JSON-lines file, in its order.

    Raises:
        InstrumentError: for an unknown, missing or repeated key, an empty text, an unknown label or split, or an id or
            text that occurs twice.
    """
    replies = []
    for line in read_headed_jsonl(path, "replies", "id", "label", "split", "text"):
        named = line.named()
        label, split = cast(Label, named.choice("label", LABELS)), cast(Split, named.choice("split", SPLITS))
        replies.append(Reply(named.text("id"), label, split, named.text("text")))
    for what in ([reply.id for reply in replies], [reply.text for reply in replies]):
        if (twice := first_repeat(what)) is not None:
            raise InstrumentError(f"{path.as_posix()}: two replies are {twice!r}")
    return tuple(replies)


def validate(reader: Reader, replies: tuple[Reply, ...], split: Split) -> Agreement:
    """Return the agreement of the reader with the labels of one half.

    Raises:
        DataError: if the half has no reply.
    """
    half = [reply for reply in replies if reply.split == split]
    return agreement([reply.label for reply in half], [reader.read(reply.text) for reply in half])
