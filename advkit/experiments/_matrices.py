"""What Tables 2 and 4 have in common: a transfer matrix beside the paper's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from advkit.experiments.paper import NAMES
from advkit.transfer import TransferMatrix, TransferRow

__all__ = ["against_noise", "beside", "exceptions"]


def beside(
    matrix: TransferMatrix,
    rows: Sequence[TransferRow],
    printed: Mapping[int, tuple[float, ...]],
) -> list[dict[str, Any]]:
    """Return rows of a matrix in per cent, "here / paper".

    Parameters
    ----------
    matrix : TransferMatrix
        The matrix.
    rows : sequence of TransferRow
        Of it.
    printed : mapping of int to tuple of float
        The paper's entries by the place of the row in `rows`.
    """
    table = []
    for place, row in enumerate(rows):
        line: dict[str, Any] = {"images": named(row)}
        for column, name in enumerate(matrix.models):
            text = f"{100 * matrix.error(row, name):.1f}"
            if place in printed:
                text += f" / {printed[place][column]:g}"
            line[NAMES.get(name, name)] = text
        line["mean RMS"] = f"{row.distortion_of_all:.4f}"
        table.append(line)
    return table


def named(row: TransferRow) -> str:
    """Return the name of a row with the paper's name of its network."""
    if row.made_for is None:
        return row.name
    return row.name.replace(row.made_for, NAMES.get(row.made_for, row.made_for))


def against_noise(matrix: TransferMatrix) -> list[dict[str, Any]]:
    """Return for each off-diagonal cell how much more adversarial images fool than noise does."""
    table = []
    for source in matrix.models:
        row, noise = matrix.row("adversarial", source), matrix.row("matched noise", source)
        for place, name in enumerate(matrix.models):
            if name == source:
                continue
            gain, low, high = matrix.excess(source, name)
            cell = row.cells[place]
            table.append(
                {
                    "made for": NAMES.get(source, source),
                    "fed to": NAMES.get(name, name),
                    "adversarial": f"{100 * matrix.error(row, name):.1f}",
                    "noise of the same RMS": f"{100 * matrix.error(noise, name):.1f}",
                    "difference": f"{100 * gain:.1f}",
                    "95 % interval": f"{100 * low:.1f} to {100 * high:.1f}",
                    "more": "yes" if low > 0 else "not within confidence",
                    "same mistake": f"{100 * (cell.same_mistake or 0) / matrix.images:.1f}",
                    "other mistake": f"{100 * (cell.other_mistake or 0) / matrix.images:.1f}",
                    "target": None
                    if cell.target_match is None
                    else f"{100 * cell.target_match / matrix.images:.1f}",
                }
            )
    return table


def exceptions(table: Sequence[Mapping[str, Any]]) -> str:
    """Return in a sentence where adversarial images are not shown to fool more than noise."""
    missing = [f"{row['made for']} to {row['fed to']}" for row in table if row["more"] != "yes"]
    if not missing:
        return (
            "Adversarial images fool every other network more than noise of the same RMS does: in "
            f"all {len(table)} off-diagonal cells the 95 % interval of the difference is above 0."
        )
    return (
        f"In {len(table) - len(missing)} of {len(table)} off-diagonal cells adversarial images "
        "fool more than noise of the same RMS, the 95 % interval of the difference being above 0. "
        f"Not shown: {', '.join(missing)}."
    )
