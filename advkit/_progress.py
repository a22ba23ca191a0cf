"""A progress bar for long work, drawn by rich on standard error where someone asks for one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from advkit._extras import require

__all__ = ["Advance", "progress_bar"]


class Advance(Protocol):
    """Moves a bar on by the steps done since the last call, with a few words on how it goes."""

    def __call__(self, steps: int, note: str = "") -> None: ...


@contextmanager
def progress_bar(shown: bool, description: str, total: int) -> Iterator[Advance]:
    """Lend a function that moves a progress bar on.

    Parameters
    ----------
    shown : bool
        Whether to draw it; if not, the function does nothing and rich is not needed.
    description : str
        What is counted.
    total : int
        Steps until it is full.

    Yields
    ------
    Advance
        The function.

    Raises
    ------
    ImportError
        If rich is missing; says which command installs it.
    """
    if not shown:
        yield lambda steps, note="": None
        return
    require("rich", extra="cli", purpose="progress=True")
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[note]}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(description, total=total, note="")
        yield lambda steps, note="": bar.update(task, advance=steps, note=note)
