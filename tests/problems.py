"""Problems with known answers, for the tests and the benchmarks.

`more_toraldo` makes batches of box-constrained quadratic programs whose solution, active set and
multipliers are chosen first (J. J. Moré, G. Toraldo, "On the solution of large quadratic
programming problems with bound constraints", SIAM J. Optim. 1 (1991), section 5). `LinearSoftmax`
is a softmax classifier without hidden layers, for which smallest perturbations are known.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

_CHUNK = 1024


def row_sum(values: Tensor) -> Tensor:
    """Sum over the last dimension; the bits of a row depend on that row alone.

    PyTorch splits one long row over its threads but not many rows. Sums of fixed chunks first make
    the order of the additions the same for any batch and any number of threads.

    Parameters
    ----------
    values : Tensor (b, n)
        Rows to sum.

    Returns
    -------
    Tensor (b,)
        Sums, in the dtype of `values`.
    """
    rows, n = values.shape
    padded = nn.functional.pad(values, (0, -n % _CHUNK)).view(rows, -1, _CHUNK)
    return padded.sum(-1).sum(-1)


@dataclass(frozen=True)
class BoxQP:
    """B convex quadratic programs in boxes, each with its exact solution.

    Problem b is: minimise ``f* + mᵀ(x - x*) + (x - x*)ᵀ A (x - x*) / 2`` over
    ``lower <= x <= upper`` with ``A = M D Mᵀ`` and M a product of Householder reflections. In this
    form rounding does not move the solution: at x* the value is f* and the gradient m, to the bit.

    Attributes
    ----------
    lower, upper : Tensor (B, n)
        The boxes; infinite entries where a side is open.
    solution : Tensor (B, n)
        x*, the only minimiser (A is positive definite).
    multipliers : Tensor (B, n)
        m, the gradient at x*: positive on active lower bounds, negative on active upper bounds,
        zero on free variables, and of any sign where lower == upper.
    minimum : Tensor (B,)
        f*.
    active : Tensor (B, n), bool
        Where x* lies on a bound.
    eigenvalues : Tensor (n,)
        D, ascending from 1 to the condition number.
    reflectors : Tensor (B, k, n)
        Unit vectors v_1 ... v_k, with ``M = (I - 2 v_1 v_1ᵀ) ... (I - 2 v_k v_kᵀ)``.
    """

    lower: Tensor
    upper: Tensor
    solution: Tensor
    multipliers: Tensor
    minimum: Tensor
    active: Tensor
    eigenvalues: Tensor
    reflectors: Tensor

    def hessian_product(self, v: Tensor, index: Tensor | None = None) -> Tensor:
        """Multiply row i of `v` (b, n) by the Hessian of problem ``index[i]`` (of problem i)."""
        reflectors = self.reflectors if index is None else self.reflectors[index]
        order = range(reflectors.shape[1])
        for k in order:
            v = _reflect(v, reflectors[:, k])
        v = v * self.eigenvalues
        for k in reversed(order):
            v = _reflect(v, reflectors[:, k])
        return v

    def value_and_grad(self, x: Tensor, index: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Evaluate some of the problems.

        A row's result does not depend on its neighbours or on the number of threads. Products and
        sums are separate operations on purpose: fused ones round differently at the end of a
        vector register, that is, by the position of the row in the batch.

        Parameters
        ----------
        x : Tensor (b, n)
            One point for each problem evaluated.
        index : Tensor (b,) int64, optional
            Which problem each row belongs to; row i to problem i by default.

        Returns
        -------
        value : Tensor (b,)
            Objectives, accumulated in float64.
        grad : Tensor (b, n)
            Gradients.
        """
        rows = slice(None) if index is None else index
        step = x - self.solution[rows]
        product = self.hessian_product(step, index)
        multipliers = self.multipliers[rows]
        slope = row_sum(step.double() * multipliers.double())
        curvature = row_sum(step.double() * product.double())
        value = self.minimum[rows].double() + slope + curvature / 2
        return value.to(x.dtype), product + multipliers

    def start(self, *, seed: int = 0) -> Tensor:
        """Draw a starting point (B, n) in each box: uniform, or normal where a side is open."""
        points = []
        for b, (lower, upper) in enumerate(zip(self.lower, self.upper, strict=True)):
            rng = np.random.default_rng([seed, b, 1])
            bounded = torch.isfinite(lower) & torch.isfinite(upper)
            share = torch.from_numpy(rng.random(lower.numel())).to(lower)
            normal = torch.from_numpy(rng.standard_normal(lower.numel())).to(lower)
            uniform = torch.lerp(lower, upper, share)
            points.append(torch.where(bounded, uniform, normal).clamp(lower, upper))
        return torch.stack(points)


