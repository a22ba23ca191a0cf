"""Compare targeted L2 attacks: advkit's with few evaluations, DDN's and ALMA's (adv-lib) with many.

The networks and images of minimum_norm.py, a seeded random target for each image, and the same
harness: it counts passes, cuts them off at the budget, and keeps the nearest image of the target's
class among all queries. Unlike there, the queries of a call count for images that are all
different, those with the smallest sum of distances: targets lead so far that another image is often
the nearest, to which a point that reached its target was credited as a failure.

Needs the environment that minimum_norm.py describes. Runs are kept in OUT/runs and not made again.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from _common import Row, as_settings, parser, write_results
from _harness import Run, kept, measure_targeted, origins
from _networks import HELD_OUT, TUNED_ON, classes, originals
from _peers import OURS, TARGETED

from advkit.attack.targets import random_targets

NETWORKS = TUNED_ON + HELD_OUT


def rows_of(runs: Sequence[Run]) -> list[Row]:
    """Return a row for each run; means over the images that all runs on the network reached."""
    made: list[Row] = []
    for name in NETWORKS:
        here = [run for run in runs if run.what["network"] == name]
        reached = np.isfinite([run.distances for run in here]).all(0) if here else None
        for run in here:
            made.append(
                {
                    "network": name,
                    "attack": run.what["attack"],
                    "evaluations": run.what["evaluations"],
                    "success": float(np.isfinite(run.distances).mean()),
                    "reached by all": int(reached.sum()),
                    "mean distance": float(run.distances[reached].mean()),
                    "median distance": float(np.median(run.distances)),
                    "most passes": int(run.passes.max()),
                    "counts agree": run.counts_agree,
                    "ms per image": run.milliseconds,
                }
            )
    return made


def summarise(rows: Sequence[Row], few: int, many: int) -> list[Row]:
    """Return a row for each network: ours with `few` evaluations against theirs with `many`."""
    found = {(row["network"], row["attack"], row["evaluations"]): row for row in rows}
    made = []
    for name in NETWORKS:
        ours = found.get((name, OURS, few))
        if ours is None:
            continue
        row = {
            "network": name,
            "advkit: evaluations": few,
            "advkit: success": ours["success"],
            "advkit: mean distance": ours["mean distance"],
            "advkit: ms per image": ours["ms per image"],
        }
        for peer in TARGETED:
            theirs = found.get((name, peer.title, many))
            if peer.title != OURS and theirs is not None:
                row |= {
                    f"{peer.title}: evaluations": many,
                    f"{peer.title}: success": theirs["success"],
                    f"{peer.title}: mean distance": theirs["mean distance"],
                    f"{peer.title}: ms per image": theirs["ms per image"],
                }
        made.append(row)
    return made


def runs_on(name: str, given: argparse.Namespace) -> Iterator[Run]:
    """Yield the runs of all attacks on a network, made now or before."""
    x, labels = originals(name, given.images)
    targets = random_targets(labels, classes(name), seed=0)
    for evaluations, peer in itertools.product((given.few, given.many), TARGETED):
        label = f"{name} {peer.title} {evaluations}"
        path = given.out / "runs" / f"{name}_{peer.title}_{evaluations}_{given.images}.npz"
        yield kept(
            path,
            label,
            lambda peer=peer, evaluations=evaluations: measure_targeted(
                peer, name, x, labels, targets, evaluations=evaluations, batch=given.batch
            ),
        )


def main(arguments: Sequence[str] | None = None) -> None:
    """Make the runs that are missing, then the tables."""
    options = parser("targeted", __doc__, threads=1)
    options.add_argument("--networks", nargs="+", default=list(NETWORKS), choices=NETWORKS)
    options.add_argument("--few", type=int, default=200, help="evaluations of ours")
    options.add_argument("--many", type=int, default=1000, help="evaluations of the others")
    options.add_argument("--images", type=int, default=500, help="of each network")
    options.add_argument("--batch", type=int, default=125, help="images at once")
    options.add_argument("--note", action="append", default=[], help="a sentence for the record")
    given = options.parse_args(arguments)
    torch.set_num_threads(given.threads)
    runs = [run for name in given.networks for run in runs_on(name, given)]
    wrong = [run.what for run in runs if not run.counts_add_up]
    if wrong:
        raise SystemExit(f"reported passes differ in {len(wrong)} runs, such as {wrong[0]}")
    rows = rows_of(runs)
    write_results(
        given.out,
        "Targeted L2 attacks",
        settings=as_settings(given) | origins(runs),
        summary=summarise(rows, given.few, given.many),
        rows=rows,
        notes=[
            "Mean distances are over the images whose target every run on that network reached.",
            "counts agree: the share of images of which advkit reports the passes that the harness "
            "counted.",
            "E evaluations are at most 2 E forward and backward passes of each image, counted and "
            "cut off by AttackBench's harness; an image's distance is that of the nearest image of "
            "the target's class among all queries.",
            "ms per image: processor time, without that of the harness, with its hooks in the "
            "network.",
            *given.note,
        ],
    )
    print((given.out / "results.md").read_text().split("## ")[0])


if __name__ == "__main__":
    main()
