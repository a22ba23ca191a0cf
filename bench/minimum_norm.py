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
"""

from __future__ import annotations

import contextlib
import csv
import fnmatch
import importlib
import io
import itertools
import json
import sys
import time
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from _common import Row, as_settings, markdown_table, parser, use_tests, write_results
from _networks import HELD_OUT, TUNED_ON, network
from _peers import ATTACKS, Peer
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from advkit._files import replacing
from advkit.attack import AttackResult
from advkit.attack.targets import correctly_classified
from advkit.data import load

use_tests()
from problems import LinearSoftmax  # noqa: E402

NETWORKS = TUNED_ON + HELD_OUT
NORMS = ("l2", "l1", "linf")
PACKAGES = ("advkit", "torch", "adv-lib", "attackbenchlib", "foolbox", "torchattacks")
OURS = "advkit.lbfgs"
# Of colour-blind-safe colours (Okabe and Ito), those that show on white; ours is black.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
LABELLED = 10
Array = npt.NDArray[np.float64]


class BudgetSpentError(Exception):
    """Ends an attack that goes on asking long after its budget is spent."""


@dataclass
class Run:
    """One attack on the images of one network at one budget.

    Parameters
    ----------
    what : dict
        network, norm, attack, evaluations, images, batch, threads, message, versions and date.
    arrays : dict of str to array
        What the harness measured: of each image, of each batch (seconds, batch_failures), or of
        all (refused: the passes of single images beyond the budget).
    """

    what: Row
    arrays: dict[str, Any]

    @property
    def key(self) -> tuple[str, str]:
        """Where distances can be compared: network and norm."""
        return self.what["network"], self.what["norm"]

    @property
    def failed(self) -> bool:
        """Whether the attack raised on every batch before it found anything."""
        return bool(self.arrays["batch_failures"].all()) and not np.isfinite(self.distances).any()

    @property
    def distances(self) -> Array:
        """The smallest distance to an adversarial image, inf where there is none."""
        return np.asarray(self.arrays["distances"], dtype=np.float64)

    @property
    def milliseconds(self) -> float:
        """Time for an image, the harness's own left out."""
        return 1e3 * float(self.arrays["seconds"].sum()) / len(self.distances)

    @property
    def counts_agree(self) -> float | None:
        """Share of the images with the passes that the attack reports; None if it reports none."""
        if "reported_forwards" not in self.arrays:
            return None
        same = [self.arrays[n] == self.arrays[f"reported_{n}"] for n in ("forwards", "backwards")]
        return float((same[0] & same[1]).mean())

    @property
    def counts_add_up(self) -> bool:
        """Whether the passes that the attack reports, if any, are those that the harness saw.

        The harness takes a query for one about the nearest image of the batch, so that far points
        count against another image, which may then be refused its last queries.
        """
        if "reported_forwards" not in self.arrays:
            return True
        reported = self.arrays["reported_forwards"] + self.arrays["reported_backwards"]
        unseen = int(reported.sum() - self.passes.sum())
        within = bool((reported <= 2 * self.what["evaluations"]).all())
        return within and unseen == int(self.arrays["refused"])

    @property
    def passes(self) -> Any:
        """Forward and backward passes of each image."""
        return self.arrays["forwards"] + self.arrays["backwards"]


@cache
def wrapped(model: nn.Module, evaluations: int) -> nn.Module:
    """Put a network into the harness's wrapper, with four changes.

    Since torch 2.14 the derivative of clamp is 0 at its bounds, too, so that the wrapper's own
    clamp hides the gradient of every pixel that is exactly 0 or 1 (half of those of
    Fashion-MNIST), which cripples all attacks; torch.where keeps it.

    The wrapper stops its clock when the budget is spent, but goes on subtracting the time of its
    own work, so that an attack that asks on seems faster than it is, up to negative times.

    An attack that is refused every query twice as often as it had evaluations is ended.

    Which original a query belongs to, the nearest, is found by `torch.cdist`: the wrapper's own
    differences of all pairs take ten times as long as the attack itself on a small network.
    """
    base = importlib.import_module("attackbench.models.benchmodel_wrapper").BenchModel

    class Wrapped(base):  # type: ignore[misc, valid-type]
        refused, idle, spent_on_tracking = 0, 0, 0.0

        def match_input(self, input: Tensor) -> None:
            self._bench_clock.start()
            order = {"l1": 1.0, "l2": 2.0, "linf": torch.inf}[self.tracking_threat_model]
            pairs = torch.cdist(input.detach().flatten(1), self.inputs.flatten(1), p=order)
            self._indices = pairs.argmin(1)
            self._bench_time += self._bench_clock.stop()

        def forward(self, input: Tensor) -> Tensor:
            input = torch.where(input < 0, 0.0, torch.where(input > 1, 1.0, input))
            if not self._benchmark_mode:
                return super().forward(input)
            before = int(self.num_forwards.sum())
            output = super().forward(input)
            answered = int(self.num_forwards.sum()) - before
            self.refused += len(input) - answered
            self.idle += answered == 0
            if self.idle > 2 * evaluations:
                raise BudgetSpentError
            return output

        def backward_hook(self, *args: Any) -> Any:
            before = int(self.num_backwards.sum()) if self._benchmark_mode else 0
            gradients = super().backward_hook(*args)
            if self._benchmark_mode:
                answered = int(self.num_backwards.sum()) - before
                self.refused += len(self._indices) - answered
            return gradients

        def start_tracking(self, *args: Any, **settings: Any) -> None:
            self.idle = 0
            super().start_tracking(*args, **settings)

        def stop_timing(self) -> None:
            if self._elapsed_time is None:
                super().stop_timing()
                self.spent_on_tracking = self._bench_time

        @property
        def elapsed_time(self) -> float:
            return self._elapsed_time - self.spent_on_tracking

    return Wrapped(model, enforce_box=False)


