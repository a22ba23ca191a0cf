"""`minimize` finds known minimisers, in any box, from any shape, on every backend."""

from __future__ import annotations

import math

import pytest
import torch
from problems import more_toraldo, rosenbrock

from advkit.ops._dispatch import available_backends
from advkit.optim import Status, minimize

KINDS = {
    "plain": {},
    "unit-box": {"unit_box": True},
    "open-sides-and-fixed": {"infinite": 0.6, "fixed": 0.2},
    "no-box": {"active": 0.0, "infinite": 1.0},
    "nothing-active": {"active": 0.0},
    "all-active": {"active": 1.0},
}
TIGHT = {
    torch.float32: {"gradient_tolerance": 1e-4, "relative_tolerance": 0.0},
    torch.float64: {"gradient_tolerance": 1e-9, "relative_tolerance": -1.0},
}
ERROR = {torch.float32: 3e-4, torch.float64: 1e-8}


def inside(x, lower, upper):
    return bool(((x >= lower) & (x <= upper)).all())


class Watched:
    """A batch of problems that checks the bounds of every point it is asked about."""

    def __init__(self, problem):
        self.problem = problem
        self.evaluations = torch.zeros(len(problem.solution), dtype=torch.int64)
        self.outside = 0

    def __call__(self, x, index):
        self.evaluations[index] += 1
        self.outside += not inside(x, self.problem.lower[index], self.problem.upper[index])
        return self.problem.value_and_grad(x, index)


def assert_solves(problem, **options):
    dtype = problem.solution.dtype
    watched = Watched(problem)
    start = 2 * problem.start(seed=1)  # some of it outside the box
    result = minimize(
        watched,
        start,
        problem.lower,
        problem.upper,
        pass_index=True,
        max_evaluations=2000,
        **TIGHT[dtype] | options,
    )
    assert watched.outside == 0
    assert inside(result.x, problem.lower, problem.upper)
    assert torch.equal(result.evaluations, watched.evaluations)
    assert not (result.status == Status.EVALUATIONS).any()
    error = (result.x - problem.solution).abs().max()
    assert error <= ERROR[dtype]
    tolerance = 1e-6 if dtype == torch.float32 else 1e-14
    assert ((result.value - problem.minimum).abs() <= tolerance).all()
    on_bound = (result.x == problem.lower) | (result.x == problem.upper)
    assert torch.equal(on_bound, problem.active)
    value, grad = problem.value_and_grad(result.x)
    assert torch.equal(result.value, value.double())
    moved = (result.x - grad).clamp(problem.lower, problem.upper) - result.x
    norm = moved.abs().amax(1).double()
    assert torch.allclose(result.gradient_norm, norm, rtol=1e-3, atol=1e-12)


@pytest.mark.parametrize("n", [1, 7, 100])
@pytest.mark.parametrize("kind", KINDS)
def test_finds_the_minimiser_and_its_active_set(kind, n, dtype, fast_implementation):
    problem = more_toraldo(6, n, dtype=dtype, condition=30.0, minimum=-0.5, seed=n, **KINDS[kind])
    assert_solves(problem)


