"""Bounds of the Lipschitz constant of each kind of layer, in L2."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from advkit.analysis.convolutions import convolution_bound

__all__ = ["ISOMETRIES", "RULES", "Bound", "Options", "Rule"]

# Above what rounding in float64 does to an eigenvalue of a few thousand rows.
_ROUNDING = 1 + 1e-11


@dataclass(frozen=True)
class Bound:
    """What is known of a layer.

    Parameters
    ----------
    upper : float
        No smaller than the Lipschitz constant.
    attained : float or None
        A ratio that two inputs are known to have; None: not known.
    """

    upper: float
    attained: float | None = None


@dataclass(frozen=True)
class Options:
    """How convolutions are bounded, see `convolution_bound`."""

    method: str = "svd"
    iterations: int = 10
    tolerance: float = 1e-2
    convention: str = "corrected"


# From a layer, the shape of its input without batch, and options.
Rule = Callable[[Any, tuple[int, ...], Options], Bound]

# They move, copy or drop values; in eval mode.
ISOMETRIES: tuple[type[nn.Module], ...] = (
    nn.Identity, nn.Flatten, nn.Unflatten, nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d,
    nn.AlphaDropout, nn.FeatureAlphaDropout, nn.PixelShuffle, nn.PixelUnshuffle, nn.ChannelShuffle,
)  # fmt: skip

# The largest |derivative| of functions of one value, at a point or in the limit.
_SLOPES: dict[type[nn.Module], Callable[[Any], float]] = {
    nn.ReLU: lambda _: 1.0,
    nn.ReLU6: lambda _: 1.0,
    nn.Hardtanh: lambda _: 1.0,
    nn.Tanh: lambda _: 1.0,
    nn.Softsign: lambda _: 1.0,
    nn.Softplus: lambda _: 1.0,
    nn.LogSigmoid: lambda _: 1.0,
    nn.CELU: lambda _: 1.0,
    nn.Sigmoid: lambda _: 0.25,
    nn.Hardsigmoid: lambda _: 1 / 6,
    nn.Hardswish: lambda _: 1.5,
    nn.LeakyReLU: lambda layer: max(1.0, abs(float(layer.negative_slope))),
    nn.ELU: lambda layer: max(1.0, abs(float(layer.alpha))),
    nn.SELU: lambda _: 1.0507009873554805 * 1.6732632423543772,
    nn.PReLU: lambda layer: max(1.0, float(_weight(layer).abs().max())),
    nn.SiLU: lambda _: 1.0998393202,  # rounded up; at x = 2.3994
    nn.Mish: lambda _: 1.0884981613,  # the same, at x = 1.4905
    # x Phi(x) at sqrt(2), rounded up; by tanh a little more.
    nn.GELU: lambda layer: 1.1289041452 if layer.approximate == "none" else 1.1289930687,
}


def _weight(layer: Any) -> Tensor:
    """Return a layer's weight in float64."""
    weight: Tensor = layer.weight
    return weight.detach().double()


def _slope(layer: Any, shape: tuple[int, ...], options: Options) -> Bound:
    slope = _SLOPES[type(layer)](layer)
    return Bound(slope, slope)


def _linear(layer: Any, shape: tuple[int, ...], options: Options) -> Bound:
    # By the smaller Gram matrix, which for the 9216 x 4096 of AlexNet is several times faster.
    weight = _weight(layer)
    gram = weight @ weight.mT if len(weight) < weight.shape[1] else weight.mT @ weight
    largest: Tensor = torch.linalg.eigvalsh(gram)[-1]
    return Bound(math.sqrt(max(0.0, float(largest))) * _ROUNDING)


def _convolution(layer: Any, shape: tuple[int, ...], options: Options) -> Bound:
    one = isinstance(layer, nn.Conv1d)
    weight = _weight(layer)[..., None, :] if one else _weight(layer)
    size = (1, shape[-1]) if one else (shape[-2], shape[-1])
    stride, dilation = _two(layer.stride), _two(layer.dilation)
    pads = _pads(layer)
    circular, factor, bounded = False, 1.0, True
    if layer.padding_mode != "zeros":
        spans = [(k - 1) * d for k, d in zip(weight.shape[-2:], dilation, strict=True)]
        whole = all(n % s == 0 for n, s in zip(size, stride, strict=True))
        circular = (
            layer.padding_mode == "circular" and whole and [sum(pad) for pad in pads] == spans
        )
        if not circular:  # a copy of border values, then a convolution of an image without border
            bounded = False
            for length, pad in zip(size, pads, strict=True):
                factor *= math.sqrt(_copies(length, pad, layer.padding_mode))
    bound = convolution_bound(
        weight,
        size if bounded else None,
        stride=stride,
        dilation=dilation,
        groups=layer.groups,
        circular=circular,
        method=options.method,
        iterations=options.iterations,
        tolerance=options.tolerance,
        convention=options.convention,
    )
    return Bound(float(bound) * factor * _ROUNDING)


