"""The progress bar of the training."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from advkit._extras import require


@contextmanager
def epoch_bar(title: str, epochs: int, show: bool) -> Iterator[Callable[[float], None]]:
    """Show a bar on stderr during the block, which gets the function to call after each epoch.

    Parameters
    ----------
    title : str
        What stands before the bar.
    epochs : int
        How many there will be.
    show : bool
        False shows nothing and needs nothing.

    Yields
    ------
    callable
        To be given the epoch's loss.

    Raises
    ------
    ImportError
        `show` without rich.
    """
    if not show:
        yield lambda loss: None
        return
    require("rich", extra="cli", purpose="progress=True")
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("epochs, loss {task.fields[loss]:.4f}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(title, total=epochs, loss=math.nan)
        yield lambda loss: bar.update(task, advance=1, loss=loss)
