"""Curves of local optimality and of distances against evaluations, as tables and as pictures."""

from __future__ import annotations

import contextlib
import csv
import itertools
import math
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from _common import Row
from _peers import OURS

# Of colour-blind-safe colours (Okabe and Ito), those that show on white; ours is black.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
LABELLED = 10
EVALUATIONS = "evaluations of each image (one forward and one backward pass)"
# The smallest value that is told from 0 on the logarithmic axes.
LEAST = 1e-4


def write_curves(lines: dict[str, dict[int, float]], norm: str, out: Path) -> None:
    """Write the curves of a norm, and draw them where matplotlib is there."""
    with (out / f"{norm}.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["attack", "evaluations", "mean LO"])
        writer.writerows((a, x, f"{lo:.6f}") for a, line in lines.items() for x, lo in line.items())
    with contextlib.suppress(_NoMatplotlibError):
        draw(lines, f"Minimum-norm attacks, {norm}", out / f"{norm}.png")


def draw(lines: dict[str, dict[int, float]], title: str, path: Path) -> None:
    """Draw 1 - mean LO against evaluations; the ten best and ours have names."""
    figure = _figure((9, 6))
    axes = figure.add_subplot()
    named = _named(lines, LABELLED)
    for attack in [name for name in lines if name not in named]:
        gaps = [max(LEAST, 1 - lo) for lo in lines[attack].values()]
        axes.plot([*lines[attack]], gaps, color="0.85", linewidth=0.8, marker=".")
    for attack, style in _styles(named):
        gaps = [max(LEAST, 1 - lo) for lo in lines[attack].values()]
        axes.plot([*lines[attack]], gaps, label=attack, **style)
    _dress(axes, sorted({x for line in lines.values() for x in line}))
    axes.set_xlabel(EVALUATIONS)
    axes.set_ylabel("1 - mean local optimality (lower is better)")
    axes.set_title(title)
    _name_lines(axes, {name: (max(lines[name]), lines[name][max(lines[name])]) for name in named})
    figure.savefig(path, dpi=150)


def write_distances(
    rows: Sequence[Row], lines: dict[str, dict[int, float]], norm: str, out: Path
) -> None:
    """Write median distances of a norm by network, attack and evaluations, and draw the best.

    Parameters
    ----------
    rows : sequence of dict
        Of `_local_optimality.summarise`.
    lines : dict
        Of `_local_optimality.curves`: the order of the attacks.
    norm : str
        Which rows.
    out : Path
        Directory.
    """
    keys = ("network", "attack", "evaluations", "median distance", "median of reference")
    rows = [row for row in rows if row["norm"] == norm]
    with (out / f"{norm}_distances.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(keys)
        writer.writerows([row[key] for key in keys] for row in rows)
    with contextlib.suppress(_NoMatplotlibError):
        _draw_distances(
            rows, _named(lines, 6), f"Median distance, {norm}", out / f"{norm}_distances.png"
        )


def _draw_distances(rows: Sequence[Row], named: Sequence[str], title: str, path: Path) -> None:
    """Draw the median distance over the reference's, less 1, in a panel for each network."""
    networks = list(dict.fromkeys(row["network"] for row in rows))
    figure = _figure((12, 3.2 * math.ceil(len(networks) / 4) + 0.6))
    panels = figure.subplots(math.ceil(len(networks) / 4), min(4, len(networks)), squeeze=False)
    for axes, network in itertools.zip_longest(panels.flat, networks):
        if network is None:
            axes.set_visible(False)
            continue
        here = [row for row in rows if row["network"] == network]
        for attack, style in _styles(named):
            points = sorted(
                (row["evaluations"], row["median distance"] / row["median of reference"] - 1)
                for row in here
                if row["attack"] == attack and math.isfinite(row["median distance"])
            )
            excess = [max(LEAST, y) for _, y in points]
            axes.plot([x for x, _ in points], excess, label=attack, **style)
        _dress(axes, sorted({row["evaluations"] for row in here}))
        axes.set_ylim(0.8 * LEAST, 1)
        axes.set_title(network, fontsize=10)
    figure.supxlabel(EVALUATIONS, fontsize=10)
    figure.supylabel("median distance / median of the nearest known - 1", fontsize=10)
    figure.suptitle(title)
    handles, labels = panels.flat[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside right upper", frameon=False)
    figure.savefig(path, dpi=150)


class _NoMatplotlibError(Exception):
    """There are tables only."""


def _figure(size: tuple[float, float]) -> Any:
    try:
        from matplotlib.figure import Figure
    except ImportError:
        print("no pictures: matplotlib is not installed", file=sys.stderr)
        raise _NoMatplotlibError from None
    return Figure(figsize=size, layout="constrained")


def _named(lines: dict[str, dict[int, float]], most: int) -> list[str]:
    """Return the attacks that get a colour and a name: the best, and ours."""
    named = [*lines][:most]
    return named + ([OURS] if OURS in lines and OURS not in named else [])


def _styles(named: Sequence[str]) -> Iterator[tuple[str, Row]]:
    """Yield how to draw each attack, ours last and so on top."""
    styles = itertools.product(("-", "--"), COLOURS)
    for attack in named:
        if attack != OURS:
            line, colour = next(styles)
            yield attack, {"color": colour, "linestyle": line, "marker": "o", "markersize": 4}
    if OURS in named:
        yield OURS, {"color": "black", "linewidth": 2.4, "marker": "o"}


def _dress(axes: Any, ticks: Sequence[int]) -> None:
    axes.set_xscale("log")
    axes.set_xticks(ticks, labels=[str(x) for x in ticks], minor=False)
    axes.set_xticks([], minor=True)
    axes.set_yscale("log")
    axes.grid(True, axis="y", color="0.9", linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)


def _name_lines(axes: Any, ends: dict[str, tuple[int, float]]) -> None:
    """Write names at the right, as near to the lines' ends as their height lets them."""
    colours = {line.get_label(): line.get_color() for line in axes.get_lines()}
    place = axes.transAxes.inverted()
    heights = {
        name: place.transform(axes.transData.transform((x, max(LEAST, 1 - lo))))[1]
        for name, (x, lo) in ends.items()
    }
    step, last = 0.045, -1.0
    for name in sorted(heights, key=lambda name: heights[name]):
        last = max(heights[name], last + step)
        axes.annotate(
            name,
            xy=(ends[name][0], max(LEAST, 1 - ends[name][1])),
            xytext=(1.03, last),
            textcoords="axes fraction",
            color=colours[name],
            va="center",
            fontsize=9,
            fontweight="bold" if name == OURS else "normal",
            # Dotted, or it would seem to go on where nothing was measured.
            arrowprops={"arrowstyle": "-", "color": "0.7", "linewidth": 0.6, "linestyle": ":"},
            annotation_clip=False,
        )
