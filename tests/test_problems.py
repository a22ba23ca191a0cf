"""The problems with known answers must themselves be right."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from problems import BoxQP, LinearSoftmax, more_toraldo, project_halfspace, row_sum

KINDS = {
    "plain": {},
    "degenerate": {"degeneracy": 6.0, "weakly_active": 0.3},
    "unit-box": {"unit_box": True},
    "open-sides-and-fixed": {"infinite": 0.5, "fixed": 0.2},
    "ill-conditioned": {"condition": 1e8},
    "nothing-active": {"active": 0.0},
    "all-active": {"active": 1.0},
}
# Gradients are accurate to a few units in the last place of the largest eigenvalue.
TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-13}


def dense_hessian(problem: BoxQP, b: int) -> torch.Tensor:
    n = problem.solution.shape[1]
    eye = torch.eye(n, dtype=problem.solution.dtype)
    return problem.hessian_product(eye, torch.full((n,), b))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("kind", KINDS)
def test_solution_satisfies_the_optimality_conditions_exactly(kind, dtype):
    problem = more_toraldo(3, 50, dtype=dtype, minimum=-1.5, seed=1, **KINDS[kind])
    value, grad = problem.value_and_grad(problem.solution)
    x, lower, upper = problem.solution, problem.lower, problem.upper
    assert ((lower <= x) & (x <= upper)).all()
    assert torch.equal(grad, problem.multipliers)
    assert torch.equal(value, problem.minimum)
    assert torch.equal(problem.active, (x == lower) | (x == upper))
    # A gradient step back into the box must stay where it is: the projected gradient is zero.
    assert torch.equal((x - grad).clamp(lower, upper), x)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("kind", KINDS)
def test_gradient_agrees_with_central_differences(kind, dtype):
    problem = more_toraldo(3, 50, dtype=dtype, seed=2, **KINDS[kind])
    x = problem.start(seed=3)
    direction = torch.randn(3, 50, dtype=dtype, generator=torch.Generator().manual_seed(4))
    above, _ = problem.value_and_grad(x + direction)
    below, _ = problem.value_and_grad(x - direction)
    value, grad = problem.value_and_grad(x)
    # Exact for a quadratic at any step, so only rounding of the values is left.
    error = (above - below) / 2 - row_sum(grad * direction)
    assert (error.abs() <= 20 * TOLERANCE[dtype] * (above.abs() + below.abs() + value.abs())).all()


@pytest.mark.parametrize("condition", [1.0, 1e4])
def test_hessian_is_symmetric_with_the_chosen_eigenvalues(condition):
    problem = more_toraldo(2, 30, condition=condition, seed=5)
    for b in range(2):
        hessian = dense_hessian(problem, b)
        assert torch.allclose(hessian, hessian.T, atol=1e-12 * condition)
        eigenvalues = torch.linalg.eigvalsh(hessian)
        assert torch.allclose(eigenvalues, problem.eigenvalues, rtol=1e-9)
        assert eigenvalues[-1] / eigenvalues[0] == pytest.approx(condition)


def test_shares_are_those_asked_for():
    problem = more_toraldo(2, 20_000, active=0.4, weakly_active=0.25, degeneracy=3.0, seed=6)
    share = problem.active.double().mean(1)
    weak = ((problem.multipliers == 0) & problem.active).double().mean(1)
    assert torch.allclose(share, torch.tensor(0.4).double(), atol=0.02)
    assert torch.allclose(weak, torch.tensor(0.1).double(), atol=0.02)
    strong = problem.multipliers[problem.multipliers != 0].abs()
    assert strong.min() >= 1e-3
    assert strong.min() < 2e-3


def test_no_other_point_of_the_box_is_lower():
    problem = more_toraldo(2, 12, active=0.6, degeneracy=2.0, seed=7)
    for seed in range(50):
        value, _ = problem.value_and_grad(problem.start(seed=seed))
        assert (value > problem.minimum).all()


def test_start_is_in_the_box_and_differs_between_problems():
    problem = more_toraldo(3, 40, infinite=0.5, fixed=0.2, seed=8)
    x = problem.start()
    assert ((problem.lower <= x) & (x <= problem.upper)).all()
    assert x.isfinite().all()
    assert not torch.equal(x[0], x[1])


@pytest.mark.parametrize("n", [7, 1500, 40_000])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_a_problem_has_the_same_bits_in_any_batch_and_on_any_threads(n, dtype):
    problem = more_toraldo(5, n, dtype=dtype, seed=9)
    alone = more_toraldo(1, n, dtype=dtype, seed=9)
    x = problem.start()
    value, grad = problem.value_and_grad(x)
    assert torch.equal(alone.solution[0], problem.solution[0])
    threads = torch.get_num_threads()
    try:
        for count in (1, 2):
            torch.set_num_threads(count)
            for rows in ([3], [4, 1], [0, 2, 3, 4]):
                index = torch.tensor(rows)
                some_value, some_grad = problem.value_and_grad(x[rows], index)
                assert torch.equal(some_value, value[rows])
                assert torch.equal(some_grad, grad[rows])
    finally:
        torch.set_num_threads(threads)


def test_an_image_sized_problem_needs_no_matrix():
    problem = more_toraldo(2, 150_528, unit_box=True, dtype=torch.float32, seed=10)
    value, grad = problem.value_and_grad(problem.solution)
    assert torch.equal(grad, problem.multipliers)
    assert torch.equal(value, problem.minimum)
    start, _ = problem.value_and_grad(problem.start())
    assert (start > 1).all()


def halfspaces(batch, n, *, seed=0):
    rng = np.random.default_rng(seed)
    x = torch.from_numpy(rng.random((batch, n)).round(1))  # some values on the bounds
    normal = torch.from_numpy(rng.standard_normal((batch, n)))
    normal[:, ::5] = 0.0
    # Between what the box allows at most and what x gives already.
    least = torch.minimum(normal, torch.zeros(())).sum(1)
    here = (normal * x).sum(1)
    share = torch.from_numpy(rng.random(batch))
    return x, normal, -(least + share * (here - least))


def test_projection_on_a_halfspace_agrees_with_bisection():
    x, normal, offset = halfspaces(50, 40)
    low, high = torch.zeros(50).double(), torch.full((50,), 1e6).double()
    for _ in range(100):
        mu = (low + high) / 2
        outside = (normal * (x - mu[:, None] * normal).clamp(0, 1)).sum(1) + offset > 0
        low, high = torch.where(outside, mu, low), torch.where(outside, high, mu)
    expected = (x - high[:, None] * normal).clamp(0, 1)
    nearest = project_halfspace(x, normal, offset, lower=0.0, upper=1.0)
    assert torch.allclose(nearest, expected, rtol=0, atol=1e-12)
    assert torch.allclose((normal * nearest).sum(1) + offset, torch.zeros(50).double(), atol=1e-12)


def test_projection_on_a_halfspace_agrees_with_a_quadratic_programming_solver():
    quadprog = pytest.importorskip("quadprog")
    x, normal, offset = halfspaces(10, 25, seed=1)
    nearest = project_halfspace(x, normal, offset, lower=0.0, upper=1.0)
    eye = np.eye(25)
    for b in range(10):
        constraints = np.column_stack([-normal[b].numpy(), eye, -eye])
        bounds = np.concatenate([[offset[b].item()], np.zeros(25), -np.ones(25)])
        expected = quadprog.solve_qp(eye, x[b].numpy(), constraints, bounds)[0]
        assert np.abs(nearest[b].numpy() - expected).max() < 1e-9


def test_projection_without_a_box_is_the_textbook_formula():
    x, normal, offset = halfspaces(5, 10, seed=2)
    gap = (normal * x).sum(1) + offset
    expected = x - (gap / (normal**2).sum(1))[:, None] * normal
    assert torch.allclose(project_halfspace(x, normal, offset), expected, atol=1e-12)


def test_projection_of_a_point_inside_is_the_point_and_out_of_reach_is_nan():
    x = torch.full((3, 4), 0.5).double()
    normal = torch.tensor([[1.0, 1, 1, 1], [1, 1, 1, 1], [0, 0, 0, 0]]).double()
    offset = torch.tensor([-3.0, 1.0, 1.0]).double()
    nearest = project_halfspace(x, normal, offset, lower=0.0, upper=1.0)
    assert torch.equal(nearest[0], x[0])
    assert nearest[1:].isnan().all()


def test_linear_softmax_distances_lead_to_the_boundary():
    model = LinearSoftmax.random(2, 30, dtype=torch.float64, seed=3)
    x = torch.rand(20, 30, generator=torch.Generator().manual_seed(5)).double()
    logits = model.module()(x)
    labels = logits.argmax(1)
    distance = model.untargeted_distance(x, labels, lower=0.0, upper=1.0)
    unbounded = model.untargeted_distance(x, labels)
    gap = (logits.max(1).values - logits.min(1).values).detach()
    expected = gap / (model.weight[0] - model.weight[1]).norm()
    assert torch.allclose(unbounded, expected, atol=1e-12)
    assert (distance >= unbounded - 1e-12).all()
    assert (distance > unbounded + 1e-6).any()


def test_linear_softmax_distance_is_the_smallest_over_the_other_classes():
    quadprog = pytest.importorskip("quadprog")
    model = LinearSoftmax.random(5, 20, dtype=torch.float64, seed=4)
    x = torch.rand(10, 20, generator=torch.Generator().manual_seed(6)).double()
    labels = model.module()(x).argmax(1)
    distance = model.untargeted_distance(x, labels, lower=0.0, upper=1.0)
    weight, bias, eye = model.weight.numpy(), model.bias.numpy(), np.eye(20)
    for image, label, found in zip(x.numpy(), labels.tolist(), distance.tolist(), strict=True):
        lengths = []
        for k in set(range(5)) - {label}:
            constraints = np.column_stack([weight[k] - weight[label], eye, -eye])
            bounds = np.concatenate([[bias[label] - bias[k]], np.zeros(20), -np.ones(20)])
            try:
                nearest = quadprog.solve_qp(eye, image, constraints, bounds)[0]
            except ValueError:  # the box does not reach this class
                continue
            lengths.append(np.linalg.norm(nearest - image))
        assert found == pytest.approx(min(lengths), abs=1e-9)


def test_linear_softmax_distance_is_zero_past_the_boundary():
    model = LinearSoftmax.random(4, 30, seed=5)
    x = torch.rand(8, 30, generator=torch.Generator().manual_seed(7))
    wrong = (model.module()(x).argmax(1) + 1) % 4
    assert torch.equal(model.untargeted_distance(x, wrong), torch.zeros(8).double())
