"""Figures 1 and 2: images that excite units, and random directions, of a convolutional network."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from advkit.analysis import DirectionSet, Units, units
from advkit.experiments._convolutional import convolutional
from advkit.experiments.setting import Outcome, Setting
from advkit.report import curves, strips

__all__ = ["KINDS", "ablated", "line", "natural", "picture", "purer", "random"]

_STRIPS, _TOP = 4, 10
KINDS = {"natural": "units", "random": "random directions", "rotation": "a random rotation"}


def natural(setting: Setting) -> Outcome:
    """Draw Figure 1, the natural basis, with the statistics of all kinds of directions."""
    return _run(setting, "figure1", "natural")


def random(setting: Setting) -> Outcome:
    """Draw Figure 2, random directions, with the statistics of all kinds of directions."""
    return _run(setting, "figure2", "random")


def _run(setting: Setting, figure: str, kind: str) -> Outcome:
    network = convolutional(setting)
    body, head = network.model[:-1], network.model[-1]
    dataset, x, labels = setting.first_images("test")
    setting.say("images of each direction")
    found = units(body, x, labels, top=min(_TOP, len(x)), head=head, seed=setting.seed)
    chosen = found.of(kind)
    panels = [
        (
            f"({letter}) {_caption(kind, chosen.places[row])}: {100 * chosen.purity[row]:.0f} % "
            f'"{dataset.classes[chosen.majority[row]]}"',
            x[list(chosen.top[row])],
        )
        for row, letter in zip(range(len(chosen.top)), "abcd"[:_STRIPS], strict=False)
    ]

    def draw(path: Path) -> None:
        what = f"the first {len(panels)} {'live ' if kind == 'natural' else ''}{KINDS[kind]}"
        strips(
            panels,
            path,
            title=f"The {found.settings['top']} test images that excite {what} most, "
            f"{setting.data}",
        )

    return Outcome(
        title=f"{figure.capitalize()[:-1]} {figure[-1]} on {setting.data}",
        tables={"Labels of the top images": [line(each) for each in found.sets]},
        notes=[
            f"The last {found.features} features of a convolutional network (test error "
            f"{100 * network.test_error:.2f} %), {len(x)} held-out images, the "
            f"{found.settings['top']} with the most along each direction. Purity: share of the "
            "commonest label; entropy in bits; intervals of means, by resampling directions; "
            f"p: (1 + k) / (1 + n), k of n = {found.settings['permutations']} permutations of the "
            "labels having a mean entropy that is no larger.",
            "The strips are the first directions along which images differ, not chosen by eye. "
            "The paper compares by eye alone and has no statistic.",
            purer(found),
            ablated(found),
        ],
        records=found.as_rows(),
        data={"units": found.to_dict()},
        pictures={f"{figure}.png": draw, f"{figure}-ablation.png": picture(found, setting.data)},
    )


def _caption(kind: str, place: int) -> str:
    return f"unit {place + 1}" if kind == "natural" else f"direction {place + 1}"


def line(each: DirectionSet) -> dict[str, Any]:
    """Return a row of the table of kinds."""
    purity, entropy = each.purity_interval, each.entropy_interval
    return {
        "directions": f"{len(each.places)} of {KINDS[each.kind]}"
        if each.kind == "rotation"
        else f"{len(each.places)} {KINDS[each.kind]}",
        "left out (dead)": each.dead,
        "mean purity": f"{each.mean('purity'):.3f} ({purity[0]:.3f} to {purity[1]:.3f})",
        "permuted": f"{each.null_purity:.3f}",
        "mean entropy": f"{each.mean('entropy'):.3f} ({entropy[0]:.3f} to {entropy[1]:.3f})",
        "entropy permuted": f"{each.null_entropy:.3f}",
        "p": f"{each.p_value:.4f}",
        "with p < 0.05, %": f"{100 * sum(p < 0.05 for p in each.p_values) / len(each.places):.0f}",
    }


def picture(found: Units, where: str) -> Callable[[Path], None]:
    """Return what draws the ablation curves."""
    return lambda path: curves(
        {
            KINDS[curve.kind]: (curve.removed, [100 * each for each in curve.accuracy])
            for curve in found.ablation
        },
        path,
        across="directions replaced by their mean",
        up="accuracy, %",
        title=f"Ablation of the {found.features} features, {where}",
    )


def purer(found: Units) -> str:
    """Say how much purer units are than random directions and than rows of a rotation."""
    units_ = found.of("natural")
    parts = []
    for other in (found.of("random"), found.of("rotation")):
        difference = units_.mean("purity") - other.mean("purity")
        error = math.hypot(_standard_error(units_.purity), _standard_error(other.purity))
        words = f"less that of {KINDS[other.kind]} ({other.mean('purity'):.3f}): {difference:+.3f}"
        if error > 0:
            words += f", standard error {error:.3f} ({difference / error:+.1f} of them)"
        parts.append(words)
    return f"Mean purity of units ({units_.mean('purity'):.3f}) {'; '.join(parts)}."


def _standard_error(values: Sequence[float]) -> float:
    """Return that of the mean; 0 where there are too few values to tell."""
    return statistics.stdev(values) / math.sqrt(len(values)) if len(values) > 1 else 0.0


def ablated(found: Units) -> str:
    """Say what is lost with half of the directions."""
    parts = []
    for curve in found.ablation:
        half = len(curve.removed) // 2
        parts.append(
            f"{curve.removed[half]} of {KINDS[curve.kind]}: {100 * curve.accuracy[half]:.1f} % "
            f"({100 * curve.low[half]:.1f} to {100 * curve.high[half]:.1f} over the orders)"
        )
    whole, words = 100 * found.ablation[0].accuracy[0], "; ".join(parts)
    return f"Accuracy {whole:.1f} %; with directions replaced by their mean, {words}."