def _transposed(layer: Any, shape: tuple[int, ...], options: Options) -> Bound:
    weight = _weight(layer)
    bound = convolution_bound(
        weight[..., None, :] if weight.ndim == 3 else weight,
        stride=_two(layer.stride),
        dilation=_two(layer.dilation),
        groups=layer.groups,
        method=options.method,
        iterations=options.iterations,
        tolerance=options.tolerance,
        convention=options.convention,
    )
    return Bound(float(bound) * _ROUNDING)


def _two(values: Sequence[int]) -> tuple[int, int]:
    return (1, values[0]) if len(values) == 1 else (values[0], values[1])


def _pads(layer: Any) -> list[tuple[int, int]]:
    """Return what is added before and after, for each of two axes."""
    flat = layer._reversed_padding_repeated_twice  # as torch.nn.functional.pad takes it
    pairs = [(flat[i], flat[i + 1]) for i in range(0, len(flat), 2)][::-1]
    return [(0, 0), *pairs] if len(pairs) == 1 else pairs


def _copies(length: int, pad: tuple[int, int], mode: str) -> int:
    """Return how often padding repeats the value that it repeats most."""
    if not any(pad):
        return 1
    places = torch.arange(length, dtype=torch.float64)[None, None]
    return int(F.pad(places, pad, mode=mode).long().flatten().bincount().max())


def _max_pool(layer: Any, shape: tuple[int, ...], options: Options) -> Bound:
    """Bound by the root of how many windows one value is in: it may be the largest of all."""
    dimensions = 1 if isinstance(layer, nn.MaxPool1d) else 2
    count = 1
    for axis in range(dimensions):
        length = shape[axis - dimensions]
        k, s, p, d = (
            value if isinstance(value, int) else value[axis]
            for value in (layer.kernel_size, layer.stride, layer.padding, layer.dilation)
        )
        windows = F.max_pool1d(
            torch.zeros(1, 1, length), k, s, p, d, ceil_mode=bool(layer.ceil_mode)
        ).shape[-1]
        places = torch.arange(windows)[:, None] * s + torch.arange(k) * d - p
        inside = places[(places >= 0) & (places < length)]
        count *= int(inside.bincount().max())
    factor = math.sqrt(count)
    # The paper has 1 for every max-pooling, which overlapping windows exceed.
    return Bound(1.0 if options.convention == "paper" else factor, factor)


def _adaptive_max_pool(layer: Any, shape: tuple[int, ...], options: Options) -> Bound:
    count = 1
    for matrix in _adaptive(layer, shape):
        count *= int((matrix > 0).sum(0).max())
    return Bound(1.0 if options.convention == "paper" else math.sqrt(count), math.sqrt(count))


def _average_pool(layer: Any, shape: tuple[int, ...], options: Options) -> Bound:
    """Return the exact norm: the product of those along each axis, which are small matrices."""
    one = isinstance(layer, nn.AvgPool1d)
    divisor = None if one else layer.divisor_override
    norm = 1.0
    for axis in range(1 if one else 2):
        length = shape[-1] if one else shape[axis - 2]
        k, s, p = (
            value if isinstance(value, int) else value[0 if one else axis]
            for value in (layer.kernel_size, layer.stride, layer.padding)
        )
        matrix = F.avg_pool1d(
            torch.eye(length, dtype=torch.float64)[:, None], k, s, p,
            ceil_mode=bool(layer.ceil_mode),
            count_include_pad=divisor is not None or bool(layer.count_include_pad),
        )[:, 0]  # fmt: skip
        if divisor is not None:  # sums; the divisor below
            matrix = (matrix > 0).double()
        norm *= float(torch.linalg.matrix_norm(matrix, 2))
    return Bound(norm / (1 if divisor is None else abs(int(divisor))) * _ROUNDING)


