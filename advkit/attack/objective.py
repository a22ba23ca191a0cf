"""The network as the solver sees it: loss_f and its gradient by the input.

The only place that calls the model.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from advkit.ops.class_loss import class_loss_out

__all__ = ["Evaluation", "Objective"]

Model = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Evaluation:
    """One forward and one backward pass of b images.

    Attributes
    ----------
    loss : Tensor (b,)
        loss_f.
    gradient : Tensor (b, n)
        Of the loss by the input.
    fooled : Tensor (b,) of bool
        Whether the network is fooled: the target is the largest logit, or the label is not, by
        kappa or more.
    surely : Tensor (b,) of bool
        Whether it is by more than rounding can undo in another batch.
    """

    loss: Tensor
    gradient: Tensor
    fooled: Tensor
    surely: Tensor


class Objective:
    """loss_f for one attack.

    Parameters
    ----------
    model : callable
        Images (b, *shape) -> logits (b, K).
    shape : torch.Size
        Of one image.
    loss : str
        Key of `advkit.losses.LOSSES`.
    targeted : bool
        Whether to reach the labels or to leave them.
    kappa : float
        Confidence that counts as fooled, in logits.
    """

    def __init__(
        self, model: Model, shape: torch.Size, *, loss: str, targeted: bool, kappa: float
    ) -> None:
        self._model, self._shape = model, shape
        self._loss, self._targeted, self._kappa = loss, targeted, kappa

    @contextmanager
    def evaluating(self) -> Iterator[None]:
        """Hold the network in evaluation mode, and leave it as it was found.

        In training mode dropout would make the objective random, and batch normalisation would make
        images depend on each other and change the network's statistics.
        """
        modules = list(self._model.modules()) if isinstance(self._model, nn.Module) else []
        modes = [module.training for module in modules]
        if isinstance(self._model, nn.Module):
            self._model.eval()
        try:
            yield
        finally:
            for module, mode in zip(modules, modes, strict=True):
                module.training = mode

    def __call__(self, x: Tensor, labels: Tensor) -> Evaluation:
        """Evaluate loss, gradient and margin of x (b, n), once forward and once backward."""
        with torch.inference_mode(False), torch.enable_grad():
            images = x.view(-1, *self._shape).requires_grad_()
            # A copy within the graph: a network may begin with an operation in place.
            output = self._model(images.clone())
            logits = self._check(output, len(x), x.device, labels)
            loss = logits.new_empty(len(x), dtype=x.dtype)
            dlogits = logits.new_empty(logits.shape, dtype=x.dtype)
            detached = logits.detach().to(x.dtype).contiguous()
            class_loss_out(
                detached,
                labels,
                kind=self._loss,
                targeted=self._targeted,
                kappa=self._kappa,
                loss=loss,
                dlogits=dlogits,
            )
            # By the input alone: the parameters' .grad stay as they are.
            (gradient,) = torch.autograd.grad(
                output, images, dlogits.to(output.dtype), allow_unused=True
            )
            if gradient is None:
                raise ValueError("model must be differentiable: its logits do not depend on x")
        gradient = gradient.reshape(len(x), -1).contiguous()
        return Evaluation(loss, gradient, *self._fooled(detached, labels))

    def fooled(self, x: Tensor, labels: Tensor) -> Tensor:
        """Return whether the network is fooled by x (b, n): one forward pass."""
        with torch.no_grad():
            output = self._model(x.clone().view(-1, *self._shape))
        return self._fooled(self._check(output, len(x), x.device, labels).to(x.dtype), labels)[0]

    def _fooled(self, logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        own = logits.gather(1, labels[:, None])[:, 0]
        rival = logits.scatter(1, labels[:, None], -torch.inf).amax(1)
        margin = own - rival if self._targeted else rival - own
        size = logits.abs().nan_to_num(posinf=0).amax(1)  # -inf rules a class out
        rounding = 64 * torch.finfo(logits.dtype).eps * size
        plain = margin >= self._kappa if self._kappa > 0 else margin > 0
        return plain, margin > self._kappa + rounding

    @staticmethod
    def _check(output: object, rows: int, device: torch.device, labels: Tensor) -> Tensor:
        if not isinstance(output, Tensor):
            raise TypeError(
                f"model must return a tensor of logits (B, K), got {type(output).__name__}"
            )
        if output.dim() != 2 or output.shape[0] != rows or output.shape[1] < 2:
            raise ValueError(
                f"model must return logits of shape ({rows}, K) with K >= 2 for {rows} images, "
                f"got {tuple(output.shape)}"
            )
        if not output.is_floating_point():
            raise TypeError(f"model must return floating logits, got {output.dtype}")
        if output.device != device:
            raise ValueError(
                f"model must return logits on {device}, where x is, got {output.device}"
            )
        if torch.is_grad_enabled() and not output.requires_grad:
            raise ValueError(
                "model must be differentiable: its logits do not depend on x as far as autograd "
                "can see"
            )
        return output
