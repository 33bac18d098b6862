"""The command `neuromod story`: stories told under packs, and what they do to the emotions in them."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

from rich.console import Console

from flows.settings import settings
from neuromod_core.kernel.errors import ConfigError

Row = Mapping[str, object]
Show = Callable[[Sequence[Row], bool], int]
Command = Callable[[argparse.Namespace, Path], int]


def add_verbs(verb: Callable[[str, str], argparse.ArgumentParser]) -> None:
    """Add the command to the parser."""
    story = verb("story", "tell stories under packs and read their emotions: story --pack P [--pack Q] [model=...]")
    story.add_argument("--pack", action="append", default=[], metavar="P", help="a pack to test; may be repeated")
    story.add_argument("--against", default="placebo", metavar="P", help="what it is compared with (placebo)")
    story.add_argument("--stories", type=int, default=8, metavar="N", help="stories from each of six openers (8)")
    story.add_argument("--tokens", type=int, default=96, metavar="N", help="length of a story (96)")
    story.add_argument("--seed", type=int, default=0, help="of the stories' randomness")
    told = "also tell stories of told emotions, the positive control"
    story.add_argument("--control", action="store_true", help=told)
    story.add_argument("--reader", action="store_true", help="only say how well the reader reads")
    story.add_argument("--document", metavar="FOLDER", help="write story.md and its pictures")
    story.add_argument("--json", action="store_true", help="print JSON")
    story.add_argument("overrides", nargs="*", help="Hydra overrides: model=...")


def verbs(show: Show) -> Mapping[str, Command]:
    """Return the command by name; `show` prints rows as JSON or as a table."""
    return {"story": partial(_story, show)}


def _story(show: Show, given: argparse.Namespace, cache: Path) -> int:
    if not (given.pack or given.reader):
        raise ConfigError("neuromod story needs a pack: --pack lsd; or --reader.")
    if given.document is not None and not Path(given.document).is_dir():
        raise ConfigError(f"There is no folder {given.document} to write the page to.")
    from tasks import progress, story

    chosen = settings(given.overrides)
    places, err = chosen.places(cache), Console(stderr=True, soft_wrap=True)
    with progress.shown(err):
        if given.reader:
            return show(story.reliability_rows(story.readers(places)), given.json)
        spec = chosen.config().model
        told = (given.against, given.stories, given.tokens, given.seed, given.control)
        asked = story.Asked(spec, tuple(given.pack), *told)
        found = story.test(asked, places)
        folder = story.write(found, places)
        if given.document is not None:
            story.document(found, Path(given.document))
    err.print(f"stories, readings and picture: {folder}", highlight=False)
    if not given.json:
        show(story.reliability_rows(found.readers), False)
    return show(story.rows(found), given.json)
