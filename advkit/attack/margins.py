"""The margin of an attack: how far the network is from being fooled, of many images at once.

On a CPU it is the compiled module's: a round would spend more time on the 25 small operations of
PyTorch than on the network's own of a small network.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from advkit.ops._check import row_stride, suffix
from advkit.ops._dispatch import choose, native

__all__ = ["Constraint", "Judgement", "constrain", "judge"]

# Part of the largest logit that rounding in another batch may change a margin by, in epsilons.
ROUNDING = 64
SMALLEST = 1e-6  # difference that a relative sharpness is in units of


class Judgement(NamedTuple):
    """Whether images fool the network.

    Attributes
    ----------
    fooled : Tensor (b,) of bool
        Whether the target is the largest logit, or the label is not, by kappa or more.
    surely : Tensor (b,) of bool
        Whether it is by more than rounding can undo in another batch.
    margin : Tensor (b,)
        By how much, beyond kappa.
    """

    fooled: Tensor
    surely: Tensor
    margin: Tensor


class Constraint(NamedTuple):
    """What must not be positive for an attack to succeed: h (b,), its gradient dh/dz (b, K)."""

    h: Tensor
    dlogits: Tensor
    judgement: Judgement


def judge(logits: Tensor, labels: Tensor, *, targeted: bool, kappa: float) -> Judgement:
    """Judge images by their logits (b, K), contiguous, and labels or targets (b,)."""
    if choose(logits) == "cpu":
        made = _outputs(logits)
        _call(logits, labels, None, None, targeted, kappa, None, made)
        return made
    own = logits.gather(1, labels[:, None])[:, 0]
    rival = logits.scatter(1, labels[:, None], -torch.inf).amax(1)
    margin = (own - rival if targeted else rival - own) - kappa
    size = logits.abs().nan_to_num(posinf=0).amax(1)  # -inf rules a class out
    rounding = ROUNDING * torch.finfo(logits.dtype).eps * size
    return Judgement(margin >= 0 if kappa > 0 else margin > 0, margin > rounding, margin)


def constrain(
    logits: Tensor,
    labels: Tensor,
    rivals: Tensor,
    sharpness: Tensor | None,
    *,
    targeted: bool,
    kappa: float,
) -> Constraint:
    """Return the margin by which the network is not fooled yet, plus kappa.

    z_label - z_rival, with the largest of the other logits where `rivals` (b,) is negative; turned
    round when targeted. Where `sharpness` s (b,) of float64 is not 0, the largest is
    log(sum(exp(s z))) / s instead: no smaller, and without the kinks between classes that rise
    while others fall. A negative sharpness is in units of the present difference: -10 is
    10 / |z_label - z_rival|.
    """
    if choose(logits) == "cpu":
        made, dlogits = _outputs(logits), torch.empty_like(logits)
        h = torch.empty_like(made.margin)
        _call(logits, labels, rivals, sharpness, targeted, kappa, (h, dlogits), made)
        return Constraint(h, dlogits, made)
    own = logits.gather(1, labels[:, None])[:, 0]
    others = logits.scatter(1, labels[:, None], -torch.inf)
    rival = torch.where(rivals < 0, others.argmax(1), rivals)
    sign = -1.0 if targeted else 1.0
    share = torch.zeros_like(logits).scatter_(1, rival[:, None], 1.0)
    other = logits.gather(1, rival[:, None])[:, 0]
    if sharpness is not None:
        smooth = sharpness != 0
        each = torch.where(smooth, _absolute_sharpness(sharpness, own - other), 1.0)
        scaled = others * each.to(others.dtype)[:, None]
        other = torch.where(smooth, scaled.logsumexp(1) / each, other).to(own.dtype)
        share = torch.where(smooth[:, None], scaled.softmax(1), share)
    dlogits = (-sign * share).scatter_(1, labels[:, None], sign)
    judgement = judge(logits, labels, targeted=targeted, kappa=kappa)
    return Constraint(sign * (own - other) + kappa, dlogits, judgement)


def _outputs(logits: Tensor) -> Judgement:
    rows = logits.shape[0]
    fooled, surely = (logits.new_empty(rows, dtype=torch.bool) for _ in range(2))
    return Judgement(fooled, surely, logits.new_empty(rows))


def _call(
    logits: Tensor,
    labels: Tensor,
    rivals: Tensor | None,
    sharpness: Tensor | None,
    targeted: bool,
    kappa: float,
    constraint: tuple[Tensor, Tensor] | None,
    made: Judgement,
) -> None:
    def address(tensor: Tensor | None) -> int:
        return 0 if tensor is None else tensor.data_ptr()

    h, dlogits = constraint or (None, None)
    getattr(native(), f"margin_{suffix(logits)}")(
        *logits.shape,
        logits.data_ptr(),
        row_stride(logits),
        labels.data_ptr(),
        address(rivals),
        address(sharpness),
        targeted,
        kappa,
        address(h),
        address(dlogits),
        made.margin.data_ptr(),
        made.fooled.data_ptr(),
        made.surely.data_ptr(),
        torch.get_num_threads(),
    )


def _absolute_sharpness(sharpness: Tensor, difference: Tensor) -> Tensor:
    """Return sharpnesses (b,) per logit; those below 0 are in units of 1 / |difference| (b,)."""
    relative = -sharpness / difference.double().abs().clamp(min=SMALLEST)
    return torch.where(sharpness < 0, relative, sharpness)
