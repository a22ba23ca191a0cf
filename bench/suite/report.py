"""Make the tables and pictures of a run: ``python report.py benchmark.json``.

Writes results.csv (a row for each candidate of each case), results.md and results.json, and
pictures as PNG, beside the record of pytest-benchmark.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from _common import Row, geometric_mean, write_results
from _pictures import draw

OURS = "advkit"
READ = "read"
# What results.csv names of the environment in every row.
NAMED = ("date", "advkit", "torch", "processor", "advkit isa", "threads")


def main(arguments: Sequence[str] | None = None) -> None:
    """Write the report of a record."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("record", type=Path, help="as --benchmark-json wrote it")
    write(options.parse_args(arguments).record)


def write(record: Path) -> None:
    """Write the report of a record beside it."""
    read = json.loads(record.read_text())
    about = read["advkit"]
    rows = _rows(read["benchmarks"])
    for row in rows:
        row |= {name: about["environment"][name] for name in NAMED}
    present = [group for group in GROUPS if any(row["group"] == group for row in rows)]
    summary: list[Row] = []
    tables: dict[str, Sequence[Row]] = {}
    for group in present:
        tables[group] = GROUPS[group]([row for row in rows if row["group"] == group])
        summary += _against(rows, group)
    pictures = draw(rows, tables.get("attack", ()), record.parent)
    for row in rows:
        del row["rms"]
    notes = [
        "times advkit: how many times as long the other takes, geometric mean over the cases of a "
        "group (an op and a size), and its least and most.",
        "us, low and high: median and quartiles over all turns.",
        *_left_out(about["left out"]),
    ]
    write_results(
        record.parent,
        "The benchmark suite",
        settings=about["settings"],
        summary=summary,
        rows=rows,
        notes=notes,
        tables=tables,
        pictures=pictures,
        origin=about["environment"],
    )


def _left_out(every: Iterable[Row]) -> list[str]:
    """Say what was left out, a sentence for each group and reason."""
    reasons: dict[tuple[str, str], list[Row]] = {}
    for each in every:
        reasons.setdefault((each["group"], each["why"]), []).append(each)
    told = []
    for (group, why), some in reasons.items():
        who, what = (
            ", ".join(dict.fromkeys(each[name] for each in some)) for name in ("candidate", "case")
        )
        told.append(f"Left out of {group}: {who}, in {what}: {why}.")
    return told


def _rows(benchmarks: Iterable[Row]) -> list[Row]:
    """Gather the turns of each candidate of each case."""
    turns: dict[tuple[str, str, str], list[Row]] = {}
    for item in benchmarks:
        info = item["extra_info"]
        group = Path(item["fullname"].split("::")[0]).stem
        turns.setdefault((group, str(info["case"]), str(info["candidate"])), []).append(item)
    reading = {
        case: statistics.median(_per_byte(items))
        for (group, case, candidate), items in turns.items()
        if candidate == READ
    }
    rows = []
    for (group, case, candidate), items in turns.items():
        info = items[0]["extra_info"]
        row: Row = {"group": group, "case": case, "candidate": candidate}
        us = sorted(1e6 * second for item in items for second in _seconds(group, item))
        row |= {
            "us": statistics.median(us),
            "low": _quantile(us, 0.25),
            "high": _quantile(us, 0.75),
        }
        row |= {"per": PER[group], "samples": len(us)}
        moved = info.get("bytes")
        row["of bandwidth"] = None
        if moved and case in reading and candidate != READ:
            row["of bandwidth"] = reading[case] / (statistics.median(_per_byte(items)))
        for name in ("op", "n", "m", "images", "cached", "error", "problems", "solved"):
            row[name] = info.get(name)
        row |= {"evaluations": info.get("evaluations"), "memory": info.get("memory")}
        row["network"] = None
        if "network" in info:
            row["network"] = statistics.median(item["extra_info"]["network"] for item in items)
        row |= _attacked(items)
        rows.append(row)
    for row in rows:
        ours = [
            other["us"]
            for other in rows
            if (other["group"], other["case"]) == (row["group"], row["case"])
            and other["candidate"].startswith(OURS)
        ]
        row["times advkit"] = row["us"] / ours[0] if ours and row["candidate"] != READ else None
    return rows


PER = {
    "kernels": "call",
    "attack": "image",
    "optimiser": "evaluation",
    "growth": "image",
    "overhead": "evaluation",
}


def _seconds(group: str, item: Row) -> list[float]:
    """Return the seconds of each sample of a turn, for one of what `PER` says."""
    info, data = item["extra_info"], item["stats"]["data"]
    if group == "kernels":
        return [second / info["calls"] for second in data]
    if group == "attack":
        return [second / info["images"] for second in data]
    if group in ("growth", "overhead"):
        return [second / info["items"] for second in data]
    return [(s - info["subtracted"]) / (info["problems"] * info["evaluations"]) for s in data]


def _per_byte(items: Iterable[Row]) -> list[float]:
    """Return the seconds for each byte, of all samples of all turns."""
    return [
        second / (item["extra_info"]["calls"] * item["extra_info"]["bytes"])
        for item in items
        for second in item["stats"]["data"]
    ]


