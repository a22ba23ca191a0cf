"""``advkit attack`` as a user runs it: real digits, a network trained on them, the real attack."""

import json

import numpy as np
import pytest
import torch

from advkit.cli import main
from advkit.models import trained

for module in ("mlxtend", "safetensors", "matplotlib", "rich"):
    pytest.importorskip(module)


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    """Keep the trained network for all tests of this file, apart from the user's own."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ADVKIT_CACHE", str(folder))
        yield folder


def run(folder, words):
    """Run the command on digits; return the numbers and the arrays."""
    assert main(["attack", "--out", str(folder), *words.split()]) == 0
    report = json.loads((folder / "result.json").read_text())
    with np.load(folder / "adversarial.npz", allow_pickle=False) as archive:
        return report, dict(archive)


@pytest.fixture(scope="module")
def outcome(cache, tmp_path_factory):
    """Return what one run on 20 digits wrote, and the network it attacked."""
    report, arrays = run(tmp_path_factory.mktemp("out"), "--images 20 --seed 4")
    return report, arrays, trained("fc100-100-10", "mnist-5k", cache=cache)


def test_the_digits_fool_the_network(outcome):
    report, arrays, network = outcome
    assert report["success_rate"] == 1
    assert report["model"]["test_error"] == network.test_error < 0.1
    with torch.no_grad():
        before = network.model(torch.from_numpy(arrays["x"])).argmax(1).numpy()
        after = network.model(torch.from_numpy(arrays["adversarial"])).argmax(1).numpy()
    assert (before == arrays["labels"]).all()
    assert (after == arrays["targets"]).all()


def test_the_changes_are_small_and_inside_the_box(outcome):
    report, arrays, _ = outcome
    assert arrays["adversarial"].min() >= 0
    assert arrays["adversarial"].max() <= 1
    # Szegedy et al. 2013, Table 1: 0.058 for this network, trained on all digits.
    assert 0.02 < report["mean_rms"] < 0.15
    assert report["forwards"] >= report["backwards"] >= 20


def test_a_second_run_uses_the_kept_network_and_gives_the_same(outcome, tmp_path):
    _, arrays, network = outcome
    trained_at = network.path.stat().st_mtime_ns
    _, again = run(tmp_path, "--images 20 --seed 4")
    for name in arrays:
        assert (again[name] == arrays[name]).all(), name
    assert network.path.stat().st_mtime_ns == trained_at


@pytest.mark.parametrize("norm", ["l2", "l1"])
@pytest.mark.usefixtures("cache")
def test_other_norms_and_no_target(tmp_path, norm):
    report, arrays = run(tmp_path, f"--images 5 --norm {norm} --loss margin --targets none")
    assert report["success_rate"] == 1
    difference = (arrays["adversarial"] - arrays["x"]).reshape(5, -1).astype(np.float64)
    order = 1 if norm == "l1" else 2
    np.testing.assert_allclose(
        arrays["distance"], np.linalg.norm(difference, order, axis=1), rtol=1e-4
    )
