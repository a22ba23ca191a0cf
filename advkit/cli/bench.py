"""``advkit bench``: run the benchmark suite of a clone, and write its tables and pictures."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import advkit
from advkit._extras import require
from advkit.cli._common import CommandError, HelpFormatter, integer, prepare_folder, user_errors

RECORD = "benchmark.json"
GROUPS = ("kernels", "optimiser", "attack", "growth", "overhead")

_EXAMPLES = """\
examples:
  advkit bench --quick --out first         a few minutes: does it run, and roughly how fast?
  advkit bench --out here                  everything, up to an hour on two processors
  advkit bench kernels --threads 1         one group
  advkit bench attack --select "scipy or 50_evaluations"   two candidates

Times mean something only on a machine that does nothing else. Peers that are not installed are
left out, and the report says so; pip install "advkit[bench]" brings them.
"""


def add_parser(commands: argparse._SubParsersAction[Any]) -> None:
    """Add this command to the command line."""
    parser = commands.add_parser(
        "bench",
        help="time advkit and its peers, with tables and pictures",
        description="Time advkit's kernels, solver and attacks, and those of its peers, in turns.",
        epilog=_EXAMPLES,
        formatter_class=HelpFormatter,
    )
    parser.add_argument(
        "groups", nargs="*", metavar="GROUP", help=f"{', '.join(GROUPS)}; default: all"
    )
    parser.add_argument("--out", type=Path, default=Path("benchmark"), help="folder of the results")
    parser.add_argument(
        "--force", action="store_true", help="replace the results that it already holds"
    )
    parser.add_argument("--quick", action="store_true", help="fewer and smaller cases, two turns")
    parser.add_argument("--turns", type=integer(1), help="of each candidate (default: 5, quick: 2)")
    parser.add_argument(
        "--threads", type=integer(1), default=min(2, os.cpu_count() or 1), help="of the processor"
    )
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu", help="of the kernels")
    parser.add_argument("--data", default="fashion-mnist", help="that the attacks are made on")
    parser.add_argument("--images", type=integer(1), help="that advkit attacks (default: 1000)")
    parser.add_argument(
        "--peer-images", type=integer(1), help="that slow peers attack in a turn (default: 20)"
    )
    parser.add_argument("--select", help="cases and candidates by name, as pytest's -k takes it")
    parser.add_argument(
        "--suite", type=Path, help="folder bench/suite of a clone (default: found from here)"
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Run pytest on the suite, then make the report."""
    suite = _suite(arguments.suite)
    groups = arguments.groups or GROUPS
    unknown = [group for group in groups if group not in GROUPS]
    if unknown:
        raise CommandError(f"no group {unknown[0]!r}: expected {', '.join(GROUPS)}")
    with user_errors():
        for package in ("pytest", "pytest_benchmark", "matplotlib"):
            require(package, extra="bench", purpose="the benchmark suite")
    out = arguments.out.resolve()
    prepare_folder(arguments.out, (RECORD, "results.csv"), force=arguments.force)
    record = out / RECORD
    command = [sys.executable, "-W", "ignore", "-m", "pytest", "-c", str(suite / "pytest.ini")]
    command += [str(suite / f"{group}.py") for group in groups]
    command += [f"--benchmark-json={record}", f"--threads={arguments.threads}"]
    command += [f"--device={arguments.device}", f"--data={arguments.data}"]
    command += ["--quick"] if arguments.quick else []
    for name in ("turns", "images", "peer_images"):
        value = getattr(arguments, name)
        command += [] if value is None else [f"--{name.replace('_', '-')}={value}"]
    command += ["-k", arguments.select] if arguments.select else []
    # SciPy's solver works on vectors too short for threads, which its OpenBLAS would start.
    settings = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": str(arguments.threads)}
    # Nothing of a run of pytest that this may be part of.
    outer = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    code = subprocess.run(command, env={**settings, **outer}, cwd=suite).returncode
    if not record.is_file() or record.stat().st_size == 0:
        return code or 1
    # What was timed before an error is kept.
    report = [sys.executable, str(suite / "report.py"), str(record)]
    made = subprocess.run(report, cwd=suite, env={**os.environ, "PYTHONPATH": str(suite.parent)})
    if made.returncode == 0:
        print(f"results: {out / 'results.md'}")
    return code or made.returncode


def _suite(given: Path | None) -> Path:
    """Return the folder of the suite."""
    beside = Path(advkit.__file__).resolve().parents[1]
    for folder in (
        [given] if given else [Path.cwd() / "bench" / "suite", beside / "bench" / "suite"]
    ):
        if (folder / "pytest.ini").is_file():
            return folder.resolve()
    raise CommandError(
        f"no benchmark suite in {given}"
        if given
        else "the benchmark suite is not here: run this in a clone of advkit, or name its "
        "bench/suite with --suite"
    )
