import pytest
import torch
from torch import nn

from advkit.training import Pools
from advkit.training.pools import Pool, cuts


def empty(n):
    return Pool(torch.zeros(0, n), torch.zeros(0, dtype=torch.int64))


def test_examples_lie_on_the_border_with_the_labels_kept(model, blobs):
    net = model().eval()
    hidden = net[:3](blobs.images).detach()
    above = nn.Sequential(*net[3:])
    labels = above(hidden).argmax(1)
    found = empty(100).add(above, hidden, labels, Pools())
    assert ((found >= 0) & (found <= 1)).all()
    logits = above(found).detach().double()
    assert (logits.argmax(1) != labels).all()
    top, own = logits.amax(1), logits.gather(1, labels[:, None])[:, 0]
    assert (top - own < 0.02).all()


def test_overshoot_scales_the_change(model, blobs):
    net = model().eval()
    above = nn.Sequential(*net[1:])
    x = blobs.images.flatten(1)
    labels = net(blobs.images).argmax(1)
    border = empty(36).add(above, x, labels, Pools())
    half = empty(36).add(above, x, labels, Pools(overshoot=0.5))
    torch.testing.assert_close(half - x, 0.5 * (border - x), rtol=1e-4, atol=1e-6)
    assert (net(half).argmax(1) == labels).all()


def test_pool_fills_and_then_replaces_random_places():
    pool, settings = empty(1), Pools(size=10, refresh=4)
    generator = torch.Generator().manual_seed(0)
    for turn in range(4):
        new = torch.arange(4)[:, None] + 4.0 * turn
        pool.put(new, torch.full((4,), turn), settings, generator)
        assert len(pool) == min(10, 4 * (turn + 1))
    values = pool.values[:, 0].tolist()
    assert len(set(values)) == 10
    # Of the last four all are there; six of the ten before.
    assert sum(value >= 12 for value in values) == 4
    assert (pool.labels == (pool.values[:, 0] // 4).long()).all()


@pytest.mark.parametrize(
    "change",
    [
        {"layers": ()},
        {"layers": (1, 1)},
        {"layers": (-1,)},
        {"size": 0},
        {"refresh": 0},
        {"every": 0},
        {"start": -1},
        {"max_evaluations": 1},
        {"weight": 0.0},
        {"overshoot": float("nan")},
    ],
    ids=str,
)
def test_bad_settings(change):
    with pytest.raises(ValueError, match=f"^{next(iter(change))}: expected"):
        Pools(**change)


def test_only_networks_with_outputs_in_the_box():
    assert cuts(nn.Sequential(nn.Flatten(), nn.Linear(4, 3), nn.Sigmoid(), nn.Linear(3, 2))) == [
        1,
        3,
    ]
    with pytest.raises(TypeError, match="Flatten, Linear and Sigmoid"):
        cuts(nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2)))
