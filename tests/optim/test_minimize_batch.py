"""`minimize` on many problems: the same bits in any company, queues, callbacks, memory."""

from __future__ import annotations

import pytest
import torch
from problems import more_toraldo
from torch.utils._python_dispatch import TorchDispatchMode

from advkit.optim import Round, Status, minimize

FIELDS = ("x", "value", "gradient_norm", "status", "evaluations", "iterations")
BUDGET = 40


def solve(problem, rows, *, function=None, **options):
    """Minimise some problems of a batch; their rows keep their numbers."""
    rows = torch.as_tensor(rows)
    options = {"pass_index": True, "max_evaluations": BUDGET} | options
    return minimize(
        lambda x, index: (function or problem.value_and_grad)(x, rows[index]),
        problem.start(seed=1)[rows],
        problem.lower[rows],
        problem.upper[rows],
        **options,
    )


def assert_same_bits(result, other, rows=slice(None)):
    for name in FIELDS:
        assert torch.equal(getattr(result, name)[rows], getattr(other, name)), name


def assert_independent_of_company(problem, threads, *, budget):
    problems = len(problem.solution)
    everything = solve(problem, range(problems), max_evaluations=budget)
    assert len(everything.value.unique()) > 1
    backwards = list(range(problems))[::-1]
    for rows, tile, count in (
        ([2], None, 1),
        (backwards, 2, 1),
        ([1], None, 2),
        (backwards, None, 2),
    ):
        with threads(count):
            result = solve(problem, rows, tile=tile, max_evaluations=budget)
        assert_same_bits(everything, result, rows)


# Less than a register, and ragged ends.
@pytest.mark.parametrize("n", [3, 130])
def test_a_problem_gets_the_same_bits_in_any_company(n, dtype, isa, threads):
    problem = more_toraldo(7, n, dtype=dtype, condition=50.0, seed=n)
    assert_independent_of_company(problem, threads, budget=40)


def test_a_large_problem_gets_the_same_bits_in_any_company(dtype, threads):
    # Three tiles of 16,384 values, the last one with a ragged end: threads share one problem.
    problem = more_toraldo(3, 40_001, dtype=dtype, condition=50.0, seed=1)
    assert_independent_of_company(problem, threads, budget=6)


def test_a_problem_does_not_feel_a_neighbour_that_breaks(fast_implementation):
    problem = more_toraldo(4, 30, condition=50.0, seed=1)

    def broken(x, index):
        value, grad = problem.value_and_grad(x, index)
        value[index == 1] = torch.nan
        grad[index == 2] = torch.inf
        return value, grad

    result = solve(problem, range(4), function=broken)
    assert result.status[[1, 2]].tolist() == [Status.NON_FINITE] * 2
    if fast_implementation != "reference":
        assert_same_bits(result, solve(problem, [0, 3]), slice(0, 4, 3))
    assert torch.allclose(result.x[[0, 3]], solve(problem, [0, 3]).x, atol=1e-6)


class Spy:
    """A function that keeps what it was asked."""

    def __init__(self, problem):
        self.problem = problem
        self.asked = []

    def __call__(self, x, index):
        assert index.dtype == torch.int64
        assert x.shape == (len(index), self.problem.solution.shape[1])
        self.asked.append(index.tolist())
        return self.problem.value_and_grad(x, index)


def test_finished_problems_drop_out_of_the_batch(fast_implementation):
    problem = more_toraldo(12, 20, seed=2)
    spy = Spy(problem)
    result = solve(problem, range(12), function=spy, max_evaluations=500)
    sizes = [len(rows) for rows in spy.asked]
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[0] == 12
    assert sizes[-1] < 12
    asked = torch.tensor([row for rows in spy.asked for row in rows])
    assert torch.equal(asked.bincount(minlength=12), result.evaluations)
    assert len(spy.asked) == result.evaluations.max()
    for rows in spy.asked:
        assert len(set(rows)) == len(rows)
    # Rows really differ: each solution is that of its own problem.
    assert torch.allclose(result.x, problem.solution, atol=1e-3)


@pytest.mark.parametrize("tile", [1, 4, 12, 100])
def test_a_queue_longer_than_the_tile_is_worked_off(tile):
    problem = more_toraldo(12, 20, seed=2)
    spy = Spy(problem)
    result = solve(problem, range(12), function=spy, tile=tile, max_evaluations=500)
    sizes = [len(rows) for rows in spy.asked]
    assert max(sizes) == min(tile, 12)
    # No slot is idle while a problem waits.
    waiting = [i for i, rows in enumerate(spy.asked) if 11 not in rows][: -max(sizes)]
    first_of_last = next(i for i, rows in enumerate(spy.asked) if 11 in rows)
    assert all(sizes[i] == min(tile, 12) for i in waiting if i < first_of_last)
    assert torch.allclose(result.x, problem.solution, atol=1e-3)
    assert not (result.status == Status.RUNNING).any()


def test_without_pass_index_the_function_takes_the_points_alone():
    result = minimize(lambda *x: (x[0].square().sum(1), 2 * x[0]), torch.ones(3, 2))
    assert result.x.tolist() == torch.zeros(3, 2).tolist()