def more_toraldo(
    problems: int,
    n: int,
    *,
    condition: float = 1e3,
    active: float = 0.5,
    degeneracy: float = 0.0,
    weakly_active: float = 0.0,
    unit_box: bool = False,
    infinite: float = 0.0,
    fixed: float = 0.0,
    minimum: float = 0.0,
    reflections: int = 3,
    dtype: torch.dtype = torch.float64,
    seed: int = 0,
) -> BoxQP:
    """Make random box-constrained quadratic programs with known solutions.

    Problem b depends on `seed`, b and the other arguments only, not on how many are made with it.

    Parameters
    ----------
    problems : int
        B, how many.
    n : int
        Variables of each. Memory is ``(reflections + 5) n`` values a problem: no matrix is formed.
    condition : float
        Largest over smallest eigenvalue of the Hessian; eigenvalues are spaced evenly in logarithm.
    active : float
        Share of the variables, in [0, 1], that are on a bound at the solution.
    degeneracy : float
        Multipliers of active variables are ±10^(-degeneracy u), u uniform in (0, 1): 0 makes all
        of them ±1, large values make the active set hard to find.
    weakly_active : float
        Share of the active variables whose multiplier is exactly 0.
    unit_box : bool
        Take [0, 1] for all variables instead of a box inside [-1, 1] for each.
    infinite : float
        Share of the bounds that are not active to be opened to ±inf.
    fixed : float
        Share of the variables with lower == upper.
    minimum : float
        f*, rounded to `dtype`.
    reflections : int
        Householder reflections that make up the eigenvectors.
    dtype : torch.dtype
        float32 or float64.
    seed : int
        Seed of the generator.

    Returns
    -------
    BoxQP
        The problems and their solutions.
    """
    exponents = np.linspace(0.0, 1.0, n) if n > 1 else np.ones(n)
    fields: dict[str, list[np.ndarray]] = {}
    for b in range(problems):
        rng = np.random.default_rng([seed, b])
        reflectors = rng.standard_normal((reflections, n))
        reflectors /= np.linalg.norm(reflectors, axis=1, keepdims=True)
        low, high = (0.0, 1.0) if unit_box else (-1.0, 1.0)
        solution = rng.uniform(low, high, n)
        is_active = rng.random(n) < active
        at_lower = is_active & (rng.random(n) < 0.5)
        at_upper = is_active & ~at_lower
        if unit_box:
            solution[at_lower], solution[at_upper] = low, high
        lower = np.where(at_lower, solution, low)
        upper = np.where(at_upper, solution, high)
        size = 10.0 ** (-degeneracy * rng.random(n))
        size[rng.random(n) < weakly_active] = 0.0
        multipliers = np.where(at_lower, size, np.where(at_upper, -size, 0.0))
        lower[~at_lower & (rng.random(n) < infinite)] = -np.inf
        upper[~at_upper & (rng.random(n) < infinite)] = np.inf
        is_fixed = rng.random(n) < fixed
        lower[is_fixed] = upper[is_fixed] = solution[is_fixed]
        multipliers[is_fixed] = rng.standard_normal(n)[is_fixed]
        made = {
            "lower": lower,
            "upper": upper,
            "solution": solution,
            "multipliers": multipliers,
            "minimum": np.array(minimum),
            "active": is_active | is_fixed,
            "reflectors": reflectors,
        }
        for name, array in made.items():
            fields.setdefault(name, []).append(array)
    tensors = {name: torch.from_numpy(np.stack(arrays)) for name, arrays in fields.items()}
    tensors = {name: t if t.dtype == torch.bool else t.to(dtype) for name, t in tensors.items()}
    return BoxQP(eigenvalues=torch.from_numpy(condition**exponents).to(dtype), **tensors)


def _reflect(v: Tensor, normal: Tensor) -> Tensor:
    """Apply I - 2 normal normalᵀ to each row of `v`, both (b, n)."""
    along = row_sum(v.double() * normal.double()).to(v.dtype)
    return v - (2 * along)[:, None] * normal


