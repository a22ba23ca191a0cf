"""Bounds of single layers against dense matrices, largest slopes and sampled Jacobians."""

import math

import pytest
import torch
from dense import norm
from torch import nn

from advkit.analysis import spectrum
from advkit.analysis.jacobians import jacobian_norms
from advkit.analysis.rules import _SLOPES

ACTIVATIONS = [
    layer() if layer is not nn.PReLU else nn.PReLU(init=-1.7)
    for layer in _SLOPES
] + [nn.LeakyReLU(3.0), nn.ELU(2.5), nn.GELU("tanh")]  # fmt: skip


@pytest.mark.parametrize("layer", ACTIVATIONS, ids=str)
def test_largest_slope(layer):
    layer = layer.double()
    x = torch.linspace(-9, 9, 360_001, dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(layer(x).sum(), x)
    seen = float(slope.abs().max())
    bound = spectrum(layer, (4,)).layers[0].upper
    assert seen <= bound * (1 + 1e-7)  # PyTorch's own 1 / 6 is off by 3e-8
    assert bound <= seen * 1.001


@pytest.mark.parametrize(
    "layer",
    [
        nn.AvgPool2d(2), nn.AvgPool2d(3, 2), nn.AvgPool2d(3, 2, 1), nn.AvgPool2d(3, 1, 1),
        nn.AvgPool2d(3, 2, 1, count_include_pad=False), nn.AvgPool2d(3, 2, 1, ceil_mode=True),
        nn.AvgPool2d(3, 2, 1, divisor_override=4), nn.AvgPool2d((2, 3), (1, 2)),
        nn.AdaptiveAvgPool2d(1), nn.AdaptiveAvgPool2d((4, None)), nn.Flatten(),
    ],
    ids=str,
)  # fmt: skip
def test_averages_are_exact(layer):
    found = spectrum(layer, (2, 9, 10))
    assert found.product == pytest.approx(norm(layer, (2, 9, 10)), rel=1e-9)
    for each in found.layers:
        assert each.lower == pytest.approx(each.upper, rel=1e-3)
        assert each.lower <= each.upper


@pytest.mark.parametrize(
    ("layer", "factor"),
    [
        (nn.MaxPool2d(2), 1), (nn.MaxPool2d(3, 2), 2), (nn.MaxPool2d(3, 1, 1), 3),
        (nn.MaxPool2d((2, 3), (1, 2)), 2), (nn.MaxPool2d(3, 2, 1, ceil_mode=True), 2),
        (nn.MaxPool2d(2, 1, dilation=2), 2), (nn.AdaptiveMaxPool2d((5, 9)), math.sqrt(2)),
        (nn.MaxPool2d(5, 5), 1),
    ],
    ids=str,
)  # fmt: skip
def test_overlapping_windows_count(layer, factor):
    found = spectrum(layer, (1, 9, 9))
    assert found.product == pytest.approx(factor)
    # One bright value is in all its windows: the factor is attained, and no single one exceeds it.
    basis = torch.eye(81).view(81, 1, 9, 9)
    assert layer(basis).flatten(1).norm(dim=1).max() == pytest.approx(factor)
    x = torch.rand(200, 1, 9, 9, generator=torch.Generator().manual_seed(0))
    apart = (layer(x[1:]) - layer(x[:-1])).flatten(1).norm(dim=1)
    assert (apart <= factor * (x[1:] - x[:-1]).flatten(1).norm(dim=1) * 1.00001).all()
    if not isinstance(layer, nn.AdaptiveMaxPool2d):
        assert spectrum(layer, (1, 9, 9), convention="paper").product == 1


def test_batch_norm_in_eval_mode():
    torch.manual_seed(0)
    layer = nn.BatchNorm2d(3)
    layer(torch.randn(8, 3, 4, 4) * torch.tensor([0.1, 1.0, 5.0]).view(3, 1, 1))
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([0.5, -3.0, 1.0]))
    found = spectrum(layer, (3, 4, 4))
    assert layer.training
    assert found.product == pytest.approx(norm(layer.double().eval(), (3, 4, 4)))


@pytest.mark.parametrize(
    "layer",
    [
        nn.LocalResponseNorm(5, alpha=0.9, beta=0.75, k=1.0),
        nn.LocalResponseNorm(3, alpha=20.0, beta=1.0, k=2.0),
        nn.LocalResponseNorm(2, alpha=5.0, beta=0.5, k=0.5),
        nn.LocalResponseNorm(15, alpha=2.0, beta=0.9, k=0.5),
        nn.LayerNorm(6, eps=0.1), nn.GroupNorm(2, 6, eps=0.3), nn.Softmax(1),
    ],
    ids=str,
)  # fmt: skip
def test_no_jacobian_exceeds_the_bound(layer):
    found = spectrum(layer, (6,) if not isinstance(layer, nn.LocalResponseNorm) else (6, 1))
    generator = torch.Generator().manual_seed(0)
    layer = layer.double()
    worst = 0.0
    for scale in (0.0, 0.1, 0.3, 1.0, 3.0):
        x = scale * torch.randn(400, 6, generator=generator, dtype=torch.float64)
        if isinstance(layer, nn.LocalResponseNorm):
            x = x[..., None]
        worst = max(worst, float(jacobian_norms(layer, x, iterations=30).max()))
    assert worst <= found.product * (1 + 1e-9)
    assert found.layers[0].lower <= found.product


def test_response_norm_is_the_papers_where_all_channels_are_neighbours():
    layer = nn.LocalResponseNorm(15, alpha=2.0, beta=0.9, k=0.5)
    assert spectrum(layer, (6, 1)).product == pytest.approx(0.5**-0.9)
    assert spectrum(nn.LocalResponseNorm(3, k=0.5), (6, 1)).product > 0.5**-0.75


def test_batch_norm_of_the_batch_is_refused():
    with pytest.raises(TypeError, match="mixes the images"):
        spectrum(nn.BatchNorm2d(6, track_running_stats=False), (6, 3, 3))
