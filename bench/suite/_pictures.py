"""The pictures of a report, from its rows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path

from _common import Row

Curves = dict[str, list[tuple[float, float]]]
MARKERS = "osD^vP*Xph<>d8"


@dataclass(frozen=True)
class Panel:
    """One pair of axes.

    Parameters
    ----------
    title, x, y : str
        What they show.
    curves : dict
        Name -> points.
    from_zero : bool
        Whether y is linear and starts at 0; else it is logarithmic, as x always is.
    """

    title: str
    x: str
    y: str
    curves: Curves
    from_zero: bool = False


def draw(rows: Sequence[Row], attacks: Sequence[Row], out: Path) -> list[str]:
    """Draw what there is to draw; return the names of the files.

    Parameters
    ----------
    rows : sequence of dict
        One for each candidate of each case.
    attacks : sequence of dict
        The rows of the table of attacks.
    out : Path
        Folder.
    """
    from matplotlib.figure import Figure

    made = []
    for name, panels in (*_kernels(rows), *_growth(rows), *_attacks(attacks)):
        figure = Figure(figsize=(5.5 * len(panels), 4.2), layout="constrained")
        for axes, panel in zip(
            figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True
        ):
            for (curve, points), marker in zip(panel.curves.items(), cycle(MARKERS), strict=False):
                axes.plot(*zip(*sorted(points), strict=True), marker=marker, label=curve)
            axes.set(title=panel.title, xlabel=panel.x, ylabel=panel.y, xscale="log")
            if panel.from_zero:
                axes.set(ylim=(0, 1.25 * axes.dataLim.ymax))  # room for the legend
            else:
                axes.set(yscale="log")
            axes.grid(alpha=0.3)
            axes.legend(fontsize="x-small")
        figure.savefig(out / name, dpi=110)
        made.append(name)
    return made


def _kernels(rows: Sequence[Row]) -> Iterator[tuple[str, list[Panel]]]:
    fixed = {
        "images": {"n": 784, "m": 10},
        "n": {"m": 10, "images": 32},
        "m": {"n": 784, "images": 32},
    }
    words = {"images": "images", "n": "values of an image", "m": "pairs"}
    for along, same in fixed.items():
        panels = []
        for op in ("two_loop", "lbfgs_step"):
            curves: Curves = {}
            for row in rows:
                here = row["group"] == "kernels" and row["op"] == op and not row["cached"]
                if here and row["candidate"] != "read" and same.items() <= row.items():
                    curves.setdefault(row["candidate"], []).append((row[along], row["us"]))
            told = ", ".join(f"{value} {words[name]}" for name, value in same.items())
            if any(len(points) > 1 for points in curves.values()):
                panels.append(Panel(f"{op}, {told}", words[along], "us a call", curves))
        if panels:
            yield f"kernels_{along}.png", panels


def _growth(rows: Sequence[Row]) -> Iterator[tuple[str, list[Panel]]]:
    words = {
        "images": ("the attack, 50 evaluations", "images"),
        "values": ("lbfgs_step from memory, 10 pairs", "values of an image"),
        "pairs": ("lbfgs_step from memory, 784 values", "pairs"),
    }
    panels = []
    for case, (title, x) in words.items():
        mine = [row for row in rows if (row["group"], row["case"]) == ("growth", case)]
        points = [(float(row["candidate"]), row["us"]) for row in mine]
        if points:
            panel = Panel(title, x, "us an image", {"advkit": points}, from_zero=case != "values")
            panels.append(panel)
    if panels:
        yield "growth.png", panels


def _attacks(attacks: Sequence[Row]) -> Iterator[tuple[str, list[Panel]]]:
    """Compare distances on the images that each was given: relative to the first of advkit's."""
    curves: Curves = {}
    beside = next((name for row in attacks for name in row if name.endswith("there")), "")
    for row in attacks:
        if row["mean RMS"] and row[beside]:
            curves[row["attack"]] = [(row["ms an image"], row["mean RMS"] / row[beside])]
    if curves:
        y = f"mean RMS / that of {beside}"
        yield "attack.png", [Panel("attacks, where they succeed", "ms an image", y, curves)]
