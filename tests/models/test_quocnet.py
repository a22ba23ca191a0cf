"""Unsupervised layers: by loops, by hand, and learning that lowers its loss."""

import pytest
import torch
from torch import nn

from advkit.models import Reconstruction, Stage, build_quocnet, learn_stages
from advkit.models.quocnet import ContrastNormalisation, L2Pool, LocalFilters
from advkit.models.reconstruction_ica import reconstruction_loss

SMALL = (Stage(4, 2, 3), Stage(2, 1, 4, window=3))


def test_local_filters_by_loops():
    filters = LocalFilters((2, 7, 6), 3, 2, 4)
    x = torch.rand(5, 2, 7, 6)
    found = filters(x)
    assert found.shape == (5, *filters.shape) == (5, 4, 3, 2)
    for row in range(3):
        for column in range(2):
            patch = x[:, :, 2 * row : 2 * row + 3, 2 * column : 2 * column + 3].flatten(1)
            expected = patch @ filters.weight[2 * row + column].T
            torch.testing.assert_close(found[:, :, row, column], expected)


def test_l2_pooling_by_hand():
    x = torch.zeros(1, 2, 4, 4)
    x[0, 0, 0, 0], x[0, 0, 1, 1] = 3, -4
    found = L2Pool(3)(x)
    assert float(found[0, 0, 0, 0].detach()) == pytest.approx(5, abs=1e-3)
    assert float(found[0, 0, 2, 2].detach()) == pytest.approx(4, abs=1e-3)
    assert float(found[0, 1].max()) < 0.01  # one map does not see another


def test_normalisation_takes_away_brightness_and_contrast():
    layer = ContrastNormalisation(5)
    x = torch.randn(2, 3, 9, 9)
    torch.testing.assert_close(layer(10 * x + 7), layer(x), atol=1e-3, rtol=1e-3)
    assert layer(torch.full((1, 3, 9, 9), 0.5)).abs().max() < 1e-3  # a grey image stays finite
    assert 0.5 < float(layer(x).std()) < 1.5


def test_loss_by_hand():
    filters, pool = LocalFilters((1, 2, 2), 2, 1, 1), L2Pool(1)
    direction = torch.tensor([0.5, 0.5, -0.5, -0.5])
    with torch.no_grad():
        filters.weight.copy_(direction)
    along = reconstruction_loss(3 * direction.view(1, 1, 2, 2) + 1, filters, pool, 0.5)
    assert float(along.detach()) == pytest.approx(0.5 * 3, rel=1e-4)
    across = torch.tensor([1.0, -1.0, 0.0, 0.0]).view(1, 1, 2, 2)
    other = reconstruction_loss(across, filters, pool, 0.5)
    assert float(other.detach()) == pytest.approx(2, rel=1e-3)


def test_learning_is_repeatable_and_lowers_the_loss():
    images = torch.rand(60, 1, 12, 12, generator=torch.Generator().manual_seed(0))
    images = nn.functional.avg_pool2d(images, 3, 1, 1)  # neighbours alike: there is structure
    state = torch.get_rng_state()
    networks = [build_quocnet((1, 12, 12), SMALL, seed=1) for _ in range(2)]
    settings = Reconstruction(steps=60, batch_size=20, learning_rate=1e-2)
    before = networks[0][1][0].weight.clone()
    losses = [learn_stages(images, each, settings, seed=2) for each in networks]
    assert torch.equal(state, torch.get_rng_state())
    assert losses[0] == losses[1]
    first = learn_stages(images, build_quocnet((1, 12, 12), SMALL, seed=1), Reconstruction(steps=1))
    assert losses[0][0] < 0.8 * first[0]
    assert not torch.equal(before, networks[0][1][0].weight)
    features = networks[0](images)
    assert features.shape == (60, 4 * 4 * 4)
    assert bool(features.isfinite().all())


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Stage(0, 1, 1), "field: expected at least 1"),
        (lambda: Stage(3, 1, 1, pool=2), "pool: expected an odd"),
        (lambda: build_quocnet((1, 8, 8), []), "stages: expected at least one"),
        (lambda: build_quocnet((1, 8, 8), (Stage(8, 1, 1), Stage(2, 1, 1))), "in stage 2: field"),
        (lambda: Reconstruction(steps=0), "steps: expected"),
        (lambda: Reconstruction(sparsity=-1), "sparsity: expected"),
        (lambda: Reconstruction(learning_rate=0), "learning_rate: expected"),
    ],
)
def test_errors(make, message):
    with pytest.raises(ValueError, match=message):
        make()