def test_callback_sees_every_evaluation(fast_implementation):
    problem = more_toraldo(7, 15, infinite=0.3, seed=3)
    spy, rounds = Spy(problem), []
    result = solve(problem, range(7), function=spy, tile=3, callback=rounds.append)
    assert all(isinstance(r, Round) for r in rounds)
    assert [r.index.tolist() for r in rounds] == spy.asked
    best = torch.full((7,), torch.inf, dtype=torch.float64)
    for r in rounds:
        assert ((r.x >= problem.lower[r.index]) & (r.x <= problem.upper[r.index])).all()
        value, gradient = problem.value_and_grad(r.x, r.index)
        assert torch.equal(r.value, value)
        assert torch.equal(r.gradient, gradient)
        best[r.index] = torch.minimum(best[r.index], value.double())
    assert torch.allclose(result.value, best, rtol=0, atol=1e-6)


def test_callback_may_destroy_what_it_is_shown():
    problem = more_toraldo(5, 15, seed=4)

    def rude(r):
        r.x.fill_(torch.nan)
        r.index.fill_(0)
        r.value.fill_(torch.nan)
        r.gradient.fill_(torch.nan)

    assert_same_bits(
        solve(problem, range(5), tile=2), solve(problem, range(5), tile=2, callback=rude)
    )


def test_callback_sees_points_in_their_own_shape():
    rounds = []
    minimize(
        lambda x: (x.square().flatten(1).sum(1), 2 * x),
        torch.ones(2, 3, 4),
        callback=rounds.append,
    )
    assert {(tuple(r.x.shape[1:]), tuple(r.gradient.shape[1:])) for r in rounds} == {
        ((3, 4), (3, 4))
    }


@pytest.mark.parametrize("after", [1, 2, 9])
def test_stop_iteration_ends_the_run(after, fast_implementation):
    problem = more_toraldo(6, 15, seed=5, infinite=0.2)
    rounds = []

    def stop(r):
        rounds.append(r)
        if len(rounds) == after:
            raise StopIteration

    # Two are carried, four wait, and all of them start outside the box.
    result = minimize(
        problem.value_and_grad,
        problem.start(seed=1) + 10,
        problem.lower,
        problem.upper,
        pass_index=True,
        tile=2,
        callback=stop,
    )
    assert len(rounds) == after
    assert result.evaluations.tolist() == [after, after, 0, 0, 0, 0]
    assert result.status.tolist() == [Status.RUNNING] * 6
    assert ((result.x >= problem.lower) & (result.x <= problem.upper)).all()
    value, _ = problem.value_and_grad(result.x)
    assert torch.equal(result.value[:2], value[:2])
    assert result.value[2:].isnan().all()
    assert (result.value[:2] <= rounds[0].value).all()


def test_stop_iteration_keeps_what_has_finished():
    problem = more_toraldo(6, 15, seed=5)
    whole = solve(problem, range(6), tile=2, max_evaluations=500)
    left = int(whole.evaluations[0]) + 5
    rounds = []

    def stop(r):
        rounds.append(r)
        if len(rounds) == left:
            raise StopIteration

    result = solve(problem, range(6), tile=2, max_evaluations=500, callback=stop)
    assert result.status[0] == whole.status[0]
    assert torch.equal(result.x[0], whole.x[0])
    assert result.status[5] == Status.RUNNING


def test_another_error_of_the_callback_reaches_the_caller():
    def fail(r):
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        minimize(lambda x: (x.square().sum(1), 2 * x), torch.ones(2, 3), callback=fail)


def test_an_error_of_the_function_reaches_the_caller():
    def fail(x):
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        minimize(fail, torch.ones(2, 3))
    assert torch.is_grad_enabled()


@pytest.mark.parametrize("tile", [None, 2], ids=["all-at-once", "one-by-one"])
def test_progress_counts_finished_problems(tile, capsys):
    pytest.importorskip("rich", reason="the progress bar: advkit[cli]")
    problem = more_toraldo(7, 10, seed=6)
    # The same problem seven times, or seven that end at different times.
    rows = range(7) if tile else [0] * 7
    quiet = solve(problem, rows, tile=tile)
    assert capsys.readouterr() == ("", "")
    shown = solve(problem, rows, tile=tile, progress=True)
    out, err = capsys.readouterr()
    assert out == ""
    assert "7/7" in err
    assert_same_bits(quiet, shown)


class Allocations(TorchDispatchMode):
    """Note how many bytes the largest new tensor takes."""

    def __init__(self, ignore):
        super().__init__()
        self.ignore, self.largest = ignore, 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **kwargs or {})
        if isinstance(out, torch.Tensor) and out.numel() not in self.ignore:
            self.largest = max(self.largest, out.nbytes)
        return out


def test_memory_does_not_grow_with_the_number_of_problems():
    n, tile = 64, 4

    def largest(problems):
        # What is as large as x0 is the inputs' and outputs' business.
        allocations = Allocations(ignore={problems * n, n})
        with allocations:
            minimize(
                lambda x: (x.square().sum(1), 2 * x),
                torch.ones(problems, n),
                max_evaluations=5,
                tile=tile,
            )
        return allocations.largest

    history = tile * 10 * 2 * n * 4
    assert largest(8) == largest(100) == history
