"""Tables as Markdown and CSV files."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["csv_text", "markdown_table"]


def markdown_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return rows with the same keys as a Markdown table, numbers with four digits.

    Parameters
    ----------
    rows : sequence of mapping
        The rows; their keys are the headings.

    Returns
    -------
    str
        The table, without a line break at its end; "(none)" without rows.
    """
    if not rows:
        return "(none)"
    lines = [list(rows[0]), ["---"] * len(rows[0])]
    lines += [[_cell(value) for value in row.values()] for row in rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def csv_text(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return rows with the same keys as CSV text, numbers with seven digits; "" without rows."""
    if not rows:
        return ""
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(rows[0]), lineterminator="\n")
    writer.writeheader()
    for row in rows:
        writer.writerow(
            {
                key: ("" if math.isnan(value) else f"{value:.7g}")
                if isinstance(value, float)
                else value
                for key, value in row.items()
            }
        )
    return text.getvalue()


def _cell(value: Any) -> str:
    """Return one value as it stands in a table."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}"
    return str(value).replace("|", "\\|")