def measure(
    peer: Peer, name: str, x: Tensor, labels: Tensor, *, evaluations: int, batch: int
) -> Run:
    """Run one attack in the harness.

    Parameters
    ----------
    peer : Peer
        The attack.
    name : str
        The network; a new one for each run, since the harness leaves its hooks in it.
    x, labels : Tensor
        Images and their classes.
    evaluations : int
        The budget: as many forward, and as many backward passes, in any proportion.
    batch : int
        Images at once; the harness compares each of a batch with each at every query.
    """
    called, model = peer.build(evaluations), wrapped(network(name), evaluations)
    messages: list[str] = []
    reported: list[AttackResult] = []

    def attack(model: nn.Module, inputs: Tensor, labels: Tensor) -> Tensor:
        try:
            made = called(model, inputs, labels)
        except BudgetSpentError:
            return inputs
        except Exception as error:
            messages.append(f"{type(error).__name__}: {error}".splitlines()[0])
            raise
        if isinstance(made, AttackResult):
            reported.append(made)
            made = made.adversarial
        # The harness works in place on what it gets, and its minimum of a distance and nan is nan.
        finite = made.flatten(1).isfinite().all(1).view(-1, *[1] * (made.ndim - 1))
        return torch.where(finite, made, inputs).detach()

    with (
        warnings.catch_warnings(),
        contextlib.redirect_stderr(io.StringIO()),
        contextlib.redirect_stdout(io.StringIO()),
    ):
        warnings.simplefilter("ignore")
        found = importlib.import_module("attackbench").run_attack(
            model,
            DataLoader(TensorDataset(x, labels), batch_size=batch),
            attack,
            peer.norm,
            query_budget=2 * evaluations,
            device=torch.device("cpu"),
        )
    arrays = {
        "distances": found["distances"][peer.norm],
        "final_distances": found["final_distances"][peer.norm],
        "forwards": found["num_forwards"],
        "backwards": found["num_backwards"],
        "seconds": found["times"],
        "batch_failures": found["batch_failures"],
        "box_failures": found["box_failures"],
        "refused": model.refused,
    }
    if reported and not messages:
        for counter in "forwards", "backwards":
            arrays[f"reported_{counter}"] = torch.cat([getattr(r, counter) for r in reported])
    what = {
        "network": name,
        "norm": peer.norm,
        "attack": peer.title,
        "evaluations": evaluations,
        "images": len(x),
        "batch": batch,
        "threads": torch.get_num_threads(),
        "message": "; ".join(sorted(set(messages))),
        "versions": versions(),
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
    }
    return Run(what, {key: np.asarray(values) for key, values in arrays.items()})


def versions() -> Row:
    """Return the versions of what takes part."""
    found: Row = {}
    for package in PACKAGES:
        with contextlib.suppress(PackageNotFoundError):
            found[package] = version(package)
    return found


