"""An image's answer is its own: not that of its batch, the tile, or the number of threads."""

from __future__ import annotations

import pytest
import torch
from problems import LinearSoftmax
from torch import nn

from advkit.attack import lbfgs

FIELDS = ("adversarial", "success", "distance", "rms", "c", "forwards", "backwards", "status")


def rowwise(classes, n, dtype):
    return LinearSoftmax.random(classes, n, dtype=dtype).rowwise()


def assert_same_bits(result, other, rows=slice(None)):
    for name in FIELDS:
        mine, theirs = getattr(result, name)[rows], getattr(other, name)
        assert torch.equal(mine.isnan(), theirs.isnan()), name
        assert torch.equal(mine.nan_to_num(), theirs.nan_to_num()), name


@pytest.mark.parametrize("n", [7, 500])
def test_the_same_bits_in_any_batch_and_tile(n, attack, dtype):
    network = rowwise(3, n, dtype)
    x = torch.rand(6, n, dtype=dtype)
    labels = network(x).argmax(1)
    labels[3] = (labels[3] + 1) % 3  # one that drops out at once
    options = {"max_evaluations": 30}
    everything = attack(network, x, labels, **options)
    assert everything.success.sum() >= 5
    for rows, tile in (([2], None), ([5, 4, 3, 2, 1, 0], None), ([3, 0, 1, 4, 2], 2)):
        result = attack(network, x[rows], labels[rows], tile=tile, **options)
        assert_same_bits(everything, result, rows)


def test_the_same_bits_on_any_number_of_threads(attack, dtype, threads):
    n = 40_001  # so large that torch and the kernels share one image among threads
    network = rowwise(2, n, dtype)
    x = torch.rand(3, n, dtype=dtype)
    labels = network(x).argmax(1)
    options = {"max_evaluations": 8}
    everything = attack(network, x, labels, **options)
    assert everything.success.any()
    with threads(2):
        for rows in ([0, 1, 2], [0], [1]):
            assert_same_bits(everything, attack(network, x[rows], labels[rows], **options), rows)


def test_with_a_network_that_rounds_by_batch_the_answers_are_close(method):
    torch.manual_seed(1)
    network = nn.Sequential(nn.Linear(30, 20), nn.Tanh(), nn.Linear(20, 4))
    with torch.no_grad():
        network[0].weight.mul_(5)
    x = torch.rand(12, 30)
    labels = network(x).argmax(1)
    everything = lbfgs(network, x, labels, method=method, max_evaluations=100)
    order = torch.randperm(12)
    for result, rows in (
        (lbfgs(network, x[order], labels[order], method=method, max_evaluations=100), order),
        (lbfgs(network, x, labels, method=method, tile=5, max_evaluations=100), slice(None)),
    ):
        assert torch.equal(result.success, everything.success[rows])
        ratio = result.distance / everything.distance[rows]
        assert ((ratio - 1).abs() < 0.02).float().mean() >= 0.9


@pytest.mark.parametrize("tile", [1, 3, 50])
def test_a_tile_bounds_the_batches_the_network_sees(tile, attack):
    network = rowwise(3, 10, torch.float32)
    x = torch.rand(10, 10)
    sizes = []

    def watched(v):
        sizes.append(len(v))
        return network(v)

    result = attack(watched, x, network(x).argmax(1), tile=tile, max_evaluations=30)
    assert max(sizes) == min(tile, 10)
    assert result.success.any()


def test_the_same_call_gives_the_same_bits(attack):
    network = rowwise(3, 20, torch.float32)
    x = torch.rand(5, 20)
    labels = network(x).argmax(1)
    torch.manual_seed(1)
    first = attack(network, x, labels, max_evaluations=120)
    torch.manual_seed(2)
    before = torch.random.get_rng_state()
    assert_same_bits(first, attack(network, x, labels, max_evaluations=120))
    assert torch.equal(torch.random.get_rng_state(), before)


def test_progress_counts_images(capsys):
    pytest.importorskip("rich", reason="the progress bar: advkit[cli]")
    network = rowwise(3, 20, torch.float32)
    x = torch.rand(5, 20)
    labels = network(x).argmax(1)
    labels[1] = (labels[1] + 1) % 3
    quiet = lbfgs(network, x, labels, tile=2, max_evaluations=20)
    assert capsys.readouterr() == ("", "")
    shown = lbfgs(network, x, labels, tile=2, max_evaluations=20, progress=True)
    out, err = capsys.readouterr()
    assert out == ""
    assert "5/5" in err
    assert_same_bits(quiet, shown)
