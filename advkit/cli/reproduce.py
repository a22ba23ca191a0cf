"""``advkit reproduce``: the paper's tables and figures, beside the paper's own."""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import time
from pathlib import Path
from typing import Any

import advkit
from advkit._extras import require
from advkit._files import replacing
from advkit._records import strict
from advkit.cli._common import HelpFormatter, integer, prepare_folder, threads, user_errors
from advkit.data import load, names
from advkit.experiments import EXPERIMENTS, Outcome, Setting
from advkit.experiments.registry import CHOICES
from advkit.experiments.setting import IMAGENET
from advkit.models import Stage
from advkit.models.quocnet import STAGES
from advkit.report import csv_text, markdown_table

_PICTURES = ", ".join(name for name, each in EXPERIMENTS.items() if each.pictures)
# Options that some experiments have alone, by the names of what they use.
_ONLY = {
    "model": "--model",
    "target": "--target",
    "size": "--size",
    "classes": "--class",
    "stages": "--stages",
}
_SIZE = 32
_TIME = "seconds, without what was read back after an interruption"
_DESCRIPTION = """\
Run one experiment of the paper, and write

  DIR/NAME.md     tables beside the paper's own, with what they mean
  DIR/NAME.csv    a record for each cell
  DIR/NAME.json   everything, with settings and versions
  DIR/NAME.png    a picture, where there is one

Networks are trained the first time they are asked for, and kept. A run that was interrupted goes on
from where it was: what is done is in DIR/.advkit-NAME, which is removed at the end.

experiments:
"""
_EXAMPLES = """\
examples:
  advkit reproduce table2 --quick --out t2
      two minutes, on 5,000 digits, training included
  advkit reproduce table2 --data fashion-mnist --images 1000 --out clothes
      the whole of it on 60,000 pictures of clothes
  advkit reproduce table4 --data mnist --optimizer lbfgs --out digits
      MNIST itself (see advkit.data), trained by full-batch L-BFGS as in the paper
  advkit reproduce figure5 --model efficientnet-lite0 --images photos --target ostrich --out birds
      photographs of a folder that a published network takes for ostriches
  advkit reproduce figure6 --data photos --size 64 --stages 10:2:16 7:2:24 5:2:32 --out cars
      cars against the rest, on larger layers learnt from the pictures in photos/train
  advkit reproduce adversarial-training --out pools
      pools of adversarial examples against weight decay and dropout, three seeds
"""


