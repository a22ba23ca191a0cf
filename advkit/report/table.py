"""An attack's result as a table for the terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from advkit._extras import require
from advkit.attack.result import AttackResult, AttackStatus

if TYPE_CHECKING:
    from rich.table import Table

_ENDINGS = {
    AttackStatus.FOUND: "found",
    AttackStatus.NOT_FOUND: "not found",
    AttackStatus.ALREADY_ADVERSARIAL: "already adversarial",
    AttackStatus.NON_FINITE: "network gave nan or inf",
}


def attack_table(
    result: AttackResult, *, title: str | None = None, seconds: float | None = None
) -> Table:
    """Return what an attack found and what it cost as a table for `rich.console.Console`.

    Distances and c are over the images that were fooled, evaluations over all of them. The
    table itself is plain ASCII text: printed to a file or a pipe it has no colours, and no box
    characters where the encoding lacks them.

    Parameters
    ----------
    result : AttackResult
        What the attack returned.
    title : str, optional
        A line above the table.
    seconds : float, optional
        How long the attack took; adds the time per image to the last line.

    Returns
    -------
    rich.table.Table
        One row for each of rms, distance, c, forwards and backwards, with the smallest, median,
        mean and largest value; below it the success rate and how the attacks ended.

    Raises
    ------
    ImportError
        If rich is not installed.
    """
    require("rich", extra="cli", purpose="attack_table")
    from rich import box
    from rich.table import Table
    from rich.text import Text

    # Text, not str: square brackets in a title must not be read as rich's markup.
    table = Table(
        title=None if title is None else Text(title, style="bold"),
        caption=Text(_caption(result, seconds)),
        title_justify="left",
        caption_justify="left",
        box=box.SIMPLE_HEAD,
    )
    table.add_column("per image")
    for heading in ("min", "median", "mean", "max"):
        table.add_column(heading, justify="right")
    norm = {"l1": "L1", "linf": "Linf"}.get(str(result.settings.get("norm")), "L2")
    for name, values in (
        ("rms", result.rms[result.success]),
        (f"distance ({norm})", result.distance[result.success]),
        ("c", result.c[result.success & result.c.isfinite()]),
        ("forwards", result.forwards),
        ("backwards", result.backwards),
    ):
        table.add_row(name, *_spread(values))
    return table


def _spread(values: torch.Tensor) -> list[str]:
    """Return minimum, median, mean and maximum as text, dashes if there are no values."""
    if values.numel() == 0:
        return ["-"] * 4
    values = values.detach().cpu().double()
    # Not torch.median, which gives the lower of the two middle values.
    ordered = values.sort().values
    middle = (ordered[(len(values) - 1) // 2] + ordered[len(values) // 2]) / 2
    numbers = (ordered[0], middle, values.mean(), ordered[-1])
    return [f"{float(number):.4g}" for number in numbers]


def _caption(result: AttackResult, seconds: float | None) -> str:
    """Return the success rate, the other endings that occurred, and the time per image."""
    if not len(result):
        return "no images"
    summary = result.summary()
    rate = 100 * summary["success_rate"]
    parts = [f"success {rate:.1f} % ({summary['successes']} of {summary['images']})"]
    for status, words in _ENDINGS.items():
        count = int((result.status == status).sum())
        if count and status != AttackStatus.FOUND:
            parts.append(f"{words} {count}")
    if seconds is not None:
        parts.append(f"{1000 * seconds / len(result):.3g} ms per image")
    return ", ".join(parts)
