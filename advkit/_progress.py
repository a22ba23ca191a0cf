"""A progress bar for long work, drawn by rich on standard error where someone asks for one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from advkit._extras import require

__all__ = ["progress_bar"]


@contextmanager
def progress_bar(shown: bool, description: str, total: int) -> Iterator[Callable[[int], None]]:
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
    callable
        Takes the number of steps done since the last call.

    Raises
    ------
    ImportError
        If rich is missing; says which command installs it.
    """
    if not shown:
        yield lambda steps: None
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
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(description, total=total)
        yield lambda steps: bar.advance(task, steps)
