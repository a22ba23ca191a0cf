"""`advkit.optim.minimize` against SciPy, BoTorch's lock step and jaxopt's LBFGSB: no network.

Many problems of 784 values in a box, all in float64, from the same starts, 10 pairs. Every solver
is asked for a projected gradient of at most `TOLERANCE`, and what it returns is checked. Its own
time is what the call takes without the function: the clock stands still there; where the function
is compiled into the solver (jaxopt), what as many evaluations take alone is subtracted.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor

from advkit.optim import minimize

N, PAIRS, MOST = 784, 10, 500
TOLERANCE = 1e-4
ALLOWED = 2.0  # of the tolerance: solvers measure the gradient in their own ways
ROUNDING = 1e-12  # jaxopt's points are outside of the box by that
Points = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Problems:
    """B functions ``f(x) = sum w_b (x - goal_b)^2 / 2 + coupling of neighbours`` in [0, 1]^n.

    Parameters
    ----------
    name : str
        "quadratic": neighbours are coupled by their squared difference. "quartic": the first term
        is its own square, too, whose curvature changes along the way.
    images : int
        B.
    """

    name: str
    images: int

    def __str__(self) -> str:
        """Return the name of the case."""
        return f"{self.name}-{N}x{PAIRS}-{self.images}"

    def goals(self) -> Points:
        """Return the goals (B, n), of which a fifth lies outside of the box."""
        return np.random.default_rng(0).uniform(-0.125, 1.125, (self.images, N))

    def evaluate(self, x: Any, goal: Any, weights: Any, cat: Callable[[list[Any]], Any]) -> Any:
        """Return values (b,) and gradients (b, n); works on arrays of NumPy, PyTorch and JAX."""
        r = x - goal
        slope = r[:, 1:] - r[:, :-1]
        square = weights * r * r
        value, gradient = 0.5 * square.sum(1) + 0.5 * (slope * slope).sum(1), weights * r
        if self.name == "quartic":
            value, gradient = value + (square * square).sum(1), gradient * (1 + 4 * square)
        return value, gradient + cat([-slope[:, :1], slope[:, :-1] - slope[:, 1:], slope[:, -1:]])

    @property
    def weights(self) -> Points:
        """The curvatures (n,) without coupling: a condition of 1,000."""
        return np.logspace(-2, 1, N)


@dataclass
class Solved:
    """Solutions (B, n), mean evaluations of a problem, and the function's own seconds."""

    x: Points
    evaluations: float
    function: float = 0.0