@dataclass(frozen=True)
class LinearSoftmax:
    """A softmax classifier without hidden layers: logits ``x Wᵀ + b`` of the flattened image.

    Attributes
    ----------
    weight : Tensor (K, n)
        W.
    bias : Tensor (K,)
        b.
    """

    weight: Tensor
    bias: Tensor

    @classmethod
    def random(
        cls, classes: int, n: int, *, dtype: torch.dtype = torch.float32, seed: int = 0
    ) -> LinearSoftmax:
        """Draw W with entries of standard deviation ``3 / sqrt(n)`` and a small b."""
        rng = np.random.default_rng([seed, classes, n])
        weight = torch.from_numpy(rng.standard_normal((classes, n)) * 3 / np.sqrt(n))
        bias = torch.from_numpy(0.1 * rng.standard_normal(classes))
        return cls(weight.to(dtype), bias.to(dtype))

    def module(self) -> nn.Sequential:
        """Return the classifier as a network that takes (B, ...) and gives logits (B, K)."""
        classes, n = self.weight.shape
        linear = nn.Linear(n, classes, dtype=self.weight.dtype)
        with torch.no_grad():
            linear.weight.copy_(self.weight)
            linear.bias.copy_(self.bias)
        return nn.Sequential(nn.Flatten(), linear)

    def rowwise(self) -> Callable[[Tensor], Tensor]:
        """Return the classifier as a network whose answers have the same bits in any batch."""

        def network(x: Tensor) -> Tensor:
            flat = x.flatten(1)
            return torch.stack([row_sum(flat * w) for w in self.weight], 1) + self.bias

        return network

    def untargeted_distance(
        self,
        x: Tensor,
        labels: Tensor,
        *,
        norm: str = "l2",
        kappa: float = 0.0,
        lower: float | Tensor = -np.inf,
        upper: float | Tensor = np.inf,
    ) -> Tensor:
        """Return the exact distance from `x` to where `labels` no longer has the largest logit.

        To leave a class is to cross the boundary to one other class, so the distance is the
        smallest over the K - 1 halfspaces, each met with the box. For K = 2 it is the distance
        to the other class as a target, too.

        Parameters
        ----------
        x : Tensor (B, ...)
            Images inside the box.
        labels : Tensor (B,) int64
            The classes to leave.
        norm : {"l2", "l1", "linf"}
            In which the distance is.
        kappa : float
            By how much another logit shall be larger.
        lower, upper : float or Tensor (B, n)
            The box.

        Returns
        -------
        Tensor (B,), float64
            Distances; 0 where `x` has left the class already, inf where the box does not let it.
        """
        flat, weight, bias = x.flatten(1).double(), self.weight.double(), self.bias.double()
        others = torch.full((len(flat), len(bias)), torch.inf, dtype=torch.float64)
        for k in range(len(bias)):
            rows = (labels != k).nonzero().squeeze(1)
            normal = weight[labels[rows]] - weight[k]
            offset = bias[labels[rows]] - bias[k] + kappa
            low, high = (b[rows] if isinstance(b, Tensor) else b for b in (lower, upper))
            others[rows, k] = halfspace_distance(
                flat[rows], normal, offset, norm=norm, lower=low, upper=high
            )
        return others.min(1).values


def halfspace_distance(
    x: Tensor,
    normal: Tensor,
    offset: Tensor,
    *,
    norm: str = "l2",
    lower: float | Tensor = -np.inf,
    upper: float | Tensor = np.inf,
) -> Tensor:
    """Return the exact distance of rows of `x` to ``{z : normalᵀz + offset <= 0}`` in a box.

    L2: that of the projection. L1: the values with the largest ``|normal_i|`` move first, each as
    far as its room goes. L-infinity: the least eps with
    ``sum_i |normal_i| min(eps, room_i) >= gap``, by bisection.

    Parameters
    ----------
    x, normal : Tensor (B, n), float64
        Points inside the box, and normals.
    offset : Tensor (B,), float64
        Offsets of the halfspaces.
    norm : {"l2", "l1", "linf"}
        In which the distance is.
    lower, upper : float or Tensor (B, n)
        The box.

    Returns
    -------
    Tensor (B,), float64
        Distances; inf where box and halfspace do not meet.
    """
    if norm == "l2":
        nearest = project_halfspace(x, normal, offset, lower=lower, upper=upper)
        return (nearest - x).norm(dim=1).nan_to_num(nan=torch.inf)
    gap = ((normal * x).sum(1) + offset).clamp(min=0)
    weight = normal.abs()
    room = torch.where(normal > 0, x - lower, upper - x)
    if norm == "l1":
        weight, order = weight.sort(1, descending=True)
        room = room.gather(1, order)
        gain = (weight * room).nan_to_num(nan=0.0)
        before = (gain.cumsum(1) - gain).nan_to_num(nan=torch.inf)
        moved = torch.minimum(room, (gap[:, None] - before).clamp(min=0) / weight)
        return torch.where(gap <= gain.sum(1), moved.nan_to_num(nan=0.0).sum(1), torch.inf)
    high = torch.where(room.isfinite(), room, gap[:, None] / weight.sum(1, keepdim=True))
    high = high.amax(1).maximum(gap / weight.sum(1))
    reachable = (weight * torch.minimum(room, high[:, None])).sum(1) >= gap
    low = torch.zeros_like(high)
    for _ in range(100):
        middle = (low + high) / 2
        enough = (weight * torch.minimum(room, middle[:, None])).sum(1) >= gap
        low, high = torch.where(enough, low, middle), torch.where(enough, middle, high)
    return torch.where(reachable, high, torch.inf)


