"""The benchmark suite: that it runs, times no wrong answers, and adds up what it measured."""

from __future__ import annotations

import csv
import importlib
import importlib.util
import json
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from advkit.cli import main

BENCH = Path(__file__).resolve().parents[2] / "bench"
if not BENCH.is_dir():
    pytest.skip("the benchmark suite is not in this distribution", allow_module_level=True)
pytest.importorskip("pytest_benchmark")
FEW = ["--quick", "--turns", "1", "--threads", "1", "--suite", str(BENCH / "suite")]


@pytest.fixture(scope="module")
def suite():
    """Return a function that imports modules of bench/ and bench/suite/."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(BENCH))
        patch.syspath_prepend(str(BENCH / "suite"))
        yield importlib.import_module


def rows(folder):
    with (folder / "results.csv").open() as file:
        return list(csv.DictReader(file))


@pytest.mark.slow
def test_a_row_for_each_candidate_and_what_was_left_out(tmp_path):
    select = "penalty or lbfgs_step-784x10-1 or cached"
    assert main(["bench", "kernels", *FEW, "--select", select, "--out", str(tmp_path)]) == 0
    made = rows(tmp_path)
    found = {(row["case"], row["candidate"]) for row in made}
    assert {("lbfgs_step-784x10-1", c) for c in ("advkit", "eager PyTorch", "read")} <= found
    for row in made:
        assert 0 < float(row["low"]) <= float(row["us"]) <= float(row["high"])
        if row["candidate"] == "advkit":
            assert float(row["error"]) < 1e-4
            assert 0 < float(row["of bandwidth"]) < 10
    page = (tmp_path / "results.md").read_text()
    assert "## Kernels" in page
    left_out = "Left out of kernels: optax, in lbfgs_step-784x10-1: optax is not installed." in page
    assert left_out == (importlib.util.find_spec("optax") is None)


def test_a_wrong_answer_fails(suite, monkeypatch):
    kernels, cases = suite("kernels"), suite("_kernel_cases")
    work = kernels.Work(kernels.Shape("two_loop", 63, 3, 5), torch.device("cpu"))
    for candidate in ("advkit", "eager PyTorch"):
        backend = "cpu" if "cpu" in kernels.ops.available_backends() else "reference"
        monkeypatch.setattr(kernels, "_backend", lambda name, backend=backend: backend)
        assert work.made(candidate).check() < 1e-4
    right = cases.TwoLoop.expected
    monkeypatch.setattr(cases.TwoLoop, "expected", lambda self: 1.001 * right(self))
    with pytest.raises(AssertionError, match="two_loop by advkit is wrong"):
        work.made("advkit").check()


def test_calls_take_other_data_and_are_undone(suite):
    case = suite("_kernel_cases").CASES["lbfgs_step"](3, 63, 2, 4, torch.device("cpu"))
    before = case.state.trial.clone()
    for number, call in enumerate(case.by_backend("reference")):
        call()
        changed = (case.state.trial != before).any(1)
        assert changed[: 3 * (number + 1)].all()
        assert not changed[3 * (number + 1) :].any()
    case.restore()
    assert torch.equal(case.state.trial, before)


def test_only_setulb_counts_for_its_clock(suite):
    peers = suite("_peer_kernels")
    clock = peers.SetulbClock()
    start = time.perf_counter()
    with clock:
        solved = peers.solve_by_setulb(63, 5)
    whole = time.perf_counter() - start
    assert solved.error <= 1e-3
    assert solved.iterations > 5
    assert 0 < clock() < whole
    stopped = clock()
    peers.solve_by_setulb(63, 5)  # outside of the context
    assert clock() == stopped


def test_a_held_stopwatch_stands_still(suite):
    clock = suite("optimiser").Stopwatch()
    sleep = clock.around(time.sleep)
    start, begin = clock(), time.perf_counter()
    sleep(0.05)
    ran = clock() - start
    assert ran <= time.perf_counter() - begin - 0.05


@pytest.mark.parametrize("name", ["quadratic", "quartic"])
def test_the_gradients_of_the_problems_are_those_of_their_values(suite, name):
    optimiser = suite("optimiser")
    case = optimiser.Problems(name, 3)
    x = torch.rand(3, optimiser.N, dtype=torch.float64, requires_grad=True)
    goal, weights = torch.from_numpy(case.goals()), torch.from_numpy(case.weights)
    value, gradient = case.evaluate(x, goal, weights, lambda parts: torch.cat(parts, 1))
    (wanted,) = torch.autograd.grad(value.sum(), x)
    assert torch.allclose(gradient, wanted, rtol=1e-12, atol=1e-14)
    assert 0.1 < float(((goal < 0) | (goal > 1)).double().mean()) < 0.3


def test_the_recipe_searches_c_and_keeps_the_nearest(suite):
    search = suite("_peer_attacks").Search(np.zeros((2, 1)))
    every = np.arange(2)
    tried = []
    # The first image is fooled from c = 0.1 on, the second by none.
    for _ in range(5):
        tried.append(search.c.copy())
        fooled = np.array([search.c[0] >= 0.1, False])
        search.note(every, search.c[:, None], fooled)
        search.solved()
    first, second = np.array(tried).T
    assert first == pytest.approx([0.01, 0.1, 0.055, 0.0775, 0.08875])
    assert second == pytest.approx([0.01, 0.1, 1, 10, 100])
    assert search.nearest[:, 0] == pytest.approx([0.1, 0.0])


def item(group, case, candidate, data, **info):
    """Return what pytest-benchmark records of a turn."""
    return {
        "fullname": f"{group}.py::bench[x]",
        "extra_info": {"case": case, "candidate": candidate, **info},
        "stats": {"data": data},
    }


def test_turns_are_gathered_and_compared(suite):
    report = suite("report")
    shape = {"op": "two_loop", "n": 4, "m": 1, "images": 2, "cached": False}
    made = report._rows(
        [
            item("kernels", "a", "advkit", [4e-6], calls=2, bytes=100, **shape),
            item("kernels", "a", "eager", [30e-6], calls=2, bytes=100, **shape),
            item("kernels", "a", "read", [8e-6], calls=1, bytes=1000, **shape),
            item("kernels", "a", "advkit", [8e-6], calls=2, bytes=100, **shape),
            item("kernels", "a", "eager", [30e-6], calls=2, bytes=100, **shape),
        ]
    )
    ours, eager, read = made
    assert (ours["us"], ours["low"], ours["high"], ours["samples"]) == pytest.approx(
        (3, 2.5, 3.5, 2)
    )
    assert ours["of bandwidth"] == pytest.approx((100 / 3e-6) / (1000 / 8e-6))
    assert eager["times advkit"] == pytest.approx(5)
    assert read["of bandwidth"] is None
    assert read["times advkit"] is None


@pytest.mark.parametrize(
    ("evaluations", "seconds", "wanted"),
    [
        (12, 3e-3, "never"),
        (12, 0.1e-3, "up to 50 us"),
        (8, 0.1e-3, "always"),
        (8, 1e-3, "from 400 us"),
        (10, 0.01e-3, "always"),
        (10, 1e-3, "never"),
    ],
)
def test_at_which_costs_of_an_evaluation_a_peer_is_no_slower(suite, evaluations, seconds, wanted):
    """advkit: 10 evaluations and 20 us of its own for each."""
    report = suite("report")
    about = {"problems": 1, "subtracted": 0.0}
    made = report._rows(
        [
            item("optimiser", "a-1", "advkit", [0.2e-3], evaluations=10, **about),
            item("optimiser", "a-1", "peer", [seconds], evaluations=evaluations, **about),
        ]
    )
    assert report._optimiser(made)[1]["no slower"] == wanted


def test_attacks_are_compared_on_the_same_images(suite):
    report = suite("report")
    about = {"evaluations": 3}
    made = report._rows(
        [
            item(
                "attack",
                "a",
                "advkit",
                [1],
                images=3,
                rms=[1.0, 2.0, 3.0],
                **about | {"first image": 0},
            ),
            item("attack", "a", "peer", [1], images=1, rms=[2.5], **about | {"first image": 1}),
            item("attack", "a", "peer", [1], images=1, rms=[None], **about | {"first image": 2}),
        ]
    )
    ours, peer = report._attack(made)
    assert (ours["images"], ours["success"], ours["mean RMS"]) == (3, 1, 2)
    assert (peer["images"], peer["success"], peer["mean RMS"]) == (2, 0.5, 2.5)
    assert peer["advkit, there"] == 2


def test_a_report_is_made_of_a_record(suite, tmp_path):
    report = suite("report")
    shape = {"op": "two_loop", "n": 4, "m": 10, "cached": False, "calls": 1, "bytes": 100}
    record = {
        "benchmarks": [
            item("kernels", f"a-{images}", candidate, [images * 1e-6], images=images, **shape)
            for images in (1, 32)
            for candidate in ("advkit", "eager")
        ],
        "advkit": {
            "environment": dict.fromkeys(report.NAMED, "x"),
            "settings": {"turns": 1},
            "left out": [
                {"group": "kernels", "case": case, "candidate": "peer", "why": "it is missing"}
                for case in "ab"
            ],
        },
    }
    (tmp_path / "benchmark.json").write_text(json.dumps(record))
    report.main([str(tmp_path / "benchmark.json")])
    assert len(rows(tmp_path)) == 4
    assert (
        "Left out of kernels: peer, in a, b: it is missing."
        in (tmp_path / "results.md").read_text()
    )


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["nothing", "--suite", str(BENCH / "suite")], "no group 'nothing'"),
        (["--suite", "/nowhere"], "no benchmark suite in /nowhere"),
    ],
)
def test_bad_arguments_are_one_line(words, message, capsys):
    assert main(["bench", *words]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_an_earlier_result_is_not_replaced(tmp_path, capsys):
    (tmp_path / "benchmark.json").write_text("precious")
    assert main(["bench", *FEW, "--out", str(tmp_path)]) == 2
    assert "already holds benchmark.json" in capsys.readouterr().err
    assert (tmp_path / "benchmark.json").read_text() == "precious"


def test_away_from_a_clone_it_says_so(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("advkit.cli.bench.advkit.__file__", str(tmp_path / "a" / "b.py"))
    assert main(["bench"]) == 2
    assert "run this in a clone of advkit" in capsys.readouterr().err