class Stopwatch:
    """A clock that can be held."""

    def __init__(self) -> None:
        self.held = 0.0

    def __call__(self) -> float:
        """Return the seconds without those it was held."""
        return time.perf_counter() - self.held

    def around(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return a function during which it is held."""

        def wrapped(*arguments: Any, **named: Any) -> Any:
            start = time.perf_counter()
            try:
                return function(*arguments, **named)
            finally:
                self.held += time.perf_counter() - start

        return wrapped


def cases(config: pytest.Config) -> list[tuple[Problems, list[str]]]:
    """Return all cases with their candidates."""
    batches = (8,) if config.getoption("quick") else (1, 32, 256)
    return [
        (Problems(name, images), list(SOLVERS))
        for name in ("quadratic", "quartic")
        for images in batches
    ]


def bench_optimiser(benchmark: Any, case: Problems, turn: int, candidate: str) -> None:
    """Time one solver on all problems of a case."""
    clock = Stopwatch()
    solver = SOLVERS[candidate](case, clock)
    benchmark._timer = clock
    solved = benchmark.pedantic(solver, rounds=1, warmup_rounds=1 if turn == 0 else 0)
    goal, weights = case.goals(), case.weights
    _, gradient = case.evaluate(solved.x, goal, weights, lambda parts: np.concatenate(parts, 1))
    error = np.abs(np.clip(solved.x - gradient, 0, 1) - solved.x).max(1)
    outside = np.abs(solved.x - np.clip(solved.x, 0, 1)).max()
    assert outside <= ROUNDING, f"{candidate} left the box by {outside:.2g}"
    benchmark.extra_info |= {
        "case": str(case),
        "candidate": candidate,
        "problems": case.images,
        "solved": float((error <= ALLOWED * TOLERANCE).mean()),
        "evaluations": solved.evaluations,
        "subtracted": solved.function,
    }


def _advkit(case: Problems, clock: Stopwatch) -> Callable[[], Solved]:
    goal, weights = torch.from_numpy(case.goals()), torch.from_numpy(case.weights)

    @clock.around
    def function(x: Tensor, index: Tensor) -> Any:
        return case.evaluate(x, goal[index], weights, lambda parts: torch.cat(parts, 1))

    def solve() -> Solved:
        start = torch.full((case.images, N), 0.5, dtype=torch.float64)
        found = minimize(
            function,
            start,
            0.0,
            1.0,
            history=PAIRS,
            max_evaluations=MOST,
            gradient_tolerance=TOLERANCE,
            relative_tolerance=-1.0,
            stagnation_tolerance=-1.0,
            pass_index=True,
        )
        return Solved(found.x.numpy(), float(found.evaluations.double().mean()))

    return solve


def _scipy(case: Problems, clock: Stopwatch) -> Callable[[], Solved]:
    scipy = import_module("scipy.optimize").minimize
    goal, weights = case.goals(), case.weights
    options = {"maxcor": PAIRS, "ftol": 0.0, "gtol": TOLERANCE, "maxfun": MOST}

    def one(b: int) -> Any:
        @clock.around
        def function(x: Points) -> tuple[float, Points]:
            value, gradient = case.evaluate(
                x[None], goal[b : b + 1], weights, lambda parts: np.concatenate(parts, 1)
            )
            return float(value[0]), gradient[0]

        return scipy(
            function,
            np.full(N, 0.5),
            jac=True,
            bounds=[(0.0, 1.0)] * N,
            method="L-BFGS-B",
            options=options,
        )

    def solve() -> Solved:
        found = [one(b) for b in range(case.images)]
        return Solved(np.stack([f.x for f in found]), float(np.mean([f.nfev for f in found])))

    return solve


def _botorch(case: Problems, clock: Stopwatch) -> Callable[[], Solved]:
    module = pytest.importorskip("botorch.optim.batched_lbfgs_b", reason="botorch is not installed")
    goal, weights = case.goals(), case.weights

    def solve() -> Solved:
        evaluations = 0

        @clock.around
        def function(x: Points, batch_indices: list[int]) -> tuple[Points, Points]:
            nonlocal evaluations
            evaluations += len(x)
            return case.evaluate(
                x, goal[batch_indices], weights, lambda parts: np.concatenate(parts, 1)
            )

        x, _, _ = module.fmin_l_bfgs_b_batched(
            function,
            np.full((case.images, N), 0.5),
            bounds=[(0.0, 1.0)] * N,
            maxcor=PAIRS,
            factr=0.0,
            pgtol=TOLERANCE,
            maxiter=MOST,
            pass_batch_indices=True,
        )
        return Solved(x, evaluations / case.images)

    return solve


@cache
def _jaxopt_compiled(case: Problems) -> tuple[Callable[[], Any], float]:
    """Return the compiled solver, and the seconds of one evaluation of all problems."""
    jax = pytest.importorskip("jax", reason="jax is not installed")
    jaxopt = pytest.importorskip("jaxopt", reason="jaxopt is not installed")
    jnp = jax.numpy
    with jax.enable_x64(True):
        goal, weights = jnp.asarray(case.goals()), jnp.asarray(case.weights)

        def function(x: Any, goal: Any) -> Any:
            value, gradient = case.evaluate(
                x[None], goal[None], weights, lambda parts: jnp.concatenate(parts, 1)
            )
            return value[0], gradient[0]

        solver = jaxopt.LBFGSB(
            function, value_and_grad=True, maxiter=MOST, tol=TOLERANCE, history_size=PAIRS
        )
        bounds = jnp.zeros(N), jnp.ones(N)
        every = jax.jit(jax.vmap(lambda x, goal: solver.run(x, bounds=bounds, goal=goal)))
        evaluate = jax.jit(jax.vmap(function))
        start = jnp.full((case.images, N), 0.5)
        jax.block_until_ready(evaluate(start, goal))
        begin = time.perf_counter()
        for _ in range(100):
            jax.block_until_ready(evaluate(start, goal))
        seconds = (time.perf_counter() - begin) / 100

    def run() -> Any:
        with jax.enable_x64(True):
            return jax.block_until_ready(every(start, goal))

    return run, seconds


def _jaxopt(case: Problems, clock: Stopwatch) -> Callable[[], Solved]:
    run, seconds = _jaxopt_compiled(case)

    def solve() -> Solved:
        found = run()
        evaluations = np.asarray(found.state.num_fun_eval)
        # All problems are evaluated as long as the slowest of them runs.
        function = seconds * float(evaluations.max())
        return Solved(np.array(found.params), float(evaluations.mean()), function)

    return solve


SOLVERS: dict[str, Callable[[Problems, Stopwatch], Callable[[], Solved]]] = {
    "advkit": _advkit,
    "scipy L-BFGS-B": _scipy,
    "BoTorch L-BFGS-B, lock step": _botorch,
    "jaxopt LBFGSB, vmap": _jaxopt,
}
