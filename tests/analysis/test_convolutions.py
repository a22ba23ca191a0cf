"""Bounds of convolutions against the singular values of the matrices that they are."""

import itertools
import math

import pytest
import torch
from dense import dense, norm
from torch import nn

from advkit.analysis import convolution_bound
from advkit.analysis.rules import Options, _convolution

# Stride, padding, dilation, groups, kernel, channels in and out: every combination of the first
# two, with the rest in turns.
CASES = [
    (stride, padding, dilation, groups, kernel, channels)
    for (stride, padding), (dilation, groups, kernel, channels) in zip(
        itertools.product((1, 2, 3, (1, 2)), (0, 1, 2)),
        itertools.cycle(
            [
                (1, 1, 3, (3, 4)), (2, 1, 3, (2, 5)), (1, 2, 3, (4, 6)), (1, 4, 3, (4, 4)),
                (1, 1, (3, 5), (3, 2)), (2, 2, (2, 3), (2, 4)), (1, 1, 1, (5, 3)),
            ]
        ),
        strict=False,
    )
]  # fmt: skip
LAYERS = [(seed, *case) for seed in range(4) for case in CASES]


def layer(seed, stride, padding, dilation, groups, kernel, channels, **options):
    torch.manual_seed(100 * seed + 7)
    return nn.Conv2d(
        *channels, kernel, stride=stride, padding=padding, dilation=dilation, groups=groups,
        bias=bool(seed % 2), dtype=torch.float64, **options,
    ).requires_grad_(False)  # fmt: skip


@pytest.mark.parametrize("case", LAYERS, ids=str)
def test_zero_padding_is_bounded_closely(case):
    conv = layer(*case)
    # At least four kernels wide: the smaller the image, the more of it is border.
    shape = (conv.in_channels, 20, 20) if conv.dilation[0] > 1 else (conv.in_channels, 13, 14)
    exact = norm(conv, shape)
    for method in ("svd", "gram"):
        found = _convolution(conv, shape, Options(method)).upper
        # Ten Gram iterations of ranks up to 9 * 8 exceed by 72^(1 / 2048), 0.2 %.
        assert exact <= found <= 1.10 * exact
    anywhere = float(
        convolution_bound(
            conv.weight, stride=conv.stride, dilation=conv.dilation, groups=conv.groups
        )
    )
    assert anywhere * 1.0000001 >= exact


@pytest.mark.parametrize("stride", [1, 2, 3, 4, (1, 3)])
@pytest.mark.parametrize(("dilation", "groups"), [(1, 1), (2, 1), (1, 2)])
def test_circular_is_exact(stride, dilation, groups):
    conv = layer(1, stride, dilation, dilation, groups, 3, (2, 4), padding_mode="circular")
    shape = (2, 12, 12)
    found = _convolution(conv, shape, Options()).upper
    assert found == pytest.approx(norm(conv, shape), rel=1e-6)
    assert found >= norm(conv, shape) * (1 - 1e-13)


def test_a_kernel_larger_than_its_torus():
    conv = layer(0, 1, 2, 1, 1, 5, (2, 3), padding_mode="circular")
    assert _convolution(conv, (2, 3, 3), Options()).upper == pytest.approx(norm(conv, (2, 3, 3)))


@pytest.mark.parametrize("mode", ["circular", "reflect", "replicate"])
@pytest.mark.parametrize(("stride", "padding", "size"), [(1, 2, 8), (2, 1, 9), (3, 2, 7)])
def test_other_borders_are_bounded(mode, stride, padding, size):
    conv = layer(0, stride, padding, 1, 1, 3, (2, 3), padding_mode=mode)
    shape = (2, size, size)
    assert norm(conv, shape) <= _convolution(conv, shape, Options()).upper


@pytest.mark.parametrize("kernel", [2, 3, 5])
@pytest.mark.parametrize("tolerance", [0.3, 1e-2])
def test_the_grid_bounds_the_supremum(kernel, tolerance):
    torch.manual_seed(kernel)
    for _ in range(4):
        weight = torch.randn(3, 2, kernel, kernel, dtype=torch.float64)
        fine = float(convolution_bound(weight, (120, 120), circular=True, method="svd"))
        found = float(convolution_bound(weight, tolerance=tolerance))
        assert fine * (1 - 1e-12) <= found <= (1 + tolerance) * fine * 1.01


