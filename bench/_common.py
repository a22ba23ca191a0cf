"""What all benchmark scripts share: arguments, the record of the machine, and the result files."""

from __future__ import annotations

import argparse
import csv
import json
import math
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

HERE = Path(__file__).resolve().parent
PACKAGES = ("advkit", "torch", "numpy", "scipy", "optiprofiler", "quadprog")
# Environment variables that change how threads wait, and so every timing.
THREAD_VARIABLES = ("OMP_", "GOMP_", "KMP_", "MKL_", "OPENBLAS_")
# Rows that results.md shows; where there are more, results.csv alone has them.
LONGEST_TABLE = 200
Row = dict[str, Any]


def parser(name: str, description: str | None, *, threads: int = 2) -> argparse.ArgumentParser:
    """Return a parser with the arguments of every script.

    Parameters
    ----------
    name : str
        Name of the benchmark; its results go to ``results/<name>`` beside the scripts.
    description : str or None
        Shown by ``--help``: the docstring of the script.
    threads : int
        Default of ``--threads``, at most the number of processors.
    """
    made = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    made.add_argument(
        "--out", type=Path, default=HERE / "results" / name, help="directory of the results"
    )
    made.add_argument(
        "--threads", type=int, default=min(threads, os.cpu_count() or 1), help="threads of PyTorch"
    )
    return made


def as_settings(given: argparse.Namespace) -> Row:
    """Return the arguments of a run for its record: all but where the results went."""
    return {key: value for key, value in vars(given).items() if key != "out"}


def use_tests() -> None:
    """Make the problems with known answers, in ``tests/problems.py``, importable."""
    folder = str(HERE.parent / "tests")
    if folder not in sys.path:
        sys.path.append(folder)


def environment(packages: Sequence[str] = ()) -> Row:
    """Describe where a result comes from: date, versions, processor, its load, threads.

    Parameters
    ----------
    packages : sequence of str
        Named with their versions beside those of every script.
    """
    versions = {}
    for package in (*PACKAGES, *packages):
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = "not installed"
    return {
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "python": platform.python_version(),
        **versions,
        "processor": _processor(),
        "processors": os.cpu_count(),
        "load average": f"{os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else "unknown",
        "torch instruction set": torch.backends.cpu.get_cpu_capability(),
        "threads": torch.get_num_threads(),
        **_advkit_configuration(),
        **{name: value for name, value in os.environ.items() if name.startswith(THREAD_VARIABLES)},
    }


def write_results(
    out: Path,
    title: str,
    *,
    settings: Row,
    summary: Sequence[Row],
    rows: Sequence[Row],
    notes: Sequence[str] = (),
    tables: dict[str, Sequence[Row]] | None = None,
    pictures: Sequence[str] = (),
    origin: Row | None = None,
) -> None:
    """Write ``results.md`` (tables), ``results.csv`` (the rows) and ``results.json`` (the rest).

    Parameters
    ----------
    out : Path
        Directory; made if it is not there.
    title : str
        Heading of the Markdown page.
    settings : dict
        What the script was asked to do.
    summary : sequence of dict
        The rows of the headline table; all with the same keys.
    rows : sequence of dict
        The rows of the detailed table; all with the same keys. Up to 200 are shown in
        ``results.md``.
    notes : sequence of str
        Sentences under the headline table: definitions, and what to keep in mind.
    tables : dict of sequences of dict, optional
        Detailed tables with headings, shown in place of `rows`.
    pictures : sequence of str
        Files beside ``results.md``, to be shown there.
    origin : dict, optional
        Where the results come from; default: `environment`.
    """
    out.mkdir(parents=True, exist_ok=True)
    origin = environment() if origin is None else origin
    record = {
        "title": title,
        "environment": origin,
        "settings": settings,
        "summary": list(summary),
        "notes": list(notes),
    }
    (out / "results.json").write_text(json.dumps(_plain(record), indent=1) + "\n")
    with (out / "results.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]) if rows else [])
        writer.writeheader()
        for row in rows:
            writer.writerow({k: f"{v:.7g}" if isinstance(v, float) else v for k, v in row.items()})
    parts = [f"# {title}", markdown_table(summary)]
    parts += [f"- {note}" for note in notes]
    parts += [f"![{picture}]({picture})" for picture in pictures]
    for heading, table in (tables or {}).items():
        parts += [f"## {heading.capitalize()}", markdown_table(table)]
    for heading, pairs in (("Settings", settings), ("Environment", origin)):
        table = [{"what": key, "value": value} for key, value in pairs.items()]
        parts += [f"## {heading}", markdown_table(table)]
    if tables is None and len(rows) <= LONGEST_TABLE:
        parts += ["## Rows", markdown_table(rows)]
    (out / "results.md").write_text(_join(parts) + "\n")


def markdown_table(rows: Sequence[Row]) -> str:
    """Format rows with the same keys as a Markdown table, numbers with four digits."""
    if not rows:
        return "(none)"
    lines = [list(rows[0]), ["---"] * len(rows[0])]
    lines += [[_cell(value) for value in row.values()] for row in rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def timed(function: Callable[[], Any]) -> tuple[float, Any]:
    """Call `function`; return the seconds it took and what it returned."""
    start = time.perf_counter()
    result = function()
    return time.perf_counter() - start, result


def geometric_mean(values: Sequence[float]) -> float:
    """Return the geometric mean of positive values, nan of none."""
    return math.exp(statistics.fmean(map(math.log, values))) if values else math.nan


def _processor() -> str:
    """Name the processor; ``platform.processor`` is empty on most Linux systems."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def _advkit_configuration() -> Row:
    """Return what `advkit.show_config` adds to the record, under names of their own."""
    import advkit

    known = {"advkit", "torch", "numpy", "python", "processor", "threads"}
    return {f"advkit {k}": v for k, v in advkit.show_config().items() if k not in known}


def _plain(value: Any) -> Any:
    """Make a value fit for JSON: nan and inf, which it has no words for, become strings."""
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return str(value) if isinstance(value, Path) else value


def _cell(value: Any) -> str:
    """Format one value for a table."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}"
    return str(value).replace("|", "\\|")


def _join(parts: Sequence[str]) -> str:
    """Join paragraphs with empty lines, but the items of a list without."""
    text = ""
    for before, part in zip(["", *parts], parts, strict=False):
        both_items = before.startswith("- ") and part.startswith("- ")
        text += ("" if not before else "\n" if both_items else "\n\n") + part
    return text
