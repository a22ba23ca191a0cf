"""Operator norms of convolutions: exact, bounded from above, and as the paper prints them."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from advkit.analysis.gram import gram_bound

__all__ = ["CONVENTIONS", "METHODS", "convolution_bound"]

METHODS = ("svd", "gram")
CONVENTIONS = ("corrected", "paper", "paper-factor")

_CHUNK = 2**22  # complex values of the frequency response that are held at once
_PRINTED_POINTS = 32


def convolution_bound(
    weight: Tensor,
    size: Sequence[int] | None = None,
    *,
    stride: int | Sequence[int] = 1,
    dilation: int | Sequence[int] = 1,
    groups: int = 1,
    circular: bool = False,
    method: str = "svd",
    iterations: int = 10,
    tolerance: float = 1e-2,
    convention: str = "corrected",
) -> Tensor:
    """Return an upper bound of the operator norm of a two-dimensional convolution, in L2.

    A convolution of stride D is one of stride 1 on the D x D phases of its input, taken as
    channels, and a Fourier transform turns that into a product with a matrix A(xi) at each
    frequency: its norm is the largest ``|A(xi)|``. That is the corrected equation (1) of Szegedy et
    al. 2013, section 4.3, which prints a factor D^-2 for D^-1 and divides the exponent by N^2 for
    N. The frequencies are

    - those of the image where it is circular: the result is the norm;
    - without a size, all: the largest ``|A|`` of a grid of n points an axis, divided by
      ``cos(pi (k - 1) / 2n)`` for each axis with k taps, which bounds the supremum, since
      ``|u A(xi) v|^2`` is a trigonometric polynomial of degree k - 1 between 0 and its maximum
      (M. Riesz 1914: it falls no faster from there than a cosine);
    - with a size and zeros around it, those of a circular image so large that nothing wraps, or
      all, if they are fewer.

    Parameters
    ----------
    weight : Tensor (D, C / groups, h, w)
        As that of `torch.nn.Conv2d`; that of `ConvTranspose2d`, the adjoint, has the same norm.
    size : sequence of int, optional
        Height and width of the image; by default unbounded.
    stride, dilation : int or (int, int)
        See `torch.nn.Conv2d`. The amount of padding plays no part.
    groups : int
        See `torch.nn.Conv2d`.
    circular : bool
        The image, of that size, is a torus; stride must divide it.
    method : {"svd", "gram"}
        The norm of each ``A(xi)``, or its upper bound by `gram_bound`, which is faster and has a
        better gradient.
    iterations : int
        Of `gram_bound`.
    tolerance : float
        The largest excess that is taken from the grid, where all frequencies count.
    convention : {"corrected", "paper", "paper-factor"}
        "paper": the equation as printed, which is no bound; "paper-factor": with its factor D^-2
        but with the exponent over N.

    Returns
    -------
    Tensor ()
        In the type of `weight`, differentiable.

    Raises
    ------
    ValueError
        An argument is out of range.
    """
    if weight.ndim != 4 or not weight.is_floating_point() or not weight.numel():
        raise ValueError(
            "weight: expected a floating-point tensor (D, C / groups, h, w), got "
            f"{weight.dtype} of shape {tuple(weight.shape)}"
        )
    if groups < 1 or len(weight) % groups:
        raise ValueError(f"groups: expected a divisor of {len(weight)}, got {groups}")
    if method not in METHODS or convention not in CONVENTIONS:
        raise ValueError(
            f"method and convention: expected one of {METHODS} and of {CONVENTIONS}, got "
            f"{method!r} and {convention!r}"
        )
    if not 0 < tolerance < 1:
        raise ValueError(f"tolerance: expected a number in (0, 1), got {tolerance}")
    strides, dilations = _pair("stride", stride), _pair("dilation", dilation)
    sizes = None if size is None else _pair("size", size)
    kernel = _dilated(weight, dilations)
    if convention == "paper":
        return _printed(kernel, strides, groups)
    phases = _phases(kernel, strides).unflatten(0, (groups, -1))
    taps = phases.shape[-2], phases.shape[-1]
    points, excess = _grid(taps, tolerance)
    if circular:
        if sizes is None or any(n % s for n, s in zip(sizes, strides, strict=True)):
            raise ValueError(
                f"size: expected multiples of the stride {strides} on a torus, got {sizes}"
            )
        points, excess = (sizes[0] // strides[0], sizes[1] // strides[1]), 1.0
    elif sizes is not None:
        # On a torus with room for the kernel beside the image, as with zeros around it.
        needed = tuple(
            math.ceil((n + k - 1) / s)
            for n, k, s in zip(sizes, kernel.shape[-2:], strides, strict=True)
        )
        if needed[0] * needed[1] <= points[0] * points[1]:
            points, excess = (needed[0], needed[1]), 1.0
    bound = _largest(phases, points, method, iterations) * excess
    return bound / math.sqrt(math.prod(strides)) if convention == "paper-factor" else bound


def _pair(name: str, value: int | Sequence[int]) -> tuple[int, int]:
    both = (value, value) if isinstance(value, int) else tuple(value)
    if len(both) != 2 or any(each < 1 for each in both):
        raise ValueError(f"{name}: expected one or two integers of at least 1, got {value}")
    return both[0], both[1]


def _dilated(weight: Tensor, dilation: tuple[int, int]) -> Tensor:
    """Return the kernel (D, C, h, w) with the zeros of its dilation."""
    rows, columns = ((k - 1) * d + 1 for k, d in zip(weight.shape[-2:], dilation, strict=True))
    kernel = weight.new_zeros(*weight.shape[:2], rows, columns)
    kernel[..., :: dilation[0], :: dilation[1]] = weight
    return kernel


def _phases(kernel: Tensor, stride: tuple[int, int]) -> Tensor:
    """Return the kernel (D, C s t, h', w') of stride 1 that acts on the phases of the image."""
    rows, columns = (-(-k // s) for k, s in zip(kernel.shape[-2:], stride, strict=True))
    missing = (columns * stride[1] - kernel.shape[-1], rows * stride[0] - kernel.shape[-2])
    padded = torch.nn.functional.pad(kernel, (0, missing[0], 0, missing[1]))
    # (D, C, h' s, w' t) -> (D, C, h', s, w', t) -> (D, C, s, t, h', w')
    parts: Tensor = padded.unflatten(-1, (columns, stride[1])).unflatten(-3, (rows, stride[0]))
    return parts.permute(0, 1, 3, 5, 2, 4).flatten(1, 3)


def _grid(taps: tuple[int, int], tolerance: float) -> tuple[tuple[int, int], float]:
    """Return points an axis, and the factor by which the supremum may exceed their maximum."""
    # Half the tolerance for each axis: 1 / cos(angle) <= sqrt(1 + tolerance).
    angle = math.acos(1 / math.sqrt(1 + tolerance))
    points = tuple(max(1, math.ceil(math.pi * (k - 1) / (2 * angle))) for k in taps)
    excess = math.prod(
        1 / math.cos(math.pi * (k - 1) / (2 * n)) for k, n in zip(taps, points, strict=True)
    )
    return (points[0], points[1]), excess


def _largest(phases: Tensor, points: tuple[int, int], method: str, iterations: int) -> Tensor:
    """Return the largest norm of the response of (G, D, C, h, w) at points[0] x points[1]."""
    rows = phases.shape[-2]
    across = _waves(points[1], phases.shape[-1], points[1], phases)
    # (G, D, C, h, n): the other half of the rows of frequencies is the conjugate of this one.
    partial = phases.to(across.dtype) @ across.mT
    down = _waves(points[0] // 2 + 1, rows, points[0], phases)
    step = max(1, _CHUNK // (partial.numel() // rows))
    found = []
    for part in down.split(step):
        response = torch.einsum("gdchn,mh->mngdc", partial, part)
        norms = gram_bound(response, iterations) if method == "gram" else _norms(response)
        found.append(norms.amax())
    return torch.stack(found).amax()


def _waves(count: int, taps: int, points: int, like: Tensor) -> Tensor:
    """Return exp(-2 pi i m u / points), (count, taps), exact where the angle is."""
    turns = torch.outer(torch.arange(count), torch.arange(taps)).remainder(points)
    angle = -2 * math.pi * turns.double() / points
    complex_type = torch.complex128 if like.dtype == torch.float64 else torch.complex64
    return torch.polar(torch.ones_like(angle), angle).to(like.device, complex_type)


def _norms(matrices: Tensor) -> Tensor:
    """Return the largest singular values of matrices (..., p, q)."""
    wide = matrices.shape[-2] < matrices.shape[-1]
    gram = matrices @ matrices.mH if wide else matrices.mH @ matrices
    squares: Tensor = torch.linalg.eigvalsh(gram)[..., -1]
    return squares.clamp(min=0).sqrt()


def _printed(kernel: Tensor, stride: tuple[int, int], groups: int) -> Tensor:
    """Return equation (1) as it stands, with the supremum over a grid of xi."""
    kernel = kernel.double()
    sides = kernel.shape[-2:]
    waves = []
    for side, step in zip(sides, stride, strict=True):
        # xi in [0, N / D), shifted by l N / D: (points, D, N).
        xi = torch.arange(_PRINTED_POINTS, dtype=torch.float64) * side / step / _PRINTED_POINTS
        shifted = xi[:, None] + torch.arange(step) * side / step
        angle = -2 * math.pi * shifted[..., None] * torch.arange(side) / side**2
        waves.append(torch.polar(torch.ones_like(angle), angle))
    wide = kernel.unflatten(0, (groups, -1)).to(torch.complex128)
    found = [
        _norms(torch.einsum("gdcuv,au,pbv->pgdcab", wide, row, waves[1]).flatten(-3)).amax()
        for row in waves[0]
    ]
    return (torch.stack(found).amax() / math.prod(stride)).to(kernel.dtype)