def test_the_cosine_bound_is_needed():
    # |1 + e^i xi| peaks at 0, which every grid has; turned by half a step it falls between points.
    half = math.pi / 8
    weight = torch.tensor([[1.0, 0.0], [math.cos(half), 0.0]], dtype=torch.float64)
    weight = torch.stack([weight[:, 0], torch.tensor([0.0, math.sin(half)])])
    # As two channels in the plane: e^(i half) as a rotation.
    rotation = torch.tensor([[math.cos(half), -math.sin(half)], [math.sin(half), math.cos(half)]])
    kernel = torch.stack([torch.eye(2), rotation], -1).double()[:, :, None, :]
    on_grid = float(convolution_bound(kernel, (1, 8), circular=True))
    assert on_grid < 2 - 0.01  # the supremum is 2
    for tolerance in (0.5, 0.1, 0.01):
        assert float(convolution_bound(kernel, tolerance=tolerance)) * (1 + 1e-12) >= 2


@pytest.mark.parametrize("stride", [1, 2, 3, 4])
def test_the_printed_factor(stride):
    torch.manual_seed(stride)
    conv = layer(1, stride, 0, 1, 1, 4, (3, 8))
    printed = float(convolution_bound(conv.weight, stride=stride, convention="paper-factor"))
    right = float(convolution_bound(conv.weight, stride=stride))
    assert right / printed == pytest.approx(stride)
    if stride > 1:
        assert printed < norm(conv, (3, 16, 16)) <= right * (1 + 1e-9)


@pytest.mark.parametrize("stride", [1, 2])
def test_the_printed_formula(stride):
    # One channel, ones: A(xi) has entries D^-2 |sum_u e^(-2 pi i u xi / N^2)|^2, largest at xi = 0.
    weight = torch.ones(1, 1, 4, 4, dtype=torch.float64)
    shifts = torch.arange(stride) * 4 / stride / 16
    u = torch.arange(4)
    sums = torch.polar(
        torch.ones(stride, 4, dtype=torch.float64), (-2 * math.pi * shifts[:, None] * u).double()
    ).sum(1).abs()  # fmt: skip
    expected = float(sums.outer(sums).norm()) / stride**2
    found = float(convolution_bound(weight, stride=stride, convention="paper"))
    assert found == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(("stride", "groups"), [(1, 1), (2, 1), (2, 2)])
def test_transposed(stride, groups):
    from advkit.analysis.rules import _transposed

    torch.manual_seed(3)
    conv = nn.ConvTranspose2d(4, 6, 3, stride, 1, groups=groups, dtype=torch.float64)
    conv.requires_grad_(False)
    found = _transposed(conv, (4, 9, 9), Options()).upper
    exact = float(torch.linalg.matrix_norm(dense(conv, (4, 9, 9)), 2))
    assert exact <= found <= 1.15 * exact


def test_one_dimension():
    conv = nn.Conv1d(3, 4, 5, 2, padding=2, dtype=torch.float64).requires_grad_(False)
    found = _convolution(conv, (3, 40), Options()).upper
    assert norm(conv, (3, 40)) <= found <= 1.05 * norm(conv, (3, 40))


@pytest.mark.parametrize("method", ["svd", "gram"])
def test_gradient(method):
    torch.manual_seed(0)
    weight = torch.randn(2, 2, 2, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(
        lambda w: convolution_bound(w, stride=2, method=method, tolerance=0.2), weight
    )


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"groups": 3}, "groups: expected a divisor of 4"),
        ({"stride": 0}, "stride: expected one or two"),
        ({"method": "fft"}, "method and convention"),
        ({"convention": "x"}, "method and convention"),
        ({"tolerance": 0.0}, "tolerance: expected"),
        ({"circular": True}, "size: expected multiples"),
        ({"circular": True, "size": (5, 5), "stride": 2}, "size: expected multiples"),
    ],
)
def test_refuses(options, words):
    with pytest.raises(ValueError, match=words):
        convolution_bound(torch.ones(4, 1, 2, 2), **options)
    with pytest.raises(ValueError, match="weight: expected"):
        convolution_bound(torch.ones(4, 1, 2))