def _quantile(values: Sequence[float], share: float) -> float:
    """Return a quantile of sorted values, interpolated."""
    place = share * (len(values) - 1)
    below = int(place)
    above = min(below + 1, len(values) - 1)
    return values[below] + (place - below) * (values[above] - values[below])


def _attacked(items: Sequence[Row]) -> Row:
    """Return how many images an attack was given in all turns, and what became of them."""
    rms: dict[int, float | None] = {}
    for item in items:
        info = item["extra_info"]
        for k, distance in enumerate(info.get("rms", ())):
            rms[info["first image"] + k] = distance
    found = [r for r in rms.values() if r is not None]
    if not rms:
        return dict.fromkeys(("attacked", "success", "mean RMS", "median RMS", "rms"))
    return {
        "attacked": len(rms),
        "success": len(found) / len(rms),
        "mean RMS": statistics.fmean(found) if found else None,
        "median RMS": statistics.median(found) if found else None,
        "rms": rms,
    }


def _against(rows: Sequence[Row], group: str) -> list[Row]:
    """Return how many times as long as advkit each peer takes, over the cases of a group."""
    lines = []
    here = [row for row in rows if row["group"] == group and group in ("kernels", "optimiser")]
    for op in dict.fromkeys(row["op"] or row["case"].split("-")[0] for row in here):
        mine = [row for row in here if (row["op"] or row["case"].split("-")[0]) == op]
        for peer in dict.fromkeys(row["candidate"] for row in mine):
            times = [row["times advkit"] for row in mine if row["candidate"] == peer]
            if peer in (OURS, READ) or not all(times):
                continue
            lines.append(
                {
                    "group": group,
                    "what": op,
                    "peer": peer,
                    "cases": len(times),
                    "times advkit": geometric_mean(times),
                    "least": min(times),
                    "most": max(times),
                }
            )
    return lines


def _kernels(rows: Sequence[Row]) -> list[Row]:
    kept = ("case", "candidate", "us", "low", "high", "times advkit", "of bandwidth", "error")
    lines = []
    for row in rows:
        line = {name: row[name] for name in kept}
        line["us an image"] = row["us"] / row["images"]
        lines.append(line)
    return [line for line in lines if line["candidate"] != READ]


def _optimiser(rows: Sequence[Row]) -> list[Row]:
    """Return the rows with the costs of an evaluation at which a peer is no slower.

    With o and e for a solver's own time and its number of evaluations, and t for the cost of one by
    the function, solvers take e (o + t).
    """
    lines = []
    for row in rows:
        ours = next(r for r in rows if r["case"] == row["case"] and r["candidate"] == OURS)
        more = ours["evaluations"] - row["evaluations"]
        overhead = row["evaluations"] * row["us"] - ours["evaluations"] * ours["us"]
        if row is ours:
            even = ""
        elif more * overhead > 0:  # where both lines cross
            even = f"{'from' if more > 0 else 'up to'} {overhead / more:.4g} us"
        else:
            even = "never" if overhead > 0 or more < 0 else "always"
        kept = ("case", "candidate", "us", "low", "high", "times advkit", "evaluations", "solved")
        lines.append({name: row[name] for name in kept} | {"no slower": even})
    return lines


def _attack(rows: Sequence[Row]) -> list[Row]:
    """Return the rows, each with advkit's distances on the same images beside its own."""
    first = next((row for row in rows if row["candidate"].startswith(OURS)), None)
    lines = []
    for row in rows:
        line = {
            "attack": row["candidate"],
            "images": row["attacked"],
            "ms an image": row["us"] / 1e3,
            "low": row["low"] / 1e3,
            "high": row["high"] / 1e3,
            "times advkit": row["times advkit"],
            "evaluations": row["evaluations"],
        }
        line |= {name: row[name] for name in ("success", "mean RMS", "median RMS")}
        if first is not None:
            both = [
                (first["rms"][k], r)
                for k, r in row["rms"].items()
                if r is not None and first["rms"].get(k) is not None
            ]
            mean = statistics.fmean(mine for mine, _ in both) if both else None
            line[f"{first['candidate']}, there"] = mean
        lines.append(line)
    return lines


def _growth(rows: Sequence[Row]) -> list[Row]:
    kept = ("case", "candidate", "us", "low", "high")
    lines = []
    for row in rows:
        base = next(r for r in rows if r["case"] == row["case"])
        unit = {"images": 1, "values": int(row["candidate"]), "pairs": int(row["candidate"])}
        each = row["us"] / unit[row["case"]]
        of_base = base["us"] / (int(base["candidate"]) if row["case"] != "images" else 1)
        line = {name: row[name] for name in kept}
        line |= {"for each, over the smallest": each / of_base, "memory, MB": row["memory"] / 1e6}
        lines.append(line)
    return lines


def _overhead(rows: Sequence[Row]) -> list[Row]:
    kept = ("case", "candidate", "us", "low", "high")
    return [
        {name: row[name] for name in kept}
        | {"network, us": row["network"], "part of the network": row["us"] / row["network"]}
        | {name: row[name] for name in ("success", "mean RMS")}
        for row in rows
    ]


GROUPS: dict[str, Callable[[Sequence[Row]], list[Row]]] = {
    "kernels": _kernels,
    "optimiser": _optimiser,
    "attack": _attack,
    "growth": _growth,
    "overhead": _overhead,
}


if __name__ == "__main__":
    main()
