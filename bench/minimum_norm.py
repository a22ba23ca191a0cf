r"""Compare advkit's attacks with its peers' by AttackBench's own harness.

Minimum-norm attacks of adv-lib, Foolbox, torchattacks and advkit (the table in _peers.py) meet the
networks of _networks.py on Fashion-MNIST, in L2, L1 and Linf, at several budgets. AttackBench's
harness (attackbenchlib, https://attackbench.github.io) counts every forward and backward pass of
each image, cuts them off at twice the number of evaluations, and keeps the nearest adversarial
image among all those that an attack asked for. Local optimality (LO) is AttackBench's, version 2:
1 for an attack that finds the nearest known adversarial image of every image, 0 for one that finds
nothing.

The peers need an environment of their own, in a clone of this repository::

    echo "setuptools<81" > constraint.txt && python3 -m venv peers
    PIP_CONSTRAINT=constraint.txt peers/bin/pip install '.[cli]' torchvision adv-lib==0.2.8 \
        attackbenchlib==2.0.2 foolbox==3.3.4 torchattacks==3.5.1

(adv-lib needs visdom, which builds with a module that newer setuptools do not have; Foolbox's
Brendel-Bethge attacks need numba, too.) Each run is kept in OUT/runs and not made again, so that
the script goes on where it was stopped; delete files there to measure again. ``--summary-only``
makes the tables and pictures of what is there, in any environment of advkit's.

EfficientNet-Lite0 has a place of its own, since it has few images (17 of Foolbox's 20 right) and
takes long: ``--networks efficientnet-lite0 --images 17 --batch 17 --out bench/results/imagenet``.
"""

from __future__ import annotations

import fnmatch
import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from _common import as_settings, markdown_table, parser, write_results
from _curves import write_curves, write_distances
from _harness import Run, kept, measure, origins, read
from _local_optimality import NORMS, curves, exactness, failures, headlines, summarise, tables
from _networks import HELD_OUT, IMAGENET, TUNED_ON, originals
from _peers import ATTACKS

FASHION = TUNED_ON + HELD_OUT
NETWORKS = (*FASHION, IMAGENET)


def write(runs: Sequence[Run], given: Any) -> None:
    """Write all tables and pictures."""
    names = [name for name in NETWORKS if any(run.what["network"] == name for run in runs)]
    rows = summarise(runs)
    images = sorted({run.what["images"] for run in runs})
    settings = as_settings(given) | origins(runs)
    notes = [
        "LO: AttackBench's local optimality, version 2, over the first "
        f"{images[0]} test images that a network classifies right. The reference is each image's "
        "smallest distance over all attacks and budgets here and, for fc10, the exact optimum, "
        "so it depends on the attacks that took part.",
        "E evaluations are at most 2 E forward and backward passes of each image, in any "
        "proportion, counted and cut off by the harness; an image's distance is that of the "
        "nearest adversarial image among all queries.",
        f"advkit's attacks were tuned on {', '.join(TUNED_ON)}; of the choices that untargeted "
        "attacks depend on, none was made on the others (held out) but two that bench/README.md "
        "names. The peers have AttackBench's settings, with numbers of steps that fit the "
        "budget (_peers.py).",
        "counts agree (results.csv): the share of images of which advkit reports the passes that "
        "the harness counted. It takes a query for one about the nearest image of the batch, so "
        "that far points count against another image; the sums are checked to be the same.",
        "ms per image: processor time, without that of the harness, with its hooks in the network.",
        "adv_lib.fmn finds little on networks that are nearly linear, without the harness, too: "
        "its radius ends at the linearised boundary, which it approaches from inside.",
        "(raises): the attack ended with an error on some batch; what it had found before counts, "
        "but its users get nothing.",
        *given.note,
    ]
    summary = headlines(rows, names)
    write_results(
        given.out,
        "Minimum-norm attacks in AttackBench's harness",
        settings=settings,
        summary=summary,
        rows=rows,
        notes=notes,
    )
    parts = [
        f"## {norm}, {evaluations} evaluations: LO\n\n{markdown_table(entries)}\n"
        for norm, evaluations, entries in tables(rows, names)
    ]
    known = exactness(runs)
    if known:
        parts.append(f"## Against the exact optimum\n\n{markdown_table(known)}\n")
    parts.append(f"## Attacks that raised\n\n{markdown_table(failures(rows))}\n")
    page = given.out / "results.md"
    before, mark, after = page.read_text().partition("## Settings")
    page.write_text(before + "\n".join([*parts, mark]) + after)
    for norm in dict.fromkeys(row["norm"] for row in rows):
        lines = curves(rows, names, norm)
        write_curves(lines, norm, given.out)
        write_distances(rows, lines, norm, given.out)


def main(arguments: Sequence[str] | None = None) -> None:
    """Make the runs that are missing, then the tables."""
    options = parser("minimum_norm", __doc__)
    options.add_argument("--networks", nargs="+", default=list(FASHION), choices=NETWORKS)
    options.add_argument("--norms", nargs="+", default=list(NORMS), choices=NORMS)
    options.add_argument("--evaluations", nargs="+", type=int, default=[50, 200, 1000])
    options.add_argument(
        "--attacks", nargs="+", default=["*"], help="library.name, with * and ? as in file names"
    )
    options.add_argument("--images", type=int, default=500, help="of each network")
    options.add_argument("--batch", type=int, default=125, help="images at once")
    options.add_argument("--note", action="append", default=[], help="a sentence for the record")
    options.add_argument("--summary-only", action="store_true", help="of all runs that are there")
    given = options.parse_args(arguments)
    torch.set_num_threads(given.threads)
    folder = given.out / "runs"
    if not given.summary_only:
        make_runs(given, folder)
    runs = [run for run in map(read, sorted(folder.glob("*.npz"))) if selected(run, given)]
    if not runs:
        raise SystemExit(f"no runs in {folder}")
    write(runs, given)
    print((given.out / "results.md").read_text().split("## ")[0])
    wrong = [run.what for run in runs if not run.counts_add_up]
    if wrong:
        raise SystemExit(f"reported passes differ in {len(wrong)} runs, such as {wrong[0]}")


def selected(run: Run, given: Any) -> bool:
    """Tell whether a run is one of those asked for, whatever its attack and budget."""
    what = run.what
    return (
        what["network"] in given.networks
        and what["norm"] in given.norms
        and what["images"] == given.images
    )


def make_runs(given: Any, folder: Path) -> None:
    """Make and keep the runs asked for that are not there."""
    asked = [
        (evaluations, name, peer)
        for evaluations, name, norm in itertools.product(
            given.evaluations, given.networks, given.norms
        )
        for peer in ATTACKS
        if peer.norm == norm and any(fnmatch.fnmatch(peer.title, p) for p in given.attacks)
    ]
    for number, (evaluations, name, peer) in enumerate(asked, 1):
        kept(
            folder / f"{name}_{peer.norm}_{peer.title}_{evaluations}_{given.images}.npz",
            f"{number}/{len(asked)} {name} {peer.norm} {peer.title} {evaluations}",
            lambda name=name, peer=peer, evaluations=evaluations: measure(
                peer,
                name,
                *originals(name, given.images),
                evaluations=evaluations,
                batch=given.batch,
            ),
        )


if __name__ == "__main__":
    main()