def _adaptive_average_pool(layer: Any, shape: tuple[int, ...], options: Options) -> Bound:
    norm = math.prod(
        float(torch.linalg.matrix_norm(matrix, 2)) for matrix in _adaptive(layer, shape)
    )
    return Bound(norm * _ROUNDING)


def _adaptive(layer: Any, shape: tuple[int, ...]) -> list[Tensor]:
    """Return for each axis the matrix (outputs, inputs) of adaptive averages."""
    one = isinstance(layer, (nn.AdaptiveAvgPool1d, nn.AdaptiveMaxPool1d))
    lengths = shape[-1:] if one else shape[-2:]
    given = layer.output_size
    sizes = [given] * len(lengths) if given is None or isinstance(given, int) else list(given)
    return [
        F.adaptive_avg_pool1d(
            torch.eye(length, dtype=torch.float64)[:, None], length if size is None else size
        )[:, 0].mT
        for length, size in zip(lengths, sizes, strict=True)
    ]


def _batch_norm(layer: Any, shape: tuple[int, ...], options: Options) -> Bound:
    if not layer.track_running_stats:
        raise TypeError(
            f"{type(layer).__name__} without running statistics mixes the images of a batch: no "
            "bound for one image"
        )
    variance = layer.running_var
    scale = (variance.double() + layer.eps).rsqrt()
    return Bound(float((_gain(layer) * scale).max()) * _ROUNDING)


def _gain(layer: Any) -> Tensor:
    return _weight(layer).abs() if layer.weight is not None else torch.ones((), dtype=torch.float64)


def _standardising(layer: Any, shape: tuple[int, ...], options: Options) -> Bound:
    """Bound what divides by its own deviation s by max |gain| / sqrt(eps), for a constant image.

    The Jacobian is a projection divided by s, and s >= sqrt(eps).
    """
    return Bound(float(_gain(layer).max()) / math.sqrt(layer.eps) * _ROUNDING)


def _response_norm(layer: Any, shape: tuple[int, ...], options: Options) -> Bound:
    """Bound y_i = x_i / s_i^b with s_i = k + a sum_N(i) x_j^2, N of n channels around i.

    The Jacobian is diag(s^-b) - 2 b E, with ``|E_ij| = a |x_i x_j| / s_i^(1 + b)`` for j in N(i).
    Where all of N are the same, its eigenvalues are s^-b and s^-b (1 - 2 b |x|^2 / s), so that for
    b <= 1 it is at most k^-b, as the paper says. Otherwise the neighbourhoods differ: rows of |E|
    sum up to at most ``k^-b (1 + sqrt(n)) / 2``, columns, whose s_i all hold both x_i and x_j, to
    ``k^-b (n + 1) / 2``, and the norm is at most the root of the product (Schur's test).
    """
    n, b = layer.size, layer.beta
    largest = layer.k**-b
    if options.convention == "paper":
        return Bound(largest)
    if n // 2 >= shape[0] - 1 and (n - 1) // 2 >= shape[0] - 1:
        return Bound(largest * max(1.0, 2 * b - 1), largest)
    schur = math.sqrt((1 + math.sqrt(n)) / 2 * (n + 1) / 2)
    return Bound(largest * (1 + 2 * b * schur), largest)


def _softmax(layer: Any, shape: tuple[int, ...], options: Options) -> Bound:
    return Bound(0.5)  # diag(p) - p p^T, at two classes of one half each


RULES: dict[type[nn.Module], Rule] = {
    **dict.fromkeys(_SLOPES, _slope),
    nn.Linear: _linear,
    nn.Conv1d: _convolution,
    nn.Conv2d: _convolution,
    nn.ConvTranspose1d: _transposed,
    nn.ConvTranspose2d: _transposed,
    nn.MaxPool1d: _max_pool,
    nn.MaxPool2d: _max_pool,
    nn.AdaptiveMaxPool1d: _adaptive_max_pool,
    nn.AdaptiveMaxPool2d: _adaptive_max_pool,
    nn.AvgPool1d: _average_pool,
    nn.AvgPool2d: _average_pool,
    nn.AdaptiveAvgPool1d: _adaptive_average_pool,
    nn.AdaptiveAvgPool2d: _adaptive_average_pool,
    nn.BatchNorm1d: _batch_norm,
    nn.BatchNorm2d: _batch_norm,
    nn.LayerNorm: _standardising,
    nn.GroupNorm: _standardising,
    nn.LocalResponseNorm: _response_norm,
    nn.Softmax: _softmax,
    nn.Softmax2d: _softmax,
}