def project_halfspace(
    x: Tensor,
    normal: Tensor,
    offset: Tensor,
    *,
    lower: float | Tensor = -np.inf,
    upper: float | Tensor = np.inf,
) -> Tensor:
    """Project each row of `x` on ``{z : normalᵀz + offset <= 0, lower <= z <= upper}``.

    The projection is ``clip(x - mu normal)`` with the smallest mu >= 0 that satisfies the
    inequality. Variable i moves until mu reaches ``t_i`` (where it meets its bound) and then stays,
    so ``sum_i normal_i² min(mu, t_i)`` must equal the gap ``normalᵀx + offset``: piecewise linear
    and increasing in mu, solved exactly after sorting the ``t_i``.

    Parameters
    ----------
    x : Tensor (B, n), float64
        Points inside the box.
    normal : Tensor (B, n), float64
        Normals of the halfspaces.
    offset : Tensor (B,), float64
        Offsets of the halfspaces.
    lower, upper : float or Tensor (B, n)
        The box.

    Returns
    -------
    Tensor (B, n), float64
        The projections; nan in rows whose box and halfspace do not meet.
    """
    gap = (normal * x).sum(1) + offset
    room = torch.where(normal > 0, x - lower, x - upper)
    sorted_t, order = torch.where(normal == 0, torch.inf, room / normal).sort(1)
    square = (normal**2).gather(1, order)
    # While mu is between two of them: what has met its bound, and the squares still moving.
    met = square * sorted_t.nan_to_num(posinf=0.0)
    stopped = met.cumsum(1) - met
    moving = square.flip(1).cumsum(1).flip(1)
    roots = (gap[:, None] - stopped) / moving
    holds = roots <= sorted_t
    mu = roots.gather(1, holds.float().argmax(1, keepdim=True)).squeeze(1)
    mu = torch.where(gap <= 0, 0.0, mu)
    reachable = (gap <= 0) | (holds.any(1) & mu.isfinite())
    projected = (x - mu[:, None] * normal).clamp(min=lower).clamp(max=upper)
    return torch.where(reachable[:, None], projected, torch.nan)


def sigmoid_network(
    n: int, hidden: int, classes: int, *, seed: int = 0
) -> Callable[[Tensor], Tensor]:
    """Return a network of one sigmoid layer in float64, with the same bits for a row in any batch.

    Parameters
    ----------
    n, hidden, classes : int
        Values of an image, units, logits.
    seed : int
        Seed of the weights.

    Returns
    -------
    callable
        Images (B, ...) -> logits (B, K).
    """
    rng = np.random.default_rng([seed, n, hidden, classes])
    first = torch.from_numpy(rng.standard_normal((hidden, n)) * 8 / np.sqrt(n))
    second = torch.from_numpy(rng.standard_normal((classes, hidden)) * 3)
    bias = torch.from_numpy(rng.standard_normal(hidden)) - first.sum(1) / 2

    def network(x: Tensor) -> Tensor:
        units = torch.stack([row_sum(x.flatten(1) * w) for w in first], 1) + bias
        # Whole registers: torch takes the sigmoid of the last few values by other means.
        units = torch.sigmoid(nn.functional.pad(units, (0, -hidden % 64)))[:, :hidden]
        return torch.stack([row_sum(units * w) for w in second], 1)

    return network


def rosenbrock(x: Tensor) -> tuple[Tensor, Tensor]:
    """Return value (B,) and gradient (B, n) of the extended Rosenbrock function at x (B, n)."""
    a, b = x[:, :-1], x[:, 1:]
    t = b - a**2
    grad = torch.zeros_like(x)
    grad[:, :-1] = -400 * a * t - 2 * (1 - a)
    grad[:, 1:] += 200 * t
    return (100 * t**2 + (1 - a) ** 2).sum(1), grad
