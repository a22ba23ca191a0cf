"""Why `minimize` stops: each status where it belongs, the exact budget, nan and inf."""

from __future__ import annotations

import math

import pytest
import torch
from problems import rosenbrock

from advkit.optim import Status, minimize

pytestmark = pytest.mark.usefixtures("fast_implementation")


def bowl(x):
    return (x - 0.25).square().sum(1), 2 * (x - 0.25)


def kink(x):
    """Return the largest of two bowls: least, and without a derivative, at 0."""
    toward = (x - 1).square().sum(1), (x + 1).square().sum(1)
    sign = torch.where(toward[0] > toward[1], 1.0, -1.0).to(x.dtype)
    return torch.maximum(*toward), 2 * (x - sign[:, None])


class Counted:
    """A function that counts how often each problem is asked about."""

    def __init__(self, f, problems):
        self.f = f
        self.evaluations = torch.zeros(problems, dtype=torch.int64)

    def __call__(self, x, index):
        self.evaluations[index] += 1
        return self.f(x)


def starts(problems, n, dtype=torch.float64, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(problems, n, dtype=dtype, generator=generator)


def statuses(result):
    return [Status(s) for s in result.status.tolist()]


NEVER = {"gradient_tolerance": -1.0, "relative_tolerance": -1.0, "stagnation_tolerance": -1.0}


def test_gradient(dtype):
    result = minimize(bowl, starts(3, 5, dtype), gradient_tolerance=1e-3)
    assert statuses(result) == [Status.GRADIENT] * 3
    assert (result.gradient_norm <= 1e-3).all()
    assert torch.allclose(result.x, torch.tensor(0.25, dtype=dtype), atol=1e-3)


def test_gradient_at_the_start_takes_one_evaluation():
    result = minimize(bowl, torch.full((2, 5), 0.25))
    assert statuses(result) == [Status.GRADIENT] * 2
    assert result.evaluations.tolist() == [1, 1]
    assert result.iterations.tolist() == [0, 0]


def test_gradient_is_that_of_the_box_problem():
    result = minimize(bowl, torch.ones(1, 3), 0.5, 2.0)
    assert statuses(result) == [Status.GRADIENT]
    assert result.x.tolist() == [[0.5, 0.5, 0.5]]
    assert result.gradient_norm.tolist() == [0.0]


def test_a_smaller_gradient_tolerance_takes_more_evaluations():
    few = minimize(rosenbrock, starts(4, 6), gradient_tolerance=1e-1, relative_tolerance=-1.0)
    many = minimize(rosenbrock, starts(4, 6), gradient_tolerance=1e-6, relative_tolerance=-1.0)
    assert (few.evaluations < many.evaluations).all()
    assert (few.gradient_norm <= 1e-1).all()
    assert (many.gradient_norm <= 1e-6).all()


def test_relative_f():
    never = NEVER | {"relative_tolerance": 1e-3}
    result = minimize(rosenbrock, starts(4, 6), **never)
    assert statuses(result) == [Status.RELATIVE_F] * 4
    exact = minimize(rosenbrock, starts(4, 6), **never | {"relative_tolerance": 1e-12})
    assert (result.evaluations < exact.evaluations).all()
    assert (exact.value <= result.value).all()


def test_stagnation_of_a_function_with_a_kink(dtype):
    result = minimize(
        kink,
        starts(5, 4, dtype),
        relative_tolerance=-1.0,
        stagnation_tolerance=1e-6,
        max_evaluations=2000,
    )
    assert statuses(result) == [Status.STAGNATION] * 5
    assert (result.evaluations < 500).all()
    assert (result.value - 4 <= 1e-2).all()
    assert (result.gradient_norm > 1).all()


@pytest.mark.parametrize("window", [7, 20])
def test_the_stagnation_window_is_counted_in_evaluations(window):
    # No fall is enough, so the first test ends the run; in an expansion it waits a window more.
    never = NEVER | {"stagnation_tolerance": 1e10}
    result = minimize(rosenbrock, starts(6, 10), stagnation_window=window, **never)
    assert statuses(result) == [Status.STAGNATION] * 6
    assert (result.evaluations % window == 0).all()
    assert (result.evaluations <= 3 * window).all()


def test_stagnation_follows_the_relative_tolerance_unless_given():
    options = {"relative_tolerance": -1.0, "max_evaluations": 150}
    never = minimize(kink, starts(3, 4), **options)
    given = minimize(kink, starts(3, 4), stagnation_tolerance=1e-4, **options)
    assert (never.evaluations >= given.evaluations).all()
    assert never.evaluations.sum() > 1.5 * given.evaluations.sum()


@pytest.mark.parametrize("budget", [1, 2, 3, 4, 5, 6, 17])
def test_the_budget_is_spent_exactly(budget, dtype):
    counted = Counted(rosenbrock, 6)
    start = starts(6, 10, dtype)
    result = minimize(counted, start, pass_index=True, max_evaluations=budget, **NEVER)
    assert statuses(result) == [Status.EVALUATIONS] * 6
    assert result.evaluations.tolist() == [budget] * 6
    assert counted.evaluations.tolist() == [budget] * 6
    # What comes back is a point that was evaluated, and none worse than the start.
    assert torch.equal(result.value, rosenbrock(result.x)[0].double())
    assert (result.value <= rosenbrock(start)[0]).all()
    if budget == 1:
        assert torch.equal(result.x, start)
        assert result.iterations.tolist() == [0] * 6


def test_a_looser_stop_comes_before_the_budget():
    result = minimize(bowl, starts(3, 5), max_evaluations=100)
    assert (result.evaluations < 100).all()
    assert statuses(result) == [Status.GRADIENT] * 3


def test_the_last_evaluation_may_be_the_one_that_converges():
    needed = int(minimize(bowl, starts(1, 5)).evaluations)
    assert statuses(minimize(bowl, starts(1, 5), max_evaluations=needed)) == [Status.GRADIENT]


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("where", ["value", "gradient"])
def test_nan_or_inf_at_the_start_stops_that_problem_alone(where, bad):
    def f(x, index):
        value, grad = rosenbrock(x)
        if where == "value":
            value[index == 1] = bad
        else:
            grad[index == 1, 2] = bad
        return value, grad

    start = starts(3, 5)
    result = minimize(f, start, pass_index=True, max_evaluations=10)
    alone = minimize(rosenbrock, start[[0, 2]], max_evaluations=10)
    assert statuses(result)[1] == Status.NON_FINITE
    assert result.evaluations[1] == 1
    assert torch.equal(result.x[1], start[1])
    assert not result.gradient_norm[1] <= 1e-5  # not a stationary point
    assert torch.equal(result.x[[0, 2]], alone.x)


def log_barrier(x):
    """Return a function that is nan where a value is not positive; least at 1."""
    return (x - x.log()).sum(1), 1 - 1 / x


def inverse_barrier(x):
    """Return a function that is inf where a value is not positive; least at 1."""
    inside = (x > 0).all(1)
    value = torch.where(inside, (x + 1 / x).sum(1), math.inf)
    return value, torch.where(inside[:, None], 1 - x**-2, math.nan)


@pytest.mark.parametrize("f", [log_barrier, inverse_barrier])
@pytest.mark.parametrize("upper", [math.inf, 1e4])
def test_nan_or_inf_met_on_the_way_is_only_a_rejected_step(f, upper):
    met = []

    def watched(x):
        value, grad = f(x)
        met.append(~value.isfinite())
        return value, grad

    start = torch.tensor([[1.5, 2.0, 1.2], [2.0, 1.1, 3.0]]).double()
    result = minimize(watched, start, -upper, upper)
    reach_out = minimize(watched, start * 30, -upper, upper)
    assert sum(int(m.sum()) for m in met) > 0
    for found in (result, reach_out):
        assert set(statuses(found)) <= {Status.GRADIENT, Status.RELATIVE_F}
        assert torch.allclose(found.x, torch.ones(2, 3).double(), atol=1e-3)
        assert found.value.isfinite().all()


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_function_that_is_finite_only_at_the_start_has_no_way_out(bad):
    def f(x):
        value, grad = bowl(x)
        return torch.where((x == 0).all(1), value, bad), grad

    result = minimize(f, torch.zeros(2, 3), stagnation_tolerance=-1.0)
    assert statuses(result) == [Status.NON_FINITE] * 2
    assert result.x.tolist() == torch.zeros(2, 3).tolist()
    assert torch.equal(result.value, bowl(torch.zeros(2, 3))[0].double())
    assert (result.evaluations < 50).all()


def test_a_step_that_rounds_to_nothing_is_no_step():
    def f(x):
        value, grad = bowl(x)
        return torch.where((x == 1).all(1), value, math.nan), grad

    result = minimize(f, torch.ones(1, 3))
    # As in the test before, but around 1 steps are lost to rounding before they are given up.
    assert statuses(result)[0] in (Status.NON_FINITE, Status.STAGNATION)
    assert result.iterations.tolist() == [0]


def test_a_gradient_of_the_wrong_sign_ends_in_stagnation():
    result = minimize(lambda x: (x.square().sum(1), -2 * x), torch.full((2, 3), 0.5))
    assert Status.GRADIENT not in statuses(result)
    assert torch.equal(result.x, torch.full((2, 3), 0.5))
    assert (result.evaluations < 100).all()


def test_a_constant_is_minimal_everywhere():
    result = minimize(lambda x: (torch.ones(len(x)), torch.zeros_like(x)), starts(2, 3).float())
    assert statuses(result) == [Status.GRADIENT] * 2
    assert result.evaluations.tolist() == [1, 1]


@pytest.mark.parametrize("upper", [math.inf, 10.0])
def test_a_function_without_a_bottom_runs_to_its_bound(upper):
    result = minimize(lambda x: (-x.sum(1), -torch.ones_like(x)), torch.zeros(2, 3), upper=upper)
    if upper == math.inf:
        assert (result.value < -1e6).all()
        assert result.x.isfinite().all()
    else:
        assert torch.equal(result.x, torch.full((2, 3), upper))
        assert statuses(result) == [Status.GRADIENT] * 2