@pytest.mark.parametrize("stored", [torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("kind", KINDS)
def test_finds_the_minimiser_with_pairs_of_16_bits(kind, stored, fast_implementation):
    problem = more_toraldo(
        6, 100, dtype=torch.float32, condition=30.0, minimum=-0.5, seed=3, **KINDS[kind]
    )
    assert_solves(problem, history_dtype=stored)


@pytest.mark.parametrize("n", [2, 5, 20])
def test_no_step_into_a_corner_ends_a_solve_early(n, dtype, fast_implementation):
    problem = more_toraldo(300, n, dtype=dtype, condition=30.0, unit_box=True, seed=2)
    result = minimize(
        problem.value_and_grad, problem.start(seed=1), 0.0, 1.0, pass_index=True, tile=300
    )
    assert (result.value - problem.minimum).max() <= 1e-4
    assert not (result.status == Status.EVALUATIONS).any()


@pytest.mark.parametrize("n", [1500, 150_528])
def test_finds_the_minimiser_of_large_problems(n, dtype):
    problem = more_toraldo(2, n, dtype=dtype, condition=5.0, unit_box=True, seed=n)
    assert_solves(problem)


@pytest.mark.parametrize("history", [1, 3, 40])
def test_any_history_serves(history):
    problem = more_toraldo(4, 30, condition=10.0, seed=2)
    assert_solves(problem, history=history)


def test_nearly_degenerate_multipliers_cost_accuracy_of_x_but_not_of_f():
    problem = more_toraldo(6, 200, degeneracy=6.0, weakly_active=0.3, seed=3)
    result = minimize(
        problem.value_and_grad,
        problem.start(),
        problem.lower,
        problem.upper,
        pass_index=True,
        max_evaluations=3000,
        gradient_tolerance=1e-7,
        relative_tolerance=-1.0,
    )
    assert (result.status == Status.GRADIENT).all()
    assert (result.value - problem.minimum).abs().max() < 1e-9


def himmelblau(x):
    a, b = x[:, 0], x[:, 1]
    p, q = a**2 + b - 11, a + b**2 - 7
    return p**2 + q**2, torch.stack([4 * a * p + 2 * q, 2 * p + 4 * b * q], 1)


def test_each_start_finds_the_minimum_of_its_own_basin(fast_implementation):
    minima = torch.tensor(
        [[3.0, 2.0], [-2.805118, 3.131312], [-3.779310, -3.283186], [3.584428, -1.848126]]
    ).double()
    start = minima + torch.tensor([0.4, -0.5]).double()
    result = minimize(himmelblau, start)
    assert torch.allclose(result.x, minima, atol=1e-5)
    assert (result.value < 1e-10).all()
    assert (result.status == Status.GRADIENT).all()


@pytest.mark.parametrize("n", [2, 20])
def test_rosenbrock_takes_about_as_many_evaluations_as_scipy(n):
    optimize = pytest.importorskip("scipy.optimize", reason="the other solver: advkit[bench]")

    start = torch.randn(5, n, dtype=torch.float64, generator=torch.Generator().manual_seed(n))
    result = minimize(rosenbrock, start, -1.5, 2.0, max_evaluations=2000, relative_tolerance=1e-12)
    bounds = [(-1.5, 2.0)] * n
    scipy_evaluations = 0
    assert (result.gradient_norm < 1e-3).all()
    for row, found in zip(start.clamp(-1.5, 2.0), result.value.tolist(), strict=True):
        theirs = optimize.minimize(
            optimize.rosen,
            row.numpy(),
            jac=optimize.rosen_der,
            method="L-BFGS-B",
            bounds=bounds,
            options={"maxfun": 2000, "maxiter": 2000},
        )
        scipy_evaluations += theirs.nfev
        # The local minimum that has one of the first two coordinates near -1 is an answer, too.
        assert found < 1e-7 or found == pytest.approx(3.9866, abs=1e-2)
    assert result.evaluations.sum() <= 1.5 * scipy_evaluations


def test_backends_agree():
    problem = more_toraldo(5, 37, condition=20.0, infinite=0.3, seed=4)
    results = [
        minimize(
            problem.value_and_grad,
            problem.start(),
            problem.lower,
            problem.upper,
            pass_index=True,
            max_evaluations=12,
            backend=backend,
        )
        for backend in available_backends()
    ]
    for other in results[1:]:
        # Before rounding errors have grown, the paths are the same.
        assert torch.allclose(results[0].x, other.x, rtol=0, atol=1e-9)
        assert torch.allclose(results[0].value, other.value, rtol=1e-9)
        assert torch.allclose(results[0].gradient_norm, other.gradient_norm, rtol=1e-6)
        assert torch.equal(results[0].evaluations, other.evaluations)
        assert torch.equal(results[0].iterations, other.iterations)
        assert torch.equal(results[0].status, other.status)


# Bounds


TARGET = torch.linspace(-4.0, 4.0, 11).double()


def bowl(x):
    """Return a separable quadratic, whose minimiser in a box is TARGET moved into it."""
    return (x - TARGET).square().sum(1), 2 * (x - TARGET)


BOXES = [(-1.0, 1.0), (1.0, 2.0), (-2.0, -1.0), (0.0, math.inf), (1.0, math.inf), (-math.inf, -1.0)]


@pytest.mark.parametrize(("lower", "upper"), BOXES)
@pytest.mark.parametrize("n", [1, 8, 11])
def test_scalar_bounds_need_not_contain_zero(n, lower, upper, dtype, fast_implementation):
    target = TARGET[:n].to(dtype)

    def part(x):
        return (x - target).square().sum(1), 2 * (x - target)

    start = torch.zeros(2, n, dtype=dtype)
    result = minimize(part, start, lower, upper)
    assert torch.allclose(result.x, target.clamp(lower, upper).expand(2, n), rtol=0, atol=1e-5)
    assert (result.status == Status.GRADIENT).all()
    assert (result.gradient_norm <= 1e-5).all()
    assert inside(result.x, lower, upper)


LOW = torch.linspace(-3, 1, 11).double()
HIGH = LOW + torch.linspace(0, 2, 11).double()
BOUNDS = {
    "scalars": (-1.0, 2),
    "0-d": (torch.tensor(-1.0).double(), torch.tensor(2.0).double()),
    "one-value": (torch.tensor([-1.0]).double(), torch.tensor([2.0]).double()),
    "per-value": (LOW, HIGH),
    "row": (LOW[None], HIGH[None]),
    "per-problem": (torch.tensor([[-1.0], [0.5], [-3]]).double(), torch.tensor([[1.0]] * 3)),
    "full": (LOW + torch.zeros(3, 1), HIGH + torch.arange(3.0)[:, None]),
    "scalar-and-per-value": (-3.5, HIGH),
    "per-value-and-per-problem": (LOW, torch.tensor([[1.0], [2.0], [4.0]])),
    "open-below": (-math.inf, HIGH),
    "open-above": (LOW, math.inf),
    "open-in-places": (torch.where(LOW < -1, -math.inf, LOW), HIGH),
    "equal": (LOW, LOW),
}


@pytest.mark.parametrize("tile", [1, 2, None])
@pytest.mark.parametrize("name", BOUNDS)
def test_bounds_of_any_shape(name, tile, fast_implementation):
    lower, upper = (b.double() if torch.is_tensor(b) else b for b in BOUNDS[name])
    start = torch.linspace(-5, 5, 33).double().view(3, 11)
    seen = []

    def watched(x, index):
        seen.append(inside(x, full[0][index], full[1][index]))
        return bowl(x)

    full = [torch.as_tensor(b).double().expand(3, 11) for b in (lower, upper)]
    result = minimize(watched, start, lower, upper, pass_index=True, tile=tile)
    assert seen
    assert all(seen)
    expected = TARGET.expand(3, 11).clamp(*full)
    assert torch.allclose(result.x, expected, rtol=0, atol=1e-5)
    bound = (expected == full[0]) | (expected == full[1])
    assert torch.equal(result.x[bound], expected[bound])
    assert (result.status == Status.GRADIENT).all()


def test_a_box_of_one_point_takes_one_evaluation():
    result = minimize(bowl, torch.zeros(2, 11).double(), LOW, LOW)
    assert torch.equal(result.x, LOW.expand(2, 11))
    assert result.evaluations.tolist() == [1, 1]
    assert result.gradient_norm.tolist() == [0.0, 0.0]
    assert result.value.tolist() == bowl(LOW[None])[0].expand(2).tolist()


# Shapes, and what belongs to the caller


@pytest.mark.parametrize("shape", [(), (4,), (2, 3), (3, 2, 2)], ids=str)
def test_problems_keep_their_shape(shape):
    target = torch.linspace(-2, 2, math.prod(shape)).double().view(shape)

    def f(x):
        assert x.shape[1:] == shape
        return (x - target).square().flatten(1).sum(1) if shape else (x - target) ** 2, 2 * (
            x - target
        )

    result = minimize(f, torch.zeros(5, *shape).double(), -1.0, torch.tensor(1.0).double())
    assert result.x.shape == (5, *shape)
    assert torch.allclose(result.x, target.clamp(-1, 1).expand(5, *shape))
    for name in ("value", "gradient_norm", "status", "evaluations", "iterations"):
        assert getattr(result, name).shape == (5,)


def test_a_channel_bound_broadcasts_over_images():
    lower = torch.tensor([0.1, 0.2, 0.3]).view(3, 1, 1)
    result = minimize(
        lambda x: (x.square().flatten(1).sum(1), 2 * x), torch.rand(2, 3, 4, 5), lower, 1.0
    )
    assert torch.equal(result.x, lower.expand(2, 3, 4, 5))


def test_types_of_the_result(dtype):
    result = minimize(lambda x: (x.square().sum(1), 2 * x), torch.ones(2, 3, dtype=dtype))
    assert result.x.dtype == dtype
    assert result.value.dtype == result.gradient_norm.dtype == torch.float64
    assert result.status.dtype == torch.int8
    assert result.evaluations.dtype == result.iterations.dtype == torch.int64


def test_inputs_are_left_alone():
    start = torch.full((3, 11), 9.0).double().requires_grad_()
    lower, upper = LOW.expand(3, 11).clone(), HIGH.expand(3, 11).clone()
    copies = [t.detach().clone() for t in (start, lower, upper)]
    result = minimize(bowl, start, lower, upper, tile=2)
    for mine, copy in zip((start, lower, upper), copies, strict=True):
        assert torch.equal(mine, copy)
    assert start.grad is None
    assert not result.x.requires_grad
    result.x.zero_()
    assert torch.equal(start, copies[0])


def test_strided_starts_and_bounds():
    start = torch.rand(11, 3, generator=torch.Generator().manual_seed(0)).double().T
    lower = LOW.repeat_interleave(2)[::2]
    strided = minimize(bowl, start, lower, HIGH)
    plain = minimize(bowl, start.contiguous(), LOW, HIGH)
    assert torch.equal(strided.x, plain.x)


@pytest.mark.parametrize("mode", [torch.enable_grad, torch.no_grad])
def test_the_function_may_use_autograd_whatever_the_caller_has_switched_off(mode):
    def f(x):
        x.requires_grad_()
        value = (x - TARGET).square().sum(1)
        return value, torch.autograd.grad(value.sum(), x, create_graph=True)[0]

    with mode():
        result = minimize(f, torch.zeros(2, 11).double(), LOW, HIGH)
    assert torch.allclose(result.x, TARGET.clamp(LOW, HIGH).expand(2, 11), atol=1e-5)
    assert not result.x.requires_grad
    assert not result.value.requires_grad


def test_the_function_may_destroy_its_argument_and_reuse_its_answers():
    start = torch.randn(4, 10, generator=torch.Generator().manual_seed(5)).double()
    plain = minimize(rosenbrock, start, tile=3)
    buffers = {b: (torch.empty(b).double(), torch.empty(b, 10).double()) for b in (1, 2, 3)}

    def rude(x, index):
        value, grad = buffers[len(x)]
        for mine, new in zip((value, grad), rosenbrock(x), strict=True):
            mine.copy_(new)
        x.fill_(torch.nan)
        index.fill_(0)
        return value, grad

    result = minimize(rude, start, tile=3, pass_index=True)
    assert torch.equal(result.x, plain.x)
    assert torch.equal(result.evaluations, plain.evaluations)


def test_the_function_may_return_a_column_of_a_matrix():
    def columns(x):
        value, grad = bowl(x)
        return torch.stack([value, value], 1)[:, 0], grad.T.contiguous().T

    start = torch.zeros(3, 11).double()
    assert torch.equal(minimize(columns, start).x, minimize(bowl, start).x)
