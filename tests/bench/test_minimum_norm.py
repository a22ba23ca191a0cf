"""What `bench/minimum_norm.py` makes of runs, and which are made again."""

from __future__ import annotations

import importlib
import time
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


def test_far_queries_belong_to_different_originals(bench):
    pytest.importorskip("scipy")
    owners = bench("_harness").owners
    # Query 0 is far from its original 0, and nearest to 1, which query 1 is about.
    pairs = torch.tensor([[5.0, 3, 9], [6, 1, 9], [9, 9, 1]])
    assert owners(pairs, distinct=False).tolist() == [1, 1, 2]
    assert owners(pairs, distinct=True).tolist() == [0, 1, 2]
    assert owners(pairs.flip(0), distinct=True).tolist() == [2, 1, 0]
    assert owners(pairs[:2], distinct=True).tolist() == [0, 1]
    pairs[0] = torch.nan  # no better match than any other
    assert owners(pairs, distinct=True).tolist() == [0, 1, 2]
    with pytest.raises(ValueError, match="4 queries cannot be about 3 different images"):
        owners(torch.ones(4, 3), distinct=True)


def test_the_clock_is_the_processor_s(bench):
    clock = bench("_harness")._Clock()
    clock.start()
    time.sleep(0.2)
    assert clock.stop() < 0.1
    until = time.process_time() + 0.1
    while time.process_time() < until:
        pass
    assert clock.stop() >= 0.1


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
