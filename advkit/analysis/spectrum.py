"""Upper bounds of every layer's operator norm, and of the network's (section 4.3)."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F

from advkit.analysis.convolutions import CONVENTIONS, METHODS
from advkit.analysis.jacobians import jacobian_norms
from advkit.analysis.rules import ISOMETRIES, RULES, Bound, Options, Rule
from advkit.analysis.spectrum_result import Layer, Spectrum

__all__ = ["spectrum"]

_BATCH = 64
_SAME_FUNCTIONS = (torch.flatten, torch.reshape, torch.permute, torch.transpose)
_SAME_METHODS = (
    "flatten", "view", "reshape", "permute", "transpose", "contiguous", "squeeze", "unsqueeze",
)  # fmt: skip
# Functions that stand for layers, with the arguments that those take.
_FUNCTIONS: dict[Callable[..., Any], Callable[..., nn.Module]] = {
    F.relu: lambda inplace=False: nn.ReLU(),
    torch.relu: nn.ReLU,
    F.leaky_relu: nn.LeakyReLU,
    torch.sigmoid: nn.Sigmoid,
    F.sigmoid: nn.Sigmoid,
    torch.tanh: nn.Tanh,
    F.tanh: nn.Tanh,
    F.gelu: nn.GELU,
    F.silu: nn.SiLU,
    F.softplus: nn.Softplus,
    F.elu: nn.ELU,
    F.max_pool2d: nn.MaxPool2d,
    torch.max_pool2d: nn.MaxPool2d,
    F.avg_pool2d: nn.AvgPool2d,
    F.adaptive_avg_pool2d: nn.AdaptiveAvgPool2d,
}
_METHODS: dict[str, Callable[..., nn.Module]] = {
    "relu": nn.ReLU, "sigmoid": nn.Sigmoid, "tanh": nn.Tanh,
}  # fmt: skip
_ADD = {"add", "iadd", "sub", "isub"}
_SCALE = {"mul", "truediv"}
_SIZES = {"size", "dim", "numel", "getattr"}


def spectrum(
    model: nn.Module,
    input_shape: Sequence[int],
    images: Tensor | None = None,
    *,
    convention: str = "corrected",
    method: str = "svd",
    iterations: int = 100,
    tolerance: float = 1e-2,
    rules: Mapping[type[nn.Module], Rule] | None = None,
    seed: int = 0,
) -> Spectrum:
    """Bound how far each layer, and the whole network, can move two inputs apart, in L2.

    Szegedy et al. 2013, section 4.3: if layer k is Lipschitz with L_k, the network is with the
    product of all. Where paths are added (residual networks) their bounds add, where they are
    concatenated their squares do; the structure comes from `torch.fx`. Upper bounds are rigorous up
    to rounding in float64; lower ones are values that were seen. Large bounds do not imply
    adversarial examples, small ones exclude them.

    The network is bounded as it is in eval mode, and left in the mode it was in.

    Parameters
    ----------
    model : torch.nn.Module
        (B, *input_shape) to (B, K), traceable by `torch.fx`.
    input_shape : sequence of int
        Of an image, as (C, H, W). The border counts: pooling and zeros around it lower norms.
    images : Tensor (B, *input_shape), optional
        Images for the estimates from below of the whole network.
    convention : {"corrected", "paper", "paper-factor"}
        How convolutions are bounded, see `convolution_bound`. "paper": as the paper prints it, with
        1 for every max-pooling and eps^-gamma for every response normalisation; those are no
        bounds where a stride is above 1, or windows or neighbourhoods overlap.
    method : {"svd", "gram"}
        See `convolution_bound`.
    iterations : int
        Of the power iterations.
    tolerance : float
        See `convolution_bound`.
    rules : mapping of type to callable, optional
        For classes of layers that are not known, or in place of those that are: from the layer, the
        shape of its input without batch and `Options` to a `Bound`. Such layers are not looked
        into.
    seed : int
        Of the power iterations.

    Returns
    -------
    Spectrum
        Layers, product and estimates.

    Raises
    ------
    TypeError
        `model` is not a torch.nn.Module, or has a layer or operation without rule.
    ValueError
        An argument is out of range, or the network cannot be traced.
    """
    if not isinstance(model, nn.Module):
        raise TypeError(
            f"model: expected a torch.nn.Module, got {type(model).__name__}; the layers of a "
            "function cannot be seen"
        )
    shape = tuple(int(each) for each in input_shape)
    if not shape or min(shape) < 1:
        raise ValueError(f"input_shape: expected positive integers, got {input_shape}")
    if images is not None and tuple(images.shape[1:]) != shape:
        raise ValueError(f"images: expected shape (B, {shape}), got {tuple(images.shape)}")
    if method not in METHODS or convention not in CONVENTIONS:
        raise ValueError(
            f"method and convention: expected one of {METHODS} and of {CONVENTIONS}, got "
            f"{method!r} and {convention!r}"
        )
    if iterations < 1:
        raise ValueError(f"iterations: expected at least 1, got {iterations}")
    known = {**RULES, **(rules or {})}
    # A copy in float64 on the CPU: the user's network stays as it is.
    exact = copy.deepcopy(model).cpu().double().eval().requires_grad_(False)
    tracer = _Tracer(tuple(rules or ()))
    if tracer.is_leaf_module(exact, ""):  # a single layer
        exact = nn.Sequential(exact)
    try:
        graph = tracer.trace(exact)
    except Exception as error:
        raise ValueError(
            f"model: torch.fx cannot trace {type(model).__name__} ({error}); give a rule for the "
            "class whose forward cannot be traced, rules={Class: rule}"
        ) from error
    options = Options(method, tolerance=tolerance, convention=convention)
    walk = _Walk(fx.GraphModule(exact, graph), known, options, iterations, seed)
    generator = torch.Generator().manual_seed(seed)
    probe = torch.rand(1, *shape, generator=generator, dtype=torch.float64)
    with torch.no_grad():
        answer = walk.run(probe.clone())
        if not torch.allclose(answer, exact(probe.clone())):
            raise ValueError(
                f"model: torch.fx traces {type(model).__name__} to something else than it computes "
                "(writing in place, or a choice that depends on values); give a rule for the class "
                "whose forward does that, rules={Class: rule}"
            )
    jacobian = gradient = None
    if images is not None and len(images):
        jacobian, gradient = _on_data(exact, images, min(iterations, 20), seed)
    settings = {
        "convention": convention,
        "method": method,
        "iterations": iterations,
        "tolerance": tolerance,
        "seed": seed,
    }
    count = 0 if images is None else len(images)
    return Spectrum(tuple(walk.layers), walk.whole, jacobian, gradient, count, settings)


class _Tracer(fx.Tracer):
    """Look into every module but PyTorch's own and those with a rule."""

    def __init__(self, leaves: tuple[type[nn.Module], ...]) -> None:
        super().__init__()
        self.leaves = leaves

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        """Return whether `m` is taken as one layer."""
        return isinstance(m, self.leaves) or super().is_leaf_module(m, module_qualified_name)


