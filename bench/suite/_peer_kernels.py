"""What peers do in place of `lbfgs_step`: optax's preconditioner, SciPy's setulb."""

from __future__ import annotations

import time
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from scipy.optimize import minimize

from advkit.ops.two_loop.reference import two_loop

CHECKED = 4


class OptaxStep:
    """``optax.scale_by_lbfgs``: store a pair, then the recursion; no box, line search or stop.

    Parameters
    ----------
    images, n, m, calls : int
        B, n, m, and how many calls have memory of their own.
    """

    def __init__(self, images: int, n: int, m: int, calls: int) -> None:
        jax, optax = import_module("jax"), import_module("optax")
        self.calls, self._m, self._jax = calls, m, jax
        random = np.random.default_rng(0)
        weights = random.uniform(0.5, 2, (images, n)).astype(np.float32)
        self._points = [random.normal(size=(images, n)).astype(np.float32) for _ in range(m + 2)]
        self._gradients = [weights * point for point in self._points]
        transform = optax.scale_by_lbfgs(memory_size=m)
        # Compiled, and allowed to write over the old memory.
        self._update = jax.jit(jax.vmap(transform.update), donate_argnums=1)
        self._init = jax.jit(jax.vmap(transform.init))
        self._last = jax.numpy.asarray(self._gradients[-1]), jax.numpy.asarray(self._points[-1])
        self._states = [self._filled() for _ in range(calls)]

    def _filled(self) -> Any:
        """Return a memory that holds m pairs."""
        state = self._init(self._points[0])
        for point, gradient in zip(self._points[:-1], self._gradients[:-1], strict=True):
            _, state = self._update(gradient, state, point)
        return state

    def run(self) -> None:
        """Update every memory once."""
        for k in range(self.calls):
            out, self._states[k] = self._update(self._last[0], self._states[k], self._last[1])
        self._jax.block_until_ready((out, self._states))

    def check(self) -> float:
        """Compare a direction with the recursion in float64; return the error."""
        out, _ = self._update(self._last[0], self._filled(), self._last[1])
        rows = slice(CHECKED)
        points = torch.tensor(np.stack([point[rows] for point in self._points], 1)).double()
        gradients = torch.tensor(np.stack([g[rows] for g in self._gradients], 1)).double()
        S, Y = points.diff(dim=1)[:, -self._m :], gradients.diff(dim=1)[:, -self._m :]
        free = torch.ones(points[:, 0].shape, dtype=torch.bool)
        head = torch.zeros(len(points), dtype=torch.int64)
        wanted = -two_loop(gradients[:, -1], S, Y, head, torch.full_like(head, self._m), free)
        got = torch.tensor(np.asarray(out)[rows]).double()
        error = float(((got - wanted).norm(dim=1) / wanted.norm(dim=1)).max())
        assert error <= 1e-3, f"optax is wrong: relative error {error:.2g}"
        return error


class SetulbClock:
    """A clock that runs only within SciPy's ``setulb``, while it is entered as a context."""

    def __init__(self) -> None:
        self._seconds = 0.0
        self._module = import_module("scipy.optimize._lbfgsb_py")._lbfgsb
        self._setulb = self._module.setulb

    def __call__(self) -> float:
        """Return the seconds so far."""
        return self._seconds

    def __enter__(self) -> None:
        """Put a stopwatch around setulb."""

        def timed(*arguments: Any) -> Any:
            start = time.perf_counter()
            try:
                return self._setulb(*arguments)
            finally:
                self._seconds += time.perf_counter() - start

        self._module.setulb = timed

    def __exit__(self, *_: object) -> None:
        """Take it away."""
        self._module.setulb = self._setulb


@dataclass
class Solved:
    """How many iterations a solve took, and the largest component of its projected gradient."""

    iterations: int
    error: float


def solve_by_setulb(n: int, m: int) -> Solved:
    """Minimise a quadratic with coupled neighbours in [0, 1]^n, a fifth of its values at bounds."""
    random = np.random.default_rng(0)
    weights = np.logspace(-2, 1, n)
    goal = random.uniform(-0.1, 1.1, n) * 1.1 - 0.05

    def value_and_grad(
        x: npt.NDArray[np.float64],
    ) -> tuple[float, npt.NDArray[np.float64]]:
        r = x - goal
        slope = np.diff(r)
        gradient = weights * r
        gradient[1:] += slope
        gradient[:-1] -= slope
        return 0.5 * float(weights @ r**2 + slope @ slope), gradient

    found = minimize(
        value_and_grad,
        np.full(n, 0.5),
        jac=True,
        bounds=[(0.0, 1.0)] * n,
        method="L-BFGS-B",
        options={"maxcor": m, "ftol": 0.0, "gtol": 1e-4, "maxiter": 1000},
    )
    error = np.abs(np.clip(found.x - found.jac, 0, 1) - found.x).max()
    return Solved(int(found.nit), float(error))
