"""Progress of long work: a bar where there is a console, nothing where there is none."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)


@dataclass
class Bar:
    """One progress display and the stage it shows."""

    display: Progress
    stage: TaskID | None = None


_BAR: ContextVar[Bar | None] = ContextVar("neuromod_bar", default=None)


@contextmanager
def shown(console: Console) -> Iterator[None]:
    """Show progress on `console` for the duration of a `with`."""
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=False) as display:
        token = _BAR.set(Bar(display))
        try:
            yield
        finally:
            _BAR.reset(token)


def stage(title: str, total: int | None = None) -> None:
    """Begin a stage; the one before is complete."""
    if (bar := _BAR.get()) is None:
        return
    if bar.stage is not None:
        done = bar.display.tasks[bar.stage]
        bar.display.update(bar.stage, total=done.total or 1, completed=done.total or 1)
    bar.stage = bar.display.add_task(title, total=total)


def tick(count: int = 1) -> None:
    """Advance the current stage."""
    if (bar := _BAR.get()) is not None and bar.stage is not None:
        bar.display.advance(bar.stage, count)


def say(text: str) -> None:
    """Name what the current stage is doing."""
    if (bar := _BAR.get()) is not None and bar.stage is not None:
        bar.display.update(bar.stage, description=text)