class _Walk(fx.Interpreter):
    """Run the network on an image, and carry along a bound from the input to each node."""

    def __init__(
        self,
        graph: fx.GraphModule,
        rules: Mapping[type[nn.Module], Rule],
        options: Options,
        iterations: int,
        seed: int,
    ) -> None:
        super().__init__(graph)
        self.rules, self.options = rules, options
        self.iterations, self.seed = iterations, seed
        self.constant: dict[fx.Node, float] = {}
        self.layers: list[Layer] = []
        self.whole = math.nan

    def run_node(self, n: fx.Node) -> Any:
        """Compute a node, and its bound."""
        result = super().run_node(n)
        if n.op == "placeholder":
            self.constant[n] = 1.0
        elif n.op == "output":
            if not isinstance(n.args[0], fx.Node):
                raise TypeError("model: expected one tensor as output, got several")
            self.whole = self.constant[n.args[0]]
        elif n.op == "get_attr" or not any(self.constant[each] for each in n.all_input_nodes):
            self.constant[n] = 0.0  # a parameter, or made of sizes: does not move with the input
        elif n.op == "call_module":
            layer = self.fetch_attr(str(n.target))
            self.constant[n] = self._layer(n, str(n.target), layer)
            if getattr(layer, "inplace", False):
                self.constant[n.all_input_nodes[0]] = self.constant[n]
        elif not isinstance(result, Tensor) and _named(n) in _SIZES:
            self.constant[n] = 0.0
        else:
            self.constant[n] = self._operation(n)
        return result

    def _layer(self, n: fx.Node, name: str, layer: nn.Module) -> float:
        source = n.args[0]
        if not isinstance(source, fx.Node) or len(n.all_input_nodes) != 1:
            raise TypeError(f"{name}: expected a layer with one input, got {n.format_node()}")
        before = self.constant[source]
        if type(layer) not in self.rules:
            if isinstance(layer, ISOMETRIES):
                return before
            raise TypeError(
                f"{name}: no rule for {type(layer).__name__}; give one, "
                f"rules={{{type(layer).__name__}: rule}} (see advkit.analysis.spectrum)"
            )
        x = self.env[source]
        shape = tuple(x.shape[1:])
        bound = self.rules[type(layer)](layer, shape, self.options)
        self.layers.append(
            Layer(name, type(layer).__name__, bound.upper, self._below(layer, bound, x), shape)
        )
        return before * bound.upper

    def _below(self, layer: nn.Module, bound: Bound, x: Tensor) -> float:
        if bound.attained is not None:
            return bound.attained
        generator = torch.Generator().manual_seed(self.seed)
        point = torch.randn(x.shape, generator=generator, dtype=x.dtype)
        norms = jacobian_norms(layer, point, iterations=self.iterations, seed=self.seed)
        return float(norms[0])

    def _operation(self, n: fx.Node) -> float:
        name = _named(n)
        if name in _ADD and len(n.args) == 2 and not n.kwargs:
            total = sum(self.constant[a] for a in n.args if isinstance(a, fx.Node))
            if name in ("iadd", "isub") and isinstance(n.args[0], fx.Node):
                self.constant[n.args[0]] = total  # written into
            return total
        numbers = [abs(float(a)) for a in n.args if isinstance(a, (int, float))]
        if name in _SCALE and len(n.args) == 2 and len(numbers) == 1:
            moved = self.constant[n.all_input_nodes[0]]
            if name == "mul":
                return moved * numbers[0]
            if isinstance(n.args[0], fx.Node):
                return moved / numbers[0]
        if n.target is torch.cat and isinstance(n.args[0], (list, tuple)):
            return math.hypot(*(self.constant[a] for a in n.args[0] if isinstance(a, fx.Node)))
        source = n.args[0] if n.args else None
        # View and reshape may take sizes beside the tensor, which do not move with the input.
        moving = [each for each in n.all_input_nodes if self.constant[each]]
        if isinstance(source, fx.Node) and moving == [source]:
            if n.target is F.dropout and n.kwargs.get("training") is False:
                return self.constant[source]
            if n.target in _SAME_FUNCTIONS or (n.op == "call_method" and name in _SAME_METHODS):
                return self.constant[source]
            make = _METHODS.get(name) if n.op == "call_method" else None
            if make is None and not isinstance(n.target, str):
                make = _FUNCTIONS.get(n.target)
            if make is not None:
                return self._layer(n, n.name, make(*n.args[1:], **n.kwargs))
        raise TypeError(
            f"{n.name}: no rule for the operation {name or n.target!r}; put it into a module of "
            "its own and give a rule for that, rules={Class: rule}"
        )


def _named(n: fx.Node) -> str:
    """Return the name of a function or method."""
    return n.target if isinstance(n.target, str) else getattr(n.target, "__name__", "")


def _on_data(model: nn.Module, images: Tensor, iterations: int, seed: int) -> tuple[float, float]:
    """Return the largest norms of the Jacobian and of the predicted logit's gradient."""
    jacobian = gradient = 0.0
    for part in images.detach().cpu().double().split(_BATCH):
        norms = jacobian_norms(model, part, iterations=iterations, seed=seed)
        jacobian = max(jacobian, float(norms.max()))
        with torch.inference_mode(False), torch.enable_grad():
            x = part.clone().requires_grad_()
            (slope,) = torch.autograd.grad(model(x).flatten(1).amax(1).sum(), x)
        gradient = max(gradient, float(slope.flatten(1).norm(dim=1).max()))
    return jacobian, gradient
