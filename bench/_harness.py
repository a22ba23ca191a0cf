"""Runs of attacks in AttackBench's harness: what it counts and keeps, and files of it.

The harness (attackbenchlib, https://attackbench.github.io) counts every forward and backward pass
of each image, cuts them off at twice the number of evaluations, and keeps the nearest adversarial
image among all those that an attack asked for.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import json
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from _common import Row
from _networks import classes, digest, network
from _peers import Attack, Peer
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from advkit._files import replacing
from advkit.attack import AttackResult

PACKAGES = ("advkit", "torch", "adv-lib", "attackbenchlib", "foolbox", "torchattacks")
Array = npt.NDArray[np.float64]


class BudgetSpentError(Exception):
    """Ends an attack that goes on asking long after its budget is spent."""


@dataclass
class Run:
    """One attack on the images of one network at one budget.

    Parameters
    ----------
    what : dict
        network, its digest, norm, attack, evaluations, images, batch, threads, message, versions
        and date.
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
        """Processor time for an image, the harness's own left out."""
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


def wrapped(model: nn.Module, evaluations: int, *, distinct: bool = False) -> nn.Module:
    """Put a network into the harness's wrapper, with five changes.

    Parameters
    ----------
    model : torch.nn.Module
        The network.
    evaluations : int
        The budget.
    distinct : bool
        The attack asks about no image twice in one call. A point may then be as far from its
        original as other images are, which targets need, and still be counted for its own.

    Notes
    -----
    Since torch 2.14 the derivative of clamp is 0 at its bounds, too, so that the wrapper's own
    clamp hides the gradient of every pixel that is exactly 0 or 1 (half of those of
    Fashion-MNIST), which cripples all attacks; torch.where keeps it.

    Time is the processor's, which other work on the machine does not lengthen.

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
            self._indices = owners(pairs, distinct=distinct)
            self._bench_time += self._bench_clock.stop()

        def forward(self, input: Tensor) -> Tensor:
            input = torch.where(input < 0, 0.0, torch.where(input > 1, 1.0, input))
            if not self._benchmark_mode:
                return super().forward(input)
            before = int(self.num_forwards.sum())
            output = super().forward(input)
            answered = int(self.num_forwards.sum()) - before
            self.refused += len(input) - answered
            self._end_if_idle(answered)
            return output

        def _end_if_idle(self, answered: int) -> None:
            self.idle += answered == 0
            if self.idle > 2 * evaluations:
                raise BudgetSpentError

        def backward_hook(self, *args: Any) -> Any:
            before = int(self.num_backwards.sum()) if self._benchmark_mode else 0
            gradients = super().backward_hook(*args)
            if self._benchmark_mode:
                answered = int(self.num_backwards.sum()) - before
                self.refused += len(self._indices) - answered
                self._end_if_idle(answered)
            return gradients

        def start_tracking(self, *args: Any, **settings: Any) -> None:
            self.idle = 0
            super().start_tracking(*args, **settings)
            self._attack_clock, self._bench_clock = _Clock(), _Clock()
            self.start_timing()

        def stop_timing(self) -> None:
            if self._elapsed_time is None:
                super().stop_timing()
                self.spent_on_tracking = self._bench_time

        @property
        def elapsed_time(self) -> float:
            return self._elapsed_time - self.spent_on_tracking

    return Wrapped(model, enforce_box=False)


def owners(pairs: Tensor, *, distinct: bool) -> Tensor:
    """Return which original each query is about (b,), given the distances (b, B) between them.

    Parameters
    ----------
    pairs : Tensor (b, B)
        From b queries to B originals.
    distinct : bool
        All queries are about different originals: those with the smallest sum of distances.
        Otherwise each is about the nearest.

    Raises
    ------
    ValueError
        There are more queries than originals, which cannot be distinct.
    """
    if not distinct:
        return pairs.argmin(1)
    if len(pairs) > pairs.shape[1]:
        raise ValueError(f"{len(pairs)} queries cannot be about {pairs.shape[1]} different images")
    assign = importlib.import_module("scipy.optimize").linear_sum_assignment
    far = torch.finfo(torch.float32).max
    return torch.from_numpy(assign(pairs.nan_to_num(nan=far, posinf=far).double())[1])


class _Clock:
    """Seconds of the processor since `start`, as the harness asks its clocks for them."""

    def start(self) -> None:
        self._since = time.process_time()

    def stop(self) -> float:
        return time.process_time() - self._since


class _Watched:
    """An attack as the harness calls it: what it raised and reported is kept."""

    def __init__(self, attack: Attack) -> None:
        self._attack = attack
        self.messages: list[str] = []
        self.reported: list[AttackResult] = []

    def __call__(self, model: nn.Module, inputs: Tensor, labels: Tensor) -> Tensor:
        try:
            made = self._attack(model, inputs, labels)
        except BudgetSpentError:
            return inputs
        except Exception as error:
            self.messages.append(f"{type(error).__name__}: {error}".splitlines()[0])
            raise
        if isinstance(made, AttackResult):
            self.reported.append(made)
            made = made.adversarial
        # The harness works in place on what it gets, and its minimum of a distance and nan is nan.
        finite = made.flatten(1).isfinite().all(1).view(-1, *[1] * (made.ndim - 1))
        return torch.where(finite, made, inputs).detach()

    def counts(self) -> dict[str, Tensor]:
        """Return the passes of each image that the attack reports, if it does."""
        if self.messages or not self.reported:
            return {}
        return {
            f"reported_{name}": torch.cat([getattr(result, name) for result in self.reported])
            for name in ("forwards", "backwards")
        }


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    with (
        warnings.catch_warnings(),
        contextlib.redirect_stderr(io.StringIO()),
        contextlib.redirect_stdout(io.StringIO()),
    ):
        warnings.simplefilter("ignore")
        yield


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
    attack = _Watched(peer.build(evaluations, classes(name)))
    model = wrapped(network(name), evaluations)
    with _silence():
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
    return _run(peer, name, attack, arrays, evaluations=evaluations, batch=batch)


def measure_targeted(
    peer: Peer,
    name: str,
    x: Tensor,
    labels: Tensor,
    targets: Tensor,
    *,
    evaluations: int,
    batch: int,
) -> Run:
    """Run one targeted attack on the harness's network, whose own loop has no targets.

    As `measure`, but the attack is called with targets; what it raises is not caught. Each query of
    a call counts for another image: the pairs of queries and originals with the smallest sum of
    distances.
    """
    attack = _Watched(peer.build(evaluations, classes(name)))
    model = wrapped(network(name), evaluations, distinct=True)
    model.num_max_propagations = 2 * evaluations
    lengths = importlib.import_module("adv_lib.distances.lp_norms")
    metric = getattr(lengths, f"{peer.norm}_distances")
    torch.manual_seed(0)
    arrays: dict[str, list[Any]] = {}
    for rows in torch.arange(len(x)).split(batch):
        inputs, own, aims = x[rows], labels[rows], targets[rows]
        with _silence():
            model.start_tracking(
                inputs=inputs,
                labels=own,
                targeted=True,
                targets=aims,
                tracking_metric=metric,
                tracking_threat_model=peer.norm,
            )
            made = attack(model, inputs.clone(), aims.clone())
            model.end_tracking()
        reached = model(made).argmax(1) == aims
        returned = metric(made, inputs).masked_fill(~reached, torch.inf)
        outside = ((made < 0) | (made > 1)).flatten(1).any(1)
        for key, values in (
            ("distances", model.min_dist[peer.norm].tolist()),
            ("final_distances", returned.tolist()),
            ("forwards", model.num_forwards.tolist()),
            ("backwards", model.num_backwards.tolist()),
            ("seconds", [model.elapsed_time]),
            ("batch_failures", [False]),
            ("box_failures", outside.tolist()),
        ):
            arrays.setdefault(key, []).extend(values)
    counted = {**arrays, "refused": model.refused}
    return _run(peer, name, attack, counted, evaluations=evaluations, batch=batch)


def _run(
    peer: Peer,
    name: str,
    attack: _Watched,
    arrays: dict[str, Any],
    *,
    evaluations: int,
    batch: int,
) -> Run:
    what = {
        "network": name,
        "digest": digest(name),
        "norm": peer.norm,
        "attack": peer.title,
        "evaluations": evaluations,
        "images": len(arrays["distances"]),
        "batch": batch,
        "threads": torch.get_num_threads(),
        "message": "; ".join(sorted(set(attack.messages))),
        "versions": versions(),
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
    }
    everything = arrays | attack.counts()
    return Run(what, {key: np.asarray(values) for key, values in everything.items()})


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


def kept(path: Path, label: str, make: Callable[[], Run]) -> Run:
    """Return the run that a file keeps; make and keep it where there is none, and say so.

    What raised on every batch is soon tried again: a package may have come since.
    """
    if path.exists():
        run = read(path)
        if not run.failed:
            return run
    start = time.perf_counter()
    run = make()
    save(run, path)
    print(
        f"{label}: median {np.median(run.distances):.4g}, "
        f"{time.perf_counter() - start:.1f} s {run.what['message']}",
        file=sys.stderr,
    )
    return run


def origins(runs: Sequence[Run]) -> Row:
    """Return versions, threads and dates of runs, for the record of results made from them.

    Raises
    ------
    ValueError
        If runs are of networks that are not the same but for their name.
    """
    networks: dict[str, set[str]] = {}
    for run in runs:
        networks.setdefault(run.what["network"], set()).add(run.what.get("digest", "unknown"))
    mixed = [name for name, digests in networks.items() if len(digests) > 1]
    if mixed:
        raise ValueError(
            f"runs of different networks, all called {mixed[0]}, cannot be compared: "
            f"{', '.join(sorted(networks[mixed[0]]))}; remove those of one, or use another --out"
        )
    used: dict[str, set[str]] = {}
    for run in runs:
        for package, number in run.what["versions"].items():
            used.setdefault(package, set()).add(number)
    found: Row = {f"{package} of the runs": ", ".join(sorted(n)) for package, n in used.items()}
    found["networks"] = {name: digests.pop() for name, digests in networks.items()}
    found["threads of the runs"] = sorted({run.what["threads"] for run in runs})
    found["dates of the runs"] = [pick(r.what["date"] for r in runs) for pick in (min, max)]
    return found
