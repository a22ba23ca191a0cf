"""Local optimality of attacks, and the tables of it that `minimum_norm.py` writes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from _common import Row, use_tests
from _harness import Array, Run
from _networks import TUNED_ON, network, originals
from _peers import OURS
from torch import nn

from advkit.analysis import local_optimality

use_tests()
from problems import LinearSoftmax  # noqa: E402

NORMS = ("l2", "l1", "linf")


def exact_distances(name: str, norm: str, images: int) -> Array | None:
    """Return the exact optimum where there is a formula: for networks without hidden units."""
    layers = [m for m in network(name).modules() if not list(m.children())]
    if [type(m) for m in layers] != [nn.Flatten, nn.Linear]:
        return None
    x, labels = originals(name, images)
    model = LinearSoftmax(layers[1].weight, layers[1].bias)
    exact = model.untargeted_distance(x, labels, norm=norm, lower=0.0, upper=1.0)
    return exact.double().numpy()


def summarise(runs: Sequence[Run]) -> list[Row]:
    """Return a row for each run, with its local optimality among all runs given."""
    references: dict[tuple[str, str], Array] = {}
    for run in runs:
        if run.key not in references:
            exact = exact_distances(*run.key, run.what["images"])
            references[run.key] = np.full_like(run.distances, np.inf) if exact is None else exact
        references[run.key] = np.minimum(references[run.key], run.distances)
    rows = []
    for run in runs:
        distances = run.distances
        rows.append(
            {key: run.what[key] for key in ("network", "norm", "attack", "evaluations")}
            | {
                "LO": local_optimality(
                    *map(torch.from_numpy, (distances, references[run.key])),
                ),
                "success": float(np.isfinite(distances).mean()),
                "median distance": float(np.median(distances)),
                "median of reference": float(np.median(references[run.key])),
                "median returned": float(np.median(run.arrays["final_distances"])),
                "ms per image": run.milliseconds,
                "forwards": float(run.arrays["forwards"].mean()),
                "backwards": float(run.arrays["backwards"].mean()),
                "most passes": int(run.passes.max()),
                "counts agree": run.counts_agree,
                "failed batches": int(run.arrays["batch_failures"].sum()),
                "images out of the box": int(run.arrays["box_failures"].sum()),
                "failed": run.failed,
                "message": run.what["message"],
            }
        )
    return rows


def table(rows: Sequence[Row], names: Sequence[str]) -> list[Row]:
    """Return a row for each attack, with its local optimality on each network, the best first."""
    made: list[Row] = []
    for attack in dict.fromkeys(row["attack"] for row in rows):
        ours = {row["network"]: row for row in rows if row["attack"] == attack}
        if any(row["failed"] for row in ours.values()):
            continue
        complete = len(ours) == len(names)
        raises = any(row["failed batches"] for row in ours.values())
        made.append(
            {"attack": attack + (" (raises)" if raises else ""), "mean LO": None}
            | {heading(name): ours[name]["LO"] if name in ours else None for name in names}
            | {
                "success": float(np.mean([row["success"] for row in ours.values()])),
                "ms per image": float(np.mean([row["ms per image"] for row in ours.values()])),
            }
        )
        if complete:
            made[-1]["mean LO"] = float(np.mean([row["LO"] for row in ours.values()]))
    return sorted(made, key=lambda row: -1.0 if row["mean LO"] is None else row["mean LO"])[::-1]


def heading(name: str) -> str:
    """Name a network at the top of a column."""
    return name if name in TUNED_ON else f"{name} (held out)"


def tables(rows: Sequence[Row], names: Sequence[str]) -> Iterator[tuple[str, int, list[Row]]]:
    """Yield norm, evaluations and their table for all that was measured."""
    for norm in NORMS:
        of_norm = [row for row in rows if row["norm"] == norm]
        for evaluations in sorted({row["evaluations"] for row in of_norm}):
            same = [row for row in of_norm if row["evaluations"] == evaluations]
            yield norm, evaluations, table(same, names)


def headlines(rows: Sequence[Row], names: Sequence[str]) -> list[Row]:
    """Return a row for each norm and budget: ours and the best of the peers'."""
    parts = {
        "tuned on": [heading(name) for name in names if name in TUNED_ON],
        "held out": [heading(name) for name in names if name not in TUNED_ON],
    }

    def columns(row: Row | None, who: str) -> Row:
        filled: Row = {f"{who}: mean LO": row and row["mean LO"]}
        for part, headings in parts.items():
            values = [row[h] for h in headings if row[h] is not None] if row else []
            filled[f"{who}: {part}"] = float(np.mean(values)) if values else None
        return filled | {f"{who}: ms per image": row and row["ms per image"]}

    made = []
    for norm, evaluations, entries in tables(rows, names):
        peers = [row for row in entries if not row["attack"].startswith("advkit.")]
        ours = next((row for row in entries if row["attack"] == OURS), None)
        best = peers[0] if peers else None
        made.append(
            {"norm": norm, "evaluations": evaluations}
            | columns(ours, "advkit")
            | {"rank": entries.index(ours) + 1 if ours else None, "of": len(entries)}
            | {"best peer": best and best["attack"]}
            | columns(best, "peer")
        )
    return made


def exactness(runs: Sequence[Run]) -> list[Row]:
    """Return a row for each run where the optimum is known: how near to it the attack came."""
    made = []
    for run in runs:
        exact = exact_distances(*run.key, run.what["images"])
        if exact is None:
            continue
        ratio = run.distances / exact
        made.append(
            {key: run.what[key] for key in ("network", "norm", "evaluations", "attack")}
            | {
                "within 0.1 %": float((ratio <= 1.001).mean()),
                "within 0.5 %": float((ratio <= 1.005).mean()),
                "within 5 %": float((ratio <= 1.05).mean()),
                "median ratio": float(np.median(ratio)),
                "smallest ratio": float(ratio.min()),
                "largest ratio": float(ratio.max()),
            }
        )
    return sorted(
        made, key=lambda row: (row["norm"], row["evaluations"], -row["within 0.5 %"], row["attack"])
    )


def failures(rows: Sequence[Row]) -> list[Row]:
    """Return a row for each attack and norm that raised, with what it said and where."""
    found: dict[tuple[str, str, str], list[Row]] = {}
    for row in rows:
        if row["message"]:
            found.setdefault((row["attack"], row["norm"], row["message"]), []).append(row)
    return [
        {
            "attack": attack,
            "norm": norm,
            "evaluations": " ".join(map(str, sorted({row["evaluations"] for row in raised}))),
            "networks": len({row["network"] for row in raised}),
            "in the tables": not any(row["failed"] for row in raised),
            "message": message,
        }
        for (attack, norm, message), raised in found.items()
    ]


def curves(rows: Sequence[Row], names: Sequence[str], norm: str) -> dict[str, dict[int, float]]:
    """Return mean LO by evaluations for each attack in a norm, the best at the end first."""
    found: dict[str, dict[int, float]] = {}
    for of, evaluations, entries in tables(rows, names):
        for row in entries:
            if of == norm and row["mean LO"] is not None:
                name = row["attack"].removesuffix(" (raises)")
                found.setdefault(name, {})[evaluations] = row["mean LO"]
    return dict(sorted(found.items(), key=lambda item: -max(item[1].items())[1]))