def save(run: Run, path: Path) -> None:
    """Write a run to an npz file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as temporary, open(temporary, "wb") as file:
        np.savez_compressed(file, what=json.dumps(run.what), **run.arrays)


def read(path: Path) -> Run:
    """Read what `save` wrote."""
    with np.load(path) as file:
        arrays = dict(file)
    return Run(json.loads(str(arrays.pop("what"))), arrays)


def originals(name: str, images: int) -> tuple[Tensor, Tensor]:
    """Return the first test images that a network has right, (B, 1, 28, 28), and their classes."""
    test = load("fashion-mnist", "test")
    x = test.images.view(-1, 1, 28, 28)
    index = correctly_classified(network(name), x, test.labels, limit=images)
    return x[index], test.labels[index]


def exact_distances(name: str, norm: str, images: int) -> Array | None:
    """Return the exact optimum where there is a formula: for networks without hidden units."""
    layers = [m for m in network(name).modules() if not list(m.children())]
    if [type(m) for m in layers] != [nn.Flatten, nn.Linear]:
        return None
    x, labels = originals(name, images)
    model = LinearSoftmax(layers[1].weight, layers[1].bias)
    exact = model.untargeted_distance(x, labels, norm=norm, lower=0.0, upper=1.0)
    return exact.double().numpy()


def local_optimality(distances: Array, reference: Array) -> float:
    """Return AttackBench's local optimality, version 2, for images that are all classified right.

    The area between an attack's curve of robust accuracy and the top, over the same area of the
    reference, up to the largest finite distance of the reference; in closed form.
    """
    largest = reference[np.isfinite(reference)].max(initial=0.0)
    area = [largest - np.minimum(d, largest).mean() for d in (distances, reference)]
    return float(area[0] / area[1]) if area[1] > 0 else float("nan")


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
                "LO": local_optimality(distances, references[run.key]),
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
    return f"{name} (held out)" if name in HELD_OUT else name


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
        "held out": [heading(name) for name in names if name in HELD_OUT],
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


def write(runs: Sequence[Run], given: Any) -> None:
    """Write all tables and pictures."""
    names = [name for name in NETWORKS if any(run.what["network"] == name for run in runs)]
    rows = summarise(runs)
    images = sorted({run.what["images"] for run in runs})
    used: dict[str, set[str]] = {}
    for run in runs:
        for package, number in run.what["versions"].items():
            used.setdefault(package, set()).add(number)
    settings = as_settings(given) | {
        f"{package} of the runs": ", ".join(sorted(found)) for package, found in used.items()
    }
    settings["threads of the runs"] = sorted({run.what["threads"] for run in runs})
    settings["dates of the runs"] = [pick(r.what["date"] for r in runs) for pick in (min, max)]
    notes = [
        "LO: AttackBench's local optimality, version 2, over the first "
        f"{images[0]} test images that a network classifies right. The reference is each image's "
        "smallest distance over all attacks and budgets here and, for fc10 in L2, the exact "
        "optimum; so it depends on the attacks that took part.",
        "E evaluations are at most 2 E forward and backward passes of each image, in any "
        "proportion, counted and cut off by the harness; an image's distance is that of the "
        "nearest adversarial image among all queries.",
        f"advkit's attacks were tuned on {', '.join(TUNED_ON)}; nothing was chosen on "
        f"{', '.join(HELD_OUT)} (held out). The peers have AttackBench's settings, "
        "with numbers of steps that fit the budget (_peers.py).",
        "counts agree (results.csv): the share of images of which advkit reports the passes that "
        "the harness counted. It takes a query for one about the nearest image of the batch, so "
        "that far points count against another image; the sums are checked to be the same.",
        "ms per image: without the time of the harness, with its hooks in the network.",
        "(raises): the attack ended with an error on some batch; what it had found before counts, "
        "but its users get nothing.",
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
    parts.append(f"## Attacks that raised\n\n{markdown_table(failures(rows))}\n")
    page = given.out / "results.md"
    before, mark, after = page.read_text().partition("## Settings")
    page.write_text(before + "\n".join([*parts, mark]) + after)
    for norm in dict.fromkeys(row["norm"] for row in rows):
        picture(curves(rows, names, norm), norm, given.out)


def picture(lines: dict[str, dict[int, float]], norm: str, out: Path) -> None:
    """Write the curves of a norm as a table and, where matplotlib is there, as a picture."""
    with (out / f"{norm}.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["attack", "evaluations", "mean LO"])
        writer.writerows((a, x, f"{lo:.6f}") for a, line in lines.items() for x, lo in line.items())
    try:
        draw(lines, f"Minimum-norm attacks, {norm}", out / f"{norm}.png")
    except ImportError:
        print(f"no {norm}.png: matplotlib is not installed", file=sys.stderr)


def main(arguments: Sequence[str] | None = None) -> None:
    """Make the runs that are missing, then the tables."""
    options = parser("minimum_norm", __doc__)
    options.add_argument("--networks", nargs="+", default=list(NETWORKS), choices=NETWORKS)
    options.add_argument("--norms", nargs="+", default=list(NORMS), choices=NORMS)
    options.add_argument("--evaluations", nargs="+", type=int, default=[50, 200, 1000])
    options.add_argument(
        "--attacks", nargs="+", default=["*"], help="library.name, with * and ? as in file names"
    )
    options.add_argument("--images", type=int, default=500, help="of each network")
    options.add_argument("--batch", type=int, default=125, help="images at once")
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
    cached = cache(originals)
    for number, (evaluations, name, peer) in enumerate(asked, 1):
        path = folder / f"{name}_{peer.norm}_{peer.title}_{evaluations}_{given.images}.npz"
        # What raised on every batch is soon tried again: a package may have come since.
        if path.exists() and not read(path).failed:
            continue
        x, labels = cached(name, given.images)
        start = time.perf_counter()
        run = measure(peer, name, x, labels, evaluations=evaluations, batch=given.batch)
        save(run, path)
        print(
            f"{number}/{len(asked)} {name} {peer.norm} {peer.title} {evaluations}: "
            f"median {np.median(run.distances):.4g}, "
            f"{time.perf_counter() - start:.1f} s {run.what['message']}",
            file=sys.stderr,
        )


if __name__ == "__main__":
    main()
