"""`bench/kernels.py`: that it runs, and that it does not time wrong answers."""

from __future__ import annotations

import csv
import importlib
from pathlib import Path

import pytest
import torch

BENCH = Path(__file__).resolve().parents[2] / "bench"
if not BENCH.is_dir():
    pytest.skip("the benchmark scripts are not in this distribution", allow_module_level=True)
FEW = ["--device", "cpu", "--no-compile", "--values", "63", "--images", "1", "5"]
FEW += ["--history", "3", "--repeats", "2"]


@pytest.fixture
def bench(monkeypatch, threads):
    monkeypatch.syspath_prepend(str(BENCH))
    module = importlib.import_module("kernels")
    monkeypatch.setattr(module, "MEASURED", 1 << 20)
    with threads(torch.get_num_threads()):  # which the script sets
        yield module


@pytest.mark.parametrize("warm", [[], ["--warm"]], ids=["cold", "warm"])
def test_a_row_for_each_candidate(bench, warm, tmp_path, monkeypatch):
    if not warm:
        small = {"device": "cpu"}, 1 << 16, 1 << 30
        monkeypatch.setattr(bench, "machine_of", lambda device: small)
    bench.main([*FEW, *warm, "--out", str(tmp_path)])
    with (tmp_path / "results.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 4 * 2 * 2
    assert {row["candidate"] for row in rows} == {"cpu", "reference"}
    assert all(0 < float(row["us, least"]) <= float(row["us"]) for row in rows)
    assert all(float(row["us"]) <= float(row["us, most"]) for row in rows)


@pytest.mark.parametrize("op", ["penalty", "class_loss", "two_loop", "lbfgs_step"])
def test_a_wrong_answer_ends_the_run(bench, op, tmp_path, monkeypatch):
    case = bench.CASES[op]
    right = case.expected
    monkeypatch.setattr(case, "expected", lambda self: 1.001 * right(self))
    with pytest.raises(AssertionError, match=f"{op} by cpu is wrong"):
        bench.main([*FEW, "--ops", op, "--out", str(tmp_path)])


def test_calls_take_other_data_and_are_undone(bench):
    case = bench.CASES["lbfgs_step"](3, 63, 2, 1 << 16, torch.device("cpu"))
    assert case.calls > 2
    assert case.calls * case.bytes >= 2 << 16
    before = case.state.trial.clone()
    for number, call in enumerate(case.by_backend("cpu")):
        call()
        assert (case.state.trial != before).any(1).sum() <= 3 * (number + 1)
    assert (case.state.trial != before).any(1).all()
    case.restore()
    assert torch.equal(case.state.trial, before)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_it_says_so(bench, capsys):
    with pytest.raises(SystemExit) as exit_:
        bench.main(["--device", "cuda"])
    assert exit_.value.code == 2
    assert "needs a GPU" in capsys.readouterr().err
