"""Time two commits of advkit against each other by the suite of this checkout: A B A B.

Each commit is built into a folder of its own; nothing that is installed is touched. Run in an
environment with the suite's requirements in which advkit is not installed as editable, since that
would come before either.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from _common import HERE, Row, as_settings, geometric_mean, parser, write_results

ROOT = HERE.parent


def main(arguments: Sequence[str] | None = None) -> None:
    """Build, run and compare."""
    options = parser("compare_commits", __doc__)
    options.add_argument("before", help="a commit")
    options.add_argument("after", nargs="?", default="HEAD", help="another; default: %(default)s")
    options.add_argument("--groups", nargs="+", default=["kernels", "attack"], help="of the suite")
    options.add_argument("--select", default="advkit", help="candidates by name, as pytest's -k")
    options.add_argument("--turns", type=int, default=5, help="of each commit")
    options.add_argument("--quick", action="store_true", help="fewer and smaller cases")
    given = options.parse_args(arguments)
    commits = {name: _git("rev-parse", "--short", name) for name in (given.before, given.after)}
    if len(set(commits.values())) < 2:
        options.exit(2, f"compare_commits.py: {given.before} and {given.after} are one commit\n")
    times: dict[str, dict[str, list[float]]] = {commit: {} for commit in commits.values()}
    with tempfile.TemporaryDirectory() as temporary:
        folders = {c: _build(c, Path(temporary)) for c in commits.values()}
        for turn in range(given.turns):
            for commit, folder in folders.items():
                print(f"turn {turn + 1} of {given.turns}, {commit}", file=sys.stderr, flush=True)
                for name, us in _run(given, folder, Path(temporary)).items():
                    times[commit].setdefault(name, []).append(us)
    before, after = times.values()
    rows = [
        {
            "case": name,
            **{f"{commit}, us": statistics.median(each[name]) for commit, each in times.items()},
            "ratio": statistics.median(before[name]) / statistics.median(after[name]),
            "least": min(b / a for b, a in zip(before[name], after[name], strict=True)),
            "most": max(b / a for b, a in zip(before[name], after[name], strict=True)),
        }
        for name in before
        if name in after
    ]
    groups = dict.fromkeys(str(row["case"]).split(":")[0] for row in rows)
    summary: list[Row] = [
        {"group": group, "cases": len(ratios), "ratio": geometric_mean(ratios)}
        for group in groups
        if (ratios := [row["ratio"] for row in rows if row["case"].startswith(f"{group}:")])
    ]
    write_results(
        given.out,
        f"{given.before} and {given.after}",
        settings=as_settings(given) | {"commits": list(commits.values())},
        summary=summary,
        rows=rows,
        notes=[
            "ratio: how many times as long the first commit takes; above 1 the second is faster. "
            "least, most: of the turns.",
        ],
    )
    for row in rows:
        print(f"{row['case']:60} {row['ratio']:6.3f}  ({row['least']:.3f} to {row['most']:.3f})")


def _git(*words: str) -> str:
    done = subprocess.run(["git", *words], cwd=ROOT, check=False, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"compare_commits.py: git {' '.join(words)}: {done.stderr.strip()}")
    return done.stdout.strip()


def _build(commit: str, temporary: Path) -> Path:
    """Install a commit into a folder of its own, and make sure that it is what gets imported."""
    source, target = temporary / f"source-{commit}", temporary / commit
    source.mkdir()
    archive = temporary / f"{commit}.tar"
    _git("archive", "--output", str(archive), commit)
    subprocess.run(["tar", "-xf", str(archive), "-C", str(source)], check=True)
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target"]
    subprocess.run([*pip, str(target), str(source)], check=True)
    where = subprocess.run(
        [sys.executable, "-c", "import advkit._native; print(advkit.__file__)"],
        env={**os.environ, "PYTHONPATH": str(target)},
        cwd=temporary,
        check=True,
        capture_output=True,
        text=True,
    ).stdout.strip()
    if not Path(where).is_relative_to(target):
        sys.exit(
            f"compare_commits.py: Python imports {where} in place of {target}; uninstall the "
            "editable advkit of this environment, or use another"
        )
    return target


def _run(given: argparse.Namespace, folder: Path, temporary: Path) -> dict[str, float]:
    """Run the suite once; return the us of each case and candidate."""
    suite, record = HERE / "suite", temporary / "record.json"
    command = [
        sys.executable,
        "-W",
        "ignore",
        "-m",
        "pytest",
        "-q",
        "-c",
        str(suite / "pytest.ini"),
    ]
    command += [str(suite / f"{group}.py") for group in given.groups]
    command += ["--turns=1", f"--threads={given.threads}", f"--benchmark-json={record}"]
    command += ["-k", given.select, *(["--quick"] if given.quick else [])]
    environment = {**os.environ, "PYTHONPATH": str(folder)}
    done = subprocess.run(
        command, cwd=suite, env=environment, check=False, capture_output=True, text=True
    )
    if done.returncode:
        sys.exit(f"compare_commits.py: the suite failed:\n{done.stdout[-4000:]}")
    found = {}
    for item in json.loads(record.read_text())["benchmarks"]:
        info = item["extra_info"]
        group = Path(item["fullname"].split("::")[0]).stem
        name = f"{group}: {info['case']}, {info['candidate']}"
        found[name] = 1e6 * item["stats"]["median"] / info.get("calls", 1)
    return found


if __name__ == "__main__":
    main()
