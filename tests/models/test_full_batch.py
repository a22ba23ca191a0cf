import math

import pytest
import torch
from torch import nn

from advkit.data import Dataset
from advkit.models import build, error_rate, train_lbfgs, weight_decay


def test_reaches_the_minimum_of_the_whole_loss(dataset, test_dataset):
    # Convex: every derivative of the mean cross-entropy plus decay is 0 at the minimum.
    model = build("fc10", classes=3)
    result = train_lbfgs(model, dataset, decay=(0.1,), test=test_dataset)
    loss = nn.functional.cross_entropy(model(dataset.images), dataset.labels)
    loss = loss + weight_decay(model, (0.1,))
    loss.backward()
    assert result.loss == pytest.approx(float(loss.detach()), rel=1e-5)
    assert max(float(p.grad.abs().max()) for p in model.parameters()) < 1e-4
    assert result.test_error == error_rate(model, test_dataset) == 0
    assert not model.training


def test_trains_all_layers_to_no_error(dataset):
    model = build("fc100-100-10", classes=3)
    before = [p.detach().clone() for p in model.parameters()]
    result = train_lbfgs(model, dataset, decay=(1e-5, 1e-5, 1e-6), max_evaluations=60)
    assert result.train_error == 0
    assert result.test_error is None
    assert all(not torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))


def test_parameters_that_are_frozen_stay(dataset):
    model = build("fc100-100-10", classes=3)
    model[1].requires_grad_(False)
    before = model[1].weight.clone()
    train_lbfgs(model, dataset, decay=(1e-5, 1e-5, 1e-6), max_evaluations=20)
    assert torch.equal(model[1].weight, before)
    assert not model[1].weight.requires_grad


def test_chunks_make_one_sum(dataset, monkeypatch):
    from advkit.models import full_batch

    results = []
    for chunk in (10_000, 17):
        monkeypatch.setattr(full_batch, "_CHUNK", chunk)
        model = build("fc10", classes=3, dtype=torch.float64)
        train_lbfgs(model, dataset, decay=(1e-2,))
        results.append(model[1].weight.detach())
    torch.testing.assert_close(*results, rtol=0, atol=1e-5)


def test_budget(dataset):
    few, more = (
        train_lbfgs(build("fc100-100-10", classes=3), dataset, decay=(0, 0, 0), max_evaluations=n)
        for n in (3, 30)
    )
    assert more.loss < few.loss


def test_bad_arguments(dataset):
    empty = Dataset(dataset.images[:0], dataset.labels[:0], "none", "train", dataset.classes)
    with pytest.raises(ValueError, match="dataset: expected at least one image"):
        train_lbfgs(build("fc10", classes=3), empty, decay=(0.0,))
    with pytest.raises(ValueError, match="max_evaluations: expected at least 1, got 0"):
        train_lbfgs(build("fc10", classes=3), dataset, decay=(0.0,), max_evaluations=0)
    with pytest.raises(ValueError, match="parameters that require gradients"):
        train_lbfgs(build("fc10", classes=3).requires_grad_(False), dataset, decay=(0.0,))
    with pytest.raises(ValueError, match="K >= 3, the number of classes"):
        train_lbfgs(build("fc10", classes=2), dataset, decay=(0.0,))
    dataset.images[0] = math.nan
    with pytest.raises(FloatingPointError, match="the loss is nan at the start"):
        train_lbfgs(build("fc10", classes=3), dataset, decay=(0.0,))


def test_networks_with_parts_that_play_no_part(dataset):
    class Kernels(nn.Module):
        """No linear layer, and a parameter that is not used."""

        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(dataset.images.shape[1], 3, 3)
            self.unused = nn.Parameter(torch.ones(2))

        def forward(self, x):
            return self.conv(x).mean((2, 3))

    model = Kernels()
    before = model.conv.weight.detach().clone()
    train_lbfgs(model, dataset, decay=(), max_evaluations=5)
    assert torch.equal(model.unused.detach(), torch.ones(2))
    assert not torch.equal(model.conv.weight, before)


def test_eval_mode_also_after_an_error(dataset):
    model = build("fc10", classes=2).train()
    with pytest.raises(ValueError, match="K >= 3"):
        train_lbfgs(model, dataset, decay=(0.0,))
    assert not model.training
