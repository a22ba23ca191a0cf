"""The network as the solver sees it: loss_f and its gradient by the input.

The only place that calls the model, but for perceptrons (`attack/perceptron.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from advkit._modes import evaluating
from advkit.attack.margins import Judgement, constrain, judge
from advkit.attack.perceptron import Perceptron
from advkit.ops.class_loss import class_loss_out

__all__ = ["Evaluation", "Objective"]

Model = Callable[[Tensor], Tensor]
# Logits (b, K), labels (b,) -> loss (b,).
CustomLoss = Callable[[Tensor, Tensor], Tensor]
# The same -> loss, its gradient by the logits, and whether the network is fooled.
Head = Callable[[Tensor, Tensor], tuple[Tensor, Tensor, Judgement]]


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
    margin : Tensor (b,)
        By how much, beyond kappa.
    logits : Tensor (b, K)
        In the images' dtype.
    """

    loss: Tensor
    gradient: Tensor
    fooled: Tensor
    surely: Tensor
    margin: Tensor
    logits: Tensor


class Objective:
    """loss_f for one attack.

    Parameters
    ----------
    model : callable
        Images (b, *shape) -> logits (b, K).
    shape : torch.Size
        Of one image.
    loss : str or callable
        Key of `advkit.losses.LOSSES`, or logits (b, K), labels (b,) -> (b,).
    targeted : bool
        Whether to reach the labels or to leave them.
    kappa : float
        Confidence that counts as fooled, in logits.
    classes : int
        How many logits the labels need at least.
    """

    def __init__(
        self,
        model: Model,
        shape: torch.Size,
        *,
        loss: str | CustomLoss,
        targeted: bool,
        kappa: float,
        classes: int,
    ) -> None:
        self._model, self._shape, self._classes = model, shape, classes
        self._loss, self._targeted, self.kappa = loss, targeted, kappa
        self._perceptron: Perceptron | None = None

    @property
    def in_logits(self) -> bool:
        """Whether the constraint is in the units of the logits."""
        return isinstance(self._loss, str)

    @contextmanager
    def evaluating(self) -> Iterator[None]:
        """Hold the network in evaluation mode, and leave it as it was found.

        In training mode dropout would make the objective random, and batch normalisation would make
        images depend on each other and change the network's statistics.
        """
        with evaluating(self._model):
            self._perceptron = Perceptron.recognised(self._model, self._shape)
            try:
                yield
            finally:
                self._perceptron = None

    def __call__(self, x: Tensor, labels: Tensor) -> Evaluation:
        """Evaluate loss_f at x (b, n): one forward and one backward pass."""
        if not isinstance(self._loss, str):
            return self._evaluate(x, labels, self._custom)

        kind = self._loss

        def head(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, Judgement]:
            loss, dlogits = logits.new_empty(len(logits)), torch.empty_like(logits)
            class_loss_out(
                logits,
                labels,
                kind=kind,
                targeted=self._targeted,
                kappa=self.kappa,
                loss=loss,
                dlogits=dlogits,
            )
            return loss, dlogits, self._judge(logits, labels)

        return self._evaluate(x, labels, head)

    def constraint(
        self, x: Tensor, labels: Tensor, rivals: Tensor, sharpness: Tensor | None = None
    ) -> Evaluation:
        """Evaluate what must not be positive for the attack to succeed, as the evaluation's loss.

        See `margins.constrain`; a loss of the user's is taken as it is.
        """
        if not isinstance(self._loss, str):
            return self._evaluate(x, labels, self._custom)

        def head(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, Judgement]:
            return constrain(
                logits, labels, rivals, sharpness, targeted=self._targeted, kappa=self.kappa
            )

        return self._evaluate(x, labels, head)

    def _custom(self, logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, Judgement]:
        """Evaluate a loss of the user's and its gradient by the logits."""
        assert not isinstance(self._loss, str)
        logits = logits.clone().requires_grad_()
        with torch.enable_grad():
            loss = self._loss(logits, labels)
        if not isinstance(loss, Tensor) or loss.shape != labels.shape:
            got = tuple(loss.shape) if isinstance(loss, Tensor) else type(loss).__name__
            raise ValueError(
                f"loss must return one value per image, shape ({len(labels)},), got {got}"
            )
        if not loss.requires_grad:
            raise ValueError("loss must be differentiable by the logits it is given")
        ones = torch.ones_like(loss)
        (dlogits,) = torch.autograd.grad(loss, logits, ones, allow_unused=True)
        if dlogits is None:
            raise ValueError("loss must be differentiable by the logits it is given")
        loss = loss.detach().to(logits.dtype).contiguous()
        return loss, dlogits, self._judge(logits.detach(), labels)

    def _evaluate(self, x: Tensor, labels: Tensor, head: Head) -> Evaluation:
        if self._perceptron is not None and self._perceptron.takes(x):
            return self._evaluate_perceptron(self._perceptron, x, labels, head)
        with torch.inference_mode(False), torch.enable_grad():
            images = x.view(-1, *self._shape).requires_grad_()
            # A copy within the graph: a network may begin with an operation in place.
            output = self._model(images.clone())
            logits = self._check(output, x).detach().to(x.dtype).contiguous()
            loss, dlogits, judgement = head(logits, labels)
            # By the input alone: the parameters' .grad stay as they are.
            (gradient,) = torch.autograd.grad(
                output, images, dlogits.to(output.dtype), allow_unused=True
            )
            if gradient is None:
                raise ValueError("model must be differentiable: its logits do not depend on x")
        gradient = gradient.reshape(len(x), -1).contiguous()
        return Evaluation(loss, gradient, *judgement, logits)

    def _evaluate_perceptron(
        self, perceptron: Perceptron, x: Tensor, labels: Tensor, head: Head
    ) -> Evaluation:
        with torch.inference_mode(False), torch.no_grad():
            logits, values = perceptron.forward(x)
            self._check(logits, x)
            loss, dlogits, judgement = head(logits, labels)
            gradient = perceptron.backward(dlogits, values)
            return Evaluation(loss, gradient, *judgement, logits)

    def fooled(self, x: Tensor, labels: Tensor) -> Judgement:
        """Judge x (b, n): one forward pass."""
        with torch.no_grad():
            output = self._model(x.clone().view(-1, *self._shape))
        return self._judge(self._check(output, x).to(x.dtype).contiguous(), labels)

    def _judge(self, logits: Tensor, labels: Tensor) -> Judgement:
        return judge(logits, labels, targeted=self._targeted, kappa=self.kappa)

    def _check(self, output: object, x: Tensor) -> Tensor:
        rows = x.shape[0]
        if not isinstance(output, Tensor):
            raise TypeError(
                f"model must return a tensor of logits (B, K), got {type(output).__name__}"
            )
        if output.dim() != 2 or output.shape[0] != rows or output.shape[1] < 2:
            raise ValueError(
                f"model must return logits of shape ({rows}, K) with K >= 2 for {rows} images, "
                f"got {tuple(output.shape)}"
            )
        if output.shape[1] < self._classes:
            raise ValueError(
                f"labels must be 0 ... {output.shape[1] - 1} for a network of {output.shape[1]} "
                f"logits, got {self._classes - 1}"
            )
        if not output.is_floating_point():
            raise TypeError(f"model must return floating logits, got {output.dtype}")
        if output.device != x.device:
            raise ValueError(
                f"model must return logits on {x.device}, where x is, got {output.device}"
            )
        if torch.is_grad_enabled() and not output.requires_grad:
            raise ValueError(
                "model must be differentiable: its logits do not depend on x as far as autograd "
                "can see"
            )
        return output
