"""Plain multilayer perceptrons without autograd: the same operations, and so the same digits.

What autograd costs beside the products is more than they do for few images: nodes of a graph, their
queue, a copy of the images.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.modules import module as _module

__all__ = ["Perceptron"]

_aten = torch.ops.aten

# Activation -> its value, and the gradient by its argument from that by its value, and the value.
_ACTIVATIONS: dict[
    type[nn.Module], tuple[Callable[[Tensor], Tensor], Callable[[Tensor, Tensor], Tensor]]
] = {
    nn.Sigmoid: (torch.sigmoid, _aten.sigmoid_backward),
    nn.Tanh: (torch.tanh, _aten.tanh_backward),
    nn.ReLU: (torch.relu, lambda gradient, value: _aten.threshold_backward(gradient, value, 0)),
}
_HOOKS = "_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks"


class Perceptron:
    """A network of Flatten, Linear, Sigmoid, Tanh and ReLU, as functions of rows.

    Made by `recognised`.

    Parameters
    ----------
    layers : list of nn.Module
        Linear layers and activations, in order.
    """

    def __init__(self, layers: list[nn.Module]) -> None:
        self._layers = layers
        self._weight = next(layer.weight for layer in layers if isinstance(layer, nn.Linear))

    @classmethod
    def recognised(cls, model: object, shape: torch.Size) -> Perceptron | None:
        """Return the perceptron that a model is for images of this shape, or None.

        A perceptron is an `nn.Sequential` of these very classes in evaluation mode. Whatever could
        make a call of the model another thing than its layers' formulae is left to autograd: hooks,
        subclasses and parametrisations, methods replaced, compilation, autocast.
        """
        if type(model) is not nn.Sequential:
            return None
        if any(getattr(_module, f"_global{hooks}") for hooks in _HOOKS):
            return None
        width = shape.numel() if len(shape) == 1 else None  # None: not flat yet
        layers: list[nn.Module] = []
        for layer in (model, *model):
            if any(getattr(layer, hooks) for hooks in _HOOKS) or "forward" in layer.__dict__:
                return None
            if layer.training or layer._compiled_call_impl is not None:
                return None
            if layer is model:
                continue
            if type(layer) is nn.Flatten and (layer.start_dim, layer.end_dim) == (1, -1):
                width = shape.numel() if width is None else width
            elif type(layer) is nn.Linear and layer.in_features == width:
                width = layer.out_features
                layers.append(layer)
            elif type(layer) in _ACTIVATIONS:
                layers.append(layer)
            else:
                return None
        weights = [each for layer in layers for each in layer.parameters()]
        if not weights or not all(_plain(each, weights[0]) for each in weights):
            return None
        return None if torch.is_autocast_enabled(weights[0].device.type) else cls(layers)

    def takes(self, x: Tensor) -> bool:
        """Tell whether the weights have the dtype and device of the images."""
        return (x.dtype, x.device) == (self._weight.dtype, self._weight.device)

    def forward(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Return the logits (b, K) at x (b, n), and the activations that `backward` takes."""
        values = []
        for layer in self._layers:
            if isinstance(layer, nn.Linear):
                x = nn.functional.linear(x, layer.weight, layer.bias)
            else:
                x = _ACTIVATIONS[type(layer)][0](x)
                values.append(x)
        return x, values

    def backward(self, gradient: Tensor, values: list[Tensor]) -> Tensor:
        """Return the gradient (b, n) by the input, from that by the logits (b, K)."""
        left = list(values)
        for layer in reversed(self._layers):
            if isinstance(layer, nn.Linear):
                gradient = gradient.mm(layer.weight)
            else:
                gradient = _ACTIVATIONS[type(layer)][1](gradient, left.pop())
        return gradient


def _plain(weight: Tensor, like: Tensor) -> bool:
    """Tell whether a layer's weight is an ordinary tensor of the same dtype and device."""
    return (
        type(weight) in (Tensor, nn.Parameter)
        and weight.layout == torch.strided
        and (weight.dtype, weight.device) == (like.dtype, like.device)
    )
