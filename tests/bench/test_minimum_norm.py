"""What `bench/minimum_norm.py` makes of runs, and which are made again."""

from __future__ import annotations

import importlib
from pathlib import Path

import numpy as np
import pytest
import torch

BENCH = Path(__file__).resolve().parents[2] / "bench"
if not BENCH.is_dir():
    pytest.skip("the benchmark scripts are not in this distribution", allow_module_level=True)


@pytest.fixture(scope="module")
def bench():
    """Return a function that imports modules of bench/."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(BENCH))
        yield importlib.import_module


def run(bench, distances, *, failed=False):
    what = {"network": "fc10", "norm": "l2", "evaluations": 3, "message": "", "images": 2}
    arrays = {"distances": np.array(distances), "batch_failures": np.array([failed])}
    return bench("_harness").Run(what, arrays)


def test_a_run_is_made_once_and_one_that_failed_again(bench, tmp_path, capsys):
    kept = bench("_harness").kept
    path = tmp_path / "runs" / "one.npz"
    first = kept(path, "one", lambda: run(bench, [np.inf, np.inf], failed=True))
    assert first.failed
    second = kept(path, "one", lambda: run(bench, [1.0, np.inf]))
    assert "one: median" in capsys.readouterr().err
    third = kept(path, "one", lambda: pytest.fail("made again"))
    for made in second, third:
        assert made.distances.tolist() == [1.0, np.inf]
    assert third.what == second.what


def test_runs_of_other_networks_are_not_mixed(bench):
    origins, made = bench("_harness").origins, []
    for name, digest in ("fc10", "a"), ("relu-mlp", "b"), ("fc10", "a"), ("fc10", "c"):
        made.append(run(bench, [1.0]))
        made[-1].what |= {
            "network": name,
            "digest": digest,
            "threads": 1,
            "date": "",
            "versions": {},
        }
    assert origins(made[:3])["networks"] == {"fc10": "a", "relu-mlp": "b"}
    with pytest.raises(ValueError, match="different networks, all called fc10"):
        origins(made)


def test_the_digest_of_a_network_tells_its_parameters(bench, monkeypatch):
    networks = bench("_networks")
    made = {name: torch.nn.Linear(3, 2) for name in "abc"}
    made["c"].load_state_dict(made["a"].state_dict())
    monkeypatch.setattr(networks, "network", made.get)
    a, b, c = map(networks.digest.__wrapped__, made)
    assert a == c != b


@pytest.mark.parametrize(
    ("reported", "counted", "refused", "adds_up"),
    [
        ([[3, 3], [3, 2]], [[3, 3], [3, 2]], 0, True),
        ([[3, 3], [3, 2]], [[3, 2], [3, 2]], 1, True),  # one query was refused
        ([[3, 3], [3, 2]], [[3, 2], [3, 2]], 0, False),
        ([[4, 3], [3, 2]], [[4, 3], [3, 2]], 0, False),  # more than 2 x 3 passes of an image
    ],
)
def test_reported_passes_must_be_the_counted_ones(bench, reported, counted, refused, adds_up):
    made = run(bench, [1.0, 1.0])
    for prefix, passes in (("reported_", reported), ("", counted)):
        for name, column in zip(("forwards", "backwards"), np.array(passes).T, strict=True):
            made.arrays[prefix + name] = column
    made.arrays["refused"] = np.array(refused)
    assert made.counts_add_up is adds_up
