"""`class_loss` in Triton; the formulae are those of ``csrc/cpu/class_loss.hpp``.

One program works on one row, in float64: a row has few values, and the exponentials of the smooth
margin take large arguments.
"""

from __future__ import annotations

import triton
import triton.language as tl
from torch import Tensor

from advkit.losses import LOSSES
from advkit.ops._check import row_stride
from advkit.ops._triton.launch import as_bits, launch
from advkit.ops._triton.sums import as_float

__all__ = ["class_loss_out"]

MARGIN = tl.constexpr(LOSSES["margin"].kernel_id)
CROSS_ENTROPY = tl.constexpr(LOSSES["cross_entropy"].kernel_id)


@triton.jit
def log1p(e):
    """Return log(1 + e), e in [0, 1], to a few units in the last place (Goldberg 1991, thm. 4)."""
    u = 1.0 + e
    return tl.where(u == 1.0, e, tl.log(u) * (e / tl.where(u == 1.0, 1.0, u - 1.0)))


@triton.jit
def class_loss_kernel(
    logits, logits_row, labels, kappa, sharpness, loss, dlogits, K,
    KIND: tl.constexpr, TARGETED: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """One row of `class_loss`. A label outside 0 ... K - 1 gives NaN."""
    row = tl.program_id(0).to(tl.int64)
    k = tl.arange(0, BLOCK)
    given = tl.load(logits + row * logits_row + k, mask=k < K, other=0.0)
    T: tl.constexpr = given.dtype
    z = given.to(tl.float64)
    label = tl.load(labels + row)
    others = (k < K) & (k != label)
    bad = (tl.max((z != z).to(tl.int32), 0) != 0) | (label < 0) | (label >= K)
    z = tl.where(bad, 0.0, z)
    own = tl.sum(tl.where(k == label, z, 0.0), 0)
    top = tl.max(tl.where(others, z, float("-inf")), 0)
    rival = tl.min(tl.where(others & (z == top), k, BLOCK), 0)  # the first of equals
    sign = -1.0 if TARGETED else 1.0
    if KIND == MARGIN:
        kap = as_float(kappa)
        margin = sign * (own - top) + kap
        value = tl.where(margin > 0.0, margin, 0.0) - kap
        slope = tl.where(margin > 0.0, sign, 0.0).to(tl.float64)
        share = (k == rival).to(tl.float64)
    else:
        if KIND == CROSS_ENTROPY:
            b = tl.full([], 1.0, tl.float64)
            kap = tl.full([], 0.0, tl.float64)
        else:
            b = as_float(sharpness)
            kap = as_float(kappa)
        # exp(b (z_k - top)), also where top is infinite.
        at_top = z == top
        weight = tl.where(at_top, 1.0, tl.exp(b * tl.where(at_top, 0.0, z - top)))
        weight = tl.where(others, weight, 0.0)
        total = tl.sum(weight, 0)
        gap = b * (sign * (own - top - tl.log(total) / b) + kap)
        e = tl.exp(-tl.abs(gap))
        value = (tl.where(gap > 0.0, gap, 0.0) + log1p(e)) / b
        slope = sign * tl.where(gap > 0.0, 1.0, e) / (1.0 + e)
        share = weight / total
    d = tl.where(k == label, slope, -slope * share)
    nan = float("nan")
    tl.store(loss + row, tl.where(bad, nan, value).to(T))
    tl.store(dlogits + row * K + k, tl.where(bad, nan, d).to(T), mask=k < K)


def class_loss_out(
    logits: Tensor,
    labels: Tensor,
    kind: str,
    targeted: bool,
    kappa: float,
    sharpness: float,
    loss: Tensor,
    dlogits: Tensor,
) -> None:
    """Write the loss (B,) and its gradient (B, K) of `advkit.ops.class_loss`."""
    rows, classes = logits.shape
    block = triton.next_power_of_2(classes)
    launch(
        class_loss_kernel, (rows,), logits.device, logits, row_stride(logits), labels,
        as_bits(kappa), as_bits(sharpness), loss, dlogits, classes,
        KIND=LOSSES[kind].kernel_id, TARGETED=targeted, BLOCK=block,
        num_warps=max(1, min(16, block // 256)),
    )  # fmt: skip