def add_parser(commands: argparse._SubParsersAction[Any]) -> None:
    """Add this command to the command line."""
    width = max(map(len, EXPERIMENTS))
    listed = [f"  {name:<{width}}  {each.summary}\n" for name, each in EXPERIMENTS.items()]
    parser = commands.add_parser(
        "reproduce",
        help="run an experiment of the paper, beside the paper's own figures",
        description=_DESCRIPTION + "".join(listed),
        epilog=_EXAMPLES,
        formatter_class=HelpFormatter,
    )
    parser.add_argument("experiment", choices=EXPERIMENTS, metavar="NAME", help="see above")
    parser.add_argument(
        "--data",
        metavar="NAME|DIR",
        help=f"{', '.join(names())} (default: mnist-5k; figure6: fashion-mnist); figure6: or a "
        "folder with train/CLASS/IMAGE and test/CLASS/IMAGE (one that is called as a data set: "
        "./NAME)",
    )
    parser.add_argument(
        "--images",
        metavar="N|DIR",
        type=_images,
        help="how many to attack, the first N (default: 1000, with --quick 100; regularisation, "
        f"probing and figures have their own); {_PICTURES}: or a folder of images (default: "
        "Foolbox's samples)",
    )
    parser.add_argument(
        "--model",
        metavar="NAME",
        help=f"{_PICTURES}: efficientnet-lite0, torchvision:alexnet, timm:NAME "
        "(default: efficientnet-lite0)",
    )
    parser.add_argument(
        "--target",
        metavar="CLASS",
        help="figure5: the class of ImageNet to reach, a name or number (default: ostrich)",
    )
    parser.add_argument(
        "--class",
        metavar="NAME",
        dest="classes",
        nargs="+",
        help="figure6: the classes to tell from the rest (default: cars, where there are any)",
    )
    parser.add_argument(
        "--stages",
        metavar="SIZES",
        nargs="+",
        type=_stage,
        help="figure6: of each stage FIELD:STRIDE:MAPS, with :POOL:WINDOW if they are to be "
        "others than 3 and 5 (default: " + " ".join(map(str, STAGES)) + ")",
    )
    parser.add_argument(
        "--size",
        metavar="N",
        type=integer(1),
        help=f"figure6: pixels that images of a folder are scaled to (default: {_SIZE})",
    )
    parser.add_argument(
        "--targets",
        choices=("random", "none"),
        default="random",
        help="classes to reach: random ones, or any wrong one; the paper does not say which",
    )
    parser.add_argument(
        "--optimizer",
        choices=("adam", "lbfgs"),
        help="of the networks; lbfgs: full batches until convergence, the paper's way (default: "
        "adam, for ae400-10 lbfgs)",
    )
    parser.add_argument(
        "--epochs",
        metavar="N",
        type=integer(1),
        help="of the networks' training, with lbfgs evaluations (default: those of the data)",
    )
    parser.add_argument(
        "--seeds", metavar="N", type=integer(1), default=3, help="trainings of each kind"
    )
    parser.add_argument(
        "--seed",
        metavar="N",
        type=integer(0, 2**31 - 1),
        default=0,
        help="of networks, targets and noise",
    )
    parser.add_argument("--quick", action="store_true", help="few images, short training")
    parser.add_argument(
        "--out", metavar="DIR", type=Path, required=True, help="folder for the results"
    )
    parser.add_argument(
        "--force", action="store_true", help="replace the results that DIR already holds"
    )
    parser.add_argument(
        "--threads", metavar="N", type=integer(1), help="CPU threads (default: PyTorch's choice)"
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Run the experiment and write its files."""
    name: str = arguments.experiment
    experiment, folder = EXPERIMENTS[name], arguments.out
    data = arguments.data or experiment.data
    with user_errors():
        for module, extra in (("rich", "cli"), ("matplotlib", "cli"), ("safetensors", "models")):
            require(module, extra=extra, purpose="advkit reproduce")
        if experiment.pictures:
            require("PIL", extra="cli", purpose=f"advkit reproduce {name}")
        at = _folder(arguments, data)
        _refuse_of_others(arguments, at)
        if not experiment.pictures and at is None:
            load(data, "test")  # what is missing is told before any work
    prepare_folder(folder, (f"{name}.json",), force=arguments.force)
    given = arguments.images if isinstance(arguments.images, int) else None
    images = given or (experiment.quick_images if arguments.quick else experiment.images)
    work = folder / f".advkit-{name}"  # of this experiment alone: others may share the folder
    start = time.perf_counter()
    chosen = {key: getattr(arguments, key) for key in _ONLY}
    chosen |= {key: tuple(chosen[key]) for key in ("classes", "stages") if chosen[key]}
    if experiment.pictures:
        data = IMAGENET
    elif at is not None:
        data = at.resolve().name
        chosen["size"] = arguments.size or _SIZE
    setting = Setting(
        data=data,
        images=images,
        work=work,
        targets=arguments.targets,
        optimizer=arguments.optimizer,
        epochs=arguments.epochs,
        seeds=arguments.seeds,
        seed=arguments.seed,
        quick=arguments.quick,
        folder=at,
        **{key: value for key, value in chosen.items() if value is not None},
        progress=sys.stderr.isatty(),
        say=lambda words: print(
            f"[{time.perf_counter() - start:6.1f} s] {words}", file=sys.stderr, flush=True
        ),
    )
    with threads(arguments.threads), user_errors():
        outcome = experiment.run(setting)
        written = _write(name, folder, outcome, setting, time.perf_counter() - start)
    shutil.rmtree(work, ignore_errors=True)
    print(markdown_table(next(iter(outcome.tables.values()))))
    print(f"\nwrote {', '.join(written)} in {folder}")
    return 0


def _images(text: str) -> int | Path:
    """Take a number of images, or a folder."""
    try:
        int(text)
    except ValueError:
        return Path(text)
    return integer(1)(text)


def _stage(text: str) -> Stage:
    """Take FIELD:STRIDE:MAPS[:POOL[:WINDOW]]."""
    try:
        numbers = [int(part) for part in text.split(":")]
        if not 3 <= len(numbers) <= 5:
            raise ValueError("expected FIELD:STRIDE:MAPS[:POOL[:WINDOW]]")
        return Stage(*numbers)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r}: {error}") from error


def _folder(arguments: argparse.Namespace, data: str) -> Path | None:
    """Return the folder that takes the place of a data set, or None where none does."""
    experiment = EXPERIMENTS[arguments.experiment]
    if isinstance(arguments.images, Path):
        return arguments.images
    if not experiment.folders or data in names():
        return None
    if not Path(data).is_dir():
        raise ValueError(
            f"--data: no data set and no folder {data!r}, expected one of {', '.join(names())}, or "
            "a folder with train/CLASS/IMAGE and test/CLASS/IMAGE"
        )
    return Path(data)


def _refuse_of_others(arguments: argparse.Namespace, at: Path | None) -> None:
    """Raise where options that other experiments have are given."""
    name, experiment = arguments.experiment, EXPERIMENTS[arguments.experiment]
    for key, option in _ONLY.items():
        if getattr(arguments, key) is not None and key not in experiment.uses:
            owners = [other for other, each in EXPERIMENTS.items() if key in each.uses]
            raise ValueError(f"{option} is for {', '.join(owners)}, not for {name}")
    if experiment.pictures and arguments.data is not None:
        raise ValueError(f"--data is for data sets; {name} takes --images DIR")
    if not experiment.pictures and isinstance(arguments.images, Path):
        data = "NAME|DIR" if experiment.folders else "NAME"
        raise ValueError(
            f"--images DIR is for {_PICTURES}; {name} takes --data {data} and --images N"
        )
    if arguments.size is not None and at is None:
        raise ValueError("--size is for the images of a folder, --data DIR")


def _write(
    name: str, folder: Path, outcome: Outcome, setting: Setting, seconds: float
) -> list[str]:
    """Write pictures, tables and, last, as the sign that all is there, the numbers."""
    (folder / f"{name}.json").unlink(missing_ok=True)
    for file, draw in outcome.pictures.items():
        draw(folder / file)
    config = advkit.show_config()
    origin = {key: config[key] for key in ("advkit", "python", "torch", "processor", "threads")}
    settings = setting.to_dict()
    unused = set(CHOICES) - set(EXPERIMENTS[name].uses)
    used = {key: value for key, value in settings.items() if key not in unused}
    trained = {"adam": "Adam", "lbfgs": "L-BFGS"}.get(used.get("optimizer") or "")
    parts = [
        f"# {outcome.title}" + (f", the paper's networks trained by {trained}" if trained else "")
    ]
    for place, (heading, rows) in enumerate(outcome.tables.items()):
        parts += [f"## {heading}", markdown_table(rows)]
        if place == 0:
            parts.append("\n".join(f"- {note}" for note in outcome.notes))
            parts += [f"![{file}]({file})" for file in outcome.pictures]
    command = [{"what": key, "value": value} for key, value in used.items()]
    command += [{"what": key, "value": value} for key, value in origin.items()]
    parts += ["## Settings", markdown_table([*command, {"what": _TIME, "value": seconds}])]
    texts = {
        f"{name}.md": "\n\n".join(parts) + "\n",
        f"{name}.csv": csv_text(outcome.records),
        f"{name}.json": json.dumps(
            strict(
                {
                    "experiment": name,
                    "settings": used,
                    "environment": origin,
                    "seconds": seconds,
                    "notes": list(outcome.notes),
                    **outcome.data,
                }
            ),
            indent=1,
            allow_nan=False,
        )
        + "\n",
    }
    for file, text in texts.items():
        with replacing(folder / file) as temporary:
            temporary.write_text(text, encoding="utf-8")
    return [*texts, *outcome.pictures]
