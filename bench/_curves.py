"""Curves of local optimality against evaluations, as a table and as a picture."""

from __future__ import annotations

import csv
import itertools
import sys
from pathlib import Path
from typing import Any

from _common import Row
from _local_optimality import OURS

# Of colour-blind-safe colours (Okabe and Ito), those that show on white; ours is black.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
LABELLED = 10


def write_curves(lines: dict[str, dict[int, float]], norm: str, out: Path) -> None:
    """Write the curves of a norm, and draw them where matplotlib is there."""
    with (out / f"{norm}.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["attack", "evaluations", "mean LO"])
        writer.writerows((a, x, f"{lo:.6f}") for a, line in lines.items() for x, lo in line.items())
    try:
        draw(lines, f"Minimum-norm attacks, {norm}", out / f"{norm}.png")
    except ImportError:
        print(f"no {norm}.png: matplotlib is not installed", file=sys.stderr)


def draw(lines: dict[str, dict[int, float]], title: str, path: Path) -> None:
    """Draw 1 - mean LO against evaluations; the ten best and ours have names."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 6), layout="constrained")
    axes = figure.add_subplot()
    named = [*lines][:LABELLED]
    named += [OURS] if OURS in lines and OURS not in named else []
    styles = itertools.product(("-", "--"), COLOURS)
    for attack in [*[name for name in lines if name not in named], *named]:
        xs = list(lines[attack])
        ys = [max(1e-4, 1 - lines[attack][x]) for x in xs]
        style: Row = {"color": "0.85", "linewidth": 0.8, "marker": "."}
        if attack == OURS:
            style = {"color": "black", "linewidth": 2.4, "marker": "o", "label": attack}
        elif attack in named:
            line, colour = next(styles)
            style = {"color": colour, "linestyle": line, "marker": "o", "markersize": 4}
            style |= {"linewidth": 1.4, "label": attack}
        axes.plot(xs, ys, **style)
    ticks = sorted({x for line in lines.values() for x in line})
    axes.set_xscale("log")
    axes.set_xticks(ticks, labels=[str(x) for x in ticks], minor=False)
    axes.set_xticks([], minor=True)
    axes.set_yscale("log")
    axes.set_xlabel("evaluations of each image (one forward and one backward pass)")
    axes.set_ylabel("1 - mean local optimality (lower is better)")
    axes.set_title(title)
    axes.grid(True, axis="y", color="0.9", linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)
    _name_lines(axes, {name: (max(lines[name]), lines[name][max(lines[name])]) for name in named})
    figure.savefig(path, dpi=150)


def _name_lines(axes: Any, ends: dict[str, tuple[int, float]]) -> None:
    """Write names at the right, as near to the lines' ends as their height lets them."""
    colours = {line.get_label(): line.get_color() for line in axes.get_lines()}
    place = axes.transAxes.inverted()
    heights = {
        name: place.transform(axes.transData.transform((x, max(1e-4, 1 - lo))))[1]
        for name, (x, lo) in ends.items()
    }
    step, last = 0.045, -1.0
    for name in sorted(heights, key=lambda name: heights[name]):
        last = max(heights[name], last + step)
        axes.annotate(
            name,
            xy=(ends[name][0], max(1e-4, 1 - ends[name][1])),
            xytext=(1.03, last),
            textcoords="axes fraction",
            color=colours[name],
            va="center",
            fontsize=9,
            fontweight="bold" if name == OURS else "normal",
            arrowprops={"arrowstyle": "-", "color": colours[name], "linewidth": 0.5},
            annotation_clip=False,
        )
